//! The messages of other threads that wait for a worker. A runtime with several threads keeps the queue behind a lock, which is
//! held for one call.

use std::mem;

/// Messages in the order in which they were sent.
///
/// Messages that must not be lost, such as a new connection or a shutdown, are added without a limit. A request that finds the
/// queue full is counted and returned to its sender, which reports that to the operator.
#[derive(Debug)]
pub struct MessageQueue<T> {
    messages: Vec<T>,
    refused: u64,
}

impl<T> MessageQueue<T> {
    /// Adds a message if fewer than `limit` wait. Returns whether it is the first one, for which the worker must be woken.
    ///
    /// # Errors
    /// The queue is full. The message is returned.
    pub fn add(&mut self, message: T, limit: usize) -> Result<bool, T> {
        if self.messages.len() >= limit {
            self.refused += 1;
            return Err(message);
        }
        self.messages.push(message);
        Ok(self.messages.len() == 1)
    }

    /// Takes all messages into `taken`, which must be empty. Its memory is used for the next ones.
    pub fn take(&mut self, taken: &mut Vec<T>) {
        mem::swap(&mut self.messages, taken);
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Returns the number of messages that found it full.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

impl<T> Default for MessageQueue<T> {
    fn default() -> MessageQueue<T> {
        MessageQueue { messages: Vec::new(), refused: 0 }
    }
}
