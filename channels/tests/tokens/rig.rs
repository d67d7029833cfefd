//! A worker with one client, in a runtime in memory, and a clock that the test moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use postern_channels::backend::{ClientCommand, ClientFilter};
use postern_channels::claims::{ConnectionClaims, Fault, SubscriptionClaims, TokenClaims, Tokens};
use postern_channels::engine::{Answer, ChannelEvent, Effect, Inboxes, Operation, Request};
use postern_channels::exchange::{Exchange, ExchangeConfig, Publish, WorkerId};
use postern_channels::hooks::{HookAnswer, HookRequest};
use postern_channels::publication::Tags;
use postern_channels::{Channels, ChannelsConfig, namespaces};
use postern_core::handshake::{HandshakeConfig, Identity, IdentityHeaders};
use postern_core::model::{ModelRuntime, client_frame};
use postern_core::policy::KeepAliveConfig;
use postern_core::record::NullRecorder;
use postern_core::worker::{WorkerEffect, WorkerMessage};
use postern_core::{Key, Verdict, Worker, WorkerConfig};
use serde_json::Value;

/// The client of the user 42.
pub(crate) struct Rig {
    runtime: ModelRuntime<Channels>,
    exchange: Exchange,
    key: Key,
    start: Instant,
    time: Arc<AtomicU64>,
    /// The channel and the data that another worker publishes after the next request of this one.
    interposed: Option<(&'static str, &'static str)>,
    /// The requests to hooks.
    pub(crate) hooks: Vec<HookRequest>,
}

impl Rig {
    /// Opens a connection.
    pub(crate) fn start() -> Rig {
        Rig::with_memory(usize::MAX)
    }

    /// Opens a connection to a worker with this limit of memory.
    pub(crate) fn with_memory(max_memory: usize) -> Rig {
        Rig::with_config(max_memory, ChannelsConfig::default(), false)
    }

    /// Opens a connection without a personal channel, whose connection tokens the host checks: any token is valid for the user
    /// whose id it is.
    pub(crate) fn with_service() -> Rig {
        let config = ChannelsConfig { personal_channel: false, ..ChannelsConfig::default() };
        Rig::with_config(usize::MAX, config, true)
    }

    fn with_config(max_memory: usize, config: ChannelsConfig, has_service: bool) -> Rig {
        let (start, time) = (Instant::now(), Arc::new(AtomicU64::new(START)));
        let channels = Channels::new(
            Arc::new(ChannelsConfig {
                tokens: Some(Arc::new(Verifier { time: time.clone(), has_service })),
                namespaces: namespaces::file::parse(NAMESPACES).unwrap(),
                ..config
            }),
            1,
            start,
        );
        let config = WorkerConfig {
            handshake: HandshakeConfig {
                identity: IdentityHeaders {
                    channels: "User-Channels".to_owned(),
                    ..IdentityHeaders::default()
                },
                ..HandshakeConfig::default()
            },
            keep_alive: KeepAliveConfig { interval: Duration::ZERO, ..KeepAliveConfig::default() },
            max_memory,
            ..WorkerConfig::default()
        };
        let worker = Worker::with_application(channels, Arc::new(config), 1, start);
        let mut runtime = ModelRuntime::new(worker, NullRecorder, start);
        let key = runtime.open();
        let exchange = Exchange::new(ExchangeConfig {
            seed: 1,
            history_memory: usize::MAX,
            idempotency_ttl: Duration::from_secs(300),
            max_idempotency_keys: 10,
        });
        runtime.feed(key, REQUEST.as_bytes());
        assert!(runtime.take_wire(key).starts_with(b"HTTP/1.1 101 "));
        Rig { runtime, exchange, key, start, time, interposed: None, hooks: Vec::new() }
    }

    /// Opens a connection and connects without a token.
    pub(crate) fn connected() -> Rig {
        let mut rig = Rig::start();
        rig.send(r#"{"id":1,"connect":{}}"#);
        rig.received();
        rig
    }

    /// Lets another worker publish after the next request, before the one after it.
    pub(crate) fn interpose(&mut self, channel: &'static str, data: &'static str) {
        self.interposed = Some((channel, data));
    }

    /// Sends a text message.
    pub(crate) fn send(&mut self, text: &str) {
        self.runtime.feed(self.key, &client_frame(0x81, text.as_bytes()));
        self.turn();
    }

    /// Executes a command of a backend for the client.
    pub(crate) fn command(&mut self, command: &ClientCommand) {
        let keys = [self.key];
        self.runtime.worker.act(self.runtime.now, |channels, fanout| {
            channels.command(Some(&keys), &ClientFilter::default(), command, fanout)
        });
        self.turn();
    }

    /// Lets another worker publish.
    pub(crate) fn publish(&mut self, channel: &str, data: &str) {
        let mut inbox = Events::default();
        self.exchange.publish_to(publish(channel, data), None, self.runtime.now, &mut inbox);
        for event in inbox.0 {
            let ModelRuntime { worker, now, .. } = &mut self.runtime;
            worker.handle_message(WorkerMessage::Application(event), *now, &mut NullRecorder);
        }
        self.turn();
    }

    /// Answers a request to a hook.
    pub(crate) fn answer(&mut self, request: &HookRequest, answer: HookAnswer) {
        let &HookRequest { client, number, .. } = request;
        let event = ChannelEvent::Hook { client, number, answer: Box::new(answer) };
        let Rig { runtime, .. } = self;
        runtime.worker.handle_message(WorkerMessage::Application(event), runtime.now, &mut NullRecorder);
        self.turn();
    }

    /// Returns the number of publications of the client.
    pub(crate) fn published(&self) -> u64 {
        self.exchange.stats().published_by_clients
    }

    /// Returns the counted memory of the worker.
    pub(crate) fn memory(&self) -> usize {
        self.runtime.worker.memory_held()
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, duration: Duration) {
        let until = self.runtime.now + duration;
        loop {
            let runtime = &mut self.runtime;
            let next = runtime.worker.poll_timeout(runtime.now).filter(|at| *at <= until).unwrap_or(until);
            runtime.now = runtime.now.max(next);
            self.time.store(START + (runtime.now - self.start).as_secs(), Ordering::Relaxed);
            self.turn();
            if next == until {
                return;
            }
        }
    }

    /// Returns the text messages since the last call, with a line feed between them.
    pub(crate) fn received(&mut self) -> String {
        let (texts, close) = self.frames();
        assert_eq!(close, None);
        texts.join("\n")
    }

    /// Returns the Close that has arrived.
    pub(crate) fn closed(&mut self) -> (u16, String) {
        let (texts, close) = self.frames();
        assert!(texts.is_empty(), "{texts:?}");
        close.unwrap()
    }

    /// Returns the code of a Close or of an error reply, and 0 for another reply.
    pub(crate) fn outcome(&mut self) -> u64 {
        let (texts, close) = self.frames();
        if let Some((code, _)) = close {
            return code.into();
        }
        let [text] = &texts[..] else { panic!("{texts:?}") };
        let reply: Value = serde_json::from_str(text).unwrap();
        reply["error"]["code"].as_u64().unwrap_or_default()
    }

    fn frames(&mut self) -> (Vec<String>, Option<(u16, String)>) {
        let (mut texts, mut close) = (Vec::new(), None);
        let output = self.runtime.take_wire(self.key);
        let mut rest = &output[..];
        while let [head, length, more @ ..] = rest {
            let (length, more) = match length {
                126 => (usize::from(u16::from_be_bytes([more[0], more[1]])), &more[2..]),
                _ => (usize::from(*length), more),
            };
            let (payload, more) = more.split_at(length);
            rest = more;
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            match head & 0xf {
                1 => texts.push(text(payload)),
                8 => close = Some((u16::from_be_bytes([payload[0], payload[1]]), text(&payload[2..]))),
                other => panic!("a frame with opcode {other}"),
            }
        }
        (texts, close)
    }

    fn turn(&mut self) {
        let Rig { runtime, exchange, interposed, hooks, .. } = self;
        loop {
            runtime.handle_all_due();
            let (worker, now) = (&mut runtime.worker, runtime.now);
            let mut inbox = Events::default();
            while let Some(effect) = worker.poll_effect() {
                let WorkerEffect::Application(effect) = effect else { panic!("{effect:?}") };
                let request = match effect {
                    Effect::Request(request) => request,
                    Effect::Hook(request) => {
                        hooks.push(*request);
                        continue;
                    }
                };
                if let Operation::CheckToken(check) = request.operation {
                    let Request { client, command, channel, .. } = request;
                    let user = Identity::new(check.token.as_bytes(), b"", b"").unwrap();
                    let answer = Answer::TokenChecked(Verdict::Valid(user));
                    inbox.0.push(ChannelEvent::Answer { client, command, channel, answer });
                    continue;
                }
                assert_ne!(&*request.channel, "", "{request:?}");
                exchange.execute(WorkerId::default(), request, now, 0, &mut inbox);
                if let Some((channel, data)) = interposed.take() {
                    exchange.publish_to(publish(channel, data), None, now, &mut inbox);
                }
            }
            if inbox.0.is_empty() {
                return;
            }
            for event in inbox.0 {
                worker.handle_message(WorkerMessage::Application(event), now, &mut NullRecorder);
            }
        }
    }
}

fn publish(channel: &str, data: &str) -> Publish {
    Publish {
        channel: channel.into(),
        data: data.as_bytes().into(),
        info: None,
        tags: Tags::default(),
        delta: false,
        time: 0,
        history: None,
        key: None,
        version: None,
    }
}

/// The events of the only worker.
#[derive(Default)]
struct Events(Vec<ChannelEvent>);

impl Inboxes for Events {
    fn send(&mut self, _: WorkerId, event: ChannelEvent) -> bool {
        self.0.push(event);
        true
    }

    fn answer(&mut self, _: WorkerId, event: ChannelEvent) {
        self.0.push(event);
    }
}

/// Accepts tokens that are their claims, with `'` in place of `"` and times that count from the start.
#[derive(Debug)]
struct Verifier {
    time: Arc<AtomicU64>,
    has_service: bool,
}

impl Verifier {
    fn claims(&self, token: &str) -> Result<(Value, TokenClaims), Fault> {
        if token == "unavailable" {
            return Err(Fault::Unavailable);
        }
        let claims: Value = serde_json::from_str(&token.replace('\'', "\"")).map_err(|_| Fault::Invalid)?;
        let text = |name: &str| claims[name].as_str().map(str::to_owned);
        let time = |name: &str| claims[name].as_u64().map(|time| START + time);
        let common = TokenClaims {
            user: text("sub").unwrap_or_default(),
            channel: text("channel"),
            expires_at: time("exp"),
            not_before: time("nbf"),
            expire_at: time("expire_at"),
            info: text("info").map(String::into_bytes),
        };
        Ok((claims, common))
    }
}

impl Tokens for Verifier {
    fn connection(&self, token: &str) -> Result<ConnectionClaims, Fault> {
        let (claims, common) = self.claims(token)?;
        let channels = claims["channels"].as_str().map(str::to_owned).into_iter().collect();
        Ok(ConnectionClaims { common, channels, subs: Vec::new() })
    }

    fn subscription(&self, token: &str) -> Result<SubscriptionClaims, Fault> {
        let (_, common) = self.claims(token)?;
        Ok(SubscriptionClaims { common, ..SubscriptionClaims::default() })
    }

    fn time(&self) -> u64 {
        self.time.load(Ordering::Relaxed)
    }

    fn are_checked_by_host(&self) -> bool {
        self.has_service
    }
}

const NAMESPACES: &str = "
[without_namespace]
rpc_hook = true
[namespaces.open]
allow_subscribe_for_client = true
allow_tags_filter = true
[namespaces.ticker]
allow_subscribe_for_client = true
conflate = \"latest\"
conflate_interval = \"1s\"
[namespaces.hooked]
subscribe_hook = true
publish_hook = true
rpc_hook = true
presence = true
join_leave = true
force_push_join_leave = true
rate = 3
subscribe_for = [\"hooked:mine.*\"]
allow_user_limited_channels = true
";

/// The time at which a test starts, in seconds since 1970.
const START: u64 = 1_000;

const REQUEST: &str = "GET /ws?cf_ws_frame_ping_pong=true HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nUser-ID: 42\r\nUser-Channels: granted.*, $private, user.{id}, **\r\n\r\n";
