//! Parses the queries of requests. An error says what to write instead.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use postern_core::ConnectionId;
use postern_core::worker::Selector;

use super::response::ApiError;

/// `GET /api/connections?…`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListRequest {
    pub(super) selector: Selector,
    /// Only connections with a higher number are listed.
    pub(super) after: u64,
    /// The largest number of connections in the response.
    pub(super) limit: usize,
}

/// Parses the query of a listing.
///
/// # Errors
/// A parameter is unknown, present twice or invalid.
pub(super) fn list(query: &str) -> Result<ListRequest, ApiError> {
    let error = |message: String| ApiError::bad("query", message);
    let [mut user, mut session, mut connection, mut after, mut limit] = [const { None }; 5];
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let place = match name {
            "user" => &mut user,
            "session" => &mut session,
            "connection" => &mut connection,
            "after" => &mut after,
            "limit" => &mut limit,
            _ => {
                return Err(error(
                    "the parameters are user, session, connection, after and limit".to_owned(),
                ));
            }
        };
        // A plus is not decoded to a space, because ids may contain a plus but no space.
        let value = percent_decode_str(value).decode_utf8();
        let value =
            value.map_err(|_| error(format!("{name} is not UTF-8; percent-encode its UTF-8 bytes")))?;
        if place.replace(value).is_some() {
            return Err(error(format!("{name} is present twice; remove one of the two")));
        }
    }
    let number = |name: &str, text: Option<Cow<'_, str>>| {
        let number = text.map(|text| text.parse::<u64>()).transpose();
        number.map_err(|_| error(format!("{name} must be a whole number of at least 0")))
    };
    let connection = number("connection", connection)?;
    let after = number("after", after)?.unwrap_or_default();
    let limit = number("limit", limit)?.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(error(format!("limit must be 1 to {MAX_LIMIT}")));
    }
    let selector = if user.is_none() && session.is_none() && connection.is_none() {
        Selector::All
    } else {
        let (user, session) = (user.map(Cow::into_owned), session.map(Cow::into_owned));
        one_of(user, session, connection)
            .ok_or_else(|| error("name at most one of user, session and connection".to_owned()))?
    };
    // The limit fits into a usize.
    Ok(ListRequest { selector, after, limit: usize::try_from(limit).unwrap_or(usize::MAX) })
}

/// Returns the selector that the only present parameter makes, or `None` if not exactly one is present.
fn one_of(user: Option<String>, session: Option<String>, connection: Option<u64>) -> Option<Selector> {
    match (user, session, connection) {
        (Some(id), None, None) => Some(Selector::User(id)),
        (None, Some(id), None) => Some(Selector::Session(id)),
        (None, None, Some(id)) => Some(Selector::Connection(ConnectionId(id))),
        _ => None,
    }
}

const DEFAULT_LIMIT: u64 = 100;

/// The largest number of connections in a response. A worker takes about a millisecond to describe them, for which
/// its users wait.
const MAX_LIMIT: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_of_all_connections_or_of_one_target() {
        let all = ListRequest { selector: Selector::All, after: 0, limit: 100 };
        for (query, selector) in [
            ("", Selector::All),
            ("user=123", Selector::User("123".to_owned())),
            ("user=a%2Bb%40c", Selector::User("a+b@c".to_owned())),
            ("user=a+b", Selector::User("a+b".to_owned())),
            ("user=", Selector::User(String::new())),
            ("session=s-1", Selector::Session("s-1".to_owned())),
            ("connection=7", Selector::Connection(ConnectionId(7))),
        ] {
            assert_eq!(list(query), Ok(ListRequest { selector, ..all.clone() }), "{query}");
        }
        assert_eq!(list("after=5&limit=2"), Ok(ListRequest { after: 5, limit: 2, ..all }));
        for bad in [
            "users=1",
            "user=1&user=2",
            "user=1&session=2",
            "connection=x",
            "connection=",
            "connection=-1",
            "limit=0",
            "limit=1001",
            "after=1.5",
            "user=%ff",
        ] {
            let error = list(bad).expect_err(bad);
            assert_eq!((error.status.as_u16(), error.code), (400, "query"), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_query_is_a_request_or_an_error_of_the_client(
            query in "[a-z&=%+0-9]{0,40}",
        ) {
            if let Err(error) = list(&query) {
                proptest::prop_assert!(error.status.is_client_error() && !error.message.is_empty());
            }
        }
    }
}
