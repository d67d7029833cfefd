//! Reads of streams: catching up with the engine, recoveries, and histories.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::command::{Command, Entry, Range, ReadCommand};
use super::link::Ticket;
use super::streams::{Phase, Stream};
use super::{Asker, Call, Local, Relay, RelayEvent, ServerAnswer, answer, message};
use crate::engine::{Answer, Operation};
use crate::exchange::{History, HistoryError, HistoryOptions, HistoryQuery};
use crate::namespaces::options::RecoveryMode;
use crate::publication::{Position, Publication};

impl Relay {
    /// Sends the reads that are due, a few at a time.
    pub(super) fn send_reads(&mut self, now: Instant, local: &mut impl Local) {
        if self.due.is_empty() {
            return;
        }
        self.add_tokens(now);
        while self.reads < MOST_READS && !self.is_rate_limited() && self.link.is_open() {
            let Some(channel) = self.due.pop_front() else { return };
            let Some(stream) = self.streams.get(&channel).filter(|stream| stream.read.is_none()) else {
                continue;
            };
            let Some(history) = stream.history else { continue };
            let position = local.with(&channel, |exchange, _| exchange.position(&channel, now));
            let range = match (stream.phase, position) {
                (Phase::CatchingUp, Some(position)) => Range::after(position.offset),
                // A recovery among those that wait tells from where on.
                (Phase::CatchingUp, None) => first_range(stream),
                (Phase::Extending(since), _) => Range::after(since),
                (Phase::Waiting | Phase::Live, _) => continue,
            };
            let command =
                ReadCommand { channel: channel.clone(), history, range, stream: self.stream_state() };
            match self.link.submit(Command::Read(Box::new(command)), now) {
                Ok(ticket) => {
                    self.reads += 1;
                    self.rate.tokens -= 1.0;
                    self.stats.reads += 1;
                    if let Some(stream) = self.streams.get_mut(&channel) {
                        stream.read = Some((ticket, range.since));
                        stream.older = stream.early.len();
                    }
                    self.calls.insert(ticket, Call::Read(channel));
                }
                Err(_) => return self.due.push_front(channel),
            }
        }
    }

    pub(super) fn is_rate_limited(&self) -> bool {
        self.config.recover_rate > 0 && self.rate.tokens < 1.0 && !self.due.is_empty()
    }

    fn add_tokens(&mut self, now: Instant) {
        let rate = f64::from(self.config.recover_rate);
        let passed = now.saturating_duration_since(self.rate.at).as_secs_f64();
        self.rate.tokens = (self.rate.tokens + passed * rate).min(rate.max(1.0));
        self.rate.at = now;
    }

    /// A read has failed, and is repeated after a moment. Its requests wait as long as `PATIENCE` allows.
    pub(super) fn retry_read(&mut self, channel: &Arc<str>, ticket: Ticket, now: Instant) {
        let Some(stream) = self.streams.get_mut(channel) else { return };
        if stream.read.take_if(|(read, _)| *read == ticket).is_some() && self.link.is_open() {
            self.retries.push_back((now + RETRY, channel.clone()));
        }
    }

    /// A stream has been read.
    pub(super) fn handle_read(
        &mut self,
        channel: &Arc<str>,
        ticket: Ticket,
        position: Position,
        entries: Vec<Entry>,
        now: Instant,
        local: &mut impl Local,
    ) {
        let read = self.decode(channel, position, entries);
        let Some(stream) = self.streams.get_mut(channel) else { return };
        // Another read has taken the place of this one.
        let Some((_, since)) = stream.read.take_if(|(read, _)| *read == ticket) else { return };
        let (phase, Some(history)) = (stream.phase, stream.history) else { return };
        if matches!(phase, Phase::Waiting | Phase::Live) {
            return;
        }
        stream.phase = Phase::Live;
        stream.active = now;
        // A stream with another epoch has other publications at the same offsets.
        let copy = local.with(channel, |exchange, _| exchange.position(channel, now));
        let is_same = copy.is_some_and(|copy| copy.epoch == position.epoch);
        if matches!(phase, Phase::Extending(_)) && is_same {
            if let Some(stream) = self.streams.get_mut(channel) {
                (stream.searched, stream.searched_at) = (since, now);
            }
            let publications = read.into_iter().map(|(publication, _)| publication).collect();
            local.with(channel, |exchange, _| exchange.extend_copy(channel, publications, &history, now));
        } else {
            if !self.catch_up(channel, position, &read, &history, now, local) {
                self.begin_again(channel, position, read, since, &history, now, local);
            }
            self.deliver_early(channel, now, local);
        }
        self.schedule_check(channel, now);
        let is_live = self.streams.get(channel).is_some_and(|stream| stream.phase == Phase::Live);
        if is_live {
            self.release(channel, now, local);
        }
    }

    /// Brings the copy of a stream to its end, by the publications that follow the copy. Returns false if one of them is missing.
    fn catch_up(
        &mut self,
        channel: &Arc<str>,
        position: Position,
        read: &[(Arc<Publication>, Option<u64>)],
        history: &HistoryOptions,
        now: Instant,
        local: &mut impl Local,
    ) -> bool {
        let Some(before) = local.with(channel, |exchange, _| exchange.position(channel, now)) else {
            return false;
        };
        if before.epoch != position.epoch {
            self.stats.rotated_epochs += 1;
            return false;
        }
        let Some(missing) = position.offset.checked_sub(before.offset) else { return false };
        let is_next = |(offset, (it, _)): (u64, &(Arc<Publication>, _))| {
            it.position.is_some_and(|position| position.offset == offset)
        };
        if read.len() as u64 != missing || !(before.offset + 1..).zip(read).all(is_next) {
            return false;
        }
        self.stats.covered_gaps += u64::from(!read.is_empty());
        for (publication, number) in read {
            self.deliver(publication, *number, false, history, now, local);
        }
        true
    }

    /// Replaces the copy of a stream, and informs the subscribers, if there are some, that publications are missing.
    #[expect(clippy::too_many_arguments, reason = "the parts of one reply")]
    fn begin_again(
        &mut self,
        channel: &Arc<str>,
        position: Position,
        read: Vec<(Arc<Publication>, Option<u64>)>,
        since: Option<u64>,
        history: &HistoryOptions,
        now: Instant,
        local: &mut impl Local,
    ) {
        // The last ones without a gap.
        let offsets = (0..=position.offset).rev();
        let is_there = |(offset, (it, _)): &(u64, &(Arc<Publication>, _))| {
            it.position.is_some_and(|position| position.offset == *offset)
        };
        let last = offsets.zip(read.iter().rev()).take_while(is_there);
        let mut publications: Vec<Arc<Publication>> = last.map(|(_, (it, _))| Arc::clone(it)).collect();
        publications.reverse();
        let is_told = local.with(channel, |exchange, inboxes| {
            exchange.set_copy(channel, position, publications, history, now);
            let has_subscribers = exchange.subscriptions(channel) > 0;
            if has_subscribers {
                exchange.announce_gap(channel, inboxes);
            }
            has_subscribers
        });
        self.stats.told_gaps += u64::from(is_told);
        if let Some(stream) = self.streams.get_mut(channel) {
            (stream.searched, stream.searched_at) = (since, now);
        }
        for number in read.into_iter().filter_map(|(_, number)| number) {
            self.note_delivered(number, local);
        }
    }

    /// Decodes entries. An entry of another program leaves a gap.
    fn decode(
        &mut self,
        channel: &Arc<str>,
        position: Position,
        entries: Vec<Entry>,
    ) -> Vec<(Arc<Publication>, Option<u64>)> {
        let mut read = Vec::with_capacity(entries.len());
        for Entry { offset, body } in entries {
            let position = Position { offset, ..position };
            match message::decode(channel, Some(position), &body) {
                Some(body) => {
                    let number = (body.node == self.config.link.node).then_some(body.number);
                    read.push((Arc::new(body.publication), number));
                }
                None => self.stats.foreign_messages += 1,
            }
        }
        read
    }

    /// Reads a part of a history.
    pub(super) fn read_history(
        &mut self,
        asker: Asker,
        channel: &Arc<str>,
        query: HistoryQuery,
        history: HistoryOptions,
        now: Instant,
        local: &mut impl Local,
    ) {
        if query.is_reverse && query.since.is_some_and(|since| since.offset == 0) {
            return self.answer_history(&asker, Err(HistoryError::NothingBefore), local);
        }
        let range = Range {
            since: query.since.map(|since| since.offset),
            is_reverse: query.is_reverse,
            limit: query.limit,
        };
        let command = ReadCommand { channel: channel.clone(), history, range, stream: self.stream_state() };
        match self.link.submit(Command::Read(Box::new(command)), now) {
            Ok(ticket) => _ = self.calls.insert(ticket, Call::History(asker, channel.clone(), query)),
            Err(failure) => self.refuse(&asker, &failure, local),
        }
    }

    /// Returns the answer to a query.
    pub(super) fn history(
        &mut self,
        channel: &Arc<str>,
        query: &HistoryQuery,
        position: Position,
        entries: Vec<Entry>,
    ) -> Result<History, HistoryError> {
        if query.since.is_some_and(|since| !since.is_of(position.epoch)) {
            return Err(HistoryError::UnrecoverablePosition);
        }
        let read = self.decode(channel, position, entries);
        Ok(History { publications: read.into_iter().map(|(publication, _)| publication).collect(), position })
    }

    pub(super) fn answer_history(
        &mut self,
        asker: &Asker,
        result: Result<History, HistoryError>,
        local: &mut impl Local,
    ) {
        match asker {
            Asker::Client { .. } => answer(asker, Answer::History(result), local),
            Asker::Server(token) => {
                self.events.push_back(RelayEvent::Answer(*token, ServerAnswer::History(result)));
            }
        }
    }
}

/// Returns the range of the first read of a stream.
fn first_range(stream: &Stream) -> Range {
    let since = stream.parked.iter().filter_map(|(_, request)| match &request.operation {
        Operation::Subscribe { recovery: Some(recovery), .. } => Some(match recovery.mode {
            RecoveryMode::Stream => recovery.since.offset,
            // The offset of the last publication is not known yet.
            RecoveryMode::Cache => 0,
        }),
        Operation::Subscribe { .. }
        | Operation::Unsubscribe { .. }
        | Operation::Publish { .. }
        | Operation::Presence
        | Operation::PresenceStats
        | Operation::History(..)
        | Operation::CheckToken(_)
        | Operation::Close => None,
    });
    since.min().map_or(Range::NOTHING, Range::after)
}

/// The time after which a read that has failed is repeated.
const RETRY: Duration = Duration::from_millis(100);

/// The most reads without a reply.
const MOST_READS: usize = 256;
