//! Lines on their way to the sink: a bounded queue, and the thread that empties it.
//!
//! ```text
//!   workers ──push──▶ [ pending ] ──take──▶ [ in flight ] ──write──▶ sink
//!                      pending + in flight <= capacity
//! ```
//!
//! Whole lines are copied in, so a worker keeps its buffer and no allocation changes threads. What does not fit
//! is dropped and counted; one record is one line, so the count is the number of line feeds.

use std::io::{self, ErrorKind, Write};
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::MIN_FINISH;

/// What workers and the writer share.
pub(super) struct Queue {
    capacity: usize,
    state: Mutex<State>,
    /// There is something for a writer that sleeps, or it should end.
    wake: Condvar,
    /// The writer has ended.
    ended: Condvar,
    /// Records that the writer has taken and not written yet. Counted without the lock, and read only at the end.
    records_in_flight: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Whole lines.
    pending: Vec<u8>,
    /// How many bytes the writer has taken and not written yet.
    in_flight: usize,
    /// Records dropped since that was last reported.
    dropped: u64,
    /// Records dropped since the start.
    dropped_ever: u64,
    is_writer_asleep: bool,
    /// The writer is to end: when all is written, but at this time at the latest.
    deadline: Option<Instant>,
    /// Nothing more is accepted.
    is_over: bool,
    /// What the writer did not write, when it has ended.
    ended: Option<Loss>,
}

/// What was lost at the end of a log.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Records that were accepted and not written, and those that were dropped earlier of which the log did not say so.
    pub records: u64,
    /// How the sink failed, if it did not just take too long.
    pub error: Option<String>,
}

impl Queue {
    /// A queue of at most `capacity` bytes.
    pub(super) fn new(capacity: usize) -> Queue {
        Queue {
            capacity,
            state: Mutex::default(),
            wake: Condvar::new(),
            ended: Condvar::new(),
            records_in_flight: AtomicU64::new(0),
        }
    }

    /// Puts whole lines in, or drops them all if they do not fit. Never waits for the sink.
    pub(super) fn push(&self, lines: &[u8]) {
        if !self.offer(lines) {
            self.drop_lines(lines);
        }
    }

    /// Counts lines as dropped.
    pub(super) fn drop_lines(&self, lines: &[u8]) {
        // Counted without the lock: the sink is slow already, and there may be many.
        let records = count_lines(lines);
        let mut state = self.lock();
        state.dropped += records;
        state.dropped_ever += records;
    }

    /// How many records were dropped since the start.
    pub(super) fn dropped_ever(&self) -> u64 {
        self.lock().dropped_ever
    }

    /// Puts whole lines in, if they fit, or the queue is empty. Returns whether it did.
    pub(super) fn offer(&self, lines: &[u8]) -> bool {
        self.accept(lines, self.capacity)
    }

    /// Puts in the last lines of a worker that ends. They may be more than the capacity, because nobody can keep them
    /// any longer.
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
        let waiting = state.pending.len() + state.in_flight;
        if waiting > 0 && waiting + lines.len() > capacity {
            return false;
        }
        // Where memory has come to its end, lines are what a process can do without.
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

    /// Waits until everything accepted so far is written, for at most `patience`. The queue stays open.
    pub(super) fn flush(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            let state = self.lock();
            if state.pending.is_empty() && state.in_flight == 0 {
                return;
            }
            drop(state);
            thread::sleep(WRITE_INTERVAL);
        }
    }

    /// Asks the writer to write what is pending and to end, and waits until `deadline` for it. `is_urgent` is asked now and
    /// then whether there is no more than [`MIN_FINISH`] left. Returns what was lost.
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
            // Without the lock, because the caller may log what it hears.
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

    /// Carries lines to `sink` until the queue is closed, and is empty or its deadline has passed. `report` makes the
    /// line that says how many records were dropped. A sink that returns [`ErrorKind::WouldBlock`] is asked again at
    /// once: it has waited for itself.
    ///
    /// A sink that fails costs the lines it did not take; they count as dropped. A full disk may have room again
    /// and a pipe a new reader, so no failure is final before the queue is closed.
    pub(super) fn run_writer(&self, mut sink: impl Write, report: impl Fn(u64, &mut Vec<u8>)) {
        let mut taken = Vec::new();
        // The last line written has no end yet, because the sink failed in its middle.
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
                // What comes meanwhile is written in one piece. A worker's batch is much shorter than this,
                // and waking for each one would cost it more than logging does.
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

    /// Waits for lines and moves all of them to `taken`, which is empty. Returns how many lost records its last
    /// line reports; `None` if there will be no more lines.
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
        // Both buffers stay in use, and neither keeps what a stalled sink once made it grow to.
        taken.shrink_to(MAX_IDLE_CAPACITY.min(self.capacity / 8));
        mem::swap(taken, &mut state.pending);
        let dropped = mem::take(&mut state.dropped);
        if dropped > 0 {
            // After what came before the loss, and before what comes after it.
            report(dropped, taken);
        }
        state.in_flight = taken.len();
        Some(dropped)
    }

    /// Writes as many of the lines as the sink takes in time, and returns the rest.
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
        // What a buffered sink cannot flush it keeps for the next time.
        let _ = sink.flush();
        (rest, outcome)
    }

    /// Accounts for what was taken and what of it was lost. Returns whether the queue is closing.
    fn wrote(&self, unwritten: &[u8], reported: u64) -> bool {
        let mut lost = count_lines(unwritten);
        let mut unreported = 0;
        if lost > 0 && reported > 0 {
            // The report was the last line. It is no record, and what it said is still to be said.
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

    /// Ends the queue: counts what is still in it as lost, and makes the number of lost records the last record if the
    /// sink takes that at once.
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
            // Standard error has it, too.
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

    /// Nothing in here panics while it holds the lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of lines that were to be written.
enum Outcome {
    Done,
    Failed(io::Error),
    /// The deadline has passed.
    Late,
}

fn count_lines(lines: &[u8]) -> u64 {
    // A sum over chunks that fit into a byte is one the compiler does many at a time.
    let count = |chunk: &[u8]| chunk.iter().map(|&byte| u8::from(byte == b'\n')).sum::<u8>();
    lines.chunks(255).map(|chunk| u64::from(count(chunk))).sum()
}

/// How long the writer lets lines gather before it writes again.
const WRITE_INTERVAL: Duration = Duration::from_millis(1);

/// How long a sink that failed is left alone.
const RETRY_AFTER_ERROR: Duration = Duration::from_millis(100);

/// How often a log that ends looks whether it has become urgent.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How long after its deadline a writer may take to notice it.
const WRITER_SLACK: Duration = Duration::from_millis(250);

/// What a buffer may keep of its memory once it is empty.
const MAX_IDLE_CAPACITY: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, mpsc};
    use std::time::Instant;

    use super::*;

    const LINE: &[u8] = b"0123456789abcde\n";

    fn report(dropped: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("dropped {dropped}\n").as_bytes());
    }

    /// Runs a writer to its end over what `push` puts in, and returns what was lost in the end.
    fn run(queue: Queue, sink: impl Write + Send + 'static, push: impl FnOnce(&Queue)) -> Loss {
        let queue = Arc::new(queue);
        let writer = {
            let queue = queue.clone();
            thread::spawn(move || queue.run_writer(sink, report))
        };
        push(&queue);
        let loss = queue.close(Instant::now() + Duration::from_secs(10), || false);
        writer.join().unwrap();
        loss
    }

    /// A sink that says what is about to be written and then waits for a verdict on it.
    struct Gate {
        asked: mpsc::Sender<Vec<u8>>,
        verdict: mpsc::Receiver<io::Result<usize>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.asked.send(bytes.to_vec());
            self.verdict.recv().unwrap_or(Ok(bytes.len())).map(|n| n.min(bytes.len()))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gate() -> (Gate, mpsc::Receiver<Vec<u8>>, mpsc::Sender<io::Result<usize>>) {
        let (asked, asks) = mpsc::channel();
        let (verdicts, verdict) = mpsc::channel();
        (Gate { asked, verdict }, asks, verdicts)
    }

    #[test]
    fn lines_arrive_whole_and_in_order() {
        let (sink, asks, verdicts) = gate();
        drop(verdicts);
        run(Queue::new(1 << 20), sink, |queue| {
            for number in 0..1000 {
                queue.push(format!("{number}\n").as_bytes());
            }
        });
        let written: Vec<u8> = asks.into_iter().flatten().collect();
        let expected: String = (0..1000).map(|number| format!("{number}\n")).collect();
        assert_eq!(String::from_utf8(written).unwrap(), expected);
    }

    #[test]
    fn a_stalled_sink_blocks_nobody_and_the_loss_is_counted_to_the_record() {
        let (sink, asks, verdicts) = gate();
        let begun = Instant::now();
        run(Queue::new(10 * LINE.len()), sink, |queue| {
            queue.push(LINE);
            assert_eq!(asks.recv().unwrap(), LINE);
            // The sink holds one line, so nine more fit. A batch fits whole or not at all.
            queue.push(&LINE.repeat(8));
            queue.push(&LINE.repeat(5));
            queue.push(LINE);
            (0..1000).for_each(|_| queue.push(&LINE.repeat(2)));
            assert_eq!(queue.dropped_ever(), 2005);
            drop(verdicts);
        });
        let written: Vec<u8> = asks.into_iter().flatten().collect();
        assert_eq!(written, [&LINE.repeat(9), b"dropped 2005\n".as_slice()].concat());
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn there_is_room_again_once_the_sink_has_taken_something() {
        let (sink, asks, verdicts) = gate();
        run(Queue::new(LINE.len()), sink, |queue| {
            queue.push(LINE);
            asks.recv().unwrap();
            queue.push(LINE);
            verdicts.send(Ok(usize::MAX)).unwrap();
            assert_eq!(asks.recv().unwrap(), b"dropped 1\n");
            verdicts.send(Ok(usize::MAX)).unwrap();
            drop(verdicts);
            queue.flush(Duration::from_secs(10));
            queue.push(LINE);
        });
        assert_eq!(asks.recv().unwrap(), LINE);
    }

    #[test]
    fn a_full_disk_costs_the_lines_it_did_not_take_and_tears_no_other() {
        let (sink, asks, verdicts) = gate();
        run(Queue::new(1 << 20), sink, |queue| {
            queue.push(&LINE.repeat(3));
            asks.recv().unwrap();
            verdicts.send(Ok(20)).unwrap();
            verdicts.send(Err(ErrorKind::StorageFull.into())).unwrap();
            asks.recv().unwrap();
            // The end of the second line, which is lost; then its loss, and that of the third.
            drop(verdicts);
            assert_eq!(asks.recv().unwrap(), b"\n");
            assert_eq!(asks.recv().unwrap(), b"dropped 2\n");
            queue.push(LINE);
        });
        assert_eq!(asks.recv().unwrap(), LINE);
    }

    #[test]
    fn a_loss_that_cannot_be_said_is_said_later() {
        let (sink, asks, verdicts) = gate();
        run(Queue::new(1 << 20), sink, |queue| {
            queue.push(&LINE.repeat(3));
            assert_eq!(asks.recv().unwrap(), LINE.repeat(3));
            verdicts.send(Err(ErrorKind::BrokenPipe.into())).unwrap();
            assert_eq!(asks.recv().unwrap(), b"dropped 3\n");
            queue.push(&LINE.repeat(2));
            verdicts.send(Err(ErrorKind::BrokenPipe.into())).unwrap();
            assert_eq!(asks.recv().unwrap(), [&LINE.repeat(2), b"dropped 3\n".as_slice()].concat());
            verdicts.send(Err(ErrorKind::BrokenPipe.into())).unwrap();
            assert_eq!(asks.recv().unwrap(), b"dropped 5\n");
            // A report that was lost is no record.
            assert_eq!(queue.dropped_ever(), 5);
            verdicts.send(Ok(usize::MAX)).unwrap();
        });
        assert!(asks.recv().is_err());
    }

    #[test]
    fn a_pipe_without_a_reader_ends_nothing_and_the_loss_has_a_reason() {
        let (reader, pipe) = io::pipe().unwrap();
        drop(reader);
        let loss = run(Queue::new(1 << 20), pipe, |queue| queue.push(LINE));
        // If it failed before the queue was closed, it failed for the report, too.
        assert_eq!(loss.records, 1);
        assert!(loss.error.is_some_and(|error| error.contains("Broken pipe")));
    }

    #[test]
    fn closing_waits_for_a_blocked_sink_until_the_deadline_and_counts_what_it_holds() {
        let (sink, asks, verdicts) = gate();
        let queue = Arc::new(Queue::new(1 << 20));
        let shared = queue.clone();
        thread::spawn(move || shared.run_writer(sink, report));
        queue.push(&LINE.repeat(2));
        asks.recv().unwrap();
        queue.push(&LINE.repeat(3));
        let deadline = Instant::now() + Duration::from_millis(20);
        assert_eq!(queue.close(deadline, || false).records, 5);
        assert!(Instant::now() >= deadline);
        drop(verdicts);
        // What comes too late is dropped and counted, and nothing waits.
        queue.push(LINE);
        assert_eq!(queue.dropped_ever(), 6);
    }

    /// Takes one line at a time, and none between.
    struct Slow(Vec<u8>, bool, mpsc::Sender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                thread::sleep(Duration::from_millis(5));
                return Err(ErrorKind::WouldBlock.into());
            }
            let line = bytes.split_inclusive(|&byte| byte == b'\n').next().unwrap();
            self.0.extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Drop for Slow {
        fn drop(&mut self) {
            let _ = self.2.send(mem::take(&mut self.0));
        }
    }

    fn slow() -> (Slow, mpsc::Receiver<Vec<u8>>) {
        let (sender, written) = mpsc::channel();
        (Slow(Vec::new(), false, sender), written)
    }

    #[test]
    fn everything_accepted_is_written_before_the_end_however_slow_the_sink_is() {
        let (sink, written) = slow();
        let loss = run(Queue::new(1 << 20), sink, |queue| queue.push(&LINE.repeat(100)));
        assert_eq!(loss, Loss::default());
        assert_eq!(written.recv().unwrap(), LINE.repeat(100));
    }

    #[test]
    fn what_is_not_written_by_the_deadline_is_counted_in_the_last_line() {
        let (sink, written) = slow();
        let queue = Arc::new(Queue::new(1 << 20));
        let shared = queue.clone();
        thread::spawn(move || shared.run_writer(sink, report));
        queue.push(&LINE.repeat(10_000));
        let begun = Instant::now();
        let loss = queue.close(begun + Duration::from_millis(100), || false);
        assert!(begun.elapsed() < Duration::from_secs(5));
        let written = written.recv().unwrap();
        let lines: Vec<&[u8]> = written.split_inclusive(|&byte| byte == b'\n').collect();
        // The sink may have been asked for the report between two lines, when it takes nothing.
        let records = lines.iter().filter(|line| **line == LINE).count() as u64;
        assert!(records > 0 && loss.records > 0);
        assert_eq!(records + loss.records, 10_000);
        if let Some(last) = lines.get(records as usize) {
            assert_eq!(*last, format!("dropped {}\n", loss.records).as_bytes());
        }
        assert_eq!(queue.dropped_ever(), loss.records);
    }

    #[test]
    fn a_log_that_ends_waits_no_longer_once_it_is_urgent() {
        let (sink, asks, verdicts) = gate();
        let queue = Arc::new(Queue::new(1 << 20));
        let shared = queue.clone();
        thread::spawn(move || shared.run_writer(sink, report));
        queue.push(LINE);
        asks.recv().unwrap();
        let begun = Instant::now();
        assert_eq!(queue.close(begun + Duration::from_secs(600), || true).records, 1);
        assert!(begun.elapsed() < Duration::from_secs(60));
        drop(verdicts);
    }

    #[test]
    fn what_is_heard_while_the_rest_is_written_can_be_logged() {
        let (sink, asks, verdicts) = gate();
        let queue = Arc::new(Queue::new(1 << 20));
        let writer = {
            let queue = queue.clone();
            thread::spawn(move || queue.run_writer(sink, report))
        };
        queue.push(LINE);
        asks.recv().unwrap();
        let mut verdicts = Some(verdicts);
        let loss = queue.close(Instant::now() + Duration::from_secs(600), || {
            queue.push(LINE);
            // The sink takes everything from now on.
            verdicts = None;
            false
        });
        writer.join().unwrap();
        assert_eq!(loss.records, 0);
        assert_eq!(asks.into_iter().flatten().collect::<Vec<u8>>(), LINE);
    }

    #[test]
    fn lines_are_counted_across_chunks() {
        assert_eq!(count_lines(b""), 0);
        assert_eq!(count_lines(&[b'\n'; 1000]), 1000);
        assert_eq!(count_lines(&LINE.repeat(300)), 300);
    }
}
