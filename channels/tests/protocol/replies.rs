//! Replies: their exact JSON, and the same content in both encodings, as the decoder of an SDK sees it.

use centrifuge_client_core::Bytes;
use centrifuge_client_core::codec::{Protocol, decode_frame};
use centrifuge_client_core::proto;
use postern_channels::ErrorCode;
use postern_channels::protocol::{
    Answer, ClientInfo, ConnectResult, Data, Encoding, HistoryResult, Message, Publication, Push, PushBody,
    Reply, SubscribePush, SubscribeResult, Topic,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::reply_random::reply;
use crate::reply_views::views;

/// Checks the JSON of a reply, and that an SDK decodes the same from both encodings.
#[track_caller]
fn check(reply: &Reply<'_>, expected: &str) {
    let json = encode(Encoding::Json, std::slice::from_ref(reply));
    assert_eq!(String::from_utf8_lossy(&json), expected);
    let from_json = decode(Encoding::Json, json);
    let from_protobuf = decode(Encoding::Protobuf, encode(Encoding::Protobuf, std::slice::from_ref(reply)));
    assert_eq!(from_json, from_protobuf, "{reply:?}");
}

fn encode(encoding: Encoding, replies: &[Reply<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut message = Message::new(encoding, &mut out);
    assert!(message.is_empty());
    for reply in replies {
        message.push(reply);
        assert!(!message.is_empty());
    }
    out
}

fn decode(encoding: Encoding, message: Vec<u8>) -> Vec<proto::Reply> {
    let protocol = match encoding {
        Encoding::Json => Protocol::Json,
        Encoding::Protobuf => Protocol::Protobuf,
    };
    decode_frame(protocol, Bytes::from(message), usize::MAX).expect("valid replies")
}

fn answer<'a>(answer: Answer<'a>) -> Reply<'a> {
    Reply::Answer { id: 7, answer }
}

fn push<'a>(body: PushBody<'a>) -> Reply<'a> {
    Reply::Push(Push { topic: Topic::Channel("a"), body })
}

const INFO: ClientInfo<'_> =
    ClientInfo { user: "u\"1", client: "c", conn_info: br#"{"name":"N"}"#, chan_info: b"[1]" };

#[test]
fn a_ping_is_an_empty_reply() {
    check(&Reply::Ping, "{}");
    for encoding in [Encoding::Json, Encoding::Protobuf] {
        assert_eq!(encode(encoding, &[Reply::Ping]), encoding.ping());
    }
}

#[test]
fn replies_are_joined_into_one_message() {
    let replies = [answer(Answer::Publish), Reply::Ping, answer(Answer::Unsubscribe)];
    let json = encode(Encoding::Json, &replies);
    assert_eq!(json, b"{\"id\":7,\"publish\":{}}\n{}\n{\"id\":7,\"unsubscribe\":{}}");
    assert_eq!(
        decode(Encoding::Json, json),
        decode(Encoding::Protobuf, encode(Encoding::Protobuf, &replies))
    );

    // A message starts at the end of the bytes that the buffer has.
    let mut out = b"header".to_vec();
    Message::new(Encoding::Json, &mut out).push(&Reply::Ping);
    assert_eq!(out, b"header{}");
}

#[test]
fn results_without_content_are_empty_objects() {
    check(&answer(Answer::Connect(ConnectResult::default())), r#"{"id":7,"connect":{}}"#);
    check(&answer(Answer::Subscribe(SubscribeResult::default())), r#"{"id":7,"subscribe":{}}"#);
    check(&answer(Answer::Unsubscribe), r#"{"id":7,"unsubscribe":{}}"#);
    check(&answer(Answer::Publish), r#"{"id":7,"publish":{}}"#);
    check(&answer(Answer::Rpc { data: b"" }), r#"{"id":7,"rpc":{}}"#);
    let refresh = Answer::Refresh { client: "", version: "", expires: None };
    check(&answer(refresh), r#"{"id":7,"refresh":{}}"#);
    check(&answer(Answer::SubRefresh { expires: None }), r#"{"id":7,"sub_refresh":{}}"#);
}

#[test]
fn some_members_are_sent_even_if_they_are_empty() {
    check(&answer(Answer::Presence { presence: &[] }), r#"{"id":7,"presence":{"presence":{}}}"#);
    check(
        &answer(Answer::PresenceStats { clients: 0, users: 0 }),
        r#"{"id":7,"presence_stats":{"num_clients":0,"num_users":0}}"#,
    );
    check(
        &answer(Answer::History(HistoryResult::default())),
        r#"{"id":7,"history":{"publications":[],"epoch":"","offset":0}}"#,
    );
    check(
        &push(PushBody::Join(ClientInfo::default())),
        r#"{"push":{"channel":"a","join":{"info":{"user":"","client":""}}}}"#,
    );
}

#[test]
fn results_have_all_their_members() {
    let publication = Publication { data: Data::Raw(b"1"), offset: 5, ..Publication::default() };
    let subscribe = SubscribeResult {
        expires: Some(60),
        recoverable: true,
        epoch: "abcd",
        publications: &[publication],
        recovered: true,
        offset: 4,
        positioned: true,
        data: b"{}",
        was_recovering: true,
        delta: true,
        id: 3,
    };
    let subscribe_json = r#"{"expires":true,"ttl":60,"recoverable":true,"epoch":"abcd","publications":[{"data":1,"offset":5}],"recovered":true,"offset":4,"positioned":true,"data":{},"was_recovering":true,"delta":true,"id":3}"#;
    check(&answer(Answer::Subscribe(subscribe)), &format!(r#"{{"id":7,"subscribe":{subscribe_json}}}"#));

    let connect = ConnectResult {
        client: "c",
        version: "v",
        expires: Some(0),
        data: b"[null]",
        subs: &[("#1", subscribe)],
        ping: 25,
        pong: true,
        session: "s",
        node: "n",
        time: -1,
    };
    let connect_json = format!(
        r##"{{"client":"c","version":"v","expires":true,"data":[null],"subs":{{"#1":{subscribe_json}}},"ping":25,"pong":true,"session":"s","node":"n","time":-1}}"##
    );
    check(&answer(Answer::Connect(connect)), &format!(r#"{{"id":7,"connect":{connect_json}}}"#));
    let uni = Reply::Push(Push { topic: Topic::Connection, body: PushBody::Connect(connect) });
    check(&uni, &format!(r#"{{"push":{{"connect":{connect_json}}}}}"#));

    check(
        &answer(Answer::Presence { presence: &[("c", INFO)] }),
        r#"{"id":7,"presence":{"presence":{"c":{"user":"u\"1","client":"c","conn_info":{"name":"N"},"chan_info":[1]}}}}"#,
    );
    check(
        &answer(Answer::PresenceStats { clients: 2, users: u32::MAX }),
        r#"{"id":7,"presence_stats":{"num_clients":2,"num_users":4294967295}}"#,
    );
    check(
        &answer(Answer::History(HistoryResult {
            publications: &[publication, publication],
            epoch: "e",
            offset: u64::MAX,
        })),
        r#"{"id":7,"history":{"publications":[{"data":1,"offset":5},{"data":1,"offset":5}],"epoch":"e","offset":18446744073709551615}}"#,
    );
    check(&answer(Answer::Rpc { data: b"\"x\"" }), r#"{"id":7,"rpc":{"data":"x"}}"#);
    check(
        &answer(Answer::Refresh { client: "c", version: "v", expires: Some(9) }),
        r#"{"id":7,"refresh":{"client":"c","version":"v","expires":true,"ttl":9}}"#,
    );
    check(
        &answer(Answer::SubRefresh { expires: Some(9) }),
        r#"{"id":7,"sub_refresh":{"expires":true,"ttl":9}}"#,
    );
}

#[test]
fn errors_have_the_code_and_whether_it_is_temporary() {
    let error = |code: ErrorCode| Reply::Error { id: 7, error: code.into() };
    check(&error(ErrorCode::UnknownChannel), r#"{"id":7,"error":{"code":102,"message":"unknown channel"}}"#);
    check(
        &error(ErrorCode::TooManyRequests),
        r#"{"id":7,"error":{"code":111,"message":"too many requests","temporary":true}}"#,
    );
}

#[test]
fn pushes_have_a_channel_or_a_number() {
    let tags = [("k".into(), "v".into()), ("e".into(), "".into())];
    let publication = Publication {
        data: Data::Raw(b"{\"x\":[]}"),
        info: Some(INFO),
        offset: 1,
        tags: &tags,
        delta: false,
        epoch: "ep",
    };
    check(
        &push(PushBody::Publication(publication)),
        r#"{"push":{"channel":"a","pub":{"data":{"x":[]},"info":{"user":"u\"1","client":"c","conn_info":{"name":"N"},"chan_info":[1]},"offset":1,"tags":{"k":"v","e":""},"epoch":"ep"}}}"#,
    );
    let publication = Publication { data: Data::Raw(b"1"), ..Publication::default() };
    let by_id = Reply::Push(Push { topic: Topic::Id(-5), body: PushBody::Publication(publication) });
    check(&by_id, r#"{"push":{"id":-5,"pub":{"data":1}}}"#);
    check(
        &push(PushBody::Leave(ClientInfo { user: "u", client: "c", ..ClientInfo::default() })),
        r#"{"push":{"channel":"a","leave":{"info":{"user":"u","client":"c"}}}}"#,
    );
    check(
        &push(PushBody::Unsubscribe { code: 2500, reason: "insufficient state" }),
        r#"{"push":{"channel":"a","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#,
    );
    let subscribe = SubscribePush { recoverable: true, epoch: "e", offset: 8, positioned: true, data: b"1" };
    check(
        &push(PushBody::Subscribe(subscribe)),
        r#"{"push":{"channel":"a","subscribe":{"recoverable":true,"epoch":"e","offset":8,"positioned":true,"data":1}}}"#,
    );
    let of_connection = |body| Reply::Push(Push { topic: Topic::Connection, body });
    check(&of_connection(PushBody::Message { data: b"[0]" }), r#"{"push":{"message":{"data":[0]}}}"#);
    check(
        &of_connection(PushBody::Disconnect { code: 3001, reason: "shutdown" }),
        r#"{"push":{"disconnect":{"code":3001,"reason":"shutdown"}}}"#,
    );
    check(
        &of_connection(PushBody::Refresh { expires: Some(1) }),
        r#"{"push":{"refresh":{"expires":true,"ttl":1}}}"#,
    );
}

#[test]
fn on_connections_without_commands_pushes_are_not_in_replies() {
    for size in [1, 100, 110, 120, 1000] {
        let data = vec![b'1'; size];
        let publication = Publication { data: Data::Raw(&data), ..Publication::default() };
        let push = Push { topic: Topic::Channel("a"), body: PushBody::Publication(publication) };
        let bare = |encoding| {
            let mut out = Vec::new();
            Message::new(encoding, &mut out).push_bare(&push);
            out
        };
        let in_reply = |encoding| encode(encoding, &[Reply::Push(push)]);
        let json = [b"{\"push\":", &bare(Encoding::Json)[..], b"}"].concat();
        assert_eq!(in_reply(Encoding::Json), json);
        // The length, and the key of the field `push`.
        let protobuf = in_reply(Encoding::Protobuf);
        let bare = bare(Encoding::Protobuf);
        let head = protobuf.strip_suffix(&bare[..]).expect("the bare push at the end");
        assert!(matches!(head, [.., 0x22]) && head.len() <= 3, "{head:?}");
    }
    let mut out = Vec::new();
    let mut message = Message::new(Encoding::Json, &mut out);
    let push = Push { topic: Topic::Connection, body: PushBody::Message { data: b"1" } };
    message.push_bare(&push);
    message.push_bare(&push);
    assert_eq!(out, b"{\"message\":{\"data\":1}}\n{\"message\":{\"data\":1}}");
}

#[test]
fn with_deltas_the_data_is_a_json_string_and_bytes_in_protobuf() {
    let text = "{\"a\":\"\u{1}\n\r\té\"}";
    let publication = Publication { data: Data::Text(text), delta: true, ..Publication::default() };
    let reply = push(PushBody::Publication(publication));
    let json = encode(Encoding::Json, &[reply]);
    assert_eq!(
        String::from_utf8_lossy(&json),
        r#"{"push":{"channel":"a","pub":{"data":"{\"a\":\"\u0001\n\r\té\"}","delta":true}}}"#
    );
    let decoded = decode(Encoding::Protobuf, encode(Encoding::Protobuf, &[reply]));
    let publication = decoded[0].push.as_ref().and_then(|push| push.r#pub.as_ref()).expect("a publication");
    assert_eq!(publication.data, text.as_bytes());
}

#[test]
fn lengths_of_all_sizes_are_right() {
    // Around the limits at which the length of a message needs another byte.
    for size in (100..140).chain(16_300..16_400).chain(2_097_100..2_097_160) {
        let data = vec![b'1'; size];
        let publication = Publication { data: Data::Raw(&data), ..Publication::default() };
        let mut decoded = decode(
            Encoding::Protobuf,
            encode(Encoding::Protobuf, &[push(PushBody::Publication(publication))]),
        );
        let publication = decoded[0].push.take().and_then(|push| push.r#pub).expect("a publication");
        assert_eq!(publication.data.len(), size);
        let rpc =
            decode(Encoding::Protobuf, encode(Encoding::Protobuf, &[answer(Answer::Rpc { data: &data })]));
        assert_eq!(rpc[0].rpc.as_ref().map(|rpc| rpc.data.len()), Some(size));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn an_sdk_decodes_all_replies_with_all_their_fields(replies in vec(reply(), 1..4), encoding in encoding()) {
        let message = encode(encoding, &views(&replies));
        if encoding == Encoding::Json {
            prop_assert_eq!(message.split(|&byte| byte == b'\n').count(), replies.len(), "one line each");
        }
        prop_assert_eq!(decode(encoding, message), replies);
    }
}

fn encoding() -> impl Strategy<Value = Encoding> {
    prop_oneof![Just(Encoding::Json), Just(Encoding::Protobuf)]
}
