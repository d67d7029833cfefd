//! The configuration of the channels of a node.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::claims::Tokens;
use crate::namespaces::Namespaces;

/// The configuration of the channels of a node. A host replaces it as a whole, for example when it has read the channels file
/// again.
#[derive(Debug, Clone)]
pub struct ChannelsConfig {
    /// The number of paths of channels, which are the first ones in
    /// [`HandshakeConfig::paths`](postern_core::handshake::HandshakeConfig::paths). Messages at the other paths are sent back to
    /// their clients.
    pub paths: usize,
    /// The indices of the paths of clients that send no commands.
    pub bare_paths: Range<usize>,
    /// The options of all channels.
    pub namespaces: Namespaces,
    /// Whether the server subscribes each client to the personal channel of its user.
    pub personal_channel: bool,
    /// Whether other clients see the e-mail address of a client's user, in addition to the name.
    pub share_email: bool,
    /// The verifier of tokens. `None` refuses all of them.
    pub tokens: Option<Arc<dyn Tokens>>,
    /// The time that a client has for a new token after the old one has expired.
    pub expiry_grace: Duration,
    /// Connections whose tokens have expired end at a random time of this length after that.
    pub expiry_spread: Duration,
    /// The most channels of a client.
    pub max_channels: usize,
    /// The most publications of the answer to a recovery or a history query.
    pub max_publications: usize,
    /// The most bytes of the publications of a recovery.
    pub max_recovered_bytes: usize,
    /// The most bytes that may wait for the socket of a client whose publications can be left out (`slow`). More are kept back.
    pub slow_backlog: usize,
    /// The most bytes of a client's messages that wait until `connect` is answered, and of its commands that wait for hooks.
    pub max_waiting: usize,
    /// The most requests to hooks of a client at the same time. The commands after them wait.
    pub max_hook_requests: usize,
    /// The time after which a hook without an answer has failed. A host that limits its own requests has a shorter limit.
    pub hook_timeout: Duration,
    /// The time between two pings of the protocol, in whole seconds.
    pub ping_interval: Duration,
    /// The time for the pong, shorter than [`ping_interval`](ChannelsConfig::ping_interval).
    pub pong_timeout: Duration,
    /// The time for the `connect` of a client.
    pub connect_timeout: Duration,
    /// The version of the server, which is part of the reply to `connect`. Some SDKs require it not to be empty.
    pub version: Arc<str>,
}

impl Default for ChannelsConfig {
    fn default() -> ChannelsConfig {
        ChannelsConfig {
            paths: usize::MAX,
            bare_paths: 0..0,
            namespaces: Namespaces::default(),
            personal_channel: true,
            share_email: false,
            tokens: None,
            expiry_grace: Duration::from_secs(25),
            expiry_spread: Duration::ZERO,
            max_channels: 128,
            max_publications: 300,
            max_recovered_bytes: 1024 * 1024,
            slow_backlog: 512 * 1024,
            max_waiting: 64 * 1024,
            max_hook_requests: 8,
            hook_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(8),
            connect_timeout: Duration::from_secs(10),
            version: concat!("Postern ", env!("CARGO_PKG_VERSION")).into(),
        }
    }
}
