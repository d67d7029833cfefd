//! Encodes replies.

use std::cmp::Ordering;

use super::super::reply::{
    Answer, ClientInfo, ConnectResult, Data, HistoryResult, Publication, Push, PushBody, Reply,
    SubscribePush, SubscribeResult, Topic,
};
use super::wire::{varint_len, write_varint};

/// Appends a reply after its length.
pub(in super::super) fn reply(out: &mut Vec<u8>, reply: &Reply<'_>) {
    match reply {
        Reply::Ping => out.push(0),
        Reply::Answer { id, answer } => delimited(out, 0, |out| {
            uint(out, 1, u64::from(*id));
            self::answer(out, answer);
        }),
        Reply::Error { id, error } => delimited(out, 0, |out| {
            uint(out, 1, u64::from(*id));
            message(out, 2, 0, |out| {
                uint(out, 1, u64::from(error.code));
                string(out, 2, error.message);
                flag(out, 3, error.is_temporary);
            });
        }),
        Reply::Push(push) => {
            let len = size_hint(push);
            delimited(out, len, |out| message(out, 4, len, |out| self::push(out, push, len)));
        }
    }
}

/// Appends a push without the reply around it, after its length.
pub(in super::super) fn bare_push(out: &mut Vec<u8>, push: &Push<'_>) {
    let len = size_hint(push);
    delimited(out, len, |out| self::push(out, push, len));
}

fn answer(out: &mut Vec<u8>, answer: &Answer<'_>) {
    match answer {
        Answer::Connect(result) => message(out, 5, 0, |out| {
            string(out, 1, result.client);
            string(out, 2, result.version);
            expiry(out, [3, 4], result.expires);
            bytes(out, 5, result.data);
            subs(out, 6, result);
            uint(out, 7, u64::from(result.ping));
            flag(out, 8, result.pong);
            string(out, 9, result.session);
            string(out, 10, result.node);
            int(out, 11, result.time);
        }),
        Answer::Subscribe(result) => message(out, 6, 0, |out| subscribe(out, result)),
        Answer::Unsubscribe => message(out, 7, 0, |_| {}),
        Answer::Publish => message(out, 8, 0, |_| {}),
        Answer::Presence { presence } => message(out, 9, 0, |out| {
            for (client, info) in *presence {
                message(out, 1, 0, |out| {
                    string(out, 1, client);
                    message(out, 2, 0, |out| client_info(out, info));
                });
            }
        }),
        Answer::PresenceStats { clients, users } => message(out, 10, 0, |out| {
            uint(out, 1, u64::from(*clients));
            uint(out, 2, u64::from(*users));
        }),
        Answer::History(result) => message(out, 11, 0, |out| history(out, result)),
        Answer::Rpc { data } => message(out, 13, data.len(), |out| bytes(out, 1, data)),
        Answer::Refresh { client, version, expires } => message(out, 14, 0, |out| {
            string(out, 1, client);
            string(out, 2, version);
            expiry(out, [3, 4], *expires);
        }),
        Answer::SubRefresh { expires } => message(out, 15, 0, |out| expiry(out, [1, 2], *expires)),
    }
}

fn push(out: &mut Vec<u8>, push: &Push<'_>, len: usize) {
    match push.topic {
        Topic::Connection => {}
        Topic::Channel(channel) => string(out, 2, channel),
        Topic::Id(id) => int(out, 1, id),
    }
    match &push.body {
        PushBody::Publication(value) => message(out, 4, len, |out| publication(out, value)),
        PushBody::Join(info) => message(out, 5, 0, |out| message(out, 1, 0, |out| client_info(out, info))),
        PushBody::Leave(info) => message(out, 6, 0, |out| message(out, 1, 0, |out| client_info(out, info))),
        PushBody::Unsubscribe { code, reason } => message(out, 7, 0, |out| {
            uint(out, 2, u64::from(*code));
            string(out, 3, reason);
        }),
        PushBody::Message { data } => message(out, 8, len, |out| bytes(out, 1, data)),
        PushBody::Subscribe(value) => message(out, 9, 0, |out| subscribe_push(out, value)),
        PushBody::Connect(result) => message(out, 10, 0, |out| {
            string(out, 1, result.client);
            string(out, 2, result.version);
            bytes(out, 3, result.data);
            subs(out, 4, result);
            expiry(out, [5, 6], result.expires);
            uint(out, 7, u64::from(result.ping));
            flag(out, 8, result.pong);
            string(out, 9, result.session);
            string(out, 10, result.node);
            int(out, 11, result.time);
        }),
        PushBody::Disconnect { code, reason } => message(out, 11, 0, |out| {
            uint(out, 1, u64::from(*code));
            string(out, 2, reason);
        }),
        PushBody::Refresh { expires } => message(out, 12, 0, |out| expiry(out, [1, 2], *expires)),
    }
}

/// Returns about the length of a push: a wrong guess costs a copy.
fn size_hint(push: &Push<'_>) -> usize {
    match &push.body {
        PushBody::Publication(Publication { data: Data::Raw(data), .. }) | PushBody::Message { data } => {
            data.len()
        }
        PushBody::Publication(Publication { data: Data::Text(data), .. }) => data.len(),
        PushBody::Join(_)
        | PushBody::Leave(_)
        | PushBody::Unsubscribe { .. }
        | PushBody::Subscribe(_)
        | PushBody::Connect(_)
        | PushBody::Disconnect { .. }
        | PushBody::Refresh { .. } => 0,
    }
}

fn subs(out: &mut Vec<u8>, number: u32, result: &ConnectResult<'_>) {
    for (channel, result) in result.subs {
        message(out, number, 0, |out| {
            string(out, 1, channel);
            message(out, 2, 0, |out| subscribe(out, result));
        });
    }
}

fn subscribe(out: &mut Vec<u8>, result: &SubscribeResult<'_>) {
    expiry(out, [1, 2], result.expires);
    flag(out, 3, result.recoverable);
    string(out, 6, result.epoch);
    for value in result.publications {
        message(out, 7, 0, |out| publication(out, value));
    }
    flag(out, 8, result.recovered);
    uint(out, 9, result.offset);
    flag(out, 10, result.positioned);
    bytes(out, 11, result.data);
    flag(out, 12, result.was_recovering);
    flag(out, 13, result.delta);
    int(out, 14, result.id);
}

fn history(out: &mut Vec<u8>, result: &HistoryResult<'_>) {
    for value in result.publications {
        message(out, 1, 0, |out| publication(out, value));
    }
    string(out, 2, result.epoch);
    uint(out, 3, result.offset);
}

fn subscribe_push(out: &mut Vec<u8>, value: &SubscribePush<'_>) {
    flag(out, 1, value.recoverable);
    string(out, 4, value.epoch);
    uint(out, 5, value.offset);
    flag(out, 6, value.positioned);
    bytes(out, 7, value.data);
}

fn publication(out: &mut Vec<u8>, value: &Publication<'_>) {
    match value.data {
        Data::Raw(data) => bytes(out, 4, data),
        Data::Text(data) => string(out, 4, data),
    }
    if let Some(info) = &value.info {
        message(out, 5, 0, |out| client_info(out, info));
    }
    uint(out, 6, value.offset);
    for (name, value) in value.tags {
        message(out, 7, 0, |out| {
            string(out, 1, name);
            string(out, 2, value);
        });
    }
    flag(out, 8, value.delta);
    string(out, 14, value.epoch);
}

fn client_info(out: &mut Vec<u8>, info: &ClientInfo<'_>) {
    string(out, 1, info.user);
    string(out, 2, info.client);
    bytes(out, 3, info.conn_info);
    bytes(out, 4, info.chan_info);
}

fn key(out: &mut Vec<u8>, number: u32, wire_type: u32) {
    write_varint(out, u64::from(number << 3 | wire_type));
}

fn uint(out: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        key(out, number, 0);
        write_varint(out, value);
    }
}

fn int(out: &mut Vec<u8>, number: u32, value: i64) {
    uint(out, number, value as u64);
}

fn flag(out: &mut Vec<u8>, number: u32, value: bool) {
    uint(out, number, u64::from(value));
}

fn bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    if !value.is_empty() {
        key(out, number, 2);
        write_varint(out, value.len() as u64);
        out.extend_from_slice(value);
    }
}

fn string(out: &mut Vec<u8>, number: u32, value: &str) {
    bytes(out, number, value.as_bytes());
}

fn expiry(out: &mut Vec<u8>, numbers: [u32; 2], expires: Option<u32>) {
    if let Some(ttl) = expires {
        flag(out, numbers[0], true);
        uint(out, numbers[1], u64::from(ttl));
    }
}

/// Appends a field that is a message. It is sent even if it is empty.
fn message(out: &mut Vec<u8>, number: u32, len: usize, write: impl FnOnce(&mut Vec<u8>)) {
    key(out, number, 2);
    delimited(out, len, write);
}

/// Appends a message after its length, for which there is space for a number like `expected`. If the length needs more or
/// fewer bytes, the message is moved.
fn delimited(out: &mut Vec<u8>, expected: usize, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    let reserved = varint_len(expected as u64);
    out.resize(start + reserved, 0);
    write(out);
    let len = out.len() - start - reserved;
    let needed = varint_len(len as u64);
    match needed.cmp(&reserved) {
        Ordering::Equal => {}
        Ordering::Greater => {
            out.resize(start + needed + len, 0);
            out.copy_within(start + reserved..start + reserved + len, start + needed);
        }
        Ordering::Less => {
            out.copy_within(start + reserved.., start + needed);
            out.truncate(start + needed + len);
        }
    }
    // The length, with the highest bit set in all bytes except for the last.
    for (at, byte) in out.iter_mut().skip(start).take(needed).enumerate() {
        let more = if at + 1 < needed { 0x80 } else { 0 };
        *byte = (len >> (7 * at)) as u8 & 0x7f | more;
    }
}
