//! Whom the gateway vouched for, and the rules that keep anyone else from saying so.

use std::fmt;

use super::client::Client;
use super::config::IdentityHeaders;
use super::display::{NameEncoding, push_display};
use super::error::HandshakeError;
use super::opaque::IdCharset;
use super::request_id::RequestId;
use super::single_header::SingleHeader;

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

    /// Makes an identity of a user's id, e-mail address and name, by the default rules: see
    /// [`IdentityRules::identity`].
    ///
    /// # Errors
    /// [`HandshakeError::IdentityMissing`] for an empty id, [`HandshakeError::IdentityInvalid`] for one that is longer than
    /// 255 bytes, not UTF-8, or not of [`IdCharset::Opaque`].
    pub fn new(id: &[u8], email: &[u8], name: &[u8]) -> Result<Identity, HandshakeError> {
        IdentityRules::default().identity(&IdentityValues { id, email, name, ..IdentityValues::default() })
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
    #[inline]
    pub fn id(&self) -> &str {
        self.text.get(..usize::from(self.id_end)).unwrap_or_default()
    }

    /// The id that the gateway gave to the user's request.
    #[inline]
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
    #[inline]
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

    #[inline]
    fn request_id_start(&self) -> usize {
        self.text.len() - usize::from(self.request_id_len)
    }

    #[inline]
    fn part(&self, start: u16, end: u16) -> Option<&str> {
        self.text.get(usize::from(start)..usize::from(end)).filter(|part| !part.is_empty())
    }
}

/// What a gateway, or a token that it passes on, says about a user. An empty value is the same as none: many gateways
/// cannot leave a header out.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct IdentityValues<'a> {
    /// The user's id. Required.
    pub id: &'a [u8],
    /// The e-mail address.
    pub email: &'a [u8],
    /// The display name.
    pub name: &'a [u8],
    /// The session's id.
    pub session_id: &'a [u8],
    /// The end of the token, in decimal digits, in seconds since 1970.
    pub token_exp: &'a [u8],
}

/// By which rules values become an [`Identity`]: what the settings say about it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct IdentityRules {
    /// Which characters the id of a user or of a session may have. Default [`IdCharset::Opaque`].
    pub ids: IdCharset,
    /// How names and e-mail addresses are read. Default [`NameEncoding::Auto`].
    pub names: NameEncoding,
}

impl IdentityRules {
    /// Makes an identity of these values. Ids and the expiry must be right; whatever is wrong with a name or an e-mail
    /// address, they become some text.
    ///
    /// # Errors
    /// [`HandshakeError::IdentityMissing`] for an empty id; [`HandshakeError::IdentityInvalid`] for an id,
    /// [`HandshakeError::SessionIdInvalid`] for a session's id that is longer than 255 bytes, not UTF-8, or not of
    /// [`IdentityRules::ids`]; [`HandshakeError::TokenExpInvalid`] for anything but 1 to 11 digits.
    pub fn identity(&self, values: &IdentityValues<'_>) -> Result<Identity, HandshakeError> {
        let IdentityValues { id, email, name, session_id, token_exp } = *values;
        if id.is_empty() {
            return Err(HandshakeError::IdentityMissing);
        }
        let id = self.check_id(id).ok_or(HandshakeError::IdentityInvalid)?;
        let session_id = self.check_id(session_id).ok_or(HandshakeError::SessionIdInvalid)?;
        let token_exp = check_exp(token_exp).ok_or(HandshakeError::TokenExpInvalid)?;
        // All that is kept is shorter than 2^16 bytes; an offset that did not fit would drop what follows it.
        let end = |text: &String| u16::try_from(text.len()).unwrap_or(u16::MAX);
        let mut text =
            String::with_capacity(id.len() + email.len() + name.len() + session_id.len() + token_exp.len());
        text.push_str(id);
        // Checked: at most 255.
        let id_end = text.len() as u8;
        push_display(&mut text, email, self.names);
        let email_end = end(&text);
        push_display(&mut text, name, self.names);
        let name_end = end(&text);
        text.push_str(session_id);
        let session_id_end = end(&text);
        text.push_str(token_exp);
        let text = text.into_boxed_str();
        Ok(Identity { text, id_end, request_id_len: 0, email_end, name_end, session_id_end })
    }

    /// The id as text, if it can be one, or is empty.
    fn check_id<'a>(&self, id: &'a [u8]) -> Option<&'a str> {
        let text = std::str::from_utf8(id).ok()?;
        (text.len() <= Identity::MAX_ID && self.ids.admits(text)).then_some(text)
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

/// The identity headers of one request, gathered in a single pass over its lines.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct IdentityHeaderValues<'h> {
    id: SingleHeader<'h>,
    email: SingleHeader<'h>,
    name: SingleHeader<'h>,
    session_id: SingleHeader<'h>,
    token_exp: SingleHeader<'h>,
}

impl<'h> IdentityHeaderValues<'h> {
    /// Takes one line of the request.
    pub(super) fn add_line(&mut self, names: &IdentityHeaders, name: &str, value: &'h [u8]) {
        self.each(names, |header, wanted| header.add_line(wanted, name, value));
    }

    /// Takes an item of `Connection`.
    pub(super) fn add_connection_option(&mut self, names: &IdentityHeaders, option: &[u8]) {
        self.each(names, |header, wanted| header.add_connection_option(wanted, option));
    }

    #[inline]
    fn each(&mut self, names: &IdentityHeaders, mut add: impl FnMut(&mut SingleHeader<'h>, &str)) {
        add(&mut self.id, &names.id);
        add(&mut self.email, &names.email);
        add(&mut self.name, &names.name);
        add(&mut self.session_id, &names.session_id);
        add(&mut self.token_exp, &names.token_exp);
    }

    /// The identity, if none of the headers has a fault.
    pub(super) fn identity(&self, rules: &IdentityRules) -> Result<Identity, HandshakeError> {
        let headers = [self.id, self.email, self.name, self.session_id, self.token_exp];
        if let Some(fault) = headers.iter().filter_map(SingleHeader::fault).min() {
            return Err(fault.into());
        }
        let [id, email, name, session_id, token_exp] =
            headers.map(|header| header.exactly_one().unwrap_or_default().trim_ascii());
        rules.identity(&IdentityValues { id, email, name, session_id, token_exp })
    }
}

/// The expiry as text, if it is a number of seconds and nothing else, or empty.
fn check_exp(exp: &[u8]) -> Option<&str> {
    let is_valid = exp.len() <= Identity::MAX_EXP_DIGITS && exp.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(exp).ok().filter(|_| is_valid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(headers: &[(&str, &[u8])], options: &[&[u8]]) -> Result<Identity, HandshakeError> {
        let names = IdentityHeaders::default();
        let mut values = IdentityHeaderValues::default();
        headers.iter().for_each(|(name, value)| values.add_line(&names, name, value));
        options.iter().for_each(|option| values.add_connection_option(&names, option));
        values.identity(&IdentityRules::default())
    }

    /// An identity of an id, an e-mail address, a name, a session and an expiry.
    fn identity([id, email, name, session_id, token_exp]: [&[u8]; 5]) -> Identity {
        let values = IdentityValues { id, email, name, session_id, token_exp };
        IdentityRules::default().identity(&values).expect("an identity")
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
        let user = identity([b"1", b"a@b", b"Ann", b"", b"0"]);
        assert_eq!((user.session_id(), user.token_exp()), (None, Some(0)));
        assert_eq!((user.email(), user.name()), (Some("a@b"), Some("Ann")));
        let user = identity([b"1", b"", b"", b"7", b""]);
        assert_eq!((user.session_id(), user.token_exp()), (Some("7"), None));
        let long = [b'x'; 400];
        let user = identity([&long[..255], &long, &long, &long[..255], b"99999999999"]);
        assert_eq!(user.session_id().map(str::len), Some(255));
        assert_eq!(user.token_exp(), Some(99_999_999_999));
    }

    #[test]
    fn the_id_of_the_request_is_kept_beside_all_else() {
        let user = identity([b"1", b"a@b", b"Ann", b"s", b"12"]);
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
            let user = || identity([b"1", b"a@b", b"Ann", b"s", exp.unwrap_or_default()]);
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
        for bad in [&b"1,2"[..], b"1 2", b"{http.x}", b"\xe9", &[b'x'; 256]] {
            let verdict = judge(&[("User-ID", b"1"), ("User-Session-ID", bad)], &[]).map(drop);
            assert_eq!(verdict, Err(HandshakeError::SessionIdInvalid), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn an_expiry_is_a_number_of_seconds_or_breaks_the_handshake() {
        for bad in [
            &b"never"[..],
            b"-1",
            b"+1",
            b"1.5",
            b"1e9",
            b"1 2",
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
        let mut values = IdentityHeaderValues::default();
        values.add_line(&names, "User-ID", b"1");
        values.add_line(&names, "User-Session-ID", b"{}");
        values.add_connection_option(&names, b"");
        assert_eq!(values.identity(&IdentityRules::default()).expect("an identity").session_id(), None);
    }

    #[test]
    fn an_empty_header_is_an_absent_one() {
        for empty in [&b""[..], b" ", b"\t", b" \t "] {
            let headers = NAMES.map(|name| (name, if name == "User-ID" { b"1" } else { empty }));
            assert_eq!(judge(&headers, &[]), judge(&headers[..1], &[]), "{}", empty.escape_ascii());
            let verdict = judge(&[("User-ID", empty), ("User-Name", b"Ann")], &[]).map(drop);
            assert_eq!(verdict, Err(HandshakeError::IdentityMissing), "{}", empty.escape_ascii());
            // Two lines are two lines.
            for name in NAMES {
                for lines in [[(name, &b"1"[..]), (name, empty)], [(name, empty), (name, &b"1"[..])]] {
                    let verdict = judge(&lines, &[]).map(drop);
                    assert_eq!(verdict, Err(HandshakeError::IdentityTwice), "{name}");
                }
            }
        }
    }

    #[test]
    fn an_id_is_1_to_255_bytes_of_utf8() {
        #[track_caller]
        fn check(id: &[u8], verdict: Result<(), HandshakeError>) {
            let case = id.escape_ascii().to_string();
            assert_eq!(judge(&[("User-ID", id)], &[]).map(drop), verdict, "{case}");
            let session = [("User-ID", &b"1"[..]), ("User-Session-ID", id)];
            let verdict = match verdict {
                Err(HandshakeError::IdentityInvalid) => Err(HandshakeError::SessionIdInvalid),
                // There need not be one.
                _ => Ok(()),
            };
            assert_eq!(judge(&session, &[]).map(drop), verdict, "{case} of a session");
        }
        check(b"", Err(HandshakeError::IdentityMissing));
        check(b"A-Za-z09._:@+=/|", Ok(()));
        check(&[b'x'; 255], Ok(()));
        check(&[b'x'; 256], Err(HandshakeError::IdentityInvalid));
        check("é".repeat(127).as_bytes(), Ok(()));
        check("é".repeat(128).as_bytes(), Err(HandshakeError::IdentityInvalid));
        for byte in 0..=255u8 {
            let is_id = byte.is_ascii_graphic() && !b",{}$\"".contains(&byte);
            let verdict = if is_id { Ok(()) } else { Err(HandshakeError::IdentityInvalid) };
            check(&[b'a', byte, b'b'], verdict);
        }
        check(b"{http.reverse_proxy.header.User-Id}", Err(HandshakeError::IdentityInvalid));
        check(b"1,2", Err(HandshakeError::IdentityInvalid));
        check("o'brien%40例え".as_bytes(), Ok(()));
    }

    #[test]
    fn the_charset_is_that_of_the_rules() {
        let id = |ids, id: &[u8]| {
            let rules = IdentityRules { ids, ..IdentityRules::default() };
            let user = rules.identity(&IdentityValues { id, ..IdentityValues::default() });
            user.map(|user| user.id().to_owned())
        };
        assert_eq!(id(IdCharset::Strict, b"it's"), Err(HandshakeError::IdentityInvalid));
        assert_eq!(id(IdCharset::Opaque, b"it's"), Ok("it's".to_owned()));
        assert_eq!(id(IdCharset::Opaque, b"CN=A B,O=C"), Err(HandshakeError::IdentityInvalid));
        assert_eq!(id(IdCharset::Any, b"CN=A B,O=C"), Ok("CN=A B,O=C".to_owned()));
        assert_eq!(id(IdCharset::Any, b" a"), Err(HandshakeError::IdentityInvalid));
    }

    #[test]
    fn an_id_is_compared_byte_by_byte() {
        let spellings = ["%41", "A", "a", "é", "e\u{301}", "Ａ"];
        for a in spellings {
            for b in spellings {
                let same = identity([a.as_bytes(), b"", b"", b"", b""]).id() == b;
                assert_eq!(same, a == b, "{a} and {b}");
            }
        }
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
        check_name(b"100%", Some("100%"));
        check_name(b"Ren%C3%A9e", Some("Renée"));
        check_name(b"=?utf-8?q?Ren=C3=A9e?=", Some("Renée"));
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
