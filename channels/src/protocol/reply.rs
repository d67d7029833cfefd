//! Replies and pushes: what the server sends.

use crate::ErrorCode;

/// A reply to a command, a push or a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply<'a> {
    /// Asks a client for a pong.
    Ping,
    /// The result of a command.
    Answer {
        /// The id of the command.
        id: u32,
        /// The result.
        answer: Answer<'a>,
    },
    /// The error that a command has caused.
    Error {
        /// The id of the command.
        id: u32,
        /// The error.
        error: ReplyError<'a>,
    },
    /// A message that no command has asked for.
    Push(Push<'a>),
}

/// The result of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// To `connect`.
    Connect(ConnectResult<'a>),
    /// To `subscribe`.
    Subscribe(SubscribeResult<'a>),
    /// To `unsubscribe`.
    Unsubscribe,
    /// To `publish`.
    Publish,
    /// To `presence`.
    Presence {
        /// The clients in the channel, by the ids of their connections.
        presence: &'a [(&'a str, ClientInfo<'a>)],
    },
    /// To `presence_stats`.
    PresenceStats {
        /// The number of connections in the channel.
        clients: u32,
        /// The number of different users in the channel.
        users: u32,
    },
    /// To `history`.
    History(HistoryResult<'a>),
    /// To `rpc`.
    Rpc {
        /// The value that the application returns.
        data: &'a [u8],
    },
    /// To `refresh`.
    Refresh {
        /// The id of the connection.
        client: &'a str,
        /// The version of the server.
        version: &'a str,
        /// The seconds until the connection expires, if it does.
        expires: Option<u32>,
    },
    /// To `sub_refresh`.
    SubRefresh {
        /// The seconds until the subscription expires, if it does.
        expires: Option<u32>,
    },
}

/// An error reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyError<'a> {
    /// The number: of an [`ErrorCode`], or from 400 to 1999 for errors of the application.
    pub code: u32,
    /// The text.
    pub message: &'a str,
    /// Whether the same request may succeed later.
    pub is_temporary: bool,
}

impl From<ErrorCode> for ReplyError<'static> {
    fn from(code: ErrorCode) -> Self {
        ReplyError { code: code.number(), message: code.message(), is_temporary: code.is_temporary() }
    }
}

/// The result of `connect`. Empty strings and zeros are not sent.
///
/// All values of the application in this module are JSON texts without line breaks, as [`Raw::compact`](super::Raw::compact) and
/// [`Raw::one_line`](super::Raw::one_line) return them.
/// For Protobuf clients they may be any bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConnectResult<'a> {
    /// The id of the connection. It is unique.
    pub client: &'a str,
    /// The version of the server. Some SDKs require it not to be empty.
    pub version: &'a str,
    /// The seconds after which the client must have sent another token, if it must.
    pub expires: Option<u32>,
    /// A value of the application.
    pub data: &'a [u8],
    /// The server-side subscriptions, by channel.
    pub subs: &'a [(&'a str, SubscribeResult<'a>)],
    /// The interval of the server's pings, in seconds.
    pub ping: u32,
    /// Whether the client must answer pings.
    pub pong: bool,
    /// The session, for transports without commands.
    pub session: &'a str,
    /// The id of the server.
    pub node: &'a str,
    /// The time of the server as milliseconds since 1970.
    pub time: i64,
}

/// The result of `subscribe`, and the state of a server-side subscription after `connect`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SubscribeResult<'a> {
    /// The seconds after which the client must have sent another token, if it must.
    pub expires: Option<u32>,
    /// Whether the subscription can be recovered.
    pub recoverable: bool,
    /// The epoch of the stream.
    pub epoch: &'a str,
    /// The publications after the position of the client.
    pub publications: &'a [Publication<'a>],
    /// Whether no publication is missing.
    pub recovered: bool,
    /// The position of the newest publication; if publications were recovered, the position that the client has sent.
    pub offset: u64,
    /// Whether the client follows offsets.
    pub positioned: bool,
    /// A value of the application.
    pub data: &'a [u8],
    /// Whether the client has asked for a recovery.
    pub was_recovering: bool,
    /// Whether delta compression is on.
    pub delta: bool,
    /// The number that pushes have in place of the channel, or 0.
    pub id: i64,
}

/// The result of `history`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HistoryResult<'a> {
    /// The publications.
    pub publications: &'a [Publication<'a>],
    /// The epoch of the stream.
    pub epoch: &'a str,
    /// The offset of the newest publication of the stream.
    pub offset: u64,
}

/// A message that no command has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Push<'a> {
    /// The channel.
    pub topic: Topic<'a>,
    /// The content.
    pub body: PushBody<'a>,
}

/// The channel of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic<'a> {
    /// None: the push is about the connection.
    Connection,
    /// The name of a channel.
    Channel(&'a str),
    /// The number of a channel, as in [`SubscribeResult::id`].
    Id(i64),
}

/// The content of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushBody<'a> {
    /// A publication in a channel.
    Publication(Publication<'a>),
    /// A client has subscribed to a channel.
    Join(ClientInfo<'a>),
    /// A client has unsubscribed from a channel.
    Leave(ClientInfo<'a>),
    /// The server has ended the subscription to a channel.
    Unsubscribe {
        /// The code. After codes from 2500, clients subscribe again.
        code: u32,
        /// The reason.
        reason: &'a str,
    },
    /// A message of the application.
    Message {
        /// The value.
        data: &'a [u8],
    },
    /// The server has subscribed the client to a channel.
    Subscribe(SubscribePush<'a>),
    /// The first push on a connection without commands.
    Connect(ConnectResult<'a>),
    /// The last push on a connection without commands.
    Disconnect {
        /// The code of the Close.
        code: u32,
        /// The reason of the Close.
        reason: &'a str,
    },
    /// The server has changed when the connection expires.
    Refresh {
        /// The seconds until the connection expires, if it does.
        expires: Option<u32>,
    },
}

/// A server-side subscription of an open connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SubscribePush<'a> {
    /// Whether the subscription can be recovered.
    pub recoverable: bool,
    /// The epoch of the stream.
    pub epoch: &'a str,
    /// The offset of the newest publication.
    pub offset: u64,
    /// Whether the client follows offsets.
    pub positioned: bool,
    /// A value of the application.
    pub data: &'a [u8],
}

/// A publication.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Publication<'a> {
    /// The value.
    pub data: Data<'a>,
    /// The publisher, if it is a client.
    pub info: Option<ClientInfo<'a>>,
    /// The number of the publication in the stream of the channel, or 0.
    pub offset: u64,
    /// The tags.
    pub tags: Tags<'a>,
    /// Whether `data` is a delta to the publication before.
    pub delta: bool,
    /// The epoch of the stream, or nothing.
    pub epoch: &'a str,
}

/// Tags of a publication: names and values.
pub type Tags<'a> = &'a [(Box<str>, Box<str>)];

/// The value of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data<'a> {
    /// A value that JSON replies contain unchanged.
    Raw(&'a [u8]),
    /// A value that JSON replies contain as a JSON string: all publications of subscriptions with delta compression.
    Text(&'a str),
}

impl Default for Data<'_> {
    fn default() -> Self {
        Data::Raw(&[])
    }
}

/// A client as other clients see it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClientInfo<'a> {
    /// The id of the user.
    pub user: &'a str,
    /// The id of the connection.
    pub client: &'a str,
    /// A value about the connection, or nothing.
    pub conn_info: &'a [u8],
    /// A value about the subscription, or nothing.
    pub chan_info: &'a [u8],
}
