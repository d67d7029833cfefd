//! The interface between the workers of a node and its channels: requests of workers, and the events that answer them.
//!
//! A worker emits [`Request`]s. The host executes each on the [`Exchange`] of the channel, behind its lock, by
//! [`Exchange::execute`], and puts the events into the inboxes of workers while it holds the lock. So the answer to a request
//! follows the events that precede it, and precedes those that follow it.

use std::sync::Arc;
use std::time::Instant;

use postern_core::{ConnectionId, Key, TokenCheck, Verdict};

use crate::config::ChannelsConfig;
use crate::exchange::{
    CatchUp, Exchange, History, HistoryError, HistoryOptions, HistoryQuery, MissedEvent, PresenceEvent,
    PresenceStats, Publish, PublishOutcome, Published, Recovery, Subscribe, Subscribed, WorkerId,
};
use crate::hooks::{HookAnswer, HookRequest};
use crate::publication::{ClientId, ClientInfo, Position, Publication, Since};

/// An effect of a worker on its node.
#[derive(Debug)]
pub enum Effect {
    /// A request to the channels.
    Request(Request),
    /// A request to a hook, whose answer is a [`ChannelEvent::Hook`].
    Hook(Box<HookRequest>),
}

/// A request of a worker to the channels of its node.
#[derive(Debug)]
pub struct Request {
    /// The client that the answer is for.
    pub client: ClientRef,
    /// The number of the command that the answer is for. 0: no command.
    pub command: u32,
    /// The channel.
    pub channel: Arc<str>,
    /// The operation.
    pub operation: Operation,
}

/// A client of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientRef {
    /// Its key, which belongs to another client later.
    pub key: Key,
    /// The number of its connection, which is unique.
    pub connection: ConnectionId,
}

/// The operation of a [`Request`].
#[derive(Debug)]
pub enum Operation {
    /// Adds a subscription, which exists afterwards with each answer.
    Subscribe {
        /// The history of the channel, if it has one.
        history: Option<HistoryOptions>,
        /// The publications that the client asks for.
        recovery: Option<Recovery>,
        /// The client, if it becomes present in the channel.
        presence: Option<Arc<ClientInfo>>,
        /// Whether the subscription must exist afterwards also if the engine cannot be reached.
        is_certain: bool,
    },
    /// Removes a subscription.
    Unsubscribe {
        /// The client, if it may be present in the channel.
        presence: Option<ClientId>,
    },
    /// Publishes a message.
    Publish {
        /// The message.
        publish: Box<Publish>,
        /// Whether the client does not get it.
        excludes_publisher: bool,
    },
    /// Asks for the clients that are present.
    Presence,
    /// Asks for the number of clients that are present.
    PresenceStats,
    /// Asks for publications of the past.
    History(HistoryQuery, HistoryOptions),
    /// Only has an answer. The client is closed when the answer arrives, after the answers to its earlier requests.
    Close,
    /// Checks a connection token. It concerns no channel, and the host performs it. Its answer may arrive after the answers to
    /// later requests.
    CheckToken(Box<TokenCheck>),
}

/// An event for a worker.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ChannelEvent {
    /// A publication in a channel with subscribers.
    Publication {
        /// The publication.
        publication: Arc<Publication>,
        /// The client of this worker that does not get it, because it has published it.
        excluded: Option<ClientRef>,
    },
    /// The configuration has changed.
    Config(Arc<ChannelsConfig>),
    /// A client has joined or left a channel with subscribers.
    Presence(Arc<PresenceEvent>),
    /// The events of a channel that the worker has missed, because its inbox was full.
    CatchUp(Box<CatchUp>),
    /// The answer to a [`HookRequest`].
    Hook {
        /// The client.
        client: ClientRef,
        /// The number of the request.
        number: u32,
        /// The answer.
        answer: Box<HookAnswer>,
    },
    /// The answer to a [`Request`].
    Answer {
        /// The client.
        client: ClientRef,
        /// The number of its command.
        command: u32,
        /// The channel.
        channel: Arc<str>,
        /// The answer.
        answer: Answer,
    },
}

impl ChannelEvent {
    /// Returns about how many bytes of memory the event keeps. Publications are counted for every worker.
    pub fn memory(&self) -> usize {
        let publications =
            |list: &[Arc<Publication>]| list.iter().map(|publication| publication.memory()).sum();
        let more: usize = match self {
            ChannelEvent::Publication { publication, .. } => publication.memory(),
            ChannelEvent::Presence(event) => event.info.memory(),
            ChannelEvent::CatchUp(catch_up) => publications(&catch_up.publications),
            ChannelEvent::Config(_) => 0,
            ChannelEvent::Hook { answer, .. } => size_of::<HookAnswer>() + answer.memory(),
            ChannelEvent::Answer { answer, .. } => match answer {
                Answer::Subscribed { subscribed: Some(subscribed), .. } => {
                    publications(&subscribed.publications)
                }
                Answer::History(Ok(history)) => publications(&history.publications),
                Answer::Presence(clients) => clients.len() * size_of::<Arc<ClientInfo>>(),
                Answer::Subscribed { subscribed: None, .. }
                | Answer::Unsubscribed
                | Answer::Published(_)
                | Answer::PresenceStats(_)
                | Answer::History(Err(_))
                | Answer::Close
                | Answer::Unavailable
                | Answer::SubscriptionUnavailable
                | Answer::TokenChecked(_) => 0,
            },
        };
        size_of::<ChannelEvent>() + more
    }
}

/// The answer to a [`Request`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Answer {
    /// The subscription exists. `None` if the client requires publications that are missing.
    Subscribed {
        /// The position and the publications.
        subscribed: Option<Box<Subscribed>>,
        /// The position from which the client has asked to recover.
        since: Option<Since>,
    },
    /// The subscription does not exist any more.
    Unsubscribed,
    /// The message is published.
    Published(Option<Position>),
    /// The clients that are present.
    Presence(Vec<Arc<ClientInfo>>),
    /// The number of clients that are present.
    PresenceStats(PresenceStats),
    /// Publications of the past.
    History(Result<History, HistoryError>),
    /// All earlier requests are answered.
    Close,
    /// The operation was not performed, or its result is unknown, because the engine cannot be reached. The same request may
    /// succeed later.
    Unavailable,
    /// As [`Unavailable`](Answer::Unavailable), for a subscription. It exists until the worker ends it.
    SubscriptionUnavailable,
    /// The result of the check of a connection token.
    TokenChecked(Verdict),
}

/// The inboxes of the workers of a node.
pub trait Inboxes {
    /// Puts an event into the inbox of a worker. Returns false if it is full, and the event is lost.
    fn send(&mut self, worker: WorkerId, event: ChannelEvent) -> bool;

    /// Puts an answer, or what a worker has missed, into the inbox of the worker that waits for it, also if the inbox is full:
    /// there are not more of them than requests.
    fn answer(&mut self, worker: WorkerId, event: ChannelEvent);

    /// Called when a channel has got its first subscription or has lost its last one. Does nothing by default.
    fn occupancy_changed(&mut self, channel: &str, is_occupied: bool) {
        let _ = (channel, is_occupied);
    }
}

impl Exchange {
    /// Executes a request of `worker`, and puts the events and the answer into the inboxes of workers. The host holds the
    /// lock of this exchange during the call. `time` is the time of publications, in milliseconds since the Unix epoch.
    pub fn execute(
        &mut self,
        worker: WorkerId,
        request: Request,
        now: Instant,
        time: i64,
        inboxes: &mut impl Inboxes,
    ) {
        let Request { client, command, channel, operation } = request;
        let answer = match operation {
            Operation::Subscribe { history, recovery, presence, is_certain: _ } => {
                let subscribe = Subscribe { channel: channel.clone(), history, recovery };
                let answer = match self.subscribe(worker, &subscribe, now) {
                    Ok(subscribed) => {
                        if subscribed.is_occupied {
                            inboxes.occupancy_changed(&channel, true);
                        }
                        Some(Box::new(subscribed))
                    }
                    Err(_) => {
                        // The worker ends the subscription, after it has learned of the failure.
                        let subscribe = Subscribe { recovery: None, ..subscribe };
                        if let Ok(Subscribed { catch_up, is_occupied, .. }) =
                            self.subscribe(worker, &subscribe, now)
                        {
                            if is_occupied {
                                inboxes.occupancy_changed(&channel, true);
                            }
                            // For the other subscribers at this worker.
                            if let Some(missed) = catch_up {
                                inboxes.answer(worker, ChannelEvent::CatchUp(Box::new(missed)));
                            }
                        }
                        None
                    }
                };
                let is_subscribed = answer.is_some();
                let answer =
                    Answer::Subscribed { subscribed: answer, since: recovery.map(|recovery| recovery.since) };
                let event = ChannelEvent::Answer { client, command, channel: channel.clone(), answer };
                inboxes.answer(worker, event);
                // The client's own join follows the reply.
                if let Some(info) = presence.filter(|_| is_subscribed) {
                    let delivery = self.add_presence(&channel, info);
                    self.deliver_presence(delivery, inboxes);
                }
                return;
            }
            Operation::Unsubscribe { presence } => {
                if self.unsubscribe(worker, &channel, now) {
                    inboxes.occupancy_changed(&channel, false);
                }
                let delivery = presence.and_then(|client| self.remove_presence(&channel, client, now));
                self.deliver_presence(delivery, inboxes);
                Answer::Unsubscribed
            }
            Operation::Publish { publish, excludes_publisher } => {
                let publish = Publish { time, ..*publish };
                let excluded = excludes_publisher.then_some((worker, client));
                let position = self.publish_to(publish, excluded, now, inboxes).position;
                // A client's own publication precedes the reply, also if it has found the inbox full.
                if let Some(missed) = self.catch_up(worker, &channel) {
                    inboxes.answer(worker, ChannelEvent::CatchUp(Box::new(missed)));
                }
                Answer::Published(position)
            }
            Operation::Presence => Answer::Presence(self.presence(&channel)),
            Operation::PresenceStats => Answer::PresenceStats(self.presence_stats(&channel)),
            Operation::History(query, options) => {
                Answer::History(self.history(&channel, &query, &options, now))
            }
            Operation::Close => Answer::Close,
            // The host has passed it to the wrong place.
            Operation::CheckToken(_) => Answer::TokenChecked(Verdict::Unknown),
        };
        inboxes.answer(worker, ChannelEvent::Answer { client, command, channel, answer });
    }

    /// Answers that a request is not executed, because the engine cannot be reached or too many requests wait for it.
    pub fn refuse(&mut self, worker: WorkerId, request: Request, now: Instant, inboxes: &mut impl Inboxes) {
        if matches!(request.operation, Operation::Subscribe { .. }) {
            return self.refuse_subscription(worker, request, now, inboxes);
        }
        let Request { client, command, channel, operation: _ } = request;
        let answer = Answer::Unavailable;
        inboxes.answer(worker, ChannelEvent::Answer { client, command, channel, answer });
    }

    /// Adds a subscription without a position, and answers that it is unavailable. The worker ends it, after it has learned of
    /// that.
    pub(crate) fn refuse_subscription(
        &mut self,
        worker: WorkerId,
        request: Request,
        now: Instant,
        inboxes: &mut impl Inboxes,
    ) {
        let Request { client, command, channel, operation: _ } = request;
        let subscribe = Subscribe { channel: channel.clone(), history: None, recovery: None };
        if let Ok(Subscribed { catch_up, is_occupied, .. }) = self.subscribe(worker, &subscribe, now) {
            if is_occupied {
                inboxes.occupancy_changed(&channel, true);
            }
            if let Some(missed) = catch_up {
                inboxes.answer(worker, ChannelEvent::CatchUp(Box::new(missed)));
            }
        }
        let answer = Answer::SubscriptionUnavailable;
        inboxes.answer(worker, ChannelEvent::Answer { client, command, channel, answer });
    }

    /// Publishes a message, and puts it into the inboxes of the workers with subscribers; `excluded` does not get it.
    pub fn publish_to(
        &mut self,
        publish: Publish,
        excluded: Option<(WorkerId, ClientRef)>,
        now: Instant,
        inboxes: &mut impl Inboxes,
    ) -> Receipt {
        let Published { position, outcome } = self.publish(publish, now);
        let PublishOutcome::Published { delivery, subscriptions } = outcome else {
            return Receipt { position, subscriptions: 0, is_new: false };
        };
        self.send(delivery.workers, &delivery.value, excluded, inboxes);
        Receipt { position, subscriptions, is_new: true }
    }

    pub(crate) fn deliver_presence(
        &mut self,
        delivery: Option<crate::exchange::Delivery<Arc<PresenceEvent>>>,
        inboxes: &mut impl Inboxes,
    ) {
        let Some(delivery) = delivery else { return };
        for worker in delivery.workers.iter() {
            if !inboxes.send(worker, ChannelEvent::Presence(delivery.value.clone())) {
                self.mark_lagging(worker, &delivery.value.channel, MissedEvent::Presence);
            }
        }
    }
}

/// The result of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The position of the message, or of the one with the same idempotency key. With an outdated version: the end of the stream.
    pub position: Option<Position>,
    /// The number of subscriptions that the message goes to.
    pub subscriptions: usize,
    /// Whether the message was published. It is not if its idempotency key or its version was published before.
    pub is_new: bool,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::exchange::ExchangeConfig;
    use crate::namespaces::options::RecoveryMode;
    use crate::publication::Tags;

    /// The inboxes of a node with any number of workers, of which none or all are full.
    #[derive(Default)]
    struct Taken {
        events: Vec<ChannelEvent>,
        are_full: bool,
    }

    impl Inboxes for Taken {
        fn send(&mut self, _: WorkerId, event: ChannelEvent) -> bool {
            if !self.are_full {
                self.events.push(event);
            }
            !self.are_full
        }

        fn answer(&mut self, _: WorkerId, event: ChannelEvent) {
            self.events.push(event);
        }
    }

    fn history() -> HistoryOptions {
        let minute = Duration::from_secs(60);
        HistoryOptions { size: 10, ttl: minute, bytes: usize::MAX, meta_ttl: minute }
    }

    fn exchange() -> Exchange {
        Exchange::new(ExchangeConfig {
            seed: 1,
            history_memory: usize::MAX,
            idempotency_ttl: Duration::from_secs(60),
            max_idempotency_keys: 10,
        })
    }

    fn publish() -> Publish {
        Publish {
            channel: "a".into(),
            data: b"1".as_slice().into(),
            info: None,
            tags: Tags::default(),
            delta: false,
            time: 0,
            history: Some(history()),
            key: None,
            version: None,
        }
    }

    fn execute(exchange: &mut Exchange, operation: Operation, are_full: bool, taken: &mut Taken) {
        taken.are_full = are_full;
        taken.events.clear();
        let client = ClientRef { key: Key(0), connection: ConnectionId(1) };
        let request = Request { client, command: 1, channel: "a".into(), operation };
        exchange.execute(WorkerId::default(), request, Instant::now(), 0, taken);
    }

    #[test]
    fn a_publication_that_finds_the_inbox_of_its_worker_full_precedes_its_answer() {
        let (mut exchange, history) = (exchange(), history());
        let mut taken = Taken::default();
        let subscribe = Operation::Subscribe {
            history: Some(history),
            recovery: None,
            presence: None,
            is_certain: false,
        };
        execute(&mut exchange, subscribe, false, &mut taken);
        let publish = Operation::Publish { publish: Box::new(publish()), excludes_publisher: false };
        execute(&mut exchange, publish, true, &mut taken);
        let [ChannelEvent::CatchUp(missed), ChannelEvent::Answer { answer, .. }] = &taken.events[..] else {
            panic!("{:?}", taken.events);
        };
        assert!(missed.is_complete && missed.publications.len() == 1);
        assert!(matches!(answer, Answer::Published(Some(_))));
    }

    #[test]
    fn a_worker_catches_up_even_if_the_subscription_that_asks_for_it_fails() {
        let (mut exchange, history) = (exchange(), history());
        let mut taken = Taken::default();
        let subscribe = |recovery| Operation::Subscribe {
            history: Some(history),
            recovery,
            presence: None,
            is_certain: false,
        };
        execute(&mut exchange, subscribe(None), false, &mut taken);
        // Another worker publishes.
        taken.are_full = true;
        exchange.publish_to(publish(), None, Instant::now(), &mut taken);
        let foreign = Recovery {
            since: Since::new("aaaaaaaa", 7),
            mode: RecoveryMode::Stream,
            limit: 10,
            bytes: usize::MAX,
            is_required: true,
        };
        execute(&mut exchange, subscribe(Some(foreign)), false, &mut taken);
        let [ChannelEvent::CatchUp(missed), ChannelEvent::Answer { answer, .. }] = &taken.events[..] else {
            panic!("{:?}", taken.events);
        };
        assert!(missed.is_complete && missed.publications.len() == 1);
        assert!(matches!(answer, Answer::Subscribed { subscribed: None, .. }));
    }
}
