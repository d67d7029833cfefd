//! The servers of the engine, and the connections of nodes to them: two queues in each direction, in which bytes keep their order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use postern_channels::relay::command::{Command, Failure, Place, PublishResult, Reply};
use postern_channels::relay::link::{Attempt, Ticket};

use super::truth::{Truth, number};
use crate::fault::Fault;
use crate::random::Random;
use crate::redis::{Message, Server, Snapshot};

/// The servers and the connections.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) machines: Vec<Machine>,
    /// The index of the server to which nodes connect.
    pub(crate) master: usize,
    pub(crate) wires: BTreeMap<u64, Wire>,
    created: u64,
    lineages: u64,
    /// The history of replication of the first server.
    first: String,
    /// The number of servers' answers.
    pub(crate) executed: u64,
    fault: Option<Fault>,
}

/// A server and its surroundings.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) server: Server,
    pub(crate) is_down: bool,
    pub(crate) frozen_until: Duration,
    /// The data that it has after a restart.
    pub(crate) file: Snapshot,
    /// The number of its data, which is another one after a loss.
    pub(crate) lineage: u64,
}

/// The connections of one attempt: of messages and of commands.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) node: usize,
    /// The life of the node.
    pub(crate) life: u64,
    pub(crate) attempt: Attempt,
    pub(crate) machine: usize,
    /// Whether the node has closed it. What it has sent may still be executed.
    pub(crate) is_closed: bool,
    /// Whether the server has closed it.
    pub(crate) is_ended: bool,
    /// Whether messages do not arrive.
    pub(crate) is_deaf: bool,
    to_server: [VecDeque<(Ticket, Arc<Command>)>; 2],
    to_node: [VecDeque<Arrival>; 2],
    /// When the last bytes of each queue arrive.
    sent_at: [[Duration; 2]; 2],
    pub(crate) stalled_until: Duration,
}

/// Something that arrives at a node.
#[derive(Debug)]
pub(crate) enum Arrival {
    Reply(Ticket, Result<Reply, Failure>),
    Message(String, Vec<u8>),
    Failed(Failure),
}

/// The direction of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    ToServer,
    ToNode,
}

/// Bytes arrive at a time: the number of the connection, which of both, and the direction.
pub(crate) type Due = (Duration, (u64, usize, Way));

impl Engine {
    pub(crate) fn new(servers: usize, fault: Option<Fault>, random: &mut Random) -> Engine {
        let machines = (0..servers).map(|index| {
            let mut server = Server::new(replication(random));
            server.is_master = index == 0;
            let (file, lineage) = (Snapshot::default(), index as u64);
            Machine { server, is_down: false, frozen_until: Duration::ZERO, file, lineage }
        });
        let machines: Vec<Machine> = machines.collect();
        let first = machines[0].server.replication.clone();
        let lineages = servers as u64;
        let wires = BTreeMap::new();
        Engine { machines, master: 0, wires, created: 0, lineages, first, executed: 0, fault }
    }

    pub(crate) fn master(&mut self) -> &mut Machine {
        &mut self.machines[self.master]
    }

    /// Notes that a server has lost data.
    pub(crate) fn note_loss(&mut self, machine: usize) {
        self.lineages += 1;
        self.machines[machine].lineage = self.lineages;
    }

    /// Opens the connections of an attempt.
    pub(crate) fn connect(&mut self, node: usize, life: u64, attempt: Attempt) -> u64 {
        self.created += 1;
        let wire = Wire {
            node,
            life,
            attempt,
            machine: self.master,
            is_closed: false,
            is_ended: false,
            is_deaf: false,
            to_server: Default::default(),
            to_node: Default::default(),
            sent_at: Default::default(),
            stalled_until: Duration::ZERO,
        };
        self.wires.insert(self.created, wire);
        self.created
    }

    /// Sends a command. Returns when it arrives.
    pub(crate) fn send(
        &mut self,
        number: u64,
        ticket: Ticket,
        command: Arc<Command>,
        at: Duration,
    ) -> Option<Due> {
        let place = if command.place() == Place::Messages { 0 } else { 1 };
        let wire = self.wires.get_mut(&number).filter(|wire| !wire.is_ended)?;
        wire.to_server[place].push_back((ticket, command));
        Some((wire.time(at, place, Way::ToServer), (number, place, Way::ToServer)))
    }

    /// Executes the next command of a connection. Returns when the answer and messages arrive.
    pub(crate) fn execute(
        &mut self,
        wire: u64,
        place: usize,
        now: Duration,
        truth: &mut Truth,
        random: &mut Random,
        delay: &mut impl FnMut() -> Duration,
    ) -> Vec<Due> {
        let Some(this) = self.wires.get_mut(&wire).filter(|wire| !wire.is_ended) else { return Vec::new() };
        let Some((ticket, command)) = this.to_server[place].pop_front() else { return Vec::new() };
        let index = this.machine;
        let lineage = self.machines[index].lineage;
        let mut messages = Vec::new();
        self.executed += 1;
        let server = &mut self.machines[index].server;
        let result = server.execute(
            wire,
            &command,
            milliseconds(now),
            &mut |list| random.shuffle(list),
            &mut messages,
        );
        note(&command, &result, (index, lineage), now, truth);
        let result = match result {
            // The driver has it from the first connection.
            Ok(Reply::Replication(_)) if self.fault == Some(Fault::StaleReplication) => {
                Ok(Reply::Replication(self.first.as_str().into()))
            }
            result => result,
        };
        let mut due = self.deliver(messages, now, delay);
        due.extend(self.push(wire, place, Arrival::Reply(ticket, result), now + delay()));
        due
    }

    /// Sends messages. Returns when they arrive.
    pub(crate) fn deliver(
        &mut self,
        messages: Vec<Message>,
        now: Duration,
        delay: &mut impl FnMut() -> Duration,
    ) -> Vec<Due> {
        let mut due = Vec::new();
        for Message { connection, topic, content } in messages {
            let is_lost = self.wires.get(&connection).is_none_or(|wire| wire.is_deaf);
            // Every eleventh one, and its connection stays.
            let is_dropped = self.fault == Some(Fault::DroppedMessage)
                && topic.starts_with("ch:")
                && number(&content).is_some_and(|number| number.is_multiple_of(11));
            if !is_lost && !is_dropped {
                due.extend(self.push(connection, 0, Arrival::Message(topic, content), now + delay()));
            }
        }
        due
    }

    fn push(&mut self, number: u64, place: usize, arrival: Arrival, at: Duration) -> Option<Due> {
        let wire = self.wires.get_mut(&number)?;
        wire.to_node[place].push_back(arrival);
        Some((wire.time(at, place, Way::ToNode), (number, place, Way::ToNode)))
    }

    /// Takes what has arrived at a node.
    pub(crate) fn take(&mut self, wire: u64, place: usize) -> Option<Arrival> {
        self.wires.get_mut(&wire)?.to_node[place].pop_front()
    }

    /// The server ends a connection: what has not arrived there is lost. Returns when the node learns of it.
    pub(crate) fn end(&mut self, number: u64, failure: &Failure, at: Duration) -> Vec<Due> {
        let Some(wire) = self.wires.get_mut(&number) else { return Vec::new() };
        if std::mem::replace(&mut wire.is_ended, true) {
            return Vec::new();
        }
        wire.to_server = Default::default();
        let machine = wire.machine;
        self.machines[machine].server.disconnect(number);
        [0, 1]
            .into_iter()
            .filter_map(|place| self.push(number, place, Arrival::Failed(failure.clone()), at))
            .collect()
    }

    /// The node closes a connection. What it has sent is executed only if `is_kept`.
    pub(crate) fn close(&mut self, number: u64, is_kept: bool) {
        let Some(wire) = self.wires.get_mut(&number) else { return };
        wire.is_closed = true;
        wire.to_node = Default::default();
        if !is_kept {
            wire.to_server = Default::default();
        }
    }

    /// The server learns that a connection is closed.
    pub(crate) fn forget(&mut self, number: u64) {
        if let Some(wire) = self.wires.remove(&number) {
            self.machines[wire.machine].server.disconnect(number);
        }
    }

    /// Returns the connections with a server.
    pub(crate) fn wires_of(&self, machine: usize) -> Vec<u64> {
        let is_of = |(number, wire): (&u64, &Wire)| (wire.machine == machine).then_some(*number);
        self.wires.iter().filter_map(is_of).collect()
    }

    /// Returns when the last bytes of a closed connection have arrived at the server.
    pub(crate) fn last_arrival(&self, number: u64) -> Duration {
        self.wires
            .get(&number)
            .map_or(Duration::ZERO, |wire| wire.sent_at[0].into_iter().max().unwrap_or_default())
    }

    /// Starts a server again with another history of replication.
    pub(crate) fn start_again(&mut self, machine: usize, keeps_file: bool, random: &mut Random) {
        let file = if keeps_file { self.machines[machine].file.clone() } else { Snapshot::default() };
        self.machines[machine].server.start_again(file, replication(random));
        self.machines[machine].is_down = false;
        self.note_loss(machine);
    }

    /// Makes a replica the master, with the data that it has. Returns the old one.
    pub(crate) fn fail_over(&mut self, random: &mut Random) -> usize {
        let old = self.master;
        self.master = 1 - old;
        let server = &mut self.machines[self.master].server;
        server.is_master = true;
        server.replication = replication(random);
        self.note_loss(self.master);
        old
    }

    /// Copies the data of the master to the replica.
    pub(crate) fn replicate(&mut self) {
        let replica = 1 - self.master;
        if self.machines.get(replica).is_some_and(|machine| !machine.server.is_master && !machine.is_down) {
            let data = self.machines[self.master].server.snapshot();
            self.machines[replica].server.replace_data(data);
        }
    }
}

impl Wire {
    /// Returns when bytes arrive: after those before them.
    fn time(&mut self, at: Duration, place: usize, way: Way) -> Duration {
        let last = &mut self.sent_at[usize::from(way == Way::ToNode)][place];
        *last = at.max(*last).max(self.stalled_until);
        *last
    }
}

/// Compares a publication with those before it.
fn note(
    command: &Command,
    result: &Result<Reply, Failure>,
    origin: (usize, u64),
    now: Duration,
    truth: &mut Truth,
) {
    match (command, result) {
        (Command::Publish(publish), Ok(Reply::Published { outcome: PublishResult::Published, position })) => {
            let (channel, number) = (truth.channel(&publish.channel), number(&publish.body));
            match (channel, number) {
                (Some(channel), Some(number)) => truth.execute(channel, number, *position, origin, now),
                (_, _) => truth.report("a publication has another channel or other data"),
            }
        }
        (Command::Read(read), Ok(Reply::Read { position, entries })) => {
            if let Some(channel) = truth.channel(&read.channel) {
                truth.note_read(channel, *position, entries);
            }
        }
        (_, _) => {}
    }
}

/// Returns the time of a server.
pub(crate) fn milliseconds(now: Duration) -> u64 {
    EPOCH + now.as_millis() as u64
}

/// Returns a new history of replication.
fn replication(random: &mut Random) -> String {
    format!("{:016x}", random.number())
}

/// The time of servers at the start of a run.
const EPOCH: u64 = 1_800_000_000_000;
