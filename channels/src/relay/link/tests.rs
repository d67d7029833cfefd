//! Each rule of a link.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const CONFIG: LinkConfig =
    LinkConfig { node: 7, timeout: SECOND, probe: Duration::from_secs(5), queue: 10_000 };

struct Fixture {
    link: Link,
    now: Instant,
}

/// Returns a link that begins to connect.
fn connecting() -> Fixture {
    let now = Instant::now();
    let mut fixture = Fixture { link: Link::new(CONFIG, 1, now), now };
    fixture.link.handle_timeout(now);
    assert!(matches!(fixture.actions()[..], [Action::Connect(_)]));
    fixture
}

/// Returns a link whose own topics are subscribed.
fn open() -> Fixture {
    let mut fixture = connecting();
    fixture.connect();
    assert_eq!(fixture.link.poll_event(), Some(LinkEvent::Up));
    fixture.confirm();
    assert!(fixture.link.stats().is_live);
    fixture.events();
    fixture
}

impl Fixture {
    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.link.poll_action(self.now)).collect()
    }

    fn events(&mut self) -> Vec<LinkEvent> {
        std::iter::from_fn(|| self.link.poll_event()).collect()
    }

    /// Returns the commands that are sent.
    fn sent(&mut self) -> Vec<(Ticket, Arc<Command>)> {
        let command = |action| {
            let Action::Send(_, ticket, command) = action else { panic!("{action:?}") };
            (ticket, command)
        };
        self.actions().into_iter().map(command).collect()
    }

    fn reply(&mut self, ticket: Ticket, result: Result<Reply, Cause>) {
        let result = result.map_err(|cause| Failure::new(cause, "test"));
        self.link.handle_reply(self.link.attempt, ticket, result, self.now);
    }

    /// The connections are open, and the server is a master.
    fn connect(&mut self) {
        self.link.handle_connected(self.link.attempt, self.now);
        for (ticket, command) in self.sent() {
            let reply = if *command == Command::Role {
                Reply::Role { is_master: true }
            } else if *command == Command::Replication {
                Reply::Replication("replication".into())
            } else {
                Reply::Done
            };
            self.reply(ticket, Ok(reply));
        }
    }

    /// All commands succeed.
    fn confirm(&mut self) {
        for (ticket, _) in self.sent() {
            self.reply(ticket, Ok(Reply::Done));
        }
    }

    /// Returns why the link is down, after `time`.
    fn failure_after(&mut self, time: Duration) -> Option<Cause> {
        let end = self.now + time;
        loop {
            let at = self.link.poll_timeout().filter(|at| *at <= end);
            self.now = at.unwrap_or(end).max(self.now);
            self.link.handle_timeout(self.now);
            let down = self.events().into_iter().find_map(|event| {
                if let LinkEvent::Down(failure) = event { Some(failure.cause) } else { None }
            });
            if down.is_some() || at.is_none() {
                return down;
            }
        }
    }
}

fn channel(number: usize) -> Topic {
    Topic::Channel(number.to_string().into())
}

fn send(link: &mut Link, number: u8, now: Instant) -> Ticket {
    let command = Command::Send { topic: Topic::Control, message: [number].as_slice().into() };
    link.submit(command, now).expect("a connection")
}

#[test]
fn a_link_opens_after_the_server_has_said_what_it_is() {
    let mut fixture = connecting();
    let refused = fixture.link.submit(Command::Role, fixture.now);
    assert_eq!(refused.map_err(|failure| failure.cause), Err(Cause::Down));
    fixture.connect();
    assert_eq!(fixture.events(), [LinkEvent::Up]);
    assert_eq!(&**fixture.link.replication(), "replication");
    let sent = fixture.sent();
    let own = vec![Topic::Node(7), Topic::Control];
    assert_eq!(*sent[0].1, Command::Subscribe(own.clone()));
    assert!(!fixture.link.stats().is_live);
    fixture.reply(sent[0].0, Ok(Reply::Done));
    let [first, second] = <[Topic; 2]>::try_from(own).unwrap();
    let expected = [LinkEvent::Subscribed(first), LinkEvent::Subscribed(second), LinkEvent::Resubscribed];
    assert_eq!(fixture.events(), expected);
}

#[test]
fn a_replica_is_not_used() {
    let mut fixture = connecting();
    fixture.link.handle_connected(fixture.link.attempt, fixture.now);
    let sent = fixture.sent();
    fixture.reply(sent[0].0, Ok(Reply::Role { is_master: false }));
    let [LinkEvent::Down(failure)] = &fixture.events()[..] else { panic!("it is used") };
    assert_eq!(failure.cause, Cause::Replica);
    assert!(fixture.link.is_down());
    assert!(matches!(fixture.actions()[..], [Action::Close(_)]));
    // Replies of that attempt have no effect on the next one.
    let old = fixture.link.attempt;
    fixture.now += MOST_PAUSE;
    fixture.link.handle_timeout(fixture.now);
    fixture.link.handle_connected(old, fixture.now);
    fixture.link.handle_failed(old, Failure::new(Cause::Closed, "test"), fixture.now);
    assert!(!fixture.link.handle_message(old, fixture.now));
    assert!(matches!(fixture.actions()[..], [Action::Connect(_)]));
    fixture.connect();
    assert!(fixture.link.is_open() && !fixture.link.is_down());
}

#[test]
fn topics_are_subscribed_in_batches_and_again_after_a_failure() {
    let mut fixture = open();
    (0..5_000).for_each(|number| fixture.link.subscribe(channel(number)));
    let mut batches = 0;
    loop {
        let sent = fixture.sent();
        assert!(sent.len() <= BATCHES);
        let Some((ticket, command)) = sent.into_iter().next() else { break };
        assert!(matches!(&*command, Command::Subscribe(topics) if topics.len() <= BATCH));
        batches += 1;
        fixture.reply(ticket, Ok(Reply::Done));
        // The others of the window have replies, too.
        let rest: Vec<Ticket> = fixture.link.sent.keys().copied().collect();
        for ticket in rest {
            batches += 1;
            fixture.reply(ticket, Ok(Reply::Done));
        }
    }
    assert_eq!(batches, 5_000_usize.div_ceil(BATCH));
    assert!((0..5_000).all(|number| fixture.link.is_subscribed(&channel(number))));
    fixture.events();
    fixture.link.unsubscribe(&channel(0));
    fixture.link.handle_failed(fixture.link.attempt, Failure::new(Cause::Closed, "test"), fixture.now);
    assert!(!fixture.link.is_subscribed(&channel(1)));
    fixture.actions();
    fixture.now += MOST_PAUSE;
    fixture.link.handle_timeout(fixture.now);
    fixture.actions();
    fixture.connect();
    while !fixture.link.stats().is_live {
        fixture.confirm();
    }
    assert!(fixture.link.is_subscribed(&channel(1)) && !fixture.link.is_subscribed(&channel(0)));
}

#[test]
fn a_topic_that_is_wanted_again_is_subscribed_after_the_end_of_its_subscription() {
    let mut fixture = open();
    fixture.link.subscribe(channel(1));
    let first = fixture.sent();
    fixture.link.unsubscribe(&channel(1));
    fixture.link.subscribe(channel(1));
    let then = fixture.sent();
    let commands: Vec<&Command> = then.iter().map(|(_, command)| &**command).collect();
    let expected = [Command::Unsubscribe(vec![channel(1)]), Command::Subscribe(vec![channel(1)])];
    assert_eq!(commands, expected.iter().collect::<Vec<_>>());
    // The confirmation of the first subscription has no effect on the second one.
    fixture.reply(first[0].0, Ok(Reply::Done));
    assert!(!fixture.link.is_subscribed(&channel(1)));
    then.iter().for_each(|(ticket, _)| fixture.reply(*ticket, Ok(Reply::Done)));
    assert!(fixture.link.is_subscribed(&channel(1)));
}

#[test]
fn late_replies_fail_their_commands_and_three_in_a_row_the_link() {
    let mut fixture = open();
    for number in 0..2 {
        send(&mut fixture.link, number, fixture.now);
    }
    assert_eq!(fixture.failure_after(SECOND), None);
    assert_eq!(fixture.link.stats().timeouts, 2);
    let in_time = send(&mut fixture.link, 2, fixture.now);
    fixture.reply(in_time, Ok(Reply::Sent { receivers: 1 }));
    for number in 3..6 {
        send(&mut fixture.link, number, fixture.now);
    }
    assert_eq!(fixture.failure_after(SECOND), Some(Cause::Timeout));
}

#[test]
fn a_connection_that_delivers_nothing_is_noticed_by_a_probe() {
    let mut fixture = open();
    assert_eq!(fixture.failure_after(CONFIG.probe), None);
    let [(ticket, probe)] = &fixture.sent()[..] else { panic!("no probe") };
    assert!(matches!(&**probe, Command::Send { topic: Topic::Node(7), .. }));
    // The server accepts it, and it arrives.
    fixture.reply(*ticket, Ok(Reply::Sent { receivers: 1 }));
    assert!(fixture.link.handle_message(fixture.link.attempt, fixture.now));
    assert_eq!(fixture.failure_after(CONFIG.probe), None);
    let [(ticket, _)] = &fixture.sent()[..] else { panic!("no probe") };
    // The server accepts it, and it does not arrive.
    fixture.reply(*ticket, Ok(Reply::Sent { receivers: 0 }));
    assert_eq!(fixture.failure_after(CONFIG.probe), Some(Cause::Undelivered));
    assert_eq!(fixture.link.stats().lost_probes, 1);
}

#[test]
fn commands_keep_their_order_while_scripts_are_loaded_again() {
    let mut fixture = open();
    let first: Vec<Ticket> = (0..2).map(|number| send(&mut fixture.link, number, fixture.now)).collect();
    fixture.sent();
    fixture.reply(first[0], Err(Cause::NoScript));
    send(&mut fixture.link, 2, fixture.now);
    let [(load, command)] = &fixture.sent()[..] else { panic!("no script is loaded") };
    assert_eq!(**command, Command::LoadScripts);
    fixture.reply(first[1], Err(Cause::NoScript));
    fixture.reply(*load, Ok(Reply::Done));
    let again = fixture.sent();
    let order = again.iter().map(|(_, command)| {
        let Command::Send { message, .. } = &**command else { panic!("{command:?}") };
        message[0]
    });
    assert_eq!(order.collect::<Vec<_>>(), [0, 1, 2]);
    assert!(fixture.events().is_empty(), "nothing has failed");
}

#[test]
fn the_queue_is_bounded() {
    let mut fixture = open();
    let mut count = 0;
    let command = || Command::Send { topic: Topic::Control, message: [0; 1_000].as_slice().into() };
    while fixture.link.submit(command(), fixture.now).is_ok() {
        count += 1;
        assert!(count <= CONFIG.queue / 1_000);
    }
    let refused = fixture.link.submit(command(), fixture.now);
    assert_eq!(refused.map_err(|failure| failure.cause), Err(Cause::Busy));
    fixture.confirm();
    assert!(fixture.link.submit(command(), fixture.now).is_ok());
}

#[test]
fn pauses_grow_and_a_wrong_password_is_not_tried_often() {
    let mut fixture = connecting();
    let mut most = Duration::ZERO;
    for failures in 1..=20 {
        let failure = Failure::new(Cause::Unreachable, "test");
        fixture.link.handle_failed(fixture.link.attempt, failure, fixture.now);
        let pause = fixture.link.poll_timeout().expect("a time") - fixture.now;
        assert!(pause <= MOST_PAUSE && pause <= LEAST_PAUSE * (1 << failures.min(10)), "{pause:?}");
        most = most.max(pause);
        fixture.now += pause;
        fixture.link.handle_timeout(fixture.now);
    }
    assert!(most > SECOND, "{most:?}");
    let failure = Failure::new(Cause::Credentials, "test");
    fixture.link.handle_failed(fixture.link.attempt, failure, fixture.now);
    assert_eq!(fixture.link.poll_timeout(), Some(fixture.now + OPERATOR_PAUSE));
}

#[test]
fn a_connection_that_does_not_open_is_given_up() {
    let mut fixture = connecting();
    assert_eq!(fixture.failure_after(SECOND * CONNECT_TIMEOUTS), Some(Cause::Timeout));
}
