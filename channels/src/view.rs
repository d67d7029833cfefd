//! Publications and clients as the protocol encodes them.

use std::sync::Arc;

use crate::delta;
use crate::exchange::{History, PresenceChange, PresenceEvent, Subscribed};
use crate::hub::{Form, Slot};
use crate::protocol::{
    self, Answer, Data, HistoryResult, Message, Push, PushBody, Reply, SubscribeResult, Topic,
};
use crate::publication::{ClientInfo, Publication, Since};

/// The parts of publications and clients that are not in them as they are sent. Views borrow these parts.
pub(crate) struct Texts {
    /// The ids of clients.
    clients: Vec<[u8; 36]>,
    /// The deltas between publications, by the later one.
    patches: Vec<Option<Vec<u8>>>,
    form: Form,
}

impl Texts {
    /// Makes the parts of publications, each of which precedes the next one in its channel, for a subscriber with this form.
    pub(crate) fn of_publications(publications: &[Arc<Publication>], form: Form) -> Texts {
        let text = |publication: &Arc<Publication>| {
            publication.info.as_ref().map_or([0; 36], |info| info.client.text())
        };
        let pairs = publications.iter().zip(publications.get(1..).unwrap_or_default());
        let patch = |(base, next): (&Arc<Publication>, &Arc<Publication>)| {
            if next.delta { delta::encode(&base.data, &next.data) } else { None }
        };
        let patches = if form.has(Form::DELTA) {
            std::iter::once(None).chain(pairs.map(patch)).collect()
        } else {
            Vec::new()
        };
        Texts { clients: publications.iter().map(text).collect(), patches, form }
    }

    fn of_clients(clients: &[Arc<ClientInfo>]) -> Texts {
        let clients = clients.iter().map(|info| info.client.text()).collect();
        Texts { clients, patches: Vec::new(), form: Form::default() }
    }

    /// Returns the publications from which the texts were made.
    pub(crate) fn publications<'v>(
        &'v self,
        publications: &'v [Arc<Publication>],
    ) -> Vec<protocol::Publication<'v>> {
        let parts = publications.iter().zip(&self.clients).enumerate();
        let patch = |number: usize| self.patches.get(number)?.as_deref();
        parts.map(|(number, (it, client))| view(self.form, it, client, patch(number))).collect()
    }

    /// Returns the clients from which the texts were made, by their ids.
    fn clients<'v>(&'v self, clients: &'v [Arc<ClientInfo>]) -> Vec<(&'v str, protocol::ClientInfo<'v>)> {
        clients
            .iter()
            .zip(&self.clients)
            .map(|(info, text)| (as_str(text), client_view(info, text)))
            .collect()
    }
}

/// Returns a publication as subscribers with a form get it, or `patch`, which is the difference to the one before.
fn view<'v>(
    form: Form,
    publication: &'v Publication,
    client: &'v [u8; 36],
    patch: Option<&'v [u8]>,
) -> protocol::Publication<'v> {
    let position = publication.position.as_ref();
    let data = patch.unwrap_or(&publication.data);
    protocol::Publication {
        data: if form.has(Form::DELTA) && !form.has(Form::PROTOBUF) {
            // A JSON subscriber gets JSON only, and the delta between two JSON texts is a text.
            Data::Text(str::from_utf8(data).unwrap_or_default())
        } else {
            Data::Raw(data)
        },
        info: publication.info.as_deref().map(|info| client_view(info, client)),
        offset: position.map_or(0, |position| position.offset),
        tags: publication.tags.as_slice(),
        delta: patch.is_some(),
        // Clients need the epoch with the first publication of a stream only.
        epoch: position
            .filter(|position| position.offset == 1 && patch.is_none())
            .map_or("", |position| position.epoch.as_str()),
    }
}

fn client_view<'v>(info: &'v ClientInfo, text: &'v [u8; 36]) -> protocol::ClientInfo<'v> {
    protocol::ClientInfo {
        user: &info.user,
        client: as_str(text),
        conn_info: info.conn_info.as_deref().unwrap_or_default(),
        chan_info: info.chan_info.as_deref().unwrap_or_default(),
    }
}

/// Returns the text of a client's id, which is ASCII.
fn as_str(text: &[u8; 36]) -> &str {
    str::from_utf8(text).unwrap_or_default()
}

/// Adds a publication to a message, or the patch that changes the one before into it.
pub(crate) fn push_publication(
    message: &mut Message<'_>,
    form: Form,
    slot: Slot,
    publication: &Publication,
    patch: Option<&[u8]>,
) {
    let text = publication.info.as_ref().map_or([0; 36], |info| info.client.text());
    let body = PushBody::Publication(view(form, publication, &text, patch));
    message.push(&Reply::Push(Push { topic: topic(form, slot, &publication.channel), body }));
}

/// Adds to a message that a client has joined or left.
pub(crate) fn push_presence(message: &mut Message<'_>, form: Form, slot: Slot, event: &PresenceEvent) {
    let text = event.info.client.text();
    let info = client_view(&event.info, &text);
    let body = match event.change {
        PresenceChange::Join => PushBody::Join(info),
        PresenceChange::Leave => PushBody::Leave(info),
    };
    message.push(&Reply::Push(Push { topic: topic(form, slot, &event.channel), body }));
}

/// Writes a message with a push.
pub(crate) fn write_push(form: Form, out: &mut Vec<u8>, topic: Topic<'_>, body: PushBody<'_>) {
    form.message(out).push(&Reply::Push(Push { topic, body }));
}

fn topic<'c>(form: Form, slot: Slot, channel: &'c str) -> Topic<'c> {
    if form.has(Form::COMPACT) { Topic::Id(compact_id(slot)) } else { Topic::Channel(channel) }
}

/// Returns the number that a subscriber of a channel gets in place of its name.
fn compact_id(slot: Slot) -> i64 {
    // In the protocol, 0 means that there is none.
    i64::from(slot.number()) + 1
}

/// Passes the result of `history` to `use_result`.
pub(crate) fn history_result(history: &History, use_result: impl FnOnce(Answer<'_>)) {
    let texts = Texts::of_publications(&history.publications, Form::default());
    let publications = texts.publications(&history.publications);
    let (epoch, offset) = (history.position.epoch, history.position.offset);
    use_result(Answer::History(HistoryResult { publications: &publications, epoch: epoch.as_str(), offset }));
}

/// Passes the result of `presence` to `use_result`.
pub(crate) fn presence_result(clients: &[Arc<ClientInfo>], use_result: impl FnOnce(Answer<'_>)) {
    let texts = Texts::of_clients(clients);
    use_result(Answer::Presence { presence: &texts.clients(clients) });
}

/// Returns the result of a subscription.
pub(crate) fn subscribe_result<'v>(
    subscribed: &'v Subscribed,
    since: Option<Since>,
    form: Form,
    slot: Option<Slot>,
    publications: &'v [protocol::Publication<'v>],
) -> SubscribeResult<'v> {
    let position = subscribed.position.as_ref();
    let is_recovered = subscribed.is_recovered && since.is_some();
    let offset = match (position, since.filter(|_| is_recovered)) {
        // The client moves its position by the publications. An offset of another stream has no meaning here.
        (Some(position), Some(since)) if since.is_of(position.epoch) => since.offset.min(position.offset),
        (position, _) => position.map_or(0, |position| position.offset),
    };
    SubscribeResult {
        recoverable: form.has(Form::RECOVERABLE),
        epoch: position.map_or("", |position| position.epoch.as_str()),
        publications,
        recovered: is_recovered,
        offset,
        positioned: form.has(Form::POSITIONED),
        delta: form.has(Form::DELTA),
        id: slot.filter(|_| form.has(Form::COMPACT)).map_or(0, compact_id),
        was_recovering: form.has(Form::WAS_RECOVERING),
        ..SubscribeResult::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publication::{Epoch, Position};

    #[test]
    fn a_position_after_a_recovery_is_in_the_stream_of_the_channel() {
        let position = Some(Position { epoch: Epoch::from_bits(7), offset: 3 });
        // In cache mode, and the filter of the client leaves the last publication out.
        let subscribed = Subscribed {
            channel: "a".into(),
            position,
            publications: Vec::new(),
            is_recovered: true,
            catch_up: None,
            is_occupied: false,
        };
        let own = Epoch::from_bits(7);
        let other = Epoch::from_bits(8);
        for (epoch, offset, expected) in [
            (own.as_str(), 2, 2),
            ("", 2, 2),
            (own.as_str(), 5, 3),
            (other.as_str(), 2, 3),
            (other.as_str(), 5, 3),
        ] {
            let since = Some(Since::new(epoch, offset));
            let result = subscribe_result(&subscribed, since, Form::default(), None, &[]);
            assert_eq!((result.epoch, result.offset), (own.as_str(), expected), "{epoch} {offset}");
            assert!(result.recovered);
        }
    }
}
