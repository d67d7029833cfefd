//! The application that sends each message back.

use super::application::{Application, Message, Reply};
use crate::record::Recorder;

/// Sends each data message back to its client, and records it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Echo;

impl Application for Echo {
    type Client = ();

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
}
