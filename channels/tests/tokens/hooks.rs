//! Commands about which a backend decides.

use std::sync::Arc;
use std::time::Duration;

use postern_channels::hooks::{Allowed, HookAnswer, HookCommand, HookError, HookRequest};

use crate::rig::Rig;

fn allowed() -> HookAnswer {
    HookAnswer::Allowed(Allowed::default())
}

fn with_data(data: &str) -> HookAnswer {
    HookAnswer::Allowed(Allowed { info: None, data: Some(Arc::from(data.as_bytes())) })
}

/// Takes the only request.
#[track_caller]
fn take(rig: &mut Rig) -> HookRequest {
    let mut requests = std::mem::take(&mut rig.hooks);
    assert_eq!(requests.len(), 1, "{requests:?}");
    requests.remove(0)
}

#[track_caller]
fn check(rig: &mut Rig, expected: &str) {
    assert_eq!(rig.received(), expected);
}

#[test]
fn subscription_waits_for_its_hook_and_gets_the_info_and_the_data() {
    let mut rig = Rig::connected();
    rig.send(r#"{"id":2,"subscribe":{"channel":"hooked:1","data":{"a":1}}}"#);
    check(&mut rig, "");
    let request = take(&mut rig);
    let HookCommand::Subscribe { channel, data } = &request.command else { panic!("{request:?}") };
    assert_eq!((&**channel, &**data), ("hooked:1", &br#"{"a":1}"#[..]));
    assert_eq!(request.identity.id(), "42");
    let info = Some(Arc::from(&br#"{"role":"seller"}"#[..]));
    rig.answer(&request, HookAnswer::Allowed(Allowed { info, data: Some(Arc::from(&b"[1]"[..])) }));
    let received = rig.received();
    let (reply, join) = received.split_once('\n').unwrap();
    assert_eq!(reply, r#"{"id":2,"subscribe":{"data":[1]}}"#);
    assert!(join.contains(r#""chan_info":{"role":"seller"}"#), "{join}");
}

#[test]
fn refused_command_gets_the_error_of_the_backend_and_a_failed_one_error_100() {
    let mut rig = Rig::connected();
    for command in [
        r#""subscribe":{"channel":"hooked:1"}"#,
        r#""publish":{"channel":"hooked:1","data":1}"#,
        r#""rpc":{"method":"hooked:a"}"#,
    ] {
        rig.send(&format!(r#"{{"id":2,{command}}}"#));
        let error = HookError { code: 1000, message: "the auction is over".into(), is_temporary: false };
        let request = take(&mut rig);
        rig.answer(&request, HookAnswer::Refused(error));
        check(&mut rig, r#"{"id":2,"error":{"code":1000,"message":"the auction is over"}}"#);
        rig.send(&format!(r#"{{"id":3,{command}}}"#));
        let request = take(&mut rig);
        rig.answer(&request, HookAnswer::Failed);
        check(
            &mut rig,
            r#"{"id":3,"error":{"code":100,"message":"internal server error","temporary":true}}"#,
        );
    }
}

#[test]
fn publication_has_the_data_of_the_backend_if_it_has_some() {
    let mut rig = Rig::connected();
    rig.send(r#"{"id":2,"subscribe":{"channel":"hooked:mine.1"}}"#);
    rig.received();
    for (data, published) in [(None, r#"{"price":1}"#), (Some(r#"{"price":2}"#), r#"{"price":2}"#)] {
        rig.send(r#"{"id":3,"publish":{"channel":"hooked:mine.1","data":{"price": 1}}}"#);
        let request = take(&mut rig);
        let HookCommand::Publish { data: sent, .. } = &request.command else { panic!("{request:?}") };
        assert_eq!(**sent, br#"{"price":1}"#[..]);
        rig.answer(&request, data.map_or_else(allowed, with_data));
        let received = rig.received();
        let (push, reply) = received.split_once('\n').unwrap();
        assert!(push.contains(&format!(r#""data":{published}"#)), "{push}");
        assert_eq!(reply, r#"{"id":3,"publish":{}}"#);
    }
    // What the client cannot be blamed for is an internal error.
    rig.send(r#"{"id":4,"publish":{"channel":"hooked:mine.1","data":1}}"#);
    let request = take(&mut rig);
    rig.answer(&request, with_data("junk"));
    assert_eq!(rig.outcome(), 100);
}

#[test]
fn procedures_are_answered_by_the_backend_of_their_namespace() {
    let mut rig = Rig::connected();
    for (command, expected) in [
        (r#"{"id":2,"rpc":{"method":"open:a","data":1}}"#, 108),
        (r#"{"id":2,"rpc":{"method":"unknown:a","data":1}}"#, 104),
    ] {
        rig.send(command);
        assert_eq!(rig.outcome(), expected, "{command}");
    }
    rig.send(&format!(r#"{{"id":2,"rpc":{{"method":"{}","data":1}}}}"#, "a".repeat(256)));
    assert_eq!(rig.outcome(), 107);
    for method in ["hooked:bid", "bid", ""] {
        rig.send(&format!(r#"{{"id":2,"rpc":{{"method":"{method}","data":{{"price":1}}}}}}"#));
        let request = take(&mut rig);
        let HookCommand::Rpc { method: asked, data } = &request.command else { panic!("{request:?}") };
        assert_eq!((&**asked, &**data), (method, &br#"{"price":1}"#[..]));
        rig.answer(&request, with_data(r#"{"highest":2}"#));
        check(&mut rig, r#"{"id":2,"rpc":{"data":{"highest":2}}}"#);
    }
    rig.send(r#"{"id":3,"rpc":{}}"#);
    let request = take(&mut rig);
    rig.answer(&request, allowed());
    check(&mut rig, r#"{"id":3,"rpc":{}}"#);
    rig.send(r#"{"id":4,"rpc":{}}"#);
    let request = take(&mut rig);
    rig.answer(&request, with_data("\n"));
    assert_eq!(rig.outcome(), 100);
}

#[test]
fn what_another_rule_decides_is_not_asked() {
    let mut rig = Rig::connected();
    for (command, expected) in [
        (r#""subscribe":{"channel":"hooked:mine.1"}"#, 0),
        (r#""subscribe":{"channel":"hooked:d#42"}"#, 0),
        (r#""subscribe":{"channel":"hooked:d#43"}"#, 103),
        (r#""subscribe":{"channel":"$hooked:1"}"#, 103),
        (r#""subscribe":{"channel":"hooked:1","type":1}"#, 108),
        (r#""publish":{"channel":"hooked:d#43","data":1}"#, 103),
        (r#""publish":{"channel":"hooked:1"}"#, 107),
    ] {
        rig.send(&format!(r#"{{"id":2,{command}}}"#));
        let received = rig.received();
        let code = received.split_once(r#""code":"#).map_or("0", |(_, rest)| &rest[..3]);
        assert_eq!(code, expected.to_string(), "{command}: {received}");
        assert!(rig.hooks.is_empty(), "{command}");
    }
}

#[test]
fn answer_that_arrives_twice_late_or_for_another_connection_has_no_effect() {
    let mut rig = Rig::connected();
    rig.send(r#"{"id":2,"subscribe":{"channel":"hooked:1"}}"#);
    let mut request = take(&mut rig);
    request.number += 1;
    rig.answer(&request, allowed());
    check(&mut rig, "");
    request.number -= 1;
    request.client.connection.0 += 1;
    rig.answer(&request, allowed());
    check(&mut rig, "");
    request.client.connection.0 -= 1;
    rig.pass(Duration::from_secs(4));
    check(&mut rig, "");
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.outcome(), 100);
    rig.answer(&request, allowed());
    check(&mut rig, "");
    rig.send(r#"{"id":3,"subscribe":{"channel":"hooked:1"}}"#);
    let request = take(&mut rig);
    rig.answer(&request, allowed());
    assert_eq!(rig.received().lines().next(), Some(r#"{"id":3,"subscribe":{}}"#));
    rig.answer(&request, HookAnswer::Failed);
    rig.pass(Duration::from_secs(10));
    check(&mut rig, "");
}

#[test]
fn commands_of_a_channel_keep_their_order_and_others_do_not_wait() {
    let mut rig = Rig::connected();
    rig.send(
        "{\"id\":2,\"subscribe\":{\"channel\":\"hooked:1\"}}\n\
         {\"id\":3,\"publish\":{\"channel\":\"hooked:1\",\"data\":1}}\n\
         {\"id\":4,\"presence\":{\"channel\":\"hooked:1\"}}\n\
         {\"id\":5,\"unsubscribe\":{\"channel\":\"hooked:1\"}}\n\
         {\"id\":6,\"subscribe\":{\"channel\":\"open:1\"}}\n\
         {\"id\":7,\"subscribe\":{\"channel\":\"hooked:2\"}}",
    );
    check(&mut rig, r#"{"id":6,"subscribe":{}}"#);
    let requests = std::mem::take(&mut rig.hooks);
    let [first, second] = &requests[..] else { panic!("{requests:?}") };
    rig.answer(second, allowed());
    assert!(rig.received().starts_with(r#"{"id":7,"subscribe":{}}"#));
    rig.answer(first, allowed());
    assert!(rig.received().starts_with(r#"{"id":2,"subscribe":{}}"#));
    // The publication has its own hook, and the rest waits for it.
    let publish = take(&mut rig);
    assert!(matches!(publish.command, HookCommand::Publish { .. }));
    rig.send(r#"{"id":8,"subscribe":{"channel":"hooked:1"}}"#);
    check(&mut rig, "");
    rig.answer(&publish, HookAnswer::Failed);
    let received = rig.received();
    let ids: Vec<_> =
        received.lines().filter_map(|line| line.strip_prefix(r#"{"id":"#)).map(|line| &line[..1]).collect();
    // Presence needs a permission, which subscribers do not have here.
    assert_eq!(ids, ["3", "4", "5"], "{received}");
    let again = take(&mut rig);
    rig.answer(&again, allowed());
    assert!(rig.received().starts_with(r#"{"id":8,"subscribe":{}}"#));
}

#[test]
fn eight_hooks_are_asked_at_the_same_time_and_the_rest_waits() {
    let mut rig = Rig::connected();
    let calls: Vec<_> = (2..32).map(|id| format!(r#"{{"id":{id},"rpc":{{"data":{id}}}}}"#)).collect();
    rig.send(&calls.join("\n"));
    let mut answered = Vec::new();
    while !rig.hooks.is_empty() {
        let requests = std::mem::take(&mut rig.hooks);
        assert!(requests.len() <= 8);
        for request in requests.into_iter().rev() {
            rig.answer(&request, with_data("1"));
            answered.push(rig.received());
            assert!(rig.hooks.len() <= 8);
        }
    }
    assert_eq!(answered.len(), 30);
    answered.sort();
    answered.dedup();
    assert_eq!(answered.len(), 30, "each call has its own reply");
}

#[test]
fn rate_counts_a_publication_once_also_if_it_waits_to_be_asked() {
    let mut rig = Rig::connected();
    let calls: Vec<_> = (2..10).map(|id| format!(r#"{{"id":{id},"rpc":{{}}}}"#)).collect();
    rig.send(&calls.join("\n"));
    let calls = std::mem::take(&mut rig.hooks);
    assert_eq!(calls.len(), 8);
    for channel in 1..=4 {
        rig.send(&format!(r#"{{"id":{channel}0,"publish":{{"channel":"hooked:{channel}","data":1}}}}"#));
    }
    calls.iter().for_each(|call| rig.answer(call, allowed()));
    let received = rig.received();
    assert!(received.contains(r#"{"id":40,"error":{"code":111,"#), "{received}");
    let publications = std::mem::take(&mut rig.hooks);
    assert_eq!(publications.len(), 3);
    publications.iter().for_each(|publish| rig.answer(publish, allowed()));
    assert_eq!(rig.received().lines().count(), 3);
}

#[test]
fn waiting_commands_are_counted_and_limited() {
    let mut rig = Rig::connected();
    let before = rig.memory();
    let data = "x".repeat(1_000);
    let mut refused = 0;
    for id in 2..100 {
        rig.send(&format!(r#"{{"id":{id},"publish":{{"channel":"hooked:1","data":"{data}"}}}}"#));
        let received = rig.received();
        if !received.is_empty() {
            assert!(received.contains(r#""code":111,"message":"too many requests","temporary":true"#));
            refused += 1;
        }
    }
    assert!((30..50).contains(&refused), "{refused}");
    let held = rig.memory() - before;
    assert!((50_000..=64 * 1024).contains(&held), "{held}");
    // They are refused one after the other, because each waits for the one before it.
    for _ in 0..98 - refused {
        let Some(request) = rig.hooks.pop() else { break };
        rig.answer(&request, HookAnswer::Failed);
    }
    rig.received();
    assert!(rig.hooks.is_empty());
    assert_eq!(rig.memory(), before);
}

#[test]
fn a_fault_closes_the_connection_without_waiting_for_hooks() {
    let mut rig = Rig::connected();
    rig.send("{\"id\":2,\"subscribe\":{\"channel\":\"hooked:1\"}}\njunk");
    assert_eq!(rig.closed().0, 3501);
    let request = take(&mut rig);
    rig.answer(&request, allowed());
    rig.pass(Duration::from_secs(10));
    assert_eq!(rig.memory(), 0);
}

#[test]
fn command_is_not_executed_after_the_connection_has_expired() {
    for (time, is_allowed) in [(0, true), (3, false)] {
        let mut rig = Rig::start();
        rig.send(r#"{"id":1,"connect":{"token":"{'sub':'42','exp':10}"}}"#);
        rig.received();
        rig.pass(Duration::from_secs(33));
        rig.send(r#"{"id":2,"publish":{"channel":"hooked:1","data":1}}"#);
        let request = take(&mut rig);
        rig.pass(Duration::from_secs(time));
        if !is_allowed {
            assert_eq!(rig.closed().0, 3005);
        }
        rig.answer(&request, allowed());
        assert_eq!(rig.published(), u64::from(is_allowed));
    }
}
