//! One WebSocket of the load.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Instant;

use mio::net::TcpStream;
use postern_core::client::ClientHandshake;
use postern_core::{Client, Codec, Event, Input, Session, SessionConfig, Turn};

use super::Failure;
use super::frames::Frames;

/// A connection before, in or after the run.
pub(crate) struct Connection {
    stream: TcpStream,
    stage: Stage,
    /// Bytes that are still to be written: for the request and the check these, in the run those of the frames.
    unsent: Vec<u8>,
    /// Bytes of the run's frames that are still to be written.
    owed: usize,
    /// Echoes that are still to come, in bytes.
    awaited: u64,
    /// Messages that may still be sent.
    budget: u64,
    /// Whether an echo makes room for the next message.
    is_refilled: bool,
    /// When the messages in flight were sent, in groups.
    flights: VecDeque<(Instant, u64)>,
}

/// The core's client. It sends nothing, so its masking keys are of no account.
type Checker = Session<Client<fn() -> [u8; 4]>>;

enum Stage {
    Handshake(ClientHandshake),
    Open,
    /// One echo is awaited, to be read by the core's client.
    Check(Box<Checker>),
    /// The run: echoes are counted.
    Run,
}

/// What a step of a connection came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// More is to come.
    Waiting,
    /// The handshake or the check is done, or the run's budget is used up and all echoes are here.
    Done,
}

/// What counts during the run.
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
            unsent: request,
            owed: 0,
            awaited: 0,
            budget: 0,
            is_refilled: true,
            flights: VecDeque::new(),
        }
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Echoes that have not come.
    pub(crate) fn is_idle(&self) -> bool {
        self.awaited == 0 && self.owed == 0
    }

    /// Sends one message whose echo is read by the core's client.
    pub(crate) fn begin_check(&mut self, frames: &Frames) -> Result<(), Failure> {
        let config = SessionConfig { max_message: usize::MAX, max_frame: usize::MAX, ..Default::default() };
        let keys: fn() -> [u8; 4] = || [0; 4];
        self.stage = Stage::Check(Box::new(Session::client(Arc::new(config), keys)));
        self.unsent.clear();
        self.unsent.extend_from_slice(frames.out.get(..frames.out_len).unwrap_or_default());
        self.write_unsent()
    }

    /// Starts the run: `budget` messages, as many of them at once as the frames hold.
    pub(crate) fn begin_run(
        &mut self,
        frames: &Frames,
        budget: u64,
        now: Instant,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        self.stage = Stage::Run;
        self.unsent = Vec::new();
        self.budget = budget;
        self.send((frames.out.len() / frames.out_len) as u64, frames, now, tally)
    }

    /// Starts a run in which nothing is sent but by [`Connection::send_one`].
    pub(crate) fn begin_paced_run(&mut self) {
        self.stage = Stage::Run;
        self.unsent = Vec::new();
        self.budget = u64::MAX;
        self.is_refilled = false;
    }

    /// Sends one message, whether or not the echo of the last one has come.
    pub(crate) fn send_one(
        &mut self,
        frames: &Frames,
        now: Instant,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        self.send(1, frames, now, tally)
    }

    /// No more messages: the echoes of those in flight end the run.
    pub(crate) fn end_budget(&mut self) {
        self.budget = 0;
    }

    /// Takes an event of its socket.
    #[inline]
    pub(crate) fn handle(
        &mut self,
        is_writable: bool,
        buffer: &mut [u8],
        frames: &Frames,
        now: Instant,
        tally: &mut Tally,
    ) -> Result<Step, Failure> {
        if is_writable {
            if self.owed > 0 {
                self.write_owed(frames)?;
            } else if !self.unsent.is_empty() {
                self.write_unsent()?;
            }
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
                Stage::Run => self.count(n as u64, frames, now, tally)?,
                Stage::Handshake(_) | Stage::Check(_) | Stage::Open => {
                    self.look_at(buffer.get_mut(..n).unwrap_or_default(), frames)?
                }
            };
            // A short read has drained the socket.
            if step == Step::Done || !is_full {
                return Ok(step);
            }
        }
    }

    /// Counts echoes by their bytes, and sends as many messages as have come back whole.
    #[inline]
    fn count(&mut self, n: u64, frames: &Frames, now: Instant, tally: &mut Tally) -> Result<Step, Failure> {
        let before = self.awaited.div_ceil(frames.echo_len);
        self.awaited = self.awaited.checked_sub(n).ok_or("more came back than was sent")?;
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

    /// Sends `n` messages, if the budget has so many.
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
        let was_blocked = self.owed > 0;
        self.owed += n as usize * frames.out_len;
        if was_blocked { Ok(()) } else { self.write_owed(frames) }
    }

    /// Writes of the frames what is still to be written. They repeat, so what is owed ends at a frame's end.
    #[inline]
    fn write_owed(&mut self, frames: &Frames) -> Result<(), Failure> {
        while self.owed > 0 {
            let start = (frames.out_len - self.owed % frames.out_len) % frames.out_len;
            let end = frames.out.len().min(start + self.owed);
            match self.stream.write(frames.out.get(start..end).unwrap_or_default()) {
                Ok(n) => self.owed -= n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("writing to the server: {error}").into()),
            }
        }
        Ok(())
    }

    fn write_unsent(&mut self) -> Result<(), Failure> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(n) => drop(self.unsent.drain(..n)),
                // Not connected yet: an event tells when it is.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    break;
                }
                Err(error) => return Err(format!("writing to the server: {error}").into()),
            }
        }
        Ok(())
    }

    /// The handshake's answer, or the echo that is checked.
    fn look_at(&mut self, bytes: &mut [u8], frames: &Frames) -> Result<Step, Failure> {
        let text =
            String::from_utf8_lossy(bytes.get(..bytes.len().min(200)).unwrap_or_default()).into_owned();
        let mut input = Input::new(bytes);
        match &mut self.stage {
            Stage::Handshake(handshake) => {
                let answer = handshake.receive(&mut input);
                if answer.map_err(|error| format!("{error}: {}", text.trim_end()))?.is_none() {
                    return Ok(Step::Waiting);
                }
                self.stage = Stage::Open;
            }
            Stage::Check(session) => {
                let (mut out, mut codec) = (Vec::new(), Codec::new());
                let mut turn =
                    Turn { now: Instant::now(), out: &mut out, is_backlogged: false, codec: &mut codec };
                let echo = match session.next_event(&mut turn, &mut input)? {
                    None => return Ok(Step::Waiting),
                    Some(Event::Text(text)) => text.into_payload().into_vec(),
                    Some(Event::Binary(payload)) => payload.into_vec(),
                    Some(event @ (Event::Ping(_) | Event::Pong(_) | Event::Close { .. })) => {
                        return Err(format!("not an echo: {event:?}").into());
                    }
                };
                if echo != frames.payload {
                    return Err("an echo differs from what was sent".into());
                }
                self.stage = Stage::Open;
            }
            Stage::Open | Stage::Run => {
                return Err(format!("the server sent what nobody had asked for: {text:?}").into());
            }
        }
        if input.is_empty() { Ok(Step::Done) } else { Err("more came than one answer".into()) }
    }
}

/// Opens a socket without waiting for it.
pub(crate) fn connect(to: std::net::SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
