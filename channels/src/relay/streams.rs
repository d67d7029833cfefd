//! The channels with subscribers on this node: their subscriptions at the engine, and the messages that arrive.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::command::Topic;
use super::link::Ticket;
use super::{Local, Relay, WhenDown, message};
use crate::engine::{Operation, Request};
use crate::exchange::{Arrival, HistoryOptions, WorkerId};
use crate::publication::Publication;

/// A channel with subscribers, or one that has lost its last one a moment ago.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) phase: Phase,
    /// Requests that wait, in their order.
    pub(super) parked: VecDeque<(WorkerId, Request)>,
    /// Messages that have arrived during a read.
    pub(super) early: Vec<(Arc<Publication>, Option<u64>)>,
    /// The number of them that had arrived when the read was sent. The engine has executed the read after these publications.
    pub(super) older: usize,
    /// The bounds of the stream. `None`: the channel has no history.
    pub(super) history: Option<HistoryOptions>,
    /// The read that is under way, and the offset that its entries follow.
    pub(super) read: Option<(Ticket, Option<u64>)>,
    /// The stream was read from this offset on, so the engine has no publications between it and the copy.
    pub(super) searched: Option<u64>,
    /// When that was.
    pub(super) searched_at: Instant,
    /// When the first of the requests that wait has begun to do so.
    parked_at: Instant,
    /// The last message or read.
    pub(super) active: Instant,
    /// When the last subscription has ended.
    pub(super) vacant: Option<Instant>,
    /// Whether a check is scheduled.
    is_checked: bool,
}

/// The meaning of a channel's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// None arrive yet.
    Waiting,
    /// They are kept until the stream has been read from the end of its copy on.
    CatchingUp,
    /// They are delivered, while older publications are read for a recovery.
    Extending(u64),
    /// They are delivered.
    Live,
}

impl Stream {
    fn new(now: Instant) -> Stream {
        Stream {
            phase: Phase::Waiting,
            parked: VecDeque::new(),
            early: Vec::new(),
            older: 0,
            history: None,
            read: None,
            searched: None,
            searched_at: now,
            parked_at: now,
            active: now,
            vacant: None,
            is_checked: false,
        }
    }

    /// Messages do not arrive any more.
    pub(super) fn handle_down(&mut self) {
        self.phase = Phase::Waiting;
        self.read = None;
        (self.early, self.older) = (Vec::new(), 0);
    }
}

impl Relay {
    /// Performs a subscription, or returns it if the channel is not ready for it.
    pub(super) fn subscribe(
        &mut self,
        worker: WorkerId,
        request: Request,
        now: Instant,
        local: &mut impl Local,
    ) -> Option<Request> {
        let Operation::Subscribe { history, recovery, .. } = &request.operation else { return None };
        let channel = &request.channel;
        let link = &mut self.link;
        let stream = self.streams.entry(channel.clone()).or_insert_with(|| {
            link.subscribe(Topic::Channel(channel.clone()));
            Stream::new(now)
        });
        stream.vacant = None;
        stream.history = history.or(stream.history);
        match stream.phase {
            Phase::Live => {}
            Phase::Waiting if self.link.is_down() => {
                self.subscribe_without_engine(worker, request, now, local);
                return None;
            }
            Phase::Waiting | Phase::CatchingUp | Phase::Extending(_) => return Some(request),
        }
        if history.is_some() {
            let (position, missing) = local.with(channel, |exchange, _| {
                let missing = recovery.and_then(|recovery| exchange.missing_since(channel, &recovery));
                (exchange.position(channel, now), missing)
            });
            // The memory of copies is limited, so the result of a search does not hold for long.
            let is_old = now.saturating_duration_since(stream.searched_at) >= SEARCH;
            let is_unsearched =
                |since: &u64| is_old || stream.searched.is_none_or(|searched| *since < searched);
            let phase = match (position, missing.filter(is_unsearched)) {
                (None, _) => Some(Phase::CatchingUp),
                (Some(_), Some(since)) => Some(Phase::Extending(since)),
                (Some(_), None) => None,
            };
            if let Some(phase) = phase {
                stream.phase = phase;
                self.due.push_back(channel.clone());
                return Some(request);
            }
        }
        self.execute_with_presence(worker, request, now, local);
        None
    }

    /// Performs a subscription while the engine cannot be reached.
    fn subscribe_without_engine(
        &mut self,
        worker: WorkerId,
        mut request: Request,
        now: Instant,
        local: &mut impl Local,
    ) {
        let channel = request.channel.clone();
        let Operation::Subscribe { history, recovery, is_certain, .. } = &mut request.operation else {
            return;
        };
        if let Some(stream) = self.streams.get_mut(&channel) {
            // An earlier request may have been the end of the last subscription.
            stream.vacant = None;
        }
        let (position, missing) = local.with(&channel, |exchange, _| {
            let missing = recovery.and_then(|recovery| exchange.missing_since(&channel, &recovery));
            (exchange.position(&channel, now), missing)
        });
        // The publications that the client asks for may exist.
        let is_hidden = recovery.is_some() && (position.is_none() || missing.is_some());
        if !*is_certain && (is_hidden || self.config.when_down == WhenDown::Refuse) {
            return local.with(&channel, |exchange, inboxes| {
                exchange.refuse_subscription(worker, request, now, inboxes)
            });
        }
        if position.is_none() {
            // It has a position when the engine is back. The subscriber then learns that it may have missed publications.
            (*history, *recovery) = (None, None);
        }
        self.execute_with_presence(worker, request, now, local);
    }

    /// Keeps a request until its channel is ready.
    pub(super) fn park(&mut self, channel: &Arc<str>, worker: WorkerId, request: Request, now: Instant) {
        let Some(stream) = self.streams.get_mut(channel) else { return };
        stream.parked.push_back((worker, request));
        if self.busy.insert(channel.clone()) {
            stream.parked_at = now;
            self.patience.push_back((now + PATIENCE, channel.clone()));
        }
    }

    /// Performs the requests that have waited, as far as the channel is ready for them.
    pub(super) fn release(&mut self, channel: &Arc<str>, now: Instant, local: &mut impl Local) {
        while let Some((worker, request)) =
            self.streams.get_mut(channel).and_then(|stream| stream.parked.pop_front())
        {
            if let Some(request) = self.perform(worker, request, now, local) {
                if let Some(stream) = self.streams.get_mut(channel) {
                    stream.parked.push_front((worker, request));
                }
                return;
            }
        }
        self.busy.remove(channel);
        self.end_closes(local);
    }

    /// Requests have waited for too long.
    pub(super) fn end_patience(&mut self, channel: &Arc<str>, now: Instant, local: &mut impl Local) {
        let is_old = |stream: &Stream| stream.parked_at + PATIENCE <= now;
        if self.streams.get(channel).is_some_and(is_old) && self.busy.remove(channel) {
            self.degrade_parked(channel, now, local);
        }
    }

    /// Performs the requests that have waited without the engine.
    pub(super) fn degrade_parked(&mut self, channel: &Arc<str>, now: Instant, local: &mut impl Local) {
        let Some(stream) = self.streams.get_mut(channel) else { return };
        for (worker, request) in std::mem::take(&mut stream.parked) {
            if matches!(request.operation, Operation::Subscribe { .. }) {
                self.subscribe_without_engine(worker, request, now, local);
            } else {
                // Only subscriptions wait.
                let _ = self.perform(worker, request, now, local);
            }
        }
        self.end_closes(local);
    }

    /// Messages of a channel arrive from now on.
    pub(super) fn handle_subscribed(&mut self, channel: &Arc<str>, now: Instant, local: &mut impl Local) {
        let Some(stream) = self.streams.get_mut(channel) else { return };
        stream.active = now;
        if stream.history.is_some() {
            stream.phase = Phase::CatchingUp;
            return self.due.push_back(channel.clone());
        }
        stream.phase = Phase::Live;
        self.release(channel, now, local);
    }

    /// A message of a channel has arrived.
    pub(super) fn handle_channel_message(
        &mut self,
        channel: &Arc<str>,
        message: &[u8],
        now: Instant,
        local: &mut impl Local,
    ) {
        if self.handle_presence_message(channel, message, local) {
            return;
        }
        let Some(stream) = self.streams.get_mut(channel) else { return };
        let decoded =
            message::split(message).and_then(|(position, body)| message::decode(channel, position, body));
        let Some(body) = decoded else {
            // If it was a publication, the next one shows that it is missing.
            self.stats.foreign_messages += 1;
            return;
        };
        stream.active = now;
        let number = (body.node == self.config.link.node).then_some(body.number);
        let publication = Arc::new(body.publication);
        match (stream.phase, stream.history) {
            // The channel has had no history when it was subscribed, or the publication has skipped it.
            (_, None) => self.deliver_unpositioned(&publication, number, local),
            _ if publication.position.is_none() => self.deliver_unpositioned(&publication, number, local),
            (Phase::CatchingUp, Some(_)) => {
                let bytes: usize = stream.early.iter().map(|(early, _)| early.memory()).sum();
                // The rest is read again.
                if bytes < MOST_EARLY {
                    stream.early.push((publication, number));
                }
            }
            (Phase::Waiting, Some(_)) => {}
            (Phase::Extending(_) | Phase::Live, Some(history)) => {
                self.deliver(&publication, number, false, &history, now, local);
            }
        }
    }

    fn deliver_unpositioned(
        &mut self,
        publication: &Arc<Publication>,
        number: Option<u64>,
        local: &mut impl Local,
    ) {
        let excluded = number.and_then(|number| self.excluded(number));
        local.with(&publication.channel, |exchange, inboxes| {
            exchange.deliver(publication, excluded, inboxes);
        });
        if let Some(number) = number {
            self.note_delivered(number, local);
        }
    }

    /// Delivers a publication with a position, or begins to catch up. `is_older` if the stream was read after it was published.
    pub(super) fn deliver(
        &mut self,
        publication: &Arc<Publication>,
        number: Option<u64>,
        is_older: bool,
        history: &HistoryOptions,
        now: Instant,
        local: &mut impl Local,
    ) {
        let excluded = number.and_then(|number| self.excluded(number));
        let channel = &publication.channel;
        let arrival = local
            .with(channel, |exchange, inboxes| exchange.arrive(publication, history, excluded, now, inboxes));
        match (arrival, number) {
            (Arrival::Next | Arrival::Known, Some(number)) => self.note_delivered(number, local),
            (Arrival::Next | Arrival::Known, None) => {}
            // It is of a stream that does not exist any more, so further reads do not find it either.
            (Arrival::Gap, number) if is_older => {
                if let Some(number) = number {
                    self.note_delivered(number, local);
                }
            }
            (Arrival::Gap, _) => {
                let Some(stream) = self.streams.get_mut(channel) else { return };
                stream.phase = Phase::CatchingUp;
                // It extends the copy to older publications.
                stream.read = None;
                stream.early.push((publication.clone(), number));
                self.due.push_back(channel.clone());
            }
        }
    }

    /// Delivers the messages that have arrived during a read.
    pub(super) fn deliver_early(&mut self, channel: &Arc<str>, now: Instant, local: &mut impl Local) {
        let Some(stream) = self.streams.get_mut(channel) else { return };
        let Some(history) = stream.history else { return };
        let older = std::mem::take(&mut stream.older);
        for (index, (publication, number)) in std::mem::take(&mut stream.early).into_iter().enumerate() {
            match self.streams.get_mut(channel) {
                // There is another gap among them.
                Some(stream) if stream.phase == Phase::CatchingUp => {
                    stream.early.push((publication, number));
                }
                Some(_) => self.deliver(&publication, number, index < older, &history, now, local),
                None => return,
            }
        }
    }

    /// Notes that a channel may have lost its last subscription.
    pub(super) fn note_vacancy(&mut self, channel: &Arc<str>, now: Instant, local: &mut impl Local) {
        let Some(stream) = self.streams.get_mut(channel).filter(|stream| stream.vacant.is_none()) else {
            return;
        };
        if local.with(channel, |exchange, _| exchange.subscriptions(channel)) == 0 {
            stream.vacant = Some(now);
            self.vacancies.push_back((now + VACANCY, channel.clone()));
        }
    }

    /// Gives up a channel that still has no subscription.
    pub(super) fn vacate(&mut self, channel: &Arc<str>, now: Instant, local: &mut impl Local) {
        let Some(stream) = self.streams.get(channel) else { return };
        let is_vacant = stream.vacant.is_some_and(|since| since + VACANCY <= now);
        if is_vacant && stream.parked.is_empty() {
            self.streams.remove(channel);
            self.link.unsubscribe(&Topic::Channel(channel.clone()));
            local.with(channel, |exchange, _| exchange.remove_copy(channel));
        }
    }

    pub(super) fn schedule_check(&mut self, channel: &Arc<str>, now: Instant) {
        let Some(stream) = self.streams.get_mut(channel).filter(|stream| !stream.is_checked) else { return };
        stream.is_checked = true;
        // From 80 to 120 %.
        let factor = 0.8 + 0.4 * (self.random.next() as f64 / u64::MAX as f64);
        // The times do not ascend, so a check may be up to two fifths late.
        self.checks.push_back((now + self.config.position_check.mul_f64(factor), channel.clone()));
    }

    /// Reads the stream of a channel without messages, which may have missed some.
    pub(super) fn check(&mut self, channel: Arc<str>, now: Instant) {
        let Some(stream) = self.streams.get_mut(&channel) else { return };
        stream.is_checked = false;
        let is_silent = now.saturating_duration_since(stream.active) >= self.config.position_check / 2;
        if is_silent && stream.phase == Phase::Live && stream.history.is_some() {
            stream.phase = Phase::CatchingUp;
            return self.due.push_back(channel);
        }
        self.schedule_check(&channel, now);
    }
}

/// The time that a request may wait for its channel.
const PATIENCE: Duration = Duration::from_secs(2);

/// The time for which a channel without subscriptions stays subscribed: clients often subscribe again after a moment.
const VACANCY: Duration = Duration::from_secs(1);

/// The time for which the result of a search for older publications holds.
const SEARCH: Duration = Duration::from_secs(1);

/// The most bytes of messages that a channel keeps during a read.
const MOST_EARLY: usize = 1024 * 1024;
