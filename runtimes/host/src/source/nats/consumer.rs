//! The thread that receives messages, publishes them and answers requests.

use std::fmt;
use std::time::{Duration, Instant};

use postern_channels::source::{Outcome, Poison};
use serde_json::{Value, json};
use slog::warn;
use smol::Timer;
use smol::future::or;
use smol::io::{AsyncReadExt, AsyncWriteExt};

use super::message;
use super::pings::{Due, Pings};
use super::protocol::{self, Decoder, Event, Head, Info};
use super::settings::{Login, NatsSettings, NatsUrl};
use crate::channels::unix_ms;
use crate::escape::Quoted;
use crate::source::published::Published;
use crate::source::report::{Failure, Report, attempt, receive_all, timed};
use crate::source::{Context, MOST_AT_ONCE, Mode, after, increment};
use crate::tls::{self, Stream, TlsFile};

/// Receives messages, one connection after the other.
pub(super) struct Consumer {
    settings: NatsSettings,
    context: Context,
    report: Report,
}

/// An open connection.
struct Connection {
    stream: Stream,
    decoder: Decoder,
    /// Bytes that are not sent yet.
    out: Vec<u8>,
    input: Vec<u8>,
    pings: Pings,
}

/// The headers and the payload of a message.
type Contents = (Vec<u8>, Vec<u8>);

/// The event that a connection waits for.
enum Wake {
    Stop,
    Read,
    Ping,
}

impl Consumer {
    pub(super) fn new(settings: NatsSettings, context: Context) -> Consumer {
        let report = Report::new(context.shared.clone(), context.log.clone());
        Consumer { settings, context, report }
    }

    /// Receives until the source is stopped.
    pub(super) fn run(mut self) {
        smol::block_on(receive_all(&mut self, |consumer| &mut consumer.report, Consumer::receive));
    }

    /// Connects, and publishes what arrives, until the connection is lost or the source is stopped.
    async fn receive(&mut self) -> Result<(), Failure> {
        let connected = attempt(&self.context.shared, self.connect()).await?;
        let Some((mut connection, early)) = connected else { return Ok(()) };
        self.report.connected("subject", &self.settings.subject);
        self.handle(&mut connection, early).await?;
        connection.flush().await?;
        loop {
            let due = connection.pings.due();
            let wake = or(
                async {
                    self.context.shared.stopped().await;
                    Ok(Wake::Stop)
                },
                or(async { connection.read().await.map(|()| Wake::Read) }, async {
                    Timer::at(due).await;
                    Ok(Wake::Ping)
                }),
            );
            match wake.await? {
                Wake::Stop => break,
                Wake::Read | Wake::Ping => {}
            }
            let events = connection.events()?;
            self.handle(&mut connection, events).await?;
            // After the events: an answer may have waited for as long as they took.
            match connection.pings.poll(Instant::now()) {
                None => {}
                Some(Due::Ask) => connection.ping(),
                Some(Due::GiveUp) => {
                    return Err(Failure::Temporary("no answer to two pings".to_owned()));
                }
            }
            connection.flush().await?;
        }
        // Messages that have arrived are published, and requests answered. The answer to the ping follows the last message.
        connection.out.extend_from_slice(b"UNSUB 1\r\nUNSUB 2\r\n");
        connection.ping();
        connection.flush().await?;
        let drain = async {
            while connection.pings.is_waiting() {
                connection.read().await?;
                let events = connection.events()?;
                self.handle(&mut connection, events).await?;
            }
            connection.flush().await?;
            connection.stream.close().await.map_err(lost)
        };
        or(drain, async {
            after(DRAIN_TIME).await;
            Ok(())
        })
        .await?;
        self.report.stopped();
        Ok(())
    }

    /// Connects and subscribes. Returns the connection, and the events that followed the confirmation.
    async fn connect(&self) -> Result<(Connection, Vec<Event>), Failure> {
        let NatsSettings { mode, subject, queue, max_payload, .. } = &self.settings;
        let setting = self.settings.url.setting();
        let url = self.settings.url.read();
        let url = url.map_err(|error| Failure::Refused(setting, error, "write the URL of the server"))?;
        let failed = |error: &dyn fmt::Display| Failure::Temporary(format!("{error} ({url})"));
        let socket = tls::tcp(&url.host, url.port).await.map_err(|error| failed(&error))?;
        let stream = Stream::Plain(socket);
        let decoder = Decoder::new(*max_payload);
        let mut connection = Connection {
            stream,
            decoder,
            out: Vec::new(),
            input: vec![0; READ_BYTES],
            pings: Pings::new(Instant::now()),
        };
        let info = connection.info().await?;
        if url.is_tls {
            connection = self.secure(connection, info, &url).await?;
        } else if info.requires_tls {
            let error = format!("the server requires TLS ({url})");
            return Err(Failure::Refused(setting, error, "write a URL that begins with tls://"));
        }
        connection.out.extend_from_slice(format!("CONNECT {}\r\n", self.options(&url)).as_bytes());
        let group = (*mode == Mode::Shared).then_some(queue.as_str());
        for (id, kind) in [(1, "channel"), (2, "user")] {
            protocol::subscribe(&mut connection.out, &format!("{subject}.{kind}.>"), group, id);
        }
        connection.ping();
        connection.flush().await?;
        // Errors come before the answer, and messages may too.
        let mut early = Vec::new();
        loop {
            // Some may have arrived with the properties of the server.
            for event in connection.events()? {
                if let Event::Refused(error) = event {
                    return Err(refusal(&error, setting, &url));
                }
                early.push(event);
            }
            if !connection.pings.is_waiting() {
                return Ok((connection, early));
            }
            connection.read().await?;
        }
    }

    /// Continues a connection by TLS.
    async fn secure(&self, connection: Connection, info: Info, url: &NatsUrl) -> Result<Connection, Failure> {
        let failed = |error: &dyn fmt::Display| Failure::Temporary(format!("{error} ({url})"));
        if !info.offers_tls {
            let error = format!("the server has no TLS ({url})");
            let advice = "write a URL that begins with nats://, or give the server a certificate";
            return Err(Failure::Refused(self.settings.url.setting(), error, advice));
        }
        // Bytes that came without TLS must not count as if they came by it.
        let Connection { stream: Stream::Plain(socket), decoder, .. } = &connection else {
            return Ok(connection);
        };
        if decoder.has_rest() {
            return Err(failed(&"the server has sent more than its properties before TLS"));
        }
        let files = self.settings.tls.clone();
        let tls = smol::unblock(move || tls::read(&files)).await.map_err(|(file, error)| {
            let setting = match file {
                TlsFile::Authorities => "POSTERN_NATS_CA_FILE",
                TlsFile::Certificate => "POSTERN_NATS_CERT_FILE",
                TlsFile::Key => "POSTERN_NATS_KEY_FILE",
            };
            failed(&format_args!("{setting}: {error}"))
        })?;
        let stream = tls::secure(&url.host, socket.clone(), &tls).await.map_err(|error| failed(&error))?;
        Ok(Connection { stream, ..connection })
    }

    /// Returns the options of a connection.
    fn options(&self, url: &NatsUrl) -> Value {
        let mut options = json!({
            "verbose": false,
            "pedantic": false,
            "tls_required": url.is_tls,
            "name": format!("postern {}", self.context.name),
            "lang": "rust",
            "version": env!("CARGO_PKG_VERSION"),
            "protocol": 1,
            "echo": false,
            "headers": true,
        });
        match &url.login {
            Login::None => {}
            Login::Token(token) => options["auth_token"] = json!(token),
            Login::Password(user, password) => {
                options["user"] = json!(user);
                options["pass"] = json!(password);
            }
        }
        options
    }

    /// Publishes messages, answers requests, and ends the connection if the server does.
    async fn handle(&mut self, connection: &mut Connection, events: Vec<Event>) -> Result<(), Failure> {
        let mut messages = Vec::new();
        for event in events {
            match event {
                Event::Message(head, headers, payload) => messages.push((head, Some((headers, payload)))),
                Event::Skipped(head) => messages.push((head, None)),
                Event::Refused(error) if error.starts_with("Permissions Violation for Publish") => {
                    warn!(self.context.log, # "source_answer", "NATS does not let the user answer requests; allow it to publish to _INBOX.>";
                        "error" => error);
                }
                Event::Refused(error) => return Err(Failure::Temporary(error)),
                // `Connection::events` has answered them.
                Event::Info(_) | Event::Ping | Event::Pong | Event::Accepted => {}
            }
        }
        for messages in messages.chunks(MOST_AT_ONCE) {
            self.publish(connection, messages).await;
        }
        Ok(())
    }

    /// Publishes messages, and rejects those that can never be published. `None`: the headers or the payload are too long.
    async fn publish(&mut self, connection: &mut Connection, messages: &[(Head, Option<Contents>)]) {
        let shared = self.context.shared.clone();
        let config = self.context.node.config();
        let mut published = Vec::new();
        let mut batch = self.context.node.batch();
        for (head, contents) in messages {
            let prefix = head.subject.strip_prefix(&self.settings.subject);
            let key = prefix.and_then(|rest| rest.strip_prefix('.')).unwrap_or_default();
            let outcome = match contents {
                Some((headers, payload)) => {
                    message::outcome(key, headers, payload, &config.namespaces, unix_ms())
                }
                None if head.headers > protocol::MAX_HEADERS => Outcome::DeadLetter(Poison::Header),
                None => Outcome::DeadLetter(Poison::TooLarge),
            };
            match outcome {
                Outcome::Publish(publications) => {
                    let publish = |publication| Published::new(&mut batch, publication);
                    published.push((head, publications.into_iter().map(publish).collect::<Vec<_>>()));
                }
                Outcome::Expired => {
                    increment(&shared.counts.expired);
                    connection.answer(head, &message::published(0));
                }
                Outcome::DeadLetter(poison) => {
                    self.report.rejected(poison, "subject", &head.subject, head.payload);
                    connection.answer(head, &message::rejected(poison));
                }
            }
        }
        // Wakes the workers before the results are awaited.
        drop(batch);
        for (head, publications) in published {
            let (mut channels, mut failure) = (0, None);
            for publication in publications {
                match publication.result(shared.broker, &self.context.log).await {
                    Ok(is_new) => channels += usize::from(is_new),
                    Err(error) => failure = Some(error.text),
                }
            }
            let answer = match failure {
                None if channels > 0 => {
                    increment(&shared.counts.published);
                    message::published(channels)
                }
                None => {
                    increment(&shared.counts.duplicates);
                    message::published(0)
                }
                Some(text) => {
                    increment(&shared.counts.lost);
                    warn!(self.context.log, # "source_lost", "a message from NATS is lost: the engine accepts no message";
                        "error" => %text, "subject" => %Quoted(&head.subject));
                    message::unavailable(&text)
                }
            };
            connection.answer(head, &answer);
        }
    }
}

impl Connection {
    /// Reads until the server has sent its properties.
    async fn info(&mut self) -> Result<Info, Failure> {
        loop {
            self.read().await?;
            match self.decoder.next_event().map_err(|error| Failure::Temporary(error.text().to_owned()))? {
                Some(Event::Info(info)) => return Ok(info),
                Some(Event::Refused(error)) => return Err(Failure::Temporary(error)),
                Some(_) => {
                    return Err(Failure::Temporary("the server does not begin as NATS does".to_owned()));
                }
                None => {}
            }
        }
    }

    /// Adds a question, which the server answers after everything before it.
    fn ping(&mut self) {
        self.pings.sent(Instant::now());
        self.out.extend_from_slice(b"PING\r\n");
    }

    /// Adds the answer to a message, if the sender waits for one.
    fn answer(&mut self, head: &Head, answer: &Value) {
        if let Some(reply) = &head.reply {
            protocol::publish(&mut self.out, reply, &answer.to_string());
        }
    }

    /// Reads bytes, and keeps them. Nothing is lost if the future is dropped.
    async fn read(&mut self) -> Result<(), Failure> {
        let bytes = self.stream.read(&mut self.input).await.map_err(lost)?;
        if bytes == 0 {
            return Err(Failure::Temporary("the server has closed the connection".to_owned()));
        }
        self.decoder.push(self.input.get(..bytes).unwrap_or_default());
        Ok(())
    }

    /// Returns what has been read. Questions are answered.
    fn events(&mut self) -> Result<Vec<Event>, Failure> {
        let mut events = Vec::new();
        while let Some(event) =
            self.decoder.next_event().map_err(|error| Failure::Temporary(error.text().to_owned()))?
        {
            if event == Event::Ping {
                self.out.extend_from_slice(b"PONG\r\n");
            } else if event == Event::Pong {
                self.pings.answered();
            } else {
                events.push(event);
            }
        }
        Ok(events)
    }

    /// Sends what has been added.
    async fn flush(&mut self) -> Result<(), Failure> {
        if self.out.is_empty() {
            return Ok(());
        }
        let send = async {
            self.stream.write_all(&self.out).await.map_err(lost)?;
            self.stream.flush().await.map_err(lost)
        };
        timed(send).await?;
        self.out.clear();
        Ok(())
    }
}

/// Returns the failure for an error that the server has sent.
fn refusal(error: &str, setting: &'static str, url: &NatsUrl) -> Failure {
    let shown = format!("{error} ({url})");
    let is =
        |beginning: &str| error.get(..beginning.len()).is_some_and(|it| it.eq_ignore_ascii_case(beginning));
    if is("Authorization Violation") {
        Failure::Refused(setting, shown, "write the user and the password, or the token, of the server")
    } else if is("Permissions Violation for Subscription") {
        Failure::Refused("POSTERN_NATS_SUBJECT", shown, "allow the user to subscribe to these subjects")
    } else {
        Failure::Temporary(shown)
    }
}

fn lost(error: std::io::Error) -> Failure {
    Failure::Temporary(tls::describe(&error).unwrap_or_else(|| error.to_string()))
}

/// The time that the server has for the messages before the end of the subscriptions.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// The most bytes that are read at once.
const READ_BYTES: usize = 64 * 1024;
