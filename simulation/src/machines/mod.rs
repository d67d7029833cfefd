//! Clients that are the state machines of `postern-client`, against workers with channels: connections that are cut, frozen,
//! refused and slow, restarts of the node, tokens that expire, and sources of tokens that fail.
//!
//! * `plan`: what a seed chooses.
//! * `world`: the order of events.
//! * `driver`: a driver of a state machine, with a model of a socket.
//! * `session`: one connection.
//! * `application`: what an application wants, does and gets.
//! * `view`: what it sees of a channel.
//!
//! The node is the one of [`channels`](crate::channels). These promises are checked:
//!
//! * A client is connected and subscribed again after all faults, and each request is answered in time.
//! * Publications arrive in their order, each once. If some are missing, the application gets an event about that.
//! * Delays are within their bounds, and random for each client. No client is due again and again without a delay.
//! * The queues of a client are bounded. It has one connection at most.
//! * The server never closes a connection because of a fault of the client, and has no other subscriptions than the clients.

mod application;
mod driver;
mod plan;
pub(crate) mod session;
mod view;
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
        let expected = [3001, 3005, 3008, 3012, 3500];
        let missing: Vec<u16> = expected.into_iter().filter(|code| !seen.contains(code)).collect();
        assert!(missing.is_empty(), "never seen: {missing:?}");
        let expected = [
            "a restart",
            "a subscription does not recover",
            "a subscription recovers",
            "an inbox overflows",
            "a token never arrives",
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
        for fault in Fault::CLIENT {
            check_shortened(fault, run);
        }
    }
}
