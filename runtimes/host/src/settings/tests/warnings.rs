//! Settings that are accepted and have no effect, or an effect that is unlikely to be intended.

use super::*;

/// Returns the only warning of these settings.
#[track_caller]
fn warning(environment: &[(&str, &str)]) -> String {
    let mut warnings = Texts { environment, ..Texts::default() }.warnings();
    assert_eq!(warnings.len(), 1, "{environment:?}: {warnings:#?}");
    warnings.remove(0)
}

#[track_caller]
fn check_silent(environment: &[(&str, &str)]) {
    let warnings = Texts { environment, ..Texts::default() }.warnings();
    assert!(warnings.is_empty(), "{environment:?}: {warnings:#?}");
}

#[test]
fn the_defaults_deserve_no_warning() {
    check_silent(&[]);
    // Nor do defaults that are written.
    let all: Vec<(&str, &str)> = SETTINGS
        .iter()
        .filter(|setting| !setting.default.is_empty() && !setting.default.contains('$'))
        .map(|setting| (setting.name, &*setting.default))
        .collect();
    check_silent(&all);
}

#[test]
fn a_setting_that_has_no_effect_alone_names_what_is_missing() {
    let ends = "or leave";
    for (environment, beginning) in [
        (
            &[("POSTERN_USER_POLICY", "replace")][..],
            "POSTERN_USER_POLICY=replace has no effect while POSTERN_MAX_CONNECTIONS_PER_USER is 0; set \
             POSTERN_MAX_CONNECTIONS_PER_USER, ",
        ),
        (
            &[("POSTERN_RATE_POLICY", "close")],
            "POSTERN_RATE_POLICY=close has no effect while POSTERN_MESSAGE_RATE is 0 and POSTERN_BYTE_RATE is 0; set \
             POSTERN_MESSAGE_RATE or POSTERN_BYTE_RATE, ",
        ),
        (
            &[("POSTERN_MESSAGE_BURST", "5")],
            "POSTERN_MESSAGE_BURST=5 has no effect while POSTERN_MESSAGE_RATE is 0; set POSTERN_MESSAGE_RATE, ",
        ),
        (
            &[("POSTERN_PING_INTERVAL", "0s"), ("POSTERN_PONG_TIMEOUT", "3s")],
            "POSTERN_PONG_TIMEOUT=3s has no effect while POSTERN_PING_INTERVAL is 0s; set POSTERN_PING_INTERVAL, ",
        ),
        (
            &[("POSTERN_PROXY_SECRET_HEADER", "X-Proof")],
            "POSTERN_PROXY_SECRET_HEADER=X-Proof has no effect while POSTERN_PROXY_SECRET is not set and \
             POSTERN_PROXY_SECRET_FILE is not set; set POSTERN_PROXY_SECRET or POSTERN_PROXY_SECRET_FILE, ",
        ),
        (
            &[("POSTERN_LISTEN_MODE", "0600")],
            "POSTERN_LISTEN_MODE=0600 has no effect while POSTERN_LISTEN has no Unix socket; leave POSTERN_LISTEN_MODE \
             out, ",
        ),
        (
            &[("POSTERN_LISTEN_OWNER", "root")],
            "POSTERN_LISTEN_OWNER=root has no effect while POSTERN_LISTEN has no Unix socket; ",
        ),
    ] {
        let warning = warning(environment);
        assert!(warning.starts_with(beginning), "{warning}");
        assert!(warning.contains(ends) || warning.contains("or write"), "{warning}");
    }
}

#[cfg(feature = "control")]
#[test]
fn a_key_without_a_control_port_has_no_effect_and_is_not_shown() {
    let environment = &[("POSTERN_CONTROL", "off"), ("POSTERN_API_KEY", "hunter2-hunter2-hunter2")];
    assert_eq!(
        warning(environment),
        "POSTERN_API_KEY=*** has no effect while POSTERN_CONTROL is off; set POSTERN_CONTROL, or leave POSTERN_API_KEY out"
    );
}

#[cfg(feature = "compression")]
#[test]
fn compression_settings_that_compress_nothing_are_reported() {
    let min = ("POSTERN_COMPRESSION_MIN", "1MiB");
    assert!(
        warning(&[min])
            .starts_with("POSTERN_COMPRESSION_MIN=1MiB has no effect while POSTERN_COMPRESSION is off; ")
    );
    assert!(warning(&[min, ("POSTERN_COMPRESSION", "No")]).contains("while POSTERN_COMPRESSION is No; "));
    let warning = warning(&[min, ("POSTERN_COMPRESSION", "on")]);
    assert!(warning.starts_with("POSTERN_COMPRESSION_MIN=1MiB compresses no message: "), "{warning}");
}

#[cfg(feature = "assertion")]
#[test]
fn an_allowance_of_http_without_http_has_no_effect() {
    let google = [("POSTERN_ASSERTION", "google-iap"), ("POSTERN_ASSERTION_AUDIENCE", "a")];
    let insecure = |text| [google.as_slice(), &[("POSTERN_ASSERTION_JWKS_INSECURE", text)]].concat();
    let warning = warning(&insecure("yes"));
    assert!(warning.starts_with("POSTERN_ASSERTION_JWKS_INSECURE=yes has no effect while "), "{warning}");
    check_silent(&insecure("no"));
    let http = ("POSTERN_ASSERTION_JWKS", "http://issuer.example/keys");
    check_silent(&[insecure("yes").as_slice(), &[http]].concat());
}

#[cfg(feature = "assertion")]
#[test]
fn identity_headers_have_no_effect_with_an_assertion() {
    let environment = &[
        ("POSTERN_ASSERTION", "google-iap"),
        ("POSTERN_ASSERTION_AUDIENCE", "a"),
        ("POSTERN_USER_ID_HEADER", "X-Uid"),
    ];
    assert_eq!(
        warning(environment),
        "POSTERN_USER_ID_HEADER=X-Uid has no effect while POSTERN_ASSERTION=google-iap takes the identity from a signed \
         token; leave one of the two out"
    );
}

#[test]
fn settings_that_exclude_each_other_are_reported() {
    for (environment, expected) in [
        (
            &[("PORT", "18080"), ("POSTERN_LISTEN", "127.0.0.1:18090")][..],
            "PORT=18080 has no effect because POSTERN_LISTEN=127.0.0.1:18090 is set; leave PORT out, or write the port in \
             POSTERN_LISTEN",
        ),
        (
            &[("POSTERN_MAX_MESSAGE", "1MiB"), ("POSTERN_MAX_FRAME", "2MiB")],
            "POSTERN_MAX_FRAME=2MiB has no effect: a message is at most POSTERN_MAX_MESSAGE=1MiB; write at most as much",
        ),
        (
            &[("POSTERN_MAX_FRAME", "1KiB"), ("POSTERN_MAX_FRAGMENTS", "4")],
            "POSTERN_MAX_MESSAGE=64KiB cannot be reached: with POSTERN_MAX_FRAME=1KiB and POSTERN_MAX_FRAGMENTS=4 a \
             message has at most 4KiB",
        ),
        (
            &[("POSTERN_MAX_MEMORY", "16MiB"), ("POSTERN_MAX_MESSAGE", "32MiB"), ("POSTERN_WORKERS", "1")],
            "POSTERN_MAX_MEMORY=16MiB is less than one message of POSTERN_MAX_MESSAGE=32MiB: such a message ends \
             connections; write at least 32MiB",
        ),
        (
            &[("POSTERN_MAX_MEMORY", "1MiB"), ("POSTERN_MAX_MESSAGE", "1MiB"), ("POSTERN_WORKERS", "4")],
            "POSTERN_MAX_MEMORY=1MiB is less than one message of POSTERN_MAX_MESSAGE=1MiB for each of the 4 event \
             loops: such a message ends connections; write at least 4MiB",
        ),
        (
            &[("POSTERN_MAX_MEMORY", "1KiB"), ("POSTERN_WORKERS", "1")],
            "POSTERN_MAX_MEMORY=1KiB is less than one message of POSTERN_MAX_MESSAGE=64KiB: such a message ends \
             connections; write at least 64KiB",
        ),
        (
            &[("POSTERN_MAX_MEMORY", "100KiB"), ("POSTERN_WORKERS", "1")],
            "POSTERN_MAX_MEMORY=100KiB leaves 100KiB: a few messages at once end connections; write at least 512KiB",
        ),
        (
            &[("POSTERN_MAX_MEMORY", "2MiB"), ("POSTERN_MAX_BACKLOG", "3MiB"), ("POSTERN_WORKERS", "1")],
            "POSTERN_MAX_BACKLOG=3MiB cannot be reached: POSTERN_MAX_MEMORY=2MiB leaves 2MiB",
        ),
        (
            &[("POSTERN_BYTE_RATE", "1KiB"), ("POSTERN_MAX_MESSAGE", "64KiB")],
            "POSTERN_BYTE_RATE=1KiB is less than one message of POSTERN_MAX_MESSAGE=64KiB a second: such a message uses \
             up 64 s; write a larger rate, or a smaller message",
        ),
        (
            &[("POSTERN_BYTE_RATE", "1KiB"), ("POSTERN_RATE_POLICY", "close")],
            "POSTERN_BYTE_RATE=1KiB is less than one message of POSTERN_MAX_MESSAGE=64KiB a second: such a message \
             closes its connection with 4429; write a larger rate, or a smaller message",
        ),
        (
            &[("POSTERN_DRAIN_GRACE", "50s")],
            "POSTERN_DRAIN_SPREAD=30s is cut to 10s, which is what POSTERN_DRAIN_GRACE=50s leaves of \
             POSTERN_DRAIN_HARD=60s; write POSTERN_DRAIN_HARD=80s or more",
        ),
        (
            &[("POSTERN_DRAIN_GRACE", "60s")],
            "POSTERN_DRAIN_SPREAD=30s has no effect: POSTERN_DRAIN_HARD=60s ends the process no later than \
             POSTERN_DRAIN_GRACE=60s; write POSTERN_DRAIN_HARD=90s or more",
        ),
        (
            &[("POSTERN_MAX_CONNECTIONS", "10"), ("POSTERN_MAX_CONNECTIONS_PER_USER", "10")],
            "POSTERN_MAX_CONNECTIONS_PER_USER=10 has no effect: POSTERN_MAX_CONNECTIONS=10 is no more; write a smaller \
             number",
        ),
        (
            &[("POSTERN_MAX_CONNECTIONS", "10"), ("POSTERN_MAX_HANDSHAKES", "11")],
            "POSTERN_MAX_HANDSHAKES=11 has no effect: POSTERN_MAX_CONNECTIONS=10 is no more; write a smaller number",
        ),
        (
            &[("LOG_LEVEL", "warn"), ("POSTERN_LOG_MESSAGES", "full")],
            "POSTERN_LOG_MESSAGES=full has no effect while LOG_LEVEL=warn leaves out messages; write LOG_LEVEL=info, or \
             leave POSTERN_LOG_MESSAGES out",
        ),
        (&[("POSTERN_PATH", "/a,/b,/a")], "POSTERN_PATH has /a twice; leave out one of the two"),
    ] {
        assert_eq!(warning(environment), expected);
    }
}

#[test]
fn settings_at_the_limit_of_a_rule_are_silent() {
    for environment in [
        &[("PORT", "18080"), ("POSTERN_LISTEN", "127.0.0.1:18080,[::1]:1")][..],
        &[("POSTERN_MAX_MESSAGE", "1MiB"), ("POSTERN_MAX_FRAME", "1MiB")],
        &[("POSTERN_MAX_FRAME", "1KiB"), ("POSTERN_MAX_FRAGMENTS", "64")],
        &[("POSTERN_MAX_MEMORY", "2MiB"), ("POSTERN_MAX_MESSAGE", "2MiB"), ("POSTERN_WORKERS", "1")],
        &[("POSTERN_MAX_MEMORY", "512KiB"), ("POSTERN_WORKERS", "1")],
        &[("POSTERN_BYTE_RATE", "64KiB"), ("POSTERN_RATE_POLICY", "close")],
        &[("POSTERN_MESSAGE_RATE", "5"), ("POSTERN_MESSAGE_BURST", "1"), ("POSTERN_RATE_POLICY", "close")],
        &[("POSTERN_DRAIN_GRACE", "30s"), ("POSTERN_DRAIN_SPREAD", "30s")],
        &[("POSTERN_DRAIN_GRACE", "0"), ("POSTERN_DRAIN_SPREAD", "0"), ("POSTERN_DRAIN_HARD", "1ms")],
        &[("POSTERN_MAX_CONNECTIONS", "10"), ("POSTERN_MAX_CONNECTIONS_PER_USER", "9")],
        &[("POSTERN_USER_POLICY", "replace"), ("POSTERN_MAX_CONNECTIONS_PER_USER", "1")],
        &[("LOG_LEVEL", "warn"), ("POSTERN_LOG_MESSAGES", "off")],
        &[("LOG_LEVEL", "debug"), ("POSTERN_LOG_MESSAGES", "full")],
        &[("POSTERN_LISTEN", "unix:/run/x,0.0.0.0:1"), ("POSTERN_LISTEN_MODE", "0600")],
        &[("POSTERN_TRUSTED_PROXIES", "loopback,10.0.0.0/8,192.0.2.1,2001:db8::/32")],
    ] {
        check_silent(environment);
    }
}

#[test]
fn misleading_networks_are_reported() {
    for (value, expected) in [
        (
            "10.0.0.1/8",
            "POSTERN_TRUSTED_PROXIES trusts the whole network 10.0.0.0/8 by 10.0.0.1/8; write 10.0.0.0/8, or 10.0.0.1/32 \
             for that host alone",
        ),
        (
            "2001:db8::1/32",
            "POSTERN_TRUSTED_PROXIES trusts the whole network 2001:db8::/32 by 2001:db8::1/32; write 2001:db8::/32, or \
             2001:db8::1/128 for that host alone",
        ),
        (
            "private,10.1.0.0/16",
            "POSTERN_TRUSTED_PROXIES: 10.1.0.0/16 has no effect: private includes it; leave it out",
        ),
        (
            "192.0.2.1,192.0.2.1",
            "POSTERN_TRUSTED_PROXIES: 192.0.2.1 has no effect: 192.0.2.1 includes it; leave it out",
        ),
        ("any", "POSTERN_TRUSTED_PROXIES trusts every peer: any client can be any user"),
    ] {
        assert_eq!(warning(&[("POSTERN_TRUSTED_PROXIES", value)]), expected);
    }
    let environment = [("POSTERN_LISTEN", "unix:/run/x"), ("POSTERN_TRUSTED_PROXIES", "10.0.0.0/8")];
    assert!(
        warning(&environment)
            .starts_with("POSTERN_TRUSTED_PROXIES=10.0.0.0/8 has no effect while POSTERN_LISTEN ")
    );
}

#[cfg(feature = "control")]
#[test]
fn a_control_port_that_users_may_reach_is_reported() {
    for address in
        ["0.0.0.0:19190", "[::]:19190", "192.0.2.7:19190", "[2001:db8::7]:19190", "[::ffff:8.8.8.8]:1"]
    {
        let warning = warning(&[("POSTERN_CONTROL", address)]);
        let beginning = format!("POSTERN_CONTROL={address} ");
        assert!(
            warning.starts_with(&beginning) && warning.contains("users must not reach the control port"),
            "{warning}"
        );
    }
    for address in [
        "127.0.0.1:1",
        "10.1.2.3:1",
        "192.168.1.1:1",
        "100.64.0.1:1",
        "169.254.1.1:1",
        "[::1]:1",
        "[fd00::1]:1",
        "off",
    ] {
        check_silent(&[("POSTERN_CONTROL", address)]);
    }
}

#[test]
fn a_program_with_one_event_loop_says_so() {
    let program = Program { has_workers: false, name: "postern-smol", ..POSTERN };
    let warnings =
        |workers: &str| match load(&program, [format!("--workers={workers}").into()], [], || Ok(None)) {
            Ok(Outcome::Start(loaded)) => Plan::resolve(&program, &loaded, &HOST).warnings,
            other => panic!("{other:?}"),
        };
    let [warning] = &warnings("4")[..] else { panic!() };
    let expected = "POSTERN_WORKERS=4 has no effect: postern-smol has one event loop; leave it out";
    assert_eq!(warning.to_string(), expected);
    assert!(warnings("1").is_empty() && warnings("0").is_empty());
}

#[test]
fn a_name_that_dotenv_sets_twice_is_reported_with_both_lines() {
    let texts = Texts { dotenv: "PORT=1\n# again\nPORT=2\n", ..Texts::default() };
    let expected = "PORT in line 1 of .env has no effect: line 3 sets it again; remove one of the two";
    assert_eq!(texts.warnings(), [expected]);
    assert_eq!(texts.settings().listen, [tcp("[::]:2")]);
}

#[test]
fn the_printed_settings_have_the_warnings_as_comments() {
    let environment = &[("POSTERN_MESSAGE_BURST", "5"), ("POSTERN_USER_POLICY", "replace")];
    let printed = Texts { flags: &["--print-config"], environment, ..Texts::default() }.printed();
    let warnings = Texts { environment, ..Texts::default() }.warnings();
    assert_eq!(warnings.len(), 2);
    let expected: String = warnings.iter().map(|warning| format!("# {warning}\n")).collect();
    assert!(printed.ends_with(&format!("\n\n# Warnings\n{expected}")), "{printed}");
    Texts { dotenv: &printed, ..Texts::default() }.settings();
}

#[test]
fn settings_of_redis_need_redis() {
    for environment in [("POSTERN_REDIS_PREFIX", "staging"), ("POSTERN_REDIS_PASSWORD", "hunter2")] {
        let text = warning(&[environment]);
        let (name, _) = environment;
        assert!(text.starts_with(&format!("{name}=")) && !text.contains("hunter2"), "{text}");
        let ends = format!(
            "has no effect while POSTERN_ENGINE=memory; set POSTERN_ENGINE=redis, or leave {name} out"
        );
        assert!(text.ends_with(&ends), "{text}");
    }
    check_silent(&[("POSTERN_ENGINE", "redis"), ("POSTERN_REDIS_PREFIX", "staging")]);
}

#[test]
fn files_for_tls_and_the_password_of_sentinels_need_a_url_that_uses_them() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), CERTIFICATE).unwrap();
    let path = file.path().to_str().unwrap();
    let engine = ("POSTERN_ENGINE", "redis");
    let ca = ("POSTERN_REDIS_CA_FILE", path);
    let text = warning(&[engine, ca]);
    assert!(
        text.contains("has no effect while POSTERN_REDIS_URL=redis://127.0.0.1:6379 is without TLS"),
        "{text}"
    );
    check_silent(&[engine, ca, ("POSTERN_REDIS_URL", "rediss://redis")]);
    let text = warning(&[("POSTERN_AMQP_URL", "amqp://j:hunter2@rabbitmq"), ("POSTERN_AMQP_CA_FILE", path)]);
    assert!(text.ends_with("write a URL with amqps, or leave POSTERN_AMQP_CA_FILE out"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    check_silent(&[("POSTERN_AMQP_URL", "amqps://rabbitmq"), ("POSTERN_AMQP_CA_FILE", path)]);
    let text = warning(&[("POSTERN_NATS_URL", "nats://j:hunter2@nats"), ("POSTERN_NATS_CA_FILE", path)]);
    assert!(text.ends_with("write a URL with tls, or leave POSTERN_NATS_CA_FILE out"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    check_silent(&[("POSTERN_NATS_URL", "tls://nats"), ("POSTERN_NATS_CA_FILE", path)]);
    let password = ("POSTERN_REDIS_SENTINEL_PASSWORD", "hunter2");
    let text = warning(&[engine, password]);
    assert!(
        text.contains("has no sentinels; write a URL with redis+sentinel") && !text.contains("hunter2"),
        "{text}"
    );
    check_silent(&[engine, password, ("POSTERN_REDIS_URL", "redis+sentinel://a/mymaster")]);
}

#[test]
fn instances_with_the_same_channels_share_the_messages_of_a_broker() {
    let [url, mode] = [("POSTERN_AMQP_URL", "amqp://rabbitmq"), ("POSTERN_AMQP_MODE", "each")];
    let text = warning(&[url, mode, ("POSTERN_ENGINE", "redis")]);
    assert!(
        text.starts_with("POSTERN_AMQP_MODE=each publishes each message without a message_id once"),
        "{text}"
    );
    check_silent(&[url, mode]);
    check_silent(&[url, ("POSTERN_ENGINE", "redis")]);
    let [url, mode] = [("POSTERN_NATS_URL", "nats://nats"), ("POSTERN_NATS_MODE", "each")];
    let text = warning(&[url, mode, ("POSTERN_ENGINE", "redis")]);
    assert!(
        text.starts_with("POSTERN_NATS_MODE=each publishes each message without a Nats-Msg-Id once"),
        "{text}"
    );
    check_silent(&[url, mode]);
    let text = warning(&[("POSTERN_NATS_SUBJECT", "auction")]);
    assert!(text.contains("has no effect while POSTERN_NATS_URL is not set"), "{text}");
}

/// A certificate of an authority.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\n\
MIIBmDCCAT+gAwIBAgIUMiWIo1cY0wdR8676f7VBDVzkc1kwCgYIKoZIzj0EAwIw\n\
ITEfMB0GA1UEAwwWQW4gYXV0aG9yaXR5IG9mIGEgdGVzdDAgFw0yNjExMzAxNjU5\n\
MzRaGA8yMTI2MTEwNjE2NTkzNFowITEfMB0GA1UEAwwWQW4gYXV0aG9yaXR5IG9m\n\
IGEgdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABEjVJH34bG1X8u+B18Bc\n\
T6He9R5M5/Fyr+7Lgz5jf6sO5dsgaMfGTZEpyx0H4dDWSs4A87HSA6J4UU7slI6k\n\
2KqjUzBRMB0GA1UdDgQWBBR2RkEWdF+0ehdfiqnAKGNyWFhOLTAfBgNVHSMEGDAW\n\
gBR2RkEWdF+0ehdfiqnAKGNyWFhOLTAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49\n\
BAMCA0cAMEQCIAxk7gay9cHa5IaTRj/sitlxsLKUX7Cf5Fg5CghbbpxjAiAhbPsg\n\
IXzPi+k5/LoM34myfzvt4ZFVaOeTE/ovQyiwew==\n\
-----END CERTIFICATE-----\n";
