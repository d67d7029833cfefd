//! What is done with messages.

use crate::frame::DataKind;
use crate::input::Payload;
use crate::segments::OutputSegments;
use crate::session::Session;
use crate::turn::Turn;

/// The application that answers messages.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Application {
    /// Each data message goes back as it came.
    #[default]
    Echo,
}

impl Application {
    /// Answers a message. `segments`, if there are any, take what is large.
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
        // A session that is closing takes no answer, and its user expects none.
        let _ = answered;
    }
}
