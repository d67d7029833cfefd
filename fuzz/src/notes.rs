//! Records, kept so that runs can be compared.

use postern_core::frame::DataKind;
use postern_core::handshake::HandshakeError;
use postern_core::session::{Ending, Traffic};
use postern_core::{ConnectionId, Record, Recorder};

use crate::frame::{BINARY, TEXT};

/// A record without the fields that are the same in all runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    Established,
    /// The opcode and the payload.
    Message(u8, Vec<u8>),
    Pong,
    Rate,
    CredentialsEnded,
    Closed(Ending, Traffic),
    Rejected(HandshakeError),
    Abandoned,
}

impl Note {
    fn of(record: &Record<'_>) -> (ConnectionId, Note) {
        match record {
            Record::Established { connection, .. } => (*connection, Note::Established),
            Record::Message { connection, kind, payload, .. }
            | Record::Publication { connection, kind, payload, .. } => {
                let opcode = match kind {
                    DataKind::Binary => BINARY,
                    DataKind::Text => TEXT,
                };
                (*connection, Note::Message(opcode, payload.to_vec()))
            }
            Record::Pong { connection, .. } => (*connection, Note::Pong),
            Record::RateExceeded { connection, .. } | Record::RateKept { connection, .. } => {
                (*connection, Note::Rate)
            }
            Record::CredentialsEnded { connection, .. }
            | Record::TokenRefreshed { connection, .. }
            | Record::RefreshRefused { connection, .. } => (*connection, Note::CredentialsEnded),
            Record::Closed { connection, ending, summary, .. } => {
                (*connection, Note::Closed(*ending, summary.traffic))
            }
            Record::Rejected { connection, error, .. } => (*connection, Note::Rejected(*error)),
            Record::Abandoned { connection, .. } => (*connection, Note::Abandoned),
        }
    }

    /// Returns the opcode and the payload of a message.
    pub(crate) fn message(&self) -> Option<(u8, &[u8])> {
        match self {
            Note::Message(opcode, payload) => Some((*opcode, payload)),
            Note::Established
            | Note::Pong
            | Note::Rate
            | Note::CredentialsEnded
            | Note::Closed(..)
            | Note::Rejected(_)
            | Note::Abandoned => None,
        }
    }
}

/// The records of all connections, in their order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Notes {
    records: Vec<(ConnectionId, Note)>,
    /// Whether it cannot accept more records.
    pub(crate) is_full: bool,
}

impl Notes {
    /// Returns the records of one connection.
    pub(crate) fn of(&self, connection: ConnectionId) -> Vec<&Note> {
        self.records.iter().filter(|(id, _)| *id == connection).map(|(_, note)| note).collect()
    }

    /// Returns the data messages.
    pub(crate) fn messages(&self) -> Vec<(u8, &[u8])> {
        self.records.iter().filter_map(|(_, note)| note.message()).collect()
    }
}

impl Recorder for Notes {
    fn record(&mut self, record: &Record<'_>) {
        self.records.push(Note::of(record));
    }

    fn is_full(&self) -> bool {
        self.is_full
    }
}
