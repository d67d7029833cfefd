//! What does it cost to read a frame's header, in each of its lengths?
//!
//! `session` takes all frames of one buffer, without an answer. Empty messages are headers and nothing else. One byte
//! more than 125 makes the header two longer, which is the difference between those two. `tungstenite, its parser
//! alone` reads the same headers and steps over the payloads: it neither unmasks nor checks that lengths are minimal.

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
