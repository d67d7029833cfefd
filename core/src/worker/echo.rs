//! The application that sends each message back.

use std::convert::Infallible;

use super::application::{Application, Message, Reply, ServerClose};
use super::fanout::Fanout;
use crate::handshake::Identity;
use crate::record::Recorder;

/// Sends each data message back to its client, and records it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Echo;

/// The subprotocol whose clients get a message of the server before a process stops: a JSON object with a `type`, as text.
pub const SUBPROTOCOL: &str = "postern.v1.json";

impl Application for Echo {
    type Client = ();
    type Inbound = Infallible;
    type Effect = Infallible;

    #[inline(always)]
    fn message<'b>(
        &mut self,
        (): &mut (),
        message: Message<'_, 'b>,
        reply: &mut Reply<'_, '_, 'b>,
        recorder: &mut impl Recorder,
    ) {
        message.record(recorder);
        // A session that is closing accepts no answer, and its user expects none.
        let _ = reply.send(message.kind, message.payload);
    }

    /// Sends the reason of the Close and the milliseconds after which to reconnect, for which a Close frame has no field.
    fn closing((): &mut (), identity: &Identity, close: &mut ServerClose<'_>, reply: &mut Reply<'_, '_, '_>) {
        let Some(after) = close.reconnect_after.filter(|_| identity.subprotocol() == Some(SUBPROTOCOL))
        else {
            return;
        };
        let (code, reason, after) = (close.code, close.reason, after.as_millis());
        // The reasons of a process that stops are short words of ours, without anything that JSON would have to escape.
        let message = format!(
            r#"{{"type":"disconnect","code":{code},"reason":"{reason}","reconnect":true,"reconnect_after_ms":{after}}}"#
        );
        // The session is open.
        let _ = reply.text(&message);
    }

    fn inbound(&mut self, event: Infallible, _: &mut Fanout<'_, Echo>, _: &mut impl Recorder) {
        match event {}
    }
}
