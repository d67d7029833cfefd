//! What a seed chooses before the run: nodes, channels, limits, and the faults of the engine.

use std::sync::Arc;
use std::time::Duration;

use postern_channels::ChannelsConfig;
use postern_channels::namespaces::{ChannelOptions, Namespaces};
use postern_channels::relay::command::UserLimit;
use postern_channels::relay::link::LinkConfig;
use postern_channels::relay::{RelayConfig, WhenDown};
use postern_core::policy::KeepAliveConfig;
use postern_core::{SessionConfig, WorkerConfig};

use crate::random::Random;

/// The choices of a seed.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) config: WorkerConfig,
    pub(crate) channels_config: Arc<ChannelsConfig>,
    /// All channels. The personal channel of each user is among them.
    pub(crate) channels: Arc<[ChannelPlan]>,
    /// The relay of each node, except for its number.
    pub(crate) relay: RelayConfig,
    pub(crate) nodes: usize,
    /// The workers of each node.
    pub(crate) workers: usize,
    pub(crate) shards: usize,
    pub(crate) clients: usize,
    pub(crate) users: usize,
    /// The bytes of events that the inbox of a worker accepts, until there are no more faults.
    pub(crate) inbox: usize,
    pub(crate) history_memory: usize,
    /// The bytes of messages that the queue of a node's engine accepts, until there are no more faults.
    pub(crate) queue: usize,
    /// The time until there are no more faults.
    pub(crate) chaos: Duration,
    /// The number of publications by a backend.
    pub(crate) publications: usize,
    /// The number of removals of a history.
    pub(crate) removals: usize,
    /// The number of commands of a backend to the clients of all nodes.
    pub(crate) commands: usize,
    pub(crate) faults: Vec<EngineFault>,
    /// Whether the engine has a replica.
    pub(crate) has_replica: bool,
    /// The longest time that bytes take from a node to the engine, or back, in microseconds.
    pub(crate) delay: usize,
    /// The longest time between two copies of the data to the replica, and to a file, in microseconds.
    pub(crate) lag: usize,
    /// Whether the thread of the engine sometimes does not run for a while.
    pub(crate) has_stalls: bool,
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
}

/// A fault around the engine. Nodes and channels are counted from 0; a number that is too large means none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EngineFault {
    /// The connections of a node end.
    Cut(usize),
    /// The bytes between a node and the engine do not arrive for a while.
    Stall(usize, Duration),
    /// The messages of a node's connection do not arrive any more, and its commands are executed: the connections are with two
    /// servers.
    Deafen(usize),
    /// The server does not run for a while.
    Freeze(Duration),
    /// The server is killed, and starts again after a while, with the data that is in its file, or without data.
    Restart(Duration, bool),
    /// The replica becomes the master. The old one stays a master for this time.
    FailOver(Option<Duration>),
    /// All data is removed.
    Empty,
    /// All scripts are removed.
    ForgetScripts,
    /// There is no memory left for a while.
    Fill(Duration),
    /// Another program publishes to a channel.
    Junk(usize),
    /// A node is killed, and starts again after a while.
    Crash(usize, Duration),
}

impl Plan {
    pub(crate) fn new(random: &mut Random) -> Plan {
        let users = random.within(1..=4);
        let kinds: Vec<ChannelOptions> = (0..random.within(1..=3)).map(|_| options(random)).collect();
        let personal = ChannelOptions { allow_publish_for_client: false, ..options(random) };
        let mut channels: Vec<ChannelPlan> = (0..random.within(1..=4))
            .map(|number| {
                let kind = number % kinds.len();
                let name = format!("kind{kind}:{number}").into();
                ChannelPlan { name, options: kinds[kind].clone(), user: None }
            })
            .collect();
        let personal_channel = random.one_in(3);
        if personal_channel {
            channels.extend((0..users).map(|user| ChannelPlan {
                name: format!("#{}", user_name(user)).into(),
                options: personal.clone(),
                user: Some(user),
            }));
        }
        let named = kinds.iter().enumerate();
        let named = named.map(|(kind, options)| (format!("kind{kind}").into(), options.clone()));
        let ping_interval = Duration::from_secs(random.within(2..=25) as u64);
        let channels_config = ChannelsConfig {
            namespaces: Namespaces::new(personal, named),
            personal_channel,
            max_publications: random.pick([2, 300]),
            ping_interval,
            pong_timeout: ping_interval / 2,
            ..ChannelsConfig::default()
        };
        let chaos = random.micros(300_000..=12_000_000);
        let (nodes, has_replica) = (random.within(2..=4), random.one_in(2));
        let faults = faults(random, nodes, channels.len(), has_replica);
        Plan {
            config: config(random),
            channels_config: Arc::new(channels_config),
            relay: relay(random),
            nodes,
            workers: random.within(1..=2),
            shards: random.within(1..=2),
            clients: random.magnitude(1..=10),
            users,
            inbox: if random.one_in(4) { random.magnitude(1..=8192) } else { LARGE },
            history_memory: if random.one_in(6) { random.magnitude(256..=16_384) } else { usize::MAX },
            queue: if random.one_in(6) { random.magnitude(64..=8192) } else { LARGE },
            chaos,
            publications: random.magnitude(1..=150),
            removals: if random.one_in(5) { random.within(1..=3) } else { 0 },
            commands: if random.one_in(3) { random.within(1..=5) } else { 0 },
            faults,
            has_replica,
            delay: random.pick([50, 500, 500, 20_000]),
            lag: random.pick([5_000, 50_000, 1_000_000]),
            has_stalls: random.one_in(5),
            read_buffer: random.pick([256, 65_536]),
            socket_buffer: random.magnitude(2048..=262_143),
            longest: random.pick([16, 16, 300]),
            channels: channels.into(),
        }
    }
}

/// Returns the limit of connections of each user on all nodes, which some seeds have.
pub(crate) fn user_limit(random: &mut Random) -> Option<UserLimit> {
    random.one_in(3).then(|| UserLimit { most: random.within(1..=3), closes_newest: random.one_in(2) })
}

/// Returns the id of a user.
pub(crate) fn user_name(user: usize) -> String {
    format!("user{user}")
}

/// Chooses some kinds of faults, and some faults of each.
fn faults(random: &mut Random, nodes: usize, channels: usize, has_replica: bool) -> Vec<EngineFault> {
    let mut faults = Vec::new();
    for kind in 0..11 {
        let count = if random.one_in(3) { random.within(1..=3) } else { 0 };
        for _ in 0..count {
            let node = random.within(0..=nodes - 1);
            let time = random.micros(1_000..=8_000_000);
            faults.push(match kind {
                0 => EngineFault::Cut(node),
                1 => EngineFault::Stall(node, time),
                2 => EngineFault::Deafen(node),
                3 => EngineFault::Freeze(time),
                4 => EngineFault::Restart(time, random.one_in(2)),
                5 if has_replica => EngineFault::FailOver(random.one_in(2).then_some(time)),
                6 => EngineFault::Empty,
                7 => EngineFault::ForgetScripts,
                8 => EngineFault::Fill(time),
                9 => EngineFault::Junk(random.within(0..=channels - 1)),
                10 => EngineFault::Crash(node, time),
                _ => continue,
            });
        }
    }
    faults
}

fn options(random: &mut Random) -> ChannelOptions {
    let has_history = !random.one_in(4);
    let has_presence = random.one_in(2);
    ChannelOptions {
        allow_subscribe_for_client: true,
        allow_publish_for_client: true,
        allow_presence_for_client: true,
        allow_history_for_client: true,
        presence: has_presence,
        join_leave: has_presence && random.one_in(2),
        history_size: if has_history { random.pick([1, 3, 20, 1000]) } else { 0 },
        history_ttl: random.pick([1, 10, 300].map(Duration::from_secs)),
        history_meta_ttl: random.pick([60, 3_600].map(Duration::from_secs)),
        force_positioning: has_history,
        force_recovery: has_history,
        allow_positioning: has_history,
        allow_recovery: has_history,
        ..ChannelOptions::default()
    }
}

fn relay(random: &mut Random) -> RelayConfig {
    RelayConfig {
        link: LinkConfig {
            node: 0,
            timeout: random.pick([100, 500, 1_000].map(Duration::from_millis)),
            probe: random.pick([300, 1_000, 5_000].map(Duration::from_millis)),
            queue: if random.one_in(6) { random.magnitude(64..=16_384) } else { LARGE },
        },
        when_down: random.pick([WhenDown::Local, WhenDown::Local, WhenDown::Refuse]),
        is_failover_noticed: true,
        position_check: random.pick([1, 5, 30].map(Duration::from_secs)),
        recover_rate: random.pick([0, 0, 20, 500]),
        user_limit: None,
    }
}

fn config(random: &mut Random) -> WorkerConfig {
    let mut config = WorkerConfig { hash_seed: random.number(), ..WorkerConfig::default() };
    config.fanout_slice = random.pick([1, 2, 256]);
    config.session = Arc::new(SessionConfig::default());
    if random.one_in(2) {
        let interval = random.micros(500_000..=10_000_000);
        config.keep_alive = KeepAliveConfig { interval, timeout: random.micros(500_000..=10_000_000) };
    }
    config
}

/// The size of queues in a host, in bytes.
pub(crate) const LARGE: usize = 8 << 20;
