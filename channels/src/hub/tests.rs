//! Each rule of a hub, and random operations that are compared with a list.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::protocol::FilterNode;
use crate::publication::{Epoch, Position, Tags};

fn name(number: usize) -> Arc<str> {
    format!("channel:{number}").into()
}

fn subscribe(hub: &mut Hub, connection: u32, channel: &str) -> Slot {
    let slot = hub.join(connection, &channel.into(), Form::default()).unwrap();
    assert!(hub.admit(connection, channel, None));
    slot
}

fn connections(hub: &Hub, slot: Slot) -> Vec<u32> {
    let mut connections: Vec<u32> = hub.subscribers(slot).iter().map(Subscriber::connection).collect();
    connections.sort_unstable();
    connections
}

#[test]
fn a_subscription_takes_sixteen_bytes() {
    assert_eq!((size_of::<Subscriber>(), size_of::<Entry>(), size_of::<Entries>()), (8, 8, 24));
}

#[test]
fn a_joining_subscription_counts_and_receives_nothing() {
    let mut hub = Hub::new(1, 2);
    let form = Form::PROTOBUF | Form::PRESENT;
    let slot = hub.join(3, &"a".into(), form).unwrap();
    assert_eq!((hub.subscribers(slot).len(), hub.counts()), (0, (1, 1)));
    assert_eq!(hub.form(3, "a"), Some(form));
    assert_eq!(hub.join(3, &"a".into(), form), Err(JoinError::AlreadySubscribed));
    hub.join(3, &"b".into(), form).unwrap();
    assert_eq!(hub.join(3, &"c".into(), form), Err(JoinError::LimitExceeded));
    assert!(hub.admit(3, "a", None));
    assert_eq!((connections(&hub, slot), hub.form(3, "a")), (vec![3], Some(form)));
    // A subscription is admitted once.
    assert!(!hub.admit(3, "a", None) && !hub.admit(4, "a", None) && !hub.admit(3, "c", None));
    assert!(hub.is_joining(3, "b") && !hub.is_joining(3, "a") && !hub.is_joining(4, "b"));
    assert_eq!(hub.leave(3, "b"), Some(("b".into(), form)));
    assert!(!hub.admit(3, "b", None));
    assert_eq!(hub.leave(3, "b"), None);
}

#[test]
fn a_channel_without_subscriptions_is_removed() {
    let mut hub = Hub::new(1, 128);
    subscribe(&mut hub, 0, "a");
    hub.join(1, &"a".into(), Form::default()).unwrap();
    assert!(hub.leave(0, "a").is_some() && hub.find("a").is_some());
    assert!(hub.leave(1, "a").is_some() && hub.find("a").is_none());
    assert_eq!(hub.counts(), (0, 0));
}

#[test]
fn a_connection_leaves_all_channels() {
    let mut hub = Hub::new(1, 128);
    for number in 0..5 {
        subscribe(&mut hub, 7, &name(number));
        subscribe(&mut hub, 8, &name(number));
    }
    hub.join(7, &"joining".into(), Form::default()).unwrap();
    assert_eq!(hub.channels_of(7).len(), 6);
    let left: BTreeSet<Arc<str>> = std::iter::from_fn(|| hub.leave_any(7)).map(|(name, _)| name).collect();
    assert_eq!((left.len(), hub.channels_of(7).len(), hub.counts()), (6, 0, (5, 5)));
    assert_eq!(connections(&hub, hub.find(&name(3)).unwrap()), [8]);
}

/// Returns a publication with this offset.
fn publication(offset: u64) -> Arc<Publication> {
    Arc::new(Publication {
        delta: true,
        position: Some(Position { epoch: Epoch::from_bits(1), offset }),
        ..Publication::of("a", "1")
    })
}

#[test]
fn a_new_subscriber_has_the_base_of_the_others_if_it_has_recovered_it() {
    let mut hub = Hub::new(1, 128);
    let admit = |hub: &mut Hub, connection, form, last: Option<u64>| {
        hub.join(connection, &"a".into(), form).unwrap();
        assert!(hub.admit(connection, "a", last.map(publication).as_ref()));
        hub.form(connection, "a").unwrap().has(Form::DELTA_BASE)
    };
    // A channel without deltas keeps no base.
    assert!(!admit(&mut hub, 0, Form::default(), Some(4)));
    assert!(!admit(&mut hub, 1, Form::DELTA, None));
    assert!(admit(&mut hub, 2, Form::DELTA, Some(5)));
    assert!(admit(&mut hub, 3, Form::DELTA | Form::PROTOBUF, Some(5)));
    assert!(!admit(&mut hub, 4, Form::DELTA, Some(6)));
    let slot = hub.find("a").unwrap();
    assert_eq!(hub.delivery(slot).unwrap().base.as_ref(), Some(&publication(5)));
}

#[test]
fn a_filter_belongs_to_one_subscription_and_ends_with_it() {
    let mut hub = Hub::new(1, 128);
    let node = FilterNode { key: "lang".into(), cmp: "eq".into(), val: "en".into(), ..FilterNode::default() };
    let slot = hub.join(1, &"a".into(), Form::FILTERED).unwrap();
    hub.set_filter(1, slot, Filter::new(&node).unwrap());
    hub.join(2, &"a".into(), Form::default()).unwrap();
    let [en, de] = ["en", "de"].map(|lang| [("lang", lang)].into_iter().collect::<Tags>());
    let selected =
        |hub: &Hub, connection| [&en, &de].map(|tags| hub.filters().selects(connection, slot, tags));
    assert_eq!((selected(&hub, 1), selected(&hub, 2)), ([true, false], [true, true]));
    hub.leave(1, "a");
    assert!(hub.filters().get(1, slot).is_none());
}

/// The same as a hub, as lists.
#[derive(Default)]
struct Model {
    /// Connection and channel, with the form, and whether it is admitted.
    subscriptions: BTreeMap<(u32, usize), (Form, bool)>,
}

#[test]
fn random_operations_have_the_effect_that_they_have_on_lists() {
    for seed in 0..300 {
        compare_with_model(seed);
    }
}

fn compare_with_model(seed: u64) {
    const MAX_CHANNELS: u16 = 5;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut hub = Hub::new(seed, MAX_CHANNELS);
    let mut model = Model::default();
    let connections_in_use = random.u32(1..12);
    for _ in 0..400 {
        let (connection, channel) = (random.u32(0..connections_in_use), random.usize(0..8));
        let (id, text) = ((connection, channel), name(channel));
        match random.u32(0..10) {
            0..4 => {
                let form = Form::from_bits(random.u16(0..1024));
                let joined = hub.join(connection, &text, form);
                let count = model.subscriptions.keys().filter(|(other, _)| *other == connection).count();
                let expected = if model.subscriptions.contains_key(&id) {
                    Err(JoinError::AlreadySubscribed)
                } else if count >= usize::from(MAX_CHANNELS) {
                    Err(JoinError::LimitExceeded)
                } else {
                    Ok(())
                };
                assert_eq!(joined.map(|_| ()), expected);
                if joined.is_ok() {
                    model.subscriptions.insert(id, (form, false));
                }
            }
            4..8 => {
                let is_joining = model.subscriptions.get(&id).is_some_and(|(_, is_admitted)| !is_admitted);
                assert_eq!(hub.admit(connection, &text, None), is_joining);
                if let Some((_, is_admitted)) = model.subscriptions.get_mut(&id) {
                    *is_admitted = true;
                }
            }
            8 => {
                let expected = model.subscriptions.remove(&id).map(|(form, _)| (text.clone(), form));
                assert_eq!(hub.leave(connection, &text), expected);
            }
            9 if random.bool() => {
                while let Some((name, form)) = hub.leave_any(connection) {
                    let channel: usize = name.trim_start_matches("channel:").parse().unwrap();
                    assert_eq!(
                        model.subscriptions.remove(&(connection, channel)).map(|(form, _)| form),
                        Some(form)
                    );
                }
                assert!(model.subscriptions.keys().all(|(other, _)| *other != connection));
            }
            _ => {}
        }
        for (&(connection, channel), &(form, _)) in &model.subscriptions {
            assert_eq!(hub.form(connection, &name(channel)), Some(form));
        }
        let channels: BTreeSet<usize> = model.subscriptions.keys().map(|&(_, channel)| channel).collect();
        assert_eq!(hub.counts(), (channels.len(), model.subscriptions.len()));
        for channel in channels {
            let all = model.subscriptions.iter().filter(|((_, other), state)| *other == channel && state.1);
            let slot = hub.find(&name(channel)).unwrap();
            let forms = *hub.delivery(slot).unwrap().forms;
            for (_, (form, _)) in all.clone() {
                assert!(forms.frames().any(|number| number == form.frame()));
                let is_plain = [Form::DELTA, Form::FILTERED, Form::HELD].iter().all(|it| !form.has(*it));
                assert!(is_plain || !forms.are_plain());
            }
            let expected: Vec<u32> = all.map(|((connection, _), _)| *connection).collect();
            assert_eq!(connections(&hub, slot), expected);
        }
    }
}

#[test]
fn publication_that_waits_is_forgotten_if_no_subscriber_has_waited_for_it() {
    let mut hub = Hub::new(1, 10);
    let slot = hub.join(1, &"a".into(), Form::default()).unwrap();
    // It arrives between the end of an earlier subscription and the answer to this one.
    hub.set_waiting(slot);
    hub.admit(1, "a", None);
    assert!(!hub.take_waiting(slot));
    hub.set_waiting(slot);
    hub.join(2, &"a".into(), Form::default()).unwrap();
    hub.admit(2, "a", None);
    assert!(hub.take_waiting(slot));
}
