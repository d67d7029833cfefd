//! The events that wait for a worker. The host keeps each inbox behind a lock, which is held for one call.
//!
//! An event that finds the inbox full is not queued: its channel lags, and the exchange of the channel knows what the worker has
//! missed. The worker learns of it with the events that it takes next, and then lets every exchange put what it has missed into the
//! inbox, by [`Exchange::catch_up_all`](crate::exchange::Exchange::catch_up_all): the inbox alone has the order of the events.
//!
//! A worker takes a part of the events at a time, so that it writes in between. No lag goes unnoticed: a full inbox contains events
//! that the worker has yet to take, and [`Inbox::take`] returns whether it has overflowed, with the last of them. The publisher still holds the lock of the exchange then, so the exchange answers after it has recorded the lag.

use std::collections::VecDeque;

use crate::engine::ChannelEvent;

/// The events that wait for a worker.
#[derive(Debug, Default)]
pub struct Inbox {
    events: VecDeque<ChannelEvent>,
    /// The memory of the events.
    bytes: usize,
    /// Whether an event was refused since the worker has last taken all others.
    has_overflowed: bool,
}

/// The result of [`Inbox::take`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Events are left, for which the worker is not woken.
    Part,
    /// The inbox is empty.
    All,
    /// The inbox is empty, and an event was refused: the worker must catch up.
    AllWithLoss,
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
        self.events.push_back(event);
        if self.events.len() == 1 { Added::First } else { Added::Next }
    }

    /// Takes at most `most` events, the oldest ones, into `taken`, which must be empty.
    pub fn take(&mut self, taken: &mut Vec<ChannelEvent>, most: usize) -> Taken {
        let count = most.min(self.events.len());
        taken.extend(self.events.drain(..count));
        if !self.events.is_empty() {
            self.bytes -= taken.iter().map(ChannelEvent::memory).sum::<usize>();
            return Taken::Part;
        }
        self.bytes = 0;
        if self.events.capacity() > MOST_KEPT {
            self.events = VecDeque::new();
        }
        if std::mem::take(&mut self.has_overflowed) { Taken::AllWithLoss } else { Taken::All }
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

/// The most events whose memory an empty inbox keeps.
const MOST_KEPT: usize = 4096;

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
        assert_eq!(inbox.take(&mut taken, 2), Taken::Part);
        assert_eq!((taken.len(), inbox.bytes(), inbox.is_empty()), (2, size, false));
        taken.clear();
        // The events that are left, and then the loss.
        assert_eq!(inbox.add(event(), usize::MAX), Added::Next);
        assert_eq!(inbox.take(&mut taken, 2), Taken::AllWithLoss);
        assert_eq!((taken.len(), inbox.bytes(), inbox.is_empty()), (2, 0, true));
        taken.clear();
        assert_eq!(inbox.take(&mut taken, 2), Taken::All);
        assert_eq!(inbox.add(event(), size), Added::First);
    }
}
