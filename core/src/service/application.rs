//! What is done with messages.

use crate::session::{Event, Session};
use crate::turn::Turn;

/// The application behind the sessions. `channels` will stand beside `Echo`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Application {
    /// Each data message goes back as it came.
    #[default]
    Echo,
}

impl Application {
    /// Answers what came from a peer.
    #[inline]
    pub(super) fn answer(self, session: &mut Session, turn: &mut Turn<'_>, event: &Event<'_>) {
        let answered = match (self, event) {
            (Application::Echo, Event::Text(text)) => session.send_text(turn, text),
            (Application::Echo, Event::Binary(payload)) => session.send_binary(turn, payload),
            (Application::Echo, Event::Ping(_) | Event::Pong(_) | Event::Close { .. }) => Ok(()),
        };
        // A session that is closing takes no answer, and its user expects none.
        let _ = answered;
    }
}
