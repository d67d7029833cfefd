//! One turn of a connection: one read and one write.

use std::io::{self, ErrorKind, IoSlice};
use std::time::Instant;

use super::connection::{Context, Unlimited};
use super::{Application, Key, Worker};
use crate::input::Input;
use crate::output::{MIN_SEGMENT, Output, OutputSegments};
use crate::record::Recorder;
use crate::session::Transport;
use crate::turn::Turn;

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
    /// # Errors
    /// The error of the system call.
    fn receive_into_spare(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize>;

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
    /// `buffer` belongs to the runtime and has any length; the worker does not use it after the turn. Output that the
    /// socket does not accept is pending until [`Worker::flush`]. An error of the socket ends the connection, unless it
    /// would have blocked.
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
        let Some(connection) = self.connections.get_mut(key.0) else { return Transport::Close };
        if !connection.is_between_messages() || connection.is_paced() || recorder.is_full() {
            return self.on_readable_other(key, now, buffer, socket, recorder);
        }
        let received = socket.receive(buffer);
        let Ok(n @ 1..) = received else { return self.handle_empty_read(key, now, received, socket) };
        connection.on_received(now);
        // A socket receives at most as many bytes as the buffer has.
        let bytes = buffer.get_mut(..n).unwrap_or_default();
        if n >= MIN_SEGMENT {
            return self.answer_large(key, now, bytes, socket, recorder);
        }
        let mut context =
            Context { key, config: &self.config, application: &mut self.application, shared: &self.shared };
        let mut turn = Turn { now, out: &mut self.cork, is_backlogged: false, codec: &mut self.codec };
        let input = &mut Input::new(bytes);
        connection.receive_messages(true, &mut Unlimited, &mut context, &mut turn, input, None, recorder);
        if !connection.is_idle() {
            return self.flush_and_arm(key, now, socket);
        }
        let sent = if self.cork.is_empty() { Ok(0) } else { taken(socket.send(&[IoSlice::new(&self.cork)])) };
        match sent {
            Ok(n) if n == self.cork.len() => {
                self.clear_cork();
                return Transport::Open;
            }
            Ok(n) => self.sent(key, n, now),
            Err(_) => self.handle_error(key),
        }
        self.arm(key);
        self.count_memory(key);
        self.transport(key)
    }

    /// Sends the output of a connection that is in the middle of a message, is closing, or has a ping to be answered, and sets
    /// its timer.
    #[inline(never)]
    fn flush_and_arm(&mut self, key: Key, now: Instant, socket: &mut impl Socket) -> Transport {
        if let Some(connection) = self.connections.get_mut(key.0) {
            connection.release_user_if_closing(&self.config);
        }
        let transport = self.flush(key, now, socket);
        self.arm(key);
        self.count_memory(key);
        transport
    }

    /// Sends pending output to the socket, with one system call unless it has very many pieces. Returns what to do with the socket. Deadlines are not checked here, but in
    /// [`handle_due`](Worker::handle_due).
    pub fn flush(&mut self, key: Key, now: Instant, socket: &mut impl Socket) -> Transport {
        // Repeated only if there are more pieces than one write takes: the socket will not become writable again.
        while let Some((len, sent)) = self.write(key, socket) {
            match taken(sent) {
                Ok(n) => {
                    self.sent(key, n, now);
                    if n < len {
                        break;
                    }
                }
                Err(_) => self.handle_error(key),
            }
        }
        self.transport(key)
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

    /// Does the same as [`on_readable`](Worker::on_readable) in all other cases: a handshake, a partial message, a
    /// closing connection, pending output, a rate, or a full recorder.
    // Out of line, as the functions below, so that short messages do not pay for it.
    #[inline(never)]
    fn on_readable_other(
        &mut self,
        key: Key,
        now: Instant,
        buffer: &mut [u8],
        socket: &mut impl Socket,
        recorder: &mut impl Recorder,
    ) -> Transport {
        let is_read_blocked = self.is_read_blocked(key, recorder);
        let Some(connection) = self.connections.get_mut(key.0) else { return Transport::Close };
        if is_read_blocked || !connection.wants_read(&self.config) {
            return self.flush(key, now, socket);
        }
        if connection.is_limited(&self.config) {
            return self.on_readable_paced(key, now, buffer, socket, recorder);
        }
        let in_place = connection.spare_buffer().map(|message| socket.receive_into_spare(message));
        let is_in_place = in_place.is_some();
        let received = in_place.unwrap_or_else(|| socket.receive(buffer));
        let Ok(n @ 1..) = received else { return self.handle_empty_read(key, now, received, socket) };
        connection.on_received(now);
        // The bytes after the end of the message's frame are handled as a separate read.
        let mut excess = if is_in_place { connection.take_excess() } else { Vec::new() };
        let bytes = if is_in_place { &mut excess[..] } else { buffer.get_mut(..n).unwrap_or_default() };
        if connection.is_admitted_without_backlog() {
            let is_paced = connection.is_paced();
            let transport = self.answer_large(key, now, bytes, socket, recorder);
            return if is_paced { self.charge(key, now, n, socket) } else { transport };
        }
        // `receive` charges the bytes that it is given, so those in the message are left.
        let received_in_place = n.saturating_sub(bytes.len());
        self.receive(key, now, bytes, recorder);
        if is_in_place {
            self.charge(key, now, received_in_place, socket)
        } else {
            self.flush(key, now, socket)
        }
    }

    /// Does the same for a connection with a rate: handles bytes of an earlier read that the rate allows now, and then
    /// reads at most as many bytes as it allows.
    fn on_readable_paced(
        &mut self,
        key: Key,
        now: Instant,
        buffer: &mut [u8],
        socket: &mut impl Socket,
        recorder: &mut impl Recorder,
    ) -> Transport {
        if self.connections.get(key.0).is_some_and(|connection| connection.has_deferred()) {
            self.turn(key, now, |connection, context, turn| {
                connection.handle_deferred(context, turn, recorder)
            });
        }
        let mut room = None;
        self.turn(key, now, |connection, context, _| room = connection.room(context.config, now, recorder));
        let is_paced_by_bytes = self.config.session.byte_rate.per_second != 0;
        let Some(connection) = self.connections.get_mut(key.0) else { return Transport::Close };
        let Some(room) = room.filter(|_| connection.wants_read(&self.config)) else {
            return self.flush(key, now, socket);
        };
        // A read into the buffer of a large message may be of any length, so it is only used without a rate of bytes.
        let spare = if is_paced_by_bytes { None } else { connection.spare_buffer() };
        let in_place = spare.map(|message| socket.receive_into_spare(message));
        let is_in_place = in_place.is_some();
        let room = room.min(buffer.len());
        let received = in_place.unwrap_or_else(|| socket.receive(buffer.get_mut(..room).unwrap_or_default()));
        let Ok(n @ 1..) = received else { return self.handle_empty_read(key, now, received, socket) };
        connection.on_received(now);
        let mut excess = if is_in_place { connection.take_excess() } else { Vec::new() };
        let bytes = if is_in_place { &mut excess[..] } else { buffer.get_mut(..n).unwrap_or_default() };
        self.receive(key, now, bytes, recorder);
        self.flush(key, now, socket)
    }

    /// Does the same as [`on_readable`](Worker::on_readable), without the fast path for short messages.
    pub(super) fn on_readable_slowly(
        &mut self,
        key: Key,
        now: Instant,
        buffer: &mut [u8],
        socket: &mut impl Socket,
        recorder: &mut impl Recorder,
    ) -> Transport {
        self.claim_cork(key, now);
        self.on_readable_other(key, now, buffer, socket, recorder)
    }

    /// Charges the received bytes to the rates of the connection, and sends its output.
    fn charge(&mut self, key: Key, now: Instant, received: usize, socket: &mut impl Socket) -> Transport {
        self.turn(key, now, |connection, context, turn| connection.charge(context, turn, received));
        self.flush(key, now, socket)
    }

    /// Handles the received bytes of an admitted user if they may contain large payloads: these are sent from the read buffer,
    /// without a copy.
    #[inline(never)]
    fn answer_large(
        &mut self,
        key: Key,
        now: Instant,
        bytes: &mut [u8],
        socket: &mut impl Socket,
        recorder: &mut impl Recorder,
    ) -> Transport {
        let Some(connection) = self.connections.get_mut(key.0) else { return Transport::Close };
        let mut context =
            Context { key, config: &self.config, application: &mut self.application, shared: &self.shared };
        let mut turn = Turn { now, out: &mut self.cork, is_backlogged: false, codec: &mut self.codec };
        let mut segments = OutputSegments::default();
        let input = &mut Input::new(bytes);
        let is_between = connection.is_between_messages();
        let segments_of = Some(&mut segments);
        connection.receive_messages(
            is_between,
            &mut Unlimited,
            &mut context,
            &mut turn,
            input,
            segments_of,
            recorder,
        );
        connection.release_user_if_closing(&self.config);
        if !self.cork.is_empty() {
            self.send_segments(key, now, segments, socket);
        }
        // A quiet connection has only a keep-alive deadline, which a read can only postpone, so the armed timer still holds.
        if !self
            .connections
            .get(key.0)
            .is_some_and(|connection| connection.is_idle() && !connection.is_paced())
        {
            self.arm(key);
        }
        self.count_memory(key);
        self.transport(key)
    }

    fn send_segments(
        &mut self,
        key: Key,
        now: Instant,
        segments: OutputSegments<'_>,
        socket: &mut impl Socket,
    ) {
        let slices = segments.slices(&self.cork);
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let sent = taken(socket.send(&slices));
        drop(slices);
        match sent {
            Ok(n) if n == total => segments.give_back(&mut self.codec.buffers),
            Ok(n) => {
                let queue = segments.into_queue(&self.cork, n, now);
                if let Some(connection) = self.connections.get_mut(key.0) {
                    // The answers to one read are always accepted; the limit applies to later output.
                    connection.output = Output::Queue(Box::new(queue));
                }
            }
            Err(_) => self.handle_error(key),
        }
        self.clear_cork();
    }

    /// Handles a read without bytes: the end of the peer's side, an error, or a socket that is not readable.
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
pub(super) fn taken(sent: io::Result<usize>) -> io::Result<usize> {
    match sent {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        sent => sent,
    }
}
