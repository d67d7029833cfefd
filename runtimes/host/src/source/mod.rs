//! RabbitMQ as a source of publications.
//!
//! * `settings`: where messages come from.
//! * `topology`: the exchange and the queues, and their declaration.
//! * `delivery`: a delivery of the client library as the channels read it.
//! * `executor`: runs the tasks of the client library on the thread of the source.
//! * `consumer`: the thread. It connects, publishes what it receives, and acknowledges it.
//!
//! The thread exists only with `POSTERN_AMQP_URL`. Which publications follow from a delivery, and what can be acknowledged, is
//! decided in [`postern_channels::source`].

mod consumer;
mod delivery;
mod executor;
mod settings;
mod topology;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use postern_channels::source::Poison;
use slog::Logger;
use smol::channel::{Receiver, Sender, bounded};

use crate::channels::Node;
use consumer::Consumer;
pub use settings::SourceSettings;
pub(crate) use settings::{BrokerUrl, DEAD_LETTER, EXCHANGE, Mode, PREFETCH, QUEUE, UrlPlace};

/// Receives messages from RabbitMQ, if there are settings for it.
#[derive(Clone)]
pub struct Source(Option<Arc<Shared>>);

struct Shared {
    settings: SourceSettings,
    counts: Counts,
    /// It is closed when the thread must end. No message is ever sent.
    stop: (Sender<()>, Receiver<()>),
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Figures of the messages of a source.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SourceStats {
    /// Whether messages can be received.
    pub(crate) is_up: bool,
    /// Messages that were published, to at least one channel.
    pub(crate) published: u64,
    /// Messages whose ids or versions had been published before.
    pub(crate) duplicates: u64,
    /// Messages that were too old.
    pub(crate) expired: u64,
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
    dead: [AtomicU64; Poison::ALL.len()],
    unacknowledged: AtomicUsize,
    failures: AtomicU64,
}

impl Source {
    /// Creates a source that does not receive yet. Without settings it never does.
    pub(crate) fn new(settings: Option<&SourceSettings>) -> Source {
        Source(settings.map(|settings| {
            Arc::new(Shared {
                settings: settings.clone(),
                counts: Counts::default(),
                stop: bounded(1),
                thread: Mutex::default(),
            })
        }))
    }

    /// Starts the thread that receives messages and publishes them to the channels of `node`. `instance` is the number of the
    /// process in names.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn start(&self, node: &Arc<Node>, instance: u32, log: &Logger) -> io::Result<()> {
        let Some(shared) = &self.0 else { return Ok(()) };
        let consumer = Consumer::new(shared.clone(), node.clone(), instance, log.clone());
        let thread = thread::Builder::new().name("source".to_owned()).spawn(|| consumer.run())?;
        *shared.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(())
    }

    /// Returns figures, if there is a source.
    pub(crate) fn stats(&self) -> Option<SourceStats> {
        self.0.as_ref().map(|shared| shared.counts.read())
    }

    /// Stops receiving, and waits until received messages are published and acknowledged and the connection is closed, but not
    /// longer than until `deadline`. Calls `is_urgent` every 10 ms, and ends when it returns true. The broker keeps the other
    /// messages.
    pub(crate) fn finish(&self, deadline: Instant, mut is_urgent: impl FnMut() -> bool) {
        let Some(shared) = &self.0 else { return };
        shared.stop.0.close();
        let thread = shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        while thread.as_ref().is_some_and(|thread| !thread.is_finished())
            && Instant::now() < deadline
            && !is_urgent()
        {
            thread::sleep(POLL_INTERVAL);
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.stats()).finish()
    }
}

impl Counts {
    fn read(&self) -> SourceStats {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        SourceStats {
            is_up: self.is_up.load(Ordering::Relaxed),
            published: load(&self.published),
            duplicates: load(&self.duplicates),
            expired: load(&self.expired),
            dead: self.dead.each_ref().map(load),
            unacknowledged: self.unacknowledged.load(Ordering::Relaxed),
            failures: load(&self.failures),
        }
    }
}

fn increment(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// The interval in which the end of the thread is checked.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
