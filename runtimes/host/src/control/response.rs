//! Answers, and errors with a JSON body as those of the data port: `{"error":{"code":"…","message":"…"}}`.

use std::borrow::Cow;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;

/// An answer with its body.
pub(super) type HttpResponse = Response<Full<Bytes>>;

/// Why a request is not answered with what it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
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

impl ApiError {
    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> ApiError {
        ApiError { status, code, message: message.into(), allow: None, closes: false }
    }

    /// A request that says something it cannot say.
    pub(super) fn bad(code: &'static str, message: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// The same error, after which the connection is closed.
    pub(super) fn and_close(self) -> ApiError {
        ApiError { closes: true, ..self }
    }
}

impl From<ApiError> for HttpResponse {
    fn from(error: ApiError) -> HttpResponse {
        let body = json!({ "error": { "code": error.code, "message": error.message } });
        let mut response = as_json(error.status, &body);
        let headers = response.headers_mut();
        if error.status == StatusCode::UNAUTHORIZED {
            // RFC 9110 §11.6.1 wants a challenge; there is no registered scheme for a header of one's own.
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("ApiKey header=\"X-API-Key\""));
        }
        if let Some(allow) = error.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if error.closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// An answer in JSON.
pub(super) fn as_json(status: StatusCode, body: &impl Serialize) -> HttpResponse {
    // What we serialise has text for keys, so it cannot fail.
    let mut text = serde_json::to_vec(body).unwrap_or_default();
    // So that a shell's prompt stands in a line of its own.
    text.push(b'\n');
    response(status, "application/json", text)
}

/// An answer of any other type.
pub(super) fn as_text(content_type: &'static str, text: String) -> HttpResponse {
    response(StatusCode::OK, content_type, text.into_bytes())
}

fn response(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> HttpResponse {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    // All of it is only true now.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_error_says_its_status_its_code_and_what_may_be_done() {
        let error = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method", "no");
        let response = HttpResponse::from(ApiError { allow: Some("GET, HEAD"), ..error.and_close() });
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()[ALLOW], "GET, HEAD");
        assert_eq!(response.headers()[CONNECTION], "close");
        assert!(!response.headers().contains_key(WWW_AUTHENTICATE));
        let response = HttpResponse::from(ApiError::new(StatusCode::UNAUTHORIZED, "api_key", "no"));
        assert!(response.headers().contains_key(WWW_AUTHENTICATE));
        assert!(!response.headers().contains_key(CONNECTION));
    }
}
