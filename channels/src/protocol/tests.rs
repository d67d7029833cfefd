//! Commands and their exact outcome: each row of the protocol about malformed input, in both encodings.

use std::borrow::Cow;

use super::*;
use crate::Disconnect;
use crate::counts::METHODS;

/// Checks the commands of a message, and its fault. Commands are given as `ID NAME CHANNEL`.
#[track_caller]
fn check(encoding: Encoding, message: &[u8], expected: &[&str], fault: Option<Malformed>) {
    let mut found = Vec::new();
    let mut found_fault = None;
    let mut commands = Commands::new(encoding, message);
    for command in &mut commands {
        match command {
            Ok(command) => found.push(summary(&command)),
            Err(fault) => found_fault = Some(fault),
        }
    }
    assert_eq!(found, expected, "commands of {}", message.escape_ascii());
    assert_eq!(found_fault, fault, "fault of {}", message.escape_ascii());
    assert_eq!(commands.next(), None, "the iterator has ended");
}

#[track_caller]
fn json(message: &str, expected: &[&str], fault: Option<Malformed>) {
    check(Encoding::Json, message.as_bytes(), expected, fault);
}

#[track_caller]
fn protobuf(message: &[u8], expected: &[&str], fault: Option<Malformed>) {
    check(Encoding::Protobuf, message, expected, fault);
}

fn summary(command: &Command<'_>) -> String {
    let (name, channel) = match &command.request {
        Request::Pong => ("pong", ""),
        Request::Connect(_) => ("connect", ""),
        Request::Subscribe(request) => ("subscribe", &*request.channel),
        Request::Unsubscribe { channel } => ("unsubscribe", &**channel),
        Request::Publish(request) => ("publish", &*request.channel),
        Request::Presence { channel } => ("presence", &**channel),
        Request::PresenceStats { channel } => ("presence_stats", &**channel),
        Request::History(request) => ("history", &*request.channel),
        Request::Rpc(request) => ("rpc", &*request.method),
        Request::Send { .. } => ("send", ""),
        Request::Refresh { token } => ("refresh", &**token),
        Request::SubRefresh(request) => ("sub_refresh", &*request.channel),
    };
    format!("{} {name} {channel}", command.id).trim_end().to_owned()
}

fn only(encoding: Encoding, message: &[u8]) -> Request<'_> {
    let commands: Result<Vec<_>, _> = Commands::new(encoding, message).collect();
    let [command] = commands.expect("a valid message").try_into().expect("one command");
    command.request
}

const SUBSCRIBE: &str = r#"{"id":1,"subscribe":{"channel":"a"}}"#;
/// The same in Protobuf, after its length: `id` 1, and `subscribe` with `channel` "a".
const SUBSCRIBE_PB: &[u8] = b"\x07\x08\x01\x2a\x03\x0a\x01a";

#[test]
fn every_fault_is_a_bad_request_with_a_reason_that_is_not_json() {
    use Malformed::*;
    for fault in [Empty, Syntax, Id, Request, Channel, Token, Delta] {
        assert_eq!(Disconnect::from(fault), Disconnect::BadRequest);
        assert_eq!(Disconnect::from(fault).code(), 3501);
        assert!(fault.reason().len() <= 123 && fault.reason().starts_with("bad request: "));
        assert!(serde_json::from_str::<serde_json::Value>(fault.reason()).is_err());
    }
}

#[test]
fn json_lines_are_commands() {
    json(SUBSCRIBE, &["1 subscribe a"], None);
    json(&format!("{SUBSCRIBE}\n{SUBSCRIBE}"), &["1 subscribe a"; 2], None);
    json(&format!("{SUBSCRIBE}\n"), &["1 subscribe a"], None);
    json(&format!("{SUBSCRIBE}\r\n{SUBSCRIBE}\r\n"), &["1 subscribe a"; 2], None);
    json(&format!(" \t{SUBSCRIBE} \t"), &["1 subscribe a"], None);
    json("{}", &["0 pong"], None);
    json("{ }\n{}", &["0 pong", "0 pong"], None);
}

#[test]
fn json_lines_that_are_empty_are_malformed() {
    for message in ["", "\n", "\r\n", " ", "\n{}"] {
        json(message, &[], Some(Malformed::Empty));
    }
    json("{}\n\n", &["0 pong"], Some(Malformed::Empty));
    json("{}\n\n{}", &["0 pong"], Some(Malformed::Empty));
    json("{}\r\n\r\n{}", &["0 pong"], Some(Malformed::Empty));
    json("{}\n ", &["0 pong"], Some(Malformed::Empty));
}

#[test]
fn json_that_is_not_an_object_is_malformed() {
    for message in [
        "[]",
        "5",
        "null",
        "\"a\"",
        "true",
        "{",
        "}",
        "{]",
        "nul",
        "{\"id\"}",
        "{\"id\":}",
        "{\"id\":1,}",
        "{,}",
        "{\"id\":1 2}",
        "{id:1}",
        "{'id':1}",
        "{\"id\":01}",
        "{\"id\":+1}",
        "{\"a\":\"\t\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12g4\"}",
        "{\"a\":tru}",
        "{\"a\":-}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":1e}",
        "{\"a\":[1,]}",
        "{\"a\":[1}",
        "{\"a\":{\"b\"}}",
        "{\"a\":\"",
        "\u{feff}{}",
        "{\"a\":NaN}",
        "hello",
        "{}}",
        "{} {}",
        "{}x",
        "{},{}",
        "{/**/}",
        "{\"a\":\"\\",
        "{\"a\":\"\\u12",
    ] {
        json(message, &[], Some(Malformed::Syntax));
    }
    // A line feed ends the command, even where JSON allows white space.
    json("{\"id\":1,\n\"subscribe\":{\"channel\":\"a\"}}", &[], Some(Malformed::Syntax));
    json("{\"a\":[1,\n2]}", &[], Some(Malformed::Syntax));
    // The second object of a line is not ignored: neither is executed.
    json(&format!("{SUBSCRIBE}{SUBSCRIBE}"), &[], Some(Malformed::Syntax));
    json(&format!("{SUBSCRIBE} {SUBSCRIBE}\n{{}}"), &[], Some(Malformed::Syntax));
    // Commands before the fault are executed.
    json(&format!("{SUBSCRIBE}\n{{\n{{}}"), &["1 subscribe a"], Some(Malformed::Syntax));
}

#[test]
fn json_must_be_utf_8() {
    check(Encoding::Json, b"\xff", &[], Some(Malformed::Syntax));
    check(Encoding::Json, b"{}\xff", &[], Some(Malformed::Syntax));
    check(Encoding::Json, b"\n\xff", &[], Some(Malformed::Empty));
    check(Encoding::Json, b"{}\n\xff", &["0 pong"], Some(Malformed::Syntax));
    check(Encoding::Json, b"{}\n{\"a\":\"\xc3\"}", &["0 pong"], Some(Malformed::Syntax));
    check(Encoding::Json, b"{}\n{}\xed\xa0\x80\n{}", &["0 pong"], Some(Malformed::Syntax));
}

#[test]
fn json_members_of_another_type_are_malformed() {
    for message in [
        r#"{"id":1,"subscribe":{"channel":5}}"#,
        r#"{"id":1,"subscribe":{"channel":["a"]}}"#,
        r#"{"id":1,"subscribe":[]}"#,
        r#"{"id":1,"subscribe":"a"}"#,
        r#"{"id":1,"subscribe":true}"#,
        r#"{"id":1,"subscribe":{"channel":"a","recover":1}}"#,
        r#"{"id":1,"subscribe":{"channel":"a","recover":"true"}}"#,
        r#"{"id":1,"subscribe":{"channel":"a","offset":"5"}}"#,
        r#"{"id":1,"subscribe":{"channel":"a","offset":-1}}"#,
        r#"{"id":1,"subscribe":{"channel":"a","offset":18446744073709551616}}"#,
        r#"{"id":1,"subscribe":{"channel":"a","type":2147483648}}"#,
        r#"{"id":1,"subscribe":{"channel":"a","cursor":1}}"#,
        r#"{"id":1,"subscribe":{"channel":"a","asc":0}}"#,
        r#"{"id":1,"subscribe":{"channel":"a","tf":[]}}"#,
        r#"{"id":1,"connect":{"subs":[]}}"#,
        r#"{"id":1,"connect":{"subs":{"a":5}}}"#,
        r#"{"id":1,"connect":{"headers":{"a":5}}}"#,
        r#"{"id":1,"history":{"channel":"a","since":5}}"#,
        r#"{"id":1,"history":{"channel":"a","limit":1.0}}"#,
        r#"{"id":1,"history":{"channel":"a","limit":1e2}}"#,
        r#"{"id":1,"ping":5}"#,
    ] {
        json(message, &[], Some(Malformed::Syntax));
    }
}

#[test]
fn ids_are_positive_integers_of_32_bits() {
    json(r#"{"id":4294967295,"rpc":{}}"#, &["4294967295 rpc"], None);
    for id in
        ["\"1\"", "-1", "1.0", "1e0", "4294967296", "99999999999999999999", "true", "[]", "{}", "01", "-0"]
    {
        json(&format!("{{\"id\":{id},\"rpc\":{{}}}}"), &[], Some(Malformed::Syntax));
    }
    for message in [r#"{"id":0,"rpc":{}}"#, r#"{"rpc":{}}"#, r#"{"id":null,"rpc":{}}"#] {
        json(message, &[], Some(Malformed::Id));
    }
    // `rpc` has other cases above, and `send` needs no id.
    for name in METHODS.iter().filter(|name| !matches!(**name, "rpc" | "send")) {
        json(&format!("{{\"{name}\":{{\"channel\":\"a\",\"token\":\"t\"}}}}"), &[], Some(Malformed::Id));
    }
    json(&format!("{SUBSCRIBE}\n{SUBSCRIBE}"), &["1 subscribe a", "1 subscribe a"], None);
    protobuf(b"\x02\x6a\x00", &[], Some(Malformed::Id));
    protobuf(b"\x04\x08\x00\x6a\x00", &[], Some(Malformed::Id));
    protobuf(b"\x08\x08\xff\xff\xff\xff\x0f\x6a\x00", &["4294967295 rpc"], None);
}

#[test]
fn send_needs_no_id() {
    json(r#"{"send":{"data":1}}"#, &["0 send"], None);
    json(r#"{"id":7,"send":{}}"#, &["7 send"], None);
    protobuf(b"\x02\x62\x00", &["0 send"], None);
}

#[test]
fn a_command_needs_a_request() {
    for message in [
        r#"{"id":1}"#,
        r#"{"id":1,"foo":{}}"#,
        r#"{"id":1,"subscribe":null}"#,
        r#"{"id":1,"Subscribe":{"channel":"a"}}"#,
    ] {
        json(message, &[], Some(Malformed::Request));
    }
    protobuf(b"\x02\x08\x01", &[], Some(Malformed::Request));
    // The field 16, which does not exist.
    protobuf(b"\x05\x08\x01\x82\x01\x00", &[], Some(Malformed::Request));
}

#[test]
fn ping_is_not_a_request() {
    for message in
        [r#"{"id":1,"ping":{}}"#, r#"{"ping":{}}"#, r#"{"id":1,"ping":{},"subscribe":{"channel":"a"}}"#]
    {
        json(message, &[], Some(Malformed::Request));
    }
    json(r#"{"id":1,"ping":{},"connect":{}}"#, &["1 connect"], None);
    json(r#"{"id":1,"ping":null,"subscribe":{"channel":"a"}}"#, &["1 subscribe a"], None);
    protobuf(b"\x04\x08\x01\x5a\x00", &[], Some(Malformed::Request));
    protobuf(b"\x06\x08\x01\x5a\x00\x22\x00", &["1 connect"], None);
}

#[test]
fn of_several_requests_one_counts() {
    // From the highest precedence to the lowest.
    let names = METHODS;
    let numbers = [4, 5, 6, 7, 8, 9, 10, 13, 12, 14, 15];
    let member = |name: &str| format!("\"{name}\":{{\"channel\":\"a\",\"token\":\"t\",\"method\":\"m\"}}");
    // Field 1 is the channel or the token; it is the data of `rpc` and `send`.
    let field = |number: u8| [number << 3 | 2, 3, 0x0a, 1, b'a'];
    for (high, &name) in names.iter().enumerate() {
        for low in high + 1..names.len() {
            for [first, second] in [[high, low], [low, high]] {
                let message = format!("{{{},\"id\":1,{}}}", member(names[first]), member(names[second]));
                let commands: Vec<_> = Commands::new(Encoding::Json, message.as_bytes()).collect();
                let [Ok(command)] = &commands[..] else { panic!("{message}: {commands:?}") };
                assert_eq!(summary(command).split(' ').nth(1), Some(name), "{message}");

                let body = [&field(numbers[first])[..], &[8, 1], &field(numbers[second])].concat();
                let message = [&[body.len() as u8], &body[..]].concat();
                let commands: Vec<_> = Commands::new(Encoding::Protobuf, &message).collect();
                let [Ok(command)] = &commands[..] else { panic!("{message:?}: {commands:?}") };
                assert_eq!(summary(command).split(' ').nth(1), Some(name), "{message:?}");
            }
        }
    }
    // The others must be valid too.
    json(r#"{"id":1,"connect":{},"publish":{"channel":5}}"#, &[], Some(Malformed::Syntax));
    protobuf(b"\x07\x08\x01\x22\x00\x3a\x01\x08", &[], Some(Malformed::Syntax));
}

#[test]
fn channels_are_not_empty() {
    for name in
        ["subscribe", "unsubscribe", "publish", "presence", "presence_stats", "history", "sub_refresh"]
    {
        for value in ["{}", r#"{"channel":""}"#, r#"{"channel":null}"#] {
            json(&format!("{{\"id\":1,\"{name}\":{value}}}"), &[], Some(Malformed::Channel));
        }
    }
    for field in [5, 6, 7, 8, 9, 10, 15] {
        protobuf(&[4, 8, 1, field << 3 | 2, 0], &[], Some(Malformed::Channel));
    }
}

#[test]
fn refresh_needs_a_token() {
    json(r#"{"id":1,"refresh":{}}"#, &[], Some(Malformed::Token));
    json(r#"{"id":1,"refresh":{"token":"t"}}"#, &["1 refresh t"], None);
    protobuf(b"\x04\x08\x01\x72\x00", &[], Some(Malformed::Token));
    protobuf(b"\x07\x08\x01\x72\x03\x0a\x01t", &["1 refresh t"], None);
    // This one gets an error reply.
    json(r#"{"id":1,"sub_refresh":{"channel":"a"}}"#, &["1 sub_refresh a"], None);
}

#[test]
fn unknown_delta_types_are_malformed() {
    json(r#"{"id":1,"subscribe":{"channel":"a","delta":"fossil"}}"#, &["1 subscribe a"], None);
    json(r#"{"id":1,"subscribe":{"channel":"a","delta":"xdelta"}}"#, &[], Some(Malformed::Delta));
    // The type of the subscription is refused first, with an error reply.
    json(r#"{"id":1,"subscribe":{"channel":"a","delta":"xdelta","type":1}}"#, &["1 subscribe a"], None);
    protobuf(b"\x0a\x08\x01\x2a\x06\x0a\x01a\x62\x01x", &[], Some(Malformed::Delta));
}

#[test]
fn unknown_and_repeated_members_are_tolerated() {
    json(r#"{"id":1,"x":[{"y":null}],"subscribe":{"z":{},"channel":"a"}}"#, &["1 subscribe a"], None);
    json(
        r#"{"id":5,"id":1,"subscribe":{"channel":"b"},"subscribe":{"channel":"c","channel":"a"}}"#,
        &["1 subscribe a"],
        None,
    );
    // Names with escapes are equal to names without.
    json(r#"{"\u0069d":1,"subscribe":{"ch\u0061nnel":"\u0061"}}"#, &["1 subscribe a"], None);
    // Fields 16 to 20 of the wire types 0, 1, 2, 5 and a group.
    protobuf(
        b"\x24\x80\x01\x05\x89\x01\x01\x02\x03\x04\x05\x06\x07\x08\x92\x01\x01x\x9d\x01\x01\x02\x03\x04\xa3\x01\x08\x01\xa4\x01\
          \x08\x01\x2a\x03\x0a\x01a",
        &["1 subscribe a"],
        None,
    );
    protobuf(b"\x0e\x08\x05\x08\x01\x2a\x03\x0a\x01b\x2a\x03\x0a\x01a", &["1 subscribe a"], None);
}

#[test]
fn protobuf_messages_are_delimited_by_lengths() {
    protobuf(SUBSCRIBE_PB, &["1 subscribe a"], None);
    protobuf(&[SUBSCRIBE_PB, SUBSCRIBE_PB].concat(), &["1 subscribe a"; 2], None);
    protobuf(b"\x00", &["0 pong"], None);
    protobuf(b"\x00\x00", &["0 pong"; 2], None);
    protobuf(b"", &[], Some(Malformed::Empty));
    // A length that is not minimal is allowed in Protobuf.
    protobuf(b"\x80\x00", &["0 pong"], None);
}

#[test]
fn protobuf_that_is_truncated_is_malformed() {
    for len in 1..SUBSCRIBE_PB.len() {
        protobuf(&SUBSCRIBE_PB[..len], &[], Some(Malformed::Syntax));
        let message = [SUBSCRIBE_PB, &SUBSCRIBE_PB[..len]].concat();
        protobuf(&message, &["1 subscribe a"], Some(Malformed::Syntax));
    }
    // Lengths up to 64 bits and more.
    protobuf(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", &[], Some(Malformed::Syntax));
    protobuf(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", &[], Some(Malformed::Syntax));
    protobuf(b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", &[], Some(Malformed::Syntax));
    protobuf(b"\x05\x2a\xff\xff\xff\x7f", &[], Some(Malformed::Syntax));
}

#[test]
fn protobuf_fields_of_another_type_are_malformed() {
    // `id` as bytes, `subscribe` as an integer, `channel` as an integer, `channel` that is not UTF-8.
    for message in [
        &b"\x02\x0a\x00"[..],
        b"\x02\x28\x00",
        b"\x06\x08\x01\x2a\x02\x08\x01",
        b"\x07\x08\x01\x2a\x03\x0a\x01\xff",
    ] {
        protobuf(message, &[], Some(Malformed::Syntax));
    }
    // Field 0, the wire types 6 and 7, the end of a group that has not begun, a group that does not end.
    for message in
        [&b"\x02\x00\x00"[..], b"\x01\x86", b"\x02\x0e\x00", b"\x02\x0f\x00", b"\x01\x0c", b"\x01\x0b"]
    {
        protobuf(message, &[], Some(Malformed::Syntax));
    }
}

#[test]
fn strings_are_borrowed_unless_they_have_escapes() {
    let message = r#"{"id":1,"publish":{"channel":"a b","data":{"x": [1, "\u0000"]}}}"#.as_bytes();
    let Request::Publish(publish) = only(Encoding::Json, message) else { panic!("another request") };
    assert!(matches!(publish.channel, Cow::Borrowed("a b")));
    assert_eq!(publish.data.as_bytes(), br#"{"x": [1, "\u0000"]}"#);
    assert_eq!(publish.data.compact().as_deref(), Ok(&br#"{"x":[1,"\u0000"]}"#[..]));

    let message =
        r#"{"id":1,"rpc":{"method":"\"\\\/\b\f\n\r\té\u00e9\ud83d\ude00\ud800\ud800\ud83d\ude00\udc00x"}}"#
            .as_bytes();
    let Request::Rpc(rpc) = only(Encoding::Json, message) else { panic!("another request") };
    assert_eq!(rpc.method, "\"\\/\u{8}\u{c}\n\r\téé😀\u{fffd}\u{fffd}😀\u{fffd}x");
}

#[test]
fn null_is_a_value_only_for_the_application() {
    let Request::Publish(publish) =
        only(Encoding::Json, br#"{"id":1,"publish":{"channel":"a","data":null}}"#)
    else {
        panic!("another request")
    };
    assert_eq!(publish.data.as_bytes(), b"null");
    let Request::Publish(publish) = only(Encoding::Json, br#"{"id":1,"publish":{"channel":"a"}}"#) else {
        panic!("another request")
    };
    assert!(publish.data.is_empty());
    let message = br#"{"id":1,"connect":{"token":null,"subs":null,"headers":null,"flag":null,"data":null}}"#;
    let Request::Connect(connect) = only(Encoding::Json, message) else { panic!("another request") };
    assert_eq!(connect, ConnectRequest { data: connect.data, ..ConnectRequest::default() });
    assert_eq!(connect.data.as_bytes(), b"null");
}

#[test]
fn values_that_are_too_deep_are_for_the_client_machine_to_refuse() {
    for (depth, expected) in
        [(1, None), (128, None), (129, Some(RawError::TooDeep)), (1000, Some(RawError::TooDeep))]
    {
        let data = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let message = format!("{{\"id\":1,\"publish\":{{\"channel\":\"a\",\"data\":{data}}}}}");
        let Request::Publish(publish) = only(Encoding::Json, message.as_bytes()) else {
            panic!("another request")
        };
        assert_eq!(publish.data.compact().err(), expected);
        assert_eq!(Raw::new(data.as_bytes()).compact().err(), expected);
    }
}

#[test]
fn filters_are_decoded_on_demand() {
    let message = br#"{"id":1,"subscribe":{"channel":"a","tf":{"op":"and","nodes":[{"key":"k","cmp":"in","vals":["x","y"]},{"op":"not"}]}}}"#;
    let Request::Subscribe(subscribe) = only(Encoding::Json, message) else { panic!("another request") };
    let tree = subscribe.filter.map(Filter::tree).expect("a filter").expect("a valid filter");
    assert_eq!(tree.op, "and");
    assert_eq!(tree.nodes[0].vals, ["x", "y"]);
    assert_eq!(tree.nodes[1].op, "not");

    let nested =
        |levels: usize| format!("{}{{}}{}", r#"{"nodes":["#.repeat(levels - 1), "]}".repeat(levels - 1));
    let tree = |text: &str| Filter { encoding: Encoding::Json, bytes: text.as_bytes() }.tree().is_ok();
    assert!(tree(&nested(32)) && !tree(&nested(33)));
    assert!(!tree(r#"{"op":5}"#));
}

#[test]
fn without_commands_the_first_message_is_the_object_of_connect() {
    let decode = ConnectRequest::decode;
    let json = decode(Encoding::Json, b" {\"token\":\"t\",\n\"name\":\"n\"}\n").expect("a valid message");
    let protobuf = decode(Encoding::Protobuf, b"\x0a\x01t\x22\x01n").expect("a valid message");
    assert_eq!(json, protobuf);
    assert_eq!((&*json.token, &*json.name), ("t", "n"));
    assert_eq!(decode(Encoding::Json, b"{}"), Ok(ConnectRequest::default()));
    assert_eq!(decode(Encoding::Protobuf, b""), Ok(ConnectRequest::default()));
    for message in ["", "[]", "null", "{} {}", "{\"token\":5}", "\u{feff}{}"] {
        assert_eq!(decode(Encoding::Json, message.as_bytes()), Err(Malformed::Syntax), "{message}");
    }
    assert_eq!(decode(Encoding::Json, b"{\"token\":\"\xff\"}"), Err(Malformed::Syntax));
    assert_eq!(decode(Encoding::Protobuf, b"\x0a\x02t"), Err(Malformed::Syntax));
}
