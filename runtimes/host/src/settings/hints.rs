//! Corrections of an address, a network or a file that cannot be used.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Returns what is wrong with `text` as an address to listen on, and what to write instead. `example` is a valid
/// address.
pub(super) fn address(text: &str, example: SocketAddr) -> String {
    let wrong = format!("{text} is not an address with a port");
    let with_port = |port: u16| SocketAddr::new(example.ip(), port);
    if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse() {
        return format!("{wrong}; write {}", with_port(port));
    }
    if let Some((_, rest)) = text.split_once("://") {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        return match authority.parse::<SocketAddr>() {
            Ok(address) => format!("{text} is a URL; write {address}"),
            Err(_) => format!("{text} is a URL; write an address with a port, for example {example}"),
        };
    }
    if text.starts_with('/') {
        return format!("{wrong}; a Unix socket is written as unix:{text}");
    }
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    // `::1:8080` parses as an IPv6 address, but an address with a port is meant.
    if let (Ok(ip), Ok(port @ 80..)) = (host.parse::<Ipv6Addr>(), port.parse::<u16>()) {
        return format!("{wrong}; write {}", SocketAddr::new(ip.into(), port));
    }
    if let Ok(ip) = unbracketed(text).parse::<IpAddr>() {
        return format!("{wrong}; write {}", SocketAddr::new(ip, example.port()));
    }
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if unbracketed(host).parse::<IpAddr>().is_ok() {
        return match is_number {
            true => format!("{wrong}: a port is at most 65535"),
            false => format!("{wrong}; write {host}:{}", example.port()),
        };
    }
    let port = port.parse().unwrap_or(example.port());
    match host {
        "localhost" => format!("{wrong}; write {}", SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)),
        "*" => format!("{wrong}; write {}", SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)),
        _ if is_number && is_host_name(host) => {
            format!("{wrong}: names are not looked up; write for example {}", with_port(port))
        }
        _ => format!("{wrong}; write for example 0.0.0.0:{0} or [::]:{0}", example.port()),
    }
}

/// Returns what is wrong with `text` as a network of trusted proxies, and what to write instead.
pub(super) fn network(text: &str) -> String {
    const EXAMPLES: &str = "write for example 10.0.0.0/8, or loopback, private, any";
    let wrong = format!("{text} is not a block of addresses");
    if text.contains([';', '|']) || text.contains(char::is_whitespace) {
        return format!("{wrong}; the items of a list have commas between them");
    }
    if text == "*" {
        return format!("{wrong}; write any to trust every peer");
    }
    if let Ok(ip) = unbracketed(text).parse::<IpAddr>() {
        return format!("{wrong}; write {ip}");
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return format!("{wrong}; write {} without a port", address.ip());
    }
    if let Some((ip, prefix)) = text.split_once('/')
        && let Ok(ip) = ip.parse::<IpAddr>()
    {
        let width = if ip.is_ipv4() { 32 } else { 128 };
        return match prefix.parse::<Ipv4Addr>().map(prefix_of) {
            Ok(Some(length)) if ip.is_ipv4() => format!("{wrong}; write {ip}/{length}"),
            _ => format!("{wrong}: the number after / is 0 to {width} here; {EXAMPLES}"),
        };
    }
    if let Some((first, last)) = text.split_once('-')
        && first.parse::<IpAddr>().is_ok()
        && last.parse::<IpAddr>().is_ok()
    {
        return format!("{wrong}: a range is written as networks, for example {first}/24");
    }
    if is_host_name(text) && text.contains(|c: char| c.is_ascii_alphabetic()) {
        return format!(
            "{wrong}: names are not looked up, so write the address of the host or its network; {EXAMPLES}"
        );
    }
    format!("{wrong}; {EXAMPLES}")
}

/// Returns why a file cannot be read, and how to fix it.
pub(super) fn file(error: &io::Error) -> String {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others speak for themselves")]
    match error.kind() {
        ErrorKind::NotFound => "there is no such file; create it, or write another path".to_owned(),
        ErrorKind::PermissionDenied => {
            let user = rustix::process::geteuid().as_raw();
            format!("permission denied; let the user {user} of this process read it")
        }
        ErrorKind::IsADirectory => "it is a directory; write the path of a file".to_owned(),
        ErrorKind::InvalidData => "it is not UTF-8 text; write it as plain text".to_owned(),
        kind => kind.to_string(),
    }
}

fn unbracketed(text: &str) -> &str {
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text)
}

/// Returns the prefix length of a network mask such as 255.0.0.0.
fn prefix_of(mask: Ipv4Addr) -> Option<u32> {
    let bits = mask.to_bits();
    (bits.leading_ones() == bits.count_ones()).then_some(bits.count_ones())
}

fn is_host_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_address_has_a_suggestion() {
        let example = "0.0.0.0:8080".parse().unwrap();
        for (text, end) in [
            ("9000", "; write 0.0.0.0:9000"),
            (":9000", "; write 0.0.0.0:9000"),
            ("127.0.0.1", "; write 127.0.0.1:8080"),
            ("::2", "; write [::2]:8080"),
            ("[::1]", "; write [::1]:8080"),
            ("::1:9000", "; write [::1]:9000"),
            ("127.0.0.1:", "; write 127.0.0.1:8080"),
            ("127.0.0.1:http", "; write 127.0.0.1:8080"),
            ("127.0.0.1:99999", ": a port is at most 65535"),
            ("localhost", "; write 127.0.0.1:8080"),
            ("localhost:9000", "; write 127.0.0.1:9000"),
            ("*:9000", "; write 0.0.0.0:9000"),
            ("app.example.com:9000", ": names are not looked up; write for example 0.0.0.0:9000"),
            ("/run/postern.sock", "; a Unix socket is written as unix:/run/postern.sock"),
            ("nowhere", "; write for example 0.0.0.0:8080 or [::]:8080"),
            ("", "; write for example 0.0.0.0:8080 or [::]:8080"),
        ] {
            assert_eq!(address(text, example), format!("{text} is not an address with a port{end}"));
        }
        for (text, complaint) in [
            ("http://0.0.0.0:9000/ws", "http://0.0.0.0:9000/ws is a URL; write 0.0.0.0:9000"),
            (
                "http://localhost",
                "http://localhost is a URL; write an address with a port, for example 0.0.0.0:8080",
            ),
        ] {
            assert_eq!(address(text, example), complaint);
        }
    }

    #[test]
    fn an_invalid_network_has_a_suggestion() {
        let examples = "write for example 10.0.0.0/8, or loopback, private, any";
        for (text, end) in [
            ("10.0.0.0/33", format!(": the number after / is 0 to 32 here; {examples}")),
            ("::/129", format!(": the number after / is 0 to 128 here; {examples}")),
            ("10.0.0.0/", format!(": the number after / is 0 to 32 here; {examples}")),
            ("10.0.0.0/255.0.0.0", "; write 10.0.0.0/8".to_owned()),
            ("10.0.0.0/255.0.255.0", format!(": the number after / is 0 to 32 here; {examples}")),
            ("10.0.0.1-10.0.0.9", ": a range is written as networks, for example 10.0.0.1/24".to_owned()),
            ("10.0.0.1:80", "; write 10.0.0.1 without a port".to_owned()),
            ("[::1]", "; write ::1".to_owned()),
            ("*", "; write any to trust every peer".to_owned()),
            ("10.0.0.0/8;loopback", "; the items of a list have commas between them".to_owned()),
            ("10.0.0.0/8 loopback", "; the items of a list have commas between them".to_owned()),
            (
                "traefik",
                format!(
                    ": names are not looked up, so write the address of the host or its network; {examples}"
                ),
            ),
            ("10.0.0", format!("; {examples}")),
            ("10.0.*.*", format!("; {examples}")),
        ] {
            assert_eq!(network(text), format!("{text} is not a block of addresses{end}"));
        }
    }

    #[test]
    fn an_unreadable_file_has_a_suggestion() {
        for (kind, words) in [
            (ErrorKind::NotFound, "there is no such file; create it, or write another path"),
            (ErrorKind::PermissionDenied, "permission denied; let the user "),
            (ErrorKind::IsADirectory, "it is a directory; write the path of a file"),
            (ErrorKind::InvalidData, "it is not UTF-8 text; write it as plain text"),
            (ErrorKind::TimedOut, "timed out"),
        ] {
            assert!(file(&kind.into()).starts_with(words), "{kind}");
        }
    }
}
