//! Runs the workers of Postern in a model of a process: one thread, virtual time, and all choices from one seed.
//!
//! This is a third runtime. It owns several [`Worker`](postern_core::Worker)s and delivers the messages between them. Sockets,
//! clients, operators and the log are models. There is no clock, no thread and no socket: the same seed gives the same
//! trace.
//!
//! * `plan`: what a seed chooses: limits, faults, numbers.
//! * `world`: the order of events.
//! * `carrier`: a worker with its sockets, for every application.
//! * `station`: the turn of its runtime, with an inbox.
//! * `socket`: a model of a TCP connection.
//! * `client`, `script`, `wire`, `deflate`: a model of a client.
//! * `users`: the limit of connections of each user.
//! * `invariants`, `causes`: what must hold.
//! * `trace`, `random`: the steps of a run, and its choices.
//! * `fault`: planted faults, which show that the checks find them.
//! * `shorten`: the shortest plan with the violation of a seed.
//! * `sdk`: the connection of a client of channels.
//! * [`channels`]: the same for the application `channels`: clients of an SDK, publishers, the channels of a node, its restarts.
//! * [`machines`]: clients that are the state machines of `postern-client`, against the same node.
//! * [`plain`]: the state machines of plain clients, against workers with `echo`.
//! * [`nodes`]: several nodes with channels, which a model of Redis connects; [`redis`]: that model.

mod carrier;
mod causes;
pub mod channels;
mod client;
mod deflate;
mod fault;
mod invariants;
pub mod machines;
pub mod nodes;
pub mod plain;
mod plan;
mod random;
pub mod redis;
mod script;
mod sdk;
mod shorten;
mod socket;
mod station;
mod trace;
mod users;
mod wire;
mod world;

pub use fault::Fault;
pub use invariants::Violation;
pub use shorten::{Options, Without, shorten};
pub use trace::Shown;
pub use world::{Outcome, run};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Fault, Options, Outcome, run, shorten};

    /// Runs a seed without anything special.
    fn plain(seed: u64) -> Outcome {
        run(seed, &Options::default())
    }

    #[test]
    fn the_invariants_hold_for_connections_that_end_in_every_way() {
        let (mut seen, mut marks) = (BTreeSet::new(), BTreeSet::new());
        for seed in 0..300 {
            let outcome = plain(seed);
            assert_eq!(outcome.violation, None, "seed {seed}");
            seen.extend(outcome.seen);
            marks.extend(outcome.marks);
        }
        assert_eq!(marks, BTreeSet::from(["inbox full"]));
        let statuses = [101, 401, 408, 429, 503];
        let codes = [1000, 1001, 1005, 1006, 1008, 1009, 1012, 1013, 4000, 4408, 4409, 4413, 4429];
        let missing: Vec<u16> =
            statuses.into_iter().chain(codes).filter(|code| !seen.contains(code)).collect();
        assert!(missing.is_empty(), "never seen: {missing:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_trace() {
        for seed in 1000..1100 {
            assert_eq!(plain(seed), plain(seed), "seed {seed}");
        }
        assert_ne!(plain(1).hash, plain(2).hash);
    }

    #[test]
    fn planted_faults_are_found_and_shortened() {
        for fault in Fault::ECHO {
            check_shortened(fault, run);
        }
    }

    /// Checks that a seed finds a fault, and that its plan is shortened.
    pub(crate) fn check_shortened(fault: Fault, run: impl Fn(u64, &Options) -> Outcome) {
        let options = Options { fault: Some(fault), ..Options::default() };
        let found = (0..2_000).find(|&seed| run(seed, &options).violation.is_some());
        let seed = found.unwrap_or_else(|| panic!("{fault:?} is not found in 2,000 seeds"));
        let long = run(seed, &options);
        let shorten = || shorten(&options, 300_000, |options| run(seed, options));
        let (without, short) = shorten();
        assert!(!without.is_empty(), "{fault:?}, seed {seed}");
        assert!(short.steps <= long.steps, "{fault:?}, seed {seed}: {} of {} steps", short.steps, long.steps);
        assert!(short.connections <= long.connections, "{fault:?}, seed {seed}");
        // The text that is printed is enough to repeat it.
        let parsed = without.to_string().parse().expect("a list of parts");
        assert_eq!(run(seed, &Options { without: parsed, ..options.clone() }), short);
        assert_eq!(shorten(), (without, short), "{fault:?}, seed {seed}: not the same twice");
    }
}
