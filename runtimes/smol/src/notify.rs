//! A notification from one task to another on the same thread.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

/// Wakes one waiting task. A notification without a waiting task is kept for the next wait.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    is_notified: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Notify {
    /// Wakes the waiting task, or ends its next wait at once.
    pub(crate) fn notify(&self) {
        self.is_notified.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Waits for a notification since the last wait. Only one task may wait at a time.
    pub(crate) async fn notified(&self) {
        poll_fn(|context| self.poll_notified(context)).await;
    }

    /// Returns whether there was a notification since the last time that this was ready. Otherwise the next one wakes the task.
    pub(crate) fn poll_notified(&self, context: &Context<'_>) -> Poll<()> {
        if self.is_notified.replace(false) {
            return Poll::Ready(());
        }
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => *waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}
