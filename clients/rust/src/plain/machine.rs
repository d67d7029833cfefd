//! A plain client as a state machine, without sockets, threads and clocks.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Event, Message};
use crate::backoff::Backoff;
use crate::close::{codes, may_reconnect};

/// A plain client as a state machine: its driver carries messages, and passes the time.
///
/// After each call, the driver performs the [actions](Machine::poll_action), and takes the [events](Machine::poll_event). While a
/// connection accepts messages, it takes them by [`poll_message`](Machine::poll_message). It calls
/// [`handle_timeout`](Machine::handle_timeout) at [`poll_timeout`](Machine::poll_timeout). [`Driver`](super::Driver) is such a driver.
#[derive(Debug)]
pub struct Machine {
    backoff: Backoff,
    timeout: Duration,
    random: fastrand::Rng,
    state: State,
    /// The number of failed attempts since the last connection that lasted longer than the delay before another attempt.
    failed: u32,
    /// The messages that no connection has taken.
    messages: VecDeque<Message>,
    /// Whether the client ends after a connection has taken the last message.
    is_finishing: bool,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
}

/// An action of the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Open a connection, and call [`Machine::handle_opened`] or [`Machine::handle_open_error`].
    Open,
    /// Close the connection with this code, or give up opening it. Nothing of it must be reported any more.
    Close(u16),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It has not begun, or has ended.
    Idle {
        has_ended: bool,
    },
    /// The next attempt is made at this time.
    Waiting {
        until: Instant,
    },
    /// The driver opens a connection.
    Opening {
        deadline: Instant,
    },
    Open {
        since: Instant,
    },
}

impl Machine {
    /// Creates a client that is not connected. `timeout` is the time for opening a connection, and `seed` is random.
    pub fn new(backoff: Backoff, timeout: Duration, seed: u64) -> Machine {
        Machine {
            backoff,
            timeout,
            random: fastrand::Rng::with_seed(seed),
            state: State::Idle { has_ended: false },
            failed: 0,
            messages: VecDeque::new(),
            is_finishing: false,
            actions: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Connects, and connects again after each loss of the connection. Has an effect once.
    pub fn connect(&mut self, now: Instant) {
        if self.state == (State::Idle { has_ended: false }) {
            self.open(now);
        }
    }

    /// Adds a message, which waits for a connection. See [`waiting`](Machine::waiting).
    pub fn send(&mut self, message: Message) {
        self.messages.push_back(message);
    }

    /// Returns the number of messages that no connection has taken.
    pub fn waiting(&self) -> usize {
        self.messages.len()
    }

    /// Ends the client when a connection has taken the messages that wait.
    pub fn finish(&mut self) {
        self.is_finishing = true;
        self.end_if_finished();
    }

    /// Returns whether the client has ended. There are no more actions than those that wait.
    pub fn has_ended(&self) -> bool {
        self.state == State::Idle { has_ended: true }
    }

    /// Returns whether there is a connection.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Returns the next message for the connection. It may be lost with the connection.
    pub fn poll_message(&mut self) -> Option<Message> {
        if !self.is_open() {
            return None;
        }
        let message = self.messages.pop_front()?;
        self.end_if_finished();
        Some(message)
    }

    /// Returns the next action of the driver.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns when [`handle_timeout`](Machine::handle_timeout) must be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until } => Some(until),
            State::Opening { deadline } => Some(deadline),
            State::Idle { .. } | State::Open { .. } => None,
        }
    }

    /// Handles that the time is `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::Waiting { until } if until <= now => self.open(now),
            State::Opening { deadline } if deadline <= now => {
                self.actions.push_back(Action::Close(1000));
                self.lose(codes::TIMEOUT, "the connection was not opened in time".into(), now);
            }
            State::Idle { .. } | State::Waiting { .. } | State::Opening { .. } | State::Open { .. } => {}
        }
    }

    /// Handles that the driver has opened a connection.
    pub fn handle_opened(&mut self, now: Instant) {
        if matches!(self.state, State::Opening { .. }) {
            self.state = State::Open { since: now };
            self.events.push_back(Event::Opened);
        }
    }

    /// Handles that the driver could not open a connection.
    pub fn handle_open_error(&mut self, reason: &str, now: Instant) {
        if matches!(self.state, State::Opening { .. }) {
            self.lose(codes::NOT_CONNECTED, reason.into(), now);
        }
    }

    /// Handles a message of the server.
    pub fn handle_message(&mut self, message: Message) {
        if self.is_open() {
            self.events.push_back(Event::Message(message));
        }
    }

    /// Handles the end of the connection: with the code and the reason of a Close, or [`codes::LOST`].
    pub fn handle_closed(&mut self, code: u16, reason: &str, now: Instant) {
        if !self.is_open() {
            return;
        }
        if code >= 1000 && !may_reconnect(code, true) {
            self.state = State::Idle { has_ended: true };
            self.events.push_back(Event::Closed { code, reason: reason.into() });
        } else {
            self.lose(code, reason.into(), now);
        }
    }

    fn open(&mut self, now: Instant) {
        self.state = State::Opening { deadline: now + self.timeout };
        self.actions.push_back(Action::Open);
    }

    fn lose(&mut self, code: u16, reason: String, now: Instant) {
        // A server that accepts connections and ends them at once is not reached more often than one that refuses them.
        if let State::Open { since } = self.state
            && now >= since + self.backoff.bound(self.failed)
        {
            self.failed = 0;
        }
        let delay = self.backoff.delay(self.failed, &mut self.random);
        self.failed = self.failed.saturating_add(1);
        self.state = State::Waiting { until: now + delay };
        // While the application takes no events, only the last one of several attempts waits.
        if let Some(Event::Reconnecting { .. }) = self.events.back() {
            self.events.pop_back();
        }
        self.events.push_back(Event::Reconnecting { code, reason, delay });
    }

    fn end_if_finished(&mut self) {
        if !self.is_finishing || !self.messages.is_empty() || self.has_ended() {
            return;
        }
        if matches!(self.state, State::Opening { .. } | State::Open { .. }) {
            self.actions.push_back(Action::Close(1000));
        }
        self.state = State::Idle { has_ended: true };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine that has asked for its first connection.
    fn start(now: Instant) -> Machine {
        let mut machine = Machine::new(Backoff::default(), Duration::from_secs(5), 1);
        assert_eq!(machine.poll_timeout(), None);
        machine.connect(now);
        machine.connect(now);
        assert_eq!((machine.poll_action(), machine.poll_action()), (Some(Action::Open), None));
        machine
    }

    /// A machine with a connection.
    fn open(now: Instant) -> Machine {
        let mut machine = start(now);
        machine.handle_opened(now);
        assert_eq!(machine.poll_event(), Some(Event::Opened));
        machine
    }

    fn text(text: &str) -> Message {
        Message::Text(text.into())
    }

    #[test]
    fn messages_wait_for_a_connection_and_keep_their_order() {
        let now = Instant::now();
        let mut machine = start(now);
        machine.send(text("1"));
        machine.send(text("2"));
        assert_eq!((machine.poll_message(), machine.waiting()), (None, 2));
        machine.handle_opened(now);
        assert_eq!(machine.poll_message(), Some(text("1")));
        machine.handle_closed(codes::LOST, "reset", now);
        // The connection has taken the first one, so it may be lost. The second one waits for the next connection.
        assert_eq!((machine.poll_message(), machine.waiting()), (None, 1));
        let at = machine.poll_timeout().expect("it waits");
        machine.handle_timeout(at);
        assert_eq!(machine.poll_action(), Some(Action::Open));
        machine.handle_opened(at);
        assert_eq!((machine.poll_message(), machine.poll_message()), (Some(text("2")), None));
    }

    #[test]
    fn delays_grow_until_a_connection_has_lasted() {
        let mut now = Instant::now();
        let mut machine = start(now);
        for failed in 0..6 {
            machine.handle_open_error("refused", now);
            let Some(Event::Reconnecting { code, delay, .. }) = machine.poll_event() else { panic!() };
            assert_eq!(code, codes::NOT_CONNECTED);
            assert!(delay <= Backoff::default().bound(failed), "{failed}: {delay:?}");
            assert_eq!(machine.poll_timeout(), Some(now + delay));
            now += delay;
            machine.handle_timeout(now);
            assert_eq!(machine.poll_action(), Some(Action::Open));
        }
        assert_eq!(machine.failed, 6);
        // A connection that is lost at once counts as a failed attempt.
        machine.handle_opened(now);
        machine.handle_closed(1012, "restart", now);
        assert_eq!(machine.failed, 7);
        now = machine.poll_timeout().expect("it waits");
        machine.handle_timeout(now);
        machine.handle_opened(now);
        machine.handle_closed(1012, "restart", now + Duration::from_secs(20));
        assert_eq!(machine.failed, 1);
    }

    #[test]
    fn attempt_without_an_answer_is_given_up() {
        let now = Instant::now();
        let mut machine = start(now);
        let deadline = now + Duration::from_secs(5);
        assert_eq!(machine.poll_timeout(), Some(deadline));
        machine.handle_timeout(deadline - Duration::from_nanos(1));
        assert_eq!(machine.poll_action(), None);
        machine.handle_timeout(deadline);
        assert_eq!(machine.poll_action(), Some(Action::Close(1000)));
        assert!(matches!(machine.poll_event(), Some(Event::Reconnecting { code: codes::TIMEOUT, .. })));
        // It may succeed at the same time.
        machine.handle_opened(deadline);
        assert!(!machine.is_open() && machine.poll_event().is_none());
    }

    #[test]
    fn some_codes_end_the_client() {
        for (code, is_final) in [(1001, false), (4401, false), (1009, true), (4403, true), (4409, true)] {
            let now = Instant::now();
            let mut machine = open(now);
            machine.handle_closed(code, "the reason", now);
            assert_eq!(machine.has_ended(), is_final, "{code}");
            let is_closed = machine.poll_event() == Some(Event::Closed { code, reason: "the reason".into() });
            assert_eq!((is_closed, machine.poll_timeout().is_none()), (is_final, is_final), "{code}");
            machine.connect(now);
            assert_eq!(machine.poll_action(), None, "{code}");
        }
    }

    #[test]
    fn messages_of_the_server_are_events() {
        let now = Instant::now();
        let mut machine = open(now);
        machine.handle_message(text("Hello"));
        assert_eq!(machine.poll_event(), Some(Event::Message(text("Hello"))));
        machine.handle_closed(codes::LOST, "", now);
        machine.poll_event();
        machine.handle_message(text("late"));
        assert_eq!(machine.poll_event(), None);
    }

    #[test]
    fn only_the_last_failed_attempt_waits_for_the_application() {
        let mut now = Instant::now();
        let mut machine = start(now);
        for reason in ["1", "2", "3"] {
            machine.handle_open_error(reason, now);
            now = machine.poll_timeout().expect("it waits");
            machine.handle_timeout(now);
        }
        assert!(matches!(machine.poll_event(), Some(Event::Reconnecting { reason, .. }) if reason == "3"));
        assert_eq!(machine.poll_event(), None);
    }

    #[test]
    fn client_ends_when_its_messages_are_taken() {
        let now = Instant::now();
        let mut machine = open(now);
        machine.send(text("last"));
        machine.finish();
        assert!(!machine.has_ended());
        assert_eq!(machine.poll_message(), Some(text("last")));
        assert!(machine.has_ended());
        assert_eq!((machine.poll_action(), machine.poll_action()), (Some(Action::Close(1000)), None));
    }

    #[test]
    fn client_without_messages_ends_in_any_state() {
        let now = Instant::now();
        let mut opening = start(now);
        opening.finish();
        assert_eq!((opening.has_ended(), opening.poll_action()), (true, Some(Action::Close(1000))));
        let mut waiting = start(now);
        waiting.handle_open_error("refused", now);
        waiting.finish();
        waiting.finish();
        assert_eq!((waiting.has_ended(), waiting.poll_action(), waiting.poll_timeout()), (true, None, None));
        let mut idle = Machine::new(Backoff::default(), Duration::ZERO, 1);
        idle.finish();
        assert_eq!((idle.has_ended(), idle.poll_action()), (true, None));
    }
}
