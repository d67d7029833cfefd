//! What a seed chooses before the run: the limits, the number of workers and clients, and the kinds of faults.
//!
//! Each seed has only some of the limits and faults, so that one does not hide the effects of another.

use std::sync::Arc;
use std::time::Duration;

use postern_core::handshake::{HandshakeConfig, Reject};
use postern_core::policy::{KeepAliveConfig, Rate, Users};
use postern_core::session::RatePolicy;
use postern_core::worker::SUBPROTOCOL;
use postern_core::{SessionConfig, WorkerConfig};

use crate::random::Random;
use crate::users::ModelUsers;

/// The choices of a seed.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) config: WorkerConfig,
    /// The limit of connections of each user.
    pub(crate) users: Option<Arc<ModelUsers>>,
    pub(crate) workers: usize,
    pub(crate) clients: usize,
    /// The number of different users.
    pub(crate) names: usize,
    /// The time until no further client arrives.
    pub(crate) chaos: Duration,
    /// When the workers stop, if that is before all clients are at rest.
    pub(crate) stops_at: Option<Duration>,
    /// The time over which the connections are closed. `None`: at once.
    pub(crate) spread: Option<Duration>,
    /// Whether connections may be closed at once, also during a drain.
    pub(crate) may_close_at_once: bool,
    /// The number of operators' requests.
    pub(crate) requests: usize,
    /// The number of times that the log is full.
    pub(crate) log_stalls: usize,
    /// The most messages in an inbox, when a request arrives.
    pub(crate) inbox_limit: usize,
    /// Whether workers sometimes do not run for seconds.
    pub(crate) has_stalls: bool,
    /// The bytes of a read.
    pub(crate) read_buffer: usize,
    /// The bytes that a socket buffers in each direction.
    pub(crate) socket_buffer: usize,
}

impl Plan {
    pub(crate) fn new(random: &mut Random) -> Plan {
        let chaos = random.micros(200_000..=20_000_000);
        let users =
            random.one_in(2).then(|| Arc::new(ModelUsers::new(random.within(1..=3), !random.one_in(4))));
        let mut config = config(random);
        config.users = users.clone().map(|users| users as Arc<dyn Users>);
        // Some seeds have no small buffers, so that large messages are read and sent without a copy.
        let is_large = random.one_in(6);
        let spread = (!random.one_in(3)).then(|| random.micros(1..=10_000_000));
        Plan {
            config,
            users,
            workers: random.within(2..=4),
            clients: random.magnitude(2..=30),
            names: random.within(1..=8),
            chaos,
            stops_at: random.one_in(3).then(|| random.micros(1..=chaos.as_micros() as usize)),
            spread,
            may_close_at_once: spread.is_none() || random.one_in(4),
            requests: if random.one_in(3) { 0 } else { random.magnitude(1..=30) },
            log_stalls: if random.one_in(4) { random.within(1..=3) } else { 0 },
            inbox_limit: random.pick([1, 2, 8, 1024]),
            has_stalls: random.one_in(4),
            read_buffer: if is_large { 131_072 } else { random.pick([64, 4096, 65_536, 131_072]) },
            socket_buffer: random.magnitude(if is_large { 262_144 } else { 128 }..=524_287),
        }
    }
}

fn config(random: &mut Random) -> WorkerConfig {
    let millis = |random: &mut Random, least: usize, most: usize| random.micros(least * 1000..=most * 1000);
    let mut session = SessionConfig {
        max_message: 256 * 1024,
        max_frame: 256 * 1024,
        control_rate: random.pick([0, 20, 20, 2]),
        ..SessionConfig::default()
    };
    if random.one_in(3) {
        session.message_timeout = millis(random, 100, 10_000);
        session.close_timeout = millis(random, 50, 5_000);
        session.write_timeout = millis(random, 50, 10_000);
    }
    if random.one_in(3) {
        session.pause_backlog = random.magnitude(1..=65_536);
        session.max_backlog = random.magnitude(1..=262_144);
    }
    if random.one_in(5) {
        session.message_rate =
            Rate { per_second: random.within(5..=100) as u64, burst: random.within(0..=9) as u64 };
        session.rate_policy = random.pick([RatePolicy::Pause, RatePolicy::Close]);
    }
    if random.one_in(5) {
        let per_second = random.magnitude(10_000..=200_000) as u64;
        session.byte_rate = Rate { per_second, burst: random.magnitude(64..=8192) as u64 };
    }
    let mut keep_alive = KeepAliveConfig::default();
    if random.one_in(2) {
        keep_alive =
            KeepAliveConfig { interval: millis(random, 200, 5000), timeout: millis(random, 100, 5000) };
    }
    let mut handshake =
        HandshakeConfig { subprotocols: vec![SUBPROTOCOL.to_owned()], ..HandshakeConfig::default() };
    if random.one_in(2) {
        handshake.compression = true;
        session.compression_min = random.pick([0, 64, 1024]);
    }
    if random.one_in(4) {
        handshake.timeout = millis(random, 20, 2000);
        handshake.max_handshakes = random.within(2..=8);
    }
    if random.one_in(4) {
        handshake.reject = Reject::Close;
    }
    let fanout_slice = random.pick([1, 2, 5, 256]);
    let max_connections = random.one_in(4).then(|| random.within(2..=16));
    WorkerConfig {
        handshake,
        session: Arc::new(session),
        keep_alive,
        max_memory: if random.one_in(4) { random.magnitude(8192..=2_097_152) } else { usize::MAX },
        max_connections,
        max_sockets: max_connections.map(|most| most + random.within(1..=8)),
        fanout_slice,
        hash_seed: random.number(),
        ..WorkerConfig::default()
    }
}
