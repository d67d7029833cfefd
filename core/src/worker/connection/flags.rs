//! Small fields of a connection in four bytes.

use std::time::Duration;

/// The round trip of the last ping, and two flags.
///
/// ```text
///   bit 31: counts for its user | bit 30: its peer has left | bits 0 to 29: microseconds
/// ```
#[derive(Debug, Default, Clone, Copy)]
pub(in crate::worker) struct Flags(u32);

impl Flags {
    /// Returns the round trip of the last ping, exact to a microsecond and at most 17 minutes. `None` before the first
    /// answer.
    pub(super) fn round_trip(self) -> Option<Duration> {
        let micros = self.0 & LONGEST;
        (micros > 0).then(|| Duration::from_micros(micros.into()))
    }

    pub(super) fn set_round_trip(&mut self, round_trip: Duration) {
        let micros = u32::try_from(round_trip.as_micros()).unwrap_or(LONGEST).clamp(1, LONGEST);
        self.0 = self.0 & !LONGEST | micros;
    }

    /// Whether it counts as a connection of its user.
    pub(in crate::worker) fn is_counted(self) -> bool {
        self.0 & COUNTED != 0
    }

    pub(in crate::worker) fn set_counted(&mut self, is_counted: bool) {
        self.set(COUNTED, is_counted);
    }

    /// Whether its peer has ended its side or reset the connection, although unread bytes may remain.
    pub(in crate::worker) fn is_peer_closed(self) -> bool {
        self.0 & PEER_CLOSED != 0
    }

    pub(in crate::worker) fn set_peer_closed(&mut self, is_peer_closed: bool) {
        self.set(PEER_CLOSED, is_peer_closed);
    }

    fn set(&mut self, bit: u32, is_set: bool) {
        self.0 = if is_set { self.0 | bit } else { self.0 & !bit };
    }
}

const COUNTED: u32 = 1 << 31;
const PEER_CLOSED: u32 = 1 << 30;

/// All bits of a round trip.
const LONGEST: u32 = PEER_CLOSED - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_the_round_trip_do_not_touch_each_other() {
        let mut flags = Flags::default();
        assert_eq!((flags.round_trip(), flags.is_counted(), flags.is_peer_closed()), (None, false, false));
        flags.set_counted(true);
        flags.set_peer_closed(true);
        assert_eq!(flags.round_trip(), None);
        for (took, kept) in [
            (Duration::ZERO, Duration::from_micros(1)),
            (Duration::from_micros(1500), Duration::from_micros(1500)),
            (Duration::MAX, Duration::from_micros(LONGEST.into())),
        ] {
            flags.set_round_trip(took);
            assert_eq!(
                (flags.round_trip(), flags.is_counted(), flags.is_peer_closed()),
                (Some(kept), true, true)
            );
        }
        flags.set_counted(false);
        assert_eq!((flags.is_counted(), flags.is_peer_closed()), (false, true));
        flags.set_peer_closed(false);
        assert_eq!(
            (flags.is_peer_closed(), flags.round_trip()),
            (false, Some(Duration::from_micros(LONGEST.into())))
        );
    }
}
