//! Which path is what, by which method.

use hyper::{Method, StatusCode};

use super::response::ApiError;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// Whether the process should be started anew.
    Livez,
    /// Whether it should be sent more users.
    Readyz,
    /// The metrics for Prometheus.
    Metrics,
    /// What the process is.
    Info,
    /// Who is connected.
    Connections,
    /// To close connections.
    Disconnect,
    /// To send a message.
    Send,
    /// To stop so that nobody notices.
    Drain,
}

/// All endpoints. A new one takes a line here and one in `AdminApi::handle`.
const ROUTES: &[(&str, Verb, Endpoint)] = &[
    ("/livez", Verb::Get, Endpoint::Livez),
    ("/readyz", Verb::Get, Endpoint::Readyz),
    ("/metrics", Verb::Get, Endpoint::Metrics),
    ("/api/info", Verb::Get, Endpoint::Info),
    ("/api/connections", Verb::Get, Endpoint::Connections),
    ("/api/disconnect", Verb::Post, Endpoint::Disconnect),
    ("/api/send", Verb::Post, Endpoint::Send),
    ("/api/drain", Verb::Post, Endpoint::Drain),
];

/// How a path is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    /// By GET, and so by HEAD (RFC 9110 §9.1). It changes nothing.
    Get,
    /// By POST, with JSON.
    Post,
}

impl Verb {
    fn admits(self, method: &Method) -> bool {
        match self {
            Verb::Get => [Method::GET, Method::HEAD].contains(method),
            Verb::Post => *method == Method::POST,
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
    /// Whether the request has a body that matters.
    pub(super) fn takes_body(self) -> bool {
        ROUTES.iter().any(|(_, verb, action)| *action == self && *verb == Verb::Post)
    }
}

/// Whether a path is for those alone who have a key. So is what is not there: nobody else learns that.
pub(super) fn needs_key(path: &str) -> bool {
    path.strip_prefix("/api").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What is asked for.
///
/// # Errors
/// Nothing is there, or not by this method.
pub(super) fn route(method: &Method, path: &str) -> Result<Endpoint, ApiError> {
    let Some((_, verb, action)) = ROUTES.iter().find(|(known, ..)| *known == path) else {
        let paths: Vec<&str> = ROUTES.iter().map(|(path, ..)| *path).collect();
        let message = format!("there is nothing at this path; the paths are {}", paths.join(", "));
        return Err(ApiError::new(StatusCode::NOT_FOUND, "not_found", message));
    };
    if verb.admits(method) {
        return Ok(*action);
    }
    let refusal = ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method",
        format!("use {} for this path", verb.allow().replace(", ", " or ")),
    );
    Err(ApiError { allow: Some(verb.allow()), ..refusal })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_its_methods() {
        for (path, verb, action) in ROUTES {
            for method in [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE] {
                match route(&method, path) {
                    Ok(found) => assert!(found == *action && verb.admits(&method), "{method} {path}"),
                    Err(refusal) => {
                        assert!(!verb.admits(&method), "{method} {path}");
                        assert_eq!((refusal.status.as_u16(), refusal.allow), (405, Some(verb.allow())));
                    }
                }
            }
        }
        for path in ["/", "", "/livez/", "/LIVEZ", "/api", "/api/", "/api/connections/7", "//livez"] {
            assert_eq!(route(&Method::GET, path).unwrap_err().status.as_u16(), 404, "{path}");
        }
    }

    #[test]
    fn all_of_the_api_and_nothing_else_needs_a_key() {
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
