//! Listeners that outlive a process: it may be started with some, and it may start its successor with its own.
//!
//! ```text
//!  supervisor ── LISTEN_FDS ──► process ── SIGUSR2: starts ──► successor
//!                                  │ ── descriptors, by its stdin ─► │
//!                                  │ ◄── one byte: "I serve" ─────── │
//!                                  drains                            serves
//! ```
//!
//! The port is never closed: both processes hold the same socket, and the kernel keeps new connections in its one
//! queue. [`InheritedListeners`] is the side of the new process, [`SuccessorLauncher`] that of the old one, and `handover` is the
//! protocol between them.

mod handover;
mod inherited;
mod launcher;

pub(crate) use inherited::InheritedListeners;
pub(crate) use launcher::SuccessorLauncher;

/// Tells a successor that its standard input brings it the listeners: the number of the process that says so, which has
/// to be its parent. So it means nothing to whatever else a process starts.
pub(crate) const VARIABLE: &str = "POSTERN_SUCCESSOR";
