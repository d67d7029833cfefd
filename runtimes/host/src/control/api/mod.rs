//! The methods of the server API: requests and results have the form of Centrifugo, so its server SDKs can be used.
//!
//! * `call` parses requests with one or more calls of methods.
//! * `params` reads the parameters of a method, `result` writes its result, `error` reports that it was not performed.
//! * `publish` publishes, `channel` answers queries about channels, `glob` compares their names with patterns.
//! * `clients` makes commands to clients, which the workers execute.

mod call;
mod channel;
mod clients;
mod error;
mod glob;
mod params;
mod publish;
mod result;

pub(super) use call::{Call, batch, lines, single};
pub(super) use channel::{channels, history, history_remove, presence, presence_stats};
pub(super) use clients::ClientCall;
pub(super) use error::{ErrorMode, MethodError, MethodErrorCode};
pub(super) use publish::{broadcast, publish};
pub(super) use result::{MethodResult, named, outcome, raw};

/// A method of the server API: the last part of its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Publish,
    Broadcast,
    Subscribe,
    Unsubscribe,
    Disconnect,
    Refresh,
    Presence,
    PresenceStats,
    History,
    HistoryRemove,
    Channels,
    Info,
    Send,
}

impl Method {
    /// All methods with their names.
    pub(super) const ALL: [(&str, Method); 13] = [
        ("publish", Method::Publish),
        ("broadcast", Method::Broadcast),
        ("subscribe", Method::Subscribe),
        ("unsubscribe", Method::Unsubscribe),
        ("disconnect", Method::Disconnect),
        ("refresh", Method::Refresh),
        ("presence", Method::Presence),
        ("presence_stats", Method::PresenceStats),
        ("history", Method::History),
        ("history_remove", Method::HistoryRemove),
        ("channels", Method::Channels),
        ("info", Method::Info),
        ("send", Method::Send),
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
