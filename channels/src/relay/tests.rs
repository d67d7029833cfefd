//! What a relay does in states that are rare: with a full queue, and before its subscriptions are complete.

use postern_core::{ConnectionId, Key};

use super::command::{Cause, UserLimit};
use super::link::LinkConfig;
use super::*;
use crate::engine::ClientRef;
use crate::exchange::{Exchange, ExchangeConfig};
use crate::publication::{ClientId, ClientInfo};

const SECOND: Duration = Duration::from_secs(1);
const NODE: u64 = 7;

/// A relay with its exchange, and the commands that have no reply.
struct Fixture {
    relay: Relay,
    local: Shard,
    now: Instant,
    attempt: Option<Attempt>,
    sent: VecDeque<(Ticket, Arc<Command>)>,
}

/// An exchange without workers.
struct Shard(Exchange);

struct Nowhere;

impl Local for Shard {
    type Inboxes<'a> = Nowhere;

    fn with<R>(
        &mut self,
        _channel: &str,
        operate: impl for<'a> FnOnce(&mut Exchange, &mut Nowhere) -> R,
    ) -> R {
        operate(&mut self.0, &mut Nowhere)
    }

    fn time(&self) -> i64 {
        0
    }

    fn connections(&mut self, _user: &str) -> Vec<(u64, Instant)> {
        Vec::new()
    }

    fn users(&mut self) -> Vec<Arc<str>> {
        Vec::new()
    }
}

impl Inboxes for Nowhere {
    fn send(&mut self, _worker: WorkerId, _event: ChannelEvent) -> bool {
        true
    }

    fn answer(&mut self, _worker: WorkerId, _event: ChannelEvent) {}
}

/// Returns a relay that can send commands, and whose subscriptions are not confirmed. `queue` is the limit of its commands.
fn open(queue: usize) -> Fixture {
    let config = RelayConfig {
        link: LinkConfig { node: NODE, timeout: 10 * SECOND, probe: 30 * SECOND, queue },
        when_down: WhenDown::Refuse,
        is_failover_noticed: true,
        position_check: 60 * SECOND,
        recover_rate: 0,
        user_limit: Some(UserLimit { most: 1, closes_newest: false }),
    };
    let exchange = ExchangeConfig {
        seed: 1,
        history_memory: usize::MAX,
        idempotency_ttl: SECOND,
        max_idempotency_keys: 1,
    };
    let now = Instant::now();
    let (relay, local) = (Relay::new(config, 1, now), Shard(Exchange::new(exchange)));
    let mut fixture = Fixture { relay, local, now, attempt: None, sent: VecDeque::new() };
    fixture.connect();
    fixture
}

impl Fixture {
    /// Lets time pass until it connects.
    fn connect(&mut self) {
        self.pass(SECOND);
        let attempt = self.attempt.expect("an attempt to connect");
        self.relay.link().handle_connected(attempt, self.now);
        self.turn();
        self.reply(Reply::Role { is_master: true }, |command| *command == Command::Role);
        self.reply(Reply::Replication("it".into()), |command| *command == Command::Replication);
        self.reply(Reply::Done, |command| *command == Command::LoadScripts);
    }

    /// The connections end.
    fn fail(&mut self) {
        let attempt = self.attempt.take().expect("an attempt to connect");
        let failure = Failure::new(Cause::Closed, "test");
        self.relay.link().handle_failed(attempt, failure, self.now);
        self.turn();
        self.sent.clear();
    }

    /// Handles what was reported, and notes the commands that are sent.
    fn turn(&mut self) {
        self.relay.handle_events(self.now, &mut self.local);
        while let Some(action) = self.relay.poll_action(self.now) {
            match action {
                Action::Connect(attempt) => self.attempt = Some(attempt),
                Action::Send(_, ticket, command) => self.sent.push_back((ticket, command)),
                Action::Close(_) => {}
            }
        }
    }

    /// Lets time pass.
    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.relay.handle_timeout(self.now, &mut self.local);
        self.turn();
    }

    /// Replies to the first command that is one of these.
    #[track_caller]
    fn reply(&mut self, reply: Reply, is_one: impl Fn(&Command) -> bool) {
        let at = self.sent.iter().position(|(_, command)| is_one(command));
        let (ticket, _) = at.and_then(|at| self.sent.remove(at)).expect("the command is sent");
        let attempt = self.attempt.expect("an attempt to connect");
        self.relay.link().handle_reply(attempt, ticket, Ok(reply), self.now);
        self.turn();
    }

    /// Refuses the first command that is one of these.
    #[track_caller]
    fn refuse(&mut self, is_one: impl Fn(&Command) -> bool) {
        let at = self.sent.iter().position(|(_, command)| is_one(command));
        let (ticket, _) = at.and_then(|at| self.sent.remove(at)).expect("the command is sent");
        let attempt = self.attempt.expect("an attempt to connect");
        let failure = Failure::new(Cause::Storage, "test");
        self.relay.link().handle_reply(attempt, ticket, Err(failure), self.now);
        self.turn();
    }

    /// Subscribes a client to a channel, in which it is present.
    fn subscribe(&mut self, channel: &str) {
        let client = ClientRef { key: Key(0), connection: ConnectionId(1) };
        let info = ClientInfo {
            user: "john".into(),
            client: ClientId::from_random(1),
            conn_info: None,
            chan_info: None,
        };
        let presence = Some(Arc::new(info));
        let operation = Operation::Subscribe { history: None, recovery: None, presence, is_certain: false };
        let request = Request { client, command: 1, channel: channel.into(), operation };
        let worker = WorkerId::new(0).expect("a small index");
        self.relay.handle_request(worker, request, self.now, &mut self.local);
        self.turn();
    }

    /// A message arrives.
    fn arrive(&mut self, topic: &Topic, message: &[u8]) {
        let attempt = self.attempt.expect("an attempt to connect");
        self.relay.handle_message(attempt, &topic.name(), message, self.now, &mut self.local);
        self.turn();
    }

    /// Asks all other nodes to perform a command.
    fn command(&mut self) {
        self.command_with(None);
    }

    /// Asks all nodes to perform a command, which may be a revocation.
    fn command_with(&mut self, revocation: Option<Arc<[u8]>>) {
        let operation = ServerOperation::Command { command: [1].into(), revocation };
        self.relay.handle_server_request(ServerRequest { token: 1, operation }, self.now, &mut self.local);
        self.turn();
    }

    /// Returns the revocations that are sent to the engine, and have no reply.
    fn revocations(&self) -> Vec<u8> {
        let mut contents = Vec::new();
        for (_, command) in &self.sent {
            if let Command::AddRevocation(content) = &**command {
                contents.push(content[0]);
            }
        }
        contents
    }

    /// Returns the number of affected connections, of other nodes, and of nodes without an answer, if they are known.
    fn answer(&mut self) -> Option<[usize; 3]> {
        std::iter::from_fn(|| self.relay.poll_event()).find_map(|event| match event {
            RelayEvent::Answer(1, ServerAnswer::Command { affected, nodes, silent, .. }) => {
                Some([affected, nodes, silent])
            }
            RelayEvent::Answer(..)
            | RelayEvent::Command(..)
            | RelayEvent::Revocations(_)
            | RelayEvent::Live
            | RelayEvent::Describe
            | RelayEvent::Close { .. }
            | RelayEvent::Down(_) => None,
        })
    }
}

fn is_lease(command: &Command) -> bool {
    matches!(command, Command::RenewLease { .. })
}

fn is_subscribe(command: &Command) -> bool {
    matches!(command, Command::Subscribe(_))
}

fn is_message_to_all(command: &Command) -> bool {
    matches!(command, Command::Send { topic: Topic::Control, .. })
}

/// Returns the answer of another node to the first command, which has affected three connections.
fn answer_of_other() -> Vec<u8> {
    [b"a".as_slice(), &1_u64.to_le_bytes(), &3_u64.to_le_bytes()].concat()
}

/// Returns the first command of this node, as the engine sends it.
fn own_command() -> Vec<u8> {
    [b"c".as_slice(), &NODE.to_le_bytes(), &1_u64.to_le_bytes(), &[1]].concat()
}

#[test]
fn an_expired_lease_is_removed_later_if_too_many_commands_wait() {
    // One command that waits is too many.
    let mut node = open(1);
    let expired = || Reply::Lease { was_known: true, expired: vec![99] };
    let reap = Command::Reap { lease: 99, is_announced: true };
    node.reply(expired(), is_lease);
    assert!(node.sent.iter().all(|(_, command)| **command != reap), "{:?}", node.sent);
    node.reply(Reply::Done, is_subscribe);
    node.reply(Reply::Revocations(Vec::new()), |command| matches!(command, Command::ReadRevocations { .. }));
    node.pass(5 * SECOND);
    node.reply(expired(), is_lease);
    assert!(node.sent.iter().any(|(_, command)| **command == reap), "{:?}", node.sent);
}

#[test]
fn all_earlier_leases_end_although_connections_were_lost_before_that() {
    let mut node = open(10_000);
    let mut leases = Vec::new();
    for _ in 0..3 {
        let lease = |(_, command): &(Ticket, Arc<Command>)| {
            if let Command::RenewLease { lease, .. } = **command { Some(lease) } else { None }
        };
        leases.extend(node.sent.iter().find_map(lease));
        node.fail();
        node.connect();
    }
    let is_sent = |lease: &u64| {
        let reap = Command::Reap { lease: *lease, is_announced: false };
        node.sent.iter().any(|(_, command)| **command == reap)
    };
    assert!(leases.len() == 3 && leases.iter().all(is_sent), "{leases:?}: {:?}", node.sent);
}

#[test]
fn a_command_of_a_node_whose_own_subscription_is_incomplete_counts_all_other_nodes() {
    let mut node = open(10_000);
    node.command();
    // Only the other node has got it.
    node.reply(Reply::Sent { receivers: 1 }, is_message_to_all);
    assert_eq!(node.answer(), None);
    node.arrive(&Topic::Node(NODE), &answer_of_other());
    assert_eq!(node.answer(), Some([3, 1, 0]));
}

#[test]
fn a_command_is_answered_after_all_other_nodes_have_answered() {
    // What arrives first is any of the three.
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut node = open(10_000);
        node.reply(Reply::Done, is_subscribe);
        node.command();
        for part in order {
            assert_eq!(node.answer(), None, "{order:?}");
            match part {
                0 => node.reply(Reply::Sent { receivers: 2 }, is_message_to_all),
                1 => node.arrive(&Topic::Control, &own_command()),
                _ => node.arrive(&Topic::Node(NODE), &answer_of_other()),
            }
        }
        assert_eq!(node.answer(), Some([3, 1, 0]), "{order:?}");
    }
}

#[test]
fn a_command_counts_the_nodes_that_do_not_answer_in_time() {
    for is_back in [false, true] {
        let mut node = open(10_000);
        node.reply(Reply::Done, is_subscribe);
        node.command();
        node.reply(Reply::Sent { receivers: 3 }, is_message_to_all);
        if is_back {
            node.arrive(&Topic::Control, &own_command());
        }
        node.arrive(&Topic::Node(NODE), &answer_of_other());
        assert_eq!(node.answer(), None);
        node.pass(2 * SECOND);
        assert_eq!(node.answer(), Some([3, 2, 1]), "{is_back}");
    }
}

#[test]
fn each_of_several_revocations_is_saved_once() {
    let mut node = open(10_000);
    for number in 1..=3 {
        node.command_with(Some([number].into()));
    }
    let is_saving = |command: &Command| matches!(command, Command::AddRevocation(_));
    for number in 1..=3 {
        assert_eq!(node.revocations(), [number]);
        node.reply(Reply::Done, is_saving);
    }
    assert!(node.revocations().is_empty());
    // One without a reply is sent again on the next connection, before the ones after it.
    node.command_with(Some([4].into()));
    node.command_with(Some([5].into()));
    node.fail();
    node.connect();
    for number in [4, 5] {
        assert_eq!(node.revocations(), [number]);
        node.reply(Reply::Done, is_saving);
    }
    assert!(node.revocations().is_empty());
}

#[test]
fn clients_are_written_again_although_the_first_renewal_of_a_lease_has_failed() {
    let mut node = open(10_000);
    let lease = |was_known| Reply::Lease { was_known, expired: Vec::new() };
    let is_channel = |command: &Command| matches!(command, Command::Subscribe(topics) if topics.len() == 1);
    let is_presence = |command: &Command| matches!(command, Command::AddPresence(_));
    node.reply(Reply::Done, is_subscribe);
    node.subscribe("news");
    node.reply(Reply::Done, is_channel);
    // Redis has no memory for the lease, and later has memory for the client.
    node.refuse(is_lease);
    node.reply(Reply::Present { was_known: true }, is_presence);
    assert!(!node.sent.iter().any(|(_, command)| is_presence(command)));
    // All data is removed.
    node.pass(5 * SECOND);
    node.reply(lease(false), is_lease);
    node.reply(Reply::Present { was_known: true }, is_presence);
    node.pass(5 * SECOND);
    node.reply(lease(true), is_lease);
    assert!(!node.sent.iter().any(|(_, command)| is_presence(command)));
}

#[test]
fn revocations_and_users_wait_until_messages_about_them_arrive() {
    let mut node = open(10_000);
    let is_read = |command: &Command| matches!(command, Command::ReadRevocations { .. });
    let is_write = |command: &Command| matches!(command, Command::WriteUser(_));
    let sends =
        |node: &Fixture, is_one: fn(&Command) -> bool| node.sent.iter().any(|(_, command)| is_one(command));
    node.relay.handle_user_changed("7".into());
    node.turn();
    assert!(!sends(&node, is_read) && !sends(&node, is_write));
    node.reply(Reply::Done, is_subscribe);
    assert!(sends(&node, is_read) && sends(&node, is_write));
}

#[test]
fn clients_are_written_again_if_a_late_reply_says_that_the_lease_was_lost() {
    let mut node = open(10_000);
    let is_presence = |command: &Command| matches!(command, Command::AddPresence(_));
    let is_channel = |command: &Command| matches!(command, Command::Subscribe(topics) if topics.len() == 1);
    node.reply(Reply::Done, is_subscribe);
    node.reply(Reply::Lease { was_known: false, expired: Vec::new() }, is_lease);
    node.subscribe("news");
    node.reply(Reply::Done, is_channel);
    node.reply(Reply::Present { was_known: true }, is_presence);
    node.reply(Reply::Revocations(Vec::new()), |command| matches!(command, Command::ReadRevocations { .. }));
    node.pass(5 * SECOND);
    node.pass(10 * SECOND);
    assert!(!node.sent.iter().any(|(_, command)| is_presence(command)));
    node.reply(Reply::Lease { was_known: false, expired: Vec::new() }, is_lease);
    assert!(node.sent.iter().any(|(_, command)| is_presence(command)));
}
