//! Output that the socket has not accepted, and the time limit for it.

use std::time::{Duration, Instant};

/// Output that the socket has not accepted, and when it last accepted some.
///
/// A connection has a backlog only while output is pending. It is dropped, with its memory, when all is sent.
#[derive(Debug)]
pub struct Backlog {
    /// ```text
    ///   bytes  [ sent ... | pending ... ]       0 <= sent <= bytes.len()
    /// ```
    bytes: Vec<u8>,
    sent: usize,
    /// When the socket last accepted output.
    progress: Instant,
}

impl Backlog {
    /// Creates a backlog of the output that the socket did not accept at `now`.
    pub fn new(unsent: &[u8], now: Instant) -> Backlog {
        Backlog { bytes: unsent.to_vec(), sent: 0, progress: now }
    }

    /// Creates a backlog of `bytes`, the first `sent` of which the socket accepted at `now`.
    pub fn resume(bytes: Vec<u8>, sent: usize, now: Instant) -> Backlog {
        Backlog { sent: sent.min(bytes.len()), bytes, progress: now }
    }

    /// Returns the buffer, to be used again.
    pub fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }

    /// Returns the pending output.
    pub fn pending(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    /// Returns the buffer to which further output is appended.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Removes `n` bytes that the socket accepted. Returns true if none are left.
    pub fn advance(&mut self, n: usize, now: Instant) -> bool {
        if n > 0 {
            self.progress = now;
        }
        self.sent = self.bytes.len().min(self.sent + n);
        // Moving the rest to the front costs as much as it has bytes; done when at least as many are sent,
        // so each byte is moved once on average.
        if self.sent >= self.bytes.len() - self.sent {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        self.bytes.is_empty()
    }

    /// Returns the size of its buffer, in bytes.
    pub fn memory(&self) -> usize {
        size_of::<Backlog>() + self.bytes.capacity()
    }

    /// Returns the time at which the socket last accepted output.
    pub fn progress(&self) -> Instant {
        self.progress
    }

    /// Whether more than `limit` bytes are pending.
    pub fn exceeds(&self, limit: usize) -> bool {
        self.pending().len() > limit
    }

    /// Returns the time at which the peer will have accepted no output for `timeout`. `None` if that is zero.
    pub fn stalls_at(&self, timeout: Duration) -> Option<Instant> {
        (!timeout.is_zero()).then(|| self.progress + timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_the_order_in_which_they_came() {
        let now = Instant::now();
        let mut backlog = Backlog::new(b"abc", now);
        backlog.tail().extend_from_slice(b"defgh");
        let mut seen = Vec::new();
        for n in [1, 3, 0, 2] {
            seen.extend_from_slice(&backlog.pending()[..n]);
            assert!(!backlog.advance(n, now));
        }
        backlog.tail().extend_from_slice(b"ij");
        seen.extend_from_slice(backlog.pending());
        assert!(backlog.advance(backlog.pending().len(), now));
        assert_eq!(seen, b"abcdefghij");
    }

    #[test]
    fn only_what_is_pending_counts_towards_a_limit() {
        let now = Instant::now();
        let mut backlog = Backlog::new(&[0; 11], now);
        assert!(backlog.exceeds(10));
        backlog.advance(1, now);
        assert!(!backlog.exceeds(10));
    }

    #[test]
    fn only_progress_puts_the_stall_off() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut backlog = Backlog::new(b"abc", start);
        assert_eq!(backlog.stalls_at(10 * second), Some(start + 10 * second));
        backlog.advance(0, start + second);
        assert_eq!(backlog.stalls_at(10 * second), Some(start + 10 * second));
        backlog.advance(1, start + 2 * second);
        assert_eq!(backlog.stalls_at(10 * second), Some(start + 12 * second));
        assert_eq!(backlog.stalls_at(Duration::ZERO), None);
    }
}
