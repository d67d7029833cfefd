//! The inputs of the thread of the engine.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use postern_channels::engine::{Operation, Request};
use postern_channels::exchange::WorkerId;
use postern_channels::relay::command::{Cause, Failure, Reply};
use postern_channels::relay::link::{Attempt, Ticket};
use postern_channels::relay::{CommandId, RelayStats, ServerAnswer, ServerOperation};
use smol::channel::{Receiver, Sender, bounded};

use super::connector::Opened;

/// Something that the thread handles.
#[derive(Debug)]
pub(super) enum Input {
    /// A request of a worker.
    Worker(WorkerId, Request),
    /// A request of the server API, and where its answer goes.
    Server(ServerOperation, Sender<ServerAnswer>),
    /// The connections of commands and of messages are open.
    Connected(Attempt, Box<Opened>),
    /// A connection has failed.
    Failed(Attempt, Failure),
    /// A command has a result.
    Reply(Attempt, Ticket, Result<Reply, Failure>),
    /// A command of another node is performed.
    Performed(CommandId, usize),
    /// The connections of a user have changed.
    User(Arc<str>),
    /// The description of this node.
    Described(Vec<u8>),
    /// A message has arrived.
    Message { attempt: Attempt, topic: String, message: Vec<u8> },
}

/// The queue of the thread.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Sender<()>,
    /// The most bytes of messages.
    limit: usize,
    /// The figures of the relay, as of its last turn.
    pub(super) stats: Mutex<RelayStats>,
}

#[derive(Debug, Default)]
struct State {
    inputs: VecDeque<Input>,
    /// The requests of workers among them.
    requests: usize,
    /// The bytes of the messages among them.
    bytes: usize,
    /// The attempt whose messages are lost, because too many wait.
    lost: Option<Attempt>,
}

impl Queue {
    /// Creates a queue, and the channel that has a value if there is something in it.
    pub(super) fn new(limit: usize) -> (Queue, Receiver<()>) {
        let (wake, wakes) = bounded(1);
        (Queue { state: Mutex::default(), wake, limit, stats: Mutex::default() }, wakes)
    }

    /// Adds a request of a worker. Returns it if there are too many, unless something would be wrong afterwards without it.
    pub(super) fn add_request(&self, worker: WorkerId, request: Request) -> Option<Request> {
        let mut state = self.lock();
        let is_needed = matches!(request.operation, Operation::Unsubscribe { .. } | Operation::Close);
        if state.requests >= MOST_REQUESTS && !is_needed {
            return Some(request);
        }
        state.requests += 1;
        self.push(state, Input::Worker(worker, request));
        None
    }

    /// Adds something else.
    pub(super) fn add(&self, input: Input) {
        self.push(self.lock(), input);
    }

    /// Adds a message that has arrived. If too many bytes wait, it is lost, and its connection fails: the node then reads what it
    /// has missed.
    pub(super) fn add_message(&self, attempt: Attempt, topic: String, message: Vec<u8>) {
        let mut state = self.lock();
        if state.lost == Some(attempt) {
            return;
        }
        if state.bytes >= self.limit {
            state.lost = Some(attempt);
            let failure = Failure::new(Cause::Overflow, "messages arrive faster than they are handled");
            return self.push(state, Input::Failed(attempt, failure));
        }
        state.bytes += size_of::<Input>() + topic.len() + message.len();
        self.push(state, Input::Message { attempt, topic, message });
    }

    /// Takes all inputs.
    pub(super) fn take(&self) -> VecDeque<Input> {
        let mut state = self.lock();
        (state.requests, state.bytes) = (0, 0);
        mem::take(&mut state.inputs)
    }

    fn push(&self, mut state: MutexGuard<'_, State>, input: Input) {
        state.inputs.push_back(input);
        if state.inputs.len() == 1 {
            drop(state);
            // It is full if the thread was woken already.
            let _ = self.wake.try_send(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The most requests of workers that wait.
const MOST_REQUESTS: usize = 64 * 1024;
