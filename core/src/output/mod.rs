//! Output that is not yet written to a socket.
//!
//! * `segments`: large payloads of the current turn, which are sent without a copy.
//! * `frame_table`: frames that many connections send, each stored once, and joined frames.
//! * `queue`: the pending output of a connection between turns.

mod frame_table;
mod queue;
mod segments;

pub(crate) use frame_table::{FrameId, FrameTable};
pub(crate) use queue::{Output, OutputQueue};
pub(crate) use segments::{MIN_SEGMENT, OutputSegments};
