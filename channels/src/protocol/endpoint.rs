//! The choices that a client makes by its upgrade request.

use super::Encoding;

/// The name of the subprotocol in JSON. No SDK offers it, but a client may.
pub const JSON_SUBPROTOCOL: &str = "centrifuge-json";
/// The name of the subprotocol in Protobuf.
pub const PROTOBUF_SUBPROTOCOL: &str = "centrifuge-protobuf";

/// The choices that a client makes by its upgrade request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// The encoding of the connection.
    pub encoding: Encoding,
    /// Whether the server sends WebSocket pings instead of pings of the protocol. The result of `connect` has neither `ping` nor
    /// `pong` then.
    pub has_frame_pings: bool,
}

impl Endpoint {
    /// Takes the subprotocol of the 101, if it has one, and the function that returns a parameter of the request's query, such as
    /// [`Query::get`](postern_core::handshake::Query::get).
    ///
    /// The encoding is Protobuf if the subprotocol or the query says so (`format=protobuf` or `cf_protocol=protobuf`), otherwise
    /// JSON. Other parameters are ignored.
    pub fn new<'q>(subprotocol: Option<&str>, parameter: impl Fn(&str) -> Option<&'q str>) -> Endpoint {
        let has = |name: &str, value: &str| parameter(name) == Some(value);
        let is_protobuf = subprotocol == Some(PROTOBUF_SUBPROTOCOL)
            || has("format", "protobuf")
            || has("cf_protocol", "protobuf");
        Endpoint {
            encoding: if is_protobuf { Encoding::Protobuf } else { Encoding::Json },
            has_frame_pings: has("cf_ws_frame_ping_pong", "true"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(subprotocol: Option<&str>, query: &str, encoding: Encoding, has_frame_pings: bool) {
        let parameter = |name: &str| {
            let parameters = query.split('&').filter_map(|parameter| parameter.split_once('='));
            parameters.into_iter().find_map(|(key, value)| (key == name).then_some(value))
        };
        assert_eq!(Endpoint::new(subprotocol, parameter), Endpoint { encoding, has_frame_pings });
    }

    #[test]
    fn the_subprotocol_or_the_query_chooses_the_encoding() {
        check(None, "", Encoding::Json, false);
        check(Some(JSON_SUBPROTOCOL), "", Encoding::Json, false);
        check(Some("bearer"), "", Encoding::Json, false);
        check(Some(PROTOBUF_SUBPROTOCOL), "", Encoding::Protobuf, false);
        check(None, "cf_protocol=protobuf", Encoding::Protobuf, false);
        check(None, "access_token=x&format=protobuf&y", Encoding::Protobuf, false);
        check(None, "cf_protocol_version=v2", Encoding::Json, false);
        check(None, "format=json&xformat=protobuf&format=protobuff", Encoding::Json, false);
    }

    #[test]
    fn the_query_chooses_websocket_pings() {
        check(None, "cf_ws_frame_ping_pong=true", Encoding::Json, true);
        check(Some(PROTOBUF_SUBPROTOCOL), "cf_ws_frame_ping_pong=true", Encoding::Protobuf, true);
        check(None, "cf_ws_frame_ping_pong=false", Encoding::Json, false);
        check(None, "cf_ws_frame_ping_pong", Encoding::Json, false);
    }
}
