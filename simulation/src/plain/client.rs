//! A plain client: its state machine, a driver that does with a model of a socket what `driver.rs` of the client does with a real
//! one, and its application, which sends numbered messages.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use postern_client::Backoff;
use postern_client::plain::{Action, Event, Machine, Message};

use crate::fault::Fault;
use crate::machines::session::Session;
use crate::random::Random;
use crate::sdk::{Arrival, State};
use crate::trace::{Subject, Trace};

/// The settings of the clients of a seed.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClientPlan {
    pub(super) backoff: Backoff,
    pub(super) timeout: Duration,
    /// The number of messages of each client.
    pub(super) messages: u64,
    /// The longest message, in bytes.
    pub(super) longest: usize,
    /// The number of events that wait for an application, after which its client does not read.
    pub(super) events: usize,
}

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    number: usize,
    plan: ClientPlan,
    machine: Machine,
    /// The number of its session, from the beginning of an attempt on.
    pub(super) session: Option<usize>,
    is_open: bool,
    /// The end of an attempt without a session.
    refused: Option<Duration>,
    /// Whether another session must begin.
    pub(super) wants_open: bool,
    /// The number of messages that the application has sent, and of those that a connection has taken.
    asked: u64,
    taken: u64,
    /// The messages whose echoes have not arrived on this connection.
    expected: VecDeque<u64>,
    /// The events that wait for the application.
    events: VecDeque<Event>,
    /// Whether a message was not handled because too many events waited.
    has_unhandled: bool,
    /// The time of the next attempt that the application knows.
    announced: Option<Duration>,
    /// The number of failed attempts since a connection that has lasted, and the time of the last connection.
    failed: u32,
    opened_at: Option<Duration>,
    /// The delays before attempts, with their bounds.
    pub(super) delays: Vec<(Duration, Duration)>,
    /// Whether a final close code has arrived.
    is_closed: bool,
    /// No bytes pass until then.
    pub(super) frozen_until: Duration,
    sends_at: Duration,
    /// The most bytes that it reads and writes at a time.
    portion: usize,
    pub(super) is_healed: bool,
    is_finishing: bool,
    fault: Option<Fault>,
    random: Random,
}

/// The session of a client, until it ends.
type Current<'s> = Option<&'s mut Session>;

/// The surroundings of a step.
pub(super) struct Step<'t> {
    pub(super) trace: &'t mut Trace,
    pub(super) start: Instant,
    pub(super) marks: &'t mut BTreeSet<&'static str>,
}

impl Client {
    pub(super) fn new(number: usize, plan: ClientPlan, fault: Option<Fault>, mut random: Random) -> Client {
        let seed = if fault == Some(Fault::SharedDelays) { 1 } else { random.number() };
        Client {
            number,
            plan,
            machine: Machine::new(plan.backoff, plan.timeout, seed),
            session: None,
            is_open: false,
            refused: None,
            wants_open: false,
            asked: 0,
            taken: 0,
            expected: VecDeque::new(),
            events: VecDeque::new(),
            has_unhandled: false,
            announced: None,
            failed: 0,
            opened_at: None,
            delays: Vec::new(),
            is_closed: false,
            frozen_until: Duration::ZERO,
            sends_at: Duration::ZERO,
            portion: random.magnitude(32..=262_144),
            is_healed: false,
            is_finishing: false,
            fault,
            random,
        }
    }

    /// Begins to connect.
    pub(super) fn connect(&mut self, now: Instant) {
        self.machine.connect(now);
    }

    /// Begins a session.
    pub(super) fn open(&mut self, session: usize) {
        self.wants_open = false;
        self.session = Some(session);
        self.is_open = false;
    }

    /// Makes an attempt fail at a time. `None`: it never gets an answer.
    pub(super) fn refuse(&mut self, at: Option<Duration>) {
        self.wants_open = false;
        self.refused = Some(at.unwrap_or(Duration::MAX));
    }

    /// Sends the messages that are left, and ends.
    pub(super) fn finish(&mut self) {
        self.asked = self.plan.messages;
        self.is_finishing = true;
    }

    /// Whether the client has ended, and has no connection.
    pub(super) fn has_ended(&self) -> bool {
        self.machine.has_ended() && self.session.is_none()
    }

    /// Whether all echoes have arrived, or the client was ended by the server.
    pub(super) fn is_at_rest(&self) -> bool {
        let has_all = self.taken == self.plan.messages && self.expected.is_empty();
        self.is_closed || self.is_open && has_all && self.events.is_empty() && self.frozen_until.is_zero()
    }

    fn has_room(&self) -> bool {
        self.events.len() < self.plan.events
    }

    /// Returns the time of the next step, if there is something to do.
    pub(super) fn next_step(
        &mut self,
        session: Option<&Session>,
        start: Instant,
        now: Duration,
    ) -> Option<Duration> {
        let timeout = self.machine.poll_timeout().map(|at| at.saturating_duration_since(start));
        let refused = self.refused.filter(|at| *at < Duration::MAX);
        let exact = timeout.into_iter().chain(refused).min().map(|at| at.max(now));
        let sends = (self.asked < self.plan.messages && !self.is_closed).then_some(self.sends_at.max(now));
        let acts = (!self.events.is_empty()).then_some(now);
        let transfer = session.and_then(|session| {
            let reads_at = if self.has_room() { Duration::ZERO } else { Duration::MAX };
            let has_more = self.machine.waiting() > 0 && self.is_open && !session.transport.has_output();
            let now_if = |holds: bool| holds.then_some(Duration::ZERO);
            let unhandled = now_if(self.has_unhandled && self.has_room());
            let at = session.transport.next_transfer(reads_at).into_iter();
            at.chain(unhandled).chain(now_if(has_more)).min().filter(|at| *at < Duration::MAX)
        });
        let pause = if self.is_healed { 100 } else { 20_000 };
        let later = |at: Duration, random: &mut Random| at + random.micros(1..=pause);
        let transfer = transfer.map(|at| at.max(now).max(self.frozen_until));
        let transfer = transfer.into_iter().chain(acts).min().map(|at| later(at, &mut self.random));
        exact.into_iter().chain(sends).chain(transfer).min()
    }

    /// Does everything that is due.
    ///
    /// # Errors
    /// The promise that is broken.
    pub(super) fn step(
        &mut self,
        mut session: Current<'_>,
        around: &mut Step<'_>,
    ) -> Result<(), &'static str> {
        let now = around.trace.now;
        self.act(around);
        if self.refused.is_some_and(|at| at <= now) {
            self.refused = None;
            self.machine.handle_open_error("refused", around.start + now);
            self.note_delay(now, around.start)?;
        }
        self.settle(&mut session, around)?;
        if self.frozen_until <= now {
            self.receive(&mut session, around)?;
        }
        if self.machine.poll_timeout().is_some_and(|at| at <= around.start + now) {
            around.trace.step(Subject::Client(self.number), "handles a time-out", 0);
            // It makes an attempt, or gives one up.
            let is_attempting = self.session.is_some() || self.refused.is_some();
            self.machine.handle_timeout(around.start + now);
            if is_attempting {
                self.note_delay(now, around.start)?;
            }
            self.settle(&mut session, around)?;
        }
        if self.is_finishing && !self.is_closed {
            self.machine.finish();
        }
        if let Some(session) = session.as_deref_mut().filter(|_| self.frozen_until <= now) {
            self.write(session, around)?;
        }
        // The last message may have been taken.
        self.settle(&mut session, around)
    }

    /// Does what the application does: it takes events, and sends messages.
    fn act(&mut self, around: &mut Step<'_>) {
        if self.is_healed || self.random.one_in(2) {
            self.events.pop_front();
        }
        let due = self.asked < self.plan.messages && (self.sends_at <= around.trace.now || self.is_healed);
        if due && !self.is_closed {
            around.trace.step(Subject::Client(self.number), "has a message", self.asked as usize);
            self.asked += 1;
            self.sends_at = around.trace.now + self.random.micros(1..=1_000_000);
        }
    }

    /// Performs the actions of the state machine, and takes its events.
    fn settle(&mut self, session: &mut Current<'_>, around: &mut Step<'_>) -> Result<(), &'static str> {
        // As the driver does: the messages that wait for a connection are in the queue of the application.
        let next = self.taken + self.machine.waiting() as u64;
        if self.machine.waiting() == 0 && next < self.asked && !self.machine.has_ended() {
            let mut text = format!("{next} ");
            text.push_str(&"x".repeat(self.random.within(0..=self.plan.longest)));
            self.machine.send(Message::Text(text));
        }
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Open if session.is_some() || self.session.is_some() || self.refused.is_some() => {
                    return Err("the client opens a second connection");
                }
                Action::Open if self.announced.take().is_some_and(|at| at != around.trace.now) => {
                    return Err("an attempt is made at another time than announced");
                }
                Action::Open => self.wants_open = true,
                Action::Close(code) => {
                    around.trace.step(Subject::Client(self.number), "closes with code", code.into());
                    if !self.is_finishing {
                        around.marks.insert("an attempt is given up");
                    }
                    self.refused = None;
                    self.wants_open = false;
                    if let Some(session) = session.take() {
                        session.transport.send_close(Some(code));
                        self.leave(session, around.trace);
                    }
                }
            }
        }
        while self.has_room()
            && let Some(event) = self.machine.poll_event()
        {
            around.trace.step(Subject::Client(self.number), "has an event", 0);
            self.note(&event, around)?;
            self.events.push_back(event);
        }
        Ok(())
    }

    fn note(&mut self, event: &Event, around: &mut Step<'_>) -> Result<(), &'static str> {
        match event {
            Event::Message(Message::Text(text)) => {
                let number = text.split(' ').next().and_then(|number| number.parse().ok());
                if number.is_none() || self.expected.pop_front() != number {
                    return Err("an echo is lost, repeated, or in another place");
                }
            }
            Event::Message(_) => return Err("an echo has another kind"),
            Event::Closed { code, .. } => {
                around.trace.seen.insert(*code);
                around.marks.insert("a client ends");
                self.is_closed = true;
                if !matches!(code, 4403 | 4409) {
                    return Err("a close code ends the client that is not final");
                }
            }
            Event::Reconnecting { code, delay, .. } => {
                around.trace.seen.insert(*code);
                if matches!(code, 4403 | 4409) {
                    return Err("a client connects again although its close code is final");
                }
                if *delay > self.plan.backoff.most {
                    return Err("a delay is above its bound");
                }
            }
            Event::Opened | _ => {}
        }
        Ok(())
    }

    /// Notes the delay before the next attempt, when a connection or an attempt ends.
    fn note_delay(&mut self, now: Duration, start: Instant) -> Result<(), &'static str> {
        if self.machine.has_ended() {
            return Ok(());
        }
        let bound = |failed| self.plan.backoff.bound(failed);
        if self.opened_at.take().is_some_and(|at| now >= at + bound(self.failed)) {
            self.failed = 0;
        }
        let at = self.machine.poll_timeout().map(|at| at.saturating_duration_since(start));
        let Some(delay) = at.and_then(|at| at.checked_sub(now)) else {
            return Err("a client does not return");
        };
        if delay > bound(self.failed) {
            return Err("a delay is above the bound of the attempt");
        }
        self.delays.push((delay, bound(self.failed)));
        self.failed += 1;
        self.announced = at;
        Ok(())
    }

    /// Reads, and handles the messages for whose events there is room.
    fn receive(&mut self, session: &mut Current<'_>, around: &mut Step<'_>) -> Result<(), &'static str> {
        let (start, trace) = (around.start, &mut *around.trace);
        let now = start + trace.now;
        self.has_unhandled = false;
        let portion = if self.is_healed { usize::MAX } else { self.random.magnitude(1..=self.portion) };
        if let Some(session) = session.as_deref_mut().filter(|_| self.has_room()) {
            session.transport.read(portion, trace);
        }
        while let Some(current) = session.as_deref_mut() {
            if !self.has_room() {
                self.has_unhandled = true;
                return Ok(());
            }
            let arrival = current.transport.next_encoded(around.trace)?;
            if let Some(status) = current.transport.status.filter(|_| !self.is_open) {
                if status != 101 {
                    return self.end(session, None, around);
                }
                self.is_open = true;
                self.opened_at = Some(around.trace.now);
                self.machine.handle_opened(now);
                self.settle(session, around)?;
            }
            let Some(current) = session.as_deref_mut() else { return Ok(()) };
            match arrival {
                Some(Arrival::Replies(payload)) => {
                    let text = String::from_utf8(payload).map_err(|_| "a message is not UTF-8")?;
                    if self.fault == Some(Fault::RepeatedEcho) && self.random.one_in(20) {
                        self.machine.handle_message(Message::Text(text.clone()));
                    }
                    self.machine.handle_message(Message::Text(text));
                    self.settle(session, around)?;
                }
                Some(Arrival::Ping(payload)) => current.transport.send_pong(&payload),
                Some(Arrival::Close(code)) => {
                    around.trace.seen.extend(code);
                    current.transport.accept_close(code);
                    return self.end(session, Some(code.unwrap_or(1005)), around);
                }
                None if current.transport.state == State::Done => {
                    return self.end(session, Some(LOST), around);
                }
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Ends the session: with this code, or as an attempt that has failed.
    fn end(
        &mut self,
        session: &mut Current<'_>,
        code: Option<u16>,
        around: &mut Step<'_>,
    ) -> Result<(), &'static str> {
        let was_open = self.is_open;
        if let Some(session) = session.take() {
            self.leave(session, around.trace);
        }
        self.handle_end(was_open, code, around)?;
        self.settle(session, around)
    }

    fn handle_end(
        &mut self,
        was_open: bool,
        code: Option<u16>,
        around: &mut Step<'_>,
    ) -> Result<(), &'static str> {
        if !self.expected.is_empty() {
            around.marks.insert("messages are lost with a connection");
            self.expected.clear();
        }
        let now = around.start + around.trace.now;
        match code.filter(|_| was_open) {
            Some(code) => self.machine.handle_closed(code, "", now),
            None => self.machine.handle_open_error("refused", now),
        }
        self.note_delay(around.trace.now, around.start)
    }

    /// Handles that the network has reset the connection.
    ///
    /// # Errors
    /// The promise that is broken.
    pub(super) fn reset(&mut self, session: &mut Session, around: &mut Step<'_>) -> Result<(), &'static str> {
        session.transport.reset();
        let was_open = std::mem::take(&mut self.is_open);
        self.session = None;
        self.handle_end(was_open, Some(LOST), around)?;
        self.settle(&mut None, around)
    }

    /// Writes what the socket accepts, and closes it.
    fn leave(&mut self, session: &mut Session, trace: &mut Trace) {
        if self.frozen_until <= trace.now {
            session.transport.write(usize::MAX, trace);
        }
        match self.random.one_in(2) || self.frozen_until > trace.now {
            true => session.transport.link.client_reset(),
            false => session.transport.link.client_shut_down(),
        }
        session.transport.state = State::Done;
        self.session = None;
        self.is_open = false;
        self.has_unhandled = false;
    }

    fn write(&mut self, session: &mut Session, around: &mut Step<'_>) -> Result<(), &'static str> {
        loop {
            if !session.transport.has_output() {
                let Some(message) = self.machine.poll_message() else { return Ok(()) };
                let Message::Text(text) = message else { return Err("a message has another kind") };
                if text.split(' ').next().and_then(|number| number.parse().ok()) != Some(self.taken) {
                    return Err("a message is lost, repeated, or in another place");
                }
                self.expected.push_back(self.taken);
                self.taken += 1;
                if self.fault != Some(Fault::LostPlainMessage) || !self.random.one_in(20) {
                    session.transport.send_message(text.as_bytes());
                }
                self.settle(&mut None, around)?;
            }
            let portion = if self.is_healed { usize::MAX } else { self.random.magnitude(1..=self.portion) };
            session.transport.write(portion, around.trace);
            if session.transport.has_output() {
                return Ok(());
            }
        }
    }
}

/// The code of a connection that ends without a Close.
const LOST: u16 = postern_client::close::codes::LOST;
