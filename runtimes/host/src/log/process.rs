//! The log of a process from its first record to its last.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{ErrorKind, Write};
use std::panic;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use postern_core::policy::ShutdownRequest;
use slog::crit;

use super::output::Output;
use super::{Log, LogSettings, Loss, MIN_FINISH};
use crate::lifecycle::Lifecycle;
use crate::lifecycle::signals::Signals;
use crate::settings::Program;

/// Runs a process that logs to standard output. `serve` returns after the process has stopped.
///
/// Writes all accepted lines before it returns: until the deadline of the shutdown, or for `hard` after an error,
/// and for at least a second. A second signal shortens this to a second. If records are lost, the last line on
/// standard error has their number. The exit status does not depend on that: it is 0 after a signal and 1 after an
/// error, which is printed on standard error.
///
/// A panic is logged, too. The hook waits up to a second until all lines are written, because the process may abort
/// next.
pub(crate) fn run(
    program: &Program,
    settings: &LogSettings,
    hard: Duration,
    serve: impl FnOnce(&Log) -> Result<Lifecycle, Box<dyn Error>>,
) -> ExitCode {
    let log = match Output::stdout().and_then(|output| Log::start(settings, output)) {
        Ok(log) => log,
        Err(error) => {
            program.print_error(&format_args!("cannot start the log: {error}"));
            return ExitCode::FAILURE;
        }
    };
    record_panics(&log);
    let at_least = || Instant::now() + MIN_FINISH;
    let (code, loss) = match serve(&log) {
        Ok(mut lifecycle) => {
            let deadline = lifecycle.deadline().unwrap_or_else(at_least).max(at_least());
            (ExitCode::SUCCESS, log.finish(deadline, || lifecycle.poll_exit(Instant::now())))
        }
        Err(error) => {
            program.print_error(&error);
            // The signals of `serve` were dropped. If they cannot be registered again, only the deadline ends the wait.
            let mut signals = Signals::register(&log.logger()).ok();
            let is_urgent = || signals.as_mut().is_some_and(|signals| signals.pending().any(is_end));
            (ExitCode::FAILURE, log.finish((Instant::now() + hard).max(at_least()), is_urgent))
        }
    };
    if loss.records > 0 {
        program.print_error(&explain(&loss));
    }
    code
}

/// Whether a request ends a process that is already stopping because of an error.
fn is_end(request: ShutdownRequest) -> bool {
    match request {
        ShutdownRequest::Terminate | ShutdownRequest::Interrupt => true,
        ShutdownRequest::Drain | ShutdownRequest::Restart => false,
    }
}

fn explain(Loss { records, error }: &Loss) -> String {
    let mut text = format!("log records lost at the end: {records}; standard output ");
    // Writing to a string does not fail.
    let _ = match error {
        Some(error) => write!(text, "failed: {error}"),
        None => write!(text, "did not take them in time"),
    };
    text
}

/// Logs each panic, after the default hook has written it to standard error.
pub(super) fn record_panics(log: &Log) {
    let (logger, queue) = (log.logger(), log.queue.clone());
    let default = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        default(panic);
        let thread = thread::current();
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("no message");
        crit!(logger, # "panicked", "panicked: {message}";
            "thread" => thread.name().unwrap_or("unnamed").to_owned(), "place" => place);
        queue.flush(MIN_FINISH);
    }));
}

/// Writes a line to standard error. Gives up after half a second, because it may be a pipe that stalls.
pub(crate) fn write_to_stderr(line: &str) {
    let Ok(mut output) = Output::stderr() else { return };
    let mut rest = line.as_bytes();
    for _ in 0..10 {
        match output.write(rest) {
            Ok(n) if n < rest.len() => rest = rest.get(n..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => return,
        }
    }
}
