//! Messages that the server sends on its own to clients of the subprotocol.

use crate::close_code::CloseCode;

use crate::session::Session;
use crate::turn::Turn;

/// The subprotocol whose clients get server messages: JSON objects with a `type`, as text messages.
pub const SUBPROTOCOL: &str = "postern.v1.json";

/// Sends the reason of the following Close and the milliseconds after which to reconnect, for which a Close frame has no
/// field.
pub(super) fn disconnect(
    session: &mut Session,
    turn: &mut Turn<'_>,
    code: CloseCode,
    reason: &str,
    reconnect_after_ms: u32,
) {
    if session.accepts_server_messages() {
        let code = u16::from(code);
        // Reasons are short words of ours, without anything that JSON would have to escape.
        let message = format!(
            r#"{{"type":"disconnect","code":{code},"reason":"{reason}","reconnect":true,"reconnect_after_ms":{reconnect_after_ms}}}"#
        );
        // It fails if a Close was sent, and then no announcement is needed.
        let _ = session.send_text(turn, message.as_str());
    }
}
