//! Responses. Errors have the same JSON body as on the data port: `{"error":{"code":"…","message":"…"}}`.

use std::borrow::Cow;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;

/// A response with its body.
pub(super) type HttpResponse = Response<Full<Bytes>>;

/// The error of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    /// The code for programs.
    pub(super) code: &'static str,
    /// The text for people.
    pub(super) message: Cow<'static, str>,
    /// The methods of the path, for a 405 (RFC 9110 §15.5.6).
    pub(super) allow: Option<&'static str>,
    /// Whether the connection has to be closed, because the request is not read to its end.
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

    /// Creates the error of an invalid request.
    pub(super) fn bad(code: &'static str, message: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// Returns the same error, after which the connection is closed.
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
            // RFC 9110 §11.6.1 requires a challenge, but no scheme is registered for a custom header.
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

/// Returns a response in JSON.
pub(super) fn as_json(status: StatusCode, body: &impl Serialize) -> HttpResponse {
    // It does not fail, because all keys are text.
    let mut text = serde_json::to_vec(body).unwrap_or_default();
    // The prompt of a shell then starts on a new line.
    text.push(b'\n');
    response(status, "application/json", text)
}

/// Returns a response of another type.
pub(super) fn as_text(content_type: &'static str, text: String) -> HttpResponse {
    response(StatusCode::OK, content_type, text.into_bytes())
}

fn response(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> HttpResponse {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    // The response is only valid now.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_headers_of_its_status() {
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
