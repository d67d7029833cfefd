//! What does an upgrade cost, in addition to the system calls?
//!
//! The request was captured from a browser behind Traefik and has about 1 KiB. Reading and parsing do not change its
//! bytes, because it contains no control characters, so no iteration needs a copy.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput};
use postern_benches::{REQUEST, gateway};
use postern_core::handshake::{HandshakeConfig, HandshakeError, HeadReader, Reply, UpgradeRequest, reject};
use postern_core::{ConnectionId, Input};

fn main() {
    let mut criterion = postern_benches::criterion();
    head(&mut criterion);
    identity(&mut criterion);
    other_headers(&mut criterion);
    whole(&mut criterion);
    criterion.final_summary();
}

/// Measures the search for the end of the head and the rules of Postern, in addition to httparse, and a head in many
/// reads, compared with a parser that starts from the beginning for each read.
fn head(criterion: &mut Criterion) {
    let config = HandshakeConfig::default();
    let mut request = REQUEST.to_vec();
    let mut group = criterion.benchmark_group("head");
    group.throughput(Throughput::Bytes(REQUEST.len() as u64));
    for (name, portion) in [("in one read", REQUEST.len()), ("in reads of 64 B", 64)] {
        group.bench_function(name, |bencher| bencher.iter(|| parse(&mut request, portion, &config)));
    }
    group.bench_function("httparse alone, in one read", |bencher| {
        bencher.iter(|| httparse_alone(black_box(REQUEST)));
    });
    group.bench_function("httparse alone, from the start at each read of 64 B", |bencher| {
        bencher.iter(|| {
            for end in (64..REQUEST.len()).step_by(64) {
                httparse_alone(black_box(&REQUEST[..end]));
            }
            httparse_alone(black_box(REQUEST))
        });
    });
    group.finish();
}

/// Measures the identification of the user and the decision about the upgrade.
fn identity(criterion: &mut Criterion) {
    let config = HandshakeConfig::default();
    let mut head = REQUEST.to_vec();
    let request = UpgradeRequest::parse(&mut head, &config).expect("a valid request");
    let mut out = Vec::with_capacity(4096);
    let mut group = criterion.benchmark_group("identity");
    group.throughput(Throughput::Elements(1));
    group.bench_function("identify", |bencher| {
        let identify = |request: UpgradeRequest<'_>| request.identify(gateway(), &config).is_ok();
        bencher.iter_batched(|| request.clone(), identify, BatchSize::SmallInput);
    });
    group.bench_function("identify and accept", |bencher| {
        let accept = |request: UpgradeRequest<'_>| {
            out.clear();
            request
                .identify(gateway(), &config)
                .map(|admission| admission.accept(&mut out, &config, ConnectionId(1)))
                .is_ok()
        };
        bencher.iter_batched(|| request.clone(), accept, BatchSize::SmallInput);
    });
    group.bench_function("reject", |bencher| {
        bencher.iter(|| {
            out.clear();
            reject(
                &mut out,
                black_box(HandshakeError::IdentityMissing),
                Reply { retry_after: 1, ..Reply::default() },
            );
        });
    });
    group.finish();
}

/// Measures thirty headers without a meaning. Each name is compared with the three identity headers, in all spellings
/// that some gateway treats as equal.
fn other_headers(criterion: &mut Criterion) {
    let config = HandshakeConfig::default();
    let few = "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: mZ4bqDzj7WgYE3Eje2ePMA==\r\n\
        User-ID: u-1001\r\nUser-Email: ann@example.test\r\nUser-Name: Ann Example\r\n";
    let others: String = (10..40).map(|i| format!("X-Other-{i}: a value\r\n")).collect();
    let mut group = criterion.benchmark_group("other headers");
    group.throughput(Throughput::Elements(1));
    for (name, head) in
        [("nine headers", format!("{few}\r\n")), ("thirty more", format!("{few}{others}\r\n"))]
    {
        let mut head = head.into_bytes();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let request = UpgradeRequest::parse(black_box(&mut head), &config);
                assert!(request.and_then(|request| request.identify(gateway(), &config)).is_ok());
            });
        });
        group.bench_function(format!("{name}, httparse alone"), |bencher| {
            bencher.iter(|| httparse_alone(black_box(&head)));
        });
    }
    group.finish();
}

/// Measures how many upgrades per second one processor could accept without system calls.
fn whole(criterion: &mut Criterion) {
    let config = HandshakeConfig::default();
    let mut request = REQUEST.to_vec();
    let mut out = Vec::with_capacity(4096);
    let mut group = criterion.benchmark_group("upgrade");
    group.throughput(Throughput::Elements(1));
    group.bench_function("from the first byte to the 101", |bencher| {
        bencher.iter(|| {
            out.clear();
            let mut input = Input::new(black_box(&mut request));
            let head = HeadReader::new(config.max_head).receive(&mut input);
            let mut head = head.expect("a valid head").expect("a complete head");
            let admission = UpgradeRequest::parse(&mut head, &config)
                .and_then(|request| request.identify(gateway(), &config))
                .expect("a valid request");
            admission.accept(&mut out, &config, ConnectionId(1))
        });
    });
    group.finish();
}

/// Reads the head in portions and parses it. Returns whether it is valid, so that no step is optimised away.
fn parse(request: &mut [u8], portion: usize, config: &HandshakeConfig) -> bool {
    let mut reader = HeadReader::new(config.max_head);
    for portion in black_box(request).chunks_mut(portion) {
        if let Some(mut head) = reader.receive(&mut Input::new(portion)).expect("a valid head") {
            return black_box(UpgradeRequest::parse(&mut head, config)).is_ok();
        }
    }
    unreachable!("the request ends with its empty line")
}

fn httparse_alone(bytes: &[u8]) -> usize {
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut headers);
    let status = request.parse(bytes).expect("a valid head");
    black_box(&request);
    if status.is_complete() { request.headers.len() } else { 0 }
}
