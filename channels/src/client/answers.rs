//! The answers to the requests of a client.

use std::sync::Arc;

use super::commands::Turn;
use super::{Client, Stage};
use crate::ErrorCode;
use crate::engine;
use crate::exchange::{History, HistoryError, Subscribed};
use crate::protocol::{Answer, HistoryResult};
use crate::publication::{ClientInfo, Position, Since};
use crate::view::{ClientTexts, subscribe_result};

/// A change of the list of a channel's subscribers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HubChange {
    /// The client receives what follows this position.
    Add(Option<Position>),
    Remove,
    None,
}

impl Client {
    /// Handles the answer to a command, or to a request of the server if `command` is 0.
    pub(crate) fn handle_answer(
        &mut self,
        command: u32,
        channel: &Arc<str>,
        answer: engine::Answer,
        turn: &mut Turn<'_>,
    ) -> HubChange {
        match answer {
            engine::Answer::Subscribed { subscribed, since } => {
                return self.subscribed(command, channel, subscribed, since, turn);
            }
            engine::Answer::Unsubscribed => {
                if let Some(subscription) = self.subscription(channel) {
                    subscription.in_flight = subscription.in_flight.saturating_sub(1);
                }
                self.forget_if_settled(channel);
                if command != 0 {
                    turn.answer(command, Answer::Unsubscribe);
                }
                return HubChange::Remove;
            }
            engine::Answer::Published(_) => turn.answer(command, Answer::Publish),
            engine::Answer::Presence(clients) => presence(command, &clients, turn),
            engine::Answer::PresenceStats(stats) => {
                // A node has fewer than 2^32 connections.
                let (clients, users) = (stats.clients as u32, stats.users as u32);
                turn.answer(command, Answer::PresenceStats { clients, users });
            }
            engine::Answer::History(Ok(answer)) => history(command, &answer, turn),
            engine::Answer::History(Err(HistoryError::UnrecoverablePosition)) => {
                turn.refuse(command, ErrorCode::UnrecoverablePosition);
            }
            engine::Answer::History(Err(HistoryError::NothingBefore)) => {
                turn.refuse(command, ErrorCode::BadRequest)
            }
        }
        HubChange::None
    }

    fn subscribed(
        &mut self,
        command: u32,
        channel: &Arc<str>,
        subscribed: Option<Box<Subscribed>>,
        since: Option<Since>,
        turn: &mut Turn<'_>,
    ) -> HubChange {
        let client = self.id;
        let Some(subscription) = self.subscription(channel) else { return HubChange::None };
        subscription.in_flight = subscription.in_flight.saturating_sub(1);
        let flags = subscription.flags;
        let Some(subscribed) = subscribed else {
            // The subscription exists, but its client does not want it.
            if subscription.is_wanted {
                subscription.is_wanted = false;
                subscription.in_flight += 1;
                let presence = flags.is_present.then_some(client);
                turn.request(0, channel.clone(), engine::Operation::Unsubscribe { presence });
            }
            turn.refuse(command, ErrorCode::UnrecoverablePosition);
            return HubChange::None;
        };
        if flags.is_server_side && matches!(self.stage, Stage::Connecting(_)) {
            let position = subscribed.position;
            self.connect_subscribed(channel.clone(), subscribed, since, turn);
            return HubChange::Add(position);
        }
        let texts = ClientTexts::of_publishers(&subscribed.publications);
        let publications = texts.publications(&subscribed.publications);
        turn.answer(command, Answer::Subscribe(subscribe_result(&subscribed, since, flags, &publications)));
        HubChange::Add(subscribed.position)
    }
}

fn presence(command: u32, clients: &[Arc<ClientInfo>], turn: &mut Turn<'_>) {
    let texts = ClientTexts::of_clients(clients);
    let presence = texts.clients(clients);
    turn.answer(command, Answer::Presence { presence: &presence });
}

fn history(command: u32, history: &History, turn: &mut Turn<'_>) {
    let texts = ClientTexts::of_publishers(&history.publications);
    let publications = texts.publications(&history.publications);
    let (epoch, offset) = (history.position.epoch, history.position.offset);
    let result = HistoryResult { publications: &publications, epoch: epoch.as_str(), offset };
    turn.answer(command, Answer::History(result));
}
