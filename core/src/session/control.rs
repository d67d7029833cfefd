//! What a session knows of the control frames of its peer.

use std::time::Instant;

use crate::policy::{RateLimit, Verdict};

/// Allocated at the first unsolicited control frame of the peer, which hardly any browser sends.
#[derive(Debug, Default)]
pub(super) struct Control {
    rate: RateLimit,
    /// The payload of the one pong that waits until the peer has taken what was sent before.
    pong: Option<Box<[u8]>>,
}

impl Control {
    /// Judges one more control frame, of which `rate` may come a second, and twice as many at once.
    pub(super) fn judge(&mut self, now: Instant, rate: u32) -> Verdict {
        self.rate.judge(now, rate, rate.saturating_mul(2))
    }

    /// Keeps the payload of a pong that cannot be sent yet. It takes the place of the one before.
    pub(super) fn delay_pong(&mut self, payload: &[u8]) {
        self.pong = Some(payload.into());
    }

    /// Whether a pong waits.
    pub(super) fn has_pong(&self) -> bool {
        self.pong.is_some()
    }

    /// The payload of the pong that waited.
    pub(super) fn take_pong(&mut self) -> Option<Box<[u8]>> {
        self.pong.take()
    }
}
