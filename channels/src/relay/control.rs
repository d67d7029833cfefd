//! Commands of a backend to the clients of all nodes, and revocations.
//!
//! A command is a message to all nodes. Each performs it and answers with the number of connections that were affected, and with
//! what the command asks for. The engine says how many nodes have got the message, so the node that has sent it knows how many
//! answers are missing.
//!
//! Revocations must reach nodes that are not connected at the moment, too. They are in a stream, which each node reads after it
//! has connected, after a message about another one, and from time to time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::command::{Command, Failure, Topic};
use super::message::Reader;
use super::users::CHANGED;
use super::{Call, Relay, RelayEvent, ServerAnswer};

/// The node that has sent a command, and the number that it has given to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandId {
    node: u64,
    number: u64,
}

/// The state of the commands of this node.
#[derive(Debug, Default)]
pub(super) struct Control {
    /// The number of the last command.
    last: u64,
    /// Those without all answers, with their times. They have the same time to live, so the oldest one is the first.
    pending: VecDeque<Pending>,
    /// Revocations that are not sent to the engine.
    unsaved: VecDeque<Arc<[u8]>>,
    /// The revocation that is sent to the engine, and has no reply. The next one is sent after the reply.
    saving: Option<Arc<[u8]>>,
    /// When a revocation is sent again after a failure.
    pause: Option<Instant>,
    /// Revocations that the engine has accepted a short time ago, and when. It can lose them in a failover.
    saved: VecDeque<(Instant, Arc<[u8]>)>,
    /// The history of replication of the server that has them.
    replication: Arc<str>,
    /// The id of the last entry that was read.
    read: Box<str>,
    /// When to read again.
    next: Option<Instant>,
}

#[derive(Debug)]
struct Pending {
    number: u64,
    token: u64,
    deadline: Instant,
    /// The number of connections that have got the message, as soon as it is known. One of them may be of this node.
    receivers: Option<usize>,
    /// Whether this node has got it. It has not if its own subscription was not complete.
    is_back: bool,
    answers: usize,
    affected: usize,
    /// The contents of the answers.
    contents: Vec<Box<[u8]>>,
}

impl Control {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let pending = self.pending.front().map(|pending| pending.deadline);
        pending.into_iter().chain(self.next).chain(self.pause).min()
    }

    /// Forgets saved revocations that a replica must have by now, and the oldest ones if there are too many.
    fn forget_saved(&mut self, now: Instant) {
        while self
            .saved
            .front()
            .is_some_and(|(at, _)| *at + REPLICATED <= now || self.saved.len() >= MOST_UNSAVED)
        {
            self.saved.pop_front();
        }
    }
}

impl Relay {
    /// Sends a command to all other nodes. A revocation is also kept for those that are not connected.
    pub(super) fn command(
        &mut self,
        token: u64,
        command: &[u8],
        revocation: Option<Arc<[u8]>>,
        now: Instant,
    ) {
        if let Some(revocation) = revocation {
            if self.control.unsaved.len() == MOST_UNSAVED {
                self.control.unsaved.pop_front();
            }
            self.control.unsaved.push_back(revocation);
            self.save_revocation(now);
        }
        self.control.last += 1;
        let number = self.control.last;
        let mut message = vec![COMMAND];
        message.extend(self.config.link.node.to_le_bytes());
        message.extend(number.to_le_bytes());
        message.extend_from_slice(command);
        match self.link.submit(Command::Send { topic: Topic::Control, message: message.into() }, now) {
            Ok(ticket) => {
                _ = self.calls.insert(ticket, Call::Command(number));
                let deadline = now + ANSWERS;
                self.control.pending.push_back(Pending {
                    number,
                    token,
                    deadline,
                    receivers: None,
                    is_back: false,
                    answers: 0,
                    affected: 0,
                    contents: Vec::new(),
                });
            }
            Err(failure) => self.answer_command(token, ServerAnswer::Unavailable(failure)),
        }
    }

    /// A command of another node is performed. `content` is what it asks for.
    pub fn handle_performed(&mut self, id: CommandId, affected: usize, content: &[u8], now: Instant) {
        let mut message = vec![ANSWER];
        message.extend(id.number.to_le_bytes());
        message.extend((affected as u64).to_le_bytes());
        message.extend_from_slice(content);
        // Without an answer, the other node reports this one as silent.
        let _ = self.link.submit(Command::Send { topic: Topic::Node(id.node), message: message.into() }, now);
    }

    /// A message to all nodes has arrived.
    pub(super) fn handle_control_message(&mut self, message: &[u8], now: Instant) {
        if message == [REVOKED] {
            return self.read_revocations(now);
        }
        let mut reader = Reader(message);
        let parts = (reader.byte(), reader.u64(), reader.u64());
        let (Some(COMMAND), Some(node), Some(number)) = parts else {
            self.stats.foreign_messages += 1;
            return;
        };
        if node != self.config.link.node {
            let id = CommandId { node, number };
            return self.events.push_back(RelayEvent::Command(id, reader.0.into()));
        }
        if let Some(pending) = self.control.pending.iter_mut().find(|pending| pending.number == number) {
            pending.is_back = true;
            self.end_command(number, false);
        }
    }

    /// A message to this node has arrived.
    pub(super) fn handle_node_message(&mut self, message: &[u8]) {
        if let [CHANGED, user @ ..] = message
            && let Ok(user) = str::from_utf8(user)
        {
            return self.users.change(user.into());
        }
        let mut reader = Reader(message);
        let parts = (reader.byte(), reader.u64(), reader.u64());
        let (Some(ANSWER), Some(number), Some(affected)) = parts else {
            self.stats.foreign_messages += 1;
            return;
        };
        // A late answer has no command.
        if let Some(pending) = self.control.pending.iter_mut().find(|pending| pending.number == number) {
            pending.answers += 1;
            pending.affected =
                pending.affected.saturating_add(usize::try_from(affected).unwrap_or(usize::MAX));
            pending.contents.push(reader.0.into());
            self.end_command(number, false);
        }
    }

    /// The engine has accepted a command for this many connections.
    pub(super) fn handle_sent(&mut self, number: u64, receivers: usize) {
        if let Some(pending) = self.control.pending.iter_mut().find(|pending| pending.number == number) {
            pending.receivers = Some(receivers);
            self.end_command(number, false);
        }
    }

    pub(super) fn fail_command(&mut self, number: u64, failure: &Failure) {
        if let Some(at) = self.control.pending.iter().position(|pending| pending.number == number)
            && let Some(pending) = self.control.pending.remove(at)
        {
            self.answer_command(pending.token, ServerAnswer::Unavailable(failure.clone()));
        }
    }

    /// Answers a command if all nodes have answered, or if it `is_late`.
    fn end_command(&mut self, number: u64, is_late: bool) {
        let is_complete = |pending: &Pending| {
            let arrived = pending.answers + usize::from(pending.is_back);
            pending.receivers.is_some_and(|receivers| arrived >= receivers)
        };
        let is_ended = |pending: &Pending| pending.number == number && (is_late || is_complete(pending));
        if let Some(at) = self.control.pending.iter().position(is_ended)
            && let Some(Pending { token, receivers, answers, affected, contents, .. }) =
                self.control.pending.remove(at)
        {
            // If not all have answered, this node is assumed to be a receiver.
            let nodes = receivers.map_or(answers, |receivers| receivers.saturating_sub(1)).max(answers);
            let silent = nodes - answers;
            self.answer_command(token, ServerAnswer::Command { affected, nodes, silent, contents });
        }
    }

    fn answer_command(&mut self, token: u64, answer: ServerAnswer) {
        self.events.push_back(RelayEvent::Answer(token, answer));
    }

    /// Saves revocations on a new connection. A server with another history may have lost the last ones, and may give lower ids to
    /// new ones. They are read when messages about further ones arrive.
    pub(super) fn begin_control(&mut self, now: Instant) {
        let replication = self.link.replication();
        let control = &mut self.control;
        if control.replication != *replication {
            control.replication = replication.clone();
            control.read = "".into();
            control.forget_saved(now);
            control.unsaved.extend(control.saved.drain(..).map(|(_, revocation)| revocation));
        }
        self.save_revocation(now);
    }

    /// Sends the next revocation that the engine does not have yet.
    pub(super) fn save_revocation(&mut self, now: Instant) {
        if self.control.saving.is_none()
            && self.control.pause.is_none()
            && let Some(revocation) = self.control.unsaved.front()
            && let Ok(ticket) = self.link.submit(Command::AddRevocation(revocation.clone()), now)
        {
            self.control.saving = self.control.unsaved.pop_front();
            self.calls.insert(ticket, Call::Revocation);
        }
    }

    /// The engine may not have a revocation. It is sent again: the engine may have it twice, which has no effect.
    pub(super) fn handle_unsaved(&mut self, now: Instant) {
        if let Some(revocation) = self.control.saving.take() {
            self.control.unsaved.push_front(revocation);
            self.control.pause = Some(now + RETRY);
        }
    }

    /// The engine has a revocation. Nodes that have missed the command, because they were connected later, read it now.
    pub(super) fn handle_saved(&mut self, now: Instant) {
        let control = &mut self.control;
        control.forget_saved(now);
        control.saved.extend(control.saving.take().map(|revocation| (now, revocation)));
        let _ = self.link.submit(Command::Send { topic: Topic::Control, message: [REVOKED].into() }, now);
        self.save_revocation(now);
    }

    /// Reads the revocations that this node does not know yet.
    pub(super) fn read_revocations(&mut self, now: Instant) {
        self.control.next = Some(now + REVOCATIONS);
        let after = self.control.read.clone();
        if let Ok(ticket) = self.link.submit(Command::ReadRevocations { after }, now) {
            self.calls.insert(ticket, Call::Revocations);
        }
    }

    pub(super) fn handle_revocations(&mut self, read: Vec<(Box<str>, Vec<u8>)>, now: Instant) {
        let Some((last, _)) = read.last() else { return };
        self.control.read = last.clone();
        let is_full = read.len() >= PAGE;
        let revocations = read.into_iter().map(|(_, revocation)| revocation).collect();
        self.events.push_back(RelayEvent::Revocations(revocations));
        if is_full {
            self.read_revocations(now);
        }
    }

    pub(super) fn handle_control_timeout(&mut self, now: Instant) {
        while let Some(pending) = self.control.pending.front().filter(|pending| pending.deadline <= now) {
            self.end_command(pending.number, true);
        }
        self.control.pause.take_if(|at| *at <= now);
        if self.control.next.is_some_and(|at| at <= now) {
            self.read_revocations(now);
        }
    }
}

/// The first byte of a command.
const COMMAND: u8 = b'c';

/// A message without more content: there is another revocation.
const REVOKED: u8 = b'r';

/// The first byte of an answer.
const ANSWER: u8 = b'a';

/// The time for the answers of all nodes.
const ANSWERS: Duration = Duration::from_secs(2);

/// The longest time by which a replica is assumed to be behind its master.
const REPLICATED: Duration = Duration::from_secs(60);

/// The time after which revocations are read again.
const REVOCATIONS: Duration = Duration::from_secs(60);

/// The time after which a revocation is sent again that the engine has refused.
const RETRY: Duration = Duration::from_millis(100);

/// The most revocations of a reply.
pub const PAGE: usize = 1_000;

/// The most revocations that wait for the engine.
const MOST_UNSAVED: usize = 10_000;
