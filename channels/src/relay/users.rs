//! The limit of the connections of each user on all nodes.
//!
//! A connection is admitted without a question to the engine. Its node then writes all of its connections of the user, and the
//! script returns those that are too many on all nodes. A node closes only its own ones: a script that finds connections of other
//! nodes sends a message, after which those nodes write and ask, too. Nothing depends on the order of writes, because each one
//! has the whole state of a node.
//!
//! Entries belong to a lease, like entries of the presence. Under a new lease, all users are written again. While the engine cannot
//! be reached, each node has its own limit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::command::{Command, UserLimit, WriteUser};
use super::presence::LEASE;
use super::{Call, Local, Relay, RelayEvent};

/// The users whose connections have changed, and connections that are too many.
#[derive(Debug, Default)]
pub(super) struct Users {
    limit: Option<UserLimit>,
    /// Whether messages to this node arrive. Before that, it would not learn that another node has found its connections to be too
    /// many.
    is_subscribed: bool,
    /// Whether all users must be written.
    is_unwritten: bool,
    /// Users that must be written.
    changed: BTreeSet<Arc<str>>,
    /// Users whose writes have no reply, and whether they have changed since.
    asked: BTreeMap<Arc<str>, bool>,
    /// The users with too many connections, and when to ask again: an older connection may have ended, without that having been
    /// written.
    excess: BTreeMap<Arc<str>, Instant>,
    /// The same, by the times.
    questions: BTreeSet<(Instant, Arc<str>)>,
    /// When the engine is asked again after a failure.
    pause: Option<Instant>,
}

impl Users {
    pub(super) fn new(limit: Option<UserLimit>) -> Users {
        Users { limit, ..Users::default() }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.questions.first().map(|(at, _)| *at).into_iter().chain(self.pause).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.pause.take_if(|at| *at <= now);
        while self.questions.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, user)) = self.questions.pop_first()
        {
            self.excess.remove(&user);
            self.change(user);
        }
    }

    /// Forgets everything. All users are written under the next lease.
    pub(super) fn handle_down(&mut self) {
        *self = Users::new(self.limit);
    }

    /// Messages to this node arrive from now on.
    pub(super) fn handle_subscribed(&mut self) {
        self.is_subscribed = true;
    }

    /// Begins to write all users.
    pub(super) fn begin(&mut self) {
        self.is_unwritten = self.limit.is_some();
    }

    /// The connections of a user have changed.
    pub(super) fn change(&mut self, user: Arc<str>) {
        match self.asked.get_mut(&user) {
            Some(has_changed) => *has_changed = true,
            None if self.limit.is_some() => _ = self.changed.insert(user),
            None => {}
        }
    }

    /// Returns the next user to write. One that has changed during a write follows after its reply.
    fn next(&mut self) -> Option<Arc<str>> {
        if self.pause.is_some() || self.asked.len() >= MOST_ASKED {
            return None;
        }
        let user = self.changed.pop_first()?;
        self.asked.insert(user.clone(), false);
        Some(user)
    }

    /// A user is written, and has had too many connections for the time `above`. Returns the connections to close.
    fn handle_reply(&mut self, user: &Arc<str>, excess: &[u64], above: Duration, now: Instant) -> Vec<u64> {
        if self.asked.remove(user) == Some(true) {
            self.changed.insert(user.clone());
        }
        let closes_oldest = !self.limit.is_some_and(|limit| limit.closes_newest);
        if excess.is_empty() || closes_oldest || above >= GRACE {
            if let Some(at) = self.excess.remove(user) {
                self.questions.remove(&(at, user.clone()));
            }
            return excess.to_vec();
        }
        if !self.excess.contains_key(user) {
            let at = now + (GRACE - above);
            self.excess.insert(user.clone(), at);
            self.questions.insert((at, user.clone()));
        }
        Vec::new()
    }

    /// A user is not written. It is tried again.
    pub(super) fn handle_failure(&mut self, user: Arc<str>, now: Instant) {
        self.asked.remove(&user);
        self.changed.insert(user);
        self.pause = Some(now + RETRY);
    }
}

impl Relay {
    /// The connections of a user on this node have changed.
    pub fn handle_user_changed(&mut self, user: Arc<str>) {
        // All users are written under the next lease.
        if self.leases.own.is_some() {
            self.users.change(user);
        }
    }

    /// Writes the users whose connections have changed.
    pub(super) fn write_users(&mut self, now: Instant, local: &mut impl Local) {
        let (Some(limit), Some(lease)) = (self.users.limit, self.leases.own) else { return };
        if !self.link.is_open() || !self.users.is_subscribed {
            return;
        }
        if std::mem::take(&mut self.users.is_unwritten) {
            local.users().into_iter().for_each(|user| self.users.change(user));
        }
        while let Some(user) = self.users.next() {
            let connections = local.connections(&user).into_iter();
            let connections =
                connections.map(|(number, since)| (number, now.saturating_duration_since(since)));
            let write = WriteUser {
                user: user.clone(),
                lease,
                time: LEASE,
                node: self.config.link.node,
                limit,
                connections: connections.collect(),
            };
            match self.link.submit(Command::WriteUser(Box::new(write)), now) {
                Ok(ticket) => _ = self.calls.insert(ticket, Call::User(user)),
                Err(_) => self.users.handle_failure(user, now),
            }
        }
    }

    pub(super) fn handle_user(
        &mut self,
        user: &Arc<str>,
        was_known: bool,
        excess: &[u64],
        above: Duration,
        now: Instant,
    ) {
        if !was_known {
            self.write_all_presence();
        }
        for connection in self.users.handle_reply(user, excess, above, now) {
            self.events.push_back(RelayEvent::Close { user: user.clone(), connection });
        }
    }
}

/// The first byte of a message that a user has too many connections.
pub(super) const CHANGED: u8 = b'u';

/// The time after which new connections of a user with too many are closed: the end of an older one at another node may be on its
/// way.
const GRACE: Duration = Duration::from_millis(300);

/// The time after which a write that has failed is repeated.
const RETRY: Duration = Duration::from_millis(100);

/// The most writes without a reply.
const MOST_ASKED: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn users(closes_newest: bool) -> Users {
        Users::new(Some(UserLimit { most: 2, closes_newest }))
    }

    fn name(user: &str) -> Arc<str> {
        user.into()
    }

    #[test]
    fn a_user_that_changes_during_a_write_is_written_again() {
        let (mut users, now) = (users(false), Instant::now());
        ["7", "1", "7"].into_iter().for_each(|user| users.change(name(user)));
        assert_eq!([users.next(), users.next(), users.next()], [Some(name("1")), Some(name("7")), None]);
        users.change(name("7"));
        assert_eq!(users.next(), None);
        for user in ["1", "7"] {
            assert_eq!(users.handle_reply(&name(user), &[], Duration::ZERO, now), [0_u64; 0]);
        }
        assert_eq!([users.next(), users.next()], [Some(name("7")), None]);
    }

    #[test]
    fn the_oldest_connections_are_closed_at_once() {
        let (mut users, now) = (users(false), Instant::now());
        users.change(name("7"));
        users.next();
        assert_eq!(users.handle_reply(&name("7"), &[3, 4], Duration::ZERO, now), [3, 4]);
        assert_eq!(users.poll_timeout(), None);
    }

    #[test]
    fn the_newest_connections_are_closed_if_a_user_has_too_many_for_some_time() {
        let (mut users, start) = (users(true), Instant::now());
        let mut ask = |after: u64, excess: &[u64], above: u64| {
            let now = start + Duration::from_millis(after);
            users.handle_timeout(now);
            users.change(name("7"));
            assert_eq!(users.next(), Some(name("7")));
            let closed = users.handle_reply(&name("7"), excess, Duration::from_millis(above), now);
            (closed, users.poll_timeout().map(|at| at - start))
        };
        let wait = |after| Some(Duration::from_millis(after));
        assert_eq!(ask(0, &[5], 0), (vec![], wait(300)));
        assert_eq!(ask(100, &[5, 6], 100), (vec![], wait(300)));
        // All of them: opening connections all the time does not keep more of them.
        assert_eq!(ask(300, &[5, 6, 7], 300), (vec![5, 6, 7], None));
        assert_eq!(ask(310, &[8], 310), (vec![8], None));
        // After the limit was kept, there is time again: the rest of it, if another node has noticed earlier.
        assert_eq!(ask(320, &[], 0), (vec![], None));
        assert_eq!(ask(500, &[9], 250), (vec![], wait(550)));
        assert_eq!(ask(520, &[], 0), (vec![], None));
    }

    #[test]
    fn a_failed_write_is_repeated_after_a_pause() {
        let (mut users, now) = (users(true), Instant::now());
        users.change(name("7"));
        let user = users.next().unwrap();
        users.handle_failure(user, now);
        assert_eq!((users.next(), users.poll_timeout()), (None, Some(now + RETRY)));
        users.handle_timeout(now + RETRY);
        assert_eq!((users.next(), users.poll_timeout()), (Some(name("7")), None));
        users.handle_down();
        users.change(name("8"));
        assert_eq!([users.next(), users.next()], [Some(name("8")), None]);
        let mut unlimited = Users::new(None);
        unlimited.change(name("7"));
        assert_eq!(unlimited.next(), None);
    }
}
