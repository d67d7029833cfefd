//! The endpoints, by path and method.

use hyper::StatusCode;

use super::api::Method;
use super::console::Asset;
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
    /// Returns a file of the console.
    Console(Asset),
    /// Describes the process.
    Info,
    /// Performs several methods of the server API.
    Batch,
    /// Performs the methods of the server API that the lines of the body name.
    Lines,
    /// Performs a method of the server API.
    Method(Method),
}

/// All endpoints, except for each [`Method`]. A new one needs a line here and one in `AdminApi::handle`.
const ROUTES: &[(&str, Verb, Endpoint)] = &[
    ("/livez", Verb::Get, Endpoint::Livez),
    ("/readyz", Verb::Get, Endpoint::Readyz),
    ("/metrics", Verb::Get, Endpoint::Metrics),
    ("/", Verb::Get, Endpoint::Console(Asset::Page)),
    ("/console.css", Verb::Get, Endpoint::Console(Asset::Style)),
    ("/console.js", Verb::Get, Endpoint::Console(Asset::Script)),
    ("/api/info", Verb::Get, Endpoint::Info),
    ("/api/batch", Verb::Post, Endpoint::Batch),
    ("/api", Verb::Post, Endpoint::Lines),
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
        let is_post = |&(_, verb, endpoint): &(_, _, _)| endpoint == self && verb == Verb::Post;
        matches!(self, Endpoint::Method(_)) || ROUTES.iter().any(is_post)
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
    let verbs = routes(path);
    if verbs.is_empty() {
        let paths: Vec<&str> = ROUTES.iter().map(|(path, ..)| *path).collect();
        let message = format!(
            "the path is unknown; the paths are {}, and /api/METHOD with the methods {}",
            paths.join(", "),
            Method::names()
        );
        return Err(ApiError::new(StatusCode::NOT_FOUND, "not_found", message));
    }
    if let Some((_, endpoint)) = verbs.iter().find(|(verb, _)| verb.admits(method)) {
        return Ok(*endpoint);
    }
    let allow = match verbs[..] {
        [(verb, _)] => verb.allow(),
        _ => "GET, HEAD, POST",
    };
    let message = format!("use {} for this path", allow.replace(", ", " or "));
    let error = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method", message);
    Err(ApiError { allow: Some(allow), ..error })
}

/// Returns the endpoints of a path, by their methods of HTTP.
fn routes(path: &str) -> Vec<(Verb, Endpoint)> {
    let routes =
        ROUTES.iter().filter(|(known, ..)| *known == path).map(|&(_, verb, endpoint)| (verb, endpoint));
    let method = path.strip_prefix("/api/").and_then(Method::from_name);
    routes.chain(method.map(|method| (Verb::Post, Endpoint::Method(method)))).collect()
}

#[cfg(test)]
mod tests {
    use hyper::Method;

    use super::Method as ApiMethod;
    use super::{ROUTES, Verb, needs_key, route, routes};

    #[test]
    fn each_path_has_its_methods() {
        let paths = ROUTES.iter().map(|(path, ..)| (*path).to_owned());
        let methods = ApiMethod::ALL.map(|(name, _)| format!("/api/{name}"));
        for path in paths.chain(methods) {
            let verbs = routes(&path);
            for method in [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE] {
                let expected =
                    verbs.iter().find(|(verb, _)| verb.admits(&method)).map(|&(_, endpoint)| endpoint);
                match route(&method, &path) {
                    Ok(found) => assert_eq!(Some(found), expected, "{method} {path}"),
                    Err(error) => {
                        assert_eq!((error.status.as_u16(), expected), (405, None), "{method} {path}");
                        let allow = error.allow.expect("the methods");
                        assert!(
                            verbs.iter().all(|(verb, _)| allow.contains(verb.allow())),
                            "{path}: {allow}"
                        );
                    }
                }
            }
        }
        assert_eq!(routes("/api/info").len(), 2);
        for path in ["", "/livez/", "/LIVEZ", "/api/", "/api/connections/7", "/api/Publish", "//livez"] {
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
