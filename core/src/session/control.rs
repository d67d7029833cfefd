//! The rarely needed state of control frames.

use std::time::Instant;

use crate::policy::{RateLimit, Verdict};

/// Allocated at the first unsolicited control frame of the peer, which hardly any browser sends, or at a Close with a reason of
/// the caller.
#[derive(Debug, Default)]
pub(super) struct Control {
    rate: RateLimit,
    /// The payload of the pong that is sent when the backlog is empty.
    pong: Option<Box<[u8]>>,
    /// The reason of a Close frame, if it is not the default one of its code.
    reason: Option<Box<str>>,
}

impl Control {
    /// Checks one more control frame, with `rate` per second and a burst of twice as many.
    pub(super) fn check(&mut self, now: Instant, rate: u32) -> Verdict {
        self.rate.check(now, rate, rate.saturating_mul(2))
    }

    /// Keeps the payload of a pong that cannot be sent yet, in place of an earlier one.
    pub(super) fn delay_pong(&mut self, payload: &[u8]) {
        self.pong = Some(payload.into());
    }

    /// Stores the reason of a Close frame.
    pub(super) fn set_reason(&mut self, reason: &str) {
        self.reason = Some(reason.into());
    }

    /// Returns the stored reason of a Close frame.
    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Whether a pong is pending.
    pub(super) fn has_pong(&self) -> bool {
        self.pong.is_some()
    }

    /// Removes the payload of the pending pong.
    pub(super) fn take_pong(&mut self) -> Option<Box<[u8]>> {
        self.pong.take()
    }
}
