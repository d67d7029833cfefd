//! Settings: what an operator says becomes one [`Settings`], or a line for each mistake and the end.
//!
//! There is one table of them (`table`). From it come the flags, `--help`, `--print-config`, the names that are
//! known, and the values: a default is a text like any other, and goes the same way.

#[cfg_attr(not(feature = "assertion"), path = "assertion/disabled.rs")]
mod assertion;
mod command;
mod error;
mod hints;
mod links;

mod features;
mod net;

mod preset;
mod print;
mod secret;
mod sources;
mod suggest;
mod table;
mod value;
mod warnings;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::{NonZero, NonZeroUsize};
use std::process;
use std::sync::Arc;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use postern_core::WorkerConfig;
use postern_core::handshake::Gate;
use postern_core::handshake::Secrets;
use postern_core::policy::{DrainConfig, Users};
use slog::{Logger, info, warn};

use crate::assertion::AssertionSettings;
use crate::healthcheck::{self, Probe};
use crate::listen::{Access, Address, Listener, SocketOwner};
use crate::log::{self, LogSettings};
use crate::refusal;
use crate::resources::memory;
use crate::resources::open_files::{self, Shares};
use crate::users::{PerUser, UserPolicy};
use command::{Arguments, Purpose};
use sources::{ResolvedSetting, Source};
use table::{CONTROL, HEALTH_PATH, IDENTITY_HEADERS, LISTEN, MAX_CONNECTIONS, MAX_HANDSHAKES};

pub use error::{SettingsError, SettingsErrors};
pub(crate) use secret::SecretFile;
pub use warnings::Warning;

/// What a binary says about itself.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Its name, for errors, `--help` and `--version`.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// What it is, in one line.
    pub about: &'static str,
    /// Whether it obeys `POSTERN_WORKERS`. If not, it accepts and ignores it, so that both binaries take the
    /// same settings.
    pub has_workers: bool,
}

impl Program {
    /// Says on standard error why the program does not start, or ends: `postern: REASON`.
    ///
    /// There is one rule for both binaries: what keeps a process from starting is here alone, whatever `LOG_FORMAT` is.
    /// What ends a process that has served is also in its log.
    pub fn print_error(&self, reason: &dyn fmt::Display) {
        // If nobody can read it, the exit code still says so.
        log::write_to_stderr(&format!("{}: {reason}\n", self.name));
    }
}

/// Everything a process needs to know before it starts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen: at least one address.
    pub listen: Vec<Address>,
    /// Who may connect to the Unix sockets among them.
    pub socket_access: Access,
    /// How many event loops to run; only for programs that have several. [`load`] leaves 0 for one per core,
    /// [`load_or_exit`] says how many that is.
    pub workers: usize,
    /// The rules for all connections.
    pub worker: WorkerConfig,
    /// Whose signed identities are believed instead of the identity headers. `None` for nobody's.
    pub assertion: Option<AssertionSettings>,
    /// How many connections there may be at a time. [`load`] leaves 0 for what the limit of open files allows,
    /// [`load_or_exit`] says how many that is.
    pub max_connections: usize,
    /// New connections a second, and as many at once; zero is any number.
    pub connect_rate: u32,
    /// Limits that were written, and are more than the limit of open files allows.
    reduced: Vec<Reduced>,
    /// The settings that were written: all others have their defaults.
    written: Vec<&'static str>,
    /// What is logged, and how. [`load`] leaves 0 for the size of the queue, [`load_or_exit`] says how large it is.
    pub log: LogSettings,
    /// The port for operators.
    pub control: ControlSettings,
    /// Connections of one user at a time; `None` is any number.
    pub max_connections_per_user: Option<NonZeroUsize>,
    /// What follows beyond them.
    pub user_policy: UserPolicy,
    /// How it takes its leave.
    pub drain: DrainConfig,
    /// What to warn of at start: settings that have no effect, or one that nobody wants.
    pub warnings: Vec<Warning>,
    /// The files of secrets, which can be read again.
    pub(crate) secret_files: Vec<SecretFile>,
    /// The settings that hold, by their names, without anything secret.
    pub shown: Vec<(&'static str, String)>,
}

/// A limit that is less than what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reduced {
    setting: &'static str,
    written: usize,
    holds: usize,
}

/// Where the control port is, and who may use what.
#[derive(Debug, Clone, Default)]
pub struct ControlSettings {
    /// Where it listens. `None` for nowhere.
    pub address: Option<SocketAddr>,
    /// How many connections it may have at a time. [`load`] leaves 0, [`load_or_exit`] says how many that is.
    pub connections: usize,
    /// What opens `/api/*`. Without any it is closed.
    pub api_keys: Secrets,
}

/// What is to be done, by the command line and the rest.
#[derive(Debug)]
pub enum Outcome {
    /// To serve.
    Start(Box<Settings>),
    /// To ask a process that serves with these settings how it is.
    Check(Box<Settings>, Probe),
    /// To print this, which ends in a line feed, and to end well: `--help`, `--version`, `--print-config`.
    Print(String),
}

/// Reads the settings of this process: flags, environment, `.env` in the working directory, defaults, in this
/// order of precedence. Raises the limit of open files, and fills in what depends on the host.
///
/// Ends the process for `--help`, `--version` and `--print-config` with 0, for `healthcheck` with 0 or 1, and for
/// settings that cannot be used with a line for each on standard error and 2.
pub fn load_or_exit(program: &Program) -> Settings {
    match load(program, std::env::args_os().skip(1), std::env::vars_os(), read_dotenv) {
        Ok(Outcome::Start(settings)) => settings.for_this_host(),
        Ok(Outcome::Check(settings, probe)) => {
            let (line, code) = match healthcheck::run(settings.control.address, probe) {
                Ok(line) => (line, 0),
                Err(error) => (error.to_string(), 1),
            };
            // If nobody can read it, the exit code still says so.
            let _ = writeln!(io::stdout(), "{line}");
            process::exit(code)
        }
        Ok(Outcome::Print(text)) => {
            // Whoever reads it may have read enough: `postern --help | head -1`.
            let _ = io::stdout().write_all(text.as_bytes());
            process::exit(0)
        }
        Err(errors) => {
            errors.iter().for_each(|error| program.print_error(error));
            process::exit(2)
        }
    }
}

/// The same without the process: what the settings are, given what they are read from.
///
/// `arguments` come without the name of the program. `dotenv` reads `.env`, and is asked only if that matters;
/// `None` if there is none.
///
/// # Errors
/// All settings that cannot be used: unknown flags, unknown names that begin with `POSTERN_`, lines of `.env` that are not
/// `NAME=value`, values that their settings cannot take, and settings that contradict each other.
pub fn load(
    program: &Program,
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    dotenv: impl FnOnce() -> io::Result<Option<String>>,
) -> Result<Outcome, SettingsErrors> {
    let mut errors = SettingsErrors::default();
    let (flags, purpose) = match command::parse(program, arguments, &mut errors) {
        Arguments::Run { flags, purpose } => (flags, purpose),
        Arguments::Print(text) => return Ok(Outcome::Print(text)),
    };
    let (environment, links) = sources::environment(environment, &mut errors);
    let dotenv = sources::dotenv(dotenv(), &mut errors);
    let chosen = sources::choose(flags, &environment, &dotenv);

    let mut settings = Settings {
        listen: Vec::new(),
        socket_access: Access::default(),
        workers: 0,
        worker: WorkerConfig::default(),
        assertion: None,
        max_connections: 0,
        connect_rate: 0,
        reduced: Vec::new(),
        written: chosen
            .iter()
            .filter(|chosen| chosen.source != Source::Default)
            .map(|chosen| chosen.setting.name)
            .collect(),
        log: LogSettings::default(),
        control: ControlSettings::default(),
        max_connections_per_user: None,
        user_policy: UserPolicy::default(),
        drain: DrainConfig::default(),
        warnings: Vec::new(),
        secret_files: Vec::new(),
        shown: print::shown(&chosen),
    };
    for known in &chosen {
        let ResolvedSetting { setting, text, source } = known;
        let result = features::check(known).and_then(|()| {
            (setting.apply)(&mut settings, text)
                .map_err(|complaint| SettingsError::value(setting, text, *source, &complaint))
        });
        // A default is good, unless it repeats a setting that is not.
        if *source != Source::Default || errors.is_empty() {
            errors.note(result);
        }
    }
    settings.drain.requests = settings.worker.handshake.timeout;
    settings.worker.users = settings
        .max_connections_per_user
        .map(|most| Arc::new(PerUser::new(most, settings.user_policy)) as Arc<dyn Users>);
    check_identity_headers(&chosen, &mut errors);
    check_ports(&settings, &chosen, &mut errors);
    check_health_path(&settings, &chosen, &mut errors);
    settings.assertion = assertion::assertion(&chosen, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    settings.warnings = warnings::find(program, &settings, &chosen, &dotenv);
    settings.warnings.extend(warnings::of_links(&links));
    Ok(match purpose {
        Purpose::Serve => Outcome::Start(Box::new(settings)),
        Purpose::PrintConfig => Outcome::Print(print::config(&chosen, &settings.for_this_host())),
        Purpose::Check(probe) => Outcome::Check(Box::new(settings), probe),
    })
}

impl Settings {
    /// The first line of the log, and what in these settings deserves a warning. The addresses of the listeners are
    /// logged with the ports that the system chose.
    pub fn announce(&self, program: &Program, listeners: &[Listener], log: &Logger) {
        let addresses: Vec<String> =
            listeners.iter().map(|listener| listener.address().to_string()).collect();
        let handshake = &self.worker.handshake;
        let proxies: Vec<String> =
            handshake.trusted_proxies.blocks().iter().map(|block| block.to_string()).collect();
        info!(log, # "listening", "{} {} listens on {}", program.name, program.version, addresses.join(" and ");
            "path" => handshake.paths.join(","),
            "trusted_proxies" => proxies.join(","),
            "max_connections" => self.max_connections,
            "max_handshakes" => handshake.max_handshakes,
            "max_memory" => self.worker.max_memory,
            "workers" => if program.has_workers { self.workers } else { 1 });
        for warning in &self.warnings {
            warn!(log, # "settings_warning", "{warning}");
        }
        let who_knows = self.who_knows();
        // With a signed identity, a client that connects still needs a token.
        if self.assertion.is_none()
            && let Some(open) = listeners.iter().find(|listener| listener.admits_everyone())
        {
            // Whoever made the file says who may connect.
            let setting =
                if open.owner() == SocketOwner::Process { "POSTERN_LISTEN_MODE" } else { "SocketMode=" };
            warn!(
                log,
                # "settings_warning",
                "{setting} lets every user of this host connect: whoever does{who_knows} can be any user"
            );
        }
        for Reduced { setting, written, holds } in &self.reduced {
            warn!(log, # "settings_warning", "{setting}={written} is more than the limit of open files allows, so {holds} is used; \
                raise the limit (ulimit -Hn) or lower the setting";
                "open_files" => open_files::allowed());
        }
    }

    /// How fast connections may come.
    pub fn gate(&self) -> Gate {
        Gate::new(self.connect_rate)
    }

    /// What a client must know besides, in a warning that it can be any user.
    fn who_knows(&self) -> &'static str {
        if self.worker.handshake.proxy_secret.secrets.is_empty() { "" } else { " and knows the proxy secret" }
    }

    /// Fills in what depends on the host.
    fn for_this_host(mut self) -> Settings {
        self.worker.handshake.wall_clock = Some(unix_time);
        self.worker.handshake.refusal_text = refusal::message;
        if self.workers == 0 {
            self.workers = thread::available_parallelism().map_or(1, NonZero::get);
        }
        self.share_open_files(open_files::raise());
        let available = memory::available();
        if self.worker.max_memory == 0 {
            // Nothing at all would be no limit.
            self.worker.max_memory = memory::budget(available).max(1);
        }
        let session = Arc::make_mut(&mut self.worker.session);
        session.pause_backlog = memory::pause_backlog(session.pause_backlog, self.worker.max_memory);
        if self.log.queue == 0 {
            self.log.queue = memory::log_queue(available);
        }
        self
    }

    /// Makes all limits that count descriptors hold with `limit` of them.
    fn share_open_files(&mut self, limit: usize) {
        let shares = Shares::of(limit, self.workers);
        let handshakes = &mut self.worker.handshake.max_handshakes;
        let limits = [
            (MAX_CONNECTIONS, &mut self.max_connections, shares.connections),
            // 0 is any number there, and the places bound it.
            (MAX_HANDSHAKES, handshakes, shares.handshakes),
        ];
        for (setting, limit, most) in limits {
            if *limit > most && self.written.contains(&setting) {
                self.reduced.push(Reduced { setting, written: *limit, holds: most });
            }
            *limit = most.min(*limit);
        }
        if self.max_connections == 0 {
            self.max_connections = shares.connections;
        }
        self.worker.max_connections = Some(self.max_connections);
        self.worker.max_sockets = Some(shares.sockets);
        self.control.connections = shares.control;
    }
}

/// Checks that no two settings name the same header, because a header that carries two things carries neither. `off` is
/// not a header.
fn check_identity_headers(chosen: &[ResolvedSetting], errors: &mut SettingsErrors) {
    let is_header = |chosen: &&ResolvedSetting| {
        IDENTITY_HEADERS.contains(&chosen.setting.name) && !preset::is_off(&chosen.text)
    };
    let headers: Vec<&ResolvedSetting> = chosen.iter().filter(is_header).collect();
    for (index, one) in headers.iter().enumerate() {
        for other in headers.iter().skip(index + 1) {
            if !net::is_same_header(&one.text, &other.text) {
                continue;
            }
            // The one that somebody wrote is to blame, not the default.
            let (blamed, other) = if other.source == Source::Default { (one, other) } else { (other, one) };
            let complaint = format!(
                "the same header as that of {}, but for case and separators; write another",
                other.setting.name
            );
            errors.add(SettingsError::value(blamed.setting, &blamed.text, blamed.source, &complaint));
        }
    }
}

/// Checks that no two listeners want the same port of the same addresses: the system would refuse the second one.
fn check_ports(settings: &Settings, chosen: &[ResolvedSetting], errors: &mut SettingsErrors) {
    let tcp = |address: &Address| match address {
        Address::Tcp(address) => Some(*address),
        Address::Unix(_) => None,
    };
    let mut before: Vec<(SocketAddr, &str)> = Vec::new();
    let data = settings.listen.iter().filter_map(tcp).map(|address| (address, LISTEN));
    for (address, name) in data.chain(settings.control.address.map(|address| (address, CONTROL))) {
        // A port that the system chooses is a free one.
        let is_same = |other: SocketAddr| {
            let all = address.ip().is_unspecified() || other.ip().is_unspecified();
            // `[::]` has the IPv4 addresses, too, unless data listeners name one with the same port.
            let both = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            let is_both = name == CONTROL && (address.ip() == both || other.ip() == both);
            address.port() == other.port()
                && address.port() != 0
                && (address.is_ipv4() == other.is_ipv4() || is_both)
                && (all || address.ip() == other.ip())
        };
        if let Some((other, of)) = before.iter().find(|(other, _)| is_same(*other))
            && let Some(blamed) = chosen.iter().find(|chosen| chosen.setting.name == name)
        {
            let free = address.port().checked_add(1).unwrap_or(1024);
            let complaint =
                format!("{address} has the port of {other} in {of}; write another, for example {free}");
            errors.add(SettingsError::value(blamed.setting, &blamed.text, blamed.source, &complaint));
        }
        before.push((address, name));
    }
}

/// One path is a health check or a WebSocket. Below a path that ends in `/*` it may be either: the longer one counts.
fn check_health_path(settings: &Settings, chosen: &[ResolvedSetting], errors: &mut SettingsErrors) {
    let handshake = &settings.worker.handshake;
    if let Some(path) = &handshake.health_path
        && handshake.paths.contains(path)
        && let Some(blamed) = chosen.iter().find(|chosen| chosen.setting.name == HEALTH_PATH)
    {
        let complaint = "POSTERN_PATH serves WebSockets at this path; write another, for example /healthz";
        errors.add(SettingsError::value(blamed.setting, &blamed.text, blamed.source, complaint));
    }
}

/// The time for the `Date` of answers, in seconds since 1970. A clock before that is no clock.
fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn read_dotenv() -> io::Result<Option<String>> {
    match fs::read_to_string(".env") {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
