//! One turn of a connection: one read and one write.

use std::io::{self, ErrorKind, IoSlice};
use std::time::Instant;

use zeroize::Zeroizing;

use super::connection::{Connection, Context};
use super::{Application, Key, Worker};
use crate::input::Input;
use crate::output::{MIN_SEGMENT, Output, OutputSegments};
use crate::record::Recorder;
use crate::session::Transport;
use crate::turn::Turn;
use crate::wipe::{self, Wipe};

/// A non-blocking socket. The runtime owns it.
///
/// Each method makes one system call, which is repeated only if a signal interrupted it. It returns [`ErrorKind::WouldBlock`]
/// if the socket is not ready.
pub trait Socket {
    /// Receives into `buffer`. Returns the number of bytes; zero is the end of the peer's side.
    ///
    /// # Errors
    /// The error of the system call.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Appends received bytes to `buffer`, at most as many as its spare capacity, which is not zero. `buffer` belongs
    /// to a large message, whose bytes are thus not copied. Returns the number of bytes; zero is the end of the peer's
    /// side.
    ///
    /// This implementation fills the spare capacity with zeros and calls [`receive`](Socket::receive). A socket that can receive
    /// into uninitialised memory replaces it.
    ///
    /// # Errors
    /// The error of the system call.
    fn receive_into_spare(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let (len, capacity) = (buffer.len(), buffer.capacity());
        // Within the capacity, so it does not grow.
        buffer.resize(capacity, 0);
        let received = self.receive(buffer.get_mut(len..).unwrap_or_default());
        buffer.truncate(len + received.as_ref().copied().unwrap_or_default());
        received
    }

    /// Sends the pieces in their order. Returns the number of bytes that the system accepted.
    ///
    /// # Errors
    /// The error of the system call.
    fn send(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize>;
}

impl<A: Application> Worker<A> {
    /// Handles that the socket is readable: receives once, unless reading is paused or the recorder is full, and sends all
    /// output, once. Returns what to do with the socket.
    ///
    /// `buffer` belongs to the runtime and has any length; the worker does not use it after the turn. It is overwritten with zeros
    /// if it contains a request head or a message with a token. Output that the socket does not accept is pending until
    /// [`Worker::flush`]. An error of the socket ends the connection, unless it would have blocked.
    // Inlined into the runtime's loop: a call would cost a twentieth of the time of a short message.
    #[inline(always)]
    pub fn on_readable(
        &mut self,
        key: Key,
        now: Instant,
        buffer: &mut [u8],
        socket: &mut impl Socket,
        recorder: &mut impl Recorder,
    ) -> Transport {
        self.claim_cork(key, now);
        // Checked by itself: together with the look-up, it becomes bit operations that take ten instructions more.
        if recorder.is_full() {
            return self.read_in_any_state(key, now, buffer, socket, recorder);
        }
        let Some(mut user) = self.connections.get_mut(key.0).and_then(Connection::quiet) else {
            return self.read_in_any_state(key, now, buffer, socket, recorder);
        };
        let received = socket.receive(buffer);
        let Ok(n @ 1..) = received else { return self.handle_empty_read(key, now, received, socket) };
        user.on_received(now);
        // A socket receives at most as many bytes as the buffer has.
        let mut input = Input::new(buffer.get_mut(..n).unwrap_or_default());
        if n < MIN_SEGMENT {
            let mut context = Context {
                key,
                config: &self.config,
                application: &mut self.application,
                shared: &self.shared,
            };
            let mut turn = Turn { now, out: &mut self.cork, is_backlogged: false, codec: &mut self.codec };
            user.receive_whole_messages(&mut context, &mut turn, &mut input, recorder);
            // A state of the client may have another size now, which must be counted.
            if input.is_empty() && user.is_open() && !user.has_client_memory() {
                let sent =
                    if self.cork.is_empty() { Ok(0) } else { socket.send(&[IoSlice::new(&self.cork)]) };
                if !matches!(sent, Ok(n) if n == self.cork.len()) {
                    self.handle_sent(key, now, sent);
                    return self.transport(key);
                }
                self.clear_cork();
                return Transport::Open;
            }
        }
        self.handle_received(key, now, input.take(n), 0, socket, recorder)
    }

    /// Does the same as [`on_readable`](Worker::on_readable) in any state of the connection: during a handshake, in the middle
    /// of a message, while it closes or has pending output, with a rate, or while the recorder is full.
    // Cold, as the functions below, so that the compiler keeps no register for it in the path of short messages.
    #[cold]
    #[inline(never)]
    pub(super) fn read_in_any_state(
        &mut self,
        key: Key,
        now: Instant,
        buffer: &mut [u8],
        socket: &mut impl Socket,
        recorder: &mut impl Recorder,
    ) -> Transport {
        let room = self.room(key, now, buffer.len(), recorder);
        let Some(connection) = self.connections.get_mut(key.0) else { return Transport::Close };
        let Some(room) = room else { return self.flush(key, now, socket) };
        let spare = connection.spare_buffer(&self.config);
        let in_place = spare.map(|message| socket.receive_into_spare(message));
        let is_in_place = in_place.is_some();
        let received = in_place.unwrap_or_else(|| socket.receive(buffer.get_mut(..room).unwrap_or_default()));
        let Ok(n @ 1..) = received else { return self.handle_empty_read(key, now, received, socket) };
        connection.on_received(now);
        // The bytes after the end of the message's frame are handled as a separate read.
        let mut excess = Zeroizing::new(if is_in_place { connection.take_excess() } else { Vec::new() });
        let bytes = if is_in_place { &mut excess[..] } else { buffer.get_mut(..n).unwrap_or_default() };
        let in_place = n.saturating_sub(bytes.len());
        let transport = self.handle_received(key, now, bytes, in_place, socket, recorder);
        let wipe = self.codec.take_wipe();
        if wipe != Wipe::Nothing {
            let end = if wipe == Wipe::Read { n } else { buffer.len() };
            // The runtime uses the buffer again, so the compiler cannot leave this out.
            buffer.get_mut(..end).unwrap_or_default().fill(0);
            wipe::stack();
        }
        transport
    }

    /// Returns the number of bytes that may be read now, at most `most`. `None` if reading pauses. With a limited rate, bytes of
    /// earlier reads that the rate allows now are handled before.
    fn room(&mut self, key: Key, now: Instant, most: usize, recorder: &mut impl Recorder) -> Option<usize> {
        if self.is_read_blocked(key, recorder) {
            return None;
        }
        let connection =
            self.connections.get(key.0).filter(|connection| connection.wants_read(&self.config))?;
        if !connection.is_limited(&self.config) {
            return Some(most);
        }
        let mut room = None;
        self.turn(key, now, |connection, context, turn| {
            connection.handle_deferred(context, turn, recorder);
            room = connection.room(context.config, now, recorder);
        });
        let room = room.filter(|_| {
            self.connections.get(key.0).is_some_and(|connection| connection.wants_read(&self.config))
        });
        room.map(|room| room.min(most))
    }

    /// Handles received bytes, and sends all output, large payloads without a copy. `in_place` is the number of bytes before them
    /// that were received into the buffer of a message.
    #[cold]
    #[inline(never)]
    fn handle_received(
        &mut self,
        key: Key,
        now: Instant,
        bytes: &mut [u8],
        in_place: usize,
        socket: &mut impl Socket,
        recorder: &mut impl Recorder,
    ) -> Transport {
        let mut segments = OutputSegments::default();
        let input = &mut Input::new(bytes);
        self.turn(key, now, |connection, context, turn| {
            // Pending output must be sent before, so large payloads are appended to it.
            let segments = (!turn.is_backlogged).then_some(&mut segments);
            connection.receive(context, turn, input, in_place, segments, recorder);
        });
        if segments.is_empty() {
            return self.flush(key, now, socket);
        }
        let len = segments.len() + self.cork.len();
        let sent = taken(segments.write(&self.cork, |pieces| socket.send(pieces)));
        match sent {
            Ok(n) if n == len => {
                segments.give_back(&mut self.codec.buffers);
                self.clear_cork();
            }
            Ok(n) => {
                let queue = segments.into_queue(&self.cork, n, now);
                self.clear_cork();
                if let Some(connection) = self.connections.get_mut(key.0) {
                    // The answers to one read are always accepted; the limit applies to later output.
                    connection.output = Output::Queue(Box::new(queue));
                }
                self.arm(key);
                self.count_memory(key);
            }
            Err(_) => self.handle_error(key),
        }
        self.transport(key)
    }

    /// Sends pending output to the socket, with one system call unless it has very many pieces. Returns what to do with the
    /// socket. Deadlines are not checked here, but in [`handle_due`](Worker::handle_due).
    pub fn flush(&mut self, key: Key, now: Instant, socket: &mut impl Socket) -> Transport {
        // Repeated only if there are more pieces than one write takes: the socket will not become writable again.
        while let Some((len, sent)) = self.write(key, socket) {
            let is_blocked = !matches!(sent, Ok(n) if n >= len);
            self.handle_sent(key, now, sent);
            if is_blocked {
                break;
            }
        }
        self.transport(key)
    }

    /// Handles the result of a write of the first part of the output.
    #[cold]
    #[inline(never)]
    pub(super) fn handle_sent(&mut self, key: Key, now: Instant, sent: io::Result<usize>) {
        match taken(sent) {
            Ok(n) => self.sent(key, n, now),
            Err(_) => self.handle_error(key),
        }
    }

    /// Writes pending output. Returns how many bytes were offered to the socket, and its result. `None` if there is no output.
    fn write(&self, key: Key, socket: &mut impl Socket) -> Option<(usize, io::Result<usize>)> {
        let connection = self.connections.get(key.0)?;
        if connection.is_aborted() {
            return None;
        }
        if !connection.output.is_empty() {
            let pieces = connection.output.pieces(&self.frames);
            let len = pieces.iter().map(|piece| piece.len()).sum();
            return Some((len, socket.send(&pieces)));
        }
        let cork = Some(&self.cork[..]).filter(|cork| self.corked == key && !cork.is_empty())?;
        Some((cork.len(), socket.send(&[IoSlice::new(cork)])))
    }

    /// Handles a read without bytes: the end of the peer's side, an error, or a socket that is not readable.
    #[cold]
    #[inline(never)]
    fn handle_empty_read(
        &mut self,
        key: Key,
        now: Instant,
        received: io::Result<usize>,
        socket: &mut impl Socket,
    ) -> Transport {
        match received {
            Ok(_) => self.handle_eof(key, now),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.handle_error(key),
        }
        self.flush(key, now, socket)
    }
}

/// Returns the result of a write, with zero bytes for a write that would have blocked.
#[inline(always)]
fn taken(sent: io::Result<usize>) -> io::Result<usize> {
    match sent {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        sent => sent,
    }
}
