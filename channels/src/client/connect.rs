//! `connect`: the first command, which makes the server-side subscriptions.

use std::sync::Arc;

use super::commands::Turn;
use super::{Client, Close, Connecting, Stage, Waiting};
use crate::Disconnect;
use crate::channel::{ChannelName, personal_channel};
use crate::exchange::Subscribed;
use crate::hub::Form;
use crate::protocol::{Answer, ConnectRequest, ConnectResult, SubscribeResult};
use crate::publication::Since;
use crate::view::{Texts, subscribe_result};

impl Client {
    /// Begins to connect. The reply is sent when all server-side subscriptions exist.
    pub(super) fn connect(
        &mut self,
        id: u32,
        request: &ConnectRequest<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Close> {
        if !request.token.is_empty() {
            return Err(Disconnect::InvalidToken.into());
        }
        let channels = self.server_side_channels(turn);
        let mut missing = 0;
        for channel in channels {
            // A name that the server makes belongs to a namespace.
            let options =
                ChannelName::parse(&channel).ok().and_then(|name| turn.config.namespaces.options(name));
            let Some(options) = options.cloned() else { continue };
            let request =
                request.subs.iter().rev().find(|(name, _)| *name == *channel).map(|(_, request)| request);
            let subscription = self.begin_subscription(0, channel, request, &options, true, turn);
            missing += usize::from(subscription.is_ok());
        }
        self.stage =
            Stage::Connecting(Box::new(Connecting { id, missing, answers: Vec::new(), waiting: Vec::new() }));
        self.connect_if_complete(turn);
        Ok(())
    }

    /// Returns the channels to which the server subscribes the client.
    fn server_side_channels(&self, turn: &Turn<'_>) -> Vec<Arc<str>> {
        let personal =
            turn.config.personal_channel.then(|| personal_channel(None, turn.identity.id())).flatten();
        personal.map(Arc::from).into_iter().collect()
    }

    /// Handles the answer to a server-side subscription of `connect`.
    pub(super) fn connect_subscribed(
        &mut self,
        channel: Arc<str>,
        subscribed: Box<Subscribed>,
        since: Option<Since>,
        turn: &mut Turn<'_>,
    ) {
        if let Stage::Connecting(connecting) = &mut self.stage {
            connecting.missing = connecting.missing.saturating_sub(1);
            connecting.answers.push((channel, subscribed, since));
        }
        self.connect_if_complete(turn);
    }

    /// Replies to `connect` if all server-side subscriptions exist.
    fn connect_if_complete(&mut self, turn: &mut Turn<'_>) {
        let Stage::Connecting(connecting) = &self.stage else { return };
        if connecting.missing > 0 {
            return;
        }
        let answers = &connecting.answers;
        let texts: Vec<_> = answers
            .iter()
            .map(|(_, subscribed, _)| Texts::of_publications(&subscribed.publications, Form::default()))
            .collect();
        let publications: Vec<_> = answers
            .iter()
            .zip(&texts)
            .map(|((_, subscribed, _), texts)| texts.publications(&subscribed.publications))
            .collect();
        let subs: Vec<(&str, SubscribeResult<'_>)> = answers
            .iter()
            .zip(&publications)
            .map(|((channel, subscribed, since), publications)| {
                let form = turn.hub.form(self.hub_key(), channel).unwrap_or_default();
                (&**channel, subscribe_result(subscribed, *since, form, None, publications))
            })
            .collect();
        let client = self.id.to_string();
        let result = ConnectResult {
            client: &client,
            version: &turn.config.version,
            subs: &subs,
            ping: if self.has_pings { turn.config.ping_interval.as_secs() as u32 } else { 0 },
            pong: self.has_pings,
            ..ConnectResult::default()
        };
        turn.answer(connecting.id, Answer::Connect(result));
    }

    /// Returns the messages that waited for the answer to `connect`, once it is sent.
    pub(crate) fn take_waiting(&mut self) -> Option<Vec<Waiting>> {
        match &mut self.stage {
            Stage::Connecting(connecting) if connecting.missing == 0 => {
                let waiting = std::mem::take(&mut connecting.waiting);
                self.stage = Stage::Connected;
                Some(waiting)
            }
            Stage::New | Stage::Connecting(_) | Stage::Connected | Stage::Closed => None,
        }
    }
}
