//! The metrics of a message broker.

use std::fmt;

#[cfg(feature = "amqp")]
use postern_channels::source::Poison;

use super::{Exposition, Families};

impl Exposition {
    /// Writes the figures of a source.
    #[cfg(feature = "amqp")]
    pub(super) fn source(&self, families: &mut Families<'_>) -> fmt::Result {
        let source = self.process.source;
        families.optional_gauge(
            "source_up",
            "1 while messages of the broker of POSTERN_AMQP_URL can be received. Without a broker it has no sample",
            source.map(|stats| u32::from(stats.is_up)),
        )?;
        let stats = source.unwrap_or_default();
        let dead = stats.dead.iter().sum();
        families.counters(
            "source_messages",
            "Messages of the broker of POSTERN_AMQP_URL: published; not published because their id or version was published before \
             (duplicate) or they were too old (expired); or rejected because they can never be published (dead)",
            [
                ("published", stats.published),
                ("duplicate", stats.duplicates),
                ("expired", stats.expired),
                ("dead", dead),
            ]
            .map(|(outcome, count)| ([("outcome", outcome)], count)),
        )?;
        families.counters(
            "source_dead",
            "Messages of the broker of POSTERN_AMQP_URL that were rejected, by reason",
            Poison::ALL.iter().zip(stats.dead).map(|(poison, count)| ([("reason", poison.label())], count)),
        )?;
        families.gauge(
            "source_unacked",
            "Messages of the broker of POSTERN_AMQP_URL that are received and not acknowledged",
            stats.unacknowledged,
        )?;
        families.counter(
            "source_failures",
            "Lost connections to the broker of POSTERN_AMQP_URL, and failed attempts to connect",
            stats.failures,
        )
    }

    #[cfg(not(feature = "amqp"))]
    pub(super) fn source(&self, _: &mut Families<'_>) -> fmt::Result {
        let _ = self.process.source;
        Ok(())
    }
}
