//! Any bytes as a value that a client publishes.
//!
//! * It is accepted if and only if `serde_json` accepts it, except for texts with more than 128 levels.
//! * The result is the value without white space outside of strings, which a second, simpler function removes.
//! * A reply that contains the result has exactly this value in its place, and is one line.

use std::borrow::Cow;

use postern_channels::protocol::{
    Commands, Data, Encoding, MAX_DEPTH, Message, Publication, Push, PushBody, Raw, RawError, Reply, Request,
    Topic,
};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// Checks a value.
///
/// # Panics
/// That is the finding.
pub fn check(value: &[u8]) {
    let text =
        std::str::from_utf8(value).ok().filter(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    let result = Raw::new(value).compact();
    check_as_part_of_a_command(value, &result);
    let compact = match result {
        Ok(compact) => compact,
        Err(RawError::NotJson) => return assert_eq!(text, None),
        Err(RawError::TooDeep) => {
            assert!(text.is_some_and(|text| levels(text) > MAX_DEPTH), "{}", value.escape_ascii());
            return;
        }
    };
    let text = text.unwrap_or_else(|| panic!("not JSON: {}", value.escape_ascii()));
    assert!(levels(text) <= MAX_DEPTH);
    assert_eq!(compact, without_space(value), "{}", value.escape_ascii());
    assert_eq!(
        matches!(compact, Cow::Borrowed(_)),
        compact.len() == value.len(),
        "it is copied only if it changes"
    );
    assert_eq!(Raw::new(&compact).compact().as_deref(), Ok(&*compact));
    check_as_part_of_a_reply(&compact);
}

/// A value is the same as a part of a command.
fn check_as_part_of_a_command(value: &[u8], result: &Result<Cow<'_, [u8]>, RawError>) {
    if value.contains(&b'\n') {
        return;
    }
    let command = [br#"{"id":1,"publish":{"channel":"a","data": "#, value, b" }}"].concat();
    let commands: Result<Vec<_>, _> = Commands::new(Encoding::Json, &command).collect();
    match (commands.as_deref(), result) {
        (Ok([command]), result) => {
            let Request::Publish(publish) = &command.request else { panic!("another request") };
            // Other members may follow the value.
            if publish.data.as_bytes() == value.trim_ascii() {
                assert_eq!(publish.data.compact(), *result, "{}", value.escape_ascii());
            } else {
                assert_eq!(*result, Err(RawError::NotJson), "{}", value.escape_ascii());
            }
        }
        (_, result) => assert_eq!(*result, Err(RawError::NotJson), "{}", value.escape_ascii()),
    }
}

fn check_as_part_of_a_reply(compact: &[u8]) {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Line<'a> {
        #[serde(borrow)]
        push: Channel<'a>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Channel<'a> {
        channel: String,
        #[serde(borrow)]
        r#pub: Publications<'a>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Publications<'a> {
        #[serde(borrow)]
        data: &'a RawValue,
        offset: u64,
    }
    let publication = Publication { data: Data::Raw(compact), offset: 7, ..Publication::default() };
    let push = Push { topic: Topic::Channel("a"), body: PushBody::Publication(publication) };
    let mut line = Vec::new();
    Message::new(Encoding::Json, &mut line).push(&Reply::Push(push));
    assert!(!line.contains(&b'\n') && !line.contains(&b'\r'));
    let line: Line<'_> = serde_json::from_slice(&line).expect("a valid reply");
    assert_eq!(line.push.channel, "a");
    assert_eq!(line.push.r#pub.data.get().as_bytes(), compact);
    assert_eq!(line.push.r#pub.offset, 7);
}

/// Returns the bytes of a valid JSON text that are not white space outside of strings.
pub(crate) fn without_space(text: &[u8]) -> Vec<u8> {
    let mut is_string = false;
    let mut is_escaped = false;
    let is_kept = |&byte: &u8| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => is_string = !is_string,
            b' ' | b'\t' | b'\r' | b'\n' => return is_string,
            _ => {}
        }
        true
    };
    text.iter().copied().filter(is_kept).collect()
}

/// Returns the highest number of arrays and objects inside each other in a valid JSON text.
pub(crate) fn levels(text: &str) -> u32 {
    let mut is_string = false;
    let mut is_escaped = false;
    let (mut depth, mut deepest) = (0, 0);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => is_string = !is_string,
            b'[' | b'{' if !is_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !is_string => depth -= 1,
            _ => {}
        }
    }
    deepest
}
