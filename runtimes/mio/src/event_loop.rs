//! One event loop: it waits for sockets, moves bytes between them and its [`Worker`], and makes no decisions.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use postern_core::worker::{Due, NewConnection, earlier};
use postern_core::{Key, Transport};
use postern_host::application::{Worker, WorkerEffect, WorkerMessage};
use postern_host::channels::NodeWorker;
use postern_host::lifecycle::{ProcessStatus, WorkerParts};
use postern_host::listen::{Acceptor, Listener};
use postern_host::metrics::LogAndCounters;
use postern_host::socket::{SMALL_READ_BUFFER, shut_down_write};
use postern_host::workers::Request;

use crate::listeners::Listeners;
use crate::socket::Sockets;
use crate::worker_handle::{Mailbox, Message, WorkerHandle, WorkerHandles};

/// The event loops, each on a separate thread.
pub(crate) struct EventLoops {
    pub(crate) handles: WorkerHandles,
    pub(crate) threads: Vec<JoinHandle<()>>,
    /// The listeners, if there are several event loops. A single one accepts by itself, because a hand-over between threads
    /// takes longer than accepting.
    pub(crate) listeners: Option<Listeners>,
}

/// Starts an event loop for each of these workers. Wakes `status` when one ends.
///
/// # Errors
/// The process has no file descriptor or no thread left.
pub(crate) fn spawn(
    workers: Vec<WorkerParts>,
    listeners: Vec<Arc<Listener>>,
    acceptor: Acceptor,
    status: &ProcessStatus,
) -> io::Result<EventLoops> {
    let mut handles = Vec::new();
    let mut loops = Vec::new();
    for mut parts in workers {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let (handle, mailbox) = WorkerHandle::new(waker.clone(), parts.max_connections);
        // It fails only if the poll was dropped, and with it the worker.
        parts.channels.start(move || drop(waker.wake()));
        handles.push(handle);
        loops.push((poll, mailbox, parts));
    }
    let handles: Arc<[WorkerHandle]> = handles.into();
    let mut listeners = Some(Listeners::new(listeners, acceptor, handles.clone()));
    let mut threads = Vec::new();
    for (number, (poll, mailbox, parts)) in loops.into_iter().enumerate() {
        let (handles, status) = (handles.clone(), status.clone());
        let listeners = if handles.len() == 1 { listeners.take() } else { None };
        if let Some(listeners) = &listeners {
            listeners.register(poll.registry(), LISTENERS)?;
        }
        let run = move || {
            EventLoop::new(number, poll, mailbox, parts, handles, listeners).run();
            status.wake();
        };
        threads.push(thread::Builder::new().name(format!("worker-{number}")).spawn(run)?);
    }
    Ok(EventLoops { handles: WorkerHandles(handles), threads, listeners })
}

struct EventLoop {
    poll: Poll,
    worker: Worker,
    /// The worker's share in the channels of the process.
    channels: NodeWorker,
    sockets: Sockets,
    /// Sockets to be read without an edge, each of them once.
    unread: VecDeque<Key>,
    /// The bytes of one read, of any connection. Its content is not used after a turn.
    buffer: Box<[u8]>,
    /// The part of it that one turn may fill from a socket that has filled its part before. It is smaller if there are
    /// more such sockets.
    share: usize,
    /// Its number among the workers.
    number: usize,
    /// All workers.
    handles: Arc<[WorkerHandle]>,
    mailbox: Mailbox,
    /// The listeners, if this is the only event loop.
    listeners: Option<Box<Listeners>>,
    /// The messages of one turn. Empty between turns.
    messages: Vec<Message>,
    /// The value of the gauge of pending connections.
    pending: usize,
    recorder: LogAndCounters,
    /// Read once for each batch of events.
    now: Instant,
    /// Told to end at once.
    is_ended: bool,
}

impl EventLoop {
    fn new(
        number: usize,
        poll: Poll,
        mailbox: Mailbox,
        parts: WorkerParts,
        handles: Arc<[WorkerHandle]>,
        listeners: Option<Listeners>,
    ) -> EventLoop {
        EventLoop {
            poll,
            worker: parts.worker,
            channels: parts.channels,
            sockets: Sockets::default(),
            unread: VecDeque::new(),
            buffer: vec![0; read_buffer(parts.max_memory)].into_boxed_slice(),
            share: LEAST_SHARE,
            number,
            handles,
            mailbox,
            listeners: listeners.map(Box::new),
            messages: Vec::new(),
            pending: 0,
            recorder: parts.recorder,
            now: Instant::now(),
            is_ended: false,
        }
    }

    fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        while !(self.is_ended || self.worker.is_finished()) {
            let timeout = if self.unread.is_empty() && !self.channels.has_unread() {
                let accept = self.listeners.as_ref().and_then(|listeners| listeners.poll_timeout(self.now));
                let channels = self.channels.poll_timeout();
                let retry = self.recorder.log.retry_at(self.now);
                let due = earlier(self.worker.poll_timeout(self.now), channels);
                earlier(due, earlier(retry, accept)).map(|at| at.saturating_duration_since(Instant::now()))
            } else {
                Some(Duration::ZERO)
            };
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // epoll_wait on our own descriptor only fails with EINTR; continuing would spin.
                Err(error) => panic!("the event loop cannot wait for events: {error}"),
            }
            self.now = Instant::now();
            self.share = share(self.unread.len(), self.buffer.len());
            let mut has_arrivals = false;
            let mut has_events = self.channels.has_unread();
            for event in &events {
                match event.token() {
                    WAKE => {
                        self.read_messages();
                        has_events = true;
                    }
                    LISTENERS => has_arrivals = true,
                    Token(key) => self.handle_event(Key(key), event),
                }
            }
            if has_events {
                self.read_channels();
            }
            // Each once and in turn, after those that have just become ready: a busy connection delays others by at most
            // one read buffer; many share `BATCH` bytes.
            for _ in 0..self.unread.len() {
                if let Some(key) = self.unread.pop_front() {
                    self.read_listed(key);
                }
            }
            self.accept(has_arrivals);
            self.handle_all_due();
            self.apply_effects();
            self.channels.handle_timeout(self.now);
            self.recorder.log.flush();
            if self.worker.apply_backpressure(&self.recorder, self.now) {
                self.list_all();
            }
            self.tell_acceptor();
        }
    }

    /// Lists all connections to be read, because reads have resumed.
    #[cold]
    fn list_all(&mut self) {
        for key in self.worker.keys() {
            self.list(key);
        }
    }

    /// Reports free places and handshakes in progress to the accept loop.
    fn tell_acceptor(&mut self) {
        let given_up = self.worker.take_places_given_up();
        if given_up > 0 {
            self.mailbox.load.remove_connections(given_up);
        }
        self.report_pending();
    }

    fn report_pending(&mut self) {
        if self.pending != self.worker.pending() {
            self.pending = self.worker.pending();
            self.mailbox.load.set_pending(self.pending);
        }
    }

    fn handle_all_due(&mut self) {
        while let Some(due) = self.worker.next_due(self.now, &mut self.recorder) {
            self.handle_due(due);
        }
    }

    #[cold]
    fn handle_evicted(&mut self, due: Due) {
        self.handle_due(due);
    }

    #[inline(always)]
    fn handle_due(&mut self, due: Due) {
        let Some(socket) = self.sockets.get_mut(due.key) else { return };
        let transport = self.worker.handle_due(due, self.now, &mut self.buffer, socket, &mut self.recorder);
        if transport != Transport::Open || socket.is_readable {
            self.apply(due.key, transport);
            // It may be read again now.
            self.list(due.key);
        }
    }

    /// Sends the messages of this worker to the others, and performs the requests of its application, until there are none.
    fn apply_effects(&mut self) {
        while self.apply_waiting_effects() {
            self.read_channels();
            self.handle_all_due();
        }
    }

    /// Performs the effects that wait. Returns whether a request was among them, whose answer has arrived.
    fn apply_waiting_effects(&mut self) -> bool {
        let mut is_executed = false;
        while let Some(effect) = self.worker.poll_effect() {
            match effect {
                WorkerEffect::ToPeer(worker, message) => {
                    if let Some(other) = self.handles.get(worker) {
                        other.send(Message::Worker(WorkerMessage::Peer(message)));
                    }
                }
                WorkerEffect::Application(request) => {
                    self.channels.execute(request, self.now);
                    is_executed = true;
                }
                WorkerEffect::CheckToken(request) => {
                    self.channels.check_token(*request);
                    is_executed = true;
                }
            }
        }
        is_executed
    }

    /// Hands events of channels to the worker.
    // Out of line, so that the compiler keeps no register for it in the path of short messages.
    #[inline(never)]
    fn read_channels(&mut self) {
        self.channels.read(&mut self.worker, self.now, &mut self.recorder);
    }

    fn read_messages(&mut self) {
        let mut messages = mem::take(&mut self.messages);
        self.mailbox.inbox.take(&mut messages);
        for message in messages.drain(..) {
            match message {
                Message::NewConnection(stream, arrival, passed) => {
                    if let Some(stream) = self.pass_on(stream, &arrival, passed) {
                        self.open(stream, arrival);
                        self.report_pending();
                    }
                    self.mailbox.load.handle_arrival();
                }
                Message::AcceptRest => self.accept_up_to(usize::MAX),
                Message::CloseListeners => {
                    if let Some(mut listeners) = self.listeners.take() {
                        listeners.close(self.poll.registry());
                    }
                }
                Message::Worker(message) => self.worker.handle_message(message, self.now, &mut self.recorder),
                Message::Request(request) => {
                    if request.may_close() {
                        self.channels.read_all(&mut self.worker, self.now, &mut self.recorder);
                    }
                    self.perform(request);
                }
                Message::CountRefused(count) => self.recorder.turned_away(count),
                Message::End => self.is_ended = true,
            }
        }
        self.messages = messages;
    }

    /// Accepts connections, if this event loop has the listeners, and `has_arrivals` or the time asks for it.
    fn accept(&mut self, has_arrivals: bool) {
        let now = self.now;
        let is_due = |listeners: &Listeners| listeners.poll_timeout(now).is_some_and(|at| at <= now);
        if has_arrivals || self.listeners.as_deref().is_some_and(is_due) {
            self.accept_up_to(ACCEPTED);
        }
    }

    #[inline(never)]
    fn accept_up_to(&mut self, most: usize) {
        let Some(mut listeners) = self.listeners.take() else { return };
        listeners.accept(self.now, most, |_, stream, arrival| {
            self.open(stream, arrival);
            self.report_pending();
            self.mailbox.load.handle_arrival();
        });
        let refused = listeners.take_refused_count();
        if refused > 0 {
            self.recorder.turned_away(refused);
        }
        self.listeners = Some(listeners);
    }

    fn perform(&mut self, request: Request) {
        let sockets = &self.sockets;
        let socket = |key| Some(sockets.get(key)?.stream.as_fd());
        request.perform(&mut self.worker, &self.recorder, self.now, &socket);
    }

    /// Hands a connection that would be refused here to another worker, where there may be a place. Returns its socket
    /// if there is none.
    fn pass_on(&mut self, stream: OwnedFd, arrival: &NewConnection, passed: usize) -> Option<OwnedFd> {
        let has_place = !self.worker.is_full() || self.worker.pending() > 0;
        if has_place || arrival.refusal.is_some() {
            return Some(stream);
        }
        let count = self.handles.len();
        let Some(other) = self.handles.get((self.number + 1) % count).filter(|_| passed + 1 < count) else {
            return Some(stream);
        };
        let returned = other.try_hand_over(stream, *arrival, passed + 1);
        if returned.is_none() {
            self.mailbox.load.remove_connections(1);
        }
        returned
    }

    fn open(&mut self, stream: OwnedFd, arrival: NewConnection) {
        let key = self.worker.open(arrival, self.now);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let descriptor = stream.as_raw_fd();
        // Closing it takes it off the list again.
        let registered = self.poll.registry().register(&mut SourceFd(&descriptor), Token(key.0), interest);
        // Bytes that have arrived already cause an edge at once.
        self.sockets.insert(key, stream);
        if registered.is_err() {
            self.worker.handle_error(key);
            self.flush(key);
        }
        // The socket of an evicted connection is needed for the next one.
        while let Some(due) = self.worker.next_eviction(self.now, &mut self.recorder) {
            self.handle_evicted(due);
        }
    }

    #[inline(always)]
    fn handle_event(&mut self, key: Key, event: &Event) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        if event.is_read_closed() || event.is_error() {
            socket.handle_end();
        }
        if socket.is_listed {
            // It is read after the sockets that have not been read yet.
            return;
        }
        if event.is_readable() || socket.is_ended {
            // It stays so if reading is paused.
            socket.is_readable = true;
            // Pending output is sent in the same turn.
            let transport =
                self.worker.on_readable(key, self.now, &mut self.buffer, socket, &mut self.recorder);
            if socket.is_readable || transport != Transport::Open {
                self.handle_read(key, transport);
            }
        } else if event.is_writable() && self.worker.wants_write(key) {
            self.flush(key);
            self.list(key);
        }
    }

    #[inline(never)]
    fn read_listed(&mut self, key: Key) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        socket.is_listed = false;
        // It stays so if reading is paused.
        socket.is_readable = true;
        let buffer = self.buffer.get_mut(..self.share).unwrap_or_default();
        let transport = self.worker.on_readable(key, self.now, buffer, socket, &mut self.recorder);
        if socket.is_readable || transport != Transport::Open {
            self.handle_read(key, transport);
        }
    }

    /// Puts a socket on the list of those to be read, if there is something to read and it may be read.
    fn list(&mut self, key: Key) {
        if let Some(socket) = self.sockets.get_mut(key)
            && socket.is_readable
            && !socket.is_listed
            && self.worker.wants_read(key)
        {
            socket.is_listed = true;
            self.unread.push_back(key);
        }
    }

    /// Handles the end of a turn after which there may be more to read, or whose transport changes.
    // Out of line: after most turns, there is nothing to do.
    #[inline(never)]
    fn handle_read(&mut self, key: Key, transport: Transport) {
        let is_ended = self.sockets.get(key).is_some_and(|socket| socket.is_ended);
        self.apply(key, transport);
        self.list(key);
        if is_ended {
            // For a connection whose reads are paused. The connection may have been removed, which does no harm.
            self.worker.handle_peer_closed(key, self.now);
        }
        if self.worker.is_short_of_memory() {
            self.handle_all_due();
        }
    }

    /// Writes pending output, once, and applies the transport state to the socket.
    fn flush(&mut self, key: Key) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let transport = self.worker.flush(key, self.now, socket);
        self.apply(key, transport);
    }

    fn apply(&mut self, key: Key, transport: Transport) {
        match transport {
            Transport::Open => {}
            Transport::ShutdownWrite => {
                if let Some(socket) = self.sockets.get_mut(key) {
                    // It fails if the peer has disconnected, which the next read reports.
                    let _ = shut_down_write(&socket.stream);
                }
            }
            Transport::Close => {
                self.worker.remove(key, self.now, &mut self.recorder);
                // The peer may reconnect as soon as its socket is closed, and its place is free then.
                self.tell_acceptor();
                self.sockets.remove(key);
            }
        }
    }
}

/// The token of the waker, through which other threads wake a worker.
const WAKE: Token = Token(usize::MAX);

/// The token of the listeners.
const LISTENERS: Token = Token(usize::MAX - 1);

/// The most connections of a listener that are accepted in one turn. Accepting takes several times as long as a short
/// message.
const ACCEPTED: usize = 64;

/// The most events of one wait.
const EVENTS: usize = 1024;

/// Bytes of the largest read. Large, so that a busy connection costs few system calls; there is one buffer for each worker,
/// so an idle connection costs none of it.
const READ_BUFFER: usize = 128 * 1024;

/// Bytes of the read buffer of a worker whose connections may hold `max_memory` bytes. The answer to one read may have to be
/// kept whole, so where little may be held, little is read at a time.
fn read_buffer(max_memory: usize) -> usize {
    (max_memory / 256).clamp(SMALL_READ_BUFFER, READ_BUFFER)
}

/// The bytes that all sockets that fill their reads may fill in one round, unless there are more than 64.
const BATCH: usize = 1024 * 1024;

/// The least bytes of one read, for any number of such sockets.
const LEAST_SHARE: usize = 16 * 1024;

/// Bytes of one read of at most `most`, if this many sockets have filled theirs.
fn share(talkers: usize, most: usize) -> usize {
    (BATCH / talkers.max(1)).clamp(LEAST_SHARE, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_may_fill_the_buffer_and_many_share_a_batch() {
        for talkers in 0..=8 {
            assert_eq!(share(talkers, READ_BUFFER), READ_BUFFER, "{talkers}");
        }
        assert_eq!(share(32, READ_BUFFER), BATCH / 32);
        for talkers in [64, 65, 1024, usize::MAX] {
            assert_eq!(share(talkers, READ_BUFFER), LEAST_SHARE, "{talkers}");
        }
    }

    #[test]
    fn little_memory_means_small_reads() {
        assert_eq!((read_buffer(usize::MAX), read_buffer(1)), (READ_BUFFER, SMALL_READ_BUFFER));
        assert_eq!(read_buffer(24 << 20), 96 * 1024);
        for max_memory in [0, 1, 8 << 20, 1 << 30] {
            let most = read_buffer(max_memory);
            assert!((0..100).all(|talkers| share(talkers, most) <= most), "{max_memory}");
        }
    }
}
