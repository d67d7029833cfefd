//! The thread of the engine: it hands the inputs of the queue to the [`Relay`], and performs its actions.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::rc::Rc;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use postern_channels::exchange::Exchange;
use postern_channels::relay::command::{Cause, Command, Failure, Place, Reply};
use postern_channels::relay::link::{Action, Attempt, LinkConfig, Ticket};
use postern_channels::relay::{
    CommandId, Local, Relay, RelayConfig, RelayEvent, ServerAnswer, ServerRequest, scripts,
};
use postern_core::worker::AdminRequest;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{PushInfo, PushKind, RedisError, Value};
use slog::{Logger, info, warn};
use smol::channel::{Receiver, Sender, bounded};
use smol::future::FutureExt;
use smol::{LocalExecutor, Task, Timer};

use super::Shared;
use super::connector::{Connection, Connector, Opened, Server};
use super::encoding::{self, Encoder, Scripts};
use super::queue::Input;
use crate::channels::{Batch, Delivery, Node, unix_ms};
use crate::control::{describe, parse_remote};
use crate::revocations::RevocationTable;
use crate::settings::EngineSettings;
use crate::url::redact_url;
use crate::users::PerUser;
use crate::workers::{self, RemoteRequest, WorkerReply};

/// Starts the thread, which runs until the process ends.
///
/// # Errors
/// The settings were not checked, or the thread cannot be started.
pub(super) fn spawn(
    settings: &EngineSettings,
    shared: Arc<Shared>,
    node: Arc<Node>,
    users: Option<Arc<PerUser>>,
    revocations: Arc<RevocationTable>,
    wakes: Receiver<()>,
    log: Logger,
) -> io::Result<()> {
    let connector = Arc::new(Connector::new(settings).map_err(io::Error::other)?);
    let (encoder, probe) = (connector.encoder(), settings.probe);
    let number = RandomState::new().hash_one("node");
    let config = RelayConfig {
        link: LinkConfig {
            node: number,
            timeout: settings.timeout,
            probe: settings.probe,
            queue: settings.queue,
        },
        when_down: settings.when_down,
        is_failover_noticed: settings.is_failover_noticed,
        position_check: settings.position_check,
        recover_rate: settings.recover_rate,
        user_limit: users.as_ref().map(|users| users.limit()),
    };
    let seed = u128::from(RandomState::new().hash_one("seed")) << 64 | u128::from(number);
    let url = redact_url(&settings.url).into_owned();
    // The answers of several nodes may wait in the queue of one.
    let longest_answer = settings.queue / 16;
    let run = move || {
        let executor = Rc::new(LocalExecutor::new());
        let driver = Driver {
            relay: Relay::new(config, seed, Instant::now()),
            shared,
            users,
            revocations,
            encoder: Rc::new(encoder),
            connector,
            probe,
            longest_answer,
            connecting: None,
            connections: None,
            executor: executor.clone(),
            waiting: Vec::new(),
            askers: HashMap::new(),
            asked: 0,
            reports: Reports { url, log, failed: 0, reported: None },
        };
        smol::block_on(executor.run(driver.run(&node, &wakes)));
    };
    thread::Builder::new().name("engine".to_owned()).spawn(run).map(drop)
}

struct Driver {
    relay: Relay,
    shared: Arc<Shared>,
    /// The connections of each user, if they are limited.
    users: Option<Arc<PerUser>>,
    revocations: Arc<RevocationTable>,
    encoder: Rc<Encoder>,
    connector: Arc<Connector>,
    /// The time after which the sentinels, or the nodes of the cluster, are asked again for the master.
    probe: Duration,
    /// About the most bytes of an answer to another node.
    longest_answer: usize,
    /// Opens the connections of an attempt.
    connecting: Option<Task<()>>,
    connections: Option<Connections>,
    executor: Rc<LocalExecutor<'static>>,
    /// Commands that are sent together. Empty between turns.
    waiting: Vec<(Ticket, Arc<Command>)>,
    /// The senders of answers to the server API, by the number of the request.
    askers: HashMap<u64, Sender<ServerAnswer>>,
    /// The last number.
    asked: u64,
    reports: Reports,
}

/// The connections of an attempt.
struct Connections {
    attempt: Attempt,
    commands: Connection,
    messages: Connection,
    server: Server,
    scripts: Rc<RefCell<Scripts>>,
    /// Closed when they are given up, which ends the tasks that wait for replies, and with them the sockets.
    closed: Receiver<()>,
    _open: Sender<()>,
}

/// The log records about the connections.
struct Reports {
    url: String,
    log: Logger,
    /// Failures since the engine was last live.
    failed: u64,
    /// When a failure was last logged.
    reported: Option<Instant>,
}

/// The exchanges of the process, and the connections of its users.
struct Shards<'n> {
    batch: Batch<'n>,
    users: Option<Arc<PerUser>>,
}

impl Local for Shards<'_> {
    type Inboxes<'a> = Delivery<'a>;

    fn with<R>(
        &mut self,
        channel: &str,
        operate: impl for<'a> FnOnce(&mut Exchange, &mut Delivery<'a>) -> R,
    ) -> R {
        self.batch.with(channel, operate)
    }

    fn connections(&mut self, user: &str) -> Vec<(u64, Instant)> {
        self.users.as_ref().map(|users| users.of(user)).unwrap_or_default()
    }

    fn users(&mut self) -> Vec<Arc<str>> {
        self.users.as_ref().map(|users| users.all()).unwrap_or_default()
    }

    fn time(&self) -> i64 {
        unix_ms()
    }
}

impl Driver {
    async fn run(mut self, node: &Arc<Node>, wakes: &Receiver<()>) {
        loop {
            self.turn(node, Instant::now());
            let next = self.relay.poll_timeout();
            let due = async {
                match next {
                    Some(at) => _ = Timer::at(at).await,
                    None => smol::future::pending().await,
                }
            };
            // The sender exists as long as the queue.
            async { _ = wakes.recv().await }.or(due).await;
        }
    }

    /// Handles all inputs, and performs the actions that follow.
    fn turn(&mut self, node: &Arc<Node>, now: Instant) {
        let mut shards = Shards { batch: node.batch(), users: self.users.clone() };
        for input in self.shared.queue.take() {
            self.handle(input, now, &mut shards);
        }
        self.relay.handle_timeout(now, &mut shards);
        // Workers have their events before this thread sends commands.
        drop(shards);
        while let Some(event) = self.relay.poll_event() {
            match event {
                RelayEvent::Answer(token, answer) => {
                    // It fails if the caller has stopped waiting.
                    self.askers.remove(&token).map(|asker| asker.try_send(answer));
                }
                RelayEvent::Command(id, message) => self.perform_command(id, &message, node, now),
                RelayEvent::Describe => self.describe(node),
                RelayEvent::Close { user, connection } => self.close(&user, connection, node),
                RelayEvent::Revocations(lines) => self.revocations.add_remote(&lines),
                RelayEvent::Live => {
                    self.reports.live(self.connections.as_ref().map(|connections| &connections.server));
                }
                RelayEvent::Down(failure) => self.reports.down(&failure, now),
            }
        }
        while let Some(action) = self.relay.poll_action(now) {
            self.perform(action);
        }
        self.send_waiting();
        *self.shared.queue.stats.lock().unwrap_or_else(PoisonError::into_inner) = self.relay.stats();
    }

    fn handle(&mut self, input: Input, now: Instant, shards: &mut Shards<'_>) {
        match input {
            Input::Worker(worker, request) => {
                return self.relay.handle_request(worker, request, now, shards);
            }
            Input::Server(operation, asker) => {
                self.asked += 1;
                self.askers.insert(self.asked, asker);
                let request = ServerRequest { token: self.asked, operation };
                return self.relay.handle_server_request(request, now, shards);
            }
            Input::Performed(id, affected) => self.relay.handle_performed(id, affected, &[], now),
            Input::User(user) => self.relay.handle_user_changed(user),
            Input::Described(description) => self.relay.handle_description(description.into(), now),
            Input::Message { attempt, topic, message } => {
                let topic = self.encoder.strip(&topic).unwrap_or_default();
                self.relay.handle_message(attempt, topic, &message, now, shards);
            }
            // A later attempt has been faster.
            Input::Connected(attempt, _)
                if self.connections.as_ref().is_some_and(|open| open.attempt > attempt) => {}
            Input::Connected(attempt, opened) => self.handle_connected(attempt, *opened, now),
            Input::Failed(attempt, failure) => self.relay.link().handle_failed(attempt, failure, now),
            Input::Reply(attempt, ticket, result) => {
                self.relay.link().handle_reply(attempt, ticket, result, now);
            }
        }
        self.relay.handle_events(now, shards);
    }

    fn handle_connected(&mut self, attempt: Attempt, opened: Opened, now: Instant) {
        let Opened { commands, messages, server } = opened;
        let (open, closed) = bounded(1);
        let (watch, shared) = (self.connector.clone().watch(server.clone(), self.probe), self.shared.clone());
        let watch = async move { shared.queue.add(Input::Failed(attempt, watch.await)) };
        self.executor.spawn(until_closed(watch, closed.clone())).detach();
        let scripts = Rc::default();
        self.connections =
            Some(Connections { attempt, commands, messages, server, scripts, closed, _open: open });
        self.relay.link().handle_connected(attempt, now);
    }

    /// Answers another node, or lets the workers perform its command.
    fn perform_command(&mut self, id: CommandId, message: &[u8], node: &Node, now: Instant) {
        match parse_remote(message, node, &self.revocations, self.longest_answer) {
            Some(RemoteRequest::Perform(command)) => {
                let shared = self.shared.clone();
                node.command(command, move |replies| {
                    let affected = replies.iter().map(WorkerReply::affected).sum();
                    shared.queue.add(Input::Performed(id, affected));
                });
            }
            Some(RemoteRequest::Answer(content)) => {
                self.relay.handle_performed(id, 0, &content, now);
            }
            None => {}
        }
    }

    /// Closes a connection, because its user has too many on all nodes.
    fn close(&self, user: &str, connection: u64, node: &Node) {
        if let Some(closed) = self.users.as_ref().and_then(|users| users.close(user, connection)) {
            node.close(closed);
        }
    }

    /// Asks the workers for the figures in the description of this node.
    fn describe(&self, node: &Arc<Node>) {
        let (shared, of) = (self.shared.clone(), node.clone());
        node.command(workers::Command::Admin(AdminRequest::Totals), move |replies| {
            if let Some(description) = describe(&of, &replies) {
                shared.queue.add(Input::Described(description));
            }
        });
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Connect(attempt) => {
                // An earlier attempt, which has taken too long, ends.
                let task = connect(self.connector.clone(), attempt, self.shared.clone());
                self.connecting = Some(self.executor.spawn(task));
            }
            Action::Close(attempt) => {
                self.waiting.clear();
                self.connecting = None;
                self.connections.take_if(|connections| connections.attempt == attempt);
            }
            Action::Send(attempt, ticket, command) => {
                if self.connections.as_ref().is_none_or(|connections| connections.attempt != attempt) {
                    return;
                }
                if command.place() == Place::Commands && *command != Command::LoadScripts {
                    self.waiting.push((ticket, command));
                    if self.waiting.len() == TOGETHER {
                        self.send_waiting();
                    }
                    return;
                }
                self.send_waiting();
                self.send_alone(ticket, command);
            }
        }
    }

    /// Sends the commands that wait, in one write.
    fn send_waiting(&mut self) {
        let Some(connections) = self.connections.as_ref().filter(|_| !self.waiting.is_empty()) else {
            return;
        };
        let commands = std::mem::take(&mut self.waiting);
        let mut pipeline = redis::Pipeline::with_capacity(commands.len());
        {
            let scripts = connections.scripts.borrow();
            for (_, command) in &commands {
                // The driver performs the others itself.
                if let Some(encoded) = self.encoder.command(command, &scripts) {
                    pipeline.add_command(encoded);
                }
            }
        }
        let (attempt, mut connection) = (connections.attempt, connections.commands.redis.clone());
        let (shared, closed) = (self.shared.clone(), connections.closed.clone());
        let send = async move {
            match connection.req_packed_commands(&pipeline, 0, commands.len()).await {
                Ok(values) => {
                    for ((ticket, command), value) in commands.iter().zip(values) {
                        let result = encoding::reply(command, value);
                        shared.queue.add(Input::Reply(attempt, *ticket, result));
                    }
                }
                Err(error) => shared.queue.add(Input::Failed(attempt, encoding::failure(&error))),
            }
        };
        self.executor.spawn(until_closed(send, closed)).detach();
    }

    /// Sends a command that is not one of the connection of commands, or is several.
    fn send_alone(&mut self, ticket: Ticket, command: Arc<Command>) {
        let Some(connections) = &self.connections else { return };
        let attempt = connections.attempt;
        let (mut commands, mut messages) =
            (connections.commands.redis.clone(), connections.messages.redis.clone());
        let (scripts, encoder) = (connections.scripts.clone(), self.encoder.clone());
        let (shared, closed) = (self.shared.clone(), connections.closed.clone());
        let send = async move {
            let names = |topics: &[_]| topics.iter().map(|topic| encoder.topic(topic)).collect::<Vec<_>>();
            let result = match &*command {
                Command::LoadScripts => load_scripts(&mut commands, &scripts).await,
                Command::Subscribe(topics) => messages.subscribe(names(topics)).await,
                Command::Unsubscribe(topics) => messages.unsubscribe(names(topics)).await,
                // They are sent together with others.
                Command::Role
                | Command::Replication
                | Command::Send { .. }
                | Command::Publish(_)
                | Command::Read(_)
                | Command::AddRevocation(_)
                | Command::ReadRevocations { .. }
                | Command::RenewLease { .. }
                | Command::ReadNodes
                | Command::Reap { .. }
                | Command::AddPresence(_)
                | Command::RemovePresence(_)
                | Command::ReadPresence { .. }
                | Command::WriteUser(_)
                | Command::Clear { .. } => Ok(()),
            };
            let result = result.map(|()| Reply::Done).map_err(|error| encoding::failure(&error));
            shared.queue.add(Input::Reply(attempt, ticket, result));
        };
        self.executor.spawn(until_closed(send, closed)).detach();
    }
}

/// Opens both connections.
async fn connect(connector: Arc<Connector>, attempt: Attempt, shared: Arc<Shared>) {
    let of_messages = shared.clone();
    let receive = move |push: PushInfo| {
        receive(&of_messages, attempt, push);
        Ok::<(), ()>(())
    };
    shared.queue.add(match connector.open(|config| config.set_push_sender(receive)).await {
        Ok(opened) => Input::Connected(attempt, Box::new(opened)),
        Err(failure) => Input::Failed(attempt, failure),
    });
}

/// Handles what arrives on the connection of messages, on a thread of the client.
fn receive(shared: &Shared, attempt: Attempt, push: PushInfo) {
    match (push.kind, <[Value; 2]>::try_from(push.data)) {
        (PushKind::Message, Ok([Value::BulkString(topic), Value::BulkString(message)])) => {
            if let Ok(topic) = String::from_utf8(topic) {
                shared.queue.add_message(attempt, topic, message);
            }
        }
        (PushKind::Disconnection, _) => {
            let failure = Failure::new(Cause::Closed, "the connection of messages has ended");
            shared.queue.add(Input::Failed(attempt, failure));
        }
        _ => {}
    }
}

async fn load_scripts(
    connection: &mut MultiplexedConnection,
    names: &RefCell<Scripts>,
) -> Result<(), RedisError> {
    let mut pipeline = redis::pipe();
    for script in scripts::ALL {
        pipeline.cmd("SCRIPT").arg("LOAD").arg(script);
    }
    *names.borrow_mut() = pipeline.query_async(connection).await?;
    Ok(())
}

/// Runs a task until it ends, or its connections are given up.
async fn until_closed(task: impl Future<Output = ()>, closed: Receiver<()>) {
    task.or(async { _ = closed.recv().await }).await;
}

impl Reports {
    fn live(&mut self, server: Option<&Server>) {
        let server = server.map(Server::to_string).unwrap_or_default();
        info!(self.log, # "engine_connected", "channels are connected with Redis"; "url" => &self.url,
            "server" => server, "failures" => self.failed);
        (self.failed, self.reported) = (0, None);
    }

    /// Logs the first failure, and one each minute.
    fn down(&mut self, failure: &Failure, now: Instant) {
        self.failed += 1;
        if self.reported.is_some_and(|at| now.duration_since(at) < REPORT_INTERVAL) {
            return;
        }
        self.reported = Some(now);
        warn!(self.log, # "engine_failed", "{}", advice(failure.cause); "url" => &self.url,
            "reason" => failure.cause.label(), "error" => &*failure.text, "failures" => self.failed);
    }
}

/// Returns what is wrong, with the setting that may be the cause.
fn advice(cause: Cause) -> &'static str {
    match cause {
        Cause::Unreachable => "POSTERN_REDIS_URL: Redis cannot be reached; trying again",
        Cause::Credentials => {
            "POSTERN_REDIS_URL, POSTERN_REDIS_PASSWORD: Redis refuses the user or the password; trying again each 30 s"
        }
        Cause::Permission => {
            "POSTERN_REDIS_URL: the user of Redis may not execute a command that is needed; trying again each 30 s"
        }
        Cause::Replica => {
            "POSTERN_REDIS_URL: the server is a replica, or was replaced as the master; trying again"
        }
        Cause::Tls => {
            "POSTERN_REDIS_URL, POSTERN_REDIS_CA_FILE: the TLS connection to Redis fails; trying again each 30 s"
        }
        Cause::Cluster => "POSTERN_REDIS_URL: the scheme is wrong for this server; trying again each 30 s",
        Cause::Timeout | Cause::Undelivered => "Redis does not answer in time; connecting again",
        Cause::Overflow => "Redis sends messages faster than they are handled; connecting again",
        Cause::Loading => "Redis is loading its data; trying again",
        Cause::Closed
        | Cause::Storage
        | Cause::NoScript
        | Cause::Protocol
        | Cause::Server
        | Cause::Busy
        | Cause::Down => "the connection to Redis is lost; connecting again",
    }
}

/// The most commands that are sent in one write.
const TOGETHER: usize = 256;

/// The least time between two log records about failures.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);
