//! An HTTP server with connections that stay open.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A request that has arrived.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Received {
    /// Returns the value of a header.
    pub(crate) fn header(&self, name: &str) -> String {
        let values = self.head.lines().filter_map(|line| line.split_once(':'));
        let mut values =
            values.filter(|(of, _)| of.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
        values.next().unwrap_or_default().to_owned()
    }
}

/// The reaction to a request.
#[derive(Debug, Clone)]
pub(crate) enum Reaction {
    /// These bytes.
    Answer(String),
    /// These bytes, after which the connection is closed.
    Last(String),
    /// Nothing, until the client closes the connection.
    Hang,
    /// 200, then one byte at a time, slowly.
    Drip,
}

impl Reaction {
    /// 200 with this body.
    pub(crate) fn ok(body: &str) -> Reaction {
        Reaction::Answer(format!(
            "HTTP/1.1 200 OK\r\nX-Test: 1\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }
}

/// A server that runs until the process of the test ends.
pub(crate) struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<Received>>>,
}

impl Server {
    pub(crate) fn start(react: impl Fn(&Received) -> Reaction + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (counter, received, react) = (connections.clone(), requests.clone(), Arc::new(react));
        thread::spawn(move || {
            for stream in listener.incoming() {
                counter.fetch_add(1, Ordering::SeqCst);
                let (received, react) = (received.clone(), react.clone());
                thread::spawn(move || serve(stream.unwrap(), &received, &*react));
            }
        });
        Server { address, connections, requests }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> Vec<Received> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, received: &Mutex<Vec<Received>>, react: &dyn Fn(&Received) -> Reaction) {
    let mut reader = BufReader::new(&stream);
    while let Some(request) = read(&mut reader) {
        received.lock().unwrap().push(request.clone());
        let mut stream = &stream;
        // The client may have closed the connection.
        let _ = match react(&request) {
            Reaction::Answer(answer) => {
                if stream.write_all(answer.as_bytes()).is_ok() {
                    continue;
                }
                return;
            }
            Reaction::Last(answer) => stream.write_all(answer.as_bytes()),
            // The read ends when the client closes.
            Reaction::Hang => stream.read(&mut [0]).map(drop),
            Reaction::Drip => {
                let head = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
                while stream.write_all(b" ").is_ok() {
                    thread::sleep(Duration::from_millis(50));
                }
                head
            }
        };
        return;
    }
}

/// Reads a request, or returns `None` at the end of the connection.
fn read(reader: &mut impl BufRead) -> Option<Received> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let start = head.len();
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
        let line = head[start..].trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Received { head, body: String::from_utf8(body).unwrap() })
}
