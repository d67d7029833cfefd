//! Decodes commands.
//!
//! Names are compared exactly, unknown members are skipped, and of members with the same name the last one counts. `null` is the
//! same as no member, except for values of the application.

use std::borrow::Cow;

use super::super::command::{
    Command, ConnectRequest, Delta, Filter, FilterNode, HistoryRequest, PublishRequest, Request, RpcRequest,
    StreamPosition, SubRefreshRequest, SubscribeRequest,
};
use super::super::{Encoding, Malformed, Raw};
use super::lexer::Lexer;
use super::text;

/// The commands of a message, one in each line.
#[derive(Debug, Clone)]
pub(in super::super) struct Lines<'a> {
    lexer: Lexer<'a>,
    /// Whether bytes follow that are not UTF-8.
    has_bad_tail: bool,
}

impl<'a> Lines<'a> {
    pub(in super::super) fn new(message: &'a [u8]) -> Lines<'a> {
        let (text, has_bad_tail) = match std::str::from_utf8(message) {
            Ok(text) => (text, false),
            Err(error) => {
                let valid = message.get(..error.valid_up_to()).unwrap_or_default();
                (std::str::from_utf8(valid).unwrap_or_default(), true)
            }
        };
        Lines { lexer: Lexer::of_commands(text), has_bad_tail }
    }

    /// Returns the number of bytes that were read.
    pub(in super::super) fn position(&self) -> usize {
        self.lexer.position()
    }

    /// Whether the message has ended. One line feed may follow the last command.
    pub(in super::super) fn is_at_end(&self) -> bool {
        self.lexer.peek().is_none() && !self.has_bad_tail
    }

    /// Decodes the next line, which may be the last.
    ///
    /// # Errors
    /// The fault of the line.
    pub(in super::super) fn command(&mut self) -> Result<Command<'a>, Malformed> {
        let lexer = &mut self.lexer;
        lexer.skip_space();
        match lexer.peek() {
            Some(b'\n') => return Err(Malformed::Empty),
            None if !self.has_bad_tail => return Err(Malformed::Empty),
            None | Some(_) => {}
        }
        let mut id = 0;
        let mut request: Option<Request<'a>> = None;
        let mut has_ping = false;
        if lexer.peek() != Some(b'{') {
            return Err(Malformed::Syntax);
        }
        members(lexer, |lexer, name| {
            let new = match name {
                "id" => {
                    id = u32(lexer)?;
                    return Ok(());
                }
                "connect" => or_null(lexer, connect)?.map(Request::Connect),
                "subscribe" => or_null(lexer, subscribe)?.map(Request::Subscribe),
                "unsubscribe" => or_null(lexer, channel)?.map(|channel| Request::Unsubscribe { channel }),
                "publish" => or_null(lexer, publish)?.map(Request::Publish),
                "presence" => or_null(lexer, channel)?.map(|channel| Request::Presence { channel }),
                "presence_stats" => {
                    or_null(lexer, channel)?.map(|channel| Request::PresenceStats { channel })
                }
                "history" => or_null(lexer, history)?.map(Request::History),
                "rpc" => or_null(lexer, rpc)?.map(Request::Rpc),
                "send" => or_null(lexer, send)?.map(|data| Request::Send { data }),
                "refresh" => or_null(lexer, refresh)?.map(|token| Request::Refresh { token }),
                "sub_refresh" => or_null(lexer, sub_refresh)?.map(Request::SubRefresh),
                "ping" => {
                    has_ping |= or_null(lexer, |lexer| members(lexer, skip))?.is_some();
                    None
                }
                _ => return skip(lexer, name),
            };
            if let Some(new) = new
                && request.as_ref().is_none_or(|chosen| new.rank() <= chosen.rank())
            {
                request = Some(new);
            }
            Ok(())
        })?;
        lexer.skip_space();
        if lexer.peek().is_none() {
            if self.has_bad_tail {
                return Err(Malformed::Syntax);
            }
        } else {
            lexer.expect(b'\n')?;
        }
        Command::check(id, request, has_ping)
    }
}

/// Decodes the JSON text of a [`Filter`].
///
/// # Errors
/// It is malformed, or has too many levels.
pub(in super::super) fn filter(text: &[u8]) -> Result<FilterNode<'_>, Malformed> {
    let text = std::str::from_utf8(text).map_err(|_| Malformed::Syntax)?;
    filter_node(&mut Lexer::of_text(text), FilterNode::MAX_LEVELS)
}

fn filter_node<'a>(lexer: &mut Lexer<'a>, levels: u32) -> Result<FilterNode<'a>, Malformed> {
    let levels = levels.checked_sub(1).ok_or(Malformed::Syntax)?;
    let mut node = FilterNode::default();
    members(lexer, |lexer, name| {
        match name {
            "op" => string(lexer, &mut node.op)?,
            "key" => string(lexer, &mut node.key)?,
            "cmp" => string(lexer, &mut node.cmp)?,
            "val" => string(lexer, &mut node.val)?,
            "vals" => node.vals = or_null(lexer, |lexer| items(lexer, Lexer::string))?.unwrap_or_default(),
            "nodes" => {
                let nodes = or_null(lexer, |lexer| items(lexer, |lexer| filter_node(lexer, levels)))?;
                node.nodes = nodes.unwrap_or_default();
            }
            _ => skip(lexer, name)?,
        }
        Ok(())
    })?;
    Ok(node)
}

/// Decodes a JSON text that is the object of `connect`.
///
/// # Errors
/// The text is something else.
pub(in super::super) fn bare_connect(message: &[u8]) -> Result<ConnectRequest<'_>, Malformed> {
    let text = std::str::from_utf8(message).map_err(|_| Malformed::Syntax)?;
    let mut lexer = Lexer::of_text(text);
    lexer.skip_space();
    let connect = connect(&mut lexer)?;
    lexer.skip_space();
    if lexer.peek().is_some() { Err(Malformed::Syntax) } else { Ok(connect) }
}

fn connect<'a>(lexer: &mut Lexer<'a>) -> Result<ConnectRequest<'a>, Malformed> {
    let mut connect = ConnectRequest::default();
    let mut ignored = Cow::default();
    members(lexer, |lexer, name| {
        match name {
            "token" => string(lexer, &mut connect.token)?,
            "data" => connect.data = text::raw(lexer)?,
            "subs" => connect.subs = or_null(lexer, |lexer| entries(lexer, subscribe))?.unwrap_or_default(),
            "name" => string(lexer, &mut connect.name)?,
            "version" => string(lexer, &mut connect.version)?,
            "headers" => {
                connect.headers = or_null(lexer, |lexer| entries(lexer, Lexer::string))?.unwrap_or_default()
            }
            "flag" => connect.flag = i64(lexer)?,
            "dict" | "profile" => string(lexer, &mut ignored)?,
            _ => skip(lexer, name)?,
        }
        Ok(())
    })?;
    Ok(connect)
}

fn subscribe<'a>(lexer: &mut Lexer<'a>) -> Result<SubscribeRequest<'a>, Malformed> {
    let mut subscribe = SubscribeRequest::default();
    let mut ignored = Cow::default();
    members(lexer, |lexer, name| {
        match name {
            "channel" => string(lexer, &mut subscribe.channel)?,
            "token" => string(lexer, &mut subscribe.token)?,
            "recover" => subscribe.recover = bool(lexer)?,
            "epoch" => string(lexer, &mut subscribe.epoch)?,
            "offset" => subscribe.offset = u64(lexer)?,
            "data" => subscribe.data = text::raw(lexer)?,
            "positioned" => subscribe.positioned = bool(lexer)?,
            "recoverable" => subscribe.recoverable = bool(lexer)?,
            "join_leave" => subscribe.join_leave = bool(lexer)?,
            "delta" => {
                let mut name = Cow::default();
                string(lexer, &mut name)?;
                subscribe.delta = Delta::named(&name);
            }
            "tf" => {
                let is_object = lexer.peek() == Some(b'{');
                let tree = or_null(lexer, text::raw)?;
                if tree.is_some() && !is_object {
                    return Err(Malformed::Syntax);
                }
                subscribe.filter =
                    tree.map(|tree| Filter { encoding: Encoding::Json, bytes: tree.as_bytes() });
            }
            "flag" => subscribe.flag = i64(lexer)?,
            "type" => subscribe.kind = i32(lexer)?,
            "phase" | "limit" => _ = i32(lexer)?,
            "cursor" => string(lexer, &mut ignored)?,
            "asc" => _ = bool(lexer)?,
            _ => skip(lexer, name)?,
        }
        Ok(())
    })?;
    Ok(subscribe)
}

/// Reads an object of which only the channel counts.
fn channel<'a>(lexer: &mut Lexer<'a>) -> Result<Cow<'a, str>, Malformed> {
    field(lexer, "channel", |lexer, channel| string(lexer, channel))
}

fn refresh<'a>(lexer: &mut Lexer<'a>) -> Result<Cow<'a, str>, Malformed> {
    field(lexer, "token", |lexer, token| string(lexer, token))
}

fn send<'a>(lexer: &mut Lexer<'a>) -> Result<Raw<'a>, Malformed> {
    field(lexer, "data", |lexer, data| {
        *data = text::raw(lexer)?;
        Ok(())
    })
}

fn publish<'a>(lexer: &mut Lexer<'a>) -> Result<PublishRequest<'a>, Malformed> {
    let mut publish = PublishRequest::default();
    let mut ignored = Cow::default();
    members(lexer, |lexer, name| {
        match name {
            "channel" => string(lexer, &mut publish.channel)?,
            "data" => publish.data = text::raw(lexer)?,
            "type" => publish.kind = i32(lexer)?,
            "key" => string(lexer, &mut ignored)?,
            "removed" => _ = bool(lexer)?,
            _ => skip(lexer, name)?,
        }
        Ok(())
    })?;
    Ok(publish)
}

fn history<'a>(lexer: &mut Lexer<'a>) -> Result<HistoryRequest<'a>, Malformed> {
    let mut history = HistoryRequest::default();
    members(lexer, |lexer, name| {
        match name {
            "channel" => string(lexer, &mut history.channel)?,
            "limit" => history.limit = i32(lexer)?,
            "since" => history.since = or_null(lexer, position)?,
            "reverse" => history.reverse = bool(lexer)?,
            _ => skip(lexer, name)?,
        }
        Ok(())
    })?;
    Ok(history)
}

fn position<'a>(lexer: &mut Lexer<'a>) -> Result<StreamPosition<'a>, Malformed> {
    let mut position = StreamPosition::default();
    members(lexer, |lexer, name| {
        match name {
            "offset" => position.offset = u64(lexer)?,
            "epoch" => string(lexer, &mut position.epoch)?,
            _ => skip(lexer, name)?,
        }
        Ok(())
    })?;
    Ok(position)
}

fn rpc<'a>(lexer: &mut Lexer<'a>) -> Result<RpcRequest<'a>, Malformed> {
    let mut rpc = RpcRequest::default();
    members(lexer, |lexer, name| {
        match name {
            "data" => rpc.data = text::raw(lexer)?,
            "method" => string(lexer, &mut rpc.method)?,
            _ => skip(lexer, name)?,
        }
        Ok(())
    })?;
    Ok(rpc)
}

fn sub_refresh<'a>(lexer: &mut Lexer<'a>) -> Result<SubRefreshRequest<'a>, Malformed> {
    let mut refresh = SubRefreshRequest::default();
    members(lexer, |lexer, name| {
        match name {
            "channel" => string(lexer, &mut refresh.channel)?,
            "token" => string(lexer, &mut refresh.token)?,
            "type" => refresh.kind = i32(lexer)?,
            _ => skip(lexer, name)?,
        }
        Ok(())
    })?;
    Ok(refresh)
}

/// Reads an object and calls `member` at the value of each member.
fn members<'a>(
    lexer: &mut Lexer<'a>,
    mut member: impl FnMut(&mut Lexer<'a>, &str) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    lexer.expect(b'{')?;
    lexer.skip_space();
    if lexer.skip(b'}') {
        return Ok(());
    }
    loop {
        let name = lexer.string()?;
        lexer.skip_space();
        lexer.expect(b':')?;
        lexer.skip_space();
        member(lexer, &name)?;
        lexer.skip_space();
        if !lexer.skip(b',') {
            return lexer.expect(b'}');
        }
        lexer.skip_space();
    }
}

/// Reads an object with a member of interest.
fn field<'a, T: Default>(
    lexer: &mut Lexer<'a>,
    field: &str,
    read: impl Fn(&mut Lexer<'a>, &mut T) -> Result<(), Malformed>,
) -> Result<T, Malformed> {
    let mut value = T::default();
    members(lexer, |lexer, name| if name == field { read(lexer, &mut value) } else { skip(lexer, name) })?;
    Ok(value)
}

/// Reads an object that is a map.
fn entries<'a, T>(
    lexer: &mut Lexer<'a>,
    mut value: impl FnMut(&mut Lexer<'a>) -> Result<T, Malformed>,
) -> Result<Vec<(Cow<'a, str>, T)>, Malformed> {
    let mut entries = Vec::new();
    lexer.expect(b'{')?;
    lexer.skip_space();
    if lexer.skip(b'}') {
        return Ok(entries);
    }
    loop {
        let name = lexer.string()?;
        lexer.skip_space();
        lexer.expect(b':')?;
        lexer.skip_space();
        entries.push((name, value(lexer)?));
        lexer.skip_space();
        if !lexer.skip(b',') {
            lexer.expect(b'}')?;
            return Ok(entries);
        }
        lexer.skip_space();
    }
}

/// Reads an array.
fn items<'a, T>(
    lexer: &mut Lexer<'a>,
    mut item: impl FnMut(&mut Lexer<'a>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let mut items = Vec::new();
    lexer.expect(b'[')?;
    lexer.skip_space();
    if lexer.skip(b']') {
        return Ok(items);
    }
    loop {
        items.push(item(lexer)?);
        lexer.skip_space();
        if !lexer.skip(b',') {
            lexer.expect(b']')?;
            return Ok(items);
        }
        lexer.skip_space();
    }
}

/// Reads a value, or `null`.
fn or_null<'a, T>(
    lexer: &mut Lexer<'a>,
    value: impl FnOnce(&mut Lexer<'a>) -> Result<T, Malformed>,
) -> Result<Option<T>, Malformed> {
    if lexer.peek() == Some(b'n') {
        lexer.literal("null")?;
        return Ok(None);
    }
    value(lexer).map(Some)
}

/// Skips the value of a member that is not known.
fn skip(lexer: &mut Lexer<'_>, _name: &str) -> Result<(), Malformed> {
    text::skip_value(lexer)?;
    Ok(())
}

fn string<'a>(lexer: &mut Lexer<'a>, value: &mut Cow<'a, str>) -> Result<(), Malformed> {
    *value = or_null(lexer, Lexer::string)?.unwrap_or_default();
    Ok(())
}

fn bool(lexer: &mut Lexer<'_>) -> Result<bool, Malformed> {
    match lexer.peek() {
        Some(b't') => lexer.literal("true").map(|()| true),
        Some(b'f') => lexer.literal("false").map(|()| false),
        _ => or_null(lexer, |_| Err(Malformed::Syntax)).map(|none: Option<bool>| none.unwrap_or_default()),
    }
}

/// Reads an integer. Numbers with a fraction or an exponent are not integers, and strings are not numbers.
fn integer<T: std::str::FromStr + Default>(lexer: &mut Lexer<'_>) -> Result<T, Malformed> {
    let Some(number) = or_null(lexer, Lexer::number)? else { return Ok(T::default()) };
    number.parse().map_err(|_| Malformed::Syntax)
}

fn u32(lexer: &mut Lexer<'_>) -> Result<u32, Malformed> {
    integer(lexer)
}

fn u64(lexer: &mut Lexer<'_>) -> Result<u64, Malformed> {
    integer(lexer)
}

fn i32(lexer: &mut Lexer<'_>) -> Result<i32, Malformed> {
    integer(lexer)
}

fn i64(lexer: &mut Lexer<'_>) -> Result<i64, Malformed> {
    integer(lexer)
}
