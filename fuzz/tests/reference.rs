//! Sends mostly valid streams of a client to Postern and to tungstenite. No fuzzer is needed, so every test run compares
//! 20,000 of them.
//!
//! Random bytes end at the first frame. These streams are frames, a few of them with a fault in the header, because that is
//! where two implementations of a standard differ.

use postern_fuzz::connection::check_stream;
use proptest::collection::vec;
use proptest::prelude::*;

/// Returns the bytes of one client: frames, cut anywhere at the end.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    (vec(frame(), 0..8), prop_oneof![3 => Just(usize::MAX), 1 => 0..300usize]).prop_map(|(frames, cut)| {
        let mut stream = frames.concat();
        stream.truncate(cut);
        stream
    })
}

/// Returns a frame, mostly one that is valid at its place.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (Just(0x81u8), text()),
        4 => (Just(0x82u8), payload()),
        // Fragments, in an order that is often the right one.
        3 => (prop_oneof![Just(0x01u8), Just(0x02)], text()),
        3 => (prop_oneof![Just(0x00u8), Just(0x80)], text()),
        2 => (prop_oneof![Just(0x89u8), Just(0x8a)], vec(any::<u8>(), 0..=125)),
        1 => (Just(0x88u8), close()),
        // Any first byte: reserved bits, reserved opcodes, fragments of control frames.
        1 => (any::<u8>(), payload()),
    ]
    .prop_flat_map(|(first, payload)| (Just(first), Just(payload), any::<[u8; 4]>(), fault()))
    .prop_map(|(first, payload, key, fault)| write(first, &payload, key, fault))
}

/// The fault of a header. Most have none.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// No mask.
    Unmasked,
    /// A length in more bytes than it needs.
    Longer,
    /// A length that differs from the payload.
    Promises(u64),
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        40 => Just(Fault::None),
        1 => Just(Fault::Unmasked),
        1 => Just(Fault::Longer),
        1 => any::<u64>().prop_map(Fault::Promises),
        1 => (0..500u64).prop_map(Fault::Promises),
    ]
}

/// Returns text in characters of all lengths, sometimes cut inside of one.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let whole = "[a-z é€🚀\u{0}\u{7ff}\u{ffff}]{0,60}".prop_map(String::into_bytes);
    prop_oneof![
        8 => whole.clone(),
        1 => (whole, 0..60usize).prop_map(|(mut text, len)| { text.truncate(len); text }),
        1 => vec(any::<u8>(), 0..12),
    ]
}

/// Returns any bytes, of lengths on both sides of each limit and of each form of the length.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![
        6 => 0..40usize,
        1 => 124..129usize,
        1 => 198..203usize,
        1 => 298..303usize,
        1 => Just(400usize),
    ];
    (len, any::<u8>()).prop_map(|(len, byte)| (0..len).map(|at| byte.wrapping_add(at as u8)).collect())
}

/// Returns the payload of a Close: empty, or a code that may be valid and a reason that may be text.
fn close() -> impl Strategy<Value = Vec<u8>> {
    let code = prop_oneof![3 => 1000..=1015u16, 1 => 2999..=5000u16, 1 => any::<u16>()];
    prop_oneof![
        1 => vec(any::<u8>(), 0..=1),
        6 => (code, text()).prop_map(|(code, reason)| [&code.to_be_bytes()[..], &reason].concat()),
    ]
}

fn write(first: u8, payload: &[u8], key: [u8; 4], fault: Fault) -> Vec<u8> {
    let mask = if fault == Fault::Unmasked { 0 } else { 0x80 };
    let len = if let Fault::Promises(len) = fault { len } else { payload.len() as u64 };
    let mut frame = vec![first];
    match len {
        0..=125 if fault != Fault::Longer => frame.push(mask | len as u8),
        0..=0xffff if fault != Fault::Longer || len < 126 => {
            frame.push(mask | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        _ => {
            frame.push(mask | 127);
            frame.extend(len.to_be_bytes());
        }
    }
    if mask == 0 {
        frame.extend_from_slice(payload);
    } else {
        frame.extend_from_slice(&key);
        frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    }
    frame
}

proptest! {
    // A finding is not kept in a file of proptest. It becomes part of a corpus.
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn postern_and_tungstenite_agree_but_for_what_is_listed(choice in 0..3u8, stream in stream()) {
        check_stream(choice, &stream);
    }
}
