//! The thread that receives messages, publishes them and acknowledges them.

use std::fmt;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicRejectOptions};
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::tcp::AsyncTcpStream;
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind};
use postern_channels::source::{self, Acknowledgements, Outcome};
use smol::Timer;
use smol::future::{or, poll_once};
use smol::stream::StreamExt;

use super::delivery::with_delivery;
use super::executor::SourceExecutor;
use super::settings::{AmqpSettings, BrokerUrl};
use super::topology::{self, DeclareError};
use crate::channels::unix_ms;
use crate::source::published::Published;
use crate::source::report::{Failure, Report, attempt, receive_all};
use crate::source::{Context, MOST_AT_ONCE, after, increment, random};
use crate::tls::{self, Stream, TlsFile};

/// Receives messages, one connection after the other.
pub(super) struct Consumer {
    settings: AmqpSettings,
    context: Context,
    executor: SourceExecutor,
    report: Report,
}

/// The event that a connection waits for.
#[expect(
    clippy::large_enum_variant,
    reason = "it is matched at once, and a box would be an allocation for each delivery"
)]
enum Wake {
    Stop,
    Delivery(Option<lapin::Result<Delivery>>),
    Acknowledge,
}

impl Consumer {
    pub(super) fn new(settings: AmqpSettings, context: Context) -> Consumer {
        let report = Report::new(context.shared.clone(), context.log.clone());
        Consumer { settings, context, executor: SourceExecutor::default(), report }
    }

    /// Receives until the source is stopped.
    pub(super) fn run(mut self) {
        let executor = self.executor.clone();
        executor.run(receive_all(&mut self, |consumer| &mut consumer.report, Consumer::receive));
    }

    /// Connects, and publishes what arrives, until the connection is lost or the source is stopped.
    async fn receive(&mut self) -> Result<(), Failure> {
        let connected = attempt(&self.context.shared, self.connect()).await?;
        let Some((connection, channel, mut deliveries)) = connected else { return Ok(()) };
        self.report.connected("queue", deliveries.queue().as_str());
        let mut acknowledgements = Acknowledgements::default();
        loop {
            let wake = or(
                async {
                    self.context.shared.stopped().await;
                    Wake::Stop
                },
                or(async { Wake::Delivery(deliveries.next().await) }, async {
                    match acknowledgements.poll_timeout() {
                        Some(due) => Timer::at(due).await,
                        None => Timer::never().await,
                    };
                    Wake::Acknowledge
                }),
            );
            match wake.await {
                Wake::Stop => break,
                Wake::Acknowledge => {}
                Wake::Delivery(first) => {
                    let mut received = vec![delivered(first)?];
                    while received.len() < MOST_AT_ONCE
                        && let Some(next) = poll_once(deliveries.next()).await
                    {
                        received.push(delivered(next)?);
                    }
                    // The broker delivers again what it has sent on a lost connection.
                    if !connection.status().connected() {
                        return Err(Failure::Temporary("the connection is lost".to_owned()));
                    }
                    self.handle(&channel, &received, &mut acknowledgements).await?;
                }
            }
            if let Some(tag) = acknowledgements.poll(Instant::now()) {
                acknowledge(&channel, tag).await?;
            }
            self.context.shared.counts.unacknowledged.store(acknowledgements.len(), Ordering::Relaxed);
        }
        // Messages that have arrived are published. Those that the broker has not sent stay there.
        channel.basic_cancel(deliveries.tag(), BasicCancelOptions::default()).await.map_err(lost)?;
        while let Some(Some(next)) = poll_once(deliveries.next()).await {
            let Ok(delivery) = next else { break };
            self.handle(&channel, &[delivery], &mut acknowledgements).await?;
        }
        if let Some(tag) = acknowledgements.flush() {
            acknowledge(&channel, tag).await?;
        }
        // The broker passes acknowledgements on to a quorum queue in the background, and forgets those that it has not passed on
        // when the channel ends.
        after(ACKNOWLEDGE_TIME).await;
        // The end of the channel follows the acknowledgements. The end of the connection would not wait for them.
        channel.close(200, "the process ends".into()).await.map_err(lost)?;
        let _ = connection.close(200, "the process ends".into()).await;
        self.report.stopped();
        Ok(())
    }

    async fn connect(&self) -> Result<(Connection, Channel, lapin::Consumer), Failure> {
        let settings = &self.settings;
        let setting = settings.url.setting();
        let refused = |error, advice| Failure::Refused(setting, error, advice);
        let url = settings.url.read().map_err(|error| refused(error, "write the URL of the broker"))?;
        let options = ConnectionProperties::default()
            .with_connection_name(format!("postern {}", self.context.name).as_str().into());
        let stream = self.open(&url).await?;
        // A connection that is lost is never opened again by the library.
        let opened = Mutex::new(Some(AsyncTcpStream::Plain(stream)));
        let connect = async move |_, _| {
            let stream = opened.lock().unwrap_or_else(PoisonError::into_inner).take();
            stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected).into())
        };
        let connection = Connection::connector(url.uri(), self.executor.runtime(), connect, options).await;
        let connection = connection.map_err(|error| match advice(&error) {
            Some(advice) => refused(format!("{error} ({url})"), advice),
            None => Failure::Temporary(format!("{error} ({url})")),
        })?;
        let channel = connection.create_channel().await.map_err(lost)?;
        // Each connection has another queue: the broker may not have noticed the end of the previous one.
        let suffix = random() as u32;
        let name = format!("{}.{suffix:08x}", self.context.name);
        let deliveries = topology::consume(&channel, settings, &name).await.map_err(|error| {
            let advice = error.advice();
            let DeclareError { setting, error } = error;
            match setting {
                Some(setting) => {
                    Failure::Refused(setting, error.to_string(), advice.unwrap_or("write another value"))
                }
                None => lost(error),
            }
        })?;
        Ok((connection, channel, deliveries))
    }

    /// Opens the connection for a URL, by TLS if its scheme is `amqps`.
    async fn open(&self, url: &BrokerUrl) -> Result<Stream, Failure> {
        let failed = |error: &dyn fmt::Display| Failure::Temporary(format!("{error} ({url})"));
        let tls = if url.is_tls() {
            let files = self.settings.tls.clone();
            let read = smol::unblock(move || tls::read(&files)).await.map_err(|(file, error)| {
                let setting = match file {
                    TlsFile::Authorities => "POSTERN_AMQP_CA_FILE",
                    TlsFile::Certificate => "POSTERN_AMQP_CERT_FILE",
                    TlsFile::Key => "POSTERN_AMQP_KEY_FILE",
                };
                failed(&format_args!("{setting}: {error}"))
            });
            Some(read?)
        } else {
            None
        };
        let (host, port) = url.address();
        tls::connect(host, port, tls.as_ref()).await.map_err(|error| failed(&error))
    }

    /// Publishes deliveries, and rejects those that can never be published.
    async fn handle(
        &mut self,
        channel: &Channel,
        deliveries: &[Delivery],
        acknowledgements: &mut Acknowledgements,
    ) -> Result<(), Failure> {
        let (mut rejected, mut published) = (Vec::new(), Vec::new());
        let config = self.context.node.config();
        let mut batch = self.context.node.batch();
        for delivery in deliveries {
            let tag = delivery.delivery_tag;
            acknowledgements.receive(tag);
            let outcome =
                with_delivery(delivery, |delivery| source::map(delivery, &config.namespaces, unix_ms()));
            match outcome {
                Outcome::Publish(publications) => {
                    let publish = |publication| Published::new(&mut batch, publication);
                    published.push((tag, publications.into_iter().map(publish).collect::<Vec<_>>()));
                }
                Outcome::Expired => {
                    increment(&self.context.shared.counts.expired);
                    acknowledgements.complete(tag, Instant::now());
                }
                Outcome::DeadLetter(poison) => {
                    let key = delivery.routing_key.as_str();
                    self.report.rejected(poison, "routing_key", key, delivery.data.len());
                    acknowledgements.reject(tag, Instant::now());
                    rejected.push(tag);
                }
            }
        }
        // Wakes the workers before the acknowledgements are sent.
        drop(batch);
        for (tag, publications) in published {
            let mut is_new = false;
            for publication in publications {
                // Without the engine, the broker keeps the messages, and delivers them again after a pause.
                let result = publication.result(self.context.shared.broker, &self.context.log).await;
                is_new |= result.map_err(|failure| {
                    Failure::Temporary(format!("the engine accepts no message: {}", failure.text))
                })?;
            }
            increment(if is_new {
                &self.context.shared.counts.published
            } else {
                &self.context.shared.counts.duplicates
            });
            acknowledgements.complete(tag, Instant::now());
        }
        for tag in rejected {
            let options = BasicRejectOptions { requeue: false };
            channel.basic_reject(tag, options).await.map_err(lost)?;
        }
        Ok(())
    }
}

async fn acknowledge(channel: &Channel, tag: u64) -> Result<(), Failure> {
    channel.basic_ack(tag, BasicAckOptions { multiple: true }).await.map_err(lost)
}

/// Returns the next delivery of a consumer, which ends without an error when its queue is deleted.
fn delivered(next: Option<lapin::Result<Delivery>>) -> Result<Delivery, Failure> {
    match next {
        Some(Ok(delivery)) => Ok(delivery),
        Some(Err(error)) => Err(lost(error)),
        None => Err(Failure::Temporary("the broker has cancelled the consumer".to_owned())),
    }
}

fn lost(error: lapin::Error) -> Failure {
    Failure::Temporary(error.to_string())
}

/// Returns the change that an operator has to make after an error of the connection, if there is one.
fn advice(error: &lapin::Error) -> Option<&'static str> {
    let ErrorKind::ProtocolError(error) = error.kind() else { return None };
    #[expect(clippy::wildcard_enum_match_arm, reason = "other errors are not about the URL")]
    match error.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => {
            Some("write the user and the password of the broker")
        }
        AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => {
            Some("write a virtual host that exists and that the user may use, for example /%2f")
        }
        _ => None,
    }
}

/// The time that the broker has for the last acknowledgements.
const ACKNOWLEDGE_TIME: Duration = Duration::from_millis(100);
