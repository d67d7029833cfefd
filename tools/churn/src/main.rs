//! Opens and ends connections in every possible way, and checks that the server releases everything that belonged to
//! them: file descriptors, threads, connections, users, buffered bytes, resident memory.
//!
//! Each cycle checks how its connection ended, so a server that refuses all connections does not pass. The server
//! must have the settings of `benches/churn.env`.
//!
//! * [`cycles`]: the ways in which a connection ends.
//! * [`client`]: one connection.
//! * [`server`]: the resources of the server.

mod client;
mod cycles;
mod options;
mod server;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use smol::LocalExecutor;

use cycles::{Kind, Target};
use options::{Options, Until};
use server::{Resources, Server};

/// An error message.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok((report, complaints)) => {
            println!("{report:#}");
            complaints.iter().for_each(|complaint| eprintln!("churn: {complaint}"));
            if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(failure) => {
            eprintln!("churn: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Warms up, measures, runs the cycles, and measures again. Returns the report and all failures.
fn run(options: &Options) -> Result<(Value, Vec<String>), Failure> {
    let target = Rc::new(Target::new(options));
    let server = Server { pid: options.pid, control: options.control };
    // The warm-up lets all buffers and tables grow to the size that this number of connections needs.
    let warm_up = churn(&target, options.at_once, options.warm_up());
    let before = server.settled()?;
    let opened_before = server.metrics()?.opened;
    let done = churn(&target, options.at_once, options.until);
    let after = server.settled()?;
    let metrics = server.metrics()?;

    let mut complaints = done.failures.clone();
    complaints.extend(warm_up.failures);
    complaints.extend(after.compare(&before, options.tolerance));
    if metrics.opened != metrics.closed {
        complaints
            .push(format!("{} connections were opened, but {} were closed", metrics.opened, metrics.closed));
    }
    let admitted: u64 = done.kinds.iter().filter(|(kind, _)| kind.is_admitted()).map(|(_, n)| n).sum();
    if metrics.opened - opened_before != admitted {
        let counted = metrics.opened - opened_before;
        complaints.push(format!("{admitted} connections were admitted, but the server counted {counted}"));
    }
    Ok((report(&done, &before, &after), complaints))
}

/// The result of some cycles.
#[derive(Debug, Default)]
struct Done {
    took: Duration,
    kinds: BTreeMap<Kind, u64>,
    /// The first few failed cycles.
    failures: Vec<String>,
}

/// Runs cycles of all kinds, `at_once` at a time.
fn churn(target: &Rc<Target>, at_once: usize, until: Until) -> Done {
    let started = Instant::now();
    let next = Rc::new(Cell::new(0));
    let done = Rc::new(RefCell::new(Done::default()));
    let executor = LocalExecutor::new();
    let tasks: Vec<_> = (0..at_once)
        .map(|_| {
            let (target, next, done) = (target.clone(), next.clone(), done.clone());
            executor.spawn(async move {
                while until.goes_on(next.get(), started) {
                    let number: u64 = next.replace(next.get() + 1);
                    let kind = Kind::of_cycle(number);
                    let result = cycles::run(kind, &target).await;
                    let mut done = done.borrow_mut();
                    *done.kinds.entry(kind).or_default() += 1;
                    if let Err(failure) = result
                        && done.failures.len() < FAILURES
                    {
                        done.failures.push(format!("cycle {number}, {}: {failure}", kind.name()));
                    }
                }
            })
        })
        .collect();
    smol::block_on(executor.run(async {
        for task in tasks {
            task.await;
        }
    }));
    Done { took: started.elapsed(), ..done.take() }
}

fn report(done: &Done, before: &Resources, after: &Resources) -> Value {
    let cycles: u64 = done.kinds.values().sum();
    let kinds: serde_json::Map<_, _> =
        done.kinds.iter().map(|(kind, count)| (kind.name().to_owned(), json!(count))).collect();
    json!({
        "cycles": cycles,
        "seconds": done.took.as_secs_f64(),
        "cycles_per_second": cycles as f64 / done.took.as_secs_f64(),
        "kinds": kinds,
        "before": before.report(),
        "after": after.report(),
    })
}

/// The number of failed cycles that are reported.
const FAILURES: usize = 10;
