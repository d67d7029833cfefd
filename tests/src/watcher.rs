//! Subscribers that check that nothing is missing without their knowledge.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::channels::Client;
use crate::cluster::recover;
use crate::postern::Postern;
use crate::wait_until;

/// A subscriber of the channel `news`.
#[derive(Debug)]
pub struct Watcher {
    client: Client,
    /// The epoch of the channel.
    pub epoch: Value,
    /// The offset of the last publication.
    pub offset: u64,
    /// The number of times that it was told of missing publications.
    pub told: usize,
}

impl Watcher {
    /// Subscribes.
    ///
    /// # Panics
    ///
    /// If it cannot.
    #[track_caller]
    pub fn new(node: &Postern) -> Watcher {
        let mut client = Client::without_pings(node, "7", "Jane Roe");
        let result = client.subscribe("news");
        let offset = result["offset"].as_u64().unwrap_or(0);
        Watcher { client, epoch: result["epoch"].clone(), offset, told: 0 }
    }

    /// Receives until a publication with this data, or until it learns that some are missing. Each one must follow the one before
    /// it. Returns whether that publication has arrived.
    ///
    /// # Panics
    ///
    /// If another message arrives, or none.
    #[track_caller]
    pub fn receive_until(&mut self, last: &Value) -> bool {
        loop {
            let message = self.client.next();
            let push = &message["push"];
            if push["unsubscribe"]["code"] == 2500 {
                match self.recover(last) {
                    Recovered::Last => return true,
                    Recovered::Some => {}
                    Recovered::Missing => return false,
                }
            } else {
                assert!(push["pub"].is_object(), "{message}");
                if self.follow(&push["pub"], last) {
                    return true;
                }
            }
        }
    }

    /// Subscribes again, as an SDK does.
    #[track_caller]
    fn recover(&mut self, last: &Value) -> Recovered {
        let result = recover_at_last(&mut self.client, self.offset, &self.epoch);
        if result["recovered"] != true {
            self.told += 1;
            self.epoch = result["epoch"].clone();
            self.offset = result["offset"].as_u64().unwrap_or(0);
            return Recovered::Missing;
        }
        let publications = result["publications"].as_array().cloned().unwrap_or_default();
        let mut is_last = false;
        for publication in &publications {
            is_last |= self.follow(publication, last);
        }
        if is_last { Recovered::Last } else { Recovered::Some }
    }

    #[track_caller]
    fn follow(&mut self, publication: &Value, last: &Value) -> bool {
        let offset = publication["offset"].as_u64().expect("an offset");
        assert_eq!(
            offset,
            self.offset + 1,
            "a publication is missing, and the client was not told: {publication}"
        );
        self.offset = offset;
        publication["data"] == *last
    }
}

/// Recovers the channel, again while there is a temporary error, and returns the result.
///
/// # Panics
///
/// If there is no reply.
#[track_caller]
pub fn recover_at_last(client: &mut Client, offset: u64, epoch: &Value) -> Value {
    loop {
        let reply = client.call(recover("news", offset, epoch));
        if reply["error"]["temporary"] != true {
            return reply["subscribe"].clone();
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// The result of a recovery.
enum Recovered {
    /// Nothing is missing, and the publication that the watcher waits for has arrived.
    Last,
    /// Nothing is missing.
    Some,
    /// Publications are missing, and the client knows.
    Missing,
}

/// Checks that all watchers have received everything or know that they have not, and receive what follows.
///
/// # Panics
///
/// If one has not.
#[track_caller]
pub fn check_all(nodes: &[Postern; 2], watchers: &mut [Watcher], round: usize) {
    let last = json!(format!("last of round {round}"));
    publish_at_last(&nodes[0], &last);
    for (index, watcher) in watchers.iter_mut().enumerate() {
        if !watcher.receive_until(&last) {
            let next = json!(format!("next of {index} in round {round}"));
            publish_at_last(&nodes[1], &next);
            assert!(watcher.receive_until(&next), "nothing is missing after the failover");
        }
    }
}

/// Publishes until it succeeds.
///
/// # Panics
///
/// If it does not in time.
#[track_caller]
pub fn publish_at_last(node: &Postern, data: &Value) {
    let body = json!({ "channel": "news", "data": data, "idempotency_key": data.to_string() });
    wait_until("it is published", || node.post("/api/publish", &body).json()["result"].is_object());
}
