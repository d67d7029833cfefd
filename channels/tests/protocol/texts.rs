//! JSON texts: valid and compact as independent implementations say.

use std::borrow::Cow;

use postern_channels::protocol::{MAX_DEPTH, Raw, RawError};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde::de::IgnoredAny;

use crate::random;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// Only the white space between tokens is removed.
    #[test]
    fn compacting_removes_the_white_space_between_tokens(
        tokens in random::tokens(),
        spaces in vec(select(vec!["", "", " ", "\n", "\r\n", "\t  "]), 50),
    ) {
        let mut text = String::new();
        for (token, space) in tokens.iter().zip(spaces.iter().cycle()) {
            text.push_str(space);
            text.push_str(token);
        }
        text.push_str(spaces[0]);
        let expected = tokens.concat().into_bytes();
        let compact = Raw::new(text.as_bytes()).compact();
        prop_assert_eq!(compact.as_deref(), Ok(&expected[..]), "{}", text);
        let again = Raw::new(&expected).compact();
        prop_assert!(matches!(again, Ok(Cow::Borrowed(_))), "compact texts are not copied");
    }

    /// Sequences of tokens, most of which are not JSON.
    #[test]
    fn the_same_sequences_of_tokens_are_valid_as_for_serde_json(
        pieces in vec(select(PIECES.to_vec()), 0..12),
    ) {
        agrees(pieces.concat().as_bytes())?;
    }

    /// Valid texts with a few bytes replaced, removed and inserted.
    #[test]
    fn the_same_damaged_texts_are_valid_as_for_serde_json(
        text in random::json(),
        edits in vec((any::<prop::sample::Index>(), 0..3, any::<u8>()), 0..4),
    ) {
        let mut text = text.into_bytes();
        for (at, kind, byte) in edits {
            let at = at.index(text.len() + 1);
            match kind {
                0 if at < text.len() => text[at] = byte,
                1 if at < text.len() => drop(text.remove(at)),
                _ => text.insert(at, byte),
            }
        }
        agrees(&text)?;
    }

    #[test]
    fn the_same_bytes_are_valid_as_for_serde_json(text in vec(any::<u8>(), 0..16)) {
        agrees(&text)?;
    }
}

/// Checks that a text is valid if and only if `serde_json` accepts it, and that the compact text has the same value.
fn agrees(text: &[u8]) -> Result<(), TestCaseError> {
    let valid =
        std::str::from_utf8(text).ok().filter(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    match Raw::new(text).compact() {
        Ok(compact) => {
            prop_assert!(valid.is_some(), "{}", text.escape_ascii());
            // serde_json refuses values, unlike texts, for lone surrogates and large numbers.
            if let Ok(value) = serde_json::from_slice::<serde_json::Value>(text) {
                prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&compact).ok(), Some(value));
            }
        }
        Err(RawError::NotJson) => prop_assert!(valid.is_none(), "{}", text.escape_ascii()),
        Err(RawError::TooDeep) => {
            prop_assert!(text.len() > 2 * MAX_DEPTH as usize, "{}", text.escape_ascii())
        }
    }
    Ok(())
}

const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    " ",
    "\n",
    "\"a\"",
    "\"",
    "\\",
    "\"\\u12",
    "34\"",
    "\"\\ud800\"",
    "\"a\":",
    "true",
    "false",
    "null",
    "nul",
    "0",
    "1",
    "-",
    "+",
    ".",
    "e",
    "E",
    "12.5e-7",
    "-0",
    "00",
    "é",
    "\u{1f}",
    "/",
    "\"\\n\"",
    "\"\\x\"",
    "{}",
    "[]",
    "\u{feff}",
];
