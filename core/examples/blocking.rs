//! The smallest runtime: it needs only `std`, and has a thread for each connection.
//!
//! ```text
//! cargo run -p postern-core --example blocking -- 127.0.0.1:8080
//! ```
//!
//! It ends when its standard input ends (Ctrl-D). The numbers refer to "Writing a third runtime" in ARCHITECTURE.md.
//! Some steps are missing: each connection has its own [`Worker`] here, so connections share no state. Settings, log
//! files, signals and the control port are missing as well; `postern-host` has them.
#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "what the core may not have is what a runtime brings: sockets, a clock, threads, output"
)]

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postern_core::handshake::Peer;
use postern_core::worker::{NewConnection, Socket};
use postern_core::{ConnectionId, Record, Recorder, Transport, Worker, WorkerConfig};

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    thread::spawn(move || accept(&listener));
    io::copy(&mut io::stdin(), &mut io::sink())?;
    // 8. Each thread reads this within a tick, and ends its connection.
    IS_STOPPING.store(true, Ordering::Relaxed);
    while OPEN.load(Ordering::Relaxed) > 0 {
        thread::sleep(TICK);
    }
    Ok(())
}

/// 1. Accepts, numbers the connection, and starts its thread.
fn accept(listener: &TcpListener) {
    let config = Arc::new(WorkerConfig::default());
    for number in 1.. {
        // A failed accept does not affect the other connections.
        let Ok((stream, peer)) = listener.accept() else { continue };
        let config = config.clone();
        OPEN.fetch_add(1, Ordering::Relaxed);
        thread::spawn(move || {
            if let Err(error) = carry(&stream, peer, ConnectionId(number), config) {
                println!("connection {number}: {error}");
            }
            OPEN.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// Serves one connection, from its first byte to its end.
fn carry(
    stream: &TcpStream,
    peer: SocketAddr,
    id: ConnectionId,
    config: Arc<WorkerConfig>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // A write that takes longer than this has sent only a part, or no bytes. The rest is the backlog of the connection.
    stream.set_write_timeout(Some(TICK))?;
    let (mut socket, mut buffer) = (Blocking(stream), vec![0; READ_BUFFER]);
    let mut worker = Worker::new(config, id.0, Instant::now());
    let key = worker.open(NewConnection { id, peer: Peer::from(peer), refusal: None }, Instant::now());
    let mut is_told = false;
    loop {
        if !is_told && IS_STOPPING.load(Ordering::Relaxed) {
            // 8. The worker is empty when its only connection is removed.
            worker.shut_down();
            is_told = true;
        }
        // 5. Handles what is due, and computes the time until the next deadline.
        let mut now = Instant::now();
        let mut transport = Transport::Open;
        while let Some(due) = worker.next_due(now, &mut Sentences) {
            transport = worker.handle_due(due, now, &mut buffer, &mut socket, &mut Sentences);
        }
        // 6. With `std` alone, the end of the peer's side cannot be detected before unread bytes are read; a reset can.
        if worker.wants_peer_closed(key) && stream.take_error()?.is_some() {
            worker.handle_peer_closed(key, now);
        }
        let until = worker.poll_timeout(now).map_or(TICK, |at| at.saturating_duration_since(now));
        let patience = until.clamp(LEAST, TICK);
        if transport == Transport::Open {
            // 2. to 4. A turn if the socket is readable; otherwise pending output is sent.
            let patience = if worker.wants_write(key) { LEAST } else { patience };
            let is_readable = worker.wants_read(key) && wait(stream, patience)?;
            if !worker.wants_read(key) && !worker.wants_write(key) {
                thread::sleep(patience);
            }
            now = Instant::now();
            transport = if is_readable {
                worker.on_readable(key, now, &mut buffer, &mut socket, &mut Sentences)
            } else {
                worker.flush(key, now, &mut socket)
            };
        }
        match transport {
            Transport::Open => {}
            // It fails if the peer has disconnected, which the next read reports.
            Transport::ShutdownWrite => drop(stream.shutdown(Shutdown::Write)),
            Transport::Close => break,
        }
    }
    // The socket is closed when the caller drops it.
    worker.remove(key, Instant::now(), &mut Sentences);
    Ok(())
}

/// Waits until the socket is readable: bytes, the end, or an error that the read will report.
fn wait(stream: &TcpStream, patience: Duration) -> io::Result<bool> {
    stream.set_read_timeout(Some(patience))?;
    Ok(!stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock))
}

/// 2. The three system calls of a turn.
struct Blocking<'s>(&'s TcpStream);

impl Socket for Blocking<'_> {
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        again_if_interrupted(|| self.0.read(buffer))
    }

    fn send(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        again_if_interrupted(|| self.0.write_vectored(pieces))
    }
}

fn again_if_interrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// 7. The log. Text that users control is escaped; the host's log does more than that.
struct Sentences;

impl Recorder for Sentences {
    fn record(&mut self, record: &Record<'_>) {
        match record {
            Record::Established { identity, .. } => println!("established: {}", identity.id()),
            Record::Message { identity, payload, .. } => {
                println!("{}: {}", identity.id(), payload.escape_ascii());
            }
            Record::Closed { identity, ending, .. } => {
                println!("closed: {}, {} {}", identity.id(), ending.code(), ending.reason());
            }
            Record::Rejected { error, .. } => println!("refused: {} {}", error.status(), error.code()),
            Record::Publication { .. }
            | Record::Pong { .. }
            | Record::RateExceeded { .. }
            | Record::RateKept { .. }
            | Record::CredentialsEnded { .. }
            | Record::TokenRefreshed { .. }
            | Record::RefreshRefused { .. }
            | Record::Abandoned { .. } => {}
        }
    }
}

static IS_STOPPING: AtomicBool = AtomicBool::new(false);

/// The number of connections.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// The longest time that a thread waits before it checks whether to stop.
const TICK: Duration = Duration::from_millis(100);

/// The shortest time; a timeout of zero would be none.
const LEAST: Duration = Duration::from_millis(1);

/// The most bytes of one read.
const READ_BUFFER: usize = 64 * 1024;
