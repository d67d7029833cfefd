//! The events that wait to be sent.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::HookStats;
use super::event::{Event, Source};

/// The events that wait, in their order. Workers add them, and one thread sends them.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Signalled when there is something to send, when nothing is left, and at the end.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<(u64, Event)>,
    /// The memory of the events, including those that are being sent.
    bytes: usize,
    /// The number of the last event, also if it was dropped.
    sequence: u64,
    /// Events that are being sent. They are not in `events`.
    sending: usize,
    /// No event is added any more.
    is_closed: bool,
    stats: HookStats,
}

/// Events that are sent in one request.
#[derive(Debug)]
pub(super) struct Batch {
    /// The id of the request, which is the same in all attempts.
    pub(super) id: String,
    /// The number of events.
    pub(super) count: usize,
    pub(super) body: String,
    bytes: usize,
}

/// The end of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BatchEnd {
    Delivered,
    Refused,
    Expired,
}

impl Queue {
    /// Adds an event, or counts it if the queue is full. Holds a lock for a few assignments.
    pub(super) fn push(&self, event: Event) {
        let mut state = self.state();
        if state.is_closed {
            return;
        }
        state.sequence += 1;
        if state.bytes >= MAX_BYTES {
            state.stats.dropped += 1;
            return;
        }
        state.bytes += event.memory();
        let sequence = state.sequence;
        state.events.push_back((sequence, event));
        let is_first = state.events.len() == 1;
        drop(state);
        if is_first {
            self.changed.notify_all();
        }
    }

    /// Waits for events, and takes as many as fit into a request. Returns `None` at the end.
    pub(super) fn next(&self, source: &Source) -> Option<Batch> {
        let waits = |state: &mut State| state.events.is_empty() && !state.is_closed;
        let state = self.changed.wait_while(self.state(), waits);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::new();
        let mut bytes = 0;
        while taken.len() < MAX_BATCH
            && bytes < MAX_BATCH_BYTES
            && let Some((sequence, event)) = state.events.pop_front()
        {
            bytes += event.memory();
            taken.push((sequence, event));
        }
        state.sending = taken.len();
        drop(state);
        let (first, _) = taken.first()?;
        let id = format!("msg_{}", source.event_id(*first));
        let mut body = String::with_capacity(2 * bytes);
        for (index, (sequence, event)) in taken.iter().enumerate() {
            if index > 0 {
                body.push(',');
            }
            event.write(*sequence, source, &mut body);
        }
        if taken.len() > 1 {
            body = format!("[{body}]");
        }
        Some(Batch { id, count: taken.len(), body, bytes })
    }

    /// Records the end of a batch.
    pub(super) fn complete(&self, batch: &Batch, end: BatchEnd) {
        let mut state = self.state();
        state.sending = 0;
        state.bytes = state.bytes.saturating_sub(batch.bytes);
        let stats = &mut state.stats;
        *match end {
            BatchEnd::Delivered => &mut stats.delivered,
            BatchEnd::Refused => &mut stats.refused,
            BatchEnd::Expired => &mut stats.expired,
        } += batch.count as u64;
        drop(state);
        self.changed.notify_all();
    }

    /// Counts a failed request.
    pub(super) fn count_failure(&self) {
        self.state().stats.failures += 1;
    }

    /// Waits for a time before the next attempt. Returns early at the end.
    pub(super) fn pause(&self, time: Duration) {
        let waited = self.changed.wait_timeout_while(self.state(), time, |state| !state.is_closed);
        drop(waited);
    }

    /// Whether no event is added any more.
    pub(super) fn is_closed(&self) -> bool {
        self.state().is_closed
    }

    /// Closes the queue, and waits until all events are sent. Returns the number of events that are left.
    pub(super) fn finish(&self, deadline: Instant, mut is_urgent: impl FnMut() -> bool) -> usize {
        let mut state = self.state();
        state.is_closed = true;
        self.changed.notify_all();
        loop {
            let left = state.events.len() + state.sending;
            let remaining = deadline.saturating_duration_since(Instant::now());
            if left == 0 || remaining.is_zero() || is_urgent() {
                return left;
            }
            let waited = self.changed.wait_timeout(state, remaining.min(URGENT_INTERVAL));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(super) fn stats(&self) -> HookStats {
        let state = self.state();
        HookStats { queued: state.events.len() + state.sending, ..state.stats.clone() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is complete before anything that can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The most bytes of events: about 20,000 events, which is the end of as many connections.
pub(super) const MAX_BYTES: usize = 8 * 1024 * 1024;

/// The most events of a request.
pub(super) const MAX_BATCH: usize = 100;

/// The bytes of events after which a request gets no further one. CloudEvents requires receivers to accept 64 KiB for one event;
/// servers of HTTP mostly accept 1 MiB.
const MAX_BATCH_BYTES: usize = 128 * 1024;

/// The interval in which an urgent end is noticed.
const URGENT_INTERVAL: Duration = Duration::from_millis(50);
