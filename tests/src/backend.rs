//! A backend that receives requests of Postern, and answers as a test decides.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Failure;

/// A request that has arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// The request line and the header lines.
    pub head: String,
    /// The body, as JSON.
    pub body: Value,
}

/// The answer to a request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// This status, with an empty body.
    Status(u16),
    /// These bytes, after which the connection is closed.
    Bytes(&'static str),
    /// The status 200 with this body.
    Json(String),
    /// The status 200 with this body, after this time.
    Late(Duration, String),
    /// The status 200, and then more bytes than any answer has, until the client closes the connection.
    Endless,
    /// Nothing, until the client closes the connection.
    Hang,
}

/// A server of HTTP that works until the process ends.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    answer: Answer,
    /// Decides instead of `answer`, if it returns an answer.
    decide: Decide,
    received: Vec<Received>,
}

/// A function that answers requests.
type Decide = fn(&Received) -> Option<Answer>;

impl Backend {
    /// Listens on a free port of this host, and gives this answer to each request.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[track_caller]
    pub fn start(answer: Answer) -> Self {
        Self::with(|_| None, answer)
    }

    /// The same, but `decide` answers the requests for which it returns an answer.
    ///
    /// # Panics
    ///
    /// As [`start`](Backend::start).
    #[track_caller]
    pub fn with(decide: Decide, answer: Answer) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(Failure::while_doing("listening"));
        let listener = listener.unwrap_or_else(|failure| panic!("{failure}"));
        let address = listener.local_addr().expect("a listener has an address");
        let state = Arc::new(Mutex::new(State { answer, decide, received: Vec::new() }));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                thread::spawn(move || serve(&stream, &state));
            }
        });
        Self { address, state }
    }

    /// Returns its URL.
    pub fn url(&self) -> String {
        format!("http://{}/hooks", self.address)
    }

    /// Gives this answer to each request from now on.
    pub fn answer(&self, answer: Answer) {
        lock(&self.state).answer = answer;
    }

    /// Returns all requests so far.
    pub fn received(&self) -> Vec<Received> {
        lock(&self.state).received.clone()
    }

    /// Waits until `is_complete` accepts the requests, and returns them.
    ///
    /// # Panics
    ///
    /// If that takes more than ten seconds.
    #[track_caller]
    pub fn wait_for(&self, is_complete: impl Fn(&[Received]) -> bool) -> Vec<Received> {
        let start = Instant::now();
        loop {
            let received = self.received();
            if is_complete(&received) {
                return received;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "requests are missing: {received:#?}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn serve(stream: &TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    while let Some(received) = read(&mut reader) {
        let answer = {
            let mut state = lock(state);
            let decided = (state.decide)(&received);
            state.received.push(received);
            decided.unwrap_or_else(|| state.answer.clone())
        };
        let mut stream = stream;
        let json = |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        // The client may have closed the connection.
        let _ = match answer {
            Answer::Json(body) => {
                if stream.write_all(json(&body).as_bytes()).is_ok() {
                    continue;
                }
                return;
            }
            Answer::Late(time, body) => {
                thread::sleep(time);
                if stream.write_all(json(&body).as_bytes()).is_ok() {
                    continue;
                }
                return;
            }
            Answer::Endless => {
                let head = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                let chunk = format!("2000\r\n{}\r\n", " ".repeat(0x2000));
                while stream.write_all(chunk.as_bytes()).is_ok() {}
                head
            }
            Answer::Status(status) => {
                let answer = format!("HTTP/1.1 {status} Status\r\nContent-Length: 0\r\n\r\n");
                if stream.write_all(answer.as_bytes()).is_ok() {
                    continue;
                }
                return;
            }
            Answer::Bytes(bytes) => stream.write_all(bytes.as_bytes()),
            // The read ends when the client closes.
            Answer::Hang => stream.read(&mut [0]).map(drop),
        };
        return;
    }
}

/// Reads a request. Returns `None` at the end of the connection.
fn read(reader: &mut impl BufRead) -> Option<Received> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let start = head.len();
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
        let line = head.get(start..)?.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Received { head, body: serde_json::from_slice(&body).ok()? })
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
