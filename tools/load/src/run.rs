//! The phases of a run, one after the other, in one event loop.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};
use postern_core::client::{ClientHandshake, ClientRequest};
use serde_json::json;

use super::Failure;
use super::connection::{Connection, Step, Tally, connect};
use super::cpu::Cpu;
use super::frames::{Frames, channel};
use super::options::{Options, Until};
use super::process::Memory;
use super::publisher::Publisher;
use super::quota::Quota;
use super::report::Report;

/// The largest number of concurrent upgrades or checks.
const OPENING: usize = 128;

/// The run fails if the server sends no bytes for this time.
const SILENCE: Duration = Duration::from_secs(60);

/// The token of the first connection to the server API. The tokens of further connections follow.
const PUBLISHER: usize = usize::MAX / 2;

/// Runs the load.
///
/// # Errors
/// The server refused or closed a connection, sent a wrong echo, or sent no bytes for a minute.
pub(crate) fn run(options: &Options) -> Result<Report, Failure> {
    let frames = Frames::new(options)?;
    let memory = || options.server_pid.map(Memory::of).transpose().map(Option::unwrap_or_default);
    let cpu = || options.server_pid.map(Cpu::of).transpose().map(Option::unwrap_or_default);
    let _quota = options
        .server_quota
        .and_then(|percent| options.server_pid.map(|pid| Quota::new(pid, percent)))
        .transpose()?;
    let mut report = Report::new(options);
    let before = memory()?;
    let mut load = Load::new(frames)?;
    if let Some(api) = options.publish {
        for _ in 0..options.publishers.unwrap_or(1) {
            load.add_publisher(api, options)?;
        }
    }

    let own = || Cpu::of(std::process::id());
    let (started, server_before, own_before) = (Instant::now(), cpu()?, own()?);
    load.open(options)?;
    report.opened(options.connections, started.elapsed());
    if options.server_pid.is_some() {
        report.cpu("server", "upgrade", options.connections as u64, server_before, cpu()?);
    }
    report.cpu("client", "upgrade", options.connections as u64, own_before, own()?);
    if options.channels > 0 {
        load.subscribe(options.channels)?;
    }
    if options.publish.is_none() {
        report.put("check_seconds", json!(load.check()?.as_secs_f64()));
    }
    if let Some(idle) = options.idle {
        let before = cpu()?;
        load.idle(idle)?;
        let (total, _) = cpu()?.since(before);
        report.put("idle_seconds", json!(idle.as_secs_f64()));
        report.put("idle_server_cpu_percent", json!(total as f64 / 1e7 / idle.as_secs_f64()));
        report.put("check_after_idle_seconds", json!(load.check()?.as_secs_f64()));
    }
    if options.server_pid.is_some() {
        report.memory(options.connections, before, memory()?);
    }

    if options.publish.is_some() {
        let tick = || Ok((cpu()?, Cpu::of(std::process::id())?));
        match options.publishers {
            Some(_) => load.publish_requests(options, tick, &mut report)?,
            None => load.publish_all(options, tick, &mut report)?,
        }
        return Ok(report);
    }
    let budget = match options.until {
        Until::Time(Duration::ZERO) => return Ok(report),
        Until::Time(_) => u64::MAX,
        Until::Count(count) => count,
    };
    match options.rate {
        Some(rate) => load.begin_paced(rate),
        None => load.begin(budget)?,
    }
    if let Until::Time(_) = options.until {
        load.turn_until(Instant::now() + options.warm_up)?;
    }
    load.tally.latency.reset();
    let (echoes, started) = (load.tally.echoes, Instant::now());
    let (server_before, own_before) = (cpu()?, own()?);
    match options.until {
        Until::Time(time) => load.turn_until(started + time)?,
        Until::Count(_) => load.turn_until_done()?,
    }
    let (server_after, own_after) = (cpu()?, own()?);
    let echoes = load.tally.echoes - echoes;
    report.measured(echoes, started.elapsed(), &load.tally.latency);
    if options.server_pid.is_some() {
        report.cpu("server", "echo", echoes, server_before, server_after);
        report.put("server_resident_after_bytes", json!(memory()?.resident));
    }
    report.cpu("client", "echo", echoes, own_before, own_after);

    load.connections.iter_mut().for_each(Connection::end_budget);
    load.turn_until_done()?;
    report.messages(load.tally.sent, load.tally.echoes);
    load.check()?;
    Ok(report)
}

struct Load {
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    publishers: Vec<Publisher>,
    /// The number of answers of the server API that have not arrived.
    answers: usize,
    /// The publishers whose answers have arrived in this turn.
    answered: Vec<usize>,
    buffer: Box<[u8]>,
    frames: Frames,
    tally: Tally,
    pace: Option<Pace>,
}

/// The time and the connection of the next message.
struct Pace {
    interval: Duration,
    next: Instant,
    connection: usize,
}

impl Load {
    fn new(frames: Frames) -> Result<Load, Failure> {
        // Up to a minute, with three significant digits.
        let latency = Histogram::new_with_max(60_000_000_000, 3)?;
        Ok(Load {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            connections: Vec::new(),
            publishers: Vec::new(),
            answers: 0,
            answered: Vec::new(),
            buffer: vec![0; 512 * 1024].into_boxed_slice(),
            frames,
            tally: Tally { sent: 0, echoes: 0, latency },
            pace: None,
        })
    }

    /// Opens all connections, at most [`OPENING`] at a time.
    fn open(&mut self, options: &Options) -> Result<(), Failure> {
        let host = options.server.to_string();
        let headers: Vec<_> =
            options.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let request = ClientRequest { headers: &headers, ..ClientRequest::new(&host, &options.path) };
        let mut opened = 0;
        while opened < options.connections {
            while self.connections.len() < options.connections.min(opened + OPENING) {
                let number = self.connections.len();
                let mut nonce = [0; 16];
                nonce[..8].copy_from_slice(&(number as u64).to_ne_bytes());
                let mut bytes = Vec::new();
                let handshake = ClientHandshake::start(&request, nonce, &mut bytes)?;
                let stream = connect(options.server)
                    .map_err(|error| format!("connection {number} to {host}: {error}"))?;
                let mut connection = Connection::new(stream, handshake, bytes);
                // A connection on the same host is open already, and needs no event for its request.
                connection.write_unsent()?;
                let interest = Interest::READABLE | Interest::WRITABLE;
                self.poll.registry().register(connection.stream(), Token(number), interest)?;
                self.connections.push(connection);
            }
            opened += self.turn(None)?;
        }
        Ok(())
    }

    /// Sends one message on each connection, at most [`OPENING`] at a time, and checks every byte of the echoes.
    /// Returns the duration.
    fn check(&mut self) -> Result<Duration, Failure> {
        let started = Instant::now();
        let (mut begun, mut done) = (0, 0);
        while done < self.connections.len() {
            while begun < self.connections.len().min(done + OPENING) {
                if let Some(connection) = self.connections.get_mut(begun) {
                    connection.begin_check(&self.frames)?;
                }
                begun += 1;
            }
            done += self.turn(None)?;
        }
        Ok(started.elapsed())
    }

    /// Waits, and answers pings. A message from the server is an error.
    fn idle(&mut self, time: Duration) -> Result<(), Failure> {
        self.turn_until(Instant::now() + time)
    }

    fn add_publisher(&mut self, api: SocketAddr, options: &Options) -> Result<(), Failure> {
        let mut publisher = Publisher::new(api, options, std::str::from_utf8(&self.frames.payload)?)?;
        let (token, interest) =
            (Token(PUBLISHER + self.publishers.len()), Interest::READABLE | Interest::WRITABLE);
        self.poll.registry().register(publisher.stream(), token, interest)?;
        self.publishers.push(publisher);
        Ok(())
    }

    /// Subscribes each connection to one of this number of channels, at most [`OPENING`] at a time.
    fn subscribe(&mut self, channels: usize) -> Result<(), Failure> {
        let (mut begun, mut done) = (0, 0);
        while done < self.connections.len() {
            while begun < self.connections.len().min(done + OPENING) {
                if let Some(connection) = self.connections.get_mut(begun) {
                    connection.begin_subscribe(&channel(begun % channels), Instant::now())?;
                }
                begun += 1;
            }
            done += self.turn(None)?;
        }
        Ok(())
    }

    /// Publishes messages, and the next ones after all connections have received them and the API has answered. `cpu` returns the
    /// processor time of the server and of this process.
    fn publish_all(
        &mut self,
        options: &Options,
        cpu: impl Fn() -> Result<(Cpu, Cpu), Failure>,
        report: &mut Report,
    ) -> Result<(), Failure> {
        self.connections.iter_mut().for_each(Connection::expect_check);
        self.answers += 1;
        self.publishers.first_mut().map_or(Ok(()), Publisher::publish_to_all)?;
        self.turn_until_received(self.connections.len())?;
        let (count, time) = match options.until {
            Until::Time(time) => (u64::MAX, time),
            Until::Count(count) => (count, Duration::MAX),
        };
        if let Until::Time(_) = options.until {
            self.publish_for(options, u64::MAX, options.warm_up)?;
        }
        self.tally.latency.reset();
        let (started, (server, own)) = (Instant::now(), cpu()?);
        let (publications, deliveries) = self.publish_for(options, count, time)?;
        let (server_after, own_after) = cpu()?;
        report.published(publications, deliveries, started.elapsed(), &self.tally.latency);
        if options.server_pid.is_some() {
            report.total_cpu("server", server, server_after);
        }
        report.total_cpu("client", own, own_after);
        Ok(())
    }

    /// Publishes up to `count` messages, as many at a time as [`Options::pipeline`], for at most `time`. Returns the numbers of
    /// messages and of deliveries.
    fn publish_for(&mut self, options: &Options, count: u64, time: Duration) -> Result<(u64, u64), Failure> {
        let (step, mut target) = (options.channels.max(1), 0);
        let (started, mut published, mut delivered) = (Instant::now(), 0, 0);
        while published < count && started.elapsed() < time {
            let n = count.saturating_sub(published).min(options.pipeline as u64);
            let (now, mut subscribers) = (Instant::now(), 0);
            for connection in self.connections.iter_mut().skip(target).step_by(step) {
                connection.expect(n, &self.frames, now);
                subscribers += 1;
            }
            self.publish(0, target, n as usize)?;
            self.turn_until_received(subscribers)?;
            published += n;
            delivered += n * subscribers as u64;
            target = (target + 1) % step;
        }
        Ok((published, delivered))
    }

    /// Publishes on all connections to the API, on each the next messages when its request is answered.
    fn publish_requests(
        &mut self,
        options: &Options,
        cpu: impl Fn() -> Result<(Cpu, Cpu), Failure>,
        report: &mut Report,
    ) -> Result<(), Failure> {
        let mut begun = vec![Instant::now(); self.publishers.len()];
        let mut target = 0;
        self.answered = (0..self.publishers.len()).collect();
        let time = match options.until {
            Until::Time(time) => time,
            Until::Count(_) => return Err("--publishers needs --seconds".into()),
        };
        let (mut started, mut before) = (Instant::now(), cpu()?);
        let (mut is_warm, mut requests) = (false, 0);
        loop {
            let now = Instant::now();
            if !is_warm && now.duration_since(started) >= options.warm_up {
                self.tally.latency.reset();
                (is_warm, requests, started, before) = (true, 0, now, cpu()?);
            }
            if is_warm && now.duration_since(started) >= time {
                break;
            }
            for publisher in std::mem::take(&mut self.answered) {
                self.publish(publisher, target, options.pipeline)?;
                if let Some(begun) = begun.get_mut(publisher) {
                    *begun = now;
                }
                target = (target + 1) % options.channels.max(1);
            }
            self.turn(None)?;
            let now = Instant::now();
            for begun in self.answered.iter().filter_map(|publisher| begun.get(*publisher)) {
                let took = now.saturating_duration_since(*begun).as_nanos() as u64;
                self.tally.latency.saturating_record(took);
                requests += 1;
            }
        }
        let (took, after) = (started.elapsed(), cpu()?);
        report.published(requests * options.pipeline as u64, 0, took, &self.tally.latency);
        report.put("requests_per_second", json!((requests as f64 / took.as_secs_f64()) as u64));
        if options.server_pid.is_some() {
            report.cpu("server", "request", requests, before.0, after.0);
        }
        report.cpu("client", "request", requests, before.1, after.1);
        Ok(())
    }

    fn publish(&mut self, publisher: usize, target: usize, n: usize) -> Result<(), Failure> {
        self.answers += 1;
        self.publishers.get_mut(publisher).map_or(Ok(()), |publisher| publisher.publish(target, n))
    }

    /// Waits until this number of connections have received the published messages, and the server API has answered all requests.
    fn turn_until_received(&mut self, mut busy: usize) -> Result<(), Failure> {
        while busy > 0 || self.answers > 0 {
            busy -= self.turn(None)?;
        }
        Ok(())
    }

    fn begin(&mut self, budget: u64) -> Result<(), Failure> {
        let now = Instant::now();
        for connection in &mut self.connections {
            connection.begin_run(&self.frames, budget, now, &mut self.tally)?;
        }
        Ok(())
    }

    /// Starts a run with messages at regular times, on each connection in turn.
    fn begin_paced(&mut self, rate: u64) {
        self.connections.iter_mut().for_each(Connection::begin_paced_run);
        let interval = Duration::from_secs(1) / u32::try_from(rate).unwrap_or(u32::MAX);
        self.pace = Some(Pace { interval, next: Instant::now(), connection: 0 });
    }

    fn turn_until(&mut self, end: Instant) -> Result<(), Failure> {
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            let until = self.send_due(now)?.map_or(end, |next| next.min(end));
            self.turn(Some(until.saturating_duration_since(now)))?;
        }
    }

    /// Sends all messages that are due, and returns the time of the next one. Timeouts have a resolution of a
    /// millisecond, so messages may be sent that much later. Latency is measured from the time at which a message is
    /// sent. No message waits for an echo, so a server that stalls delays the echoes of all messages that are sent in
    /// the meantime.
    fn send_due(&mut self, now: Instant) -> Result<Option<Instant>, Failure> {
        let Some(pace) = &mut self.pace else { return Ok(None) };
        while pace.next <= now {
            if let Some(connection) = self.connections.get_mut(pace.connection) {
                connection.send_one(&self.frames, now, &mut self.tally)?;
            }
            pace.connection = (pace.connection + 1) % self.connections.len();
            pace.next += pace.interval;
        }
        Ok(Some(pace.next))
    }

    fn turn_until_done(&mut self) -> Result<(), Failure> {
        let mut busy = self.connections.iter().filter(|connection| !connection.is_idle()).count();
        while busy > 0 {
            busy -= self.turn(None)?;
        }
        Ok(())
    }

    /// Handles one batch of events. Returns the number of connections whose step is done.
    #[inline]
    fn turn(&mut self, timeout: Option<Duration>) -> Result<usize, Failure> {
        match self.poll.poll(&mut self.events, Some(timeout.unwrap_or(SILENCE))) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(0),
            Err(error) => return Err(error.into()),
        }
        if self.events.is_empty() && timeout.is_none() {
            return Err(format!("the server sent nothing for {} s", SILENCE.as_secs()).into());
        }
        let now = Instant::now();
        let mut done = 0;
        self.answered.clear();
        for event in &self.events {
            let Some(connection) = self.connections.get_mut(event.token().0) else {
                let number = event.token().0 - PUBLISHER;
                if let Some(publisher) = self.publishers.get_mut(number) {
                    let answers = publisher.handle(&mut self.buffer)?;
                    self.answers -= answers;
                    self.answered.extend((answers > 0).then_some(number));
                }
                continue;
            };
            let step = connection.handle(
                event.is_writable(),
                event.is_readable() || event.is_read_closed() || event.is_error(),
                &mut self.buffer,
                &self.frames,
                now,
                &mut self.tally,
            )?;
            done += usize::from(step == Step::Done);
        }
        Ok(done)
    }
}
