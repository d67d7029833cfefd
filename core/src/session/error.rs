//! The error of sending on a session that is closing.

use std::fmt;

/// The message was not sent, because a Close was sent or received, and no data may follow it (RFC 6455 §5.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Closing;

impl fmt::Display for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is closing")
    }
}

impl std::error::Error for Closing {}
