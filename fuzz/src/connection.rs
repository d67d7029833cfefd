//! Any bytes after an admitted request, with a runtime whose every step the fuzzer chooses.
//!
//! * For every split of the bytes, and in one call or step by step, the output, the records, the deadline and the state
//!   of the transport are the same.
//! * The output is valid frames of a server: the echo of each message, a pong for each ping, and the Close that follows
//!   from the ending. No frame follows a Close.
//! * Text is UTF-8, and no message is over its limit.
//! * tungstenite gives the same answers to the same bytes, or both refuse them. ARCHITECTURE.md, "Where tungstenite
//!   differs", and `check_reference` list the exceptions.
//! * With short writes, pauses, half-closes and a clock that jumps, the output is still the beginning of the same
//!   answers. No answer is lost, doubled or reordered. Only a pong may be left out, if a later one replaces it.
//! * Pending output is bounded, and so is the work that a timer makes.
//! * A client that accepts no output is dropped in time, and an idle client cannot delay the exit of the process.

use std::time::Duration;

use postern_core::SessionConfig;
use postern_core::session::{Ending, ProtocolError};

use crate::portions;
use crate::reference::Reference;
use crate::runtime::Runtime;
use crate::script::{self, Step};
use crate::upgrade;
use crate::wire::Wire;

pub use crate::script::Script;

/// Checks all of these properties.
///
/// # Panics
/// That is the finding.
pub fn check(script: &Script) {
    let limits = &script.limits;
    let head = upgrade::request([]);
    let whole = run_at_once(Runtime::new(limits), [&[&head[..], &script.stream].concat()[..]].into_iter());
    let split = run_at_once(Runtime::in_turns(limits), [&head[..]].into_iter().chain(script.portions()));
    let (sent, split_sent) = (whole.runtime.sent(), split.runtime.sent());
    assert!(split_sent == sent, "{}\nis not\n{}", split_sent.escape_ascii(), sent.escape_ascii());
    assert_eq!(split.runtime.notes(), whole.runtime.notes());
    assert_eq!((split.runtime.transport, split.deadline), (whole.runtime.transport, whole.deadline));
    check_answers(&whole.runtime, limits);
    if script.is_comparable {
        check_reference(&whole.runtime, &Reference::read(&script.stream, limits));
        check_steps(script, &whole.runtime);
    }
}

/// Checks the answers to a stream against tungstenite, at one of three sets of limits.
///
/// # Panics
/// That is the finding.
pub fn check_stream(choice: u8, stream: &[u8]) {
    let limits = script::limits(choice);
    let whole = run_at_once(Runtime::new(&limits), [&upgrade::request([])[..], stream].into_iter());
    check_answers(&whole.runtime, &limits);
    check_reference(&whole.runtime, &Reference::read(stream, &limits));
}

/// A run without time, whose socket accepts all output.
struct Run {
    /// The runtime, after the end of the connection; its `transport` is from before the end.
    runtime: Runtime,
    /// When the connection was due, after the last portion.
    deadline: Option<Duration>,
}

fn run_at_once<'p>(mut runtime: Runtime, portions: impl Iterator<Item = &'p [u8]>) -> Run {
    portions.for_each(|portion| runtime.read(portion));
    let (transport, deadline) = (runtime.transport, runtime.deadline());
    runtime.end();
    assert!(runtime.is_closed(), "open after the end of the stream");
    runtime.transport = transport;
    Run { runtime, deadline }
}

/// Asserts that the output is, to the byte, what follows from the records; the frames themselves are in their shortest
/// form, which [`Wire::read`] asserts.
fn check_answers(whole: &Runtime, limits: &SessionConfig) {
    let wire = Wire::read(whole.sent());
    assert!(!wire.is_cut, "a frame is not sent to its end");
    let messages = whole.notes().messages();
    assert_eq!(wire.messages(), messages, "the echo");
    let most = u64::from(limits.max_fragments).saturating_mul(limits.max_frame as u64);
    let is_in_limits = |len: usize| len <= limits.max_message && len as u64 <= most;
    assert!(messages.iter().all(|(_, payload)| is_in_limits(payload.len())), "over the limit");
    let close = match whole.ending() {
        Ending::Failed(error) => {
            let code = u16::from(error.close_code()).to_be_bytes();
            Some([&code[..], error.reason().as_bytes()].concat())
        }
        Ending::PeerClosed(code) => {
            Some(code.map_or_else(Vec::new, |code| u16::from(code).to_be_bytes().to_vec()))
        }
        Ending::Closed(_) | Ending::Eof | Ending::Broken | Ending::WriteStalled | Ending::Evicted => None,
        ending => panic!("{ending:?}"),
    };
    assert_eq!(wire.close, close.as_deref(), "the Close of {:?}", whole.ending());
}

/// Asserts that tungstenite gives the same answers. Where Postern ends a connection for a rule that tungstenite
/// does not have, tungstenite may give more.
fn check_reference(whole: &Runtime, reference: &Reference) {
    let (wire, ending) = (Wire::read(whole.sent()), whole.ending());
    // A control frame of at most 125 bytes that has its length in the longer form is refused as too long, because its
    // second byte shows that already. tungstenite checks only the length.
    let is_stricter = matches!(
        ending,
        Ending::Failed(
            ProtocolError::NonMinimalLength | ProtocolError::LongControl | ProtocolError::TooManyFragments
        )
    );
    let answers: Vec<_> = reference.answers.iter().map(|(opcode, payload)| (*opcode, &payload[..])).collect();
    assert!(answers.starts_with(&wire.frames), "{wire:?}, {ending:?}, but {reference:?}");
    assert!(is_stricter || answers.len() == wire.frames.len(), "{wire:?}, {ending:?}, but {reference:?}");
    // The reverse need not hold: Postern refuses a frame at its first wrong byte, tungstenite reads it first.
    let is_refused = matches!(ending, Ending::Failed(_)) || ending.code() == 1014;
    assert!(is_refused || !reference.refuses, "{wire:?}, {ending:?}, but {reference:?}");
    if let Ending::PeerClosed(code) = ending {
        // tungstenite does not know 1014, which IANA has registered since.
        let code = code.map(u16::from);
        assert!(code == reference.close || ending.code() == 1014, "{ending:?}, but {reference:?}");
    }
}

/// Asserts that the runtime of the script sends a beginning of the same answers.
fn check_steps(script: &Script, whole: &Runtime) {
    let wire = Wire::read(whole.sent());
    let rough = run_script(script);
    rough.ending();
    let rough_wire = Wire::read(rough.sent());
    assert!(
        wire.messages().starts_with(&rough_wire.messages()),
        "{rough_wire:?}\nis not the beginning of\n{wire:?}"
    );
    // A client that does not read gets only the last of its pongs, after the output that was pending before.
    let mut pongs = wire.pongs().into_iter();
    let is_owed = rough_wire.pongs().into_iter().all(|sent| pongs.any(|owed| owed == sent));
    assert!(is_owed, "the pongs of {rough_wire:?}\nare not among the pongs of\n{wire:?}");
    assert!(whole.notes().messages().starts_with(&rough.notes().messages()), "messages that were never sent");
}

/// Runs the script step by step, then sends the rest of the stream at once. Then the client is silent.
pub(crate) fn run_script(script: &Script) -> Runtime {
    let mut runtime = Runtime::in_turns(&script.limits);
    runtime.read(&upgrade::request([]));
    let mut rest = &script.stream[..];
    for step in &script.steps {
        match *step {
            Step::Read(len) if runtime.wants_read() => runtime.read(portions::take(&mut rest, len)),
            Step::Read(_) => {}
            Step::Room(n) => runtime.make_room(n),
            Step::Wait(millis) => runtime.wait(Duration::from_millis(millis)),
            Step::End => runtime.end(),
            Step::Fail => runtime.fail(),
            Step::ShutDown => runtime.shut_down(),
        }
    }
    if runtime.wants_read() {
        runtime.read(rest);
    }
    runtime.abandon();
    runtime
}
