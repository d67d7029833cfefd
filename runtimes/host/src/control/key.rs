//! Authentication for `/api/*` by API key.

use hyper::{HeaderMap, StatusCode};
use postern_core::handshake::Secrets;

use super::response::ApiError;

/// Checks that the `X-API-Key` of a request is one of the keys. The time that this takes depends only on the
/// lengths of the keys.
///
/// # Errors
/// No key is configured, or the request has no key, a wrong key or several.
pub(super) fn check(keys: &Secrets, headers: &HeaderMap) -> Result<(), ApiError> {
    if keys.is_empty() {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "api_disabled",
            "set POSTERN_API_KEY or POSTERN_API_KEY_FILE to use /api",
        ));
    }
    let error = |message| Err(ApiError::new(StatusCode::UNAUTHORIZED, "api_key", message));
    let mut lines = headers.get_all(HEADER).iter();
    match (lines.next(), lines.next()) {
        (Some(key), None) if keys.contains(key.as_bytes()) => Ok(()),
        (Some(_), None) => error("X-API-Key is not one of the keys in POSTERN_API_KEY"),
        (Some(_), Some(_)) => error("X-API-Key is present twice; send it once"),
        (None, _) => error("X-API-Key is missing; send one of the keys in POSTERN_API_KEY"),
    }
}

const HEADER: &str = "x-api-key";

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    const OLD: &str = "0123456789abcdef";
    const NEW: &str = "fedcba9876543210";

    fn status(keys: &[&str], sent: &[&str]) -> u16 {
        let keys = Secrets::new(keys.iter().map(|key| (*key).to_owned()));
        let mut headers = HeaderMap::new();
        for key in sent {
            headers.append(HEADER, HeaderValue::from_str(key).unwrap());
        }
        check(&keys, &headers).map_or_else(|error| error.status.as_u16(), |()| 200)
    }

    #[test]
    fn only_one_of_the_keys_is_accepted() {
        for (keys, sent, expected) in [
            (&[][..], &[OLD][..], 403),
            (&[], &[], 403),
            (&[], &[""], 403),
            (&[OLD], &[OLD], 200),
            (&[OLD, NEW], &[NEW], 200),
            (&[OLD], &[NEW], 401),
            (&[OLD], &[], 401),
            (&[OLD], &[""], 401),
            (&[OLD], &["0123456789abcde"], 401),
            (&[OLD], &["0123456789ABCDEF"], 401),
            (&[OLD], &["0123456789abcdef,"], 401),
            (&[OLD], &[OLD, OLD], 401),
        ] {
            assert_eq!(status(keys, sent), expected, "{keys:?} {sent:?}");
        }
    }
}
