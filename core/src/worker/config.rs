//! The configuration of a worker.

use std::sync::Arc;

use super::check::{FirstMessageConfig, InBandConfig, Revalidate};
use crate::handshake::{HandshakeConfig, Revocations};
use crate::policy::{ExpiryConfig, KeepAliveConfig, Users};
use crate::session::SessionConfig;

/// The rules for all connections. One per process, shared by its workers.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// The rules of the handshake.
    pub handshake: HandshakeConfig,
    /// The limits of an admitted connection.
    pub session: Arc<SessionConfig>,
    /// The detection of dead peers.
    pub keep_alive: KeepAliveConfig,
    /// When connections end whose tokens have expired: see
    /// [`Identity::token_exp`](crate::handshake::Identity::token_exp). It needs
    /// [`HandshakeConfig::wall_clock`]. Default none: never.
    pub expiry: Option<ExpiryConfig>,
    /// The messages with tokens. Default none.
    pub in_band: InBandConfig,
    /// When the token of a connection is checked again. Its upgrade must have the token then, which is kept. Default none: never.
    pub revalidate: Option<Revalidate>,
    /// Connections whose clients identify themselves by their first message.
    pub first_message: FirstMessageConfig,
    /// The revoked credentials, with which no user is admitted. Default none: no credentials are revoked.
    pub revocations: Option<Arc<dyn Revocations>>,
    /// Counts the connections of each user and decides about one more, for all workers. Default none: unlimited.
    pub users: Option<Arc<dyn Users>>,
    /// The most bytes in the buffers of a worker's connections and in the [states](super::Application::client_memory) of their
    /// clients; above it the slowest connections are evicted. Default [`usize::MAX`].
    pub max_memory: usize,
    /// The most connections of a worker that are admitted or may be admitted. For one more, the oldest handshake in progress is
    /// evicted; if there is none, the new connection is refused with 503. Default unlimited.
    pub max_connections: Option<usize>,
    /// The most connections of a worker, including refused ones that wait for their peer to close. Above it the oldest of these
    /// are closed. Default unlimited.
    pub max_sockets: Option<usize>,
    /// The most writes of a message to many connections before the runtime handles the events of other sockets. Each 16 KiB of
    /// a frame count as one more write. Default 256: a write takes about 10 µs, so other sockets wait for about 3 ms. With less,
    /// the last connections get the message later; zero counts as one.
    pub fanout_slice: usize,
    /// The number of the worker among the workers of the process. Default 0.
    pub number: usize,
    /// The number of workers of the process. Default 1.
    pub workers: usize,
    /// The secret seed of the user index's keyed hash, the same for all workers.
    pub hash_seed: u64,
}

impl Default for WorkerConfig {
    fn default() -> WorkerConfig {
        WorkerConfig {
            handshake: HandshakeConfig::default(),
            session: Arc::default(),
            keep_alive: KeepAliveConfig::default(),
            expiry: None,
            in_band: InBandConfig::default(),
            revalidate: None,
            first_message: FirstMessageConfig::default(),
            revocations: None,
            users: None,
            max_memory: usize::MAX,
            max_connections: None,
            max_sockets: None,
            fanout_slice: 256,
            number: 0,
            workers: 1,
            hash_seed: 0,
        }
    }
}

impl WorkerConfig {
    /// Returns the configuration of the worker `index` of `workers`, which must not be zero: the same, with its share
    /// of the limits that apply to all connections together. The shares of the numbers of connections add up to the
    /// whole; the others are rounded up.
    pub fn share(&self, index: usize, workers: usize) -> WorkerConfig {
        let mut share = self.clone();
        (share.number, share.workers) = (index, workers);
        share.handshake.max_handshakes = self.handshake.max_handshakes.div_ceil(workers);
        share.first_message.max_waiting = self.first_message.max_waiting.div_ceil(workers);
        share.max_memory = self.max_memory.div_ceil(workers);
        for limit in [&mut share.max_connections, &mut share.max_sockets] {
            *limit = limit.map(|limit| limit / workers + usize::from(index < limit % workers));
        }
        share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        let config = WorkerConfig { max_connections: Some(8), max_memory: 7, ..Default::default() };
        let shares: Vec<_> = (0..3).map(|index| config.share(index, 3)).collect();
        let connections: Vec<_> = shares.iter().map(|share| share.max_connections).collect();
        assert_eq!(connections, [Some(3), Some(3), Some(2)]);
        let of_one = WorkerConfig { max_connections: Some(1), ..WorkerConfig::default() }.share(1, 2);
        assert_eq!((of_one.max_connections, of_one.max_sockets), (Some(0), None));
        assert!(shares.iter().all(|share| share.max_memory == 3 && share.handshake.max_handshakes == 1366));
    }
}
