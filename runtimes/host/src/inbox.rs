//! The inbox of a worker: what other threads have sent to it since its last turn.
//!
//! Sending never blocks. The worker takes all messages at once, and is woken once for all of them: only a message to an
//! empty inbox wakes it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use postern_core::worker::MessageQueue;

/// Creates an inbox and its sender. `wake` makes the worker take its messages; it is called after a message to an empty
/// inbox.
pub fn inbox<T>(wake: impl Fn() + Send + Sync + 'static) -> (Sender<T>, Inbox<T>) {
    let shared =
        Arc::new(Shared { messages: Mutex::new(Some(MessageQueue::default())), wake: Box::new(wake) });
    (Sender(shared.clone()), Inbox(shared))
}

/// Sends messages to one inbox. Clones send to the same one.
pub struct Sender<T>(Arc<Shared<T>>);

/// Receives the messages. The inbox is closed when it is dropped.
pub struct Inbox<T>(Arc<Shared<T>>);

struct Shared<T> {
    /// `None` once the inbox is closed.
    messages: Mutex<Option<MessageQueue<T>>>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl<T> Sender<T> {
    /// Sends a message.
    ///
    /// # Errors
    /// The inbox is closed. The message is returned.
    pub fn send(&self, message: T) -> Result<(), T> {
        self.send_below(usize::MAX, message).map_err(|error| match error {
            SendError::Full(message) | SendError::Closed(message) => message,
        })
    }

    /// Sends a message if fewer than `limit` messages are waiting.
    ///
    /// # Errors
    /// The inbox is full or closed. The message is returned.
    pub fn send_below(&self, limit: usize, message: T) -> Result<(), SendError<T>> {
        let was_empty = {
            let mut messages = self.0.messages();
            let Some(messages) = &mut *messages else { return Err(SendError::Closed(message)) };
            messages.add(message, limit).map_err(SendError::Full)?
        };
        if was_empty {
            (self.0.wake)();
        }
        Ok(())
    }

    /// Returns the number of messages that found the inbox full. Zero after it is closed.
    pub fn refused(&self) -> u64 {
        self.0.messages().as_ref().map_or(0, MessageQueue::refused)
    }
}

impl<T> Inbox<T> {
    /// Takes all messages into `taken`, which must be empty. Its memory is used for the next ones.
    pub fn take(&self, taken: &mut Vec<T>) {
        if let Some(messages) = &mut *self.0.messages() {
            messages.take(taken);
        }
    }
}

impl<T> Shared<T> {
    fn messages(&self) -> MutexGuard<'_, Option<MessageQueue<T>>> {
        // Each call leaves the messages consistent.
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender(self.0.clone())
    }
}

impl<T> Drop for Inbox<T> {
    fn drop(&mut self) {
        // Dropped after the lock is released: a message may own a sender.
        let messages = self.0.messages().take();
        drop(messages);
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

impl<T> fmt::Debug for Inbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inbox")
    }
}

/// Why a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendError<T> {
    /// Too many messages are waiting.
    Full(T),
    /// The worker has ended.
    Closed(T),
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    fn counted() -> (Sender<u32>, Inbox<u32>, Arc<AtomicUsize>) {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = wakes.clone();
        let (sender, inbox) = inbox(move || _ = counter.fetch_add(1, Ordering::SeqCst));
        (sender, inbox, wakes)
    }

    #[test]
    fn messages_arrive_in_order_with_one_wake_for_a_batch() {
        let (sender, inbox, wakes) = counted();
        let mut taken = Vec::new();
        for batch in 0..3 {
            (0..5).for_each(|message| sender.send(batch * 10 + message).unwrap());
            assert_eq!(wakes.load(Ordering::SeqCst), batch as usize + 1);
            inbox.take(&mut taken);
            assert!(taken.drain(..).eq((0..5).map(|message| batch * 10 + message)));
        }
        inbox.take(&mut taken);
        assert!(taken.is_empty());
    }

    #[test]
    fn a_full_or_closed_inbox_returns_the_message() {
        let (sender, inbox, wakes) = counted();
        assert_eq!(sender.send_below(1, 1), Ok(()));
        assert_eq!(sender.send_below(1, 2), Err(SendError::Full(2)));
        assert_eq!((sender.send(3), sender.refused()), (Ok(()), 1));
        drop(inbox);
        assert_eq!(sender.clone().send(4), Err(4));
        assert_eq!(sender.send_below(9, 5), Err(SendError::Closed(5)));
        assert_eq!(wakes.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn no_message_of_several_threads_is_lost() {
        let (sender, inbox, _) = counted();
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let sender = sender.clone();
                thread::spawn(move || {
                    (0..1000).for_each(|message| sender.send(number * 1000 + message).unwrap())
                })
            })
            .collect();
        let (mut taken, mut all) = (Vec::new(), Vec::new());
        while all.len() < 4000 {
            inbox.take(&mut taken);
            all.append(&mut taken);
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        for number in 0..4 {
            let own = all.iter().copied().filter(|message| message / 1000 == number);
            assert!(own.eq((0..1000).map(|message| number * 1000 + message)));
        }
    }
}
