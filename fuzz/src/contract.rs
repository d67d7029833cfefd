//! Any bytes behind an admitted request, with a runtime whose every step the fuzzer chooses.
//!
//! * However the bytes are cut, and in one call or step by step, the output, the records and the fate of the socket
//!   are the same.
//! * The output is valid frames of a server, and nothing follows a Close.
//! * With short writes, pauses, half-closes and a clock that jumps, what is sent is still the beginning of the
//!   same answers; nothing is lost, doubled or mixed up, but for pongs that a later one makes needless.
//! * What waits to be sent is bounded, and so is the work that a timer makes.
//! * A peer that takes nothing is dropped in time, and one that does nothing cannot hold a process that stops.

use std::time::Duration;

use crate::portions;
use crate::runtime::{HEAD, Runtime};
use crate::script::Step;
use crate::wire::Wire;

pub use crate::script::Script;

/// Checks all of it.
///
/// # Panics
/// That is the finding.
pub fn check(script: &Script) {
    let limits = &script.limits;
    let whole = run_at_once(Runtime::new(limits), [&[HEAD, &script.stream].concat()[..]].into_iter());
    let split = run_at_once(Runtime::in_turns(limits), [HEAD].into_iter().chain(script.portions()));
    assert!(split.wire == whole.wire, "{}\nis not\n{}", split.wire.escape_ascii(), whole.wire.escape_ascii());
    assert_eq!((&split.notes, split.transport), (&whole.notes, whole.transport));

    let wire = Wire::read(&whole.wire);
    assert!(!wire.is_cut, "a frame is not sent to its end");
    assert_eq!(wire.messages(), whole.notes.messages(), "the echo");
    whole.notes.check_ended();

    let rough = run_script(script);
    rough.notes.check_ended();
    let rough_wire = Wire::read(&rough.wire);
    assert!(wire.data().starts_with(&rough_wire.data()), "{rough_wire:?}\nis not the beginning of\n{wire:?}");
    // A peer that does not read is owed the last pong alone, behind what was sent before.
    let mut pongs = wire.pongs().into_iter();
    let is_owed = rough_wire.pongs().into_iter().all(|sent| pongs.any(|owed| owed == sent));
    assert!(is_owed, "the pongs of {rough_wire:?}\nare not among those of\n{wire:?}");
    assert!(whole.notes.messages().starts_with(&rough.notes.messages()), "messages that were never sent");
}

/// No time passes, and the socket takes everything.
fn run_at_once<'p>(mut runtime: Runtime, portions: impl Iterator<Item = &'p [u8]>) -> Runtime {
    portions.for_each(|portion| runtime.read(portion));
    let transport = runtime.transport;
    runtime.end();
    assert!(runtime.is_closed(), "a connection whose peer has left is kept");
    runtime.transport = transport;
    runtime
}

/// Step by step, then the rest of the stream at once, then silence.
pub(crate) fn run_script(script: &Script) -> Runtime {
    let mut runtime = Runtime::in_turns(&script.limits);
    runtime.read(HEAD);
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
