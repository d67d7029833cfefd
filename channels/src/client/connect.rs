//! `connect`: the first command, which makes the server-side subscriptions.

use std::mem;
use std::sync::Arc;

use super::commands::Turn;
use super::credentials::Grant;
use super::{Client, Close, Connecting, Held, Stage, Waiting};
use crate::Disconnect;
use crate::channel::personal_channel;
use crate::exchange::Subscribed;
use crate::hub::Form;
use crate::namespaces::options::{ChannelOptions, DataFormat};
use crate::permissions::{self, Refusal};
use crate::protocol::{Answer, ConnectRequest, ConnectResult, Encoding, Raw, SubscribeResult};
use crate::publication::Since;
use crate::view::{self, Texts, subscribe_result};

impl Client {
    /// Begins to connect. The reply is sent when all server-side subscriptions exist.
    pub(super) fn connect(
        &mut self,
        id: u32,
        request: &ConnectRequest<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Close> {
        if self.must_be_checked(&request.token, turn) {
            return self.check_connect(id, &request.token, turn);
        }
        let channels = match self.server_side_channels(&request.token, turn) {
            Ok(channels) => channels,
            Err(refusal) => return self.refuse_connect(id, refusal, turn),
        };
        let mut missing = 0;
        for (channel, options) in channels {
            let request =
                request.subs.iter().rev().find(|(name, _)| *name == *channel).map(|(_, request)| request);
            let subscription = self.begin_subscription(0, channel, request, &options, true, turn);
            missing += usize::from(subscription.is_ok());
        }
        let connecting =
            Connecting { id, missing, answers: Vec::new(), held: Vec::new(), waiting: Vec::new() };
        self.stage = Stage::Connecting(Box::new(connecting));
        self.connect_if_complete(turn);
        Ok(())
    }

    /// Answers `connect` with a refusal.
    ///
    /// # Errors
    /// The Close, if the refusal is one, or the client gets no replies.
    pub(super) fn refuse_connect(
        &mut self,
        id: u32,
        refusal: Refusal,
        turn: &mut Turn<'_>,
    ) -> Result<(), Close> {
        match refusal {
            Refusal::Error(error) if self.is_bare => Err(Disconnect::instead_of(error).into()),
            Refusal::Error(error) => {
                turn.refuse(id, error);
                self.stage = Stage::Refused;
                Ok(())
            }
            Refusal::Disconnect(disconnect) => Err(disconnect.into()),
        }
    }

    /// Verifies the token, if there is one. Returns the channels to which the server subscribes the client, each once: the
    /// channels of the token, and the personal channel.
    fn server_side_channels(&mut self, token: &str, turn: &Turn<'_>) -> Result<Vec<ServerSide>, Refusal> {
        let mut channels = Vec::new();
        if !token.is_empty() && !turn.are_tokens_checked_by_host() {
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
                let grant = Grant {
                    expires_at: None,
                    info: details.info.map(Arc::from),
                    data: (!data.is_empty()).then(|| data.into()),
                    overrides: details.overrides,
                };
                self.set_grant(&channel, Some(grant));
                channels.push((channel, options));
            }
        }
        let personal = turn.config.personal_channel.then(|| personal_channel(None, turn.identity.id()));
        if let Some(name) = personal.flatten()
            && channels.iter().all(|(known, _)| **known != *name)
        {
            let options = self.server_side_options(&name, turn)?;
            channels.push((name.into(), options));
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
        let Stage::Connecting(connecting) = &mut self.stage else { return };
        if connecting.missing > 0 {
            return;
        }
        let id = connecting.id;
        let (answers, held) = (mem::take(&mut connecting.answers), mem::take(&mut connecting.held));
        let data: Vec<_> = answers.iter().map(|(channel, ..)| self.take_data(channel)).collect();
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
            .zip(publications.iter().zip(&data))
            .map(|((channel, subscribed, since), (publications, data))| {
                let form = turn.hub.form(self.hub_key(), channel).unwrap_or_default();
                let result = subscribe_result(subscribed, *since, form, None, publications);
                (&**channel, SubscribeResult { data: data.as_deref().unwrap_or_default(), ..result })
            })
            .collect();
        let client = self.id.to_string();
        let result = ConnectResult {
            client: &client,
            version: &turn.config.version,
            expires: turn.ttl(self.expires_at()),
            subs: &subs,
            ping: if self.has_pings { turn.config.ping_interval.as_secs() as u32 } else { 0 },
            pong: self.has_pings && !self.is_bare,
            ..ConnectResult::default()
        };
        turn.answer(id, Answer::Connect(result));
        for (channel, ..) in &answers {
            self.release(channel, turn);
        }
        held.iter().for_each(|event| self.push_held(event, turn));
    }

    /// Keeps an event of a server-side subscription until `connect` is answered.
    pub(crate) fn hold(&mut self, event: Held) {
        if let Stage::Connecting(connecting) = &mut self.stage {
            connecting.held.push(event);
        }
    }

    /// Lets a server-side subscription receive events.
    fn release(&self, channel: &str, turn: &mut Turn<'_>) {
        if let Some(form) = turn.hub.form(self.hub_key(), channel) {
            turn.hub.set_form(self.hub_key(), channel, form.without(Form::HELD));
        }
    }

    /// Pushes an event that was kept, unless its subscription has ended.
    fn push_held(&self, event: &Held, turn: &mut Turn<'_>) {
        let channel = match event {
            Held::Publication(publication) => &publication.channel,
            Held::Presence(event) => &event.channel,
        };
        let (Some(slot), Some(form)) = (turn.hub.find(channel), turn.hub.form(self.hub_key(), channel))
        else {
            return;
        };
        match event {
            Held::Publication(publication) => {
                view::push_publication(&mut turn.replies, form, slot, publication, None);
                turn.counts.deliveries += 1;
            }
            Held::Presence(event) => view::push_presence(&mut turn.replies, form, slot, event),
        }
    }

    /// Returns the messages that waited for the check of the token of `connect`, once it has passed, or for the reply to
    /// `connect`, once it is sent.
    pub(super) fn take_waiting(&mut self) -> Vec<Waiting> {
        let has_passed_check = self.has_passed_check();
        match &mut self.stage {
            Stage::Checking(connecting) if has_passed_check => {
                let waiting = mem::take(&mut connecting.waiting);
                self.stage = Stage::New;
                waiting
            }
            Stage::Connecting(connecting) if connecting.missing == 0 => {
                let waiting = mem::take(&mut connecting.waiting);
                self.stage = Stage::Connected;
                waiting
            }
            Stage::New
            | Stage::Checking(_)
            | Stage::Connecting(_)
            | Stage::Connected
            | Stage::Refused
            | Stage::Closing(_)
            | Stage::Closed => Vec::new(),
        }
    }
}

/// A channel to which the server subscribes a client, and its options.
type ServerSide = (Arc<str>, Arc<ChannelOptions>);
