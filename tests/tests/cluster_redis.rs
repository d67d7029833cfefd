//! Redis Cluster: both binaries find the master of their keys, and follow it.

use postern_tests::channels::Client;
use postern_tests::cluster::{PAIRS, next_publication, publish, recover, unconnected};
use postern_tests::postern::{Postern, Runtime};
use postern_tests::redis_cluster::RedisCluster;
use postern_tests::{at_the_same_time, wait_until};
use serde_json::{Value, json};

/// Short times, so that a test does not wait for long, and no pings to clients that wait.
const FAST: [(&str, &str); 3] =
    [("POSTERN_REDIS_TIMEOUT", "500ms"), ("POSTERN_REDIS_PROBE", "1s"), ("POSTERN_PING_INTERVAL", "0")];

const CONNECTED: &str = "channels are connected with Redis";

fn start(runtime: Runtime, url: &str, settings: &[(&str, &str)]) -> Postern {
    let node = unconnected(runtime, url, &[&FAST[..], settings].concat());
    node.wait_for(CONNECTED);
    node
}

#[test]
fn nodes_share_channels_by_a_cluster() {
    let cluster = RedisCluster::start();
    for runtimes in PAIRS {
        let nodes = runtimes.map(|runtime| start(runtime, &cluster.url(), &[]));
        let mut john = Client::connect(&nodes[0], "123", "John Doe");
        let mut jane = Client::connect(&nodes[1], "7", "Jane Roe");
        for channel in ["news", "live:1"] {
            john.subscribe(channel);
            jane.subscribe(channel);
            assert_eq!(john.publish(channel, json!(0)).len(), 1);
            assert_eq!(next_publication(&mut jane)["data"], 0);
        }
    }
}
