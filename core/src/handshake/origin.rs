//! Which web pages may connect (RFC 6455 §10.2). A browser sends cookies along with a WebSocket from any
//! page, and the gateway turns them into an identity; `Origin` is what tells our own page from another.

/// The origins admitted beside the page's own host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// Every origin.
    Any,
    /// These, as a browser serialises them: `https://app.example.com`, `http://localhost:5173`, `null`.
    /// Compared whole and without case. An empty list admits the own host alone.
    These(Vec<String>),
}

impl Default for AllowedOrigins {
    fn default() -> AllowedOrigins {
        AllowedOrigins::These(Vec::new())
    }
}

impl AllowedOrigins {
    /// Whether a page of `origin` may connect to `host`, the value of the `Host` header.
    ///
    /// The own host is admitted whatever its port, since cookies do not know ports either.
    pub fn admits(&self, origin: &str, host: &str) -> bool {
        match self {
            AllowedOrigins::Any => true,
            AllowedOrigins::These(list) => {
                list.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
                    || host_of_origin(origin)
                        .is_some_and(|name| name.eq_ignore_ascii_case(without_port(host)))
            }
        }
    }
}

/// The host in a serialised origin (RFC 6454 §6.2), `None` for `null` and for what is no origin.
fn host_of_origin(origin: &str) -> Option<&str> {
    let (scheme, authority) = origin.split_once("://")?;
    let name = without_port(authority);
    let is_origin = !scheme.is_empty() && !name.is_empty() && !authority.contains(['/', '@', '?', '#']);
    is_origin.then_some(name)
}

/// `example.com:8080` without its port; the colons inside `[::1]` are not one.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty() => {
            if name.starts_with('[') == name.ends_with(']') { name } else { authority }
        }
        Some(_) | None => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(allowed: &[&str], origin: &str, host: &str, verdict: bool) {
        let allowed = AllowedOrigins::These(allowed.iter().map(|&o| o.to_owned()).collect());
        assert_eq!(allowed.admits(origin, host), verdict, "{origin} at {host}, allowed {allowed:?}");
    }

    #[test]
    fn the_own_host_is_admitted_on_any_port_and_scheme() {
        check(&[], "https://app.example", "app.example", true);
        check(&[], "http://app.example:5173", "app.example:9191", true);
        check(&[], "https://APP.example", "app.EXAMPLE", true);
        check(&[], "http://[::1]:3000", "[::1]:9191", true);
        check(&[], "http://[::1]", "[::1]", true);
    }

    #[test]
    fn another_host_is_not() {
        check(&[], "https://app.example.evil.test", "app.example", false);
        check(&[], "https://evil.test", "app.example", false);
        check(&[], "https://evil.test/app.example", "app.example", false);
        check(&[], "https://app.example@evil.test", "app.example", false);
        check(&[], "https://evil.test#app.example", "app.example", false);
        check(&[], "https://xapp.example", "app.example", false);
        check(&[], "https://app.example:evil.test", "app.example", false);
        check(&[], "https://:80", "app.example", false);
        check(&[], "http://[::2]:3000", "[::1]:3000", false);
        check(&[], "null", "null", false);
        check(&[], "", "app.example", false);
        check(&[], "https://", "", false);
        check(&[], "://app.example", "app.example", false);
    }

    #[test]
    fn a_listed_origin_is_compared_whole() {
        check(&["https://good.example"], "https://good.example", "api.example", true);
        check(&["https://good.example"], "HTTPS://Good.Example", "api.example", true);
        check(&["https://good.example"], "http://good.example", "api.example", false);
        check(&["https://good.example"], "https://good.example:444", "api.example", false);
        check(&["null"], "null", "api.example", true);
        assert!(AllowedOrigins::Any.admits("null", "api.example"));
    }
}
