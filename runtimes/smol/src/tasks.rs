//! The tasks: one for each listener, one for each connection, one for time, one for the control port, one for signs of life,
//! one for the wish to stop.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use postern_core::ConnectionId;
use postern_core::handshake::Gate;
use postern_core::handshake::Peer;
use postern_core::policy::{DrainConfig, Shutdown, ShutdownAction, ShutdownRequest};
use postern_core::worker::NewConnection;
use postern_host::control::Control;
use postern_host::lifecycle::signals::Signals;
use postern_host::lifecycle::status::ProcessStatus;
use postern_host::lifecycle::successor::{InheritedListeners, SuccessorLauncher};
use postern_host::lifecycle::watchdog::Watchdog;
use postern_host::listen::{Accepted, Acceptor, Listener};
use postern_host::log::Ending;
use postern_host::workers::{Job, SubmitError, Workers};
use slog::{Logger, error, info, warn};
use smol::channel::{Receiver, bounded};
use smol::future::{FutureExt, yield_now};
use smol::{LocalExecutor, Task};

use crate::notify::Notify;
use crate::reactor::{Reactor, Readiness, Watched};
use crate::state::{Connection, Shared};

/// What the tasks know of each other.
pub(crate) struct Runtime {
    reactor: Rc<Reactor>,
    pub(crate) worker: Shared,
    gate: Cell<Gate>,
    acceptor: RefCell<Acceptor>,
    status: ProcessStatus,
    pub(crate) log: Logger,
    next_id: Cell<u64>,
    /// When the timer task will wake by itself.
    alarm: Cell<Option<Instant>>,
    /// Notified when something is due earlier than that.
    timer: Notify,
    drain: DrainConfig,
    is_drain_wanted: Cell<bool>,
    /// Notified when a connection has ended, or at a request to drain.
    stopping: Notify,
}

impl Runtime {
    pub(crate) fn new(
        reactor: Rc<Reactor>,
        worker: Shared,
        gate: Gate,
        acceptor: Acceptor,
        drain: DrainConfig,
        status: ProcessStatus,
        log: Logger,
    ) -> Rc<Runtime> {
        Rc::new(Runtime {
            reactor,
            worker,
            gate: Cell::new(gate),
            acceptor: RefCell::new(acceptor),
            status,
            log,
            next_id: Cell::new(1),
            alarm: Cell::new(None),
            timer: Notify::default(),
            drain,
            is_drain_wanted: Cell::new(false),
            stopping: Notify::default(),
        })
    }

    /// Runs until a request to stop has been carried out. `control`, if there is one, answers until the end. Reports to a
    /// predecessor when the listeners are served; `launcher` hands them over to a successor.
    ///
    /// # Errors
    /// A descriptor could not be watched.
    pub(crate) async fn run(
        self: &Rc<Runtime>,
        executor: &Rc<LocalExecutor<'static>>,
        listeners: Vec<Listener>,
        control: Option<Control>,
        signals: Signals,
        inherited: InheritedListeners,
        launcher: SuccessorLauncher,
    ) -> io::Result<Ending> {
        let _watchdog = Watchdog::new(&self.status).map(|watchdog| {
            let runtime = self.clone();
            executor.spawn(watchdog.serve(OneWorker(self.clone()), move |pause| {
                let reactor = runtime.reactor.clone();
                async move { reactor.until(Instant::now() + pause).await }
            }))
        });
        let _control =
            control.map(|control| executor.spawn(answer_operators(self.clone(), executor.clone(), control)));
        let mut accepting = Vec::new();
        for listener in listeners {
            let listener = Rc::new(Watched::new(&self.reactor, listener)?);
            let task = executor.spawn(accept(self.clone(), executor.clone(), listener.clone()));
            accepting.push((task, listener));
        }
        let timers = executor.spawn(keep_time(self.clone()));

        inherited.notify_ready(&self.status, &self.log);
        let ending = self.stop_in_steps(executor, accepting, signals, launcher).await?;
        timers.cancel().await;
        Ok(ending)
    }

    /// Waits for a wish to stop, takes the steps that follow from it, and returns after the last.
    async fn stop_in_steps(
        self: &Rc<Runtime>,
        executor: &Rc<LocalExecutor<'static>>,
        mut accepting: Vec<(Task<()>, Rc<Watched<Listener>>)>,
        mut signals: Signals,
        mut launcher: SuccessorLauncher,
    ) -> io::Result<Ending> {
        // A second descriptor of the same pipe, because the reactor keeps what it watches.
        let watch = Watched::new(&self.reactor, signals.as_fd().try_clone_to_owned()?)?;
        // Receives a message when the outcome of a restart is known.
        let (outcome, outcomes) = bounded(1);
        let mut shutdown = Shutdown::new(self.drain);
        let mut is_closing = false;
        while !(is_closing && self.worker.borrow().len() == 0) {
            self.something_to_stop_for(&watch, &shutdown, &outcomes).await?;
            let now = Instant::now();
            let request = self.is_drain_wanted.replace(false).then_some(ShutdownRequest::Drain);
            let mut steps: Vec<ShutdownAction> = signals
                .pending()
                .chain(request)
                .filter_map(|request| shutdown.handle(request, now))
                .collect();
            steps.extend(shutdown.handle_timeout(now));
            // A process that stops does not wait for a successor.
            if steps.is_empty()
                && let Some(serves) = launcher.poll_outcome()
            {
                steps.extend(shutdown.handle_successor(serves, now));
            }
            for action in steps {
                let connections = self.worker.borrow().len();
                if action != ShutdownAction::SpawnSuccessor {
                    launcher.kill();
                }
                match action {
                    ShutdownAction::SpawnSuccessor => {
                        let outcome = outcome.clone();
                        let listeners = accepting.iter().map(|(_, listener)| listener.get_ref());
                        launcher.spawn(listeners, move || {
                            // It fails only if one waits already to be looked at.
                            let _ = outcome.try_send(());
                        });
                    }
                    ShutdownAction::StopAccepting => {
                        self.status.set_draining();
                        info!(self.log, # "yielding", "serving those who have come"; "connections" => connections);
                        for (task, _) in std::mem::take(&mut accepting) {
                            task.cancel().await;
                        }
                    }
                    ShutdownAction::Announce => {
                        self.status.set_draining();
                        info!(self.log, # "draining", "draining: not ready any more, and still accepting";
                            "connections" => connections);
                    }
                    ShutdownAction::Drain(spread) => {
                        info!(self.log, # "stopping", "stopping";
                            "connections" => connections, "spread_s" => spread.as_secs_f64());
                        self.stop_accepting(executor, std::mem::take(&mut accepting)).await?;
                        self.worker.borrow_mut().drain(spread);
                        is_closing = true;
                    }
                    ShutdownAction::Close => {
                        info!(self.log, # "stopping", "stopping"; "connections" => connections);
                        self.stop_accepting(executor, std::mem::take(&mut accepting)).await?;
                        self.worker.borrow_mut().shut_down();
                        is_closing = true;
                    }
                    ShutdownAction::Exit => {
                        warn!(self.log, # "stopping_at_once", "stopping at once"; "connections" => connections);
                        return Ok(Ending { shutdown, signals });
                    }
                }
                self.timer.notify();
            }
        }
        Ok(Ending { shutdown, signals })
    }

    /// Waits for a request, for the time of the next action, for the end of a connection, or for the outcome of a successor.
    async fn something_to_stop_for(
        &self,
        signals: &Watched<OwnedFd>,
        shutdown: &Shutdown,
        outcomes: &Receiver<()>,
    ) -> io::Result<()> {
        let due = async {
            match shutdown.poll_timeout() {
                Some(at) => self.reactor.until(at).await,
                None => pending().await,
            }
            Ok(())
        };
        let notified = async {
            self.stopping.notified().await;
            Ok(())
        };
        let succeeded = async {
            // One sender of them is the caller's.
            let _ = outcomes.recv().await;
            Ok(())
        };
        let signalled = async { signals.ready(Readiness::READ).await.map(drop) };
        signalled.or(due).or(notified).or(succeeded).await
    }

    /// Ends the tasks that accept, and closes the ports.
    async fn stop_accepting(
        self: &Rc<Runtime>,
        executor: &Rc<LocalExecutor<'static>>,
        accepting: Vec<(Task<()>, Rc<Watched<Listener>>)>,
    ) -> io::Result<()> {
        self.status.set_draining();
        for (task, listener) in accepting {
            task.cancel().await;
            // Connections in the kernel's queue would get a reset; this way they get an answer.
            loop {
                let accepted =
                    self.acceptor.borrow_mut().accept(listener.get_ref(), Instant::now(), &self.log);
                let Accepted::Connection(stream, peer) = accepted else { break };
                arrive(self, executor, stream, peer);
            }
            // Closes the port: the kernel refuses later connections, and clients try another instance.
        }
        Ok(())
    }

    /// After a turn: lets the timer task know, if something is due earlier than it thinks.
    fn turned(&self) {
        let due = self.worker.borrow().poll_timeout();
        if due.is_some_and(|due| self.alarm.get().is_none_or(|alarm| due < alarm)) {
            self.timer.notify();
        }
    }
}

/// The one worker, as the control port sees it: it runs in the same thread, so a job is done at once.
struct OneWorker(Rc<Runtime>);

impl Workers for OneWorker {
    fn count(&self) -> usize {
        1
    }

    fn submit(&self, _: usize, job: Job) -> Result<(), SubmitError> {
        self.0.worker.borrow_mut().perform(job);
        self.0.turned();
        Ok(())
    }

    fn drain(&self) {
        self.0.is_drain_wanted.set(true);
        self.0.stopping.notify();
    }
}

/// Serves the control port.
async fn answer_operators(runtime: Rc<Runtime>, executor: Rc<LocalExecutor<'static>>, control: Control) {
    let log = runtime.log.clone();
    let Err(error) = control.serve(executor, OneWorker(runtime)).await;
    error!(log, # "control_failed", "the control port does not answer"; "error" => %error);
}

/// Accepts on one listener, and starts a task for each connection.
async fn accept(runtime: Rc<Runtime>, executor: Rc<LocalExecutor<'static>>, listener: Rc<Watched<Listener>>) {
    for number in 1.. {
        let accepted = runtime.acceptor.borrow_mut().accept(listener.get_ref(), Instant::now(), &runtime.log);
        let refused = runtime.acceptor.borrow_mut().take_refused_count();
        if refused > 0 {
            runtime.worker.borrow_mut().count_refused(refused);
        }
        let wanted = match accepted {
            Accepted::Connection(stream, peer) => {
                arrive(&runtime, &executor, stream, peer);
                if number % BATCH == 0 {
                    // The other tasks have their turn, however many connections wait.
                    yield_now().await;
                }
                continue;
            }
            Accepted::Nothing => Readiness::READ,
            // A listener that stays readable and is not asked must not wake the thread.
            Accepted::Later(_) => Readiness::NONE,
        };
        let due = runtime.acceptor.borrow().poll_timeout();
        let due = async {
            match due {
                Some(at) => runtime.reactor.until(at).await,
                None => pending().await,
            }
            Ok(Readiness::NONE)
        };
        if listener.ready(wanted).or(due).await.is_err() {
            // The reactor cannot watch it now; retry after a pause.
            runtime.reactor.until(Instant::now() + RECOVER).await;
        }
    }
}

/// Starts the task of a connection that has just been accepted. If the reactor cannot watch its socket, it is closed.
fn arrive(runtime: &Rc<Runtime>, executor: &LocalExecutor<'static>, stream: OwnedFd, peer: Peer) {
    let Ok(stream) = Watched::new(&runtime.reactor, stream) else { return };
    let connection = open(runtime, stream, peer);
    executor.spawn(carry(runtime.clone(), connection)).detach();
}

fn open(runtime: &Runtime, stream: Watched<OwnedFd>, peer: Peer) -> Rc<Connection> {
    let id = ConnectionId(runtime.next_id.get());
    runtime.next_id.set(id.0 + 1);
    let now = Instant::now();
    let mut worker = runtime.worker.borrow_mut();
    let mut gate = runtime.gate.get();
    let refusal = gate.judge(now);
    if worker.is_full() && !gate.may_displace(now) {
        runtime.acceptor.borrow_mut().pause(now + Gate::PAUSE);
    }
    runtime.gate.set(gate);
    worker.open(stream, NewConnection { id, peer, refusal })
}

/// One connection, from its first byte to its end: wait for what it wants, take a turn, ask again.
async fn carry(runtime: Rc<Runtime>, connection: Rc<Connection>) {
    runtime.turned();
    let worker = &runtime.worker;
    loop {
        let Some(wants) = worker.borrow().wants(&connection) else { break };
        // By the reactor each time, not while there is something to be read: a busy peer would keep its task running,
        // and other connections would not be read.
        let ready = connection.stream.ready(wants);
        let due = async {
            connection.changed.notified().await;
            Ok(Readiness::default())
        };
        match ready.or(due).await {
            // Writing goes first: pending output is older than unread input.
            Ok(ready) if ready.write => worker.borrow_mut().write(&connection),
            Ok(ready) if ready.read => worker.borrow_mut().read(&connection),
            Ok(ready) if ready.end => worker.borrow_mut().note_end(&connection),
            Ok(_) => {}
            // The reactor cannot watch the socket any more.
            Err(_) => worker.borrow_mut().fail(&connection),
        }
        runtime.turned();
    }
    runtime.stopping.notify();
}

/// Sleeps until something is due, and sees to it.
async fn keep_time(runtime: Rc<Runtime>) {
    loop {
        let alarm = runtime.worker.borrow().poll_timeout();
        runtime.alarm.set(alarm);
        let notified = async {
            runtime.timer.notified().await;
        };
        let fired = async {
            match alarm {
                Some(at) => runtime.reactor.until(at).await,
                None => pending().await,
            }
        };
        notified.or(fired).await;
        runtime.worker.borrow_mut().handle_due();
    }
}

/// How many connections of a listener are accepted before other tasks have their turn. Few, because sockets that have to be
/// closed for new ones are closed by the tasks of their connections.
const BATCH: usize = 8;

/// How long a listener is left alone that cannot be watched.
const RECOVER: Duration = Duration::from_millis(100);
