//! What does permessage-deflate cost for receiving and for sending a message of 1 KiB?
//!
//! `text` compresses well. `noise` cannot be compressed: the session tries, and sends it uncompressed. The baseline
//! is the same session without the extension. The contexts of zlib exist before the measurement begins, as in a
//! worker after its first message.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use criterion::{Criterion, Throughput};
use postern_benches::{REQUEST, Reader, gateway};
use postern_core::handshake::{Deflate, HandshakeConfig, HeadReader, UpgradeRequest};
use postern_core::{Codec, ConnectionId, Input, Session, SessionConfig, Turn};

fn main() {
    let mut criterion = postern_benches::criterion();
    let deflate = negotiate();
    for (name, payload) in [("text", text()), ("noise", noise())] {
        send(&mut criterion, name, &payload, deflate);
        receive(&mut criterion, name, &payload, deflate);
    }
    criterion.final_summary();
}

fn send(criterion: &mut Criterion, name: &str, payload: &[u8], deflate: Deflate) {
    let mut group = criterion.benchmark_group(format!("send 1 KiB of {name}"));
    group.throughput(Throughput::Bytes(payload.len() as u64));
    for (name, deflate) in [("compressed", Some(deflate)), ("uncompressed", None)] {
        let mut session = Session::new(Arc::new(SessionConfig::default())).with_deflate(deflate);
        let (mut out, mut codec, now) = (Vec::new(), Codec::new(), Instant::now());
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                let mut turn = Turn { now, out: &mut out, is_backlogged: false, codec: &mut codec };
                session.send_binary(&mut turn, black_box(payload)).expect("the session is open");
                black_box(&out);
            });
        });
    }
    group.finish();
}

fn receive(criterion: &mut Criterion, name: &str, payload: &[u8], deflate: Deflate) {
    let mut group = criterion.benchmark_group(format!("receive 1 KiB of {name}"));
    group.throughput(Throughput::Bytes(payload.len() as u64));
    for (name, deflate) in [("compressed", Some(deflate)), ("uncompressed", None)] {
        let (mut bytes, mut reader) = (from_client(payload, deflate), Reader::new(deflate));
        group.bench_function(name, |bencher| {
            bencher.iter(|| assert_eq!(reader.read(black_box(&mut bytes)), 1));
        });
    }
    group.finish();
}

/// Returns a message from a client, compressed even if that makes it longer. Its masking key is zero, so unmasking
/// does not change its bytes.
fn from_client(payload: &[u8], deflate: Option<Deflate>) -> Vec<u8> {
    let config = SessionConfig { compression_min: 0, ..SessionConfig::default() };
    let mut session = Session::client(Arc::new(config), || [0; 4]).with_deflate(deflate);
    let (mut out, mut codec) = (Vec::new(), Codec::new());
    let mut turn = Turn { now: Instant::now(), out: &mut out, is_backlogged: false, codec: &mut codec };
    session.send_binary(&mut turn, payload).expect("the session is open");
    out
}

/// Returns the parameters negotiated with the browser of the captured request.
fn negotiate() -> Deflate {
    let config = HandshakeConfig { compression: true, ..HandshakeConfig::default() };
    let mut request = REQUEST.to_vec();
    let mut input = Input::new(&mut request);
    let head = HeadReader::new(config.max_head).receive(&mut input);
    let mut head = head.expect("a valid head").expect("a complete head");
    let admission = UpgradeRequest::parse(&mut head, &config)
        .and_then(|request| request.identify(gateway(), &config))
        .expect("a valid request");
    admission
        .accept(&mut Vec::new(), &config, ConnectionId(1))
        .deflate
        .expect("the browser offers compression")
}

/// Returns JSON in which keys repeat and values do not.
fn text() -> Vec<u8> {
    let line =
        |i: u32| format!("{{\"id\":{},\"user\":\"u-{}\",\"price\":{}.{:02}}},", i * 7919, i * 31, i * i, i);
    let mut text: String = (1..100).map(line).collect();
    text.truncate(1024);
    text.into_bytes()
}

fn noise() -> Vec<u8> {
    let mut state = 1u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(1024).collect()
}
