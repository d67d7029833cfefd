//! The forms of a secret that a log could contain: plain, escaped, or encoded.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Returns all forms of a secret that differ from each other, each with its name. The first is the plain secret.
pub(super) fn forms(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let each = |write: &dyn Fn(u8) -> String| secret.iter().map(|byte| write(*byte)).collect::<String>();
    let mut forms: Vec<(&'static str, Vec<u8>)> = vec![
        ("unencoded", secret.to_vec()),
        ("in lower case", secret.to_ascii_lowercase()),
        ("in upper case", secret.to_ascii_uppercase()),
        ("escaped", secret.escape_ascii().to_string().into_bytes()),
        ("escaped with \\x", each(&|byte| format!("\\x{byte:02x}")).into_bytes()),
        ("escaped with \\u", each(&|byte| format!("\\u{byte:04x}")).into_bytes()),
        ("in hexadecimal", each(&|byte| format!("{byte:02x}")).into_bytes()),
        ("in HEXADECIMAL", each(&|byte| format!("{byte:02X}")).into_bytes()),
        ("percent-encoded", each(&|byte| percent(byte, |byte| format!("%{byte:02X}"))).into_bytes()),
        (
            "percent-encoded in lower case",
            each(&|byte| percent(byte, |byte| format!("%{byte:02x}"))).into_bytes(),
        ),
        ("percent-encoded throughout", each(&|byte| format!("%{byte:02X}")).into_bytes()),
        ("as a list of numbers", each(&|byte| format!("{byte}, ")).into_bytes()),
    ];
    for (name, engine) in [("in base64", &STANDARD_NO_PAD), ("in base64url", &URL_SAFE_NO_PAD)] {
        // Base64 encodes three bytes at a time, so the digits depend on how many bytes precede the secret.
        for before in 0..3 {
            forms.push((name, base64(secret, before, engine)));
        }
    }
    let mut different: Vec<(&'static str, Vec<u8>)> = Vec::new();
    for (name, form) in forms {
        if !different.iter().any(|(_, other)| *other == form) {
            different.push((name, form));
        }
    }
    different
}

/// Encodes as `encodeURIComponent` does: the characters that RFC 3986 §2.3 calls unreserved stay.
fn percent(byte: u8, encode: impl Fn(u8) -> String) -> String {
    let is_unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if is_unreserved { char::from(byte).to_string() } else { encode(byte) }
}

/// Returns the digits of RFC 4648, section 4, that depend only on the secret if `before` bytes precede it.
fn base64(secret: &[u8], before: usize, engine: &GeneralPurpose) -> Vec<u8> {
    let padded = [vec![0; before], secret.to_vec()].concat();
    let digits = engine.encode(&padded).into_bytes();
    digits.get((before * 8).div_ceil(6)..padded.len() * 8 / 6).unwrap_or_default().to_vec()
}

/// Returns the part of a form that may be shown in a report: its beginning.
pub(super) fn beginning(form: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(form.get(..4).unwrap_or(form))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn has(secret: &[u8], form: &str) {
        let forms = forms(secret);
        let found = forms.iter().any(|(_, bytes)| bytes == form.as_bytes());
        assert!(
            found,
            "{form} is not among {:?}",
            forms.iter().map(|(_, form)| form.escape_ascii().to_string()).collect::<Vec<_>>()
        );
    }

    #[test]
    fn secret_has_these_forms() {
        let secret = b"Key=~\"a/b\"\n";
        has(secret, "Key=~\"a/b\"\n");
        has(secret, "key=~\"a/b\"\n");
        has(secret, r#"Key=~\"a/b\"\n"#);
        has(secret, r"\x4b\x65\x79\x3d\x7e\x22\x61\x2f\x62\x22\x0a");
        has(secret, "4b65793d7e22612f62220a");
        has(secret, "4B65793D7E22612F62220A");
        has(secret, "Key%3D~%22a%2Fb%22%0A");
        has(secret, "Key%3d~%22a%2fb%22%0a");
        has(secret, "75, 101, 121, 61, 126, 34, 97, 47, 98, 34, 10, ");
    }

    /// The digits of RFC 4648 §10, and of the same text after one and two bytes.
    #[test]
    fn base64_has_a_form_for_each_offset() {
        has(b"foobar", "Zm9vYmFy");
        // "?foobar" is P2Zvb2Jhcg==, "??foobar" is Pz9mb29iYXI=.
        has(b"foobar", "Zvb2Jhc");
        has(b"foobar", "mb29iYX");
        has(&[0xfb, 0xff, 0xfe], "+//+");
        has(&[0xfb, 0xff, 0xfe], "-__-");
    }

    #[test]
    fn equal_forms_are_merged() {
        let forms = forms(b"abcdefgh");
        assert!(forms.iter().all(|(_, form)| forms.iter().filter(|(_, other)| other == form).count() == 1));
        assert_eq!(forms.first().map(|(name, _)| *name), Some("unencoded"));
    }
}
