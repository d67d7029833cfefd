//! The values of the settings, as an operator wrote them. They do not depend on the host.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use postern_channels::ChannelsConfig;
use postern_channels::namespaces::Namespaces;
use postern_channels::relay::WhenDown;
use postern_core::handshake::{HandshakeConfig, Secrets};
use postern_core::policy::{DrainConfig, ExpiryConfig, KeepAliveConfig};
use postern_core::session::SessionConfig;
use postern_core::worker::{InBandConfig, Revalidate};

use super::secret::SecretFile;
use crate::assertion::{AssertionSettings, TokenSettings};
use crate::checker::AuthSettings;
use crate::hooks::HookSettings;
use crate::listen::{Access, Address};
use crate::log::{self, LogSettings};
use crate::source::SourceSettings;
use crate::users::UserPolicy;

/// The identity of a binary.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// The name, for errors, `--help` and `--version`.
    pub name: &'static str,
    /// The version.
    pub version: &'static str,
    /// The description, in one line.
    pub about: &'static str,
    /// Whether `POSTERN_WORKERS` has an effect. A program without workers accepts and ignores it, so that both binaries
    /// take the same settings.
    pub has_workers: bool,
    /// Its subcommands that need no settings.
    pub commands: &'static [Command],
}

/// A subcommand that needs no settings.
#[derive(Debug, Clone, Copy)]
pub struct Command {
    /// The first argument.
    pub name: &'static str,
    /// The arguments, for the usage: `[OPTIONS] URL`.
    pub usage: &'static str,
    /// The description for the help of the program, in lines.
    pub about: &'static str,
    /// Runs it with the arguments after its name, and returns the exit status of the process.
    pub run: fn(Vec<OsString>) -> ExitCode,
}

impl Program {
    /// Prints to standard error why the program does not start or ends: `postern: REASON`.
    ///
    /// Both binaries follow one rule: an error that prevents the start is printed here only, with any `LOG_FORMAT`. An
    /// error that ends a serving process is also in its log.
    pub fn print_error(&self, reason: &dyn fmt::Display) {
        // If it cannot be printed, the exit code still reports the error.
        log::write_to_stderr(&format!("{}: {reason}\n", self.name));
    }
}

/// The settings as they were written. `None` means that the host decides, see [`Plan`](super::Plan).
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The addresses to listen on. At least one once settings have been loaded.
    pub listen: Vec<Address>,
    /// The mode and owner of the Unix sockets among them.
    pub socket_access: Access,
    /// The number of event loops. `None` is one for each core.
    pub workers: Option<NonZeroUsize>,
    /// The channels.
    pub channels: ChannelSettings,
    /// The engine of the channels.
    pub engine: EngineSettings,
    /// The rules of the handshake.
    pub handshake: HandshakeConfig,
    /// The limits of an admitted connection. `pause_backlog` is not a setting; the plan derives it.
    pub session: SessionConfig,
    /// The number of messages that may arrive at once. `None` is twice the rate.
    pub message_burst: Option<NonZeroUsize>,
    /// The detection of dead peers.
    pub keep_alive: KeepAliveConfig,
    /// The issuer of signed identities, which replace the identity headers. `None` if the headers count.
    pub assertion: Option<AssertionSettings>,
    /// Whether connections end when the signed identity expires.
    pub is_assertion_expiry_enforced: bool,
    /// When connections end whose tokens have expired.
    pub expiry: ExpiryConfig,
    /// The messages with tokens.
    pub in_band: InBandConfig,
    /// The paths whose clients identify themselves by their first message.
    pub first_message_paths: Vec<String>,
    /// When tokens are checked again. `None`: never.
    pub revalidate: Option<Revalidate>,
    /// The service that checks tokens on open connections. `None` if there is none.
    pub auth: Option<AuthSettings>,
    /// The time for which its answers are used again.
    pub auth_cache: Duration,
    /// The backend that events are sent to. `None` if there is none.
    pub hooks: Option<HookSettings>,
    /// The time that the backend has for a decision about a command.
    pub hook_timeout: Duration,
    /// The most requests for decisions at the same time.
    pub hook_concurrency: usize,
    /// The message brokers whose messages are published.
    pub source: SourceSettings,
    /// The most connections at a time. `None` is as many as the limit of open files allows.
    pub max_connections: Option<NonZeroUsize>,
    /// The most bytes in the buffers of all connections. `None` is half of the memory.
    pub max_memory: Option<NonZeroUsize>,
    /// The most connections of one user at a time. `None` is any number.
    pub max_connections_per_user: Option<NonZeroUsize>,
    /// The reaction to one connection more.
    pub user_policy: UserPolicy,
    /// New connections per second, and as many at once. Zero is any number.
    pub connect_rate: u32,
    /// The contents and the format of the log. The plan derives the size of the queue.
    pub log: LogSettings,
    /// The size of the queue of the log in bytes. `None` depends on the memory.
    pub log_queue: Option<NonZeroUsize>,
    /// The port for operators.
    pub control: ControlSettings,
    /// The times of a drain. The plan derives `requests` and `is_port_kept`.
    pub drain: DrainConfig,
    /// The files of secrets, which are read again at SIGHUP.
    pub(crate) secret_files: Vec<SecretFile>,
}

/// The channels, and where they are served.
#[derive(Debug, Clone)]
pub struct ChannelSettings {
    /// The application at `POSTERN_PATH`.
    pub app: ServedAtPath,
    /// The further paths of channels.
    pub paths: Vec<String>,
    /// The paths of clients that send no commands.
    pub bare_paths: Vec<String>,
    /// The channels file, which is read again at SIGHUP.
    pub file: Option<PathBuf>,
    /// The options of the channels, from the file.
    pub namespaces: Namespaces,
    /// Whether each client is subscribed to the personal channel of its user.
    pub personal_channel: bool,
    /// Whether other clients see the e-mail addresses of users.
    pub share_email: bool,
    /// The tokens that are accepted. `None` refuses all of them.
    pub tokens: Option<TokenSettings>,
    /// The most channels of a client.
    pub max_channels: usize,
    /// The most bytes of all histories.
    pub history_memory: usize,
}

/// The engine of the channels, and how it is reached.
#[derive(Clone)]
pub struct EngineSettings {
    /// Whether several nodes share the channels, by Redis.
    pub is_redis: bool,
    /// The URL of Redis, with its user and password if it has some.
    pub url: String,
    /// The password, unless it is in the URL.
    pub password: Option<String>,
    /// The password of the sentinels, if they have one.
    pub sentinel_password: Option<String>,
    /// The files for connections by TLS.
    pub tls: TlsFiles,
    /// The beginning of all keys.
    pub prefix: String,
    /// The time for a reply.
    pub timeout: Duration,
    /// The time without a message after which the delivery of messages is probed.
    pub probe: Duration,
    /// The most bytes of commands, and of messages, that wait.
    pub queue: usize,
    /// The service for clients while the engine cannot be reached.
    pub when_down: WhenDown,
    /// Whether the process is not ready while the engine cannot be reached.
    pub is_required: bool,
    /// Whether streams get another epoch after a failover.
    pub is_failover_noticed: bool,
    /// The time without a message after which the position of a channel is checked.
    pub position_check: Duration,
    /// The most reads of streams in a second. 0: any number.
    pub recover_rate: u32,
}

impl Default for EngineSettings {
    fn default() -> EngineSettings {
        EngineSettings {
            is_redis: false,
            url: "redis://127.0.0.1:6379".to_owned(),
            password: None,
            sentinel_password: None,
            tls: TlsFiles::default(),
            prefix: "postern".to_owned(),
            timeout: Duration::from_secs(1),
            probe: Duration::from_secs(5),
            queue: 8 * 1024 * 1024,
            when_down: WhenDown::Local,
            is_required: false,
            is_failover_noticed: true,
            position_check: Duration::from_secs(30),
            recover_rate: 0,
        }
    }
}

impl fmt::Debug for EngineSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the URL nor the password.
        f.debug_struct("EngineSettings").field("is_redis", &self.is_redis).finish_non_exhaustive()
    }
}

/// The files for connections to a server by TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of authorities, in addition to those that the system knows.
    pub authorities: Option<PathBuf>,
    /// The certificate of this process, and those between it and its authority.
    pub certificate: Option<PathBuf>,
    /// The key of this certificate.
    pub key: Option<PathBuf>,
}

/// The application at `POSTERN_PATH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServedAtPath {
    /// Each message is sent back.
    Echo,
    /// Channels.
    Channels,
}

impl Default for ChannelSettings {
    fn default() -> ChannelSettings {
        let ChannelsConfig { namespaces, personal_channel, share_email, max_channels, .. } =
            ChannelsConfig::default();
        ChannelSettings {
            app: ServedAtPath::Echo,
            paths: vec!["/connection/websocket".to_owned()],
            bare_paths: Vec::new(),
            file: None,
            namespaces,
            personal_channel,
            share_email,
            tokens: None,
            max_channels,
            history_memory: 64 * 1024 * 1024,
        }
    }
}

/// The address of the control port, the keys of its API, and its page.
#[derive(Debug, Clone)]
pub struct ControlSettings {
    /// The address that it listens on. `None` if there is no control port.
    pub address: Option<SocketAddr>,
    /// The keys that open `/api/*`. Without a key it is closed.
    pub api_keys: Secrets,
    /// Whether `/` is the console.
    pub has_console: bool,
}

impl Default for ControlSettings {
    fn default() -> Self {
        ControlSettings { address: None, api_keys: Secrets::default(), has_console: true }
    }
}
