//! Runs many seeds, and shortens the plans of those with a violation; or prints the steps of one.

use std::panic;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::{Arg, Command, value_parser};
use postern_simulation::{
    Fault, Options, Outcome, Shown, Without, channels, machines, nodes, plain, run, shorten,
};

fn main() -> ExitCode {
    let options = Command::new("postern-simulation")
        .about("Runs the workers of Postern with model sockets, clients and operators, in virtual time.")
        .arg(number("seeds", "The number of seeds to run").default_value("3000"))
        .arg(number("first", "The first of these seeds").default_value("0"))
        .arg(Arg::new("app").long("app").value_name("NAME").value_parser(APPS.map(|(name, _)| name)).help(
            "Runs the seeds for this application only: `client` is channels, with the state machine of `postern-client` as the \
             client, and `plain` is echo with the state machine of its plain client. By default each seed runs for echo and for \
             channels",
        ))
        .arg(
            Arg::new("plant")
                .long("plant")
                .value_name("FAULT")
                .conflicts_with("app")
                .value_parser(faults().map(Fault::name).collect::<Vec<_>>())
                .help("Plants a fault, which the seeds must find"),
        )
        .arg(
            number("seed", "Runs this seed only, and prints its steps")
                .conflicts_with_all(["seeds", "first"]),
        )
        .arg(
            Arg::new("without")
                .long("without")
                .value_name("PARTS")
                .requires("seed")
                .value_parser(|text: &str| text.parse::<Without>())
                .help("Leaves out these parts of the plan, as the report of a failure says"),
        )
        .get_matches();
    let number = |name| options.get_one::<u64>(name).copied();
    let app = options.get_one::<String>("app");
    let plant = options.get_one::<String>("plant");
    let fault = faults().find(|fault| plant.is_some_and(|plant| plant == fault.name()));
    let mut apps = APPS.to_vec();
    apps.retain(|(name, _)| match (app, fault) {
        (Some(app), _) => app == name,
        (None, Some(fault)) => faults_of(name).contains(&fault),
        // The others have runs by themselves.
        (None, None) => matches!(*name, "echo" | "channels"),
    });
    let without = options.get_one::<Without>("without").cloned().unwrap_or_default();
    let options = Options { fault, without, ..Options::default() };
    match number("seed") {
        Some(seed) => replay(&apps, seed, options),
        None => run_all(&apps, number("first").unwrap_or(0), number("seeds").unwrap_or(0), &options),
    }
}

fn faults() -> impl Iterator<Item = Fault> {
    APPS.into_iter().flat_map(|(name, _)| faults_of(name)).copied()
}

/// Returns the faults that can be planted for an application.
fn faults_of(app: &str) -> &'static [Fault] {
    match app {
        "echo" => &Fault::ECHO,
        "channels" => &Fault::CHANNELS,
        "client" => &Fault::CLIENT,
        "plain" => &Fault::PLAIN,
        _ => &Fault::NODES,
    }
}

/// An application, and the function that runs a seed.
type App = (&'static str, fn(u64, &Options) -> Outcome);

const APPS: [App; 5] = [
    ("echo", run),
    ("channels", channels::run),
    ("client", machines::run),
    ("plain", plain::run),
    ("nodes", nodes::run),
];

fn number(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("N").value_parser(value_parser!(u64)).help(help)
}

fn replay(apps: &[App], seed: u64, options: Options) -> ExitCode {
    let options = Options { shown: Shown::Steps, ..options };
    let mut has_failed = false;
    for (app, run) in apps {
        let outcome = run(seed, &options);
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

fn run_all(apps: &[App], first: u64, seeds: u64, options: &Options) -> ExitCode {
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
            let outcome = run(seed, options);
            steps += outcome.steps;
            connections += outcome.connections;
            if let Some(violation) = outcome.violation {
                failures += 1;
                println!("seed {seed}, {app}: {violation}");
                report_shortest(app, *run, seed, options);
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

/// Prints the shortest plan with the same violation, and the command that prints its steps.
fn report_shortest(app: &str, run: fn(u64, &Options) -> Outcome, seed: u64, options: &Options) {
    let (without, _) = shorten(options, MOST_STEPS, |options| run(seed, options));
    let options = Options { without, shown: Shown::Plan, ..options.clone() };
    println!("the shortest plan with this violation, and the numbers of its parts:");
    let outcome = run(seed, &options);
    println!("it has {} connections and {} steps", outcome.connections, outcome.steps);
    let subject = options.fault.map_or(format!("--app {app}"), |fault| format!("--plant {}", fault.name()));
    let replay = format!("cargo run -p postern-simulation -- {subject} --seed {seed}");
    println!("replay the seed with: {replay}");
    if !options.without.is_empty() {
        println!("replay the shortest plan with: {replay} --without {}", options.without);
    }
}

/// The most steps of the runs that shorten a plan: some seconds.
const MOST_STEPS: u64 = 2_000_000;

/// The number of failures after which no further seed runs.
const MOST_FAILURES: u64 = 10;
