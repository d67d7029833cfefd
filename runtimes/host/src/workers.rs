//! How the control port and the watchdog reach the workers: by jobs, each of which one worker does between two of its turns.
//!
//! A worker's state is its own, so nobody looks into it from outside. What is wanted of it is put into a closure and
//! handed over; the worker calls it with itself, and what the closure gives comes back. Nothing of it costs a message
//! anything, and a worker that is stuck shows by its silence.

use std::cell::RefCell;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use postern_core::{Key, Worker};
use smol::Timer;
use smol::channel::{Receiver, bounded};
use smol::future::FutureExt;

use crate::metrics::Counts;

/// One worker, as a job finds it.
pub trait WorkerContext {
    /// Its connections. What a job makes due, the worker settles when the job is done.
    fn worker(&mut self) -> &mut Worker;
    /// What it has counted.
    fn counts(&self) -> &Counts;
    /// The time of this turn.
    fn now(&self) -> Instant;
    /// The socket of a connection.
    fn socket(&self, key: Key) -> Option<BorrowedFd<'_>>;
}

/// Something to be done by a worker.
pub type Job = Box<dyn FnOnce(&mut dyn WorkerContext) + Send>;

/// The workers of a process. What a runtime implements to have a control port.
pub trait Workers {
    /// How many there are, also those that have ended.
    fn count(&self) -> usize;

    /// Hands a job to the worker with this number, without waiting for it. The job is dropped if the worker ends first.
    ///
    /// # Errors
    /// The job was not taken.
    fn submit(&self, number: usize, job: Job) -> Result<(), SubmitError>;

    /// Asks the process to drain ([`ShutdownRequest::Drain`](postern_core::policy::ShutdownRequest::Drain)), without waiting for it.
    fn drain(&self);
}

/// Why a worker did not take a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubmitError {
    /// Too much waits for it already.
    Busy,
    /// It has ended, as workers do when the process stops and they have no connections left.
    Gone,
}

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer<T> {
    /// It was answered.
    Said(T),
    /// There is no answer yet, and perhaps never.
    Silent,
    /// There is nobody to answer.
    Gone,
}

/// The workers, as the control port asks them.
pub(crate) struct Desk {
    workers: Box<dyn Workers>,
    /// For each worker the question that it has not answered yet, and since when it has owed an answer.
    owed: RefCell<Vec<Option<Owed>>>,
}

#[derive(Debug)]
struct Owed {
    since: Instant,
    /// `None` if the question could not even be put.
    answer: Option<Receiver<()>>,
}

impl Desk {
    pub(crate) fn new(workers: impl Workers + 'static) -> Desk {
        let owed = (0..workers.count()).map(|_| None).collect();
        Desk { workers: Box::new(workers), owed: RefCell::new(owed) }
    }

    pub(crate) fn count(&self) -> usize {
        self.workers.count()
    }

    /// Asks the process to drain.
    pub(crate) fn drain(&self) {
        self.workers.drain();
    }

    /// Has every worker do the work that `work` makes for it, side by side, and waits for all of them, together no
    /// longer than `patience`.
    pub(crate) async fn ask<T: Send + 'static, W: FnOnce(&mut dyn WorkerContext) -> T + Send + 'static>(
        &self,
        patience: Duration,
        work: impl Fn() -> W,
    ) -> Vec<Answer<T>> {
        let questions: Vec<_> = (0..self.count()).map(|number| self.put(number, work())).collect();
        let deadline = Instant::now() + patience;
        let mut answers = Vec::with_capacity(questions.len());
        for question in questions {
            answers.push(match question {
                Ok(answer) => within(deadline, &answer).await,
                Err(SubmitError::Busy) => Answer::Silent,
                Err(SubmitError::Gone) => Answer::Gone,
            });
        }
        answers
    }

    /// Since when a worker has owed an answer, of those that owe one; the longest first. A worker that sleeps because
    /// nobody wants anything of it is given a moment to wake.
    pub(crate) async fn silent_since(&self) -> Option<Instant> {
        let deadline = Instant::now() + MOMENT;
        let mut longest = None;
        for number in 0..self.count() {
            self.greet(number);
            let answer = self.owed.borrow().get(number).and_then(|owed| owed.as_ref()?.answer.clone());
            // Another request may have had the answer meanwhile, so it is looked for in its place again.
            if let Some(answer) = answer
                && within(deadline, &answer).await != Answer::Silent
            {
                self.forgive(number);
            }
            let since = self.owed.borrow().get(number).and_then(|owed| Some(owed.as_ref()?.since));
            longest = [longest, since].into_iter().flatten().min();
        }
        longest
    }

    /// Asks a worker for a sign of life, unless it owes one already.
    fn greet(&self, number: usize) {
        let mut owed = self.owed.borrow_mut();
        let Some(owed) = owed.get_mut(number) else { return };
        if let Some(Owed { answer: Some(_), .. }) = owed {
            return;
        }
        match self.put(number, |_: &mut dyn WorkerContext| ()) {
            Ok(answer) => {
                let since = owed.take().map_or_else(Instant::now, |owed| owed.since);
                *owed = Some(Owed { since, answer: Some(answer) });
            }
            Err(SubmitError::Busy) => {
                owed.get_or_insert_with(|| Owed { since: Instant::now(), answer: None });
            }
            Err(SubmitError::Gone) => *owed = None,
        }
    }

    fn forgive(&self, number: usize) {
        if let Some(owed) = self.owed.borrow_mut().get_mut(number) {
            *owed = None;
        }
    }

    fn put<T: Send + 'static>(
        &self,
        number: usize,
        work: impl FnOnce(&mut dyn WorkerContext) -> T + Send + 'static,
    ) -> Result<Receiver<T>, SubmitError> {
        let (sender, answer) = bounded(1);
        let job = move |context: &mut dyn WorkerContext| {
            // Whoever asked may have lost patience.
            let _ = sender.try_send(work(context));
        };
        self.workers.submit(number, Box::new(job))?;
        Ok(answer)
    }
}

/// Waits for an answer until a time.
async fn within<T>(deadline: Instant, answer: &Receiver<T>) -> Answer<T> {
    let said = async {
        // A job that was dropped went with its worker.
        answer.recv().await.map_or(Answer::Gone, Answer::Said)
    };
    said.or(silence(deadline)).await
}

async fn silence<T>(deadline: Instant) -> Answer<T> {
    Timer::at(deadline).await;
    Answer::Silent
}

/// How long a sign of life may take before a worker counts as silent.
const MOMENT: Duration = Duration::from_millis(250);
