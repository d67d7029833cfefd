//! Opening a WebSocket connection.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_tungstenite::WebSocketStream;
use async_tungstenite::smol::{ConnectStream, connect_async};
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
    /// Checks the URL and the headers.
    pub(crate) fn check(&self) -> Result<(), InvalidTarget> {
        self.request().map(drop).map_err(|error| InvalidTarget(error.to_string()))
    }

    pub(crate) fn open(&self) -> Opening {
        let target = self.clone();
        Box::pin(async move {
            let refuse = |reason: String| OpenError { reason, is_unauthorized: false };
            let request = target.request().map_err(|error| refuse(error.to_string()))?;
            match connect_async(request).await {
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

/// An address or a header that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidTarget(String);

impl std::fmt::Display for InvalidTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the URL or a header cannot be used: {}", self.0)
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
