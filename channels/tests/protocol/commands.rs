//! Commands as the codec of an SDK encodes them.

use centrifuge_client_core::codec::{Protocol, encode_commands};
use centrifuge_client_core::proto;
use postern_channels::protocol::{Commands, Encoding, Request};
use proptest::collection::{hash_map, vec};
use proptest::option;
use proptest::prelude::*;

use crate::random::{name, optional_json, string};
use crate::to_proto::to_proto;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn all_commands_of_an_sdk_are_decoded_with_all_their_fields(commands in vec(command(), 1..4), is_json in any::<bool>()) {
        let (encoding, protocol) =
            if is_json { (Encoding::Json, Protocol::Json) } else { (Encoding::Protobuf, Protocol::Protobuf) };
        let mut message = Vec::new();
        encode_commands(protocol, &commands, &mut message).expect("valid commands");
        let decoded: Result<Vec<_>, _> = Commands::new(encoding, &message).collect();
        let decoded = decoded.expect("valid commands");
        for command in &decoded {
            if let Request::Publish(publish) = &command.request && !publish.data.is_empty() {
                let compact = publish.data.compact();
                prop_assert_eq!(compact.as_deref(), Ok(publish.data.as_bytes()));
            }
        }
        prop_assert_eq!(decoded.iter().map(to_proto).collect::<Vec<_>>(), commands);
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
