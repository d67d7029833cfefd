//! The application of a client: what it wants, what it does, and what must hold for the events and the answers that it gets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use postern_client::machine::RequestId;
use postern_client::{Answer, Backoff, Event, Machine, Request, RequestError, SubscribeOptions};
use serde_json::value::RawValue;

use super::driver::Driver;
use super::plan::Plan;
use super::view::View;
use crate::channels::node::Node;
use crate::random::Random;
use crate::trace::{Subject, Trace};

/// The application of a client.
#[derive(Debug)]
pub(crate) struct Application {
    number: usize,
    /// The channels that it wants to be subscribed to.
    pub(crate) intent: BTreeSet<usize>,
    /// The channels to which it has subscribed, and whose subscriptions have not ended.
    made: BTreeSet<usize>,
    /// The channels as it sees them.
    pub(crate) views: BTreeMap<usize, View>,
    requests: BTreeMap<RequestId, Asked>,
    backoff: Backoff,
    timeout: Duration,
    max_requests: usize,
    pub(crate) is_connected: bool,
    /// Whether the client does not connect by itself.
    is_disconnected: bool,
    /// The delays before attempts, and their bounds.
    pub(crate) delays: Vec<(Duration, Duration)>,
    acts_at: Duration,
    takes_at: Duration,
    /// The longest time between two actions, in microseconds.
    idles: usize,
    /// The most events that it takes at a time.
    portion: usize,
    /// The number of its actions until now.
    chosen: usize,
    /// Whether it only keeps its subscriptions.
    pub(crate) is_hasty: bool,
    random: Random,
}

/// A request without an answer.
#[derive(Debug)]
struct Asked {
    at: Duration,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Publish,
    Presence,
    PresenceStats,
    History,
}

impl Application {
    pub(crate) fn new(number: usize, plan: &Plan, mut random: Random) -> Application {
        Application {
            number,
            intent: BTreeSet::new(),
            made: BTreeSet::new(),
            views: BTreeMap::new(),
            requests: BTreeMap::new(),
            backoff: plan.backoff,
            timeout: plan.timeout,
            max_requests: plan.max_requests,
            is_connected: false,
            is_disconnected: false,
            delays: Vec::new(),
            acts_at: Duration::ZERO,
            takes_at: Duration::ZERO,
            idles: random.pick([2_000, 100_000, 1_000_000]),
            portion: random.magnitude(1..=64),
            chosen: 0,
            is_hasty: false,
            random,
        }
    }

    /// Returns the time of the next step, if there is something to do.
    pub(crate) fn next_step(&self, driver: &Driver, now: Duration) -> Option<Duration> {
        let takes_at = (!driver.events.is_empty()).then_some(self.takes_at);
        let acts_at = match self.is_hasty {
            false => Some(self.acts_at),
            true => (self.is_disconnected || self.has_unmade()).then_some(self.acts_at),
        };
        let acts_at = acts_at.filter(|_| driver.takes_orders());
        takes_at.into_iter().chain(acts_at).min().map(|at| at.max(now))
    }

    /// Whether a subscription that it wants was ended by the server.
    fn has_unmade(&self) -> bool {
        !self.intent.is_subset(&self.made)
    }

    /// Whether it has all that it wants.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.is_connected
            && self.requests.is_empty()
            && self.intent.iter().all(|channel| self.views.get(channel).is_some_and(|view| view.is_active))
    }

    /// Takes events and answers, and acts.
    ///
    /// # Errors
    /// The promise that is broken.
    pub(crate) fn step(
        &mut self,
        driver: &mut Driver,
        node: &mut Node,
        trace: &mut Trace,
        start: Instant,
    ) -> Result<(), &'static str> {
        let now = trace.now;
        while let Some((id, answer)) = driver.answers.pop_front() {
            self.check_answer(id, answer, now)?;
        }
        if self.requests.values().any(|asked| now > asked.at + 2 * self.timeout + SLACK) {
            return Err("a request is not answered in time");
        }
        if self.takes_at <= now || self.is_hasty {
            let most = if self.is_hasty { usize::MAX } else { self.random.within(1..=self.portion) };
            for _ in 0..most {
                let Some(event) = driver.events.pop_front() else { break };
                self.handle(event, node, trace)?;
            }
            let is_slow = self.random.one_in(40) && !self.is_hasty;
            self.takes_at = now + self.random.micros(1..=if is_slow { 20_000_000 } else { 1000 });
        }
        if self.acts_at <= now && driver.takes_orders() {
            if self.is_hasty {
                self.keep(&mut driver.machine, node, start + now);
            } else {
                self.act(&mut driver.machine, node, trace, start);
            }
            self.acts_at = now + self.random.micros(1000..=if self.is_hasty { 100_000 } else { self.idles });
        }
        Ok(())
    }

    /// Connects again, and makes the subscriptions again that the server has ended.
    fn keep(&mut self, machine: &mut Machine, node: &Node, now: Instant) {
        if self.is_disconnected {
            self.connect(machine, now);
        }
        for channel in self.intent.clone() {
            if !self.made.contains(&channel) {
                self.subscribe(channel, machine, node, now);
            }
        }
    }

    fn connect(&mut self, machine: &mut Machine, now: Instant) {
        self.is_disconnected = false;
        machine.connect(now);
    }

    fn subscribe(&mut self, channel: usize, machine: &mut Machine, node: &Node, now: Instant) {
        let plan = node.plan(channel);
        let options = SubscribeOptions {
            has_token_source: plan.is_private || node.has_tokens() && self.random.one_in(3),
            recoverable: !self.random.one_in(4),
            join_leave: self.random.one_in(4),
            ..SubscribeOptions::default()
        };
        machine.subscribe(&plan.name, options, now);
        self.intent.insert(channel);
        self.made.insert(channel);
    }

    fn act(&mut self, machine: &mut Machine, node: &mut Node, trace: &mut Trace, start: Instant) {
        let now = start + trace.now;
        self.chosen += 1;
        let what = self.random.within(0..=24);
        let channel = self.random.within(0..=node.channels() - 1);
        let number = self.number;
        let part = (number + 1, self.chosen);
        if !trace.plan(part, format_args!("client {} acts: {what}, channel {channel}", number + 1)) {
            return;
        }
        trace.step(Subject::Client(number), "acts", what);
        let is_own = node.plan(channel).user.is_none();
        match what {
            _ if self.is_disconnected => self.connect(machine, now),
            0..=8 if is_own => self.subscribe(channel, machine, node, now),
            9 | 10 if is_own => {
                self.intent.remove(&channel);
                self.made.remove(&channel);
                machine.unsubscribe(&node.plan(channel).name, now);
                if self.random.one_in(2) {
                    self.subscribe(channel, machine, node, now);
                }
            }
            11 if self.random.one_in(4) => machine.disconnect(),
            _ => self.request(what, channel, machine, node, trace, now),
        }
    }

    fn request(
        &mut self,
        what: usize,
        channel: usize,
        machine: &mut Machine,
        node: &mut Node,
        trace: &Trace,
        now: Instant,
    ) {
        let name = node.plan(channel).name.to_string();
        let (kind, request) = match what {
            21 => (Kind::Presence, Request::Presence { channel: name }),
            22 => (Kind::PresenceStats, Request::PresenceStats { channel: name }),
            23 => {
                let reverse = self.random.one_in(2);
                (Kind::History, Request::History { channel: name, limit: 10, since: None, reverse })
            }
            _ => {
                let data = node.data(&mut self.random);
                let Ok(data) = RawValue::from_string(data) else { return };
                (Kind::Publish, Request::Publish { channel: name, data })
            }
        };
        let id = machine.request(request, now);
        self.requests.insert(id, Asked { at: trace.now, kind });
    }

    fn check_answer(
        &mut self,
        id: RequestId,
        answer: Result<Answer, RequestError>,
        now: Duration,
    ) -> Result<(), &'static str> {
        let asked = self.requests.remove(&id).ok_or("a request is answered twice")?;
        let is_expected = match (asked.kind, answer) {
            (Kind::Publish, Ok(answer)) => matches!(answer, Answer::Published),
            (Kind::Presence, Ok(answer)) => matches!(answer, Answer::Presence(_)),
            (Kind::PresenceStats, Ok(answer)) => matches!(answer, Answer::PresenceStats(_)),
            (Kind::History, Ok(answer)) => matches!(answer, Answer::History(_)),
            (_, Err(RequestError::Timeout)) if now < asked.at + self.timeout => {
                return Err("a request ends before its time");
            }
            (_, Err(_)) => true,
        };
        if !is_expected {
            return Err("a request has the answer of another one");
        }
        if self.requests.len() > self.max_requests {
            return Err("more requests wait than are allowed");
        }
        Ok(())
    }

    fn handle(&mut self, event: Event, node: &mut Node, trace: &mut Trace) -> Result<(), &'static str> {
        match event {
            Event::Connected { .. } => {
                trace.step(Subject::Client(self.number), "is connected", 0);
                self.is_connected = true;
            }
            Event::Reconnecting { code, delay, failed, .. } => {
                trace.step(Subject::Client(self.number), "reconnects after code", code.into());
                let bound = self.backoff.bound(failed);
                if delay > bound {
                    return Err("a delay is longer than its bound");
                }
                self.delays.push((delay, bound));
                self.interrupt();
            }
            Event::Disconnected { code, .. } => {
                trace.step(Subject::Client(self.number), "is disconnected with code", code.into());
                self.is_disconnected = true;
                self.interrupt();
            }
            Event::Subscribed { channel, recovery, position, .. } => {
                let channel = node.channel(&channel).ok_or("an event has another channel")?;
                trace.step(Subject::Client(self.number), "is subscribed to channel", channel);
                self.views.entry(channel).or_default().subscribe(recovery, position, node)?;
            }
            Event::Resubscribing { channel, code, .. } => {
                let channel = node.channel(&channel).ok_or("an event has another channel")?;
                trace.step(Subject::Client(self.number), "subscribes again after code", code as usize);
                check_code(code)?;
                if let Some(view) = self.views.get_mut(&channel) {
                    view.interrupt();
                }
            }
            Event::Unsubscribed { channel, code, .. } => {
                let channel = node.channel(&channel).ok_or("an event has another channel")?;
                trace.step(Subject::Client(self.number), "is unsubscribed with code", code as usize);
                check_code(code)?;
                self.views.remove(&channel);
                if code != 0 {
                    self.made.remove(&channel);
                }
            }
            Event::Publication { channel, publication } => {
                let channel = node.channel(&channel).ok_or("an event has another channel")?;
                trace.step(Subject::Client(self.number), "gets a publication of channel", channel);
                let view = self.views.get_mut(&channel);
                let view = view.ok_or("a publication arrives without a subscription")?;
                view.receive(&publication, channel, node)?;
            }
            Event::Join { channel, .. } | Event::Leave { channel, .. } => {
                let channel = node.channel(&channel).ok_or("an event has another channel")?;
                if !self.views.get(&channel).is_some_and(|view| view.is_active) {
                    return Err("a join or a leave arrives without a subscription");
                }
            }
            Event::Message { .. } => return Err("a message arrives that nothing has sent"),
            _ => return Err("an unknown event arrives"),
        }
        Ok(())
    }

    fn interrupt(&mut self) {
        self.is_connected = false;
        self.views.values_mut().for_each(View::interrupt);
    }
}

/// Checks the code of the end of a subscription.
fn check_code(code: u32) -> Result<(), &'static str> {
    match code {
        ALREADY_SUBSCRIBED => Err("the client subscribes twice to a channel"),
        BAD_REQUEST => Err("the client makes a bad request"),
        _ => Ok(()),
    }
}

/// The codes of errors.
const ALREADY_SUBSCRIBED: u32 = 105;
const BAD_REQUEST: u32 = 107;

/// The longest time between the end of a request, and the step in which its application gets the answer.
const SLACK: Duration = Duration::from_millis(100);
