//! The model of streams and idempotency keys: lists, searched from the start.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use postern_channels::exchange::{HistoryError, HistoryOptions, HistoryQuery, Recovery};
use postern_channels::namespaces::options::RecoveryMode;
use postern_channels::publication::{Epoch, Position};

/// An event of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A publication, with its data.
    Publication(Option<Position>, u64),
    /// A join or a leave.
    Presence,
}

/// A channel as the model knows it.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// All events since the start, in order.
    pub(crate) events: Vec<Event>,
    /// The position, from which nothing is lost unless the stream expires or is evicted.
    pub(crate) position: Option<Position>,
    /// The data and time of publications that are kept.
    kept: Vec<(u64, u64)>,
    last_publication: Option<Instant>,
    last_use: Option<Instant>,
    keys: BTreeMap<u64, (Option<Position>, Instant)>,
}

pub(crate) const IDEMPOTENCY: Duration = Duration::from_secs(300);

impl Stream {
    /// Removes what has expired.
    pub(crate) fn expire(&mut self, options: &HistoryOptions, is_idle: bool, now: Instant) {
        self.keys.retain(|_, (_, published)| now.duration_since(*published) < IDEMPOTENCY);
        if let Some(last) = self.last_publication
            && now.duration_since(last) >= options.ttl
            && !self.kept.is_empty()
        {
            self.kept.clear();
            self.last_use = self.last_use.max(Some(last + options.ttl));
        }
        let is_unused =
            self.last_use.is_some_and(|used| now.saturating_duration_since(used) >= options.meta_ttl);
        if is_idle && self.kept.is_empty() && is_unused {
            self.position = None;
        }
    }

    pub(crate) fn touch(&mut self, now: Instant) {
        self.last_use = self.last_use.max(Some(now));
    }

    /// Checks the position of an answer; without a known one the exchange chooses the epoch.
    pub(crate) fn adopt(&mut self, position: Position, is_exact: bool) {
        match self.position {
            Some(known) if known.epoch == position.epoch => {
                assert_eq!(known, position, "an offset has changed")
            }
            Some(_) => assert!(!is_exact, "an epoch has changed although nothing was lost"),
            None => {}
        }
        if self.position.is_none_or(|known| known.epoch != position.epoch) {
            assert_eq!(position.offset, 0, "a new stream starts at 0");
            let reused = |event: &Event| matches!(event, Event::Publication(Some(old), _) if old.epoch == position.epoch);
            assert!(!self.events.iter().any(reused), "an epoch was used again");
            self.kept.clear();
            self.position = Some(position);
        }
    }

    pub(crate) fn append(&mut self, options: &HistoryOptions, data: u64, now: Instant) {
        let position = self.position.as_mut().unwrap();
        position.offset += 1;
        self.kept.push((position.offset, data));
        while self.kept.len() > options.size || 8 * self.kept.len() > options.bytes {
            self.kept.remove(0);
        }
        self.last_publication = Some(now);
        self.touch(now);
    }

    pub(crate) fn remove(&mut self) {
        self.kept.clear();
    }

    pub(crate) fn find_key(&self, key: u64) -> Option<Option<Position>> {
        self.keys.get(&key).map(|(position, _)| *position)
    }

    pub(crate) fn add_key(&mut self, key: u64, position: Option<Position>, now: Instant) {
        self.keys.insert(key, (position, now));
    }

    /// Returns all publications of a stream after an offset, also those that are not kept.
    pub(crate) fn all_after(&self, epoch: Epoch, offset: u64) -> Vec<u64> {
        let data = |event: &Event| match event {
            Event::Publication(Some(position), data)
                if position.epoch == epoch && position.offset > offset =>
            {
                Some(*data)
            }
            Event::Publication(..) | Event::Presence => None,
        };
        self.events.iter().filter_map(data).collect()
    }

    /// Returns what a recovery gives, if nothing is evicted.
    pub(crate) fn recover(&self, recovery: &Recovery) -> Option<Vec<u64>> {
        let position = self.position?;
        let since = recovery.since;
        let missed: Vec<u64> = match recovery.mode {
            RecoveryMode::Cache if self.kept.is_empty() => return None,
            RecoveryMode::Cache if since == position.into() => Vec::new(),
            RecoveryMode::Cache => vec![self.kept.last()?.1],
            RecoveryMode::Stream if !since.is_of(position.epoch) || since.offset > position.offset => {
                return None;
            }
            RecoveryMode::Stream => {
                let after: Vec<u64> = self
                    .kept
                    .iter()
                    .filter(|(offset, _)| *offset > since.offset)
                    .map(|(_, data)| *data)
                    .collect();
                if after.len() as u64 != position.offset - since.offset {
                    return None;
                }
                after
            }
        };
        (missed.len() <= recovery.limit).then_some(missed)
    }

    /// Returns what a query gives, if nothing is evicted.
    pub(crate) fn query(&self, query: &HistoryQuery) -> Result<Vec<u64>, HistoryError> {
        let position = self.position.unwrap();
        let mut found: Vec<(u64, u64)> = self.kept.clone();
        if let Some(since) = query.since {
            if query.is_reverse && since.offset == 0 {
                return Err(HistoryError::NothingBefore);
            }
            if !since.is_of(position.epoch) {
                return Err(HistoryError::UnrecoverablePosition);
            }
            found.retain(
                |&(offset, _)| if query.is_reverse { offset < since.offset } else { offset > since.offset },
            );
        }
        if query.is_reverse {
            found.reverse();
        }
        found.truncate(query.limit.unwrap_or(usize::MAX));
        Ok(found.into_iter().map(|(_, data)| data).collect())
    }
}
