//! Plain clients that are the state machines of `postern-client`, against workers with `echo`: connections that are refused, cut,
//! frozen and slow, restarts of the workers, and connections that an operator closes.
//!
//! * `client`: a driver of a state machine, with its application.
//! * `world`: the order of events.
//!
//! These promises are checked:
//!
//! * Each message is sent once, in the order of the application, and its echo arrives unless its connection is lost.
//! * A client is connected again after all faults, at the time that it has announced, and has one connection at most. A final close
//!   code ends it.
//! * Delays are within their bounds, and random for each client.
//! * A client that finishes sends its messages first, and leaves no connection.

mod client;
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
        let (mut seen, mut marks) = (BTreeSet::new(), BTreeSet::new());
        for seed in 0..300 {
            let outcome = plain(seed);
            assert_eq!(outcome.violation, None, "seed {seed}");
            seen.extend(outcome.seen);
            marks.extend(outcome.marks);
        }
        let expected = [101, 1012, 4403, 4409, 4429];
        let missing: Vec<u16> = expected.into_iter().filter(|code| !seen.contains(code)).collect();
        assert!(missing.is_empty(), "never seen: {missing:?}");
        let expected =
            ["a client ends", "a restart", "an attempt is given up", "messages are lost with a connection"];
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
        for fault in Fault::PLAIN {
            check_shortened(fault, run);
        }
    }
}
