//! A service with several connections, beside what must be true of it after each call.

use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_core::handshake::{HandshakeConfig, HandshakeError};
use postern_core::policy::{KeepAliveConfig, Rate};
use postern_core::session::RatePolicy;
use postern_core::worker::NewConnection;
use postern_core::{ConnectionId, Key, Record, Recorder, SessionConfig, Transport, Worker, WorkerConfig};

use crate::notes::Note;
use crate::story;
use crate::upgrade::PEER;

/// How many connections there are at once.
pub(crate) const PEERS: usize = 4;

/// The service, its connections and its clock.
pub(crate) struct Crowd {
    worker: Worker,
    config: Arc<WorkerConfig>,
    now: Instant,
    peers: [Option<Peer>; PEERS],
    /// How many connections there have been.
    opened: u64,
    records: Records,
    /// What the sockets of all ended connections took.
    sent: Vec<u8>,
}

/// One connection.
struct Peer {
    key: Key,
    id: ConnectionId,
    /// What its socket took.
    wire: Vec<u8>,
    /// What waited when it was last looked at.
    waiting: Vec<u8>,
    /// It has ended its side.
    has_ended: bool,
    /// We have ended ours.
    is_shut: bool,
}

/// All records, with the connections that they are of.
#[derive(Default)]
struct Records(Vec<(ConnectionId, Note)>);

impl Recorder for Records {
    fn record(&mut self, record: &Record<'_>) {
        let (Record::Established { connection, .. }
        | Record::Message { connection, .. }
        | Record::Pong { connection, .. }
        | Record::RateExceeded { connection, .. }
        | Record::RateKept { connection, .. }
        | Record::Closed { connection, .. }
        | Record::Rejected { connection, .. }
        | Record::Abandoned { connection, .. }) = record;
        self.0.push((*connection, Note::of(record)));
    }
}

impl Crowd {
    /// Nobody is there yet.
    pub(crate) fn new(choice: u8) -> Crowd {
        let (config, now) = (Arc::new(config(choice)), Instant::now());
        Crowd {
            worker: Worker::new(config.clone(), choice.into(), now),
            config,
            now,
            peers: [const { None }; PEERS],
            opened: 0,
            records: Records::default(),
            sent: Vec::new(),
        }
    }

    /// A connection comes, if there is none in its place. `choice` says whether it is one too many.
    pub(crate) fn open(&mut self, peer: usize, choice: u8) {
        if self.peers[peer].is_some() {
            return;
        }
        self.opened += 1;
        let id = ConnectionId(self.opened);
        let refusal = (choice % 8 == 7).then_some(HandshakeError::Overloaded);
        let key = self.worker.open(NewConnection { id, peer: PEER, refusal }, self.now);
        let is_taken = self.peers.iter().flatten().any(|other| other.key == key);
        assert!(!is_taken, "a key for two");
        let (wire, waiting) = (Vec::new(), Vec::new());
        self.peers[peer] = Some(Peer { key, id, wire, waiting, has_ended: false, is_shut: false });
    }

    pub(crate) fn wants_read(&self, peer: usize) -> bool {
        self.peers[peer].as_ref().is_some_and(|peer| !peer.has_ended && self.worker.wants_read(peer.key))
    }

    /// Bytes come, whether they are wanted or not.
    pub(crate) fn receive(&mut self, peer: usize, bytes: &[u8]) {
        let Some(peer) = self.peers[peer].as_mut().filter(|peer| !peer.has_ended) else { return };
        if !bytes.is_empty() {
            self.worker.receive(peer.key, self.now, &mut bytes.to_vec(), &mut self.records);
            peer.look(&self.worker);
        }
    }

    /// The client ends its side. If nothing is read from it, no read tells: then a runtime says so, and a read may tell
    /// later.
    pub(crate) fn end(&mut self, peer: usize) {
        if let Some(peer) = self.peers[peer].as_mut().filter(|peer| !peer.has_ended) {
            if self.worker.wants_peer_closed(peer.key) {
                assert!(!self.worker.wants_read(peer.key), "a read would tell");
                self.worker.handle_peer_closed(peer.key, self.now);
                assert!(!self.worker.wants_peer_closed(peer.key), "it is told twice");
                return;
            }
            peer.has_ended = true;
            self.worker.handle_eof(peer.key, self.now);
            peer.look(&self.worker);
        }
    }

    /// The socket fails.
    pub(crate) fn fail(&mut self, peer: usize) {
        if let Some(peer) = &mut self.peers[peer] {
            self.worker.handle_error(peer.key);
            peer.look(&self.worker);
            assert!(!self.worker.wants_write(peer.key), "output for a socket that failed");
            assert_eq!(self.worker.transport(peer.key), Transport::Close);
        }
    }

    /// The socket takes so much, and nobody asks what follows.
    pub(crate) fn write(&mut self, peer: usize, room: usize) {
        let Some(peer) = &mut self.peers[peer] else { return };
        let output = self.worker.output(peer.key);
        let n = output.len().min(room);
        assert!(n == 0 || !peer.is_shut, "output behind the shutdown");
        peer.wire.extend_from_slice(&output[..n]);
        self.worker.sent(peer.key, n, self.now);
        assert!(self.worker.output(peer.key) == &peer.waiting[n..], "bytes doubled or lost");
        peer.waiting.drain(..n);
    }

    /// The socket takes so much, and what follows is done.
    pub(crate) fn flush(&mut self, peer: usize, room: usize) {
        self.write(peer, room);
        let Some(connection) = &mut self.peers[peer] else { return };
        match self.worker.transport(connection.key) {
            Transport::Open => assert!(!connection.is_shut, "open behind the shutdown"),
            Transport::ShutdownWrite => connection.is_shut = true,
            Transport::Close => self.remove(peer),
        }
    }

    /// The socket is gone, whatever the service thinks of it.
    pub(crate) fn remove(&mut self, peer: usize) {
        let Some(peer) = self.peers[peer].take() else { return };
        self.worker.remove(peer.key, self.now, &mut self.records);
        assert!(self.worker.output(peer.key).is_empty(), "output for nobody");
        let notes: Vec<&Note> =
            self.records.0.iter().filter(|(id, _)| *id == peer.id).map(|(_, note)| note).collect();
        story::check(&peer.wire, &notes);
        self.sent.extend_from_slice(&peer.wire);
    }

    pub(crate) fn wait(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    /// The process begins to stop.
    pub(crate) fn shut_down(&mut self) {
        self.worker.shut_down();
    }

    /// Nobody is read from for a time.
    pub(crate) fn pause_reads(&mut self) {
        self.worker.pause_reads(self.now);
        let is_user = |peer: &&Peer| self.worker.status(peer.key).is_some_and(|status| status.is_open);
        assert!(self.peers.iter().flatten().filter(is_user).all(|peer| !self.worker.wants_read(peer.key)));
    }

    /// Everybody is read from again.
    pub(crate) fn resume_reads(&mut self) {
        self.worker.resume_reads(self.now);
    }

    /// Settles what is due, with sockets that take so much. Asserts that this comes to an end.
    pub(crate) fn settle_due(&mut self, room: usize) {
        for _ in 0..MOST_DUE {
            let Some(key) = self.worker.next_due(self.now, &mut self.records) else {
                let next = self.worker.poll_timeout(self.now);
                assert!(next.is_none_or(|at| at > self.now), "a runtime that sleeps until then spins");
                assert!(!self.worker.is_short_of_memory(), "nobody gives way");
                return;
            };
            let is_it = |peer: &Option<Peer>| peer.as_ref().is_some_and(|peer| peer.key == key);
            let peer = self.peers.iter().position(is_it).expect("due, and not there");
            if let Some(peer) = &mut self.peers[peer] {
                peer.look(&self.worker);
            }
            self.write(peer, room);
            self.worker.judge(key, self.now, &mut self.records);
            if let Some(peer) = &mut self.peers[peer] {
                peer.look(&self.worker);
            }
            self.flush(peer, room);
        }
        panic!("always something is due");
    }

    /// Asserts what holds between two calls.
    pub(crate) fn check(&self) {
        assert_eq!(self.worker.len(), self.peers.iter().flatten().count());
        assert_eq!(self.worker.is_empty(), self.peers.iter().all(Option::is_none));
        for peer in self.peers.iter().flatten() {
            let output = self.worker.output(peer.key);
            assert!(output == peer.waiting, "a call for another connection changed what this one sends");
            assert_eq!(self.worker.wants_write(peer.key), !output.is_empty());
        }
    }

    /// The process stops, and nobody says or takes anything more. Asserts that all are gone in time.
    /// Returns what all sockets took.
    pub(crate) fn abandon(mut self) -> Vec<u8> {
        self.shut_down();
        let start = self.now;
        self.settle_due(0);
        while let Some(next) = self.worker.poll_timeout(self.now).filter(|_| !self.worker.is_empty()) {
            self.now = next;
            self.settle_due(0);
            self.check();
        }
        assert!(self.worker.is_empty(), "nobody will ever end {:?}", self.worker.keys());
        let session = &self.config.session;
        let most = session.write_timeout + session.close_timeout + Duration::from_secs(2);
        assert!(self.now - start <= most, "silence holds the process for {:?}", self.now - start);
        assert!(self.peers.iter().all(Option::is_none));
        assert_eq!(self.worker.memory_held(), 0, "held for nobody");
        self.sent
    }
}

impl Peer {
    /// After a call for this connection: what waited still waits, unless the connection was given up.
    fn look(&mut self, worker: &Worker) {
        let output = worker.output(self.key);
        let is_given_up = output.is_empty() && worker.transport(self.key) == Transport::Close;
        assert!(is_given_up || output.starts_with(&self.waiting), "what waited is lost or changed");
        assert!(output.is_empty() || worker.transport(self.key) == Transport::Open);
        self.waiting = output.to_vec();
    }
}

/// How often something may be due at one time: for the stop, for what waits, and for the state of each; what was
/// due several times over is so at the next call.
const MOST_DUE: usize = 4096;

/// The defaults, or limits and times that short inputs reach.
fn config(choice: u8) -> WorkerConfig {
    let millis = Duration::from_millis;
    let defaults = SessionConfig::default();
    let small = SessionConfig {
        max_message: 300,
        max_fragments: 5,
        compression_min: 0,
        message_timeout: millis(500),
        close_timeout: millis(300),
        write_timeout: millis(400),
        ..defaults.clone()
    };
    let session = match choice % 4 {
        0 => defaults,
        1 => SessionConfig { max_frame: 200, pause_backlog: 60, max_backlog: 250, control_rate: 2, ..small },
        2 => SessionConfig { max_frame: 400, pause_backlog: 250, max_backlog: 60, control_rate: 0, ..small },
        _ => SessionConfig { max_message: 0, pause_backlog: 0, max_backlog: 0, ..small },
    };
    let rate = |per_second, burst| Rate { per_second, burst };
    let session = match choice & 0x30 {
        0x10 => SessionConfig { message_rate: rate(10, 2), ..session },
        0x20 => SessionConfig { byte_rate: rate(500, 100), rate_policy: RatePolicy::Close, ..session },
        0x30 => SessionConfig { message_rate: rate(1, 1), byte_rate: rate(100, 50), ..session },
        _ => session,
    };
    let max_memory = if choice & 0x40 == 0 { 0 } else { 1000 };
    let max_handshakes = if choice & 0x80 == 0 { 4096 } else { 1 };
    let (timeout, max_head) =
        if choice & 4 == 0 { (Duration::from_secs(5), 1024) } else { (millis(100), 260) };
    let handshake = HandshakeConfig {
        compression: true,
        timeout,
        max_head,
        max_handshakes,
        ..HandshakeConfig::default()
    };
    let keep_alive = match choice & 8 {
        0 => KeepAliveConfig::default(),
        _ => KeepAliveConfig { interval: millis(200), timeout: millis(100) },
    };
    WorkerConfig { handshake, session: Arc::new(session), keep_alive, max_memory, ..WorkerConfig::default() }
}
