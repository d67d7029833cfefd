//! What a seed chooses before the run.

use std::sync::Arc;
use std::time::Duration;

use postern_channels::ChannelsConfig;
use postern_channels::namespaces::options::{Conflation, DeltaType, RecoveryMode};
use postern_channels::namespaces::{ChannelOptions, Namespaces};
use postern_core::policy::KeepAliveConfig;
use postern_core::{SessionConfig, WorkerConfig};

use super::tokens::Way;
use crate::fault::Fault;
use crate::random::Random;

/// The choices of a seed.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) config: WorkerConfig,
    pub(crate) channels_config: ChannelsConfig,
    pub(crate) tokens: TokenPlan,
    /// All channels, with their options. The personal channel of each user is among them.
    pub(crate) channels: Vec<ChannelPlan>,
    pub(crate) workers: usize,
    pub(crate) shards: usize,
    pub(crate) clients: usize,
    /// The number of different users.
    pub(crate) users: usize,
    /// The bytes of events that an inbox accepts, until there are no more faults.
    pub(crate) inbox: usize,
    /// The memory of histories.
    pub(crate) history_memory: usize,
    /// The time until there are no more faults.
    pub(crate) chaos: Duration,
    /// The number of publications that are not made by clients.
    pub(crate) publications: usize,
    /// The number of restarts of the node.
    pub(crate) restarts: usize,
    /// The number of removals of a history.
    pub(crate) removals: usize,
    /// Another thread publishes at one of `races` places between the steps of a turn. 0: never.
    pub(crate) races: usize,
    /// One in `part_in` times a worker takes a part of the events in its inbox.
    pub(crate) part_in: usize,
    /// Whether workers sometimes do not run for seconds.
    pub(crate) has_stalls: bool,
    pub(crate) has_compression: bool,
    pub(crate) read_buffer: usize,
    pub(crate) socket_buffer: usize,
    /// The longest data of a publication.
    pub(crate) longest: usize,
}

/// A channel.
#[derive(Debug)]
pub(crate) struct ChannelPlan {
    pub(crate) name: Arc<str>,
    pub(crate) options: ChannelOptions,
    /// The user that the server subscribes to it.
    pub(crate) user: Option<usize>,
    /// Whether a subscription needs a token.
    pub(crate) is_private: bool,
}

impl ChannelPlan {
    /// Whether commands for the channel may wait for a hook.
    pub(crate) fn has_hook(&self) -> bool {
        self.options.subscribe_hook || self.options.publish_hook
    }

    /// Returns the interval of which subscribers get the latest publication.
    pub(crate) fn interval(&self) -> Option<Duration> {
        (self.options.conflate == Conflation::Latest).then_some(self.options.conflate_interval)
    }
}

/// The tokens of clients.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenPlan {
    pub(crate) way: Way,
    /// The longest time to live, in seconds.
    pub(crate) longest: usize,
    /// The time for a new token after the old one has expired.
    pub(crate) grace: Duration,
    /// The longest time over which connections end after that.
    pub(crate) spread: Duration,
}

impl Plan {
    /// A host with a fault may have another configuration than it should.
    pub(crate) fn new(random: &mut Random, fault: Option<Fault>) -> Plan {
        let users = random.within(1..=5);
        let kinds: Vec<ChannelOptions> = (0..random.within(1..=3)).map(|_| options(random)).collect();
        let personal = ChannelOptions {
            allow_publish_for_client: false,
            publish_hook: false,
            rpc_hook: false,
            ..options(random)
        };
        let tokens = TokenPlan {
            way: random.pick([Way::Off, Way::Keys, Way::Keys, Way::Service]),
            longest: random.pick([1, 3, 10, 60]),
            grace: random.pick([0, 1, 3, 25].map(Duration::from_secs)),
            spread: random.pick([0, 0, 1].map(Duration::from_secs)),
        };
        let mut channels = Vec::new();
        for number in 0..random.within(1..=6) {
            let kind = number % kinds.len();
            let is_private = tokens.way != Way::Off && random.one_in(4);
            let sign = if is_private { "$" } else { "" };
            let name = format!("{sign}kind{kind}:{number}").into();
            channels.push(ChannelPlan { name, options: kinds[kind].clone(), user: None, is_private });
        }
        let personal_channel = random.one_in(2);
        if personal_channel {
            channels.extend((0..users).map(|user| ChannelPlan {
                name: format!("#{}", user_name(user)).into(),
                options: personal.clone(),
                user: Some(user),
                is_private: false,
            }));
        }
        let configured = |options: &ChannelOptions| {
            let mut options = options.clone();
            if fault == Some(Fault::ShortInterval) {
                options.conflate_interval /= 8;
            }
            options
        };
        let named = kinds.iter().enumerate();
        let named = named.map(|(kind, options)| (format!("kind{kind}").into(), configured(options)));
        let ping_interval = Duration::from_secs(random.within(2..=25) as u64);
        let channels_config = ChannelsConfig {
            namespaces: Namespaces::new(configured(&personal), named),
            personal_channel,
            expiry_grace: match fault {
                Some(Fault::LongGrace) => tokens.grace + Duration::from_secs(3600),
                Some(Fault::NoGrace) => Duration::ZERO,
                _ => tokens.grace,
            },
            expiry_spread: tokens.spread,
            max_publications: random.pick([2, 5, 300]),
            ping_interval,
            pong_timeout: ping_interval / 2,
            hook_timeout: random.pick([100, 1_000, 5_000].map(Duration::from_millis)),
            ..ChannelsConfig::default()
        };
        let has_compression = random.one_in(3);
        // Most seeds have short queues, so that faults meet.
        let longest = random.pick([16, 16, 300, 4000]);
        let read_buffer = random.pick([256, 4096, 65_536]);
        Plan {
            config: config(random, has_compression),
            channels_config,
            tokens,
            channels,
            workers: random.within(1..=3),
            shards: random.within(1..=4),
            clients: random.magnitude(1..=10),
            users,
            inbox: if random.one_in(3) { LARGE_INBOX } else { random.magnitude(1..=8192) },
            history_memory: if random.one_in(4) { random.magnitude(256..=16_384) } else { usize::MAX },
            chaos: random.micros(300_000..=8_000_000),
            publications: random.magnitude(1..=120),
            restarts: if random.one_in(3) { random.within(1..=2) } else { 0 },
            removals: if random.one_in(4) { random.within(1..=3) } else { 0 },
            races: random.pick([0, 3, 20]),
            part_in: random.pick([1, 3, usize::MAX]),
            has_stalls: random.one_in(4),
            has_compression,
            read_buffer,
            socket_buffer: random.magnitude(512..=262_143),
            longest,
        }
    }
}

/// Returns the id of a user.
pub(crate) fn user_name(user: usize) -> String {
    format!("user{user}")
}

fn options(random: &mut Random) -> ChannelOptions {
    let has_history = !random.one_in(4);
    let has_presence = random.one_in(2);
    let (subscribe_hook, publish_hook) = (random.one_in(4), random.one_in(4));
    let conflate = if random.one_in(5) { Conflation::Latest } else { Conflation::Off };
    let has_all = conflate == Conflation::Off;
    let mode = if random.one_in(4) { RecoveryMode::Cache } else { RecoveryMode::Stream };
    let may_recover = has_history && (has_all || mode == RecoveryMode::Cache);
    ChannelOptions {
        allow_subscribe_for_client: !subscribe_hook,
        subscribe_hook,
        allow_publish_for_client: !publish_hook,
        publish_hook,
        rpc_hook: random.one_in(4),
        allow_presence_for_client: true,
        allow_history_for_client: true,
        presence: has_presence,
        join_leave: has_presence && random.one_in(2),
        history_size: if has_history { random.pick([1, 3, 20, 1000]) } else { 0 },
        history_ttl: random.pick([1, 10, 300].map(Duration::from_secs)),
        history_meta_ttl: random.pick([5, 60, 86_400].map(Duration::from_secs)),
        history_bytes: if random.one_in(4) { random.magnitude(16..=4096) } else { 0 },
        allow_positioning: has_history && has_all,
        force_positioning: has_history && has_all && random.one_in(2),
        allow_recovery: may_recover,
        force_recovery: may_recover && random.one_in(2),
        allowed_delta_types: if has_all && random.one_in(2) { vec![DeltaType::Fossil] } else { Vec::new() },
        delta_publish: !random.one_in(3),
        allow_channel_compaction: random.one_in(2),
        allow_tags_filter: has_all && random.one_in(3),
        exclude_publisher: has_all && random.one_in(5),
        force_recovery_mode: mode,
        conflate,
        conflate_interval: random.pick([20, 100, 1_000, 5_000].map(Duration::from_millis)),
        ..ChannelOptions::default()
    }
}

fn config(random: &mut Random, compression: bool) -> WorkerConfig {
    let mut config = WorkerConfig { hash_seed: random.number(), ..WorkerConfig::default() };
    config.handshake.compression = compression;
    config.fanout_slice = random.pick([1, 2, 256]);
    let mut session = SessionConfig::default();
    if random.one_in(3) {
        session.pause_backlog = random.magnitude(64..=65_536);
        session.max_backlog = random.magnitude(1024..=262_144);
    }
    if random.one_in(3) {
        session.write_timeout = random.micros(100_000..=10_000_000);
        session.close_timeout = random.micros(50_000..=5_000_000);
    }
    config.session = Arc::new(session);
    if random.one_in(2) {
        let interval = random.micros(500_000..=10_000_000);
        config.keep_alive = KeepAliveConfig { interval, timeout: random.micros(500_000..=10_000_000) };
    }
    config
}

/// The size of the inbox of a worker in a host, in bytes.
pub(crate) const LARGE_INBOX: usize = 8 << 20;
