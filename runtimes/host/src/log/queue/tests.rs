use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use super::*;

const LINE: &[u8] = b"0123456789abcde\n";

fn report(dropped: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("dropped {dropped}\n").as_bytes());
}

/// Starts a writer.
fn start(capacity: usize, sink: impl Write + Send + 'static) -> (Arc<Queue>, JoinHandle<()>) {
    let queue = Arc::new(Queue::new(capacity));
    let shared = queue.clone();
    (queue, thread::spawn(move || shared.run_writer(sink, report)))
}

/// Starts a writer, calls `push`, closes the queue, and returns what was lost.
fn run(capacity: usize, sink: impl Write + Send + 'static, push: impl FnOnce(&Queue)) -> Loss {
    let (queue, writer) = start(capacity, sink);
    push(&queue);
    let loss = queue.close(Instant::now() + Duration::from_secs(10), || false);
    writer.join().unwrap();
    loss
}

/// A sink that reports each write and then waits for its result. Without a sender of results it accepts all lines.
struct Gate {
    writes: mpsc::Sender<Vec<u8>>,
    results: mpsc::Receiver<io::Result<usize>>,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.writes.send(bytes.to_vec());
        self.results.recv().unwrap_or(Ok(bytes.len())).map(|n| n.min(bytes.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gate() -> (Gate, mpsc::Receiver<Vec<u8>>, mpsc::Sender<io::Result<usize>>) {
    let (writes, written) = mpsc::channel();
    let (results, results_of_gate) = mpsc::channel();
    (Gate { writes, results: results_of_gate }, written, results)
}

#[test]
fn lines_arrive_whole_and_in_order() {
    let (sink, writes, results) = gate();
    drop(results);
    run(1 << 20, sink, |queue| {
        for number in 0..1000 {
            queue.push(format!("{number}\n").as_bytes());
        }
    });
    let written: Vec<u8> = writes.into_iter().flatten().collect();
    let expected: String = (0..1000).map(|number| format!("{number}\n")).collect();
    assert_eq!(String::from_utf8(written).unwrap(), expected);
}

#[test]
fn a_stalled_sink_does_not_block_push_and_every_dropped_record_is_counted() {
    let (sink, writes, results) = gate();
    let begun = Instant::now();
    run(10 * LINE.len(), sink, |queue| {
        queue.push(LINE);
        assert_eq!(writes.recv().unwrap(), LINE);
        // The sink has one line, so nine more fit. A batch is accepted as a whole or dropped.
        queue.push(&LINE.repeat(8));
        queue.push(&LINE.repeat(5));
        queue.push(LINE);
        (0..1000).for_each(|_| queue.push(&LINE.repeat(2)));
        assert_eq!(queue.dropped_ever(), 2005);
        drop(results);
    });
    let written: Vec<u8> = writes.into_iter().flatten().collect();
    assert_eq!(written, [&LINE.repeat(9), b"dropped 2005\n".as_slice()].concat());
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn there_is_room_again_after_the_sink_has_taken_lines() {
    let (sink, writes, results) = gate();
    run(LINE.len(), sink, |queue| {
        queue.push(LINE);
        writes.recv().unwrap();
        queue.push(LINE);
        results.send(Ok(usize::MAX)).unwrap();
        assert_eq!(writes.recv().unwrap(), b"dropped 1\n");
        results.send(Ok(usize::MAX)).unwrap();
        drop(results);
        queue.flush(Duration::from_secs(10));
        queue.push(LINE);
    });
    assert_eq!(writes.recv().unwrap(), LINE);
}

#[test]
fn a_full_disk_loses_the_lines_it_did_not_take_and_tears_no_other() {
    let (sink, writes, results) = gate();
    run(1 << 20, sink, |queue| {
        queue.push(&LINE.repeat(3));
        writes.recv().unwrap();
        results.send(Ok(20)).unwrap();
        results.send(Err(ErrorKind::StorageFull.into())).unwrap();
        writes.recv().unwrap();
        // A line feed ends the second line, which is lost. Then the loss of the second and the third is reported.
        drop(results);
        assert_eq!(writes.recv().unwrap(), b"\n");
        assert_eq!(writes.recv().unwrap(), b"dropped 2\n");
        queue.push(LINE);
    });
    assert_eq!(writes.recv().unwrap(), LINE);
}

#[test]
fn a_loss_that_cannot_be_reported_is_reported_later() {
    let (sink, writes, results) = gate();
    run(1 << 20, sink, |queue| {
        queue.push(&LINE.repeat(3));
        assert_eq!(writes.recv().unwrap(), LINE.repeat(3));
        results.send(Err(ErrorKind::BrokenPipe.into())).unwrap();
        assert_eq!(writes.recv().unwrap(), b"dropped 3\n");
        queue.push(&LINE.repeat(2));
        results.send(Err(ErrorKind::BrokenPipe.into())).unwrap();
        assert_eq!(writes.recv().unwrap(), [&LINE.repeat(2), b"dropped 3\n".as_slice()].concat());
        results.send(Err(ErrorKind::BrokenPipe.into())).unwrap();
        assert_eq!(writes.recv().unwrap(), b"dropped 5\n");
        // A lost report does not count as a record.
        assert_eq!(queue.dropped_ever(), 5);
        results.send(Ok(usize::MAX)).unwrap();
    });
    assert!(writes.recv().is_err());
}

#[test]
fn a_pipe_without_a_reader_is_the_reason_of_the_loss() {
    let (reader, pipe) = io::pipe().unwrap();
    drop(reader);
    let loss = run(1 << 20, pipe, |queue| queue.push(LINE));
    // If the pipe failed before the queue was closed, the write of the report failed, too.
    assert_eq!(loss.records, 1);
    assert!(loss.error.is_some_and(|error| error.contains("Broken pipe")));
}

#[test]
fn close_waits_for_a_blocked_sink_until_the_deadline_and_counts_the_unwritten_records() {
    let (sink, writes, results) = gate();
    let (queue, _writer) = start(1 << 20, sink);
    queue.push(&LINE.repeat(2));
    writes.recv().unwrap();
    queue.push(&LINE.repeat(3));
    let deadline = Instant::now() + Duration::from_millis(20);
    assert_eq!(queue.close(deadline, || false).records, 5);
    assert!(Instant::now() >= deadline);
    drop(results);
    // A later record is dropped and counted.
    queue.push(LINE);
    assert_eq!(queue.dropped_ever(), 6);
}

/// A sink that takes one line with every second write, and sends all of them when it is dropped.
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
fn close_waits_until_a_slow_sink_has_taken_all_lines() {
    let (sink, written) = slow();
    let loss = run(1 << 20, sink, |queue| queue.push(&LINE.repeat(100)));
    assert_eq!(loss, Loss::default());
    assert_eq!(written.recv().unwrap(), LINE.repeat(100));
}

#[test]
fn records_unwritten_at_the_deadline_are_counted_in_the_last_line() {
    let (sink, written) = slow();
    let (queue, _writer) = start(1 << 20, sink);
    queue.push(&LINE.repeat(10_000));
    let begun = Instant::now();
    let loss = queue.close(begun + Duration::from_millis(100), || false);
    assert!(begun.elapsed() < Duration::from_secs(5));
    let written = written.recv().unwrap();
    let lines: Vec<&[u8]> = written.split_inclusive(|&byte| byte == b'\n').collect();
    // The report may be missing, because every second write fails.
    let records = lines.iter().filter(|line| **line == LINE).count() as u64;
    assert!(records > 0 && loss.records > 0);
    assert_eq!(records + loss.records, 10_000);
    if let Some(last) = lines.get(records as usize) {
        assert_eq!(*last, format!("dropped {}\n", loss.records).as_bytes());
    }
    assert_eq!(queue.dropped_ever(), loss.records);
}

#[test]
fn an_urgent_close_waits_no_more_than_a_second() {
    let (sink, writes, results) = gate();
    let (queue, _writer) = start(1 << 20, sink);
    queue.push(LINE);
    writes.recv().unwrap();
    let begun = Instant::now();
    assert_eq!(queue.close(begun + Duration::from_secs(600), || true).records, 1);
    assert!(begun.elapsed() < Duration::from_secs(60));
    drop(results);
}

#[test]
fn records_pushed_while_the_queue_closes_are_written() {
    let (sink, writes, results) = gate();
    let (queue, writer) = start(1 << 20, sink);
    queue.push(LINE);
    writes.recv().unwrap();
    let mut results = Some(results);
    let loss = queue.close(Instant::now() + Duration::from_secs(600), || {
        queue.push(LINE);
        // From now on the sink accepts all lines.
        results = None;
        false
    });
    writer.join().unwrap();
    assert_eq!(loss.records, 0);
    assert_eq!(writes.into_iter().flatten().collect::<Vec<u8>>(), LINE);
}

#[test]
fn lines_are_counted_across_chunks() {
    assert_eq!(count_lines(b""), 0);
    assert_eq!(count_lines(&[b'\n'; 1000]), 1000);
    assert_eq!(count_lines(&LINE.repeat(300)), 300);
}
