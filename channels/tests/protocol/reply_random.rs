//! Random replies, as the types of an SDK.

use centrifuge_client_core::proto;
use proptest::collection::{hash_map, vec};
use proptest::option;
use proptest::prelude::*;

use crate::random::{name, optional_json, string};

/// Any reply that the server can send.
pub(crate) fn reply() -> impl Strategy<Value = proto::Reply> {
    let empty = proto::Reply::default;
    let expiry =
        || (any::<bool>(), any::<u32>()).prop_map(|(expires, ttl)| (expires, if expires { ttl } else { 0 }));
    let answers = prop_oneof![
        connect().prop_map(move |connect| proto::Reply { connect: Some(connect), ..empty() }),
        subscribe().prop_map(move |subscribe| proto::Reply { subscribe: Some(subscribe), ..empty() }),
        Just(proto::Reply { unsubscribe: Some(proto::UnsubscribeResult {}), ..empty() }),
        Just(proto::Reply { publish: Some(proto::PublishResult {}), ..empty() }),
        hash_map(string(), info(), 0..3).prop_map(move |presence| {
            proto::Reply { presence: Some(proto::PresenceResult { presence }), ..empty() }
        }),
        any::<[u32; 2]>().prop_map(move |[num_clients, num_users]| {
            proto::Reply {
                presence_stats: Some(proto::PresenceStatsResult { num_clients, num_users }),
                ..empty()
            }
        }),
        (vec(publication(), 0..4), string(), any::<u64>()).prop_map(move |(publications, epoch, offset)| {
            proto::Reply { history: Some(proto::HistoryResult { publications, epoch, offset }), ..empty() }
        }),
        optional_json().prop_map(move |data| proto::Reply {
            rpc: Some(proto::RpcResult { data: data.into() }),
            ..empty()
        }),
        (expiry(), string(), string()).prop_map(move |((expires, ttl), client, version)| {
            proto::Reply { refresh: Some(proto::RefreshResult { client, version, expires, ttl }), ..empty() }
        }),
        expiry().prop_map(move |(expires, ttl)| {
            proto::Reply {
                sub_refresh: Some(proto::SubRefreshResult { expires, ttl, ..Default::default() }),
                ..empty()
            }
        }),
        (any::<u32>(), string(), any::<bool>()).prop_map(move |(code, message, temporary)| {
            proto::Reply { error: Some(proto::Error { code, message, temporary }), ..empty() }
        }),
    ];
    prop_oneof![
        10 => (1..=u32::MAX, answers).prop_map(|(id, reply)| proto::Reply { id, ..reply }),
        10 => a_push().prop_map(move |push| proto::Reply { push: Some(push), ..empty() }),
        1 => Just(empty()),
    ]
}

fn a_push() -> impl Strategy<Value = proto::Push> {
    let empty = proto::Push::default;
    let body = prop_oneof![
        5 => publication().prop_map(move |value| proto::Push { r#pub: Some(value), ..empty() }),
        1 => info().prop_map(move |info| proto::Push { join: Some(proto::Join { info: Some(info) }), ..empty() }),
        1 => info().prop_map(move |info| proto::Push { leave: Some(proto::Leave { info: Some(info) }), ..empty() }),
        1 => (any::<u32>(), string()).prop_map(move |(code, reason)| {
            proto::Push { unsubscribe: Some(proto::Unsubscribe { code, reason }), ..empty() }
        }),
        1 => optional_json().prop_map(move |data| {
            proto::Push { message: Some(proto::Message { data: data.into() }), ..empty() }
        }),
        1 => (any::<[bool; 2]>(), string(), any::<u64>(), optional_json()).prop_map(
            move |([recoverable, positioned], epoch, offset, data)| {
                let subscribe = proto::Subscribe { recoverable, epoch, offset, positioned, data: data.into() };
                proto::Push { subscribe: Some(subscribe), ..empty() }
            }
        ),
        1 => (any::<u32>(), string()).prop_map(move |(code, reason)| {
            proto::Push { disconnect: Some(proto::Disconnect { code, reason, reconnect: false }), ..empty() }
        }),
        1 => any::<u32>().prop_map(move |ttl| {
            proto::Push { refresh: Some(proto::Refresh { expires: true, ttl }), ..empty() }
        }),
    ];
    let topic = prop_oneof![
        Just((0, String::new())),
        name().prop_map(|channel| (0, channel)),
        any::<i64>().prop_map(|id| (id, String::new())),
    ];
    (topic, body).prop_map(|((id, channel), body)| proto::Push { id, channel, ..body })
}

fn connect() -> impl Strategy<Value = proto::ConnectResult> {
    let subs = hash_map(string(), subscribe(), 0..3);
    let strings = (string(), string(), string(), string());
    (strings, option::of(any::<u32>()), optional_json(), subs, any::<u32>(), any::<bool>(), any::<i64>())
        .prop_map(|((client, version, session, node), expires, data, subs, ping, pong, time)| {
            proto::ConnectResult {
                client,
                version,
                expires: expires.is_some(),
                ttl: expires.unwrap_or_default(),
                data: data.into(),
                subs,
                ping,
                pong,
                session,
                node,
                time,
                ..Default::default()
            }
        })
}

fn subscribe() -> impl Strategy<Value = proto::SubscribeResult> {
    let position = (string(), any::<u64>());
    let flags = any::<[bool; 5]>();
    (option::of(any::<u32>()), flags, position, vec(publication(), 0..4), optional_json(), any::<i64>())
        .prop_map(|(expires, flags, (epoch, offset), publications, data, id)| proto::SubscribeResult {
            expires: expires.is_some(),
            ttl: expires.unwrap_or_default(),
            recoverable: flags[0],
            epoch,
            publications,
            recovered: flags[1],
            offset,
            positioned: flags[2],
            data: data.into(),
            was_recovering: flags[3],
            delta: flags[4],
            id,
            ..Default::default()
        })
}

fn publication() -> impl Strategy<Value = proto::Publication> {
    let tags = hash_map(string(), string(), 0..3);
    (optional_json(), option::of(info()), any::<u64>(), tags, any::<bool>(), string()).prop_map(
        |(data, info, offset, tags, delta, epoch)| proto::Publication {
            data: data.into(),
            info,
            offset,
            tags,
            delta,
            epoch,
            ..Default::default()
        },
    )
}

fn info() -> impl Strategy<Value = proto::ClientInfo> {
    (string(), string(), optional_json(), optional_json()).prop_map(|(user, client, conn_info, chan_info)| {
        proto::ClientInfo { user, client, conn_info: conn_info.into(), chan_info: chan_info.into() }
    })
}
