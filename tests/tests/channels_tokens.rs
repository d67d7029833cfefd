//! Connection and subscription tokens over real sockets, on both binaries.

use std::fs;

use postern_tests::canary::{self, Kind};
use postern_tests::channels::{Client, handshake};
use postern_tests::issuer::{Signer, hs256, key_set, unix_time};
use postern_tests::postern::{Postern, Runtime};
use serde_json::{Value, json};

const NAMESPACES: &str = r#"
[without_namespace]
allow_publish_for_subscriber = true
allow_presence_for_subscriber = true
allow_history_for_subscriber = true
presence = true
history_size = 10
history_ttl = "5m"
allow_recovery = true

[namespaces.open]
allow_subscribe_for_client = true

[namespaces.binary]
publication_data_format = "binary"
"#;

/// A Postern that accepts tokens with a secret.
struct Issuer {
    postern: Postern,
    secret: String,
}

impl Issuer {
    /// Starts it with these further settings.
    fn start(runtime: Runtime, settings: &[(&str, &str)]) -> Issuer {
        let secret = canary::mint(Kind::Setting);
        let settings = [&[("JWT_SECRET", &*secret)], settings].concat();
        let postern = Postern::with(runtime, &settings).channels(NAMESPACES).start();
        Issuer { postern, secret }
    }

    fn token(&self, claims: &Value) -> String {
        hs256(&self.secret, claims)
    }

    /// Opens a connection of John Doe with a token of these claims, and returns the reply to `connect`.
    fn connect(&self, claims: &Value) -> (Client, Value) {
        let fields = json!({ "token": self.token(claims) });
        Client::connect_with(handshake(&self.postern, "123", "John Doe"), fields)
    }

    /// Opens a connection of John Doe with this token, and returns the code and the reason of the Close.
    fn refused(&self, token: &str) -> (u16, String) {
        let mut open = handshake(&self.postern, "123", "John Doe").open();
        open.send(json!({ "id": 1, "connect": { "token": token } }).to_string());
        open.closed()
    }
}

fn subscribe(channel: &str, token: &str) -> Value {
    json!({ "id": 2, "subscribe": { "channel": channel, "token": token } })
}

#[track_caller]
fn assert_error(reply: &Value, code: u64) {
    assert_eq!(reply["error"]["code"], code, "{reply}");
}

#[test]
fn a_connection_token_names_the_user_of_the_gateway() {
    for runtime in Runtime::BOTH {
        let issuer = Issuer::start(runtime, &[]);
        let (mut john, reply) = issuer.connect(&json!({ "sub": "123", "info": { "role": "seller" } }));
        assert_eq!(reply["connect"]["expires"], Value::Null, "{reply}");
        assert!(reply["connect"]["subs"]["#123"].is_object(), "{reply}");
        // Other clients see the information of the token in place of the name.
        let token = issuer.token(&json!({ "sub": "123", "channel": "news", "info": { "seat": 7 } }));
        assert_eq!(john.call(subscribe("news", &token))["id"], 2);
        let presence = john.call(json!({ "id": 3, "presence": { "channel": "news" } }));
        let clients = presence["presence"]["presence"].as_object().expect("clients");
        let info = clients.values().next().expect("John");
        assert_eq!(
            (&info["user"], &info["conn_info"], &info["chan_info"]),
            (&json!("123"), &json!({ "role": "seller" }), &json!({ "seat": 7 }))
        );
        john.send(&[json!({ "id": 4, "publish": { "channel": "news", "data": 1 } })]);
        assert_eq!(john.next()["push"]["pub"]["info"]["chan_info"], json!({ "seat": 7 }));

        let other = issuer.token(&json!({ "sub": "7" }));
        let subscription = issuer.token(&json!({ "sub": "123", "channel": "news" }));
        let forged = hs256(&canary::mint(Kind::Setting), &json!({ "sub": "123" }));
        let inside_out = issuer.token(&json!({ "sub": "123", "b64info": "fSwieCI6ew==" }));
        for token in [&other, &subscription, &forged, &inside_out, "garbage", "a.b.c"] {
            assert_eq!(issuer.refused(token), (3500, "invalid token".to_owned()), "{runtime}");
        }
    }
}

#[test]
fn an_expired_token_is_answered_so_that_the_client_gets_another_one() {
    for runtime in Runtime::BOTH {
        let issuer = Issuer::start(runtime, &[]);
        let past = unix_time() - 1;
        for (claims, code) in [
            (json!({ "sub": "123", "exp": past }), 109),
            (json!({ "sub": "123", "nbf": past + 3600 }), 109),
            (json!({ "sub": "123", "expire_at": past }), 110),
            (json!({ "sub": "123", "channels": ["nowhere:1"] }), 102),
            (json!({ "sub": "123", "channels": ["é"] }), 107),
        ] {
            let token = issuer.token(&claims);
            let mut open = handshake(&issuer.postern, "123", "John Doe").open();
            // The rest of the message is dropped.
            let commands = [
                json!({ "id": 1, "connect": { "token": token } }),
                json!({ "id": 2, "rpc": { "method": "x" } }),
            ];
            open.send(commands.each_ref().map(Value::to_string).join("\n"));
            let reply = open.receive().into_text().expect("a text");
            assert_eq!(reply.lines().count(), 1, "{reply}");
            assert_error(&serde_json::from_str(&reply).expect("JSON"), code);
            // And the connection is of no use any more.
            open.send(commands[1].to_string());
            assert_eq!(open.closed(), (3501, "bad request: connect was refused".to_owned()), "{runtime}");
        }
    }
}

#[test]
fn a_connection_that_is_not_refreshed_is_closed_with_3005() {
    for runtime in Runtime::BOTH {
        let issuer =
            Issuer::start(runtime, &[("POSTERN_EXPIRY_GRACE", "1s"), ("POSTERN_EXPIRY_SPREAD", "0")]);
        let claims = |seconds: u64| json!({ "sub": "123", "exp": unix_time() + seconds });
        let (mut idle, reply) = issuer.connect(&claims(2));
        let ttl = reply["connect"]["ttl"].as_u64().expect("a number");
        assert!(reply["connect"]["expires"] == true && (1..=2).contains(&ttl), "{reply}");

        let (mut busy, _) = issuer.connect(&claims(2));
        let refresh = |token: String| json!({ "id": 5, "refresh": { "token": token } });
        assert_error(&busy.call(refresh(issuer.token(&json!({ "sub": "123", "exp": 1 })))), 109);
        let late = json!({ "sub": "123", "expire_at": unix_time() - 1 });
        assert_error(&busy.call(refresh(issuer.token(&late))), 110);
        let reply = busy.call(refresh(issuer.token(&claims(3600))));
        let ttl = reply["refresh"]["ttl"].as_u64().expect("a number");
        assert!(reply["refresh"]["expires"] == true && (3590..=3600).contains(&ttl), "{reply}");
        assert!(reply["refresh"]["client"].is_string() && reply["refresh"]["version"].is_string(), "{reply}");
        // A token without an expiry ends it.
        let reply = busy.call(refresh(issuer.token(&json!({ "sub": "123" }))));
        assert_eq!(reply["refresh"]["expires"], Value::Null, "{reply}");

        assert_eq!(idle.open.closed(), (3005, "connection expired".to_owned()), "{runtime}");
        assert_error(&busy.call(json!({ "id": 6, "rpc": {} })), 108);
        busy.send(&[refresh(issuer.token(&json!({ "sub": "7" })))]);
        assert_eq!(busy.open.closed(), (3500, "invalid token".to_owned()), "{runtime}");
    }
}

#[test]
fn a_refresh_without_a_token_is_not_a_command() {
    for runtime in Runtime::BOTH {
        let issuer = Issuer::start(runtime, &[]);
        let (mut john, _) = issuer.connect(&json!({ "sub": "123" }));
        john.send(&[json!({ "id": 5, "refresh": {} })]);
        assert_eq!(john.open.close_code(), 3501, "{runtime}");
    }
}

#[test]
fn a_subscription_token_opens_a_private_channel() {
    for runtime in Runtime::BOTH {
        let issuer = Issuer::start(runtime, &[]);
        let mut john = Client::connect(&issuer.postern, "123", "John Doe");
        let claims = |channel: &str| json!({ "sub": "123", "channel": channel });
        assert_error(&john.call(subscribe("$secret", "")), 103);
        assert_error(&john.call(subscribe("$secret", "garbage")), 103);
        let forged = hs256(&canary::mint(Kind::Setting), &claims("$secret"));
        assert_error(&john.call(subscribe("$secret", &forged)), 103);
        assert_error(&john.call(subscribe("$secret", &issuer.token(&json!({ "sub": "123" })))), 103);
        let expired = json!({ "sub": "123", "channel": "$secret", "exp": unix_time() - 1 });
        assert_error(&john.call(subscribe("$secret", &issuer.token(&expired))), 109);
        // An invalid token is refused also where none is needed.
        assert_error(&john.call(subscribe("open:1", "garbage")), 103);

        let reply = john.call(subscribe("$secret", &issuer.token(&claims("$secret"))));
        assert_eq!(reply["subscribe"]["expires"], Value::Null, "{reply}");
        assert_eq!(reply["subscribe"]["recoverable"], Value::Null, "{reply}");
        assert_error(&john.call(subscribe("$secret", &issuer.token(&claims("$secret")))), 105);
        // A token can replace options of the namespace.
        let on = json!({ "value": true });
        let forced = json!({ "sub": "123", "channel": "$forced", "override": { "force_recovery": on } });
        let reply = john.call(subscribe("$forced", &issuer.token(&forced)));
        assert_eq!(reply["subscribe"]["recoverable"], true, "{reply}");
        // And open a channel of other users.
        let reply = john.call(subscribe("dialog#1,2", &issuer.token(&claims("dialog#1,2"))));
        assert!(reply["subscribe"].is_object(), "{reply}");

        john.send(&[subscribe("$other", &issuer.token(&claims("$secret")))]);
        assert_eq!(john.open.closed(), (3500, "invalid token".to_owned()), "{runtime}");
        let mut john = Client::connect(&issuer.postern, "123", "John Doe");
        let of_jane = json!({ "sub": "7", "channel": "$secret" });
        john.send(&[subscribe("$secret", &issuer.token(&of_jane))]);
        assert_eq!(john.open.closed(), (3500, "invalid token".to_owned()), "{runtime}");
    }
}

#[test]
fn a_subscription_that_is_not_refreshed_ends_with_2501() {
    for runtime in Runtime::BOTH {
        let issuer =
            Issuer::start(runtime, &[("POSTERN_EXPIRY_GRACE", "1s"), ("POSTERN_EXPIRY_SPREAD", "0")]);
        let claims = |channel: &str, seconds: u64| json!({ "sub": "123", "channel": channel, "exp": unix_time() + seconds });
        let mut john = Client::connect(&issuer.postern, "123", "John Doe");
        for channel in ["$idle", "$busy", "$gone"] {
            let reply = john.call(subscribe(channel, &issuer.token(&claims(channel, 2))));
            let ttl = reply["subscribe"]["ttl"].as_u64().expect("a number");
            assert!(reply["subscribe"]["expires"] == true && (1..=2).contains(&ttl), "{reply}");
        }
        let refresh = |channel: &str, token: &str| json!({ "id": 5, "sub_refresh": { "channel": channel, "token": token } });
        assert_error(&john.call(refresh("$busy", "garbage")), 103);
        assert_error(&john.call(refresh("$busy", "")), 107);
        assert_error(&john.call(refresh("$other", &issuer.token(&claims("$other", 9)))), 103);
        let expired = json!({ "sub": "123", "channel": "$busy", "exp": unix_time() - 1 });
        assert_error(&john.call(refresh("$busy", &issuer.token(&expired))), 109);
        let reply = john.call(refresh("$busy", &issuer.token(&claims("$busy", 3600))));
        let ttl = reply["sub_refresh"]["ttl"].as_u64().expect("a number");
        assert!(reply["sub_refresh"]["expires"] == true && (3590..=3600).contains(&ttl), "{reply}");
        john.call(json!({ "id": 6, "unsubscribe": { "channel": "$gone" } }));

        let expected = json!({ "push": { "channel": "$idle", "unsubscribe": { "code": 2501, "reason": "subscription expired" } } });
        assert_eq!(john.next(), expected, "{runtime}");
        // The client can subscribe again with another token.
        let reply = john.call(subscribe("$idle", &issuer.token(&claims("$idle", 3600))));
        assert!(reply["subscribe"].is_object(), "{reply}");
        assert_error(&john.call(subscribe("$busy", &issuer.token(&claims("$busy", 9)))), 105);
        john.send(&[refresh("$busy", &issuer.token(&claims("$idle", 9)))]);
        assert_eq!(john.open.closed(), (3500, "invalid token".to_owned()), "{runtime}");
    }
}

#[test]
fn a_connection_token_subscribes_the_client_to_channels_which_recover() {
    for runtime in Runtime::BOTH {
        let issuer = Issuer::start(runtime, &[("POSTERN_MAX_CHANNELS", "3")]);
        let on = json!({ "value": true });
        let subs = json!({
            "$offers": { "info": { "seat": 7 }, "data": { "hello": [ 1 ] }, "override": { "force_recovery": on } },
        });
        let claims = json!({ "sub": "123", "channels": ["news", "$offers"], "subs": subs });
        let (mut john, reply) = issuer.connect(&claims);
        let subs = &reply["connect"]["subs"];
        assert_eq!(subs.as_object().map(serde_json::Map::len), Some(3), "{reply}");
        assert!(subs["news"].is_object() && subs["#123"].is_object(), "{reply}");
        let offers = &subs["$offers"];
        assert_eq!((&offers["data"], &offers["recoverable"]), (&json!({ "hello": [1] }), &json!(true)));
        let epoch = offers["epoch"].clone();
        assert_error(&john.call(subscribe("$offers", "")), 105);

        // A publication of the server-side subscription, and its recovery by the next connection.
        john.send(&[json!({ "id": 3, "publish": { "channel": "$offers", "data": 1 } })]);
        let pushed = john.next();
        assert_eq!(pushed["push"]["pub"]["offset"], 1, "{pushed}");
        assert_eq!(pushed["push"]["pub"]["info"]["chan_info"], json!({ "seat": 7 }), "{pushed}");
        drop(john);
        let known = json!({ "$offers": { "recover": true, "epoch": epoch, "offset": 0 } });
        let fields = json!({ "token": issuer.token(&claims), "subs": known });
        let (_, reply) = Client::connect_with(handshake(&issuer.postern, "123", "John Doe"), fields);
        let offers = &reply["connect"]["subs"]["$offers"];
        assert_eq!(
            (&offers["recovered"], &offers["was_recovering"]),
            (&json!(true), &json!(true)),
            "{reply}"
        );
        assert_eq!(offers["publications"][0]["data"], 1, "{reply}");
        // Without the token, `subs` grants nothing.
        let fields = json!({ "subs": { "$offers": { "recover": true, "offset": 0 } } });
        let (_, reply) = Client::connect_with(handshake(&issuer.postern, "123", "John Doe"), fields);
        assert_eq!(reply["connect"]["subs"]["$offers"], Value::Null, "{reply}");

        let refused = |claims: &Value| issuer.refused(&issuer.token(claims));
        let too_many = json!({ "sub": "123", "channels": ["a", "b", "c"] });
        assert_eq!(refused(&too_many), (3505, "channel limit".to_owned()), "{runtime}");
        let binary = json!({ "sub": "123", "channels": ["binary:1"] });
        assert_eq!(refused(&binary), (3506, "inappropriate protocol".to_owned()), "{runtime}");
        let not_json = json!({ "sub": "123", "subs": { "a": { "b64data": "fQ==" } } });
        assert_eq!(refused(&not_json), (3500, "invalid token".to_owned()), "{runtime}");
    }
}

#[test]
fn keys_of_a_file_verify_tokens_and_change_without_a_restart() {
    for runtime in Runtime::BOTH {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let keys = folder.path().join("jwks.json");
        let (first, second) = (Signer::new("first", 1), Signer::new("second", 2));
        fs::write(&keys, key_set(&[&first])).expect("written");
        let issuer = Issuer::start(
            runtime,
            &[
                ("POSTERN_TOKEN_JWKS", keys.to_str().expect("UTF-8")),
                ("POSTERN_TOKEN_ISSUER", "https://id.example"),
                ("POSTERN_TOKEN_AUDIENCE", "chat,auction"),
            ],
        );
        let claims = json!({ "sub": "123", "iss": "https://id.example", "aud": "auction" });
        let connect = |token: &str| {
            Client::connect_with(handshake(&issuer.postern, "123", "John Doe"), json!({ "token": token })).1
        };
        assert!(connect(&first.token(&claims))["connect"].is_object());
        assert!(connect(&issuer.token(&claims))["connect"].is_object());
        for wrong in [
            json!({ "sub": "123", "iss": "https://other.example", "aud": "auction" }),
            json!({ "sub": "123", "iss": "https://id.example", "aud": "other" }),
            json!({ "sub": "123" }),
        ] {
            assert_eq!(issuer.refused(&first.token(&wrong)).0, 3500, "{runtime}");
            assert_eq!(issuer.refused(&issuer.token(&wrong)).0, 3500, "{runtime}");
        }
        fs::write(&keys, key_set(&[&second])).expect("written");
        // A token with an unknown key makes Postern look for newer keys, so it may be asked to try again.
        let token = second.token(&claims);
        let is_known = || {
            let reply = connect(&token);
            assert!(reply["connect"].is_object() || reply["error"]["code"] == 100, "{reply}");
            reply["connect"].is_object()
        };
        while !is_known() {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        assert_eq!(issuer.refused(&first.token(&claims)).0, 3500, "{runtime}");
    }
}

#[test]
fn no_token_is_accepted_without_a_secret() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[]);
        let token = hs256("", &json!({ "sub": "123" }));
        let mut open = handshake(&postern, "123", "John Doe").open();
        open.send(json!({ "id": 1, "connect": { "token": token } }).to_string());
        assert_eq!(open.closed(), (3500, "invalid token".to_owned()), "{runtime}");
        let mut john = Client::connect(&postern, "123", "John Doe");
        let token = hs256("", &json!({ "sub": "123", "channel": "$secret" }));
        assert_error(&john.call(subscribe("$secret", &token)), 103);
        john.send(&[json!({ "id": 5, "refresh": { "token": token } })]);
        assert_eq!(john.open.close_code(), 3500, "{runtime}");
    }
}

#[test]
fn a_short_secret_is_reported_without_being_shown() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[("JWT_SECRET", "hunter2")]);
        let warning = postern.wait_for("JWT_SECRET has 7 bytes");
        assert!(!postern.log().join("\n").contains("hunter2"), "{warning}");
        let shown = Postern::settings(runtime, &[("JWT_SECRET", "hunter2")]);
        assert_eq!(shown["JWT_SECRET"], "***", "{runtime}");
    }
}

#[test]
fn channels_come_from_a_header_that_the_gateway_is_trusted_to_set() {
    for runtime in Runtime::BOTH {
        let subscribed = |settings: &[(&str, &str)]| {
            let postern = Postern::start(runtime, settings);
            let john = handshake(&postern, "123", "John Doe").header("User-Channels", "auction.*, user.{id}");
            let (mut john, _) = Client::connect_with(john, json!({}));
            ["auction.1", "user.123", "user.7"]
                .map(|channel| john.call(subscribe(channel, ""))["error"]["code"].clone())
        };
        let (allowed, denied) = (Value::Null, json!(103));
        let header = ("POSTERN_USER_CHANNELS_HEADER", "User-Channels");
        assert_eq!(subscribed(&[header]), [allowed.clone(), allowed, denied.clone()], "{runtime}");
        // By default a client's own header means nothing.
        assert_eq!(subscribed(&[]), [denied.clone(), denied.clone(), denied], "{runtime}");
        let postern = Postern::start(runtime, &[header]);
        let twice =
            handshake(&postern, "123", "John Doe").header("User-Channels", "a").header("User-Channels", "*");
        twice.refused_with(400, "identity_twice");
    }
}
