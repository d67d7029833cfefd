//! Lines on their way to the sink: a bounded queue, and the thread that empties it.
//!
//! ```text
//!   workers ──push──▶ [ pending ] ──take──▶ [ in flight ] ──write──▶ sink
//!                      pending + in flight <= capacity
//! ```
//!
//! Whole lines are copied in, so a worker keeps its buffer and no allocation changes threads. Lines that do not fit
//! are dropped and counted. One record is one line, so the count is the number of line feeds.

use std::io::{self, ErrorKind, Write};
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::MIN_FINISH;

/// The state that workers and the writer share.
pub(super) struct Queue {
    capacity: usize,
    state: Mutex<State>,
    /// Wakes a sleeping writer: there are lines, or it should end.
    wake: Condvar,
    /// Notified when the writer has ended.
    ended: Condvar,
    /// Records that the writer has taken and not written yet. Written without the lock, and read only at the end.
    records_in_flight: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Whole lines.
    pending: Vec<u8>,
    /// Bytes that the writer has taken and not written yet.
    in_flight: usize,
    /// Records dropped since the last report.
    dropped: u64,
    /// Records dropped since the start.
    dropped_ever: u64,
    is_writer_asleep: bool,
    /// Set when the queue closes: the writer ends when all lines are written, at this time at the latest.
    deadline: Option<Instant>,
    /// No more lines are accepted.
    is_over: bool,
    /// The loss, when the writer has ended.
    ended: Option<Loss>,
}

/// The records that a log has lost when it ends.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Records that were accepted and not written, and dropped records that the log has not reported.
    pub records: u64,
    /// The error of the sink; `None` if it was only too slow.
    pub error: Option<String>,
}

impl Queue {
    /// Creates a queue of at most `capacity` bytes.
    pub(super) fn new(capacity: usize) -> Queue {
        Queue {
            capacity,
            state: Mutex::default(),
            wake: Condvar::new(),
            ended: Condvar::new(),
            records_in_flight: AtomicU64::new(0),
        }
    }

    /// Appends whole lines, or drops all of them if they do not fit. Never waits for the sink.
    pub(super) fn push(&self, lines: &[u8]) {
        if !self.offer(lines) {
            self.drop_lines(lines);
        }
    }

    /// Counts lines as dropped.
    pub(super) fn drop_lines(&self, lines: &[u8]) {
        // Counted without the lock, because there may be many lines.
        let records = count_lines(lines);
        let mut state = self.lock();
        state.dropped += records;
        state.dropped_ever += records;
    }

    /// Returns the number of records dropped since the start.
    pub(super) fn dropped_ever(&self) -> u64 {
        self.lock().dropped_ever
    }

    /// Appends whole lines if they fit or the queue is empty. Returns whether it has.
    pub(super) fn offer(&self, lines: &[u8]) -> bool {
        self.accept(lines, self.capacity)
    }

    /// Appends the last lines of a worker that ends, even if they exceed the capacity, because the worker cannot
    /// keep them.
    pub(super) fn push_over_capacity(&self, lines: &[u8]) {
        if !self.accept(lines, usize::MAX) {
            self.drop_lines(lines);
        }
    }

    fn accept(&self, lines: &[u8], capacity: usize) -> bool {
        let mut state = self.lock();
        if state.is_over {
            return false;
        }
        let unwritten = state.pending.len() + state.in_flight;
        if unwritten > 0 && unwritten + lines.len() > capacity {
            return false;
        }
        // Without memory, the process drops log lines instead of aborting.
        if state.pending.try_reserve(lines.len()).is_err() {
            return false;
        }
        state.pending.extend_from_slice(lines);
        // Waking costs a system call, so the writer is woken only if it sleeps.
        if mem::take(&mut state.is_writer_asleep) {
            drop(state);
            self.wake.notify_one();
        }
        true
    }

    /// Waits until all accepted lines are written, for at most `timeout`. The queue stays open.
    pub(super) fn flush(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            let state = self.lock();
            if state.pending.is_empty() && state.in_flight == 0 {
                return;
            }
            drop(state);
            thread::sleep(WRITE_INTERVAL);
        }
    }

    /// Makes the writer write the pending lines and end, and waits for it until `deadline`. Calls `is_urgent` every
    /// [`POLL_INTERVAL`]; if it returns true, the deadline is at most [`MIN_FINISH`] from then. Returns the loss.
    pub(super) fn close(&self, mut deadline: Instant, mut is_urgent: impl FnMut() -> bool) -> Loss {
        let mut state = self.lock();
        state.deadline = Some(deadline);
        self.wake.notify_one();
        // The writer ends by itself at the deadline, unless its sink blocks.
        while Instant::now() < deadline + WRITER_SLACK {
            if let Some(loss) = &state.ended {
                return loss.clone();
            }
            drop(self.ended.wait_timeout(state, POLL_INTERVAL).unwrap_or_else(PoisonError::into_inner));
            // Called without the lock, because the caller may log.
            let is_urgent = is_urgent();
            state = self.lock();
            if is_urgent {
                deadline = deadline.min(Instant::now() + MIN_FINISH);
                state.deadline = Some(deadline);
            }
        }
        state.is_over = true;
        let lost = count_lines(&state.pending) + self.records_in_flight.load(Ordering::Relaxed);
        state.dropped_ever += lost;
        Loss { records: state.dropped + lost, error: None }
    }

    /// Writes lines to `sink` until the queue is closed, and is empty or its deadline has passed. `report` formats the
    /// line with the number of dropped records. A write that returns [`ErrorKind::WouldBlock`] is repeated immediately,
    /// because the sink waits for room itself.
    ///
    /// If the sink fails, the lines that it did not take count as dropped. A full disk may get space and a pipe a
    /// new reader, so the writer continues after a failure until the queue is closed.
    pub(super) fn run_writer(&self, mut sink: impl Write, report: impl Fn(u64, &mut Vec<u8>)) {
        let mut taken = Vec::new();
        // Whether the last written line has no line feed yet, because the sink failed within it.
        let mut is_within_line = false;
        let mut error = None;
        while let Some(reported) = self.take(&mut taken, &report) {
            let records = count_lines(&taken) - u64::from(reported > 0);
            self.records_in_flight.store(records, Ordering::Relaxed);
            let (unwritten, outcome) = self.write(&mut sink, &taken, &mut is_within_line);
            let is_closing = self.wrote(unwritten, reported);
            taken.clear();
            match (outcome, is_closing) {
                (Outcome::Done, true) => {}
                // Lines gather in this time and are written at once. A worker's batch is much shorter than that,
                // and waking the writer for each batch would cost the worker more than formatting it.
                (Outcome::Done, false) => thread::sleep(WRITE_INTERVAL),
                (Outcome::Failed(_), false) => thread::sleep(RETRY_AFTER_ERROR),
                (Outcome::Failed(failure), true) => {
                    error = Some(failure.to_string());
                    break;
                }
                (Outcome::Late, _) => break,
            }
        }
        self.end(sink, is_within_line, error, report);
    }

    /// Waits for lines and moves all of them to `taken`, which is empty. Returns the number of dropped records that
    /// its last line reports; `None` if there will be no more lines.
    fn take(&self, taken: &mut Vec<u8>, report: impl Fn(u64, &mut Vec<u8>)) -> Option<u64> {
        let mut state = self.lock();
        while state.pending.is_empty() && state.dropped == 0 {
            if state.deadline.is_some() {
                state.is_over = true;
                return None;
            }
            state.is_writer_asleep = true;
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_writer_asleep = false;
        // The two buffers are swapped. Neither keeps the capacity that it grew to while the sink was stalled.
        taken.shrink_to(MAX_IDLE_CAPACITY.min(self.capacity / 8));
        mem::swap(taken, &mut state.pending);
        let dropped = mem::take(&mut state.dropped);
        if dropped > 0 {
            // The report is between the lines before the loss and those after it.
            report(dropped, taken);
        }
        state.in_flight = taken.len();
        Some(dropped)
    }

    /// Writes lines until the deadline, and returns the rest.
    fn write<'l>(
        &self,
        sink: &mut impl Write,
        lines: &'l [u8],
        is_within_line: &mut bool,
    ) -> (&'l [u8], Outcome) {
        let mut rest = lines;
        let outcome = loop {
            let next = if *is_within_line { b"\n" } else { rest };
            if next.is_empty() {
                break Outcome::Done;
            }
            match sink.write(next) {
                Ok(0) => break Outcome::Failed(ErrorKind::WriteZero.into()),
                Ok(_) if *is_within_line => *is_within_line = false,
                Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                Err(error) => break Outcome::Failed(error),
            }
            if !rest.is_empty() && self.is_late() {
                break Outcome::Late;
            }
        };
        let written = lines.len() - rest.len();
        *is_within_line |= !rest.is_empty() && written > 0 && lines.get(written - 1) != Some(&b'\n');
        // If a buffered sink fails to flush, it keeps the bytes for the next time.
        let _ = sink.flush();
        (rest, outcome)
    }

    /// Counts the lines that were taken and not written as dropped. Returns whether the queue is closing.
    fn wrote(&self, unwritten: &[u8], reported: u64) -> bool {
        let mut lost = count_lines(unwritten);
        let mut unreported = 0;
        if lost > 0 && reported > 0 {
            // The last line was the report. It does not count as a record, and its number has to be reported again.
            lost -= 1;
            unreported = reported;
        }
        self.records_in_flight.store(0, Ordering::Relaxed);
        let mut state = self.lock();
        state.in_flight = 0;
        state.dropped += lost + unreported;
        state.dropped_ever += lost;
        state.deadline.is_some()
    }

    /// Ends the queue: counts its lines as lost, and reports the number of lost records as the last line if the
    /// sink takes it with one write.
    fn end(
        &self,
        mut sink: impl Write,
        is_within_line: bool,
        error: Option<String>,
        report: impl Fn(u64, &mut Vec<u8>),
    ) {
        let mut state = self.lock();
        state.is_over = true;
        let lost = count_lines(&state.pending);
        state.pending.clear();
        state.dropped_ever += lost;
        let loss = Loss { records: state.dropped + lost, error };
        drop(state);
        if loss.records > 0 {
            let mut line = if is_within_line { b"\n".to_vec() } else { Vec::new() };
            report(loss.records, &mut line);
            // If it fails, the number is still printed on standard error.
            let _ = sink.write(&line);
        }
        self.lock().ended = Some(loss);
        self.ended.notify_all();
    }

    /// Whether the writer has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.lock().ended.is_some()
    }

    /// Whether the deadline has passed.
    fn is_late(&self) -> bool {
        self.lock().deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Locks the state. No code panics while it holds the lock, so a poisoned lock has a valid state.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The result of writing lines.
enum Outcome {
    Done,
    Failed(io::Error),
    /// The deadline has passed.
    Late,
}

fn count_lines(lines: &[u8]) -> u64 {
    // The sum of a chunk fits into a byte, so the compiler vectorises it.
    let count = |chunk: &[u8]| chunk.iter().map(|&byte| u8::from(byte == b'\n')).sum::<u8>();
    lines.chunks(255).map(|chunk| u64::from(count(chunk))).sum()
}

/// The time between two writes of the writer, in which lines gather.
const WRITE_INTERVAL: Duration = Duration::from_millis(1);

/// The time for which the writer waits after an error of the sink.
const RETRY_AFTER_ERROR: Duration = Duration::from_millis(100);

/// The interval in which a log that ends checks whether it has become urgent.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The time that a writer may take after its deadline to notice it.
const WRITER_SLACK: Duration = Duration::from_millis(250);

/// The capacity that an empty buffer may keep.
const MAX_IDLE_CAPACITY: usize = 1024 * 1024;

#[cfg(test)]
mod tests;
