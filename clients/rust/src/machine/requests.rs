//! Requests: their ids, their deadlines, and the queue before the connection.

use std::time::Instant;

use super::connection::State;
use super::{Action, Machine};
use crate::close::codes;
use crate::event::{Answer, Request, RequestError};
use crate::protocol::{
    ChannelRequest, Command, HistoryRequest, Method, PublishRequest, Reply, RpcRequest, ServerError,
};

/// The number of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u64);

/// A command without a reply.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) kind: Kind,
    deadline: Instant,
}

impl Pending {
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }
}

/// The meaning of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Connect,
    Refresh,
    Subscribe(String),
    SubRefresh(String),
    Unsubscribe,
    Request(RequestId),
}

/// A request that waits for a connection.
#[derive(Debug)]
pub(super) struct Waiting {
    id: RequestId,
    request: Request,
    deadline: Instant,
}

impl Waiting {
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl Machine {
    /// Makes a request. It waits for a connection if there is none, at most for [`MachineConfig::timeout`](super::MachineConfig).
    pub fn request(&mut self, request: Request, now: Instant) -> RequestId {
        self.last_request += 1;
        let id = RequestId(self.last_request);
        if self.state == State::Disconnected {
            self.answers.push_back((id, Err(RequestError::Disconnected)));
        } else if self.pending.len() + self.waiting.len() >= self.config.max_requests {
            self.answers.push_back((id, Err(RequestError::TooMany)));
        } else if self.state.is_connected() {
            self.send_request(id, &request, now);
        } else {
            self.waiting.push_back(Waiting { id, request, deadline: now + self.config.timeout });
        }
        id
    }

    /// Returns the id of a command whose reply has this meaning.
    pub(super) fn begin(&mut self, kind: Kind, now: Instant) -> u32 {
        // Ids are unique among the pending ones: there are fewer than 2^32. 0 is not an id.
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.pending.insert(self.last_id, Pending { kind, deadline: now + self.config.timeout });
        self.last_id
    }

    /// Sends a command with the next message.
    pub(super) fn push(&mut self, id: u32, method: Method<'_>) {
        // Serialization to memory fails only for maps with keys that are not strings.
        if let Ok(text) = serde_json::to_string(&Command { id, method }) {
            self.push_line(&text);
        }
    }

    pub(super) fn push_line(&mut self, text: &str) {
        // Servers limit the length of a message.
        if self.outgoing.len() + text.len() >= MOST_MESSAGE && !self.outgoing.is_empty() {
            let message = std::mem::take(&mut self.outgoing);
            self.actions.push_back(Action::Send(message));
        }
        if !self.outgoing.is_empty() {
            self.outgoing.push('\n');
        }
        self.outgoing.push_str(text);
    }

    pub(super) fn send_waiting(&mut self, now: Instant) {
        for Waiting { id, request, .. } in std::mem::take(&mut self.waiting) {
            self.send_request(id, &request, now);
        }
    }

    fn send_request(&mut self, request_id: RequestId, request: &Request, now: Instant) {
        let id = self.begin(Kind::Request(request_id), now);
        let method = match request {
            Request::Publish { channel, data } => Method::Publish(PublishRequest { channel, data }),
            Request::Presence { channel } => Method::Presence(ChannelRequest { channel }),
            Request::PresenceStats { channel } => Method::PresenceStats(ChannelRequest { channel }),
            &Request::History { ref channel, limit, ref since, reverse } => {
                Method::History(HistoryRequest { channel, limit, since: since.as_ref(), reverse })
            }
            Request::Rpc { method, data } => Method::Rpc(RpcRequest { method, data }),
        };
        self.push(id, method);
    }

    /// Ends the requests whose time is over. Without an answer to a command of the client itself, the connection counts as lost.
    pub(super) fn expire_requests(&mut self, now: Instant) {
        while self.waiting.front().is_some_and(|waiting| waiting.deadline <= now)
            && let Some(Waiting { id, .. }) = self.waiting.pop_front()
        {
            self.answers.push_back((id, Err(RequestError::Timeout)));
        }
        // Ids, and so deadlines, ascend, unless ids have started again.
        let mut is_lost = false;
        while let Some(entry) = self.pending.first_entry()
            && entry.get().deadline <= now
        {
            match entry.remove().kind {
                Kind::Request(id) => self.answers.push_back((id, Err(RequestError::Timeout))),
                Kind::Connect
                | Kind::Refresh
                | Kind::Subscribe(_)
                | Kind::SubRefresh(_)
                | Kind::Unsubscribe => is_lost = true,
            }
        }
        if is_lost {
            self.reconnect(codes::TIMEOUT, "the server has not answered in time", now);
        }
    }

    /// Ends the requests that were sent.
    pub(super) fn abandon_requests(&mut self, error: &RequestError) {
        for (_, Pending { kind, .. }) in std::mem::take(&mut self.pending) {
            if let Kind::Request(id) = kind {
                self.answers.push_back((id, Err(error.clone())));
            }
        }
    }

    /// Ends the requests that wait for a connection.
    pub(super) fn refuse_waiting(&mut self) {
        for Waiting { id, .. } in std::mem::take(&mut self.waiting) {
            self.answers.push_back((id, Err(RequestError::Disconnected)));
        }
    }

    pub(super) fn handle_answer(&mut self, id: RequestId, reply: Reply) {
        let answer = match reply {
            Reply { error: Some(error), .. } => Err(RequestError::Server(error)),
            Reply { presence: Some(result), .. } => Ok(Answer::Presence(result.presence)),
            Reply { presence_stats: Some(stats), .. } => Ok(Answer::PresenceStats(stats)),
            Reply { history: Some(history), .. } => Ok(Answer::History(history)),
            Reply { rpc: Some(result), .. } => Ok(Answer::Rpc(result.data)),
            _ => Ok(Answer::Published),
        };
        self.answers.push_back((id, answer));
    }
}

/// The length of a message from which on no further command is added to it.
const MOST_MESSAGE: usize = 16 << 10;

impl Reply {
    /// Returns one of its results, or its error.
    pub(super) fn result<T>(self, select: impl FnOnce(Reply) -> Option<T>) -> Option<Result<T, ServerError>> {
        match self {
            Reply { error: Some(error), .. } => Some(Err(error)),
            reply => select(reply).map(Ok),
        }
    }
}
