//! Asks the service that checks tokens for the gateway, in the form in which a gateway asks.
//!
//! | answer | verdict |
//! |---|---|
//! | 200 to 299 with the identity headers of an upgrade | the token holds |
//! | 401, 403 | the token does not hold |
//! | 200 to 299 without an identity, or with one that an upgrade would be refused for | unknown |
//! | any other status, a redirect, an error, no answer in time, or too many requests | unknown |

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use postern_core::handshake::{HandshakeConfig, Identity, IdentityHeaders, IdentityRules, IdentityValues};
use postern_core::{BearerToken, TokenCheck, Verdict};
use slog::{Logger, info, warn};
use ureq::http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use ureq::http::{Request, Uri};
use zeroize::Zeroizing;

use super::cache::{Cache, Key, Step};
use super::{AuthSettings, Counts, Done, TIMEOUT};
use crate::outbound::{Answer, Client, ClientConfig, HttpUrl, Pool, PoolConfig, RequestError, SubmitError};

/// The service, with the recent answers.
#[derive(Debug)]
pub(super) struct AuthService {
    pool: Pool,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    url: HttpUrl,
    headers: IdentityHeaders,
    rules: IdentityRules,
    /// The path of requests that are not known.
    path: String,
    cache: Cache,
    counts: Arc<Counts>,
    /// Requests without a usable answer since the last one with it.
    failures: AtomicU32,
    log: Logger,
}

impl AuthService {
    /// Creates it without a thread. `timeout` is the longest time from a check to its answer.
    pub(super) fn new(
        settings: &AuthSettings,
        handshake: &HandshakeConfig,
        timeout: Duration,
        counts: Arc<Counts>,
        log: &Logger,
    ) -> AuthService {
        let client = Client::new(&settings.url, ClientConfig { timeout, ..CLIENT });
        let config = PoolConfig { name: "auth", max_threads: MOST_THREADS, max_queued: MOST_QUEUED, timeout };
        let shared = Shared {
            url: settings.url.clone(),
            headers: handshake.identity.clone(),
            rules: handshake.identity_rules,
            path: handshake.paths.first().map_or("/", |path| path.trim_end_matches('*')).to_owned(),
            cache: Cache::new(settings.cache),
            counts,
            failures: AtomicU32::new(0),
            log: log.clone(),
        };
        AuthService { pool: Pool::new(client, config), shared: Arc::new(shared) }
    }

    pub(super) fn check(&self, check: &TokenCheck, done: Done) {
        let cache = &self.shared.cache;
        let key = cache.key(check.token.as_bytes(), self.shared.path(check));
        match cache.begin(key, done, Instant::now()) {
            Step::Done => {}
            Step::Ask => self.ask(check, key),
        }
    }

    fn ask(&self, check: &TokenCheck, key: Key) {
        let Some(sent) = self.shared.request(check) else {
            return self.shared.cache.complete(key, &Verdict::Refused, Instant::now());
        };
        self.shared.counts.requests.fetch_add(1, Ordering::Relaxed);
        // The pool ends with the service. Without it, no check waits.
        let shared: Weak<Shared> = Arc::downgrade(&self.shared);
        let complete = move |answer: Result<Answer, RequestError>| {
            if let Some(shared) = shared.upgrade() {
                shared.handle(key, answer);
            }
        };
        let submitted: Result<(), SubmitError> = self.pool.submit(sent, complete);
        if let Err(error) = submitted {
            self.shared.fail(&error.to_string());
            self.shared.cache.complete(key, &Verdict::Unknown, Instant::now());
        }
    }

    #[cfg(test)]
    pub(super) fn cached(&self) -> usize {
        self.shared.cache.len()
    }
}

impl Shared {
    fn path<'c>(&'c self, check: &'c TokenCheck) -> &'c str {
        check.path.as_deref().unwrap_or(&self.path)
    }

    /// Creates the request. Returns `None` if a value cannot be a header.
    fn request(&self, check: &TokenCheck) -> Option<Request<Vec<u8>>> {
        let origin: Option<Uri> = check.origin.as_deref().and_then(|origin| origin.parse().ok());
        let proto = origin.as_ref().and_then(Uri::scheme_str).unwrap_or("http").to_owned();
        let host = origin.as_ref().and_then(Uri::authority).or(self.url.uri().authority())?;
        let mut request = Request::get(self.url.uri())
            .header(AUTHORIZATION, authorization(&check.token)?)
            .header("X-Forwarded-Method", "GET")
            .header("X-Forwarded-Proto", proto)
            .header("X-Forwarded-Host", host.as_str())
            .header("X-Forwarded-Uri", self.path(check));
        if let Some(client) = &check.client {
            request = request.header("X-Forwarded-For", &**client);
        }
        request.body(Vec::new()).ok()
    }

    fn handle(&self, key: Key, answer: Result<Answer, RequestError>) {
        let verdict = match answer {
            Ok(Answer { status: 200..=299, headers, .. }) => match self.identity(&headers) {
                Some(identity) => Ok(Verdict::Valid(identity)),
                None => Err("the answer has no valid identity headers".to_owned()),
            },
            Ok(Answer { status: status @ 300..=399, .. }) => {
                Err(format!("the answer is a redirect ({status}), which is not followed"))
            }
            Ok(Answer { status, .. }) if [401, 403].contains(&status) => Ok(Verdict::Refused),
            Ok(Answer { status, .. }) => Err(format!("the answer has the status {status}")),
            Err(error) => Err(error.to_string()),
        };
        let verdict = match verdict {
            Ok(verdict) => {
                if self.failures.swap(0, Ordering::Relaxed) > 0 {
                    info!(self.log, # "auth_recovered", "tokens can be checked again"; "url" => %self.url);
                }
                verdict
            }
            Err(error) => {
                self.fail(&error);
                Verdict::Unknown
            }
        };
        self.cache.complete(key, &verdict, Instant::now());
    }

    /// Logs the 1st, 2nd, 4th, 8th… failure.
    fn fail(&self, error: &str) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if failures.is_power_of_two() {
            warn!(self.log, # "auth_failed", "a token cannot be checked";
                "url" => %self.url, "error" => error, "failures" => failures);
        }
    }

    /// Returns the identity in the headers of an answer, by the rules of an upgrade.
    fn identity(&self, headers: &HeaderMap) -> Option<Identity> {
        let names = &self.headers;
        let values = [
            &names.id,
            &names.email,
            &names.name,
            &names.session_id,
            &names.token_exp,
            &names.token_issued_at,
            &names.token_id,
        ]
        .map(|name| only(headers, name));
        let [Ok(id), Ok(email), Ok(name), Ok(session_id), Ok(token_exp), Ok(token_issued_at), Ok(token_id)] =
            values
        else {
            return None;
        };
        let values = IdentityValues { id, email, name, session_id, token_exp, token_issued_at, token_id };
        self.rules.identity(&values).ok()
    }
}

/// Returns the value of a header, which may be missing. It must not be present twice.
fn only<'h>(headers: &'h HeaderMap, name: &str) -> Result<&'h [u8], ()> {
    if name.is_empty() {
        return Ok(b"");
    }
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(|value| value.as_bytes().trim_ascii()).unwrap_or_default();
    if values.next().is_some() { Err(()) } else { Ok(value) }
}

/// Returns the header with a token. Its memory is overwritten when the request is dropped.
fn authorization(token: &BearerToken) -> Option<HeaderValue> {
    let mut value = Zeroizing::new(Vec::with_capacity(SCHEME.len() + token.as_bytes().len()));
    value.extend_from_slice(SCHEME);
    value.extend_from_slice(token.as_bytes());
    let mut header = HeaderValue::from_maybe_shared(Bytes::from_owner(value)).ok()?;
    header.set_sensitive(true);
    Some(header)
}

const SCHEME: &[u8] = b"Bearer ";

/// The most requests at the same time.
pub(super) const MOST_THREADS: usize = 8;

/// The most requests that are queued. One more is answered at once, as unknown.
const MOST_QUEUED: usize = 1024;

const CLIENT: ClientConfig = ClientConfig {
    timeout: TIMEOUT,
    // The body of an answer is not used.
    max_body: 64 * 1024,
    max_idle: MOST_THREADS,
    accept: "*/*",
};
