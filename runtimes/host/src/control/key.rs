//! Authentication for `/api/*` by API key.

use hyper::header::AUTHORIZATION;
use hyper::{HeaderMap, StatusCode};
use postern_core::handshake::Secrets;

use super::response::ApiError;

/// Checks that the `X-API-Key` of a request is one of the keys, or without it the key of `Authorization: apikey`. The time that
/// this takes depends only on the lengths of the keys.
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
        (None, _) => match authorization(headers) {
            Some(key) if keys.contains(key) => Ok(()),
            Some(_) => error("the key of Authorization: apikey is not one of the keys in POSTERN_API_KEY"),
            None => error("X-API-Key is missing; send one of the keys in POSTERN_API_KEY"),
        },
    }
}

/// Returns the key of the only `Authorization: apikey`.
fn authorization(headers: &HeaderMap) -> Option<&[u8]> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (lines.next(), lines.next()) else { return None };
    let (scheme, key) = value.as_bytes().split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then_some(key)
}

/// The authentication scheme that older SDKs use, with the space after it. Schemes compare without case (RFC 9110 §11.1).
const SCHEME: &[u8] = b"apikey ";

const HEADER: &str = "x-api-key";

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    const OLD: &str = "0123456789abcdef";
    const NEW: &str = "fedcba9876543210";

    fn status(keys: &[&str], sent: &[&str]) -> u16 {
        let sent: Vec<_> = sent.iter().map(|key| (HEADER, *key)).collect();
        status_with(keys, &sent)
    }

    fn status_with(keys: &[&str], sent: &[(&'static str, &str)]) -> u16 {
        let keys = Secrets::new(keys.iter().map(|key| (*key).to_owned()));
        let mut headers = HeaderMap::new();
        for &(name, value) in sent {
            headers.append(name, HeaderValue::from_str(value).unwrap());
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

    #[test]
    fn the_key_may_be_in_the_authorization() {
        const NAME: &str = "authorization";
        for (sent, expected) in [
            (&[(NAME, "apikey 0123456789abcdef")][..], 200),
            (&[(NAME, "ApiKey 0123456789abcdef")], 200),
            (&[(NAME, "apikey fedcba9876543210")], 401),
            (&[(NAME, "Bearer 0123456789abcdef")], 401),
            (&[(NAME, "0123456789abcdef")], 401),
            (&[(NAME, "apikey ")], 401),
            (&[(NAME, "apikey 0123456789abcdef"), (NAME, "apikey 0123456789abcdef")], 401),
            // X-API-Key decides.
            (&[(HEADER, OLD), (NAME, "Basic eA==")], 200),
            (&[(HEADER, NEW), (NAME, "apikey 0123456789abcdef")], 401),
        ] {
            assert_eq!(status_with(&[OLD], sent), expected, "{sent:?}");
        }
    }
}
