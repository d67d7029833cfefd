//! The same bytes of a client, to Postern and to tungstenite as the server.
//!
//! Both give the same answers, or both refuse. Where they may differ stands in ARCHITECTURE.md, "Where tungstenite
//! differs", and in `check_reference`; nothing else is forgiven.

use postern_core::session::{Ending, ProtocolError};

use crate::reference::Reference;
use crate::runtime::{HEAD, Runtime};
use crate::script;
use crate::wire::Wire;

/// Checks an input: one byte that chooses the limits, and what the client sends.
///
/// # Panics
/// That is the finding.
pub fn check(input: &[u8]) {
    if let Some((&choice, stream)) = input.split_first() {
        check_stream(choice, stream);
    }
}

/// Checks what the client sends, at one of three sets of limits.
///
/// # Panics
/// That is the finding.
pub fn check_stream(choice: u8, stream: &[u8]) {
    let limits = script::limits(choice);
    let mut runtime = Runtime::new(&limits);
    runtime.read(HEAD);
    runtime.read(stream);
    runtime.end();
    let wire = Wire::read(&runtime.wire);
    check_reference(&wire, runtime.notes.check_ended(), &Reference::read(stream, &limits));
}

/// Asserts that tungstenite gives the same answers. Where Postern ends a connection for a rule that tungstenite
/// does not have, tungstenite may give more.
fn check_reference(wire: &Wire<'_>, ending: Ending, reference: &Reference) {
    // A control frame of at most 125 bytes whose length stands in the longer form is refused as too long,
    // because that shows in its second byte already. tungstenite looks at the length alone.
    let is_stricter = matches!(
        ending,
        Ending::Failed(
            ProtocolError::NonMinimalLength | ProtocolError::LongControl | ProtocolError::TooManyFragments
        )
    );
    let answers: Vec<_> = reference.answers.iter().map(|(opcode, payload)| (*opcode, &payload[..])).collect();
    assert!(answers.starts_with(&wire.frames), "{wire:?}, {ending:?}, but {reference:?}");
    assert!(is_stricter || answers.len() == wire.frames.len(), "{wire:?}, {ending:?}, but {reference:?}");
    // The other way round proves nothing: Postern refuses a frame at its first wrong byte, tungstenite reads it first.
    let is_refused = matches!(ending, Ending::Failed(_)) || ending.code() == 1014;
    assert!(is_refused || !reference.refuses, "{wire:?}, {ending:?}, but {reference:?}");
    if let Ending::PeerClosed(code) = ending {
        let echo = code.map(|code| u16::from(code).to_be_bytes());
        assert_eq!(wire.close, Some(echo.as_ref().map_or(&[][..], |echo| echo)), "the echo of the code");
        // tungstenite does not know 1014, which IANA has registered since.
        assert!(
            code.map(u16::from) == reference.close.map(u16::from) || ending.code() == 1014,
            "{ending:?}, but {reference:?}"
        );
    }
}
