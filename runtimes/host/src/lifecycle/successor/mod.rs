//! Passing listeners and revocations from one process to the next: a process may inherit them, and may pass them to its successor.
//!
//! ```text
//!  supervisor ── LISTEN_FDS ──► process ── SIGUSR2: starts ──► successor
//!                                  │ ── descriptors, by its stdin ─► │
//!                                  │ ── revocations ───────────────► │
//!                                  │ ◄── one byte: "I serve" ─────── │
//!                                  │ ◄── new revocations ──────────► │
//!                                  drains                            serves
//! ```
//!
//! The port is never closed: both processes have the same socket open, and the kernel keeps new connections in its one
//! queue. [`InheritedListeners`] is the side of the new process, [`SuccessorLauncher`] the side of the old one, and
//! `handover` is the protocol between them.

mod handover;
mod inherited;
mod launcher;

pub(crate) use inherited::InheritedListeners;
pub(crate) use launcher::SuccessorLauncher;

/// The variable by which a process tells its successor to take the listeners from standard input. It has the number of the
/// process. A successor ignores it unless that is the number of its parent, so it has no effect on other descendants.
pub(crate) const VARIABLE: &str = "POSTERN_SUCCESSOR";
