//! Shortens a run with a violation: leaves out as many parts of its plan as possible, so that the rest can be understood.
//!
//! This is delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002): halves of the plan
//! are left out, then quarters, and so on down to single parts. Each candidate runs from the start with the same seed, and counts
//! if it has the same violation.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::fault::Fault;
use crate::trace::Shown;
use crate::world::Outcome;

/// A part of a plan. Its group is 0 for the events of the world, such as the arrival of a client, and otherwise the number of the
/// client, counted from 1, whose action it is.
pub(crate) type Part = (usize, usize);

/// The options of a run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The output.
    pub shown: Shown,
    /// The parts of the plan that are left out.
    pub without: Without,
    /// The fault that is planted.
    pub fault: Option<Fault>,
    /// The number of steps after which the run ends with a violation, if that is fewer than usual.
    pub most_steps: Option<u64>,
}

/// Parts of a plan that are left out. As text, such as `0:3-17,2:5`, it has ranges of numbers with the numbers of their groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Without(BTreeSet<Part>);

impl Without {
    /// Whether no part is left out.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a part is left out.
    pub(crate) fn contains(&self, part: Part) -> bool {
        self.0.contains(&part)
    }

    fn and(&self, parts: &[Part]) -> Without {
        Without(self.0.iter().chain(parts).copied().collect())
    }
}

impl fmt::Display for Without {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = self.0.iter().copied().peekable();
        let mut comma = "";
        while let Some((group, first)) = parts.next() {
            let mut last = first;
            while let Some((_, next)) = parts.next_if_eq(&(group, last + 1)) {
                last = next;
            }
            write!(f, "{comma}{group}:{first}")?;
            if last > first {
                write!(f, "-{last}")?;
            }
            comma = ",";
        }
        Ok(())
    }
}

impl FromStr for Without {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Without, &'static str> {
        let range = |text: &str| {
            let (group, range) = text.split_once(':')?;
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (group, first, last): (usize, usize, usize) =
                (group.parse().ok()?, first.parse().ok()?, last.parse().ok()?);
            Some((first..=last).map(move |number| (group, number)))
        };
        let ranges: Option<Vec<_>> = text.split(',').map(range).collect();
        let ranges = ranges.ok_or("not a list of ranges such as 0:3-17,2:5")?;
        Ok(Without(ranges.into_iter().flatten().collect()))
    }
}

/// Returns the parts of the plan that the run does not need for its violation, and the outcome without them. The work is limited by
/// a number of steps of all candidates, not by a clock, so the result depends on the seed alone.
pub fn shorten(options: &Options, most_steps: u64, run: impl Fn(&Options) -> Outcome) -> (Without, Outcome) {
    let silent = Options { shown: Shown::Nothing, ..options.clone() };
    let mut shortest = (options.without.clone(), run(&silent));
    let Some(violation) = shortest.1.violation.clone() else { return shortest };
    let mut steps = 0;
    let mut size = shortest.1.parts.len();
    while size > 0 {
        let (without, outcome) = &shortest;
        let kept: Vec<Part> = outcome.parts.iter().copied().filter(|part| !without.contains(*part)).collect();
        size = size.min(kept.len().div_ceil(2));
        let mut is_shorter = false;
        for parts in kept.chunks(size.max(1)) {
            if steps > most_steps {
                return shortest;
            }
            let without = shortest.0.and(parts);
            // One with more steps than the shortest is not shorter.
            let most_steps = Some(shortest.1.steps);
            let outcome = run(&Options { without: without.clone(), most_steps, ..silent.clone() });
            steps += outcome.steps;
            let is_same = outcome.violation.as_ref().is_some_and(|other| other.is_same(&violation));
            if is_same && outcome.steps <= shortest.1.steps {
                shortest = (without, outcome);
                is_shorter = true;
            }
        }
        if !is_shorter {
            size /= 2;
        }
    }
    shortest
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::invariants::Violation;

    #[test]
    fn parts_that_are_left_out_are_read_as_they_are_written() {
        for text in ["0:3", "0:3-17,2:5", "0:0-1,0:3,1:0-9,12:7"] {
            assert_eq!(text.parse::<Without>().expect("a list").to_string(), text);
        }
        assert_eq!("2:5,0:2,0:1".parse::<Without>().expect("a list").to_string(), "0:1-2,2:5");
        for text in ["", "3", "0:", "0:a", "0:1-", "0:1,,0:2"] {
            assert!(text.parse::<Without>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_the_parts_that_a_violation_needs_are_left() {
        let all: Vec<Part> =
            (0..40).map(|number| (0, number)).chain((0..60).map(|number| (3, number))).collect();
        let needed = [(0, 7), (3, 0), (3, 41)];
        let run = |options: &Options| {
            let fails = needed.iter().all(|part| !options.without.contains(*part));
            // Another violation does not count.
            let what = if fails { "the first" } else { "another" };
            Outcome {
                steps: 100,
                hash: 0,
                time: Duration::ZERO,
                connections: 0,
                seen: BTreeSet::new(),
                marks: BTreeSet::new(),
                parts: all.clone(),
                violation: Some(Violation::new(None, what)),
            }
        };
        let (without, _) = shorten(&Options::default(), 100_000, run);
        let left: Vec<Part> = all.iter().copied().filter(|part| !without.contains(*part)).collect();
        assert_eq!(left, needed);
    }
}
