//! Opening a WebSocket connection.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_tungstenite::WebSocketStream;
use async_tungstenite::smol::ConnectStream;
#[cfg(not(feature = "tls"))]
use async_tungstenite::smol::connect_async;
#[cfg(feature = "tls")]
use async_tungstenite::smol::connect_async_with_tls_connector;
use async_tungstenite::tungstenite::client::IntoClientRequest;
use async_tungstenite::tungstenite::http::{HeaderName, HeaderValue, StatusCode};
use async_tungstenite::tungstenite::protocol::CloseFrame;
use async_tungstenite::tungstenite::{self, Message};
use futures_util::{Sink, Stream};

/// A URL, and headers of the request, for example a cookie or an access token.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    /// The configuration of TLS, if there are own authorities.
    #[cfg(feature = "tls")]
    tls: Option<std::sync::Arc<rustls::ClientConfig>>,
}

/// The reason for which a connection could not be opened.
#[derive(Debug)]
pub(crate) struct OpenError {
    pub(crate) reason: String,
    /// Whether the server has answered 401.
    pub(crate) is_unauthorized: bool,
}

pub(crate) type Opening = Pin<Box<dyn Future<Output = Result<Box<Socket>, OpenError>> + Send>>;

impl Target {
    pub(crate) fn new(url: String) -> Target {
        Target {
            url,
            headers: Vec::new(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Trusts the certificates of the system, and these.
    #[cfg(feature = "tls")]
    pub(crate) fn trust(&mut self, pem: &[u8]) -> Result<(), InvalidTarget> {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject;
        use rustls_platform_verifier::Verifier;

        let invalid =
            |reason: &str, error: &dyn std::fmt::Display| InvalidTarget(format!("{reason}: {error}"));
        let authorities: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|error| invalid("the certificates are not PEM", &error))?;
        if authorities.is_empty() {
            return Err(InvalidTarget("there is no certificate in the PEM text".into()));
        }
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Verifier::new_with_extra_roots(authorities, provider.clone())
            .map_err(|error| invalid("the certificates cannot be used", &error))?;
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid("TLS cannot be used", &error))?
            .dangerous()
            .with_custom_certificate_verifier(std::sync::Arc::new(verifier))
            .with_no_client_auth();
        self.tls = Some(std::sync::Arc::new(config));
        Ok(())
    }

    /// Checks the URL and the headers.
    pub(crate) fn check(&self) -> Result<(), InvalidTarget> {
        self.request().map(drop).map_err(|error| InvalidTarget(error.to_string()))
    }

    pub(crate) fn open(&self) -> Opening {
        let target = self.clone();
        Box::pin(async move {
            let refuse = |reason: String| OpenError { reason, is_unauthorized: false };
            let request = target.request().map_err(|error| refuse(error.to_string()))?;
            #[cfg(feature = "tls")]
            let connected =
                connect_async_with_tls_connector(request, target.tls.clone().map(Into::into)).await;
            #[cfg(not(feature = "tls"))]
            let connected = connect_async(request).await;
            match connected {
                Ok((stream, _)) => Ok(Box::new(Socket { stream, is_flushed: true })),
                Err(tungstenite::Error::Http(response)) => Err(OpenError {
                    reason: format!("the server has answered {}", response.status()),
                    is_unauthorized: response.status() == StatusCode::UNAUTHORIZED,
                }),
                Err(error) => Err(refuse(error.to_string())),
            }
        })
    }

    fn request(&self) -> Result<tungstenite::handshake::client::Request, Box<dyn Error + Send + Sync>> {
        let mut request = self.url.as_str().into_client_request()?;
        match request.uri().scheme_str() {
            Some("ws") => {}
            Some("wss") if cfg!(feature = "tls") => {}
            Some("wss") => return Err("wss:// needs the feature `tls`".into()),
            _ => return Err("the URL must begin with ws:// or wss://".into()),
        }
        for (name, value) in &self.headers {
            request.headers_mut().append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
        }
        Ok(request)
    }
}

/// An address, a header or a certificate that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidTarget(String);

impl std::fmt::Display for InvalidTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the URL, a header or a certificate cannot be used: {}", self.0)
    }
}

impl Error for InvalidTarget {}

/// An open connection.
pub(crate) struct Socket {
    stream: WebSocketStream<ConnectStream>,
    is_flushed: bool,
}

/// Something that arrives at a connection.
#[derive(Debug)]
pub(crate) enum Arrival {
    Message(Message),
    /// A Close, with its code and reason.
    Closed(u16, String),
    /// The end without a Close.
    Lost(String),
}

impl Socket {
    /// Sends messages, as many as the system accepts. Each is taken from `next`.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, mut next: impl FnMut() -> Option<Message>) {
        let mut stream = Pin::new(&mut self.stream);
        // An error is seen by the next read, too.
        while let Poll::Ready(Ok(())) = stream.as_mut().poll_ready(cx) {
            let Some(message) = next() else { break };
            self.is_flushed = false;
            if stream.as_mut().start_send(message).is_err() {
                break;
            }
        }
        if !self.is_flushed {
            self.is_flushed = stream.as_mut().poll_flush(cx).is_ready();
        }
    }

    /// Receives.
    pub(crate) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Arrival> {
        Pin::new(&mut self.stream).poll_next(cx).map(|received| match received {
            Some(Ok(Message::Close(frame))) => closed(frame),
            Some(Ok(message)) => Arrival::Message(message),
            Some(Err(error)) => Arrival::Lost(error.to_string()),
            None => Arrival::Lost("the connection has ended without a Close".into()),
        })
    }

    /// Sends a Close, and ends the connection without waiting for the answer.
    pub(crate) async fn close(mut self: Box<Self>, code: u16) {
        let frame = CloseFrame { code: code.into(), reason: "".into() };
        // The peer may be gone.
        let _ = self.stream.close(Some(frame)).await;
    }
}

fn closed(frame: Option<CloseFrame>) -> Arrival {
    // RFC 6455 §7.1.5: 1005 means a Close without a code.
    frame.map_or(Arrival::Closed(1005, String::new()), |frame| {
        Arrival::Closed(frame.code.into(), frame.reason.as_str().to_owned())
    })
}
