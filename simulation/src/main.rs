//! Runs many seeds, or prints the trace of one.

use std::panic;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::{Arg, Command, value_parser};
use postern_simulation::channels::{self, Fault};
use postern_simulation::{Outcome, run};

fn main() -> ExitCode {
    let options = Command::new("postern-simulation")
        .about("Runs the workers of Postern with model sockets, clients and operators, in virtual time.")
        .arg(number("seeds", "The number of seeds to run").default_value("3000"))
        .arg(number("first", "The first of these seeds").default_value("0"))
        .arg(
            Arg::new("app")
                .long("app")
                .value_name("NAME")
                .value_parser(["echo", "channels"])
                .help("Runs the seeds for this application only. By default each seed runs for both"),
        )
        .arg(
            Arg::new("plant")
                .long("plant")
                .value_name("FAULT")
                .conflicts_with("app")
                .value_parser(Fault::ALL.map(Fault::name))
                .help("Plants a fault in the channels, which the seeds must find"),
        )
        .arg(
            number("seed", "Runs this seed only, and prints its steps")
                .conflicts_with_all(["seeds", "first"]),
        )
        .get_matches();
    let number = |name| options.get_one::<u64>(name).copied();
    let app = options.get_one::<String>("app");
    let plant = options.get_one::<String>("plant");
    let fault = Fault::ALL.into_iter().find(|fault| plant.is_some_and(|plant| plant == fault.name()));
    let mut apps: Vec<App> = vec![
        ("echo", Box::new(run)),
        ("channels", Box::new(move |seed, is_printed| channels::run(seed, is_printed, fault))),
    ];
    apps.retain(|(name, _)| match app {
        Some(app) => app == name,
        None => fault.is_none() || *name == "channels",
    });
    match number("seed") {
        Some(seed) => replay(&apps, seed),
        None => run_all(&apps, number("first").unwrap_or(0), number("seeds").unwrap_or(0)),
    }
}

/// An application, and the function that runs a seed.
type App = (&'static str, Box<dyn Fn(u64, bool) -> Outcome>);

fn number(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("N").value_parser(value_parser!(u64)).help(help)
}

fn replay(apps: &[App], seed: u64) -> ExitCode {
    let mut has_failed = false;
    for (app, run) in apps {
        let outcome = run(seed, true);
        println!(
            "seed {seed}, {app}: {} connections, {} steps, {:.3} s of virtual time, hash {:016x}",
            outcome.connections,
            outcome.steps,
            outcome.time.as_secs_f64(),
            outcome.hash
        );
        if let Some(violation) = outcome.violation {
            has_failed = true;
            println!("seed {seed}, {app}: {violation}");
        }
    }
    if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn run_all(apps: &[App], first: u64, seeds: u64) -> ExitCode {
    let current = Arc::new(AtomicU64::new(first));
    let (panicked, print) = (current.clone(), panic::take_hook());
    panic::set_hook(Box::new(move |info| {
        println!("seed {}: a panic", panicked.load(Ordering::Relaxed));
        print(info);
    }));
    let mut failures = 0_u64;
    for (app, run) in apps {
        let start = Instant::now();
        let (mut steps, mut connections) = (0, 0);
        for seed in first..first + seeds {
            current.store(seed, Ordering::Relaxed);
            let outcome = run(seed, false);
            steps += outcome.steps;
            connections += outcome.connections;
            if let Some(violation) = outcome.violation {
                failures += 1;
                println!("seed {seed}, {app}: {violation}");
                println!("replay it with: cargo run -p postern-simulation -- --app {app} --seed {seed}");
                if failures == MOST_FAILURES {
                    return ExitCode::FAILURE;
                }
            }
        }
        let time = start.elapsed().as_secs_f64();
        println!(
            "{app}: {seeds} seeds, {connections} connections, {steps} steps in {time:.1} s: {:.0} steps per second, {failures} failures",
            steps as f64 / time
        );
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The number of failures after which no further seed runs.
const MOST_FAILURES: u64 = 10;
