//! Decodes commands.
//!
//! Unknown fields are skipped. If a field occurs twice, the later value counts, and messages are merged.

use std::borrow::Cow;

use super::super::command::{
    Command, ConnectRequest, Delta, Filter, FilterNode, HistoryRequest, PublishRequest, Request, RpcRequest,
    StreamPosition, SubRefreshRequest, SubscribeRequest,
};
use super::super::{Encoding, Malformed, Raw};
use super::wire::{Reader, Value};

/// The commands of a message, each after its length.
#[derive(Debug, Clone)]
pub(in super::super) struct Delimited<'a> {
    reader: Reader<'a>,
}

impl<'a> Delimited<'a> {
    pub(in super::super) fn new(message: &'a [u8]) -> Delimited<'a> {
        Delimited { reader: Reader::new(message) }
    }

    /// Whether the message has ended.
    pub(in super::super) fn is_at_end(&self) -> bool {
        self.reader.is_at_end()
    }

    /// Returns the number of bytes that are left.
    pub(in super::super) fn remaining(&self) -> usize {
        self.reader.remaining()
    }

    /// Decodes the next command.
    ///
    /// # Errors
    /// The fault of the command.
    pub(in super::super) fn command(&mut self) -> Result<Command<'a>, Malformed> {
        if self.is_at_end() {
            return Err(Malformed::Empty);
        }
        command(self.reader.length_delimited()?)
    }
}

fn command(message: &[u8]) -> Result<Command<'_>, Malformed> {
    let mut id = 0;
    let mut chosen: Option<Request<'_>> = None;
    let mut has_ping = false;
    fields(message, |number, value| {
        let empty = match number {
            1 => {
                id = u32(value)?;
                return Ok(());
            }
            4 => Request::Connect(ConnectRequest::default()),
            5 => Request::Subscribe(SubscribeRequest::default()),
            6 => Request::Unsubscribe { channel: Cow::default() },
            7 => Request::Publish(PublishRequest::default()),
            8 => Request::Presence { channel: Cow::default() },
            9 => Request::PresenceStats { channel: Cow::default() },
            10 => Request::History(HistoryRequest::default()),
            11 => {
                has_ping = true;
                return fields(value.bytes()?, |_, _| Ok(()));
            }
            12 => Request::Send { data: Raw::default() },
            13 => Request::Rpc(RpcRequest::default()),
            14 => Request::Refresh { token: Cow::default() },
            15 => Request::SubRefresh(SubRefreshRequest::default()),
            _ => return Ok(()),
        };
        let message = value.bytes()?;
        match &mut chosen {
            Some(request) if request.rank() == empty.rank() => merge(request, message),
            Some(request) if request.rank() < empty.rank() => merge(&mut { empty }, message),
            Some(_) | None => merge(chosen.insert(empty), message),
        }
    })?;
    Command::check(id, chosen, has_ping)
}

/// Sets the fields of a request that the message has.
fn merge<'a>(request: &mut Request<'a>, message: &'a [u8]) -> Result<(), Malformed> {
    match request {
        Request::Pong => Ok(()),
        Request::Connect(request) => connect(request, message),
        Request::Subscribe(request) => subscribe(request, message),
        Request::Unsubscribe { channel }
        | Request::Presence { channel }
        | Request::PresenceStats { channel } => first_string(channel, message),
        Request::Publish(request) => publish(request, message),
        Request::History(request) => history(request, message),
        Request::Rpc(request) => fields(message, |number, value| {
            match number {
                1 => request.data = Raw::new(value.bytes()?),
                2 => request.method = string(value)?,
                _ => {}
            }
            Ok(())
        }),
        Request::Send { data } => fields(message, |number, value| {
            if number == 1 {
                *data = Raw::new(value.bytes()?);
            }
            Ok(())
        }),
        Request::Refresh { token } => first_string(token, message),
        Request::SubRefresh(request) => sub_refresh(request, message),
    }
}

/// Decodes a message that is the content of `connect`. It has no length in front.
///
/// # Errors
/// The message is something else.
pub(in super::super) fn bare_connect(message: &[u8]) -> Result<ConnectRequest<'_>, Malformed> {
    let mut request = ConnectRequest::default();
    connect(&mut request, message)?;
    Ok(request)
}

fn connect<'a>(request: &mut ConnectRequest<'a>, message: &'a [u8]) -> Result<(), Malformed> {
    fields(message, |number, value| {
        match number {
            1 => request.token = string(value)?,
            2 => request.data = Raw::new(value.bytes()?),
            3 => request
                .subs
                .push(entry(value, |sub: &mut SubscribeRequest<'a>, value| subscribe(sub, value.bytes()?))?),
            4 => request.name = string(value)?,
            5 => request.version = string(value)?,
            6 => request.headers.push(entry(value, |header: &mut Cow<'a, str>, value| {
                *header = string(value)?;
                Ok(())
            })?),
            7 => request.flag = i64(value)?,
            8 | 9 => _ = string(value)?,
            _ => {}
        }
        Ok(())
    })
}

fn subscribe<'a>(request: &mut SubscribeRequest<'a>, message: &'a [u8]) -> Result<(), Malformed> {
    fields(message, |number, value| {
        match number {
            1 => request.channel = string(value)?,
            2 => request.token = string(value)?,
            3 => request.recover = bool(value)?,
            6 => request.epoch = string(value)?,
            7 => request.offset = value.varint()?,
            8 => request.data = Raw::new(value.bytes()?),
            9 => request.positioned = bool(value)?,
            10 => request.recoverable = bool(value)?,
            11 => request.join_leave = bool(value)?,
            12 => request.delta = Delta::named(value.string()?),
            13 => request.filter = Some(Filter { encoding: Encoding::Protobuf, bytes: value.bytes()? }),
            14 => request.flag = i64(value)?,
            15 => request.kind = i32(value)?,
            16 | 18 => _ = i32(value)?,
            17 => _ = string(value)?,
            19 => _ = bool(value)?,
            _ => {}
        }
        Ok(())
    })
}

fn publish<'a>(request: &mut PublishRequest<'a>, message: &'a [u8]) -> Result<(), Malformed> {
    fields(message, |number, value| {
        match number {
            1 => request.channel = string(value)?,
            2 => request.data = Raw::new(value.bytes()?),
            3 => request.kind = i32(value)?,
            4 => _ = string(value)?,
            5 => _ = bool(value)?,
            _ => {}
        }
        Ok(())
    })
}

fn history<'a>(request: &mut HistoryRequest<'a>, message: &'a [u8]) -> Result<(), Malformed> {
    fields(message, |number, value| {
        match number {
            1 => request.channel = string(value)?,
            7 => request.limit = i32(value)?,
            8 => position(request.since.get_or_insert_default(), value.bytes()?)?,
            9 => request.reverse = bool(value)?,
            _ => {}
        }
        Ok(())
    })
}

fn position<'a>(position: &mut StreamPosition<'a>, message: &'a [u8]) -> Result<(), Malformed> {
    fields(message, |number, value| {
        match number {
            1 => position.offset = value.varint()?,
            2 => position.epoch = string(value)?,
            _ => {}
        }
        Ok(())
    })
}

fn sub_refresh<'a>(request: &mut SubRefreshRequest<'a>, message: &'a [u8]) -> Result<(), Malformed> {
    fields(message, |number, value| {
        match number {
            1 => request.channel = string(value)?,
            2 => request.token = string(value)?,
            3 => request.kind = i32(value)?,
            4 => _ = value.bytes()?,
            5 => _ = string(value)?,
            _ => {}
        }
        Ok(())
    })
}

/// Decodes the message of a [`Filter`].
///
/// # Errors
/// It is malformed, or has too many levels.
pub(in super::super) fn filter(message: &[u8]) -> Result<FilterNode<'_>, Malformed> {
    filter_node(message, FilterNode::MAX_LEVELS)
}

fn filter_node(message: &[u8], levels: u32) -> Result<FilterNode<'_>, Malformed> {
    let levels = levels.checked_sub(1).ok_or(Malformed::Syntax)?;
    let mut node = FilterNode::default();
    fields(message, |number, value| {
        match number {
            1 => node.op = string(value)?,
            2 => node.key = string(value)?,
            3 => node.cmp = string(value)?,
            4 => node.val = string(value)?,
            5 => node.vals.push(string(value)?),
            6 => node.nodes.push(filter_node(value.bytes()?, levels)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(node)
}

/// Reads a message of which only field 1 counts, a string.
fn first_string<'a>(string: &mut Cow<'a, str>, message: &'a [u8]) -> Result<(), Malformed> {
    fields(message, |number, value| {
        if number == 1 {
            *string = self::string(value)?;
        }
        Ok(())
    })
}

/// Reads an entry of a map: a message of a name and a value.
fn entry<'a, T: Default>(
    entry: Value<'a>,
    read: impl Fn(&mut T, Value<'a>) -> Result<(), Malformed>,
) -> Result<(Cow<'a, str>, T), Malformed> {
    let mut name = Cow::default();
    let mut value = T::default();
    fields(entry.bytes()?, |number, field| {
        match number {
            1 => name = string(field)?,
            2 => read(&mut value, field)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok((name, value))
}

/// Calls `field` with the number and the value of each field of a message.
fn fields<'a>(
    message: &'a [u8],
    mut field: impl FnMut(u32, Value<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.field()? {
        field(number, value)?;
    }
    Ok(())
}

fn string<'a>(value: Value<'a>) -> Result<Cow<'a, str>, Malformed> {
    value.string().map(Cow::Borrowed)
}

fn bool(value: Value<'_>) -> Result<bool, Malformed> {
    Ok(value.varint()? != 0)
}

/// Reads an integer of 32 bits. The higher bits are ignored, as in other implementations.
fn u32(value: Value<'_>) -> Result<u32, Malformed> {
    Ok(value.varint()? as u32)
}

fn i32(value: Value<'_>) -> Result<i32, Malformed> {
    Ok(value.varint()? as i32)
}

fn i64(value: Value<'_>) -> Result<i64, Malformed> {
    Ok(value.varint()? as i64)
}
