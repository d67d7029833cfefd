//! The wish to stop, as something to poll for.

use std::io;
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

/// SIGTERM, which supervisors send, and SIGINT, which Ctrl-C sends.
#[derive(Debug)]
pub struct StopSignals;

impl StopSignals {
    /// From now on, the two signals no longer end the process: each one becomes a byte in the stream that is
    /// returned. It is non-blocking and stays open for as long as the process lives.
    ///
    /// What a second byte means is the runtime's affair; usually that somebody lost patience.
    ///
    /// # Errors
    /// No descriptor was to be had.
    pub fn register() -> io::Result<UnixStream> {
        let (signals, handler) = UnixStream::pair()?;
        signals.set_nonblocking(true)?;
        pipe::register(SIGTERM, handler.try_clone()?)?;
        pipe::register(SIGINT, handler)?;
        Ok(signals)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read};

    use super::*;

    #[test]
    fn each_signal_is_one_byte() {
        let mut signals = StopSignals::register().unwrap();
        let mut bytes = [0; 8];
        assert_eq!(signals.read(&mut bytes).unwrap_err().kind(), ErrorKind::WouldBlock);
        // Raised in this thread, so the handler has run when the call returns.
        signal_hook::low_level::raise(SIGTERM).unwrap();
        assert_eq!(signals.read(&mut bytes).unwrap(), 1);
        signal_hook::low_level::raise(SIGINT).unwrap();
        signal_hook::low_level::raise(SIGTERM).unwrap();
        assert_eq!(signals.read(&mut bytes).unwrap(), 2);
        assert_eq!(signals.read(&mut bytes).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}
