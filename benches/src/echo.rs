//! Three echo servers: each reads once, answers all messages of the read, and writes once.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Instant;

use postern_core::record::NullRecorder;
use postern_core::worker::NewConnection;
use postern_core::{
    Codec, ConnectionId, Event, Input, Key, Session, SessionConfig, Transport, Turn, Worker, WorkerConfig,
};
use tungstenite::WebSocket;
use tungstenite::protocol::{Role, WebSocketConfig};

use crate::{FullRead, REQUEST, Socket, gateway};

/// A server with one connection.
pub trait Echo {
    /// Reads once, answers all messages of the read, and writes once.
    fn turn(&mut self);

    /// Returns the server's socket.
    fn socket(&mut self) -> &mut Socket;
}

/// A [`Session`] alone, with an application of one `match`.
#[derive(Debug)]
pub struct SessionEcho {
    socket: Socket,
    session: Session,
    buffer: Vec<u8>,
    out: Vec<u8>,
    codec: Codec,
    now: Instant,
}

impl SessionEcho {
    /// Creates a session with the default limits.
    pub fn new(read: &FullRead) -> SessionEcho {
        SessionEcho {
            socket: Socket::new(read.bytes()),
            session: Session::new(Arc::new(SessionConfig::default())),
            buffer: vec![0; read.bytes().len()],
            out: Vec::new(),
            codec: Codec::new(),
            now: Instant::now(),
        }
    }
}

impl Echo for SessionEcho {
    fn turn(&mut self) {
        let n = self.socket.read(&mut self.buffer).expect("the socket never fails");
        let mut input = Input::new(&mut self.buffer[..n]);
        let mut turn =
            Turn { now: self.now, out: &mut self.out, is_backlogged: false, codec: &mut self.codec };
        while let Some(event) = self.session.next_event(&mut turn, &mut input).expect("the frames are valid")
        {
            match event {
                Event::Text(text) => self.session.send_text(&mut turn, &text),
                Event::Binary(payload) => self.session.send_binary(&mut turn, &payload),
                Event::Ping(_) | Event::Pong(_) | Event::Close { .. } => Ok(()),
            }
            .expect("the session is open");
        }
        self.socket.write_all(&self.out).expect("the socket never fails");
        self.out.clear();
    }

    fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }
}

/// A [`Worker`] with one admitted connection, as a runtime calls it. Records are discarded; the bench `log` measures
/// their cost.
#[derive(Debug)]
pub struct WorkerEcho {
    socket: Socket,
    worker: Worker,
    key: Key,
    buffer: Vec<u8>,
    /// A runtime reads the clock once for all connections that are ready, so the bench does not read it.
    now: Instant,
}

impl WorkerEcho {
    /// Creates a worker with the default settings and one open connection.
    pub fn new(read: &FullRead) -> WorkerEcho {
        let now = Instant::now();
        let mut worker = Worker::new(Arc::new(WorkerConfig::default()), 1, now);
        let key = worker.open(NewConnection { id: ConnectionId(1), peer: gateway(), refusal: None }, now);
        worker.receive(key, now, &mut REQUEST.to_vec(), &mut NullRecorder);
        let answer = worker.output(key);
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", answer.escape_ascii());
        worker.sent(key, answer.len(), now);
        let buffer = vec![0; read.bytes().len()];
        WorkerEcho { socket: Socket::new(read.bytes()), worker, key, buffer, now }
    }
}

impl Echo for WorkerEcho {
    fn turn(&mut self) {
        assert!(self.worker.wants_read(self.key));
        let n = self.socket.read(&mut self.buffer).expect("the socket never fails");
        self.worker.receive(self.key, self.now, &mut self.buffer[..n], &mut NullRecorder);
        let n = self.socket.write(self.worker.output(self.key)).expect("the socket never fails");
        self.worker.sent(self.key, n, self.now);
        assert_eq!(self.worker.transport(self.key), Transport::Open);
    }

    fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }
}

/// tungstenite's server, configured for the best speed.
///
/// It fills its read buffer with zeros before each read, so the buffer has exactly the size of the read. It does not
/// read again to find that no bytes are left. Its write buffer collects the answers, which are flushed once.
#[derive(Debug)]
pub struct TungsteniteEcho {
    socket: WebSocket<Socket>,
    messages: usize,
}

impl TungsteniteEcho {
    /// Creates a server after its handshake.
    pub fn new(read: &FullRead) -> TungsteniteEcho {
        let len = read.bytes().len();
        let config = WebSocketConfig::default().read_buffer_size(len).write_buffer_size(2 * len);
        let socket = WebSocket::from_raw_socket(Socket::new(read.bytes()), Role::Server, Some(config));
        TungsteniteEcho { socket, messages: read.messages() }
    }
}

impl Echo for TungsteniteEcho {
    fn turn(&mut self) {
        for _ in 0..self.messages {
            let message = self.socket.read().expect("the frames are valid");
            self.socket.write(message).expect("the socket never fails");
        }
        self.socket.flush().expect("the socket never fails");
    }

    fn socket(&mut self) -> &mut Socket {
        self.socket.get_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    /// Runs three turns. Returns the written bytes, and the numbers of reads and writes.
    fn observe(mut echo: impl Echo) -> (Vec<u8>, usize, usize) {
        echo.socket().kept = Some(Vec::new());
        (0..3).for_each(|_| echo.turn());
        let socket = echo.socket();
        (socket.kept.take().unwrap_or_default(), socket.reads, socket.writes)
    }

    #[test]
    fn all_sides_do_the_same_work_in_one_read_and_one_write() {
        for (kind, size) in [(Kind::Binary, 20), (Kind::Text, 1024), (Kind::Binary, 16 * 1024)] {
            let read = FullRead::new(kind, size);
            let session = observe(SessionEcho::new(&read));
            assert_eq!((session.1, session.2), (3, 3));
            assert!(session.0.len() > 3 * read.messages() * size);
            assert_eq!(observe(WorkerEcho::new(&read)), session, "the worker, {kind:?} of {size} bytes");
            assert_eq!(
                observe(TungsteniteEcho::new(&read)),
                session,
                "tungstenite, {kind:?} of {size} bytes"
            );
        }
    }
}
