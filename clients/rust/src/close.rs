//! The meaning of close codes.

/// Returns whether a client should reconnect after a Close with this code.
///
/// Codes from 3500 to 3999 and from 4500 to 4999 end a connection permanently, as does 1009: the same message would be too long
/// again. In plain mode, so do the codes by which Postern refuses a user: 4403 (forbidden), 4409 (replaced by a newer connection)
/// and 4430 (too many connections); pass `is_plain` for them.
pub fn may_reconnect(code: u16, is_plain: bool) -> bool {
    match code {
        1009 | 3500..=3999 | 4500..=4999 => false,
        4403 | 4409 | 4430 => !is_plain,
        _ => true,
    }
}

/// Codes with which this client ends a connection by itself, in [`Event::Reconnecting`](crate::Event::Reconnecting) and
/// [`Event::Disconnected`](crate::Event::Disconnected). They are below 1000, so they are never codes of a server.
pub mod codes {
    /// The application has called `disconnect`.
    pub const DISCONNECTED: u16 = 0;
    /// The connection could not be opened, or `connect` was refused for now.
    pub const NOT_CONNECTED: u16 = 1;
    /// No ping has arrived in time.
    pub const NO_PING: u16 = 2;
    /// The server has not answered in time.
    pub const TIMEOUT: u16 = 3;
    /// The server has sent something that is not a reply.
    pub const BAD_REPLY: u16 = 4;
    /// The source of tokens has refused a token, or `connect` was refused permanently.
    pub const UNAUTHORIZED: u16 = 5;
    /// The connection ended without a Close.
    pub const LOST: u16 = 6;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_codes_are_final() {
        for (code, channels, plain) in [
            (1000, true, true),
            (1009, false, false),
            (1012, true, true),
            (3001, true, true),
            (3499, true, true),
            (3500, false, false),
            (3999, false, false),
            (4401, true, true),
            (4403, true, false),
            (4430, true, false),
            (4499, true, true),
            (4500, false, false),
            (5000, true, true),
        ] {
            assert_eq!((may_reconnect(code, false), may_reconnect(code, true)), (channels, plain), "{code}");
        }
    }
}
