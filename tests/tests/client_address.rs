//! The address of the client in the log and in the API: from headers of a trusted proxy only.

use postern_tests::chain::{Chain, through_each};
use postern_tests::postern::{Postern, Runtime};
use postern_tests::ws::Handshake;

/// Header lines: names and values.
type Lines = &'static [(&'static str, &'static str)];

/// Header lines and the resulting client, with loopback and 10.0.0.0/8 trusted. The unit tests of the core have all forms.
const CASES: [(Lines, Option<&str>); 4] = [
    (
        &[("X-Forwarded-For", "198.51.100.1"), ("x-forwarded-for", "203.0.113.9, 10.0.0.1")],
        Some("203.0.113.9"),
    ),
    (
        &[("Forwarded", "for=198.51.100.1, For=\"[2001:DB8::17]:4711\";by=10.0.0.1, for=10.0.0.1")],
        Some("2001:db8::17"),
    ),
    (&[("X-Forwarded-For", "203.0.113.9\", client: 1.1.1.1")], None),
    (&[], None),
];

#[test]
fn client_is_in_each_record_of_its_connection_and_in_the_api() {
    let settings = [("POSTERN_TRUSTED_PROXIES", "loopback,10.0.0.0/8"), ("LOG_FORMAT", "json")];
    for postern in Postern::both_with_control(&settings) {
        for (index, (lines, client)) in CASES.iter().enumerate() {
            let user = format!("u-{index}");
            let add = |handshake: Handshake| {
                lines.iter().fold(handshake, |handshake, (name, value)| handshake.header(name, value))
            };
            let open = add(postern.handshake().header("User-ID", &user)).open();
            let answer = postern.post("/api/connections", &serde_json::json!({ "user": user })).json();
            assert_eq!(answer["result"]["connections"][0]["client"].as_str(), *client, "{lines:?}");
            open.close();
            let refused = add(postern.handshake()).header("X-Request-Id", &user).refused();
            assert_eq!(refused.status, 401);
            for text in [
                format!("established - User: - (-) - ID: {user}\""),
                format!("closed for user - ({user})\""),
                format!("\"request_id\":\"{user}\""),
            ] {
                let line = postern.wait_for(&text);
                let record: serde_json::Value = serde_json::from_str(&line).expect("JSON");
                assert_eq!(record["client"].as_str(), *client, "{lines:?}: {line}");
            }
        }
    }
}

#[test]
fn setting_selects_the_header_of_a_trusted_proxy() {
    for runtime in Runtime::BOTH {
        for (setting, client) in [
            ("auto", "client: 192.0.2.2"),
            ("forwarded", "client: 192.0.2.1"),
            ("x-forwarded-for", "client: 192.0.2.2"),
        ] {
            let postern = Postern::start(runtime, &[("POSTERN_CLIENT_ADDRESS", setting)]);
            let both = |to| {
                Handshake::to(to).header("Forwarded", "for=192.0.2.1").header("X-Forwarded-For", "192.0.2.2")
            };
            both(postern.address()).as_john().open();
            let line = postern.wait_for("established");
            assert!(line.contains(client), "{runtime}: {line}");
        }
        for (name, value, record) in [
            ("POSTERN_CLIENT_ADDRESS", "off", "established"),
            ("POSTERN_TRUSTED_PROXIES", "192.0.2.0/24", "code: peer_not_trusted"),
        ] {
            let postern = Postern::start(runtime, &[(name, value)]);
            // No decision depends on the address, which is in the trusted block.
            let handshake = postern.john().header("X-Forwarded-For", "192.0.2.2");
            let _ = handshake.send().expect("an answer");
            let line = postern.wait_for(record);
            assert!(!line.contains("client:"), "{runtime}: {line}");
        }
    }
}

/// The shipped configurations replace the client's `X-Forwarded-For`. They pass on `Forwarded`, which Postern ignores.
#[test]
fn gateways_replace_the_address_that_the_client_claims() {
    through_each(|gateway, runtime| {
        let chain = Chain::start(gateway, runtime);
        let token = chain.login("john@example.com");
        let forged = chain.handshake().bearer(&token).header("X-Forwarded-For", "198.51.100.66");
        chain.visit_as_john(forged.header("Forwarded", "for=198.51.100.67").open());
        let line = chain.postern.wait_for("established");
        assert!(line.contains("client: 127.0.0.1, "), "{gateway}, {runtime}: {line}");
    });
}
