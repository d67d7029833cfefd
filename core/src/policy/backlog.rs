//! What a peer has not taken yet, and how long it may leave it there.

use std::time::{Duration, Instant};

/// Output that the socket did not take, and since when.
///
/// Exists only while there is some: it is dropped, with its memory, when all is sent.
#[derive(Debug)]
pub struct Backlog {
    /// ```text
    ///   bytes  [ sent ... | pending ... ]       0 <= sent <= bytes.len()
    /// ```
    bytes: Vec<u8>,
    sent: usize,
    /// When the peer last took something.
    progress: Instant,
}

/// What to do about a peer's pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pressure {
    /// Nothing.
    Flowing,
    /// Read no more from it until it has taken some.
    Paused,
    /// It is too slow for what is sent to it.
    Overflowing,
}

impl Backlog {
    /// A backlog that begins with what the socket did not take at `now`.
    pub fn new(unsent: &[u8], now: Instant) -> Backlog {
        Backlog { bytes: unsent.to_vec(), sent: 0, progress: now }
    }

    /// What is to be written, from its front.
    pub fn pending(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    /// Where further output is appended.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Tells that the socket took `n` bytes. True if that was all.
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

    /// Judges the pace by how much is pending: over `max` it overflows, over `pause` reading pauses.
    pub fn pressure(&self, pause: usize, max: usize) -> Pressure {
        match self.pending().len() {
            pending if pending > max => Pressure::Overflowing,
            pending if pending > pause => Pressure::Paused,
            _ => Pressure::Flowing,
        }
    }

    /// When the peer will have taken nothing for `timeout`. Never, if that is zero.
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
    fn pressure_rises_behind_each_mark() {
        let backlog = |len| Backlog::new(&vec![0; len], Instant::now());
        assert_eq!(backlog(10).pressure(10, 20), Pressure::Flowing);
        assert_eq!(backlog(11).pressure(10, 20), Pressure::Paused);
        assert_eq!(backlog(20).pressure(10, 20), Pressure::Paused);
        assert_eq!(backlog(21).pressure(10, 20), Pressure::Overflowing);
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
