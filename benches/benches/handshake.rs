//! What does an upgrade cost the server, beside its system calls?
//!
//! The request is a real one of a browser behind Traefik, about 1 KiB. Reading and parsing leave its bytes as
//! they are, since it holds no control characters; so no round needs a copy of it.

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

/// What do finding the end of the head and our rules add to httparse? And what does a head in many reads cost,
/// against a parser that begins anew with each of them?
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
    group.bench_function("httparse alone, anew at each read of 64 B", |bencher| {
        bencher.iter(|| {
            for end in (64..REQUEST.len()).step_by(64) {
                httparse_alone(black_box(&REQUEST[..end]));
            }
            httparse_alone(black_box(REQUEST))
        });
    });
    group.finish();
}

/// What does it cost to find out who the user is, and to say yes or no?
fn identity(criterion: &mut Criterion) {
    let config = HandshakeConfig::default();
    let mut head = REQUEST.to_vec();
    let request = UpgradeRequest::parse(&mut head, &config).expect("a good request");
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

/// What do thirty headers that say nothing of the identity add? Each name is compared with the three that do, in all
/// spellings that some gateway takes for them.
fn other_headers(criterion: &mut Criterion) {
    let config = HandshakeConfig::default();
    let few = "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: mZ4bqDzj7WgYE3Eje2ePMA==\r\n\
        User-ID: u-1001\r\nUser-Email: ann@example.test\r\nUser-Name: Ann Example\r\n";
    let others: String = (10..40).map(|i| format!("X-Other-{i}: of no account\r\n")).collect();
    let mut group = criterion.benchmark_group("the headers judged");
    group.throughput(Throughput::Elements(1));
    for (name, head) in
        [("the nine needed", format!("{few}\r\n")), ("and 30 others", format!("{few}{others}\r\n"))]
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

/// How many upgrades a second could one core answer, if sockets cost nothing?
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
            let mut head = head.expect("a good head").expect("a whole head");
            let admission = UpgradeRequest::parse(&mut head, &config)
                .and_then(|request| request.identify(gateway(), &config))
                .expect("a good request");
            admission.accept(&mut out, &config, ConnectionId(1))
        });
    });
    group.finish();
}

/// Reads the head in portions and parses it. Whether it is good is the result, so that nothing is left out.
fn parse(request: &mut [u8], portion: usize, config: &HandshakeConfig) -> bool {
    let mut reader = HeadReader::new(config.max_head);
    for portion in black_box(request).chunks_mut(portion) {
        if let Some(mut head) = reader.receive(&mut Input::new(portion)).expect("a good head") {
            return black_box(UpgradeRequest::parse(&mut head, config)).is_ok();
        }
    }
    unreachable!("the request ends with its empty line")
}

fn httparse_alone(bytes: &[u8]) -> usize {
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut headers);
    let status = request.parse(bytes).expect("a good head");
    black_box(&request);
    if status.is_complete() { request.headers.len() } else { 0 }
}
