//! NATS as a source of publications.
//!
//! * `settings`: where messages come from.
//! * `protocol`: bytes to events, and commands to bytes.
//! * `pings`: the questions that notice a server without an answer.
//! * `message`: a message as the channels read it, and the answer to it.
//! * `consumer`: the thread. It connects, publishes what it receives, and answers requests.

mod consumer;
mod message;
mod pings;
mod protocol;
mod settings;

use super::Context;
use consumer::Consumer;
pub use settings::NatsSettings;
pub(crate) use settings::{MAX_QUEUE, MAX_SUBJECT, NatsUrl, QUEUE_GROUP, SUBJECT};

/// Receives messages until the source is stopped.
pub(super) fn run(settings: NatsSettings, context: Context) {
    Consumer::new(settings, context).run();
}
