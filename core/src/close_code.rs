//! Close codes (RFC 6455 §7.4): the type, and the codes from 4000 on that Postern defines. `docs/troubleshooting.md` has the
//! meaning of each for clients and operators.

use std::fmt;

/// The code of a Close frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(pub u16);

/// The codes of RFC 6455 §7.4.1, and those that IANA has added.
impl CloseCode {
    /// The connection has served its purpose.
    pub const NORMAL: CloseCode = CloseCode(1000);
    /// The server stops, or a browser leaves the page.
    pub const GOING_AWAY: CloseCode = CloseCode(1001);
    /// The peer violated the protocol.
    pub const PROTOCOL_ERROR: CloseCode = CloseCode(1002);
    /// The peer sent a kind of data that the endpoint cannot accept.
    pub const UNSUPPORTED_DATA: CloseCode = CloseCode(1003);
    /// The data of a message did not have the form that its kind requires, such as UTF-8.
    pub const INVALID_PAYLOAD: CloseCode = CloseCode(1007);
    /// The peer violated a policy.
    pub const POLICY_VIOLATION: CloseCode = CloseCode(1008);
    /// A message is larger than the endpoint accepts.
    pub const MESSAGE_TOO_BIG: CloseCode = CloseCode(1009);
    /// The server did not negotiate an extension that the client requires.
    pub const MANDATORY_EXTENSION: CloseCode = CloseCode(1010);
    /// The server cannot fulfil the request.
    pub const INTERNAL_ERROR: CloseCode = CloseCode(1011);
    /// The service restarts; clients may reconnect.
    pub const SERVICE_RESTART: CloseCode = CloseCode(1012);
    /// The service is overloaded; clients may reconnect later.
    pub const TRY_AGAIN_LATER: CloseCode = CloseCode(1013);
}

impl CloseCode {
    /// Returns the reason that Postern gives with this code, unless the caller gives another reason. It is in the Close
    /// frame and in the log.
    pub fn reason(self) -> &'static str {
        match self.0 {
            1000 => "closed",
            1001 => "going away",
            1011 => "internal error",
            1012 => "service restart",
            1013 => "overloaded",
            NO_PONG => "no pong",
            REPLACED => "replaced",
            SLOW_CONSUMER => "slow consumer",
            RATE_EXCEEDED => "rate exceeded",
            TOO_MANY_CONNECTIONS => "too many connections",
            _ => "closed by the server",
        }
    }
}

impl From<u16> for CloseCode {
    fn from(code: u16) -> CloseCode {
        CloseCode(code)
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> u16 {
        code.0
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// 401 as a close code: the gateway did not name a user, or the token of the user has expired.
pub const UNAUTHORIZED: u16 = 4401;

/// 403 as a close code: the user is not allowed here, an operator has disconnected the user, or the credentials are revoked.
pub const FORBIDDEN: u16 = 4403;

/// The peer did not answer a ping.
pub const NO_PONG: u16 = 4408;

/// A newer connection of the user has replaced this one, because the user has the maximum number.
pub const REPLACED: u16 = 4409;

/// The pending output of the connection exceeded its limit.
pub const SLOW_CONSUMER: u16 = 4413;

/// The peer exceeded a rate.
pub const RATE_EXCEEDED: u16 = 4429;

/// 429 as a close code: the user has the maximum number of connections.
pub const TOO_MANY_CONNECTIONS: u16 = 4430;

/// All of these codes.
pub const ALL: [u16; 7] =
    [UNAUTHORIZED, FORBIDDEN, NO_PONG, REPLACED, SLOW_CONSUMER, RATE_EXCEEDED, TOO_MANY_CONNECTIONS];
