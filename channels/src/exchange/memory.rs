//! The memory of all streams of an exchange, and which of them is evicted first.

/// Slots in the order of their last use: a doubly linked list in a table.
#[derive(Debug, Default)]
pub(super) struct Recency {
    links: Vec<Link>,
    oldest: Option<u32>,
    newest: Option<u32>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Link {
    is_linked: bool,
    older: Option<u32>,
    newer: Option<u32>,
}

impl Recency {
    /// Makes a slot the one that was used last.
    pub(super) fn touch(&mut self, slot: u32) {
        if self.newest == Some(slot) {
            return;
        }
        self.remove(slot);
        if self.links.len() <= slot as usize {
            self.links.resize(slot as usize + 1, Link::default());
        }
        let older = self.newest.replace(slot);
        self.set(slot, Link { is_linked: true, older, newer: None });
        match older {
            Some(older) => self.change(older, |link| link.newer = Some(slot)),
            None => self.oldest = Some(slot),
        }
    }

    /// Removes a slot, if it is in the list.
    pub(super) fn remove(&mut self, slot: u32) {
        let Some(&Link { is_linked: true, older, newer }) = self.links.get(slot as usize) else {
            return;
        };
        self.set(slot, Link::default());
        match older {
            Some(older) => self.change(older, |link| link.newer = newer),
            None => self.oldest = newer,
        }
        match newer {
            Some(newer) => self.change(newer, |link| link.older = older),
            None => self.newest = older,
        }
    }

    /// Returns the slot that has not been used for the longest time.
    pub(super) fn oldest(&self) -> Option<u32> {
        self.oldest
    }

    /// Returns whether a slot is in the list.
    #[cfg(test)]
    pub(super) fn contains(&self, slot: u32) -> bool {
        self.links.get(slot as usize).is_some_and(|link| link.is_linked)
    }

    fn set(&mut self, slot: u32, link: Link) {
        self.change(slot, |changed| *changed = link);
    }

    fn change(&mut self, slot: u32, change: impl FnOnce(&mut Link)) {
        if let Some(link) = self.links.get_mut(slot as usize) {
            change(link);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_leave_in_the_order_of_their_last_use() {
        let mut recency = Recency::default();
        for slot in [3, 0, 7, 3, 5, 0, 0] {
            recency.touch(slot);
        }
        recency.remove(5);
        recency.remove(6);
        let mut order = Vec::new();
        while let Some(slot) = recency.oldest() {
            recency.remove(slot);
            assert!(!recency.contains(slot));
            order.push(slot);
        }
        assert_eq!(order, [7, 3, 0]);
        recency.touch(1);
        assert_eq!(recency.oldest(), Some(1));
    }
}
