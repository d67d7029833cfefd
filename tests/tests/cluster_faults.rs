//! Redis that is down, restarted, cut off, frozen, emptied, wrong or hostile: what clients notice, and what is reported.

use std::time::{Duration, Instant};

use postern_tests::channels::Client;
use postern_tests::cluster::{PAIRS, next_publication, node, publish, recover, unconnected};
use postern_tests::postern::{Postern, Runtime};
use postern_tests::redis::Redis;
use postern_tests::wait_until;
use serde_json::{Value, json};

/// Short times, so that a test does not wait for long.
const FAST: [(&str, &str); 2] = [("POSTERN_REDIS_TIMEOUT", "500ms"), ("POSTERN_REDIS_PROBE", "1s")];

fn is_up(postern: &Postern) -> bool {
    postern.metric("postern_engine_up") == Some(1.0)
}

/// The next message ends the subscription, so that the client subscribes again.
#[track_caller]
fn is_told(client: &mut Client) {
    let push = client.next();
    assert_eq!(push["push"]["unsubscribe"]["code"], 2500, "{push}");
}

#[test]
fn redis_that_is_down_at_the_start_is_not_needed_for_channels_without_history() {
    for runtime in Runtime::BOTH {
        let mut redis = Redis::start();
        redis.kill();
        let postern = unconnected(runtime, &redis.url(), &[]);
        postern.wait_for("POSTERN_REDIS_URL: Redis cannot be reached; trying again");
        assert_eq!(postern.get("/readyz").status, 200);
        assert!(!is_up(&postern));
        let mut john = Client::connect(&postern, "123", "John Doe");
        john.subscribe("live:1");
        assert_eq!(john.publish("live:1", json!(1)).len(), 1);
        assert_eq!(john.subscribe("news")["offset"], Value::Null);
        let refused = john.call(json!({ "id": 3, "publish": { "channel": "news", "data": 1 } }));
        assert_eq!((&refused["error"]["code"], &refused["error"]["temporary"]), (&json!(100), &json!(true)));
        // The publications that a client asks for may exist, so it tries again later.
        let mut jane = Client::connect(&postern, "7", "Jane Roe");
        let refused = jane.call(recover("news", 1, &json!("aaaaaaaa")));
        assert_eq!((&refused["error"]["code"], &refused["error"]["temporary"]), (&json!(100), &json!(true)));
        let failed = postern.post("/api/publish", &json!({ "channel": "news", "data": 1 })).json();
        assert_eq!(failed["error"]["code"], 100, "{failed}");
        // Another attempt with this key may have been published before.
        let keyed = json!({ "channel": "live:1", "data": 1, "idempotency_key": "a" });
        let failed = postern.post("/api/publish", &keyed).json();
        assert_eq!(failed["error"]["code"], 100, "{failed}");

        redis.start_again();
        // The subscriber has had no position, so it may have missed something.
        is_told(&mut john);
        assert_eq!(john.subscribe("news")["recoverable"], true);
        publish(&postern, &json!({ "channel": "news", "data": 2 }));
        assert_eq!(next_publication(&mut john)["data"], 2);
        assert!(is_up(&postern));
    }
}

#[test]
fn clients_are_refused_while_redis_is_down_if_the_settings_say_so() {
    for runtime in Runtime::BOTH {
        let mut redis = Redis::start();
        redis.kill();
        let settings = [
            ("POSTERN_ENGINE_DOWN", "refuse"),
            ("POSTERN_ENGINE_REQUIRED", "true"),
            ("POSTERN_PERSONAL_CHANNEL", "off"),
        ];
        let postern = unconnected(runtime, &redis.url(), &settings);
        postern.wait_for("POSTERN_REDIS_URL: Redis cannot be reached");
        let ready = postern.get("/readyz");
        assert_eq!(ready.status, 503);
        assert_eq!(ready.json()["reasons"], json!(["engine"]));
        let mut john = Client::connect(&postern, "123", "John Doe");
        for command in [
            json!({ "id": 2, "subscribe": { "channel": "live:1" } }),
            json!({ "id": 3, "publish": { "channel": "live:1", "data": 1 } }),
        ] {
            let refused = john.call(command);
            assert_eq!(refused["error"]["code"], 100, "{refused}");
        }
        redis.start_again();
        wait_until("it is ready", || postern.get("/readyz").status == 200);
        john.subscribe("live:1");
        assert_eq!(john.publish("live:1", json!(1)).len(), 1);
    }
}

#[test]
fn a_restart_that_loses_everything_is_told_and_closes_no_connection() {
    for runtimes in PAIRS {
        let mut redis = Redis::start();
        let nodes = runtimes.map(|runtime| node(runtime, &redis, &FAST));
        let mut clients = nodes.each_ref().map(|node| {
            let mut client = Client::connect(node, "7", "Jane Roe");
            client.subscribe("news");
            client.subscribe("live:1");
            client
        });
        let epoch = publish(&nodes[0], &json!({ "channel": "news", "data": 1 }))["epoch"].clone();
        clients.iter_mut().for_each(|client| assert_eq!(next_publication(client)["data"], 1));
        redis.kill();
        redis.start_again();
        for client in &mut clients {
            is_told(client);
            let result = client.call(recover("news", 1, &epoch))["subscribe"].clone();
            assert_eq!((&result["recovered"], &result["was_recovering"]), (&Value::Null, &json!(true)));
            assert_ne!(result["epoch"], epoch);
        }
        for (channel, data) in [("live:1", 2), ("news", 3)] {
            publish(&nodes[1], &json!({ "channel": channel, "data": data }));
            clients.iter_mut().for_each(|client| assert_eq!(next_publication(client)["data"], data));
        }
    }
}

#[test]
fn a_restart_that_loses_nothing_is_not_told_if_failovers_are_trusted() {
    for runtime in Runtime::BOTH {
        let mut redis = Redis::with(&["--appendonly", "yes", "--appendfsync", "always"]);
        let settings = [&FAST[..], &[("POSTERN_REDIS_FAILOVER", "trust")]].concat();
        let postern = node(runtime, &redis, &settings);
        let mut jane = Client::connect(&postern, "7", "Jane Roe");
        let epoch = jane.subscribe("news")["epoch"].clone();
        publish(&postern, &json!({ "channel": "news", "data": 1 }));
        redis.kill();
        redis.start_again();
        wait_until("it is connected", || is_up(&postern));
        let result = publish(&postern, &json!({ "channel": "news", "data": 2 }));
        assert_eq!((&result["epoch"], &result["offset"]), (&epoch, &json!(2)));
        for data in 1..=2 {
            assert_eq!(next_publication(&mut jane)["data"], data, "{runtime}");
        }
    }
}

#[test]
fn connections_that_are_cut_lose_no_publication() {
    const COUNT: u64 = 300;
    for runtimes in PAIRS {
        let redis = Redis::start();
        let nodes = runtimes.map(|runtime| node(runtime, &redis, &FAST));
        let mut clients = nodes.each_ref().map(|node| {
            let mut client = Client::connect(node, "7", "Jane Roe");
            client.subscribe("news");
            client
        });
        for number in 1..=COUNT {
            if number % 50 == 0 {
                let kind = if number % 100 == 0 { "pubsub" } else { "normal" };
                redis.run(&["CLIENT", "KILL", "TYPE", kind]);
            }
            let body = json!({ "channel": "news", "data": number, "idempotency_key": number.to_string() });
            // The result of a publication is unknown if its connection is cut. The key makes it safe to try again.
            wait_until("it is published", || {
                nodes[number as usize % 2].post("/api/publish", &body).json()["result"].is_object()
            });
        }
        for client in &mut clients {
            for number in 1..=COUNT {
                let publication = next_publication(client);
                assert_eq!((&publication["data"], &publication["offset"]), (&json!(number), &json!(number)));
            }
        }
    }
}

#[test]
fn redis_that_freezes_is_noticed_and_delays_nothing_else() {
    for runtime in Runtime::BOTH {
        let redis = Redis::start();
        let postern = node(runtime, &redis, &FAST);
        let mut john = Client::connect(&postern, "123", "John Doe");
        john.subscribe("news");
        john.subscribe("live:1");
        redis.freeze();
        let start = Instant::now();
        let refused = john.call(json!({ "id": 3, "publish": { "channel": "news", "data": 1 } }));
        assert_eq!(refused["error"]["code"], 100, "{refused}");
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        wait_until("it is noticed", || !is_up(&postern));
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
        assert_eq!(john.publish("live:1", json!(2)).len(), 1, "within the node");
        redis.thaw();
        wait_until("it is connected", || is_up(&postern));
        // Redis has executed the command whose result was unknown.
        assert_eq!(next_publication(&mut john)["data"], 1);
        assert_eq!(john.publish("news", json!(3)).len(), 1);
    }
}

#[test]
fn an_emptied_server_begins_a_new_epoch() {
    for runtimes in PAIRS {
        let redis = Redis::start();
        let nodes = runtimes.map(|runtime| node(runtime, &redis, &[]));
        let mut jane = Client::connect(&nodes[1], "7", "Jane Roe");
        jane.subscribe("news");
        for data in 1..=2 {
            publish(&nodes[0], &json!({ "channel": "news", "data": data }));
            assert_eq!(next_publication(&mut jane)["data"], data);
        }
        redis.run(&["FLUSHALL"]);
        let result = publish(&nodes[0], &json!({ "channel": "news", "data": 3 }));
        assert_eq!(result["offset"], 1);
        is_told(&mut jane);
        let result = jane.call(recover("news", 0, &result["epoch"]))["subscribe"].clone();
        assert_eq!(result["publications"][0]["data"], 3, "{result}");
        // Without a message, a check finds it.
        let third = node(runtimes[0], &redis, &[("POSTERN_POSITION_CHECK", "1s")]);
        let mut john = Client::connect(&third, "123", "John Doe");
        john.subscribe("news");
        redis.run(&["FLUSHALL"]);
        is_told(&mut john);
    }
}

#[test]
fn a_replica_is_not_used() {
    for runtime in Runtime::BOTH {
        let (master, replica) = (Redis::start(), Redis::start());
        let address = master.address();
        let host = [address.ip().to_string(), address.port().to_string()];
        replica.run(&["REPLICAOF", &host[0], &host[1]]);
        let postern = unconnected(runtime, &replica.url(), &FAST);
        postern.wait_for("POSTERN_REDIS_URL: the server is a replica");
        assert!(!is_up(&postern));
        replica.run(&["REPLICAOF", "NO", "ONE"]);
        postern.wait_for("channels are connected with Redis");
        // A master that becomes a replica is given up.
        replica.run(&["REPLICAOF", &host[0], &host[1]]);
        let _ = postern.post("/api/publish", &json!({ "channel": "news", "data": 1 }));
        wait_until("it is given up", || !is_up(&postern));
    }
}

#[test]
fn a_wrong_password_names_the_setting_and_not_the_secret() {
    const SECRET: &str = "the-right-password-of-redis";
    for runtime in Runtime::BOTH {
        let redis = Redis::with(&["--requirepass", SECRET]);
        let wrong = [("POSTERN_REDIS_PASSWORD", "a-wrong-password-of-redis")];
        for settings in [&wrong[..], &[]] {
            let postern = unconnected(runtime, &redis.url(), settings);
            postern.wait_for(
                "POSTERN_REDIS_URL, POSTERN_REDIS_PASSWORD: Redis refuses the user or the password",
            );
            let mut john = Client::connect(&postern, "123", "John Doe");
            john.subscribe("live:1");
            std::thread::sleep(Duration::from_millis(500));
            assert_eq!(postern.metric("postern_engine_failures_total{reason=\"credentials\"}"), Some(1.0));
            assert_eq!(postern.count("password-of-redis"), 0);
        }
        let url = redis.url().replace("redis://", &format!("redis://:{SECRET}@"));
        for (url, settings) in [(redis.url(), vec![("POSTERN_REDIS_PASSWORD", SECRET)]), (url, vec![])] {
            let postern = unconnected(runtime, &url, &settings);
            postern.wait_for("channels are connected with Redis");
            assert_eq!(postern.count(SECRET), 0);
        }
    }
}

#[test]
fn a_user_without_a_permission_is_reported_and_the_documented_ones_suffice() {
    for runtime in Runtime::BOTH {
        let redis = Redis::start();
        redis.run(&["ACL", "SETUSER", "less", "on", ">less-password", "+@all", "-script", "~*", "&*"]);
        let url = redis.url().replace("redis://", "redis://less:less-password@");
        let postern = unconnected(runtime, &url, &FAST);
        postern.wait_for("the user of Redis may not execute a command that is needed");
        assert_eq!(postern.count("less-password"), 0);
        assert_eq!(postern.get("/readyz").status, 200);

        let permissions =
            "~postern:* &postern:* +@read +@write +@pubsub +@scripting +@connection +info +role +time";
        let user = ["ACL", "SETUSER", "node", "on", ">node-password"];
        redis.run(&user.into_iter().chain(permissions.split(' ')).collect::<Vec<_>>());
        let url = redis.url().replace("redis://", "redis://node:node-password@");
        let postern = unconnected(runtime, &url, &FAST);
        postern.wait_for("channels are connected with Redis");
        let mut john = Client::connect(&postern, "123", "John Doe");
        john.subscribe("room:1");
        assert!(john.next()["push"]["join"].is_object());
        let counted = || postern.post("/api/presence_stats", &json!({ "channel": "room:1" })).json();
        wait_until("the client is present", || counted()["result"]["num_clients"] == 1);
        john.subscribe("news");
        let body = json!({ "channel": "news", "data": 1, "idempotency_key": "once", "version": 1 });
        publish(&postern, &body);
        assert_eq!(next_publication(&mut john)["data"], 1);
        let revoked = postern.post("/api/revoke", &json!({ "user": "7" })).json();
        assert_eq!(revoked["result"], json!({ "revoked": 0, "nodes": 1, "silent_nodes": 0 }));
        assert_eq!(redis.run(&["XLEN", "postern:rv"]), "1");
    }
}

#[test]
fn scripts_that_the_server_has_forgotten_are_loaded_again() {
    for runtime in Runtime::BOTH {
        let redis = Redis::start();
        let postern = node(runtime, &redis, &[]);
        let mut john = Client::connect(&postern, "123", "John Doe");
        john.subscribe("news");
        redis.run(&["SCRIPT", "FLUSH"]);
        let channels = json!({ "channels": vec!["news"; 50], "data": 1 });
        let responses = postern.post("/api/broadcast", &channels).json()["result"]["responses"].clone();
        for (index, response) in responses.as_array().expect("responses").iter().enumerate() {
            assert_eq!(response["result"]["offset"], index + 1, "{response}");
            assert_eq!(next_publication(&mut john)["offset"], index + 1);
        }
    }
}

#[test]
fn data_of_other_programs_harms_only_its_channel() {
    for runtime in Runtime::BOTH {
        let redis = Redis::start();
        let postern = node(runtime, &redis, &[]);
        let mut john = Client::connect(&postern, "123", "John Doe");
        ["news", "other"].iter().for_each(|channel| drop(john.subscribe(channel)));
        for name in ["postern:ch:{news}", "postern:ctl", "postern:n:0000000000000001"] {
            for message in ["", ":", "hello", "-:", "abcdefgh1:", "abcdefgh99:\u{1}", "c", "a12345678"] {
                redis.run(&["PUBLISH", name, message]);
            }
        }
        publish(&postern, &json!({ "channel": "news", "data": 1 }));
        assert_eq!(next_publication(&mut john)["data"], 1);
        wait_until("they are counted", || {
            postern.metric("postern_engine_foreign_messages_total").is_some_and(|count| count >= 8.0)
        });
        // An entry of another program in the stream is a gap.
        redis.run(&["XADD", "postern:s:{news}", "2-0", "d", "junk"]);
        redis.run(&["HSET", "postern:m:{news}", "s", "2"]);
        publish(&postern, &json!({ "channel": "news", "data": 3 }));
        is_told(&mut john);
        // Keys of another kind.
        for key in ["postern:m:{news}", "postern:s:{news}"] {
            redis.run(&["SET", key, "junk"]);
        }
        let failed = postern.post("/api/publish", &json!({ "channel": "news", "data": 4 })).json();
        assert_eq!(failed["error"]["code"], 100, "{failed}");
        publish(&postern, &json!({ "channel": "other", "data": 5 }));
        assert_eq!(next_publication(&mut john)["data"], 5);
    }
}
