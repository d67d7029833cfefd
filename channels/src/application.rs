//! The application of a worker: its clients, the subscribers of its channels, and pings.

mod backend;
mod ends;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use postern_core::frame::DataKind;
use postern_core::handshake::Identity;
use postern_core::record::{NullRecorder, Recorder};
use postern_core::worker::Message as ClientMessage;
use postern_core::worker::{
    Application, Echo, Fanout, FirstMessage, Opening, Outgoing, Reply, ServerClose, SharedFrame, earlier,
};
use postern_core::{BearerToken, CloseCode, Key};
use zeroize::Zeroizing;

use self::ends::{end, last_push, translate};
use crate::Disconnect;
use crate::client::{Client, Close, Stage, Turn};
use crate::config::ChannelsConfig;
use crate::counts::Counts;
use crate::delivery::{Audience, Intervals, SlowClients};
use crate::engine::{ChannelEvent, ClientRef, Effect, Operation, Request};
use crate::expiries::{Endings, Expiries};
use crate::hooks::{HookAnswer, HookRequests};
use crate::hub::{Form, Hub};
use crate::pings::{PingStep, Pings, Scheduled};
use crate::protocol::{Encoding, Endpoint, JSON_SUBPROTOCOL, PROTOBUF_SUBPROTOCOL};
use crate::publication::ClientId;
use crate::random::Random;

/// The applications of a worker: channels at some paths, and [`Echo`] at the others.
#[derive(Debug)]
pub struct Channels {
    pub(crate) config: Arc<ChannelsConfig>,
    pub(crate) hub: Hub,
    pub(crate) audience: Audience,
    pub(crate) intervals: Intervals,
    pub(crate) slow: SlowClients,
    /// The number of clients that speak the protocol.
    clients: usize,
    pings: Pings,
    expiries: Expiries,
    endings: Endings,
    /// The clients that must have sent `connect` at these times, which ascend.
    unconnected: VecDeque<(Instant, Scheduled)>,
    random: Random,
    requests: VecDeque<Request>,
    hooks: HookRequests,
    pub(crate) counts: Counts,
    /// The number of subscribers that deliveries have visited since the start.
    pub(crate) visited: u64,
    /// The message that is being written. Empty between turns.
    pub(crate) buffer: Vec<u8>,
}

impl Channels {
    /// Creates the application of a worker without connections. `seed` is random, and different for each worker and each start.
    pub fn new(config: Arc<ChannelsConfig>, seed: u128, now: Instant) -> Channels {
        Channels {
            hub: Hub::new(seed as u64, u16::try_from(config.max_channels).unwrap_or(u16::MAX)),
            audience: Audience::default(),
            intervals: Intervals::new(seed as u64),
            slow: SlowClients::default(),
            pings: Pings::new(now, config.ping_interval, config.pong_timeout),
            expiries: Expiries::new(now),
            endings: Endings::default(),
            config,
            clients: 0,
            unconnected: VecDeque::new(),
            random: Random::new(seed),
            requests: VecDeque::new(),
            hooks: HookRequests::default(),
            counts: Counts::default(),
            visited: 0,
            buffer: Vec::new(),
        }
    }

    /// Returns counts since the start.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Returns the number of subscribers that deliveries have visited since the start. Its growth shows how long events take.
    pub fn visited(&self) -> u64 {
        self.visited
    }

    /// Returns the number of subscriptions of all clients.
    pub fn subscriptions(&self) -> usize {
        self.hub.counts().1
    }

    /// Sends the message in the buffer to one client, whose messages have this form.
    fn send(&mut self, key: Key, form: Form, fanout: &mut Fanout<'_, Channels>) {
        messages(form, &self.buffer).for_each(|message| _ = fanout.send(key, message));
        self.buffer.clear();
    }

    /// Handles the answer to a request of a client, which may have gone.
    fn handle_answer(
        &mut self,
        to: ClientRef,
        command: u32,
        channel: &Arc<str>,
        answer: crate::engine::Answer,
        fanout: &mut Fanout<'_, Channels>,
        recorder: &mut impl Recorder,
    ) {
        if let crate::engine::Answer::Subscribed { subscribed: Some(subscribed), .. } = &answer {
            if let Some(catch_up) = &subscribed.catch_up {
                self.catch_up(catch_up, fanout);
            }
            // The publications of an earlier subscription of the client.
            self.slow.forget(to.key.0 as u32, channel);
        }
        let now = fanout.now();
        let Some((Some(client), identity)) = fanout.client(to.key) else { return };
        if client.place != to {
            return;
        }
        if let (crate::engine::Answer::Close, Stage::Closing(close)) = (&answer, &client.stage) {
            let close = Close::clone(close);
            client.stage = Stage::Closed;
            return self.close(to.key, &close, fanout);
        }
        let form = client.form();
        let result = self.act(client, identity, now, |client, turn| {
            client.handle_answer(command, channel, answer, turn)?;
            client.execute_waiting(turn, recorder)
        });
        let close = result.err().and_then(|close| self.close_after_answers(client, close));
        self.end_turn(to.key, form, close, fanout);
    }

    /// Handles the answer of a hook for a client, which may have gone.
    fn handle_hook(
        &mut self,
        to: ClientRef,
        number: u32,
        answer: HookAnswer,
        fanout: &mut Fanout<'_, Channels>,
        recorder: &mut impl Recorder,
    ) {
        let now = fanout.now();
        let Some((Some(client), identity)) = fanout.client(to.key) else { return };
        if client.place != to {
            return;
        }
        let form = client.form();
        let result = self
            .act(client, identity, now, |client, turn| client.handle_hook(number, answer, turn, recorder));
        let close = result.err().and_then(|close| self.close_after_answers(client, close));
        self.end_turn(to.key, form, close, fanout);
    }

    /// Sends the messages in the buffer to a client, and then the Close.
    fn end_turn(&mut self, key: Key, form: Form, close: Option<Close>, fanout: &mut Fanout<'_, Channels>) {
        self.send(key, form, fanout);
        if let Some(close) = close {
            self.close(key, &close, fanout);
        }
    }

    /// Lets a client wait for the answers to its requests of this turn, if it has any, before it is closed. Otherwise returns the
    /// Close.
    fn close_after_answers(&mut self, client: &mut Client, close: Close) -> Option<Close> {
        let is_own = |request: &&Request| {
            // The check of a token has no channel, and its answer is of no use any more.
            request.client == client.place && !matches!(request.operation, Operation::CheckToken(_))
        };
        let last = self.requests.iter().rev().find(is_own);
        let Some(channel) = last.map(|request| request.channel.clone()) else { return Some(close) };
        client.stage = Stage::Closing(Box::new(close));
        let (client, operation) = (client.place, Operation::Close);
        self.requests.push_back(Request { client, command: 0, channel, operation });
        None
    }

    /// Lets a client act. Its replies are in the buffer afterwards.
    fn act<R>(
        &mut self,
        client: &mut Client,
        identity: &Identity,
        now: Instant,
        act: impl FnOnce(&mut Client, &mut Turn<'_>) -> R,
    ) -> R {
        let (place, was_connected) = (client.place, client.is_connected());
        let mut turn = Turn {
            client: place,
            now,
            identity,
            config: &self.config,
            hub: &mut self.hub,
            replies: client.form().message(&mut self.buffer),
            requests: &mut self.requests,
            hooks: &mut self.hooks,
            counts: &mut self.counts,
            has_token: false,
        };
        let result = act(client, &mut turn);
        if let Some(at) = client.poll_expiry(self.config.expiry_grace) {
            self.expiries.add(Scheduled::new(place), at);
        }
        if !was_connected && client.is_connected() && client.has_pings {
            self.pings.add(Scheduled::new(place), now, self.random.next() as u32);
        }
        result
    }

    /// Sends pings to a group of clients, or closes those whose pongs are missing.
    fn handle_pings(&mut self, step: PingStep, mut group: Vec<Scheduled>, fanout: &mut Fanout<'_, Channels>) {
        let mut frames: [Option<SharedFrame<'_>>; 2] = [None; 2];
        group.retain(|&scheduled| {
            let key = scheduled.key();
            let Some((Some(client), _)) = fanout.client(key) else { return false };
            if !scheduled.is_of(client.place.connection) {
                return false;
            }
            if step == PingStep::Check {
                let is_answered = !client.awaits_pong;
                if !is_answered {
                    client.end();
                    fanout.close(key, CloseCode(Disconnect::NoPong.code()), Disconnect::NoPong.reason());
                }
                return is_answered;
            }
            client.awaits_pong = !client.is_bare;
            let encoding = client.encoding;
            let Some(frame) = frames.get_mut(encoding as usize) else { return false };
            let frame = *frame.get_or_insert_with(|| fanout.frame(kind(encoding), encoding.ping()));
            fanout.deliver(key, frame)
        });
        self.pings.put_back(step, group, fanout.now());
    }
}

impl Application for Channels {
    /// `None` for the clients of [`Echo`].
    type Client = Option<Box<Client>>;
    type Inbound = ChannelEvent;
    type Effect = Effect;

    fn token_of(&self, message: &FirstMessage<'_>) -> Option<BearerToken> {
        let is_bare = self.config.bare_paths.contains(&message.path_index);
        if message.path_index >= self.config.paths && !is_bare {
            return Echo.token_of(message);
        }
        let endpoint = Endpoint::new(message.subprotocol, |name| message.query.get(name));
        Client::token_of(endpoint, is_bare, message.payload)
    }

    fn opened(
        &mut self,
        client: &mut Option<Box<Client>>,
        opening: &Opening<'_>,
        reply: &mut Reply<'_, '_, '_>,
        _: &mut impl Recorder,
    ) {
        let is_bare = self.config.bare_paths.contains(&opening.path_index);
        if opening.path_index >= self.config.paths && !is_bare {
            return;
        }
        let endpoint = Endpoint::new(opening.subprotocol, |name| opening.query.get(name));
        let id = ClientId::from_random(self.random.next_wide());
        let place = ClientRef { key: opening.key, connection: opening.connection };
        let new = if is_bare { Client::bare } else { Client::new };
        let mut new = new(id, place, endpoint);
        if let Some(header) = opening.channels {
            new.add_patterns(header);
        }
        let client = client.insert(Box::new(new));
        self.clients += 1;
        self.unconnected.push_back((reply.now() + self.config.connect_timeout, Scheduled::new(place)));
        if is_bare && opening.query.get(CONNECT_PARAMETER).is_some() {
            let request = Zeroizing::new(opening.query.decoded(CONNECT_PARAMETER).unwrap_or_default());
            let result = self.act(client, opening.identity, reply.now(), |client, turn| {
                client.execute_bare(request.as_bytes(), turn)?;
                client.execute_waiting(turn, &mut NullRecorder)
            });
            self.reply(client, result, reply);
        }
    }

    fn message<'b>(
        &mut self,
        client: &mut Option<Box<Client>>,
        message: ClientMessage<'_, 'b>,
        reply: &mut Reply<'_, '_, 'b>,
        recorder: &mut impl Recorder,
    ) {
        match client {
            None => Echo.message(&mut (), message, reply, recorder),
            Some(client) => self.handle_message(client, message, reply, recorder),
        }
    }

    #[inline(always)]
    fn has_short_path(client: &Option<Box<Client>>) -> bool {
        client.is_none()
    }

    #[inline(always)]
    fn short_message<'b>(
        &mut self,
        _: &mut Option<Box<Client>>,
        message: ClientMessage<'_, 'b>,
        reply: &mut Reply<'_, '_, 'b>,
        recorder: &mut impl Recorder,
    ) {
        Echo.message(&mut (), message, reply, recorder);
    }

    fn closed(&mut self, _: Key, client: Option<Box<Client>>, _: &Identity, _: &mut Fanout<'_, Channels>) {
        let Some(client) = client else { return };
        self.clients -= 1;
        self.slow.remove(client.hub_key());
        while let Some((channel, form)) = self.hub.leave_any(client.hub_key()) {
            self.requests.push_back(end(client.place, client.id, channel, form));
        }
    }

    fn closing(
        client: &mut Option<Box<Client>>,
        identity: &Identity,
        close: &mut ServerClose<'_>,
        reply: &mut Reply<'_, '_, '_>,
    ) {
        let Some(client) = client else {
            return Echo::closing(&mut (), identity, close, reply);
        };
        client.end();
        if let Some(disconnect) = translate(close.code) {
            close.code = CloseCode(disconnect.code());
            // An SDK shows the reason, and this one says more.
            if disconnect != Disconnect::ForceDisconnect {
                close.reason = disconnect.reason();
            }
        }
        if let Some(push) = last_push(client, close.code, close.reason) {
            // The session is open.
            let _ = reply.text(&push);
        }
    }

    fn token_expires_at(client: &Option<Box<Client>>) -> Option<Instant> {
        client.as_ref()?.expires_at()
    }

    #[inline(always)]
    fn has_client_memory(client: &Option<Box<Client>>) -> bool {
        client.is_some()
    }

    fn client_memory(client: &Option<Box<Client>>) -> usize {
        client.as_ref().map_or(0, |client| client.memory())
    }

    fn inbound(
        &mut self,
        event: ChannelEvent,
        fanout: &mut Fanout<'_, Channels>,
        recorder: &mut impl Recorder,
    ) {
        match event {
            ChannelEvent::Publication { publication, excluded } => {
                self.deliver(&publication, excluded, fanout)
            }
            ChannelEvent::Presence(event) => self.deliver_presence(&event, fanout),
            ChannelEvent::CatchUp(catch_up) => self.catch_up(&catch_up, fanout),
            ChannelEvent::Config(config) => self.config = config,
            ChannelEvent::Hook { client, number, answer } => {
                self.handle_hook(client, number, *answer, fanout, recorder);
            }
            ChannelEvent::Answer { client, command, channel, answer } => {
                self.handle_answer(client, command, &channel, answer, fanout, recorder);
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let unconnected = self.unconnected.front().map(|&(at, _)| at);
        let expiries = earlier(self.expiries.poll_timeout(), self.endings.poll_timeout());
        let of_clients = earlier(unconnected, earlier(self.pings.poll_timeout(), expiries));
        let of_clients = earlier(of_clients, self.hooks.poll_timeout());
        earlier(of_clients, earlier(self.intervals.poll_timeout(), self.slow.poll_timeout()))
    }

    fn handle_timeout(&mut self, fanout: &mut Fanout<'_, Channels>, recorder: &mut impl Recorder) {
        self.close_unconnected(fanout);
        while let Some(clients) = self.expiries.take_due(fanout.now()) {
            clients.into_iter().for_each(|client| self.expire(client, fanout));
        }
        for client in self.endings.take_due(fanout.now()) {
            self.end_expired(client, fanout);
        }
        while let Some((client, number)) = self.hooks.take_overdue(fanout.now()) {
            self.handle_hook(client, number, HookAnswer::Failed, fanout, recorder);
        }
        self.handle_delivery_timeout(fanout);
        while let Some((step, group)) = self.pings.take_due(fanout.now()) {
            self.handle_pings(step, group, fanout);
        }
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        let request = self.requests.pop_front().map(Effect::Request);
        request.or_else(|| self.hooks.take_new().map(Effect::Hook))
    }
}

impl Channels {
    /// Executes the commands of a message.
    #[inline(never)]
    fn handle_message(
        &mut self,
        client: &mut Client,
        message: ClientMessage<'_, '_>,
        reply: &mut Reply<'_, '_, '_>,
        recorder: &mut impl Recorder,
    ) {
        let (result, has_token) = self.act(client, message.identity, reply.now(), |client, turn| {
            let executed = if client.is_bare {
                client.execute_bare(&message.payload, turn)
            } else {
                client.execute(&message.payload, 0, turn, recorder)
            };
            // `connect` is complete at once if there are no server-side subscriptions.
            let result = executed.and_then(|()| client.execute_waiting(turn, recorder));
            (result, turn.has_token)
        });
        self.reply(client, result, reply);
        if has_token {
            reply.wipe(message.payload);
        }
    }

    /// Sends the replies of a client that has acted, and the Close if it has failed.
    fn reply(&mut self, client: &mut Client, result: Result<(), Close>, reply: &mut Reply<'_, '_, '_>) {
        for message in messages(client.form(), &self.buffer) {
            // It fails if the connection is closing, and then no reply is expected.
            let _ = match message {
                Outgoing::Text(text) => reply.text(text),
                Outgoing::Binary(payload) => reply.binary(payload),
                _ => Ok(()),
            };
        }
        self.buffer.clear();
        if let Some(close) = result.err().and_then(|close| self.close_after_answers(client, close)) {
            let code = CloseCode(close.disconnect.code());
            if let Some(push) = last_push(client, code, close.reason()) {
                // It fails as above.
                let _ = reply.text(&push);
            }
            reply.close(code, close.reason());
        }
    }
}

/// Returns the messages in a buffer. A client without commands gets each push in one.
fn messages(form: Form, buffer: &[u8]) -> impl Iterator<Item = Outgoing<'_>> {
    let mut rest = buffer;
    std::iter::from_fn(move || {
        let line_end = || rest.iter().position(|&byte| byte == b'\n');
        let end = if form.has(Form::BARE) { line_end() } else { None };
        let (message, after) = rest.split_at_checked(end.unwrap_or(rest.len()))?;
        rest = after.get(1..).unwrap_or_default();
        (!message.is_empty()).then(|| outgoing(form.encoding(), message))
    })
}

/// Returns the message of a client with this encoding.
fn outgoing(encoding: Encoding, message: &[u8]) -> Outgoing<'_> {
    match encoding {
        // Names and values are checked where they enter, so replies are UTF-8.
        Encoding::Json => Outgoing::Text(str::from_utf8(message).unwrap_or_default()),
        Encoding::Protobuf => Outgoing::Binary(message),
    }
}

pub(crate) fn kind(encoding: Encoding) -> DataKind {
    match encoding {
        Encoding::Json => DataKind::Text,
        Encoding::Protobuf => DataKind::Binary,
    }
}

/// The parameter of the query that has the fields of `connect`, for a client without commands.
const CONNECT_PARAMETER: &str = "cf_connect";

/// The subprotocols of the protocol, preferred first.
pub const SUBPROTOCOLS: [&str; 2] = [PROTOBUF_SUBPROTOCOL, JSON_SUBPROTOCOL];
