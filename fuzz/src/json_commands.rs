//! Any message of a client of channels, in JSON.
//!
//! * The commands in front of the first fault, all their fields, and the fault are those that a second reader finds.
//! * Nothing is read after the fault.
//! * A value of the application is accepted if and only if it has at most 128 levels.
//!
//! The second reader splits the message into lines first, and reads each line with `serde_json`.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use centrifuge_client_core::{Bytes, proto};
use postern_channels::protocol::{Command, Commands, Encoding, Malformed, Raw, RawError, Request};
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::rules;

/// Checks a message.
///
/// # Panics
/// That is the finding.
pub fn check(message: &[u8]) {
    let mut commands = Commands::new(Encoding::Json, message);
    let mut lines: Vec<&[u8]> = message.split(|&byte| byte == b'\n').collect();
    if lines.len() > 1 && lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    for line in lines {
        let found = commands.next().expect("a result for each line");
        let expected = read(line);
        rules::assert_same(line, &found, &expected);
        let Ok(command) = found else { break };
        check_values(&command);
    }
    assert_eq!(commands.next(), None, "after {}", message.escape_ascii());
}

fn check_values(command: &Command<'_>) {
    let value = match &command.request {
        Request::Publish(request) => request.data,
        Request::Rpc(request) => request.data,
        Request::Send { data } => *data,
        Request::Connect(request) => request.data,
        Request::Subscribe(request) => request.data,
        Request::Pong
        | Request::Unsubscribe { .. }
        | Request::Presence { .. }
        | Request::PresenceStats { .. }
        | Request::History(_)
        | Request::Refresh { .. }
        | Request::SubRefresh(_) => Raw::default(),
    };
    if value.is_empty() {
        return;
    }
    // A value that is checked as a part of a command is accepted exactly if it is accepted alone.
    let compact = value.compact();
    assert_eq!(compact, Raw::new(value.as_bytes()).compact());
    assert_ne!(compact, Err(RawError::NotJson));
}

/// Reads a line.
fn read(line: &[u8]) -> Result<proto::Command, Malformed> {
    if line.iter().all(|byte| b" \t\r".contains(byte)) {
        return Err(Malformed::Empty);
    }
    let line = std::str::from_utf8(line).map_err(|_| Malformed::Syntax)?;
    // `Text` accepts control characters in strings.
    serde_json::from_str::<IgnoredAny>(line).map_err(|_| Malformed::Syntax)?;
    let command = serde_json::from_str(line).ok().and_then(command).ok_or(Malformed::Syntax)?;
    rules::apply(command)
}

fn command(object: Object<'_>) -> Option<proto::Command> {
    Some(proto::Command {
        id: object.number("id")?,
        connect: object.message("connect", connect)?,
        subscribe: object.message("subscribe", subscribe)?,
        unsubscribe: object.message("unsubscribe", |object| {
            Some(proto::UnsubscribeRequest { channel: object.string("channel")? })
        })?,
        publish: object.message("publish", |object| {
            Some(proto::PublishRequest {
                channel: object.string("channel")?,
                data: object.raw("data"),
                r#type: object.number("type")?,
                key: object.string("key")?,
                removed: object.get("removed")?.unwrap_or_default(),
            })
        })?,
        presence: object.message("presence", |object| {
            Some(proto::PresenceRequest { channel: object.string("channel")? })
        })?,
        presence_stats: object.message("presence_stats", |object| {
            Some(proto::PresenceStatsRequest { channel: object.string("channel")? })
        })?,
        history: object.message("history", |object| {
            Some(proto::HistoryRequest {
                channel: object.string("channel")?,
                limit: object.number("limit")?,
                since: object.object("since", |object| {
                    Some(proto::StreamPosition {
                        offset: object.number("offset")?,
                        epoch: object.string("epoch")?,
                    })
                })?,
                reverse: object.get("reverse")?.unwrap_or_default(),
            })
        })?,
        ping: object.message("ping", |_| Some(proto::PingRequest {}))?,
        send: object.message("send", |object| Some(proto::SendRequest { data: object.raw("data") }))?,
        rpc: object.message("rpc", |object| {
            Some(proto::RpcRequest { data: object.raw("data"), method: object.string("method")? })
        })?,
        refresh: object
            .message("refresh", |object| Some(proto::RefreshRequest { token: object.string("token")? }))?,
        sub_refresh: object.message("sub_refresh", |object| {
            Some(proto::SubRefreshRequest {
                channel: object.string("channel")?,
                token: object.string("token")?,
                r#type: object.number("type")?,
                ..Default::default()
            })
        })?,
    })
}

fn connect(object: Object<'_>) -> Option<proto::ConnectRequest> {
    let read_sub = |value: &str| subscribe(serde_json::from_str(value).ok()?);
    let read_header = |value: &str| Some(serde_json::from_str::<Text>(value).ok()?.0);
    Some(proto::ConnectRequest {
        token: object.string("token")?,
        data: object.raw("data"),
        subs: object.object("subs", |subs| subs.entries(read_sub))?.unwrap_or_default(),
        name: object.string("name")?,
        version: object.string("version")?,
        headers: object.object("headers", |headers| headers.entries(read_header))?.unwrap_or_default(),
        flag: object.number("flag")?,
        dict: object.string("dict")?,
        profile: object.string("profile")?,
    })
}

fn subscribe(object: Object<'_>) -> Option<proto::SubscribeRequest> {
    let filter: Option<Object<'_>> = object.get("tf")?;
    Some(proto::SubscribeRequest {
        channel: object.string("channel")?,
        token: object.string("token")?,
        recover: object.get("recover")?.unwrap_or_default(),
        epoch: object.string("epoch")?,
        offset: object.number("offset")?,
        data: object.raw("data"),
        positioned: object.get("positioned")?.unwrap_or_default(),
        recoverable: object.get("recoverable")?.unwrap_or_default(),
        join_leave: object.get("join_leave")?.unwrap_or_default(),
        delta: object.string("delta")?,
        // Postern reads the contents of a filter later, and answers a malformed one with an error.
        tf: filter.and_then(|filter| filter_node(filter, 32)),
        flag: object.number("flag")?,
        r#type: object.number("type")?,
        phase: object.number("phase")?,
        cursor: object.string("cursor")?,
        limit: object.number("limit")?,
        asc: object.get("asc")?.unwrap_or_default(),
    })
}

fn filter_node(object: Object<'_>, levels: u32) -> Option<proto::FilterNode> {
    let levels = levels.checked_sub(1)?;
    let vals: Vec<Text> = object.get("vals")?.unwrap_or_default();
    // All members are read, and the last one counts.
    let mut nodes = Vec::new();
    for (_, value) in object.0.iter().filter(|(name, _)| name == "nodes") {
        let list: Option<Vec<Object<'_>>> = serde_json::from_str(value.get()).ok()?;
        let list = list.unwrap_or_default().into_iter().map(|node| filter_node(node, levels));
        nodes = list.collect::<Option<_>>()?;
    }
    Some(proto::FilterNode {
        op: object.string("op")?,
        key: object.string("key")?,
        cmp: object.string("cmp")?,
        val: object.string("val")?,
        vals: vals.into_iter().map(|text| text.0).collect(),
        nodes,
    })
}

/// The members of an object, in their order.
#[derive(Default)]
struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Object<'a> {
    /// Returns the last member with this name.
    fn member(&self, name: &str) -> Option<&'a str> {
        self.0.iter().rev().find(|(other, _)| other == name).map(|(_, value)| value.get())
    }

    /// Returns a value, unless it is absent or `null`; or nothing, if a member with this name has another type.
    fn get<T: Deserialize<'a>>(&self, name: &str) -> Option<Option<T>> {
        let mut last = None;
        for (_, value) in self.0.iter().filter(|(other, _)| other == name) {
            last = if value.get() == "null" { None } else { Some(serde_json::from_str(value.get()).ok()?) };
        }
        Some(last)
    }

    /// Reads a request. `null` is the same as no member.
    fn message<T>(&self, name: &str, read: impl Fn(Object<'a>) -> Option<T>) -> Option<Option<T>> {
        Some(self.objects(name, read)?.into_iter().flatten().next_back())
    }

    /// Reads a field that is an object. `null` removes the value of an earlier member with this name.
    fn object<T>(&self, name: &str, read: impl Fn(Object<'a>) -> Option<T>) -> Option<Option<T>> {
        Some(self.objects(name, read)?.pop().flatten())
    }

    fn objects<T>(&self, name: &str, read: impl Fn(Object<'a>) -> Option<T>) -> Option<Vec<Option<T>>> {
        let members = self.0.iter().filter(|(other, _)| other == name).map(|(_, value)| value.get());
        members
            .map(
                |value| {
                    if value == "null" {
                        Some(None)
                    } else {
                        read(serde_json::from_str(value).ok()?).map(Some)
                    }
                },
            )
            .collect()
    }

    fn string(&self, name: &str) -> Option<String> {
        Some(self.get::<Text>(name)?.map(|text| text.0).unwrap_or_default())
    }

    fn number<T: FromStr + Default>(&self, name: &str) -> Option<T> {
        let mut last = T::default();
        for (_, value) in self.0.iter().filter(|(other, _)| other == name) {
            last = match value.get() {
                "null" => T::default(),
                number => serde_json::from_str::<Integer<'_>>(number).ok()?.0.parse().ok()?,
            };
        }
        Some(last)
    }

    /// Reads all members as the entries of a map.
    fn entries<T>(&self, read: impl Fn(&str) -> Option<T>) -> Option<HashMap<String, T>> {
        self.0.iter().map(|(name, value)| Some((name.clone(), read(value.get())?))).collect()
    }

    fn raw(&self, name: &str) -> Bytes {
        Bytes::copy_from_slice(self.member(name).unwrap_or_default().as_bytes())
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<'de>(PhantomData<&'de ()>);
        impl<'de> Visitor<'de> for Members<'de> {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<Text, &RawValue>()? {
                    members.push((name.0, value));
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members(PhantomData))
    }
}

/// An integer. It is not read by `serde_json`, for which `-0` is not an integer.
struct Integer<'a>(&'a str);

impl<'de> Deserialize<'de> for Integer<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&RawValue>::deserialize(deserializer)?.get();
        let is_integer = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        if is_integer { Ok(Integer(text)) } else { Err(D::Error::custom("not an integer")) }
    }
}

/// A string. Lone surrogates become U+FFFD: `serde_json` returns them in the bytes of a string as if they were characters.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Utf8;
        impl Visitor<'_> for Utf8 {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Text, E> {
                let mut bytes = bytes.to_vec();
                for at in 0..bytes.len() {
                    if let Some([0xed, 0xa0..=0xbf, _]) = bytes.get(at..at + 3) {
                        bytes[at..at + 3].copy_from_slice("\u{fffd}".as_bytes());
                    }
                }
                Ok(Text(String::from_utf8(bytes).expect("no surrogates")))
            }
        }
        deserializer.deserialize_bytes(Utf8)
    }
}
