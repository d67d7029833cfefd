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
use super::attacker::{Attacker, Heard};
use super::options::Options;
use super::plan::Plan;
use super::report::{End, Report};

/// Attacks until the standard input ends.
///
/// # Errors
/// The server is gone, or cannot be attacked this way.
pub(crate) fn run(options: &Options) -> Result<Report, Failure> {
    let plan = (options.attack.plan)()?;
    let poll = Poll::new()?;
    // It has to be there when it is heard.
    let waker = Arc::new(Waker::new(poll.registry(), STOP)?);
    let stop = waker.clone();
    thread::Builder::new().name("input".to_owned()).spawn(move || {
        // However it ends, that is the end.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        let _ = stop.wake();
    })?;
    let mut run = Run {
        options,
        plan,
        poll,
        places: (0..options.connections).map(|_| None).collect(),
        free: (0..options.connections).collect(),
        resting: VecDeque::new(),
        dripping: VecDeque::new(),
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
    /// Places whose next attacker may come.
    free: VecDeque<usize>,
    /// Places whose next attacker comes at a time, the earliest first.
    resting: VecDeque<(Instant, usize)>,
    /// Who sends the next byte of its request when, the earliest first.
    dripping: VecDeque<(Instant, usize, u64)>,
    /// Who has something to send, or perhaps to read, each of them once.
    listed: VecDeque<usize>,
    /// Connections whose attack has not begun yet, and those whose has.
    opening: usize,
    attacking: usize,
    /// All that there ever were.
    opened: u64,
    buffer: Box<[u8]>,
    report: Report,
    started: Instant,
    /// Whether the standard input has ended.
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
            // Each once and in turn.
            for _ in 0..self.listed.len() {
                if let Some(place) = self.listed.pop_front() {
                    self.turn(place)?;
                }
            }
            self.see_to_due()?;
        }
        Ok(())
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.listed.is_empty() {
            return Some(Duration::ZERO);
        }
        let due = [self.resting.front().map(|(at, _)| *at), self.dripping.front().map(|(at, _, _)| *at)];
        due.into_iter().flatten().min().map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Opens connections for places that are free, some at a time.
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
            self.listen(place)?;
        }
        // Who does not read has nothing to do when something comes.
        if is_opening || event.is_writable() || self.plan.reads {
            self.list(place);
        }
        Ok(())
    }

    /// Reads all that there is.
    fn listen(&mut self, place: usize) -> Result<(), Failure> {
        while self.receive(place)? {}
        Ok(())
    }

    /// Reads once. Says whether there may be more.
    fn receive(&mut self, place: usize) -> Result<bool, Failure> {
        let Some(attacker) = self.places.get_mut(place).and_then(Option::as_mut) else { return Ok(false) };
        match attacker.receive(&self.plan, &mut self.buffer)? {
            Heard::Nothing => return Ok(false),
            Heard::Bytes(n) => self.report.received_bytes += n as u64,
            Heard::Upgraded => self.begun(),
            Heard::Told(end) => self.told(place, end)?,
            Heard::Eof => {
                self.told(place, End::Dropped)?;
                return Ok(false);
            }
            Heard::Gone => {
                self.gone(place)?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// One write, and one read if it reads.
    fn turn(&mut self, place: usize) -> Result<(), Failure> {
        let Some(attacker) = self.attacker(place) else { return Ok(()) };
        attacker.is_listed = false;
        let (is_opening, has_begun) = (attacker.is_opening(), attacker.began.is_some());
        if is_opening && self.plan.drip.is_some() {
            return if has_begun { Ok(()) } else { self.drip(place) };
        }
        let has_read = self.plan.reads && !is_opening && self.receive(place)?;
        if self.send(place)? > 0 || has_read {
            self.list(place);
        }
        Ok(())
    }

    /// Sends once. Says how much.
    fn send(&mut self, place: usize) -> Result<usize, Failure> {
        let Some(attacker) = self.places.get_mut(place).and_then(Option::as_mut) else { return Ok(0) };
        match attacker.send(&self.plan) {
            Ok(n) => {
                self.report.sent_bytes += n as u64;
                Ok(n)
            }
            // It may have said why before.
            Err(_) => {
                self.listen(place)?;
                self.gone(place)?;
                Ok(0)
            }
        }
    }

    /// Sends the next byte of a request, and sees to the one after it.
    fn drip(&mut self, place: usize) -> Result<(), Failure> {
        let (Some(pause), sent) = (self.plan.drip, self.send(place)?) else { return Ok(()) };
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
            self.dripping.push_back((now + pause, place, id));
        }
        Ok(())
    }

    fn see_to_due(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        while let Some(&(at, place)) = self.resting.front()
            && at <= now
        {
            self.resting.pop_front();
            self.free.push_back(place);
        }
        while let Some(&(at, place, id)) = self.dripping.front()
            && at <= now
        {
            self.dripping.pop_front();
            if self.attacker(place).is_some_and(|attacker| attacker.id == id) {
                self.drip(place)?;
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

    /// The server has ended a connection, and has said why if it ever will. Who has more to send does not mind, and
    /// goes on until there is no connection any more.
    fn told(&mut self, place: usize, end: End) -> Result<(), Failure> {
        let Some(attacker) = self.places.get_mut(place).and_then(Option::as_mut) else { return Ok(()) };
        if attacker.told.is_none() {
            let now = Instant::now();
            attacker.told = Some(now);
            self.report.ended(end, now.saturating_duration_since(attacker.began.unwrap_or(now)))?;
        }
        if !attacker.is_endless(&self.plan) {
            self.leave(place);
        }
        Ok(())
    }

    /// There is no connection any more.
    fn gone(&mut self, place: usize) -> Result<(), Failure> {
        self.told(place, End::Dropped)?;
        self.leave(place);
        Ok(())
    }

    /// Closes a connection. Another one comes in its place, if that is wanted.
    fn leave(&mut self, place: usize) {
        let Some(attacker) = self.places.get_mut(place).and_then(Option::take) else { return };
        match attacker.began {
            Some(_) => self.attacking -= 1,
            None => self.opening -= 1,
        }
        match self.options.again {
            Some(Duration::ZERO) => self.free.push_back(place),
            Some(pause) => self.resting.push_back((Instant::now() + pause, place)),
            None => {}
        }
    }

    fn into_report(mut self) -> Report {
        self.report.lasted = self.started.elapsed();
        for attacker in self.places.iter().flatten() {
            match (attacker.began, attacker.told) {
                (_, Some(told)) => self.report.told.add(told.elapsed()),
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

/// The token of the end of the standard input.
const STOP: Token = Token(usize::MAX);

/// How many upgrades are under way at a time.
const OPENING: usize = 128;
