//! A sink that stalls: with `drop` records are dropped and counted, with `pause` they are kept while reads pause.

use super::*;

/// A log whose sink accepts no lines until [`StalledLog::end_stall`].
struct StalledLog {
    log: Log,
    /// `None` after the stall.
    release: Option<mpsc::Sender<()>>,
    written: mpsc::Receiver<Vec<u8>>,
}

/// Blocks until the sender is dropped, and passes everything on afterwards.
struct StalledSink(mpsc::Receiver<()>, Sink);

impl Write for StalledSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl StalledLog {
    fn start(stall: Stall) -> StalledLog {
        let (release, released) = mpsc::channel();
        let (sink, written) = mpsc::channel();
        let settings = LogSettings { stall, ..TERM };
        let log = Log::start(&settings, StalledSink(released, Sink(sink))).unwrap();
        StalledLog { log, release: Some(release), written }
    }

    fn end_stall(&mut self) {
        self.release = None;
    }

    /// Ends the stall and the log. Returns the records that were written, and the number that the log reported as
    /// dropped.
    fn finish(mut self) -> (Vec<String>, usize) {
        self.end_stall();
        drop(self.log);
        let written: Vec<u8> = self.written.into_iter().flatten().collect();
        let written = String::from_utf8(written).unwrap();
        let (reports, records): (Vec<&str>, Vec<&str>) =
            written.lines().partition(|line| line.contains("log records dropped, count: "));
        let dropped = reports.iter().map(|line| line.rsplit_once(' ').unwrap().1.parse::<usize>().unwrap());
        (records.into_iter().map(str::to_owned).collect(), dropped.sum())
    }
}

#[test]
fn with_pause_a_worker_is_full_until_the_sink_takes_lines_and_loses_none() {
    let mut stalled = StalledLog::start(Stall::Pause);
    let (mut worker, user, payload) = (stalled.log.worker(0x5f), john(), "x".repeat(200));
    let mut records = 0;
    while !worker.is_full() {
        worker.record(&text(&user, &payload));
        worker.flush();
        records += 1;
        assert!(records < 100_000, "8 MiB is enough");
    }
    // A turn in progress and ends of connections still bring records.
    for _ in 0..1000 {
        worker.record(&text(&user, &payload));
    }
    records += 1000;
    worker.flush();
    let now = Instant::now();
    assert!(worker.is_full() && worker.retry_at(now).is_some_and(|at| at > now));
    stalled.end_stall();
    while worker.is_full() {
        thread::sleep(Duration::from_millis(1));
        worker.flush();
    }
    assert_eq!(worker.retry_at(now), None);
    drop(worker);
    let (written, dropped) = stalled.finish();
    assert_eq!((written.len(), dropped), (records, 0));
}

#[test]
fn with_pause_lines_of_more_than_the_size_of_the_queue_are_dropped_and_counted() {
    const RECORDS: usize = 200_000;
    let stalled = StalledLog::start(Stall::Pause);
    let (mut worker, user, payload) = (stalled.log.worker(0x5f), john(), "x".repeat(200));
    for _ in 0..RECORDS {
        worker.record(&text(&user, &payload));
        worker.flush();
    }
    assert!(worker.is_full());
    drop(worker);
    let (written, dropped) = stalled.finish();
    assert!(dropped > 0);
    assert_eq!(written.len() + dropped, RECORDS);
}

#[test]
fn with_drop_no_worker_is_blocked_and_every_dropped_record_is_counted() {
    const WORKERS: usize = 4;
    const RECORDS: usize = 20_000;
    let payload = "x".repeat(200);
    let stalled = StalledLog::start(Stall::Drop);
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            let mut worker = stalled.log.worker(0x5f);
            let payload = &payload;
            scope.spawn(move || {
                let user = john();
                for number in 0..RECORDS {
                    worker.record(&text(&user, payload));
                    if number % 50 == 0 {
                        worker.flush();
                    }
                }
            });
        }
    });
    // It takes a fraction of this. A worker that waits for the sink would never end.
    assert!(begun.elapsed() < Duration::from_secs(10));
    let (written, dropped) = stalled.finish();
    assert!(dropped > 0);
    assert_eq!(written.len() + dropped, WORKERS * RECORDS);
    assert!(written.iter().all(|line| line.ends_with(", bytes: 200")));
    // Lines that fit are kept: the queue is full but for one batch.
    let bytes: usize = written.iter().map(|line| line.len() + 1).sum();
    assert!(bytes > TERM.queue - 256 * 1024, "{bytes}");
}
