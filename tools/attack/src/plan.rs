//! The attacks: what each of their connections sends, and how.

use std::time::Duration;

use super::Failure;
use super::frames::{BINARY, CONTINUATION, FIN, PING, bomb, frame, whole};

/// What a connection does.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Sent once, when the upgrade is through.
    pub(crate) first: Vec<u8>,
    /// Sent behind it over and over, as fast as it is taken.
    pub(crate) again: Vec<u8>,
    /// Whether it takes what comes. Else it looks at it only when the server has ended its side.
    pub(crate) reads: bool,
    pub(crate) offers_deflate: bool,
    /// Sends its request byte by byte with so much time between them. So the attack begins with its first byte.
    pub(crate) drip: Option<Duration>,
}

/// An attack by its name.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) plan: fn() -> Result<Plan, Failure>,
}

pub(crate) static ATTACKS: &[Attack] = &[
    Attack {
        name: "slow-heads",
        help: "the request, a byte a second",
        plan: || Ok(Plan { drip: Some(Duration::from_secs(1)), reads: true, ..Plan::default() }),
    },
    Attack {
        name: "pings",
        help: "pings without end; pongs are not read",
        plan: || Ok(Plan { again: whole(FIN | PING, &[b'p'; 125]).repeat(512), ..Plan::default() }),
    },
    Attack {
        name: "fragments",
        help: "a message of fragments without end, of a byte and of none by turns",
        plan: || {
            let pair = [whole(CONTINUATION, b""), whole(CONTINUATION, b"f")].concat();
            Ok(Plan { first: whole(BINARY, b"f"), again: pair.repeat(4096), ..Plan::default() })
        },
    },
    Attack {
        name: "half-frames",
        help: "a frame of 64 KiB, of which one byte comes",
        plan: || Ok(Plan { first: frame(FIN | BINARY, LARGEST, b"h"), ..Plan::default() }),
    },
    Attack {
        name: "half-messages",
        help: "a frame of 64 KiB, of which a half comes",
        plan: || Ok(Plan { first: frame(FIN | BINARY, LARGEST, &[b'h'; LARGEST / 2]), ..Plan::default() }),
    },
    Attack {
        name: "stalled",
        help: "messages of 64 KiB without end; echoes are not read",
        plan: || Ok(Plan { again: whole(FIN | BINARY, &[b's'; LARGEST]), ..Plan::default() }),
    },
    Attack {
        name: "bombs",
        help: "compressed messages of 64 MiB of zeros",
        plan: || Ok(Plan { again: bomb(64 << 20)?, offers_deflate: true, ..Plan::default() }),
    },
    Attack {
        name: "talker",
        help: "messages of 64 KiB without end; echoes are read",
        plan: || Ok(Plan { again: whole(FIN | BINARY, &[b't'; LARGEST]), reads: true, ..Plan::default() }),
    },
];

/// The longest message that Postern takes by default.
const LARGEST: usize = 64 * 1024;
