//! Durations, counted in buckets.

use std::time::Duration;

/// Counts of durations by upper bound, in plain fields: each worker has its own, and a request for metrics adds
/// them up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    bounds: &'static [Duration],
    /// One for each bound, and one for durations longer than all of them.
    counts: Box<[u64]>,
    sum: Duration,
}

impl Histogram {
    /// Creates an empty histogram with these bounds, which ascend. A duration equal to a bound counts to it.
    pub fn new(bounds: &'static [Duration]) -> Histogram {
        Histogram { bounds, counts: vec![0; bounds.len() + 1].into_boxed_slice(), sum: Duration::ZERO }
    }

    /// Counts one duration.
    pub fn observe(&mut self, time: Duration) {
        let bucket = self.bounds.partition_point(|bound| *bound < time);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum = self.sum.saturating_add(time);
    }

    /// Adds the counts of another histogram with the same bounds.
    pub fn add(&mut self, other: &Histogram) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// Returns the sum of all durations, in seconds.
    pub(super) fn sum(&self) -> f64 {
        self.sum.as_secs_f64()
    }

    /// Returns the number of durations.
    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns, for each bound in seconds, the number of durations between it and the bound before it. The last bound
    /// is infinity.
    pub(super) fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = self.bounds.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
        bounds.zip(self.counts.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: &[Duration] = &[Duration::from_millis(1), Duration::from_millis(10)];

    #[test]
    fn a_time_counts_to_the_first_bound_that_is_not_less() {
        let mut histogram = Histogram::new(BOUNDS);
        for millis in [0, 1, 2, 10, 11, 60_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        assert_eq!(histogram.buckets(), [(0.001, 2), (0.01, 2), (f64::INFINITY, 2)]);
        assert_eq!((histogram.count(), histogram.sum()), (6, 60.024));
    }

    #[test]
    fn histograms_of_several_workers_are_added_up() {
        let mut sum = Histogram::new(BOUNDS);
        let mut one = Histogram::new(BOUNDS);
        one.observe(Duration::from_millis(5));
        sum.add(&one);
        sum.add(&one);
        assert_eq!(sum.buckets(), [(0.001, 0), (0.01, 2), (f64::INFINITY, 0)]);
        assert_eq!(sum.sum(), 0.01);
    }
}
