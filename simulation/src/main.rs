//! Runs many seeds, or prints the trace of one.

use std::panic;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::{Arg, Command, value_parser};
use postern_simulation::run;

fn main() -> ExitCode {
    let options = Command::new("postern-simulation")
        .about("Runs the workers of Postern with model sockets, clients and operators, in virtual time.")
        .arg(number("seeds", "The number of seeds to run").default_value("3000"))
        .arg(number("first", "The first of these seeds").default_value("0"))
        .arg(
            number("seed", "Runs this seed only, and prints its steps")
                .conflicts_with_all(["seeds", "first"]),
        )
        .get_matches();
    let number = |name| options.get_one::<u64>(name).copied();
    match number("seed") {
        Some(seed) => replay(seed),
        None => run_all(number("first").unwrap_or(0), number("seeds").unwrap_or(0)),
    }
}

fn number(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("N").value_parser(value_parser!(u64)).help(help)
}

fn replay(seed: u64) -> ExitCode {
    let outcome = run(seed, true);
    println!(
        "seed {seed}: {} connections, {} steps, {:.3} s of virtual time, hash {:016x}",
        outcome.connections,
        outcome.steps,
        outcome.time.as_secs_f64(),
        outcome.hash
    );
    match outcome.violation {
        None => ExitCode::SUCCESS,
        Some(violation) => {
            println!("seed {seed}: {violation}");
            ExitCode::FAILURE
        }
    }
}

fn run_all(first: u64, seeds: u64) -> ExitCode {
    let start = Instant::now();
    let (mut steps, mut connections, mut failures) = (0, 0, 0_u64);
    let current = Arc::new(AtomicU64::new(first));
    let (panicked, print) = (current.clone(), panic::take_hook());
    panic::set_hook(Box::new(move |info| {
        println!("seed {}: a panic", panicked.load(Ordering::Relaxed));
        print(info);
    }));
    for seed in first..first + seeds {
        current.store(seed, Ordering::Relaxed);
        let outcome = run(seed, false);
        steps += outcome.steps;

        connections += outcome.connections;
        if let Some(violation) = outcome.violation {
            failures += 1;
            println!("seed {seed}: {violation}");
            println!("replay it with: cargo run -p postern-simulation -- --seed {seed}");
            if failures == MOST_FAILURES {
                break;
            }
        }
    }
    let time = start.elapsed().as_secs_f64();
    println!(
        "{seeds} seeds, {connections} connections, {steps} steps in {time:.1} s: {:.0} steps per second, {failures} failures",
        steps as f64 / time
    );
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The number of failures after which no further seed runs.
const MOST_FAILURES: u64 = 10;
