//! The life of a process, from its listeners to its exit.
//!
//! * [`supervisor`] notifies the program that started this process, such as systemd.
//! * [`status`] says whether the process is ready, draining, or replaced by a successor.
//! * [`watchdog`] keeps notifying the supervisor while all workers make progress.
//! * [`signals`] delivers the signals of the process; [`reload`] is what SIGHUP does.
//! * [`successor`] passes the listeners to a new process, or takes them from the previous one.

pub mod reload;
pub mod signals;
pub mod status;
pub mod successor;
pub mod supervisor;
pub mod watchdog;
