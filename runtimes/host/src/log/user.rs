//! Users in a log: `John Doe (123)`, `john@example.com`.
//!
//! Names and ids are untrusted, and the name `Admin (1): x` would change the meaning of a sentence. So a name is
//! written without quotation marks only if it consists of letters, marks, digits, spaces and `. ' - _`, and an id
//! only if it consists of letters, marks, digits and the signs of [`is_id_sign`]. All others are [`Quoted`].

use std::fmt::{self, Write};

use postern_core::handshake::Identity;
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

use super::EmailLog;
use crate::escape::Quoted;

/// `John Doe (123)`, or `- (123)` for a user without a name.
pub(super) struct UserLabel<'a>(pub(super) &'a Identity);

impl UserLabel<'_> {
    #[inline]
    pub(super) fn write_to(&self, out: &mut impl Write) -> fmt::Result {
        write_name(self.0.name(), out)?;
        out.write_str(" (")?;
        write_id(self.0.id(), out)?;
        out.write_char(')')
    }
}

impl fmt::Display for UserLabel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_to(f)
    }
}

/// The name, or `-`.
pub(super) struct Name<'a>(pub(super) &'a Identity);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_name(self.0.name(), f)
    }
}

/// The id.
pub(super) struct Id<'a>(pub(super) &'a Identity);

impl fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_id(self.0.id(), f)
    }
}

/// The e-mail address as far as the setting allows, or `-`.
pub(super) struct Email<'a>(pub(super) &'a Identity, pub(super) EmailLog);

impl<'a> Email<'a> {
    /// Returns the pieces of the text that is shown; `None` if the address is not shown. They are slices, so that a
    /// record of a message allocates nothing.
    #[inline]
    pub(super) fn pieces(&self) -> Option<[&'a str; 6]> {
        match (self.0.email(), self.1) {
            (None, _) | (Some(_), EmailLog::Off) => None,
            (Some(email), EmailLog::Full) => Some([email, "", "", "", "", ""]),
            (Some(email), EmailLog::Masked) => Some(mask(email)),
        }
    }
}

impl fmt::Display for Email<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(pieces) = self.pieces() else { return f.write_str(ABSENT) };
        let shown = pieces.concat();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ".@_+-*".contains(c) || c.is_alphabetic();
        if shown.chars().all(is_plain) && shown != ABSENT {
            f.write_str(&shown)
        } else {
            write!(f, "{}", Quoted(&shown))
        }
    }
}

/// The fields of a JSON record about a user, with exact values. In the term format the user is in the sentence.
#[derive(Clone, Copy)]
pub(super) struct UserFields<'a> {
    pub(super) identity: &'a Identity,
    pub(super) email: EmailLog,
}

impl UserFields<'_> {
    /// Calls `put` with the name of each field and the pieces of its value. An unknown value has no field.
    #[inline]
    pub(super) fn each<E>(
        self,
        mut put: impl FnMut(&'static str, &[&str]) -> Result<(), E>,
    ) -> Result<(), E> {
        put("user_id", &[self.identity.id()])?;
        if let Some(name) = self.identity.name() {
            put("user_name", &[name])?;
        }
        if let Some(pieces) = Email(self.identity, self.email).pieces() {
            put("user_email", &pieces)?;
        }
        Ok(())
    }
}

#[inline]
fn write_name(name: Option<&str>, out: &mut impl Write) -> fmt::Result {
    match name {
        None => out.write_str(ABSENT),
        // The name `-` is quoted, to distinguish it from no name.
        Some(name) if name.chars().all(is_name_char) && name != ABSENT => out.write_str(name),
        Some(name) => write!(out, "{}", Quoted(name)),
    }
}

#[inline]
fn write_id(id: &str, out: &mut impl Write) -> fmt::Result {
    // Nearly all ids are ASCII.
    let is_plain = id.bytes().all(is_id_sign) || id.chars().all(is_id_char);
    if is_plain { out.write_str(id) } else { write!(out, "{}", Quoted(id)) }
}

/// Whether an ASCII character needs no quotation marks in an id: it neither ends an id nor begins an escape.
#[inline]
fn is_id_sign(byte: u8) -> bool {
    // A pattern is compiled to a test of one bit, which is faster than a search in a string for each byte of an id.
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b':' | b'@' | b'+' | b'=' | b'/' | b'|'
        | b'-' | b'\'' | b'%' | b'~' | b'!' | b'#' | b'&' | b'*' | b';' | b'?' | b'^')
}

fn is_id_char(c: char) -> bool {
    match u8::try_from(c) {
        Ok(byte) if byte.is_ascii() => is_id_sign(byte),
        _ => is_letter_digit_or_mark(c),
    }
}

/// Whether a character needs no quotation marks in a name.
#[inline]
fn is_name_char(c: char) -> bool {
    match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | ' ' | '.' | '\'' | '-' | '_' => true,
        '\0'..='\x7f' => false,
        // Latin, Cyrillic, Han and Hangul, the letters of most names, without a search in the tables of Unicode.
        'À'..='Ö' | 'Ø'..='ö' | 'ø'..='ɏ' | 'Ѐ'..='ҁ' | 'Ҋ'..='ԯ' | '一'..='鿿' | '가'..='힣' => {
            true
        }
        _ => is_letter_digit_or_mark(c),
    }
}

/// Whether a character is alphanumeric or a mark. Marks are the accents of a decomposed `é`, and the vowel signs of
/// Indian scripts.
fn is_letter_digit_or_mark(c: char) -> bool {
    c.is_alphanumeric() || c.general_category_group() == GeneralCategoryGroup::Mark
}

/// Masks `john@example.com` as `j***@e***.com`: enough to distinguish most users, too little to write to them.
fn mask(email: &str) -> [&str; 6] {
    let Some((local, domain)) = email.rsplit_once('@') else { return ["***", "", "", "", "", ""] };
    match domain.rsplit_once('.') {
        Some((name, top)) => [first(local), "***@", first(name), "***", ".", top],
        None => [first(local), "***@", first(domain), "***", "", ""],
    }
}

/// Returns the first character.
fn first(text: &str) -> &str {
    text.chars().next().and_then(|c| text.get(..c.len_utf8())).unwrap_or_default()
}

const ABSENT: &str = "-";

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(email: &str, name: &str) -> Identity {
        Identity::new(b"123", email.as_bytes(), name.as_bytes()).unwrap()
    }

    #[track_caller]
    fn check_name(name: &str, shown: &str) {
        assert_eq!(UserLabel(&identity("", name)).to_string(), format!("{shown} (123)"));
        assert_eq!(Name(&identity("", name)).to_string(), shown);
    }

    #[track_caller]
    fn check_email(setting: EmailLog, email: &str, shown: &str) {
        assert_eq!(Email(&identity(email, ""), setting).to_string(), shown);
    }

    #[test]
    fn plain_names_in_any_script_are_unchanged() {
        for name in [
            "John Doe",
            "O'Brien-Smith Jr.",
            "user_7",
            "Renée",
            "Rene\u{301}e",
            "Дима",
            "张三",
            "विक्रम सिंह",
            "نورا",
            "สมชาย",
        ] {
            check_name(name, name);
        }
    }

    #[test]
    fn an_ambiguous_name_is_quoted() {
        check_name("Admin (1): x", r#""Admin (1): x""#);
        check_name("a, conn: 7", r#""a, conn: 7""#);
        check_name(r#"John "Joe" Doe"#, r#""John \"Joe\" Doe""#);
        check_name(r"a\nb", r#""a\\nb""#);
        check_name("John 🚀", "\"John 🚀\"");
        check_name("John\u{202e}eoD", r#""John\u{202e}eoD""#);
        check_name("John\u{200b}Doe", r#""John\u{200b}Doe""#);
        check_name("100%", "\"100%\"");
    }

    #[test]
    fn a_name_is_letters_digits_marks_spaces_and_four_signs() {
        for c in '\0'..=char::MAX {
            let is_name = if c.is_ascii() {
                c.is_ascii_alphanumeric() || " .'-_".contains(c)
            } else {
                is_letter_digit_or_mark(c)
            };
            assert_eq!(is_name_char(c), is_name, "{c:?}");
            assert!(!is_name || !crate::escape::is_harmful(c), "{c:?}");
        }
    }

    #[track_caller]
    fn check_id(id: &str, shown: &str) {
        let user = Identity::new(id.as_bytes(), b"", b"").unwrap();
        assert_eq!(UserLabel(&user).to_string(), format!("- ({shown})"));
        assert_eq!(Id(&user).to_string(), shown);
    }

    #[test]
    fn an_ambiguous_id_is_quoted() {
        for id in ["123", "auth0|5f7c", "o'brien@example.com", "john%40example.com", "a#b~c!", "张三", "रेणु"]
        {
            check_id(id, id);
        }
        check_id("1):x", r#""1):x""#);
        check_id("(1)", r#""(1)""#);
        check_id(r"DOMAIN\john", r#""DOMAIN\\john""#);
        check_id(r"a\n", r#""a\\n""#);
        check_id("[1]<2>`3`", r#""[1]<2>`3`""#);
        check_id("👤", "\"👤\"");
        // The core admits noncharacters, and the log escapes them.
        check_id("a\u{fffe}", r#""a\u{fffe}""#);
    }

    #[test]
    fn the_core_admits_no_id_with_an_invisible_character() {
        use postern_core::handshake::IdCharset;
        use unicode_properties::GeneralCategory::{Control, Format, LineSeparator, ParagraphSeparator};

        for c in '\0'..=char::MAX {
            let category = c.general_category();
            let hides = matches!(category, Control | Format | LineSeparator | ParagraphSeparator);
            let is_refused = hides || matches!(c, '{' | '}' | '$' | '"');
            assert_eq!(IdCharset::Any.admits(&format!("a{c}b")), !is_refused, "{c:?} of {category:?}");
            let is_refused = is_refused || c.is_whitespace() || c == ',';
            assert_eq!(IdCharset::Opaque.admits(&format!("a{c}b")), !is_refused, "{c:?} of {category:?}");
            assert!(!is_id_char(c) || !crate::escape::is_harmful(c), "{c:?}");
        }
    }

    #[test]
    fn a_name_that_is_a_dash_differs_from_no_name() {
        check_name("", "-");
        check_name("-", "\"-\"");
    }

    #[test]
    fn an_email_is_shown_quoted_masked_or_not_at_all() {
        check_email(EmailLog::Full, "john.d+x_y-z@example.com", "john.d+x_y-z@example.com");
        check_email(EmailLog::Full, "rené@exämple.fr", "rené@exämple.fr");
        check_email(EmailLog::Full, "a@b) - ID: 1", "\"a@b) - ID: 1\"");
        check_email(EmailLog::Full, "", "-");
        check_email(EmailLog::Full, "-", "\"-\"");
        check_email(EmailLog::Masked, "john@example.com", "j***@e***.com");
        check_email(EmailLog::Masked, "john@mail.example.co", "j***@m***.co");
        check_email(EmailLog::Masked, "root@localhost", "r***@l***");
        check_email(EmailLog::Masked, "@", "***@***");
        check_email(EmailLog::Masked, "not an address", "***");
        check_email(EmailLog::Masked, "(x@y.z", "\"(***@y***.z\"");
        check_email(EmailLog::Masked, "", "-");
        check_email(EmailLog::Off, "john@example.com", "-");
    }
}
