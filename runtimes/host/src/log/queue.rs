//! Lines on their way to the sink: a bounded queue, and the thread that empties it.
//!
//! ```text
//!   workers ──push──▶ [ pending ] ──take──▶ [ in flight ] ──write──▶ sink
//!                      pending + in flight <= capacity
//! ```
//!
//! Whole lines are copied in, so a worker keeps its buffer and no allocation changes threads. What does not fit
//! is dropped and counted; one record is one line, so the count is the number of line feeds.

use std::io::{ErrorKind, Write};
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// What workers and the writer share.
pub(super) struct Queue {
    capacity: usize,
    state: Mutex<State>,
    /// There is something for a writer that sleeps, or it should end.
    wake: Condvar,
    /// The writer has ended.
    ended: Condvar,
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
    is_closing: bool,
    has_ended: bool,
}

impl Queue {
    /// A queue of at most `capacity` bytes.
    pub(super) fn new(capacity: usize) -> Queue {
        Queue { capacity, state: Mutex::default(), wake: Condvar::new(), ended: Condvar::new() }
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

    /// Puts whole lines in, if they fit, or the queue is empty. Says whether it did; what comes after the end of the
    /// writer needs no place.
    pub(super) fn offer(&self, lines: &[u8]) -> bool {
        let mut state = self.lock();
        if state.has_ended {
            return true;
        }
        let waiting = state.pending.len() + state.in_flight;
        if waiting > 0 && waiting + lines.len() > self.capacity {
            return false;
        }
        // Where memory has come to its end, lines are what a process can do without.
        if state.pending.try_reserve(lines.len()).is_err() {
            return false;
        }
        state.pending.extend_from_slice(lines);
        // Waking costs a system call, so only who sleeps is woken.
        if mem::take(&mut state.is_writer_asleep) {
            drop(state);
            self.wake.notify_one();
        }
        true
    }

    /// Asks the writer to write what is pending and to end. True if it did within `patience`.
    pub(super) fn close(&self, patience: Duration) -> bool {
        let mut state = self.lock();
        state.is_closing = true;
        self.wake.notify_one();
        let waited = self.ended.wait_timeout_while(state, patience, |state| !state.has_ended);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.has_ended
    }

    /// Carries lines to `sink` until the queue is closed and empty. `report` makes the line that says how many
    /// records were dropped.
    ///
    /// A sink that fails costs the lines it did not take; they count as dropped. A full disk may have room again
    /// and a pipe a new reader, so no failure is final before the queue is closed.
    pub(super) fn run_writer(&self, mut sink: impl Write, report: impl Fn(u64, &mut Vec<u8>)) {
        let mut taken = Vec::new();
        // The last line written has no end yet, because the sink failed in its middle.
        let mut is_torn = false;
        while let Some(reported) = self.take(&mut taken, &report) {
            let unwritten = write(&mut sink, &taken, &mut is_torn);
            let has_failed = !unwritten.is_empty();
            let is_closing = self.wrote(unwritten, reported);
            taken.clear();
            match (is_closing, has_failed) {
                (true, true) => break,
                (true, false) => {}
                (false, true) => thread::sleep(RECOVER),
                // What comes meanwhile is written in one piece. A worker's batch is much shorter than this,
                // and waking for each one would cost it more than logging does.
                (false, false) => thread::sleep(GATHER),
            }
        }
        self.lock().has_ended = true;
        self.ended.notify_all();
    }

    /// Waits for lines and moves all of them to `taken`, which is empty. Returns how many lost records its last
    /// line reports; `None` if there will be no more lines.
    fn take(&self, taken: &mut Vec<u8>, report: impl Fn(u64, &mut Vec<u8>)) -> Option<u64> {
        let mut state = self.lock();
        while state.pending.is_empty() && state.dropped == 0 {
            if state.is_closing {
                return None;
            }
            state.is_writer_asleep = true;
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_writer_asleep = false;
        // Both buffers stay in use, and neither keeps what a stalled sink once made it grow to.
        taken.shrink_to(KEEP.min(self.capacity / 8));
        mem::swap(taken, &mut state.pending);
        let dropped = mem::take(&mut state.dropped);
        if dropped > 0 {
            // Behind what came before the loss, and before what comes after it.
            report(dropped, taken);
        }
        state.in_flight = taken.len();
        Some(dropped)
    }

    /// Accounts for what was taken and what of it was lost. Returns whether the queue is closing.
    fn wrote(&self, unwritten: &[u8], reported: u64) -> bool {
        let mut lost = count_lines(unwritten);
        let mut unsaid = 0;
        if lost > 0 && reported > 0 {
            // The report was the last line. It is no record, and what it said is still to be said.
            lost -= 1;
            unsaid = reported;
        }
        let mut state = self.lock();
        state.in_flight = 0;
        state.dropped += lost + unsaid;
        state.dropped_ever += lost;
        state.is_closing
    }

    /// Nothing in here panics while it holds the lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes as many of the lines as the sink takes, and returns the rest.
fn write<'l>(sink: &mut impl Write, lines: &'l [u8], is_torn: &mut bool) -> &'l [u8] {
    if *is_torn && sink.write_all(b"\n").is_err() {
        return lines;
    }
    *is_torn = false;
    let mut rest = lines;
    while !rest.is_empty() {
        match sink.write(rest) {
            Ok(0) => break,
            Ok(n) => rest = rest.get(n..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Somebody else made our standard output non-blocking; for us it is a sink that stalls.
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
            Err(_) => break,
        }
    }
    let written = lines.len() - rest.len();
    *is_torn = !rest.is_empty() && written > 0 && lines.get(written - 1) != Some(&b'\n');
    // What a buffered sink cannot flush it keeps for the next time.
    let _ = sink.flush();
    rest
}

fn count_lines(lines: &[u8]) -> u64 {
    // A sum over chunks that fit into a byte is one the compiler does many at a time.
    let count = |chunk: &[u8]| chunk.iter().map(|&byte| u8::from(byte == b'\n')).sum::<u8>();
    lines.chunks(255).map(|chunk| u64::from(count(chunk))).sum()
}

/// How long the writer lets lines gather before it writes again.
const GATHER: Duration = Duration::from_millis(1);

/// How long a sink that failed is left alone.
const RECOVER: Duration = Duration::from_millis(100);

/// How long a sink that would block is left alone.
const RETRY: Duration = Duration::from_millis(5);

/// What a buffer may keep of its memory once it is empty.
const KEEP: usize = 1024 * 1024;

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

    /// Runs a writer to its end over what `push` puts in, and returns what the sink got.
    fn run(queue: Queue, sink: impl Write + Send + 'static, push: impl FnOnce(&Queue)) {
        let queue = Arc::new(queue);
        let writer = {
            let queue = queue.clone();
            thread::spawn(move || queue.run_writer(sink, report))
        };
        push(&queue);
        assert!(queue.close(Duration::from_secs(10)));
        writer.join().unwrap();
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
            while queue.lock().in_flight > 0 {
                thread::sleep(Duration::from_millis(1));
            }
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
    fn a_pipe_without_a_reader_ends_nothing_and_keeps_nobody_from_closing() {
        let (reader, pipe) = io::pipe().unwrap();
        drop(reader);
        run(Queue::new(1 << 20), pipe, |queue| queue.push(LINE));
    }

    #[test]
    fn closing_waits_for_a_stalled_sink_no_longer_than_asked() {
        let (sink, asks, verdicts) = gate();
        let queue = Arc::new(Queue::new(1 << 20));
        let shared = queue.clone();
        thread::spawn(move || shared.run_writer(sink, report));
        queue.push(LINE);
        asks.recv().unwrap();
        assert!(!queue.close(Duration::from_millis(20)));
        drop(verdicts);
        assert!(queue.close(Duration::from_secs(10)));
        // Who comes too late is dropped, and does not wait.
        queue.push(LINE);
    }

    #[test]
    fn lines_are_counted_across_chunks() {
        assert_eq!(count_lines(b""), 0);
        assert_eq!(count_lines(&[b'\n'; 1000]), 1000);
        assert_eq!(count_lines(&LINE.repeat(300)), 300);
    }
}
