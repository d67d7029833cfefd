//! The attacks: the bytes that each connection sends, and their timing.

use std::time::Duration;

use super::Failure;
use super::frames::{BINARY, CONTINUATION, FIN, PING, bomb, frame, whole};

/// The behaviour of a connection.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Sent once, after the upgrade.
    pub(crate) first: Vec<u8>,
    /// Sent after `first`, repeatedly and as fast as the server accepts it.
    pub(crate) repeated: Vec<u8>,
    /// Whether it reads all the time, or only after the server has shut down its side.
    pub(crate) reads: bool,
    pub(crate) offers_deflate: bool,
    /// The time between two bytes of the upgrade request, which is then the attack itself. `None` sends it at once.
    pub(crate) byte_interval: Option<Duration>,
}

/// An attack that `--attack` can select.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) plan: fn() -> Result<Plan, Failure>,
}

pub(crate) static ATTACKS: &[Attack] = &[
    Attack {
        name: "slow-heads",
        help: "the upgrade request, at one byte per second",
        plan: || Ok(Plan { byte_interval: Some(Duration::from_secs(1)), reads: true, ..Plan::default() }),
    },
    Attack {
        name: "pings",
        help: "endless pings; pongs are not read",
        plan: || Ok(Plan { repeated: whole(FIN | PING, &[b'p'; 125]).repeat(512), ..Plan::default() }),
    },
    Attack {
        name: "fragments",
        help: "an endless message of fragments, alternately empty and of one byte",
        plan: || {
            let pair = [whole(CONTINUATION, b""), whole(CONTINUATION, b"f")].concat();
            Ok(Plan { first: whole(BINARY, b"f"), repeated: pair.repeat(4096), ..Plan::default() })
        },
    },
    Attack {
        name: "half-frames",
        help: "the first byte of a frame of 64 KiB",
        plan: || Ok(Plan { first: frame(FIN | BINARY, LARGEST, b"h"), ..Plan::default() }),
    },
    Attack {
        name: "half-messages",
        help: "the first half of a frame of 64 KiB",
        plan: || Ok(Plan { first: frame(FIN | BINARY, LARGEST, &[b'h'; LARGEST / 2]), ..Plan::default() }),
    },
    Attack {
        name: "stalled",
        help: "endless messages of 64 KiB; echoes are not read",
        plan: || Ok(Plan { repeated: whole(FIN | BINARY, &[b's'; LARGEST]), ..Plan::default() }),
    },
    Attack {
        name: "bombs",
        help: "endless compressed messages of 64 MiB of zeros",
        plan: || Ok(Plan { repeated: bomb(64 << 20)?, offers_deflate: true, ..Plan::default() }),
    },
    Attack {
        name: "talker",
        help: "endless messages of 64 KiB; echoes are read",
        plan: || Ok(Plan { repeated: whole(FIN | BINARY, &[b't'; LARGEST]), reads: true, ..Plan::default() }),
    },
];

/// The default of `POSTERN_MAX_MESSAGE`.
const LARGEST: usize = 64 * 1024;
