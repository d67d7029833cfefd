//! The tasks: one for each listener, one for each connection, one for time, one for the control port, one for the watchdog,
//! one for the lifecycle.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use postern_core::worker::NewConnection;
use postern_host::control::Control;
use postern_host::lifecycle::{Action, Lifecycle, Watchdog};
use postern_host::listen::{Accepted, Acceptor, Listener};
use postern_host::workers::{Request, SubmitError, Workers};
use smol::channel::Receiver;
use smol::future::{FutureExt, yield_now};
use smol::{LocalExecutor, Task};

use crate::notify::Notify;
use crate::reactor::{Reactor, Readiness, Watched};
use crate::state::{Connection, Shared};

/// The state that the tasks share.
pub(crate) struct Runtime {
    reactor: Rc<Reactor>,
    worker: Shared,
    acceptor: RefCell<Acceptor>,
    /// When the timer task will wake by itself.
    alarm: Cell<Option<Instant>>,
    /// Notified when something is due earlier than that.
    timer: Notify,
    /// Notified when a connection has ended.
    ended: Notify,
}

/// The tasks that accept, and what they accept from.
type Accepting = Vec<(Task<()>, Arc<Listener>)>;

impl Runtime {
    pub(crate) fn new(reactor: Rc<Reactor>, worker: Shared, acceptor: Acceptor) -> Rc<Runtime> {
        Rc::new(Runtime {
            reactor,
            worker,
            acceptor: RefCell::new(acceptor),
            alarm: Cell::new(None),
            timer: Notify::default(),
            ended: Notify::default(),
        })
    }

    /// Runs until the lifecycle ends that. The control port answers until the end.
    ///
    /// # Errors
    /// A file descriptor could not be watched.
    pub(crate) async fn run(
        self: &Rc<Runtime>,
        executor: &Rc<LocalExecutor<'static>>,
        listeners: Vec<Arc<Listener>>,
        control: Option<Control>,
        watchdog: Option<Watchdog>,
        events: Receiver<()>,
        lifecycle: Lifecycle,
    ) -> io::Result<Lifecycle> {
        let _watchdog = watchdog.map(|watchdog| {
            let runtime = self.clone();
            executor.spawn(watchdog.serve(OneWorker(self.clone()), move |pause| {
                let reactor = runtime.reactor.clone();
                async move { reactor.until(Instant::now() + pause).await }
            }))
        });
        let _control =
            control.map(|control| executor.spawn(control.serve(executor.clone(), OneWorker(self.clone()))));
        let mut accepting = Vec::new();
        for listener in listeners {
            let watched = Watched::new(&self.reactor, listener.clone())?;
            accepting.push((executor.spawn(accept(self.clone(), executor.clone(), watched)), listener));
        }
        let timers = executor.spawn(keep_time(self.clone()));
        let channels = executor.spawn(receive_events(self.clone(), events));
        let lifecycle = self.run_lifecycle(executor, accepting, lifecycle).await?;
        timers.cancel().await;
        channels.cancel().await;
        Ok(lifecycle)
    }

    /// Performs the actions of the lifecycle, and returns after the last connection, or earlier if it says so.
    async fn run_lifecycle(
        self: &Rc<Runtime>,
        executor: &Rc<LocalExecutor<'static>>,
        mut accepting: Accepting,
        mut lifecycle: Lifecycle,
    ) -> io::Result<Lifecycle> {
        // A second descriptor of the same pipe, because the reactor keeps what it watches.
        let events = Watched::new(&self.reactor, lifecycle.as_fd().try_clone_to_owned()?)?;
        lifecycle.notify_ready();
        while !self.worker.borrow().worker.is_finished() {
            let due = async {
                self.reactor.until(lifecycle.poll_timeout()).await;
                Ok(Readiness::NONE)
            };
            let ended = async {
                self.ended.notified().await;
                Ok(Readiness::NONE)
            };
            events.ready(Readiness::READ).or(due).or(ended).await?;
            let connections = || self.worker.borrow().worker.len();
            let handshakes = || self.worker.borrow().worker.pending();
            while let Some(action) = lifecycle.poll_action(Instant::now(), connections, handshakes) {
                match action {
                    Action::CloseListeners => {
                        for (task, _) in accepting.drain(..) {
                            task.cancel().await;
                        }
                    }
                    Action::Drain(spread) => {
                        self.stop_accepting(executor, &mut accepting).await;
                        self.worker.borrow_mut().worker.drain(Instant::now(), spread);
                    }
                    Action::Close => {
                        self.stop_accepting(executor, &mut accepting).await;
                        self.worker.borrow_mut().worker.shut_down();
                    }
                    Action::Exit => return Ok(lifecycle),
                }
                self.timer.notify();
            }
        }
        Ok(lifecycle)
    }

    /// Accepts the connections in the queues, and closes the listeners.
    async fn stop_accepting(
        self: &Rc<Runtime>,
        executor: &Rc<LocalExecutor<'static>>,
        accepting: &mut Accepting,
    ) {
        for (task, listener) in accepting.drain(..) {
            task.cancel().await;
            // The connections in the queue would be reset; this way they get an answer.
            loop {
                let accepted = self.acceptor.borrow_mut().accept(&listener, Instant::now());
                let Accepted::Connection(stream, connection) = accepted else { break };
                open(self, executor, stream, connection);
            }
        }
    }

    /// Notifies the timer task after a turn at `now`, if a connection is due earlier than its alarm.
    fn turned(&self, now: Instant) {
        let due = self.worker.borrow().poll_timeout(now);
        if due.is_some_and(|due| self.alarm.get().is_none_or(|alarm| due < alarm)) {
            self.timer.notify();
        }
    }
}

/// The one worker, as the control port sees it: it runs in the same thread, so a request is performed at once.
struct OneWorker(Rc<Runtime>);

impl Workers for OneWorker {
    fn count(&self) -> usize {
        1
    }

    fn submit(&self, _: usize, request: Request) -> Result<(), SubmitError> {
        self.0.worker.borrow_mut().perform(request);
        self.0.turned(Instant::now());
        Ok(())
    }

    fn refused(&self) -> u64 {
        0
    }
}

/// Accepts on one listener, and starts a task for each connection.
async fn accept(
    runtime: Rc<Runtime>,
    executor: Rc<LocalExecutor<'static>>,
    listener: Watched<Arc<Listener>>,
) {
    for number in 1.. {
        let accepted = runtime.acceptor.borrow_mut().accept(listener.get_ref(), Instant::now());
        let refused = runtime.acceptor.borrow_mut().take_refused_count();
        if refused > 0 {
            runtime.worker.borrow_mut().recorder.turned_away(refused);
        }
        let wanted = match accepted {
            Accepted::Connection(stream, connection) => {
                open(&runtime, &executor, stream, connection);
                if number % BATCH == 0 {
                    // The other tasks have their turn, even if many connections wait.
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
            runtime.reactor.until(due).await;
            Ok(Readiness::NONE)
        };
        if listener.ready(wanted).or(due).await.is_err() {
            // The reactor cannot watch it now; retry after a pause.
            runtime.reactor.until(Instant::now() + RECOVER).await;
        }
    }
}

/// Starts the task of a connection that has just been accepted. If the reactor cannot watch its socket, it is closed.
fn open(
    runtime: &Rc<Runtime>,
    executor: &LocalExecutor<'static>,
    stream: OwnedFd,
    connection: NewConnection,
) {
    let Ok(stream) = Watched::new(&runtime.reactor, stream) else { return };
    let mut worker = runtime.worker.borrow_mut();
    if worker.worker.is_full() {
        runtime.acceptor.borrow_mut().handle_full(Instant::now());
    }
    let connection = worker.open(stream, connection);
    executor.spawn(carry(runtime.clone(), connection)).detach();
}

/// The progress of a connection's task.
enum Progress {
    /// It has not begun.
    New,
    /// It has to ask the worker what to wait for.
    Asks,
    /// It waits for these events, and whether it has begun to.
    Waits(Readiness, bool),
}

/// Serves one connection, from its first byte to its end: wait for what it wants, take a turn, ask again.
// Written by hand, because there is one for each connection: an `async` block would store each future that it waits for twice.
fn carry(runtime: Rc<Runtime>, connection: Rc<Connection>) -> impl Future<Output = ()> {
    let mut progress = Progress::New;
    poll_fn(move |context| {
        loop {
            match &mut progress {
                Progress::New => {
                    runtime.turned(Instant::now());
                    progress = Progress::Asks;
                }
                Progress::Asks => {
                    let Some(wants) = runtime.worker.borrow().wants(&connection) else {
                        runtime.ended.notify();
                        return Poll::Ready(());
                    };
                    progress = Progress::Waits(wants, false);
                }
                Progress::Waits(wants, has_asked) => {
                    // By the reactor each time, not while there is something to be read: a busy peer would keep its task
                    // running, and other connections would not be read.
                    let ready = match connection.stream.poll_ready(*wants, has_asked, context) {
                        Poll::Ready(ready) => ready,
                        Poll::Pending if connection.changed.poll_notified(context).is_ready() => {
                            Ok(Readiness::NONE)
                        }
                        Poll::Pending => return Poll::Pending,
                    };
                    progress = Progress::Asks;
                    // Read once for each turn.
                    let now = Instant::now();
                    match ready {
                        Ok(ready) => runtime.worker.borrow_mut().turn(&connection, ready, now),
                        Err(_) => runtime.worker.borrow_mut().fail(&connection),
                    }
                    runtime.turned(now);
                }
            }
        }
    })
}

/// Handles the events of channels when there are any.
async fn receive_events(runtime: Rc<Runtime>, events: Receiver<()>) {
    // The sender exists as long as the process.
    while events.recv().await.is_ok() {
        runtime.worker.borrow_mut().handle_channels();
        runtime.turned(Instant::now());
    }
}

/// Sleeps until a connection is due, and handles it.
async fn keep_time(runtime: Rc<Runtime>) {
    loop {
        let alarm = runtime.worker.borrow().poll_timeout(Instant::now());
        runtime.alarm.set(alarm);
        if alarm.is_some_and(|at| at <= Instant::now()) {
            // Another slice of a message to many connections. The other sockets have their turn before.
            runtime.reactor.next_turn().await;
        } else {
            runtime.timer.notified().or(runtime.reactor.until(alarm)).await;
        }
        runtime.worker.borrow_mut().handle_due();
    }
}

/// The number of connections of a listener that are accepted before other tasks have their turn. Few, because sockets
/// that have to be closed for new ones are closed by the tasks of their connections.
const BATCH: usize = 8;

/// The time for which a listener that cannot be watched is not polled.
const RECOVER: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    /// There is one for each connection.
    #[cfg(target_pointer_width = "64")]
    #[test]
    fn the_future_of_a_connection_takes_three_words() {
        fn size<F>(_: fn(Rc<Runtime>, Rc<Connection>) -> F) -> usize {
            size_of::<F>()
        }
        assert_eq!(size(carry), 24);
    }
}
