//! Random operations on an exchange and the hubs of two workers, compared with a simple model.
//!
//! A case is a sequence of operations from one seed. `MODEL_CASES=1000000 cargo test --release -p postern-channels --test model`
//! runs a million of them, and `MODEL_SEED=N` runs one.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros, clippy::unwrap_used)]

mod clients;
mod node;
mod streams;

use std::time::Duration;

use fastrand::Rng;

use self::node::Node;

/// The bounds of a case.
#[derive(Debug, Clone, Copy)]
struct Case {
    clients: u32,
    channels: usize,
    /// The events that fit into the inbox of a worker.
    inbox: usize,
    /// The memory of streams. The model knows what is kept only if it is not limited.
    memory: Option<usize>,
    operations: usize,
}

#[test]
fn every_promise_holds_for_random_operations() {
    let number = |name| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let seeds = match number("MODEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("MODEL_CASES").unwrap_or(3_000),
    };
    for seed in seeds {
        let failed = Failed(seed);
        run(seed);
        std::mem::forget(failed);
    }
}

/// Prints the seed of a case that panics.
struct Failed(u64);

impl Drop for Failed {
    fn drop(&mut self) {
        eprintln!("the case of MODEL_SEED={} has failed", self.0);
    }
}

fn run(seed: u64) {
    let mut random = Rng::with_seed(seed);
    let case = Case {
        clients: random.u32(1..8),
        channels: random.usize(1..5),
        inbox: random.usize(1..12),
        memory: random.bool().then(|| random.usize(0..4_000)),
        operations: random.usize(20..150),
    };
    let mut node = Node::new(seed, case);
    for _ in 0..case.operations {
        let (client, channel) = (random.u32(0..case.clients), random.usize(0..case.channels));
        match random.u32(0..100) {
            0..30 => node.publish(&mut random, client, channel),
            30..46 => node.subscribe(&mut random, client, channel),
            46..52 => node.unsubscribe(client, channel),
            52..54 => node.disconnect(client),
            54..80 => {
                let (worker, items) = (random.usize(0..2), random.usize(1..10));
                node.turn(worker, items);
            }
            80..88 => node.query(&mut random, channel),
            88..90 => node.remove_history(channel),
            90..97 => node.pass(Duration::from_millis(random.u64(0..4_000))),
            97..99 => node.pass(Duration::from_secs(random.u64(0..400))),
            _ => node.set_memory(&mut random),
        }
        node.check();
    }
    node.finish();
}
