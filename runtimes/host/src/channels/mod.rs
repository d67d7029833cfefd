//! The channels of the process: the state that its workers share, behind locks, and the inbox of each worker.
//!
//! * [`Node`] has the channels, in shards behind mutexes.
//! * [`NodeWorker`] is the share of a worker in it: the worker's inbox, and the execution of its requests.

mod node;
mod worker;

pub use node::Node;
#[cfg(feature = "control")]
pub(crate) use node::NodeStats;
pub(crate) use node::{Batch, Delivery, Publishing, unix_ms};
pub use worker::NodeWorker;
