//! Values of identity headers as identity services and gateways send them: opaque ids, headers without a value, encoded
//! names. A scripted Identity service sends them through real gateways.

use postern_tests::gateway::{Gateway, Running};
use postern_tests::postern::{Postern, Runtime};
use postern_tests::scripted_identity::Scripted;
use postern_tests::ws::{Handshake, Open};

/// Each gateway, and each binary behind at least two of them.
const CHAINS: [(Gateway, Runtime); 5] = [
    (Gateway::Traefik, Runtime::Mio),
    (Gateway::Nginx, Runtime::Smol),
    (Gateway::Haproxy, Runtime::Mio),
    (Gateway::Caddy, Runtime::Smol),
    (Gateway::Envoy, Runtime::Mio),
];

/// Returns a handshake with any token: the scripted Identity service determines the user.
fn with_token(gateway: &Running) -> Handshake {
    Handshake::to(gateway.address()).header("Authorization", "Bearer of-the-scripted-identity")
}

/// Sends a message, receives its echo, and closes.
fn visit(mut open: Open) {
    open.echo("Hello World");
    open.close();
}

#[test]
fn opaque_id_is_logged_through_each_gateway() {
    for (gateway, runtime) in CHAINS {
        let identity = Scripted::start();
        let postern = Postern::start(runtime, &[]);
        let running = Running::start(gateway, identity.address(), postern.address(), &[]);
        for (id, shown) in [
            ("o'brien@example.com", "o'brien@example.com"),
            ("john%40example.com", "john%40example.com"),
            ("auth0|5f7c8ec7c33c6c004bbafe82", "auth0|5f7c8ec7c33c6c004bbafe82"),
            ("https://idp.example/users?id=7#1", "https://idp.example/users?id=7#1"),
            ("DOMAIN\\john", "\"DOMAIN\\\\john\""),
            ("john(admin)", "\"john(admin)\""),
            ("7):x", "\"7):x\""),
            ("张三", "张三"),
            ("a;b~c!d*e&f", "a;b~c!d*e&f"),
        ] {
            identity.say(&[("User-ID", id.as_bytes()), ("User-Name", b"Ann")]);
            visit(with_token(&running).open());
            postern.wait_for(&format!("established - User: Ann (-) - ID: {shown}, conn: "));
            postern.wait_for(&format!("Message from Ann ({shown}): Hello World, conn: "));
            postern.wait_for(&format!("closed for user Ann ({shown}), conn: "));
        }
        // Ids that show an error of the gateway are refused. The last two are joined lines.
        for id in ["{http.x}", "$id", "\"7\"", "7,8", "7, 8"] {
            identity.say(&[("User-ID", id.as_bytes())]);
            with_token(&running).refused_with(400, "identity_invalid");
        }
    }
}

/// The unit tests of the core have all characters.
#[test]
fn charset_of_ids_is_a_setting() {
    const IDS: [&str; 3] = ["a@b|c", "it's", "CN=Doe John,OU=Sales,DC=example"];
    for runtime in Runtime::BOTH {
        // The first ids are admitted.
        for (charset, admitted) in [("strict", 1), ("opaque", 2), ("any", 3)] {
            let postern = Postern::start(runtime, &[("POSTERN_USER_ID_CHARSET", charset)]);
            for (index, id) in IDS.into_iter().enumerate() {
                let of_user = postern.handshake().header("User-ID", id);
                let of_session = postern.handshake().header("User-ID", "1").header("User-Session-ID", id);
                for (handshake, code) in [(of_user, "identity_invalid"), (of_session, "session_id_invalid")] {
                    if index < admitted {
                        handshake.open().close();
                    } else {
                        let refusal = handshake.refused_with(400, code);
                        assert!(refusal.text().contains("POSTERN_USER_ID_CHARSET"), "{charset}: {refusal}");
                    }
                }
            }
        }
    }
}

/// HAProxy's configuration writes all headers, with or without a value.
#[test]
fn empty_header_is_absent_through_each_gateway() {
    for (gateway, runtime) in CHAINS {
        let identity = Scripted::start();
        let postern = Postern::start(runtime, &[]);
        let running = Running::start(gateway, identity.address(), postern.address(), &[]);
        let optional = ["User-Email", "User-Name", "User-Session-ID", "User-Token-Exp"];
        identity.say(&[("User-ID", b"of-an-id-alone")]);
        visit(with_token(&running).open());
        postern.wait_for("established - User: - (-) - ID: of-an-id-alone, ");
        for value in ["", "  ", "\t"] {
            let mut headers = vec![("User-ID", &b"of-empty-headers"[..])];
            headers.extend(optional.map(|name| (name, value.as_bytes())));
            identity.say(&headers);
            visit(with_token(&running).open());
        }
        postern.wait_for("closed for user - (of-empty-headers), ");
        // Without an id the request is refused.
        for value in ["", " "] {
            identity.say(&[("User-ID", value.as_bytes()), ("User-Name", b"Ann")]);
            let refusal = with_token(&running).refused();
            assert_eq!(refusal.status, 401, "{gateway}, {runtime}: {refusal}");
        }
        // Invalid values are refused.
        for (name, value) in [("User-Token-Exp", "never"), ("User-Session-ID", "{session}")] {
            identity.say(&[("User-ID", b"1"), (name, value.as_bytes())]);
            assert_eq!(with_token(&running).refused().status, 400, "{gateway}, {runtime}: {name}");
        }
    }
}

#[test]
fn encoded_names_are_decoded() {
    for (gateway, runtime) in CHAINS {
        let identity = Scripted::start();
        let postern = Postern::start(runtime, &[]);
        let running = Running::start(gateway, identity.address(), postern.address(), &[]);
        for (name, shown) in [
            ("=?utf-8?q?Ren=C3=A9e_Dupont?=", "Renée Dupont (-)"),
            ("=?UTF-8?B?5byg5LiJ?= =?UTF-8?B?5p2O5Zub?=", "张三李四 (-)"),
            ("=?ISO-8859-1?Q?J=F6rg?= Meier", "Jörg Meier (-)"),
            ("Zo%C3%AB%20Smith", "Zoë Smith (-)"),
            ("=?utf-8?q?Admin_=281=29=3A_x=0A?=", "\"Admin (1): x\" (-)"),
            ("=?utf-8?q?broken", "\"=?utf-8?q?broken\" (-)"),
            ("100% Ann", "\"100% Ann\" (-)"),
        ] {
            identity.say(&[("User-ID", b"7"), ("User-Name", name.as_bytes())]);
            visit(with_token(&running).open());
            postern.wait_for(&format!("established - User: {shown} - ID: 7, conn: "));
        }
        let postern = Postern::start(runtime, &[("POSTERN_USER_NAME_ENCODING", "raw")]);
        let handshake = postern.handshake().header("User-ID", "7");
        handshake.header("User-Name", "Zo%C3%AB").open().close();
        postern.wait_for("established - User: \"Zo%C3%AB\" (-) - ID: 7, conn: ");
    }
}

#[test]
fn api_finds_users_with_opaque_ids() {
    for postern in Postern::both_with_control(&[]) {
        for id in ["o'brien@example.com", "a%41&b=c", "张(三)"] {
            let mut open = postern.handshake().header("User-ID", id).open();
            let answer = postern.post("/api/connections", &serde_json::json!({ "user": id }));
            assert_eq!(answer.json()["result"]["connections"][0]["user"], id, "{answer}");
            let body = serde_json::json!({ "user": id, "text": "for you" });
            assert_eq!(postern.post("/api/send", &body).status, 200);
            assert_eq!(open.receive().into_text().expect("a text"), "for you");
            open.close();
        }
    }
}
