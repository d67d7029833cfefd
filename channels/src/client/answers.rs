//! The answers to the requests of a client.

use std::sync::Arc;

use super::commands::Turn;
use super::{Client, Close, Stage};
use crate::ErrorCode;
use crate::engine;
use crate::exchange::{HistoryError, Subscribed};
use crate::hub::Form;
use crate::protocol::{Answer, SubscribeResult};
use crate::publication::Since;
use crate::view::{self, Texts, subscribe_result};

impl Client {
    /// Handles the answer to a command, or to a request of the server if `command` is 0.
    ///
    /// # Errors
    /// The Close that ends the connection.
    pub(crate) fn handle_answer(
        &mut self,
        command: u32,
        channel: &Arc<str>,
        answer: engine::Answer,
        turn: &mut Turn<'_>,
    ) -> Result<(), Close> {
        match answer {
            engine::Answer::Subscribed { subscribed, since } => {
                self.subscribed(command, channel, subscribed, since, turn);
            }
            engine::Answer::Unsubscribed if command == 0 => {}
            engine::Answer::Unsubscribed => turn.answer(command, Answer::Unsubscribe),
            engine::Answer::Published(_) => turn.answer(command, Answer::Publish),
            engine::Answer::Presence(clients) => {
                view::presence_result(&clients, |answer| turn.answer(command, answer));
            }
            engine::Answer::PresenceStats(stats) => {
                // A node has fewer than 2^32 connections.
                let (clients, users) = (stats.clients as u32, stats.users as u32);
                turn.answer(command, Answer::PresenceStats { clients, users });
            }
            engine::Answer::History(Ok(history)) => {
                view::history_result(&history, |answer| turn.answer(command, answer));
            }
            engine::Answer::History(Err(HistoryError::UnrecoverablePosition)) => {
                turn.refuse(command, ErrorCode::UnrecoverablePosition);
            }
            engine::Answer::History(Err(HistoryError::NothingBefore)) => {
                turn.refuse(command, ErrorCode::BadRequest)
            }
            engine::Answer::Unavailable => turn.refuse(command, ErrorCode::Internal),
            engine::Answer::SubscriptionUnavailable => {
                self.refuse_subscription(command, channel, ErrorCode::Internal, turn);
            }
            engine::Answer::TokenChecked(verdict) => return self.handle_verdict(command, &verdict, turn),
            // The application handles it.
            engine::Answer::Close => {}
        }
        Ok(())
    }

    fn subscribed(
        &mut self,
        command: u32,
        channel: &Arc<str>,
        subscribed: Option<Box<Subscribed>>,
        since: Option<Since>,
        turn: &mut Turn<'_>,
    ) {
        let Some(mut subscribed) = subscribed else {
            return self.refuse_subscription(command, channel, ErrorCode::UnrecoverablePosition, turn);
        };
        let key = self.hub_key();
        let ended = self.take_ended(channel);
        let Some(form) = ended.or_else(|| turn.hub.form(key, channel)) else { return };
        let slot = turn.hub.find(channel);
        if ended.is_none() {
            turn.hub.admit(key, channel, subscribed.publications.last());
        }
        if ended.is_some() && form.has(Form::FILTERED) {
            // Its filter has ended too, so nothing can be selected, and the reply must not claim that nothing is missing.
            subscribed.publications.clear();
            subscribed.is_recovered = false;
        } else if let Some(slot) = slot.filter(|_| form.has(Form::FILTERED)) {
            subscribed.publications.retain(|it| turn.hub.filters().selects(key, slot, &it.tags));
        }
        if form.has(Form::SERVER_SIDE) && matches!(self.stage, Stage::Connecting(_)) {
            return self.connect_subscribed(channel.clone(), subscribed, since, turn);
        }
        if form.has(Form::SERVER_SIDE) {
            return self.push_subscribed(channel, &subscribed, since, form, turn);
        }
        let texts = Texts::of_publications(&subscribed.publications, form);
        let publications = texts.publications(&subscribed.publications);
        // What is known about a subscription that has ended may be about the next one.
        let (data, expires_at) = match ended {
            Some(_) => (None, None),
            None => (self.take_data(channel), self.subscription_expires_at(channel)),
        };
        let result = SubscribeResult {
            data: data.as_deref().unwrap_or_default(),
            expires: turn.ttl(expires_at),
            ..subscribe_result(&subscribed, since, form, slot, &publications)
        };
        turn.answer(command, Answer::Subscribe(result));
    }

    /// Ends a subscription that exists, but not as its client wants it.
    fn refuse_subscription(
        &mut self,
        command: u32,
        channel: &Arc<str>,
        error: ErrorCode,
        turn: &mut Turn<'_>,
    ) {
        let ended = self.take_ended(channel);
        let Some(form) = ended.or_else(|| turn.hub.form(self.hub_key(), channel)) else { return };
        if ended.is_none() {
            self.leave(channel, turn.hub);
            let presence = form.has(Form::PRESENT).then_some(self.id);
            turn.request(0, channel.clone(), engine::Operation::Unsubscribe { presence });
        }
        turn.refuse(command, error);
    }
}
