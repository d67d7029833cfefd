//! What does it cost to receive messages, for different sizes of reads?
//!
//! The same 64 KiB of messages are received in one read, and in portions: `1460 B` is a segment of Ethernet, an
//! attacker may send `7 B` and `1 B`. Between two portions the session keeps an incomplete message.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use postern_benches::{FullRead, Kind, Reader};

fn main() {
    let mut criterion = postern_benches::criterion();
    for (shape, size) in [("messages of 20 B", 20), ("messages of 1 KiB", 1 << 10)] {
        receive(&mut criterion, shape, size);
    }
    criterion.final_summary();
}

fn receive(criterion: &mut Criterion, shape: &str, size: usize) {
    let read = FullRead::new(Kind::Binary, size);
    let mut group = criterion.benchmark_group(format!("receive {shape}"));
    group.throughput(Throughput::ElementsAndBytes {
        elements: read.messages() as u64,
        bytes: read.bytes().len() as u64,
    });
    let whole = read.bytes().len();
    // The same number of messages, each in a separate read.
    let single = whole / read.messages();
    for (name, portion) in [
        ("in one read", whole),
        ("a read for each message", single),
        ("in reads of 1460 B", 1460),
        ("in reads of 7 B", 7),
        ("in reads of 1 B", 1),
    ] {
        let (mut bytes, mut reader) = (read.bytes().to_vec(), Reader::new(None));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let portions = black_box(&mut bytes).chunks_mut(portion);
                assert_eq!(portions.map(|portion| reader.read(portion)).sum::<usize>(), read.messages());
            });
        });
    }
    group.finish();
}
