//! Commands about which a backend decides.
//!
//! With `subscribe_hook`, `publish_hook` or `rpc_hook` a namespace leaves the decision to the backend. The client keeps the
//! command, and the worker emits a [`HookRequest`]. The host asks the backend, and puts the [`HookAnswer`] into the inbox of the
//! worker, as a [`ChannelEvent::Hook`](crate::engine::ChannelEvent::Hook). A request without an answer counts as
//! [`HookAnswer::Failed`] after [`ChannelsConfig::hook_timeout`](crate::ChannelsConfig::hook_timeout). Later answers, and second
//! ones, have no effect.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use postern_core::handshake::Identity;

use crate::engine::ClientRef;
use crate::namespaces::options::DataFormat;
use crate::protocol::Encoding;
use crate::publication::ClientId;

/// A request to the backend.
#[derive(Debug)]
pub struct HookRequest {
    /// The client that waits for the answer.
    pub client: ClientRef,
    /// The number of the request, which is different for each request of the client.
    pub number: u32,
    /// The client as others see it.
    pub id: ClientId,
    /// Its user.
    pub identity: Identity,
    /// The encoding of the client.
    pub encoding: Encoding,
    /// The command.
    pub command: HookCommand,
}

/// The command that a backend decides about. An absent value is empty.
#[derive(Debug)]
pub enum HookCommand {
    /// The client subscribes to a channel.
    Subscribe {
        /// The channel.
        channel: Box<str>,
        /// The value that the client has added.
        data: Box<[u8]>,
    },
    /// The client publishes.
    Publish {
        /// The channel.
        channel: Box<str>,
        /// The data of the publication.
        data: Box<[u8]>,
        /// The data that the channel allows.
        format: DataFormat,
        /// The maximum size of the data, in bytes. 0: not limited.
        max_publication: usize,
    },
    /// The client calls a procedure.
    Rpc {
        /// The name of the procedure.
        method: Box<str>,
        /// The arguments.
        data: Box<[u8]>,
    },
}

impl HookCommand {
    /// Returns about how many bytes of memory the command keeps.
    pub fn memory(&self) -> usize {
        let (name, data) = match self {
            HookCommand::Subscribe { channel: name, data }
            | HookCommand::Publish { channel: name, data, .. }
            | HookCommand::Rpc { method: name, data } => (name, data),
        };
        size_of::<HookRequest>() + name.len() + data.len()
    }
}

/// The answer of the backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookAnswer {
    /// The command is executed.
    Allowed(Allowed),
    /// The client gets this error.
    Refused(HookError),
    /// There is no answer, or it cannot be used. The client gets error 100, which is temporary.
    Failed,
}

impl HookAnswer {
    /// Returns about how many bytes of memory the answer keeps.
    pub fn memory(&self) -> usize {
        let len = |bytes: &Option<Arc<[u8]>>| bytes.as_ref().map_or(0, |bytes| bytes.len());
        match self {
            HookAnswer::Allowed(allowed) => len(&allowed.info) + len(&allowed.data),
            HookAnswer::Refused(error) => error.message.len(),
            HookAnswer::Failed => 0,
        }
    }
}

/// The details of a permission.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    /// The information about the subscription for other subscribers: a compact JSON text.
    pub info: Option<Arc<[u8]>>,
    /// A value for the client that subscribes, the data that is published in place of the client's, or the result of a procedure.
    /// For a client with JSON it is a compact JSON text.
    pub data: Option<Arc<[u8]>>,
}

/// An error of the backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookError {
    /// The number: of an [`ErrorCode`](crate::ErrorCode), or from 400 to 1999.
    pub code: u32,
    /// The text.
    pub message: Box<str>,
    /// Whether the same request may succeed later.
    pub is_temporary: bool,
}

/// The requests of a worker.
#[derive(Debug, Default)]
pub(crate) struct HookRequests {
    /// Those that the host has not taken.
    new: VecDeque<Box<HookRequest>>,
    /// When each request without an answer has failed, also if it was answered. The times ascend.
    deadlines: VecDeque<(Instant, ClientRef, u32)>,
}

impl HookRequests {
    pub(crate) fn add(&mut self, request: HookRequest, deadline: Instant) {
        self.deadlines.push_back((deadline, request.client, request.number));
        self.new.push_back(Box::new(request));
    }

    pub(crate) fn take_new(&mut self) -> Option<Box<HookRequest>> {
        self.new.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.front().map(|&(at, ..)| at)
    }

    /// Takes a request whose time has passed.
    pub(crate) fn take_overdue(&mut self, now: Instant) -> Option<(ClientRef, u32)> {
        self.deadlines.front().filter(|(at, ..)| *at <= now)?;
        self.deadlines.pop_front().map(|(_, client, number)| (client, number))
    }
}
