//! The log: what happened, one line each, on standard output.
//!
//! ```text
//!   worker ── WorkerLog ──┐  once a batch
//!   worker ── WorkerLog ──┼──────────────▶ bounded queue ──▶ writer thread ──▶ sink
//!   process ── Logger ────┘  each record
//! ```
//!
//! Nobody waits for the sink. When it stalls, records are dropped, or nothing more is read from the users
//! ([`Stall`]); when it fails, they are dropped. How many is the first thing the log says when it can speak again.
//! What the queue has accepted is written before the process ends ([`run`]).
//!
//! One record is one line, always, and no line says anything but what happened: all that a user controls is
//! escaped (`crate::escape`), and a name that could be read as more than a name is quoted (`user`). In the term format
//! the key-values follow the sentence, separated by commas; a payload that imitates them comes before the real ones.
//! Programs that read the log take `LOG_FORMAT=json`: there the user, the text and the kind of the record (`event`)
//! have fields of their own, with exact values.

mod json;
mod line;
mod message;
mod output;
mod payload;
mod process;
mod queue;
mod timestamp;
mod user;
mod worker;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use slog::{Drain, KV, Level, Logger, Never, OwnedKVList, Record, o};

use line::{Entry, FieldOrder};
use queue::Queue;
use timestamp::Timestamp;

pub use output::Output;
pub(crate) use process::run;
pub(crate) use process::write_to_stderr;
pub use queue::Loss;
pub(crate) use timestamp::rfc3339;
pub use worker::WorkerLog;

/// What is logged, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// Records below this level are not logged. Default info.
    pub level: Level,
    /// The look of a line. Default term.
    pub format: LogFormat,
    /// How much of each message is logged. Default truncated. What is logged of messages is personal data more
    /// often than not; whoever keeps the log has to know that.
    pub messages: MessageLog,
    /// How much of e-mail addresses is logged. Default full.
    pub email: EmailLog,
    /// How much may wait for the sink, in bytes. Default 8 MiB.
    pub queue: usize,
    /// What gives way when the sink stalls. Default the log.
    pub stall: Stall,
}

impl Default for LogSettings {
    fn default() -> LogSettings {
        LogSettings {
            level: Level::Info,
            format: LogFormat::Term,
            messages: MessageLog::Truncated,
            email: EmailLog::Full,
            queue: 8 * 1024 * 1024,
            stall: Stall::Drop,
        }
    }
}

/// The look of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `2026-05-09T12:34:56.789Z INFO Message from John Doe (123): Hello World, conn: 7, opcode: text, bytes: 11`
    Term,
    /// `{"ts":"2026-05-09T12:34:56.789Z","level":"INFO","event":"message","msg":"Message from …","user_id":"123",…}`
    Json,
}

/// How much of each message is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageLog {
    /// All of it.
    Full,
    /// Its first 256 bytes.
    Truncated,
    /// That there was one, and its size.
    Size,
    /// Nothing.
    Off,
}

/// How much of an e-mail address is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmailLog {
    /// `john@example.com`
    Full,
    /// `j***@e***.com`
    Masked,
    /// `-`
    Off,
}

/// What gives way when the sink takes nothing and the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stall {
    /// The log: records are dropped, and counted.
    Drop,
    /// The users: nothing more is read from them until there is room again. Nothing else waits.
    Pause,
}

/// The log of a process, with the thread that writes it.
///
/// [`finish`](Log::finish) writes everything that has been accepted, and is the last thing that a process does.
/// Dropping it does so for at most a second. One of them must happen: `std::process::exit` does neither.
pub struct Log {
    settings: LogSettings,
    queue: Arc<Queue>,
    writer: Option<JoinHandle<()>>,
}

impl Log {
    /// Starts to log to `sink`, on a thread of its own.
    ///
    /// # Errors
    /// No thread was to be had.
    pub fn start(settings: &LogSettings, sink: impl Write + Send + 'static) -> io::Result<Log> {
        let format = settings.format;
        let queue = Arc::new(Queue::new(settings.queue));
        let shared = queue.clone();
        let writer = thread::Builder::new().name("log".to_owned()).stack_size(STACK).spawn(move || {
            shared.run_writer(sink, |dropped, out| report(format, dropped, out));
        })?;
        Ok(Log { settings: *settings, queue, writer: Some(writer) })
    }

    /// A logger for the process itself: starting, stopping, warnings. Each record is handed over at once, so it
    /// may stand before what a worker has not handed over yet.
    pub fn logger(&self) -> Logger {
        Logger::root(ProcessDrain { settings: self.settings, queue: self.queue.clone() }, o!())
    }

    /// What it loses, for whoever wants to know.
    pub fn dropped_records(&self) -> DroppedRecords {
        DroppedRecords(self.queue.clone())
    }

    /// Writes everything that has been accepted, until `deadline` at the latest: a sink that stalls must not keep a
    /// process alive. `is_urgent` is asked every 50 ms whether there is only a second left. Returns what was lost; the log
    /// says that, too, if its sink takes the line.
    pub fn finish(mut self, deadline: Instant, is_urgent: impl FnMut() -> bool) -> Loss {
        self.close(deadline, is_urgent)
    }

    fn close(&mut self, deadline: Instant, is_urgent: impl FnMut() -> bool) -> Loss {
        // The second time there is no writer.
        let Some(writer) = self.writer.take() else { return Loss::default() };
        let loss = self.queue.close(deadline, is_urgent);
        if self.queue.has_ended() {
            // It does not panic.
            let _ = writer.join();
        }
        loss
    }

    /// The log of one more worker. `instance` is the number of the process in the ids of requests,
    /// [`HandshakeConfig::instance`](postern_core::handshake::HandshakeConfig::instance).
    pub fn worker(&self, instance: u32) -> WorkerLog {
        WorkerLog::new(self.settings, instance, self.queue.clone())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.close(Instant::now() + MIN_FINISH, || false);
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// How much a log has lost.
#[derive(Clone)]
pub struct DroppedRecords(Arc<Queue>);

impl DroppedRecords {
    /// Records dropped since the start.
    pub fn count(&self) -> u64 {
        self.0.dropped_ever()
    }
}

impl fmt::Debug for DroppedRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DroppedRecords").field(&self.count()).finish()
    }
}

/// Where slog hands the process's own records. The tag of one (`info!(log, # "listening", "…")`) is its event.
struct ProcessDrain {
    settings: LogSettings,
    queue: Arc<Queue>,
}

impl Drain for ProcessDrain {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        if !record.level().is_at_least(self.settings.level) {
            return Ok(());
        }
        let event = if record.tag().is_empty() { "process" } else { record.tag() };
        let entry =
            Entry { timestamp: Timestamp::now(), level: record.level(), event, message: *record.msg() };
        let mut line = Vec::new();
        entry.write(self.settings.format, &mut line, FieldOrder::Reversed, &|fields| {
            record.kv().serialize(record, fields)?;
            values.serialize(record, fields)
        });
        self.queue.push(&line);
        Ok(())
    }

    fn is_enabled(&self, level: Level) -> bool {
        level.is_at_least(self.settings.level)
    }
}

/// Writes the record that reports how many records were lost.
fn report(format: LogFormat, dropped: u64, out: &mut Vec<u8>) {
    let (event, message) = ("log_records_dropped", format_args!("log records dropped"));
    Entry { timestamp: Timestamp::now(), level: Level::Warning, event, message }.write(
        format,
        out,
        FieldOrder::AsWritten,
        &|fields| fields.emit_u64("count", dropped),
    );
}

/// The writer formats one short record now and then. A process may be short of addresses.
const STACK: usize = 256 * 1024;

/// How long a log waits for its sink at least when it ends.
const MIN_FINISH: Duration = Duration::from_secs(1);
