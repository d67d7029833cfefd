//! What does a message cost the server, beside its system calls?
//!
//! One read of 64 KiB holds many messages; each is unmasked, checked, and sent back in one write for all.
//! `session` is the core at its smallest, `worker` all that a runtime of ours calls, `tungstenite` the same
//! work by the library that most of Rust uses. Time is for the whole read; the throughput is messages a
//! second, and the bytes of the read.

use criterion::{Criterion, Throughput};
use postern_benches::{Echo, FullRead, Kind, ServiceEcho, SessionEcho, TungsteniteEcho};

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
    let (mut session, mut worker) = (SessionEcho::new(&read), ServiceEcho::new(&read));
    let mut tungstenite = TungsteniteEcho::new(&read);
    group.bench_function("session", |bencher| bencher.iter(|| session.turn()));
    group.bench_function("service", |bencher| bencher.iter(|| worker.turn()));
    group.bench_function("tungstenite", |bencher| bencher.iter(|| tungstenite.turn()));
    group.finish();
}
