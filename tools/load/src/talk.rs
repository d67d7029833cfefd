//! Clients of channels that all talk in one room, each with a check of everything that it receives.
//!
//! Every client subscribes to the room and publishes numbered messages, the next one when the reply to the one before has arrived, or
//! with `--rate` at regular times. Every client checks that
//!
//! * offsets grow by one, so nothing is lost or doubled, if the room has a history;
//! * the messages of each publisher arrive in their order;
//! * its own message precedes the reply.
//!
//! It prints one line of JSON, and fails at the first broken promise.

mod cpu;

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Arg, Command, value_parser};
use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use postern_core::Input;
use postern_core::client::{ClientHandshake, ClientRequest};
use serde_json::json;

use self::cpu::Cpu;

/// An error message.
type Failure = Box<dyn std::error::Error>;

/// The parsed command line.
struct Options {
    server: SocketAddr,
    path: String,
    channel: String,
    clients: usize,
    /// The publications of each client, without a limit if there is a time.
    count: u64,
    /// The duration.
    time: Option<Duration>,
    /// The publications of all clients together for each second, at regular times.
    rate: Option<u64>,
    server_pid: Option<u32>,
    /// The publications of a client without a reply.
    pipeline: u64,
}

/// The times of messages.
struct Times {
    started: Instant,
    /// The time of the current batch of events.
    now: Instant,
    latency: Histogram<u64>,
}

/// A client.
struct Talker {
    stream: TcpStream,
    handshake: Option<ClientHandshake>,
    unsent: VecDeque<u8>,
    received: Vec<u8>,
    /// Whether it is subscribed.
    is_ready: bool,
    /// Whether publications have offsets.
    has_history: bool,
    /// The offset of the last publication.
    offset: u64,
    /// The number of publications that it has received.
    deliveries: u64,
    /// The number of the last message of each publisher.
    last: Vec<u64>,
    /// The messages that it has published, and those with a reply.
    published: u64,
    answered: u64,
}

fn main() -> ExitCode {
    match run(&options()) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("talk: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Options {
    let number = |name: &'static str, default: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("N")
            .default_value(default)
            .value_parser(value_parser!(u64).range(1..))
            .help(help)
    };
    let text = |name: &'static str, default: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("TEXT").default_value(default).help(help)
    };
    let optional = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("N").value_parser(value_parser!(u64).range(1..)).help(help)
    };
    let mut command = Command::new("talk")
        .about("Clients of channels that all talk in one room, and check order, losses and doubles.")
        .arg(Arg::new("SERVER").required(true).help("Address and port, such as 127.0.0.1:8080"))
        .arg(text("path", "/connection/websocket", "Path of the upgrade request"))
        .arg(text("channel", "room", "The channel, which must allow all clients to subscribe and to publish"))
        .arg(number("clients", "200", "Number of clients"))
        .arg(number("count", "100", "Publications of each client"))
        .arg(number("pipeline", "1", "Publications of each client without a reply"))
        .arg(optional("seconds", "Publish for this time, instead of --count publications"))
        .arg(
            optional(
                "rate",
                "Publications of all clients together for each second, at regular times; needs --seconds",
            )
            .requires("seconds"),
        )
        .arg(optional("server-pid", "Process id of the server: also measure its processor time"));
    let matches = command.get_matches_mut();
    let optional = |name: &str| matches.get_one::<u64>(name).copied();
    let number = |name: &str| optional(name).unwrap_or(1);
    let time = optional("seconds").map(Duration::from_secs);
    let text = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
    let server = text("SERVER").to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    let Some(server) = server else {
        let reason = "write the server as HOST:PORT";
        command.error(clap::error::ErrorKind::ValueValidation, reason).exit()
    };
    Options {
        server,
        path: text("path"),
        channel: text("channel"),
        clients: number("clients") as usize,
        count: if time.is_some() { u64::MAX } else { number("count") },
        time,
        rate: optional("rate"),
        server_pid: optional("server-pid").map(|pid| pid as u32),
        pipeline: number("pipeline"),
    }
}

fn run(options: &Options) -> Result<serde_json::Value, Failure> {
    let mut poll = Poll::new()?;
    let mut talkers = Vec::new();
    for number in 0..options.clients {
        let mut talker = Talker::connect(number, options)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut talker.stream, Token(number), interest)?;
        talkers.push(talker);
    }
    let cpu = || options.server_pid.map(Cpu::of).transpose();
    let (mut events, mut buffer) = (Events::with_capacity(1024), vec![0; 256 * 1024]);
    let start = Instant::now();
    let latency = Histogram::new_with_max(60_000_000_000, 3)?;
    let mut times = Times { started: start, now: start, latency };
    let (mut is_talking, mut ended, mut before) = (false, None, cpu()?);
    // The number of messages with `rate`.
    let mut paced = 0;
    loop {
        let due = options.rate.filter(|_| is_talking && ended.is_none());
        let wait = match due {
            Some(rate) => (times.started + Duration::from_secs_f64(paced as f64 / rate as f64))
                .saturating_duration_since(Instant::now()),
            None => SILENCE,
        };
        poll.poll(&mut events, Some(wait))?;
        if events.is_empty() && due.is_none() {
            return Err("the server sends nothing for 30 seconds".into());
        }
        times.now = Instant::now();
        for event in &events {
            let Token(number) = event.token();
            let Some(talker) = talkers.get_mut(number) else { continue };
            if event.is_readable() {
                talker.read(number, &mut buffer, options, &mut times)?;
            }
            if is_talking && ended.is_none() && options.rate.is_none() {
                talker.talk(number, options, &times);
            }
            talker.write()?;
        }
        if !is_talking && talkers.iter().all(|talker| talker.is_ready) {
            (is_talking, before) = (true, cpu()?);
            (times.started, times.now) = (Instant::now(), Instant::now());
            for (number, talker) in talkers.iter_mut().enumerate().filter(|_| options.rate.is_none()) {
                talker.talk(number, options, &times);
                talker.write()?;
            }
        }
        let elapsed = times.started.elapsed();
        if let Some(rate) = due {
            while paced as f64 <= elapsed.as_secs_f64() * rate as f64 {
                let number = paced as usize % options.clients;
                if let Some(talker) = talkers.get_mut(number) {
                    talker.publish(number, options, &times);
                    talker.write()?;
                }
                paced += 1;
            }
        }
        let is_over = match options.time {
            Some(time) => elapsed >= time,
            None => talkers.iter().all(|talker| talker.published == options.count),
        };
        if is_talking && is_over {
            ended.get_or_insert(elapsed);
            let published: u64 = talkers.iter().map(|talker| talker.published).sum();
            if talkers
                .iter()
                .all(|talker| talker.deliveries == published && talker.answered == talker.published)
            {
                return report(options, &talkers, &times, (before, cpu()?));
            }
        }
    }
}

/// Describes a run after the last delivery.
fn report(
    options: &Options,
    talkers: &[Talker],
    times: &Times,
    cpu: (Option<Cpu>, Option<Cpu>),
) -> Result<serde_json::Value, Failure> {
    let seconds = times.started.elapsed().as_secs_f64();
    let publications: u64 = talkers.iter().map(|talker| talker.published).sum();
    let deliveries: u64 = talkers.iter().map(|talker| talker.deliveries).sum();
    let micros = |quantile| times.latency.value_at_quantile(quantile) / 1000;
    let mut report = json!({
        "clients": options.clients,
        "publications": publications,
        "deliveries": deliveries,
        "seconds": (seconds * 1000.0).round() / 1000.0,
        "deliveries_per_second": (deliveries as f64 / seconds) as u64,
        "latency_us": { "p50": micros(0.5), "p99": micros(0.99), "max": times.latency.max() / 1000 },
    });
    if let (Some(before), Some(after)) = cpu {
        let (total, user) = after.since(before);
        report["server_cpu_ns"] = total.into();
        report["server_user_ns"] = user.into();
    }
    Ok(report)
}

impl Talker {
    fn connect(number: usize, options: &Options) -> Result<Talker, Failure> {
        let stream = std::net::TcpStream::connect(options.server)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let user = number.to_string();
        let headers = [("User-ID", user.as_str())];
        let host = options.server.to_string();
        let request = ClientRequest { headers: &headers, ..ClientRequest::new(&host, &options.path) };
        let mut head = Vec::new();
        let handshake = ClientHandshake::start(&request, [number as u8; 16], &mut head)?;
        Ok(Talker {
            stream: TcpStream::from_std(stream),
            handshake: Some(handshake),
            unsent: head.into(),
            received: Vec::new(),
            is_ready: false,
            has_history: false,
            offset: 0,
            deliveries: 0,
            last: vec![0; options.clients],
            published: 0,
            answered: 0,
        })
    }

    /// Publishes as many messages as it may.
    fn talk(&mut self, number: usize, options: &Options, times: &Times) {
        while self.published < options.count && self.published - self.answered < options.pipeline {
            self.publish(number, options, times);
        }
    }

    /// Publishes the next message, with the time in nanoseconds.
    fn publish(&mut self, number: usize, options: &Options, times: &Times) {
        self.published += 1;
        let channel = &options.channel;
        let (id, sequence) = (self.published + FIRST, self.published);
        let time = times.now.saturating_duration_since(times.started).as_nanos();
        self.send_text(&format!(
            r#"{{"id":{id},"publish":{{"channel":"{channel}","data":{{"p":{number},"s":{sequence},"t":{time}}}}}}}"#
        ));
    }

    /// Sends a text.
    fn send_text(&mut self, text: &str) {
        self.send(TEXT, text.as_bytes());
    }

    /// Sends a frame with a payload of less than 64 KiB, masked with zeros.
    fn send(&mut self, opcode: u8, payload: &[u8]) {
        let length = payload.len();
        self.unsent.push_back(0x80 | opcode);
        if length < 126 {
            self.unsent.push_back(0x80 | length as u8);
        } else {
            self.unsent.push_back(0x80 | 126);
            self.unsent.extend((length as u16).to_be_bytes());
        }
        self.unsent.extend([0; 4]);
        self.unsent.extend(payload);
    }

    fn write(&mut self) -> Result<(), Failure> {
        while !self.unsent.is_empty() {
            match self.stream.write(self.unsent.make_contiguous()) {
                Ok(n) => drop(self.unsent.drain(..n)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn read(
        &mut self,
        number: usize,
        buffer: &mut [u8],
        options: &Options,
        times: &mut Times,
    ) -> Result<(), Failure> {
        loop {
            let n = match self.stream.read(buffer) {
                Ok(0) => return Err(format!("the server closes the connection of client {number}").into()),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            self.received.extend_from_slice(buffer.get(..n).unwrap_or_default());
            self.handle_received(number, options, times)?;
        }
    }

    fn handle_received(
        &mut self,
        number: usize,
        options: &Options,
        times: &mut Times,
    ) -> Result<(), Failure> {
        let mut received = std::mem::take(&mut self.received);
        let mut at = 0;
        if let Some(handshake) = &mut self.handshake {
            let mut input = Input::new(&mut received);
            if handshake.receive(&mut input)?.is_none() {
                at = received.len();
            } else {
                at = received.windows(4).position(|end| end == b"\r\n\r\n").map_or(0, |end| end + 4);
                self.handshake = None;
                let channel = &options.channel;
                self.send_text(r#"{"id":1,"connect":{}}"#);
                self.send_text(&format!(
                    r#"{{"id":2,"subscribe":{{"channel":"{channel}","recoverable":true}}}}"#
                ));
            }
        }
        while let Some((opcode, start, end)) = received.get(at..).and_then(frame) {
            let payload = received.get(at + start..at + end).unwrap_or_default();
            match opcode {
                TEXT => {
                    for reply in payload.split(|byte| *byte == b'\n') {
                        self.handle(number, reply, options, times)?;
                    }
                }
                PING => self.send(PONG, payload),
                _ => {
                    let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default());
                    return Err(format!("client {number}: a frame with opcode {opcode}: {reason}").into());
                }
            }
            at += end;
        }
        received.drain(..at);
        self.received = received;
        Ok(())
    }

    fn handle(
        &mut self,
        number: usize,
        reply: &[u8],
        options: &Options,
        times: &mut Times,
    ) -> Result<(), Failure> {
        let fault = |what: &str| -> Failure {
            format!("client {number}: {what}: {}", String::from_utf8_lossy(reply)).into()
        };
        if reply == b"{}" {
            self.send_text("{}");
        } else if let Some(push) = reply.strip_prefix(PUSH) {
            // Read from the start to the end: a search would take most of the time of this program.
            let message = || {
                let rest = push.get(options.channel.len()..)?.strip_prefix(br#"","pub":{"data":{"p":"#)?;
                let (publisher, rest) = number_at_start(rest)?;
                let (sequence, rest) = number_at_start(rest.strip_prefix(br#","s":"#)?)?;
                let (time, rest) = number_at_start(rest.strip_prefix(br#","t":"#)?)?;
                Some((publisher, sequence, time, rest))
            };
            let (publisher, sequence, time, rest) = message().ok_or_else(|| fault("not a message"))?;
            if self.has_history {
                let offset = number_at_end(rest).ok_or_else(|| fault("no offset"))?;
                if offset != self.offset + 1 {
                    return Err(fault(&format!("the offset does not follow {}", self.offset)));
                }
                self.offset = offset;
            }
            self.deliveries += 1;
            let last = self.last.get_mut(publisher as usize).ok_or_else(|| fault("an unknown publisher"))?;
            if sequence != *last + 1 {
                return Err(fault(&format!("the message does not follow message {last} of its publisher")));
            }
            *last = sequence;
            let now = times.now.saturating_duration_since(times.started).as_nanos() as u64;
            times.latency.saturating_record(now.saturating_sub(time));
        } else if let Some(id) = after(reply, br#"{"id":"#).and_then(digits) {
            if after(reply, br#""error":"#).is_some() {
                return Err(fault("a command is refused"));
            }
            if id == FIRST {
                self.is_ready = true;
                self.has_history = after(reply, br#""recoverable":true"#).is_some();
            }
            if let Some(sequence) = id.checked_sub(FIRST).filter(|sequence| *sequence > 0) {
                self.answered = sequence;
                if self.last.get(number).is_none_or(|last| *last < sequence) {
                    return Err(fault("the reply precedes the message"));
                }
            }
        } else {
            return Err(fault("an unknown reply"));
        }
        Ok(())
    }
}

/// Returns the opcode of the first frame, and the start and the end of its payload, if it has arrived whole.
fn frame(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let opcode = bytes.first()? & 0x0f;
    let length = usize::from(*bytes.get(1)? & 0x7f);
    let (start, length) = match length {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        length => (2, length),
    };
    (bytes.len() >= start + length).then_some((opcode, start, start + length))
}

/// Returns the bytes after the first occurrence of a text.
fn after<'b>(bytes: &'b [u8], text: &[u8]) -> Option<&'b [u8]> {
    let at = bytes.windows(text.len()).position(|part| part == text)?;
    bytes.get(at + text.len()..)
}

/// Returns the number at the start, and the bytes after it.
fn number_at_start(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (mut number, mut rest) = (0_u64, bytes);
    while let Some((digit @ b'0'..=b'9', after)) = rest.split_first() {
        number = number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
        rest = after;
    }
    (rest.len() < bytes.len()).then_some((number, rest))
}

/// Returns the offset at the end of a push, if it has any.
fn number_at_end(push: &[u8]) -> Option<u64> {
    let push = push.strip_suffix(b"}}}")?;
    // The first publication of a stream has the epoch after it.
    let push = match push.strip_suffix(b"\"") {
        Some(push) => {
            let start = push.iter().rposition(|&byte| byte == b'"')?;
            push.get(..start)?.strip_suffix(br#","epoch":"#)?
        }
        None => push,
    };
    let start = push.iter().rposition(|byte| !byte.is_ascii_digit())? + 1;
    push.get(..start)?.ends_with(br#","offset":"#).then(|| digits(push.get(start..)?))?
}

/// Returns the number at the start.
fn digits(bytes: &[u8]) -> Option<u64> {
    let end = bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len());
    std::str::from_utf8(bytes.get(..end)?).ok()?.parse().ok()
}

/// The start of a publication.
const PUSH: &[u8] = br#"{"push":{"channel":""#;

const TEXT: u8 = 1;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The id of `subscribe`. The ids of publications follow.
const FIRST: u64 = 2;

/// The run fails if the server sends nothing for this time.
const SILENCE: Duration = Duration::from_secs(30);
