//! One connection of the load generator.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Instant;

use mio::net::TcpStream;
use postern_core::client::ClientHandshake;
use postern_core::{Client, Codec, Event, Input, Session, SessionConfig, Turn};

use super::Failure;
use super::frames::Frames;

/// A connection before, during or after the run.
pub(crate) struct Connection {
    stream: TcpStream,
    stage: Stage,
    /// Parses what the server sends, except the answer to the handshake and the echoes of the run.
    session: Option<Box<Checker>>,
    /// Unsent bytes of the request, of the check or of a Pong. The bytes of the run are in [`Frames`].
    unsent: Vec<u8>,
    /// Number of unsent bytes of the run's frames.
    pending: usize,
    /// Number of bytes of the echoes that have not arrived.
    awaited: u64,
    /// Number of messages that may still be sent.
    budget: u64,
    /// Whether the next message is sent when an echo arrives.
    is_refilled: bool,
    /// The times at which the messages in flight were sent, with the number of messages of each time.
    flights: VecDeque<(Instant, u64)>,
}

/// The core's client. It sends no frames but Pongs, so its masking keys do not matter.
type Checker = Session<Client<fn() -> [u8; 4]>>;

enum Stage {
    Handshake(ClientHandshake),
    Open,
    /// Commands of the client protocol of channels are sent, and the last one is a `subscribe`.
    Subscribe,
    /// The core's client parses the next echo.
    Check,
    /// The run: the bytes of echoes are counted. The server must not send a ping while it owes an echo.
    Run,
}

/// The state of a connection after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Bytes are still expected.
    Waiting,
    /// The handshake or the check is done, or all messages of the run were sent and all echoes have arrived.
    Done,
}

/// The counters of the run.
pub(crate) struct Tally {
    pub(crate) sent: u64,
    pub(crate) echoes: u64,
    pub(crate) latency: hdrhistogram::Histogram<u64>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, handshake: ClientHandshake, request: Vec<u8>) -> Connection {
        Connection {
            stream,
            stage: Stage::Handshake(handshake),
            session: None,
            unsent: request,
            pending: 0,
            awaited: 0,
            budget: 0,
            is_refilled: true,
            flights: VecDeque::new(),
        }
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Whether all echoes have arrived and all bytes were sent.
    pub(crate) fn is_idle(&self) -> bool {
        self.awaited == 0 && self.pending == 0
    }

    /// Sends one message, whose echo the core's client will parse.
    pub(crate) fn begin_check(&mut self, frames: &Frames) -> Result<(), Failure> {
        self.stage = Stage::Check;
        self.unsent.extend_from_slice(frames.out.get(..frames.out_len).unwrap_or_default());
        self.write_unsent()
    }

    /// Starts the run of `budget` messages, with as many in flight as there are frames.
    pub(crate) fn begin_run(
        &mut self,
        frames: &Frames,
        budget: u64,
        now: Instant,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        self.stage = Stage::Run;
        self.budget = budget;
        self.send((frames.out.len() / frames.out_len) as u64, frames, now, tally)
    }

    /// Starts a run in which only [`Connection::send_one`] sends messages.
    pub(crate) fn begin_paced_run(&mut self) {
        self.stage = Stage::Run;
        self.budget = u64::MAX;
        self.is_refilled = false;
    }

    /// Sends one message, whether or not the echo of the previous one has arrived.
    pub(crate) fn send_one(
        &mut self,
        frames: &Frames,
        now: Instant,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        self.send(1, frames, now, tally)
    }

    /// Begins to subscribe to a channel.
    pub(crate) fn begin_subscribe(&mut self, channel: &str, now: Instant) -> Result<(), Failure> {
        self.stage = Stage::Subscribe;
        let session = self.session.get_or_insert_with(checker);
        let mut codec = Codec::new();
        let mut turn = Turn { now, out: &mut self.unsent, is_backlogged: false, codec: &mut codec };
        session.send_text(&mut turn, r#"{"id":1,"connect":{}}"#)?;
        session.send_text(&mut turn, &format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#))?;
        self.write_unsent()
    }

    /// Expects a message that is published, which the core's client will parse.
    pub(crate) fn expect_check(&mut self) {
        self.stage = Stage::Check;
    }

    /// Expects `n` messages that are published at `now`.
    pub(crate) fn expect(&mut self, n: u64, frames: &Frames, now: Instant) {
        self.stage = Stage::Run;
        self.is_refilled = false;
        self.flights.push_back((now, n));
        self.awaited += n * frames.echo_len;
    }

    /// Sends no more messages. The run ends when the echoes of those in flight have arrived.
    pub(crate) fn end_budget(&mut self) {
        self.budget = 0;
    }

    /// Handles an event of its socket. A socket that is only writable is not read.
    #[inline]
    pub(crate) fn handle(
        &mut self,
        is_writable: bool,
        is_readable: bool,
        buffer: &mut [u8],
        frames: &Frames,
        now: Instant,
        tally: &mut Tally,
    ) -> Result<Step, Failure> {
        if is_writable {
            self.write_unsent()?;
            if self.unsent.is_empty() {
                self.write_pending(frames)?;
            }
        }
        if !is_readable {
            return Ok(Step::Waiting);
        }
        loop {
            let n = match self.stream.read(buffer) {
                Ok(0) => return Err("the server closed a connection".into()),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Step::Waiting),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(format!("reading from the server: {error}").into()),
            };
            let is_full = n == buffer.len();
            let step = match &mut self.stage {
                Stage::Run if self.awaited > 0 => self.count(n as u64, frames, now, tally)?,
                Stage::Handshake(_) | Stage::Subscribe | Stage::Check | Stage::Open | Stage::Run => {
                    self.parse(buffer.get_mut(..n).unwrap_or_default(), frames, now)?
                }
            };
            // A short read has drained the socket.
            if step == Step::Done || !is_full {
                return Ok(step);
            }
        }
    }

    /// Counts echoes by their bytes, and sends a message for each complete one.
    #[inline]
    fn count(&mut self, n: u64, frames: &Frames, now: Instant, tally: &mut Tally) -> Result<Step, Failure> {
        let before = self.awaited.div_ceil(frames.echo_len);
        self.awaited =
            self.awaited.checked_sub(n).ok_or("the server sent more bytes than the echoes have")?;
        let whole = before - self.awaited.div_ceil(frames.echo_len);
        tally.echoes += whole;
        let mut left = whole;
        while left > 0
            && let Some((at, flight)) = self.flights.front_mut()
        {
            let here = left.min(*flight);
            tally.latency.saturating_record_n(now.saturating_duration_since(*at).as_nanos() as u64, here);
            left -= here;
            *flight -= here;
            if *flight == 0 {
                self.flights.pop_front();
            }
        }
        if self.is_refilled {
            self.send(whole, frames, now, tally)?;
        }
        Ok(if self.budget == 0 && self.is_idle() { Step::Done } else { Step::Waiting })
    }

    /// Sends `n` messages, or fewer if the budget is smaller.
    #[inline]
    fn send(&mut self, n: u64, frames: &Frames, now: Instant, tally: &mut Tally) -> Result<(), Failure> {
        let n = n.min(self.budget);
        if n == 0 {
            return Ok(());
        }
        self.budget -= n;
        tally.sent += n;
        self.flights.push_back((now, n));
        self.awaited += n * frames.echo_len;
        let was_blocked = self.pending > 0 || !self.unsent.is_empty();
        self.pending += n as usize * frames.out_len;
        if was_blocked { Ok(()) } else { self.write_pending(frames) }
    }

    /// Writes the pending bytes of the frames. Frames are sent whole, so the pending bytes end at the end of a frame.
    #[inline]
    fn write_pending(&mut self, frames: &Frames) -> Result<(), Failure> {
        while self.pending > 0 {
            let start = (frames.out_len - self.pending % frames.out_len) % frames.out_len;
            let end = frames.out.len().min(start + self.pending);
            match self.stream.write(frames.out.get(start..end).unwrap_or_default()) {
                Ok(n) => self.pending -= n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("writing to the server: {error}").into()),
            }
        }
        Ok(())
    }

    pub(crate) fn write_unsent(&mut self) -> Result<(), Failure> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(n) => drop(self.unsent.drain(..n)),
                // Not connected yet: an event follows.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    break;
                }
                Err(error) => return Err(format!("writing to the server: {error}").into()),
            }
        }
        Ok(())
    }

    /// Parses the answer to the handshake or the echo of a check, and answers pings.
    fn parse(&mut self, bytes: &mut [u8], frames: &Frames, now: Instant) -> Result<Step, Failure> {
        let text =
            String::from_utf8_lossy(bytes.get(..bytes.len().min(200)).unwrap_or_default()).into_owned();
        let mut input = Input::new(bytes);
        let mut step = Step::Waiting;
        if let Stage::Handshake(handshake) = &mut self.stage {
            let answer = handshake.receive(&mut input);
            if answer.map_err(|error| format!("{error}: {}", text.trim_end()))?.is_none() {
                return Ok(Step::Waiting);
            }
            self.stage = Stage::Open;
            step = Step::Done;
        }
        if input.is_empty() {
            return Ok(step);
        }
        let session = self.session.get_or_insert_with(checker);
        let (mut out, mut codec) = (Vec::new(), Codec::new());
        let mut turn = Turn { now, out: &mut out, is_backlogged: false, codec: &mut codec };
        while let Some(event) = session.next_event(&mut turn, &mut input)? {
            let echo = match (&self.stage, event) {
                // The session has answered it.
                (_, Event::Ping(_)) => continue,
                (Stage::Subscribe, Event::Text(text)) => {
                    let text = String::from_utf8_lossy(&text.into_payload().into_vec()).into_owned();
                    if text.contains(r#""error""#) {
                        return Err(format!("a command is refused: {text}").into());
                    }
                    if text.contains(r#""subscribe":"#) {
                        self.stage = Stage::Open;
                        step = Step::Done;
                    }
                    continue;
                }
                (Stage::Check, Event::Text(text)) => text.into_payload().into_vec(),
                (Stage::Check, Event::Binary(payload)) => payload.into_vec(),
                (_, event) => return Err(format!("the server sent an unexpected message: {event:?}").into()),
            };
            if !frames.is_expected(&echo) {
                return Err("an echo differs from what was sent".into());
            }
            self.stage = Stage::Open;
            step = Step::Done;
        }
        self.unsent.append(&mut out);
        self.write_unsent()?;
        Ok(step)
    }
}

/// Creates the core's client, without limits.
fn checker() -> Box<Checker> {
    let config = SessionConfig {
        max_message: usize::MAX,
        max_frame: usize::MAX,
        control_rate: 0,
        ..Default::default()
    };
    let keys: fn() -> [u8; 4] = || [0; 4];
    Box::new(Session::client(Arc::new(config), keys))
}

/// Starts to connect, without waiting.
pub(crate) fn connect(to: std::net::SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
