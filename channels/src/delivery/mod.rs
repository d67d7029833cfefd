//! The delivery of publications, joins and leaves to the subscribers of a worker.
//!
//! A publication is encoded once for each [`Form::frame`] that occurs among the subscribers. Usually all of them receive it
//! alike, and the list of the channel is handed to the worker once for each number. Otherwise all subscribers of a delivery are
//! sorted by this number first, and each of these lists is then handed to the worker.
//!
//! * `conflate`: channels whose subscribers get the latest publication of each interval.
//! * `slow`: subscribers that do not read fast enough.

mod conflate;
mod slow;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use postern_core::Key;
use postern_core::worker::{Fanout, SharedFrame};

use crate::application::{Channels, kind};
use crate::client::Held;
use crate::delta;
use crate::engine::ClientRef;
use crate::exchange::{CatchUp, PresenceEvent};
use crate::hub::{Delivery, Form, Forms, Slot, Subscriber};
use crate::namespaces::options::{ChannelOptions, Conflation, SlowPolicy};
use crate::permissions::find_channel;
use crate::protocol::Message;
use crate::publication::{ClientId, Publication};
use crate::view;

use self::conflate::Waiting;

pub(crate) use self::conflate::Intervals;
pub(crate) use self::slow::SlowClients;

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

    /// Delivers a message to all, which `write` writes for each form, and removes them. Returns the number of those that are
    /// open.
    fn deliver<'w>(
        &mut self,
        buffer: &mut Vec<u8>,
        fanout: &mut Fanout<'w, Channels>,
        mut write: impl FnMut(Form, &mut Message<'_>),
    ) -> usize {
        let mut sent = 0;
        for (number, list) in self.lists.iter_mut().enumerate() {
            if list.is_empty() {
                continue;
            }
            let form = Form::of_frame(number);
            buffer.clear();
            write(form, &mut form.message(buffer));
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
        let options = self.options(&publication.channel);
        let slow = options.map_or(SlowPolicy::Close, |options| options.slow);
        let conflation = options.filter(|options| options.conflate == Conflation::Latest);
        if let Some(length) = conflation.map(|options| options.conflate_interval) {
            let waiting = Waiting { publication: Arc::clone(publication), excluded: publisher };
            if self.intervals.take(waiting, length, fanout.now()).is_none() {
                return self.hub.set_waiting(slot);
            }
        }
        self.deliver_in(slot, slow, publication, publisher, fanout);
    }

    /// Does what is due: the ends of intervals, and a look at slow clients.
    pub(crate) fn handle_delivery_timeout(&mut self, fanout: &mut Fanout<'_, Channels>) {
        while let Some(Waiting { publication, excluded }) = self.intervals.next_due(fanout.now()) {
            // Without subscribers the worker gets no publications, so the one that waits is not the latest one any more.
            if let Some(slot) = self.hub.find(&publication.channel)
                && self.hub.take_waiting(slot)
            {
                let options = self.options(&publication.channel);
                let slow = options.map_or(SlowPolicy::Close, |options| options.slow);
                self.deliver_in(slot, slow, &publication, excluded, fanout);
            }
        }
        self.serve_slow(fanout);
    }

    /// Returns the subscribers that have published some of these publications, if the channel excludes publishers. The
    /// events that name them are lost.
    pub(crate) fn excluded_publishers(
        &self,
        catch_up: &CatchUp,
        fanout: &mut Fanout<'_, Channels>,
    ) -> BTreeMap<ClientId, ClientRef> {
        let is_excluding = self.options(&catch_up.channel).is_some_and(|options| options.exclude_publisher);
        let infos = catch_up.publications.iter().filter_map(|publication| publication.info.as_ref());
        let publishers: BTreeSet<ClientId> = infos.map(|info| info.client).collect();
        let Some(slot) = self.hub.find(&catch_up.channel).filter(|_| is_excluding && !publishers.is_empty())
        else {
            return BTreeMap::new();
        };
        let subscribers = self.hub.subscribers(slot).iter();
        let clients = subscribers.filter_map(|subscriber| {
            let (client, _) = fanout.client(Key(subscriber.connection() as usize))?;
            client.as_ref().map(|client| (client.id, client.place))
        });
        clients.filter(|(id, _)| publishers.contains(id)).collect()
    }

    fn options(&self, channel: &str) -> Option<&ChannelOptions> {
        find_channel(&self.config.namespaces, channel).ok().map(|(_, options)| &**options)
    }

    /// Delivers a publication to the subscribers of its channel now.
    fn deliver_in(
        &mut self,
        slot: Slot,
        policy: SlowPolicy,
        publication: &Arc<Publication>,
        excluded: Option<ClientRef>,
        fanout: &mut Fanout<'_, Channels>,
    ) {
        let excluded = excluded.filter(|client| is_open(*client, fanout)).map(|client| client.key.0 as u32);
        let Some(channel) = self.hub.delivery(slot) else { return };
        self.visited += channel.subscribers.len() as u64;
        if policy == SlowPolicy::Close && excluded.is_none() && channel.forms.are_plain() {
            *channel.base = None;
            self.counts.deliveries +=
                deliver_plain(channel, &mut self.buffer, slot, publication, fanout) as u64;
            return;
        }
        let mut has_deltas = false;
        *channel.forms = Forms::default();
        for subscriber in channel.subscribers.iter_mut() {
            let (form, connection) = (subscriber.form(), subscriber.connection());
            let mut is_for_it = Some(connection) != excluded
                && (!form.has(Form::FILTERED)
                    || channel.filters.selects(connection, slot, &publication.tags));
            if is_for_it && form.has(Form::HELD) {
                hold(connection, Held::Publication(Arc::clone(publication)), fanout);
                is_for_it = false;
            }
            if is_for_it && policy != SlowPolicy::Close {
                let state = (fanout.backlog(Key(connection as usize)), fanout.now());
                is_for_it =
                    !self.slow.keeps_back(policy, self.config.slow_backlog, connection, publication, state);
            }
            if is_for_it {
                self.audience.push(form, connection);
            }
            if form.has(Form::DELTA) {
                has_deltas = true;
                // The next delta refers to this publication.
                let form = if is_for_it { form | Form::DELTA_BASE } else { form.without(Form::DELTA_BASE) };
                subscriber.set_form(form);
            }
            channel.forms.insert(subscriber.form());
        }
        let base = std::mem::replace(channel.base, has_deltas.then(|| Arc::clone(publication)));
        let base = base.filter(|_| publication.delta);
        let mut patch: Option<Option<Vec<u8>>> = None;
        let sent = self.audience.deliver(&mut self.buffer, fanout, |form, message| {
            let patch = match &base {
                Some(base) if form.has(Form::DELTA_BASE) => {
                    patch.get_or_insert_with(|| delta::encode(&base.data, &publication.data)).as_deref()
                }
                _ => None,
            };
            view::push_publication(message, form, slot, publication, patch);
        });
        self.counts.deliveries += sent as u64;
    }

    /// Delivers a publication to one subscriber of its channel, if it still is one.
    fn deliver_to_one(
        &mut self,
        connection: u32,
        publication: &Arc<Publication>,
        fanout: &mut Fanout<'_, Channels>,
    ) {
        let channel = &publication.channel;
        let (Some(slot), Some(form)) = (self.hub.find(channel), self.hub.form(connection, channel)) else {
            return;
        };
        self.audience.push(form, connection);
        let sent = self.audience.deliver(&mut self.buffer, fanout, |form, message| {
            view::push_publication(message, form, slot, publication, None);
        });
        self.counts.deliveries += sent as u64;
    }

    /// Sends a join or a leave to the subscribers of a channel.
    pub(crate) fn deliver_presence(&mut self, event: &Arc<PresenceEvent>, fanout: &mut Fanout<'_, Channels>) {
        let Some(slot) = self.hub.find(&event.channel) else { return };
        self.visited += self.hub.subscribers(slot).len() as u64;
        for subscriber in self.hub.subscribers(slot) {
            let (form, connection) = (subscriber.form(), subscriber.connection());
            if !form.has(Form::JOIN_LEAVE) || self.slow.has_dropped(connection, &event.channel) {
                continue;
            }
            if form.has(Form::HELD) {
                hold(connection, Held::Presence(Arc::clone(event)), fanout);
            } else {
                // Deltas are between publications only.
                self.audience.push(form.without(Form::DELTA | Form::DELTA_BASE), connection);
            }
        }
        self.audience.deliver(&mut self.buffer, fanout, |form, message| {
            view::push_presence(message, form, slot, event);
        });
    }
}

/// Delivers a publication to all subscribers of a channel with plain [`Forms`]. Returns the number of those that are open.
fn deliver_plain(
    channel: Delivery<'_>,
    buffer: &mut Vec<u8>,
    slot: Slot,
    publication: &Arc<Publication>,
    fanout: &mut Fanout<'_, Channels>,
) -> usize {
    let Delivery { subscribers, forms, .. } = channel;
    let key = |subscriber: &Subscriber| Key(subscriber.connection() as usize);
    let numbers = *forms;
    let is_one = numbers.frames().nth(1).is_none();
    let mut sent = 0;
    for number in numbers.frames() {
        let has_it = |subscriber: &&Subscriber| subscriber.form().frame() == number;
        if !is_one && !subscribers.iter().any(|subscriber| has_it(&subscriber)) {
            forms.remove_frame(number);
            continue;
        }
        let form = Form::of_frame(number);
        buffer.clear();
        view::push_publication(&mut form.message(buffer), form, slot, publication, None);
        let frame = fanout.frame(kind(form.encoding()), buffer);
        sent += match is_one {
            true => fanout.deliver_to(subscribers.iter().map(key), frame),
            false => fanout.deliver_to(subscribers.iter().filter(has_it).map(key), frame),
        };
    }
    buffer.clear();
    sent
}

/// Keeps an event for a client whose `connect` is not answered.
fn hold(connection: u32, event: Held, fanout: &mut Fanout<'_, Channels>) {
    if let Some((Some(client), _)) = fanout.client(Key(connection as usize)) {
        client.hold(event);
    }
}

/// Returns whether the connection of a client is still open. Its key may belong to another one.
fn is_open(client: ClientRef, fanout: &mut Fanout<'_, Channels>) -> bool {
    matches!(fanout.client(client.key), Some((Some(of_key), _)) if of_key.place == client)
}

/// The most connections for which a list keeps its memory.
const MOST_KEPT: usize = 16 * 1024;
