//! A server of keys on a real socket, which can misbehave.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// The answer to a request.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// 200 with this body.
    Set(String),
    /// These bytes, after which the connection is closed.
    Bytes(Vec<u8>),
    /// Nothing, until the client closes the connection.
    Hang,
    /// 200, then one byte at a time, slowly.
    Drip,
}

/// A server that runs until the process of the test ends.
pub(super) struct Server {
    address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    requests: Arc<AtomicUsize>,
}

impl Server {
    pub(super) fn start(answer: Answer) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, requests) = (Arc::new(Mutex::new(answer)), Arc::new(AtomicUsize::new(0)));
        let (answers, counter) = (answer.clone(), requests.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                counter.fetch_add(1, Ordering::SeqCst);
                let answer = answers.lock().unwrap().clone();
                thread::spawn(move || serve(stream.unwrap(), answer));
            }
        });
        Server { address, answer, requests }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/jwks.json", self.address)
    }

    pub(super) fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// Returns the number of connections.
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn serve(mut stream: TcpStream, answer: Answer) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        request.push(byte[0]);
    }
    assert!(request.starts_with(b"GET /jwks.json HTTP/1.1\r\n"), "{}", request.escape_ascii());
    // The client may have closed the connection.
    let _ = match answer {
        Answer::Set(set) => {
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", set.len());
            stream.write_all(&[head.as_bytes(), set.as_bytes()].concat())
        }
        Answer::Bytes(bytes) => stream.write_all(&bytes),
        // The read ends when the client closes.
        Answer::Hang => stream.read(&mut byte).map(drop),
        Answer::Drip => {
            let head = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
            while stream.write_all(b" ").is_ok() {
                thread::sleep(Duration::from_millis(100));
            }
            head
        }
    };
}
