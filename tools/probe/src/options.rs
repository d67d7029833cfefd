//! The command lines of the subcommands.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::credentials::Credentials;
use crate::target::Target;
use crate::walk;

/// The result of a command line.
pub(crate) enum Parsed<O> {
    Run(Box<O>),
    /// Print this to standard output: the help.
    Print(String),
    /// Print this to standard error: the command line cannot be used.
    Refuse(String),
}

/// The options that both subcommands have.
pub(crate) struct Common {
    pub(crate) target: Target,
    pub(crate) credentials: Credentials,
    /// The value of `Origin`.
    pub(crate) origin: Option<String>,
    /// The token in the command `connect` of channels.
    pub(crate) connect_token: Option<String>,
    /// A file with further certificates that are trusted.
    pub(crate) ca: Option<PathBuf>,
    /// Whether the probe continues after a certificate that is not valid.
    pub(crate) is_insecure: bool,
    /// The time limit of each step.
    pub(crate) timeout: Duration,
}

/// A request that logs in before the upgrade.
pub(crate) struct Login {
    pub(crate) target: Target,
    /// A JSON object.
    pub(crate) body: String,
}

/// The options of `postern probe`.
pub(crate) struct ProbeOptions {
    pub(crate) target: Target,
    pub(crate) common: Common,
    pub(crate) login: Option<Login>,
    /// The time for which the connection is left idle.
    pub(crate) idle: Option<Duration>,
    /// The size of a message in bytes that must pass.
    pub(crate) size: Option<usize>,
    /// The number of pings.
    pub(crate) count: u32,
    pub(crate) is_json: bool,
}

/// The options of `postern connect`.
pub(crate) struct ConnectOptions {
    pub(crate) common: Common,
    /// Whether the server has channels: the first command is `connect`, and pings of the protocol are answered.
    pub(crate) has_channels: bool,
}

/// The options of `postern top`.
pub(crate) struct TopOptions {
    /// The control port.
    pub(crate) target: Target,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) interval: Duration,
    /// The number of screens. `None`: until the process is ended.
    pub(crate) count: Option<u32>,
    pub(crate) timeout: Duration,
}

/// Parses the arguments of `postern probe`.
pub(crate) fn probe(arguments: Vec<OsString>) -> Parsed<ProbeOptions> {
    let command = command(
        "probe",
        "Checks each step of the path from this machine to a WebSocket, and states \
                                    what to do about a fault.",
    )
    .args([
        value("login-url", "URL", "POST the body to this URL, and use the token or cookie of the answer"),
        value("login-body", "JSON", "The body: '{\"email\":…,\"password\":…}'; @FILE reads a file")
            .requires("login-url"),
        value(
            "idle",
            "DURATION",
            "Leave the connection idle for this time: finds the idle time-out\nof a \
                                       proxy. Should be longer than these time-outs, such as 90s",
        ),
        value(
            "size",
            "SIZE",
            "Send a message of this size, such as 64KiB, and find the limit\nif it is less",
        ),
        value("count", "N", "The number of pings of which the round trip is measured").default_value("20"),
        switch("json", "Print one JSON object"),
    ])
    .after_help(PROBE_HELP);
    parse(command, arguments, |matches| {
        let common = common(matches)?;
        let login = match text(matches, "login-url") {
            Some(url) => Some(Login {
                target: Target::parse(url).map_err(|reason| format!("--login-url: {reason}"))?,
                body: text(matches, "login-body")
                    .map(|body| read("--login-body", body))
                    .transpose()?
                    .unwrap_or_default(),
            }),
            None => None,
        };
        Ok(ProbeOptions {
            target: common.target.clone(),
            common,
            login,
            idle: text(matches, "idle").map(|text| duration("--idle", text)).transpose()?,
            size: text(matches, "size").map(|text| size("--size", text)).transpose()?,
            count: text(matches, "count")
                .and_then(|count| count.parse().ok())
                .filter(|count| (1..=1000).contains(count))
                .ok_or("--count: not a number from 1 to 1000")?,
            is_json: matches.get_flag("json"),
        })
    })
}

/// Parses the arguments of `postern connect`.
pub(crate) fn connect(arguments: Vec<OsString>) -> Parsed<ConnectOptions> {
    let command = command(
        "connect",
        "Sends each line of standard input as a message, and prints the messages \
                                      that arrive.",
    )
    .arg(switch(
        "channels",
        "Send the command `connect` of channels first, and answer pings of\nthe \
                                 protocol [default: if the path ends with\n/connection/websocket]",
    ))
    .after_help(CONNECT_HELP);
    parse(command, arguments, |matches| {
        let common = common(matches)?;
        let has_channels =
            matches.get_flag("channels") || common.target.path.ends_with("/connection/websocket");
        Ok(ConnectOptions { common, has_channels })
    })
}

/// Parses the arguments of `postern top`.
pub(crate) fn top(arguments: Vec<OsString>) -> Parsed<TopOptions> {
    let command = bare("top", "Shows the figures of a running Postern in the terminal.").args([
        Arg::new("URL").default_value("http://127.0.0.1:8081").help("The control port (POSTERN_CONTROL)"),
        value("interval", "DURATION", "The time between two screens").default_value("1s"),
        value("count", "N", "Exit after this number of screens; rates begin with the second"),
        value("ca", "FILE", "Trust the certificates in this PEM file, too"),
        value("timeout", "DURATION", "The time limit of each request").default_value("5s"),
    ]);
    parse(command, arguments, |matches| {
        let count = |text: &str| {
            text.parse().ok().filter(|count| *count > 0).ok_or("--count: not a whole number from 1")
        };
        Ok(TopOptions {
            target: Target::parse(text(matches, "URL").unwrap_or_default())?,
            ca: text(matches, "ca").map(PathBuf::from),
            interval: duration("--interval", text(matches, "interval").unwrap_or_default())?,
            count: text(matches, "count").map(count).transpose()?,
            timeout: duration("--timeout", text(matches, "timeout").unwrap_or_default())?,
        })
    })
}

fn bare(name: &'static str, about: &'static str) -> Command {
    Command::new(name)
        .about(about)
        .bin_name(format!("postern {name}"))
        .no_binary_name(true)
        .disable_version_flag(true)
}

fn command(name: &'static str, about: &'static str) -> Command {
    bare(name, about)
        .arg(Arg::new("URL").required(true).help("The WebSocket, such as wss://example.com/ws"))
        .args([
            value(
                "token",
                "TOKEN",
                "Send `Authorization: Bearer TOKEN`; @FILE reads a file, @- the\nstandard \
                                     input",
            ),
            value(
                "header",
                "LINE",
                "Send a header line, such as 'User-ID: 1'; may be \
                                     repeated",
            )
            .action(ArgAction::Append),
            value(
                "cookie",
                "COOKIE",
                "Send a cookie, such as access_token=…; may be \
                                       repeated",
            )
            .action(ArgAction::Append),
            value("subprotocol", "NAME", "Offer a subprotocol; may be repeated").action(ArgAction::Append),
            value(
                "origin",
                "ORIGIN",
                "The origin of the page, or `none` for a client that is not a\nbrowser \
                                       [default: the origin of URL]",
            ),
            value(
                "connect-token",
                "TOKEN",
                "The connection token of channels, or the token of the first\nmessage; @FILE reads a file",
            ),
            value("ca", "FILE", "Trust the certificates in this PEM file, too"),
            switch("insecure", "Continue after a certificate that is not valid"),
            value("timeout", "DURATION", "The time limit of each step").default_value("10s"),
        ])
}

fn value(name: &'static str, placeholder: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(placeholder).help(help)
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
}

fn parse<O>(
    mut command: Command,
    arguments: Vec<OsString>,
    build: impl FnOnce(&ArgMatches) -> Result<O, String>,
) -> Parsed<O> {
    let name = command.get_name().to_owned();
    match command.try_get_matches_from_mut(arguments) {
        Ok(matches) => match build(&matches) {
            Ok(options) => Parsed::Run(Box::new(options)),
            Err(reason) => Parsed::Refuse(format!("postern {name}: {reason}\n")),
        },
        Err(error) if error.use_stderr() => Parsed::Refuse(error.to_string()),
        Err(help) => Parsed::Print(help.to_string().trim_end().to_owned() + "\n"),
    }
}

fn common(matches: &ArgMatches) -> Result<Common, String> {
    let target = Target::parse(text(matches, "URL").unwrap_or_default())?;
    let mut credentials = Credentials::default();
    target.credentials().for_each(|value| credentials.add_query(value));
    if let Some(token) = text(matches, "token") {
        credentials.add_token(&read("--token", token)?);
    }
    for line in texts(matches, "header") {
        let (name, value) = line.split_once(':').ok_or("--header: not a line such as 'Name: value'")?;
        credentials.add_header(name.trim(), value.trim());
    }
    texts(matches, "cookie").for_each(|cookie| credentials.add_cookie(cookie));
    texts(matches, "subprotocol").for_each(|name| credentials.add_subprotocol(name));
    let origin = match text(matches, "origin") {
        None => Some(target.origin()),
        Some("none") => None,
        Some(origin) => Some(origin.to_owned()),
    };
    let common = Common {
        target,
        credentials,
        origin,
        connect_token: text(matches, "connect-token")
            .map(|token| read("--connect-token", token))
            .transpose()?,
        ca: text(matches, "ca").map(PathBuf::from),
        is_insecure: matches.get_flag("insecure"),
        timeout: duration("--timeout", text(matches, "timeout").unwrap_or_default())?,
    };
    match walk::write_request(&common, Some(&common.credentials), &mut Vec::new()) {
        Ok(_) => Ok(common),
        Err(error) => Err(format!("the request cannot be sent: {error}")),
    }
}

fn text<'m>(matches: &'m ArgMatches, name: &str) -> Option<&'m str> {
    matches.get_one::<String>(name).map(String::as_str)
}

fn texts<'m>(matches: &'m ArgMatches, name: &str) -> impl Iterator<Item = &'m str> {
    matches.get_many::<String>(name).into_iter().flatten().map(String::as_str)
}

/// Returns the value of an option, or the contents of the file that it names.
fn read(option: &str, value: &str) -> Result<String, String> {
    let text = match value.strip_prefix('@') {
        None => return Ok(value.to_owned()),
        Some("-") => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).map(|_| text)
        }
        Some(path) => fs::read_to_string(path),
    };
    text.map(|text| text.trim().to_owned()).map_err(|error| format!("{option} {value}: {error}"))
}

fn duration(option: &str, text: &str) -> Result<Duration, String> {
    let parsed = humantime::parse_duration(text).ok().filter(|time| !time.is_zero());
    parsed.ok_or_else(|| format!("{option} {text}: not a time; write for example 500ms, 30s or 2m"))
}

fn size(option: &str, text: &str) -> Result<usize, String> {
    let (number, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let unit = match unit {
        "" | "B" => Some(1),
        "KiB" => Some(1024),
        "MiB" => Some(1024 * 1024),
        _ => None,
    };
    let size = unit.and_then(|unit| number.parse::<usize>().ok()?.checked_mul(unit));
    size.filter(|size| (64..=MAX_SIZE).contains(size))
        .ok_or_else(|| format!("{option} {text}: not a size from 64B to 64MiB; write for example 64KiB"))
}

/// The largest message that the probe sends.
const MAX_SIZE: usize = 64 * 1024 * 1024;

const PROBE_HELP: &str = "\
Each step is a line with ✓, ✗ or, if it is not checked, -. The arrow begins what to do. The
exit status is 0 if all checks passed, 1 if one failed, 2 if the command line cannot be used.
Tokens and cookies are not printed. The application gets one message, and several with --size.";

const CONNECT_HELP: &str = "\
Messages that arrive are printed to standard output, JSON with indentation, all else to standard
error. The end of standard input closes the connection.";

#[cfg(test)]
mod tests {
    use super::*;

    fn probe_of(arguments: &[&str]) -> Result<ProbeOptions, String> {
        match probe(arguments.iter().map(OsString::from).collect()) {
            Parsed::Run(options) => Ok(*options),
            Parsed::Print(text) | Parsed::Refuse(text) => Err(text),
        }
    }

    #[test]
    fn options_have_defaults() {
        let options = probe_of(&["ws://localhost:9191/ws"]).ok().unwrap();
        assert_eq!(options.common.origin.as_deref(), Some("http://localhost:9191"));
        assert_eq!((options.count, options.size, options.idle), (20, None, None));
        assert_eq!(options.common.timeout, Duration::from_secs(10));
        let options =
            probe_of(&["ws://a/", "--origin", "none", "--size", "1KiB", "--idle", "2m"]).ok().unwrap();
        assert_eq!(
            (options.common.origin, options.size, options.idle),
            (None, Some(1024), Some(Duration::from_secs(120)))
        );
    }

    #[test]
    fn values_that_cannot_be_used_are_refused() {
        for (arguments, part) in [
            (&["ws://a/", "--size", "1TB"][..], "--size 1TB"),
            (&["ws://a/", "--size", "99999999999999999999KiB"], "--size"),
            (&["ws://a/", "--idle", "0s"], "--idle 0s"),
            (&["ws://a/", "--count", "0"], "--count"),
            (&["ws://a/", "--header", "User-ID"], "--header"),
            (&["ws://a/", "--header", "Host: b"], "cannot be sent"),
            (&["ws://a/", "--origin", "a\nb"], "cannot be sent"),
            (&["ws://a/", "--token", "@/does/not/exist"], "--token @/does/not/exist"),
            (&["ws://a/", "--login-body", "{}"], "--login-url"),
            (&["a/ws"], "ws://"),
            (&[], "URL"),
        ] {
            let error = probe_of(arguments).err().unwrap();
            assert!(error.contains(part), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn lines_of_the_help_have_at_most_100_columns() {
        fn help<O>(parsed: Parsed<O>) -> String {
            let Parsed::Print(text) = parsed else { panic!("no help") };
            text
        }
        let arguments = || vec!["--help".into()];
        for help in [help(probe(arguments())), help(connect(arguments())), help(top(arguments()))] {
            assert!(help.contains("Usage: postern "), "{help}");
            for line in help.lines() {
                assert!(line.chars().count() <= 100, "{line}");
            }
        }
    }
}
