//! The subscriptions of one connection. Most connections have few.

use super::form::Form;

/// A list of subscriptions, without an allocation for the first one.
#[derive(Debug, Default)]
pub(super) enum Entries {
    #[default]
    Empty,
    One(Entry),
    Many(Vec<Entry>),
}

/// A subscription in the list of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// The slot of the channel.
    pub(super) channel: u32,
    pub(super) place: Place,
}

/// The index in the list of the channel, or the form of a subscription that is joining. Those have the upper bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u32);

impl Place {
    const JOINING: u32 = 1 << 31;

    pub(super) fn at(index: u32) -> Place {
        Place(index & !Place::JOINING)
    }

    pub(super) fn joining(form: Form) -> Place {
        Place(Place::JOINING | u32::from(form.bits()))
    }

    /// Returns the index, unless the subscription is joining.
    pub(super) fn index(self) -> Option<usize> {
        (self.0 & Place::JOINING == 0).then_some(self.0 as usize)
    }

    /// Returns the form, if the subscription is joining.
    pub(super) fn form(self) -> Option<Form> {
        (self.0 & Place::JOINING != 0).then_some(Form::from_bits(self.0 as u16))
    }
}

impl Entries {
    pub(super) fn as_slice(&self) -> &[Entry] {
        match self {
            Entries::Empty => &[],
            Entries::One(entry) => std::slice::from_ref(entry),
            Entries::Many(entries) => entries,
        }
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut Entry> {
        match self {
            Entries::Empty => None,
            Entries::One(entry) => (index == 0).then_some(entry),
            Entries::Many(entries) => entries.get_mut(index),
        }
    }

    pub(super) fn push(&mut self, entry: Entry) {
        match self {
            Entries::Empty => *self = Entries::One(entry),
            Entries::One(first) => *self = Entries::Many(vec![*first, entry]),
            Entries::Many(entries) => {
                // A quarter is unused at most, because there may be as many lists as connections.
                if entries.len() == entries.capacity() {
                    entries.reserve_exact(entries.len().div_ceil(3));
                }
                entries.push(entry);
            }
        }
    }

    /// Removes an entry. The last one takes its place.
    pub(super) fn swap_remove(&mut self, index: usize) -> Option<Entry> {
        let removed = match self {
            Entries::Empty => None,
            &mut Entries::One(entry) => (index == 0).then(|| {
                *self = Entries::Empty;
                entry
            }),
            Entries::Many(entries) => (index < entries.len()).then(|| entries.swap_remove(index)),
        };
        if let Entries::Many(entries) = self {
            match entries.as_slice() {
                [] => *self = Entries::Empty,
                &[entry] => *self = Entries::One(entry),
                _ => {}
            }
        }
        removed
    }
}
