//! Answers requests, without sockets.

use std::time::{Duration, SystemTime};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, SET_COOKIE, WWW_AUTHENTICATE,
};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::json;

use crate::bearer::{self, COOKIE_NAME};
use crate::files::Files;
use crate::page::page;
use crate::tokens::{BadToken, Claims, Tokens};
use crate::users;

/// The service.
pub struct Service {
    tokens: Tokens,
    files: Files,
}

/// The answer to a request.
#[derive(Debug)]
pub struct Answer {
    /// The response to the client.
    pub response: Response<Full<Bytes>>,
    /// The id of the user for the request log, if the request has proved one.
    pub user: Option<String>,
    /// The id of the session that the request ends.
    pub ended_session: Option<String>,
}

/// The operation that a request selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/identity/login`
    Login,
    /// `/identity/refresh`
    Refresh,
    /// `/identity/logout`
    Logout,
    /// `/`
    Page,
    /// `/example/`, and everything below
    File,
    /// `/identity/validate` and everything below: Envoy appends the path of the original request.
    Validate,
    /// Any other path.
    Unknown,
}

impl Route {
    /// Returns the route of a path.
    pub fn of(path: &str) -> Self {
        match path.strip_prefix("/identity/") {
            None if path == "/" => Self::Page,
            None if path.starts_with(Files::PREFIX) => Self::File,
            Some("login") => Self::Login,
            Some("refresh") => Self::Refresh,
            Some("logout") => Self::Logout,
            Some(rest) if rest == "validate" || rest.starts_with("validate/") => Self::Validate,
            _ => Self::Unknown,
        }
    }

    /// Whether the body of a request is read.
    pub fn wants_body(self, method: &Method) -> bool {
        self == Self::Login && method == Method::POST
    }
}

impl Service {
    /// Creates the service with these tokens.
    pub fn new(tokens: Tokens) -> Self {
        Self { tokens, files: Files::default() }
    }

    /// Serves these files, too.
    #[must_use]
    pub fn with_files(self, files: Files) -> Self {
        Self { files, ..self }
    }

    /// Answers a request. `body` is empty unless [`Route::wants_body`] is true.
    pub fn answer(&self, head: &Parts, body: &[u8], now: SystemTime) -> Answer {
        match Route::of(head.uri.path()) {
            Route::Login if head.method == Method::POST => self.login(body, now),
            Route::Refresh if head.method == Method::POST => self.refresh(head, now),
            Route::Logout if head.method == Method::POST => self.log_out(head, now),
            Route::Page if [Method::GET, Method::HEAD].contains(&head.method) => {
                Answer { response: page(), user: None, ended_session: None }
            }
            Route::File if [Method::GET, Method::HEAD].contains(&head.method) => {
                match self.files.answer(head.uri.path()) {
                    Some(response) => Answer { response, user: None, ended_session: None },
                    None => refusal(StatusCode::NOT_FOUND, "not_found", "there is no such file"),
                }
            }
            Route::Login | Route::Refresh | Route::Logout => method_not_allowed("POST"),
            Route::Page | Route::File => method_not_allowed("GET, HEAD"),
            Route::Validate => self.validate(head, now),
            Route::Unknown => refusal(StatusCode::NOT_FOUND, "not_found", "there is no such path"),
        }
    }

    fn login(&self, body: &[u8], now: SystemTime) -> Answer {
        #[derive(Deserialize)]
        struct Credentials {
            email: String,
            password: String,
            /// The lifetime of the token in seconds, if it is shorter than the usual one.
            ttl: Option<u64>,
        }

        let Ok(credentials) = serde_json::from_slice::<Credentials>(body) else {
            let message = r#"the body must be {"email": "…", "password": "…"}"#;
            return refusal(StatusCode::BAD_REQUEST, "bad_request", message);
        };
        let Some(user) = users::authenticate(&credentials.email, &credentials.password) else {
            return refusal(StatusCode::UNAUTHORIZED, "bad_credentials", "wrong email or password");
        };
        let token = match credentials.ttl {
            Some(ttl) => self.tokens.issue_for(user, Duration::from_secs(ttl), now),
            None => self.tokens.issue(user, now),
        };
        issued(token.ok(), user.id)
    }

    /// Issues a newer token in the session of a valid one.
    fn refresh(&self, head: &Parts, now: SystemTime) -> Answer {
        match self.check(head, now) {
            Ok(claims) => issued(self.tokens.refresh(&claims, now).ok(), &claims.sub),
            Err(answer) => *answer,
        }
    }

    /// Removes the cookie, and ends the session of the token. Tokens stay valid until they expire: this service stores none.
    fn log_out(&self, head: &Parts, now: SystemTime) -> Answer {
        let mut response = respond(StatusCode::OK, &json!({}));
        let cookie = format!("{COOKIE_NAME}=; Max-Age=0; HttpOnly; SameSite=Strict; Path=/");
        insert(&mut response, SET_COOKIE, cookie.as_bytes());
        let claims = self.check(head, now).ok();
        let (user, ended_session) = claims.map(|claims| (claims.sub, claims.sid)).unzip();
        Answer { response, user, ended_session }
    }

    fn validate(&self, head: &Parts, now: SystemTime) -> Answer {
        let claims = match self.check(head, now) {
            Ok(claims) => claims,
            Err(answer) => return *answer,
        };
        let mut response = respond(StatusCode::OK, &json!({ "id": claims.sub }));
        insert(&mut response, HeaderName::from_static("user-id"), claims.sub.as_bytes());
        insert(&mut response, HeaderName::from_static("user-email"), claims.email.as_bytes());
        // Raw UTF-8: that is how identity services send names, and every gateway passes it on unchanged.
        insert(&mut response, HeaderName::from_static("user-name"), claims.name.as_bytes());
        insert(&mut response, HeaderName::from_static("user-session-id"), claims.sid.as_bytes());
        let exp = claims.exp.to_string();
        insert(&mut response, HeaderName::from_static("user-token-exp"), exp.as_bytes());
        insert(&mut response, HeaderName::from_static("user-token-id"), claims.jti.as_bytes());
        let iat = claims.iat.to_string();
        insert(&mut response, HeaderName::from_static("user-token-issued-at"), iat.as_bytes());
        Answer { response, user: Some(claims.sub), ended_session: None }
    }

    /// Returns the claims of the token in a request, or the refusal.
    fn check(&self, head: &Parts, now: SystemTime) -> Result<Claims, Box<Answer>> {
        let (code, message) = match bearer::token(&head.headers).map(|token| self.tokens.check(token, now)) {
            Some(Ok(claims)) => return Ok(claims),
            Some(Err(BadToken::Expired)) => ("token_expired", "the token has expired: log in again"),
            Some(Err(BadToken::Invalid)) => ("token_invalid", "the token is not valid"),
            None => ("token_missing", "send a token in Authorization, a cookie, the query or a subprotocol"),
        };
        let mut answer = refusal(StatusCode::UNAUTHORIZED, code, message);
        answer.response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Err(Box::new(answer))
    }
}

/// Returns the answer with a new token.
fn issued(token: Option<String>, user: &str) -> Answer {
    let Some(token) = token else {
        return refusal(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the token could not be signed");
    };
    let mut response = respond(StatusCode::OK, &json!({ "accessToken": token }));
    // For browsers, which send cookies with a WebSocket handshake and can set no header. `Strict` keeps other
    // sites from opening a connection as this user.
    let cookie = format!("{COOKIE_NAME}={token}; HttpOnly; SameSite=Strict; Path=/");
    insert(&mut response, SET_COOKIE, cookie.as_bytes());
    Answer { response, user: Some(user.to_owned()), ended_session: None }
}

fn method_not_allowed(allowed: &'static str) -> Answer {
    let mut answer = refusal(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        &format!("the method must be {allowed}"),
    );
    answer.response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// Returns a refusal, in the same form as Postern's refusals.
pub fn refusal(status: StatusCode, code: &str, message: &str) -> Answer {
    let response = respond(status, &json!({ "error": { "code": code, "message": message } }));
    Answer { response, user: None, ended_session: None }
}

fn respond(status: StatusCode, body: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // An identity must not be cached: the gateway asks for each request.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Sets a header whose value this service signed. A value that HTTP does not allow is left out: the gateway then
/// injects no header, and Postern refuses the upgrade.
fn insert(response: &mut Response<Full<Bytes>>, name: HeaderName, value: &[u8]) {
    if let Ok(value) = HeaderValue::from_bytes(value) {
        response.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use hyper::Request;

    use super::*;

    fn service() -> Service {
        Service::new(Tokens::new(b"secret", Duration::from_secs(60)))
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn head(method: &str, path: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a good request").into_parts().0
    }

    fn answer(method: &str, path: &str, body: &str) -> Answer {
        service().answer(&head(method, path, &[]), body.as_bytes(), now())
    }

    fn token() -> String {
        Tokens::new(b"secret", Duration::from_secs(60)).issue(&users::USERS[2], now()).expect("it is signed")
    }

    #[test]
    fn paths_map_to_routes() {
        for (path, route) in [
            ("/identity/login", Route::Login),
            ("/identity/login/", Route::Unknown),
            ("/identity/validate", Route::Validate),
            ("/identity/validate/ws", Route::Validate),
            ("/identity/validated", Route::Unknown),
            ("/identity", Route::Unknown),
            ("/", Route::Page),
            ("/index.html", Route::Unknown),
            ("/example", Route::Unknown),
            ("/example/", Route::File),
            ("/example/a.js", Route::File),
            ("/identity/", Route::Unknown),
            ("/identity/logout", Route::Logout),
            ("/identity/refresh", Route::Refresh),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }

    #[test]
    fn login_returns_a_token_and_a_cookie() {
        let answer =
            answer("POST", "/identity/login", r#"{"email":"rene@example.com","password":"password123"}"#);
        assert_eq!(answer.response.status(), StatusCode::OK);
        assert_eq!(answer.user.as_deref(), Some("u-1002"));
        let cookie = answer.response.headers()[SET_COOKIE].to_str().expect("a token is ASCII");
        assert!(cookie.starts_with("access_token=eyJ"), "{cookie}");
        assert!(cookie.ends_with("; HttpOnly; SameSite=Strict; Path=/"), "{cookie}");
    }

    #[test]
    fn login_without_both_fields_or_with_a_wrong_password_is_refused() {
        for (body, status) in [
            ("", 400),
            ("{}", 400),
            ("[]", 400),
            (r#"{"email":"john@example.com"}"#, 400),
            (r#"{"email":"john@example.com","password":1}"#, 400),
            (r#"{"email":"john@example.com","password":"wrong"}"#, 401),
            (r#"{"email":"nobody@example.com","password":"password123"}"#, 401),
        ] {
            let answer = answer("POST", "/identity/login", body);
            assert_eq!((answer.response.status().as_u16(), answer.user), (status, None), "{body}");
        }
    }

    #[test]
    fn validate_accepts_any_method_and_login_only_post() {
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"] {
            let authorization = format!("Bearer {}", token());
            let validate = head(method, "/identity/validate", &[("authorization", &authorization)]);
            assert_eq!(service().answer(&validate, b"", now()).response.status(), StatusCode::OK, "{method}");
            if method != "POST" {
                let answer = answer(method, "/identity/login", "");
                assert_eq!(answer.response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method}");
                assert_eq!(answer.response.headers()[ALLOW], "POST");
            }
        }
    }

    #[test]
    fn logout_removes_the_cookie() {
        let answer = answer("POST", "/identity/logout", "{}");
        assert_eq!(answer.response.status(), StatusCode::OK);
        let cookie = answer.response.headers()[SET_COOKIE].to_str().expect("it is ASCII");
        assert!(cookie.starts_with("access_token=; Max-Age=0;"), "{cookie}");
    }

    #[test]
    fn page_accepts_get_and_head_only() {
        for method in ["GET", "HEAD"] {
            let answer = answer(method, "/", "");
            assert_eq!(answer.response.status(), StatusCode::OK, "{method}");
            assert_eq!(answer.response.headers()[CONTENT_TYPE], "text/html; charset=utf-8", "{method}");
        }
        let answer = answer("POST", "/", "");
        assert_eq!(answer.response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.response.headers()[ALLOW], "GET, HEAD");
    }

    #[test]
    fn validate_returns_the_identity_in_headers_with_the_name_as_raw_utf8() {
        let cookie = format!("access_token={}", token());
        let request = head("GET", "/identity/validate/ws", &[("cookie", &cookie)]);
        let answer = service().answer(&request, b"", now());
        let headers = answer.response.headers();
        assert_eq!(headers["user-id"], "u-1002");
        assert_eq!(headers["user-email"], "rene@example.com");
        assert_eq!(headers["user-name"].as_bytes(), "Renée 李 Дима".as_bytes());
        assert_eq!(headers["user-token-exp"], "1800000060");
        assert_eq!(
            (&headers["user-token-issued-at"], headers["user-token-id"].len()),
            (&HeaderValue::from_static("1800000000"), 16)
        );
        assert_eq!(answer.user.as_deref(), Some("u-1002"));
    }

    #[test]
    fn refusal_has_www_authenticate_and_no_user() {
        let request = head("GET", "/identity/validate", &[("authorization", "Bearer nonsense")]);
        let answer = service().answer(&request, b"", now());
        assert_eq!(answer.response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(answer.response.headers()[WWW_AUTHENTICATE], "Bearer");
        assert!(!answer.response.headers().contains_key("user-id"));
        assert_eq!(answer.user, None);
    }
}
