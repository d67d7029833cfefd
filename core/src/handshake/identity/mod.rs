//! The identity of a user, as the gateway sends it, and its rules.

mod headers;
mod rules;

#[cfg(test)]
mod tests;

pub(super) use headers::IdentityHeaderValues;
pub use headers::IdentityHeaders;
pub use rules::{IdentityRules, IdentityValues};

use std::fmt;

use super::client::Client;
use super::display::MAX_DISPLAY;
use super::error::HandshakeError;
use super::request_id::RequestId;

/// An admitted user. All in one allocation, because each connection keeps one.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The id, the e-mail address, the name, the session's id, the [token](TokenDetails), up to three lines with a line feed
    /// before each (the client, the origin, the subprotocol), and the request's id, one after the other.
    text: Box<str>,
    /// The end of the id: 1 to 255.
    id_end: u8,
    /// The length of the request's id.
    request_id_len: u8,
    /// The end of the e-mail address: `id_end` if there is none. The others are alike.
    email_end: u16,
    /// The end of the name.
    name_end: u16,
    /// The end of the session's id. The token and the lines follow, up to the request's id.
    session_id_end: u16,
}

/// The properties of a user's token that the gateway has validated. In the text of an [`Identity`] they are separated by spaces,
/// and absent ones are empty.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct TokenDetails<'a> {
    /// When it expires, in seconds since 1970. `None` means unknown, not "never".
    pub exp: Option<u64>,
    /// When it was issued, in seconds since 1970.
    pub issued_at: Option<u64>,
    /// Its id: the claim `jti`.
    pub id: Option<&'a str>,
}

impl Identity {
    /// The longest user id and the longest session id, in bytes.
    pub const MAX_ID: usize = 255;
    /// The longest e-mail address and the longest name, in bytes of UTF-8. Longer ones are cut.
    pub const MAX_DISPLAY: usize = MAX_DISPLAY;
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
    /// 255 bytes, not UTF-8, or not of [`IdCharset::Opaque`](super::IdCharset::Opaque).
    pub fn new(id: &[u8], email: &[u8], name: &[u8]) -> Result<Identity, HandshakeError> {
        IdentityRules::default().identity(&IdentityValues { id, email, name, ..IdentityValues::default() })
    }

    /// Returns this identity with the id that the gateway gave to the user's request; it is for the log. One that is
    /// longer than [`RequestId::MAX`] is left out.
    pub fn with_request_id(self, request_id: Option<&str>) -> Identity {
        self.with_request(request_id, None)
    }

    /// Returns this identity with the id that the gateway gave to the user's request, and with the client as the
    /// gateway identifies it.
    pub fn with_request(self, request_id: Option<&str>, client: Option<Client<'_>>) -> Identity {
        let request_id = request_id.filter(|id| id.len() <= RequestId::MAX);
        if request_id.is_none() && client.is_none() && self.request_id().is_none() && self.client().is_none()
        {
            return self;
        }
        let client = client.map(|client| client.to_string());
        self.with_lines(request_id, [client.as_deref(), self.origin(), self.subprotocol()])
    }

    /// Returns this identity with the `Origin` of the page that opened the connection, and the subprotocol that was
    /// answered; they are for operators. One that is longer than [`Identity::MAX_ORIGIN`] is left out.
    pub fn with_page(self, origin: Option<&str>, subprotocol: Option<&str>) -> Identity {
        let is_kept = |text: &&str| text.len() <= Identity::MAX_ORIGIN && !text.contains(BEFORE_LINE);
        let lines = [self.client(), origin.filter(is_kept), subprotocol.filter(is_kept)];
        self.with_lines(self.request_id(), lines)
    }

    /// Returns this identity with the id of the request, the client, the origin and the subprotocol. Those that are too long are
    /// left out.
    pub(crate) fn with_texts(
        &self,
        request_id: Option<&str>,
        [client, origin, subprotocol]: [Option<&str>; 3],
    ) -> Identity {
        let is_kept = |text: &&str| text.len() <= Identity::MAX_ORIGIN && !text.contains(BEFORE_LINE);
        let request_id = request_id.filter(|id| id.len() <= RequestId::MAX);
        self.with_lines(request_id, [client, origin, subprotocol].map(|text| text.filter(is_kept)))
    }

    /// Returns this identity with another expiry of the token, in seconds since 1970.
    pub(crate) fn with_token_exp(&self, exp: Option<u64>) -> Identity {
        self.with_token(TokenDetails { exp, ..self.token() })
    }

    /// Returns this identity with another token of the same user.
    pub fn with_token(&self, token: TokenDetails<'_>) -> Identity {
        let lines = [self.client(), self.origin(), self.subprotocol()];
        self.compose(&token.to_line(), self.request_id(), lines)
    }

    /// Returns this identity with another id of the request, and other lines after the token.
    fn with_lines(&self, request_id: Option<&str>, lines: [Option<&str>; 3]) -> Identity {
        self.compose(self.token_line(), request_id, lines)
    }

    fn compose(&self, token: &str, request_id: Option<&str>, lines: [Option<&str>; 3]) -> Identity {
        let request_id = request_id.unwrap_or_default();
        let known = self.text.get(..usize::from(self.session_id_end)).unwrap_or_default();
        let count = lines.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        let lines = || lines.iter().take(count).map(|line| line.unwrap_or_default());
        let room = lines().map(|line| BEFORE_LINE.len_utf8() + line.len()).sum::<usize>();
        let mut text = String::with_capacity(known.len() + token.len() + room + request_id.len());
        text.push_str(known);
        text.push_str(token);
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

    /// Returns the user id: an opaque string, compared byte by byte and never parsed.
    #[inline]
    pub fn id(&self) -> &str {
        self.text.get(..usize::from(self.id_end)).unwrap_or_default()
    }

    /// Returns the id that the gateway gave to the user's request.
    #[inline]
    pub fn request_id(&self) -> Option<&str> {
        self.text.get(self.request_id_start()..).filter(|id| !id.is_empty())
    }

    /// Returns the client as the gateway identifies it: the text of a [`Client`]. It is for the log and for operators,
    /// and grants no rights.
    pub fn client(&self) -> Option<&str> {
        self.line(1)
    }

    /// Returns the origin of the page that opened the connection, if the client sent one. For operators.
    pub fn origin(&self) -> Option<&str> {
        self.line(2)
    }

    /// Returns the subprotocol that was answered. For operators.
    pub fn subprotocol(&self) -> Option<&str> {
        self.line(3)
    }

    /// Returns the e-mail address, for the log. It grants no rights.
    pub fn email(&self) -> Option<&str> {
        self.part(self.id_end.into(), self.email_end)
    }

    /// Returns the display name, for the log. It grants no rights.
    #[inline]
    pub fn name(&self) -> Option<&str> {
        self.part(self.email_end, self.name_end)
    }

    /// Returns the id of the session, an opaque string like the id of the user.
    pub fn session_id(&self) -> Option<&str> {
        self.part(self.name_end, self.session_id_end)
    }

    /// Returns the time at which the user's token expires, in seconds since 1970. `None` means unknown, not "never".
    pub fn token_exp(&self) -> Option<u64> {
        self.token().exp
    }

    /// Returns the properties of the user's token.
    pub fn token(&self) -> TokenDetails<'_> {
        let mut parts = self.token_line().splitn(3, ' ');
        let exp = parts.next().and_then(|digits| digits.parse().ok());
        let issued_at = parts.next().and_then(|digits| digits.parse().ok());
        TokenDetails { exp, issued_at, id: parts.next() }
    }

    fn token_line(&self) -> &str {
        self.line(0).unwrap_or_default()
    }

    /// Returns a line between the session's id and the request's: the token, the client, the origin, the subprotocol.
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

impl TokenDetails<'_> {
    /// Returns the part of an identity's text.
    fn to_line(self) -> String {
        let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
        let TokenDetails { exp, issued_at, id } = self;
        token_line(&number(exp), &number(issued_at), id.unwrap_or_default())
    }
}

/// Returns the properties of a token as a part of an identity's text: up to three values, each after a space but the first.
fn token_line(exp: &str, issued_at: &str, id: &str) -> String {
    match (issued_at, id) {
        ("", "") => exp.to_owned(),
        (_, "") => format!("{exp} {issued_at}"),
        _ => format!("{exp} {issued_at} {id}"),
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
        let token = self.token();
        if let Some(id) = token.id {
            out.field("token_id", &id);
        }
        if let Some(issued_at) = token.issued_at {
            out.field("issued_at", &issued_at);
        }
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

/// Precedes the client, the origin and the subprotocol in the text of an identity. None of them has one.
const BEFORE_LINE: char = '\n';
