//! A turn in one call, with a socket whose reads and writes a test limits: the result equals the result of the same
//! turn in steps.

use std::io::{Error, ErrorKind, IoSlice, Result};

use proptest::prelude::*;

use super::splits::stream;
use super::*;

/// A peer that has sent all its bytes, and then ends its side or resets the connection.
#[derive(Debug, Default)]
struct Peer<'p> {
    says: &'p [u8],
    /// The number of bytes of each read and of each write, in turn; the last one is repeated.
    gives: &'p [usize],
    takes: &'p [usize],
    /// The error of a read once it has sent and accepted all bytes.
    read_error: Option<ErrorKind>,
    write_error: Option<ErrorKind>,
    wire: Vec<u8>,
    sends: usize,
    /// The number of pieces of the last write, without empty ones.
    pieces: usize,
    /// The number of reads directly into a message.
    behind: usize,
    /// The room of the last read.
    room: usize,
}

/// Returns the next of `counts`, if there are any.
fn next(counts: &mut &[usize]) -> usize {
    match **counts {
        [] => usize::MAX,
        [count] => count,
        [count, ref rest @ ..] => {
            *counts = rest;
            count
        }
    }
}

impl<'p> Peer<'p> {
    fn new(says: &'p [u8], gives: &'p [usize], takes: &'p [usize]) -> Peer<'p> {
        Peer { says, gives, takes, ..Peer::default() }
    }

    fn give(&mut self, room: usize) -> Result<&'p [u8]> {
        self.room = room;
        assert!(room > 0, "a read without room cannot be told from the end");
        let n = next(&mut self.gives).min(room).min(self.says.len());
        let (now, later) = self.says.split_at(n);
        self.says = later;
        match self.read_error {
            Some(error) if now.is_empty() => Err(Error::from(error)),
            _ => Ok(now),
        }
    }
}

impl Socket for Peer<'_> {
    fn receive(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let bytes = self.give(buffer.len())?;
        buffer[..bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }

    fn receive_into_spare(&mut self, buffer: &mut Vec<u8>) -> Result<usize> {
        self.behind += 1;
        let bytes = self.give(buffer.capacity() - buffer.len())?;
        buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn send(&mut self, pieces: &[IoSlice<'_>]) -> Result<usize> {
        self.sends += 1;
        self.pieces = pieces.iter().filter(|piece| !piece.is_empty()).count();
        if let Some(error) = self.write_error {
            return Err(Error::from(error));
        }
        let len: usize = pieces.iter().map(|piece| piece.len()).sum();
        assert!(len > 0, "an empty write is not a call");
        let n = next(&mut self.takes).min(len);
        let mut left = n;
        for piece in pieces {
            let taken = left.min(piece.len());
            self.wire.extend_from_slice(&piece[..taken]);
            left -= taken;
        }
        if n == 0 { Err(Error::from(ErrorKind::WouldBlock)) } else { Ok(n) }
    }
}

fn config(session: SessionConfig) -> WorkerConfig {
    WorkerConfig { session: Arc::new(session), ..WorkerConfig::default() }
}

fn large() -> SessionConfig {
    SessionConfig {
        max_message: 1 << 20,
        max_frame: 1 << 20,
        max_backlog: 8 << 20,
        ..SessionConfig::default()
    }
}

/// Runs one connection to its end, each turn in one call. Returns all that could be observed.
fn on_readable(config: WorkerConfig, peer: &mut Peer<'_>, buffer: usize) -> (Vec<u8>, Notes) {
    let mut runtime = Runtime::of(config);
    let key = runtime.open();
    let mut buffer = vec![0; buffer];
    for turn in 0..1_000_000 {
        let (worker, notes) = (&mut runtime.worker, &mut runtime.recorder);
        // If reading is paused, a turn only sends.
        let transport = if worker.wants_read(key) || turn % 2 == 0 {
            worker.on_readable(key, runtime.now, &mut buffer, peer, notes)
        } else {
            assert!(worker.wants_write(key), "nothing would ever happen again");
            worker.flush(key, runtime.now, peer)
        };
        assert_eq!(transport, worker.transport(key));
        if transport == Transport::Close {
            worker.remove(key, runtime.now, notes);
            assert_eq!(worker.on_readable(key, runtime.now, &mut buffer, peer, notes), Transport::Close);
            return (std::mem::take(&mut peer.wire), runtime.recorder);
        }
    }
    panic!("it does not end");
}

/// Does the same in steps, with a socket that accepts all output.
fn in_steps(config: WorkerConfig, bytes: &[u8]) -> (Vec<u8>, Notes) {
    let mut runtime = Runtime::of(config);
    let key = runtime.open();
    runtime.feed(key, bytes);
    runtime.end(key);
    assert!(runtime.worker.is_empty());
    (runtime.take_wire(key), runtime.recorder)
}

#[track_caller]
fn check(session: &SessionConfig, bytes: &[u8], gives: &[&[usize]], takes: &[&[usize]], buffer: usize) {
    let whole = in_steps(config(session.clone()), bytes);
    for (gives, takes) in gives.iter().flat_map(|gives| takes.iter().map(move |takes| (gives, takes))) {
        let mut peer = Peer::new(bytes, gives, takes);
        let got = on_readable(config(session.clone()), &mut peer, buffer);
        assert!(got == whole, "it gives {gives:?} and takes {takes:?}: {:.300}", got.1.0.join("\n"));
    }
}

#[test]
fn short_messages() {
    let messages = [
        frame(0x81, "Hello €".as_bytes()),
        frame(0x02, b"ab"),
        frame(0x80, b"cd"),
        frame(0x82, &[7; 200]),
        frame(0x81, b""),
    ]
    .concat();
    for end in [frame(0x88, b"\x03\xe8bye"), frame(0x81, b"\xff"), b"\xff".to_vec(), Vec::new()] {
        let bytes = [HEAD.as_bytes(), &messages, &end].concat();
        let cuts: Vec<[usize; 2]> = (1..bytes.len()).map(|at| [at, usize::MAX]).collect();
        let cuts: Vec<&[usize]> = cuts.iter().map(|cut| &cut[..]).chain([&[1][..], &[7]]).collect();
        let takes: [&[usize]; 5] = [&[], &[1], &[0, 5], &[129, 0, 0, 3], &[200, 1, 0, 70, 2]];
        check(&SessionConfig::default(), &bytes, &cuts, &takes, 1 << 16);
    }
}

#[test]
fn control_frames() {
    let frames = [frame(0x89, b"1"), frame(0x81, b"a"), frame(0x8a, b""), frame(0x89, &[b'p'; 125])].concat();
    let bytes = [HEAD.as_bytes(), &frames, &frame(0x88, b"")].concat();
    for buffer in [1, 5, 1 << 16] {
        check(&SessionConfig::default(), &bytes, &[&[], &[1], &[3]], &[&[]], buffer);
    }
}

#[test]
fn requests_that_are_refused() {
    for request in [HEAD.replace("13", "12"), HEAD.replace("User-ID: 123\r\n", ""), "\x16\x03".to_owned()] {
        check(&SessionConfig::default(), request.as_bytes(), &[&[], &[1]], &[&[]], 100);
    }
}

#[test]
fn large_messages_in_any_frames() {
    let text = "Straße 12 €".repeat(20_000);
    let (a, b) = text.as_bytes().split_at(80_001);
    let noise: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let streams = [
        [frame(0x81, text.as_bytes()), frame(0x81, b"short"), frame(0x82, &noise)].concat(),
        [frame(0x01, a), frame(0x00, b""), frame(0x80, b), frame(0x82, &noise[..70_000])].concat(),
        // The second one is read into the memory of the first, which has room for the bytes after it.
        [frame(0x82, &noise), frame(0x82, &noise[..200_000]), frame(0x81, b"short"), frame(0x82, &noise)]
            .concat(),
        [
            frame(0x82, &noise),
            frame(0x02, &noise[..200_000]),
            frame(0x00, b""),
            frame(0x80, &noise[..90_000]),
        ]
        .concat(),
        (4_090..4_103).flat_map(|len| frame(0x82, &noise[..len])).collect(),
        [frame(0x82, &noise[..5_000]).repeat(20), frame(0x81, b"after them")].concat(),
    ];
    let gives: [&[usize]; 6] =
        [&[], &[4_095], &[4_096], &[70_001], &[65_536, 150_000, 1], &[100, 131_072, 66_000, 3]];
    let takes: [&[usize]; 5] =
        [&[], &[65_537], &[129, 0, 4_100, 3, 0, 90_000], &[50_000, 0, 60_000], &[129, 300_000, 10]];
    for messages in streams {
        let bytes = [HEAD.as_bytes(), &messages, &frame(0x88, b"\x03\xe8")].concat();
        for buffer in [4_000, 1 << 16] {
            check(&large(), &bytes, &gives, &takes, buffer);
        }
    }
}

#[test]
fn large_messages_that_break_the_rules() {
    let mut text = "é".repeat(200_000).into_bytes();
    text[300_001] = b'x';
    let long = vec![7; 300_000];
    for (messages, ending) in [
        (frame(0x81, &text), "Failed(Utf8)"),
        ([frame(0x82, &long), vec![0x83, 0x80]].concat(), "Failed(ReservedOpcode)"),
        ([frame(0x02, &long), frame(0x82, &long)].concat(), "Failed(ExpectedContinuation)"),
        (frame(0x82, &long)[..200_000].to_vec(), "Eof"),
    ] {
        let bytes = [HEAD.as_bytes(), &messages].concat();
        check(&large(), &bytes, &[&[], &[70_000], &[65_537, 1, 100_000]], &[&[]], 1 << 16);
        let (_, notes) = in_steps(config(large()), &bytes);
        assert!(notes.0.last().unwrap().contains(ending), "{:?}", notes.0.last());
    }
}

#[test]
fn a_compressed_connection_has_no_parts() {
    let head = HEAD.replace("User-Name", "Sec-WebSocket-Extensions: permessage-deflate\r\nUser-Name");
    let mut config = config(large());
    config.handshake.compression = true;
    let messages =
        [frame(0x82, &[7; 100_000]), frame(0xc1, b"\xf2\x48\xcd\xc9\xc9\x07\x00"), frame(0x88, b"")];
    let bytes = [head.as_bytes(), &messages.concat()].concat();
    let whole = in_steps(config.clone(), &bytes);
    assert!(whole.0.len() < 2000, "{}", whole.0.len());
    for gives in [&[][..], &[70_000], &[1_000]] {
        assert!(
            on_readable(config.clone(), &mut Peer::new(&bytes, gives, &[]), 1 << 16) == whole,
            "{gives:?}"
        );
    }
}

#[test]
fn whole_messages_cost_one_write_each_read() {
    for payload in [vec![7; 100], vec![7; 4_096], vec![7; 60_000]] {
        let bytes = [HEAD.as_bytes(), &frame(0x82, &payload).repeat(17), &frame(0x88, b"")].concat();
        let gives = [HEAD.len(), usize::MAX];
        let mut peer = Peer::new(&bytes, &gives, &[]);
        on_readable(config(large()), &mut peer, 1 << 20);
        assert_eq!(peer.sends, 2, "the 101, and all answers to {} bytes", payload.len());
    }
}

#[test]
fn large_payloads_are_sent_from_where_they_lie_and_short_ones_are_copied() {
    for (count, len, pieces) in [(1, 4_095, 1), (1, 4_096, 2), (2, 4_096, 4), (20, 300, 1), (20, 4_096, 33)] {
        let (mut runtime, key) = admitted(large());
        let bytes = frame(0x82, &vec![7; len]).repeat(count);
        let mut peer = Peer::new(&bytes, &[], &[]);
        runtime.worker.on_readable(key, runtime.now, &mut vec![0; 1 << 20], &mut peer, &mut runtime.recorder);
        assert_eq!((peer.sends, peer.pieces), (1, pieces), "{count} of {len} bytes");
    }
}

#[test]
fn the_memory_of_a_large_message_serves_the_next() {
    for takes in [&[][..], &[100_000, usize::MAX]] {
        let (mut runtime, key) = admitted(large());
        let mut turns = |bytes: &[u8], gives: &[usize], takes: &[usize]| {
            let mut peer = Peer { read_error: Some(ErrorKind::WouldBlock), ..Peer::new(bytes, gives, takes) };
            let mut buffer = vec![0; 70_000];
            (0..10).for_each(|_| {
                runtime.worker.on_readable(key, runtime.now, &mut buffer, &mut peer, &mut runtime.recorder);
            });
            // The buffer that is kept now.
            let kept = runtime.worker.codec.buffers.take();
            let capacity = kept.capacity();
            runtime.worker.codec.buffers.put(kept);
            (peer.wire.len(), capacity)
        };
        let bytes = frame(0x82, &[7; 200_000]);
        let (written, kept) = turns(&bytes, &[70_000], takes);
        assert_eq!(written, 4 + 6 + 200_000);
        assert!(kept >= 200_000, "sent at once, or later: {kept}");
        assert_eq!(turns(&frame(0x02, b"short"), &[], &[]), (0, kept), "not for a short frame");
        assert_eq!(turns(&frame(0x80, b""), &[], &[]), (2 + 5, kept));
        assert_eq!(turns(&bytes[..100], &[], &[]), (0, 0), "for one that will be large");
        assert_eq!(turns(&bytes[100..], &[70_000], &[]), (4 + 6 + 200_000, kept));
    }
}

#[test]
fn a_read_goes_into_a_message_that_is_large_and_lacks_much() {
    const LARGE: usize = 64 * 1024;
    for (first, rest, behind) in
        [(LARGE, LARGE, 1), (LARGE - 1, LARGE, 0), (LARGE, LARGE - 1, 0), (3 * LARGE, 2 * LARGE, 1)]
    {
        let (mut runtime, key) = admitted(large());
        let bytes = frame(0x82, &vec![7; first + rest]);
        let gives = [14 + first, usize::MAX];
        let mut peer = Peer::new(&bytes, &gives, &[]);
        let mut buffer = vec![0; 4 * LARGE];
        for _ in 0..2 {
            runtime.worker.on_readable(key, runtime.now, &mut buffer, &mut peer, &mut runtime.recorder);
        }
        assert_eq!((peer.behind, peer.wire.len()), (behind, 10 + first + rest), "{first} and {rest}");
    }
}

#[test]
fn the_room_for_a_message_grows_with_what_has_come() {
    let (mut runtime, key) = admitted(large());
    let bytes = frame(0x82, &[7; 1 << 20]);
    let gives = [14 + 100_000, 100_000, 200_000, 400_000];
    let mut peer = Peer::new(&bytes, &gives, &[]);
    let mut buffer = vec![0; 1 << 18];
    let mut rooms = Vec::new();
    for _ in 0..4 {
        runtime.worker.on_readable(key, runtime.now, &mut buffer, &mut peer, &mut runtime.recorder);
        rooms.push(peer.room);
    }
    assert_eq!(rooms, [1 << 18, 100_000, 200_000, 400_000]);
}

#[test]
fn an_error_of_the_socket_ends_the_connection_and_that_it_would_block_does_not() {
    for (len, what) in [(3, "short"), (50_000, "large")] {
        let (mut runtime, key) = admitted(large());
        let (bytes, mut buffer) = (frame(0x82, &vec![7; len]), vec![0; 1 << 16]);
        let mut turn = |peer: &mut Peer<'_>| {
            runtime.worker.on_readable(key, runtime.now, &mut buffer, peer, &mut runtime.recorder)
        };
        let would_block = Some(ErrorKind::WouldBlock);
        let mut peer = Peer { read_error: would_block, write_error: would_block, ..Peer::default() };
        assert_eq!(turn(&mut peer), Transport::Open, "nothing to read");
        peer.says = &bytes;
        assert_eq!(turn(&mut peer), Transport::Open, "a {what} answer waits");
        let mut peer = Peer { read_error: would_block, ..Peer::default() };
        assert_eq!(turn(&mut peer), Transport::Open);
        assert!(peer.wire.ends_with(&vec![7; len]), "and goes out later");
        let mut peer = Peer { write_error: Some(ErrorKind::BrokenPipe), ..Peer::new(&bytes, &[], &[]) };
        assert_eq!(turn(&mut peer), Transport::Close);
        assert!(runtime.worker.output(key).is_empty());
        runtime.worker.remove(key, runtime.now, &mut runtime.recorder);
        assert!(runtime.recorder.0.last().unwrap().starts_with("closed 123 Broken"), "{what}");
    }
    let (mut runtime, key) = admitted(large());
    let mut peer = Peer { read_error: Some(ErrorKind::ConnectionReset), ..Peer::default() };
    let transport =
        runtime.worker.on_readable(key, runtime.now, &mut [0; 9], &mut peer, &mut runtime.recorder);
    assert_eq!(transport, Transport::Close);
    // While output is pending, an error is an error in writing.
    let (mut runtime, key) = admitted(large());
    runtime.takes = 0;
    runtime.feed(key, &frame(0x81, b"abc"));
    let mut peer = Peer { write_error: Some(ErrorKind::BrokenPipe), ..Peer::default() };
    assert_eq!(runtime.worker.flush(key, runtime.now, &mut peer), Transport::Close);
}

#[test]
fn a_large_answer_is_accepted_and_further_output_is_too_much() {
    let limits = SessionConfig { max_backlog: 10_000, pause_backlog: 1 << 20, ..large() };
    let (mut runtime, key) = admitted(limits);
    let mut buffer = vec![0; 1 << 16];
    let mut turn = |bytes: &[u8], takes: &[usize]| {
        let mut peer = Peer::new(bytes, &[], takes);
        runtime.worker.on_readable(key, runtime.now, &mut buffer, &mut peer, &mut runtime.recorder);
        peer.wire
    };
    let mut wire = turn(&frame(0x82, &[7; 50_000]), &[100]);
    wire.extend(turn(&frame(0x81, b"ab"), &[]));
    assert_eq!(wire.len(), 4 + 50_000 + 4 + 17);
    assert!(wire.ends_with(b"\x81\x02ab\x88\x0f\x11\x3dslow consumer"));
}

#[test]
fn a_turn_does_not_touch_the_timers_unless_something_is_unfinished() {
    let (mut runtime, key) = admitted(SessionConfig::default());
    runtime.wait(Duration::from_secs(5));
    let mut buffer = [0; 1000];
    let mut turn = |runtime: &mut Runtime, bytes: &[u8], takes: &[usize]| {
        let mut peer = Peer::new(bytes, &[], takes);
        runtime.worker.on_readable(key, runtime.now, &mut buffer, &mut peer, &mut runtime.recorder);
        runtime.worker.poll_timeout(runtime.now).map(|at| at - runtime.now)
    };
    let message = frame(0x81, b"hello");
    assert_eq!(turn(&mut runtime, &message, &[]), None);
    assert_eq!(turn(&mut runtime, &message[..3], &[]), Some(Duration::from_secs(30)));
    assert_eq!(turn(&mut runtime, &message[3..], &[]), Some(Duration::from_secs(30)), "entries are lazy");
    assert_eq!(turn(&mut runtime, &message, &[1]), Some(Duration::from_secs(10)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn a_turn_in_one_call_is_the_same_as_in_steps(
        bytes in stream(),
        gives in prop::collection::vec(1usize..400, 1..8),
        buffer in 1usize..500,
    ) {
        let whole = in_steps(WorkerConfig::default(), &bytes);
        let got = on_readable(WorkerConfig::default(), &mut Peer::new(&bytes, &gives, &[]), buffer);
        prop_assert_eq!(got, whole);
    }
}
