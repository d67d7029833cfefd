//! Each rule of an exchange. `tests/model.rs` combines them.

mod history;
mod life;
mod recovery;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::namespaces::options::{ChannelOptions, RecoveryMode};
use crate::publication::{ClientId, Epoch, Since, Tags};

const SECOND: Duration = Duration::from_secs(1);
const OPTIONS: HistoryOptions = HistoryOptions {
    size: 3,
    ttl: Duration::from_secs(60),
    bytes: usize::MAX,
    meta_ttl: Duration::from_secs(600),
};

/// An exchange, and its time.
struct Fixture {
    exchange: Exchange,
    now: Instant,
    worker: WorkerId,
}

fn fixture() -> Fixture {
    with_memory(usize::MAX)
}

fn with_memory(history_memory: usize) -> Fixture {
    let idempotency_ttl = Duration::from_secs(300);
    let config = ExchangeConfig { seed: 1, history_memory, idempotency_ttl, max_idempotency_keys: 3 };
    Fixture { exchange: Exchange::new(config), now: Instant::now(), worker: WorkerId::new(0).unwrap() }
}

impl Fixture {
    /// Publishes with history.
    fn publish(&mut self, channel: &str, data: &str) -> Position {
        self.publish_with(channel, data, |_| ()).position.unwrap()
    }

    fn publish_with(&mut self, channel: &str, data: &str, change: impl FnOnce(&mut Publish)) -> Published {
        let mut publish = Publish {
            channel: channel.into(),
            data: data.as_bytes().into(),
            info: None,
            tags: Tags::default(),
            delta: false,
            time: 0,
            history: Some(OPTIONS),
            key: None,
            version: None,
        };
        change(&mut publish);
        self.exchange.publish(publish, self.now)
    }

    fn subscribe(&mut self, channel: &str) -> Subscribed {
        self.subscribe_with(channel, None).unwrap()
    }

    fn subscribe_with(
        &mut self,
        channel: &str,
        recovery: Option<Recovery>,
    ) -> Result<Subscribed, Unrecoverable> {
        let subscribe = Subscribe { channel: channel.into(), history: Some(OPTIONS), recovery };
        self.exchange.subscribe(self.worker, &subscribe, self.now)
    }

    fn unsubscribe(&mut self, channel: &str) -> bool {
        self.exchange.unsubscribe(self.worker, channel, self.now)
    }

    fn history(&mut self, channel: &str) -> Vec<String> {
        let all = HistoryQuery::default();
        texts(&self.exchange.history(&channel.into(), &all, &OPTIONS, self.now).unwrap().publications)
    }

    /// Lets time pass, with all timeouts.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(timeout) = self.exchange.poll_timeout().filter(|&timeout| timeout <= end) {
            self.now = self.now.max(timeout);
            self.exchange.handle_timeout(self.now);
        }
        self.now = end;
    }
}

fn texts(publications: &[Arc<Publication>]) -> Vec<String> {
    publications.iter().map(|publication| String::from_utf8(publication.data.to_vec()).unwrap()).collect()
}

/// Returns the workers of a delivery by index.
fn workers(published: &Published) -> Vec<usize> {
    match &published.outcome {
        PublishOutcome::Published { delivery, .. } => delivery.workers.iter().map(WorkerId::index).collect(),
        PublishOutcome::Duplicate | PublishOutcome::Outdated => panic!("not published: {published:?}"),
    }
}

fn client(user: &str, number: u128) -> Arc<ClientInfo> {
    Arc::new(ClientInfo {
        user: user.into(),
        client: ClientId::from_random(number),
        conn_info: None,
        chan_info: None,
    })
}
