//! What requests say: query strings and JSON bodies become values, or a refusal that says what to write instead.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use percent_encoding::percent_decode_str;
use postern_core::worker::{Outgoing, Selector};
use postern_core::{CloseCode, ConnectionId, close_code};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::error::Category;

use super::response::ApiError;

/// `GET /api/connections?…`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListRequest {
    pub(super) selector: Selector,
    /// Only connections with a higher number.
    pub(super) after: u64,
    /// So many at most.
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
    pub(super) message: Message,
}

/// What is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    Text(String),
    Binary(Vec<u8>),
}

impl Message {
    pub(super) fn outgoing(&self) -> Outgoing<'_> {
        match self {
            Message::Text(text) => Outgoing::Text(text),
            Message::Binary(payload) => Outgoing::Binary(payload),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Message::Text(text) => text.len(),
            Message::Binary(payload) => payload.len(),
        }
    }
}

/// Reads the query of a listing.
///
/// # Errors
/// A parameter that is not known, not one value, or not what it should be.
pub(super) fn list(query: &str) -> Result<ListRequest, ApiError> {
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
                return Err(ApiError::bad(
                    "query",
                    "the parameters are user, session, connection, after and limit",
                ));
            }
        };
        // A plus stays one: ids may have it, and never a space.
        let value = percent_decode_str(value).decode_utf8();
        let value = value.map_err(|_| {
            ApiError::bad("query", format!("{name} is not UTF-8; percent-encode its UTF-8 bytes"))
        })?;
        if place.replace(value).is_some() {
            return Err(ApiError::bad("query", format!("{name} is there twice; leave out one of the two")));
        }
    }
    let number = |name: &str, text: Option<Cow<'_, str>>| match text {
        Some(text) => text
            .parse::<u64>()
            .map(Some)
            .map_err(|_| ApiError::bad("query", format!("{name} must be a whole number of at least 0"))),
        None => Ok(None),
    };
    let connection = number("connection", connection)?;
    let after = number("after", after)?.unwrap_or_default();
    let limit = number("limit", limit)?.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MOST).contains(&limit) {
        return Err(ApiError::bad("query", format!("limit must be 1 to {MOST}")));
    }
    let selector = match (user, session, connection) {
        (None, None, None) => Selector::All,
        (user, session, connection) => {
            one_of(user.map(Cow::into_owned), session.map(Cow::into_owned), connection)
                .ok_or(ApiError::bad("query", ONE_AT_MOST))?
        }
    };
    // It is within what a usize holds.
    Ok(ListRequest { selector, after, limit: usize::try_from(limit).unwrap_or(usize::MAX) })
}

/// Reads the body of a disconnect.
///
/// # Errors
/// It is not that.
pub(super) fn disconnect(body: &[u8]) -> Result<DisconnectRequest, ApiError> {
    let mut fields = Fields::of(body, &["user", "session", "connection", "code", "reason"])?;
    let selector = fields.selector()?;
    let code = fields.number("code", u16::MAX.into())?;
    let reason = fields.text("reason")?.unwrap_or_else(|| DEFAULT_REASON.to_owned());
    // It is no more than a u16 holds.
    let code = code.map_or(close_code::FORBIDDEN, |code| u16::try_from(code).unwrap_or_default());
    if !matches!(code, 1000 | 1001 | 1008 | 1011..=1013 | 3000..=4999) {
        return Err(ApiError::bad(
            "close_code",
            "code must be 1000, 1001, 1008, 1011 to 1013, or 3000 to 4999",
        ));
    }
    if reason.len() > LONGEST_REASON {
        return Err(ApiError::bad(
            "close_reason",
            format!("reason must have at most {LONGEST_REASON} bytes"),
        ));
    }
    Ok(DisconnectRequest { selector, code: CloseCode::from(code), reason })
}

/// Reads the body of a send, whose message may have as many bytes as any message.
///
/// # Errors
/// It is not that.
pub(super) fn send(body: &[u8], max_message: usize) -> Result<SendRequest, ApiError> {
    let mut fields = Fields::of(body, &["user", "session", "connection", "text", "binary"])?;
    let selector = fields.selector()?;
    let message = match (fields.text("text")?, fields.text("binary")?) {
        (Some(text), None) => Message::Text(text),
        (None, Some(binary)) => {
            let payload = STANDARD.decode(binary);
            Message::Binary(payload.map_err(|_| {
                ApiError::bad(
                    "message",
                    "binary must be base64 in the standard alphabet (A-Z a-z 0-9 + /), with padding",
                )
            })?)
        }
        (None, None) => {
            return Err(ApiError::bad("message", "the message is missing; write text, or binary in base64"));
        }
        (Some(_), Some(_)) => return Err(ApiError::bad("message", "write either text or binary, not both")),
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

/// Returns the selector that the only present parameter makes, or `None` if not exactly one is present.
fn one_of(user: Option<String>, session: Option<String>, connection: Option<u64>) -> Option<Selector> {
    match (user, session, connection) {
        (Some(id), None, None) => Some(Selector::User(id)),
        (None, Some(id), None) => Some(Selector::Session(id)),
        (None, None, Some(id)) => Some(Selector::Connection(ConnectionId(id))),
        _ => None,
    }
}

/// The fields of a JSON object, taken out by their names.
struct Fields {
    pairs: Vec<(String, Value)>,
}

impl Fields {
    /// Reads a body.
    ///
    /// # Errors
    /// It is not a JSON object, it has a field that is not `known`, or one twice: what is not understood must not be
    /// ignored.
    fn of(body: &[u8], known: &[&str]) -> Result<Fields, ApiError> {
        let Object(pairs) = serde_json::from_slice(body).map_err(|error| match error.classify() {
            Category::Data => {
                ApiError::bad("json", "the body must be a JSON object, such as {\"user\":\"123\"}")
            }
            Category::Eof if body.iter().all(u8::is_ascii_whitespace) => {
                ApiError::bad("json", "the body is empty; write a JSON object, such as {\"user\":\"123\"}")
            }
            Category::Eof | Category::Syntax | Category::Io => {
                ApiError::bad("json", format!("the body is not JSON: {error}"))
            }
        })?;
        for (index, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let name: String = name.chars().take(MOST_SHOWN).collect();
                let message =
                    format!("{name} is not a field of this request; the fields are {}", known.join(", "));
                return Err(ApiError::bad("json", message));
            }
            if pairs.iter().take(index).any(|(earlier, _)| earlier == name) {
                return Err(ApiError::bad(
                    "json",
                    format!("{name} is there twice; leave out one of the two"),
                ));
            }
        }
        Ok(Fields { pairs })
    }

    /// Takes a field; null is as if it were not there.
    fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.pairs.iter().position(|(known, _)| known == name)?;
        Some(self.pairs.swap_remove(at).1).filter(|value| !value.is_null())
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Number(number)) => {
                Err(ApiError::bad("json", format!("{name} must be a string; write \"{number}\"")))
            }
            Some(_) => Err(ApiError::bad("json", format!("{name} must be a string"))),
        }
    }

    fn number(&mut self, name: &str, most: u64) -> Result<Option<u64>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => match value.as_u64().filter(|number| *number <= most) {
                Some(number) => Ok(Some(number)),
                None if most == u64::MAX => Err(ApiError::bad(
                    "json",
                    format!("{name} must be a whole number of at least 0, without quotes"),
                )),
                None => Err(ApiError::bad(
                    "json",
                    format!("{name} must be a whole number from 0 to {most}, without quotes"),
                )),
            },
        }
    }

    fn selector(&mut self) -> Result<Selector, ApiError> {
        let (user, session) = (self.text("user")?, self.text("session")?);
        let connection = self.number("connection", u64::MAX)?;
        one_of(user, session, connection).ok_or(ApiError::bad("target", EXACTLY_ONE))
    }
}

/// A JSON object with all of its fields, also those that are there twice.
struct Object(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                    if pairs.len() > MOST_FIELDS {
                        // One of them is not known, or is there twice; the rest need not be kept.
                        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                    }
                }
                Ok(Object(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

const DEFAULT_REASON: &str = "disconnected";

/// What fits into a Close beside its code (RFC 6455 §5.5).
const LONGEST_REASON: usize = 123;

const DEFAULT_LIMIT: u64 = 100;

/// The most connections of one answer. To describe so many takes a worker about a millisecond, in which its users wait.
const MOST: u64 = 1_000;

/// More fields than any request has.
const MOST_FIELDS: usize = 16;

/// How much of a name that is not known is repeated, in characters.
const MOST_SHOWN: usize = 64;

const EXACTLY_ONE: &str = "name exactly one of user, session and connection";
const ONE_AT_MOST: &str = "name at most one of user, session and connection";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_of_everybody_or_of_one_name() {
        let everybody = ListRequest { selector: Selector::All, after: 0, limit: 100 };
        for (query, selector) in [
            ("", Selector::All),
            ("user=123", Selector::User("123".to_owned())),
            ("user=a%2Bb%40c", Selector::User("a+b@c".to_owned())),
            ("user=a+b", Selector::User("a+b".to_owned())),
            ("user=", Selector::User(String::new())),
            ("session=s-1", Selector::Session("s-1".to_owned())),
            ("connection=7", Selector::Connection(ConnectionId(7))),
        ] {
            assert_eq!(list(query), Ok(ListRequest { selector, ..everybody.clone() }), "{query}");
        }
        assert_eq!(list("after=5&limit=2"), Ok(ListRequest { after: 5, limit: 2, ..everybody }));
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
            let refusal = list(bad).expect_err(bad);
            assert_eq!((refusal.status.as_u16(), refusal.code), (400, "query"), "{bad}");
        }
    }

    #[test]
    fn a_disconnect_names_one_target_and_a_code_that_a_server_may_send() {
        let body = |text: &str| disconnect(text.as_bytes());
        let user = Selector::User("1".to_owned());
        let reason = DEFAULT_REASON.to_owned();
        let default = DisconnectRequest { selector: user, code: CloseCode::from(4403), reason };
        assert_eq!(body(r#"{"user":"1"}"#), Ok(default.clone()));
        let said = DisconnectRequest { code: CloseCode::NORMAL, reason: "bye".to_owned(), ..default.clone() };
        assert_eq!(body(r#"{"user":"1","code":1000,"reason":"bye"}"#), Ok(said));
        assert_eq!(
            body(r#"{"connection":7}"#).map(|disconnect| disconnect.selector),
            Ok(Selector::Connection(ConnectionId(7)))
        );
        for (text, code) in [
            ("", "json"),
            ("[]", "json"),
            ("{\"user\":1}", "json"),
            (r#"{"user":"1","force":true}"#, "json"),
            (r#"{"user":"1"} {}"#, "json"),
            (r#"{"connection":-1}"#, "json"),
            ("{}", "target"),
            (r#"{"user":"1","connection":1}"#, "target"),
            (r#"{"user":"1","code":1005}"#, "close_code"),
            (r#"{"user":"1","code":1006}"#, "close_code"),
            (r#"{"user":"1","code":999}"#, "close_code"),
            (r#"{"user":"1","code":5000}"#, "close_code"),
            (r#"{"user":"1","code":65536}"#, "json"),
        ] {
            assert_eq!(body(text).map_err(|refusal| refusal.code), Err(code), "{text}");
        }
        let reason = |len| body(&format!(r#"{{"user":"1","reason":"{}"}}"#, "x".repeat(len)));
        assert!(reason(123).is_ok());
        assert_eq!(reason(124).map_err(|refusal| refusal.code), Err("close_reason"));
    }

    #[test]
    fn a_bad_body_is_told_in_the_terms_of_json_and_http() {
        for (text, message) in [
            ("", "the body is empty; write a JSON object, such as {\"user\":\"123\"}"),
            ("[]", "the body must be a JSON object, such as {\"user\":\"123\"}"),
            ("7", "the body must be a JSON object, such as {\"user\":\"123\"}"),
            ("null", "the body must be a JSON object, such as {\"user\":\"123\"}"),
            ("{", "the body is not JSON: EOF while parsing an object at line 1 column 1"),
            ("{user:1}", "the body is not JSON: key must be a string at line 1 column 2"),
            (
                r#"{"usr":"1"}"#,
                "usr is not a field of this request; the fields are user, session, connection, code, reason",
            ),
            (r#"{"user":"1","user":"2"}"#, "user is there twice; leave out one of the two"),
            (r#"{"user":1}"#, "user must be a string; write \"1\""),
            (r#"{"user":["1"]}"#, "user must be a string"),
            (r#"{"connection":"1"}"#, "connection must be a whole number of at least 0, without quotes"),
            (r#"{"connection":-1}"#, "connection must be a whole number of at least 0, without quotes"),
            (r#"{"user":"1","code":65536}"#, "code must be a whole number from 0 to 65535, without quotes"),
            (r#"{"user":"1","code":"4401"}"#, "code must be a whole number from 0 to 65535, without quotes"),
            (r#"{"user":null,"code":4401}"#, EXACTLY_ONE),
        ] {
            assert_eq!(disconnect(text.as_bytes()).unwrap_err().message, message, "{text}");
        }
        let many: Vec<String> = (0..100).map(|number| format!("\"{number}\":1")).collect();
        let refusal = disconnect(format!("{{{}}}", many.join(",")).as_bytes()).unwrap_err();
        assert!(refusal.message.starts_with("0 is not a field of this request"), "{}", refusal.message);
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_said_is_a_request_or_a_refusal_with_a_sentence(
            query in "[a-z&=%+0-9]{0,40}",
            body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60),
        ) {
            let refusals = [list(&query).err(), disconnect(&body).err(), send(&body, 10).err()];
            for refusal in refusals.into_iter().flatten() {
                proptest::prop_assert!(refusal.status.is_client_error() && !refusal.message.is_empty());
            }
        }
    }

    #[test]
    fn a_send_is_text_or_base64_and_no_longer_than_a_message() {
        let body = |text: &str| send(text.as_bytes(), 5);
        let message = |text| body(text).map(|send| send.message);
        assert_eq!(message(r#"{"user":"1","text":"h\u00e9y"}"#), Ok(Message::Text("héy".to_owned())));
        assert_eq!(message(r#"{"user":"1","text":""}"#), Ok(Message::Text(String::new())));
        assert_eq!(message(r#"{"user":"1","binary":"AAH/"}"#), Ok(Message::Binary(vec![0, 1, 0xff])));
        for (text, code) in [
            (r#"{"user":"1"}"#, "message"),
            (r#"{"user":"1","text":"a","binary":"AA=="}"#, "message"),
            (r#"{"user":"1","binary":"AAH"}"#, "message"),
            (r#"{"user":"1","binary":"A-H_"}"#, "message"),
            (r#"{"text":"a"}"#, "target"),
            (r#"{"user":"1","text":"123456"}"#, "message_too_large"),
            (r#"{"user":"1","binary":"AAAAAAAA"}"#, "message_too_large"),
        ] {
            assert_eq!(message(text).map_err(|refusal| refusal.code), Err(code), "{text}");
        }
    }
}
