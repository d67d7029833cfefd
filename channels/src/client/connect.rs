//! `connect`: the first command, which makes the server-side subscriptions.

use std::sync::Arc;

use super::commands::Turn;
use super::credentials::Grant;
use super::{Client, Close, Connecting, Stage, Waiting};
use crate::Disconnect;
use crate::channel::personal_channel;
use crate::exchange::Subscribed;
use crate::hub::Form;
use crate::namespaces::options::{ChannelOptions, DataFormat};
use crate::permissions::{self, Refusal};
use crate::protocol::{Answer, ConnectRequest, ConnectResult, Encoding, Raw, SubscribeResult};
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
        let channels = match self.server_side_channels(&request.token, turn) {
            Ok(channels) => channels,
            Err(Refusal::Error(error)) => {
                turn.refuse(id, error);
                self.stage = Stage::Refused;
                return Ok(());
            }
            Err(Refusal::Disconnect(disconnect)) => return Err(disconnect.into()),
        };
        let (mut missing, mut data) = (0, Vec::new());
        for ServerSide { channel, options, data: of_channel } in channels {
            if !of_channel.is_empty() {
                data.push((channel.clone(), of_channel));
            }
            let request =
                request.subs.iter().rev().find(|(name, _)| *name == *channel).map(|(_, request)| request);
            let subscription = self.begin_subscription(0, channel, request, &options, true, turn);
            missing += usize::from(subscription.is_ok());
        }
        let (answers, waiting) = (Vec::new(), Vec::new());
        self.stage = Stage::Connecting(Box::new(Connecting { id, missing, answers, data, waiting }));
        self.connect_if_complete(turn);
        Ok(())
    }

    /// Verifies the token, if there is one. Returns the channels to which the server subscribes the client, each once: the
    /// channels of the token, and the personal channel.
    fn server_side_channels(&mut self, token: &str, turn: &Turn<'_>) -> Result<Vec<ServerSide>, Refusal> {
        let mut channels = Vec::new();
        if !token.is_empty() {
            for (name, details) in self.accept_connection_token(token, turn)?.subscriptions {
                let options = self.server_side_options(&name, turn)?;
                let channel: Arc<str> = name.into();
                let data = Raw::new(details.data.as_deref().unwrap_or_default());
                // A client with JSON gets it as a part of a JSON text.
                let data = match self.encoding {
                    Encoding::Json if !data.is_empty() => data
                        .compact()
                        .map_err(|_| Refusal::Disconnect(Disconnect::InvalidToken))?
                        .into_owned(),
                    Encoding::Json | Encoding::Protobuf => data.as_bytes().to_vec(),
                };
                let info = details.info.map(Arc::from);
                self.set_grant(
                    &channel,
                    Some(Grant { info, overrides: details.overrides, ..Grant::default() }),
                );
                channels.push(ServerSide { channel, options, data });
            }
        }
        let personal = turn.config.personal_channel.then(|| personal_channel(None, turn.identity.id()));
        if let Some(name) = personal.flatten()
            && channels.iter().all(|known| *known.channel != *name)
        {
            let options = self.server_side_options(&name, turn)?;
            channels.push(ServerSide { channel: name.into(), options, data: Vec::new() });
        }
        if channels.len() > turn.config.max_channels {
            return Err(Refusal::Disconnect(Disconnect::ChannelLimit));
        }
        Ok(channels)
    }

    /// Returns the options of a channel to which the server subscribes the client.
    pub(super) fn server_side_options(
        &self,
        channel: &str,
        turn: &Turn<'_>,
    ) -> Result<Arc<ChannelOptions>, Refusal> {
        let (_, options) = permissions::find_channel(&turn.config.namespaces, channel)?;
        if options.publication_data_format == DataFormat::Binary && self.encoding == Encoding::Json {
            return Err(Refusal::Disconnect(Disconnect::InappropriateProtocol));
        }
        Ok(options.clone())
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
                let data = connecting.data.iter().find(|(of, _)| of == channel);
                let data = data.map(|(_, data)| &**data).unwrap_or_default();
                let result = subscribe_result(subscribed, *since, form, None, publications);
                (&**channel, SubscribeResult { data, ..result })
            })
            .collect();
        let client = self.id.to_string();
        let result = ConnectResult {
            client: &client,
            version: &turn.config.version,
            expires: turn.ttl(self.expires_at()),
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
            Stage::New | Stage::Connecting(_) | Stage::Connected | Stage::Refused | Stage::Closed => None,
        }
    }
}

/// A channel to which the server subscribes a client.
struct ServerSide {
    channel: Arc<str>,
    options: Arc<ChannelOptions>,
    /// The value for the client.
    data: Vec<u8>,
}
