//! One HTTP request, and its answer.

use std::fmt;
use std::time::Duration;

use ureq::Agent;
use ureq::http::header::HeaderMap;
use ureq::http::{Method, Request, Response};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector, DefaultConnector};

use super::HttpUrl;
use super::wiping::WipingConnector;
use crate::url::redact_url;

/// The limits of a [`Client`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientConfig {
    /// The maximum time from the look-up of the name to the last byte of the answer.
    pub(crate) timeout: Duration,
    /// The maximum length of the body of an answer, in bytes.
    pub(crate) max_body: u64,
    /// The maximum number of idle connections that are kept for further requests.
    pub(crate) max_idle: usize,
    /// The value of the header `Accept`.
    pub(crate) accept: &'static str,
}

/// Sends requests to one service. Redirects are not followed, because they could lead to a host that is not configured
/// (GHSA-h5rg-8p7f-47g2).
#[derive(Debug, Clone)]
pub(crate) struct Client {
    agent: Agent,
    config: ClientConfig,
}

/// An answer with any status.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body. Empty if the status is not 200 to 299: only the body of a success is used.
    pub(crate) body: Vec<u8>,
}

/// The error of a request without a complete answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RequestError {
    /// There was no complete answer within this time.
    Timeout(Duration),
    /// The body of the answer is longer than this number of bytes.
    TooLarge(u64),
    /// Another error, described for the log, without secrets of the URL.
    Other(String),
    /// The request waited too long for the ones before it, and was not sent.
    NotSent,
    /// The process ends.
    Stopped,
}

impl Client {
    /// Creates a client for the service at `url`. Nothing is sent yet.
    pub(crate) fn new(url: &HttpUrl, config: ClientConfig) -> Client {
        // The system's roots: a service of a company may have a certificate of a private authority.
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let builder = Agent::config_builder()
            .tls_config(tls)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("postern/", env!("CARGO_PKG_VERSION")))
            .accept(config.accept)
            .max_idle_connections(config.max_idle)
            .max_idle_connections_per_host(config.max_idle)
            .max_idle_age(MAX_IDLE_AGE);
        // A proxy of the environment (HTTPS_PROXY) is not used for this host.
        let builder = if url.is_local() { builder.proxy(None) } else { builder };
        let connector = DefaultConnector::default().chain(WipingConnector);
        let agent = Agent::with_parts(builder.build(), connector, DefaultResolver::default());
        Client { agent, config }
    }

    /// Sends a request, and waits for the answer. `remaining` shortens the time-out of the configuration.
    ///
    /// # Errors
    /// The server did not answer completely.
    pub(crate) fn send(
        &self,
        request: Request<Vec<u8>>,
        remaining: Option<Duration>,
    ) -> Result<Answer, RequestError> {
        let timeout = remaining.map_or(self.config.timeout, |remaining| remaining.min(self.config.timeout));
        if timeout.is_zero() {
            return Err(RequestError::Timeout(self.config.timeout));
        }
        let describe = |error| self.describe(error);
        let mut response = self.call(request, timeout).map_err(describe)?;
        let status = response.status();
        let body = if status.is_success() {
            let body = response.body_mut().with_config().limit(self.config.max_body).read_to_vec();
            body.map_err(describe)?
        } else {
            Vec::new()
        };
        Ok(Answer { status: status.as_u16(), headers: std::mem::take(response.headers_mut()), body })
    }

    fn call(
        &self,
        request: Request<Vec<u8>>,
        timeout: Duration,
    ) -> Result<Response<ureq::Body>, ureq::Error> {
        if request.method() == Method::GET {
            let request = request.map(|_| ());
            let request = self.agent.configure_request(request).timeout_global(Some(timeout)).build();
            return self.agent.run(request);
        }
        let request = self.agent.configure_request(request).timeout_global(Some(timeout)).build();
        self.agent.run(request)
    }

    /// Describes an error without terms of the library, and without the secret parts of the URL.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the texts of the others are clear")]
    fn describe(&self, error: ureq::Error) -> RequestError {
        match error {
            ureq::Error::Io(error) => RequestError::Other(error.to_string()),
            ureq::Error::Timeout(_) => RequestError::Timeout(self.config.timeout),
            ureq::Error::BodyExceedsLimit(limit) => RequestError::TooLarge(limit),
            error => RequestError::Other(redact_url(&error.to_string()).into_owned()),
        }
    }
}

/// The end of a sentence in the log.
impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::Timeout(limit) => write!(f, "no complete answer within {} s", limit.as_secs_f64()),
            RequestError::TooLarge(limit) => write!(f, "the answer has more than {} KiB", limit / 1024),
            RequestError::Other(text) => f.write_str(text),
            RequestError::NotSent => f.write_str("not sent, because earlier requests took too long"),
            RequestError::Stopped => f.write_str("the process ends"),
        }
    }
}

/// The time after which an idle connection is not used any more. Some servers close such connections after 5 s, and a request
/// that is sent at the same moment would be lost.
const MAX_IDLE_AGE: Duration = Duration::from_secs(4);
