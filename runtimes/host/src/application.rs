//! The application that the workers of a process serve. The runtimes and the rest of this crate name it by these types only.

use postern_channels::Channels;
use postern_core::worker::{self, Application};

/// The application.
pub type ServedApplication = Channels;

/// A worker of a process.
pub type Worker = worker::Worker<ServedApplication>;

/// A message to such a worker.
pub type WorkerMessage = worker::WorkerMessage<<ServedApplication as Application>::Inbound>;

/// A request of such a worker to its process.
pub type WorkerEffect = worker::WorkerEffect<<ServedApplication as Application>::Effect>;
