//! The command line of the binary `identity`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, Command, value_parser};

/// The command line. The secret comes from the environment, because other users of the machine can read command lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Args {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The time for which a token is valid.
    pub token_lifetime: Duration,
    /// The control port of Postern, which ends the connections of a session at its logout.
    pub revoke_at: Option<SocketAddr>,
    /// The folders whose files are served below `/example/`.
    pub files: Vec<PathBuf>,
    /// Whether to check the service that listens on `listen`, instead of starting one.
    pub healthcheck: bool,
}

impl Args {
    /// Parses the command line. The first word is the name of the program.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let matches = command().try_get_matches_from(words)?;
        // Both have a default, so there is always a value.
        Ok(Self {
            listen: *matches.get_one("listen").expect("it has a default"),
            token_lifetime: *matches.get_one("token-ttl").expect("it has a default"),
            revoke_at: matches.get_one("revoke-at").copied(),
            files: matches.get_many("files").unwrap_or_default().cloned().collect(),
            healthcheck: matches.get_flag("healthcheck"),
        })
    }
}

fn command() -> Command {
    Command::new("identity")
        .about("Runs the development Identity service, with three demo users and tokens signed with JWT_SECRET")
        .arg(
            Arg::new("listen")
                .long("listen")
                .value_name("ADDRESS")
                .help("Address to listen on")
                .value_parser(value_parser!(SocketAddr))
                .default_value("127.0.0.1:9292"),
        )
        .arg(
            Arg::new("token-ttl")
                .long("token-ttl")
                .value_name("TIME")
                .help("How long a token is valid, such as 90 (seconds), 90s, 15m or 1h")
                .value_parser(duration)
                .default_value("1h"),
        )
        .arg(
            Arg::new("revoke-at")
                .long("revoke-at")
                .value_name("ADDRESS")
                .help("Control port of Postern, which ends the connections of a session at its logout; needs POSTERN_API_KEY")
                .value_parser(value_parser!(SocketAddr)),
        )
        .arg(
            Arg::new("files")
                .long("files")
                .value_name("FOLDER")
                .help("Serve the files of this folder below /example/; with several folders, the first that has a file")
                .value_parser(value_parser!(PathBuf))
                .action(ArgAction::Append),
        )
        .arg(
            Arg::new("healthcheck")
                .long("healthcheck")
                .help("Check the service that runs at --listen instead of starting one; exits with 0 if it works, otherwise with 1")
                .action(ArgAction::SetTrue),
        )
        .after_help("Environment:\n  JWT_SECRET  the secret that signs tokens (required)\n  POSTERN_API_KEY  the key for --revoke-at")
}

/// Parses a number of seconds, minutes or hours; without a unit, seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches(['s', 'm', 'h']);
    let unit = match text.strip_prefix(number) {
        Some("" | "s") => 1,
        Some("m") => 60,
        Some("h") => 3600,
        _ => return Err("a time is a number followed by s, m or h".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "a time is a number followed by s, m or h".to_owned())?;
    number.checked_mul(unit).map(Duration::from_secs).ok_or_else(|| "the time is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Args, clap::Error> {
        Args::parse(std::iter::once("identity").chain(words.iter().copied()).map(OsString::from))
    }

    #[test]
    fn defaults_are_those_of_the_shipped_gateways() {
        let args = parse(&[]).expect("nothing is required");
        assert_eq!(args.listen.to_string(), "127.0.0.1:9292");
        assert_eq!(args.token_lifetime, Duration::from_secs(3600));
        assert!(!args.healthcheck && args.files.is_empty());
    }

    #[test]
    fn folders_keep_their_order() {
        let args = parse(&["--files", "page", "--files", "sdk"]).expect("good flags");
        assert_eq!(args.files, [PathBuf::from("page"), PathBuf::from("sdk")]);
    }

    #[test]
    fn time_without_a_unit_is_in_seconds() {
        for (text, seconds) in [("0", 0), ("90", 90), ("90s", 90), ("15m", 900), ("1h", 3600)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "s", "1d", "1hh", "-1s", "1.5h", "99999999999999999999", "18446744073709551615h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn error_of_an_invalid_address_names_the_flag() {
        let error = parse(&["--listen", "localhost"]).expect_err("a host name is not an IP address");
        assert!(error.to_string().contains("--listen"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}
