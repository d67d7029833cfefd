//! What a client is going to do, chosen before it connects.

use std::collections::VecDeque;
use std::time::Duration;

use postern_core::frame::DataKind;

use crate::random::Random;

/// One action of a client.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Action {
    /// Send a message of this length in this number of frames.
    Send {
        kind: DataKind,
        len: usize,
        frames: usize,
    },
    Ping(usize),
    /// Read nothing for this time.
    StopReading(Duration),
    Wait(Duration),
    /// Begin a message and never finish it.
    SendPart,
    /// Announce a message that is longer than the limit.
    SendTooLong,
    /// Send a Close with this code, or without one.
    Close(Option<u16>),
    /// End the sending side after all output, and continue to read.
    ShutDown,
    Reset,
    /// Neither read nor write any more.
    Vanish,
}

/// The constant behaviour of a client.
#[derive(Debug)]
pub(crate) struct Habits {
    /// The most bytes that it writes and reads at a time.
    pub(crate) portion: usize,
    /// The longest time between two of its steps, in microseconds.
    pub(crate) pause: usize,
    /// Whether it begins the next action before the output of the last one is written.
    pub(crate) is_impatient: bool,
    pub(crate) answers_pings: bool,
    pub(crate) answers_close: bool,
    pub(crate) offers_subprotocol: bool,
    /// The window of the compression that it offers.
    pub(crate) offered_window: Option<u8>,
    /// Whether its request must be refused.
    pub(crate) is_refused: bool,
    /// Whether it never sends the end of its request.
    pub(crate) stops_in_head: bool,
}

impl Habits {
    pub(crate) fn new(random: &mut Random) -> Habits {
        Habits {
            portion: random.magnitude(8..=262_144),
            pause: random.pick([100, 1000, 20_000]),
            is_impatient: random.one_in(3),
            answers_pings: !random.one_in(8),
            answers_close: !random.one_in(8),
            offers_subprotocol: random.one_in(3),
            offered_window: random.one_in(2).then(|| random.pick([9, 10, 12, 15])),
            is_refused: random.one_in(12),
            stops_in_head: random.one_in(20),
        }
    }
}

/// Chooses the actions of a client, which sends messages of at most `budget` bytes in total.
pub(crate) fn script(random: &mut Random, budget: usize) -> VecDeque<Action> {
    let largest = random.pick([100, 100, 5000, 250_000]);
    let mut budget = budget.min(1_000_000);
    let mut actions = VecDeque::new();
    for _ in 0..random.magnitude(1..=40) {
        let action = match random.within(0..=9) {
            0 => Action::Ping(random.within(0..=125)),
            1 => Action::Wait(random.micros(100..=3_000_000)),
            2 if random.one_in(3) => Action::StopReading(random.micros(1000..=8_000_000)),
            _ => {
                let len = random.magnitude(0..=largest).min(budget);
                budget -= len;
                let frames = if random.one_in(3) { random.within(2..=5) } else { 1 };
                Action::Send { kind: random.pick([DataKind::Text, DataKind::Binary]), len, frames }
            }
        };
        actions.push_back(action);
    }
    match random.within(0..=11) {
        0..=2 => actions.push_back(Action::Close(random.pick([None, Some(1000), Some(1001), Some(4000)]))),
        3 => actions.push_back(Action::ShutDown),
        4 => actions.push_back(Action::Reset),
        5 => actions.push_back(Action::Vanish),
        6 => {
            actions.extend([Action::SendPart, random.pick([Action::ShutDown, Action::Reset, Action::Vanish])])
        }
        7 => actions.push_back(random.pick([Action::SendPart, Action::SendTooLong])),
        // It stays until the server closes.
        _ => {}
    }
    actions
}
