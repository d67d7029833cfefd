//! The filters of subscriptions. Most subscriptions have none.

use std::collections::HashMap;

use super::Slot;
use crate::filter::Filter;
use crate::hash::Seeded;
use crate::publication::Tags;

/// The filters by connection and channel.
#[derive(Debug)]
pub(crate) struct Filters(HashMap<(u32, u32), Box<Filter>, Seeded>);

impl Filters {
    pub(super) fn new(hash: Seeded) -> Filters {
        Filters(HashMap::with_hasher(hash))
    }

    pub(super) fn insert(&mut self, connection: u32, Slot(slot): Slot, filter: Filter) {
        self.0.insert((connection, slot), Box::new(filter));
    }

    pub(super) fn remove(&mut self, connection: u32, slot: u32) {
        self.0.remove(&(connection, slot));
    }

    pub(crate) fn get(&self, connection: u32, Slot(slot): Slot) -> Option<&Filter> {
        self.0.get(&(connection, slot)).map(|filter| &**filter)
    }

    /// Returns whether a subscription with a filter gets a publication with these tags.
    pub(crate) fn selects(&self, connection: u32, slot: Slot, tags: &Tags) -> bool {
        self.get(connection, slot).is_none_or(|filter| filter.selects(tags))
    }
}
