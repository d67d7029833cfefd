//! Answers clients for which the process has no descriptor, on a descriptor of the reserve.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use postern_core::handshake::{HandshakeError, Reply, reject};

use super::fd_reserve::FdReserve;
use crate::socket;

/// The connections that are being refused, and the descriptors for them.
///
/// Each gets a 503 in one send. It is closed when its client has closed its side, or after [`LINGER`], or after
/// [`LEAST_LINGER`] if its descriptor is needed. The bytes of the client are read before: closing a socket that has
/// unread bytes resets the connection, and a reset can overtake the answer.
#[derive(Debug)]
pub(super) struct OverloadResponder {
    reserve: FdReserve,
    /// In the order in which they were accepted.
    lingering: VecDeque<Refused>,
    /// Makes `Retry-After` differ from client to client.
    random: RandomState,
    /// The number of clients refused since the last [`take_refused_count`](OverloadResponder::take_refused_count).
    refused_count: u64,
}

#[derive(Debug)]
struct Refused {
    stream: OwnedFd,
    since: Instant,
    is_answered: bool,
    is_over: bool,
}

impl OverloadResponder {
    /// Takes the descriptors of the reserve.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub(super) fn new() -> io::Result<OverloadResponder> {
        Ok(OverloadResponder {
            reserve: FdReserve::new(RESERVED_FDS)?,
            lingering: VecDeque::new(),
            random: RandomState::new(),
            refused_count: 0,
        })
    }

    /// Accepts and refuses as many connections as the reserve allows. Returns their number, and whether `accept` has reported
    /// that no other connection waits.
    pub(super) fn refuse_waiting<T>(
        &mut self,
        now: Instant,
        mut accept: impl FnMut() -> io::Result<(OwnedFd, T)>,
    ) -> (usize, bool) {
        self.handle_timeout(now);
        let mut count = 0;
        while self.reserve.release() {
            match accept() {
                Ok((stream, _)) => {
                    count += 1;
                    self.refuse(stream, now);
                }
                Err(error) => {
                    self.reserve.refill(self.lingering.len());
                    return (count, error.kind() == ErrorKind::WouldBlock);
                }
            }
        }
        (count, false)
    }

    /// Closes the connections that are due, and takes their descriptors back into the reserve.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let patience = if self.lingering.len() < RESERVED_FDS { LINGER } else { LEAST_LINGER };
        for refused in &mut self.lingering {
            let age = now.saturating_duration_since(refused.since);
            if age >= LEAST_LINGER {
                refused.answer(retry_after(&self.random, self.refused_count));
            }
            refused.drain();
            refused.is_over |= age >= patience;
        }
        self.lingering.retain(|refused| !refused.is_over);
        self.reserve.refill(self.lingering.len());
    }

    /// Returns when to call [`handle_timeout`](OverloadResponder::handle_timeout) next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let first = self.lingering.front()?;
        let all_are_answered = self.lingering.iter().all(|refused| refused.is_answered);
        Some(first.since + if all_are_answered { LINGER } else { LEAST_LINGER })
    }

    /// Returns the number of clients refused since the last call.
    pub(super) fn take_refused_count(&mut self) -> u64 {
        std::mem::take(&mut self.refused_count)
    }

    fn refuse(&mut self, stream: OwnedFd, now: Instant) {
        self.refused_count += 1;
        let mut refused = Refused { stream, since: now, is_answered: false, is_over: false };
        // A gateway does not expect an answer before it has sent its request, so the answer waits for that up to LEAST_LINGER.
        if refused.drain() {
            refused.answer(retry_after(&self.random, self.refused_count));
        }
        self.lingering.push_back(refused);
    }
}

impl Refused {
    /// Sends the answer, once, and shuts down the sending side.
    fn answer(&mut self, retry_after: u32) {
        if self.is_answered {
            return;
        }
        self.is_answered = true;
        let mut answer = Vec::new();
        let date = SystemTime::now().duration_since(UNIX_EPOCH).map(|time| time.as_secs()).ok();
        reject(&mut answer, HandshakeError::Overloaded, Reply { retry_after, date, ..Reply::default() });
        // An error means that the client has disconnected. The buffer of a new socket has room for the answer.
        let _ = socket::send(&self.stream, &[IoSlice::new(&answer)]);
        let _ = socket::shut_down_write(&self.stream);
    }

    /// Reads what the client has sent, up to [`MOST_READ`] bytes. Returns whether there was any.
    fn drain(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let mut has_read = false;
        for _ in 0..MOST_READ / buffer.len() {
            match socket::receive(&self.stream, &mut buffer) {
                Ok(1..) => has_read = true,
                Ok(0) => {
                    self.is_over = true;
                    break;
                }
                Err(error) => {
                    self.is_over |= error.kind() != ErrorKind::WouldBlock;
                    break;
                }
            }
        }
        has_read
    }
}

/// Returns the seconds of `Retry-After`, 1 to 10.
fn retry_after(random: &RandomState, number: u64) -> u32 {
    // The remainder is below ten, so the cast does not cut.
    1 + (random.hash_one(number) % 10) as u32
}

/// The most connections that are being refused at a time.
pub(crate) const RESERVED_FDS: usize = 8;

/// The time that a refused client has to close its side while descriptors of the reserve are left.
const LINGER: Duration = Duration::from_secs(1);

/// The time that each refused client has, even if others wait.
const LEAST_LINGER: Duration = Duration::from_millis(10);

/// The most bytes that are read from one client at a time: more than the longest request head.
const MOST_READ: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn client(responder: &mut OverloadResponder, request: &[u8], now: Instant) -> UnixStream {
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(request).unwrap();
        server.set_nonblocking(true).unwrap();
        client.set_nonblocking(true).unwrap();
        let mut server = Some(server);
        let accept = || Ok((OwnedFd::from(server.take().ok_or(ErrorKind::WouldBlock)?), ()));
        assert_eq!(responder.refuse_waiting(now, accept).0, 1);
        client
    }

    fn answer(client: &mut UnixStream) -> String {
        let mut bytes = vec![0; 4096];
        let n = client.read(&mut bytes).unwrap_or_default();
        String::from_utf8(bytes[..n].to_vec()).unwrap()
    }

    #[track_caller]
    fn check_answer(client: &mut UnixStream) {
        let answer = answer(client);
        assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        assert!(answer.contains("\r\nRetry-After: ") && answer.contains("\"overloaded\""), "{answer}");
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "our side has ended");
    }

    #[test]
    fn a_client_that_has_sent_its_request_is_answered_at_once() {
        let (mut responder, now) = (OverloadResponder::new().unwrap(), Instant::now());
        let mut client = client(&mut responder, b"GET /ws HTTP/1.1\r\n", now);
        check_answer(&mut client);
        assert_eq!(responder.reserve.len(), RESERVED_FDS - 1);
        client.shutdown(std::net::Shutdown::Both).unwrap();
        responder.handle_timeout(now);
        assert_eq!((responder.reserve.len(), responder.lingering.len()), (RESERVED_FDS, 0));
        assert_eq!((responder.take_refused_count(), responder.take_refused_count()), (1, 0));
    }

    #[test]
    fn a_request_is_waited_for_but_not_for_long() {
        let (mut responder, now) = (OverloadResponder::new().unwrap(), Instant::now());
        let mut client = client(&mut responder, b"", now);
        assert_eq!(answer(&mut client), "");
        assert_eq!(responder.poll_timeout(), Some(now + LEAST_LINGER));
        client.write_all(b"GET /ws HTTP/1.1\r\n").unwrap();
        responder.handle_timeout(now + LEAST_LINGER);
        check_answer(&mut client);
        assert_eq!(responder.poll_timeout(), Some(now + LINGER));
        responder.handle_timeout(now + LINGER);
        assert_eq!((responder.reserve.len(), responder.poll_timeout()), (RESERVED_FDS, None));
    }

    #[test]
    fn the_oldest_gives_its_descriptor_up_when_the_reserve_is_used_up() {
        let (mut responder, now) = (OverloadResponder::new().unwrap(), Instant::now());
        let _clients: Vec<_> = (0..RESERVED_FDS - 1).map(|_| client(&mut responder, b"GET", now)).collect();
        let later = now + LEAST_LINGER;
        let mut last = client(&mut responder, b"GET", later);
        assert_eq!(responder.reserve.len(), 0);
        let nobody = || -> io::Result<(OwnedFd, ())> { panic!("there is no descriptor") };
        assert_eq!(responder.refuse_waiting(now, nobody), (0, false), "all have their time");
        responder.handle_timeout(later);
        assert_eq!((responder.reserve.len(), responder.lingering.len()), (RESERVED_FDS - 1, 1));
        check_answer(&mut last);
    }
}
