//! The clients that are present in a channel.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::operation::PresenceStats;
use crate::hash::Seeded;
use crate::publication::{ClientId, ClientInfo};

/// The clients that are present, and the number of clients of each user.
#[derive(Debug)]
pub(super) struct Presence {
    clients: HashMap<ClientId, Arc<ClientInfo>, Seeded>,
    users: HashMap<Arc<str>, u32, Seeded>,
}

impl Presence {
    pub(super) fn new(hash: Seeded) -> Presence {
        Presence { clients: HashMap::with_hasher(hash), users: HashMap::with_hasher(hash) }
    }

    /// Adds a client, or replaces what is known about it. Returns whether it was absent.
    pub(super) fn add(&mut self, info: Arc<ClientInfo>) -> bool {
        *self.users.entry(Arc::clone(&info.user)).or_default() += 1;
        let replaced = self.clients.insert(info.client, info);
        if let Some(replaced) = &replaced {
            self.remove_user(&replaced.user);
        }
        replaced.is_none()
    }

    /// Removes a client, and returns what was known about it.
    pub(super) fn remove(&mut self, client: ClientId) -> Option<Arc<ClientInfo>> {
        let removed = self.clients.remove(&client)?;
        self.remove_user(&removed.user);
        Some(removed)
    }

    /// Returns what is known about a client.
    pub(super) fn get(&self, client: ClientId) -> Option<&Arc<ClientInfo>> {
        self.clients.get(&client)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    pub(super) fn clients(&self) -> impl ExactSizeIterator<Item = &Arc<ClientInfo>> {
        self.clients.values()
    }

    pub(super) fn stats(&self) -> PresenceStats {
        PresenceStats { clients: self.clients.len(), users: self.users.len() }
    }

    fn remove_user(&mut self, user: &Arc<str>) {
        if let Entry::Occupied(mut count) = self.users.entry(Arc::clone(user)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}
