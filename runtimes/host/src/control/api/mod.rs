//! The methods of the server API: requests and results have the form of Centrifugo, so its server SDKs can be used.
//!
//! * `params` reads the parameters of a method, `error` reports that it was not performed.
//! * `publish` publishes, `channel` finds channels.

mod channel;
mod error;
mod params;
mod publish;

pub(super) use error::{ErrorMode, MethodError};
pub(super) use params::Params;
pub(super) use publish::{broadcast, publish};

/// A method of the server API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// Publishes to a channel.
    Publish,
    /// Publishes to several channels.
    Broadcast,
}
