//! Threads that send requests.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ureq::http::Request;

use super::{Answer, Client, RequestError};

/// The limits of a [`Pool`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolConfig {
    /// The name of the threads.
    pub(crate) name: &'static str,
    /// The maximum number of threads, which is the maximum number of requests at the same time.
    pub(crate) max_threads: usize,
    /// The maximum number of requests that are queued.
    pub(crate) max_queued: usize,
    /// The maximum time from [`Pool::submit`] to the answer. A request that has waited for most of it is not sent.
    pub(crate) timeout: Duration,
}

/// Sends requests to one service on its own threads. Threads are started when they are needed, and end when they have been idle
/// for some seconds, so an unused pool has no thread.
///
/// When the pool is dropped, queued requests are completed with [`RequestError::Stopped`]. Requests that are being sent are
/// not waited for.
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

/// Why a request is not accepted. Its callback is not called.
#[derive(Debug)]
pub(crate) enum SubmitError {
    /// As many requests are queued as may be.
    QueueFull,
    /// No thread could be started.
    Thread(io::Error),
}

struct Shared {
    client: Client,
    config: PoolConfig,
    state: Mutex<State>,
    /// Signalled for each queued request, and when the pool is dropped.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    /// Threads that exist.
    threads: usize,
    /// Threads that wait for a request.
    idle: usize,
    is_closed: bool,
}

struct Job {
    request: Request<Vec<u8>>,
    deadline: Instant,
    complete: Complete,
}

type Complete = Box<dyn FnOnce(Result<Answer, RequestError>) + Send>;

impl Pool {
    /// Creates a pool without threads.
    pub(crate) fn new(client: Client, config: PoolConfig) -> Pool {
        let shared = Shared { client, config, state: Mutex::default(), changed: Condvar::new() };
        Pool { shared: Arc::new(shared) }
    }

    /// Queues a request, and does not wait. `complete` is called once with the answer, on a thread of the pool, or on the thread
    /// that drops the pool. It must not block.
    ///
    /// # Errors
    /// The request is not sent, and `complete` is not called.
    pub(crate) fn submit(
        &self,
        request: Request<Vec<u8>>,
        complete: impl FnOnce(Result<Answer, RequestError>) + Send + 'static,
    ) -> Result<(), SubmitError> {
        let config = &self.shared.config;
        let mut state = self.shared.state();
        if state.queue.len() >= config.max_queued {
            return Err(SubmitError::QueueFull);
        }
        // A thread that was signalled counts as idle until it has taken its request from the queue.
        if state.idle <= state.queue.len() && state.threads < config.max_threads {
            match self.spawn() {
                Ok(()) => state.threads += 1,
                Err(error) if state.threads == 0 => return Err(SubmitError::Thread(error)),
                // The other threads send it.
                Err(_) => {}
            }
        }
        let deadline = Instant::now() + config.timeout;
        state.queue.push_back(Job { request, deadline, complete: Box::new(complete) });
        drop(state);
        self.shared.changed.notify_one();
        Ok(())
    }

    fn spawn(&self) -> io::Result<()> {
        let shared = self.shared.clone();
        thread::Builder::new().name(self.shared.config.name.to_owned()).spawn(move || shared.run()).map(drop)
    }

    /// Returns the number of threads.
    #[cfg(test)]
    pub(super) fn threads(&self) -> usize {
        self.shared.state().threads
    }
}

/// The end of a sentence in the log.
impl fmt::Display for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubmitError::QueueFull => f.write_str("too many requests are queued"),
            SubmitError::Thread(error) => write!(f, "no thread can be started: {error}"),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.is_closed = true;
        let queue = std::mem::take(&mut state.queue);
        drop(state);
        self.shared.changed.notify_all();
        queue.into_iter().for_each(|job| (job.complete)(Err(RequestError::Stopped)));
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is complete before anything that can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends requests until the pool is dropped, or none has been queued for [`IDLE`].
    fn run(&self) {
        while let Some(Job { request, deadline, complete }) = self.next() {
            let remaining = deadline.saturating_duration_since(Instant::now());
            complete(if remaining < self.config.timeout / LEAST_SHARE {
                Err(RequestError::NotSent)
            } else {
                self.client.send(request, Some(remaining))
            });
        }
    }

    /// Waits for the next request. Returns `None` if the thread ends.
    fn next(&self) -> Option<Job> {
        let mut state = self.state();
        state.idle += 1;
        let has_to_wait = |state: &mut State| state.queue.is_empty() && !state.is_closed;
        let waited = self.changed.wait_timeout_while(state, IDLE, has_to_wait);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.idle -= 1;
        let job = state.queue.pop_front();
        if job.is_none() {
            state.threads -= 1;
        }
        job
    }
}

/// The time after which an idle thread ends. Longer than the pauses between requests of a service that is in use; a thread is
/// started in some ten microseconds.
const IDLE: Duration = Duration::from_secs(10);

/// A request is sent if this part of its time-out remains: a fifth. A service that is slow would have to work on requests
/// that are given up a moment later, and on the next ones at the same time.
const LEAST_SHARE: u32 = 5;
