//! Records, kept so that runs can be compared.

use postern_core::frame::DataKind;
use postern_core::handshake::HandshakeError;
use postern_core::session::{Ending, Traffic};
use postern_core::{Record, Recorder};
use tungstenite::protocol::frame::coding::{Data, OpCode};

/// A record without what is the same in all runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    Established,
    Message(OpCode, Vec<u8>),
    Pong,
    Rate,
    Closed(Ending, Traffic),
    Rejected(HandshakeError),
    Abandoned,
}

impl Note {
    /// What is kept of a record.
    pub(crate) fn of(record: &Record<'_>) -> Note {
        match record {
            Record::Established { .. } => Note::Established,
            Record::Message { kind: DataKind::Binary, payload, .. } => {
                Note::Message(OpCode::Data(Data::Binary), payload.to_vec())
            }
            Record::Message { kind: DataKind::Text, payload, .. } => {
                Note::Message(OpCode::Data(Data::Text), payload.to_vec())
            }
            Record::Pong { .. } => Note::Pong,
            Record::RateExceeded { .. } | Record::RateKept { .. } => Note::Rate,
            Record::Closed { ending, summary, .. } => Note::Closed(*ending, summary.traffic),
            Record::Rejected { error, .. } => Note::Rejected(*error),
            Record::Abandoned { .. } => Note::Abandoned,
        }
    }
}

/// The records of one connection, in their order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Notes(Vec<Note>);

impl Notes {
    /// The data messages.
    pub(crate) fn messages(&self) -> Vec<(OpCode, &[u8])> {
        let message = |note| match note {
            &Note::Message(opcode, ref payload) => Some((opcode, &payload[..])),
            Note::Established
            | Note::Pong
            | Note::Rate
            | Note::Closed(..)
            | Note::Rejected(_)
            | Note::Abandoned => None,
        };
        self.0.iter().filter_map(message).collect()
    }

    /// How the connection ended. Asserts that its records are in order, and that what was counted is what
    /// was recorded; the application sends back whatever it gets.
    pub(crate) fn check_ended(&self) -> Ending {
        let [Note::Established, between @ .., Note::Closed(ending, traffic)] = &self.0[..] else {
            panic!("not from its user to its end: {self:?}");
        };
        let messages = self.messages();
        assert_eq!(messages.len(), between.len(), "{self:?}");
        let count = messages.len() as u64;
        let bytes = messages.iter().map(|(_, payload)| payload.len() as u64).sum();
        let counted = Traffic {
            messages_received: count,
            bytes_received: bytes,
            messages_sent: count,
            bytes_sent: bytes,
        };
        assert_eq!(*traffic, counted);
        *ending
    }
}

impl Recorder for Notes {
    fn record(&mut self, record: &Record<'_>) {
        self.0.push(Note::of(record));
    }
}
