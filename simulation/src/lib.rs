//! Runs the workers of Postern in a model of a process: one thread, virtual time, and all choices from one seed.
//!
//! This is a third runtime. It owns several [`Worker`](postern_core::Worker)s and delivers the messages between them. Sockets,
//! clients, operators and the log are models. There is no clock, no thread and no socket: the same seed gives the same
//! trace.
//!
//! * `plan`: what a seed chooses: limits, faults, numbers.
//! * `world`: the order of events.
//! * `station`: a worker and the turn of its runtime.
//! * `socket`: a model of a TCP connection.
//! * `client`, `script`, `wire`, `deflate`: a model of a client.
//! * `users`: the limit of connections of each user.
//! * `invariants`, `causes`: what must hold.
//! * `trace`, `random`: the steps of a run, and its choices.
//! * [`channels`]: the same for the application `channels`: clients of an SDK, publishers, the channels of a node, its restarts.

mod causes;
pub mod channels;
mod client;
mod deflate;
mod invariants;
mod plan;
mod random;
mod script;
mod socket;
mod station;
mod trace;
mod users;
mod wire;
mod world;

pub use invariants::Violation;
pub use world::{Outcome, run};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::run;

    #[test]
    fn the_invariants_hold_for_connections_that_end_in_every_way() {
        let mut seen = BTreeSet::new();
        for seed in 0..300 {
            let outcome = run(seed, false);
            assert_eq!(outcome.violation, None, "seed {seed}");
            seen.extend(outcome.seen);
        }
        let statuses = [101, 401, 408, 429, 503];
        let codes = [1000, 1001, 1005, 1006, 1008, 1009, 1012, 1013, 4000, 4408, 4409, 4413, 4429];
        let missing: Vec<u16> =
            statuses.into_iter().chain(codes).filter(|code| !seen.contains(code)).collect();
        assert!(missing.is_empty(), "never seen: {missing:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_trace() {
        for seed in 1000..1100 {
            assert_eq!(run(seed, false), run(seed, false), "seed {seed}");
        }
        assert_ne!(run(1, false).hash, run(2, false).hash);
    }
}
