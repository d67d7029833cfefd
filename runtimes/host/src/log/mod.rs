//! The log: one line for each record, on standard output.
//!
//! ```text
//!   worker ── WorkerLog ──┐  once a batch
//!   worker ── WorkerLog ──┼──────────────▶ bounded queue ──▶ writer thread ──▶ sink
//!   process ── Logger ────┘  each record
//! ```
//!
//! No thread waits for the sink. When the sink stalls, either records are dropped or workers stop reading from
//! users ([`Stall`]). When it fails, records are dropped. As soon as the sink takes lines again, the log reports
//! the number of dropped records. Lines that the queue has accepted are written before the process ends.
//!
//! One record is always one line, and a user cannot forge a record: text that a user controls is escaped
//! (`crate::escape`), and an ambiguous name is quoted (`user`). In the term format the sentence is followed by
//! fields, separated by commas. A payload that imitates fields is before the real ones. Programs should read
//! `LOG_FORMAT=json`, in which the user, the text and the kind of the record (`event`) have their own fields, with
//! exact values.

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

/// The settings of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// Records below this level are not logged. Default info.
    pub level: Level,
    /// The format of a line. Default term.
    pub format: LogFormat,
    /// The part of each message that is logged. Default truncated. The text of messages is often personal data, for
    /// which the operator is responsible.
    pub messages: MessageLog,
    /// The part of e-mail addresses that is logged. Default full.
    pub email: EmailLog,
    /// The capacity of the queue in bytes. Default 8 MiB.
    pub queue: usize,
    /// The reaction when the sink stalls and the queue is full. Default drop.
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

/// The format of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `2026-05-09T12:34:56.789Z INFO Message from John Doe (123): Hello World, conn: 7, opcode: text, bytes: 11`
    Term,
    /// `{"ts":"2026-05-09T12:34:56.789Z","level":"INFO","event":"message","msg":"Message from …","user_id":"123",…}`
    Json,
}

/// The part of each message that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageLog {
    /// All of it.
    Full,
    /// Its first 256 bytes.
    Truncated,
    /// Its size only.
    Size,
    /// Messages are not logged.
    Off,
}

/// The part of an e-mail address that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmailLog {
    /// `john@example.com`
    Full,
    /// `j***@e***.com`
    Masked,
    /// `-`
    Off,
}

/// The reaction when the sink stalls and the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stall {
    /// Records are dropped and counted.
    Drop,
    /// Workers stop reading from users until the queue has room. They continue to send, to accept and to close.
    Pause,
}

/// The log of a process, and the thread that writes it.
///
/// A process calls [`finish`](Log::finish) last, which writes all accepted lines. Dropping the log does the same
/// for at most a second. `std::process::exit` does neither and loses lines.
pub struct Log {
    settings: LogSettings,
    queue: Arc<Queue>,
    writer: Option<JoinHandle<()>>,
}

impl Log {
    /// Starts a log that writes to `sink` on a new thread.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub fn start(settings: &LogSettings, sink: impl Write + Send + 'static) -> io::Result<Log> {
        let format = settings.format;
        let queue = Arc::new(Queue::new(settings.queue));
        let shared = queue.clone();
        let writer = thread::Builder::new().name("log".to_owned()).stack_size(STACK).spawn(move || {
            shared.run_writer(sink, |dropped, out| report(format, dropped, out));
        })?;
        Ok(Log { settings: *settings, queue, writer: Some(writer) })
    }

    /// Returns a logger for records about the process: start, stop, warnings. Each record is queued immediately, so
    /// it may precede earlier records that a worker has not flushed yet.
    pub fn logger(&self) -> Logger {
        Logger::root(ProcessDrain { settings: self.settings, queue: self.queue.clone() }, o!())
    }

    /// Returns a handle to the number of dropped records.
    pub fn dropped_records(&self) -> DroppedRecords {
        DroppedRecords(self.queue.clone())
    }

    /// Writes all accepted lines until `deadline`, because a stalled sink must not keep a process alive. Calls
    /// `is_urgent` every 50 ms; if it returns true, at most a second is left. Returns the loss. The last line
    /// reports it, too, if the sink takes that line.
    pub fn finish(mut self, deadline: Instant, is_urgent: impl FnMut() -> bool) -> Loss {
        self.close(deadline, is_urgent)
    }

    fn close(&mut self, deadline: Instant, is_urgent: impl FnMut() -> bool) -> Loss {
        // `None` if the log is already closed.
        let Some(writer) = self.writer.take() else { return Loss::default() };
        let loss = self.queue.close(deadline, is_urgent);
        if self.queue.has_ended() {
            // It fails only if the writer has panicked, which it does not.
            let _ = writer.join();
        }
        loss
    }

    /// Creates the log of a worker. `instance` is the number of the process in the ids of requests,
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

/// A handle to the number of dropped records.
#[derive(Clone)]
pub struct DroppedRecords(Arc<Queue>);

impl DroppedRecords {
    /// Returns the number of records dropped since the start.
    pub fn count(&self) -> u64 {
        self.0.dropped_ever()
    }
}

impl fmt::Debug for DroppedRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DroppedRecords").field(&self.count()).finish()
    }
}

/// Receives the records about the process from slog. The tag of a record (`info!(log, # "listening", "…")`) is its
/// event.
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

/// Writes the record that reports the number of dropped records.
fn report(format: LogFormat, dropped: u64, out: &mut Vec<u8>) {
    let (event, message) = ("log_records_dropped", format_args!("log records dropped"));
    Entry { timestamp: Timestamp::now(), level: Level::Warning, event, message }.write(
        format,
        out,
        FieldOrder::AsWritten,
        &|fields| fields.emit_u64("count", dropped),
    );
}

/// The stack of the writer, which formats only short records. The address space of a process may be limited.
const STACK: usize = 256 * 1024;

/// The shortest time that a log waits for its sink when it ends.
const MIN_FINISH: Duration = Duration::from_secs(1);
