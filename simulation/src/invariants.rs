//! What must hold for each connection, compared with its records and with the bytes that its client receives.
//!
//! * There is at most one of `Established`, `Rejected` and `Abandoned`, and exactly one `Closed` for each `Established`.
//! * The recorded messages are those that the client sent, in their order.
//! * A client receives an echo of each recorded message and each message of an operator, in the order in which the worker
//!   handled them, and no other message. All of them precede the Close.
//! * A client that has received a Close no longer counts for its user.

use std::collections::VecDeque;
use std::fmt;

use postern_core::frame::DataKind;
use postern_core::session::Ending;
use postern_core::{ConnectionId, Record, Recorder};

/// A message, in either direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: DataKind,
    pub(crate) payload: Vec<u8>,
}

/// The known facts about one connection.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// The messages that the client has begun to send, and that are not recorded yet.
    pub(crate) sent: VecDeque<Message>,
    /// The messages that the client must receive next.
    pub(crate) expected: VecDeque<Message>,
    pub(crate) is_established: bool,
    /// The record of its end. `None` for a connection that was not established.
    pub(crate) ending: Option<Ending>,
    /// Whether there is a record of a refusal, or of a request that did not arrive.
    is_refused: bool,
    is_closed: bool,
    recorded: u64,
}

impl Account {
    /// Whether a user was admitted and the connection has not ended.
    pub(crate) fn is_live(&self) -> bool {
        self.is_established && !self.is_closed
    }

    /// Whether a message is on its way in either direction.
    pub(crate) fn is_busy(&self) -> bool {
        !self.sent.is_empty() || !self.expected.is_empty()
    }
}

/// All connections, and the first violation. It is the recorder of all workers.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    accounts: Vec<Account>,
    violation: Option<Violation>,
    /// Whether the log accepts no records now.
    pub(crate) is_log_full: bool,
    /// Whether the worker whose turn it is can record nothing. During a turn it may become so, but room is found only when the
    /// worker hands over its records, before it applies back-pressure.
    pub(crate) is_full: bool,
}

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The connection, if it is about one.
    connection: Option<ConnectionId>,
    what: String,
}

impl Violation {
    pub(crate) fn new(connection: Option<ConnectionId>, what: impl Into<String>) -> Violation {
        Violation { connection, what: what.into() }
    }

    /// Whether the same does not hold, of any connection.
    pub(crate) fn is_same(&self, other: &Violation) -> bool {
        self.what == other.what
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.connection {
            Some(connection) => write!(f, "connection {connection}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl Ledger {
    pub(crate) fn new(connections: usize) -> Ledger {
        Ledger { accounts: (0..connections).map(|_| Account::default()).collect(), ..Ledger::default() }
    }

    /// The account of the client `number`, whose connection has the next higher number.
    pub(crate) fn account(&mut self, number: usize) -> &mut Account {
        &mut self.accounts[number]
    }

    /// Reports a violation, of which only the first counts.
    pub(crate) fn report(&mut self, connection: Option<ConnectionId>, what: impl Into<String>) {
        self.violation.get_or_insert_with(|| Violation { connection, what: what.into() });
    }

    /// Reports a violation unless `holds`.
    pub(crate) fn check(&mut self, holds: bool, connection: ConnectionId, what: &'static str) {
        if !holds {
            self.report(Some(connection), what);
        }
    }

    pub(crate) fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Handles a message that a client received.
    pub(crate) fn on_delivered(&mut self, connection: ConnectionId, kind: DataKind, payload: &[u8]) {
        let what = match self.accounts[index(connection)].expected.pop_front() {
            None => "the client receives a message that was not expected",
            Some(expected) if expected.kind != kind => "a message arrives with another opcode",
            Some(expected) if expected.payload != payload => {
                "the client receives another message than the expected one"
            }
            Some(_) => return,
        };
        self.report(Some(connection), what);
    }

    /// Handles the removal of a connection by its worker.
    pub(crate) fn on_removed(&mut self, connection: ConnectionId) {
        let account = &self.accounts[index(connection)];
        let (is_established, is_closed, is_refused) =
            (account.is_established, account.is_closed, account.is_refused);
        self.check(is_established == is_closed, connection, "removed without exactly one Closed record");
        self.check(is_established != is_refused, connection, "removed without a record of how it ended");
    }
}

impl Recorder for Ledger {
    fn record(&mut self, record: &Record<'_>) {
        match record {
            Record::Established { connection, .. } => {
                let account = &mut self.accounts[index(*connection)];
                let is_first = !account.is_established && !account.is_refused && !account.is_closed;
                account.is_established = true;
                self.check(is_first, *connection, "established after another record");
            }
            Record::Message { connection, kind, payload, .. } => {
                let account = &mut self.accounts[index(*connection)];
                let is_live = account.is_live();
                let message = account.sent.pop_front();
                let is_next =
                    message.as_ref().is_some_and(|next| next.kind == *kind && next.payload == *payload);
                account.expected.extend(message);
                account.recorded += 1;
                self.check(is_live, *connection, "a message is recorded outside of the connection's life");
                self.check(is_next, *connection, "another message is recorded than the client sent");
            }
            Record::Publication { connection, .. } => {
                self.check(
                    false,
                    *connection,
                    "a publication is recorded, and the application has no channels",
                );
            }
            Record::Closed { connection, ending, summary, .. } => {
                let account = &mut self.accounts[index(*connection)];
                let is_live = account.is_live();
                let is_sum = summary.traffic.messages_received == account.recorded;
                account.is_closed = true;
                account.ending = Some(*ending);
                self.check(is_live, *connection, "Closed without Established, or twice");
                self.check(is_sum, *connection, "the summary has another number of messages");
            }
            Record::Rejected { connection, .. } | Record::Abandoned { connection, .. } => {
                let account = &mut self.accounts[index(*connection)];
                let is_first = !account.is_established && !account.is_refused;
                account.is_refused = true;
                self.check(is_first, *connection, "refused or abandoned after another record");
            }
            Record::Pong { .. }
            | Record::RateExceeded { .. }
            | Record::RateKept { .. }
            | Record::TokenRefreshed { .. }
            | Record::RefreshRefused { .. }
            | Record::CredentialsEnded { .. } => {}
        }
    }

    fn is_full(&self) -> bool {
        self.is_full
    }
}

/// The place of a connection's account.
fn index(connection: ConnectionId) -> usize {
    connection.0 as usize - 1
}
