//! Where messages come from.

use std::fmt;

use lapin::uri::{AMQPScheme, AMQPUri};
use url::{Host, Url};

use crate::settings::TlsFiles;
use crate::source::{Mode, UrlPlace, UrlText};

/// The broker, and the names of its exchange and queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmqpSettings {
    /// The address of the broker.
    pub(crate) url: UrlPlace<BrokerUrl>,
    /// The files for connections by TLS.
    pub(crate) tls: TlsFiles,
    /// The nodes that get a message.
    pub(crate) mode: Mode,
    /// The exchange that backends publish to.
    pub(crate) exchange: String,
    /// The queue; with [`Mode::Each`] the beginning of its name.
    pub(crate) queue: String,
    /// The most messages that are received and not acknowledged.
    pub(crate) prefetch: u16,
    /// The exchange and the queue of rejected messages. `None`: they are lost.
    pub(crate) dead_letter: Option<String>,
}

/// The URL of a broker.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct BrokerUrl(AMQPUri);

/// Why a text is not the URL of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BrokerUrlError {
    /// It has another scheme.
    Scheme,
    /// It is not a URL with a host.
    Malformed,
}

impl UrlText for BrokerUrl {
    const SETTINGS: [&'static str; 2] = ["POSTERN_AMQP_URL", "POSTERN_AMQP_URL_FILE"];
    type Error = BrokerUrlError;

    /// Parses `amqp://USER:PASSWORD@HOST:PORT/VHOST`, or the same with `amqps` for TLS.
    ///
    /// # Errors
    /// See [`BrokerUrlError`].
    fn parse(text: &str) -> Result<BrokerUrl, BrokerUrlError> {
        let url = Url::parse(text).map_err(|_| BrokerUrlError::Malformed)?;
        match url.scheme() {
            "amqp" | "amqps" => {}
            _ => return Err(BrokerUrlError::Scheme),
        }
        let host = match url.host() {
            Some(Host::Domain(host)) if !host.is_empty() => host.to_owned(),
            // The library would replace an IPv6 address by localhost.
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Domain(_)) | None => return Err(BrokerUrlError::Malformed),
        };
        let mut uri: AMQPUri = text.parse().map_err(|_| BrokerUrlError::Malformed)?;
        uri.authority.host = host;
        // `amqp://host/` would be the virtual host with an empty name, which is hardly ever meant.
        if uri.vhost.is_empty() {
            uri.vhost = "/".to_owned();
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        Ok(BrokerUrl(uri))
    }
}

impl BrokerUrl {
    /// Returns whether the connection is by TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.0.scheme == AMQPScheme::AMQPS
    }

    /// Returns the host, without the brackets of IPv6, and the port.
    pub(super) fn address(&self) -> (&str, u16) {
        (&self.0.authority.host, self.0.authority.port)
    }

    /// Returns the URL for the client library.
    pub(super) fn uri(&self) -> AMQPUri {
        self.0.clone()
    }
}

/// Shows the host, the port and the virtual host, without the user and the password.
impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AMQPUri { scheme, authority, vhost, .. } = &self.0;
        let scheme = match scheme {
            AMQPScheme::AMQP => "amqp",
            AMQPScheme::AMQPS => "amqps",
        };
        let is_v6 = authority.host.contains(':');
        let (open, close) = if is_v6 { ("[", "]") } else { ("", "") };
        let slash = if vhost.starts_with('/') { "" } else { "/" };
        write!(f, "{scheme}://{open}{}{close}:{}{slash}{vhost}", authority.host, authority.port)
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BrokerUrl({self})")
    }
}

impl fmt::Display for BrokerUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BrokerUrlError::Scheme => {
                "not an amqp URL; write for example amqp://user:password@rabbitmq.example:5672/%2f"
            }
            BrokerUrlError::Malformed => {
                "not a URL; write for example amqp://user:password@rabbitmq.example:5672/%2f"
            }
        })
    }
}

/// The interval of heartbeats in seconds. A dead broker is noticed after twice as long.
const HEARTBEAT: u16 = 10;

/// The default of `POSTERN_AMQP_EXCHANGE`.
pub(crate) const EXCHANGE: &str = "postern";
/// The default of `POSTERN_AMQP_QUEUE`.
pub(crate) const QUEUE: &str = "postern.source";
/// The default of `POSTERN_AMQP_DEAD_LETTER`.
pub(crate) const DEAD_LETTER: &str = "postern.dead";
/// The default of `POSTERN_AMQP_PREFETCH`.
pub(crate) const PREFETCH: &str = "200";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn url_is_shown_without_the_user_and_the_password() {
        for (text, shown) in [
            ("amqp://john:hunter2@rabbit:5673/%2f", "amqp://rabbit:5673/"),
            ("amqp://rabbit", "amqp://rabbit:5672/"),
            ("amqp://rabbit/", "amqp://rabbit:5672/"),
            ("amqp://127.0.0.1/auction", "amqp://127.0.0.1:5672/auction"),
            ("amqp://john:hunter2@[::1]:1/a", "amqp://[::1]:1/a"),
            ("amqps://john:hunter2@rabbit", "amqps://rabbit:5671/"),
        ] {
            let url = BrokerUrl::parse(text).unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), format!("BrokerUrl({shown})"));
        }
        let AMQPUri { authority, query, .. } = BrokerUrl::parse("amqp://j%40:hunter2@[::1]").unwrap().0;
        assert_eq!((authority.host.as_str(), query.heartbeat), ("::1", Some(10)));
        assert_eq!(
            (authority.userinfo.username.as_str(), authority.userinfo.password.as_str()),
            ("j@", "hunter2")
        );
    }

    #[test]
    fn other_texts_are_refused_without_being_shown() {
        for (text, expected) in [
            ("", BrokerUrlError::Malformed),
            ("rabbit", BrokerUrlError::Malformed),
            ("amqp://", BrokerUrlError::Malformed),
            ("amqp:rabbit", BrokerUrlError::Malformed),
            ("amqp://hunter2@", BrokerUrlError::Malformed),
            ("amqp://rabbit:70000", BrokerUrlError::Malformed),
            ("amqp://rabbit/?heartbeat=soon", BrokerUrlError::Malformed),
            ("redis://hunter2@rabbit", BrokerUrlError::Scheme),
        ] {
            let error = BrokerUrl::parse(text).unwrap_err();
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn file_is_read_for_each_connection() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let place: UrlPlace<BrokerUrl> = UrlPlace::File(file.path().to_owned());
        for (text, expected) in [("amqp://a\n", "amqp://a:5672/"), ("amqp://b", "amqp://b:5672/")] {
            fs::write(file.path(), text).unwrap();
            assert_eq!(place.read().unwrap().to_string(), expected);
        }
        fs::write(file.path(), "hunter2").unwrap();
        let error = place.read().unwrap_err();
        assert!(error.starts_with("in the file: not a URL") && !error.contains("hunter2"), "{error}");
        drop(file);
        assert!(place.read().unwrap_err().starts_with("cannot read the file: "));
    }
}
