//! What does a message cost, in addition to the system calls?
//!
//! One read of 64 KiB contains many messages. Each is unmasked, checked, and sent back in one write for all of them.
//! `session` is a `Session` alone, `worker` is everything that a runtime calls, and `tungstenite` is the same work done
//! by the most common library. The time is for the whole read; the throughput is in messages and in bytes per second.

use criterion::{Criterion, Throughput};
use postern_benches::{Echo, FullRead, Kind, SessionEcho, TungsteniteEcho, WorkerEcho};

fn main() {
    let mut criterion = postern_benches::criterion();
    echo(&mut criterion, "binary 20 B", Kind::Binary, 20);
    echo(&mut criterion, "binary 1 KiB", Kind::Binary, 1024);
    echo(&mut criterion, "text 1 KiB", Kind::Text, 1024);
    echo(&mut criterion, "binary 16 KiB", Kind::Binary, 16 * 1024);
    criterion.final_summary();
}

fn echo(criterion: &mut Criterion, shape: &str, kind: Kind, size: usize) {
    let read = FullRead::new(kind, size);
    let mut group = criterion.benchmark_group(format!("echo {shape}"));
    group.throughput(Throughput::ElementsAndBytes {
        elements: read.messages() as u64,
        bytes: read.bytes().len() as u64,
    });
    let (mut session, mut worker) = (SessionEcho::new(&read), WorkerEcho::new(&read));
    let mut tungstenite = TungsteniteEcho::new(&read);
    group.bench_function("session", |bencher| bencher.iter(|| session.turn()));
    group.bench_function("service", |bencher| bencher.iter(|| worker.turn()));
    group.bench_function("tungstenite", |bencher| bencher.iter(|| tungstenite.turn()));
    group.finish();
}
