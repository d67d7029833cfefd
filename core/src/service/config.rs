//! What the connections of a process have in common.

use std::sync::Arc;

use crate::handshake::HandshakeConfig;
use crate::policy::{HeartbeatConfig, Users};
use crate::session::SessionConfig;

/// The rules for all connections. One per process, shared by its workers.
#[derive(Debug, Clone, Default)]
pub struct ServiceConfig {
    /// Whom the handshake admits.
    pub handshake: HandshakeConfig,
    /// What an admitted connection may do.
    pub session: Arc<SessionConfig>,
    /// How it is found out that a user is gone who has not said so.
    pub heartbeat: HeartbeatConfig,
    /// Who counts the connections of each user; one too many is 429. Default nobody, and any number may be.
    pub users: Option<Arc<dyn Users>>,
    /// How many bytes the buffers of a worker's connections may hold; beyond it the slowest connections are ended.
    /// Default 0, which is any number.
    pub max_memory: usize,
    /// What names of users are hashed with: a number that nobody outside can know, the same for all workers.
    pub hash_seed: u64,
}
