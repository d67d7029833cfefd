//! Ids that are compared byte by byte and never parsed. Only characters that show a fault of a proxy are refused.

/// The characters that the id of a user or of a session may have.
///
/// No charset admits control characters, format characters, and line and paragraph separators (the Unicode categories Cc,
/// Cf, Zl and Zp), which break the lines of a log or are invisible in it; nor `{ } $ "`, which are left of a placeholder
/// that a gateway did not fill in.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdCharset {
    /// Only `A-Z a-z 0-9 . _ : @ + = / | -`.
    Strict,
    /// All but white space and commas. Gateways join two values with a comma.
    #[default]
    Opaque,
    /// All, with white space only between other characters. For names in directories, such as `CN=Doe John,OU=Sales`. Two
    /// joined values are accepted as one id.
    Any,
}

impl IdCharset {
    /// Whether all characters of `id` are of this charset.
    pub fn admits(self, id: &str) -> bool {
        match self {
            IdCharset::Strict => {
                id.bytes().all(|byte| byte.is_ascii_alphanumeric() || STRICT.contains(&byte))
            }
            IdCharset::Opaque => id.chars().all(|c| is_visible(c) && !c.is_whitespace() && c != ','),
            IdCharset::Any => id.trim() == id && id.chars().all(is_visible),
        }
    }
}

/// Whether this can be the id of a request: visible ASCII without commas, backslashes and `{ } $ "`. It is repeated in a
/// header of the 101, where RFC 9110 §5.5 asks for ASCII, and in each log record, where it needs no escape.
pub(super) fn is_request_id(id: &[u8]) -> bool {
    !id.is_empty() && id.iter().all(|byte| byte.is_ascii_graphic() && !b",\\{}$\"".contains(byte))
}

const STRICT: &[u8] = b"._:@+=/|-";

/// Whether a character shows in a log, or is a space, and is not a part of a placeholder.
fn is_visible(c: char) -> bool {
    let is_separator = matches!(c, '\u{2028}' | '\u{2029}');
    !(c.is_control() || is_separator || is_format(c) || matches!(c, '{' | '}' | '$' | '"'))
}

/// Whether a character is of the category Cf. A test of the host compares this with the tables of a Unicode crate.
fn is_format(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{890}'..='\u{891}'
            | '\u{8e2}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2064}'
            | '\u{2066}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{110bd}'
            | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0001}'
            | '\u{e0020}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks an id against `Strict`, `Opaque` and `Any`.
    #[track_caller]
    fn check(id: &str, verdicts: [bool; 3]) {
        let found = [IdCharset::Strict, IdCharset::Opaque, IdCharset::Any].map(|charset| charset.admits(id));
        assert_eq!(found, verdicts, "{id:?}");
    }

    #[test]
    fn a_charset_admits_the_ids_that_services_have() {
        check("AZaz09._:@+=/|-", [true, true, true]);
        for id in [
            "o'brien@example.com",
            "john%40example.com",
            "DOMAIN\\john",
            "auth0|5f7c#1",
            "john (admin)",
            "a;b~c!d*e?f&g",
            "<1>",
            "[1]",
            "`1`^",
            "张三",
            "renée",
            "１２３",
            "👤",
        ] {
            check(id, [false, !id.contains(' '), true]);
        }
        for id in ["CN=Doe John,OU=Sales,DC=example", "1,2", "John Doe", "a\u{a0}b", "a\u{3000}b"] {
            check(id, [false, false, true]);
        }
    }

    #[test]
    fn no_charset_admits_what_proves_a_fault() {
        for id in ["{http.x}", "a}", "$identity_id", "\"123\"", " a", "a ", " ", "a\u{a0}"] {
            check(id, [false, false, false]);
        }
        for c in ['\0', '\t', '\n', '\x1b', '\x7f', '\u{85}', '\u{9b}', '\u{ad}', '\u{200b}', '\u{200d}'] {
            check(&format!("a{c}b"), [false, false, false]);
        }
        for c in ['\u{2028}', '\u{2029}', '\u{202e}', '\u{2066}', '\u{feff}', '\u{e0041}'] {
            check(&format!("a{c}b"), [false, false, false]);
        }
    }

    #[test]
    fn the_id_of_a_request_is_visible_ascii() {
        for byte in 0..=255u8 {
            let verdict = (b'!'..=b'~').contains(&byte) && !b",\\{}$\"".contains(&byte);
            assert_eq!(is_request_id(&[b'a', byte]), verdict, "{byte:#x}");
        }
        assert!(!is_request_id(b""));
    }
}
