//! What a seed chooses before the run: what the node has, and the settings of the clients.

use std::time::Duration;

use postern_channels::namespaces::options::{Conflation, RecoveryMode};
use postern_channels::namespaces::{ChannelOptions, Namespaces};
use postern_client::Backoff;

use crate::channels::plan;
use crate::random::Random;

/// The choices of a seed.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The choices for the node.
    pub(crate) node: plan::Plan,
    pub(crate) backoff: Backoff,
    /// The time for an answer.
    pub(crate) timeout: Duration,
    /// The time for a token.
    pub(crate) token_timeout: Duration,
    pub(crate) max_ping_delay: Duration,
    pub(crate) max_requests: usize,
    /// The number of events that wait for an application, after which its client does not read.
    pub(crate) events: usize,
    /// The number of losses of connections.
    pub(crate) cuts: usize,
}

impl Plan {
    pub(crate) fn new(random: &mut Random) -> Plan {
        let mut node = plan::Plan::new(random, None);
        for channel in &mut node.channels {
            simplify(&mut channel.options, channel.user.is_some());
        }
        let kind = |name: &str| name.trim_start_matches('$').split(':').next().unwrap_or_default().into();
        let kinds = node.channels.iter().filter(|channel| channel.user.is_none());
        let kinds = kinds.map(|channel| (kind(&channel.name), channel.options.clone()));
        let personal = node.channels.iter().find(|channel| channel.user.is_some());
        let personal = personal.map_or(ChannelOptions::default(), |channel| channel.options.clone());
        node.channels_config.namespaces = Namespaces::new(personal, kinds);
        let first = random.pick([50, 200, 500].map(Duration::from_millis));
        Plan {
            node,
            backoff: Backoff { first, most: first * random.pick([4, 20]) },
            timeout: random.pick([1, 2, 5].map(Duration::from_secs)),
            token_timeout: random.pick([2, 10].map(Duration::from_secs)),
            max_ping_delay: random.pick([1, 3, 10].map(Duration::from_secs)),
            max_requests: random.pick([1, 3, 1024]),
            events: random.pick([1, 8, 1024]),
            cuts: random.magnitude(1..=16),
        }
    }
}

/// Removes the options of a channel that do not concern the client: `channels` checks them.
fn simplify(options: &mut ChannelOptions, is_personal: bool) {
    options.subscribe_hook = false;
    options.publish_hook = false;
    options.rpc_hook = false;
    options.allow_subscribe_for_client = true;
    options.allow_publish_for_client = !is_personal;
    options.exclude_publisher = false;
    options.conflate = Conflation::Off;
    options.force_recovery_mode = RecoveryMode::Stream;
}
