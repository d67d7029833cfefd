//! Finds the token in a request.
//!
//! Programs send the token in `Authorization`. Browsers cannot set headers on a WebSocket: they send it as a cookie, in
//! the query, or as a subprotocol. The gateway makes a separate request, so the query of the original request is in a
//! header: `X-Forwarded-Uri` from Traefik, `X-Original-URI` from nginx.

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, COOKIE, HeaderValue, SEC_WEBSOCKET_PROTOCOL};

/// The name of the cookie that the login sets.
pub const COOKIE_NAME: &str = "access_token";

/// The name of the query parameter.
pub const QUERY_PARAMETER: &str = "token";

/// Returns the token of a request. The first place that contains one decides, in the order of the module's description:
/// a bad token in an earlier place is not replaced by a good one in a later place.
pub fn token(headers: &HeaderMap) -> Option<&str> {
    in_authorization(headers)
        .or_else(|| in_cookie(headers))
        .or_else(|| in_query(headers))
        .or_else(|| in_subprotocols(headers))
        .filter(|token| !token.is_empty())
}

/// Returns the token of `Authorization` (RFC 6750, section 2.1). The scheme is case-insensitive (RFC 9110, section
/// 11.1).
fn in_authorization(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = text(headers.get(AUTHORIZATION)?)?.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Returns the token of a cookie. `Cookie` may have several lines: HTTP/2 splits it, and a gateway may not join them
/// again.
fn in_cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(text).flat_map(|line| line.split(';'));
    cookies
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE_NAME)
        .map(second)
}

/// Returns the token of the query. The alphabet of a token needs no percent encoding, so the query is not decoded.
fn in_query(headers: &HeaderMap) -> Option<&str> {
    ["x-forwarded-uri", "x-original-uri"].into_iter().filter_map(|name| text(headers.get(name)?)).find_map(
        |target| {
            let (_, query) = target.split_once('?')?;
            let mut parameters = query.split('&').filter_map(|parameter| parameter.split_once('='));
            parameters.find(|(name, _)| *name == QUERY_PARAMETER).map(second)
        },
    )
}

/// Returns the token of `bearer, <token>`: the subprotocol after `bearer`.
fn in_subprotocols(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(text);
    let mut names = lines.flat_map(|line| line.split(',')).map(str::trim);
    names.find(|name| name.eq_ignore_ascii_case("bearer"))?;
    names.next()
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

fn second<'a>((_, value): (&str, &'a str)) -> &'a str {
    value
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderName;

    use super::*;

    fn check(lines: &[(&str, &str)], expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
            headers.append(name, HeaderValue::from_str(value).expect("a header value"));
        }
        assert_eq!(token(&headers), expected, "{lines:?}");
    }

    #[test]
    fn no_token() {
        check(&[], None);
        check(&[("authorization", "Basic am9objpwYXNz")], None);
        check(&[("authorization", "Bearer")], None);
        check(&[("authorization", "Bearer ")], None);
        check(&[("cookie", "my_access_token=t; access_token_=t")], None);
        check(&[("cookie", "access_token=")], None);
        check(&[("x-forwarded-uri", "/ws?tokens=t&atoken=t")], None);
        check(&[("x-forwarded-uri", "/ws&token=t")], None);
        check(&[("sec-websocket-protocol", "bearer")], None);
        check(&[("sec-websocket-protocol", "chat, t")], None);
    }

    #[test]
    fn in_the_authorization_header() {
        check(&[("authorization", "Bearer t.t.t")], Some("t.t.t"));
        check(&[("authorization", "bearer t.t.t")], Some("t.t.t"));
        check(&[("authorization", "BEARER   t.t.t ")], Some("t.t.t"));
    }

    #[test]
    fn in_a_cookie() {
        check(&[("cookie", "access_token=t.t.t")], Some("t.t.t"));
        check(&[("cookie", "a=b;access_token=t.t.t; c=d")], Some("t.t.t"));
        check(&[("cookie", "a=b"), ("cookie", "access_token=t.t.t")], Some("t.t.t"));
    }

    #[test]
    fn in_the_query() {
        check(&[("x-forwarded-uri", "/ws?token=t.t.t")], Some("t.t.t"));
        check(&[("x-original-uri", "/ws?room=7&token=t.t.t&x")], Some("t.t.t"));
        check(&[("x-forwarded-uri", "/ws"), ("x-original-uri", "/ws?token=t")], Some("t"));
    }

    #[test]
    fn in_the_subprotocols() {
        check(&[("sec-websocket-protocol", "bearer, t.t.t")], Some("t.t.t"));
        check(&[("sec-websocket-protocol", "chat,Bearer,t.t.t, more")], Some("t.t.t"));
        check(&[("sec-websocket-protocol", "bearer"), ("sec-websocket-protocol", "t.t.t")], Some("t.t.t"));
    }

    #[test]
    fn the_first_place_decides() {
        let all = [
            ("sec-websocket-protocol", "bearer, protocol"),
            ("x-forwarded-uri", "/ws?token=query"),
            ("cookie", "access_token=cookie"),
            ("authorization", "Bearer header"),
        ];
        for (count, expected) in [(4, "header"), (3, "cookie"), (2, "query"), (1, "protocol")] {
            check(&all[..count], Some(expected));
        }
    }
}
