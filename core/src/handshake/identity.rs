//! Whom the gateway vouched for, and the rules that keep anyone else from saying so.

use std::fmt;

use super::client::Client;
use super::config::IdentityHeaders;
use super::error::HandshakeError;
use super::request_id::RequestId;

/// An admitted user. All in one allocation, because each connection keeps one.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The id, the e-mail address, the name, the session's id, the digits of the expiry, up to three lines with a line feed
    /// before each (the client, the origin, the subprotocol), and the request's id, one after the other.
    text: Box<str>,
    /// Where the id ends: 1 to 255.
    id_end: u8,
    /// How long the request's id is.
    request_id_len: u8,
    /// Where the e-mail address ends: at `id_end` if there is none, and so with the others.
    email_end: u16,
    /// Where the name ends.
    name_end: u16,
    /// Where the session's id ends; what follows, up to the request's id, is the expiry and the lines.
    session_id_end: u16,
}

impl Identity {
    /// The longest user id and the longest session id, in bytes.
    pub const MAX_ID: usize = 255;
    /// The longest e-mail address and the longest name, in bytes of UTF-8. Longer ones are cut.
    pub const MAX_DISPLAY: usize = 256;
    /// The most digits of an expiry in seconds: enough for 3000 years, too few for milliseconds, which would
    /// otherwise be taken for a token that never ends.
    pub const MAX_EXP_DIGITS: usize = 11;
    /// The longest origin and the longest subprotocol that are kept, in bytes: more than a scheme, the longest name of a
    /// host and a port.
    pub const MAX_ORIGIN: usize = 300;
    /// The latest expiry of that many digits.
    pub(super) const MAX_EXP: u64 = 99_999_999_999;

    /// Makes an identity from values as a gateway sends them, by the rules of this module: the id strict,
    /// the others lenient.
    ///
    /// # Errors
    /// [`HandshakeError::IdentityMissing`] for an empty id, [`HandshakeError::IdentityInvalid`] for one
    /// over 255 bytes or with other bytes than `A-Z a-z 0-9 . _ : @ + = / | -`.
    pub fn new(id: &[u8], email: &[u8], name: &[u8]) -> Result<Identity, HandshakeError> {
        Identity::of_session(id, email, name, None, None)
    }

    /// The same with what is known of the session: its id, by the rules of a user id, and the end of its token,
    /// in decimal digits, in seconds since 1970. What is not said is `None`; what is said must be good.
    ///
    /// # Errors
    /// Those of [`Identity::new`]; [`HandshakeError::SessionIdInvalid`], also for an empty one;
    /// [`HandshakeError::TokenExpInvalid`] for anything but 1 to 11 digits.
    pub fn of_session(
        id: &[u8],
        email: &[u8],
        name: &[u8],
        session_id: Option<&[u8]>,
        token_exp: Option<&[u8]>,
    ) -> Result<Identity, HandshakeError> {
        // All that is kept is shorter than 2^16 bytes; an offset that did not fit would drop what is behind it.
        let end = |text: &String| u16::try_from(text.len()).unwrap_or(u16::MAX);
        let session_id_len = session_id.map_or(0, <[u8]>::len);
        let room = id.len() + email.len() + name.len() + session_id_len + Identity::MAX_EXP_DIGITS;
        let mut text = String::with_capacity(room);
        text.push_str(check_id(id)?);
        // Checked: at most 255.
        let id_end = text.len() as u8;
        push_display(&mut text, email);
        let email_end = end(&text);
        push_display(&mut text, name);
        let name_end = end(&text);
        if let Some(session_id) = session_id {
            text.push_str(check_id(session_id).map_err(|_| HandshakeError::SessionIdInvalid)?);
        }
        let session_id_end = end(&text);
        if let Some(token_exp) = token_exp {
            text.push_str(check_exp(token_exp)?);
        }
        let text = text.into_boxed_str();
        Ok(Identity { text, id_end, request_id_len: 0, email_end, name_end, session_id_end })
    }

    /// The same with the id that the gateway gave to the user's request; it is for the log. One that is longer than
    /// [`RequestId::MAX`] is left out.
    pub fn with_request_id(self, request_id: Option<&str>) -> Identity {
        self.with_request(request_id, None)
    }

    /// The same with what is known of the user's request: the id that the gateway gave to it, and the client as the
    /// gateway says it.
    pub fn with_request(self, request_id: Option<&str>, client: Option<Client<'_>>) -> Identity {
        let request_id = request_id.filter(|id| id.len() <= RequestId::MAX);
        let client = client.map(|client| client.to_string());
        self.with_lines(request_id, [client.as_deref(), self.origin(), self.subprotocol()])
    }

    /// The same with the `Origin` of the page that opened the connection, and the subprotocol that was answered; they are
    /// for operators. One that is longer than [`Identity::MAX_ORIGIN`] is left out.
    pub fn with_page(self, origin: Option<&str>, subprotocol: Option<&str>) -> Identity {
        let is_kept = |text: &&str| text.len() <= Identity::MAX_ORIGIN && !text.contains(BEFORE_LINE);
        let lines = [self.client(), origin.filter(is_kept), subprotocol.filter(is_kept)];
        self.with_lines(self.request_id(), lines)
    }

    /// The same with another id of the request, and other lines after the expiry.
    fn with_lines(&self, request_id: Option<&str>, lines: [Option<&str>; 3]) -> Identity {
        let request_id = request_id.unwrap_or_default();
        let known = usize::from(self.session_id_end) + self.expiry().len();
        let known = self.text.get(..known).unwrap_or_default();
        let count = lines.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        let lines = || lines.iter().take(count).map(|line| line.unwrap_or_default());
        let room = lines().map(|line| BEFORE_LINE.len_utf8() + line.len()).sum::<usize>();
        let mut text = String::with_capacity(known.len() + room + request_id.len());
        text.push_str(known);
        for line in lines() {
            text.push(BEFORE_LINE);
            text.push_str(line);
        }
        text.push_str(request_id);
        // At most 128.
        let request_id_len = request_id.len() as u8;
        let Identity { id_end, email_end, name_end, session_id_end, .. } = *self;
        Identity { text: text.into_boxed_str(), id_end, request_id_len, email_end, name_end, session_id_end }
    }

    /// The user id: an opaque string, compared byte by byte and never parsed.
    pub fn id(&self) -> &str {
        self.text.get(..usize::from(self.id_end)).unwrap_or_default()
    }

    /// The id that the gateway gave to the user's request.
    pub fn request_id(&self) -> Option<&str> {
        self.text.get(self.request_id_start()..).filter(|id| !id.is_empty())
    }

    /// The client as the gateway says it: the text of a [`Client`]. For the log and for operators. Says nothing about
    /// rights.
    pub fn client(&self) -> Option<&str> {
        self.line(1)
    }

    /// The origin of the page that opened the connection, if the client sent one. For operators.
    pub fn origin(&self) -> Option<&str> {
        self.line(2)
    }

    /// The subprotocol that was answered. For operators.
    pub fn subprotocol(&self) -> Option<&str> {
        self.line(3)
    }

    /// The e-mail address, for the log. Says nothing about rights.
    pub fn email(&self) -> Option<&str> {
        self.part(self.id_end.into(), self.email_end)
    }

    /// The display name, for the log. Says nothing about rights.
    pub fn name(&self) -> Option<&str> {
        self.part(self.email_end, self.name_end)
    }

    /// The id of the session, an opaque string like that of the user.
    pub fn session_id(&self) -> Option<&str> {
        self.part(self.name_end, self.session_id_end)
    }

    /// When the user's token ends, in seconds since 1970. `None` if nobody said so, which is not "never".
    pub fn token_exp(&self) -> Option<u64> {
        self.expiry().parse().ok()
    }

    /// The digits of the expiry; empty if there is none.
    fn expiry(&self) -> &str {
        self.line(0).unwrap_or_default()
    }

    /// A line of what stands between the session's id and the request's: the expiry, the client, the origin, the
    /// subprotocol.
    fn line(&self, index: usize) -> Option<&str> {
        let text = self.text.get(usize::from(self.session_id_end)..self.request_id_start())?;
        text.split(BEFORE_LINE).nth(index).filter(|line| !line.is_empty())
    }

    fn request_id_start(&self) -> usize {
        self.text.len() - usize::from(self.request_id_len)
    }

    fn part(&self, start: u16, end: u16) -> Option<&str> {
        self.text.get(usize::from(start)..usize::from(end)).filter(|part| !part.is_empty())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Identity");
        out.field("id", &self.id())
            .field("email", &self.email())
            .field("name", &self.name())
            .field("session_id", &self.session_id())
            .field("token_exp", &self.token_exp())
            .field("request_id", &self.request_id());
        // Few requests have these.
        let lines =
            [("client", self.client()), ("origin", self.origin()), ("subprotocol", self.subprotocol())];
        for (name, line) in lines {
            if let Some(line) = line {
                out.field(name, &line);
            }
        }
        out.finish()
    }
}

/// Stands before the client, the origin and the subprotocol in the text of an identity. None of them has one.
const BEFORE_LINE: char = '\n';

/// The identity headers of one request, gathered in a single pass over its lines and judged afterwards.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claims<'h> {
    id: Option<&'h [u8]>,
    email: Option<&'h [u8]>,
    name: Option<&'h [u8]>,
    session_id: Option<&'h [u8]>,
    token_exp: Option<&'h [u8]>,
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
        let fields = [
            (&names.id, &mut self.id),
            (&names.email, &mut self.email),
            (&names.name, &mut self.name),
            (&names.session_id, &mut self.session_id),
            (&names.token_exp, &mut self.token_exp),
        ];
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
        let names = [&names.id, &names.email, &names.name, &names.session_id, &names.token_exp];
        // An empty item of the list is not the name of a header that is not read.
        self.nominated |=
            !option.is_empty() && names.iter().any(|name| option.eq_ignore_ascii_case(name.as_bytes()));
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
        let (email, name) = (self.email.unwrap_or_default(), self.name.unwrap_or_default());
        Identity::of_session(id, email, name, self.session_id, self.token_exp)
    }
}

/// Whether `name` is `wanted` but for its separators: `User_ID`, `user.id`, `User!ID`. Traefik passes such a
/// header from the client (CVE-2026-54763, CVE-2026-88011), and CGI-like servers take it for the real one.
pub(super) fn is_alias(name: &str, wanted: &str) -> bool {
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
    let is_valid = id.len() <= Identity::MAX_ID && is_opaque(id);
    let text = std::str::from_utf8(id).ok().filter(|_| is_valid);
    text.ok_or(HandshakeError::IdentityInvalid)
}

/// Whether this is at least one byte, and all of them may stand in an id: nothing that a log or a list could take for
/// something else.
pub(super) fn is_opaque(id: &[u8]) -> bool {
    !id.is_empty() && id.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"._:@+=/|-".contains(&byte))
}

/// The expiry as text, if it is a number of seconds and nothing else.
fn check_exp(exp: &[u8]) -> Result<&str, HandshakeError> {
    let is_valid = (1..=Identity::MAX_EXP_DIGITS).contains(&exp.len()) && exp.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(exp).ok().filter(|_| is_valid).ok_or(HandshakeError::TokenExpInvalid)
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

    const NAMES: [&str; 5] = ["User-ID", "User-Email", "User-Name", "User-Session-ID", "User-Token-Exp"];

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
    fn a_session_has_an_id_and_an_end_if_they_are_said() {
        let user =
            judge(&[("user-session-id", b"s-7"), ("User-Token-Exp", b"1800000000"), ("User-ID", b"1")], &[])
                .expect("an identity");
        assert_eq!((user.session_id(), user.token_exp()), (Some("s-7"), Some(1_800_000_000)));
        assert_eq!((user.id(), user.email(), user.name()), ("1", None, None));
        let user = Identity::of_session(b"1", b"a@b", b"Ann", None, Some(b"0")).expect("an identity");
        assert_eq!((user.session_id(), user.token_exp()), (None, Some(0)));
        assert_eq!((user.email(), user.name()), (Some("a@b"), Some("Ann")));
        let user = Identity::of_session(b"1", b"", b"", Some(b"7"), None).expect("an identity");
        assert_eq!((user.session_id(), user.token_exp()), (Some("7"), None));
        let long = [b'x'; 400];
        let user = Identity::of_session(&long[..255], &long, &long, Some(&long[..255]), Some(b"99999999999"));
        let user = user.expect("an identity");
        assert_eq!(user.session_id().map(str::len), Some(255));
        assert_eq!(user.token_exp(), Some(99_999_999_999));
    }

    #[test]
    fn the_id_of_the_request_is_kept_beside_all_else() {
        let user = Identity::of_session(b"1", b"a@b", b"Ann", Some(b"s"), Some(b"12")).expect("an identity");
        let user = user.with_request_id(Some("r-1"));
        assert_eq!(
            (user.request_id(), user.token_exp(), user.session_id()),
            (Some("r-1"), Some(12), Some("s"))
        );
        let user = user.with_request_id(None);
        assert_eq!((user.request_id(), user.token_exp(), user.name()), (None, Some(12), Some("Ann")));
        let longest = "x".repeat(RequestId::MAX);
        let user = user.with_request_id(Some(&longest));
        assert_eq!((user.request_id(), user.token_exp()), (Some(&longest[..]), Some(12)));
        assert_eq!(user.with_request_id(Some(&(longest + "x"))).request_id(), None);
    }

    #[test]
    fn the_page_and_the_subprotocol_are_kept_with_all_else() {
        let client = Some(Client::Obfuscated("_x"));
        let (page, chat) = (Some("https://app.example.com"), Some("chat"));
        for (request_id, client) in [(None, None), (Some("r-1"), None), (None, client), (Some("r-1"), client)]
        {
            let user =
                Identity::new(b"1", b"a@b", b"Ann").expect("an identity").with_request(request_id, client);
            for (origin, subprotocol) in [(None, None), (page, None), (None, chat), (page, chat)] {
                let known = user.clone().with_page(origin, subprotocol);
                assert_eq!((known.origin(), known.subprotocol()), (origin, subprotocol));
                assert_eq!((known.request_id(), known.client()), (user.request_id(), user.client()));
                assert_eq!((known.id(), known.name(), known.token_exp()), ("1", Some("Ann"), None));
                // Each can be replaced without the others.
                let other = known.with_request(Some("r-2"), None);
                assert_eq!((other.origin(), other.subprotocol()), (origin, subprotocol));
                assert_eq!((other.request_id(), other.client()), (Some("r-2"), None));
                assert_eq!(other.with_page(None, None).with_request(request_id, client), user);
            }
        }
        let long = "x".repeat(Identity::MAX_ORIGIN + 1);
        let user = Identity::new(b"1", b"", b"").expect("an identity");
        assert_eq!(user.clone().with_page(Some(&long), Some(&long)), user);
        assert_eq!(user.clone().with_page(Some("https://a\nb"), None), user);
        assert_eq!(user.with_page(Some(&long[1..]), None).origin(), Some(&long[1..]));
    }

    #[test]
    fn the_client_is_kept_if_it_is_known() {
        let client = Some(Client::Address("2001:db8::17".parse().expect("an address")));
        for exp in [None, Some(&b"12"[..])] {
            let user = || Identity::of_session(b"1", b"a@b", b"Ann", Some(b"s"), exp).expect("an identity");
            assert_eq!(user().client(), None);
            for request_id in [None, Some("r-1")] {
                let known = user().with_request(request_id, client);
                assert_eq!((known.client(), known.request_id()), (Some("2001:db8::17"), request_id));
                assert_eq!((known.token_exp(), known.session_id()), (exp.map(|_| 12), Some("s")));
                let other = known.with_request(Some("r-2"), Some(Client::Obfuscated("_x")));
                assert_eq!((other.client(), other.request_id()), (Some("_x"), Some("r-2")));
                assert_eq!(other.with_request(None, None), user());
            }
        }
    }

    #[test]
    fn it_is_small() {
        assert!(size_of::<Identity>() <= 24);
    }

    #[test]
    fn a_bad_session_id_breaks_a_handshake() {
        for bad in [&b""[..], b" ", b"1,2", b"{http.x}", b"\xe9", &[b'x'; 256]] {
            let verdict = judge(&[("User-ID", b"1"), ("User-Session-ID", bad)], &[]).map(drop);
            assert_eq!(verdict, Err(HandshakeError::SessionIdInvalid), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn an_expiry_is_a_number_of_seconds_or_breaks_the_handshake() {
        for bad in [
            &b""[..],
            b"never",
            b"-1",
            b"+1",
            b"1.5",
            b"1e9",
            b" 1",
            b"1 ",
            b"0x7",
            b"1,2",
            b"1800000000000",
            b"999999999999",
            b"\xd9\xa1",
        ] {
            let verdict = judge(&[("User-ID", b"1"), ("User-Token-Exp", bad)], &[]).map(drop);
            assert_eq!(verdict, Err(HandshakeError::TokenExpInvalid), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn a_header_without_a_name_is_not_read() {
        let names = IdentityHeaders { session_id: String::new(), ..IdentityHeaders::default() };
        let mut claims = Claims::default();
        claims.see_header(&names, "User-ID", b"1");
        claims.see_header(&names, "User-Session-ID", b"{}");
        claims.see_connection_option(&names, b"");
        assert_eq!(claims.judge().expect("an identity").session_id(), None);
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
        for name in NAMES {
            let headers = [("User-ID", &b"1"[..]), (name, b"1"), (name, b"1")];
            assert_eq!(judge(&headers, &[]).map(drop), Err(HandshakeError::IdentityTwice), "{name}");
        }
    }

    #[test]
    fn any_other_separator_makes_an_alias() {
        for separator in "!#$%&'*+.^_`|~".chars() {
            for name in NAMES {
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
        for name in NAMES {
            for option in [name.to_owned(), name.to_lowercase(), name.to_uppercase()] {
                let verdict = judge(&[("User-ID", b"1")], &[b"Upgrade", option.as_bytes()]).map(drop);
                assert_eq!(verdict, Err(HandshakeError::IdentityNominated), "{option}");
            }
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
