//! The methods of the server API: requests and results have the form of Centrifugo, so its server SDKs can be used.
//!
//! * `call` parses requests with one or more calls of methods.
//! * `params` reads the parameters of a method, `result` writes its result, `error` reports that it was not performed.
//! * `publish` publishes, `channel` answers queries about channels. `listed` lists them, `glob` compares their names with patterns.
//! * `revoke` parses a revocation.
//! * `remote` has the messages of commands to the clients of other nodes.
//! * `instances` describes this instance and the others.
//! * `clients` makes commands to clients, which the workers execute. `connections` lists connections.

mod call;
mod channel;
mod clients;
mod connections;
mod error;
mod glob;
mod instances;
mod listed;
mod others;
mod params;
mod publish;
mod remote;
mod result;
mod revoke;

pub(super) use call::{Call, batch, lines, single};
pub(super) use channel::{history, history_remove, presence, presence_stats};
pub(super) use clients::ClientCall;
pub(super) use connections::{Listing, listing};
pub(super) use error::{ErrorMode, MethodError, MethodErrorCode};
pub(crate) use instances::{Instance, describe};
pub(super) use instances::{InstanceInfo, info};
pub(super) use listed::channels;
pub(super) use others::Others;
pub(super) use params::Params;
pub(super) use publish::{broadcast, publish};
pub(super) use remote::of_revocation;
pub(crate) use remote::parse as parse_remote;
pub(super) use result::{MethodResult, named, outcome, raw};
pub(super) use revoke::{KnownTokens, revocation};

/// A method of the server API: the last part of its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// A command to the clients of a target.
    Clients(ClientMethod),
    /// Any other method.
    Node(NodeMethod),
}

/// A method that the workers perform for the clients of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientMethod {
    Subscribe,
    Unsubscribe,
    Disconnect,
    Refresh,
    Send,
}

/// A method that concerns channels or the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NodeMethod {
    Publish,
    Broadcast,
    Presence,
    PresenceStats,
    History,
    HistoryRemove,
    Channels,
    Info,
    Connections,
    Drain,
    Revoke,
}

impl Method {
    /// All methods with their names.
    pub(super) const ALL: [(&str, Method); 16] = [
        ("publish", Method::Node(NodeMethod::Publish)),
        ("broadcast", Method::Node(NodeMethod::Broadcast)),
        ("subscribe", Method::Clients(ClientMethod::Subscribe)),
        ("unsubscribe", Method::Clients(ClientMethod::Unsubscribe)),
        ("disconnect", Method::Clients(ClientMethod::Disconnect)),
        ("refresh", Method::Clients(ClientMethod::Refresh)),
        ("presence", Method::Node(NodeMethod::Presence)),
        ("presence_stats", Method::Node(NodeMethod::PresenceStats)),
        ("history", Method::Node(NodeMethod::History)),
        ("history_remove", Method::Node(NodeMethod::HistoryRemove)),
        ("channels", Method::Node(NodeMethod::Channels)),
        ("info", Method::Node(NodeMethod::Info)),
        ("send", Method::Clients(ClientMethod::Send)),
        ("connections", Method::Node(NodeMethod::Connections)),
        ("drain", Method::Node(NodeMethod::Drain)),
        ("revoke", Method::Node(NodeMethod::Revoke)),
    ];

    /// Returns the method with a name.
    pub(super) fn from_name(name: &str) -> Option<Method> {
        Method::ALL.iter().find(|(known, _)| *known == name).map(|&(_, method)| method)
    }

    pub(super) fn name(self) -> &'static str {
        Method::ALL.iter().find(|(_, method)| *method == self).map_or("", |&(name, _)| name)
    }

    /// Returns the names of all methods, for errors.
    pub(super) fn names() -> String {
        Method::ALL.map(|(name, _)| name).join(", ")
    }
}
