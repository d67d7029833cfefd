//! The metrics of events for a backend, and of its decisions.

use std::fmt;

use super::{Exposition, Families};
#[cfg(feature = "hooks")]
use crate::hooks::{HOOKS, HookStats, OUTCOMES};

impl Exposition {
    #[cfg(feature = "hooks")]
    pub(super) fn hooks(&self, families: &mut Families<'_>) -> fmt::Result {
        let HookStats { delivered, dropped, refused, expired, failures, queued, decisions } =
            self.process.hooks.clone().unwrap_or_default();
        families.counters(
            "hook_events",
            "Events for the backend of POSTERN_HOOK_URL: delivered; or lost because too many waited (dropped), the backend refused \
             them (refused), or it did not accept them within 15 minutes (expired)",
            [("delivered", delivered), ("dropped", dropped), ("refused", refused), ("expired", expired)]
                .map(|(outcome, count)| ([("outcome", outcome)], count)),
        )?;
        families.counter(
            "hook_failures",
            "Requests that the backend of POSTERN_HOOK_URL did not accept",
            failures,
        )?;
        families.gauge(
            "hook_queued_events",
            "Events that wait for the backend of POSTERN_HOOK_URL",
            queued,
        )?;
        let samples = HOOKS.iter().zip(decisions.outcomes).flat_map(|(&hook, outcomes)| {
            let of_outcome = move |(&outcome, count)| ([("hook", hook), ("outcome", outcome)], count);
            OUTCOMES.iter().zip(outcomes).map(of_outcome)
        });
        families.counters(
            "hook_decisions",
            "Commands about which the backend of POSTERN_HOOK_URL was asked: allowed or refused; or without a decision, because the \
             request failed (failed), took longer than POSTERN_HOOK_TIMEOUT (timeout), or too many waited (overload)",
            samples,
        )?;
        families.histogram(
            "hook_decision_seconds",
            "Time from a command to the answer of the backend of POSTERN_HOOK_URL",
            &decisions.times,
        )?;
        families.gauge("hook_decisions_in_flight", "Commands that wait for a decision", decisions.in_flight)
    }

    #[cfg(not(feature = "hooks"))]
    pub(super) fn hooks(&self, _: &mut Families<'_>) -> fmt::Result {
        Ok(())
    }
}

/// Returns figures for the test of the text.
#[cfg(all(test, feature = "hooks"))]
pub(super) fn sample() -> HookStats {
    let mut decisions =
        crate::hooks::DecisionStats { in_flight: 3, ..crate::hooks::DecisionStats::default() };
    decisions.outcomes[2][4] = 7;
    decisions.times.observe(std::time::Duration::from_millis(25));
    HookStats { delivered: 21, dropped: 22, refused: 23, expired: 24, failures: 25, queued: 26, decisions }
}
