//! Names and e-mail addresses for display. They grant no rights, so any value is converted to some text.

/// The encoding of names and e-mail addresses.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameEncoding {
    /// Encoded words of RFC 2047 and percent-encoding are decoded if all of the value is well-formed. Otherwise the value is
    /// unchanged.
    #[default]
    Auto,
    /// Values are not decoded.
    Raw,
}

/// The longest display value in bytes.
pub(super) const MAX_DISPLAY: usize = 256;

/// Appends a display value: decoded, without control characters and outer spaces, cut at [`MAX_DISPLAY`].
///
/// A value that is not encoded is read as UTF-8, which nearly every gateway sends, or otherwise as Latin-1, in which
/// every byte is a character.
pub(super) fn push_display(text: &mut String, value: &[u8], encoding: NameEncoding) {
    let decoded = match encoding {
        NameEncoding::Auto => encoded_words(value).or_else(|| percent_decoded(value)),
        NameEncoding::Raw => None,
    };
    let decoded = decoded.unwrap_or_else(|| match std::str::from_utf8(value) {
        Ok(value) => value.to_owned(),
        Err(_) => latin1(value),
    });
    let printable: String = decoded.chars().filter(|c| !c.is_control()).collect();
    let trimmed = printable.trim_matches(' ');
    let cut = trimmed.floor_char_boundary(MAX_DISPLAY);
    text.push_str(trimmed.get(..cut).unwrap_or_default());
}

/// Returns the text of a value with encoded words (RFC 2047) in it: `=?UTF-8?Q?Ren=C3=A9e?= Dupont`. `None` if it has
/// none, or if one of them is not well-formed or has a charset other than UTF-8, ISO-8859-1 and ASCII.
fn encoded_words(value: &[u8]) -> Option<String> {
    let value = std::str::from_utf8(value).ok()?;
    if !value.contains("=?") {
        return None;
    }
    let mut text = String::with_capacity(value.len());
    // Adjacent words of one charset are decoded together: some senders cut between the bytes of a character.
    let mut pending: Option<(Charset, Vec<u8>)> = None;
    for item in value.split([' ', '\t']).filter(|item| !item.is_empty()) {
        if item.contains("=?") {
            let (charset, bytes) = encoded_word(item)?;
            match &mut pending {
                Some((same, before)) if *same == charset => before.extend_from_slice(&bytes),
                // RFC 2047 §6.2: white space between two encoded words is not displayed.
                Some((other, before)) => {
                    text.push_str(&other.decode(before)?);
                    pending = Some((charset, bytes));
                }
                None => {
                    separate(&mut text);
                    pending = Some((charset, bytes));
                }
            }
        } else {
            if let Some((charset, bytes)) = pending.take() {
                text.push_str(&charset.decode(&bytes)?);
            }
            separate(&mut text);
            text.push_str(item);
        }
    }
    if let Some((charset, bytes)) = pending {
        text.push_str(&charset.decode(&bytes)?);
    }
    Some(text)
}

/// Appends a space, unless the text is empty.
fn separate(text: &mut String) {
    if !text.is_empty() {
        text.push(' ');
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Charset {
    Utf8,
    Latin1,
}

impl Charset {
    fn decode(self, bytes: &[u8]) -> Option<String> {
        match self {
            Charset::Utf8 => std::str::from_utf8(bytes).ok().map(str::to_owned),
            Charset::Latin1 => Some(latin1(bytes)),
        }
    }
}

/// Returns the bytes in one encoded word: `=?CHARSET*LANGUAGE?B|Q?TEXT?=` (RFC 2047 §2, RFC 2231 §5).
fn encoded_word(word: &str) -> Option<(Charset, Vec<u8>)> {
    let mut parts = word.strip_prefix("=?")?.strip_suffix("?=")?.split('?');
    let [charset, encoding, text] = [parts.next()?, parts.next()?, parts.next()?];
    if parts.next().is_some() {
        return None;
    }
    let charset = charset.split('*').next()?;
    let is = |known: &str| charset.eq_ignore_ascii_case(known);
    let charset = if is("utf-8") || is("us-ascii") {
        Charset::Utf8
    } else if is("iso-8859-1") {
        Charset::Latin1
    } else {
        return None;
    };
    let bytes = match encoding {
        "B" | "b" => base64(text.as_bytes())?,
        "Q" | "q" => escaped(text.as_bytes(), b'=', |byte| if byte == b'_' { b' ' } else { byte })?,
        _ => return None,
    };
    Some((charset, bytes))
}

/// Returns the text of a value in percent-encoding (RFC 3986 §2.1), if each `%` begins an escape and the result is
/// UTF-8. A value with a space, a quotation mark or another byte that no URL has is not encoded: an encoder would have
/// escaped it.
fn percent_decoded(value: &[u8]) -> Option<String> {
    let is_of_url = |byte: &u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(byte);
    if !value.contains(&b'%') || !value.iter().all(is_of_url) {
        return None;
    }
    String::from_utf8(escaped(value, b'%', |byte| byte)?).ok()
}

/// Decodes escapes of a sign and two hexadecimal digits. `plain` maps the other bytes.
pub(super) fn escaped(text: &[u8], sign: u8, plain: impl Fn(u8) -> u8) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        if first == sign {
            let (digits, behind) = rest.split_first_chunk::<2>()?;
            let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
            bytes.push(u8::try_from(high? * 16 + low?).ok()?);
            rest = behind;
        } else {
            bytes.push(plain(first));
        }
    }
    Some(bytes)
}

/// Decodes base64 (RFC 4648 §4), with or without its padding.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for group in text.chunks(4) {
        let mut bits: u32 = 0;
        for &digit in group {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        let [_, first, second, third] = match group.len() {
            4 => bits.to_be_bytes(),
            3 => (bits << 6).to_be_bytes(),
            2 => (bits << 12).to_be_bytes(),
            _ => return None,
        };
        bytes.extend([first, second, third].into_iter().take(group.len() - 1));
    }
    Some(bytes)
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: impl AsRef<[u8]>, shown: &str) {
        let mut text = String::new();
        push_display(&mut text, value.as_ref(), NameEncoding::Auto);
        assert_eq!(text, shown, "{}", value.as_ref().escape_ascii());
    }

    #[test]
    fn encoded_words_are_decoded() {
        check("=?UTF-8?Q?Ren=C3=A9e_Dupont?=", "Renée Dupont");
        check("=?utf-8?b?UmVuw6llIOadjg==?=", "Renée 李");
        check("=?utf-8?B?UmVuw6ll?=", "Renée");
        check("=?utf-8?B?UmVu?=", "Ren");
        check("=?utf-8?B?UmVuZQ?=", "Rene");
        check("=?ISO-8859-1?Q?Ren=E9e?=", "Renée");
        check("=?iso-8859-1?b?UmVu6WU=?=", "Renée");
        check("=?utf-8*fr?q?Ren=c3=a9e?=", "Renée");
        check("=?us-ascii?Q?Ann?=", "Ann");
        check("=?utf-8?Q??=", "");
    }

    #[test]
    fn several_words_are_one_text() {
        // The examples of RFC 2047 §8.
        check("=?ISO-8859-1?Q?a?= b", "a b");
        check("=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab");
        check("=?ISO-8859-1?Q?a?=  \t =?ISO-8859-1?Q?b?=", "ab");
        check("=?ISO-8859-1?Q?a_b?=", "a b");
        check("=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?_b?=", "a b");
        check("Dr. =?UTF-8?Q?Ren=C3=A9e?= Dupont", "Dr. Renée Dupont");
        check("=?UTF-8?Q?Ren=C3?= =?UTF-8?Q?=A9e?=", "Renée");
        check("=?UTF-8?Q?Ren=C3=A9e?= =?ISO-8859-1?Q?_=E9?=", "Renée é");
    }

    #[test]
    fn a_word_that_is_not_well_formed_stands_as_it_came() {
        for value in [
            "=?",
            "?=",
            "=?UTF-8?Q?a",
            "=?UTF-8?Q?a b?=",
            "=?UTF-8?Q?a?b?=",
            "=?UTF-8?X?a?=",
            "=?UTF-8?Q?=C3?=",
            "=?UTF-8?Q?=C3=?=",
            "=?UTF-8?Q?=ZZ?=",
            "=?UTF-8?B?YQ=a?=",
            "=?UTF-8?B?Y?=",
            "=?UTF-8?B?Y-_a?=",
            "=?UTF-8?Q?=FF?=",
            "=?koi8-r?Q?=C1?=",
            "=?UTF-8?Q?a?==?UTF-8?Q?b?=",
            "\"=?UTF-8?Q?a?=\"",
            "=?UTF-8?Q?a?= =?UTF-8?Q?",
        ] {
            check(value, value);
        }
    }

    #[test]
    fn percent_encoding_is_decoded_where_all_of_it_is_well_formed() {
        check("Ren%C3%A9e%20Dupont", "Renée Dupont");
        check("%e6%9d%8e", "李");
        check("john%40example.com", "john@example.com");
        check("100%25", "100%");
        for value in [
            "Doe, Jane %41",
            "\"%41\"",
            "Ren%C3%A9e Dupont",
            "100%",
            "50% off",
            "%",
            "%4",
            "%zz",
            "%E9",
            "%C3",
            "Renée%20D",
            "user%host@relay",
        ] {
            check(value, value);
        }
        // One of the two, never both.
        check("=?UTF-8?Q?100%25?=", "100%25");
        check("%3D?UTF-8?Q?a?=", "=?UTF-8?Q?a?=");
    }

    #[test]
    fn raw_values_are_not_decoded() {
        for value in ["=?UTF-8?Q?a?=", "Ren%C3%A9e"] {
            let mut text = String::new();
            push_display(&mut text, value.as_bytes(), NameEncoding::Raw);
            assert_eq!(text, value);
        }
    }

    #[test]
    fn decoding_brings_back_no_control_character_and_no_length() {
        check("=?UTF-8?Q?A=0D=0An=1Bn?=", "Ann");
        check("A%0D%0An%1B%00n", "Ann");
        check("%C2%85%20A%C2%9Bnn%20", "Ann");
        check("%20", "");
        check("%41".repeat(300), &"A".repeat(256));
        check(format!("=?ISO-8859-1?Q?{}?=", "=E9".repeat(300)), &"é".repeat(128));
    }

    proptest::proptest! {
        #[test]
        fn any_value_becomes_a_short_text_without_control_characters(value: Vec<u8>, words in "[=?QqBbUTF8%0-9a -]{0,60}") {
            for value in [value.as_slice(), words.as_bytes()] {
                let mut text = String::new();
                push_display(&mut text, value, NameEncoding::Auto);
                assert!(text.len() <= MAX_DISPLAY && !text.contains(char::is_control), "{text:?}");
            }
        }
    }
}
