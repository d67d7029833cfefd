use serde_json::{Value, json};

use super::*;
use crate::close::codes;
use crate::event::{Recovery, Request, TokenError};

/// A machine, and the actions that it has asked for.
struct Rig {
    machine: Machine,
    now: Instant,
}

impl Rig {
    fn new(config: MachineConfig) -> Rig {
        let mut rig = Rig { machine: Machine::new(config, 7), now: Instant::now() };
        rig.machine.connect(rig.now);
        rig
    }

    /// A machine that is connected, with pings each 25 s.
    fn connected() -> Rig {
        let mut rig = Rig::new(MachineConfig::default());
        rig.open(&json!({ "client": "c", "ping": 25, "pong": true }));
        rig
    }

    /// Opens a connection, and answers `connect`. Returns the commands that follow.
    fn open(&mut self, result: &Value) -> Vec<Value> {
        assert_eq!(self.machine.poll_action(), Some(Action::Open));
        self.machine.handle_opened(self.now);
        let [connect] = &self.sent()[..] else { panic!("not one command") };
        let id = connect["id"].clone();
        self.receive(&json!({ "id": id, "connect": result }));
        self.sent()
    }

    fn receive(&mut self, reply: &Value) {
        self.machine.handle_message(&reply.to_string(), self.now);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.machine.handle_timeout(self.now);
    }

    /// Waits until the machine has something to do.
    fn wait_for_timeout(&mut self) {
        self.now = self.machine.poll_timeout().expect("a deadline").max(self.now);
        self.machine.handle_timeout(self.now);
    }

    fn sent(&mut self) -> Vec<Value> {
        match self.machine.poll_action() {
            Some(Action::Send(text)) => {
                text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
            }
            None => Vec::new(),
            other => panic!("{other:?}"),
        }
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.machine.poll_event()).collect()
    }

    fn subscribe(&mut self, channel: &str, result: &Value) -> Value {
        let options = SubscribeOptions { recoverable: true, ..SubscribeOptions::default() };
        assert!(self.machine.subscribe(channel, options, self.now));
        let [command] = &self.sent()[..] else { panic!("not one command") };
        self.receive(&json!({ "id": command["id"], "subscribe": result }));
        command.clone()
    }
}

fn publication(channel: &str, data: u32, offset: u64) -> Value {
    json!({ "push": { "channel": channel, "pub": { "data": data, "offset": offset } } })
}

fn data(events: &[Event]) -> Vec<String> {
    let data = |event: &Event| {
        if let Event::Publication { publication, .. } = event {
            Some(publication.data.to_string())
        } else {
            None
        }
    };
    events.iter().filter_map(data).collect()
}

#[test]
fn pings_are_answered_and_their_absence_ends_the_connection() {
    let mut rig = Rig::connected();
    rig.events();
    rig.wait(Duration::from_secs(34));
    rig.receive(&json!({}));
    assert_eq!(rig.machine.poll_action(), Some(Action::Send("{}".into())));
    rig.wait(Duration::from_secs(34));
    assert!(rig.machine.is_connected());
    rig.wait(Duration::from_secs(1));
    assert_eq!(rig.machine.poll_action(), Some(Action::Close(1000)));
    assert!(matches!(rig.events()[..], [Event::Reconnecting { code: codes::NO_PING, .. }]));
    rig.wait_for_timeout();
    assert_eq!(rig.machine.poll_action(), Some(Action::Open));
}

#[test]
fn delays_grow_with_each_failed_attempt_and_start_again_after_a_connection() {
    let mut rig = Rig::new(MachineConfig::default());
    let mut longest = Duration::ZERO;
    for failed in 0..40 {
        assert_eq!(rig.machine.poll_action(), Some(Action::Open));
        rig.machine.handle_open_error("refused", false, rig.now);
        let [Event::Reconnecting { delay, .. }] = rig.events()[..] else { panic!("not one event") };
        assert!(delay <= Backoff::default().bound(failed));
        longest = longest.max(delay);
        rig.wait_for_timeout();
    }
    assert!(longest > Duration::from_secs(15), "{longest:?}");
    rig.open(&json!({ "client": "c" }));
    rig.wait(Backoff::default().most);
    rig.events();
    rig.machine.handle_closed(3001, "shutdown", rig.now);
    let [Event::Reconnecting { code: 3001, delay, .. }] = rig.events()[..] else { panic!("not one event") };
    assert!(delay <= Duration::from_millis(500));
}

#[test]
fn connections_that_end_at_once_are_failed_attempts() {
    let mut rig = Rig::new(MachineConfig::default());
    for expected in 0..10 {
        rig.open(&json!({ "client": "c" }));
        rig.events();
        rig.machine.handle_closed(3008, "slow", rig.now);
        let [Event::Reconnecting { failed, .. }] = rig.events()[..] else { panic!("not one event") };
        assert_eq!(failed, expected);
        rig.wait_for_timeout();
    }
}

#[test]
fn only_the_last_attempt_waits_for_an_application_that_takes_no_events() {
    let mut rig = Rig::connected();
    rig.machine.handle_closed(codes::LOST, "reset", rig.now);
    for _ in 0..100 {
        rig.wait_for_timeout();
        assert_eq!(rig.machine.poll_action(), Some(Action::Open));
        rig.machine.handle_open_error("refused", false, rig.now);
    }
    assert!(matches!(rig.events()[..], [Event::Connected { .. }, Event::Reconnecting { failed: 100, .. }]));
}

#[test]
fn a_terminal_close_ends_the_client_until_it_connects_again() {
    let mut rig = Rig::connected();
    rig.events();
    let id = rig.machine.request(Request::Presence { channel: "a".into() }, rig.now);
    rig.machine.handle_closed(3503, "force disconnect", rig.now);
    assert!(matches!(rig.events()[..], [Event::Disconnected { code: 3503, .. }]));
    let (answered, answer) = rig.machine.poll_answer().expect("an answer");
    assert_eq!((answered, answer.err()), (id, Some(RequestError::Disconnected)));
    assert_eq!(rig.machine.poll_timeout(), None);
    rig.machine.connect(rig.now);
    rig.open(&json!({ "client": "c" }));
    assert!(rig.machine.is_connected());
}

#[test]
fn a_subscription_recovers_from_its_last_publication() {
    let mut rig = Rig::connected();
    let stream = json!({ "recoverable": true, "epoch": "e", "offset": 5 });
    assert_eq!(rig.subscribe("a", &stream)["subscribe"], json!({ "channel": "a", "recoverable": true }));
    rig.receive(&publication("a", 6, 6));
    rig.events();
    rig.machine.handle_closed(codes::LOST, "reset", rig.now);
    rig.wait_for_timeout();
    let commands = rig.open(&json!({ "client": "d" }));
    let expected = json!({ "channel": "a", "recover": true, "offset": 6, "epoch": "e", "recoverable": true });
    assert_eq!(commands[0]["subscribe"], expected);
    let missed = json!([{ "data": 7, "offset": 7 }, { "data": 8, "offset": 8 }]);
    let result = json!({ "recoverable": true, "epoch": "e", "offset": 6, "was_recovering": true, "recovered": true,
        "publications": missed });
    rig.receive(&json!({ "id": commands[0]["id"], "subscribe": result }));
    let events = rig.events();
    let recovered = |event: &Event| matches!(event, Event::Subscribed { recovery: Recovery::Complete, .. });
    assert!(events.iter().any(recovered), "{events:?}");
    assert_eq!(data(&events), ["7", "8"]);
    // The position follows the publications.
    rig.receive(&json!({ "push": { "channel": "a", "unsubscribe": { "code": 2500, "reason": "insufficient state" } } }));
    assert_eq!(rig.sent()[0]["subscribe"]["offset"], 8);
}

#[test]
fn a_subscription_that_cannot_be_recovered_says_so() {
    let mut rig = Rig::connected();
    rig.subscribe("a", &json!({ "recoverable": true, "epoch": "e", "offset": 5 }));
    rig.machine.handle_closed(codes::LOST, "reset", rig.now);
    rig.events();
    rig.wait_for_timeout();
    let commands = rig.open(&json!({ "client": "d" }));
    let result = json!({ "recoverable": true, "epoch": "f", "offset": 2, "was_recovering": true });
    rig.receive(&json!({ "id": commands[0]["id"], "subscribe": result }));
    let events = rig.events();
    let Some(Event::Subscribed { recovery, position, .. }) = events.last() else { panic!("{events:?}") };
    assert_eq!(*recovery, Recovery::Incomplete);
    assert_eq!(*position, Some(Position { offset: 2, epoch: "f".into() }));
}

#[test]
fn nothing_of_a_channel_follows_its_end() {
    let mut rig = Rig::connected();
    rig.subscribe("a", &json!({}));
    rig.events();
    rig.machine.unsubscribe("a", rig.now);
    rig.receive(&publication("a", 1, 0));
    assert!(matches!(rig.events()[..], [Event::Unsubscribed { code: 0, .. }]));
    assert_eq!(rig.sent()[0]["unsubscribe"], json!({ "channel": "a" }));
}

#[test]
fn a_refused_subscription_ends_and_a_temporary_error_does_not() {
    let mut rig = Rig::connected();
    rig.events();
    for (code, temporary) in [(103, false), (100, true)] {
        assert!(rig.machine.subscribe("a", SubscribeOptions::default(), rig.now));
        let id = rig.sent()[0]["id"].clone();
        rig.receive(&json!({ "id": id, "error": { "code": code, "message": "m", "temporary": temporary } }));
        match (temporary, &rig.events()[..]) {
            (false, [Event::Unsubscribed { code: 103, .. }]) => {}
            (true, [Event::Resubscribing { code: 100, .. }]) => {
                rig.wait_for_timeout();
                assert_eq!(rig.sent()[0]["subscribe"]["channel"], "a");
            }
            (_, events) => panic!("{events:?}"),
        }
    }
}

#[test]
fn tokens_are_asked_for_and_refreshed() {
    let mut rig = Rig::new(MachineConfig { has_token_source: true, ..MachineConfig::default() });
    assert_eq!(rig.machine.poll_action(), Some(Action::GetToken(None)));
    rig.machine.handle_token(None, Ok("t1".into()), rig.now);
    assert_eq!(rig.machine.poll_action(), Some(Action::Open));
    rig.machine.handle_opened(rig.now);
    let connect = rig.sent();
    assert_eq!(connect[0]["connect"]["token"], "t1");
    rig.receive(&json!({ "id": connect[0]["id"], "connect": { "client": "c", "expires": true, "ttl": 60 } }));
    rig.wait(Duration::from_secs(60));
    assert_eq!(rig.machine.poll_action(), Some(Action::GetToken(None)));
    rig.machine.handle_token(None, Ok("t2".into()), rig.now);
    let refresh = rig.sent();
    assert_eq!(refresh[0]["refresh"], json!({ "token": "t2" }));
    rig.receive(&json!({ "id": refresh[0]["id"], "refresh": { "expires": true, "ttl": 60 } }));
    // There is no token at the moment: another attempt follows. Then the user may not have one any more.
    rig.wait(Duration::from_secs(60));
    assert_eq!(rig.machine.poll_action(), Some(Action::GetToken(None)));
    rig.machine.handle_token(None, Err(TokenError::Unavailable), rig.now);
    rig.wait(Duration::from_secs(10));
    assert_eq!(rig.machine.poll_action(), Some(Action::GetToken(None)));
    rig.events();
    rig.machine.handle_token(None, Err(TokenError::Unauthorized), rig.now);
    assert!(matches!(rig.events()[..], [Event::Disconnected { code: codes::UNAUTHORIZED, .. }]));
}

#[test]
fn an_expired_token_is_replaced_if_there_is_a_source() {
    for has_token_source in [true, false] {
        let config =
            MachineConfig { token: Some("old".into()), has_token_source, ..MachineConfig::default() };
        let mut rig = Rig::new(config);
        assert_eq!(rig.machine.poll_action(), Some(Action::Open));
        rig.machine.handle_opened(rig.now);
        let id = rig.sent()[0]["id"].clone();
        rig.receive(&json!({ "id": id, "error": { "code": 109, "message": "token expired" } }));
        assert_eq!(rig.machine.poll_action(), Some(Action::Close(1000)));
        match (has_token_source, &rig.events()[..]) {
            (true, [Event::Reconnecting { .. }]) => {
                rig.wait_for_timeout();
                assert_eq!(rig.machine.poll_action(), Some(Action::GetToken(None)));
            }
            (false, [Event::Disconnected { .. }]) => {}
            (_, events) => panic!("{events:?}"),
        }
    }
}

#[test]
fn requests_wait_for_a_connection_but_not_for_ever() {
    let mut rig = Rig::new(MachineConfig { max_requests: 2, ..MachineConfig::default() });
    let request = || Request::PresenceStats { channel: "a".into() };
    let first = rig.machine.request(request(), rig.now);
    let late = rig.machine.request(request(), rig.now);
    let refused = rig.machine.request(request(), rig.now);
    let answer = rig.machine.poll_answer().map(|(id, answer)| (id, answer.err()));
    assert_eq!(answer, Some((refused, Some(RequestError::TooMany))));
    let commands = rig.open(&json!({ "client": "c" }));
    assert_eq!(commands.len(), 2);
    rig.receive(&json!({ "id": commands[0]["id"], "presence_stats": { "num_clients": 2, "num_users": 1 } }));
    let (id, answer) = rig.machine.poll_answer().expect("an answer");
    assert_eq!(id, first);
    let Ok(Answer::PresenceStats(stats)) = answer else { panic!("{answer:?}") };
    assert_eq!((stats.num_clients, stats.num_users), (2, 1));
    rig.wait(Duration::from_secs(5));
    let answer = rig.machine.poll_answer().map(|(id, answer)| (id, answer.err()));
    assert_eq!(answer, Some((late, Some(RequestError::Timeout))));
    // The server has not answered a request of the application: the connection stays.
    assert!(rig.machine.is_connected());
}

#[test]
fn what_is_not_a_reply_ends_the_connection() {
    for text in ["[]", "{\"id\":", "\u{0}", r#"{"id":"1"}"#, r#"{"push":{"channel":1}}"#] {
        let mut rig = Rig::connected();
        rig.events();
        rig.machine.handle_message(text, rig.now);
        let events = rig.events();
        assert!(
            matches!(events[..], [Event::Reconnecting { code: codes::BAD_REPLY, .. }]),
            "{text}: {events:?}"
        );
    }
    // Unknown replies, pushes and members are skipped: newer servers send them.
    let mut rig = Rig::connected();
    rig.events();
    for text in [r#"{"id":99,"new":{}}"#, r#"{"push":{"channel":"a","new":{}}}"#, r#"{"id":0,"new":1}"#] {
        rig.machine.handle_message(text, rig.now);
    }
    assert!(rig.events().is_empty() && rig.machine.is_connected());
}

#[test]
fn server_side_subscriptions_are_recovered() {
    let mut rig = Rig::new(MachineConfig::default());
    let subs = json!({ "#1": { "recoverable": true, "epoch": "e", "offset": 3 }, "plain": {} });
    rig.open(&json!({ "client": "c", "subs": subs }));
    rig.receive(&publication("#1", 4, 4));
    assert_eq!(data(&rig.events()), ["4"]);
    rig.machine.handle_closed(codes::LOST, "reset", rig.now);
    rig.wait_for_timeout();
    assert_eq!(rig.machine.poll_action(), Some(Action::Open));
    rig.machine.handle_opened(rig.now);
    let connect = rig.sent();
    let expected = json!({ "#1": { "recover": true, "offset": 4, "epoch": "e" } });
    assert_eq!(connect[0]["connect"]["subs"], expected);
}

#[test]
fn the_state_is_forgotten_when_the_server_says_so() {
    let mut rig = Rig::connected();
    rig.subscribe("a", &json!({ "recoverable": true, "epoch": "e", "offset": 5 }));
    rig.machine.handle_closed(3014, "state invalidated", rig.now);
    rig.wait_for_timeout();
    rig.events();
    let commands = rig.open(&json!({ "client": "d" }));
    assert_eq!(commands[0]["subscribe"], json!({ "channel": "a", "recoverable": true }));
    let result = json!({ "recoverable": true, "epoch": "e", "offset": 9 });
    rig.receive(&json!({ "id": commands[0]["id"], "subscribe": result }));
    // The publications between the positions are missing.
    let events = rig.events();
    assert!(
        matches!(events[..], [_, Event::Subscribed { recovery: Recovery::Incomplete, .. }]),
        "{events:?}"
    );
}

#[test]
fn the_answer_to_an_earlier_subscription_is_not_taken_for_the_answer_to_the_last_one() {
    let mut rig = Rig::connected();
    rig.events();
    assert!(rig.machine.subscribe("a", SubscribeOptions::default(), rig.now));
    let first = rig.sent()[0]["id"].clone();
    rig.machine.unsubscribe("a", rig.now);
    assert!(rig.machine.subscribe("a", SubscribeOptions::default(), rig.now));
    let commands = rig.sent();
    rig.events();
    rig.receive(&json!({ "id": first, "subscribe": { "recoverable": true, "epoch": "e", "offset": 1 } }));
    rig.receive(&publication("a", 2, 2));
    // The server may have ended the first one before it has executed `unsubscribe`.
    rig.receive(&json!({ "push": { "channel": "a", "unsubscribe": { "code": 2500, "reason": "insufficient state" } } }));
    assert!(rig.events().is_empty() && rig.sent().is_empty());
    rig.receive(&json!({ "id": commands[0]["id"], "unsubscribe": {} }));
    rig.receive(
        &json!({ "id": commands[1]["id"], "subscribe": { "recoverable": true, "epoch": "e", "offset": 5 } }),
    );
    let [Event::Subscribed { position: Some(position), .. }] = &rig.events()[..] else {
        panic!("not one event")
    };
    assert_eq!(position.offset, 5);
}

#[test]
fn a_token_that_never_arrives_is_asked_for_again() {
    let config = MachineConfig { has_token_source: true, ..MachineConfig::default() };
    let mut rig = Rig::new(config);
    assert_eq!(rig.machine.poll_action(), Some(Action::GetToken(None)));
    rig.wait(Duration::from_secs(30));
    assert!(matches!(rig.events()[..], [Event::Reconnecting { code: codes::TIMEOUT, .. }]));
    rig.wait_for_timeout();
    assert_eq!(rig.machine.poll_action(), Some(Action::GetToken(None)));
    rig.machine.handle_token(None, Ok("t".into()), rig.now);
    rig.open(&json!({ "client": "c", "expires": true, "ttl": 60 }));
    // The same holds for a refresh.
    rig.wait(Duration::from_secs(60));
    for _ in 0..3 {
        assert_eq!(rig.machine.poll_action(), Some(Action::GetToken(None)));
        rig.wait(Duration::from_secs(30));
    }
}

#[test]
fn a_token_of_a_channel_that_never_arrives_is_asked_for_again() {
    let mut rig = Rig::connected();
    let options = SubscribeOptions { has_token_source: true, ..SubscribeOptions::default() };
    assert!(rig.machine.subscribe("a", options, rig.now));
    for _ in 0..3 {
        assert_eq!(rig.machine.poll_action(), Some(Action::GetToken(Some("a".into()))));
        rig.receive(&json!({}));
        rig.machine.poll_action();
        rig.wait(Duration::from_secs(30));
        // The delay before the next attempt.
        rig.wait_for_timeout();
    }
}

#[test]
fn a_late_answer_about_a_token_changes_nothing() {
    let mut rig = Rig::connected();
    let options = SubscribeOptions { has_token_source: true, ..SubscribeOptions::default() };
    assert!(rig.machine.subscribe("a", options, rig.now));
    assert_eq!(rig.machine.poll_action(), Some(Action::GetToken(Some("a".into()))));
    rig.machine.handle_token(Some("a"), Ok("t".into()), rig.now);
    let id = rig.sent()[0]["id"].clone();
    rig.events();
    rig.machine.handle_token(Some("a"), Err(TokenError::Unavailable), rig.now);
    rig.receive(&json!({ "id": id, "subscribe": {} }));
    assert!(matches!(rig.events()[..], [Event::Subscribed { .. }]));
    // The next subscription has no source of tokens.
    rig.machine.unsubscribe("a", rig.now);
    assert!(rig.machine.subscribe("a", SubscribeOptions::default(), rig.now));
    rig.sent();
    rig.machine.handle_token(Some("a"), Ok("late".into()), rig.now);
    rig.machine.handle_closed(codes::LOST, "reset", rig.now);
    rig.wait_for_timeout();
    assert_eq!(rig.open(&json!({ "client": "d" }))[0]["subscribe"], json!({ "channel": "a" }));
}

#[test]
fn the_server_is_told_that_a_subscription_ends_without_a_token() {
    let mut rig = Rig::connected();
    let options = SubscribeOptions { has_token_source: true, ..SubscribeOptions::default() };
    assert!(rig.machine.subscribe("a", options, rig.now));
    rig.machine.poll_action();
    rig.machine.handle_token(Some("a"), Ok("t".into()), rig.now);
    let id = rig.sent()[0]["id"].clone();
    rig.receive(&json!({ "id": id, "subscribe": { "expires": true, "ttl": 5 } }));
    rig.wait(Duration::from_secs(5));
    rig.machine.poll_action();
    rig.events();
    rig.machine.handle_token(Some("a"), Err(TokenError::Unauthorized), rig.now);
    assert!(matches!(rig.events()[..], [Event::Unsubscribed { code: 101, .. }]));
    assert_eq!(rig.sent()[0]["unsubscribe"], json!({ "channel": "a" }));
}

#[test]
fn an_invalid_token_is_not_sent_again_if_there_is_a_source() {
    let config = MachineConfig { has_token_source: true, ..MachineConfig::default() };
    let mut rig = Rig::new(config);
    let is_final = |rig: &mut Rig| matches!(rig.events().last(), Some(Event::Disconnected { .. }));
    for is_refused in [true, false] {
        assert_eq!(rig.machine.poll_action(), Some(Action::GetToken(None)));
        rig.machine.handle_token(None, Ok("t".into()), rig.now);
        if is_refused {
            assert_eq!(rig.machine.poll_action(), Some(Action::Open));
            rig.machine.handle_opened(rig.now);
            let id = rig.sent()[0]["id"].clone();
            rig.receive(&json!({ "id": id, "error": { "code": 110, "message": "expired" } }));
            assert_eq!(rig.machine.poll_action(), Some(Action::Close(1000)));
        } else {
            rig.open(&json!({ "client": "c" }));
            rig.machine.handle_closed(3500, "invalid token", rig.now);
        }
        assert!(is_final(&mut rig));
        rig.machine.connect(rig.now);
    }
    assert_eq!(rig.machine.poll_action(), Some(Action::GetToken(None)));
}

#[test]
fn many_commands_are_sent_in_several_messages() {
    let mut rig = Rig::new(MachineConfig::default());
    let data = || serde_json::value::to_raw_value(&"x".repeat(1000)).expect("JSON");
    for _ in 0..100 {
        rig.machine.request(Request::Publish { channel: "a".into(), data: data() }, rig.now);
    }
    assert_eq!(rig.machine.poll_action(), Some(Action::Open));
    rig.machine.handle_opened(rig.now);
    let id = rig.sent()[0]["id"].clone();
    rig.receive(&json!({ "id": id, "connect": { "client": "c" } }));
    let mut count = 0;
    while let Some(Action::Send(text)) = rig.machine.poll_action() {
        assert!(text.len() < 17_000, "{}", text.len());
        count += text.lines().count();
    }
    assert_eq!(count, 100);
}

#[test]
fn a_recovery_that_the_server_enforces_needs_no_option() {
    let mut rig = Rig::connected();
    assert!(rig.machine.subscribe("a", SubscribeOptions::default(), rig.now));
    let id = rig.sent()[0]["id"].clone();
    rig.receive(&json!({ "id": id, "subscribe": { "recoverable": true, "epoch": "e", "offset": 3 } }));
    rig.machine.handle_closed(codes::LOST, "reset", rig.now);
    rig.wait_for_timeout();
    let expected = json!({ "channel": "a", "recover": true, "offset": 3, "epoch": "e" });
    assert_eq!(rig.open(&json!({ "client": "d" }))[0]["subscribe"], expected);
}
