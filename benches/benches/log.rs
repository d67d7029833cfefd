//! What does it cost to log a message?
//!
//! `the worker's log` is the work of a worker for each message with default settings: it formats the line and passes
//! batches of 64 KiB to the writer thread, here with a sink. `slog` formats the same sentence with fewer fields, by
//! slog's macro and the drain of slog-term or slog-json, into a buffer in memory.

use std::hint::black_box;
use std::io::{self, BufWriter};
use std::sync::Mutex;

use criterion::{Criterion, Throughput};
use postern_core::frame::DataKind;
use postern_core::handshake::Identity;
use postern_core::{ConnectionId, Record, Recorder};
use postern_host::log::{Log, LogFormat, LogSettings};
use slog::{Drain, Logger, info, o};
use slog_json::Json;
use slog_term::{FullFormat, PlainDecorator};

fn main() {
    let mut criterion = postern_benches::criterion();
    let term = FullFormat::new(PlainDecorator::new(memory())).use_custom_timestamp(slog_term::timestamp_utc);
    let term = Logger::root(Mutex::new(term.build()).fuse(), o!());
    let json = Logger::root(Mutex::new(Json::default(memory())).fuse(), o!());
    line(&mut criterion, "term", LogFormat::Term, &term);
    line(&mut criterion, "json", LogFormat::Json, &json);
    criterion.final_summary();
}

/// Returns the output of slog: a buffer of the size of a worker's batch, so that both sides write their lines to
/// memory.
fn memory() -> BufWriter<io::Sink> {
    BufWriter::with_capacity(64 * 1024, io::sink())
}

fn line(criterion: &mut Criterion, name: &str, format: LogFormat, slog: &Logger) {
    let identity = Identity::new(b"123", b"john@example.com", b"John Doe").expect("a valid identity");
    let log = Log::start(&LogSettings { format, ..LogSettings::default() }, io::sink()).expect("a thread");
    let mut group = criterion.benchmark_group(format!("log a message, {name}"));
    group.throughput(Throughput::Elements(1));
    let mut worker = log.worker(0);
    group.bench_function("the worker's log", |bencher| {
        bencher.iter(|| {
            worker.record(black_box(&Record::Message {
                connection: ConnectionId(7),
                identity: &identity,
                kind: DataKind::Text,
                payload: TEXT.as_bytes(),
            }));
        });
    });
    group.bench_function("slog", |bencher| {
        bencher.iter(|| {
            let (name, id) = (identity.name().unwrap_or_default(), identity.id());
            info!(
                slog, "Message from {name} ({id}): {}", black_box(TEXT);
                "bytes" => TEXT.len(), "opcode" => "text", "conn" => 7
            );
        });
    });
    group.finish();
}

const TEXT: &str = "Hello World, said the client";
