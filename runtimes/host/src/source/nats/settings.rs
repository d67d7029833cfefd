//! Where messages come from.

use std::fmt;

use url::{Host, Url};

use crate::settings::TlsFiles;
use crate::source::{Mode, UrlPlace, UrlText};

/// The server, and the names of its subjects and its queue group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsSettings {
    /// The address of the server.
    pub(crate) url: UrlPlace<NatsUrl>,
    /// The files for connections by TLS.
    pub(crate) tls: TlsFiles,
    /// The nodes that get a message.
    pub(crate) mode: Mode,
    /// The beginning of the subjects.
    pub(crate) subject: String,
    /// The queue group with [`Mode::Shared`].
    pub(crate) queue: String,
    /// The most bytes of the payload of a message.
    pub(crate) max_payload: usize,
}

/// The URL of a server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct NatsUrl {
    pub(super) is_tls: bool,
    /// Without the brackets of IPv6.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) login: Login,
}

/// The login of a client.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    None,
    Token(String),
    Password(String, String),
}

/// Why a text is not the URL of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NatsUrlError {
    /// It has another scheme.
    Scheme,
    /// It is not a URL with a host.
    Malformed,
    /// Something follows the port.
    Rest,
}

impl UrlText for NatsUrl {
    const SETTINGS: [&'static str; 2] = ["POSTERN_NATS_URL", "POSTERN_NATS_URL_FILE"];
    type Error = NatsUrlError;

    /// Parses `nats://USER:PASSWORD@HOST:PORT`, or the same with `tls`. A user without a password is a token.
    fn parse(text: &str) -> Result<NatsUrl, NatsUrlError> {
        let url = Url::parse(text).map_err(|_| NatsUrlError::Malformed)?;
        let is_tls = match url.scheme() {
            "nats" => false,
            "tls" => true,
            _ => return Err(NatsUrlError::Scheme),
        };
        let host = match url.host() {
            Some(Host::Domain(host)) if !host.is_empty() => host.to_owned(),
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Domain(_)) | None => return Err(NatsUrlError::Malformed),
        };
        // The host of a comma-separated list would have its commas.
        if host.contains(',') {
            return Err(NatsUrlError::Malformed);
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(NatsUrlError::Rest);
        }
        let decode = |text: &str| decode(text).ok_or(NatsUrlError::Malformed);
        let login = match (url.username(), url.password()) {
            ("", None) => Login::None,
            (token, None) => Login::Token(decode(token)?),
            (user, Some(password)) => Login::Password(decode(user)?, decode(password)?),
        };
        Ok(NatsUrl { is_tls, host, port: url.port().unwrap_or(PORT), login })
    }
}

/// Replaces the percent-encoded bytes of a text.
fn decode(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(code, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

/// Shows the host and the port, without the login.
impl fmt::Display for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "tls" } else { "nats" };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{}{close}:{}", self.host, self.port)
    }
}

impl fmt::Debug for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NatsUrl({self})")
    }
}

impl fmt::Display for NatsUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = match self {
            NatsUrlError::Scheme => "not a nats URL",
            NatsUrlError::Malformed => "not a URL of one server",
            NatsUrlError::Rest => "a nats URL ends with the port",
        };
        write!(f, "{fault}; write for example nats://user:password@nats.example:4222")
    }
}

/// The port of a URL without one.
const PORT: u16 = 4222;

/// The default of `POSTERN_NATS_SUBJECT`.
pub(crate) const SUBJECT: &str = "postern";
/// The default of `POSTERN_NATS_QUEUE`.
pub(crate) const QUEUE_GROUP: &str = "postern";
/// The longest `POSTERN_NATS_SUBJECT`, in bytes.
pub(crate) const MAX_SUBJECT: usize = 127;
/// The longest `POSTERN_NATS_QUEUE`, in bytes.
pub(crate) const MAX_QUEUE: usize = 127;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_shown_without_the_login() {
        let password = |user: &str, word: &str| Login::Password(user.to_owned(), word.to_owned());
        for (text, shown, login) in [
            ("nats://john:hunter2@nats:1", "nats://nats:1", password("john", "hunter2")),
            ("nats://nats", "nats://nats:4222", Login::None),
            ("nats://127.0.0.1/", "nats://127.0.0.1:4222", Login::None),
            ("tls://j%40:h%C3%BC@[::1]", "tls://[::1]:4222", password("j@", "hü")),
            ("nats://hunter2@nats", "nats://nats:4222", Login::Token("hunter2".to_owned())),
        ] {
            let url = NatsUrl::parse(text).unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), format!("NatsUrl({shown})"));
            assert!(url.login == login, "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_without_being_shown() {
        for (text, expected) in [
            ("", NatsUrlError::Malformed),
            ("nats", NatsUrlError::Malformed),
            ("nats://", NatsUrlError::Malformed),
            ("nats:hunter2", NatsUrlError::Malformed),
            ("nats://hunter2@", NatsUrlError::Malformed),
            ("nats://nats:70000", NatsUrlError::Malformed),
            ("nats://hunter%ff@nats", NatsUrlError::Malformed),
            ("nats://hunter%2@nats", NatsUrlError::Malformed),
            ("nats://a,b", NatsUrlError::Malformed),
            ("nats://nats:1,nats://hunter2@b", NatsUrlError::Malformed),
            ("nats://nats/hunter2", NatsUrlError::Rest),
            ("nats://nats?hunter2", NatsUrlError::Rest),
            ("amqp://hunter2@nats", NatsUrlError::Scheme),
        ] {
            let error = NatsUrl::parse(text).err().unwrap_or_else(|| panic!("{text}"));
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("hunter"));
        }
    }
}
