//! The endpoints, by path and method.

use hyper::StatusCode;

use super::api::Method;
use super::response::ApiError;

/// The operation that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// Reports whether the process works or should be restarted.
    Livez,
    /// Reports whether the process should be sent more users.
    Readyz,
    /// Returns the metrics for Prometheus.
    Metrics,
    /// Describes the process.
    Info,
    /// Lists connections.
    Connections,
    /// Closes connections.
    Disconnect,
    /// Sends a message.
    Send,
    /// Performs several requests to disconnect and to send.
    Batch,
    /// Starts a graceful shutdown.
    Drain,
    /// Performs a method of the server API.
    Method(Method),
}

/// All endpoints. A new one needs a line here and one in `AdminApi::handle`.
const ROUTES: &[(&str, Verb, Endpoint)] = &[
    ("/livez", Verb::Get, Endpoint::Livez),
    ("/readyz", Verb::Get, Endpoint::Readyz),
    ("/metrics", Verb::Get, Endpoint::Metrics),
    ("/api/info", Verb::Get, Endpoint::Info),
    ("/api/connections", Verb::Get, Endpoint::Connections),
    ("/api/disconnect", Verb::Post, Endpoint::Disconnect),
    ("/api/send", Verb::Post, Endpoint::Send),
    ("/api/batch", Verb::Post, Endpoint::Batch),
    ("/api/drain", Verb::Post, Endpoint::Drain),
    ("/api/publish", Verb::Post, Endpoint::Method(Method::Publish)),
    ("/api/broadcast", Verb::Post, Endpoint::Method(Method::Broadcast)),
];

/// The method of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    /// GET, and therefore HEAD (RFC 9110 §9.1). It does not change the process.
    Get,
    /// POST, with JSON.
    Post,
}

impl Verb {
    fn admits(self, method: &hyper::Method) -> bool {
        match self {
            Verb::Get => [hyper::Method::GET, hyper::Method::HEAD].contains(method),
            Verb::Post => *method == hyper::Method::POST,
        }
    }

    fn allow(self) -> &'static str {
        match self {
            Verb::Get => "GET, HEAD",
            Verb::Post => "POST",
        }
    }
}

impl Endpoint {
    /// Whether the body of the request is read.
    pub(super) fn takes_body(self) -> bool {
        ROUTES.iter().any(|(_, verb, endpoint)| *endpoint == self && *verb == Verb::Post)
    }
}

/// Whether a path needs an API key. This includes unknown paths below `/api`, so that a client without a key cannot
/// find out which exist.
pub(super) fn needs_key(path: &str) -> bool {
    path.strip_prefix("/api").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns the endpoint of a path.
///
/// # Errors
/// The path is unknown, or does not have this method.
pub(super) fn route(method: &hyper::Method, path: &str) -> Result<Endpoint, ApiError> {
    let Some((_, verb, endpoint)) = ROUTES.iter().find(|(known, ..)| *known == path) else {
        let paths: Vec<&str> = ROUTES.iter().map(|(path, ..)| *path).collect();
        let message = format!("the path is unknown; the paths are {}", paths.join(", "));
        return Err(ApiError::new(StatusCode::NOT_FOUND, "not_found", message));
    };
    if verb.admits(method) {
        return Ok(*endpoint);
    }
    let error = ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method",
        format!("use {} for this path", verb.allow().replace(", ", " or ")),
    );
    Err(ApiError { allow: Some(verb.allow()), ..error })
}

#[cfg(test)]
mod tests {
    use hyper::Method;

    use super::{ROUTES, Verb, needs_key, route};

    #[test]
    fn each_path_has_its_methods() {
        for (path, verb, endpoint) in ROUTES {
            for method in [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE] {
                match route(&method, path) {
                    Ok(found) => assert!(found == *endpoint && verb.admits(&method), "{method} {path}"),
                    Err(error) => {
                        assert!(!verb.admits(&method), "{method} {path}");
                        assert_eq!((error.status.as_u16(), error.allow), (405, Some(verb.allow())));
                    }
                }
            }
        }
        for path in ["/", "", "/livez/", "/LIVEZ", "/api", "/api/", "/api/connections/7", "//livez"] {
            assert_eq!(route(&Method::GET, path).unwrap_err().status.as_u16(), 404, "{path}");
        }
    }

    #[test]
    fn exactly_the_paths_of_the_api_need_a_key() {
        for (path, needs) in [
            ("/api", true),
            ("/api/", true),
            ("/api/info", true),
            ("/api/no/such/path", true),
            ("/apis", false),
            ("/livez", false),
            ("/metrics", false),
        ] {
            assert_eq!(needs_key(path), needs, "{path}");
        }
        assert!(ROUTES.iter().all(|(path, verb, _)| *verb == Verb::Get || needs_key(path)));
    }
}
