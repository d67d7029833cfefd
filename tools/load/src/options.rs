//! The command line.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

/// The parsed command line.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) server: SocketAddr,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) connections: usize,
    /// The size of a message in bytes.
    pub(crate) size: usize,
    /// The number of messages in flight on each connection.
    pub(crate) pipeline: usize,
    /// Messages per second on all connections together, sent at regular times instead of after each echo.
    pub(crate) rate: Option<u64>,
    pub(crate) kind: Kind,
    /// The server API through which messages are published to all connections, instead of being sent by them.
    pub(crate) publish: Option<SocketAddr>,
    pub(crate) api_key: String,
    /// The number of channels to which messages are published in turn. Each connection subscribes to one of them. With 0 messages
    /// are sent to all connections.
    pub(crate) channels: usize,
    /// The number of connections to the server API, each of which publishes when its request before is answered.
    pub(crate) publishers: Option<usize>,
    pub(crate) until: Until,
    pub(crate) warm_up: Duration,
    pub(crate) idle: Option<Duration>,
    pub(crate) server_pid: Option<u32>,
    /// The share of one processor that the server may use, in percent.
    pub(crate) server_quota: Option<u32>,
    pub(crate) label: String,
}

/// The content of the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Binary,
    /// Text of ASCII letters.
    Text,
    /// Text with characters of one to four bytes.
    Utf8,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Binary => "binary",
            Kind::Text => "text",
            Kind::Utf8 => "utf8",
        }
    }
}

/// When a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    Time(Duration),
    /// After this number of messages on each connection, or of publications, without a warm-up.
    Count(u64),
}

impl Options {
    pub(crate) fn parse() -> Options {
        let mut command = command();
        let matches = command.get_matches_mut();
        Options::read(&matches)
            .unwrap_or_else(|reason| command.error(clap::error::ErrorKind::ValueValidation, reason).exit())
    }

    fn read(matches: &ArgMatches) -> Result<Options, String> {
        let text = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
        let number = |name: &str| matches.get_one::<u64>(name).copied();
        let seconds = |name: &str| matches.get_one::<f64>(name).copied().map(Duration::from_secs_f64);
        let server = address(&text("SERVER"))?;
        let publish = matches.get_one::<String>("publish").map(|api| address(api)).transpose()?;
        let mut headers = Vec::new();
        for line in matches.get_many::<String>("header").into_iter().flatten() {
            let (name, value) =
                line.split_once(':').ok_or_else(|| format!("{line}: write it as 'Name: value'"))?;
            headers.push((name.trim().to_owned(), value.trim().to_owned()));
        }
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("User-ID")) {
            headers.push(("User-ID".to_owned(), "load".to_owned()));
        }
        let connections = number("connections").unwrap_or(100).max(if publish.is_some() { 0 } else { 1 });
        let until = match number("count") {
            Some(count) if publish.is_some() => Until::Count(count),
            Some(count) => Until::Count(count.div_ceil(connections)),
            None => Until::Time(seconds("seconds").unwrap_or(Duration::from_secs(5))),
        };
        Ok(Options {
            server,
            path: text("path"),
            headers,
            connections: connections as usize,
            size: number("size").unwrap_or(20) as usize,
            pipeline: number("pipeline").unwrap_or(1).max(1) as usize,
            rate: number("rate").map(|rate| rate.max(1)),
            kind: match text("kind").as_str() {
                _ if publish.is_some() => Kind::Text,
                "text" => Kind::Text,
                "utf8" => Kind::Utf8,
                _ => Kind::Binary,
            },
            publish,
            api_key: text("api-key"),
            channels: number("channels").unwrap_or(0) as usize,
            publishers: number("publishers").map(|publishers| publishers as usize),
            until,
            warm_up: seconds("warm-up").unwrap_or_default(),
            idle: seconds("idle"),
            server_pid: number("server-pid").map(|pid| pid as u32),
            server_quota: number("server-quota").map(|percent| percent as u32),
            label: text("label"),
        })
    }
}

fn command() -> Command {
    let text = |name: &'static str, default: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("TEXT").default_value(default).help(help)
    };
    let number = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("N").value_parser(value_parser!(u64)).help(help)
    };
    let seconds = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("SECONDS").value_parser(seconds).help(help)
    };
    Command::new("load")
        .about("Opens WebSockets, sends messages, counts their echoes, and prints one line of JSON.")
        .arg(Arg::new("SERVER").required(true).help("Address and port, such as 127.0.0.1:8080"))
        .arg(text("path", "/ws", "Path and query of the upgrade request"))
        .arg(
            Arg::new("header").long("header").value_name("NAME: VALUE").action(ArgAction::Append).help(
                "A header of the upgrade request; can be repeated. 'User-ID: load' is added if no User-ID is given",
            ),
        )
        .arg(number("connections", "Number of connections [default: 100]"))
        .arg(number("size", "Size of a message in bytes [default: 20]"))
        .arg(number("pipeline", "Number of messages in flight on each connection [default: 1]"))
        .arg(
            number(
                "rate",
                "Messages per second on all connections together, sent at regular times instead of after each echo",
            )
            .conflicts_with_all(["pipeline", "count"]),
        )
        .arg(text("kind", "binary", "Content of the messages: bytes, ASCII text, or text with characters of one to four bytes").value_parser(["binary", "text", "utf8"]))
        .arg(Arg::new("publish").long("publish").value_name("HOST:PORT").conflicts_with_all(["rate", "idle"]).help(
            "Publish texts to all connections through the server API at this address, instead of sending messages: \
             --pipeline publications, and the next ones after all connections have received them",
        ))
        .arg(text("api-key", "", "Key of the server API"))
        .arg(
            number(
                "channels",
                "Subscribe each connection to one of this number of channels, up to 1000, and publish to these in turn. --size is \
                 the size of the data",
            )
            .value_parser(value_parser!(u64).range(1..=1000))
            .requires("publish"),
        )
        .arg(
            number(
                "publishers",
                "Publish on this number of connections to the server API: on each the next --pipeline publications when the \
                 request before is answered. Nothing is subscribed",
            )
            .value_parser(value_parser!(u64).range(1..))
            .requires("channels"),
        )
        .arg(seconds("seconds", "Duration of the measurement [default: 5]").conflicts_with("count"))
        .arg(number("count", "Total number of messages, instead of a duration; without a warm-up"))
        .arg(seconds("warm-up", "Duration of the run before the measurement").default_value("1"))
        .arg(seconds("idle", "Keep the connections idle for this time before the run"))
        .arg(number("server-pid", "Process id of the server: also measure its processor time and memory"))
        .arg(
            number(
                "server-quota",
                "Limit the server to this percentage of one processor (cgroup; needs root)",
            )
            .requires("server-pid"),
        )
        .arg(text("label", "", "Name to print with the result"))
}

/// Returns the address of `HOST:PORT`.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.to_socket_addrs()
        .map_err(|error| format!("{text}: {error}; write it as HOST:PORT"))?
        .next()
        .ok_or_else(|| format!("{text} has no address"))
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('s').parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && (0.0..1e6).contains(&seconds) => Ok(seconds),
        Ok(_) | Err(_) => Err("write a number of seconds, such as 5 or 0.5".to_owned()),
    }
}
