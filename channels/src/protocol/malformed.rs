//! Faults of commands.

use crate::Disconnect;

/// The fault of a message that ends the connection with [`Disconnect::BadRequest`].
///
/// Clients do not reconnect after it, so it is not used where an error reply is possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// The message or one of its lines is empty.
    Empty,
    /// The command cannot be parsed, or a field has another type.
    Syntax,
    /// The id is 0 or missing, and the request has a reply.
    Id,
    /// The command has an id and no request, or a `ping`.
    Request,
    /// The request has no channel.
    Channel,
    /// A `refresh` has no token.
    Token,
    /// The type of delta compression does not exist.
    Delta,
}

impl Malformed {
    /// Returns the reason of the Close. Like all reasons, it is not JSON, and has at most 123 bytes.
    pub fn reason(self) -> &'static str {
        match self {
            Malformed::Empty => "bad request: empty message or line",
            Malformed::Syntax => "bad request: not a command",
            Malformed::Id => "bad request: id missing",
            Malformed::Request => "bad request: no request in the command",
            Malformed::Channel => "bad request: channel missing",
            Malformed::Token => "bad request: token missing",
            Malformed::Delta => "bad request: unknown delta type",
        }
    }
}

impl From<Malformed> for Disconnect {
    fn from(_: Malformed) -> Disconnect {
        Disconnect::BadRequest
    }
}
