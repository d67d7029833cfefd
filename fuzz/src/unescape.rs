//! Decodes the escapes of the log. Every backslash begins one.

/// Returns the bytes that were escaped.
///
/// # Panics
/// If a backslash does not begin an escape.
pub(crate) fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        rest = take(rest, &mut bytes);
    }
    bytes
}

/// The same between quotation marks, and the text after the second.
pub(crate) fn take_quoted(text: &str) -> (Vec<u8>, &str) {
    let mut bytes = Vec::new();
    let mut rest = text.strip_prefix('"').expect("a quotation mark");
    loop {
        if let Some(behind) = rest.strip_prefix('"') {
            return (bytes, behind);
        }
        assert!(!rest.is_empty(), "no end: {text}");
        rest = match rest.strip_prefix("\\\"") {
            Some(behind) => {
                bytes.push(b'"');
                behind
            }
            None => take(rest, &mut bytes),
        };
    }
}

/// Splits off one escape, or one other character.
fn take<'t>(text: &'t str, bytes: &mut Vec<u8>) -> &'t str {
    let Some(escape) = text.strip_prefix('\\') else {
        let c = text.chars().next().expect("a character");
        let (c, rest) = text.split_at(c.len_utf8());
        bytes.extend_from_slice(c.as_bytes());
        return rest;
    };
    let (kind, rest) = escape.split_at_checked(1).expect("an escape");
    match kind {
        "\\" => bytes.push(b'\\'),
        "n" => bytes.push(b'\n'),
        "r" => bytes.push(b'\r'),
        "t" => bytes.push(b'\t'),
        "x" => {
            let (digits, rest) = rest.split_at_checked(2).expect("two digits");
            bytes.push(u8::from_str_radix(digits, 16).expect("a byte"));
            return rest;
        }
        "u" => {
            let (digits, rest) =
                rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).expect("braces");
            let c = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32).expect("a character");
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return rest;
        }
        other => panic!("no escape begins with {other}"),
    }
    rest
}
