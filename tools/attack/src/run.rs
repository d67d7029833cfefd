//! The attack, in one event loop.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Interest, Poll, Token, Waker};
use postern_core::client::{ClientHandshake, ClientRequest};

use super::Failure;
use super::attacker::{Attacker, Received};
use super::options::Options;
use super::plan::Plan;
use super::report::{End, Report};

/// Attacks until the end of standard input.
///
/// # Errors
/// The server does not listen, violates the protocol, or lacks what the attack needs, such as compression.
pub(crate) fn run(options: &Options) -> Result<Report, Failure> {
    let plan = (options.attack.plan)()?;
    let poll = Poll::new()?;
    // It must exist until the event is received.
    let waker = Arc::new(Waker::new(poll.registry(), STOP)?);
    let stop = waker.clone();
    thread::Builder::new().name("input".to_owned()).spawn(move || {
        // An error also ends the attack.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        let _ = stop.wake();
    })?;
    let mut run = Run {
        options,
        plan,
        poll,
        places: (0..options.connections).map(|_| None).collect(),
        free: (0..options.connections).collect(),
        waiting: VecDeque::new(),
        slow: VecDeque::new(),
        listed: VecDeque::new(),
        opening: 0,
        attacking: 0,
        opened: 0,
        buffer: vec![0; 512 * 1024].into_boxed_slice(),
        report: Report::new(options.attack.name, options.connections),
        started: Instant::now(),
        is_stopped: false,
    };
    run.turn_until_stopped()?;
    drop(waker);
    Ok(run.into_report())
}

struct Run<'o> {
    options: &'o Options,
    plan: Plan,
    poll: Poll,
    places: Vec<Option<Attacker>>,
    /// Places in which a connection can be opened now.
    free: VecDeque<usize>,
    /// Places in which a connection is opened at a later time, the earliest first.
    waiting: VecDeque<(Instant, usize)>,
    /// The times at which connections send the next byte of their request, the earliest first.
    slow: VecDeque<(Instant, usize, u64)>,
    /// Connections that can send or may be able to read, each once.
    listed: VecDeque<usize>,
    /// Connections whose attack has not begun.
    opening: usize,
    /// Connections whose attack has begun.
    attacking: usize,
    /// All connections so far.
    opened: u64,
    buffer: Box<[u8]>,
    report: Report,
    started: Instant,
    /// Whether standard input has ended.
    is_stopped: bool,
}

impl Run<'_> {
    fn turn_until_stopped(&mut self) -> Result<(), Failure> {
        let mut events = Events::with_capacity(1024);
        while !self.is_stopped {
            self.open()?;
            match self.poll.poll(&mut events, self.timeout()) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                match event.token() {
                    STOP => self.is_stopped = true,
                    Token(place) => self.handle(place, event)?,
                }
            }
            // Each connection has one turn per batch of events.
            for _ in 0..self.listed.len() {
                if let Some(place) = self.listed.pop_front() {
                    self.turn(place)?;
                }
            }
            self.handle_due()?;
        }
        Ok(())
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.listed.is_empty() {
            return Some(Duration::ZERO);
        }
        let due = [self.waiting.front().map(|(at, _)| *at), self.slow.front().map(|(at, _, _)| *at)];
        due.into_iter().flatten().min().map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Opens connections in free places, at most [`OPENING`] at a time.
    fn open(&mut self) -> Result<(), Failure> {
        while self.opening < OPENING
            && let Some(place) = self.free.pop_front()
        {
            let id = self.opened;
            let host = self.options.server.to_string();
            let request = ClientRequest {
                headers: &[("User-ID", "attacker")],
                offers_deflate: self.plan.offers_deflate,
                ..ClientRequest::new(&host, &self.options.path)
            };
            let mut bytes = Vec::new();
            let handshake = ClientHandshake::start(&request, u128::from(id).to_ne_bytes(), &mut bytes)?;
            let attacker = Attacker::connect(self.options.server, id, handshake, bytes);
            let mut attacker = attacker.map_err(|error| format!("connection {id} to {host}: {error}"))?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(attacker.stream(), Token(place), interest)?;
            if let Some(free) = self.places.get_mut(place) {
                *free = Some(attacker);
                self.opened += 1;
                self.opening += 1;
            }
        }
        Ok(())
    }

    fn handle(&mut self, place: usize, event: &Event) -> Result<(), Failure> {
        let Some(attacker) = self.attacker(place) else { return Ok(()) };
        let (is_opening, is_ended) = (attacker.is_opening(), event.is_read_closed() || event.is_error());
        if is_opening || is_ended {
            self.read_all(place)?;
        }
        // An attacker that does not read ignores incoming bytes.
        if is_opening || event.is_writable() || self.plan.reads {
            self.list(place);
        }
        Ok(())
    }

    /// Reads until no bytes are available.
    fn read_all(&mut self, place: usize) -> Result<(), Failure> {
        while self.receive(place)? {}
        Ok(())
    }

    /// Reads once. Returns whether more bytes may be available.
    fn receive(&mut self, place: usize) -> Result<bool, Failure> {
        let Some(attacker) = self.places.get_mut(place).and_then(Option::as_mut) else { return Ok(false) };
        match attacker.receive(&self.plan, &mut self.buffer)? {
            Received::Nothing => return Ok(false),
            Received::Bytes(n) => self.report.received_bytes += n as u64,
            Received::Upgraded => self.begun(),
            Received::End(end) => self.ended(place, end)?,
            Received::Eof => {
                self.ended(place, End::Dropped)?;
                return Ok(false);
            }
            Received::Broken => {
                self.broken(place)?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes once, and reads once if the plan says so.
    fn turn(&mut self, place: usize) -> Result<(), Failure> {
        let Some(attacker) = self.attacker(place) else { return Ok(()) };
        attacker.is_listed = false;
        let (is_opening, has_begun) = (attacker.is_opening(), attacker.began.is_some());
        if is_opening && self.plan.byte_interval.is_some() {
            return if has_begun { Ok(()) } else { self.send_slowly(place) };
        }
        let has_read = self.plan.reads && !is_opening && self.receive(place)?;
        if self.send(place)? > 0 || has_read {
            self.list(place);
        }
        Ok(())
    }

    /// Sends once. Returns the number of bytes.
    fn send(&mut self, place: usize) -> Result<usize, Failure> {
        let Some(attacker) = self.places.get_mut(place).and_then(Option::as_mut) else { return Ok(0) };
        match attacker.send(&self.plan) {
            Ok(n) => {
                self.report.sent_bytes += n as u64;
                Ok(n)
            }
            // The reason may be among the unread bytes.
            Err(_) => {
                self.read_all(place)?;
                self.broken(place)?;
                Ok(0)
            }
        }
    }

    /// Sends the next byte of a request, and schedules the one after it.
    fn send_slowly(&mut self, place: usize) -> Result<(), Failure> {
        let (Some(pause), sent) = (self.plan.byte_interval, self.send(place)?) else { return Ok(()) };
        let now = Instant::now();
        let Some(attacker) = self.attacker(place).filter(|attacker| attacker.is_opening()) else {
            return Ok(());
        };
        let id = attacker.id;
        if attacker.began.is_none() && sent > 0 {
            attacker.began = Some(now);
            self.begun();
        }
        if sent > 0 {
            self.slow.push_back((now + pause, place, id));
        }
        Ok(())
    }

    fn handle_due(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        while let Some(&(at, place)) = self.waiting.front()
            && at <= now
        {
            self.waiting.pop_front();
            self.free.push_back(place);
        }
        while let Some(&(at, place, id)) = self.slow.front()
            && at <= now
        {
            self.slow.pop_front();
            if self.attacker(place).is_some_and(|attacker| attacker.id == id) {
                self.send_slowly(place)?;
            }
        }
        Ok(())
    }

    fn begun(&mut self) {
        self.opening -= 1;
        self.attacking += 1;
        self.report.begun += 1;
        if self.attacking == self.options.connections && self.report.complete_after.is_none() {
            self.report.complete_after = Some(self.started.elapsed());
        }
    }

    /// Counts a connection that the server has refused or closed. An attacker with more to send continues until the
    /// connection breaks.
    fn ended(&mut self, place: usize, end: End) -> Result<(), Failure> {
        let Some(attacker) = self.places.get_mut(place).and_then(Option::as_mut) else { return Ok(()) };
        if attacker.closed.is_none() {
            let now = Instant::now();
            attacker.closed = Some(now);
            self.report.ended(end, now.saturating_duration_since(attacker.began.unwrap_or(now)))?;
        }
        if !attacker.is_endless(&self.plan) {
            self.close(place);
        }
        Ok(())
    }

    /// Handles a broken connection.
    fn broken(&mut self, place: usize) -> Result<(), Failure> {
        self.ended(place, End::Dropped)?;
        self.close(place);
        Ok(())
    }

    /// Closes a connection, and schedules another one in its place if the options say so.
    fn close(&mut self, place: usize) {
        let Some(attacker) = self.places.get_mut(place).and_then(Option::take) else { return };
        match attacker.began {
            Some(_) => self.attacking -= 1,
            None => self.opening -= 1,
        }
        match self.options.reconnect_after {
            Some(Duration::ZERO) => self.free.push_back(place),
            Some(pause) => self.waiting.push_back((Instant::now() + pause, place)),
            None => {}
        }
    }

    fn into_report(mut self) -> Report {
        self.report.lasted = self.started.elapsed();
        for attacker in self.places.iter().flatten() {
            match (attacker.began, attacker.closed) {
                (_, Some(closed)) => self.report.closing.add(closed.elapsed()),
                (Some(began), None) => self.report.open.add(began.elapsed()),
                (None, None) => {}
            }
        }
        self.report
    }

    fn attacker(&mut self, place: usize) -> Option<&mut Attacker> {
        self.places.get_mut(place)?.as_mut()
    }

    fn list(&mut self, place: usize) {
        if let Some(attacker) = self.places.get_mut(place).and_then(Option::as_mut)
            && !attacker.is_listed
        {
            attacker.is_listed = true;
            self.listed.push_back(place);
        }
    }
}

/// The token of the end of standard input.
const STOP: Token = Token(usize::MAX);

/// The largest number of concurrent upgrades.
const OPENING: usize = 128;
