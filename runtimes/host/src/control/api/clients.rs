//! The methods that concern the clients of a user: they become commands to the workers.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use postern_channels::backend::{ClientCommand, ClientFilter, ServerSubscription};
use postern_channels::claims::Overrides;
use postern_channels::namespaces::Namespaces;
use postern_channels::protocol::{MAX_DEPTH, Raw, StreamPosition};
use postern_channels::publication::ClientId;
use postern_core::worker::{OutgoingMessage, Selector};
use postern_core::{CloseCode, ConnectionId};
use serde::de::IgnoredAny;

use super::ClientMethod;
use super::channel::find_channel;
use super::error::MethodError;
use super::others::Others;
use super::params::Params;
use super::remote;
use super::result::MethodResult;
use crate::escape::Quoted;
use crate::workers::Command;

/// A command to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct ClientCall {
    selector: Selector,
    filter: ClientFilter,
    pub(in super::super) command: ClientCommand,
    /// The message to other nodes. `None`: the target is a connection of this one.
    pub(in super::super) message: Option<Arc<[u8]>>,
}

impl ClientCall {
    /// Parses the parameters of a method. A message may have up to `max_message` bytes.
    pub(in super::super) fn parse(
        method: ClientMethod,
        params: &Params<'_>,
        max_message: usize,
        namespaces: &Namespaces,
    ) -> Result<ClientCall, MethodError> {
        let command = match method {
            ClientMethod::Subscribe => subscribe(params, namespaces)?,
            ClientMethod::Unsubscribe => unsubscribe(params)?,
            ClientMethod::Refresh => refresh(params)?,
            ClientMethod::Disconnect => disconnect(params)?,
            ClientMethod::Send => send(params, max_message)?,
        };
        let (selector, filter) = target(params, method)?;
        let message = match selector {
            Selector::Connection(_) => None,
            Selector::All | Selector::User(_) | Selector::Session(_) => {
                Some(remote::of_clients(method, params))
            }
        };
        Ok(ClientCall { selector, filter, command, message })
    }

    /// Returns the command to each worker.
    pub(in super::super) fn to_worker(&self) -> Command {
        let ClientCall { selector, filter, command, message: _ } = self.clone();
        Command::Clients { selector, filter, command }
    }

    /// Returns whether the command changes subscriptions, which the workers do after they have replied.
    pub(in super::super) fn changes_channels(&self) -> bool {
        matches!(self.command, ClientCommand::Subscribe(_) | ClientCommand::Unsubscribe { .. })
    }

    /// Returns the result for the number of connections that the command has affected here and on other nodes.
    pub(in super::super) fn result(&self, count: usize, others: Option<&Others>) -> MethodResult {
        let name = match self.command {
            ClientCommand::Subscribe(_) => "subscribed",
            ClientCommand::Unsubscribe { .. } => "unsubscribed",
            ClientCommand::Refresh { .. } | ClientCommand::Expire => "refreshed",
            ClientCommand::Disconnect { .. } => "disconnected",
            ClientCommand::Send(_) => "sent",
        };
        Ok(Others::add(others, name, count))
    }
}

/// The target in the log.
impl fmt::Display for ClientCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ClientFilter { user, session, client, except } = &self.filter;
        let mut separator = "";
        let mut part = |name: &str, value: &dyn fmt::Display| -> fmt::Result {
            write!(f, "{separator}{name}{value}")?;
            separator = ", ";
            Ok(())
        };
        if let Selector::Connection(id) = self.selector {
            part("connection ", &id.0)?;
        }
        if let Some(user) = user {
            part("user ", &Quoted(user))?;
        }
        if let Some(session) = session {
            part("session ", &Quoted(session))?;
        }
        if let Some(client) = client {
            part("client ", client)?;
        }
        if self.selector == Selector::All && client.is_none() {
            part("all connections", &"")?;
        }
        if !except.is_empty() {
            part("without ", &format_args!("{} clients", except.len()))?;
        }
        Ok(())
    }
}

/// Parses the target.
fn target(params: &Params<'_>, method: ClientMethod) -> Result<(Selector, ClientFilter), MethodError> {
    let text = |name| params.text(name).map(|text| (!text.is_empty()).then_some(text));
    let (user, session) = (text("user")?, text("session")?);
    let client = text("client")?.map(|text| client_id("client", &text)).transpose()?;
    let connection = params.uint("connection")?;
    let is_for_all = method == ClientMethod::Send && params.flag("all")?;
    let selector = match (connection, &user, &session) {
        (1.., ..) => Selector::Connection(ConnectionId(connection)),
        (0, Some(user), _) => Selector::User(user.clone()),
        (0, None, Some(session)) => Selector::Session(session.clone()),
        (0, None, None) => Selector::All,
    };
    let is_named = selector != Selector::All || client.is_some();
    match (method, is_named, is_for_all) {
        (_, true, false) | (_, false, true) => {}
        (ClientMethod::Send, ..) => {
            return Err(MethodError::bad(
                "name a user, a session or a connection, or write \"all\":true to send to all connections",
            ));
        }
        _ => return Err(MethodError::bad("name a user, a session, a client or a connection")),
    }
    let except = if method == ClientMethod::Disconnect { params.texts("whitelist")? } else { Vec::new() };
    let except = except.iter().map(|text| client_id("whitelist", text)).collect::<Result<_, _>>()?;
    let filter =
        ClientFilter { user: user.map(Into::into), session: session.map(Into::into), client, except };
    Ok((selector, filter))
}

fn client_id(name: &str, text: &str) -> Result<ClientId, MethodError> {
    ClientId::parse(text).ok_or_else(|| {
        MethodError::bad(format!("{name} must have the form of the id in the reply to connect, a UUID"))
    })
}

fn subscribe(params: &Params<'_>, namespaces: &Namespaces) -> Result<ClientCommand, MethodError> {
    let channel = params.text("channel")?;
    find_channel(namespaces, &channel)?;
    let recover_since = match params.object("recover_since")? {
        Some(since) => {
            Some(StreamPosition { offset: since.uint("offset")?, epoch: since.text("epoch")?.into() })
        }
        None => None,
    };
    let options = params.object("override")?.unwrap_or_default();
    let option = |name| match options.object(name)? {
        Some(option) => option.flag("value").map(Some),
        None => Ok(None),
    };
    let overrides = Overrides {
        presence: option("presence")?,
        join_leave: option("join_leave")?,
        force_push_join_leave: option("force_push_join_leave")?,
        force_positioning: option("force_positioning")?,
        force_recovery: option("force_recovery")?,
    };
    Ok(ClientCommand::Subscribe(Box::new(ServerSubscription {
        channel: channel.into(),
        info: json_value(params, "info", "b64info")?,
        data: json_value(params, "data", "b64data")?,
        expires_at: instant(params)?,
        recover_since,
        overrides,
    })))
}

fn refresh(params: &Params<'_>) -> Result<ClientCommand, MethodError> {
    if params.flag("expired")? {
        return Ok(ClientCommand::Expire);
    }
    let info = json_value(params, "info", "b64info")?;
    Ok(ClientCommand::Refresh { expires_at: instant(params)?, info })
}

/// Returns a value of the application, in JSON or in base64.
fn json_value(params: &Params<'_>, name: &str, in_base64: &str) -> Result<Option<Arc<[u8]>>, MethodError> {
    let bytes = params.bytes(in_base64)?;
    let text = match params.raw(name) {
        _ if !bytes.is_empty() => &*bytes,
        None | Some(b"null") => return Ok(None),
        Some(text) => text,
    };
    let compact = Raw::new(text).compact();
    let compact = compact.map_err(|_| {
        MethodError::bad(format!("{name} must be one JSON text of at most {MAX_DEPTH} levels"))
    })?;
    Ok(Some(compact.as_ref().into()))
}

/// Returns the time in `expire_at`, in seconds since 1970. `None`: never.
fn instant(params: &Params<'_>) -> Result<Option<Instant>, MethodError> {
    let at = Duration::from_secs(params.uint("expire_at")?);
    if at.is_zero() {
        return Ok(None);
    }
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let left = at.checked_sub(time).ok_or(MethodError::bad(
        "expire_at has passed; write a time in the future in seconds since 1970, or 0 for never",
    ))?;
    // A time that cannot be expressed is never.
    Ok(Instant::now().checked_add(left))
}

fn unsubscribe(params: &Params<'_>) -> Result<ClientCommand, MethodError> {
    let channel = params.text("channel")?;
    Ok(ClientCommand::Unsubscribe { channel: (!channel.is_empty()).then(|| channel.into()) })
}

fn disconnect(params: &Params<'_>) -> Result<ClientCommand, MethodError> {
    let Some(close) = params.object("disconnect")? else {
        return Ok(ClientCommand::Disconnect { close: None });
    };
    let (code, reason) = (close.uint("code")?, close.text("reason")?);
    if code == 0 && reason.is_empty() {
        return Ok(ClientCommand::Disconnect { close: None });
    }
    if !matches!(code, 1000 | 1001 | 1008 | 1011..=1013 | 3000..=4999) {
        return Err(MethodError::bad(
            "the code of disconnect must be 1000, 1001, 1008, 1011 to 1013, or 3000 to 4999",
        ));
    }
    let reason = if reason.is_empty() { DEFAULT_REASON.to_owned() } else { reason };
    if reason.len() > MAX_REASON {
        return Err(MethodError::bad(format!("the reason of disconnect has at most {MAX_REASON} bytes")));
    }
    // SDKs in JavaScript would read it as the reason of an earlier protocol.
    if serde_json::from_str::<IgnoredAny>(&reason).is_ok() {
        return Err(MethodError::bad("the reason of disconnect must not be JSON; write words"));
    }
    // The code has at most four digits.
    Ok(ClientCommand::Disconnect { close: Some((CloseCode(code as u16), reason.into())) })
}

fn send(params: &Params<'_>, max_message: usize) -> Result<ClientCommand, MethodError> {
    params.check_names(&["user", "session", "connection", "all", "text", "binary"])?;
    let message = match (params.raw("text"), params.raw("binary")) {
        (Some(_), None) => OutgoingMessage::Text(params.text("text")?),
        (None, Some(_)) => OutgoingMessage::Binary(params.bytes("binary")?),
        (None, None) => return Err(MethodError::bad("text is missing; write it, or binary in base64")),
        (Some(_), Some(_)) => return Err(MethodError::bad("text and binary are present; write one of them")),
    };
    if message.len() > max_message {
        return Err(MethodError::bad(format!(
            "a message has at most {max_message} bytes (POSTERN_MAX_MESSAGE)"
        )));
    }
    Ok(ClientCommand::Send(message))
}

const DEFAULT_REASON: &str = "disconnected";

/// The longest reason of a Close frame in bytes, in addition to its code (RFC 6455 §5.5).
const MAX_REASON: usize = 123;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: ClientMethod, body: &str) -> Result<ClientCall, String> {
        let params = Params::parse(body.as_bytes()).unwrap();
        let call = ClientCall::parse(method, &params, 5, &Namespaces::default());
        call.map_err(|error| error.as_json()["message"].to_string())
    }

    #[track_caller]
    fn check(method: ClientMethod, body: &str, target: &str, command: ClientCommand) {
        let call = parse(method, body).expect(body);
        assert_eq!((call.to_string().as_str(), call.command), (target, command), "{body}");
    }

    #[track_caller]
    fn refuse(method: ClientMethod, body: &str, message: &str) {
        let error = parse(method, body).expect_err(body);
        assert!(error.contains("bad request: ") && error.contains(message), "{body}: {error}");
    }

    #[test]
    fn a_disconnect_has_a_target_and_a_code_that_a_server_may_send() {
        const ID: &str = "00000000-0000-4000-8000-000000000000";
        let default = || ClientCommand::Disconnect { close: None };
        let with =
            |code, reason: &str| ClientCommand::Disconnect { close: Some((CloseCode(code), reason.into())) };
        let method = ClientMethod::Disconnect;
        check(method, r#"{"user":"1"}"#, "user \"1\"", default());
        check(method, r#"{"user":"1","session":"","client":null}"#, "user \"1\"", default());
        check(method, r#"{"user":"1","session":"s"}"#, "user \"1\", session \"s\"", default());
        check(method, r#"{"connection":7}"#, "connection 7", default());
        check(method, &format!(r#"{{"client":"{ID}"}}"#), &format!("client {ID}"), default());
        let without = format!(r#"{{"user":"1","whitelist":["{ID}"]}}"#);
        check(method, &without, "user \"1\", without 1 clients", default());
        check(method, r#"{"user":"1","disconnect":{"code":4401}}"#, "user \"1\"", with(4401, "disconnected"));
        check(
            method,
            r#"{"user":"1","disconnect":{"code":1000,"reason":"bye"}}"#,
            "user \"1\"",
            with(1000, "bye"),
        );
        check(method, r#"{"user":"1","disconnect":{"code":0,"reason":""}}"#, "user \"1\"", default());
        for (body, message) in [
            ("{}", "name a user, a session, a client or a connection"),
            (r#"{"all":true}"#, "name a user, a session, a client or a connection"),
            (r#"{"user":1}"#, "user must be a string"),
            (r#"{"client":"1"}"#, "client must have the form of the id in the reply to connect"),
            (r#"{"user":"1","whitelist":["1"]}"#, "whitelist must have the form"),
            (r#"{"connection":-1}"#, "connection must be a whole number"),
            (r#"{"user":"1","disconnect":{"reason":"a"}}"#, "the code of disconnect must be 1000"),
            (r#"{"user":"1","disconnect":{"code":1005}}"#, "the code of disconnect must be 1000"),
            (r#"{"user":"1","disconnect":{"code":5000}}"#, "the code of disconnect must be 1000"),
            (r#"{"user":"1","disconnect":{"code":4000,"reason":"42"}}"#, "must not be JSON"),
        ] {
            refuse(method, body, message);
        }
        let reason =
            |len| format!(r#"{{"user":"1","disconnect":{{"code":4000,"reason":"{}"}}}}"#, "x".repeat(len));
        assert!(parse(method, &reason(123)).is_ok());
        refuse(method, &reason(124), "at most 123 bytes");
    }

    #[test]
    fn a_send_is_text_or_base64_and_not_longer_than_a_message() {
        let text = |text: &str| ClientCommand::Send(OutgoingMessage::Text(text.to_owned()));
        let method = ClientMethod::Send;
        check(method, r#"{"user":"1","text":"h\u00e9y"}"#, "user \"1\"", text("héy"));
        check(method, r#"{"session":"s-1","text":""}"#, "session \"s-1\"", text(""));
        check(method, r#"{"all":true,"text":"a"}"#, "all connections", text("a"));
        check(method, r#"{"all":null,"user":"1","text":"a"}"#, "user \"1\"", text("a"));
        let binary = ClientCommand::Send(OutgoingMessage::Binary(vec![0, 1, 0xff]));
        check(method, r#"{"user":"1","binary":"AAH/"}"#, "user \"1\"", binary);
        for (body, message) in [
            (r#"{"user":"1"}"#, "text is missing"),
            (r#"{"user":"1","text":"a","binary":"AA=="}"#, "write one of them"),
            (r#"{"user":"1","binary":"AAH"}"#, "binary must be base64"),
            (r#"{"user":"1","binary":"A-H_"}"#, "binary must be base64"),
            (r#"{"user":"1","txt":"a"}"#, "txt is unknown; the members are user, session"),
            (r#"{"text":"a"}"#, "name a user, a session or a connection, or write"),
            (r#"{"all":false,"text":"a"}"#, "name a user, a session or a connection, or write"),
            (r#"{"all":true,"user":"1","text":"a"}"#, "name a user, a session or a connection, or write"),
            (r#"{"all":1,"text":"a"}"#, "all must be true or false"),
            (r#"{"user":"1","text":"123456"}"#, "at most 5 bytes (POSTERN_MAX_MESSAGE)"),
            (r#"{"user":"1","binary":"AAAAAAAA"}"#, "at most 5 bytes (POSTERN_MAX_MESSAGE)"),
        ] {
            refuse(method, body, message);
        }
    }

    #[test]
    fn a_subscription_has_a_channel_and_options() {
        let subscription = ServerSubscription {
            channel: "a".into(),
            info: Some(b"{\"a\":1.0}".as_slice().into()),
            data: Some(b"[]".as_slice().into()),
            expires_at: None,
            recover_since: Some(StreamPosition { offset: 7, epoch: "x".into() }),
            overrides: Overrides {
                presence: Some(false),
                force_recovery: Some(true),
                ..Overrides::default()
            },
        };
        let body = r#"{"user":"1","channel":"a","info":{"a": 1.0},"b64data":"W10=","recover_since":{"offset":7,"epoch":"x"},
            "override":{"presence":{"value":false},"force_recovery":{"value":true},"later":{"value":1}}}"#;
        check(ClientMethod::Subscribe, body, "user \"1\"", ClientCommand::Subscribe(Box::new(subscription)));
        for (body, message) in [
            (r#"{"user":"1"}"#, "channel is missing"),
            (r#"{"channel":"a"}"#, "name a user"),
            (r#"{"user":"1","channel":"a","b64info":"?"}"#, "b64info must be base64"),
            (r#"{"user":"1","channel":"a","b64info":"eA=="}"#, "info must be one JSON text"),
            (r#"{"user":"1","channel":"a","expire_at":1}"#, "expire_at has passed"),
            (r#"{"user":"1","channel":"a","override":{"presence":true}}"#, "presence must be an object"),
            (r#"{"user":"1","channel":"a","recover_since":1}"#, "recover_since must be an object"),
        ] {
            refuse(ClientMethod::Subscribe, body, message);
        }
        let unknown = parse(ClientMethod::Subscribe, r#"{"user":"1","channel":"x:a"}"#).unwrap_err();
        assert!(unknown.contains("unknown channel"), "{unknown}");
    }

    #[test]
    fn a_refresh_has_a_time_or_expires_the_connection() {
        check(ClientMethod::Refresh, r#"{"user":"1","expired":true}"#, "user \"1\"", ClientCommand::Expire);
        let never = ClientCommand::Refresh { expires_at: None, info: None };
        check(ClientMethod::Refresh, r#"{"user":"1","expire_at":0}"#, "user \"1\"", never);
        let later = parse(ClientMethod::Refresh, r#"{"user":"1","expire_at":4102444800}"#).unwrap();
        assert!(
            matches!(later.command, ClientCommand::Refresh { expires_at: Some(_), info: None }),
            "{later:?}"
        );
        refuse(ClientMethod::Refresh, r#"{"user":"1","expire_at":1}"#, "expire_at has passed");
        refuse(ClientMethod::Refresh, r#"{}"#, "name a user");
    }

    #[test]
    fn an_unsubscription_is_of_one_channel_or_of_all() {
        let of = |channel: Option<&str>| ClientCommand::Unsubscribe { channel: channel.map(Into::into) };
        check(ClientMethod::Unsubscribe, r#"{"user":"1","channel":"a"}"#, "user \"1\"", of(Some("a")));
        check(ClientMethod::Unsubscribe, r#"{"user":"1"}"#, "user \"1\"", of(None));
        refuse(ClientMethod::Unsubscribe, r#"{"channel":"a"}"#, "name a user");
    }
}
