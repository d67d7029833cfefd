//! A runtime in memory for tests of workers and applications: its sockets are buffers, and the caller moves its clock.
//!
//! [`ModelRuntime`] calls the steps of a [`Worker`] one by one, as a runtime does whose kernel completes reads and writes on its
//! own. For the calls that read and write by themselves, [`ModelSocket`] is a [`Socket`].

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice, Write};
use std::mem;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use crate::handshake::{HandshakeError, Peer};
use crate::id::ConnectionId;
use crate::record::{NullRecorder, Recorder};
use crate::session::Transport;
use crate::worker::{Application, Due, Echo, Key, NewConnection, Socket, Worker};

/// The peer of [`ModelRuntime::open`]: a gateway on this host, which the default configuration trusts.
pub const PEER: Peer = Peer::Tcp { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 40_000 };

/// A worker, its clock and the wires of its connections.
///
/// Each connection has a wire, which contains the bytes that its socket has accepted since
/// [`take_wire`](ModelRuntime::take_wire). A connection is removed as soon as the worker returns [`Transport::Close`] for it.
#[derive(Debug)]
pub struct ModelRuntime<A: Application = Echo, R = NullRecorder> {
    /// The worker.
    pub worker: Worker<A>,
    /// The current time.
    pub now: Instant,
    /// Receives the records of the worker.
    pub recorder: R,
    /// The number of bytes that a socket accepts when it is offered pending output. At first without limit.
    pub takes: usize,
    /// The id of the last connection.
    pub last_id: ConnectionId,
    /// The bytes that each socket has accepted, and the last result of the worker for it.
    wires: BTreeMap<Key, (Vec<u8>, Transport)>,
}

impl<A: Application, R: Recorder> ModelRuntime<A, R> {
    /// Creates a runtime for a worker without connections.
    pub fn new(worker: Worker<A>, recorder: R, now: Instant) -> ModelRuntime<A, R> {
        ModelRuntime {
            worker,
            now,
            recorder,
            takes: usize::MAX,
            last_id: ConnectionId(0),
            wires: BTreeMap::new(),
        }
    }

    /// Opens a connection of [`PEER`].
    pub fn open(&mut self) -> Key {
        self.open_from(PEER, None)
    }

    /// Opens a connection of `peer`, with a [refusal](NewConnection::refusal) if its request is refused already.
    pub fn open_from(&mut self, peer: Peer, refusal: Option<HandshakeError>) -> Key {
        self.last_id.0 += 1;
        let key = self.worker.open(NewConnection { id: self.last_id, peer, refusal }, self.now);
        self.wires.insert(key, (Vec::new(), Transport::Open));
        key
    }

    /// Passes received bytes to the worker, even if it does not want to read, and writes the answers.
    pub fn feed(&mut self, key: Key, bytes: &[u8]) {
        self.worker.receive(key, self.now, &mut bytes.to_vec(), &mut self.recorder);
        self.flush(key);
    }

    /// Receives and sends in one call of [`Worker::on_readable`], with a read buffer of `room` bytes. What the socket accepts is
    /// added to the wire.
    pub fn on_readable(&mut self, key: Key, room: usize, socket: &mut ModelSocket) -> Transport {
        let (before, mut buffer) = (socket.sent.len(), vec![0; room]);
        let transport = self.worker.on_readable(key, self.now, &mut buffer, socket, &mut self.recorder);
        self.wire_mut(key).0.extend_from_slice(socket.sent.get(before..).unwrap_or_default());
        transport
    }

    /// Ends the peer's side, and writes the answers.
    pub fn end(&mut self, key: Key) {
        self.worker.handle_eof(key, self.now);
        self.flush(key);
    }

    /// Makes the socket fail, which loses pending output.
    pub fn fail(&mut self, key: Key) {
        self.worker.handle_error(key);
        self.flush(key);
    }

    /// Offers the pending output to the socket, of which it accepts [`takes`](ModelRuntime::takes) bytes. Then does with the
    /// socket what the worker returns.
    pub fn flush(&mut self, key: Key) {
        self.write(key, self.takes);
        self.apply(key);
    }

    /// Offers the pending output to the socket, of which it accepts `room` bytes. Returns the number of accepted bytes.
    pub fn write(&mut self, key: Key, room: usize) -> usize {
        let mut left = room;
        loop {
            let output = self.worker.output(key);
            let len = output.len();
            let accepted = output.get(..left).unwrap_or(output).to_vec();
            if len == 0 {
                return room - left;
            }
            self.worker.sent(key, accepted.len(), self.now);
            left -= accepted.len();
            self.wire_mut(key).0.extend_from_slice(&accepted);
            if accepted.len() < len {
                return room - left;
            }
        }
    }

    /// Does with the socket what the worker returns: on [`Transport::Close`], removes the connection.
    pub fn apply(&mut self, key: Key) -> Transport {
        let transport = self.worker.transport(key);
        self.wire_mut(key).1 = transport;
        if transport == Transport::Close {
            self.remove(key);
        }
        transport
    }

    /// Removes a connection in any state.
    pub fn remove(&mut self, key: Key) {
        self.worker.remove(key, self.now, &mut self.recorder);
    }

    /// Returns the next connection that is due.
    pub fn next_due(&mut self) -> Option<Due> {
        self.worker.next_due(self.now, &mut self.recorder)
    }

    /// Handles a connection that is due. All bytes of its socket have been fed already.
    pub fn handle_due(&mut self, due: Due) {
        self.flush(due.key);
        self.worker.handle_deadlines(due, self.now, &mut self.recorder);
        self.flush(due.key);
    }

    /// Handles all connections that are due.
    pub fn handle_all_due(&mut self) {
        while let Some(due) = self.next_due() {
            self.handle_due(due);
        }
    }

    /// Lets time pass, and handles all connections that are due then.
    pub fn wait(&mut self, time: Duration) {
        self.now += time;
        self.handle_all_due();
    }

    /// Returns the bytes that the socket has accepted.
    pub fn wire(&self, key: Key) -> &[u8] {
        self.wires.get(&key).map_or(&[], |(bytes, _)| bytes)
    }

    /// Removes the bytes that the socket has accepted.
    pub fn take_wire(&mut self, key: Key) -> Vec<u8> {
        mem::take(&mut self.wire_mut(key).0)
    }

    /// Returns the last result of the worker for the socket. It remains until the key is used again.
    pub fn transport(&self, key: Key) -> Transport {
        self.wires.get(&key).map_or(Transport::Open, |(_, transport)| *transport)
    }

    fn wire_mut(&mut self, key: Key) -> &mut (Vec<u8>, Transport) {
        self.wires.entry(key).or_insert_with(|| (Vec::new(), Transport::Open))
    }
}

/// A socket in memory.
#[derive(Debug, Clone)]
pub struct ModelSocket {
    /// The bytes that the peer has sent, and that are not received yet.
    pub incoming: Vec<u8>,
    /// Whether the peer sends nothing more.
    pub is_ended: bool,
    /// The number of bytes that it accepts of each send. At first without limit.
    pub takes: usize,
    /// The bytes that it has accepted.
    pub sent: Vec<u8>,
    /// The number of sends.
    pub sends: usize,
    /// The bytes of the last send, also those that it has not accepted.
    pub offered: Vec<u8>,
}

impl ModelSocket {
    /// Returns a socket whose peer has sent these bytes, and that accepts all output.
    pub fn with(incoming: &[u8]) -> ModelSocket {
        ModelSocket {
            incoming: incoming.to_vec(),
            is_ended: false,
            takes: usize::MAX,
            sent: Vec::new(),
            sends: 0,
            offered: Vec::new(),
        }
    }
}

impl Socket for ModelSocket {
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.incoming.is_empty() && !self.is_ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        let n = { buffer }.write(&self.incoming)?;
        self.incoming.drain(..n);
        Ok(n)
    }

    fn send(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.sends += 1;
        self.offered = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        let accepted = self.offered.get(..self.takes).unwrap_or(&self.offered);
        self.sent.extend_from_slice(accepted);
        if accepted.is_empty() { Err(ErrorKind::WouldBlock.into()) } else { Ok(accepted.len()) }
    }
}

/// Returns a masked frame of a client, with the shortest form of its length. `first` has the flags and the opcode.
pub fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = payload.len();
    let mut bytes = vec![first];
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len @ 0..=125), _) => bytes.push(0x80 | len),
        (_, Ok(len)) => {
            bytes.push(0x80 | 126);
            bytes.extend(len.to_be_bytes());
        }
        (_, Err(_)) => {
            bytes.push(0x80 | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    let mask = [0xa1, 0xb2, 0xc3, 0xd4];
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}
