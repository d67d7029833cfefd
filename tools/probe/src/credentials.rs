//! The credentials of the requests.

use crate::display::Redaction;
use crate::token::Token;

/// The headers, cookies and subprotocols that a user has given, or a login has returned.
#[derive(Debug, Clone, Default)]
pub(crate) struct Credentials {
    headers: Vec<(String, String)>,
    cookies: Vec<String>,
    subprotocols: Vec<String>,
    /// Texts that may be tokens, each with its place.
    candidates: Vec<(&'static str, String)>,
    redaction: Redaction,
}

impl Credentials {
    /// Adds a token for `Authorization`.
    pub(crate) fn add_token(&mut self, token: &str) {
        let token = token.strip_prefix("Bearer ").unwrap_or(token);
        self.add_header("Authorization", &format!("Bearer {token}"));
    }

    /// Adds a header line.
    pub(crate) fn add_header(&mut self, name: &str, value: &str) {
        if name.eq_ignore_ascii_case("Cookie") {
            value.split(';').for_each(|cookie| self.add_cookie(cookie.trim()));
            return;
        }
        if name.eq_ignore_ascii_case("Authorization") || name.to_ascii_lowercase().contains("secret") {
            self.redaction.add(value);
        }
        self.add_candidate("Authorization", value.split(' ').next_back().unwrap_or_default());
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    /// Adds a cookie: `name=value`.
    pub(crate) fn add_cookie(&mut self, cookie: &str) {
        let value = cookie.split_once('=').map_or(cookie, |(_, value)| value);
        self.redaction.add(value);
        self.add_candidate("cookie", value);
        self.cookies.push(cookie.to_owned());
    }

    /// Adds a subprotocol, which may be a token.
    pub(crate) fn add_subprotocol(&mut self, name: &str) {
        self.add_candidate("subprotocol", name);
        self.subprotocols.push(name.to_owned());
    }

    /// Adds a credential that is a parameter of the URL.
    pub(crate) fn add_query(&mut self, value: &str) {
        self.redaction.add(value);
        self.add_candidate("query", value);
    }

    /// Adds a text that must not be printed.
    pub(crate) fn add_secret(&mut self, secret: &str) {
        self.redaction.add(secret);
    }

    fn add_candidate(&mut self, place: &'static str, text: &str) {
        if Token::decode(text).is_some() {
            self.redaction.add(text);
            self.candidates.push((place, text.to_owned()));
        }
    }

    /// Returns the header lines, with the cookies in one.
    pub(crate) fn headers(&self) -> Vec<(String, String)> {
        let cookies = (!self.cookies.is_empty()).then(|| ("Cookie".to_owned(), self.cookies.join("; ")));
        self.headers.iter().cloned().chain(cookies).collect()
    }

    pub(crate) fn subprotocols(&self) -> Vec<&str> {
        self.subprotocols.iter().map(String::as_str).collect()
    }

    /// Returns the first token that can be decoded, and its place.
    pub(crate) fn token(&self) -> Option<(&'static str, Token)> {
        self.candidates.iter().find_map(|(place, text)| Some((*place, Token::decode(text)?)))
    }

    /// Whether a request without them would differ.
    pub(crate) fn is_empty(&self, has_query: bool) -> bool {
        self.headers.is_empty() && self.cookies.is_empty() && self.subprotocols.is_empty() && !has_query
    }

    /// Whether there is a value for `Authorization`, and it is not a token that can be decoded.
    pub(crate) fn is_opaque(&self) -> bool {
        self.candidates.is_empty()
            && self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("Authorization"))
    }

    pub(crate) fn redaction(&self) -> &Redaction {
        &self.redaction
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJtZSJ9.c2lnbmF0dXJl";

    #[test]
    fn tokens_are_found_in_each_place_and_not_printed() {
        for (place, add) in [
            ("Authorization", (|all, token| all.add_token(token)) as fn(&mut Credentials, &str)),
            ("Authorization", |all, token| all.add_header("authorization", &format!("Bearer {token}"))),
            ("cookie", |all, token| all.add_cookie(&format!("a={token}"))),
            ("cookie", |all, token| all.add_header("Cookie", &format!("b=c; a={token}"))),
            ("subprotocol", |all, token| all.add_subprotocol(token)),
            ("query", |all, token| all.add_query(token)),
        ] {
            let mut all = Credentials::default();
            add(&mut all, JWT);
            assert_eq!(all.token().map(|(place, _)| place), Some(place));
            assert!(!all.redaction().show(&format!("<{JWT}>")).contains("eyJ"));
            assert!(!all.is_opaque());
        }
        let mut opaque = Credentials::default();
        assert!(opaque.is_empty(false) && !opaque.is_opaque() && !opaque.is_empty(true));
        opaque.add_token("0123456789");
        assert!(opaque.is_opaque() && opaque.token().is_none());
        assert_eq!(opaque.headers(), [("Authorization".to_owned(), "Bearer 0123456789".to_owned())]);
    }
}
