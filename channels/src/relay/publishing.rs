//! The publications of this node: sent as a command, heard as a message, and answered after both.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::command::{Command, Failure, PublishCommand, PublishResult};
use super::{Asker, Call, Local, Phase, Relay, RelayEvent, ServerAnswer, WhenDown, answer, message};
use crate::engine::{Answer, ClientRef, Operation, Receipt, Request};
use crate::exchange::{Publish, WorkerId};
use crate::publication::{Position, Publication};

/// A publication of this node without an answer.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) asker: Asker,
    channel: Arc<str>,
    /// The client that does not get it.
    excluded: Option<(WorkerId, ClientRef)>,
    /// Whether it arrives here as a message, which must be delivered before the answer.
    awaits_message: bool,
    is_by_client: bool,
    /// The reply of the engine.
    position: Option<Option<Position>>,
}

impl Relay {
    pub(super) fn publish_by_client(
        &mut self,
        worker: WorkerId,
        request: Request,
        now: Instant,
        local: &mut impl Local,
    ) {
        let asker = Asker::of(worker, &request);
        if let Operation::Publish { publish, excludes_publisher } = request.operation {
            let excluded = excludes_publisher.then_some((worker, request.client));
            let publish = Publish { time: local.time(), ..*publish };
            self.publish(asker, publish, excluded, now, local);
        }
    }

    pub(super) fn publish(
        &mut self,
        asker: Asker,
        publish: Publish,
        excluded: Option<(WorkerId, ClientRef)>,
        now: Instant,
        local: &mut impl Local,
    ) {
        // With an idempotency key, only the engine knows whether it was published before.
        let is_possible = publish.history.is_none() && publish.key.is_none();
        if self.link.is_down() && self.config.when_down == WhenDown::Local && is_possible {
            return self.publish_locally(&asker, publish, excluded, now, local);
        }
        self.last += 1;
        let number = self.last;
        let Publish { channel, data, info, tags, delta, time, history, key, version } = publish;
        let is_by_client = info.is_some();
        let publication =
            Publication { channel: channel.clone(), data, info, tags, delta, time, position: None };
        let body = message::encode(self.config.link.node, number, &publication).into();
        let stream = self.stream_state();
        let command = PublishCommand { channel: channel.clone(), body, history, key, version, stream };
        let ticket = match self.link.submit(Command::Publish(Box::new(command)), now) {
            Ok(ticket) => ticket,
            Err(failure) => return self.refuse(&asker, &failure, local),
        };
        let is_heard = |stream: &super::Stream| stream.vacant.is_none() && stream.phase != Phase::Waiting;
        let awaits_message = self.streams.get(&channel).is_some_and(is_heard);
        self.own
            .insert(number, Own { asker, channel, excluded, awaits_message, is_by_client, position: None });
        self.calls.insert(ticket, Call::Publish(number));
    }

    /// Publishes on this node only, because the engine cannot be reached.
    fn publish_locally(
        &mut self,
        asker: &Asker,
        publish: Publish,
        excluded: Option<(WorkerId, ClientRef)>,
        now: Instant,
        local: &mut impl Local,
    ) {
        let channel = publish.channel.clone();
        let Receipt { position, subscriptions, .. } =
            local.with(&channel, |exchange, inboxes| exchange.publish_to(publish, excluded, now, inboxes));
        self.answer_published(asker, position, subscriptions, local);
    }

    fn answer_published(
        &mut self,
        asker: &Asker,
        position: Option<Position>,
        subscriptions: usize,
        local: &mut impl Local,
    ) {
        match asker {
            Asker::Client { .. } => answer(asker, Answer::Published(position), local),
            Asker::Server(token) => {
                let answer = ServerAnswer::Published { position, subscriptions };
                self.events.push_back(RelayEvent::Answer(*token, answer));
            }
        }
    }

    /// The message of a publication of this node has arrived. Returns the client that does not get it.
    pub(super) fn excluded(&self, number: u64) -> Option<(WorkerId, ClientRef)> {
        self.own.get(&number).and_then(|own| own.excluded)
    }

    /// The message of a publication of this node is delivered.
    pub(super) fn note_delivered(&mut self, number: u64, local: &mut impl Local) {
        if let Some(own) = self.own.get_mut(&number) {
            own.awaits_message = false;
            self.complete(number, local);
        }
    }

    pub(super) fn handle_published(
        &mut self,
        number: u64,
        outcome: PublishResult,
        position: Option<Position>,
        now: Instant,
        local: &mut impl Local,
    ) {
        let Some(own) = self.own.get_mut(&number) else { return };
        own.position = Some(position);
        if outcome == PublishResult::Published {
            let is_by_client = own.is_by_client;
            local.with(&own.channel, |exchange, _| exchange.count_published(is_by_client));
        }
        own.awaits_message &= outcome == PublishResult::Published;
        if own.awaits_message {
            self.echoes.push_back((now + ECHO, number));
        }
        self.complete(number, local);
    }

    /// Answers a publication if its reply and its message have arrived.
    fn complete(&mut self, number: u64, local: &mut impl Local) {
        let is_complete = |own: &Own| own.position.is_some() && !own.awaits_message;
        if !self.own.get(&number).is_some_and(is_complete) {
            return;
        }
        if let Some(Own { asker, channel, position: Some(position), .. }) = self.own.remove(&number) {
            let subscriptions = local.with(&channel, |exchange, _| exchange.subscriptions(&channel));
            self.answer_published(&asker, position, subscriptions, local);
            self.end_closes(local);
        }
    }

    /// Does not wait for the message of a publication any more. The connection of messages is about to be given up, or the
    /// channel has no subscribers any more.
    pub(super) fn give_up_echo(&mut self, number: u64, local: &mut impl Local) {
        self.note_delivered(number, local);
    }

    pub(super) fn fail_publication(&mut self, number: u64, failure: &Failure, local: &mut impl Local) {
        if let Some(own) = self.own.remove(&number) {
            self.refuse(&own.asker, failure, local);
            self.end_closes(local);
        }
    }

    /// The connections are lost, so no message arrives any more. Answers the publications that the engine has accepted.
    pub(super) fn end_echoes(&mut self, local: &mut impl Local) {
        for (_, number) in std::mem::take(&mut self.echoes) {
            self.give_up_echo(number, local);
        }
    }
}

/// The time that a publication of this node may take from the engine's reply to its arrival as a message.
const ECHO: Duration = Duration::from_secs(1);
