//! The parameters of `connections`.

use postern_core::ConnectionId;
use postern_core::worker::Selector;

use super::error::MethodError;
use super::params::Params;

/// The connections to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Listing {
    pub(in super::super) selector: Selector,
    /// Only connections with a higher number are listed.
    pub(in super::super) after: ConnectionId,
    /// The largest number of connections in the result.
    pub(in super::super) limit: usize,
}

/// Parses the parameters of `connections`.
///
/// # Errors
/// A parameter is invalid, or several targets are named.
pub(in super::super) fn listing(params: &Params<'_>) -> Result<Listing, MethodError> {
    let (user, session) = (params.text("user")?, params.text("session")?);
    let selector = match (user.as_str(), session.as_str(), params.uint("connection")?) {
        ("", "", 0) => Selector::All,
        (_, "", 0) => Selector::User(user),
        ("", _, 0) => Selector::Session(session),
        ("", "", connection) => Selector::Connection(ConnectionId(connection)),
        _ => return Err(MethodError::bad("name at most one of user, session and connection")),
    };
    let limit = match params.uint("limit")? {
        0 => DEFAULT_LIMIT,
        limit => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    if limit > MAX_LIMIT {
        return Err(MethodError::bad(format!("limit must be 1 to {MAX_LIMIT}")));
    }
    Ok(Listing { selector, after: ConnectionId(params.uint("after")?), limit })
}

const DEFAULT_LIMIT: usize = 100;

/// The largest number of connections in a result. A worker takes about a millisecond to describe them, for which its users wait.
const MAX_LIMIT: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<Listing, String> {
        let params = Params::parse(body.as_bytes()).expect(body);
        listing(&params).map_err(|error| error.as_json()["message"].to_string())
    }

    #[test]
    fn a_listing_is_of_all_connections_or_of_one_target() {
        let all = Listing { selector: Selector::All, after: ConnectionId(0), limit: 100 };
        for (body, selector) in [
            ("{}", Selector::All),
            (r#"{"user":"","session":null,"connection":0,"limit":0}"#, Selector::All),
            (r#"{"user":"123"}"#, Selector::User("123".to_owned())),
            (r#"{"session":"s-1"}"#, Selector::Session("s-1".to_owned())),
            (r#"{"connection":7}"#, Selector::Connection(ConnectionId(7))),
        ] {
            assert_eq!(parse(body), Ok(Listing { selector, ..all.clone() }), "{body}");
        }
        let page = Listing { after: ConnectionId(5), limit: 1_000, ..all };
        assert_eq!(parse(r#"{"after":5,"limit":1000}"#), Ok(page));
        for (body, message) in [
            (r#"{"user":"1","session":"2"}"#, "name at most one of user, session and connection"),
            (r#"{"user":"1","connection":2}"#, "name at most one of user, session and connection"),
            (r#"{"user":1}"#, "user must be a string"),
            (r#"{"connection":"x"}"#, "connection must be a whole number"),
            (r#"{"limit":1001}"#, "limit must be 1 to 1000"),
            (r#"{"after":1.5}"#, "after must be a whole number"),
        ] {
            let error = parse(body).expect_err(body);
            assert!(error.contains(message), "{body}: {error}");
        }
    }
}
