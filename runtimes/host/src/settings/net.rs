//! Addresses, owners, paths, proxies, origins and header names.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use nix::unistd::{Group, User};
use postern_core::handshake::{AllowedOrigins, InvalidOrigin, OriginPattern, TrustedProxies, parse_block};

use super::hints;
use super::value::{ValueError, is_off};
use crate::listen::{Address, Owner};

/// Parses addresses to listen on: `0.0.0.0:8080,[::]:8080,unix:/run/postern.sock`.
pub(super) fn addresses(text: &str) -> Result<Vec<Address>, ValueError> {
    items(text, |item| match item.strip_prefix("unix:") {
        Some(path) => socket_path(path).map(Address::Unix),
        None => {
            let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080));
            item.parse().map(Address::Tcp).map_err(|_| hints::address(item, everywhere).into())
        }
    })
}

/// Parses the address of the control port, or `off`: `127.0.0.1:8081`.
pub(super) fn control(text: &str) -> Result<Option<SocketAddr>, ValueError> {
    if is_off(text) {
        return Ok(None);
    }
    if text.starts_with("unix:") {
        return Err("the control port cannot be a Unix socket; write for example 127.0.0.1:8081".into());
    }
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 8081));
    text.parse().map(Some).map_err(|_| format!("{}, or off", hints::address(text, here)).into())
}

/// Parses the path of a Unix socket (unix(7)). Abstract names are not allowed, because they have no mode that restricts
/// which processes can connect.
fn socket_path(path: &str) -> Result<PathBuf, ValueError> {
    if !path.starts_with('/') || path.ends_with('/') {
        return Err("a Unix socket needs an absolute path; write for example unix:/run/postern.sock".into());
    }
    if path.len() > LONGEST_SOCKET_PATH {
        return Err(format!(
            "the path of a Unix socket has at most {LONGEST_SOCKET_PATH} bytes; write a shorter one"
        )
        .into());
    }
    Ok(path.into())
}

/// Parses a user and a group of this host, by name or number: `traefik:www-data`, `1000`, `:www-data`. Empty for the
/// user and group of this process.
pub(super) fn owner(text: &str) -> Result<Owner, ValueError> {
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    let by_user_name = |name: &str| Some(User::from_name(name).ok()??.uid.as_raw());
    let by_group_name = |name: &str| Some(Group::from_name(name).ok()??.gid.as_raw());
    let number = |text: &str, kind: &str, by_name: &dyn Fn(&str) -> Option<u32>| match text {
        "" => Ok(None),
        text => text.parse().ok().or_else(|| by_name(text)).map(Some).ok_or_else(|| {
            ValueError::from(format!("there is no {kind} {text} on this host; write for example 1000:1000"))
        }),
    };
    Ok(Owner { user: number(user, "user", &by_user_name)?, group: number(group, "group", &by_group_name)? })
}

/// Parses paths of URLs: `/ws,/socket`, or `/ws/*` for all that begin with `/ws/`. Visible ASCII, compared byte by
/// byte.
pub(super) fn paths(text: &str) -> Result<Vec<String>, ValueError> {
    items(text, |item| {
        if item == "*" {
            return Err("* is not a path; write /* for every path".into());
        }
        if !item.starts_with('/') {
            return Err(
                format!("{item} is not a path; write for example /{}", item.trim_start_matches('/')).into()
            );
        }
        if item.contains(['?', '#']) {
            return Err(format!("{item} is not a path alone; leave out the query and the fragment").into());
        }
        if item.strip_suffix('*').filter(|path| path.ends_with('/')).unwrap_or(item).contains('*') {
            return Err(format!(
                "{item} has a misplaced asterisk: it is only allowed at the end, after a slash; write /* for every \
                 path, or for example /ws/* for every path below /ws"
            )
            .into());
        }
        if !item.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(
                format!("{item} is not a path; write other than visible ASCII percent-encoded").into()
            );
        }
        Ok(item.to_owned())
    })
}

/// Parses the path of health checks, or `off`.
pub(super) fn health_path(text: &str) -> Result<Option<String>, ValueError> {
    if is_off(text) {
        return Ok(None);
    }
    match &paths(text)?[..] {
        [path] if !path.contains('*') => Ok(Some(path.clone())),
        _ => Err("not one path; write for example /healthz, or off".into()),
    }
}

/// Parses networks and presets: `loopback,10.0.0.0/8`.
pub(super) fn proxies(text: &str) -> Result<TrustedProxies, ValueError> {
    let lists = items(text, |item| match item.to_ascii_lowercase().as_str() {
        "loopback" => Ok(TrustedProxies::loopback()),
        "private" => Ok(TrustedProxies::private()),
        "cgnat" => Ok(TrustedProxies::cgnat()),
        "link-local" => Ok(TrustedProxies::link_local()),
        "any" => Ok(TrustedProxies::any()),
        _ => match parse_block(item) {
            Some(block) => Ok(TrustedProxies::new(vec![block])),
            None => Err(hints::network(item).into()),
        },
    })?;
    let mut all = TrustedProxies::new(Vec::new());
    lists.into_iter().for_each(|list| all.extend(list));
    Ok(all)
}

/// Parses origins as a browser writes them, or with `*` for one label:
/// `https://app.example.com,https://*.example.com:8443`; or `*` alone. Empty for none.
pub(super) fn origins(text: &str) -> Result<AllowedOrigins, ValueError> {
    match text {
        "*" => Ok(AllowedOrigins::Any),
        "" => Ok(AllowedOrigins::These(Vec::new())),
        _ => items(text, origin).map(AllowedOrigins::These),
    }
}

/// Parses the name of a header with an identity (RFC 9110 §5.1: a token).
pub(super) fn header_name(text: &str) -> Result<String, ValueError> {
    if text.is_empty() || !text.bytes().all(is_token) {
        return Err("not the name of a header; write for example X-User-Id".into());
    }
    if let Some(taken) = TAKEN_HEADERS.iter().find(|taken| is_same_header(taken, text)) {
        return Err(format!("{taken} has another meaning and cannot contain an identity").into());
    }
    Ok(text.to_owned())
}

/// Whether this is a byte of a token (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Checks the name of a header with a signed token. Clients may set it, too, because the signature is verified, so
/// `Authorization` is allowed.
pub(super) fn token_header(text: &str) -> Result<(), ValueError> {
    if text.eq_ignore_ascii_case("Authorization") { Ok(()) } else { header_name(text).map(drop) }
}

/// Whether a proxy or server may treat two names as one header: case does not count, and servers that turn headers
/// into variables replace all separators with `_`.
pub(super) fn is_same_header(a: &str, b: &str) -> bool {
    let fold = |byte: u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    a.bytes().map(fold).eq(b.bytes().map(fold))
}

/// Parses the name of a header. `off` is empty.
pub(super) fn optional_header(text: &str) -> Result<String, ValueError> {
    if is_off(text) { Ok(String::new()) } else { header_name(text) }
}

/// Parses the name of the header in which a proxy passes on the host that the client requested: `X-Forwarded-Host`, or
/// `off`.
pub(super) fn host_header(text: &str) -> Result<String, ValueError> {
    let is = |known: &str| is_same_header(known, text);
    if is_off(text) {
        Ok(String::new())
    } else if is("Host") {
        Err("Host is read without this setting; write for example X-Forwarded-Host, or off".into())
    } else if is("Forwarded") {
        Err("Forwarded has more in it than a host; write for example X-Forwarded-Host".into())
    } else {
        header_name(text)
    }
}

/// Parses subprotocols, preferred first: `graphql-transport-ws,chat`. Empty for none.
pub(super) fn subprotocols(text: &str) -> Result<Vec<String>, ValueError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    items(text, |item| {
        // RFC 6455 §4.1: each is a token of HTTP.
        if item.bytes().all(is_token) {
            return Ok(item.to_owned());
        }
        Err(format!(
            "{item} is not a subprotocol; write letters, digits and !#$%&'*+-.^_`|~, for example chat"
        )
        .into())
    })
}

/// Parses one origin, or a pattern for the first label of the host.
fn origin(text: &str) -> Result<OriginPattern, ValueError> {
    OriginPattern::parse(text).map_err(|error| {
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let complaint = match error {
            _ if text == "*" => return "* is every origin; write it alone".into(),
            InvalidOrigin::NoScheme => format!("{text} is not an origin; write for example https://{text}"),
            InvalidOrigin::Path => {
                format!("an origin ends after its host or port; write {scheme}://{authority}")
            }
            InvalidOrigin::Form => {
                format!("{text} is not an origin; write for example https://app.example.com")
            }
            InvalidOrigin::NotAscii => format!(
                "browsers send the host of {text} in ASCII; write it in that form, for example {scheme}://xn--bcher-kva.example"
            ),
            InvalidOrigin::Wildcard => format!(
                "in {text}, * is not the whole first label of a name, or not the only one; write for example \
                 https://*.example.com"
            ),
            InvalidOrigin::EveryHost => format!(
                "{text} is every host; write for example {scheme}://*.example.com, or * to admit every origin"
            ),
            _ => format!("{text} is not an origin"),
        };
        complaint.into()
    })
}

/// Parses words of any kind: `one,two`.
pub(super) fn words(text: &str) -> Result<Vec<String>, ValueError> {
    items(text, |item| Ok(item.to_owned()))
}

/// Splits a list at its commas and trims the items. An empty list or item is an error.
fn items<T>(text: &str, item: impl Fn(&str) -> Result<T, ValueError>) -> Result<Vec<T>, ValueError> {
    let one = |text: &str| match text.trim() {
        "" => Err("an item of the list is empty; write a value between commas, and none at the end".into()),
        text => item(text),
    };
    text.split(',').map(one).collect()
}

/// The length of `sun_path` without the terminating zero.
const LONGEST_SOCKET_PATH: usize = 107;

/// Headers that the handshake reads itself, and headers with secrets, which would be logged as names.
const TAKEN_HEADERS: [&str; 13] = [
    "Host",
    "Connection",
    "Upgrade",
    "Origin",
    "Content-Length",
    "Transfer-Encoding",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Extensions",
    "Authorization",
    "Proxy-Authorization",
    "Cookie",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_may_be_of_both_families() {
        let tcp = |text: &str| Address::Tcp(text.parse().unwrap());
        assert_eq!(addresses("0.0.0.0:8080, [::]:0"), Ok(vec![tcp("0.0.0.0:8080"), tcp("[::]:0")]));
        let unix = Address::Unix("/run/postern.sock".into());
        assert_eq!(addresses("unix:/run/postern.sock,[::]:0"), Ok(vec![unix, tcp("[::]:0")]));
        assert!(addresses(&format!("unix:/{}", "x".repeat(106))).is_ok());
        assert!(addresses(&format!("unix:/{}", "x".repeat(107))).is_err());
    }

    #[test]
    fn an_owner_is_a_user_and_a_group_by_name_or_number() {
        let owner_of = |user, group| Ok(Owner { user, group });
        assert_eq!(owner(""), owner_of(None, None));
        assert_eq!(owner("root"), owner_of(Some(0), None));
        assert_eq!(owner("root:1000"), owner_of(Some(0), Some(1000)));
        assert_eq!(owner(":root"), owner_of(None, Some(0)));
        for text in ["no-such-user", "-1", "4294967296", "root:no-such-group", "a:b:c"] {
            let complaint = owner(text).unwrap_err();
            assert!(complaint.ends_with("on this host; write for example 1000:1000"), "{complaint}");
        }
    }

    #[test]
    fn proxies_mix_names_and_blocks() {
        let trusted = proxies("loopback, 10.1.0.0/16,192.0.2.7").unwrap();
        for (ip, verdict) in
            [("127.0.0.9", true), ("::1", true), ("10.1.2.3", true), ("10.2.2.3", false), ("192.0.2.7", true)]
        {
            assert_eq!(trusted.trusts(ip.parse().unwrap()), verdict, "{ip}");
        }
        assert_eq!(proxies("private"), Ok(TrustedProxies::private()));
        assert!(proxies("any").unwrap().trusts_any());
    }

    #[test]
    fn origins_are_what_a_browser_sends() {
        for text in [
            "https://app.example.com",
            "https://app.example.com:443",
            "http://localhost:5173",
            "https://*.example.com:8443",
            "null",
            "file://",
            "http://[::1]:3000",
            "tauri://localhost",
            "moz-extension://*",
        ] {
            let pattern = OriginPattern::parse(text).unwrap();
            assert_eq!(origins(text), Ok(AllowedOrigins::These(vec![pattern])));
        }
        assert_eq!(origins("*"), Ok(AllowedOrigins::Any));
        assert_eq!(origins(""), Ok(AllowedOrigins::These(Vec::new())));
    }

    #[test]
    fn a_host_header_is_a_header_with_a_host_alone() {
        assert_eq!(host_header("off"), Ok(String::new()));
        assert_eq!(host_header("X-Forwarded-Host"), Ok("X-Forwarded-Host".to_owned()));
        for text in ["host", "Forwarded", "", "X Y", "Origin", "Cookie"] {
            assert!(host_header(text).is_err(), "{text}");
        }
    }

    #[test]
    fn header_names_are_compared_without_case_and_separators() {
        assert!(is_same_header("User-ID", "user_id"));
        assert!(is_same_header("User.Id", "USER-ID"));
        assert!(!is_same_header("User-ID", "UserID"));
        assert_eq!(header_name("X-authentik-uid"), Ok("X-authentik-uid".to_owned()));
        for taken in TAKEN_HEADERS {
            assert!(header_name(&taken.to_lowercase().replace('-', "_")).is_err(), "{taken}");
        }
    }
}
