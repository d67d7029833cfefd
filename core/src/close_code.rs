//! The close codes of our own: of 4000 and more, which RFC 6455 §7.4.2 leaves to applications. What a client and an operator
//! do about each stands in `docs/troubleshooting.md`.

/// Nobody has vouched for the user: 401, said by a Close frame.
pub const UNAUTHORIZED: u16 = 4401;

/// The user may not be here: 403, said by a Close frame, or an operator who has sent the user away.
pub const FORBIDDEN: u16 = 4403;

/// Nothing came of a ping.
pub const NO_PONG: u16 = 4408;

/// The user has come once more than one may, and this is the oldest connection.
pub const REPLACED: u16 = 4409;

/// More waits for the peer than may.
pub const SLOW_CONSUMER: u16 = 4413;

/// The peer sends faster than it may.
pub const RATE_EXCEEDED: u16 = 4429;

/// The user has as many connections as one may: 429, said by a Close frame.
pub const TOO_MANY_CONNECTIONS: u16 = 4430;

/// All of them.
pub const ALL: [u16; 7] =
    [UNAUTHORIZED, FORBIDDEN, NO_PONG, REPLACED, SLOW_CONSUMER, RATE_EXCEEDED, TOO_MANY_CONNECTIONS];
