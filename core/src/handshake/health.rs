//! Health checks on the port for WebSockets, for platforms and load balancers that support only one port.

use std::fmt;

use httparse::Request;

use super::target::Target;

/// Whether the process admits users.
pub trait Readiness: fmt::Debug + Send + Sync {
    /// Whether the process admits users now. Called once for each health check; must not block.
    fn is_ready(&self) -> bool;
}

/// Whether a request line asks for the health at `path`: by GET or HEAD, in HTTP/1.1, or in HTTP/1.0, which some load
/// balancers speak. An upgrade to that path is a health check, too: a server may ignore `Upgrade` (RFC 9110 §7.8).
pub(super) fn is_health_check(request: &Request<'_, '_>, path: &str) -> bool {
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    matches!(method, "GET" | "HEAD")
        && matches!(request.version, Some(0 | 1))
        && Target::parse(target, method).is_ok_and(|target| target.path() == Some(path))
}
