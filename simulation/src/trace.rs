//! The trace of a run: its steps, as a hash, and on request as text.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::shorten::{Options, Part, Without};

/// The events, in their order.
#[derive(Debug)]
pub(crate) struct Trace {
    /// The virtual time since the start.
    pub(crate) now: Duration,
    /// The number of steps until now.
    pub(crate) steps: u64,
    /// The statuses of answers, and the close codes of connections that were removed.
    pub(crate) seen: BTreeSet<u16>,
    hash: u64,
    shown: Shown,
    /// The parts of the plan that are left out.
    without: Without,
    /// The parts of the plan until now, with those that are left out.
    pub(crate) parts: Vec<Part>,
}

/// The output of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Shown {
    /// Neither.
    #[default]
    Nothing,
    /// The parts of its plan.
    Plan,
    /// Its steps.
    Steps,
}

/// The subject of a step.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject {
    World,
    Worker(usize),
    /// A client, and the server's side of its connection.
    Client(usize),
}

impl Trace {
    pub(crate) fn new(options: &Options) -> Trace {
        Trace {
            now: Duration::ZERO,
            steps: 0,
            seen: BTreeSet::new(),
            hash: 0xcbf2_9ce4_8422_2325,
            shown: options.shown,
            without: options.without.clone(),
            parts: Vec::new(),
        }
    }

    /// Whether the steps are printed.
    pub(crate) fn is_printed(&self) -> bool {
        self.shown == Shown::Steps
    }

    /// Adds a part of the plan. Returns whether it is in the plan, and not left out.
    pub(crate) fn plan(&mut self, part: Part, what: fmt::Arguments<'_>) -> bool {
        self.parts.push(part);
        let is_kept = !self.without.contains(part);
        if is_kept && self.shown == Shown::Plan {
            println!("{:>4}:{:<4}  {what}", part.0, part.1);
        }
        is_kept
    }

    /// Adds a step: what happened, and an amount that depends on it.
    pub(crate) fn step(&mut self, subject: Subject, what: &'static str, amount: usize) {
        self.steps += 1;
        let (kind, number) = match subject {
            Subject::World => (1, 0),
            Subject::Worker(number) => (2, number),
            Subject::Client(number) => (3, number),
        };
        self.mix(self.now.as_nanos() as u64);
        self.mix(kind << 32 | number as u64);
        self.mix(amount as u64);
        self.add_bytes(what.as_bytes());
        if self.is_printed() {
            let subject = match subject {
                Subject::World => "world".to_owned(),
                Subject::Worker(number) => format!("worker {number}"),
                Subject::Client(number) => format!("client {}", number + 1),
            };
            println!("{:>14.6} s  {subject:<10}  {what}: {amount}", self.now.as_secs_f64());
        }
    }

    /// Adds bytes, such as those that a client received.
    pub(crate) fn add_bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    /// Returns the hash of all steps.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    fn mix(&mut self, value: u64) {
        self.hash = (self.hash.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}
