//! Parses requests: query strings and JSON bodies. An error says what to write instead.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use percent_encoding::percent_decode_str;
use postern_core::worker::{AdminRequest, OutgoingMessage, Selector};
use postern_core::{CloseCode, ConnectionId, close_code};
use serde::Deserialize;
use serde_json::error::Category;

use super::api::Params;
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

/// The body of `POST /api/disconnect`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DisconnectRequest {
    pub(super) selector: Selector,
    pub(super) code: CloseCode,
    pub(super) reason: String,
}

/// The body of `POST /api/send`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SendRequest {
    pub(super) selector: Selector,
    pub(super) message: OutgoingMessage,
}

/// A command for all workers: a whole request, or a part of `POST /api/batch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Disconnect(DisconnectRequest),
    Send(SendRequest),
}

impl Command {
    /// Returns the request to a worker.
    pub(super) fn to_admin(&self) -> AdminRequest {
        match self {
            Command::Disconnect(DisconnectRequest { selector, code, reason }) => {
                AdminRequest::Disconnect { selector: selector.clone(), code: *code, reason: reason.clone() }
            }
            Command::Send(SendRequest { selector, message }) => {
                AdminRequest::Send { selector: selector.clone(), message: message.clone() }
            }
        }
    }
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

/// Parses the parameters of a method.
///
/// # Errors
/// The body is not a JSON object.
pub(super) fn params(body: &[u8]) -> Result<Params<'_>, ApiError> {
    Params::parse(body).map_err(|error| match error.classify() {
        Category::Data => ApiError::bad("json", OBJECT),
        Category::Eof | Category::Syntax | Category::Io => {
            ApiError::bad("json", format!("the body is not JSON: {error}"))
        }
    })
}

/// Parses the body of `POST /api/disconnect`.
///
/// # Errors
/// The body is not such a request.
pub(super) fn disconnect(body: &[u8]) -> Result<DisconnectRequest, ApiError> {
    parse::<DisconnectBody>(body)?.check()
}

/// Parses the body of `POST /api/send`. The message may have up to `max_message` bytes.
///
/// # Errors
/// The body is not such a request.
pub(super) fn send(body: &[u8], max_message: usize) -> Result<SendRequest, ApiError> {
    parse::<SendBody>(body)?.check(max_message)
}

/// Parses the body of `POST /api/batch`.
///
/// # Errors
/// The body is not such a request, or a command is invalid.
pub(super) fn batch(body: &[u8], max_message: usize) -> Result<Vec<Command>, ApiError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        commands: Vec<CommandBody>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum CommandBody {
        Disconnect(DisconnectBody),
        Send(SendBody),
    }

    let Body { commands } = parse(body)?;
    if commands.len() > MAX_COMMANDS {
        return Err(ApiError::bad("batch", format!("a batch has at most {MAX_COMMANDS} commands")));
    }
    let check = |(number, command)| {
        let checked = match command {
            CommandBody::Disconnect(body) => body.check().map(Command::Disconnect),
            CommandBody::Send(body) => body.check(max_message).map(Command::Send),
        };
        checked.map_err(|error| ApiError {
            message: format!("commands[{number}]: {}", error.message).into(),
            ..error
        })
    };
    commands.into_iter().enumerate().map(check).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DisconnectBody {
    user: Option<String>,
    session: Option<String>,
    connection: Option<u64>,
    code: Option<u16>,
    reason: Option<String>,
}

impl DisconnectBody {
    fn check(self) -> Result<DisconnectRequest, ApiError> {
        let DisconnectBody { user, session, connection, code, reason } = self;
        let selector = one_of(user, session, connection)
            .ok_or(ApiError::bad("target", "name exactly one of user, session and connection"))?;
        let code = code.unwrap_or(close_code::FORBIDDEN);
        let reason = reason.unwrap_or_else(|| DEFAULT_REASON.to_owned());
        if !matches!(code, 1000 | 1001 | 1008 | 1011..=1013 | 3000..=4999) {
            return Err(ApiError::bad(
                "close_code",
                "code must be 1000, 1001, 1008, 1011 to 1013, or 3000 to 4999",
            ));
        }
        if reason.len() > MAX_REASON {
            let message = format!("reason must have at most {MAX_REASON} bytes");
            return Err(ApiError::bad("close_reason", message));
        }
        Ok(DisconnectRequest { selector, code: CloseCode::from(code), reason })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SendBody {
    user: Option<String>,
    session: Option<String>,
    connection: Option<u64>,
    all: Option<bool>,
    text: Option<String>,
    binary: Option<String>,
}

impl SendBody {
    fn check(self, max_message: usize) -> Result<SendRequest, ApiError> {
        let SendBody { user, session, connection, all, text, binary } = self;
        let selector = match (all, user.is_none() && session.is_none() && connection.is_none()) {
            (None, _) => one_of(user, session, connection),
            (Some(true), true) => Some(Selector::All),
            // False would select no connection, or be ignored.
            (Some(_), _) => None,
        };
        let selector = selector.ok_or(ApiError::bad(
            "target",
            "name exactly one of user, session and connection, or write \"all\":true to send to all connections",
        ))?;
        let message = match (text, binary) {
            (Some(text), None) => OutgoingMessage::Text(text),
            (None, Some(binary)) => {
                let payload = STANDARD.decode(binary);
                OutgoingMessage::Binary(payload.map_err(|_| {
                    ApiError::bad(
                        "message",
                        "binary must be base64 in the standard alphabet (A-Z a-z 0-9 + /), with padding",
                    )
                })?)
            }
            (None, None) => {
                return Err(ApiError::bad(
                    "message",
                    "the message is missing; write text, or binary in base64",
                ));
            }
            (Some(_), Some(_)) => {
                return Err(ApiError::bad("message", "write either text or binary, not both"));
            }
        };
        if message.len() > max_message {
            return Err(ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "message_too_large",
                format!("a message has at most {max_message} bytes (POSTERN_MAX_MESSAGE)"),
            ));
        }
        Ok(SendRequest { selector, message })
    }
}

/// Parses a JSON object. Its unknown and repeated members are errors, because a member must not be ignored.
fn parse<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, ApiError> {
    // Serde reads a struct from an array, too.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(ApiError::bad("json", OBJECT));
    }
    serde_json::from_slice(body).map_err(|error| {
        let message = match error.classify() {
            Category::Data => error.to_string(),
            Category::Eof | Category::Syntax | Category::Io => format!("the body is not JSON: {error}"),
        };
        ApiError::bad("json", message.chars().take(MAX_ERROR).collect::<String>())
    })
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

const OBJECT: &str = "the body must be a JSON object, such as {\"user\":\"123\"}";

const DEFAULT_REASON: &str = "disconnected";

/// The longest reason of a Close frame in bytes, in addition to its code (RFC 6455 §5.5).
const MAX_REASON: usize = 123;

/// The most commands of a batch.
const MAX_COMMANDS: usize = 1_000;

const DEFAULT_LIMIT: u64 = 100;

/// The largest number of connections in a response. A worker takes about a millisecond to describe them, for which
/// its users wait.
const MAX_LIMIT: u64 = 1_000;

/// The longest error of the JSON parser in characters, because it quotes the body.
const MAX_ERROR: usize = 250;

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

    #[test]
    fn a_disconnect_has_one_target_and_a_code_that_a_server_may_send() {
        let body = |text: &str| disconnect(text.as_bytes());
        let user = Selector::User("1".to_owned());
        let reason = DEFAULT_REASON.to_owned();
        let default = DisconnectRequest { selector: user, code: CloseCode::from(4403), reason };
        assert_eq!(body(r#"{"user":"1"}"#), Ok(default.clone()));
        let full = DisconnectRequest { code: CloseCode::NORMAL, reason: "bye".to_owned(), ..default.clone() };
        assert_eq!(body(r#"{"user":"1","code":1000,"reason":"bye"}"#), Ok(full));
        assert_eq!(
            body(r#"{"connection":7}"#).map(|disconnect| disconnect.selector),
            Ok(Selector::Connection(ConnectionId(7)))
        );
        for (text, code) in [
            ("", "json"),
            ("[]", "json"),
            (r#"["1",null,null,null,null]"#, "json"),
            ("{\"user\":1}", "json"),
            (r#"{"user":"1","force":true}"#, "json"),
            (r#"{"user":"1"} {}"#, "json"),
            (r#"{"connection":-1}"#, "json"),
            ("{}", "target"),
            (r#"{"user":"1","connection":1}"#, "target"),
            (r#"{"all":true}"#, "json"),
            (r#"{"user":"1","code":1005}"#, "close_code"),
            (r#"{"user":"1","code":1006}"#, "close_code"),
            (r#"{"user":"1","code":999}"#, "close_code"),
            (r#"{"user":"1","code":5000}"#, "close_code"),
            (r#"{"user":"1","code":65536}"#, "json"),
        ] {
            assert_eq!(body(text).map_err(|error| error.code), Err(code), "{text}");
        }
        let reason = |len| body(&format!(r#"{{"user":"1","reason":"{}"}}"#, "x".repeat(len)));
        assert!(reason(123).is_ok());
        assert_eq!(reason(124).map_err(|error| error.code), Err("close_reason"));
    }

    #[test]
    fn the_error_of_a_bad_body_says_what_is_wrong() {
        let object = "the body must be a JSON object, such as {\"user\":\"123\"}";
        for (text, message) in [
            ("", object),
            ("[]", object),
            (r#"["1",null,null,null,null]"#, object),
            ("7", object),
            ("null", object),
            ("{", "the body is not JSON: EOF while parsing an object at line 1 column 1"),
            ("{user:1}", "the body is not JSON: key must be a string at line 1 column 2"),
            (
                r#"{"usr":"1"}"#,
                "unknown field `usr`, expected one of `user`, `session`, `connection`, `code`, `reason` at line 1 column 6",
            ),
            (r#"{"user":"1","user":"2"}"#, "duplicate field `user` at line 1 column 18"),
            (r#"{"user":1}"#, "invalid type: integer `1`, expected a string at line 1 column 9"),
            (r#"{"user":["1"]}"#, "invalid type: sequence, expected a string at line 1 column 8"),
            (r#"{"connection":"1"}"#, "invalid type: string \"1\", expected u64 at line 1 column 17"),
            (r#"{"connection":-1}"#, "invalid value: integer `-1`, expected u64 at line 1 column 16"),
            (
                r#"{"user":"1","code":65536}"#,
                "invalid value: integer `65536`, expected u16 at line 1 column 24",
            ),
            (r#"{"user":null,"code":4401}"#, "name exactly one of user, session and connection"),
        ] {
            assert_eq!(disconnect(text.as_bytes()).unwrap_err().message, message, "{text}");
        }
        let long = format!(r#"{{"{}":1}}"#, "x".repeat(1_000_000));
        assert_eq!(disconnect(long.as_bytes()).unwrap_err().message.len(), MAX_ERROR);
    }

    #[test]
    fn a_batch_has_only_valid_commands() {
        let body = |text: &str| batch(text.as_bytes(), 5);
        let user = || Selector::User("1".to_owned());
        let sent = |text: &str| {
            Command::Send(SendRequest { selector: user(), message: OutgoingMessage::Text(text.to_owned()) })
        };
        let reason = DEFAULT_REASON.to_owned();
        let closed = DisconnectRequest { selector: user(), code: CloseCode::from(4403), reason };
        assert_eq!(body(r#"{"commands":[]}"#), Ok(vec![]));
        assert_eq!(
            body(r#"{"commands":[{"send":{"user":"1","text":"a"}},{"disconnect":{"user":"1"}}]}"#),
            Ok(vec![sent("a"), Command::Disconnect(closed)])
        );
        for (text, code, message) in [
            ("[]", "json", "the body must be a JSON object"),
            ("{}", "json", "missing field `commands`"),
            (
                r#"{"commands":[{"drain":{}}]}"#,
                "json",
                "unknown variant `drain`, expected `disconnect` or `send`",
            ),
            (r#"{"commands":[{"send":{"usr":"1"}}]}"#, "json", "unknown field `usr`"),
            (
                r#"{"commands":[{"disconnect":{"user":"1"}},{"send":{"text":"a"}}]}"#,
                "target",
                "commands[1]: name",
            ),
            (
                r#"{"commands":[{"send":{"user":"1","text":"123456"}}]}"#,
                "message_too_large",
                "commands[0]: a",
            ),
            (r#"{"commands":[{"disconnect":{"user":"1","code":1}}]}"#, "close_code", "commands[0]: code"),
        ] {
            let error = body(text).expect_err(text);
            assert!(error.code == code && error.message.starts_with(message), "{text}: {error:?}");
        }
        let many = |n| {
            body(&format!(r#"{{"commands":[{}]}}"#, vec![r#"{"send":{"user":"1","text":""}}"#; n].join(",")))
        };
        assert_eq!(many(1_000).map(|commands| commands.len()), Ok(1_000));
        assert_eq!(many(1_001).map_err(|error| error.code), Err("batch"));
    }

    proptest::proptest! {
        #[test]
        fn any_input_is_a_request_or_an_error_of_the_client(
            query in "[a-z&=%+0-9]{0,40}",
            body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60),
        ) {
            let errors = [list(&query).err(), disconnect(&body).err(), send(&body, 10).err(), batch(&body, 10).err()];
            for error in errors.into_iter().flatten() {
                proptest::prop_assert!(error.status.is_client_error() && !error.message.is_empty());
            }
        }
    }

    #[test]
    fn a_send_is_text_or_base64_and_no_longer_than_a_message() {
        let body = |text: &str| send(text.as_bytes(), 5);
        let message = |text| body(text).map(|send| send.message);
        assert_eq!(message(r#"{"user":"1","text":"h\u00e9y"}"#), Ok(OutgoingMessage::Text("héy".to_owned())));
        assert_eq!(message(r#"{"user":"1","text":""}"#), Ok(OutgoingMessage::Text(String::new())));
        let selector = |text| body(text).map(|send| send.selector);
        assert_eq!(selector(r#"{"session":"s-1","text":""}"#), Ok(Selector::Session("s-1".to_owned())));
        assert_eq!(selector(r#"{"all":true,"text":"a"}"#), Ok(Selector::All));
        assert_eq!(selector(r#"{"all":null,"user":"1","text":"a"}"#), Ok(Selector::User("1".to_owned())));
        assert_eq!(message(r#"{"user":"1","binary":"AAH/"}"#), Ok(OutgoingMessage::Binary(vec![0, 1, 0xff])));
        for (text, code) in [
            (r#"{"user":"1"}"#, "message"),
            (r#"{"user":"1","text":"a","binary":"AA=="}"#, "message"),
            (r#"{"user":"1","binary":"AAH"}"#, "message"),
            (r#"{"user":"1","binary":"A-H_"}"#, "message"),
            (r#"{"text":"a"}"#, "target"),
            (r#"{"all":false,"text":"a"}"#, "target"),
            (r#"{"all":false,"user":"1","text":"a"}"#, "target"),
            (r#"{"all":true,"user":"1","text":"a"}"#, "target"),
            (r#"{"all":true,"connection":1,"text":"a"}"#, "target"),
            (r#"{"all":1,"text":"a"}"#, "json"),
            (r#"{"all":"true","text":"a"}"#, "json"),
            (r#"{"user":"1","text":"123456"}"#, "message_too_large"),
            (r#"{"user":"1","binary":"AAAAAAAA"}"#, "message_too_large"),
        ] {
            assert_eq!(message(text).map_err(|error| error.code), Err(code), "{text}");
        }
    }
}
