//! Encodes replies.

use super::super::reply::{
    Answer, ClientInfo, ConnectResult, Data, HistoryResult, Publication, Push, PushBody, Reply,
    SubscribePush, SubscribeResult, Topic,
};
use super::lexer::plain_len;

/// Appends a reply.
pub(in super::super) fn reply(out: &mut Vec<u8>, reply: &Reply<'_>) {
    let mut object = Object::new(out);
    match reply {
        Reply::Ping => {}
        Reply::Answer { id, answer } => {
            object.uint("id", u64::from(*id));
            self::answer(&mut object, answer);
        }
        Reply::Error { id, error } => {
            object.uint("id", u64::from(*id));
            object.object("error", |object| {
                object.uint("code", u64::from(error.code));
                object.string("message", error.message);
                object.flag("temporary", error.is_temporary);
            });
        }
        Reply::Push(push) => object.object("push", |object| self::push(object, push)),
    }
    object.end();
}

/// Appends a push without the reply around it.
pub(in super::super) fn bare_push(out: &mut Vec<u8>, push: &Push<'_>) {
    let mut object = Object::new(out);
    self::push(&mut object, push);
    object.end();
}

/// Appends the result of a command, without the reply around it.
pub fn write_result(out: &mut Vec<u8>, answer: &Answer<'_>) {
    let mut object = Object::new(out);
    result(&mut object, answer);
    object.end();
}

fn answer(object: &mut Object<'_>, answer: &Answer<'_>) {
    let name = match answer {
        Answer::Connect(_) => "connect",
        Answer::Subscribe(_) => "subscribe",
        Answer::Unsubscribe => "unsubscribe",
        Answer::Publish => "publish",
        Answer::Presence { .. } => "presence",
        Answer::PresenceStats { .. } => "presence_stats",
        Answer::History(_) => "history",
        Answer::Rpc { .. } => "rpc",
        Answer::Refresh { .. } => "refresh",
        Answer::SubRefresh { .. } => "sub_refresh",
    };
    object.object(name, |object| result(object, answer));
}

fn result(object: &mut Object<'_>, answer: &Answer<'_>) {
    match answer {
        Answer::Connect(result) => connect(object, result),
        Answer::Subscribe(result) => subscribe(object, result),
        Answer::Unsubscribe | Answer::Publish => {}
        Answer::Presence { presence } => object.object("presence", |object| {
            for (client, info) in *presence {
                object.object(client, |object| client_info(object, info));
            }
        }),
        Answer::PresenceStats { clients, users } => {
            object.any_uint("num_clients", u64::from(*clients));
            object.any_uint("num_users", u64::from(*users));
        }
        Answer::History(result) => history(object, result),
        Answer::Rpc { data } => object.raw("data", data),
        Answer::Refresh { client, version, expires } => {
            object.string("client", client);
            object.string("version", version);
            object.expiry(*expires);
        }
        Answer::SubRefresh { expires } => object.expiry(*expires),
    }
}

fn push(object: &mut Object<'_>, push: &Push<'_>) {
    match push.topic {
        Topic::Connection => {}
        Topic::Channel(channel) => object.string("channel", channel),
        Topic::Id(id) => object.int("id", id),
    }
    match &push.body {
        PushBody::Publication(value) => object.object("pub", |object| publication(object, value)),
        PushBody::Join(info) => {
            object.object("join", |object| object.object("info", |object| client_info(object, info)));
        }
        PushBody::Leave(info) => {
            object.object("leave", |object| object.object("info", |object| client_info(object, info)));
        }
        PushBody::Unsubscribe { code, reason } => object.object("unsubscribe", |object| {
            object.uint("code", u64::from(*code));
            object.string("reason", reason);
        }),
        PushBody::Message { data } => object.object("message", |object| object.raw("data", data)),
        PushBody::Subscribe(value) => object.object("subscribe", |object| subscribe_push(object, value)),
        PushBody::Connect(result) => object.object("connect", |object| connect(object, result)),
        PushBody::Disconnect { code, reason } => object.object("disconnect", |object| {
            object.uint("code", u64::from(*code));
            object.string("reason", reason);
        }),
        PushBody::Refresh { expires } => object.object("refresh", |object| object.expiry(*expires)),
    }
}

fn connect(object: &mut Object<'_>, result: &ConnectResult<'_>) {
    object.string("client", result.client);
    object.string("version", result.version);
    object.expiry(result.expires);
    object.raw("data", result.data);
    if !result.subs.is_empty() {
        object.object("subs", |object| {
            for (channel, result) in result.subs {
                object.object(channel, |object| subscribe(object, result));
            }
        });
    }
    object.uint("ping", u64::from(result.ping));
    object.flag("pong", result.pong);
    object.string("session", result.session);
    object.string("node", result.node);
    object.int("time", result.time);
}

fn subscribe(object: &mut Object<'_>, result: &SubscribeResult<'_>) {
    object.expiry(result.expires);
    object.flag("recoverable", result.recoverable);
    object.string("epoch", result.epoch);
    if !result.publications.is_empty() {
        object.array("publications", result.publications, publication);
    }
    object.flag("recovered", result.recovered);
    object.uint("offset", result.offset);
    object.flag("positioned", result.positioned);
    object.raw("data", result.data);
    object.flag("was_recovering", result.was_recovering);
    object.flag("delta", result.delta);
    object.int("id", result.id);
}

/// All members are sent, even if they are empty.
fn history(object: &mut Object<'_>, result: &HistoryResult<'_>) {
    object.array("publications", result.publications, publication);
    object.any_string("epoch", result.epoch);
    object.any_uint("offset", result.offset);
}

fn subscribe_push(object: &mut Object<'_>, value: &SubscribePush<'_>) {
    object.flag("recoverable", value.recoverable);
    object.string("epoch", value.epoch);
    object.uint("offset", value.offset);
    object.flag("positioned", value.positioned);
    object.raw("data", value.data);
}

fn publication(object: &mut Object<'_>, value: &Publication<'_>) {
    match value.data {
        Data::Raw(data) => object.raw("data", data),
        Data::Text(data) => object.any_string("data", data),
    }
    if let Some(info) = &value.info {
        object.object("info", |object| client_info(object, info));
    }
    object.uint("offset", value.offset);
    if !value.tags.is_empty() {
        object.object("tags", |object| {
            for (name, value) in value.tags {
                object.any_string(name, value);
            }
        });
    }
    object.flag("delta", value.delta);
    object.string("epoch", value.epoch);
}

/// The ids are sent even if they are empty.
fn client_info(object: &mut Object<'_>, info: &ClientInfo<'_>) {
    object.any_string("user", info.user);
    object.any_string("client", info.client);
    object.raw("conn_info", info.conn_info);
    object.raw("chan_info", info.chan_info);
}

/// Appends a JSON string.
pub fn write_string(out: &mut Vec<u8>, string: &str) {
    out.push(b'"');
    let mut rest = string.as_bytes();
    loop {
        let (plain, tail) = rest.split_at_checked(plain_len(rest)).unwrap_or((rest, &[]));
        out.extend_from_slice(plain);
        let Some((&byte, tail)) = tail.split_first() else { break };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            }
        }
        rest = tail;
    }
    out.push(b'"');
}

/// Appends a decimal number.
fn write_uint(out: &mut Vec<u8>, mut value: u64) {
    // u64::MAX has 20 digits.
    let mut digits = [0; 20];
    let mut len = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
        len += 1;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.last_chunk::<20>().and_then(|all| all.get(20 - len..)).unwrap_or_default());
}

/// An object that is being written. Members with `any_` are written in all cases, others unless they are empty, zero or false.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    is_empty: bool,
}

impl<'o> Object<'o> {
    fn new(out: &'o mut Vec<u8>) -> Object<'o> {
        out.push(b'{');
        Object { out, is_empty: true }
    }

    fn end(self) {
        self.out.push(b'}');
    }

    fn name(&mut self, name: &str) {
        if !self.is_empty {
            self.out.push(b',');
        }
        self.is_empty = false;
        write_string(self.out, name);
        self.out.push(b':');
    }

    fn object(&mut self, name: &str, write: impl FnOnce(&mut Object<'_>)) {
        self.name(name);
        let mut object = Object::new(self.out);
        write(&mut object);
        object.end();
    }

    fn array<T>(&mut self, name: &str, items: &[T], write: impl Fn(&mut Object<'_>, &T)) {
        self.name(name);
        self.out.push(b'[');
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            let mut object = Object::new(self.out);
            write(&mut object, item);
            object.end();
        }
        self.out.push(b']');
    }

    fn any_string(&mut self, name: &str, value: &str) {
        self.name(name);
        write_string(self.out, value);
    }

    fn string(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.any_string(name, value);
        }
    }

    fn raw(&mut self, name: &str, value: &[u8]) {
        if !value.is_empty() {
            self.name(name);
            self.out.extend_from_slice(value);
        }
    }

    fn any_uint(&mut self, name: &str, value: u64) {
        self.name(name);
        write_uint(self.out, value);
    }

    fn uint(&mut self, name: &str, value: u64) {
        if value != 0 {
            self.any_uint(name, value);
        }
    }

    fn int(&mut self, name: &str, value: i64) {
        if value != 0 {
            self.name(name);
            if value < 0 {
                self.out.push(b'-');
            }
            write_uint(self.out, value.unsigned_abs());
        }
    }

    fn flag(&mut self, name: &str, value: bool) {
        if value {
            self.name(name);
            self.out.extend_from_slice(b"true");
        }
    }

    fn expiry(&mut self, expires: Option<u32>) {
        if let Some(ttl) = expires {
            self.flag("expires", true);
            self.uint("ttl", u64::from(ttl));
        }
    }
}
