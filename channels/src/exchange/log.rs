//! The stream of one channel: its epoch, its offset, and the publications that are kept.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::operation::{HistoryError, HistoryOptions, HistoryQuery, Recovery, Version};
use crate::namespaces::options::RecoveryMode;
use crate::publication::{Epoch, Position, Publication, Since};

/// A stream. Its offset grows by one with each publication, and its epoch never changes.
#[derive(Debug)]
pub(super) struct Log {
    epoch: Epoch,
    /// The offset of the last publication.
    offset: u64,
    /// The last publications, without a gap: the last one has the offset of the stream.
    entries: VecDeque<Arc<Publication>>,
    /// The memory of all entries.
    bytes: usize,
    /// The bytes of data of all entries.
    data: usize,
    /// When all entries are removed. `None`: never.
    expires: Option<Instant>,
    /// The last use, or the expiry of the last entries.
    used: Instant,
    /// The time for which an unused stream without entries is kept.
    meta_ttl: Duration,
    /// The newest version that was published.
    version: Option<Version>,
    /// Whether the stream is kept elsewhere.
    is_copy: bool,
}

impl Log {
    pub(super) fn new(epoch: Epoch, options: &HistoryOptions, now: Instant) -> Log {
        let (entries, meta_ttl) = (VecDeque::new(), options.meta_ttl);
        Log {
            epoch,
            offset: 0,
            entries,
            bytes: 0,
            data: 0,
            expires: None,
            used: now,
            meta_ttl,
            version: None,
            is_copy: false,
        }
    }

    /// Creates the copy of a stream that is kept elsewhere: its end, and its last publications without a gap.
    pub(super) fn copy(
        position: Position,
        entries: impl IntoIterator<Item = Arc<Publication>>,
        options: &HistoryOptions,
        now: Instant,
    ) -> Log {
        let mut log =
            Log { offset: position.offset, is_copy: true, ..Log::new(position.epoch, options, now) };
        entries.into_iter().for_each(|publication| log.push(publication));
        log.truncate(options);
        log.expires = now.checked_add(options.ttl);
        log
    }

    /// Appends the next publication of a copied stream.
    pub(super) fn append_copy(
        &mut self,
        options: &HistoryOptions,
        publication: Arc<Publication>,
        now: Instant,
    ) {
        self.offset += 1;
        self.push(publication);
        self.truncate(options);
        self.expires = now.checked_add(options.ttl);
    }

    /// Adds older publications of a copied stream, which end where the entries begin.
    pub(super) fn prepend_copy(
        &mut self,
        options: &HistoryOptions,
        older: Vec<Arc<Publication>>,
        now: Instant,
    ) {
        for publication in older.into_iter().rev() {
            self.bytes += publication.memory();
            self.data += publication.data.len();
            self.entries.push_front(publication);
        }
        self.truncate(options);
        self.expires = self.expires.max(now.checked_add(options.ttl));
    }

    /// Returns the offset that the oldest entry follows.
    pub(super) fn start(&self) -> u64 {
        self.offset - self.entries.len() as u64
    }

    fn push(&mut self, publication: Arc<Publication>) {
        self.bytes += publication.memory();
        self.data += publication.data.len();
        self.entries.push_back(publication);
    }

    /// Removes the oldest entries above the limits.
    fn truncate(&mut self, options: &HistoryOptions) {
        while self.entries.len() > options.size || self.data > options.bytes {
            self.remove_oldest();
        }
    }

    pub(super) fn position(&self) -> Position {
        Position { epoch: self.epoch, offset: self.offset }
    }

    pub(super) fn is_copy(&self) -> bool {
        self.is_copy
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Records a use, which postpones the expiry of the stream but not of its entries.
    pub(super) fn touch(&mut self, options: &HistoryOptions, now: Instant) {
        self.used = self.used.max(now);
        self.meta_ttl = options.meta_ttl;
    }

    /// Records that the last subscriber has left.
    pub(super) fn release(&mut self, now: Instant) {
        self.used = self.used.max(now);
    }

    /// Returns whether the version is not newer than the last one.
    pub(super) fn is_outdated(&self, version: &Version) -> bool {
        self.version.as_ref().is_some_and(|last| last.epoch == version.epoch && last.number >= version.number)
    }

    /// Appends the publication that `publication` returns for its position. Removes the oldest ones above the limits.
    pub(super) fn append(
        &mut self,
        options: &HistoryOptions,
        version: Option<Version>,
        now: Instant,
        publication: impl FnOnce(Position) -> Arc<Publication>,
    ) -> Arc<Publication> {
        self.offset += 1;
        let publication = publication(self.position());
        self.push(Arc::clone(&publication));
        self.truncate(options);
        self.expires = now.checked_add(options.ttl);
        self.version = version.or(self.version.take());
        publication
    }

    /// Removes the oldest entry, if there is one.
    pub(super) fn remove_oldest(&mut self) {
        if let Some(removed) = self.entries.pop_front() {
            self.bytes -= removed.memory();
            self.data -= removed.data.len();
        }
        // Most streams have few entries most of the time.
        if self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.entries.capacity() / 2);
        }
    }

    /// Removes all entries. Epoch and offset stay.
    pub(super) fn clear(&mut self) {
        self.entries = VecDeque::new();
        self.bytes = 0;
        self.data = 0;
    }

    /// Removes all entries if they have expired.
    pub(super) fn expire(&mut self, now: Instant) {
        if let Some(expired) = self.expires.filter(|&expires| expires <= now && !self.entries.is_empty()) {
            self.used = self.used.max(expired);
            self.clear();
        }
    }

    /// Returns the next time at which something expires: the entries, or the stream itself if it `is_idle`.
    pub(super) fn deadline(&self, is_idle: bool) -> Option<Instant> {
        if !self.entries.is_empty() {
            return self.expires;
        }
        if is_idle { self.used.checked_add(self.meta_ttl) } else { None }
    }

    /// Returns whether the stream itself has expired. It must be idle.
    pub(super) fn is_expired(&self, now: Instant) -> bool {
        self.entries.is_empty() && self.deadline(true).is_some_and(|deadline| deadline <= now)
    }

    /// Returns all publications after an offset, or `None` if one of them is not kept or the offset does not exist yet.
    pub(super) fn after(&self, offset: u64) -> Option<impl ExactSizeIterator<Item = &Arc<Publication>>> {
        let missed = usize::try_from(self.offset.checked_sub(offset)?).ok()?;
        Some(self.entries.range(self.entries.len().checked_sub(missed)?..))
    }

    /// Returns the publications that a client has missed, or `None` if it cannot be proven that they are all.
    pub(super) fn recover(&self, recovery: &Recovery) -> Option<Vec<Arc<Publication>>> {
        let missed = match recovery.mode {
            RecoveryMode::Stream if !recovery.since.is_of(self.epoch) => return None,
            RecoveryMode::Stream => self.after(recovery.since.offset)?,
            RecoveryMode::Cache => {
                self.entries.back()?;
                let is_known = recovery.since == Since::from(self.position());
                self.after(self.offset - u64::from(!is_known))?
            }
        };
        if missed.len() > recovery.limit {
            return None;
        }
        let missed: Vec<_> = missed.cloned().collect();
        (missed.iter().map(|publication| publication.memory()).sum::<usize>() <= recovery.bytes)
            .then_some(missed)
    }

    /// Returns a part of the history.
    pub(super) fn query(&self, query: &HistoryQuery) -> Result<Vec<Arc<Publication>>, HistoryError> {
        let limit = query.limit.unwrap_or(usize::MAX);
        if query.is_reverse && query.since.is_some_and(|since| since.offset == 0) {
            return Err(HistoryError::NothingBefore);
        }
        if query.since.is_some_and(|since| !since.is_of(self.epoch)) {
            return Err(HistoryError::UnrecoverablePosition);
        }
        // The number of publications before the oldest entry.
        let removed = self.offset - self.entries.len() as u64;
        // The number of entries up to an offset.
        let entries_to = |offset: u64| {
            usize::try_from(offset.saturating_sub(removed)).unwrap_or(usize::MAX).min(self.entries.len())
        };
        Ok(match (query.since, query.is_reverse) {
            (Some(since), true) => self
                .entries
                .range(..entries_to(since.offset.saturating_sub(1)))
                .rev()
                .take(limit)
                .cloned()
                .collect(),
            (None, true) => self.entries.iter().rev().take(limit).cloned().collect(),
            (Some(since), false) => {
                self.entries.range(entries_to(since.offset)..).take(limit).cloned().collect()
            }
            (None, false) => self.entries.iter().take(limit).cloned().collect(),
        })
    }
}
