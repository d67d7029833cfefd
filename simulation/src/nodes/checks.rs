//! What must hold after the faults have ended: everything comes to rest, all clients are complete or were told of a gap, the
//! presence consists of the clients that are subscribed, and nothing is left of clients that have left.

use std::collections::BTreeSet;
use std::time::Duration;

use postern_channels::relay::command::{Command, Reply};

use super::backend::Asked;
use super::engine::milliseconds;
use super::faults::CHECK;
use super::session::Session;
use super::world::{Broken, Event, Phase, World};
use crate::trace::Subject;

impl World {
    /// Begins the next phase if everything holds that must hold at the end of this one.
    pub(super) fn check(&mut self) -> Result<(), Broken> {
        let holds = match self.phase {
            Phase::Chaos | Phase::Done => return Ok(()),
            Phase::Healing => {
                self.check_rest().and_then(|()| self.check_limit()).and_then(|()| self.check_presence())
            }
            Phase::Final => self
                .check_rest()
                .and_then(|()| self.check_limit())
                .and_then(|()| self.check_complete())
                .and_then(|()| self.check_presence())
                .and_then(|()| self.check_interest())
                .and_then(|()| self.check_commands()),
            Phase::Leaving => self.check_left(),
        };
        if let Err(broken) = holds {
            if self.trace.now > self.since + LONGEST {
                return Err(broken);
            }
            self.add(self.trace.now + CHECK, Event::Check);
            return Ok(());
        }
        self.phase = match self.phase {
            Phase::Healing => {
                self.publish_last();
                Phase::Final
            }
            Phase::Chaos | Phase::Final => {
                self.leave();
                Phase::Leaving
            }
            Phase::Leaving | Phase::Done => Phase::Done,
        };
        self.since = self.trace.now;
        self.add(self.trace.now + CHECK, Event::Check);
        Ok(())
    }

    /// Publishes to each channel, and sends a command.
    fn publish_last(&mut self) {
        self.trace.step(Subject::World, "publishes to each channel", self.plan.channels.len());
        for channel in 0..self.plan.channels.len() {
            for _ in 0..2 {
                let key = self.random.number();
                let index = self.new_publication(channel, Some(key));
                self.publish(Some(index));
            }
        }
        if self.plan.commands > 0 {
            self.backend.is_performed = false;
            self.command();
        } else {
            self.backend.is_performed = true;
        }
    }

    /// Lets all clients leave.
    fn leave(&mut self) {
        self.trace.step(Subject::World, "all clients leave", self.clients.len());
        for session in &mut self.sessions {
            session.transport.reset();
        }
        for node in 0..self.plan.nodes {
            for worker in 0..self.plan.workers {
                self.wake_worker(node, worker, self.trace.now);
            }
        }
    }

    /// Checks that nothing is on its way.
    fn check_rest(&self) -> Result<(), Broken> {
        for client in self.clients.iter().filter(|client| !client.is_absent()) {
            let session = client.session.map(|session| (session, &self.sessions[session]));
            if !session.is_some_and(|(_, session)| session.is_at_rest() && !client.wants_more(session)) {
                return Err((client.session, "a command is not answered, or an event never arrives"));
            }
        }
        let is_old = |(number, session): (usize, &Session)| {
            self.clients[session.client].session != Some(number) && !session.transport.link.is_closed()
        };
        if self.sessions.iter().enumerate().any(is_old) {
            return Err((None, "a connection whose client has another one never ends"));
        }
        for node in &self.nodes {
            if !node.is_live {
                return Err((None, "a node does not find its way back to the engine"));
            }
            let stats = node.relay.stats();
            if !node.is_quiet() || stats.waiting > 0 || stats.unanswered > 0 {
                return Err((None, "a node never comes to rest"));
            }
        }
        if !self.backend.asked.is_empty() || self.backend.publications.iter().any(|it| !it.is_done) {
            return Err((None, "a request of the server API is not answered"));
        }
        Ok(())
    }

    /// Checks that nothing is missing.
    fn check_complete(&self) -> Result<(), Broken> {
        for client in &self.clients {
            let Some(number) = client.session else { continue };
            let lost_at = self.nodes[self.sessions[number].place.0].lost_at;
            for (&channel, subscription) in &self.sessions[number].subscriptions {
                let Some(active) = &subscription.active else {
                    if subscription.is_wanted {
                        return Err((Some(number), "a subscription is lost"));
                    }
                    continue;
                };
                if !self.truth.has_history(channel) {
                    // The last two are of the last phase, in which a client may still have to connect again because of a gap, and a
                    // node may find that its connection delivers nothing.
                    let all = self.backend.publications.iter().rev();
                    let last = all.filter(|it| it.channel == channel).take(2);
                    let is_earlier = |number| {
                        self.truth
                            .place(channel, number)
                            .is_some_and(|place| place.time <= active.begun.max(lost_at))
                    };
                    let is_there = |number| active.received.contains(&number) || is_earlier(number);
                    if !last.into_iter().all(|it| is_there(it.number)) {
                        return Err((Some(number), "a publication never arrives"));
                    }
                    continue;
                }
                let Some(known) = active.known.as_ref().filter(|known| !known.epoch.is_empty()) else {
                    return Err((Some(number), "a subscription stays without a position"));
                };
                let last = self.truth.last(channel);
                let is_at_end = last
                    .is_some_and(|last| last.epoch.as_str() == known.epoch && last.offset == known.offset);
                if !is_at_end {
                    return Err((Some(number), "a client misses publications, and is not told"));
                }
            }
        }
        Ok(())
    }

    /// Checks that the presence at the server consists of the clients that are subscribed.
    fn check_presence(&mut self) -> Result<(), Broken> {
        let now = milliseconds(self.trace.now);
        for channel in 0..self.plan.channels.len() {
            let is_active = |session: &&Session| {
                session.subscriptions.get(&channel).is_some_and(|it| it.active.is_some())
            };
            let sessions = self.clients.iter().filter_map(|client| client.session);
            let ids = sessions.map(|session| &self.sessions[session]).filter(is_active);
            let mut ids: Vec<String> = ids.filter_map(|session| session.id.clone()).collect();
            if !self.plan.channels[channel].options.presence {
                ids.clear();
            }
            ids.sort();
            let key = format!("p:{{{}}}", self.plan.channels[channel].name);
            let fields = self.engine.master().server.fields(&key, now).into_iter();
            let mut present: Vec<String> =
                fields.map(|(field, _)| String::from_utf8_lossy(&field[17..]).into_owned()).collect();
            present.sort();
            if present != ids {
                return Err((None, "the presence never consists of the clients that are subscribed"));
            }
        }
        Ok(())
    }

    /// Checks that each node is subscribed to the channels of its clients.
    fn check_interest(&mut self) -> Result<(), Broken> {
        for node in 0..self.plan.nodes {
            let wanted = self.plan.channels.iter().map(|channel| &channel.name);
            let shards = &mut self.nodes[node].shards;
            let wanted: BTreeSet<String> = wanted
                .filter(|name| shards.subscriptions(name) > 0)
                .map(|name| format!("ch:{{{name}}}"))
                .collect();
            let Some((_, wire)) = self.nodes[node].wire else {
                return Err((None, "a node does not find its way back to the engine"));
            };
            let topics = self.engine.master().server.topics_of(wire);
            let subscribed: BTreeSet<String> =
                topics.into_iter().filter(|topic| topic.starts_with("ch:")).map(str::to_owned).collect();
            if wanted != subscribed {
                return Err((None, "a node is subscribed to other channels than its clients"));
            }
        }
        Ok(())
    }

    /// Checks that the last command was performed, and that each node knows all revocations.
    fn check_commands(&mut self) -> Result<(), Broken> {
        if !self.backend.is_performed {
            // It was refused, because too many commands waited.
            if !self.backend.asked.values().any(|asked| matches!(asked, Asked::Command)) {
                self.command();
            }
            return Err((None, "not all nodes perform a command"));
        }
        let command = Command::ReadRevocations { after: "".into() };
        let now = milliseconds(self.trace.now);
        let server = &mut self.engine.master().server;
        let reply = server.execute(0, &command, now, &mut |_| {}, &mut Vec::new());
        let Ok(Reply::Revocations(kept)) = reply else { return Ok(()) };
        let kept = kept.iter().filter_map(|(_, bytes)| <[u8; 8]>::try_from(&**bytes).ok());
        let kept: BTreeSet<u64> = kept.map(u64::from_le_bytes).collect();
        if !self.nodes.iter().all(|node| kept.is_subset(&node.revocations)) {
            return Err((None, "a node never learns of a revocation"));
        }
        let has_lost = self.truth.marks.iter().any(|mark| LOSSES.contains(mark));
        if !has_lost && !self.backend.revocations.iter().all(|number| kept.contains(number)) {
            return Err((None, "a revocation is lost"));
        }
        Ok(())
    }

    /// Checks that nothing is left of clients.
    fn check_left(&mut self) -> Result<(), Broken> {
        let now = milliseconds(self.trace.now);
        self.check_interest()?;
        let server = &mut self.engine.master().server;
        if !server.keys("p:", now).is_empty() || !server.keys("pk:", now).is_empty() {
            return Err((None, "presence is left although there are no clients"));
        }
        if !server.keys("u:", now).is_empty() || !server.keys("uk:", now).is_empty() {
            return Err((None, "entries of users are left although there are no clients"));
        }
        for node in &mut self.nodes {
            let stats = node.relay.stats();
            if stats.waiting > 0 || stats.unanswered > 0 || stats.link.topics != 2 {
                return Err((None, "channels or requests are left although there are no clients"));
            }
        }
        Ok(())
    }
}

/// The faults that may lose revocations.
const LOSSES: [&str; 6] = [
    "the server restarts with old data",
    "the server restarts without data",
    "the replica becomes the master",
    "there are two masters",
    "all data is removed",
    "a node is killed",
];

/// The longest time until something holds that must hold.
const LONGEST: Duration = Duration::from_secs(180);
