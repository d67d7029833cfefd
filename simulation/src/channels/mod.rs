//! Channels in the simulation: clients of an SDK, publishers, the channels of a node, and restarts of it.
//!
//! * `plan`: what a seed chooses: channels, limits, faults, numbers.
//! * `world`: the order of events.
//! * `node`: the channels of the node, and the inboxes of its workers, as a host keeps them.
//! * `station`: a worker and the turn of its runtime.
//! * `truth`: what was published, in the order of execution.
//! * `client`, `session`, `replies`: a client with its intentions, one of its connections, and what that receives.
//! * `subscription`: what a client may receive of a channel.

mod client;
mod hooks;
mod node;
mod plan;
mod records;
mod replies;
mod session;
mod station;
mod subscription;
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
        let missing: Vec<u16> =
            [101, 3001, 3008, 3010, 3012].into_iter().filter(|code| !seen.contains(code)).collect();
        assert!(missing.is_empty(), "never seen: {missing:?}");
        let expected = [
            "a channel has a number",
            "a connection recovers",
            "a delta",
            "a gap is not covered",
            "a publication precedes its reply",
            "a recovery is refused",
            "a restart",
            "a subscription ends with a gap",
            "a subscription recovers",
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
    fn planted_faults_are_found_and_shortened() {
        for fault in Fault::CHANNELS {
            check_shortened(fault, run);
        }
    }
}
