//! Finds the secrets in a request, which may be malformed.

use super::{Kind, Secret};

/// Returns the secrets in a request head, or none if the bytes are not a request head.
pub(super) fn secrets(head: &[u8]) -> Vec<Secret> {
    let mut found = Vec::new();
    let mut note = |kind, text: &str| found.push(Secret { kind, bytes: text.trim().as_bytes().to_vec() });
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split('\n').map(|line| line.trim_end_matches('\r'));
    let first = lines.next().unwrap_or_default();
    if !first.split(' ').next().is_some_and(is_method) {
        return found;
    }
    note(Kind::Query, query(first.split(' ').nth(1).unwrap_or_default()));
    for (name, value) in lines.take_while(|line| !line.is_empty()).filter_map(|line| line.split_once(':')) {
        // As the most careless server on the way reads it.
        let name = name.trim().to_ascii_lowercase().replace(['_', '.'], "-");
        let value = value.trim();
        match name.as_str() {
            "authorization" | "proxy-authorization" => match value.split_once(' ') {
                Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => note(Kind::Token, token),
                Some((_, credentials)) => note(Kind::Credentials, credentials),
                None => note(Kind::Credentials, value),
            },
            "cookie" => {
                for cookie in value.split(';') {
                    note(Kind::Cookie, cookie);
                    note(Kind::Cookie, cookie.split_once('=').unwrap_or_default().1);
                }
            }
            "sec-websocket-protocol" => {
                let mut offers = value.split(',').map(str::trim);
                if offers.any(|offer| offer.eq_ignore_ascii_case("bearer")) {
                    note(Kind::Token, offers.next().unwrap_or_default());
                }
            }
            "referer" | "x-forwarded-uri" | "x-original-uri" | "x-original-url" => {
                note(Kind::Query, query(value))
            }
            "x-api-key" => note(Kind::Setting, value),
            _ if name.contains("secret") => note(Kind::ProxySecret, value),
            _ if name.contains("email") => note(Kind::Email, value),
            _ if name.contains("assertion") => note(Kind::Token, value),
            _ => {}
        }
    }
    found
}

/// Whether a text may be a method: RFC 9110 §9.1 has only methods in capitals.
fn is_method(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// Returns the query of a URL.
fn query(url: &str) -> &str {
    let query = url.split_once('?').unwrap_or_default().1;
    query.split('#').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(head: &str, expected: &[(Kind, &str)]) {
        let found = secrets(head.as_bytes());
        let found: Vec<(Kind, String)> = found
            .into_iter()
            .map(|secret| (secret.kind, String::from_utf8(secret.bytes).expect("UTF-8")))
            .filter(|(_, text)| !text.is_empty())
            .collect();
        let expected: Vec<(Kind, String)> =
            expected.iter().map(|(kind, text)| (*kind, (*text).to_owned())).collect();
        assert_eq!(found, expected, "{head}");
    }

    #[test]
    fn secrets_are_found_in_good_requests_and_in_bad_ones() {
        check(
            "GET /ws?room=7&token=t.t.t HTTP/1.1\r\nHost: x\r\n\r\n",
            &[(Kind::Query, "room=7&token=t.t.t")],
        );
        check(
            "GET https://x/?a=b#c HTTP/1.0\nno colon\nAUTHORIZATION : bearer  t ",
            &[(Kind::Query, "a=b"), (Kind::Token, "t")],
        );
        check("GET / HTTP/1.1\r\nAuthorization: Basic dTpw\r\n", &[(Kind::Credentials, "dTpw")]);
        check("GET / HTTP/1.1\r\nAuthorization: unknown\r\n", &[(Kind::Credentials, "unknown")]);
        check(
            "GET / HTTP/1.1\r\nCookie: theme=dark; access_token=t.t.t\r\n",
            &[
                (Kind::Cookie, "theme=dark"),
                (Kind::Cookie, "dark"),
                (Kind::Cookie, "access_token=t.t.t"),
                (Kind::Cookie, "t.t.t"),
            ],
        );
        check(
            "GET / HTTP/1.1\r\nSec-WebSocket-Protocol: chat, Bearer,t.t.t, x\r\n",
            &[(Kind::Token, "t.t.t")],
        );
        check(
            "GET / HTTP/1.1\r\nX_Postern_Secret: s\r\nUser.Email: a@b\r\n",
            &[(Kind::ProxySecret, "s"), (Kind::Email, "a@b")],
        );
        check("GET / HTTP/1.1\r\nX-Forwarded-Uri: /ws?a=b\r\n", &[(Kind::Query, "a=b")]);
        check(
            "GET / HTTP/1.1\r\nCf-Access-Jwt-Assertion: t.t.t\r\n\r\nCookie: a=b",
            &[(Kind::Token, "t.t.t")],
        );
    }

    #[test]
    fn frames_are_not_requests() {
        check("\u{81}\u{5}Cookie: a=b\r\nCookie: a=b", &[]);
        check("", &[]);
    }
}
