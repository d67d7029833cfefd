//! The input of the target `connection`.

use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use postern_core::SessionConfig;

use crate::portions;

/// The limits, the steps of the runtime and of the client, and the bytes that the client sends. The format can be
/// written by hand:
///
/// ```text
///   [limits: 1] [n: 1] [verb: 1, amount: 2, little-endian] × n [the stream]
/// ```
#[derive(Debug, Clone)]
pub struct Script {
    pub(crate) limits: SessionConfig,
    /// Whether tungstenite knows all of these limits, and they do not depend on time.
    pub(crate) is_comparable: bool,
    pub(crate) steps: Vec<Step>,
    pub(crate) stream: Vec<u8>,
}

/// One step.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// Verbs 0 to 2: the socket brings this many bytes, unless reading is paused.
    Read(usize),
    /// 3: the socket reports room for this many bytes. 65535 means without limit.
    Room(usize),
    /// 4: this many milliseconds pass.
    Wait(u64),
    /// 5: the client ends its side.
    End,
    /// 6: the socket fails.
    Fail,
    /// 7: the shutdown begins.
    ShutDown,
}

impl Script {
    /// Returns the stream in the portions of the script's reads, or cut by its own content if there are none.
    pub(crate) fn portions(&self) -> Box<dyn Iterator<Item = &[u8]> + '_> {
        let lens =
            self.steps.iter().filter_map(|step| if let Step::Read(n) = step { Some(*n) } else { None });
        let mut lens = lens.peekable();
        if lens.peek().is_none() {
            return Box::new(portions::by_content(&self.stream));
        }
        let mut rest = &self.stream[..];
        Box::new(lens.chain([usize::MAX]).map(move |len| portions::take(&mut rest, len)))
    }
}

impl<'a> Arbitrary<'a> for Script {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Script> {
        let choice = u.arbitrary::<u8>()?;
        let (limits, is_comparable) = match choice {
            ..0xf0 => (limits(choice), true),
            0xf0.. => (narrow_limits(choice), false),
        };
        let steps = (0..u.arbitrary::<u8>()?).map(|_| Step::arbitrary(u)).collect::<Result<_, _>>()?;
        Ok(Script { limits, is_comparable, steps, stream: u.bytes(u.len())?.to_vec() })
    }
}

impl<'a> Arbitrary<'a> for Step {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Step> {
        let (verb, amount) = (u.arbitrary::<u8>()?, u.arbitrary::<u16>()?);
        Ok(match verb % 8 {
            0..=2 => Step::Read(amount.max(1).into()),
            3 => Step::Room(if amount == u16::MAX { usize::MAX } else { amount.into() }),
            4 => Step::Wait(amount.into()),
            5 => Step::End,
            6 => Step::Fail,
            _ => Step::ShutDown,
        })
    }
}

/// Returns the defaults, or limits that short inputs reach. Of each pair of limits, each is once the lower one. A
/// control frame is below all of them.
pub(crate) fn limits(choice: u8) -> SessionConfig {
    // No rate of control frames: when the clock jumps, it would let more of them pass.
    let defaults = SessionConfig { control_rate: 0, ..SessionConfig::default() };
    let small = SessionConfig { max_message: 300, max_fragments: 5, ..defaults.clone() };
    match choice % 3 {
        0 => defaults,
        1 => SessionConfig { max_frame: 200, pause_backlog: 60, max_backlog: 250, ..small },
        _ => SessionConfig { max_frame: 400, pause_backlog: 250, max_backlog: 60, ..small },
    }
}

/// Returns the defaults, and limits that are lower than a control frame, limit the rate of control frames, or admit no
/// message.
fn narrow_limits(choice: u8) -> SessionConfig {
    let small = SessionConfig { max_message: 100, max_fragments: 4, ..SessionConfig::default() };
    match choice % 4 {
        0 => SessionConfig::default(),
        1 => SessionConfig { max_frame: 60, control_rate: 0, ..small },
        2 => SessionConfig { max_frame: 150, control_rate: 1, ..small },
        _ => SessionConfig {
            max_message: 0,
            max_frame: 0,
            message_timeout: Duration::ZERO,
            ..SessionConfig::default()
        },
    }
}
