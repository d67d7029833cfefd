//! Commands as the codec of an SDK encodes them.

use std::collections::HashMap;

use centrifuge_client_core::Bytes;
use centrifuge_client_core::codec::{Protocol, encode_commands};
use centrifuge_client_core::proto;
use postern_channels::protocol::{
    Command, Commands, Delta, Encoding, Filter, FilterNode, Raw, Request, SubscribeRequest,
};
use proptest::collection::{hash_map, vec};
use proptest::option;
use proptest::prelude::*;

use crate::random::{name, optional_json, string};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn all_commands_of_an_sdk_are_decoded_with_all_their_fields(commands in vec(command(), 1..4), is_json in any::<bool>()) {
        let (encoding, protocol) =
            if is_json { (Encoding::Json, Protocol::Json) } else { (Encoding::Protobuf, Protocol::Protobuf) };
        let mut message = Vec::new();
        encode_commands(protocol, &commands, &mut message).expect("valid commands");
        let decoded: Result<Vec<_>, _> = Commands::new(encoding, &message).collect();
        let decoded: Vec<_> = decoded.expect("valid commands").iter().map(to_proto).collect();
        prop_assert_eq!(decoded, commands);
    }
}

/// Commands that are not malformed, with the fields that JSON and Protobuf encoders of the SDK have in common.
fn command() -> impl Strategy<Value = proto::Command> {
    let empty = proto::Command::default;
    let with_id = prop_oneof![
        connect().prop_map(move |connect| proto::Command { connect: Some(connect), ..empty() }),
        subscribe(name().boxed())
            .prop_map(move |subscribe| proto::Command { subscribe: Some(subscribe), ..empty() }),
        name().prop_map(move |channel| proto::Command {
            unsubscribe: Some(proto::UnsubscribeRequest { channel }),
            ..empty()
        }),
        (name(), optional_json()).prop_map(move |(channel, data)| {
            let publish = proto::PublishRequest { channel, data: data.into(), ..Default::default() };
            proto::Command { publish: Some(publish), ..empty() }
        }),
        name().prop_map(move |channel| proto::Command {
            presence: Some(proto::PresenceRequest { channel }),
            ..empty()
        }),
        name().prop_map(move |channel| {
            proto::Command { presence_stats: Some(proto::PresenceStatsRequest { channel }), ..empty() }
        }),
        (name(), any::<i32>(), option::of((any::<u64>(), string())), any::<bool>()).prop_map(
            move |(channel, limit, since, reverse)| {
                let since = since.map(|(offset, epoch)| proto::StreamPosition { offset, epoch });
                proto::Command {
                    history: Some(proto::HistoryRequest { channel, limit, since, reverse }),
                    ..empty()
                }
            }
        ),
        (string(), optional_json()).prop_map(move |(method, data)| {
            proto::Command { rpc: Some(proto::RpcRequest { method, data: data.into() }), ..empty() }
        }),
        name().prop_map(move |token| proto::Command {
            refresh: Some(proto::RefreshRequest { token }),
            ..empty()
        }),
        (name(), string()).prop_map(move |(channel, token)| {
            let refresh = proto::SubRefreshRequest { channel, token, ..Default::default() };
            proto::Command { sub_refresh: Some(refresh), ..empty() }
        }),
    ];
    let send = optional_json().prop_map(move |data| proto::Command {
        send: Some(proto::SendRequest { data: data.into() }),
        ..empty()
    });
    prop_oneof![
        10 => (1..=u32::MAX, with_id).prop_map(|(id, command)| proto::Command { id, ..command }),
        1 => (any::<u32>(), send).prop_map(|(id, command)| proto::Command { id, ..command }),
        1 => Just(empty()),
    ]
}

fn connect() -> impl Strategy<Value = proto::ConnectRequest> {
    let headers = hash_map(string(), string(), 0..3);
    let subs = hash_map(string(), subscribe(Just(String::new()).boxed()), 0..3);
    (string(), optional_json(), subs, string(), string(), headers, any::<i64>()).prop_map(
        |(token, data, subs, name, version, headers, flag)| proto::ConnectRequest {
            token,
            data: data.into(),
            subs,
            name,
            version,
            headers,
            flag,
            ..Default::default()
        },
    )
}

fn subscribe(channel: BoxedStrategy<String>) -> impl Strategy<Value = proto::SubscribeRequest> {
    let delta = prop_oneof![Just(String::new()), Just("fossil".to_owned())];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let position = (string(), any::<u64>());
    (
        channel,
        string(),
        optional_json(),
        position,
        flags,
        delta,
        option::of(filter()),
        any::<i64>(),
        any::<i32>(),
    )
        .prop_map(
            |(
                channel,
                token,
                data,
                (epoch, offset),
                (recover, positioned, recoverable, join_leave),
                delta,
                tf,
                flag,
                r#type,
            )| {
                proto::SubscribeRequest {
                    channel,
                    token,
                    recover,
                    epoch,
                    offset,
                    data: data.into(),
                    positioned,
                    recoverable,
                    join_leave,
                    delta,
                    tf,
                    flag,
                    r#type,
                    ..Default::default()
                }
            },
        )
}

fn filter() -> impl Strategy<Value = proto::FilterNode> {
    let fields = || (string(), string(), string(), string(), vec(string(), 0..3));
    let node = |(op, key, cmp, val, vals), nodes| proto::FilterNode { op, key, cmp, val, vals, nodes };
    fields().prop_map(move |fields| node(fields, Vec::new())).prop_recursive(4, 12, 3, move |inner| {
        (fields(), vec(inner, 0..3)).prop_map(move |(fields, nodes)| node(fields, nodes))
    })
}

/// Converts a decoded command.
fn to_proto(command: &Command<'_>) -> proto::Command {
    let mut proto = proto::Command { id: command.id, ..Default::default() };
    match &command.request {
        Request::Pong => {}
        Request::Connect(connect) => {
            proto.connect = Some(proto::ConnectRequest {
                token: owned(&connect.token),
                data: bytes(connect.data),
                subs: connect
                    .subs
                    .iter()
                    .map(|(channel, sub)| (owned(channel), subscribe_to_proto(sub)))
                    .collect(),
                name: owned(&connect.name),
                version: owned(&connect.version),
                headers: connect
                    .headers
                    .iter()
                    .map(|(name, value)| (owned(name), owned(value)))
                    .collect::<HashMap<_, _>>(),
                flag: connect.flag,
                ..Default::default()
            });
        }
        Request::Subscribe(subscribe) => proto.subscribe = Some(subscribe_to_proto(subscribe)),
        Request::Unsubscribe { channel } => {
            proto.unsubscribe = Some(proto::UnsubscribeRequest { channel: owned(channel) });
        }
        Request::Publish(publish) => {
            proto.publish = Some(proto::PublishRequest {
                channel: owned(&publish.channel),
                data: bytes(publish.data),
                r#type: publish.kind,
                ..Default::default()
            });
        }
        Request::Presence { channel } => {
            proto.presence = Some(proto::PresenceRequest { channel: owned(channel) })
        }
        Request::PresenceStats { channel } => {
            proto.presence_stats = Some(proto::PresenceStatsRequest { channel: owned(channel) });
        }
        Request::History(history) => {
            proto.history = Some(proto::HistoryRequest {
                channel: owned(&history.channel),
                limit: history.limit,
                since: history
                    .since
                    .as_ref()
                    .map(|since| proto::StreamPosition { offset: since.offset, epoch: owned(&since.epoch) }),
                reverse: history.reverse,
            });
        }
        Request::Rpc(rpc) => {
            proto.rpc = Some(proto::RpcRequest { data: bytes(rpc.data), method: owned(&rpc.method) });
        }
        Request::Send { data } => proto.send = Some(proto::SendRequest { data: bytes(*data) }),
        Request::Refresh { token } => proto.refresh = Some(proto::RefreshRequest { token: owned(token) }),
        Request::SubRefresh(refresh) => {
            proto.sub_refresh = Some(proto::SubRefreshRequest {
                channel: owned(&refresh.channel),
                token: owned(&refresh.token),
                r#type: refresh.kind,
                ..Default::default()
            });
        }
    }
    proto
}

fn subscribe_to_proto(subscribe: &SubscribeRequest<'_>) -> proto::SubscribeRequest {
    proto::SubscribeRequest {
        channel: owned(&subscribe.channel),
        token: owned(&subscribe.token),
        recover: subscribe.recover,
        epoch: owned(&subscribe.epoch),
        offset: subscribe.offset,
        data: bytes(subscribe.data),
        positioned: subscribe.positioned,
        recoverable: subscribe.recoverable,
        join_leave: subscribe.join_leave,
        delta: match subscribe.delta {
            Delta::Off => String::new(),
            Delta::Fossil => "fossil".to_owned(),
            Delta::Unknown => panic!("no SDK sends it"),
        },
        tf: subscribe.filter.map(Filter::tree).map(|tree| filter_to_proto(&tree.expect("a valid filter"))),
        flag: subscribe.flag,
        r#type: subscribe.kind,
        ..Default::default()
    }
}

fn filter_to_proto(node: &FilterNode<'_>) -> proto::FilterNode {
    proto::FilterNode {
        op: owned(&node.op),
        key: owned(&node.key),
        cmp: owned(&node.cmp),
        val: owned(&node.val),
        vals: node.vals.iter().map(|val| owned(val)).collect(),
        nodes: node.nodes.iter().map(filter_to_proto).collect(),
    }
}

fn owned(string: &str) -> String {
    string.to_owned()
}

fn bytes(raw: Raw<'_>) -> Bytes {
    if !raw.is_empty() {
        // All values of these commands are compact JSON texts.
        assert_eq!(raw.compact().as_deref(), Ok(raw.as_bytes()));
    }
    Bytes::copy_from_slice(raw.as_bytes())
}
