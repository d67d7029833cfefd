//! The bytes that Postern sends, compared with recorded ones: for each captured upgrade request and each committed input of the
//! fuzz targets, with both binaries. A change that should not be visible on the wire changes no line of `tests/wire.tsv`.
//!
//! `WIRE=record cargo test -p postern-tests --test wire` records the lines again, after a change that should be visible.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use postern_tests::postern::{Postern, Runtime};

/// The upgrade of an admitted user, whose frames follow.
const UPGRADE: &[u8] = b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Request-Id: wire\r\nUser-ID: 123\r\n\r\n";

/// Returns the bytes of each client, and the name of its line.
fn inputs() -> Vec<(String, Vec<u8>)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut inputs = Vec::new();
    for (folder, kind) in [
        ("tests/captures", Kind::Head),
        ("fuzz/corpus/head", Kind::Head),
        ("fuzz/corpus/connection", Kind::Script),
        ("fuzz/corpus/worker", Kind::Calls),
    ] {
        for entry in fs::read_dir(root.join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}")) {
            let path = entry.expect("an entry").path();
            if folder == "tests/captures" && path.extension().is_none_or(|extension| extension != "http") {
                continue;
            }
            let bytes = fs::read(&path).expect("a readable file");
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            inputs.push((format!("{folder}/{name}"), kind.stream(&bytes)));
        }
    }
    inputs.sort();
    inputs
}

/// The conversion of the bytes of a file to the bytes of a client.
#[derive(Clone, Copy)]
enum Kind {
    /// They are a request head.
    Head,
    /// One byte selects the limits, one is the number of steps, and each step has three. The rest follows an upgrade.
    Script,
    /// One byte selects the limits. The rest, which the fuzz target takes for calls, follows an upgrade.
    Calls,
}

impl Kind {
    fn stream(self, bytes: &[u8]) -> Vec<u8> {
        let steps = bytes.get(1).map_or(0, |&steps| 3 * usize::from(steps));
        match self {
            Kind::Head => bytes.to_vec(),
            Kind::Script => [UPGRADE, bytes.get(2 + steps..).unwrap_or_default()].concat(),
            Kind::Calls => [UPGRADE, bytes.get(1..).unwrap_or_default()].concat(),
        }
    }
}

/// Returns all that Postern sends to a client that sends `input` and then ends its side, without what differs each
/// time: dates and generated ids.
fn answer(postern: &Postern, input: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(postern.address()).expect("it listens");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
    // Postern may have closed the connection before all is sent.
    let _ = socket.write_all(input).and_then(|()| socket.shutdown(Shutdown::Write));
    let mut bytes = Vec::new();
    // A reset ends an answer as well.
    let _ = socket.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |at| at + 4);
    let (head, rest) = bytes.split_at(end);
    let lines = head.split_inclusive(|&byte| byte == b'\n');
    let is_kept = |line: &&[u8]| {
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        let is_generated = name.eq_ignore_ascii_case(b"x-request-id") && is_made(line);
        !name.eq_ignore_ascii_case(b"date") && !is_generated
    };
    [&lines.filter(is_kept).collect::<Vec<_>>().concat(), rest].concat()
}

/// Whether Postern made the id of a request itself: eight hexadecimal digits of the process, and the digits of the
/// connection.
fn is_made(line: &[u8]) -> bool {
    let mut parts =
        line.split(|&byte| byte == b':').nth(1).unwrap_or_default().trim_ascii().split(|&byte| byte == b'-');
    let mut is_hex =
        || parts.next().is_some_and(|part| !part.is_empty() && part.iter().all(u8::is_ascii_hexdigit));
    is_hex() && is_hex() && parts.next().is_none()
}

/// Returns the FNV-1a hash, which is the same on every machine and in every version of Rust.
fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[test]
fn binaries_send_the_recorded_bytes() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("wire.tsv");
    let settings = [
        ("defaults", &[][..]),
        ("small", &[("POSTERN_MAX_MESSAGE", "100"), ("POSTERN_MAX_FRAGMENTS", "4")][..]),
    ];
    let inputs = inputs();
    let mut lines = Vec::new();
    for (name, settings) in settings {
        let [mio, smol] = Runtime::BOTH.map(|runtime| {
            let settings = [settings, &[("POSTERN_LOG_MESSAGES", "off"), ("LOG_LEVEL", "error")]].concat();
            let postern = Postern::start(runtime, &settings);
            inputs.iter().map(|(_, input)| answer(&postern, input)).collect::<Vec<_>>()
        });
        for ((input, mio), smol) in inputs.iter().zip(&mio).zip(&smol) {
            assert_eq!(mio.escape_ascii().to_string(), smol.escape_ascii().to_string(), "{}", input.0);
            let mut line = String::new();
            write!(line, "{name}\t{}\t{}\t{:016x}", input.0, mio.len(), hash(mio)).expect("a string");
            lines.push(line);
        }
    }
    if std::env::var_os("WIRE").is_some_and(|wire| wire == "record") {
        fs::write(&path, lines.join("\n") + "\n").expect("tests/wire.tsv");
    }
    let recorded = fs::read_to_string(&path).expect("tests/wire.tsv");
    let differing: Vec<_> =
        recorded.lines().zip(&lines).filter(|(recorded, line)| recorded != line).collect();
    assert!(
        differing.is_empty(),
        "{} of {} differ: {:?}",
        differing.len(),
        lines.len(),
        differing.iter().take(5).collect::<Vec<_>>()
    );
    assert_eq!(recorded.lines().count(), lines.len(), "inputs and lines");
}
