//! The memory that a client can make its worker use.

use std::time::Duration;

use postern_channels::backend::ClientCommand;

use crate::rig::Rig;

fn subscribe(rig: &mut Rig, channel: &str) {
    rig.send(&format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#));
    assert_eq!(rig.outcome(), 0);
}

/// Subscribes with a token that expires after ten seconds.
fn subscribe_with_token(rig: &mut Rig, channel: &str) {
    rig.send(&format!(
        r#"{{"id":2,"subscribe":{{"channel":"{channel}","token":"{{'sub':'42','channel':'{channel}','exp':10,'info':'12345'}}"}}}}"#
    ));
    assert_eq!(rig.outcome(), 0);
}

#[test]
fn subscriptions_count_until_they_end_however_they_end() {
    let mut rig = Rig::connected();
    let idle = rig.memory();
    let unsubscribe_by_server =
        |channel: Option<&str>| ClientCommand::Unsubscribe { channel: channel.map(Into::into) };
    let ends: [&dyn Fn(&mut Rig); 3] = [
        &|rig| rig.send(r#"{"id":3,"unsubscribe":{"channel":"open:a"}}"#),
        &|rig| rig.command(&unsubscribe_by_server(Some("open:a"))),
        &|rig| rig.pass(Duration::from_secs(36)),
    ];
    for end in ends {
        subscribe_with_token(&mut rig, "open:a");
        let one = rig.memory();
        assert!((idle + 16 + 6 + 5..idle + 200).contains(&one), "{one}");
        subscribe(&mut rig, "open:b");
        assert_eq!(rig.memory(), one + 16 + 6);
        end(&mut rig);
        rig.send(r#"{"id":3,"unsubscribe":{"channel":"open:b"}}"#);
        rig.received();
        assert_eq!(rig.memory(), idle);
    }
    rig.send(
        r#"{"id":2,"subscribe":{"channel":"open:a","tf":{"key":"ticker","cmp":"in","vals":["a","bcd"]}}}"#,
    );
    assert_eq!(rig.outcome(), 0);
    assert!(rig.memory() > idle + 16 + 6 + "tickerabcd".len(), "a filter counts");
    // With the personal channel.
    rig.command(&unsubscribe_by_server(None));
    assert_eq!(rig.memory(), 0);
}

#[test]
fn a_refused_subscription_does_not_count() {
    let mut rig = Rig::connected();
    let idle = rig.memory();
    for (channel, error) in [("closed", 103), ("nothing:a", 102), ("#42", 105)] {
        rig.send(&format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#));
        assert_eq!((rig.outcome(), rig.memory()), (error, idle), "{channel}");
    }
    subscribe(&mut rig, "open:a");
    let one = rig.memory();
    rig.send(r#"{"id":2,"subscribe":{"channel":"open:a"}}"#);
    assert_eq!((rig.outcome(), rig.memory()), (105, one));
}

/// The subscriptions exist until the connection is removed. The worker must not be due for that long.
#[test]
fn a_client_with_many_subscriptions_is_closed_once_if_memory_is_short() {
    let mut rig = Rig::with_memory(20_000);
    rig.send(r#"{"id":1,"connect":{}}"#);
    rig.received();
    let mut subscriptions = 0;
    while rig.memory() < 20_000 - 300 {
        subscriptions += 1;
        subscribe(&mut rig, &format!("open:{subscriptions:0>240}"));
    }
    assert!((70..100).contains(&subscriptions), "{subscriptions}");
    rig.send(&format!(r#"{{"id":2,"subscribe":{{"channel":"open:{:0>240}"}}}}"#, 0));
    assert_eq!(rig.closed(), (1013, "overloaded".to_owned()));
    assert_eq!(rig.memory(), 0);
    rig.pass(Duration::from_secs(10));
    assert_eq!(rig.received(), "");
}
