//! Channels over several nodes by Redis: `postern` and `postern-smol` as nodes of one cluster, each in both roles.

use std::thread;
use std::time::{Duration, Instant};

use postern_tests::channels::{Client, handshake};
use postern_tests::cluster::{PAIRS, next_publication, node, publish, recover};
use postern_tests::postern::{Postern, Runtime};
use postern_tests::redis::Redis;
use postern_tests::ws::Outcome;
use postern_tests::{at_the_same_time, wait_until};
use serde_json::{Value, json};

#[test]
fn a_publication_reaches_the_subscribers_of_all_nodes_in_order() {
    for runtimes in PAIRS {
        let redis = Redis::start();
        let [first, second] = runtimes.map(|runtime| node(runtime, &redis, &[]));
        for channel in ["news", "live:1"] {
            let mut john = Client::connect(&first, "123", "John Doe");
            let mut jane = Client::connect(&second, "7", "Jane Roe");
            john.subscribe(channel);
            jane.subscribe(channel);
            // The own publication precedes the reply.
            let own = john.publish(channel, json!({ "text": "Hello" }));
            assert_eq!(own.len(), 1, "{own:?}");
            let publication = next_publication(&mut jane);
            assert_eq!(publication["data"], json!({ "text": "Hello" }));
            assert_eq!(publication["info"]["user"], "123");
            publish(&second, &json!({ "channel": channel, "data": 2, "tags": { "a": "b" } }));
            for client in [&mut john, &mut jane] {
                let publication = next_publication(client);
                assert_eq!((&publication["data"], &publication["tags"]["a"]), (&json!(2), &json!("b")));
            }
            for number in 0..100 {
                publish(&first, &json!({ "channel": channel, "data": number }));
            }
            for client in [&mut john, &mut jane] {
                for number in 0..100 {
                    assert_eq!(next_publication(client)["data"], number, "{channel}");
                }
            }
        }
    }
}

#[test]
fn a_client_recovers_on_another_node() {
    for runtimes in PAIRS {
        let redis = Redis::start();
        let [first, second] = runtimes.map(|runtime| node(runtime, &redis, &[]));
        let mut jane = Client::connect(&first, "7", "Jane Roe");
        let epoch = jane.subscribe("news")["epoch"].clone();
        drop(jane);
        for number in 1..=3 {
            let result = publish(&first, &json!({ "channel": "news", "data": number }));
            assert_eq!((&result["offset"], &result["epoch"]), (&json!(number), &epoch));
        }
        let mut jane = Client::connect(&second, "7", "Jane Roe");
        let result = jane.call(recover("news", 1, &epoch))["subscribe"].clone();
        assert_eq!((&result["recovered"], &result["epoch"]), (&json!(true), &epoch), "{result}");
        let publications = result["publications"].as_array().expect("publications");
        let data: Vec<&Value> = publications.iter().map(|publication| &publication["data"]).collect();
        assert_eq!(data, [&json!(2), &json!(3)]);
        // Older publications than the node has are read from Redis.
        let mut john = Client::connect(&second, "123", "John Doe");
        let result = john.call(recover("news", 0, &epoch))["subscribe"].clone();
        assert_eq!(result["recovered"], true, "{result}");
        assert_eq!(result["publications"].as_array().map(Vec::len), Some(3));
        // Another stream is not recovered.
        john.call(json!({ "id": 3, "unsubscribe": { "channel": "news" } }));
        let result = john.call(recover("news", 1, &json!("aaaaaaaa")))["subscribe"].clone();
        assert_eq!((&result["recovered"], &result["offset"]), (&Value::Null, &json!(3)), "{result}");
        // The history is the same on all nodes.
        let query = json!({ "id": 4, "history": { "channel": "news", "limit": 2, "reverse": true } });
        let history = john.call(query)["history"].clone();
        assert_eq!(history["publications"][0]["data"], 3, "{history}");
        for postern in [&first, &second] {
            let history = postern.post("/api/history", &json!({ "channel": "news", "limit": 10 })).json();
            assert_eq!(history["result"]["publications"].as_array().map(Vec::len), Some(3), "{history}");
        }
        first.post("/api/history_remove", &json!({ "channel": "news" }));
        let history = second.post("/api/history", &json!({ "channel": "news", "limit": 10 })).json();
        assert_eq!(history["result"]["offset"], 3, "{history}");
        assert_eq!(history["result"]["publications"].as_array().map(Vec::len), Some(0), "{history}");
    }
}

#[test]
fn a_key_or_a_version_makes_a_publication_unique_on_all_nodes() {
    for runtimes in PAIRS {
        let redis = Redis::start();
        let [first, second] = runtimes.map(|runtime| node(runtime, &redis, &[]));
        let mut jane = Client::connect(&first, "7", "Jane Roe");
        jane.subscribe("news");
        jane.subscribe("live:1");
        for channel in ["news", "live:1"] {
            let once = json!({ "channel": channel, "data": 1, "idempotency_key": "once" });
            let results = [&first, &second, &first].map(|postern| publish(postern, &once)["offset"].clone());
            assert_eq!(results[0], results[1]);
            assert_eq!(results[0], results[2]);
            assert_eq!(next_publication(&mut jane)["data"], 1);
        }
        for (version, epoch) in [(7, ""), (7, ""), (6, ""), (8, ""), (1, "next")] {
            let body =
                json!({ "channel": "news", "data": version, "version": version, "version_epoch": epoch });
            publish(&second, &body);
        }
        for expected in [7, 8, 1] {
            assert_eq!(next_publication(&mut jane)["data"], expected);
        }
    }
}

#[test]
fn a_client_that_closes_or_unsubscribes_leaves_nothing_behind() {
    for runtime in Runtime::BOTH {
        let redis = Redis::start();
        let postern = node(runtime, &redis, &[("POSTERN_PERSONAL_CHANNEL", "off")]);
        let mut john = Client::connect(&postern, "123", "John Doe");
        john.subscribe("news");
        john.subscribe("live:1");
        let names = redis.run(&["PUBSUB", "CHANNELS"]);
        assert!(names.contains("postern:ch:{news}") && names.contains("postern:ch:{live:1}"), "{names}");
        // The answers to the commands before the fault are sent.
        let publish = json!({ "id": 3, "publish": { "channel": "news", "data": 1 } });
        john.send(&[publish, json!([])]);
        assert_eq!(next_publication(&mut john)["data"], 1);
        assert_eq!(john.next(), json!({ "id": 3, "publish": {} }));
        assert_eq!(john.open.close_code(), 3501, "{runtime}");
        wait_until("no channel is subscribed", || {
            !redis.run(&["PUBSUB", "CHANNELS"]).contains("postern:ch:")
        });
        // A new subscriber finds the stream.
        let (mut jane, _) = Client::connect_with(handshake(&postern, "7", "Jane Roe"), json!({}));
        assert_eq!(jane.subscribe("news")["offset"], 1);
    }
}

#[test]
fn a_backend_reaches_the_clients_of_all_nodes() {
    for runtimes in PAIRS {
        let redis = Redis::start();
        let [first, second] = runtimes.map(|runtime| node(runtime, &redis, &[]));
        let clients = || {
            [&first, &second].map(|postern| {
                let mut client = Client::connect(postern, "7", "Jane Roe");
                client.subscribe("live:1");
                client
            })
        };
        let mut both = clients();
        let call = |method: &str, body: Value| {
            second.post(&format!("/api/{method}"), &body).json()["result"].clone()
        };
        let all = |name: &str| json!({ name: 2, "nodes": 2, "silent_nodes": 0 });
        assert_eq!(call("subscribe", json!({ "user": "7", "channel": "live:2" })), all("subscribed"));
        both.iter_mut().for_each(|client| assert_eq!(client.next()["push"]["channel"], "live:2"));
        publish(&first, &json!({ "channel": "live:2", "data": 1 }));
        both.iter_mut().for_each(|client| assert_eq!(next_publication(client)["data"], 1));
        assert_eq!(call("unsubscribe", json!({ "user": "7", "channel": "live:1" })), all("unsubscribed"));
        both.iter_mut().for_each(|client| assert_eq!(client.next()["push"]["unsubscribe"]["code"], 2000));
        let in_an_hour = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time");
        let refresh = json!({ "user": "7", "expire_at": in_an_hour.as_secs() + 3600 });
        assert_eq!(call("refresh", refresh), all("refreshed"));
        both.iter_mut().for_each(|client| assert!(client.next()["push"]["refresh"].is_object()));
        assert_eq!(call("disconnect", json!({ "user": "7" })), all("disconnected"));
        both.iter_mut().for_each(|client| assert_eq!(client.open.close_code(), 3503));
        let mut both = clients();
        assert_eq!(call("revoke", json!({ "user": "7" })), all("revoked"));
        both.iter_mut().for_each(|client| assert_eq!(client.open.close_code(), 3503));
        // It holds for new connections, too.
        let refused = handshake(&first, "7", "Jane Roe").refused();
        assert_eq!(refused.status, 403, "{refused:?}");
    }
}

#[test]
fn a_revocation_reaches_a_node_that_was_not_connected() {
    for runtimes in PAIRS {
        let mut redis = Redis::with(&["--appendonly", "yes", "--appendfsync", "always"]);
        let [first, second] = runtimes.map(|runtime| node(runtime, &redis, &[]));
        let mut jane = Client::connect(&second, "7", "Jane Roe");
        redis.kill();
        first.wait_for("Redis");
        let result = first.post("/api/revoke", &json!({ "user": "7" })).json()["result"].clone();
        assert_eq!(result, json!({ "revoked": 0, "pending": true }));
        redis.start_again();
        assert_eq!(jane.open.close_code(), 3503);
        // A node that starts later learns of it.
        let third = node(runtimes[0], &redis, &[]);
        wait_until("the third node knows it", || {
            handshake(&third, "7", "Jane Roe")
                .send()
                .is_ok_and(|outcome| matches!(outcome, Outcome::Refused(_)))
        });
    }
}

#[test]
fn presence_has_the_clients_of_all_nodes_and_survives_the_end_of_one() {
    at_the_same_time(PAIRS, |runtimes| {
        let redis = Redis::start();
        let [first, mut second] = runtimes.map(|runtime| node(runtime, &redis, &[]));
        let mut john = Client::connect(&first, "123", "John Doe");
        john.subscribe("room:1");
        assert_eq!(john.next()["push"]["join"]["info"]["user"], "123");
        let mut others: Vec<Client> = (0..3)
            .map(|_| {
                let mut jane = Client::connect(&second, "7", "Jane Roe");
                jane.subscribe("room:1");
                jane
            })
            .collect();
        for _ in 0..3 {
            assert_eq!(john.next()["push"]["join"]["info"]["user"], "7");
        }
        let stats = |postern: &Postern| {
            postern.post("/api/presence_stats", &json!({ "channel": "room:1" })).json()["result"].clone()
        };
        let expected = |clients, users| json!({ "num_clients": clients, "num_users": users });
        assert_eq!([stats(&first), stats(&second)], [expected(4, 2), expected(4, 2)]);
        let presence = john.call(json!({ "id": 4, "presence": { "channel": "room:1" } }));
        let clients = presence["presence"]["presence"].as_object().expect("clients");
        assert_eq!(clients.values().filter(|info| info["conn_info"]["name"] == "Jane Roe").count(), 3);
        others.pop();
        assert_eq!(john.next()["push"]["leave"]["info"]["user"], "7");
        let counted = john.call(json!({ "id": 5, "presence_stats": { "channel": "room:1" } }));
        assert_eq!(counted["presence_stats"], json!({ "num_clients": 3, "num_users": 2 }));
        // After a new connection the clients are written under another lease.
        redis.run(&["CLIENT", "KILL", "TYPE", "normal"]);
        first.wait_for_count("channels are connected with Redis", 2);
        wait_until("the presence is written again", || stats(&second) == expected(3, 2));
        // The other node removes the clients of a node that has ended.
        let start = Instant::now();
        second.process.kill();
        let mut leaves = 0;
        loop {
            john.send(&[json!({ "id": 6, "presence_stats": { "channel": "room:1" } })]);
            let reply = loop {
                let message = john.next();
                if message["id"] == 6 {
                    break message;
                }
                assert_eq!(message["push"]["leave"]["info"]["user"], "7", "{message}");
                leaves += 1;
            };
            if leaves == 2 && reply["presence_stats"] == expected(1, 1) {
                break;
            }
            // A lease lasts 15 s, and the other node looks every 5 s. The rest is the time of the commands.
            assert!(start.elapsed() < Duration::from_secs(22), "{reply}");
            thread::sleep(Duration::from_millis(100));
        }
    });
}
