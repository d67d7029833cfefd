//! The metrics of message brokers.

use std::fmt;

use postern_channels::source::Poison;

use super::{Exposition, Families};

impl Exposition {
    /// Writes the figures of each broker. Without brokers there are no samples.
    pub(super) fn source(&self, families: &mut Families<'_>) -> fmt::Result {
        let all = || self.process.source.iter().map(|stats| (("broker", stats.broker.label()), stats));
        families.gauges(
            "source_up",
            "1 while messages of the broker can be received. Without POSTERN_AMQP_URL and POSTERN_NATS_URL it has no sample",
            all().map(|(broker, stats)| ([broker], usize::from(stats.is_up))),
        )?;
        families.counters(
            "source_messages",
            "Messages of the broker: published; not published because their id or version was published before (duplicate) or they \
             were too old (expired) or the engine did not accept them and the broker does not repeat them (lost); or rejected \
             because they can never be published (dead)",
            all().flat_map(|(broker, stats)| {
                [
                    ("published", stats.published),
                    ("duplicate", stats.duplicates),
                    ("expired", stats.expired),
                    ("lost", stats.lost),
                    ("dead", stats.dead.iter().sum()),
                ]
                .map(|(outcome, count)| ([broker, ("outcome", outcome)], count))
            }),
        )?;
        families.counters(
            "source_dead",
            "Messages of the broker that were rejected, by reason",
            all().flat_map(|(broker, stats)| {
                let sample =
                    move |(poison, count): (&Poison, u64)| ([broker, ("reason", poison.label())], count);
                Poison::ALL.iter().zip(stats.dead).map(sample)
            }),
        )?;
        families.gauges(
            "source_unacked",
            "Messages of the broker that are received and not acknowledged",
            all().map(|(broker, stats)| ([broker], stats.unacknowledged)),
        )?;
        families.counters(
            "source_failures",
            "Lost connections to the broker, and failed attempts to connect",
            all().map(|(broker, stats)| ([broker], stats.failures)),
        )
    }
}
