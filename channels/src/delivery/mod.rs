//! The delivery of publications, joins and leaves to the subscribers of a worker.
//!
//! A publication is encoded once for each [`Form::frame`] that occurs among the subscribers. All subscribers of a delivery are
//! sorted by this number first, and each list is then handed to the worker.

use std::sync::Arc;

use postern_core::Key;
use postern_core::worker::{Fanout, SharedFrame};

use crate::application::{Channels, kind};
use crate::delta;
use crate::engine::ClientRef;
use crate::exchange::PresenceEvent;
use crate::hub::{Form, Slot};
use crate::publication::Publication;
use crate::view;

/// The subscribers of a delivery, as numbers of connections, by [`Form::frame`]. Empty between deliveries.
#[derive(Debug, Default)]
pub(crate) struct Audience {
    lists: [Vec<u32>; Form::FRAMES],
}

impl Audience {
    /// Adds a subscriber with this form.
    #[inline]
    fn push(&mut self, form: Form, connection: u32) {
        if let Some(list) = self.lists.get_mut(form.frame()) {
            list.push(connection);
        }
    }

    /// Delivers a message to all, which `write` writes for each form, and removes them. Returns the number of those that are open.
    fn deliver<'w>(
        &mut self,
        buffer: &mut Vec<u8>,
        fanout: &mut Fanout<'w, Channels>,
        mut write: impl FnMut(Form, &mut Vec<u8>),
    ) -> usize {
        let mut sent = 0;
        for (number, list) in self.lists.iter_mut().enumerate() {
            if list.is_empty() {
                continue;
            }
            let form = Form::of_frame(number);
            buffer.clear();
            write(form, buffer);
            let frame: SharedFrame<'w> = fanout.frame(kind(form.encoding()), buffer);
            sent += fanout.deliver_to(list.drain(..).map(|connection| Key(connection as usize)), frame);
            if list.capacity() > MOST_KEPT {
                *list = Vec::new();
            }
        }
        buffer.clear();
        sent
    }
}

impl Channels {
    /// Delivers a publication to the subscribers of its channel.
    pub(crate) fn deliver(
        &mut self,
        publication: &Arc<Publication>,
        publisher: Option<ClientRef>,
        fanout: &mut Fanout<'_, Channels>,
    ) {
        let Some(slot) = self.hub.find(&publication.channel) else { return };
        let excluded = publisher.filter(|publisher| is_open(*publisher, fanout));
        self.deliver_in(slot, publication, excluded.map(|client| client.key.0 as u32), fanout);
    }

    fn deliver_in(
        &mut self,
        slot: Slot,
        publication: &Arc<Publication>,
        excluded: Option<u32>,
        fanout: &mut Fanout<'_, Channels>,
    ) {
        let Some(channel) = self.hub.delivery(slot) else { return };
        let mut has_deltas = false;
        for subscriber in channel.subscribers.iter_mut() {
            let (form, connection) = (subscriber.form(), subscriber.connection());
            let is_for_it = Some(connection) != excluded
                && (!form.has(Form::FILTERED)
                    || channel.filters.selects(connection, slot, &publication.tags));
            if is_for_it {
                self.audience.push(form, connection);
            }
            if form.has(Form::DELTA) {
                has_deltas = true;
                // The next delta refers to this publication.
                let form = if is_for_it { form | Form::DELTA_BASE } else { form.without(Form::DELTA_BASE) };
                subscriber.set_form(form);
            }
        }
        let base = std::mem::replace(channel.base, has_deltas.then(|| Arc::clone(publication)));
        let base = base.filter(|_| publication.delta);
        let mut patch: Option<Option<Vec<u8>>> = None;
        let sent = self.audience.deliver(&mut self.buffer, fanout, |form, out| {
            let patch = match &base {
                Some(base) if form.has(Form::DELTA_BASE) => {
                    patch.get_or_insert_with(|| delta::encode(&base.data, &publication.data)).as_deref()
                }
                _ => None,
            };
            view::write_publication(form, slot, out, publication, patch);
        });
        self.counts.deliveries += sent as u64;
    }

    /// Sends a join or a leave to the subscribers of a channel.
    pub(crate) fn deliver_presence(&mut self, event: &PresenceEvent, fanout: &mut Fanout<'_, Channels>) {
        let Some(slot) = self.hub.find(&event.channel) else { return };
        for subscriber in self.hub.subscribers(slot) {
            if subscriber.form().has(Form::JOIN_LEAVE) {
                // Deltas are between publications only.
                let form = subscriber.form().without(Form::DELTA | Form::DELTA_BASE);
                self.audience.push(form, subscriber.connection());
            }
        }
        self.audience.deliver(&mut self.buffer, fanout, |form, out| {
            view::write_presence(form, slot, out, event);
        });
    }
}

/// Returns whether the connection of a client is still open. Its key may belong to another one.
fn is_open(client: ClientRef, fanout: &mut Fanout<'_, Channels>) -> bool {
    matches!(fanout.client(client.key), Some((Some(of_key), _)) if of_key.connection == client.connection)
}

/// The most connections for which a list keeps its memory.
const MOST_KEPT: usize = 16 * 1024;
