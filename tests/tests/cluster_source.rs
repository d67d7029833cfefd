//! RabbitMQ as a source of publications for several nodes with Redis, both binaries mixed.

use lapin::BasicProperties;
use postern_tests::channels::Client;
use postern_tests::cluster::{PAIRS, next_publication, node};
use postern_tests::postern::Postern;
use postern_tests::rabbitmq::{Broker, Publisher};
use postern_tests::redis::Redis;
use postern_tests::wait_until;

#[test]
fn messages_reach_the_clients_of_all_nodes_once_and_wait_for_redis() {
    let broker = Broker::shared();
    for (number, runtimes) in PAIRS.into_iter().enumerate() {
        let mut redis = Redis::with(&["--appendonly", "yes", "--appendfsync", "always"]);
        let name = format!("cluster-{number}");
        let (url, queue, dead) = (broker.url(), format!("{name}.source"), format!("{name}.dead"));
        let settings = [
            ("POSTERN_AMQP_URL", &*url),
            ("POSTERN_AMQP_EXCHANGE", &name),
            ("POSTERN_AMQP_QUEUE", &queue),
            ("POSTERN_AMQP_DEAD_LETTER", &dead),
            // Its data survives the restart.
            ("POSTERN_REDIS_FAILOVER", "trust"),
        ];
        let nodes = runtimes.map(|runtime| node(runtime, &redis, &settings));
        nodes.iter().for_each(|node| drop(node.wait_for("receiving messages from RabbitMQ")));
        let backend = Publisher::connect(&url, &name);
        let mut clients = nodes.each_ref().map(|node| {
            let mut client = Client::connect(node, "7", "Jane Roe");
            client.subscribe("news");
            client
        });
        let id = |id: &str| BasicProperties::default().with_message_id(id.into());
        for (body, key) in [("1", "a"), ("1", "a"), ("2", "b")] {
            backend.send("channel.news", body.as_bytes(), id(key));
        }
        for client in &mut clients {
            assert_eq!(
                [next_publication(client)["data"].clone(), next_publication(client)["data"].clone()],
                [1, 2]
            );
        }

        redis.kill();
        backend.send("channel.news", b"3", id("c"));
        wait_until("the message is not accepted", || nodes.iter().any(|node| failures(node) > 0.0));
        redis.start_again();
        for client in &mut clients {
            assert_eq!(next_publication(client)["data"], 3);
        }
        assert_eq!(backend.length(&dead), 0);
    }
}

fn failures(node: &Postern) -> f64 {
    node.metric("postern_source_failures_total{broker=\"rabbitmq\"}").unwrap_or_default()
}
