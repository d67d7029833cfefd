//! `postern top`: the figures of a running Postern in a terminal, from `/metrics` of its control port.

mod metrics;
mod screen;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Instant, SystemTime};

use crate::net::dial::{self, Dialer};
use crate::net::http::{NoAnswer, exchange};
use crate::net::tls::TlsClient;
use crate::options::TopOptions;
use crate::time::unix;
use crate::walk::USER_AGENT;
use metrics::Sample;

/// Prints the figures at each interval, until the process is ended or `count` screens are printed.
pub(crate) fn run(options: &TopOptions) -> ExitCode {
    let is_terminal = io::stdout().is_terminal();
    let mut before: Option<(Instant, Sample)> = None;
    let mut printed = 0;
    loop {
        let sample = match scrape(options) {
            Ok(sample) => sample,
            Err(reason) => {
                // If it cannot be printed, the exit status still reports a fault.
                let _ = writeln!(io::stderr(), "postern top: {}: {reason}", options.target.shown());
                return ExitCode::FAILURE;
            }
        };
        let now = Instant::now();
        let earlier = before.as_ref().map(|(at, sample)| (now.duration_since(*at), sample));
        let screen = screen::screen(&options.target.authority(), unix(SystemTime::now()), &sample, earlier);
        let clear = if is_terminal { "\x1b[H\x1b[2J" } else { "" };
        let mut stdout = io::stdout();
        if stdout.write_all(format!("{clear}{screen}\n").as_bytes()).and_then(|()| stdout.flush()).is_err() {
            // The reader has closed the pipe.
            return ExitCode::SUCCESS;
        }
        before = Some((now, sample));
        printed += 1;
        if options.count.is_some_and(|count| printed >= count) {
            return ExitCode::SUCCESS;
        }
        std::thread::sleep(options.interval);
    }
}

/// Requests the metrics.
fn scrape(options: &TopOptions) -> Result<Sample, String> {
    let target = &options.target;
    let addresses = dial::resolve(&target.host, target.port, options.timeout);
    let addresses = addresses.map_err(|_| "the name has no address".to_owned())?;
    let tls = match target.is_tls {
        true => Some(TlsClient::new(&target.host, options.ca.as_deref(), false)?),
        false => None,
    };
    let attempts = dial::try_all(&addresses, target.port, options.timeout);
    let address = attempts.into_iter().find(|(_, result)| result.is_ok()).ok_or(
        "no process listens there; start Postern with POSTERN_CONTROL, or pass the URL of its control port",
    )?;
    let dialer = Dialer { address: address.0, tls, timeout: options.timeout };
    let request = format!(
        "GET /metrics HTTP/1.1\r\nHost: {}\r\nUser-Agent: {USER_AGENT}\r\nConnection: close\r\n\r\n",
        target.authority()
    );
    let mut stream = dialer.open().map_err(|error| error.to_string())?;
    let answer = match exchange(&mut stream, request.as_bytes(), options.timeout, MAX_METRICS) {
        Ok(exchange) => exchange.answer,
        Err(NoAnswer::TimedOut) => return Err("no answer in time; a worker may be stuck".to_owned()),
        Err(NoAnswer::Broken(error)) => return Err(error),
        Err(NoAnswer::Closed | NoAnswer::NotHttp(_)) => return Err("the answer is not HTTP/1.1".to_owned()),
    };
    let sample = Sample::parse(&answer.body);
    if answer.status != 200 || sample.get("postern_connections").is_none() {
        return Err(format!(
            "{}, without the metrics of Postern; pass the URL of its control port",
            answer.status
        ));
    }
    Ok(sample)
}

/// The most bytes of metrics.
const MAX_METRICS: usize = 4 * 1024 * 1024;
