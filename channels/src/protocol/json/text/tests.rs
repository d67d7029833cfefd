use super::super::super::{MAX_DEPTH, Raw, RawError};

#[track_caller]
fn compacts(text: &str, expected: &str) {
    let compact = Raw::new(text.as_bytes()).compact().unwrap_or_else(|error| panic!("{text}: {error:?}"));
    assert_eq!(std::str::from_utf8(&compact), Ok(expected));
}

#[track_caller]
fn refuses(text: &[u8]) {
    assert_eq!(Raw::new(text).compact(), Err(RawError::NotJson), "{}", text.escape_ascii());
}

#[test]
fn white_space_outside_of_strings_is_removed() {
    compacts("1", "1");
    compacts(" \t\r\n1 \t\r\n", "1");
    compacts(
        "{ \"a b\" : [ 1 ,\r\n\t2.5e-3 ] , \"\\\" \\\\\" : { } , \"c\": [ ] }",
        "{\"a b\":[1,2.5e-3],\"\\\" \\\\\":{},\"c\":[]}",
    );
    compacts("\" \u{2028} é 😀\"", "\" \u{2028} é 😀\"");
    // Lone surrogates are allowed by the grammar, and are not changed.
    compacts(r#"["\ud800"]"#, r#"["\ud800"]"#);
    compacts("-0.0E+5", "-0.0E+5");
}

#[test]
fn values_that_would_change_the_reply_around_them_are_refused() {
    for text in [
        "1}",
        "1,2",
        "1}},\"x\":{\"y\":1",
        "{}}",
        "{}{}",
        "{} {}",
        "",
        " ",
        "1 2",
        "\"a\"b",
        "\"a",
        "{\"a\":1",
        "[1",
        "]",
        "nulll",
        "// 1",
    ] {
        refuses(text.as_bytes());
    }
    refuses(b"\"\xff\"");
    refuses(b"\"\xed\xa0\x80\"");
    refuses(b"\xef\xbb\xbf1");
    refuses(b"\"\n\"");
    refuses(b"\"\x7f\x1f\"");
}

#[test]
fn the_number_of_levels_is_limited() {
    let nested = |levels: usize, inner: &str| {
        format!("{}{inner}{}", "[{\"a\":".repeat(levels / 2), "}]".repeat(levels / 2))
    };
    let limit = MAX_DEPTH as usize;
    for (text, expected) in [
        (nested(limit, "1"), true),
        (nested(limit, "[]"), false),
        (nested(limit - 2, "[[]]"), true),
        (nested(limit - 2, "[[{}]]"), false),
        (nested(100_000, "1"), false),
    ] {
        let result = Raw::new(text.as_bytes()).compact().map(drop);
        assert_eq!(result, if expected { Ok(()) } else { Err(RawError::TooDeep) });
    }
    // Brackets are matched at any depth.
    for levels in [127, 128, 129, 255, 256, 257, 1000] {
        let text = format!("{}{}", "[".repeat(levels), "]".repeat(levels)).replacen("]]", "]}", 1);
        refuses(text.as_bytes());
        let text = format!("{}{}}}", "[".repeat(levels), "]".repeat(levels - 1));
        refuses(text.as_bytes());
    }
}
