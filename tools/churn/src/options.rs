//! The command line.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::{Arg, Command, value_parser};

/// The parsed command line.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) server: SocketAddr,
    pub(crate) control: SocketAddr,
    pub(crate) api_key: String,
    pub(crate) pid: u32,
    pub(crate) at_once: usize,
    pub(crate) until: Until,
    /// The largest growth of resident memory, in bytes.
    pub(crate) tolerance: u64,
}

/// When to stop starting cycles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    Time(Duration),
    /// After this number of cycles.
    Count(u64),
}

impl Until {
    /// Whether another cycle starts after `begun` cycles since this time.
    pub(crate) fn goes_on(self, begun: u64, since: Instant) -> bool {
        match self {
            Until::Time(time) => since.elapsed() < time,
            Until::Count(count) => begun < count,
        }
    }
}

impl Options {
    pub(crate) fn parse() -> Options {
        let mut matches = command().get_matches();
        let until = match matches.remove_one::<f64>("seconds") {
            Some(seconds) => Until::Time(Duration::from_secs_f64(seconds)),
            None => Until::Count(matches.remove_one("cycles").unwrap_or(CYCLES)),
        };
        let mut address = |name| matches.remove_one::<SocketAddr>(name).expect("it is required");
        let (server, control) = (address("server"), address("control"));
        Options {
            server,
            control,
            until,
            api_key: matches.remove_one("api-key").expect("it is required"),
            pid: matches.remove_one("pid").expect("it is required"),
            at_once: matches.remove_one("at-once").unwrap_or(AT_ONCE),
            tolerance: matches.remove_one::<u64>("tolerance").unwrap_or(TOLERANCE_KIB) * 1024,
        }
    }

    /// Returns the length of the warm-up.
    pub(crate) fn warm_up(&self) -> Until {
        match self.until {
            Until::Time(time) => Until::Time(time / 3),
            Until::Count(count) => Until::Count((count / 20).max(10 * self.at_once as u64)),
        }
    }
}

fn command() -> Command {
    let number = |name: &'static str, value: &'static str| {
        Arg::new(name).long(name).value_name(value).value_parser(value_parser!(u64))
    };
    Command::new("churn")
        .about("Opens and ends connections in every possible way, and checks that the server releases all their resources")
        .arg(
            Arg::new("server")
                .value_name("ADDRESS")
                .required(true)
                .value_parser(value_parser!(SocketAddr))
                .help("Address of Postern, which must have the settings of benches/churn.env"),
        )
        .arg(
            Arg::new("control")
                .long("control")
                .value_name("ADDRESS")
                .required(true)
                .value_parser(value_parser!(SocketAddr))
                .help("Address of the control port of Postern"),
        )
        .arg(Arg::new("api-key").long("api-key").value_name("KEY").required(true).help("The POSTERN_API_KEY of Postern"))
        .arg(
            Arg::new("pid")
                .long("pid")
                .value_name("PID")
                .required(true)
                .value_parser(value_parser!(u32))
                .help("Process id of Postern"),
        )
        .arg(number("cycles", "N").help("Number of cycles [default: 1000000]"))
        .arg(
            Arg::new("seconds")
                .long("seconds")
                .value_name("SECONDS")
                .conflicts_with("cycles")
                .value_parser(value_parser!(f64))
                .help("Start cycles for this time, instead of a number of cycles"),
        )
        .arg(
            Arg::new("at-once")
                .long("at-once")
                .value_name("N")
                .value_parser(value_parser!(usize))
                .help("Number of concurrent cycles [default: 512]"),
        )
        .arg(
            number("tolerance", "KIB")
                .help("Largest growth of resident memory after the warm-up, in KiB [default: 8192]"),
        )
}

const CYCLES: u64 = 1_000_000;

const AT_ONCE: usize = 512;

/// Allows for fragmentation in the allocator and for the two buffers of the log, which keep up to a MiB each. A leak
/// of eight bytes in each of a million cycles is as much.
const TOLERANCE_KIB: u64 = 8192;
