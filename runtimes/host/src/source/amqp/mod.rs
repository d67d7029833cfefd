//! RabbitMQ as a source of publications.
//!
//! * `settings`: where messages come from.
//! * `topology`: the exchange and the queues, and their declaration.
//! * `delivery`: a delivery of the client library as the channels read it.
//! * `executor`: runs the tasks of the client library on the thread of the source.
//! * `consumer`: the thread. It connects, publishes what it receives, and acknowledges it.

mod consumer;
mod delivery;
mod executor;
mod settings;
mod topology;

use super::Context;
use consumer::Consumer;
pub use settings::AmqpSettings;
pub(crate) use settings::{BrokerUrl, DEAD_LETTER, EXCHANGE, PREFETCH, QUEUE};

/// Receives messages until the source is stopped.
pub(super) fn run(settings: AmqpSettings, context: Context) {
    Consumer::new(settings, context).run();
}
