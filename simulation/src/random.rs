//! The choices of a seed.

use std::ops::RangeInclusive;
use std::time::Duration;

/// A source of numbers that depend on its seed alone.
#[derive(Debug, Clone)]
pub(crate) struct Random(fastrand::Rng);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(fastrand::Rng::with_seed(seed))
    }

    /// Returns another source, which does not change with the number of values that are taken from this one later.
    pub(crate) fn fork(&mut self) -> Random {
        Random(self.0.fork())
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0.u64(..)
    }

    pub(crate) fn within(&mut self, range: RangeInclusive<usize>) -> usize {
        self.0.usize(range)
    }

    /// Returns a number of the range, small ones as often as large ones: each power of two is equally likely.
    pub(crate) fn magnitude(&mut self, range: RangeInclusive<usize>) -> usize {
        let (least, most) = (range.start().max(&1).ilog2(), range.end().max(&1).ilog2());
        let power = 1_usize << self.0.u32(least..=most);
        self.0.usize(power..2 * power).clamp(*range.start(), *range.end())
    }

    /// Whether an event with the probability `1 / n` happens.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.0.usize(..n) == 0
    }

    /// Returns one of these values.
    pub(crate) fn pick<T: Copy, const N: usize>(&mut self, values: [T; N]) -> T {
        values[self.0.usize(..N)]
    }

    /// Returns a time of the range of microseconds, short ones as often as long ones.
    pub(crate) fn micros(&mut self, range: RangeInclusive<usize>) -> Duration {
        Duration::from_micros(self.magnitude(range) as u64)
    }

    pub(crate) fn shuffle<T>(&mut self, values: &mut [T]) {
        self.0.shuffle(values);
    }
}
