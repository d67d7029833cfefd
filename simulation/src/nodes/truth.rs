//! What the servers have executed: the publications of each channel, by position and in their order. Answers and clients are
//! compared with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use centrifuge_client_core::Bytes;
use postern_channels::publication::Position;
use postern_channels::relay::command::Entry;

use super::plan::ChannelPlan;
use crate::random::Random;

/// The execution of a publication.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) server: usize,
    /// The number of publications of the channel that the server had executed before.
    pub(crate) index: usize,
    pub(crate) time: Duration,
}

/// The channels, and what was published.
#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) plans: Arc<[ChannelPlan]>,
    channels: Vec<Channel>,
    /// The channel of each number, from 1.
    issued: Vec<usize>,
    /// Publications that were acknowledged by a node without the engine.
    local: BTreeSet<u64>,
    longest: usize,
    /// The first promise that is broken.
    pub(crate) violation: Option<&'static str>,
    /// Rare things that have happened.
    pub(crate) marks: BTreeSet<&'static str>,
}

#[derive(Debug, Default)]
struct Channel {
    /// By epoch: the numbers by their offsets.
    streams: BTreeMap<String, Stream>,
    /// The number of executed publications, by server.
    executed: BTreeMap<usize, usize>,
    places: BTreeMap<u64, Place>,
    /// The lineages of the data to which a publication belongs.
    lineages: BTreeMap<u64, Vec<u64>>,
    /// The position of the last publication.
    last: Option<Position>,
}

#[derive(Debug, Default)]
struct Stream {
    numbers: BTreeMap<u64, u64>,
    /// The highest offset that a server has returned.
    end: u64,
}

impl Truth {
    pub(crate) fn new(plans: Arc<[ChannelPlan]>, longest: usize) -> Truth {
        let channels = plans.iter().map(|_| Channel::default()).collect();
        Truth {
            plans,
            channels,
            issued: Vec::new(),
            local: BTreeSet::new(),
            longest,
            violation: None,
            marks: Default::default(),
        }
    }

    pub(crate) fn report(&mut self, what: &'static str) {
        self.violation.get_or_insert(what);
    }

    pub(crate) fn mark(&mut self, what: &'static str) {
        self.marks.insert(what);
    }

    pub(crate) fn channel(&self, name: &str) -> Option<usize> {
        self.plans.iter().position(|plan| *plan.name == *name)
    }

    /// Returns the personal channel of a user, if there are such channels.
    pub(crate) fn personal_channel(&self, user: usize) -> Option<usize> {
        self.plans.iter().position(|plan| plan.user == Some(user))
    }

    pub(crate) fn has_history(&self, channel: usize) -> bool {
        self.plans[channel].options.has_history()
    }

    /// Returns a new number for a publication, and its data.
    pub(crate) fn issue(&mut self, channel: usize, random: &mut Random) -> (u64, Bytes) {
        self.issued.push(channel);
        let number = self.issued.len() as u64;
        let padding = "x".repeat(random.magnitude(1..=self.longest));
        (number, format!(r#"{{"n":{number},"p":"{padding}"}}"#).into_bytes().into())
    }

    /// Whether a number was issued for this channel.
    pub(crate) fn is_of(&self, number: u64, channel: usize) -> bool {
        self.channel_of(number) == Some(channel)
    }

    /// Notes that a server has executed a publication. `lineage` is the number of its data, which is another one after a loss.
    pub(crate) fn execute(
        &mut self,
        channel: usize,
        number: u64,
        position: Option<Position>,
        (server, lineage): (usize, u64),
        time: Duration,
    ) {
        let state = &mut self.channels[channel];
        let lineages = state.lineages.entry(number).or_default();
        if lineages.contains(&lineage) {
            self.violation.get_or_insert("a publication is published twice");
        }
        lineages.push(lineage);
        let executed = state.executed.entry(server).or_default();
        state.places.insert(number, Place { server, index: *executed, time });
        *executed += 1;
        state.last = position.or(state.last);
        if let Some(Position { epoch, offset }) = position {
            let stream = state.streams.entry(epoch.as_str().to_owned()).or_default();
            stream.end = stream.end.max(offset);
            if stream.numbers.insert(offset, number).is_some_and(|other| other != number) {
                self.violation.get_or_insert("a position has two publications");
            }
        }
    }

    /// Notes the end of a stream that a server has returned, and entries. A stream that gets another epoch keeps its entries.
    pub(crate) fn note_read(&mut self, channel: usize, position: Position, entries: &[Entry]) {
        let stream = self.channels[channel].streams.entry(position.epoch.as_str().to_owned()).or_default();
        stream.end = stream.end.max(position.offset);
        for Entry { offset, body } in entries {
            let Some(number) = number(body) else { continue };
            if *stream.numbers.entry(*offset).or_insert(number) != number {
                self.violation.get_or_insert("a position has two publications");
            }
        }
    }

    /// Whether a server has returned this position, or a later one of the stream.
    pub(crate) fn has_position(&self, channel: usize, epoch: &str, offset: u64) -> bool {
        self.channels[channel].streams.get(epoch).is_some_and(|stream| offset <= stream.end)
    }

    /// Returns the number of the publication at a position.
    pub(crate) fn at(&self, channel: usize, epoch: &str, offset: u64) -> Option<u64> {
        self.channels[channel].streams.get(epoch)?.numbers.get(&offset).copied()
    }

    /// Returns the place of a publication among those that were executed.
    pub(crate) fn place(&self, channel: usize, number: u64) -> Option<Place> {
        self.channels[channel].places.get(&number).copied()
    }

    /// Returns the channel that a number was issued for.
    pub(crate) fn channel_of(&self, number: u64) -> Option<usize> {
        let index = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        index.and_then(|index| self.issued.get(index)).copied()
    }

    /// Returns the position of the last publication.
    pub(crate) fn last(&self, channel: usize) -> Option<Position> {
        self.channels[channel].last
    }

    /// Whether it was executed again after a server had lost its data, and the idempotency keys with it.
    pub(crate) fn is_repeated(&self, channel: usize, number: u64) -> bool {
        self.channels[channel].lineages.get(&number).is_some_and(|lineages| lineages.len() > 1)
    }

    /// Whether a node has acknowledged it without the engine.
    pub(crate) fn is_local(&self, number: u64) -> bool {
        self.local.contains(&number)
    }

    /// Checks the position in the answer to a publication. `may_be_local` says whether it may be on one node only.
    pub(crate) fn check_published(
        &mut self,
        channel: usize,
        number: u64,
        position: Option<Position>,
        may_be_local: bool,
    ) {
        let is_there = match position {
            Some(Position { epoch, offset }) => self.at(channel, epoch.as_str(), offset) == Some(number),
            None if self.has_history(channel) => false,
            None if self.place(channel, number).is_some() => true,
            None => {
                self.local.insert(number);
                may_be_local
            }
        };
        if !is_there {
            self.report("a publication is acknowledged that is not published there");
        }
    }
}

/// Returns the number in the data of a publication, also if it is a part of something longer.
pub(crate) fn number(data: &[u8]) -> Option<u64> {
    let start = data.windows(START.len()).position(|part| part == START)? + START.len();
    let digits = data.get(start..)?.split(|byte| !byte.is_ascii_digit()).next()?;
    str::from_utf8(digits).ok()?.parse().ok()
}

/// The beginning of the data of a publication.
const START: &[u8] = br#"{"n":"#;
