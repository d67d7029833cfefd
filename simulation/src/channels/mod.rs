//! Channels in the simulation: clients of an SDK, publishers, the channels of a node, and restarts of it.
//!
//! * `plan`: what a seed chooses: channels, limits, faults, numbers.
//! * `world`: the order of events.
//! * `node`: the channels of the node, and the inboxes of its workers, as a host keeps them.
//! * `station`: a worker and the turn of its runtime.
//! * `truth`: what was published, in the order of execution.
//! * `client`, `session`, `replies`: a client with its intentions, one of its connections, and what that receives.
//! * `tokens`: the issuer and the verifier of tokens, and what they must cause.
//! * `filters`: tags of publications, filters, and what they select.
//! * `subscription`: what a client may receive of a channel.

mod client;
mod filters;
mod hooks;
pub(crate) mod node;
pub(crate) mod plan;
pub(crate) mod records;
mod replies;
mod session;
pub(crate) mod station;
mod subscription;
pub(crate) mod tokens;
mod truth;
mod world;

pub use world::run;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::run;
    use crate::tests::check_shortened;
    use crate::{Fault, Options, Outcome};

    /// Runs a seed without anything special.
    fn plain(seed: u64) -> Outcome {
        run(seed, &Options::default())
    }

    #[test]
    fn the_promises_hold_for_clients_that_lose_their_connections() {
        let mut seen = BTreeSet::new();
        let mut marks = BTreeSet::new();
        for seed in 0..400 {
            let outcome = plain(seed);
            assert_eq!(outcome.violation, None, "seed {seed}");
            seen.extend(outcome.seen);
            marks.extend(outcome.marks);
        }
        let missing: Vec<u16> = [101, 3001, 3005, 3008, 3010, 3012, 3500, 3501]
            .into_iter()
            .filter(|code| !seen.contains(code))
            .collect();
        assert!(missing.is_empty(), "never seen: {missing:?}");
        let expected = [
            "a channel has a number",
            "a connection is refreshed",
            "a connection is refused",
            "a connection recovers",
            "a delta",
            "a filter is refused",
            "a filter leaves out a part of a recovery",
            "a filter leaves out a publication",
            "a gap is not covered",
            "a publication precedes its reply",
            "a publication replaces an older one",
            "a publication waits for a subscription",
            "a recovery is refused",
            "a restart",
            "a subscription ends with a gap",
            "a subscription expires",
            "a subscription is refreshed",
            "a subscription recovers",
            "a subscription token is refused",
            "an inbox overflows",
            "a worker catches up",
        ];
        let missing: Vec<&str> = expected.into_iter().filter(|mark| !marks.contains(mark)).collect();
        assert!(missing.is_empty(), "never happened: {missing:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_trace() {
        for seed in 1000..1060 {
            assert_eq!(plain(seed), plain(seed), "seed {seed}");
        }
        assert_ne!(plain(1).hash, plain(2).hash);
    }

    #[test]
    fn each_rule_about_tokens_filters_and_intervals_can_fail() {
        let rules: [(Fault, &[&str]); 12] = [
            (
                Fault::LostTags,
                &["a publication has other tags", "a recovery claims to be complete, and is not"],
            ),
            (Fault::ForgottenFilter, &["a filter is accepted that must be refused"]),
            (
                Fault::OtherFilter,
                &[
                    "a publication arrives that the filter leaves out",
                    "publications are missing without a notification",
                    "publications never arrive",
                ],
            ),
            (Fault::LostLatest, &["an older publication follows a newer one", "publications never arrive"]),
            (Fault::ShortInterval, &["publications follow each other faster than in the interval"]),
            (Fault::LostToken, &["a token is accepted without a verification"]),
            (
                Fault::LentToken,
                &["something expires without a token", "a private channel is open without a token"],
            ),
            (Fault::InventedExpiry, &["a token without an expiry expires"]),
            (Fault::AcceptedForgery, &["a token is accepted that must be refused"]),
            (
                Fault::StoppedClock,
                &["a reply has another time until the token expires", "the error of a token has no cause"],
            ),
            (
                Fault::LongGrace,
                &[
                    "a connection acts although its token has expired",
                    "a publication arrives although the token has expired",
                    "something lasts although its token has expired",
                ],
            ),
            (Fault::NoGrace, &["a subscription ends without a cause", "the code of the Close has no cause"]),
        ];
        let mut never = Vec::new();
        for (fault, rules) in rules {
            let options = Options { fault: Some(fault), ..Options::default() };
            let mut rules = rules.to_vec();
            for seed in 0..2_000 {
                let Some(violation) = run(seed, &options).violation else { continue };
                rules.retain(|rule| !violation.to_string().ends_with(rule));
                if rules.is_empty() {
                    break;
                }
            }
            never.extend(rules.into_iter().map(|rule| (fault, rule)));
        }
        assert!(never.is_empty(), "never broken: {never:?}");
    }

    #[test]
    fn planted_faults_are_found_and_shortened() {
        for fault in Fault::CHANNELS {
            check_shortened(fault, run);
        }
    }
}
