//! A second reader of upgrade requests: slow, plain, and written from the rules instead of from the parser.

use std::net::IpAddr;

use postern_core::handshake::{HandshakeConfig, Identity, IdentityHeaders};

/// A head as lines.
pub(crate) struct Request<'h> {
    /// The request line at its spaces.
    line: Vec<&'h [u8]>,
    /// Names and values, without the white space around the values.
    fields: Vec<(&'h [u8], &'h [u8])>,
}

impl<'h> Request<'h> {
    /// Cuts a head into lines, and these at their first colon.
    pub(crate) fn read(head: &'h [u8]) -> Request<'h> {
        let text = head.strip_suffix(b"\r\n\r\n").expect("a head ends with its empty line");
        let mut lines =
            text.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let line = lines.next().expect("splitting gives at least one").split(|&byte| byte == b' ').collect();
        let fields = lines
            .map(|line| {
                let colon = line.iter().position(|&byte| byte == b':').expect("a field has a colon");
                (&line[..colon], trim(&line[colon + 1..]))
            })
            .collect();
        Request { line, fields }
    }

    /// Returns the value of a field that must be there once.
    pub(crate) fn one(&self, name: &str) -> &'h [u8] {
        let values = self.all(name);
        assert_eq!(values.len(), 1, "lines of {name}");
        values[0]
    }

    /// Asserts what must hold of every request that gets a 101.
    pub(crate) fn check_admitted(&self, config: &HandshakeConfig, identity: &Identity) {
        let [b"GET", target, b"HTTP/1.1"] = self.line[..] else { panic!("no request line of an upgrade") };
        let path = self.path(target);
        assert!(config.paths.iter().any(|served| served.as_bytes() == path), "a path that is not served");
        assert!(self.fields.len() <= config.max_headers, "too many lines");

        assert!(!self.one("Host").is_empty());
        assert!(self.all("Transfer-Encoding").is_empty(), "a body");
        assert!(matches!(self.all("Content-Length")[..], [] | [b"0"]), "a body");
        assert!(self.list("Upgrade").iter().any(|item| item.eq_ignore_ascii_case(b"websocket")));
        assert!(self.list("Connection").iter().any(|item| item.eq_ignore_ascii_case(b"upgrade")));
        assert_eq!(self.one("Sec-WebSocket-Version"), b"13");
        let key = self.one("Sec-WebSocket-Key");
        assert!((1..=64).contains(&key.len()) && (!config.strict_key || key.len() == 24), "no key");
        assert!(self.all("Origin").len() <= 1, "two origins");
        self.check_identity(config, identity);
    }

    /// Returns the path of a target: of an absolute one only if its host and port equal `Host`.
    fn path(&self, target: &'h [u8]) -> &'h [u8] {
        let target = target.split(|&byte| byte == b'?').next().unwrap_or_default();
        let Some(scheme) = target.windows(3).position(|end| end == b"://").filter(|_| target[0] != b'/')
        else {
            return target;
        };
        let port = match target[..scheme].to_ascii_lowercase().as_slice() {
            b"http" | b"ws" => "80",
            b"https" | b"wss" => "443",
            other => panic!("the scheme {}", other.escape_ascii()),
        };
        let rest = &target[scheme + 3..];
        let end = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
        assert_eq!(place(&rest[..end], port), place(self.one("Host"), port), "two hosts in one request");
        if end == rest.len() { b"/" } else { &rest[end..] }
    }

    fn check_identity(&self, config: &HandshakeConfig, identity: &Identity) {
        let IdentityHeaders { id, email, name, session_id, token_exp, token_issued_at, token_id, channels } =
            &config.identity;
        assert_eq!(self.one(id), identity.id().as_bytes(), "not the id that was said");
        for id in [Some(identity.id()), identity.session_id()].into_iter().flatten() {
            assert!((1..=255).contains(&id.len()) && id.chars().all(may_be_in_an_id), "{identity:?}");
        }
        for shown in [identity.email(), identity.name()].into_iter().flatten() {
            assert!((1..=256).contains(&shown.len()) && !shown.contains(char::is_control), "{identity:?}");
        }
        // An empty value is the same as none.
        let said =
            |name: &str| self.all(name).into_iter().filter(|value| !value.is_empty()).collect::<Vec<_>>();
        let session: Vec<&[u8]> = identity.session_id().into_iter().map(str::as_bytes).collect();
        assert_eq!(said(session_id), session, "not the session that was said");
        let said = said(token_exp);
        assert_eq!(said.is_empty(), identity.token_exp().is_none(), "an expiry that is lost, or made up");
        for said in said {
            assert!(said.len() <= 11 && said.iter().all(u8::is_ascii_digit), "not an expiry");
            let said = said.iter().fold(0, |sum, digit| 10 * sum + u64::from(digit - b'0'));
            assert_eq!(identity.token_exp(), Some(said));
        }
        let names = [id, email, name, session_id, token_exp, token_issued_at, token_id, channels];
        for name in names.into_iter().filter(|name| !name.is_empty()) {
            assert!(self.all(name).len() <= 1, "{name} twice");
            assert!(!self.list("Connection").iter().any(|item| item.eq_ignore_ascii_case(name.as_bytes())));
            for (other, _) in &self.fields {
                let is_same = other.eq_ignore_ascii_case(name.as_bytes());
                assert!(is_same || plain(other) != plain(name.as_bytes()), "an alias of {name}");
            }
        }
    }

    /// Asserts that the client offered what it was answered.
    pub(crate) fn check_offers(&self, subprotocol: Option<&str>, is_offer_unanswered: bool) {
        let offers = self.list("Sec-WebSocket-Protocol");
        let is_any = offers.iter().any(|offer| !offer.is_empty());
        assert_eq!(is_offer_unanswered, is_any && subprotocol.is_none());
        assert!(subprotocol.is_none_or(|answer| offers.contains(&answer.as_bytes())), "{subprotocol:?}");
    }

    fn all(&self, name: &str) -> Vec<&'h [u8]> {
        let is_it = |field: &&(&[u8], &[u8])| field.0.eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().filter(is_it).map(|field| field.1).collect()
    }

    /// Returns the items of all lines of a list.
    fn list(&self, name: &str) -> Vec<&'h [u8]> {
        self.all(name).into_iter().flat_map(|value| value.split(|&byte| byte == b',').map(trim)).collect()
    }
}

/// Returns a host and a port that can be compared; of addresses in brackets their value.
fn place(authority: &[u8], usual_port: &str) -> (Result<IpAddr, String>, u32) {
    let text = std::str::from_utf8(authority).expect("a host is ASCII").to_ascii_lowercase();
    let colon = text.rfind(':').filter(|colon| text.rfind(']').is_none_or(|bracket| bracket < *colon));
    let (host, port) = colon.map_or((&text[..], ""), |colon| (&text[..colon], &text[colon + 1..]));
    let port = if port.is_empty() { usual_port } else { port };
    let host = host.strip_suffix('.').unwrap_or(host);
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')?.parse().ok());
    (address.ok_or(host.to_owned()), port.parse().expect("a port is a number"))
}

/// Whether the default charset of ids contains this character, by the Unicode properties of the standard library. It does not
/// know format characters; the tests of the host check that they are refused.
fn may_be_in_an_id(c: char) -> bool {
    !c.is_control() && !c.is_whitespace() && !",{}$\"\u{ad}\u{200b}\u{202e}\u{2066}\u{feff}".contains(c)
}

/// Removes the optional white space of RFC 9110 §5.6.3.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Returns a name as read by servers that treat all separators alike.
fn plain(name: &[u8]) -> Vec<u8> {
    let fold = |byte: &u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    name.iter().map(fold).collect()
}
