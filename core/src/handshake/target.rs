//! The target of a request (RFC 9112 §3.2).

use super::error::HandshakeError;
use super::host::{Authority, default_port};

/// The target of a request (RFC 9112 §3.2), without the query, which may contain a token.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target<'h> {
    /// Origin-form: a path.
    Path(&'h str),
    /// Absolute-form: a URL with one of our schemes. `port` is the one that the scheme implies.
    Absolute { authority: Authority<'h>, port: Option<u16>, path: &'h str },
    /// Asterisk-form, of OPTIONS: the server as a whole.
    Asterisk,
}

impl<'h> Target<'h> {
    /// Returns the path, if there is one.
    pub(super) fn path(self) -> Option<&'h str> {
        match self {
            Target::Path(path) | Target::Absolute { path, .. } => Some(path),
            Target::Asterisk => None,
        }
    }

    pub(super) fn parse(target: &'h str, method: &str) -> Result<Target<'h>, HandshakeError> {
        if !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err(HandshakeError::Target);
        }
        if target == "*" && method == "OPTIONS" {
            return Ok(Target::Asterisk);
        }
        let without_query = target.split_once('?').map_or(target, |(before, _)| before);
        if without_query.starts_with('/') {
            return Ok(Target::Path(without_query));
        }
        let (scheme, rest) = without_query.split_once("://").ok_or(HandshakeError::Target)?;
        let port = default_port(scheme).ok_or(HandshakeError::Target)?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let authority = Authority::parse(authority).ok_or(HandshakeError::Target)?;
        // RFC 9110 §4.2.3: an empty path is the same as `/`.
        let path = if path.is_empty() { "/" } else { path };
        Ok(Target::Absolute { authority, port: Some(port), path })
    }
}
