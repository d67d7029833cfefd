//! Message brokers as sources of publications.
//!
//! * `amqp`: RabbitMQ.
//! * `nats`: NATS.
//! * `url_place`: the URL of a broker, in a setting or in a file.
//! * `report`: failures and rejected messages in the log, and the pauses between attempts.
//! * `published`: publications that the node has accepted, and their results.
//!
//! Each broker has a thread, which exists only with its URL. Which publications follow from a delivery, and what can be
//! acknowledged, is decided in [`postern_channels::source`].

#[cfg_attr(not(feature = "amqp"), path = "amqp/disabled.rs")]
mod amqp;
#[cfg_attr(not(feature = "nats"), path = "nats/disabled.rs")]
mod nats;
mod published;
mod report;
mod url_place;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use postern_channels::source::Poison;
use slog::Logger;
use smol::Timer;
use smol::channel::{Receiver, Sender, bounded};

use crate::channels::Node;
pub use amqp::AmqpSettings;
#[cfg(feature = "amqp")]
pub(crate) use amqp::BrokerUrl;
pub(crate) use amqp::{DEAD_LETTER, EXCHANGE, PREFETCH, QUEUE};
pub use nats::NatsSettings;
#[cfg(feature = "nats")]
pub(crate) use nats::{MAX_QUEUE, MAX_SUBJECT, NatsUrl};
pub(crate) use nats::{QUEUE_GROUP, SUBJECT};
pub(crate) use url_place::{UrlPlace, UrlText};

/// Receives messages from brokers, if there are settings for them.
#[derive(Clone)]
pub struct Source(Arc<[Receiving]>);

/// The settings of all brokers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceSettings {
    /// RabbitMQ. `None` if there is none.
    pub amqp: Option<AmqpSettings>,
    /// NATS. `None` if there is none.
    pub nats: Option<NatsSettings>,
}

/// The nodes that get a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// One node gets a message.
    Shared,
    /// Each node gets all messages that are sent while it is connected.
    Each,
}

/// The program that messages come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broker {
    RabbitMq,
    Nats,
}

/// One broker, and the thread that receives from it.
struct Receiving {
    settings: BrokerSettings,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Clone)]
enum BrokerSettings {
    Amqp(AmqpSettings),
    Nats(NatsSettings),
}

/// The state that the thread of a broker shares with the process.
struct Shared {
    broker: Broker,
    counts: Counts,
    /// It is closed when the thread must end. No message is ever sent.
    stop: (Sender<()>, Receiver<()>),
}

/// Everything that the thread of a broker needs, except for its settings.
struct Context {
    shared: Arc<Shared>,
    node: Arc<Node>,
    /// The part of names that only this process has.
    name: String,
    log: Logger,
}

/// Figures of the messages of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SourceStats {
    pub(crate) broker: Broker,
    /// Whether messages can be received.
    pub(crate) is_up: bool,
    /// Messages that were published, to at least one channel.
    pub(crate) published: u64,
    /// Messages whose ids or versions had been published before.
    pub(crate) duplicates: u64,
    /// Messages that were too old.
    pub(crate) expired: u64,
    /// Messages that the engine did not accept, of a broker that does not send them again.
    pub(crate) lost: u64,
    /// Messages that were rejected, by the index of their reason in [`Poison::ALL`].
    pub(crate) dead: [u64; Poison::ALL.len()],
    /// Messages that are received and not acknowledged.
    pub(crate) unacknowledged: usize,
    /// Lost connections and failed attempts to connect.
    pub(crate) failures: u64,
}

#[derive(Debug, Default)]
struct Counts {
    is_up: AtomicBool,
    published: AtomicU64,
    duplicates: AtomicU64,
    expired: AtomicU64,
    lost: AtomicU64,
    dead: [AtomicU64; Poison::ALL.len()],
    unacknowledged: AtomicUsize,
    failures: AtomicU64,
}

impl Broker {
    /// Returns the name of the program.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Broker::RabbitMq => "RabbitMQ",
            Broker::Nats => "NATS",
        }
    }

    /// Returns the value of the label in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Broker::RabbitMq => "rabbitmq",
            Broker::Nats => "nats",
        }
    }
}

/// The name of the program.
impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Source {
    /// Creates a source that does not receive yet. Without settings it never does.
    pub(crate) fn new(settings: &SourceSettings) -> Source {
        let amqp = settings.amqp.clone().map(|amqp| (Broker::RabbitMq, BrokerSettings::Amqp(amqp)));
        let nats = settings.nats.clone().map(|nats| (Broker::Nats, BrokerSettings::Nats(nats)));
        let receiving = |(broker, settings)| Receiving {
            settings,
            shared: Arc::new(Shared { broker, counts: Counts::default(), stop: bounded(1) }),
            thread: Mutex::default(),
        };
        Source(amqp.into_iter().chain(nats).map(receiving).collect())
    }

    /// Starts the threads that receive messages and publish them to the channels of `node`. `instance` is the number of the
    /// process in names.
    ///
    /// # Errors
    /// A thread cannot be started.
    #[cfg_attr(
        not(any(feature = "amqp", feature = "nats")),
        expect(unreachable_code, unused_variables, reason = "there are no settings of a broker")
    )]
    pub(crate) fn start(&self, node: &Arc<Node>, instance: u32, log: &Logger) -> io::Result<()> {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        for receiving in self.0.iter() {
            let context = Context {
                shared: receiving.shared.clone(),
                node: node.clone(),
                name: format!("{host}.{instance:08x}"),
                log: log.clone(),
            };
            let settings = receiving.settings.clone();
            let thread = thread::Builder::new().name("source".to_owned()).spawn(move || match settings {
                BrokerSettings::Amqp(settings) => amqp::run(settings, context),
                BrokerSettings::Nats(settings) => nats::run(settings, context),
            })?;
            *receiving.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        }
        Ok(())
    }

    /// Returns figures of each broker.
    pub(crate) fn stats(&self) -> Vec<SourceStats> {
        self.0.iter().map(|receiving| receiving.shared.read()).collect()
    }

    /// Stops receiving, and waits until received messages are published and acknowledged and the connections are closed, but not
    /// longer than until `deadline`. Calls `is_urgent` every 10 ms, and ends when it returns true.
    pub(crate) fn finish(&self, deadline: Instant, mut is_urgent: impl FnMut() -> bool) {
        for receiving in self.0.iter() {
            receiving.shared.stop.0.close();
        }
        for receiving in self.0.iter() {
            let thread = receiving.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
            while thread.as_ref().is_some_and(|thread| !thread.is_finished())
                && Instant::now() < deadline
                && !is_urgent()
            {
                thread::sleep(POLL_INTERVAL);
            }
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.stats()).finish()
    }
}

impl Shared {
    /// Returns true when the source is stopped.
    async fn stopped(&self) -> bool {
        // It returns an error when the channel is closed; no message is ever sent.
        let _ = self.stop.1.recv().await;
        true
    }

    fn read(&self) -> SourceStats {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.counts;
        SourceStats {
            broker: self.broker,
            is_up: counts.is_up.load(Ordering::Relaxed),
            published: load(&counts.published),
            duplicates: load(&counts.duplicates),
            expired: load(&counts.expired),
            lost: load(&counts.lost),
            dead: counts.dead.each_ref().map(load),
            unacknowledged: counts.unacknowledged.load(Ordering::Relaxed),
            failures: load(&counts.failures),
        }
    }
}

fn increment(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// Returns false after this time.
async fn after(time: Duration) -> bool {
    Timer::after(time).await;
    false
}

/// Returns random bits.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}

/// The longest time for an attempt to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The most deliveries that are published before the workers are woken and answers are sent.
const MOST_AT_ONCE: usize = 100;

/// The interval in which the end of the threads is checked.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
