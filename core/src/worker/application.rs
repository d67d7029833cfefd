//! The application.

use crate::frame::DataKind;
use crate::input::Payload;
use crate::output::OutputSegments;
use crate::session::Session;
use crate::turn::Turn;

/// The application that answers messages.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Application {
    /// Echoes each data message.
    #[default]
    Echo,
}

impl Application {
    /// Answers a message. Large payloads go into `segments`, if given.
    #[inline(always)]
    pub(super) fn answer<'b>(
        self,
        session: &mut Session,
        turn: &mut Turn<'_>,
        kind: DataKind,
        payload: Payload<'b>,
        segments: Option<&mut OutputSegments<'b>>,
    ) {
        let answered = match self {
            Application::Echo => session.send_payload(turn, kind, payload, segments),
        };
        // A session that is closing accepts no answer, and its user expects none.
        let _ = answered;
    }
}
