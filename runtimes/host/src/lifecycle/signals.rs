//! The signals of the process, as something to poll for.
//!
//! Each signal that can be handled has a defined effect. Only those that cannot be handled, and those that report a fault
//! of the program, end the process without a Close for each user:
//!
//! | signal | effect |
//! |---|---|
//! | SIGTERM, SIGPWR | drain; a later second one ends the process at once |
//! | SIGINT, SIGQUIT | close all connections at once; a later second one ends the process at once |
//! | SIGXCPU | drain: the processor time of RLIMIT_CPU is used up, and SIGKILL follows |
//! | SIGUSR2 | start a successor |
//! | SIGHUP | read keys and secrets again |
//! | SIGUSR1, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGSTKFLT, SIGXFSZ, real-time signals | none |
//! | SIGPIPE | none: the Rust runtime ignores it before `main` |
//! | SIGCHLD, SIGURG, SIGWINCH | none, which is the default |
//! | SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT | the default: the process is stopped until it is continued |
//! | SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP | the default, the end: a fault of the program |
//! | SIGKILL | the end |
//!
//! A signal without effect has a handler instead of the disposition SIG_IGN: a child process inherits SIG_IGN, but not a
//! handler.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::raw::c_int;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use postern_core::policy::ShutdownRequest;
use rustix::process::Signal;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use signal_hook::low_level::signal_name;
use slog::{Logger, debug, info};

use crate::lifecycle::reload::Reload;

/// Receives signals in place of their default actions. The descriptor becomes readable when there is one.
pub(crate) struct Signals {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
    waker: Arc<UnixStream>,
    reload: Option<Reload>,
    log: Logger,
}

impl Signals {
    /// Installs the handlers. `log` gets a record for each signal that is not a [`ShutdownRequest`].
    ///
    /// # Errors
    /// The process has no file descriptor left.
    pub(crate) fn register(log: &Logger) -> io::Result<Signals> {
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        let waker = Arc::new(write.try_clone()?);
        let numbers = HANDLED.iter().map(|(signal, _)| signal.as_raw());
        let delivery = SignalDelivery::with_pipe(read, write, SignalOnly, numbers)?;
        let handle = delivery.handle();
        for number in REAL_TIME {
            // It fails for the first ones, which the C library reserves.
            let _ = handle.add_signal(number);
        }
        Ok(Signals { delivery, waker, reload: None, log: log.clone() })
    }

    /// Returns the other end of the pipe. A byte that is sent to it makes the descriptor readable without a signal.
    pub(crate) fn waker(&self) -> Arc<UnixStream> {
        self.waker.clone()
    }

    /// Sets what SIGHUP reads again.
    pub(crate) fn set_reload(&mut self, reload: Reload) {
        self.reload = Some(reload);
    }

    /// Returns the requests since the last call, each kind once, and handles the other signals. Requests that the caller does
    /// not take from the iterator are returned by the next call.
    pub(crate) fn pending(&mut self) -> impl Iterator<Item = ShutdownRequest> {
        let Signals { delivery, reload, log, .. } = self;
        delivery.pending().filter_map(move |number| match effect(number) {
            Effect::ShutdownRequest(request) => Some(request),
            Effect::Reload => {
                match reload {
                    Some(reload) => reload.begin(),
                    None => info!(log, # "reloaded", "SIGHUP: there is nothing to read again yet"),
                }
                None
            }
            Effect::None => {
                let name = signal_name(number).unwrap_or("without a name");
                debug!(log, # "signal_ignored", "a signal without effect"; "signal" => name, "number" => number);
                None
            }
        })
    }
}

/// The effect of a signal.
#[derive(Debug, Clone, Copy)]
enum Effect {
    ShutdownRequest(ShutdownRequest),
    Reload,
    None,
}

fn effect(number: c_int) -> Effect {
    let found = HANDLED.iter().find(|(signal, _)| signal.as_raw() == number);
    found.map_or(Effect::None, |(_, effect)| *effect)
}

/// The signals with a handler, but for the real-time ones.
const HANDLED: [(Signal, Effect); 14] = [
    (Signal::TERM, Effect::ShutdownRequest(ShutdownRequest::Terminate)),
    // From the supervisor of a power supply, and from LXC to the first process of a container.
    (Signal::POWER, Effect::ShutdownRequest(ShutdownRequest::Terminate)),
    (Signal::INT, Effect::ShutdownRequest(ShutdownRequest::Interrupt)),
    (Signal::QUIT, Effect::ShutdownRequest(ShutdownRequest::Interrupt)),
    // The kernel repeats it each second until the hard limit, so it must not count as a second request.
    (Signal::XCPU, Effect::ShutdownRequest(ShutdownRequest::Drain)),
    (Signal::USR2, Effect::ShutdownRequest(ShutdownRequest::Restart)),
    (Signal::HUP, Effect::Reload),
    (Signal::USR1, Effect::None),
    (Signal::ALARM, Effect::None),
    (Signal::VTALARM, Effect::None),
    (Signal::PROF, Effect::None),
    (Signal::IO, Effect::None),
    (Signal::STKFLT, Effect::None),
    // The write that exceeds the limit of file sizes fails, which the log counts.
    (Signal::XFSZ, Effect::None),
];

/// The real-time signals of Linux, but for 32 and 33, which the C libraries use.
const REAL_TIME: std::ops::RangeInclusive<c_int> = 34..=64;

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, poll};
    use slog::{Discard, o};

    use super::*;

    fn is_readable(signals: &Signals) -> bool {
        let mut descriptors = [PollFd::new(signals, PollFlags::IN)];
        poll(&mut descriptors, Some(&rustix::time::Timespec::default())).unwrap() == 1
    }

    /// Raises a signal in this thread, so the handler has run when the call returns.
    fn raise(number: c_int) {
        signal_hook::low_level::raise(number).unwrap();
    }

    /// One test: signals belong to the whole process.
    #[test]
    fn each_signal_has_its_effect_and_is_readable_until_it_is_taken() {
        let mut signals = Signals::register(&Logger::root(Discard, o!())).unwrap();
        assert!(!is_readable(&signals) && signals.pending().next().is_none());
        for (signal, effect) in HANDLED {
            raise(signal.as_raw());
            assert!(is_readable(&signals), "{signal:?}");
            let expected: Vec<ShutdownRequest> = match effect {
                Effect::ShutdownRequest(request) => vec![request],
                Effect::Reload | Effect::None => Vec::new(),
            };
            assert_eq!(signals.pending().collect::<Vec<_>>(), expected, "{signal:?}");
            assert!(!is_readable(&signals), "{signal:?}");
        }
        // 34 belongs to musl.
        for number in 35..=64 {
            raise(number);
            assert!(is_readable(&signals), "{number}");
            assert_eq!(signals.pending().next(), None, "{number}");
        }
        rustix::net::send(signals.waker(), &[0], rustix::net::SendFlags::DONTWAIT).unwrap();
        assert!(is_readable(&signals) && signals.pending().next().is_none() && !is_readable(&signals));
        raise(Signal::INT.as_raw());
        raise(Signal::TERM.as_raw());
        let mut both: Vec<_> = signals.pending().collect();
        both.sort_by_key(|request| *request == ShutdownRequest::Interrupt);
        assert_eq!(both, [ShutdownRequest::Terminate, ShutdownRequest::Interrupt]);
        assert!(signals.pending().next().is_none());
    }
}
