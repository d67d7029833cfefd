//! Answers, and refusals with a JSON body as those of the data port: `{"error":{"code":"…","message":"…"}}`.

use std::borrow::Cow;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;

/// An answer with its body.
pub(super) type Reply = Response<Full<Bytes>>;

/// Why a request is not answered with what it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// The machine's name of it.
    pub(super) code: &'static str,
    /// The sentence.
    pub(super) message: Cow<'static, str>,
    /// The methods that the path has, for a 405 (RFC 9110 §15.5.6).
    pub(super) allow: Option<&'static str>,
    /// Whether the connection is of no use any more, because the request is not read to its end.
    pub(super) closes: bool,
}

impl Refusal {
    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Refusal {
        Refusal { status, code, message: message.into(), allow: None, closes: false }
    }

    /// A request that says something it cannot say.
    pub(super) fn bad(code: &'static str, message: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// The same refusal, after which the connection is closed.
    pub(super) fn and_close(self) -> Refusal {
        Refusal { closes: true, ..self }
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Reply {
        let body = json!({ "error": { "code": refusal.code, "message": refusal.message } });
        let mut reply = as_json(refusal.status, &body);
        let headers = reply.headers_mut();
        if refusal.status == StatusCode::UNAUTHORIZED {
            // RFC 9110 §11.6.1 wants a challenge; there is no registered scheme for a header of one's own.
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("ApiKey header=\"X-API-Key\""));
        }
        if let Some(allow) = refusal.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if refusal.closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        reply
    }
}

/// An answer in JSON.
pub(super) fn as_json(status: StatusCode, body: &impl Serialize) -> Reply {
    // What we serialise has text for keys, so it cannot fail.
    let mut text = serde_json::to_vec(body).unwrap_or_default();
    // So that a shell's prompt stands in a line of its own.
    text.push(b'\n');
    reply(status, "application/json", text)
}

/// An answer of any other type.
pub(super) fn as_text(content_type: &'static str, text: String) -> Reply {
    reply(StatusCode::OK, content_type, text.into_bytes())
}

fn reply(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    // All of it is only true now.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_its_status_its_code_and_what_may_be_done() {
        let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method", "no");
        let reply = Reply::from(Refusal { allow: Some("GET, HEAD"), ..refusal.and_close() });
        assert_eq!(reply.status(), 405);
        assert_eq!(reply.headers()[ALLOW], "GET, HEAD");
        assert_eq!(reply.headers()[CONNECTION], "close");
        assert!(!reply.headers().contains_key(WWW_AUTHENTICATE));
        let reply = Reply::from(Refusal::new(StatusCode::UNAUTHORIZED, "api_key", "no"));
        assert!(reply.headers().contains_key(WWW_AUTHENTICATE));
        assert!(!reply.headers().contains_key(CONNECTION));
    }
}
