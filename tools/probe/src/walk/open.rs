//! The steps on an open connection.

use std::time::{Duration, Instant};

use postern_core::handshake::HandshakeError;
use serde_json::{Value, json};

use super::{Knock, Opened};
use crate::judge::answer::Asked;
use crate::judge::open::{self, ApplicationSeen, IdleSeen, SizeSeen};
use crate::net::websocket::{Arrival, Ended, Socket, random};
use crate::options::ProbeOptions;
use crate::report::Report;

/// Checks the application, the round trip, and, if they are asked for, the size of messages and the idle time-out.
pub(crate) fn check(
    options: &ProbeOptions,
    asked: &Asked<'_>,
    knock: &Knock<'_>,
    opened: Opened,
    report: &mut Report,
) {
    let timeout = options.common.timeout;
    let (mut line, seen) = Line::begin(options, knock, opened);
    if !report.add(open::application(asked, &seen)) {
        return report.stop();
    }
    let (mut times, ended) = line.measure(options.count, timeout);
    if !report.add(open::round_trip(asked, &mut times, ended.as_ref())) {
        return report.stop();
    }
    if let Some(size) = options.size {
        let (seen, rest) = find_limit(options, knock, line, size);
        report.add(open::size(asked, &seen));
        match rest {
            Some(rest) => line = rest,
            None => return report.stop(),
        }
    }
    if let Some(wanted) = options.idle {
        let seen = line.wait(wanted);
        report.add(open::idle(asked, &seen));
    }
    line.socket.close();
}

/// Returns the command `connect` of channels.
pub(crate) fn connect_command(token: Option<&str>) -> String {
    let mut connect = json!({ "name": "postern-probe" });
    if let Some(token) = token {
        connect["token"] = token.into();
    }
    json!({ "id": 1, "connect": connect }).to_string()
}

/// An open connection, and the protocol on it.
struct Line {
    socket: Socket,
    has_channels: bool,
    /// Whether the pings of the protocol of channels, which are messages, must be answered.
    answers_pings: bool,
    /// Whether the server wants a token before other messages.
    is_authenticated: bool,
}

impl Line {
    fn new(opened: Opened) -> Line {
        Line { socket: opened.socket, has_channels: false, answers_pings: false, is_authenticated: false }
    }

    /// Sends the first message. If the server wants a token before it, and there is one, opens another connection and sends that.
    fn begin(options: &ProbeOptions, knock: &Knock<'_>, opened: Opened) -> (Line, ApplicationSeen) {
        let (token, timeout) = (options.common.connect_token.as_deref(), options.common.timeout);
        let mut line = Line::new(opened);
        let seen = line.introduce(token, timeout);
        if let (ApplicationSeen::Ended(Ended::Closed { reason, .. }), Some(token)) = (&seen, token)
            && reason == HandshakeError::FirstMessage.code()
            && let (_, Some(opened)) = knock.open()
        {
            let mut line = Line::new(opened);
            let seen = match line.authenticate(token, timeout) {
                Ok(()) => line.introduce(None, timeout),
                Err(seen) => seen,
            };
            return (line, seen);
        }
        (line, seen)
    }

    /// Sends the token in the first message (`POSTERN_FIRST_MESSAGE_PATH`).
    fn authenticate(&mut self, token: &str, timeout: Duration) -> Result<(), ApplicationSeen> {
        let deadline = Instant::now() + timeout;
        let auth = json!({ "type": "auth", "token": token }).to_string();
        self.socket.send_text(&auth).map_err(ApplicationSeen::Ended)?;
        match self.next_text(deadline) {
            Ok(Some(text)) if text.contains("\"authenticated\"") => {
                self.is_authenticated = true;
                Ok(())
            }
            Ok(Some(text)) => Err(ApplicationSeen::Other(text)),
            Ok(None) => Err(ApplicationSeen::Silent),
            Err(ended) => Err(ApplicationSeen::Ended(ended)),
        }
    }

    /// Sends the first message: a command `connect`, which an echo sends back.
    fn introduce(&mut self, token: Option<&str>, timeout: Duration) -> ApplicationSeen {
        let command = connect_command(token);
        let deadline = Instant::now() + timeout;
        if let Err(ended) = self.socket.send_text(&command) {
            return ApplicationSeen::Ended(ended);
        }
        let text = match self.next_text(deadline) {
            Ok(Some(text)) => text,
            Ok(None) => return ApplicationSeen::Silent,
            Err(ended) => return ApplicationSeen::Ended(ended),
        };
        if text == command {
            return ApplicationSeen::Echo;
        }
        let mut replies = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let Some(reply) = replies.find(|reply| reply["id"] == 1) else { return ApplicationSeen::Other(text) };
        if let Some(error) = reply.get("error") {
            return ApplicationSeen::ChannelsError {
                code: error["code"].as_u64().unwrap_or_default(),
                message: error["message"].as_str().unwrap_or_default().to_owned(),
            };
        }
        let Some(result) = reply.get("connect") else { return ApplicationSeen::Other(text) };
        self.has_channels = true;
        self.answers_pings = result["pong"] == true;
        ApplicationSeen::Channels {
            version: result["version"].as_str().unwrap_or("an unknown version").to_owned(),
            subscriptions: result["subs"].as_object().map_or(0, serde_json::Map::len),
        }
    }

    /// Measures the times from pings to their pongs. Also returns the end of the connection, if it ended.
    fn measure(&mut self, count: u32, timeout: Duration) -> (Vec<Duration>, Option<Ended>) {
        let mut times = Vec::new();
        for number in 0..count {
            if number >= BURST {
                // Waits, and handles frames at the same time.
                if let Err(ended) = self.pass(PACE) {
                    return (times, Some(ended));
                }
            }
            let (payload, start) = (number.to_be_bytes(), Instant::now());
            if let Err(ended) = self.socket.ping(&payload) {
                return (times, Some(ended));
            }
            loop {
                match self.next(start + timeout) {
                    Ok(Some(Arrival::Pong(found))) if found == payload => break,
                    Ok(Some(_)) => {}
                    Ok(None) => return (times, None),
                    Err(ended) => return (times, Some(ended)),
                }
            }
            times.push(start.elapsed());
        }
        (times, None)
    }

    fn pass(&mut self, time: Duration) -> Result<(), Ended> {
        let deadline = Instant::now() + time;
        while self.next(deadline)?.is_some() {}
        Ok(())
    }

    /// Sends a message of this size, and waits for its answer. `Err(None)`: no answer in time.
    fn send_size(&mut self, size: usize, timeout: Duration) -> Result<(), Option<Ended>> {
        let message = if self.has_channels { padded(size) } else { noise(size) };
        let deadline = Instant::now() + timeout;
        self.socket.send_text(&message).map_err(Some)?;
        loop {
            match self.next_text(deadline).map_err(Some)? {
                Some(text) if self.has_channels && text.contains("\"id\":2") => return Ok(()),
                Some(text) if !self.has_channels && text == message => return Ok(()),
                Some(_) => {}
                None => return Err(None),
            }
        }
    }

    /// Sends no message for a time, and observes pings of the server and the end of the connection.
    fn wait(&mut self, wanted: Duration) -> IdleSeen {
        let start = Instant::now();
        let mut seen = IdleSeen { wanted, pings: 0, first_ping: None, ended: None };
        loop {
            match self.next(start + wanted) {
                Ok(Some(Arrival::Ping)) => {
                    seen.pings += 1;
                    seen.first_ping.get_or_insert(start.elapsed());
                }
                Ok(Some(_)) => {}
                Ok(None) => return seen,
                Err(ended) => {
                    seen.ended = Some((self.socket.silence(), ended));
                    return seen;
                }
            }
        }
    }

    fn next_text(&mut self, deadline: Instant) -> Result<Option<String>, Ended> {
        loop {
            match self.next(deadline)? {
                Some(Arrival::Text(text)) => return Ok(Some(text)),
                Some(Arrival::Binary(_) | Arrival::Ping | Arrival::Pong(_)) => {}
                None => return Ok(None),
            }
        }
    }

    /// Returns the next event. The pings of the protocol of channels count as pings.
    fn next(&mut self, deadline: Instant) -> Result<Option<Arrival>, Ended> {
        let arrival = self.socket.next(deadline)?;
        if self.has_channels
            && arrival.as_ref().is_some_and(|arrival| *arrival == Arrival::Text("{}".to_owned()))
        {
            if self.answers_pings {
                self.socket.send_text("{}")?;
            }
            return Ok(Some(Arrival::Ping));
        }
        Ok(arrival)
    }
}

/// Sends a message of this size, and if it does not pass, finds the largest one that does. Returns the connection on which the
/// last one passed, or a new one.
fn find_limit(
    options: &ProbeOptions,
    knock: &Knock<'_>,
    line: Line,
    wanted: usize,
) -> (SizeSeen, Option<Line>) {
    let timeout = options.common.timeout;
    let token = options.common.connect_token.as_deref();
    let (has_channels, is_authenticated) = (line.has_channels, line.is_authenticated);
    let reopen = || {
        let (_, opened) = knock.open();
        let mut line = Line::new(opened?);
        if is_authenticated {
            line.authenticate(token?, timeout).ok()?;
        } else if has_channels {
            line.introduce(token, timeout);
        }
        Some(line)
    };
    let mut current = Some(line);
    let mut seen = SizeSeen { wanted, largest: 0, ended: None };
    // All sizes up to `largest` pass, and `above` does not.
    let mut above = wanted + 1;
    let mut next = wanted;
    while above - seen.largest > 1 {
        let Some(mut line) = current.take().or_else(reopen) else { break };
        match line.send_size(next, timeout) {
            Ok(()) => {
                seen.largest = next;
                current = Some(line);
            }
            Err(ended) => {
                seen.ended = ended;
                above = next;
            }
        }
        next = seen.largest.midpoint(above);
    }
    let line = current.or_else(reopen);
    (seen, line)
}

/// Returns a text that compression does not make much shorter.
fn noise(size: usize) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // A generator by multiplication is random enough for a compressor.
    let mut state = u64::from_be_bytes(random()) | 1;
    let letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        LETTERS.get((state >> 58) as usize).copied().map_or('A', char::from)
    };
    std::iter::repeat_with(letter).take(size).collect()
}

/// Returns a command of channels without an effect, with spaces.
fn padded(size: usize) -> String {
    let command = r#"{"id":2,"unsubscribe":{"channel":"postern-probe"}"#;
    let spaces = size.saturating_sub(command.len() + 1);
    format!("{command}{}}}", " ".repeat(spaces))
}

/// The number of pings without a pause between them. Servers limit the rate of control frames.
const BURST: u32 = 20;

/// The pause before each further ping.
const PACE: Duration = Duration::from_millis(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_size_that_is_asked_for() {
        for size in [64, 1000, 65_536] {
            assert_eq!((noise(size).len(), padded(size).len()), (size, size));
        }
        assert_ne!(noise(64), noise(64));
        let command: Value = serde_json::from_str(&padded(100)).unwrap();
        assert_eq!(command["id"], 2);
    }
}
