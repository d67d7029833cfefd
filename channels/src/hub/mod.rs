//! The subscriptions of the connections of one worker.
//!
//! A subscription takes 16 bytes: an entry in the list of its channel and an entry in the list of its connection. Each contains
//! the place of the other, so both are removed in constant time.
//!
//! A subscription is *joining* until its worker knows the position at which it starts. A joining subscription counts towards the
//! limit of its connection, and receives nothing.
//!
//! ```
//! # use postern_channels::hub::{Form, Hub};
//! # let mut hub = Hub::new(1, 128);
//! let slot = hub.join(7, &"news".into(), Form::default()).unwrap();
//! assert!(hub.subscribers(slot).is_empty());
//! hub.admit(7, "news", None);
//! assert_eq!(hub.subscribers(slot)[0].connection(), 7);
//! ```

mod entries;
mod filters;
mod form;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use slab::Slab;

use self::entries::{Entries, Entry, Place};
use self::filters::Filters;
use crate::filter::Filter;
use crate::hash::Seeded;
use crate::publication::Publication;

pub use self::form::Form;
pub(crate) use self::form::Forms;

/// The subscriptions of a worker. Connections are keys of the worker.
#[derive(Debug)]
pub struct Hub {
    max_channels: u16,
    names: HashMap<Arc<str>, u32, Seeded>,
    channels: Slab<Channel>,
    /// The subscriptions of each connection, by its key.
    connections: Vec<Entries>,
    filters: Filters,
    subscriptions: usize,
}

/// A channel of a hub, as long as it has a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot(u32);

impl Slot {
    /// Returns the number of the channel. It is different from the numbers of other channels with subscriptions of the worker.
    pub fn number(self) -> u32 {
        self.0
    }
}

#[derive(Debug)]
struct Channel {
    name: Arc<str>,
    subscribers: Vec<Subscriber>,
    /// The forms of the subscribers.
    forms: Forms,
    /// The number of joining subscriptions.
    joining: u32,
    /// Whether a publication waits for the end of an interval.
    has_waiting: bool,
    /// The publication that the subscribers with [`Form::DELTA_BASE`] have received last.
    base: Option<Arc<Publication>>,
}

/// The parts of a channel that a delivery needs.
pub(crate) struct Delivery<'h> {
    pub(crate) subscribers: &'h mut [Subscriber],
    /// The forms of the subscribers.
    pub(crate) forms: &'h mut Forms,
    pub(crate) filters: &'h Filters,
    /// The publication that the subscribers with [`Form::DELTA_BASE`] have received last.
    pub(crate) base: &'h mut Option<Arc<Publication>>,
}

/// A subscription in the list of its channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscriber {
    connection: u32,
    form: Form,
    /// The index in the list of the connection.
    place: u16,
}

impl Subscriber {
    /// Returns the connection.
    #[inline]
    pub fn connection(&self) -> u32 {
        self.connection
    }

    /// Returns the form in which it receives publications.
    #[inline]
    pub fn form(&self) -> Form {
        self.form
    }

    /// Changes the form.
    #[inline]
    pub fn set_form(&mut self, form: Form) {
        self.form = form;
    }
}

/// Why a connection cannot join a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinError {
    /// It has a subscription to the channel, which may be joining.
    AlreadySubscribed,
    /// It has as many subscriptions as it may have.
    LimitExceeded,
}

impl Hub {
    /// Creates a hub. `seed` has random bits; a connection may have `max_channels` subscriptions.
    pub fn new(seed: u64, max_channels: u16) -> Hub {
        Hub {
            max_channels,
            names: HashMap::with_hasher(Seeded(seed)),
            channels: Slab::new(),
            connections: Vec::new(),
            filters: Filters::new(Seeded(seed)),
            subscriptions: 0,
        }
    }

    /// Adds a joining subscription.
    ///
    /// # Errors
    ///
    /// See [`JoinError`].
    pub fn join(&mut self, connection: u32, name: &Arc<str>, form: Form) -> Result<Slot, JoinError> {
        let slot = self.names.get(name).copied();
        if slot.is_some_and(|slot| self.entry(connection, slot).is_some()) {
            return Err(JoinError::AlreadySubscribed);
        }
        if self.of(connection).len() >= usize::from(self.max_channels) {
            return Err(JoinError::LimitExceeded);
        }
        let slot = slot.unwrap_or_else(|| {
            let (name, subscribers) = (Arc::clone(name), Vec::new());
            let forms = Forms::default();
            let channel = Channel {
                name: Arc::clone(&name),
                subscribers,
                forms,
                joining: 0,
                has_waiting: false,
                base: None,
            };
            // A worker has fewer than 2^32 subscriptions.
            let slot = self.channels.insert(channel) as u32;
            self.names.insert(name, slot);
            slot
        });
        if let Some(channel) = self.channels.get_mut(slot as usize) {
            channel.joining += 1;
        }
        let index = connection as usize;
        if self.connections.len() <= index {
            self.connections.resize_with(index + 1, Entries::default);
        }
        if let Some(entries) = self.connections.get_mut(index) {
            entries.push(Entry { channel: slot, place: Place::joining(form) });
        }
        self.subscriptions += 1;
        Ok(Slot(slot))
    }

    /// Lets a subscription receive only the publications that a filter selects. Its form must have [`Form::FILTERED`].
    pub fn set_filter(&mut self, connection: u32, slot: Slot, filter: Filter) {
        self.filters.insert(connection, slot, filter);
    }

    /// Lets a joining subscription receive publications. Returns `false` if there is none, because the connection has left.
    ///
    /// `last` is the publication that the subscriber has received last, if it is the last one of the channel.
    pub fn admit(&mut self, connection: u32, name: &str, last: Option<&Arc<Publication>>) -> bool {
        let Some(&slot) = self.names.get(name) else {
            return false;
        };
        let (Some(at), Some(channel)) = (self.entry(connection, slot), self.channels.get_mut(slot as usize))
        else {
            return false;
        };
        let Some(entry) =
            self.connections.get_mut(connection as usize).and_then(|entries| entries.get_mut(at))
        else {
            return false;
        };
        let Some(mut form) = entry.place.form() else {
            return false;
        };
        if let Some(last) = last.filter(|_| form.has(Form::DELTA))
            // Without a base, no subscriber has one.
            && channel.base.get_or_insert_with(|| Arc::clone(last)).position == last.position
        {
            form = form | Form::DELTA_BASE;
        }
        if channel.subscribers.is_empty() {
            // Between the last subscription and this one the worker has received nothing, so the publication that waits is not the latest one.
            channel.has_waiting = false;
        }
        // A connection has at most 65,535 channels, and a worker has fewer than 2^31 connections.
        entry.place = Place::at(channel.subscribers.len() as u32);
        channel.subscribers.push(Subscriber { connection, form, place: at as u16 });
        channel.forms.insert(form);
        channel.joining -= 1;
        true
    }

    /// Removes a subscription. Returns the name of the channel and the form, or `None` if there is none.
    pub fn leave(&mut self, connection: u32, name: &str) -> Option<(Arc<str>, Form)> {
        let slot = *self.names.get(name)?;
        let at = self.entry(connection, slot)?;
        self.remove(connection, at)
    }

    /// Removes a subscription of a connection, if it has any. Returns the same as [`leave`](Hub::leave).
    pub fn leave_any(&mut self, connection: u32) -> Option<(Arc<str>, Form)> {
        let last = self.of(connection).len().checked_sub(1)?;
        self.remove(connection, last)
    }

    /// Returns the channels of a connection, in any order. Joining ones are among them.
    pub fn channels_of(&self, connection: u32) -> impl ExactSizeIterator<Item = Slot> {
        self.of(connection).iter().map(|entry| Slot(entry.channel))
    }

    /// Returns the form of a subscription, which may be joining.
    pub fn form(&self, connection: u32, name: &str) -> Option<Form> {
        let slot = self.find(name)?;
        let entry = self.of(connection).get(self.entry(connection, slot.0)?)?;
        let subscriber = |index: usize| self.channels.get(slot.0 as usize)?.subscribers.get(index);
        entry.place.form().or_else(|| Some(subscriber(entry.place.index()?)?.form))
    }

    /// Changes the form of a subscription that is not joining.
    pub(crate) fn set_form(&mut self, connection: u32, name: &str, form: Form) {
        let Some(slot) = self.find(name) else { return };
        let index = self.entry(connection, slot.0).and_then(|at| self.of(connection).get(at)?.place.index());
        let channel = self.channels.get_mut(slot.0 as usize);
        if let (Some(index), Some(channel)) = (index, channel)
            && let Some(subscriber) = channel.subscribers.get_mut(index)
        {
            subscriber.form = form;
            channel.forms.insert(form);
        }
    }

    /// Returns the memory of a subscription, in bytes: its entries, its filter, and the name of the channel, which counts for
    /// each subscriber as if it were the only one. 0 if there is none.
    pub(crate) fn memory(&self, connection: u32, name: &str) -> usize {
        let Some(slot) = self.find(name).filter(|slot| self.entry(connection, slot.0).is_some()) else {
            return 0;
        };
        let filter = self.filters.get(connection, slot).map_or(0, Filter::memory);
        size_of::<Entry>() + size_of::<Subscriber>() + name.len() + filter
    }

    /// Returns whether a subscription is joining.
    pub fn is_joining(&self, connection: u32, name: &str) -> bool {
        let entry = self.find(name).and_then(|slot| self.of(connection).get(self.entry(connection, slot.0)?));
        entry.is_some_and(|entry| entry.place.form().is_some())
    }

    /// Records that a publication of a channel waits for the end of an interval. It is forgotten with the last subscription.
    pub(crate) fn set_waiting(&mut self, Slot(slot): Slot) {
        if let Some(channel) = self.channels.get_mut(slot as usize) {
            channel.has_waiting = true;
        }
    }

    /// Returns whether a publication of a channel waits, once.
    pub(crate) fn take_waiting(&mut self, Slot(slot): Slot) -> bool {
        self.channels.get_mut(slot as usize).is_some_and(|channel| mem::take(&mut channel.has_waiting))
    }

    /// Returns the channel with a name, if there is a subscription to it.
    pub fn find(&self, name: &str) -> Option<Slot> {
        self.names.get(name).copied().map(Slot)
    }

    /// Returns the name of a channel.
    pub fn name(&self, Slot(slot): Slot) -> Option<&Arc<str>> {
        self.channels.get(slot as usize).map(|channel| &channel.name)
    }

    /// Returns the subscribers of a channel, without joining ones.
    pub fn subscribers(&self, Slot(slot): Slot) -> &[Subscriber] {
        self.channels.get(slot as usize).map_or(&[], |channel| &channel.subscribers)
    }

    /// Returns the number of channels, and of subscriptions.
    pub fn counts(&self) -> (usize, usize) {
        (self.channels.len(), self.subscriptions)
    }

    /// Returns what a delivery to a channel needs.
    pub(crate) fn delivery(&mut self, Slot(slot): Slot) -> Option<Delivery<'_>> {
        let channel = self.channels.get_mut(slot as usize)?;
        Some(Delivery {
            subscribers: &mut channel.subscribers,
            forms: &mut channel.forms,
            filters: &self.filters,
            base: &mut channel.base,
        })
    }

    /// Returns the filters of subscriptions.
    pub(crate) fn filters(&self) -> &Filters {
        &self.filters
    }

    fn of(&self, connection: u32) -> &[Entry] {
        self.connections.get(connection as usize).map_or(&[], Entries::as_slice)
    }

    /// Returns the index of a subscription in the list of its connection. It searches the shorter one of both lists.
    fn entry(&self, connection: u32, slot: u32) -> Option<usize> {
        let entries = self.of(connection);
        let channel = self.channels.get(slot as usize)?;
        if channel.joining == 0 && channel.subscribers.len() < entries.len() {
            let subscriber =
                channel.subscribers.iter().find(|subscriber| subscriber.connection == connection)?;
            return Some(usize::from(subscriber.place));
        }
        entries.iter().position(|entry| entry.channel == slot)
    }

    /// Removes the subscription at an index of the list of its connection.
    fn remove(&mut self, connection: u32, at: usize) -> Option<(Arc<str>, Form)> {
        let entries = self.connections.get_mut(connection as usize)?;
        let removed = entries.swap_remove(at)?;
        // The last entry of the connection is at another place now.
        if let Some(moved) = entries.get_mut(at)
            && let Some(index) = moved.place.index()
            && let Some(channel) = self.channels.get_mut(moved.channel as usize)
            && let Some(subscriber) = channel.subscribers.get_mut(index)
        {
            subscriber.place = at as u16;
        }
        self.subscriptions -= 1;
        let channel = self.channels.get_mut(removed.channel as usize)?;
        let form = match removed.place.index() {
            Some(index) => channel.remove(index, &mut self.connections)?,
            None => {
                channel.joining -= 1;
                removed.place.form()?
            }
        };
        if form.has(Form::FILTERED) {
            self.filters.remove(connection, removed.channel);
        }
        let name = if channel.joining == 0 && channel.subscribers.is_empty() {
            let channel = self.channels.remove(removed.channel as usize);
            self.names.remove(&channel.name);
            channel.name
        } else {
            Arc::clone(&channel.name)
        };
        Some((name, form))
    }
}

impl Channel {
    /// Removes a subscriber. The last one takes its place.
    fn remove(&mut self, index: usize, connections: &mut [Entries]) -> Option<Form> {
        if index >= self.subscribers.len() {
            return None;
        }
        let removed = self.subscribers.swap_remove(index);
        if let Some(moved) = self.subscribers.get(index)
            && let Some(entries) = connections.get_mut(moved.connection as usize)
            && let Some(entry) = entries.get_mut(usize::from(moved.place))
        {
            entry.place = Place::at(index as u32);
        }
        if self.subscribers.len() < self.subscribers.capacity() / 4 {
            self.subscribers.shrink_to(self.subscribers.capacity() / 2);
        }
        Some(removed.form)
    }
}
