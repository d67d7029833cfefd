//! The limit of the comparison: epoll, recv and send without a protocol. After the first upgrade it parses the first
//! message and prepares its echo. It assumes that all later frames have the same length, does not parse them, and
//! sends as many bytes of the prepared echoes as payload bytes have arrived. So it sends a long message while it
//! arrives, which is impossible for a server that passes whole messages to an application.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

/// Enough prebuilt echoes for one send.
const PREBUILT: usize = 64 << 10;

struct Connection {
    stream: TcpStream,
    /// The bytes of the request until it is answered, and of the first frame until it is complete.
    head: Vec<u8>,
    is_open: bool,
    /// Bytes of the current frame that have arrived.
    at: usize,
    /// Bytes of echoes that are pending.
    owed: usize,
    /// Bytes of the current echo that have been sent.
    sent: usize,
}

/// The lengths of a received frame and of its echo, and prepared echoes.
struct Echo {
    frame: usize,
    len: usize,
    prebuilt: Vec<u8>,
}

impl Echo {
    /// Returns the number of bytes of echoes to send after `at` bytes have arrived.
    #[inline]
    fn due(&self, at: usize) -> usize {
        let header = self.frame - self.len;
        at / self.frame * self.len + (at % self.frame).saturating_sub(header)
    }
}

fn main() -> io::Result<()> {
    let (port, _) = peers::arguments();
    let listener = TcpListener::bind(port)?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(u64::MAX), EventFlags::IN)?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut events = Vec::with_capacity(1024);
    let (mut buffer, mut echo) = (vec![0; 128 << 10], None);
    loop {
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
        for event in events.drain(..) {
            let number = event.data.u64() as usize;
            if let Some(place) = connections.get_mut(number) {
                let connection = place.as_mut().expect("a connection");
                if connection.handle(&mut buffer, &mut echo).is_err() {
                    *place = None;
                }
                continue;
            }
            while let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                let number = EventData::new_u64(connections.len() as u64);
                epoll::add(&epoll, &stream, number, EventFlags::IN | EventFlags::OUT | EventFlags::ET)?;
                let head = Vec::new();
                connections.push(Some(Connection { stream, head, is_open: false, at: 0, owed: 0, sent: 0 }));
            }
        }
    }
}

impl Connection {
    fn handle(&mut self, buffer: &mut [u8], echo: &mut Option<Echo>) -> io::Result<()> {
        loop {
            if let (true, Some(echo)) = (self.owed > 0, &*echo) {
                self.send(echo)?;
            }
            let n = match self.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            if let (true, Some(echo)) = (self.is_open && self.head.is_empty(), &*echo) {
                self.count(n, echo);
                self.send(echo)?;
            } else {
                self.head.extend_from_slice(&buffer[..n]);
                self.begin(echo)?;
            }
            // A short read has drained the socket.
            if n < buffer.len() {
                return Ok(());
            }
        }
    }

    #[inline]
    fn count(&mut self, n: usize, echo: &Echo) {
        self.owed += echo.due(self.at + n) - echo.due(self.at);
        self.at = (self.at + n) % echo.frame;
    }

    #[inline]
    fn send(&mut self, echo: &Echo) -> io::Result<()> {
        while self.owed > 0 {
            let bytes = &echo.prebuilt[self.sent..echo.prebuilt.len().min(self.sent + self.owed)];
            match self.stream.write(bytes) {
                Ok(n) => {
                    self.owed -= n;
                    self.sent = (self.sent + n) % echo.len;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn begin(&mut self, echo: &mut Option<Echo>) -> io::Result<()> {
        if !self.is_open {
            let Some((len, answer)) = peers::answer(&self.head) else { return Ok(()) };
            self.stream.write_all(answer.as_bytes())?;
            self.head.drain(..len);
            self.is_open = true;
        }
        if !self.head.is_empty() && echo.is_none() {
            *echo = learn(&self.head);
        }
        if let Some(echo) = &*echo {
            let first = std::mem::take(&mut self.head);
            self.count(first.len(), echo);
            self.send(echo)?;
        }
        Ok(())
    }
}

/// Returns the echo of a frame, if the frame is complete.
fn learn(bytes: &[u8]) -> Option<Echo> {
    let (header, payload) = match (bytes.get(1)? & 0x7f, bytes.get(2..10)) {
        (126, Some(long)) => (4, usize::from(u16::from_be_bytes([long[0], long[1]]))),
        (127, Some(long)) => (10, u64::from_be_bytes(long.try_into().ok()?) as usize),
        (short, _) => (2, usize::from(short)),
    };
    let mask = bytes.get(header..header + 4)?;
    let payload = bytes.get(header + 4..header + 4 + payload)?;
    let mut frame = bytes[..header].to_vec();
    frame[1] &= 0x7f;
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    let prebuilt = frame.repeat(PREBUILT.div_ceil(frame.len()));
    Some(Echo { frame: frame.len() + 4, len: frame.len(), prebuilt })
}
