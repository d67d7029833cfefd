//! What does unmasking cost, for different lengths of the payload?
//!
//! `session` receives one message in one frame: it parses the header, unmasks, and returns the event. `byte by byte`
//! is the formula of RFC 6455 §5.3, on the payload alone, as the compiler vectorises it.

use std::hint::black_box;

use criterion::{BenchmarkId, Throughput};
use postern_benches::{FullRead, Kind, Reader};

fn main() {
    let mut criterion = postern_benches::criterion();
    let mut group = criterion.benchmark_group("unmask");
    for (name, size) in
        [("20 B", 20), ("125 B", 125), ("1 KiB", 1 << 10), ("16 KiB", 16 << 10), ("64 KiB", 64 << 10)]
    {
        let read = FullRead::one(Kind::Binary, &vec![b'x'; size]);
        group.throughput(Throughput::Bytes(size as u64));
        let (mut bytes, mut reader) = (read.bytes().to_vec(), Reader::new(None));
        group.bench_function(BenchmarkId::new("session", name), |bencher| {
            bencher.iter(|| assert_eq!(reader.read(black_box(&mut bytes)), 1));
        });
        let mut payload = vec![b'x'; size];
        group.bench_function(BenchmarkId::new("byte by byte", name), |bencher| {
            bencher.iter(|| byte_by_byte(black_box(&mut payload), black_box([0xb1, 0x79, 0x37, 0x9e])));
        });
    }
    group.finish();
    criterion.final_summary();
}

/// Unmasks by the formula: "octet i of the transformed data ... is the XOR of octet i of the original data with octet
/// at index i modulo 4 of the masking key"
fn byte_by_byte(payload: &mut [u8], key: [u8; 4]) {
    for (i, byte) in payload.iter_mut().enumerate() {
        *byte ^= key[i % 4];
    }
}
