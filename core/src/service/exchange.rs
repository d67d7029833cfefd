//! A turn as a runtime takes it: one read in, one write out.

use std::io::{self, ErrorKind, IoSlice};
use std::time::Instant;

use super::connection::Context;
use super::{Key, Service};
use crate::input::Input;
use crate::parts::{PART_FROM, Parts};
use crate::record::Recorder;
use crate::session::Transport;
use crate::turn::Turn;

/// Where the next read of a connection is to go.
#[derive(Debug)]
pub enum ReadInto<'s> {
    /// Nowhere: its output has to be taken first.
    Nothing,
    /// Into a buffer of the runtime's, which is given to [`Service::exchange`].
    YourBuffer,
    /// Into this one: what is read is appended, at most as much as there is room for without growing. It is the
    /// memory of a large message, which is thus not copied. [`Service::exchange`] is then given no bytes.
    Message(&'s mut Vec<u8>),
}

impl Service {
    /// Where the next read of a connection is to go.
    #[inline]
    pub fn read_into(&mut self, key: Key) -> ReadInto<'_> {
        match self.connections.get_mut(key.0) {
            Some(connection) if connection.is_between_messages() => ReadInto::YourBuffer,
            Some(connection) if connection.wants_read(&self.config) => {
                connection.lend().map_or(ReadInto::YourBuffer, ReadInto::Message)
            }
            Some(_) | None => ReadInto::Nothing,
        }
    }

    /// Takes what one read brought, and has `write` write all that there is to say to it, by one call at most.
    /// Says what is to be done with the socket then.
    ///
    /// `bytes` are unmasked in place; they are empty after a read into a [`ReadInto::Message`]. `write` is given
    /// the pieces of the output in their order, and says how many bytes the socket took. What it did not take is
    /// kept, and waits for [`Service::settle`]; that it would have blocked is no error. Any other error ends the
    /// connection.
    #[inline]
    pub fn exchange(
        &mut self,
        key: Key,
        now: Instant,
        bytes: &mut [u8],
        recorder: &mut impl Recorder,
        write: impl FnOnce(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> Transport {
        self.uncork_for(key, now);
        let Some(connection) = self.connections.get_mut(key.0) else { return Transport::Close };
        if bytes.is_empty() {
            // They are in a message's own buffer.
            let mut overrun = connection.take_overrun();
            return self.exchange_large(key, now, &mut overrun, recorder, write);
        }
        if !connection.is_flowing() {
            self.receive(key, now, bytes, recorder);
            return self.settle(key, now, write);
        }
        if bytes.len() >= PART_FROM {
            return self.exchange_large(key, now, bytes, recorder, write);
        }
        let context = Context { config: &self.config, application: self.application, jitter: &self.jitter };
        let mut turn = Turn { now, out: &mut self.cork, is_backlogged: false, codec: &mut self.codec };
        connection.receive_messages(&context, &mut turn, &mut Input::new(bytes), None, recorder);
        let sent = if self.cork.is_empty() { Ok(0) } else { taken(write(&[IoSlice::new(&self.cork)])) };
        match sent {
            Ok(n) if n == self.cork.len() => {
                self.cork.clear();
                if connection.is_quiet() {
                    return Transport::Open;
                }
            }
            Ok(n) => self.sent(key, n, now),
            Err(_) => self.handle_error(key),
        }
        self.arm(key);
        self.transport(key)
    }

    /// The same for a read in which there may be a large payload, or a large message's end.
    // Out of line, so that short reads do not pay for it.
    #[inline(never)]
    fn exchange_large(
        &mut self,
        key: Key,
        now: Instant,
        bytes: &mut [u8],
        recorder: &mut impl Recorder,
        write: impl FnOnce(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> Transport {
        let Some(connection) = self.connections.get_mut(key.0) else { return Transport::Close };
        if !connection.is_flowing() {
            self.receive(key, now, bytes, recorder);
            return self.settle(key, now, write);
        }
        let context = Context { config: &self.config, application: self.application, jitter: &self.jitter };
        let mut turn = Turn { now, out: &mut self.cork, is_backlogged: false, codec: &mut self.codec };
        let mut parts = Parts::default();
        connection.receive_messages(&context, &mut turn, &mut Input::new(bytes), Some(&mut parts), recorder);
        if !self.cork.is_empty() {
            self.write_parts(key, now, parts, write);
        }
        self.arm(key);
        self.transport(key)
    }

    /// Has `write` write what waits for the socket, by one call at most. Says what is to be done with the socket
    /// then. `write` is as for [`Service::exchange`].
    pub fn settle(
        &mut self,
        key: Key,
        now: Instant,
        write: impl FnOnce(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> Transport {
        let output = self.output(key);
        if !output.is_empty() {
            match taken(write(&[IoSlice::new(output)])) {
                Ok(n) => self.sent(key, n, now),
                Err(_) => self.handle_error(key),
            }
        }
        self.transport(key)
    }

    fn write_parts(
        &mut self,
        key: Key,
        now: Instant,
        parts: Parts<'_>,
        write: impl FnOnce(&[IoSlice<'_>]) -> io::Result<usize>,
    ) {
        let slices = parts.slices(&self.cork);
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let taken = taken(write(&slices));
        drop(slices);
        match taken {
            Ok(n) if n == total => parts.give_back(&mut self.codec.buffers),
            Ok(n) => {
                let backlog = parts.into_backlog(&self.cork, n, now);
                if let Some(connection) = self.connections.get_mut(key.0) {
                    connection.backlog = Some(Box::new(backlog));
                    connection.judge_backlog(&self.config, now, &mut self.codec);
                }
            }
            Err(_) => self.handle_error(key),
        }
        self.clear_cork();
    }
}

/// That a write would have blocked means that the socket took nothing.
#[inline]
fn taken(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        written => written,
    }
}
