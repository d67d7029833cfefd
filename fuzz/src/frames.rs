//! Any bytes of an admitted client, in the portions that the fuzzer chooses; many times a second.
//!
//! * However they are cut, the session gives the same events, output, ending, counts and deadline.
//! * The output is, to the byte, the frames that follow from the events: a message goes back as it came, a ping
//!   gets its pong, a Close its code; an error gets its Close; and nothing follows a Close.
//! * Text is UTF-8, no message and no frame is over its limit, and an error stays the same error.
//!
//! One session without a service: no socket, no clock, no timer. [`session`](crate::session) has all of these,
//! and [`differential`](crate::differential) asks tungstenite for its opinion.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use postern_core::session::{Ending, ProtocolError, TimerKind, Traffic};
use postern_core::{CloseCode, Codec, Event, Input, Session, SessionConfig, Transport, Turn};

use crate::cuts::Cuts;
use crate::frame::{self, BINARY, CLOSE, PONG, TEXT};

/// Checks all of it.
///
/// # Panics
/// That is the finding.
pub fn check(input: &[u8]) {
    let (limits, cuts, bytes) = Cuts::read(input);
    let limits = &LIMITS[usize::from(limits) % LIMITS.len()];
    let whole = run(limits, Cuts::none(), bytes);
    let split = run(limits, cuts, bytes);
    assert!(split == whole, "{split:?}\nis not\n{whole:?}");
    assert!(whole.out == whole.owed, "{}\nis not {}", whole.out.escape_ascii(), whole.owed.escape_ascii());
}

/// The defaults, and limits that short inputs reach, each of them once the lowest.
static LIMITS: LazyLock<[Arc<SessionConfig>; 4]> = LazyLock::new(|| {
    let small = SessionConfig { max_message: 100, max_fragments: 4, ..SessionConfig::default() };
    let patient = Duration::ZERO;
    [
        SessionConfig::default(),
        SessionConfig { max_frame: 60, control_rate: 0, ..small.clone() },
        SessionConfig { max_frame: 150, control_rate: 1, ..small },
        SessionConfig { max_message: 0, max_frame: 0, message_timeout: patient, ..SessionConfig::default() },
    ]
    .map(Arc::new)
});

/// No time passes.
static NOW: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What became of the bytes.
#[derive(Debug, PartialEq)]
struct Run {
    /// What the session sent.
    out: Vec<u8>,
    /// What it should have sent, by its events, each of which is in here with its payload: but for pongs.
    owed: Vec<u8>,
    pongs: usize,
    error: Option<ProtocolError>,
    ending: Option<Ending>,
    traffic: Traffic,
    transport: Transport,
    deadline: Option<(Instant, TimerKind)>,
}

fn run(limits: &Arc<SessionConfig>, cuts: Cuts<'_>, bytes: &[u8]) -> Run {
    let mut copy = bytes.to_vec();
    let mut session = Session::new(limits.clone());
    // Owns nothing until a message is compressed, and none is.
    let mut codec = Codec::new();
    let mut out = Vec::with_capacity(2 * bytes.len() + 64);
    let mut turn = Turn { now: *NOW, out: &mut out, is_backlogged: false, codec: &mut codec };
    let mut seen = Seen { owed: Vec::with_capacity(2 * bytes.len() + 64), ..Seen::default() };
    for portion in cuts.portions(&mut copy) {
        let mut input = Input::new(portion);
        loop {
            match session.next_event(&mut turn, &mut input) {
                Ok(Some(event)) => seen.take(limits, &mut session, &mut turn, event),
                Ok(None) => break,
                Err(error) => {
                    seen.fail(error);
                    break;
                }
            }
        }
        assert!(input.is_empty(), "asks for more although there is more");
    }
    let deadline = session.poll_timeout();
    assert!(deadline.is_none_or(|(at, _)| at > *NOW), "a deadline that is over");
    assert_eq!(session.traffic(), seen.traffic);
    let (ending, transport) = (session.ending(), session.transport());
    let expected = match (seen.error, seen.close) {
        (Some(error), None) => (Some(Ending::Failed(error)), Transport::ShutdownWrite),
        (None, Some(code)) => (Some(Ending::PeerClosed(code)), Transport::Close),
        (None, None) => (None, Transport::Open),
        (Some(error), Some(code)) => panic!("{error:?} behind a Close with {code:?}"),
    };
    assert_eq!((ending, transport), expected);
    assert_eq!(session.is_open(), ending.is_none());
    let Seen { owed, pongs, error, traffic, .. } = seen;
    Run { out, owed, pongs, error, ending, traffic, transport, deadline }
}

/// What the session has given until now.
#[derive(Default)]
struct Seen {
    owed: Vec<u8>,
    pongs: usize,
    error: Option<ProtocolError>,
    close: Option<Option<CloseCode>>,
    traffic: Traffic,
}

impl Seen {
    fn take(&mut self, limits: &SessionConfig, session: &mut Session, turn: &mut Turn<'_>, event: Event<'_>) {
        assert!(self.close.is_none() && self.error.is_none(), "{event:?} behind the end");
        match event {
            Event::Text(text) => {
                assert!(std::str::from_utf8(text.as_bytes()).is_ok(), "text that is not UTF-8");
                self.message(limits, TEXT, text.as_bytes());
                session.send_text(turn, &text).expect("an open session");
            }
            Event::Binary(payload) => {
                self.message(limits, BINARY, &payload);
                session.send_binary(turn, &payload).expect("an open session");
            }
            Event::Ping(payload) => frame::write(&mut self.owed, PONG, &[&payload]),
            Event::Pong(payload) => {
                assert!(payload.len() <= 125);
                self.pongs += 1;
            }
            Event::Close { code, reason } => {
                assert!(reason.as_bytes().len() <= 123 && std::str::from_utf8(reason.as_bytes()).is_ok());
                // RFC 6455 §7.4.2, and 1012 to 1014 by the registry.
                let may_be_sent = |code| matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
                assert!(code.is_none_or(|code| may_be_sent(u16::from(code))), "{code:?}");
                self.close = Some(code);
                let code = code.map(|code| u16::from(code).to_be_bytes());
                frame::write(&mut self.owed, CLOSE, &[code.as_ref().map_or(&[][..], |code| code)]);
            }
        }
    }

    fn message(&mut self, limits: &SessionConfig, opcode: u8, payload: &[u8]) {
        let most = u64::from(limits.max_fragments).saturating_mul(limits.max_frame as u64);
        assert!(payload.len() <= limits.max_message && payload.len() as u64 <= most, "over the limit");
        frame::write(&mut self.owed, opcode, &[payload]);
        self.traffic.messages_received += 1;
        self.traffic.messages_sent += 1;
        self.traffic.bytes_received += payload.len() as u64;
        self.traffic.bytes_sent += payload.len() as u64;
    }

    fn fail(&mut self, error: ProtocolError) {
        if let Some(first) = self.error.replace(error) {
            assert_eq!(error, first, "another error");
            return;
        }
        assert!(self.close.is_none(), "{error:?} behind a Close");
        let code = u16::from(error.close_code()).to_be_bytes();
        frame::write(&mut self.owed, CLOSE, &[&code, error.reason().as_bytes()]);
    }
}
