//! The clients: what each has received, compared with all events of its channels.

use std::collections::BTreeMap;
use std::sync::Arc;

use postern_channels::publication::{ClientId, ClientInfo, Position};

use crate::streams::Event;

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) info: Arc<ClientInfo>,
    pub(crate) worker: usize,
    pub(crate) subscriptions: BTreeMap<usize, Subscription>,
    /// The last position that it knows of each channel.
    pub(crate) positions: BTreeMap<usize, Position>,
}

/// A subscription of a client.
#[derive(Debug)]
pub(crate) struct Subscription {
    /// The number of the request, which its answer repeats.
    pub(crate) request: u64,
    /// The number of events of the channel that it has received, or that precede it. `None`: it is joining.
    pub(crate) received: Option<usize>,
}

impl Client {
    pub(crate) fn new(number: u32) -> Client {
        // Some users have several clients.
        let user = format!("user{}", number / 2).into();
        let client = ClientId::from_random(u128::from(number));
        let info = Arc::new(ClientInfo { user, client, conn_info: None, chan_info: None });
        Client {
            info,
            worker: number as usize % 2,
            subscriptions: BTreeMap::new(),
            positions: BTreeMap::new(),
        }
    }

    /// Receives an event. It must be the next one of the channel, or, if others are known to be missing, a later one.
    pub(crate) fn receive(&mut self, channel: usize, event: Event, events: &[Event], has_gap: bool) {
        let subscription = self.subscriptions.get_mut(&channel).unwrap();
        let received = subscription.received.as_mut().expect("a joining subscription receives nothing");
        let skipped = events[*received..].iter().position(|next| *next == event);
        match skipped {
            Some(0) => {}
            Some(_) => assert!(has_gap, "events are missing in front of {event:?}"),
            None => panic!("{event:?} comes twice, or too early"),
        }
        *received += skipped.unwrap() + 1;
        if let Event::Publication(Some(position), _) = event {
            self.positions.insert(channel, position);
        }
    }
}
