//! Counts of the clients of a worker, since its start.

use std::ops::AddAssign;

use crate::protocol::Request;

/// Counts of the clients of a worker, since its start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    commands: [u64; METHODS.len()],
    errors: [u64; ERRORS],
    /// The publications that were sent to subscribers, once for each subscriber.
    pub deliveries: u64,
}

impl Counts {
    /// Returns the number of commands, by the name of the command. Pongs are not counted.
    pub fn commands(&self) -> impl Iterator<Item = (&'static str, u64)> {
        METHODS.into_iter().zip(self.commands)
    }

    /// Returns the number of error replies by their codes, without codes that have never been sent.
    pub fn errors(&self) -> impl Iterator<Item = (u32, u64)> {
        (FIRST_ERROR..).zip(self.errors).filter(|&(_, count)| count > 0)
    }

    pub(crate) fn command(&mut self, request: &Request<'_>) {
        // Pongs have the number after the last method.
        add(self.commands.get_mut(usize::from(request.rank())), 1);
    }

    /// Counts an error reply. The codes of backends are not counted here.
    pub(crate) fn error(&mut self, code: u32) {
        let index = code.checked_sub(FIRST_ERROR).map(|index| index as usize);
        add(index.and_then(|index| self.errors.get_mut(index)), 1);
    }
}

impl AddAssign<&Counts> for Counts {
    fn add_assign(&mut self, other: &Counts) {
        self.commands.iter_mut().zip(other.commands).for_each(|(count, other)| *count += other);
        self.errors.iter_mut().zip(other.errors).for_each(|(count, other)| *count += other);
        self.deliveries += other.deliveries;
    }
}

fn add(count: Option<&mut u64>, more: u64) {
    if let Some(count) = count {
        *count += more;
    }
}

/// The names of commands, in the order of [`Request::rank`].
pub(crate) const METHODS: [&str; 11] = [
    "connect",
    "subscribe",
    "unsubscribe",
    "publish",
    "presence",
    "presence_stats",
    "history",
    "rpc",
    "send",
    "refresh",
    "sub_refresh",
];

/// The lowest [`ErrorCode`](crate::ErrorCode).
const FIRST_ERROR: u32 = 100;

/// The number of error codes.
const ERRORS: usize = 13;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorCode;

    #[test]
    fn commands_are_counted_by_name_and_errors_by_code() {
        let mut counts = Counts::default();
        counts.command(&Request::Pong);
        counts.command(&Request::Presence { channel: "a".into() });
        counts.error(ErrorCode::Internal.number());
        counts.error(ErrorCode::UnrecoverablePosition.number());
        counts.error(1_000);
        let mut sum = counts.clone();
        sum += &counts;
        let commands: Vec<_> = sum.commands().filter(|&(_, count)| count > 0).collect();
        assert_eq!(commands, [("presence", 2)]);
        assert_eq!(sum.errors().collect::<Vec<_>>(), [(100, 2), (112, 2)]);
    }
}
