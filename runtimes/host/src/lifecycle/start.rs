//! The start and the end of a process, which are the same for all runtimes.

use std::env;
use std::error::Error;
use std::ffi::OsStr;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_channels::{Channels, ChannelsConfig};
use postern_core::policy::Shutdown;
use slog::{Logger, crit, info, warn};

use super::Lifecycle;
use super::reload::Reload;
use super::signals::Signals;
use super::status::ProcessStatus;
use super::successor::{InheritedListeners, SuccessorLauncher};
use super::supervisor::Supervisor;
use super::watchdog::Watchdog;
use crate::application::Worker;
use crate::assertion;
use crate::channels::{Node, NodeWorker};
use crate::checker::{self, Checker};
use crate::control::Control;
use crate::engine::Engine;
use crate::hooks::Hooks;
use crate::listen::{Acceptor, Listener};
use crate::log::{self, Log};
use crate::metrics::LogAndCounters;
use crate::revocations::RevocationTable;
use crate::settings::{self, Plan, Program, SharedParts};
use crate::source::Source;

/// The parts of a process that has read its settings, and listens. The runtime gives each of them a thread or a task.
#[derive(Debug)]
pub struct Process {
    /// The listeners for users. The lifecycle shares them with a successor, and drops them before it asks the runtime
    /// to close them.
    pub listeners: Vec<Arc<Listener>>,
    /// Accepts from all of them.
    pub acceptor: Acceptor,
    /// One for each event loop.
    pub workers: Vec<WorkerParts>,
    /// The control port, if there is one.
    pub control: Option<Control>,
    /// The watchdog, if the supervisor expects notifications.
    pub watchdog: Option<Watchdog>,
    /// Decides when the process stops.
    pub lifecycle: Lifecycle,
}

/// The parts that an event loop needs.
#[derive(Debug)]
pub struct WorkerParts {
    /// Its connections.
    pub worker: Worker,
    /// Its share in the channels of the process.
    pub channels: NodeWorker,
    /// Their log and their counters.
    pub recorder: LogAndCounters,
    /// The most connections that are admitted or may become so.
    pub max_connections: usize,
    /// The most bytes in the buffers of its connections.
    pub max_memory: usize,
}

/// Runs a program until a signal ends it: reads the settings from flags, the environment and `.env`, calls `start`, and
/// then the function that `start` returns. Returns the exit status of the process. If the first argument is one of
/// [`Program::commands`], runs that instead.
///
/// An error of `start` is written to standard error only. An error of the returned function is also in the log, because
/// the process has served.
pub fn run<S: FnOnce() -> io::Result<Lifecycle>>(
    program: &Program,
    start: impl FnOnce(Process) -> Result<S, Box<dyn Error>>,
) -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let name = arguments.next();
    if let Some(command) =
        program.commands.iter().find(|command| name.as_deref() == Some(OsStr::new(command.name)))
    {
        return (command.run)(arguments.collect());
    }
    let inherited = InheritedListeners::from_environment();
    let plan = settings::load_or_exit(program);
    plan.reserve_descriptors();
    log::run(program, &plan.log, plan.settings.drain.hard, |log| {
        // 32 bits distinguish the processes in one log.
        let instance = RandomState::new().hash_one("instance") as u32;
        let logger = log.logger();
        let hooks = Hooks::start(plan.settings.hooks.as_ref(), instance, &logger)?;
        let source = Source::new(&plan.settings.source);
        let serve = start(Process::new(&plan, inherited?, instance, &hooks, &source, log)?)?;
        let mut lifecycle = serve().inspect_err(|error| crit!(logger, # "failed", "{error}"))?;
        finish_source(&source, &mut lifecycle);
        finish_hooks(&hooks, &mut lifecycle, &logger);
        info!(logger, # "stopped", "stopped");
        Ok(lifecycle)
    })
}

impl Process {
    fn new(
        plan: &Plan,
        mut inherited: InheritedListeners,
        instance: u32,
        hooks: &Hooks,
        source: &Source,
        log: &Log,
    ) -> Result<Process, Box<dyn Error>> {
        let logger = log.logger();
        let mut signals = Signals::register(&logger)?;
        let listeners = inherited.listeners(&plan.settings, &logger)?;
        let status = ProcessStatus::new(Supervisor::from_environment(&logger), Some(signals.waker()));
        let history_memory = plan.settings.channels.history_memory;
        let node = Node::new(plan.event_loops(), history_memory, plan.channels.clone(), hooks.clone());
        let revocations = RevocationTable::new(&node);
        inherited.revocations(&revocations)?;
        let control =
            Control::bind(plan, &listeners, inherited.control(), &status, &node, &revocations, log)?
                .map(|control| control.with_source(source));
        // It describes the process, which is known now.
        Engine::start(&plan.settings.engine, &node, plan.users.as_ref(), &revocations, &logger)?;
        plan.announce(&listeners, &logger);
        let (assertion, keys) = assertion::start(plan.settings.assertion.as_ref(), &logger)?.unzip();
        let tokens = assertion::start_tokens(plan.settings.channels.tokens.as_ref(), &logger)?;
        let (tokens, token_keys) = tokens.unzip();
        let service = plan.settings.auth.as_ref();
        if let Some(checker) = Checker::start(service, tokens.as_ref(), &plan.rules().handshake, &logger) {
            node.set_checker(checker);
        }
        let tokens = checker::tokens(service.is_some(), tokens);
        node.set_config(Arc::new(ChannelsConfig { tokens, ..ChannelsConfig::clone(&plan.channels) }));
        signals.set_reload(Reload::new(plan, [keys, token_keys.flatten()], &node, &logger));
        let acceptor = Acceptor::new(plan.gate(), &logger)?;
        let shutdown = Shutdown::new(plan.drain(&listeners));
        let listeners: Vec<Arc<Listener>> = listeners.into_iter().map(Arc::new).collect();
        let launcher =
            SuccessorLauncher::new(listeners.clone(), control.as_ref(), &revocations, &status, &logger)?;
        let parts = SharedParts {
            readiness: status.readiness(),
            assertion,
            revocations,
            instance,
            hash_seed: RandomState::new().hash_one(0),
        };
        let workers = (0..plan.event_loops()).map(|index| {
            let config = plan.worker(index, &parts);
            WorkerParts {
                channels: NodeWorker::new(node.clone(), index),
                recorder: LogAndCounters::new(log.worker(parts.instance), hooks.clone()),
                max_connections: config.max_connections.unwrap_or(usize::MAX),
                max_memory: config.max_memory,
                worker: Worker::with_application(
                    Channels::new(node.config(), random_seed(), Instant::now()),
                    Arc::new(config),
                    RandomState::new().hash_one(index),
                    Instant::now(),
                ),
            }
        });
        let workers = workers.collect();
        source.start(&node, instance, &logger)?;
        Ok(Process {
            listeners,
            acceptor,
            workers,
            control,
            watchdog: Watchdog::new(&status),
            lifecycle: Lifecycle { shutdown, signals, launcher, inherited, status, log: logger },
        })
    }
}

/// Stops receiving messages of a broker, within [`SOURCE_TIME`] and until the deadline of the shutdown.
fn finish_source(source: &Source, lifecycle: &mut Lifecycle) {
    let latest = Instant::now() + SOURCE_TIME;
    let deadline = lifecycle.deadline().map_or(latest, |deadline| deadline.min(latest));
    source.finish(deadline, || lifecycle.poll_exit(Instant::now()));
}

/// Waits until the events of the last connections are sent, for [`HOOKS_TIME`] at most, and until the deadline of the shutdown.
fn finish_hooks(hooks: &Hooks, lifecycle: &mut Lifecycle, log: &Logger) {
    let latest = Instant::now() + HOOKS_TIME;
    let deadline = lifecycle.deadline().map_or(latest, |deadline| deadline.min(latest));
    let lost = hooks.finish(deadline, || lifecycle.poll_exit(Instant::now()));
    if lost > 0 {
        warn!(log, # "hook_events_lost", "events for the backend are lost, because the process ends"; "count" => lost);
    }
}

/// The longest time that a process without connections waits for the backend of its events.
const HOOKS_TIME: Duration = Duration::from_secs(5);

/// The longest time that a process without connections waits for a message broker.
const SOURCE_TIME: Duration = Duration::from_secs(5);

/// Returns 128 random bits.
fn random_seed() -> u128 {
    let half = || u128::from(RandomState::new().hash_one("seed"));
    half() << 64 | half()
}
