//! Whom the gateway vouched for, and the rules that keep anyone else from saying so.

use std::fmt;

use super::config::IdentityHeaders;
use super::error::HandshakeError;

/// An admitted user. Three strings in one allocation, because each connection keeps one.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The id, the e-mail address and the name, one behind the other.
    text: Box<str>,
    /// Where the id ends: 1 to 255.
    id_end: u16,
    /// Where the e-mail address ends; `id_end <= email_end <= text.len()`.
    email_end: u16,
}

impl Identity {
    /// The longest user id, in bytes.
    pub const MAX_ID: usize = 255;
    /// The longest e-mail address and the longest name, in bytes of UTF-8. Longer ones are cut.
    pub const MAX_DISPLAY: usize = 256;

    /// Makes an identity from values as a gateway sends them, by the rules of this module: the id strict,
    /// the others lenient.
    ///
    /// # Errors
    /// [`HandshakeError::IdentityMissing`] for an empty id, [`HandshakeError::IdentityInvalid`] for one
    /// over 255 bytes or with other bytes than `A-Z a-z 0-9 . _ : @ + = / | -`.
    pub fn new(id: &[u8], email: &[u8], name: &[u8]) -> Result<Identity, HandshakeError> {
        let mut text = String::with_capacity(id.len() + email.len() + name.len());
        text.push_str(check_id(id)?);
        let id_end = text.len();
        push_display(&mut text, email);
        let email_end = text.len();
        push_display(&mut text, name);
        // At most 255 + 256 and so within u16; an offset that does not fit would drop the display values.
        let id_end = u16::try_from(id_end).unwrap_or(u16::MAX);
        let email_end = u16::try_from(email_end).unwrap_or(u16::MAX);
        Ok(Identity { text: text.into_boxed_str(), id_end, email_end })
    }

    /// The user id: an opaque string, compared byte by byte and never parsed.
    pub fn id(&self) -> &str {
        self.text.get(..usize::from(self.id_end)).unwrap_or_default()
    }

    /// The e-mail address, for the log. Says nothing about rights.
    pub fn email(&self) -> Option<&str> {
        self.text.get(usize::from(self.id_end)..usize::from(self.email_end)).filter(|email| !email.is_empty())
    }

    /// The display name, for the log. Says nothing about rights.
    pub fn name(&self) -> Option<&str> {
        self.text.get(usize::from(self.email_end)..).filter(|name| !name.is_empty())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("id", &self.id())
            .field("email", &self.email())
            .field("name", &self.name())
            .finish()
    }
}

/// The identity headers of one request, gathered in a single pass over its lines and judged afterwards.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claims<'h> {
    id: Option<&'h [u8]>,
    email: Option<&'h [u8]>,
    name: Option<&'h [u8]>,
    /// A second line of one of them was seen.
    twice: bool,
    /// A name that differs from one of them only in its separators was seen.
    alias: bool,
    /// `Connection` names one of them.
    nominated: bool,
}

impl<'h> Claims<'h> {
    /// Looks at one header line.
    pub(super) fn see_header(&mut self, names: &IdentityHeaders, name: &str, value: &'h [u8]) {
        let fields =
            [(&names.id, &mut self.id), (&names.email, &mut self.email), (&names.name, &mut self.name)];
        for (wanted, field) in fields {
            if name.eq_ignore_ascii_case(wanted) {
                self.twice |= field.replace(value).is_some();
            } else {
                self.alias |= is_alias(name, wanted);
            }
        }
    }

    /// Looks at one token of `Connection`. A proxy that obeys it drops the header of that name
    /// (RFC 9110 §7.6.1), so a client that nominates an identity header tries to be nobody.
    pub(super) fn see_connection_option(&mut self, names: &IdentityHeaders, option: &[u8]) {
        self.nominated |= [&names.id, &names.email, &names.name]
            .iter()
            .any(|name| option.eq_ignore_ascii_case(name.as_bytes()));
    }

    /// The identity, if all of it was said once, plainly, by nobody but the gateway.
    pub(super) fn judge(&self) -> Result<Identity, HandshakeError> {
        if self.twice {
            return Err(HandshakeError::IdentityTwice);
        }
        if self.alias {
            return Err(HandshakeError::IdentityAlias);
        }
        if self.nominated {
            return Err(HandshakeError::IdentityNominated);
        }
        let id = self.id.ok_or(HandshakeError::IdentityMissing)?;
        Identity::new(id, self.email.unwrap_or_default(), self.name.unwrap_or_default())
    }
}

/// Whether `name` is `wanted` but for its separators: `User_ID`, `user.id`, `User!ID`. Traefik passes such a
/// header from the client (CVE-2026-54763, CVE-2026-88011), and CGI-like servers take it for the real one.
fn is_alias(name: &str, wanted: &str) -> bool {
    name.len() == wanted.len()
        && name.bytes().zip(wanted.bytes()).all(|(a, b)| {
            a.eq_ignore_ascii_case(&b) || !(a.is_ascii_alphanumeric() || b.is_ascii_alphanumeric())
        })
}

/// The id as text, if it is one. The charset leaves out the comma, so that two joined values fail, and
/// braces, so that a gateway's unexpanded placeholder does (caddy#6610).
fn check_id(id: &[u8]) -> Result<&str, HandshakeError> {
    if id.is_empty() {
        return Err(HandshakeError::IdentityMissing);
    }
    let is_valid = id.len() <= Identity::MAX_ID
        && id.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"._:@+=/|-".contains(&byte));
    let text = std::str::from_utf8(id).ok().filter(|_| is_valid);
    text.ok_or(HandshakeError::IdentityInvalid)
}

/// Appends a display value: UTF-8 as nearly everyone sends it, else Latin-1, in which every byte is a
/// character; without control characters and outer spaces; cut at [`Identity::MAX_DISPLAY`]. A name that is
/// odd must not cost the user the connection.
fn push_display(text: &mut String, value: &[u8]) {
    let printable: String = match std::str::from_utf8(value) {
        Ok(value) => value.chars().filter(|c| !c.is_control()).collect(),
        Err(_) => value.iter().map(|&byte| char::from(byte)).filter(|c| !c.is_control()).collect(),
    };
    let trimmed = printable.trim_matches(' ');
    let cut = trimmed.floor_char_boundary(Identity::MAX_DISPLAY);
    text.push_str(trimmed.get(..cut).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(headers: &[(&str, &[u8])], options: &[&[u8]]) -> Result<Identity, HandshakeError> {
        let names = IdentityHeaders::default();
        let mut claims = Claims::default();
        headers.iter().for_each(|(name, value)| claims.see_header(&names, name, value));
        options.iter().for_each(|option| claims.see_connection_option(&names, option));
        claims.judge()
    }

    #[test]
    fn an_identity_is_the_three_headers_in_any_case() {
        let user = judge(
            &[("user-id", b"123"), ("USER-NAME", b"John Doe"), ("User-Email", b"john@example.com")],
            &[],
        )
        .expect("an identity");
        assert_eq!(
            (user.id(), user.name(), user.email()),
            ("123", Some("John Doe"), Some("john@example.com"))
        );
        let user = judge(&[("User-Id", b"u-1")], &[]).expect("an identity");
        assert_eq!((user.id(), user.name(), user.email()), ("u-1", None, None));
        let user = judge(&[("User-Id", b"u-1"), ("User-Name", b"Ann")], &[]).expect("an identity");
        assert_eq!((user.id(), user.name(), user.email()), ("u-1", Some("Ann"), None));
    }

    #[test]
    fn an_id_is_one_to_255_bytes_of_its_charset() {
        #[track_caller]
        fn check(id: &[u8], verdict: Result<(), HandshakeError>) {
            assert_eq!(
                judge(&[("User-ID", id)], &[]).map(drop),
                verdict,
                "{:?}",
                id.escape_ascii().to_string()
            );
        }
        check(b"", Err(HandshakeError::IdentityMissing));
        check(b"A-Za-z09._:@+=/|", Ok(()));
        check(&[b'x'; 255], Ok(()));
        check(&[b'x'; 256], Err(HandshakeError::IdentityInvalid));
        for byte in 0..=255u8 {
            let is_id = byte.is_ascii_alphanumeric() || b"._:@+=/|-".contains(&byte);
            let verdict = if is_id { Ok(()) } else { Err(HandshakeError::IdentityInvalid) };
            check(&[b'a', byte], verdict);
        }
        check(b"{http.reverse_proxy.header.User-Id}", Err(HandshakeError::IdentityInvalid));
        check(b"1,2", Err(HandshakeError::IdentityInvalid));
    }

    #[test]
    fn a_missing_id_is_told_from_a_bad_one() {
        assert_eq!(judge(&[("User-Name", b"Ann")], &[]).map(drop), Err(HandshakeError::IdentityMissing));
    }

    #[test]
    fn each_header_may_stand_there_once() {
        for name in ["User-ID", "User-Email", "User-Name"] {
            let headers = [("User-ID", &b"1"[..]), (name, b"1"), (name, b"1")];
            assert_eq!(judge(&headers, &[]).map(drop), Err(HandshakeError::IdentityTwice), "{name}");
        }
    }

    #[test]
    fn any_other_separator_makes_an_alias() {
        for separator in "!#$%&'*+.^_`|~".chars() {
            for name in ["User-ID", "User-Email", "User-Name"] {
                let alias = name.replace('-', &separator.to_string()).to_lowercase();
                let headers = [("User-ID", &b"1"[..]), (&alias, b"2")];
                assert_eq!(judge(&headers, &[]).map(drop), Err(HandshakeError::IdentityAlias), "{alias}");
            }
        }
        for other in ["UserID", "User--ID", "User-IDs", "XUser-ID", "User-I_", "Userx1d"] {
            assert!(judge(&[("User-ID", b"1"), (other, b"2")], &[]).is_ok(), "{other}");
        }
    }

    #[test]
    fn connection_must_not_nominate_one() {
        for option in [&b"User-ID"[..], b"user-email", b"USER-NAME"] {
            let verdict = judge(&[("User-ID", b"1")], &[b"Upgrade", option]).map(drop);
            assert_eq!(verdict, Err(HandshakeError::IdentityNominated));
        }
        assert!(judge(&[("User-ID", b"1")], &[b"Upgrade", b"keep-alive", b"User"]).is_ok());
    }

    #[track_caller]
    fn check_name(value: &[u8], name: Option<&str>) {
        let user = judge(&[("User-ID", b"1"), ("User-Name", value)], &[])
            .expect("a bad name never breaks a handshake");
        assert_eq!(user.name(), name);
        let user = judge(&[("User-ID", b"1"), ("User-Email", value)], &[]).expect("nor does a bad address");
        assert_eq!(user.email(), name);
    }

    #[test]
    fn names_are_utf8_else_latin1() {
        check_name("Renée 李 Дима 😀".as_bytes(), Some("Renée 李 Дима 😀"));
        check_name(b"Ren\xe9e", Some("Renée"));
        check_name(b"100%25", Some("100%25"));
        check_name(b"", None);
    }

    #[test]
    fn names_lose_control_characters_and_outer_spaces() {
        check_name(b"  A\tn\x01n\x7f ", Some("Ann"));
        check_name("\u{85}A\u{9b}n\u{0}n \u{1b}".as_bytes(), Some("Ann"));
        check_name(b"\t \x01", None);
    }

    #[test]
    fn names_are_cut_between_characters() {
        check_name("x".repeat(256).as_bytes(), Some(&"x".repeat(256)));
        check_name("x".repeat(257).as_bytes(), Some(&"x".repeat(256)));
        check_name(("x".repeat(255) + "é").as_bytes(), Some(&"x".repeat(255)));
        check_name(&[0xe9; 300], Some(&"é".repeat(128)));
    }
}
