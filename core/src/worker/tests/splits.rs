//! The split of the input into reads does not change the result.

use proptest::prelude::*;

use super::*;

#[track_caller]
pub(super) fn check_splits(bytes: &[u8]) {
    let whole = observe([bytes].into_iter());
    assert_eq!(observe(bytes.chunks(1)), whole, "byte by byte");
    for at in 0..=bytes.len() {
        let (a, b) = bytes.split_at(at);
        assert_eq!(observe([a, b].into_iter()), whole, "split at {at}");
    }
}

#[test]
fn any_split_gives_the_same_output_and_the_same_records() {
    let head = HEAD.as_bytes().to_vec();
    let messages =
        [frame(0x81, "Hello €".as_bytes()), frame(0x02, b"ab"), frame(0x89, b"p"), frame(0x80, b"cd")]
            .concat();
    check_splits(&head);
    check_splits(&[&head[..], &messages, &frame(0x88, b"\x03\xe8bye")].concat());
    check_splits(&[&head[..], &messages, b"\xff\x00 garbage"].concat());
    check_splits(&[&head[..], &frame(0x81, b"\xff"), &frame(0x81, b"too late")].concat());
    check_splits(&HEAD.replace("User-ID: 123\r\n", "").into_bytes());
    check_splits(b"\x16\x03\x01 a TLS hello");
    check_splits(b"GET /ws HTTP/1.1\nHost: x\n\n");
    check_splits(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
}

/// Returns the stream of a client, with few faults or none.
pub(super) fn stream() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        8 => prop::sample::select(vec![0x81u8, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8a]),
        1 => any::<u8>(),
    ];
    let payload = prop_oneof![
        4 => ".{0,20}".prop_map(String::into_bytes),
        2 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::collection::vec(any::<u8>(), 120..140),
    ];
    let frames = prop::collection::vec((first, payload), 0..12);
    let close = prop::option::of(prop::collection::vec(any::<u8>(), 0..6));
    let noise = prop::option::weighted(0.2, (any::<prop::sample::Index>(), any::<u8>()));
    (any::<bool>(), frames, close, noise).prop_map(|(has_head, frames, close, noise)| {
        let mut bytes = if has_head { HEAD.as_bytes().to_vec() } else { Vec::new() };
        frames.iter().for_each(|(first, payload)| bytes.extend(frame(*first, payload)));
        bytes.extend(close.iter().flat_map(|payload| frame(0x88, payload)));
        if let Some((at, byte)) = noise
            && !bytes.is_empty()
        {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]

    #[test]
    fn whatever_comes_in_any_portions_the_answer_is_the_same_and_valid(
        bytes in stream(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let whole = observe([&bytes[..]].into_iter());
        check_wire(&whole.0);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let portions = cuts.windows(2).map(|ends| &bytes[ends[0]..ends[1]]);
        prop_assert_eq!(observe(portions), whole);
    }
}
