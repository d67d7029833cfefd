//! Commands: what clients send.

use std::borrow::Cow;

use zeroize::Zeroize;

use super::{Encoding, Malformed, Raw, json, protobuf};
use crate::ErrorCode;

/// A command of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command<'a> {
    /// The number that the reply repeats. It is 0 in a pong, may be 0 in a [`Request::Send`], and is not 0 in others. A client
    /// may use a number twice.
    pub id: u32,
    /// The request.
    pub request: Request<'a>,
}

/// The request of a command. Each channel has at least one byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request<'a> {
    /// An empty command, which answers a ping.
    Pong,
    /// The first command of a connection.
    Connect(ConnectRequest<'a>),
    /// Subscribes to a channel.
    Subscribe(SubscribeRequest<'a>),
    /// Ends the subscription to a channel.
    Unsubscribe {
        /// The channel.
        channel: Cow<'a, str>,
    },
    /// Publishes to a channel.
    Publish(PublishRequest<'a>),
    /// Asks for the clients in a channel.
    Presence {
        /// The channel.
        channel: Cow<'a, str>,
    },
    /// Asks for the number of clients and users in a channel.
    PresenceStats {
        /// The channel.
        channel: Cow<'a, str>,
    },
    /// Asks for publications of the past.
    History(HistoryRequest<'a>),
    /// Calls a procedure of the application.
    Rpc(RpcRequest<'a>),
    /// Sends a message to the application. It has no reply.
    Send {
        /// The message.
        data: Raw<'a>,
    },
    /// Replaces the connection token.
    Refresh {
        /// The new token, not empty.
        token: Cow<'a, str>,
    },
    /// Replaces the token of a subscription.
    SubRefresh(SubRefreshRequest<'a>),
}

/// The fields of `connect`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectRequest<'a> {
    /// The connection token, or nothing.
    pub token: Cow<'a, str>,
    /// A value for the application.
    pub data: Raw<'a>,
    /// The server-side subscriptions that the client had, by channel. If a channel occurs twice, the later entry counts.
    pub subs: Vec<(Cow<'a, str>, SubscribeRequest<'a>)>,
    /// The name of the client library.
    pub name: Cow<'a, str>,
    /// The version of the client library.
    pub version: Cow<'a, str>,
    /// Substitutes for HTTP headers. The client chooses them: they are not proof of anything. The later of equal names counts.
    pub headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Features of the connection as bits.
    pub flag: i64,
}

/// The fields of `subscribe`, and of each entry in [`ConnectRequest::subs`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubscribeRequest<'a> {
    /// The channel. It is empty in [`ConnectRequest::subs`].
    pub channel: Cow<'a, str>,
    /// The subscription token, or nothing.
    pub token: Cow<'a, str>,
    /// Whether the client wants the publications after `epoch` and `offset`.
    pub recover: bool,
    /// The epoch of the last known position.
    pub epoch: Cow<'a, str>,
    /// The offset of the last known position.
    pub offset: u64,
    /// A value for the application.
    pub data: Raw<'a>,
    /// Whether the client wants to be informed of gaps.
    pub positioned: bool,
    /// Whether the client may want to recover later.
    pub recoverable: bool,
    /// Whether the client wants pushes for clients that join or leave.
    pub join_leave: bool,
    /// The delta compression that the client offers.
    pub delta: Delta,
    /// The filter for publications by their tags.
    pub filter: Option<Filter<'a>>,
    /// Features of the subscription: [`SubscribeRequest::COMPACTION`], [`SubscribeRequest::REJECT_UNRECOVERED`].
    pub flag: i64,
    /// The field `type`: 0 for a stream of publications. Other types are experimental.
    pub kind: i32,
}

impl SubscribeRequest<'_> {
    /// The bit of `flag` that allows a number in place of the channel in pushes.
    pub const COMPACTION: i64 = 1;
    /// The bit of `flag` that wants error 112 if publications are missing.
    pub const REJECT_UNRECOVERED: i64 = 2;
}

/// A kind of delta compression.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Delta {
    /// Publications are sent whole.
    #[default]
    Off,
    /// Publications are sent as Fossil deltas to the publication before.
    Fossil,
    /// A kind that does not exist. Only subscriptions with another `type` than 0 can have it.
    Unknown,
}

impl Delta {
    /// Returns the kind with this name.
    pub(super) fn named(name: &str) -> Delta {
        match name {
            "" => Delta::Off,
            "fossil" => Delta::Fossil,
            _ => Delta::Unknown,
        }
    }
}

/// A filter for publications by their tags, not yet decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter<'a> {
    /// The encoding of `bytes`.
    pub(super) encoding: Encoding,
    /// A JSON text, or a Protobuf message.
    pub(super) bytes: &'a [u8],
}

impl<'a> Filter<'a> {
    /// Decodes the filter. The tree is in the form that the client has sent: operators and values are not checked.
    ///
    /// # Errors
    /// [`ErrorCode::BadRequest`] if it is malformed, or has more than 32 levels.
    pub fn tree(self) -> Result<FilterNode<'a>, ErrorCode> {
        let tree = match self.encoding {
            Encoding::Json => json::decode::filter(self.bytes),
            Encoding::Protobuf => protobuf::decode::filter(self.bytes),
        };
        tree.map_err(|_| ErrorCode::BadRequest)
    }
}

/// A node of a filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilterNode<'a> {
    /// Nothing for a comparison, or `and`, `or`, `not`.
    pub op: Cow<'a, str>,
    /// The tag to compare.
    pub key: Cow<'a, str>,
    /// The comparison: `eq`, `neq`, `in`, `nin`, `ex`, `nex`, `sw`, `ew`, `ct`, `lt`, `lte`, `gt`, `gte`.
    pub cmp: Cow<'a, str>,
    /// The value to compare with.
    pub val: Cow<'a, str>,
    /// The values to compare with, for `in` and `nin`.
    pub vals: Vec<Cow<'a, str>>,
    /// The nodes that `op` combines.
    pub nodes: Vec<FilterNode<'a>>,
}

impl FilterNode<'_> {
    /// The highest number of levels of a tree.
    pub(super) const MAX_LEVELS: u32 = 32;
}

/// The fields of `publish`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublishRequest<'a> {
    /// The channel.
    pub channel: Cow<'a, str>,
    /// The value to publish. If it is empty, the client gets error 107.
    pub data: Raw<'a>,
    /// The field `type`: 0 for a publication to a stream. Other types are experimental.
    pub kind: i32,
}

/// The fields of `history`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryRequest<'a> {
    /// The channel.
    pub channel: Cow<'a, str>,
    /// The highest number of publications. 0 asks for the position only, a negative number for all publications.
    pub limit: i32,
    /// The position to start after.
    pub since: Option<StreamPosition<'a>>,
    /// Whether the newest publication comes first, and `since` is the position to start before.
    pub reverse: bool,
}

/// A position in the stream of a channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamPosition<'a> {
    /// The number of a publication.
    pub offset: u64,
    /// The life of the stream in which the offset holds.
    pub epoch: Cow<'a, str>,
}

/// The fields of `rpc`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RpcRequest<'a> {
    /// The arguments.
    pub data: Raw<'a>,
    /// The name of the procedure, or nothing.
    pub method: Cow<'a, str>,
}

/// The fields of `sub_refresh`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubRefreshRequest<'a> {
    /// The channel.
    pub channel: Cow<'a, str>,
    /// The new token. If it is empty, the client gets error 107.
    pub token: Cow<'a, str>,
    /// The field `type`: 0 for a new token. Other types are experimental.
    pub kind: i32,
}

impl<'a> Command<'a> {
    /// Checks what holds for commands in both encodings. `has_ping` is whether the command has a request `ping`, which takes
    /// precedence over all requests except for `connect`.
    ///
    /// # Errors
    /// The fault of the command.
    pub(super) fn check(
        id: u32,
        request: Option<Request<'a>>,
        has_ping: bool,
    ) -> Result<Command<'a>, Malformed> {
        if has_ping && !matches!(request, Some(Request::Connect(_))) {
            return Err(Malformed::Request);
        }
        let Some(request) = request else {
            return if id == 0 {
                Ok(Command { id, request: Request::Pong })
            } else {
                Err(Malformed::Request)
            };
        };
        if id == 0 && !matches!(request, Request::Send { .. }) {
            return Err(Malformed::Id);
        }
        match &request {
            Request::Subscribe(SubscribeRequest { channel, .. })
            | Request::Unsubscribe { channel }
            | Request::Publish(PublishRequest { channel, .. })
            | Request::Presence { channel }
            | Request::PresenceStats { channel }
            | Request::History(HistoryRequest { channel, .. })
            | Request::SubRefresh(SubRefreshRequest { channel, .. })
                if channel.is_empty() =>
            {
                Err(Malformed::Channel)
            }
            Request::Subscribe(SubscribeRequest { kind: 0, delta: Delta::Unknown, .. }) => {
                Err(Malformed::Delta)
            }
            Request::Refresh { token } if token.is_empty() => Err(Malformed::Token),
            Request::Pong
            | Request::Connect(_)
            | Request::Subscribe(_)
            | Request::Unsubscribe { .. }
            | Request::Publish(_)
            | Request::Presence { .. }
            | Request::PresenceStats { .. }
            | Request::History(_)
            | Request::Rpc(_)
            | Request::Send { .. }
            | Request::Refresh { .. }
            | Request::SubRefresh(_) => Ok(Command { id, request }),
        }
    }
}

impl Request<'_> {
    /// Returns the channel that the request is about, if it is about one.
    pub(crate) fn channel(&self) -> Option<&str> {
        match self {
            Request::Subscribe(SubscribeRequest { channel, .. })
            | Request::Unsubscribe { channel }
            | Request::Publish(PublishRequest { channel, .. })
            | Request::Presence { channel }
            | Request::PresenceStats { channel }
            | Request::History(HistoryRequest { channel, .. })
            | Request::SubRefresh(SubRefreshRequest { channel, .. }) => Some(channel),
            Request::Pong
            | Request::Connect(_)
            | Request::Rpc(_)
            | Request::Send { .. }
            | Request::Refresh { .. } => None,
        }
    }

    /// Returns whether the request contains a token.
    pub(crate) fn has_token(&self) -> bool {
        match self {
            Request::Connect(ConnectRequest { token, subs, .. }) => {
                !token.is_empty() || subs.iter().any(|(_, request)| !request.token.is_empty())
            }
            Request::Subscribe(SubscribeRequest { token, .. }) => !token.is_empty(),
            Request::Refresh { .. } | Request::SubRefresh(_) => true,
            Request::Pong
            | Request::Unsubscribe { .. }
            | Request::Publish(_)
            | Request::Presence { .. }
            | Request::PresenceStats { .. }
            | Request::History(_)
            | Request::Rpc(_)
            | Request::Send { .. } => false,
        }
    }

    /// Overwrites the tokens that were copied, because escapes in them were decoded. The others are in the message.
    pub(crate) fn wipe_tokens(&mut self) {
        let wipe = |token: &mut Cow<'_, str>| {
            if let Cow::Owned(token) = token {
                token.zeroize();
            }
        };
        match self {
            Request::Connect(ConnectRequest { token, subs, .. }) => {
                wipe(token);
                subs.iter_mut().for_each(|(_, request)| wipe(&mut request.token));
            }
            Request::Subscribe(SubscribeRequest { token, .. })
            | Request::Refresh { token }
            | Request::SubRefresh(SubRefreshRequest { token, .. }) => wipe(token),
            Request::Pong
            | Request::Unsubscribe { .. }
            | Request::Publish(_)
            | Request::Presence { .. }
            | Request::PresenceStats { .. }
            | Request::History(_)
            | Request::Rpc(_)
            | Request::Send { .. } => {}
        }
    }

    /// Returns the rank of the request if a command has several: the lowest counts, and the others are ignored.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Request::Connect(_) => 0,
            Request::Subscribe(_) => 1,
            Request::Unsubscribe { .. } => 2,
            Request::Publish(_) => 3,
            Request::Presence { .. } => 4,
            Request::PresenceStats { .. } => 5,
            Request::History(_) => 6,
            Request::Rpc(_) => 7,
            Request::Send { .. } => 8,
            Request::Refresh { .. } => 9,
            Request::SubRefresh(_) => 10,
            Request::Pong => 11,
        }
    }
}
