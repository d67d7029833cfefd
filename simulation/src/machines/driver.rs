//! The driver of a client's state machine. It does with a model of a socket what `client.rs` of the client does with a real one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use postern_client::machine::{Action, RequestId};
use postern_client::{Answer, Event, Machine, MachineConfig, RequestError, TokenError};

use super::plan::Plan;
use super::session::Session;
use crate::channels::node::Node;
use crate::channels::plan::user_name;
use crate::fault::Fault;
use crate::random::Random;
use crate::sdk::{Arrival, State};
use crate::socket::Link;
use crate::trace::{Subject, Trace};

/// A client's state machine, with what its driver keeps for it.
#[derive(Debug)]
pub(crate) struct Driver {
    number: usize,
    user: usize,
    pub(crate) machine: Machine,
    /// The number of its session, from the beginning of an attempt on.
    pub(crate) session: Option<usize>,
    /// Whether the session is open.
    is_open: bool,
    /// The end of an attempt without a session, and whether the answer is 401.
    refused: Option<(Duration, bool)>,
    /// Whether another session must begin.
    pub(crate) wants_open: bool,
    /// The messages that the socket has not accepted yet.
    outgoing: VecDeque<String>,
    tokens: Vec<TokenRequest>,
    /// Whether the answer to an older request for the same token is not passed on.
    replaces_tokens: bool,
    /// The events that wait for the application.
    pub(crate) events: VecDeque<Event>,
    most_events: usize,
    /// The answers that the application has yet to take.
    pub(crate) answers: VecDeque<(RequestId, Result<Answer, RequestError>)>,
    /// Whether a message was not handled because too many events waited.
    has_unhandled: bool,
    /// No bytes pass until then.
    pub(crate) frozen_until: Duration,
    reads_at: Duration,
    /// The most bytes that it reads and writes at a time.
    portion: usize,
    /// The longest time between two transfers, in microseconds.
    pause: usize,
    /// The time until which a fault forgets all time-outs.
    forgets_until: Duration,
    fault: Option<Fault>,
    /// Whether the network and the source of tokens have no faults any more.
    pub(crate) is_healed: bool,
    random: Random,
}

/// A token that is asked for.
#[derive(Debug)]
struct TokenRequest {
    channel: Option<String>,
    /// `None`: there is no answer.
    at: Option<Duration>,
    result: Result<String, TokenError>,
}

/// The session of a driver, until it ends.
type Current<'s> = Option<&'s mut Session>;

impl Driver {
    pub(crate) fn new(
        number: usize,
        user: usize,
        plan: &Plan,
        has_tokens: bool,
        fault: Option<Fault>,
        mut random: Random,
    ) -> Driver {
        let config = MachineConfig {
            backoff: plan.backoff,
            timeout: plan.timeout,
            token_timeout: plan.token_timeout,
            max_ping_delay: plan.max_ping_delay,
            max_requests: plan.max_requests,
            has_token_source: has_tokens && random.one_in(2),
            ..MachineConfig::default()
        };
        let seed = if fault == Some(Fault::SharedSeed) { 1 } else { random.number() };
        Driver {
            number,
            user,
            machine: Machine::new(config, seed),
            session: None,
            is_open: false,
            refused: None,
            wants_open: false,
            outgoing: VecDeque::new(),
            tokens: Vec::new(),
            replaces_tokens: random.one_in(2),
            events: VecDeque::new(),
            most_events: plan.events,
            answers: VecDeque::new(),
            has_unhandled: false,
            frozen_until: Duration::ZERO,
            reads_at: Duration::ZERO,
            portion: random.magnitude(32..=262_144),
            pause: random.pick([100, 1000, 20_000]),
            forgets_until: Duration::ZERO,
            fault,
            is_healed: false,
            random,
        }
    }

    /// Begins a session.
    pub(crate) fn open(&mut self, session: usize) {
        self.wants_open = false;
        self.session = Some(session);
        self.is_open = false;
        self.reads_at = Duration::ZERO;
    }

    /// Makes an attempt fail at a time.
    pub(crate) fn refuse(&mut self, at: Duration, is_unauthorized: bool) {
        self.wants_open = false;
        self.refused = Some((at, is_unauthorized));
    }

    fn has_room(&self) -> bool {
        self.events.len() < self.most_events
    }

    /// Whether orders of the application are accepted.
    pub(crate) fn takes_orders(&self) -> bool {
        self.outgoing.len() < MOST_OUTGOING
    }

    /// Returns the time of the next step, if there is something to do.
    pub(crate) fn next_step(
        &mut self,
        session: Option<&Session>,
        start: Instant,
        now: Duration,
    ) -> Option<Duration> {
        let timeout = self.machine.poll_timeout().map(|at| at.saturating_duration_since(start));
        let timeout = timeout.map(|at| at.max(self.forgets_until));
        let tokens = self.tokens.iter().filter_map(|request| request.at);
        let refused = self.refused.map(|(at, _)| at);
        let exact = tokens.chain(refused).chain(timeout).min().map(|at| at.max(now));
        let transfer = session.and_then(|session| {
            let (has_room, transport) = (self.has_room(), &session.transport);
            let reads_at = if has_room { self.reads_at } else { Duration::MAX };
            let has_more = !self.outgoing.is_empty() && !transport.has_output();
            let now_if = |holds: bool| holds.then_some(Duration::ZERO);
            let unhandled = now_if(self.has_unhandled && has_room);
            let at = transport.next_transfer(reads_at).into_iter().chain(unhandled).chain(now_if(has_more));
            at.min().filter(|at| *at < Duration::MAX)
        });
        let pause = if self.is_healed { 100 } else { self.pause };
        let transfer = transfer.map(|at| at.max(now).max(self.frozen_until) + self.random.micros(1..=pause));
        exact.into_iter().chain(transfer).min()
    }

    /// Does everything that is due, except what the application does.
    ///
    /// # Errors
    /// The promise that is broken.
    pub(crate) fn step(
        &mut self,
        mut session: Current<'_>,
        node: &mut Node,
        trace: &mut Trace,
        start: Instant,
    ) -> Result<(), &'static str> {
        let now = trace.now;
        if let Some((at, is_unauthorized)) = self.refused
            && at <= now
        {
            self.refused = None;
            if self.fault == Some(Fault::ForgottenTimeout) && self.random.one_in(4) {
                self.forgets_until = Duration::from_secs(1_000_000);
            }
            self.machine.handle_open_error("refused", is_unauthorized, start + now);
            self.settle(&mut session, node, trace)?;
        }
        while let Some(due) = self.tokens.iter().position(|request| request.at.is_some_and(|at| at <= now)) {
            let TokenRequest { channel, result, .. } = self.tokens.swap_remove(due);
            self.machine.handle_token(channel.as_deref(), result, start + now);
            self.settle(&mut session, node, trace)?;
        }
        if session.is_some() && self.frozen_until <= now {
            self.receive(&mut session, node, trace, start)?;
        }
        for attempt in 0.. {
            let is_due = self.machine.poll_timeout().is_some_and(|at| at <= start + now);
            if !is_due || now < self.forgets_until {
                break;
            }
            if attempt > MOST_TIMEOUTS {
                return Err("the client is always due");
            }
            trace.step(Subject::Client(self.number), "handles a time-out", attempt);
            self.machine.handle_timeout(start + now);
            self.settle(&mut session, node, trace)?;
        }
        if let Some(session) = session
            && self.frozen_until <= now
        {
            self.write(session, trace);
        }
        Ok(())
    }

    /// Performs the actions of the state machine, and passes on its answers and events.
    ///
    /// # Errors
    /// The promise that is broken.
    pub(crate) fn settle(
        &mut self,
        session: &mut Current<'_>,
        node: &mut Node,
        trace: &mut Trace,
    ) -> Result<(), &'static str> {
        while let Some(action) = self.machine.poll_action() {
            if trace.is_printed() {
                println!("                  client {}: {action:?}", self.number + 1);
            }
            match action {
                Action::Open if session.is_some() || self.session.is_some() || self.refused.is_some() => {
                    return Err("the client opens a second connection");
                }
                Action::Open => self.wants_open = true,
                Action::Send(text) if self.is_open => self.queue(text)?,
                Action::Send(_) => return Err("the client sends a command without a connection"),
                Action::Close(code) => {
                    self.refused = None;
                    self.wants_open = false;
                    if let Some(session) = session.take() {
                        session.transport.send_close(Some(code));
                        self.leave(session, trace);
                    }
                    self.forget();
                }
                Action::GetToken(channel) => self.ask(channel, node, trace),
            }
        }
        while let Some(answer) = self.machine.poll_answer() {
            self.answers.push_back(answer);
        }
        self.take_events(trace)
    }

    /// Takes events of the state machine, as long as there is room for them.
    fn take_events(&mut self, trace: &Trace) -> Result<(), &'static str> {
        let mut was_reconnecting = false;
        while self.has_room()
            && let Some(event) = self.machine.poll_event()
        {
            if trace.is_printed() {
                println!("                  client {}: {event:?}", self.number + 1);
            }
            let is_reconnecting = matches!(event, Event::Reconnecting { .. });
            if is_reconnecting && was_reconnecting {
                return Err("the events of attempts accumulate");
            }
            was_reconnecting = is_reconnecting;
            self.events.push_back(event);
        }
        Ok(())
    }

    fn queue(&mut self, mut text: String) -> Result<(), &'static str> {
        if self.fault == Some(Fault::LostPosition) {
            text = text.replace(r#""recover":true,"#, "");
        }
        if self.fault == Some(Fault::LostCommand) && !self.outgoing.is_empty() {
            return Ok(());
        }
        self.outgoing.push_back(text);
        // The commands of one call, and the answers to pings.
        if self.outgoing.len() > 2 * MOST_OUTGOING {
            Err("the commands of a client accumulate")
        } else {
            Ok(())
        }
    }

    /// Asks the source of tokens.
    fn ask(&mut self, channel: Option<String>, node: &mut Node, trace: &Trace) {
        if self.replaces_tokens {
            self.tokens.retain(|request| request.channel != channel);
        }
        let (is_healed, user) = (self.is_healed, user_name(self.user));
        let token = node.issuer.issue(&user, channel.as_deref(), is_healed, &mut self.random).1;
        let result = match self.random.within(0..=59) {
            _ if is_healed => Ok(token),
            0 => Err(TokenError::Unauthorized),
            1..=6 => Err(TokenError::Unavailable),
            _ => Ok(token),
        };
        let delay = if is_healed { Duration::from_micros(1) } else { self.random.micros(1..=3_000_000) };
        let is_answered = is_healed || !self.random.one_in(20);
        if !is_answered {
            node.mail.marks.insert("a token never arrives");
        }
        self.tokens.push(TokenRequest { channel, at: is_answered.then(|| trace.now + delay), result });
    }

    /// Reads, and handles the messages for whose events there is room.
    fn receive(
        &mut self,
        session: &mut Current<'_>,
        node: &mut Node,
        trace: &mut Trace,
        start: Instant,
    ) -> Result<(), &'static str> {
        let now = start + trace.now;
        self.has_unhandled = false;
        let portion = if self.is_healed { usize::MAX } else { self.random.magnitude(1..=self.portion) };
        if let Some(session) = session
            && self.has_room()
            && (self.reads_at <= trace.now || self.is_healed)
        {
            session.transport.read(portion, trace);
            let is_slow = self.random.one_in(50);
            self.reads_at = trace.now + self.random.micros(1..=if is_slow { 5_000_000 } else { 1000 });
        }
        while let Some(current) = session.as_deref_mut() {
            if !self.has_room() {
                self.has_unhandled = true;
                return Ok(());
            }
            let arrival = current.transport.next_encoded(trace)?;
            if let Some(status) = current.transport.status.filter(|_| !self.is_open) {
                if status != 101 {
                    trace.step(Subject::Client(self.number), "is refused with status", status.into());
                    self.drop_session(session, trace);
                    self.machine.handle_open_error("refused", status == 401, now);
                    return self.settle(session, node, trace);
                }
                self.is_open = true;
                self.machine.handle_opened(now);
                self.settle(session, node, trace)?;
            }
            let Some(current) = session.as_deref_mut() else { return Ok(()) };
            match arrival {
                Some(Arrival::Replies(payload)) => {
                    let text = std::str::from_utf8(&payload).map_err(|_| "a message is not UTF-8")?;
                    if trace.is_printed() {
                        println!("                  client {}: receives {text}", self.number + 1);
                    }
                    self.machine.handle_message(text, now);
                    if self.fault == Some(Fault::RepeatedMessage) && self.random.one_in(20) {
                        self.machine.handle_message(text, now);
                    }
                    self.settle(session, node, trace)?;
                }
                Some(Arrival::Ping(payload)) => current.transport.send_pong(&payload),
                Some(Arrival::Close(code)) => {
                    check_code(code)?;
                    trace.seen.extend(code);
                    current.transport.accept_close(code);
                    self.drop_session(session, trace);
                    self.machine.handle_closed(code.unwrap_or(1005), "closed by the server", now);
                    return self.settle(session, node, trace);
                }
                None if current.transport.state == State::Done => {
                    let was_open = self.is_open;
                    self.drop_session(session, trace);
                    match was_open {
                        true => self.machine.handle_closed(LOST, "lost", now),
                        false => self.machine.handle_open_error("lost", false, now),
                    }
                    return self.settle(session, node, trace);
                }
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Handles that the network has reset the connection.
    ///
    /// # Errors
    /// The promise that is broken.
    pub(crate) fn reset(
        &mut self,
        session: &mut Session,
        node: &mut Node,
        trace: &mut Trace,
        start: Instant,
    ) -> Result<(), &'static str> {
        session.transport.reset();
        let was_open = self.is_open;
        self.forget();
        match was_open {
            true => self.machine.handle_closed(LOST, "reset", start + trace.now),
            false => self.machine.handle_open_error("reset", false, start + trace.now),
        }
        self.settle(&mut None, node, trace)
    }

    fn drop_session(&mut self, session: &mut Current<'_>, trace: &mut Trace) {
        if let Some(session) = session.take() {
            self.leave(session, trace);
        }
        self.forget();
    }

    /// Forgets what belongs to a session that has ended.
    fn forget(&mut self) {
        self.session = None;
        self.is_open = false;
        self.has_unhandled = false;
        self.outgoing.clear();
    }

    /// Writes what the socket accepts, and closes it.
    fn leave(&mut self, session: &mut Session, trace: &mut Trace) {
        if self.frozen_until <= trace.now {
            session.transport.write(usize::MAX, trace);
        }
        if self.random.one_in(2) || self.frozen_until > trace.now {
            session.transport.link.client_reset();
        } else {
            session.transport.link.client_shut_down();
        }
        session.transport.state = State::Done;
    }

    fn write(&mut self, session: &mut Session, trace: &mut Trace) {
        loop {
            if !session.transport.has_output() {
                let Some(text) = self.outgoing.pop_front() else { return };
                session.transport.send_message(text.as_bytes());
            }
            let portion = if self.is_healed { usize::MAX } else { self.random.magnitude(1..=self.portion) };
            session.transport.write(portion, trace);
            if session.transport.has_output() {
                return;
            }
        }
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_at_rest(&self, session: Option<&Session>) -> bool {
        // A client may not have noticed yet that its connection has ended.
        let has_ended = |link: &Link| link.has_client_ended() || link.is_closed();
        let is_at_rest =
            |session: &Session| session.transport.is_at_rest() && !has_ended(&session.transport.link);
        self.is_open
            && session.is_some_and(is_at_rest)
            && self.outgoing.is_empty()
            && self.tokens.iter().all(|request| request.at.is_none())
            && self.events.is_empty()
            && !self.has_unhandled
            && self.frozen_until == Duration::ZERO
    }
}

/// Checks that a Close has a cause: none of them is a fault of the client.
fn check_code(code: Option<u16>) -> Result<(), &'static str> {
    match code {
        // The node stops; a token expires; the client does not read, or does not answer; there is a gap; a token is invalid.
        Some(3001 | 3005 | 3006 | 3008 | 3010 | 3012 | 3500 | 1000) => Ok(()),
        // It does not send its first command in time.
        Some(3502) => Ok(()),
        _ => Err("the code of the Close has no cause"),
    }
}

/// The code of a connection that ends without a Close.
const LOST: u16 = postern_client::close::codes::LOST;

/// The most messages that wait for the socket, after which no orders of the application are taken.
const MOST_OUTGOING: usize = 64;

/// The most time-outs of one step.
const MOST_TIMEOUTS: usize = 20;
