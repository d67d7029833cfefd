//! The metrics of the engine of channels.

use std::fmt;

#[cfg(feature = "redis")]
use postern_channels::relay::command::Cause;

use super::{Exposition, Families};

impl Exposition {
    #[cfg(feature = "redis")]
    pub(super) fn engine(&self, families: &mut Families<'_>) -> fmt::Result {
        let stats = self.process.channels.engine.unwrap_or_default();
        let link = stats.link;
        families.gauge(
            "engine_up",
            "1 while channels are connected with Redis, and all of them are subscribed there",
            u32::from(link.is_live),
        )?;
        families.counter("engine_connections", "Connections to Redis that were opened", link.connections)?;
        families.counters(
            "engine_failures",
            "Lost connections to Redis and failed attempts, by reason",
            Cause::ALL.iter().zip(link.failures).map(|((_, reason), count)| ([("reason", *reason)], count)),
        )?;
        for (name, help, value) in [
            (
                "engine_probe_timeouts",
                "Messages to this node that Redis has accepted and not delivered",
                link.lost_probes,
            ),
            ("engine_command_timeouts", "Replies of Redis that were late", link.timeouts),
            ("engine_script_reloads", "Commands for which Redis had forgotten the script", link.reloads),
            ("engine_reads", "Histories that were read from Redis for a copy on this node", stats.reads),
            ("engine_epochs_rotated", "Channels that were found with another epoch", stats.rotated_epochs),
            (
                "engine_foreign_messages",
                "Messages of Redis that are not of a node, or damaged",
                stats.foreign_messages,
            ),
        ] {
            families.counter(name, help, value)?;
        }
        families.counters(
            "engine_gaps",
            "Gaps of channels on this node: covered by the history, or told to subscribers",
            [("covered", stats.covered_gaps), ("told", stats.told_gaps)]
                .map(|(outcome, count)| ([("outcome", outcome)], count)),
        )?;
        for (name, help, value) in [
            ("engine_commands_in_flight", "Commands that wait for replies of Redis", link.in_flight),
            ("engine_topics", "Names that are subscribed in Redis, or shall be", link.topics),
            (
                "engine_unanswered_publications",
                "Publications of this node without an answer",
                stats.unanswered,
            ),
            ("engine_waiting_requests", "Requests that wait until their channel is ready", stats.waiting),
        ] {
            families.gauge(name, help, value)?;
        }
        Ok(())
    }

    #[cfg(not(feature = "redis"))]
    pub(super) fn engine(&self, _: &mut Families<'_>) -> fmt::Result {
        Ok(())
    }
}
