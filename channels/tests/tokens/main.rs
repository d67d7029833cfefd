//! A client in a worker, with virtual time: its tokens (the replies of all faults, and the ends of what has expired), and its
//! memory.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod hooks;
mod memory;
mod rig;

use std::time::Duration;

use self::rig::Rig;

#[test]
fn a_connection_expires_after_its_grace_period_unless_it_is_refreshed() {
    let mut rig = Rig::start();
    rig.send(r#"{"id":1,"connect":{"token":"{'sub':'42','exp':100}"}}"#);
    let reply = rig.received();
    assert!(reply.contains(r#""expires":true,"ttl":100"#), "{reply}");
    // The old time is due, and does not count any more.
    rig.pass(Duration::from_secs(99));
    rig.send(r#"{"id":2,"refresh":{"token":"{'sub':'42','exp':200}"}}"#);
    let reply = rig.received();
    assert!(reply.contains(r#""expires":true,"ttl":101"#), "{reply}");
    rig.pass(Duration::from_secs(200 + 24 - 99));
    assert_eq!(rig.received(), "");
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.closed(), (3005, "connection expired".to_owned()));
}

#[test]
fn an_expiry_that_moves_forward_counts() {
    let mut rig = Rig::start();
    rig.send(r#"{"id":1,"connect":{"token":"{'sub':'42','exp':3600}"}}"#);
    rig.received();
    rig.send(r#"{"id":2,"refresh":{"token":"{'sub':'42','exp':10}"}}"#);
    rig.received();
    rig.pass(Duration::from_secs(10 + 24));
    assert_eq!(rig.received(), "");
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.closed().0, 3005);
}

#[test]
fn a_subscription_expires_once_and_only_while_it_exists() {
    let mut rig = Rig::start();
    rig.send(r#"{"id":1,"connect":{}}"#);
    rig.received();
    for channel in ["a", "b", "c"] {
        rig.send(&format!(
            r#"{{"id":2,"subscribe":{{"channel":"{channel}","token":"{{'sub':'42','channel':'{channel}','exp':10}}"}}}}"#
        ));
        assert!(rig.received().contains(r#""expires":true,"ttl":10"#));
    }
    rig.send(r#"{"id":3,"unsubscribe":{"channel":"b"}}"#);
    rig.received();
    rig.send(r#"{"id":4,"sub_refresh":{"channel":"c","token":"{'sub':'42','channel':'c'}"}}"#);
    assert_eq!(rig.received(), r#"{"id":4,"sub_refresh":{}}"#);
    rig.pass(Duration::from_secs(36));
    assert_eq!(
        rig.received(),
        r#"{"push":{"channel":"a","unsubscribe":{"code":2501,"reason":"subscription expired"}}}"#
    );
    rig.pass(Duration::from_secs(3600));
    assert_eq!(rig.received(), "");
    // Without a token now, where none is needed, the subscription does not inherit the expiry of the one before.
    rig.send(
        r#"{"id":5,"subscribe":{"channel":"open:1","token":"{'sub':'42','channel':'open:1','exp':9999}"}}"#,
    );
    assert!(rig.received().contains("ttl"));
    rig.send(r#"{"id":6,"unsubscribe":{"channel":"open:1"}}"#);
    rig.received();
    rig.send(r#"{"id":7,"subscribe":{"channel":"open:1"}}"#);
    assert_eq!(rig.received(), r#"{"id":7,"subscribe":{}}"#);
    rig.pass(Duration::from_secs(20_000));
    assert_eq!(rig.received(), "");
}

#[test]
fn commands_in_the_message_of_a_connect_whose_token_the_host_checks_are_executed() {
    let connect = r#"{"id":1,"connect":{"token":"42"}}"#;
    let subscribe = r#"{"id":2,"subscribe":{"channel":"open:1"}}"#;
    for messages in [vec![format!("{connect}\n{subscribe}")], vec![connect.to_owned(), subscribe.to_owned()]]
    {
        let mut rig = Rig::with_service();
        messages.iter().for_each(|message| rig.send(message));
        let received = rig.received();
        assert!(received.contains(r#"{"id":1,"connect":"#), "{received}");
        assert!(received.contains(r#"{"id":2,"subscribe":{}}"#), "{received}");
    }
}

#[test]
fn connection_that_is_closed_does_not_wait_for_the_check_of_a_token() {
    let mut rig = Rig::with_service();
    rig.send(r#"{"id":1,"connect":{}}"#);
    rig.received();
    let subscribe = r#"{"id":3,"subscribe":{"channel":"a","token":"{'sub':'7','channel':'a'}"}}"#;
    rig.send(&format!("{}\n{subscribe}", r#"{"id":2,"refresh":{"token":"42"}}"#));
    assert_eq!(rig.closed().0, 3500);
}

#[test]
fn reply_to_a_subscription_that_has_ended_has_nothing_of_the_next_one() {
    let mut rig = Rig::connected();
    rig.send(concat!(
        r#"{"id":2,"subscribe":{"channel":"open:1"}}"#,
        "\n",
        r#"{"id":3,"unsubscribe":{"channel":"open:1"}}"#,
        "\n",
        r#"{"id":4,"subscribe":{"channel":"open:1","token":"{'sub':'42','channel':'open:1','exp':10}"}}"#,
    ));
    let expected = [
        r#"{"id":2,"subscribe":{}}"#,
        r#"{"id":3,"unsubscribe":{}}"#,
        r#"{"id":4,"subscribe":{"expires":true,"ttl":10}}"#,
    ];
    assert_eq!(rig.received(), expected.join("\n"));
}

/// The answers to `connect` and `refresh`, to `subscribe` and to `sub_refresh`: an error reply, or the code of a Close.
#[test]
fn each_fault_of_a_token_has_its_outcome() {
    // Of a verifier: an invalid signature is 3500 or 103, unavailable keys are the temporary error 100.
    for (token, of_connection, of_subscription) in [
        ("garbage", 3500, 103),
        ("unavailable", 100, 100),
        ("{'sub':'42','channel':'a','exp':0}", 109, 109),
        ("{'sub':'42','channel':'a','nbf':31}", 109, 109),
        ("{'sub':'7','channel':'a'}", 3500, 3500),
        ("{'channel':'a'}", 3500, 3500),
        ("{'sub':'42','channel':'b'}", 3500, 3500),
        ("{'sub':'42','channel':''}", 3500, 103),
        ("{'sub':'42','channel':'a','info':'{'}", 3500, 103),
        ("{'sub':'42','channel':'a','expire_at':0}", 3500, 110),
        ("{'sub':'42','expire_at':0}", 110, 103),
        ("{'sub':'42','channels':'other:1'}", 102, 103),
        ("{'sub':'42','channels':'é'}", 107, 103),
    ] {
        let connect = format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#);
        let refresh = format!(r#"{{"id":1,"refresh":{{"token":"{token}"}}}}"#);
        let mut rig = Rig::start();
        rig.send(&connect);
        assert_eq!(rig.outcome(), of_connection, "connect with {token}");
        if of_connection < 1000 {
            // The connection is of no use any more.
            rig.send(r#"{"id":2,"connect":{}}"#);
            assert_eq!(rig.closed().0, 3501, "{token}");
        }
        // The channels of a token have no meaning for `refresh`.
        if !token.contains("channels") || of_connection == 107 {
            let mut rig = Rig::connected();
            rig.send(&refresh);
            assert_eq!(rig.outcome(), of_connection, "refresh with {token}");
        }
        let mut rig = Rig::connected();
        rig.send(&format!(r#"{{"id":2,"subscribe":{{"channel":"a","token":"{token}"}}}}"#));
        assert_eq!(rig.outcome(), of_subscription, "subscribe with {token}");
        let mut rig = Rig::connected();
        rig.send(r#"{"id":2,"subscribe":{"channel":"a","token":"{'sub':'42','channel':'a'}"}}"#);
        rig.received();
        rig.send(&format!(r#"{{"id":3,"sub_refresh":{{"channel":"a","token":"{token}"}}}}"#));
        assert_eq!(rig.outcome(), of_subscription, "sub_refresh with {token}");
    }
}

#[test]
fn a_refresh_of_nothing_has_its_outcome() {
    for (command, expected) in [
        (r#"{"id":2,"refresh":{}}"#, 3501),
        (r#"{"id":2,"refresh":{"token":""}}"#, 3501),
        (r#"{"id":2,"sub_refresh":{"token":"x"}}"#, 3501),
        (r#"{"id":2,"sub_refresh":{"channel":"a"}}"#, 103),
        (r#"{"id":2,"sub_refresh":{"channel":"a","token":"{'sub':'42','channel':'a'}"}}"#, 103),
        // The client is subscribed to its personal channel.
        (r##"{"id":2,"sub_refresh":{"channel":"#42"}}"##, 107),
        (r##"{"id":2,"sub_refresh":{"channel":"#42","type":4,"token":"x"}}"##, 108),
        (r##"{"id":2,"sub_refresh":{"channel":"other:1","token":"x"}}"##, 102),
    ] {
        let mut rig = Rig::connected();
        rig.send(command);
        assert_eq!(rig.outcome(), expected, "{command}");
    }
    // Nothing precedes `connect`.
    let mut rig = Rig::start();
    rig.send(r#"{"id":2,"refresh":{"token":"{'sub':'42'}"}}"#);
    assert_eq!(rig.outcome(), 3501);
}

#[test]
fn a_refused_connect_drops_the_rest_of_its_message_and_is_stale_in_the_end() {
    let mut rig = Rig::start();
    rig.send("{\"id\":1,\"connect\":{\"token\":\"{'sub':'42','exp':0}\"}}\n{\"id\":2,\"rpc\":{}}\n[]");
    assert_eq!(rig.received(), r#"{"id":1,"error":{"code":109,"message":"token expired"}}"#);
    rig.pass(Duration::from_secs(11));
    assert_eq!(rig.closed(), (3502, "stale".to_owned()));
}

#[test]
fn an_expiry_of_a_server_side_subscription_is_no_push() {
    // A token can not only subscribe the client; it also refreshes the subscription, whose end ends the connection.
    let mut rig = Rig::start();
    rig.send(r#"{"id":1,"connect":{"token":"{'sub':'42','channels':'a'}"}}"#);
    rig.received();
    rig.send(r#"{"id":2,"sub_refresh":{"channel":"a","token":"{'sub':'42','channel':'a','exp':10}"}}"#);
    assert!(rig.received().contains(r#""ttl":10"#));
    rig.pass(Duration::from_secs(36));
    assert_eq!(rig.closed(), (3006, "subscription expired".to_owned()));
}

#[test]
fn a_publication_between_two_server_side_subscriptions_follows_the_reply_to_connect() {
    let mut rig = Rig::start();
    rig.interpose("open:1", r#"{"bid":1}"#);
    rig.send(r##"{"id":1,"connect":{"token":"{'sub':'42','channels':'open:1'}"}}"##);
    let received = rig.received();
    let (reply, push) = received.split_once('\n').unwrap_or_else(|| panic!("{received}"));
    assert!(reply.starts_with(r#"{"id":1,"connect":"#) && reply.contains(r##""#42":{}"##), "{reply}");
    assert_eq!(push, r#"{"push":{"channel":"open:1","pub":{"data":{"bid":1}}}}"#);
    rig.send(r#"{"id":2,"publish":{"channel":"open:1","data":1}}"#);
    assert!(rig.received().contains(r#""error""#), "no publication of clients is allowed");
    rig.interpose("open:1", "2");
    rig.send(r#"{"id":3,"subscribe":{"channel":"open:2"}}"#);
    assert!(rig.received().contains(r#"{"push":{"channel":"open:1","pub":{"data":2}}}"#));
}

#[test]
fn the_gateway_grants_channels_by_a_header() {
    // A private channel needs a token in any case, and `**` is not a pattern.
    for (channel, expected) in [
        ("granted.1", 0),
        ("user.42", 0),
        ("user.7", 103),
        ("granted", 103),
        ("$private", 103),
        ("granted.#42", 103),
        ("anything", 103),
    ] {
        let mut rig = Rig::connected();
        rig.send(&format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#));
        assert_eq!(rig.outcome(), expected, "{channel}");
    }
}

#[test]
fn a_publication_of_an_interval_does_not_outlive_the_last_subscription() {
    let mut rig = Rig::connected();
    let data = |received: String| received.matches(r#""data":"#).count();
    rig.send(r#"{"id":2,"subscribe":{"channel":"ticker:1"}}"#);
    rig.received();
    rig.publish("ticker:1", "1");
    assert_eq!(data(rig.received()), 1);
    rig.publish("ticker:1", "2");
    rig.send(r#"{"id":3,"unsubscribe":{"channel":"ticker:1"}}"#);
    // The worker does not get this one, so the one before would not be the latest.
    rig.publish("ticker:1", "3");
    rig.send(r#"{"id":4,"subscribe":{"channel":"ticker:1"}}"#);
    assert_eq!(data(rig.received()), 0);
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.received(), "");
    rig.publish("ticker:1", "4");
    assert_eq!(data(rig.received()), 1);
    rig.publish("ticker:1", "5");
    rig.publish("ticker:1", "6");
    rig.pass(Duration::from_secs(1));
    assert!(rig.received().contains(r#""data":6"#));
}
