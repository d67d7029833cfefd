//! The stub for builds without the feature `amqp`, in which the settings refuse a URL.

use super::Context;

/// The RabbitMQ that messages come from. This build cannot have such settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AmqpSettings {}

pub(super) fn run(settings: AmqpSettings, _: Context) {
    match settings {}
}

/// The defaults of the settings, as in a build with the feature.
pub(crate) const EXCHANGE: &str = "postern";
pub(crate) const QUEUE: &str = "postern.source";
pub(crate) const DEAD_LETTER: &str = "postern.dead";
pub(crate) const PREFETCH: &str = "200";
