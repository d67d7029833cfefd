//! What an application can do wrong after the 101.

use std::fmt;

/// The message was not sent: a Close has gone out or come in, and no data may follow it (RFC 6455 §5.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Closing;

impl fmt::Display for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is closing")
    }
}

impl std::error::Error for Closing {}
