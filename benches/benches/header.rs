//! What does it cost to parse a frame header, for each length of the header?
//!
//! `session` receives all frames of one buffer without an answer. Empty messages consist of headers only. The header of
//! a payload of 126 bytes is two bytes longer than for one of 125. `tungstenite, its parser alone` parses the same
//! headers and skips the payloads: it neither unmasks them nor checks that lengths are minimal.

use std::hint::black_box;
use std::io::Cursor;

use criterion::{Criterion, Throughput};
use postern_benches::{FullRead, Kind, Reader};
use tungstenite::protocol::frame::FrameHeader;

fn main() {
    let mut criterion = postern_benches::criterion();
    header(&mut criterion, "of empty messages, 6 B", 0);
    header(&mut criterion, "of 125 B, 6 B", 125);
    header(&mut criterion, "of 126 B, 8 B", 126);
    criterion.final_summary();
}

fn header(criterion: &mut Criterion, shape: &str, size: usize) {
    let read = FullRead::new(Kind::Binary, size);
    let mut group = criterion.benchmark_group(format!("headers {shape}"));
    group.throughput(Throughput::Elements(read.messages() as u64));
    let (mut bytes, mut reader) = (read.bytes().to_vec(), Reader::new(None));
    group.bench_function("session", |bencher| {
        bencher.iter(|| assert_eq!(reader.read(black_box(&mut bytes)), read.messages()));
    });
    group.bench_function("tungstenite, its parser alone", |bencher| {
        bencher.iter(|| assert_eq!(tungstenite_alone(black_box(read.bytes())), read.messages()));
    });
    group.finish();
}

fn tungstenite_alone(bytes: &[u8]) -> usize {
    let mut cursor = Cursor::new(bytes);
    let mut headers = 0;
    while let Some((header, len)) = FrameHeader::parse(&mut cursor).expect("the headers are valid") {
        black_box(header);
        cursor.set_position(cursor.position() + len);
        headers += 1;
    }
    headers
}
