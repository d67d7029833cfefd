//! The bytes that the core sends for each committed input, compared with a recorded list: a change that is not about
//! the wire must not change one byte of it.
//!
//! Each line of `golden.txt` has a hash and an input. The hash covers all bytes that the core sends and the state of
//! the transport afterwards. Time, seed and configuration are passed in, so a hash has no other input. After a change
//! that is meant to change the wire, copy the list that the test leaves in `target/golden.txt`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arbitrary::{Arbitrary, Unstructured};
use postern_core::handshake::{HandshakeConfig, Peer};
use postern_core::model::{ModelRuntime, PEER};
use postern_core::record::NullRecorder;
use postern_core::{SessionConfig, Transport, Worker, WorkerConfig};
use postern_host::refusal;
use sha2::{Digest, Sha256};

use crate::script::{self, Script};
use crate::sites::SITES;
use crate::upgrade;
use crate::{connection, frame, portions, worker};

#[test]
fn all_inputs_get_the_recorded_answers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut hashes = BTreeMap::new();
    let mut hash = |folder: &str, name: &str, run: &dyn Fn(&mut Sha256, &[u8])| {
        for entry in fs::read_dir(root.join(folder)).expect("the folder") {
            let path = entry.expect("an entry").path();
            let mut hasher = Sha256::new();
            run(&mut hasher, &fs::read(&path).expect("a readable file"));
            let file = path.file_name().and_then(|name| name.to_str()).expect("an ASCII name");
            let digest = hasher.finalize();
            let short: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
            hashes.insert(format!("{name}/{file}"), short);
        }
    };
    hash("../tests/captures", "captures", &|hasher, bytes| head(hasher, bytes));
    hash("corpus/head", "head", &|hasher, bytes| head(hasher, bytes));
    hash("corpus/connection", "connection", &|hasher, bytes| stream(hasher, &script(bytes).stream));
    hash("corpus/connection", "connection-steps", &|hasher, bytes| {
        hasher.update(connection::run_script(&script(bytes)).sent());
    });
    hash("corpus/worker", "worker", &|hasher, bytes| hasher.update(worker::run(bytes)));
    hash("corpus/extensions", "extensions", &|hasher, bytes| {
        head(hasher, &upgrade::request(bytes.split(|&byte| byte == b'\n')));
    });
    hash("corpus/inflate", "inflate", &|hasher, bytes| compressed(hasher, bytes));

    let list: String = hashes.iter().map(|(name, hash)| format!("{hash} {name}\n")).collect();
    let golden = fs::read_to_string(root.join("golden.txt")).unwrap_or_default();
    if list != golden {
        fs::write(root.join("target/golden.txt"), &list).expect("fuzz/target");
        let changed: Vec<&str> =
            list.lines().filter(|line| !golden.lines().any(|old| old == *line)).collect();
        panic!("{} answers differ from golden.txt: {changed:#?}", changed.len());
    }
}

fn script(bytes: &[u8]) -> Script {
    Script::arbitrary_take_rest(Unstructured::new(bytes)).expect("a script")
}

/// Serves a connection that begins with these bytes, at each site, with and without compression.
fn head(hasher: &mut Sha256, bytes: &[u8]) {
    for site in &*SITES {
        for compression in [false, true] {
            let refusal_text = refusal::message;
            let handshake = HandshakeConfig { compression, refusal_text, ..site.config.clone() };
            serve(hasher, WorkerConfig { handshake, ..WorkerConfig::default() }, site.peer, bytes);
        }
    }
}

/// Serves an admitted client that sends these bytes, with and without compression, at each set of limits.
fn stream(hasher: &mut Sha256, bytes: &[u8]) {
    for offers in [&[][..], &[&b"permessage-deflate"[..]]] {
        let bytes = [&upgrade::request(offers.iter().copied())[..], bytes].concat();
        for limits in 0..3 {
            let limits = SessionConfig { compression_min: 0, ..script::limits(limits) };
            serve(hasher, worker_config(limits), PEER, &bytes);
        }
    }
}

/// Serves an admitted client that sends the input of the target `inflate` as a compressed message.
fn compressed(hasher: &mut Sha256, bytes: &[u8]) {
    let Some((&[window, ..], message)) = bytes.split_first_chunk::<3>() else { return };
    let offer = format!("permessage-deflate; server_max_window_bits={}", 8 + window % 8);
    let mut bytes = upgrade::request([offer.as_bytes()]);
    frame::write_masked(&mut bytes, frame::BINARY | frame::COMPRESSED, message);
    let limits = SessionConfig { compression_min: 0, ..SessionConfig::default() };
    serve(hasher, worker_config(limits), PEER, &bytes);
}

fn worker_config(limits: SessionConfig) -> WorkerConfig {
    let handshake = HandshakeConfig { compression: true, ..HandshakeConfig::default() };
    WorkerConfig { handshake, session: Arc::new(limits), ..WorkerConfig::default() }
}

/// Sends `bytes` in one portion, and in several; then ends the stream, and lets time pass until the connection closes.
fn serve(hasher: &mut Sha256, config: WorkerConfig, peer: Peer, bytes: &[u8]) {
    let config = Arc::new(config);
    let cuts: [Vec<&[u8]>; 2] = [vec![bytes], portions::by_content(bytes).collect()];
    for portions in cuts {
        let now = Instant::now();
        let mut runtime = ModelRuntime::new(Worker::new(config.clone(), 1, now), NullRecorder, now);
        let key = runtime.open_from(peer, None);
        for portion in portions.into_iter().filter(|portion| !portion.is_empty()) {
            runtime.feed(key, portion);
            if runtime.transport(key) == Transport::Close {
                break;
            }
        }
        hasher.update(runtime.take_wire(key));
        hasher.update([runtime.transport(key) as u8]);
        if runtime.transport(key) != Transport::Close {
            runtime.end(key);
        }
        while runtime.transport(key) != Transport::Close {
            runtime.now =
                runtime.worker.poll_timeout(runtime.now).expect("an open connection has a deadline");
            runtime.handle_all_due();
        }
        hasher.update(runtime.take_wire(key));
        hasher.update(b"end");
    }
}
