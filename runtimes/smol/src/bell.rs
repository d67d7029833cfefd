//! A bell that one task waits for and any other may ring, on one thread.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Remembers one ring until somebody waits.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    has_rung: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Bell {
    /// Ends the wait of the task that waits, now or next.
    pub(crate) fn ring(&self) {
        self.has_rung.set(true);
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }

    /// Waits for a ring since the last wait. One task at a time.
    pub(crate) async fn wait(&self) {
        poll_fn(|context| {
            if self.has_rung.replace(false) {
                return Poll::Ready(());
            }
            self.waiter.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}
