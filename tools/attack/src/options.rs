//! The command line.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command, value_parser};

use super::plan::{ATTACKS, Attack};

/// The parsed command line.
pub(crate) struct Options {
    pub(crate) server: SocketAddr,
    pub(crate) path: String,
    pub(crate) attack: &'static Attack,
    pub(crate) connections: usize,
    /// The time from the end of a connection by the server to the next connection in its place.
    pub(crate) reconnect_after: Option<Duration>,
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
        let seconds = |name: &str| matches.get_one::<f64>(name).copied().map(Duration::from_secs_f64);
        let (server, name) = (text("SERVER"), text("attack"));
        let server = server
            .to_socket_addrs()
            .map_err(|error| format!("{server}: {error}; write it as HOST:PORT"))?
            .next()
            .ok_or_else(|| format!("{server} has no address"))?;
        let attack = ATTACKS.iter().find(|attack| attack.name == name);
        Ok(Options {
            server,
            path: text("path"),
            attack: attack.ok_or_else(|| format!("there is no attack {name}"))?,
            connections: matches.get_one::<u64>("connections").map_or(100, |&number| number.max(1) as usize),
            reconnect_after: seconds("reconnect-after"),
        })
    }
}

fn command() -> Command {
    let seconds = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("SECONDS").value_parser(seconds).help(help)
    };
    let text = |name: &'static str| Arg::new(name).long(name);
    let attacks: Vec<_> = ATTACKS.iter().map(|attack| format!("{}: {}", attack.name, attack.help)).collect();
    Command::new("attack")
        .about(
            "Attacks a WebSocket server until the end of standard input. Then prints one line of JSON: how the server \
             ended the connections, and after what time.",
        )
        .arg(Arg::new("SERVER").required(true).help("Address and port, such as 127.0.0.1:8080"))
        .arg(
            text("attack")
                .value_name("NAME")
                .required(true)
                .value_parser(PossibleValuesParser::new(ATTACKS.iter().map(|attack| attack.name)))
                .hide_possible_values(true)
                .help(format!("What each connection sends:\n{}", attacks.join("\n"))),
        )
        .arg(
            text("connections")
                .value_name("N")
                .value_parser(value_parser!(u64))
                .help("Number of concurrent connections [default: 100]"),
        )
        .arg(text("path").value_name("TEXT").default_value("/ws").help("Path of the upgrade request"))
        .arg(seconds(
            "reconnect-after",
            "Open another connection this time after the server has ended one [default: never]",
        ))
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('s').parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && (0.0..1e6).contains(&seconds) => Ok(seconds),
        Ok(_) | Err(_) => Err("write a number of seconds, such as 5 or 0.5".to_owned()),
    }
}
