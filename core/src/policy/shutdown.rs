//! The shutdown of a process: announcement, grace period, closing of connections, exit.

use std::time::{Duration, Instant};

/// The times of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainConfig {
    /// The time for which connections are still accepted after the process reports not ready, so that load balancers
    /// can notice. Default 5 s.
    pub grace: Duration,
    /// Over how long the connections are then closed. Default 30 s.
    pub spread: Duration,
    /// The longest time of the whole shutdown. Default 60 s.
    pub hard: Duration,
    /// The longest wait for requests that are still arriving when another process accepts the next connections: as long as
    /// a request may take to arrive. Default 5 s.
    pub requests: Duration,
    /// Whether the port stays open when this process closes its listener, because a supervisor has opened it. The supervisor's
    /// queue keeps new connections, so pending ones must be served before closing. Default false.
    pub is_port_kept: bool,
}

impl Default for DrainConfig {
    fn default() -> DrainConfig {
        let seconds = Duration::from_secs;
        DrainConfig {
            grace: seconds(5),
            spread: seconds(30),
            hard: seconds(60),
            requests: seconds(5),
            is_port_kept: false,
        }
    }
}

/// A request to stop or to restart the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownRequest {
    /// A signal that asks to drain: SIGTERM. A second one, at least [`Shutdown::REPEAT`] after the first, ends the
    /// process at once.
    Terminate,
    /// A signal that asks to close all connections at once: SIGINT. A second one, at least [`Shutdown::REPEAT`] after the
    /// first, ends the process at once.
    Interrupt,
    /// A request to drain that is not a signal. Repeating it has no effect.
    Drain,
    /// A request to start a successor: SIGUSR2. Report its outcome to [`Shutdown::handle_successor`].
    Restart,
}

/// The next action of the runtime.
// Exhaustive on purpose: a runtime that ignored an action would never stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownAction {
    /// Report not ready, and continue to accept.
    Announce,
    /// Stop accepting, and close all connections over this time.
    Drain(Duration),
    /// Stop accepting, and close all connections at once.
    Close,
    /// Exit, even if connections remain.
    Exit,
    /// Start a successor, and continue to serve.
    SpawnSuccessor,
    /// Stop accepting without emptying the queue, and serve the accepted connections. They are drained later.
    StopAccepting,
}

/// The state of a process's shutdown.
///
/// ```text
///   Running --Terminate, Drain--> Announced --grace--> Closing --hard--> Ended
///     |                              |                    ^  |             ^
///     +----Interrupt-----------------+--------------------+  +--a second---+
///                                    +--a second Terminate------signal-----+
/// ```
///
/// An `Interrupt` while the connections are closed over the spread closes the rest of them at once.
///
/// A second signal counts only if it was not sent together with the first. Programs that pass signals on, such as
/// `timeout`, signal their child and then its process group, so one request can arrive twice.
///
/// `Restart` leads from `Running` to `Succeeding`, which has all transitions of `Running`. A successor that serves
/// leads to `Yielded`, in which the process waits for requests that are still arriving, and from there to `Closing`. A
/// successor that fails leads back to `Running`. If another process keeps the port open, `Yielded` is between
/// `Announced` and `Closing`.
#[derive(Debug, Clone, Copy)]
pub struct Shutdown {
    config: DrainConfig,
    state: State,
    signal: Signal,
}

/// The last signal to stop that had an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    /// There was none: the stop, if there is one, was requested in another way.
    None,
    /// It was received less than [`Shutdown::REPEAT`] before this time. Another signal repeats it.
    Recent(Instant),
    /// It was received earlier. Another signal is a second request.
    Past,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    /// A successor is starting.
    Succeeding,
    /// Since the given time.
    Announced(Instant),
    /// Stopped accepting; handshakes in progress are served.
    Yielded {
        since: Instant,
        until: Instant,
        /// When the wait ends because no handshake is in progress any more.
        settled_at: Option<Instant>,
        /// Whether the service stops, and not only this process.
        is_last: bool,
    },
    /// The connections are being closed.
    Closing {
        /// When the process ends, even if some are left.
        until: Instant,
        /// Whether they are closed one after the other.
        is_spread: bool,
    },
    Ended,
}

impl Shutdown {
    /// Two signals to stop within this time are one request. It is long enough for programs that send a signal twice,
    /// and too short for a person to send a second one.
    pub const REPEAT: Duration = Duration::from_millis(100);

    /// Connections are not closed before this time after the last handshake in progress has ended, so that the first message
    /// of its user is answered.
    pub const SETTLE: Duration = Duration::from_millis(250);

    /// Creates the state of a running process.
    pub fn new(config: DrainConfig) -> Shutdown {
        Shutdown { config, state: State::Running, signal: Signal::None }
    }

    /// Whether the shutdown has begun.
    pub fn has_begun(&self) -> bool {
        !matches!(self.state, State::Running | State::Succeeding)
    }

    /// Handles a request. Returns the resulting action, if there is one.
    ///
    /// Pass all requests that have arrived before calling [`handle_timeout`](Self::handle_timeout): a signal that
    /// arrived in time to repeat another must not count as the second because it is read late.
    pub fn handle(&mut self, request: ShutdownRequest, now: Instant) -> Option<ShutdownAction> {
        let is_signal = matches!(request, ShutdownRequest::Terminate | ShutdownRequest::Interrupt);
        if is_signal && self.is_repeated(request, now) {
            return None;
        }
        let action = self.follow(request, now);
        if is_signal && action != Some(ShutdownAction::Exit) {
            self.signal = Signal::Recent(now + Shutdown::REPEAT);
        }
        action
    }

    /// Whether a signal that is read now was sent together with the last one, and asks for no more than that.
    fn is_repeated(&self, request: ShutdownRequest, now: Instant) -> bool {
        // If the runtime is late, the last signal is recent for twice the time.
        let is_recent = matches!(self.signal, Signal::Recent(until) if now < until + Shutdown::REPEAT);
        // Closing at once sends a Close to each client, so it need not wait.
        let closes_more = request == ShutdownRequest::Interrupt
            && matches!(self.state, State::Announced(_) | State::Yielded { .. });
        is_recent && !closes_more
    }

    fn follow(&mut self, request: ShutdownRequest, now: Instant) -> Option<ShutdownAction> {
        match (self.state, request) {
            (State::Running, ShutdownRequest::Restart) => {
                self.state = State::Succeeding;
                Some(ShutdownAction::SpawnSuccessor)
            }
            (_, ShutdownRequest::Restart) | (State::Ended, _) => None,
            (
                State::Running | State::Succeeding | State::Announced(_) | State::Yielded { .. },
                ShutdownRequest::Interrupt,
            ) => {
                self.state = State::Closing { until: now + self.config.hard, is_spread: false };
                Some(ShutdownAction::Close)
            }
            (State::Closing { until, is_spread: true }, ShutdownRequest::Interrupt) => {
                self.state = State::Closing { until, is_spread: false };
                Some(ShutdownAction::Close)
            }
            (State::Running | State::Succeeding, ShutdownRequest::Terminate | ShutdownRequest::Drain) => {
                if self.config.grace.is_zero() {
                    return Some(self.leave(now, now));
                }
                self.state = State::Announced(now);
                Some(ShutdownAction::Announce)
            }
            // The service stops, and not only this process of it, so requests that are still arriving need not be waited for.
            (State::Yielded { is_last: false, .. }, ShutdownRequest::Terminate | ShutdownRequest::Drain) => {
                Some(self.close(now, now))
            }
            (_, ShutdownRequest::Drain) => None,
            (
                State::Announced(_) | State::Yielded { is_last: true, .. } | State::Closing { .. },
                ShutdownRequest::Terminate,
            )
            | (State::Closing { is_spread: false, .. }, ShutdownRequest::Interrupt) => {
                // The first signal after a request of another kind asks for what is being done already.
                if self.signal == Signal::None {
                    return None;
                }
                self.state = State::Ended;
                Some(ShutdownAction::Exit)
            }
        }
    }

    /// Handles the outcome of a requested successor: it serves, or it failed. Returns the resulting action, if there is
    /// one: a process that already stops does not need a successor.
    pub fn handle_successor(&mut self, serves: bool, now: Instant) -> Option<ShutdownAction> {
        match self.state {
            State::Succeeding if serves => Some(self.yield_port(now, now, false)),
            State::Succeeding => {
                self.state = State::Running;
                None
            }
            State::Running
            | State::Announced(_)
            | State::Yielded { .. }
            | State::Closing { .. }
            | State::Ended => None,
        }
    }

    /// Whether the process waits for the handshakes in progress. Report their number to
    /// [`handle_handshakes`](Self::handle_handshakes) until it does not.
    pub fn waits_for_handshakes(&self) -> bool {
        matches!(self.state, State::Yielded { .. })
    }

    /// Handles the number of handshakes in progress. The wait for them ends [`Shutdown::SETTLE`] after the last one.
    pub fn handle_handshakes(&mut self, count: usize, now: Instant) {
        if let State::Yielded { settled_at, .. } = &mut self.state {
            *settled_at = if count == 0 { settled_at.or(Some(now + Shutdown::SETTLE)) } else { None };
        }
    }

    /// Returns the time by which the process must have ended: [`DrainConfig::hard`] after the signal, the request or
    /// the start of the successor that began the stop. `None` before a stop begins, and after [`ShutdownAction::Exit`].
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Running | State::Succeeding | State::Ended => None,
            State::Announced(since) | State::Yielded { since, .. } => Some(since + self.config.hard),
            State::Closing { until, .. } => Some(until),
        }
    }

    /// Returns when [`Shutdown::handle_timeout`] must be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let settled = match self.signal {
            Signal::Recent(until) if self.state != State::Ended => Some(until),
            Signal::None | Signal::Recent(_) | Signal::Past => None,
        };
        [settled, self.next_step_at()].into_iter().flatten().min()
    }

    fn next_step_at(&self) -> Option<Instant> {
        match self.state {
            State::Running | State::Succeeding | State::Ended => None,
            State::Announced(since) => Some(since + self.config.grace),
            State::Yielded { until, settled_at, .. } => Some(settled_at.map_or(until, |at| at.min(until))),
            State::Closing { until, .. } => Some(until),
        }
    }

    /// Handles the passing of time. Returns the action that is due, if any.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<ShutdownAction> {
        if matches!(self.signal, Signal::Recent(until) if until <= now) {
            self.signal = Signal::Past;
        }
        if self.next_step_at()? > now {
            return None;
        }
        match self.state {
            State::Announced(since) => Some(self.leave(since, now)),
            State::Yielded { since, .. } => Some(self.close(since, now)),
            State::Closing { .. } => {
                self.state = State::Ended;
                Some(ShutdownAction::Exit)
            }
            State::Running | State::Succeeding | State::Ended => None,
        }
    }

    /// Stops accepting.
    fn leave(&mut self, since: Instant, now: Instant) -> ShutdownAction {
        if self.config.is_port_kept { self.yield_port(since, now, true) } else { self.close(since, now) }
    }

    fn yield_port(&mut self, since: Instant, now: Instant, is_last: bool) -> ShutdownAction {
        self.state = State::Yielded { since, until: now + self.config.requests, settled_at: None, is_last };
        ShutdownAction::StopAccepting
    }

    fn close(&mut self, since: Instant, now: Instant) -> ShutdownAction {
        let until = since + self.config.hard;
        self.state = State::Closing { until, is_spread: true };
        // The spread ends with the process.
        ShutdownAction::Drain(self.config.spread.min(until.saturating_duration_since(now)))
    }
}

#[cfg(test)]
mod tests;
