//! Redaction of URLs.

use std::borrow::Cow;

/// Redacts the URLs of a text: the user and the password before the host, and the query or fragment after the path.
/// `https://user:password@host/path?key=x` becomes `https://***@host/path?***`.
///
/// The text need not be a valid URL, because a mistyped URL may contain a password, too. If in doubt, more is
/// redacted than necessary.
pub(crate) fn redact_url(text: &str) -> Cow<'_, str> {
    if !text.contains(['@', '?', '#']) {
        return Cow::Borrowed(text);
    }
    let (scheme, rest) = text.split_at(text.find("://").map_or(0, |at| at + "://".len()));
    let mut shown = scheme.to_owned();
    // A password that is not percent-encoded may contain an `@`, and the characters that end an authority (RFC 3986
    // §3.2).
    let rest = match rest.rsplit_once('@') {
        Some((user, rest)) if !scheme.is_empty() || user.contains(':') => {
            shown.push_str("***@");
            rest
        }
        Some(_) | None => rest,
    };
    for word in rest.split_inclusive(' ') {
        match word.find(['?', '#']) {
            Some(at) => {
                let (path, secret) = word.split_at(at);
                let end = if secret.ends_with(' ') { " " } else { "" };
                shown.extend([path, secret.get(..1).unwrap_or_default(), "***", end]);
            }
            None => shown.push_str(word),
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, shown: &str) {
        assert_eq!(redact_url(text), shown, "{text}");
    }

    #[test]
    fn a_url_without_secrets_is_shown_whole() {
        for text in [
            "",
            "off",
            "https://issuer.example:8443/jwks.json",
            "/etc/postern/jwks.json",
            "/etc/postern/jwks@home.json",
            "https://issuer.example is not what was meant, write https://other.example",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn the_user_and_the_password_are_left_out() {
        check("https://user:secret@issuer.example/a", "https://***@issuer.example/a");
        check("https://secret@issuer.example", "https://***@issuer.example");
        check("https://user:se@cret@issuer.example/", "https://***@issuer.example/");
        check("https://user:se/cr?e#t@issuer.example/", "https://***@issuer.example/");
        check("https://user:se cret@issuer.example/", "https://***@issuer.example/");
        check("user:secret@issuer.example/jwks.json", "***@issuer.example/jwks.json");
        check("https://a:b@c.example,https://d:e@f.example", "https://***@f.example");
    }

    #[test]
    fn the_query_and_the_fragment_are_left_out() {
        check("https://issuer.example/a?key=secret", "https://issuer.example/a?***");
        check("https://issuer.example/a?key=secret#secret", "https://issuer.example/a?***");
        check("https://issuer.example/a#secret", "https://issuer.example/a#***");
        check("https://issuer.example?mail=a@b", "https://***@b");
        check("https://u:p@issuer.example/?é=secret", "https://***@issuer.example/?***");
    }

    #[test]
    fn in_a_sentence_only_the_url_is_touched() {
        check(
            "makes https://u:p@i.example/a?b=c its place; write x",
            "makes https://***@i.example/a?*** its place; write x",
        );
    }
}
