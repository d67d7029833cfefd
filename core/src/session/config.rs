//! The limits of an admitted connection: one documented field for each knob.

use std::time::Duration;

use crate::policy::Rate;

/// What a session tolerates. Shared by all sessions of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionConfig {
    /// The longest message in payload bytes; beyond it 1009. Default 64 KiB. A connection holds at most
    /// this much of a message that has not arrived whole.
    pub max_message: usize,
    /// The longest frame in payload bytes; beyond it 1009, when its header is read. Default 64 KiB.
    pub max_frame: usize,
    /// The most frames of one message, empty ones too; beyond it 1008. Default 1,024.
    pub max_fragments: u32,
    /// Where compression was agreed on, the shortest message that is compressed, in payload bytes; shorter
    /// ones, and those that would not get shorter, are sent as they are. Default 64. Zero compresses all.
    pub compression_min: usize,
    /// Control frames a second, with twice as many at once; beyond it 1008. Default 20. Zero is any number,
    /// and then a peer can have us answer pings as fast as it sends them.
    pub control_rate: u32,
    /// Data messages of the peer. Default any number.
    pub message_rate: Rate,
    /// Bytes that are read from the peer, those of its frames' headers too. Default any number.
    pub byte_rate: Rate,
    /// What follows if the peer exceeds one of these two rates.
    pub rate_policy: RatePolicy,
    /// The longest time to receive one message; later closes with 1008. Default 30 s. Zero is unlimited.
    pub message_timeout: Duration,
    /// How long the peer may take to answer our Close, and a last Close of ours to get out. Default 5 s.
    pub close_timeout: Duration,
    /// The longest time without progress of pending output; the peer is then dropped. Default 10 s. Zero is unlimited, and then
    /// a peer that stops reading keeps its backlog allocated.
    pub write_timeout: Duration,
    /// While this much waits to be sent, nothing more is read from the peer. Default 256 KiB.
    pub pause_backlog: usize,
    /// If this much waits to be sent and still more is to come, the peer is too slow: 4413. Default 1 MiB.
    /// What one read brought is always answered, so a connection holds at most this and those answers.
    /// A peer that is only answered never gets there, because reading from it pauses before; one to which
    /// others send does.
    pub max_backlog: usize,
}

/// What follows if a peer sends faster than it may.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum RatePolicy {
    /// It is read from no faster than it may send; it notices that it can send no more.
    #[default]
    Pause,
    /// 4429, judged after each read.
    Close,
}

impl SessionConfig {
    /// Whether a rate of messages or bytes is set.
    pub fn has_rates(&self) -> bool {
        self.message_rate.per_second != 0 || self.byte_rate.per_second != 0
    }
}

impl Default for SessionConfig {
    fn default() -> SessionConfig {
        SessionConfig {
            max_message: 64 * 1024,
            max_frame: 64 * 1024,
            max_fragments: 1024,
            compression_min: 64,
            control_rate: 20,
            message_rate: Rate::default(),
            byte_rate: Rate::default(),
            rate_policy: RatePolicy::default(),
            message_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(10),
            pause_backlog: 256 * 1024,
            max_backlog: 1024 * 1024,
        }
    }
}
