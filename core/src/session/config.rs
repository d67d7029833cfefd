//! The limits of an admitted connection.

use std::time::Duration;

use crate::policy::Rate;

/// The limits of a [`Session`](crate::Session). Shared by all sessions of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionConfig {
    /// The longest message in payload bytes. A longer one closes with 1009. Default 64 KiB. A partial message takes at most
    /// this much memory.
    pub max_message: usize,
    /// The longest frame in payload bytes. The header of a longer one closes with 1009. Default 64 KiB.
    pub max_frame: usize,
    /// The most frames of one message, including empty ones. One more closes with 1008. Default 1,024.
    pub max_fragments: u32,
    /// The shortest message that is compressed, in payload bytes, if compression was negotiated. Messages that compression
    /// would not make shorter are sent uncompressed, too. Default 64. Zero compresses all.
    pub compression_min: usize,
    /// The most control frames per second, with a burst of twice as many. One more closes with 1008. Default 20. Zero
    /// is unlimited, and then each ping is answered, at any rate.
    pub control_rate: u32,
    /// The rate of data messages from the peer. Default unlimited.
    pub message_rate: Rate,
    /// The rate of bytes from the peer, including the headers of frames. Default unlimited.
    pub byte_rate: Rate,
    /// The reaction to a peer that exceeds one of these two rates.
    pub rate_policy: RatePolicy,
    /// The longest time to receive one message; later closes with 1008. Default 30 s. Zero is unlimited.
    pub message_timeout: Duration,
    /// The longest time from a Close that this side sends to the answer of the peer, and for the socket to accept the last
    /// output. Default 5 s.
    pub close_timeout: Duration,
    /// The longest time without progress of pending output; the peer is then dropped. Default 10 s. Zero is unlimited, and then
    /// a peer that stops reading keeps its backlog allocated.
    pub write_timeout: Duration,
    /// The pending output, in bytes, above which reading from the peer pauses. Default 256 KiB.
    pub pause_backlog: usize,
    /// The pending output, in bytes, above which further output closes with 4413, because the peer is too slow. Default
    /// 1 MiB. Messages that have been read are always answered, so a connection has at most this and the answers to one
    /// read. Echoes alone do not exceed it, because reading pauses before; messages from others do.
    pub max_backlog: usize,
}

/// The reaction to a peer that exceeds a rate.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum RatePolicy {
    /// Reading pauses until the rate allows more, so that TCP slows the peer down.
    #[default]
    Pause,
    /// The connection is closed with 4429. Checked after each read.
    Close,
}

impl SessionConfig {
    /// Returns the length of the longest message in a single frame, in payload bytes.
    pub(crate) fn longest_whole(&self) -> usize {
        self.max_frame.min(self.max_message)
    }

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
