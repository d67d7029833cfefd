//! The limit of the fan-out: epoll, and one send for each subscriber. A connection that sends an upgrade becomes a
//! subscriber. The HTTP requests of another connection publish, and are not parsed further than that: the text is known from the
//! size of the messages. The publications of a request are sent to a subscriber together, from a buffer of prepared frames. A send that is not accepted as a whole ends the program.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

/// The most frames of one send.
const PREBUILT: usize = 64;

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

struct Connection {
    stream: TcpStream,
    /// The bytes of incomplete requests.
    received: Vec<u8>,
    is_subscriber: bool,
}

fn main() -> io::Result<()> {
    let (port, size) = peers::arguments();
    let frame = frame(size);
    let prebuilt = frame.repeat(PREBUILT);
    let listener = TcpListener::bind(port)?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(u64::MAX), EventFlags::IN)?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut events = Vec::with_capacity(1024);
    let mut buffer = vec![0; 64 << 10];
    loop {
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
        let mut publications = 0;
        for event in events.drain(..) {
            let number = event.data.u64() as usize;
            if let Some(place) = connections.get_mut(number) {
                let connection = place.as_mut().expect("a connection");
                match connection.handle(&mut buffer) {
                    Ok(requests) => publications += requests,
                    Err(_) => *place = None,
                }
                continue;
            }
            while let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                let number = EventData::new_u64(connections.len() as u64);
                epoll::add(&epoll, &stream, number, EventFlags::IN | EventFlags::OUT | EventFlags::ET)?;
                connections.push(Some(Connection { stream, received: Vec::new(), is_subscriber: false }));
            }
        }
        while publications > 0 {
            let n = publications.min(PREBUILT);
            let frames = &prebuilt[..n * frame.len()];
            for connection in connections.iter_mut().flatten().filter(|connection| connection.is_subscriber) {
                // A reset is the next event of the socket.
                let sent = connection.stream.write(frames);
                assert!(sent.is_err() || sent.is_ok_and(|sent| sent == frames.len()), "a partial send");
            }
            publications -= n;
        }
    }
}

impl Connection {
    /// Reads once or more. Returns the number of publications.
    fn handle(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.received.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let mut publications = 0;
        if self.received.starts_with(b"GET ") {
            if let Some((len, answer)) = peers::answer(&self.received) {
                self.stream.write_all(answer.as_bytes())?;
                self.received.drain(..len);
                self.is_subscriber = true;
            }
        }
        while let Some(len) = request(&self.received) {
            // Each message has a target.
            publications += self.received[..len].windows(5).filter(|name| name == b"\"all\"").count();
            self.received.drain(..len);
            self.stream.write_all(ANSWER.as_bytes())?;
        }
        Ok(publications)
    }
}

/// Returns the length of the first request, if it is complete.
fn request(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).expect("a request in ASCII");
    let mut headers = head.lines().filter_map(|line| line.split_once(':'));
    let (_, length) = headers.find(|(name, _)| *name == "Content-Length").expect("a length");
    let len = end + length.trim().parse::<usize>().expect("a number");
    (bytes.len() >= len).then_some(len)
}

/// Returns the frame of the text that `load` publishes.
fn frame(size: usize) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u16::try_from(size) {
        Ok(short @ 0..126) => frame.push(short as u8),
        Ok(long) => {
            frame.push(126);
            frame.extend_from_slice(&long.to_be_bytes());
        }
        Err(_) => {
            frame.push(127);
            frame.extend_from_slice(&(size as u64).to_be_bytes());
        }
    }
    frame.extend((b'a'..=b'z').cycle().take(size));
    frame
}
