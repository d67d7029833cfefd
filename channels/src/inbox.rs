//! The events that wait for a worker. The host keeps each inbox behind a lock, which is held for one call.
//!
//! An event that finds the inbox full is not queued: its channel lags, and the exchange of the channel knows what the worker has
//! missed. The worker learns of it with the events that it takes next, and then lets every exchange put what it has missed into the
//! inbox, by [`Exchange::catch_up_all`](crate::exchange::Exchange::catch_up_all): the inbox alone has the order of the events.
//!
//! No lag goes unnoticed: a full inbox contains events that the worker has yet to take, and [`Inbox::take`] returns whether it has
//! overflowed. The publisher still holds the lock of the exchange then, so the exchange answers after it has recorded the lag.

use crate::engine::ChannelEvent;

/// The events that wait for a worker.
#[derive(Debug, Default)]
pub struct Inbox {
    events: Vec<ChannelEvent>,
    /// The memory of the events.
    bytes: usize,
    /// Whether an event was refused since the worker has last taken the others.
    has_overflowed: bool,
}

/// The result of [`Inbox::add`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is the first one: the worker must be woken.
    First,
    /// It follows others, for which the worker was woken.
    Next,
    /// The inbox is full, and the event is lost.
    Refused,
}

impl Inbox {
    /// Adds an event if the events that wait take less than `limit` bytes. Answers have no limit.
    pub fn add(&mut self, event: ChannelEvent, limit: usize) -> Added {
        if self.bytes >= limit {
            self.has_overflowed = true;
            return Added::Refused;
        }
        self.bytes += event.memory();
        self.events.push(event);
        if self.events.len() == 1 { Added::First } else { Added::Next }
    }

    /// Takes all events into `taken`, which must be empty; its memory is used for the next ones. Returns whether an event was
    /// refused since the last call, so that the worker must catch up.
    #[must_use]
    pub fn take(&mut self, taken: &mut Vec<ChannelEvent>) -> bool {
        std::mem::swap(&mut self.events, taken);
        self.bytes = 0;
        std::mem::take(&mut self.has_overflowed)
    }

    /// Returns the memory of the events.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns whether no event waits.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ChannelsConfig;

    #[test]
    fn a_full_inbox_refuses_events_until_they_are_taken_and_tells_its_worker() {
        let event = || ChannelEvent::Config(Arc::new(ChannelsConfig::default()));
        let size = event().memory();
        let mut inbox = Inbox::default();
        assert_eq!(inbox.add(event(), size + 1), Added::First);
        assert_eq!(inbox.add(event(), size + 1), Added::Next);
        assert_eq!(inbox.add(event(), size + 1), Added::Refused);
        assert_eq!(inbox.add(event(), usize::MAX), Added::Next);
        assert_eq!(inbox.bytes(), 3 * size);
        let mut taken = Vec::new();
        assert!(inbox.take(&mut taken));
        assert_eq!((taken.len(), inbox.bytes(), inbox.is_empty()), (3, 0, true));
        taken.clear();
        assert!(!inbox.take(&mut taken));
        assert_eq!(inbox.add(event(), size), Added::First);
    }
}
