//! The plan: what applies on this host. It is resolved once from the settings and the host, and does not change.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postern_channels::ChannelsConfig;
use postern_channels::exchange::WorkerId;
use postern_core::WorkerConfig;
use postern_core::handshake::{Assertion, Gate, Readiness, Revocations};
use postern_core::policy::{DrainConfig, Users};
use postern_core::session::SessionConfig;
use postern_core::worker::{FirstMessageConfig, SUBPROTOCOL};
use slog::{Logger, info, warn};

use super::loaded::LoadedSettings;
use super::model::{Program, ServedAtPath, Settings};
use super::names::{MAX_CONNECTIONS, MAX_HANDSHAKES};
use super::setting::{ResolvedSetting, Source};
use super::warnings::{self, Warning, knows_the_secret};

use crate::listen::{Listener, SocketOwner};
use crate::log::LogSettings;
use crate::refusal;
use crate::resources::memory;
use crate::resources::open_files::{self, Shares};
use crate::users::PerUser;

/// The resources of the host and the limits of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// The number of cores that this process may use.
    pub cores: NonZeroUsize,
    /// The memory that this process may use, in bytes.
    pub memory: usize,
    /// The limit of open files.
    pub open_files: usize,
}

impl Host {
    /// Raises the limit of open files to the hard limit, and detects the rest.
    pub fn detect() -> Host {
        let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Host { cores, memory: memory::available(), open_files: open_files::raise() }
    }
}

/// Everything that a process needs to know before it starts.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The binary.
    pub program: Program,
    /// The settings as they were written.
    pub settings: Settings,
    /// The number of event loops that the settings and the host give. A program without workers has one event loop.
    pub workers: NonZeroUsize,
    /// The most connections at a time, of all workers.
    pub max_connections: usize,
    /// The most connections of the control port at a time.
    pub control_connections: usize,
    /// The contents and the format of the log.
    pub log: LogSettings,
    /// Settings that have no effect, or an effect that is unlikely to be intended.
    pub warnings: Vec<Warning>,
    /// The settings by name, without secrets.
    pub shown: Vec<(&'static str, String)>,
    /// The channels, without the verifier of tokens.
    pub channels: Arc<ChannelsConfig>,
    /// The connections of each user, if they are limited.
    pub(crate) users: Option<Arc<PerUser>>,
    /// The rules for all connections of all workers.
    worker: WorkerConfig,
    /// The limits that are less than what was written.
    reduced: Vec<Reduced>,
    /// The limit of open files.
    open_files: usize,
}

/// A limit that is less than what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reduced {
    pub(super) setting: &'static str,
    pub(super) written: usize,
    pub(super) applies: usize,
}

/// The parts that the workers of a process share.
#[derive(Debug, Clone)]
pub struct SharedParts {
    /// Whether the process accepts users, for health checks of the data port.
    pub readiness: Arc<dyn Readiness>,
    /// The verifier of signed identities.
    pub assertion: Option<Assertion>,
    /// The revoked credentials.
    pub revocations: Arc<dyn Revocations>,
    /// The number of this process in the ids of requests and connections.
    pub instance: u32,
    /// The secret seed of the keyed hash of users.
    pub hash_seed: u64,
}

impl Plan {
    /// Resolves what applies on a host.
    pub fn resolve(program: &Program, loaded: &LoadedSettings, host: &Host) -> Plan {
        let settings = loaded.settings.clone();
        // The limit of the channels, which the setting has too.
        let most = NonZeroUsize::new(WorkerId::MAX_WORKERS).unwrap_or(NonZeroUsize::MIN);
        let workers = settings.workers.unwrap_or(host.cores.min(most));
        let shares = Shares::of(host.open_files, workers.get());
        let max_memory = match settings.max_memory {
            Some(written) => written.get(),
            None => memory::budget(host.memory),
        };
        let mut reduced = Vec::new();
        let mut at_most = |setting: &'static str, limit: usize, most: usize| {
            if limit > most && is_written(&loaded.texts, setting) {
                reduced.push(Reduced { setting, written: limit, applies: most });
            }
            limit.min(most)
        };
        let max_connections = match settings.max_connections {
            Some(written) => at_most(MAX_CONNECTIONS, written.get(), shares.connections),
            None => shares.connections,
        };
        let mut handshake = settings.handshake.clone();
        handshake.max_handshakes = at_most(MAX_HANDSHAKES, handshake.max_handshakes, shares.handshakes);
        handshake.wall_clock = Some(unix_time);
        handshake.refusal_text = refusal::message;
        handshake.keeps_tokens = settings.revalidate.is_some();
        if !handshake.subprotocols.iter().any(|name| name == SUBPROTOCOL) {
            handshake.subprotocols.push(SUBPROTOCOL.to_owned());
        }
        let channels = ChannelsConfig {
            paths: match settings.channels.app {
                ServedAtPath::Echo => settings.channels.paths.len(),
                ServedAtPath::Channels => usize::MAX,
            },
            bare_paths: {
                let first = settings.channels.paths.len();
                first..first + settings.channels.bare_paths.len()
            },
            namespaces: settings.channels.namespaces.clone(),
            personal_channel: settings.channels.personal_channel,
            share_email: settings.channels.share_email,
            expiry_grace: settings.expiry.grace,
            expiry_spread: settings.expiry.spread,
            max_channels: settings.channels.max_channels,
            // Above the limit itself the connection is closed.
            slow_backlog: settings.session.max_backlog / 2,
            // Requests have their own limit, and this one is for answers that get lost.
            hook_timeout: settings.hook_timeout + HOOK_GRACE,
            ..ChannelsConfig::default()
        };
        // An exact path precedes the patterns of `POSTERN_PATH`.
        let of_channels = settings.channels.paths.iter().chain(&settings.channels.bare_paths);
        handshake.paths.splice(0..0, of_channels.cloned());
        let after_channels = settings.channels.paths.len() + settings.channels.bare_paths.len();
        for path in &settings.first_message_paths {
            if !handshake.paths.contains(path) {
                handshake.paths.insert(after_channels, path.clone());
            }
        }
        let awaits = |path: &String| settings.first_message_paths.contains(path);
        handshake.first_message_paths = (0..handshake.paths.len())
            .filter(|index| handshake.paths.get(*index).is_some_and(awaits))
            .collect();
        if channels.paths > 0 {
            handshake.subprotocols.extend(postern_channels::SUBPROTOCOLS.map(str::to_owned));
        }
        let users =
            settings.max_connections_per_user.map(|most| Arc::new(PerUser::new(most, settings.user_policy)));
        let session = Arc::new(session(&settings, max_memory));
        let worker = WorkerConfig {
            first_message: FirstMessageConfig {
                session: FirstMessageConfig::session(&session),
                ..FirstMessageConfig::default()
            },
            session,
            keep_alive: settings.keep_alive,
            // Most signed identities last for minutes, and less than the session.
            expiry: (settings.assertion.is_none() || settings.is_assertion_expiry_enforced)
                .then_some(settings.expiry),
            in_band: settings.in_band,
            revalidate: settings.revalidate,
            users: users.clone().map(|users| users as Arc<dyn Users>),
            max_memory,
            max_connections: Some(max_connections),
            max_sockets: Some(shares.sockets),
            handshake,
            ..WorkerConfig::default()
        };
        let queue = settings.log_queue.map_or_else(|| memory::log_queue(host.memory), NonZeroUsize::get);
        Plan {
            program: *program,
            users,
            workers,
            max_connections,
            control_connections: shares.control,
            log: LogSettings { queue, ..settings.log },
            warnings: warnings::find(program, loaded, host.cores),
            shown: loaded.shown(),
            channels: Arc::new(channels),
            worker,
            reduced,
            open_files: host.open_files,
            settings,
        }
    }

    /// Returns the rules for the connections of one worker: limits of the process are divided by the number of workers.
    pub fn worker(&self, index: usize, parts: &SharedParts) -> WorkerConfig {
        let mut config = self.worker.share(index, self.event_loops());
        config.hash_seed = parts.hash_seed;
        config.handshake.instance = parts.instance;
        config.handshake.readiness = Some(parts.readiness.clone());
        config.handshake.assertion = parts.assertion.clone();
        config.revocations = Some(parts.revocations.clone());
        config
    }

    /// Has the kernel allocate its table for all descriptors of the process. Call this before there is a second thread.
    pub(crate) fn reserve_descriptors(&self) {
        open_files::reserve_table(self.max_connections, self.open_files);
    }

    /// Returns the number of event loops that the program runs.
    pub fn event_loops(&self) -> usize {
        if self.program.has_workers { self.workers.get() } else { 1 }
    }

    /// Returns the limit of new connections per second.
    pub fn gate(&self) -> Gate {
        Gate::new(self.settings.connect_rate)
    }

    /// Returns how a process with these listeners stops.
    pub fn drain(&self, listeners: &[Listener]) -> DrainConfig {
        DrainConfig {
            requests: self.settings.handshake.timeout,
            is_port_kept: listeners.iter().all(|listener| listener.owner() == SocketOwner::Supervisor),
            ..self.settings.drain
        }
    }

    /// Returns the rules for all connections of all workers.
    pub(crate) fn rules(&self) -> &WorkerConfig {
        &self.worker
    }

    #[cfg(test)]
    pub(super) fn reduced(&self) -> &[Reduced] {
        &self.reduced
    }

    /// Logs the first line, and the warnings. The addresses of the listeners have the ports that the system chose.
    pub fn announce(&self, listeners: &[Listener], log: &Logger) {
        let Plan { program, settings, worker, .. } = self;
        let addresses: Vec<String> =
            listeners.iter().map(|listener| listener.address().to_string()).collect();
        let handshake = &worker.handshake;
        let proxies: Vec<String> =
            handshake.trusted_proxies.blocks().iter().map(|block| block.to_string()).collect();
        info!(log, # "listening", "{} {} listens on {}", program.name, program.version, addresses.join(" and ");
            "path" => handshake.paths.join(","),
            "trusted_proxies" => proxies.join(","),
            "max_connections" => self.max_connections,
            "max_handshakes" => handshake.max_handshakes,
            "max_memory" => worker.max_memory,
            "workers" => self.event_loops());
        for warning in &self.warnings {
            warn!(log, # "settings_warning", "{warning}");
        }
        // With a signed identity, a client that connects still needs a token.
        if settings.assertion.is_none()
            && let Some(open) = listeners.iter().find(|listener| listener.admits_everyone())
        {
            // The mode was set by the process that created the file.
            let setting =
                if open.owner() == SocketOwner::Process { "POSTERN_LISTEN_MODE" } else { "SocketMode=" };
            let knows = knows_the_secret(settings);
            warn!(
                log,
                # "settings_warning",
                "{setting} lets every user of this host connect: any process{knows} can be any user"
            );
        }
        for reduced in &self.reduced {
            warn!(log, # "settings_warning", "{reduced}"; "open_files" => self.open_files);
        }
    }
}

/// The warning of a limit that does not apply as it was written.
impl fmt::Display for Reduced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reduced { setting, written, applies } = self;
        write!(
            f,
            "{setting}={written} is more than the limit of open files allows, so {applies} is used; raise the limit \
             (ulimit -Hn) or lower the setting"
        )
    }
}

/// Returns the limits of a connection where all connections may hold `max_memory` bytes.
fn session(settings: &Settings, max_memory: usize) -> SessionConfig {
    let mut session = settings.session.clone();
    let rate = &mut session.message_rate;
    rate.burst = settings.message_burst.map_or(rate.per_second * 2, |burst| burst.get() as u64);
    let pause = session.pause_backlog.min(session.max_backlog / 4);
    session.pause_backlog = memory::pause_backlog(pause, max_memory);
    session
}

fn is_written(texts: &[ResolvedSetting], setting: &str) -> bool {
    texts.iter().any(|known| known.setting.name == setting && known.source != Source::Default)
}

/// The time after `POSTERN_HOOK_TIMEOUT` in which the result of a request reaches its worker.
const HOOK_GRACE: Duration = Duration::from_secs(1);

/// Returns the time since 1970. Zero if the clock is before that.
fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
