//! The client protocol in JSON: commands, replies and the values in them. Several commands or replies are the lines of one
//! message.

use std::collections::BTreeMap;
use std::ops::Not;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// JSON text.
pub type Json = Box<RawValue>;

/// A place in the stream of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The offset of the last publication.
    #[serde(default)]
    pub offset: u64,
    /// The epoch of the stream. Offsets of two epochs cannot be compared.
    #[serde(default)]
    pub epoch: String,
}

/// A client that has published, is present, has joined or has left.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct ClientInfo {
    /// The id of its user.
    #[serde(default)]
    pub user: String,
    /// The id of its connection.
    #[serde(default)]
    pub client: String,
    /// The server's data about the connection, for example the name of the user.
    #[serde(default)]
    pub conn_info: Option<Json>,
    /// The server's data about the subscription.
    #[serde(default)]
    pub chan_info: Option<Json>,
}

/// A message in a channel.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct Publication {
    /// The content.
    pub data: Json,
    /// The offset. 0: the channel has no history.
    #[serde(default)]
    pub offset: u64,
    /// The client that has published it. `None` for a backend.
    #[serde(default)]
    pub info: Option<ClientInfo>,
    /// Tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// The time at which the server has published it, in milliseconds since the Unix epoch, if it states it.
    #[serde(default)]
    pub time: i64,
}

/// Publications of the past.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct History {
    /// The publications, in the order that was asked for.
    #[serde(default)]
    pub publications: Vec<Publication>,
    /// The position of the newest publication.
    #[serde(flatten)]
    pub position: Position,
}

/// The number of clients in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct PresenceStats {
    /// Connections.
    #[serde(default)]
    pub num_clients: u32,
    /// Users.
    #[serde(default)]
    pub num_users: u32,
}

/// An error reply of the server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct ServerError {
    /// The code, for example 103: permission denied.
    #[serde(default)]
    pub code: u32,
    /// The text.
    #[serde(default)]
    pub message: String,
    /// Whether the same command may succeed later.
    #[serde(default)]
    pub temporary: bool,
}

impl ServerError {
    /// The code of an expired token.
    pub const TOKEN_EXPIRED: u32 = 109;

    /// Returns whether the command should be repeated: the error is temporary, or the token has expired.
    pub(crate) fn may_retry(&self) -> bool {
        self.temporary || self.code < 100 || self.code == ServerError::TOKEN_EXPIRED
    }
}

/// A command.
#[derive(Debug, Serialize)]
pub(crate) struct Command<'c> {
    pub(crate) id: u32,
    #[serde(flatten)]
    pub(crate) method: Method<'c>,
}

/// The method of a [`Command`], with its parameters.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Method<'c> {
    Connect(ConnectRequest<'c>),
    Subscribe(SubscribeRequest<'c>),
    Unsubscribe(ChannelRequest<'c>),
    Publish(PublishRequest<'c>),
    Presence(ChannelRequest<'c>),
    PresenceStats(ChannelRequest<'c>),
    History(HistoryRequest<'c>),
    Rpc(RpcRequest<'c>),
    Refresh(RefreshRequest<'c>),
    SubRefresh(SubRefreshRequest<'c>),
}

#[derive(Debug, Serialize)]
pub(crate) struct ConnectRequest<'c> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<&'c str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<&'c RawValue>,
    /// The positions of subscriptions that the server has made.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) subs: BTreeMap<&'c str, SubscribeRequest<'c>>,
    pub(crate) name: &'c str,
    pub(crate) version: &'c str,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct SubscribeRequest<'c> {
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) channel: &'c str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<&'c str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<&'c RawValue>,
    #[serde(skip_serializing_if = "Not::not")]
    pub(crate) recover: bool,
    #[serde(flatten)]
    pub(crate) position: Option<&'c Position>,
    #[serde(skip_serializing_if = "Not::not")]
    pub(crate) recoverable: bool,
    #[serde(skip_serializing_if = "Not::not")]
    pub(crate) join_leave: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct ChannelRequest<'c> {
    pub(crate) channel: &'c str,
}

#[derive(Debug, Serialize)]
pub(crate) struct PublishRequest<'c> {
    pub(crate) channel: &'c str,
    pub(crate) data: &'c RawValue,
}

#[derive(Debug, Serialize)]
pub(crate) struct HistoryRequest<'c> {
    pub(crate) channel: &'c str,
    pub(crate) limit: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<&'c Position>,
    #[serde(skip_serializing_if = "Not::not")]
    pub(crate) reverse: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct RpcRequest<'c> {
    pub(crate) method: &'c str,
    pub(crate) data: &'c RawValue,
}

#[derive(Debug, Serialize)]
pub(crate) struct RefreshRequest<'c> {
    pub(crate) token: &'c str,
}

#[derive(Debug, Serialize)]
pub(crate) struct SubRefreshRequest<'c> {
    pub(crate) channel: &'c str,
    pub(crate) token: &'c str,
}

/// A reply, or a push, or an empty object: a ping.
// Not `default` as a whole: an array would be a reply, too.
#[derive(Debug, Deserialize)]
pub(crate) struct Reply {
    #[serde(default)]
    pub(crate) id: u32,
    pub(crate) error: Option<ServerError>,
    pub(crate) push: Option<Push>,
    pub(crate) connect: Option<ConnectResult>,
    pub(crate) subscribe: Option<SubscribeResult>,
    pub(crate) presence: Option<PresenceResult>,
    pub(crate) presence_stats: Option<PresenceStats>,
    pub(crate) history: Option<History>,
    pub(crate) rpc: Option<RpcResult>,
    pub(crate) refresh: Option<Expiry>,
    pub(crate) sub_refresh: Option<Expiry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ConnectResult {
    pub(crate) client: String,
    pub(crate) data: Option<Json>,
    pub(crate) subs: BTreeMap<String, SubscribeResult>,
    pub(crate) ping: u32,
    pub(crate) pong: bool,
    #[serde(flatten)]
    pub(crate) expiry: Expiry,
}

/// The remaining lifetime of a token.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(default)]
pub(crate) struct Expiry {
    pub(crate) expires: bool,
    /// In seconds.
    pub(crate) ttl: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SubscribeResult {
    pub(crate) expires: bool,
    pub(crate) ttl: u32,
    pub(crate) recoverable: bool,
    pub(crate) epoch: String,
    pub(crate) offset: u64,
    pub(crate) publications: Vec<Publication>,
    pub(crate) recovered: bool,
    pub(crate) was_recovering: bool,
    pub(crate) data: Option<Json>,
}

impl SubscribeResult {
    /// Returns the position, if the channel has a history.
    pub(crate) fn position(&self) -> Option<Position> {
        self.recoverable.then(|| Position { offset: self.offset, epoch: self.epoch.clone() })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PresenceResult {
    pub(crate) presence: BTreeMap<String, ClientInfo>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RpcResult {
    pub(crate) data: Option<Json>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Push {
    pub(crate) channel: String,
    #[serde(rename = "pub")]
    pub(crate) publication: Option<Publication>,
    pub(crate) join: Option<InfoPush>,
    pub(crate) leave: Option<InfoPush>,
    pub(crate) unsubscribe: Option<UnsubscribePush>,
    pub(crate) message: Option<MessagePush>,
    pub(crate) subscribe: Option<SubscribePush>,
    pub(crate) refresh: Option<Expiry>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct InfoPush {
    pub(crate) info: ClientInfo,
}

#[derive(Debug, Deserialize)]
pub(crate) struct MessagePush {
    pub(crate) data: Json,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct UnsubscribePush {
    pub(crate) code: u16,
    pub(crate) reason: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SubscribePush {
    pub(crate) recoverable: bool,
    pub(crate) epoch: String,
    pub(crate) offset: u64,
    pub(crate) data: Option<Json>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        RawValue::from_string(text.to_owned()).expect("JSON")
    }

    #[test]
    fn commands_have_the_form_of_the_protocol() {
        let position = Position { offset: 7, epoch: "abcdefgh".into() };
        let subscribe = SubscribeRequest {
            channel: "news",
            recover: true,
            position: Some(&position),
            recoverable: true,
            ..SubscribeRequest::default()
        };
        let command = Command { id: 3, method: Method::Subscribe(subscribe) };
        assert_eq!(
            serde_json::to_string(&command).expect("JSON"),
            r#"{"id":3,"subscribe":{"channel":"news","recover":true,"offset":7,"epoch":"abcdefgh","recoverable":true}}"#
        );
        let data = json(r#"{"text": "Hello"}"#);
        let publish = PublishRequest { channel: "news", data: &data };
        let command = Command { id: 4, method: Method::Publish(publish) };
        assert_eq!(
            serde_json::to_string(&command).expect("JSON"),
            r#"{"id":4,"publish":{"channel":"news","data":{"text": "Hello"}}}"#
        );
    }

    #[test]
    fn replies_are_read_with_unknown_members() {
        let reply: Reply = serde_json::from_str(
            r##"{"id":1,"connect":{"client":"c","version":"v","ping":25,"pong":true,"expires":true,"ttl":5,"new":1,
                "subs":{"#1":{"recoverable":true,"epoch":"e","offset":2}}}}"##,
        ).expect("JSON");
        let connect = reply.connect.expect("a result");
        assert_eq!((reply.id, connect.ping, connect.pong, connect.expiry.ttl), (1, 25, true, 5));
        let position = connect.subs["#1"].position();
        assert_eq!(position, Some(Position { offset: 2, epoch: "e".into() }));
        let reply: Reply =
            serde_json::from_str(r#"{"push":{"channel":"a","pub":{"data":[1, 2],"offset":9}}}"#)
                .expect("JSON");
        let publication = reply.push.expect("a push").publication.expect("a publication");
        assert_eq!((publication.data.get(), publication.offset), ("[1, 2]", 9));
    }
}
