//! The token in a request, which the gateway has validated and passed on.

use super::query::Query;
use crate::bearer_token::BearerToken;
use crate::field::list;

/// The lines of a request that may contain a token.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct BearerLines<'h> {
    authorization: Option<&'h [u8]>,
    /// The cookie with the token.
    cookie: Option<&'h [u8]>,
    /// The subprotocol after the marker of a token.
    subprotocol: Option<&'h [u8]>,
}

impl<'h> BearerLines<'h> {
    /// Reads one line of the request.
    pub(super) fn add_line(&mut self, name: &str, value: &'h [u8]) {
        if name.eq_ignore_ascii_case("Authorization") {
            let value = value.trim_ascii();
            if let Some((scheme, token)) = value.split_at_checked(SCHEME.len())
                && scheme.eq_ignore_ascii_case(SCHEME)
            {
                self.authorization = self.authorization.or(Some(token.trim_ascii()));
            }
        } else if name.eq_ignore_ascii_case("Cookie") {
            let mut cookies = value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let found = cookies.find_map(|cookie| cookie.strip_prefix(COOKIE));
            self.cookie = self.cookie.or(found);
        } else if name.eq_ignore_ascii_case("Sec-WebSocket-Protocol") {
            let mut offers = list(value);
            let is_marker = |offer: &[u8]| MARKERS.iter().any(|marker| offer.eq_ignore_ascii_case(marker));
            if offers.any(is_marker) {
                self.subprotocol = self.subprotocol.or(offers.next());
            }
        }
    }

    /// Returns the token, from the first place that has one: `Authorization`, the cookie, the query, the subprotocols.
    pub(super) fn token(&self, query: Query<'h>) -> Option<BearerToken> {
        let in_query = || PARAMETERS.iter().find_map(|name| query.get(name)).map(str::as_bytes);
        let token = self.authorization.or(self.cookie).or_else(in_query).or(self.subprotocol)?;
        BearerToken::new(token).ok()
    }
}

const SCHEME: &[u8] = b"Bearer ";
const COOKIE: &[u8] = b"access_token=";
const PARAMETERS: [&str; 2] = ["token", "access_token"];
const MARKERS: [&[u8]; 2] = [b"bearer", b"access_token"];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &[(&str, &str)], target: &str, expected: Option<&str>) {
        let mut bearer = BearerLines::default();
        lines.iter().for_each(|(name, value)| bearer.add_line(name, value.as_bytes()));
        let found = bearer.token(Query::of(target));
        assert_eq!(
            found.as_ref().map(BearerToken::as_bytes),
            expected.map(str::as_bytes),
            "{lines:?} {target}"
        );
    }

    #[test]
    fn the_first_place_with_a_token_decides() {
        let authorization = ("authorization", "bearer  a.b");
        let cookie = ("Cookie", "theme=dark; access_token=c.d; x=y");
        let protocol = ("Sec-WebSocket-Protocol", "chat, Bearer, g.h");
        check(&[protocol, cookie, authorization], "/ws?token=e.f", Some("a.b"));
        check(&[protocol, cookie], "/ws?token=e.f", Some("c.d"));
        check(&[protocol], "/ws?x=1&token=e.f", Some("e.f"));
        check(&[protocol], "/ws?access_token=e.f", Some("e.f"));
        check(&[protocol], "/ws", Some("g.h"));
    }

    #[test]
    fn what_is_not_a_token_is_none() {
        check(&[], "/ws", None);
        check(&[("Authorization", "Basic am9objpwYXNz")], "/ws", None);
        check(&[("Authorization", "Bearer")], "/ws", None);
        check(&[("Authorization", "Bearer a b")], "/ws", None);
        check(&[("Cookie", "my_access_token=a")], "/ws", None);
        check(&[("Sec-WebSocket-Protocol", "bearer")], "/ws", None);
        check(&[("Sec-WebSocket-Protocol", "chat, a.b")], "/ws", None);
    }
}
