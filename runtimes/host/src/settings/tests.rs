//! Settings from texts to values, and every way to get them wrong.

mod control;

use std::time::Duration;

use postern_core::handshake::{AllowedOrigins, HandshakeConfig, Reject, Secrets, TrustedProxies};
use postern_core::policy::{HeartbeatConfig, Rate};
use postern_core::session::{RatePolicy, SessionConfig};
use slog::Level;

use super::table::{SETTINGS, Setting};
use super::*;
use crate::log::{EmailLog, LogFormat, MessageLog};

const POSTERN: Program = Program { name: "postern", version: "1.2.3", about: "A test", has_workers: true };

/// What settings are read from.
#[derive(Default)]
struct Texts<'t> {
    flags: &'t [&'t str],
    environment: &'t [(&'t str, &'t str)],
    dotenv: &'t str,
}

impl Texts<'_> {
    fn load(&self) -> Result<Outcome, SettingsError> {
        let environment = self.environment.iter().map(|(name, value)| (name.into(), value.into()));
        load(&POSTERN, self.flags.iter().map(OsString::from), environment, || {
            Ok(Some(self.dotenv.to_owned()))
        })
    }

    #[track_caller]
    fn settings(&self) -> Settings {
        match self.load() {
            Ok(Outcome::Start(settings)) => *settings,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn printed(&self) -> String {
        match self.load() {
            Ok(Outcome::Print(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn error(&self) -> String {
        let error = self.load().unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    }
}

fn tcp(text: &str) -> Address {
    Address::Tcp(text.parse().unwrap())
}

fn environment(name: &str, value: &str) -> Settings {
    Texts { environment: &[(name, value)], ..Texts::default() }.settings()
}

#[test]
fn the_defaults_are_those_of_the_core() {
    let settings = Texts::default().settings();
    assert_eq!(settings.listen, [tcp("0.0.0.0:8080")]);
    assert_eq!((settings.workers, settings.max_connections), (0, 0));
    assert_eq!(*settings.service.session, SessionConfig::default());
    // How much may wait in it depends on the host.
    assert_eq!(settings.log, LogSettings { queue: 0, ..LogSettings::default() });
    assert_eq!(settings.control.address, Some("127.0.0.1:8081".parse().unwrap()));
    assert!(settings.control.api_keys.is_empty());
    assert_eq!(settings.drain, DrainConfig::default());
    assert_eq!(settings.service.heartbeat, HeartbeatConfig::default());
    // What the application understands is no setting.
    let core = HandshakeConfig { subprotocols: vec![SUBPROTOCOL.to_owned()], ..HandshakeConfig::default() };
    let ours = settings.service.handshake;
    assert_eq!(format!("{ours:?}"), format!("{core:?}"));
}

#[test]
fn a_flag_goes_before_the_environment_before_dotenv_before_the_default() {
    let dotenv = "POSTERN_MAX_HEADERS=11\nPOSTERN_MAX_FRAGMENTS=12\nPOSTERN_WORKERS=13";
    let environment = &[("POSTERN_MAX_HEADERS", "21"), ("POSTERN_MAX_FRAGMENTS", "22")];
    let settings = Texts { flags: &["--max-headers", "31"], environment, dotenv }.settings();
    assert_eq!(settings.service.handshake.max_headers, 31);
    assert_eq!(settings.service.session.max_fragments, 22);
    assert_eq!(settings.workers, 13);
    assert_eq!(settings.service.session.max_frame, 64 * 1024);
}

#[test]
fn an_empty_value_counts_as_none() {
    let texts = Texts {
        environment: &[("POSTERN_PATH", ""), ("PORT", " ")],
        dotenv: "POSTERN_PATH=/dotenv\nPOSTERN_LISTEN=\n",
        ..Texts::default()
    };
    let settings = texts.settings();
    assert_eq!(settings.service.handshake.paths, ["/dotenv"]);
    assert_eq!(settings.listen, [tcp("0.0.0.0:8080")]);
}

#[test]
fn the_dotenv_of_the_brief_is_read_as_it_is() {
    let dotenv = "PORT=8081 # WebSocket server port\n\
                  HOST_PORT=8083 # Docker host port mapping\n\
                  JWT_SECRET=your-secret-key # Not used (Identity service validates)\n";
    let settings = Texts { dotenv, ..Texts::default() }.settings();
    assert_eq!(settings.listen, [tcp("0.0.0.0:8081")]);
    // It has the default port of the control port, which gives way.
    assert_eq!(settings.control.address, Some("127.0.0.1:8082".parse().unwrap()));
}

#[test]
fn the_default_control_port_gives_way_to_the_data_listeners() {
    let control = |environment: &[(&str, &str)]| {
        let settings = Texts { environment, ..Texts::default() }.settings();
        settings.control.address.map(|address| address.to_string())
    };
    let listen = "[::]:8081,127.0.0.1:8082,unix:/run/8083";
    assert_eq!(control(&[("POSTERN_LISTEN", listen)]).as_deref(), Some("127.0.0.1:8083"));
    assert_eq!(control(&[("POSTERN_LISTEN", "127.0.0.1:8082")]).as_deref(), Some("127.0.0.1:8081"));
    // An address that an operator writes is taken as it is.
    let written = [("PORT", "8081"), ("POSTERN_CONTROL", "127.0.0.2:8081")];
    assert_eq!(control(&written).as_deref(), Some("127.0.0.2:8081"));
    assert_eq!(control(&[("PORT", "8081"), ("POSTERN_CONTROL", "off")]), None);
}

#[test]
fn dotenv_is_read_as_a_shell_would() {
    let dotenv = "\u{feff}# comment\n\nexport PORT='1'\nPORT=\"2\"\nPOSTERN_LISTEN=127.0.0.1:$PORT\n\
                  OTHER=\"two\nlines\"\nPOSTERN_STRICT_KEY=true ";
    let settings = Texts { dotenv, ..Texts::default() }.settings();
    assert_eq!(settings.listen, [tcp("127.0.0.1:2")]);
    assert!(settings.service.handshake.strict_key);
}

#[test]
fn the_default_address_has_the_port_and_a_given_one_keeps_its_own() {
    assert_eq!(environment("PORT", "9000").listen, [tcp("0.0.0.0:9000")]);
    let environment = &[("PORT", "9000"), ("POSTERN_LISTEN", "127.0.0.1:1, [::1]:2")];
    let settings = Texts { environment, ..Texts::default() }.settings();
    assert_eq!(settings.listen, [tcp("127.0.0.1:1"), tcp("[::1]:2")]);
}

#[test]
fn the_longest_frame_follows_the_longest_message() {
    let session = environment("POSTERN_MAX_MESSAGE", "1MiB").service.session;
    assert_eq!((session.max_message, session.max_frame), (1 << 20, 1 << 20));
    let session = environment("POSTERN_MAX_FRAME", "1KiB").service.session;
    assert_eq!((session.max_message, session.max_frame), (64 << 10, 1 << 10));
}

#[test]
fn reading_pauses_before_the_backlog_is_full_whatever_its_size() {
    for (size, max, pause) in
        [("1KiB", 1 << 10, 256), ("1MiB", 1 << 20, 256 << 10), ("64MiB", 64 << 20, 256 << 10)]
    {
        let session = environment("POSTERN_MAX_BACKLOG", size).service.session;
        assert_eq!((session.max_backlog, session.pause_backlog), (max, pause), "{size}");
    }
}

#[test]
fn each_setting_reaches_its_place() {
    let handshake = |name, value| environment(name, value).service.handshake;
    let session = |name, value| environment(name, value).service.session;
    let rate = session("POSTERN_MESSAGE_RATE", "100").message_rate;
    assert_eq!(rate, Rate { per_second: 100, burst: 200 });
    let rate = session("POSTERN_BYTE_RATE", "1MiB").byte_rate;
    assert_eq!(rate, Rate { per_second: 1 << 20, burst: 1 << 20 });
    assert_eq!(session("POSTERN_RATE_POLICY", "close").rate_policy, RatePolicy::Close);
    assert_eq!(session("POSTERN_MAX_FRAGMENTS", "7").max_fragments, 7);
    assert!(environment("POSTERN_MAX_CONNECTIONS_PER_USER", "2").service.users.is_some());
    assert_eq!(environment("POSTERN_CONNECT_RATE", "500").connect_rate, 500);
    assert_eq!(handshake("POSTERN_MAX_HANDSHAKES", "9").max_handshakes, 9);
    assert_eq!(handshake("POSTERN_PATH", "/a, /b/c").paths, ["/a", "/b/c"]);
    assert_eq!(handshake("POSTERN_USER_ID_HEADER", "X-Uid").identity.id, "X-Uid");
    assert_eq!(handshake("POSTERN_USER_EMAIL_HEADER", "X-Mail").identity.email, "X-Mail");
    assert_eq!(handshake("POSTERN_USER_NAME_HEADER", "X-Name").identity.name, "X-Name");
    assert_eq!(handshake("POSTERN_TRUSTED_PROXIES", "private").trusted_proxies, TrustedProxies::private());
    assert_eq!(handshake("POSTERN_ALLOWED_ORIGINS", "*").allowed_origins, AllowedOrigins::Any);
    assert_eq!(handshake("POSTERN_USER_SESSION_ID_HEADER", "X-Sid").identity.session_id, "X-Sid");
    assert_eq!(handshake("POSTERN_USER_SESSION_ID_HEADER", "off").identity.session_id, "");
    assert_eq!(handshake("POSTERN_USER_TOKEN_EXP_HEADER", "X-Exp").identity.token_exp, "X-Exp");
    assert_eq!(handshake("POSTERN_USER_TOKEN_EXP_HEADER", "off").identity.token_exp, "");
    assert_eq!(handshake("POSTERN_PROXY_SECRET_HEADER", "X-Proof").proxy_secret.header, "X-Proof");
    let secrets = Secrets::new(["0123456789abcdef".to_owned()]);
    assert_eq!(handshake("POSTERN_PROXY_SECRET", "0123456789abcdef").proxy_secret.secrets, secrets);
    assert_eq!(handshake("POSTERN_REJECT", "close").reject, Reject::Close);
    assert!(handshake("POSTERN_STRICT_KEY", "true").strict_key);
    assert_eq!(handshake("POSTERN_MAX_HEAD", "512").max_head, 512);
    assert_eq!(handshake("POSTERN_MAX_HEADERS", "256").max_headers, 256);
    assert_eq!(handshake("POSTERN_HANDSHAKE_TIMEOUT", "1ms").timeout, Duration::from_millis(1));

    let session = |name, value| environment(name, value).service.session;
    assert_eq!(session("POSTERN_MAX_FRAGMENTS", "7").max_fragments, 7);
    assert_eq!(session("POSTERN_MESSAGE_TIMEOUT", "0").message_timeout, Duration::ZERO);
    assert_eq!(session("POSTERN_WRITE_TIMEOUT", "1m").write_timeout, Duration::from_secs(60));
    assert_eq!(session("POSTERN_CLOSE_TIMEOUT", "1s").close_timeout, Duration::from_secs(1));

    assert_eq!(environment("POSTERN_LISTEN_MODE", "0600").socket_access.mode, 0o600);
    assert_eq!(environment("POSTERN_LISTEN_OWNER", "7:8").socket_access.owner.group, Some(8));
    assert_eq!(environment("POSTERN_WORKERS", "7").workers, 7);
    assert_eq!(environment("POSTERN_MAX_CONNECTIONS", "7").max_connections, 7);
    assert_eq!(environment("LOG_LEVEL", "critical").log.level, Level::Critical);
    assert_eq!(environment("LOG_FORMAT", "json").log.format, LogFormat::Json);
    assert_eq!(environment("POSTERN_LOG_MESSAGES", "size").log.messages, MessageLog::Size);
    assert_eq!(environment("POSTERN_LOG_EMAIL", "masked").log.email, EmailLog::Masked);
    let control = |name, value| environment(name, value).control;
    assert_eq!(control("POSTERN_CONTROL", "[::1]:1").address, Some("[::1]:1".parse().unwrap()));
    assert_eq!(control("POSTERN_CONTROL", "off").address, None);
    assert_eq!(control("POSTERN_API_KEY", "0123456789abcdef").api_keys, secrets);
}

#[test]
fn a_preset_names_the_headers_that_are_not_named() {
    let names = |environment: &[(&str, &str)]| {
        let identity = Texts { environment, ..Texts::default() }.settings().service.handshake.identity;
        [identity.id, identity.email, identity.name, identity.session_id, identity.token_exp]
    };
    let session = ["User-Session-ID", "User-Token-Exp"];
    assert_eq!(names(&[("POSTERN_IDENTITY", "user")])[3..], session);
    for (preset, headers) in [
        ("oauth2-proxy", ["X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Preferred-Username", "", ""]),
        ("authelia", ["Remote-User", "Remote-Email", "Remote-Name", "", ""]),
        ("authentik", ["X-authentik-uid", "X-authentik-email", "X-authentik-name", "", ""]),
        ("pomerium", ["X-Pomerium-Claim-Sub", "X-Pomerium-Claim-Email", "X-Pomerium-Claim-Name", "", ""]),
    ] {
        assert_eq!(names(&[("POSTERN_IDENTITY", preset)]), headers);
    }
    let mixed = names(&[
        ("POSTERN_IDENTITY", "authelia"),
        ("POSTERN_USER_ID_HEADER", "X-Uid"),
        ("POSTERN_USER_SESSION_ID_HEADER", "Remote-Session"),
    ]);
    assert_eq!(mixed, ["X-Uid", "Remote-Email", "Remote-Name", "Remote-Session", ""]);
    let flags = &["--print-config", "--identity=authelia"];
    let printed = Texts { flags, ..Texts::default() }.printed();
    for line in ["POSTERN_USER_NAME_HEADER=Remote-Name ", "POSTERN_USER_TOKEN_EXP_HEADER=off "] {
        assert!(printed.contains(line), "{line} is missing in\n{printed}");
    }
    let fed_back = Texts { dotenv: &printed, ..Texts::default() }.settings();
    assert_eq!(fed_back.service.handshake.identity.token_exp, "");
}

#[test]
fn each_bad_value_has_its_line() {
    for (name, value, complaint) in [
        ("PORT", "http", "not a number"),
        ("PORT", "65536", "must be at most 65535"),
        (
            "POSTERN_LISTEN",
            "8080",
            "8080 is not an address with a port; write for example 0.0.0.0:8080 or [::]:8080",
        ),
        (
            "POSTERN_LISTEN",
            "0.0.0.0:1,::2",
            "::2 is not an address with a port; write for example 0.0.0.0:8080 or [::]:8080",
        ),
        ("POSTERN_LISTEN", "0.0.0.0:1,", "an item of the list is empty"),
        (
            "POSTERN_LISTEN",
            "unix:run/x",
            "a Unix socket needs an absolute path; write for example unix:/run/postern.sock",
        ),
        ("POSTERN_LISTEN_MODE", "rw", "not the mode of a socket in octal; write for example 0660"),
        (
            "POSTERN_LISTEN_OWNER",
            "nobody-of-that-name",
            "there is no user nobody-of-that-name on this host; write for example 1000:1000",
        ),
        ("POSTERN_IDENTITY", "keycloak", "must be one of user, oauth2-proxy, authelia, authentik, pomerium"),
        (
            "POSTERN_PROXY_SECRET_HEADER",
            "User_Id",
            "the same header as that of POSTERN_USER_ID_HEADER, but for case and separators",
        ),
        ("POSTERN_PROXY_SECRET_FILE", "/no/such/file", "cannot read the file: entity not found"),
        ("POSTERN_REJECT", "drop", "must be one of http, close"),
        ("POSTERN_PATH", "ws", "ws is not a path; write for example /ws"),
        ("POSTERN_PATH", "/ws?a", "/ws?a is not a path alone; leave out the query and the fragment"),
        ("POSTERN_PATH", "/ws#a", "/ws#a is not a path alone; leave out the query and the fragment"),
        ("POSTERN_PATH", "/a b", "/a b is not a path; write other than visible ASCII percent-encoded"),
        ("POSTERN_PATH", "/é", "/é is not a path; write other than visible ASCII percent-encoded"),
        ("POSTERN_WORKERS", "many", "not a number"),
        ("POSTERN_WORKERS", "1025", "must be at most 1024"),
        ("POSTERN_USER_ID_HEADER", "User ID", "not the name of a header; write for example X-User-Id"),
        (
            "POSTERN_USER_ID_HEADER",
            "Authorization",
            "Authorization has a meaning of its own and cannot carry an identity",
        ),
        (
            "POSTERN_USER_ID_HEADER",
            "sec_websocket_key",
            "Sec-WebSocket-Key has a meaning of its own and cannot carry an identity",
        ),
        (
            "POSTERN_USER_ID_HEADER",
            "user_name",
            "the same header as that of POSTERN_USER_NAME_HEADER, but for case and separators",
        ),
        (
            "POSTERN_USER_NAME_HEADER",
            "User-Email",
            "the same header as that of POSTERN_USER_EMAIL_HEADER, but for case and separators",
        ),
        (
            "POSTERN_TRUSTED_PROXIES",
            "10.0.0.0/33",
            "10.0.0.0/33 is not a block of addresses; write for example 10.0.0.0/8, or loopback, private, any",
        ),
        (
            "POSTERN_TRUSTED_PROXIES",
            "private,traefik",
            "traefik is not a block of addresses; write for example 10.0.0.0/8, or loopback, private, any",
        ),
        (
            "POSTERN_ALLOWED_ORIGINS",
            "https://a.example/",
            "an origin ends behind its host or port; write https://a.example",
        ),
        (
            "POSTERN_ALLOWED_ORIGINS",
            "https://a.example:8443/app",
            "an origin ends behind its host or port; write https://a.example:8443",
        ),
        (
            "POSTERN_ALLOWED_ORIGINS",
            "a.example",
            "a.example is not an origin; write for example https://a.example",
        ),
        (
            "POSTERN_ALLOWED_ORIGINS",
            "https://a.example:443",
            "browsers leave out the usual port; write https://a.example",
        ),
        (
            "POSTERN_ALLOWED_ORIGINS",
            "http://a.example:80",
            "browsers leave out the usual port; write http://a.example",
        ),
        (
            "POSTERN_ALLOWED_ORIGINS",
            "https://*.example",
            "https://*.example has a wildcard; list each origin, or write * to admit every one",
        ),
        ("POSTERN_ALLOWED_ORIGINS", "https://a.example,*", "* admits every origin and stands alone"),
        (
            "POSTERN_ALLOWED_ORIGINS",
            "https://",
            "https:// is not an origin; write for example https://app.example.com",
        ),
        ("POSTERN_ASSERTION", "iap", "must be one of off, pomerium, google-iap, cloudflare, custom"),
        ("POSTERN_ASSERTION_HEADER", "X Y", "not the name of a header; write for example X-User-Id"),
        (
            "POSTERN_ASSERTION_HEADER",
            "Authorization",
            "Authorization has a meaning of its own and cannot carry an identity",
        ),
        ("POSTERN_ASSERTION_AUDIENCE", "a,,b", "an item of the list is empty"),
        (
            "POSTERN_ASSERTION_JWKS",
            "http://issuer.example/jwks.json",
            "whoever is on the way could put in keys of his own; write https, which only a URL of this host can \
             do without",
        ),
        (
            "POSTERN_ASSERTION_JWKS",
            "file:///etc/jwks.json",
            "neither https nor a file; a file is written as its path alone",
        ),
        (
            "POSTERN_ASSERTION_ISSUER",
            "https://issuer.example",
            "has no effect while POSTERN_ASSERTION is off; write POSTERN_ASSERTION=custom, or one of pomerium, \
             google-iap, cloudflare",
        ),
        (
            "POSTERN_ASSERTION",
            "custom",
            "needs POSTERN_ASSERTION_HEADER, too; write for example X-Jwt-Assertion",
        ),
        (
            "POSTERN_ASSERTION",
            "pomerium",
            "needs POSTERN_ASSERTION_ISSUER, too; write for example app.example.com, the host of the route",
        ),
        (
            "POSTERN_ASSERTION",
            "google-iap",
            "needs POSTERN_ASSERTION_AUDIENCE, too; write for example /projects/NUMBER/global/backendServices/ID",
        ),
        (
            "POSTERN_ASSERTION",
            "cloudflare",
            "needs POSTERN_ASSERTION_ISSUER, too; write for example https://TEAM.cloudflareaccess.com",
        ),
        ("POSTERN_STRICT_KEY", "yes", "must be one of true, false"),
        ("POSTERN_MAX_CONNECTIONS", "-1", "not a number"),
        ("POSTERN_MAX_MESSAGE", "64Q", "not a size; write for example 64KiB"),
        ("POSTERN_MAX_MESSAGE", "64KB", "not a size; units are powers of 1024, write 64KiB"),
        ("POSTERN_MAX_MESSAGE", "0", "must be at least 1B"),
        ("POSTERN_MAX_MESSAGE", "2GiB", "must be at most 1GiB"),
        ("POSTERN_MAX_FRAME", "0", "must be at least 1B"),
        ("POSTERN_MAX_FRAGMENTS", "0", "must be at least 1"),
        ("POSTERN_MESSAGE_TIMEOUT", "30", "a duration needs a unit; write 30s or 30ms"),
        ("POSTERN_MAX_BACKLOG", "0", "must be at least 1KiB"),
        ("POSTERN_WRITE_TIMEOUT", "25h", "must be at most 24h"),
        ("POSTERN_CLOSE_TIMEOUT", "0", "must be more than 0"),
        ("POSTERN_HANDSHAKE_TIMEOUT", "0s", "must be more than 0"),
        ("POSTERN_HANDSHAKE_TIMEOUT", "soon", "not a duration; write for example 25s, 500ms or 1m"),
        ("POSTERN_MAX_HEAD", "511", "must be at least 512B"),
        ("POSTERN_MAX_HEAD", "2MiB", "must be at most 1MiB"),
        ("POSTERN_MAX_HEADERS", "257", "must be at most 256"),
        ("LOG_LEVEL", "loud", "must be one of trace, debug, info, warn, error, critical"),
        ("LOG_FORMAT", "xml", "must be one of term, json"),
        ("POSTERN_LOG_MESSAGES", "all", "must be one of full, truncated, size, off"),
        ("POSTERN_LOG_EMAIL", "none", "must be one of full, masked, off"),
        (
            "POSTERN_CONTROL",
            "8081",
            "not an address with a port; write for example 127.0.0.1:8081 or [::1]:8081, or off",
        ),
        ("POSTERN_API_KEY_FILE", "/no/such/file", "cannot read the file: entity not found"),
    ] {
        let error = Texts { environment: &[(name, value)], ..Texts::default() }.error();
        assert_eq!(error, format!("{name}={value}: {complaint}"));
    }
}

#[test]
fn an_error_says_where_the_value_stands() {
    let complaint = "not a size; write for example 64KiB";
    let flags = &["--max-message", "64Q"];
    assert_eq!(Texts { flags, ..Texts::default() }.error(), format!("--max-message=64Q: {complaint}"));
    let dotenv = "POSTERN_MAX_MESSAGE=64Q";
    assert_eq!(
        Texts { dotenv, ..Texts::default() }.error(),
        format!(".env: POSTERN_MAX_MESSAGE=64Q: {complaint}")
    );
    // The one that holds is the one that is judged.
    let texts = Texts { flags: &["--max-message=1KiB"], dotenv, ..Texts::default() };
    assert_eq!(texts.settings().service.session.max_message, 1024);
}

#[test]
fn an_error_is_one_line_whatever_it_quotes() {
    let environment = &[("POSTERN_PATH", "/a\nb\u{202e}\\")];
    assert_eq!(
        Texts { environment, ..Texts::default() }.error(),
        r"POSTERN_PATH=/a\nb\u{202e}\: /a\nb\u{202e}\ is not a path; write other than visible ASCII percent-encoded"
    );
}

#[test]
fn an_unknown_name_of_ours_is_an_error_and_one_of_others_is_not() {
    for (name, line) in [
        ("POSTERN_PAHT", "POSTERN_PAHT: no such setting; did you mean POSTERN_PATH?"),
        ("POSTERN_MAX_MESAGE", "POSTERN_MAX_MESAGE: no such setting; did you mean POSTERN_MAX_MESSAGE?"),
        (
            "POSTERN_TRUSTED_PROXY",
            "POSTERN_TRUSTED_PROXY: no such setting; did you mean POSTERN_TRUSTED_PROXIES?",
        ),
        ("POSTERN_COLOUR", "POSTERN_COLOUR: no such setting; --help lists them"),
        ("POSTERN_", "POSTERN_: no such setting; --help lists them"),
    ] {
        assert_eq!(Texts { environment: &[(name, "x")], ..Texts::default() }.error(), line);
        let dotenv = &format!("{name}=x");
        assert_eq!(Texts { dotenv, ..Texts::default() }.error(), format!(".env: {line}"));
    }
    let environment = &[("HOST_PORT", "x"), ("JWT_SECRET", "x"), ("LOG_LEVELS", "x"), ("PATH", "x")];
    Texts { environment, dotenv: "JWT_SECRET=x\nRUST_LOG=y", ..Texts::default() }.settings();
}

#[test]
fn a_bad_command_line_has_its_line() {
    for (flags, line) in [
        (&["--lisen", "x"] as &[&str], "--lisen: no such flag; did you mean --listen?"),
        (&["--print-confg"], "--print-confg: no such flag; did you mean --print-config?"),
        (&["--colour=x"], "--colour: no such flag; --help lists them"),
        (&["-p", "8080"], "-p: no such flag; --help lists them"),
        (&["8080"], "8080: settings are flags, as in --port 8080; --help lists them"),
        (&["--port"], "--port: a value is missing; write --port <PORT>"),
        (&["--port", "1", "--port", "2"], "--port: given twice"),
        (&["--print-config=yes"], "--print-config: takes no value"),
        (&["--path="], "--path=: an item of the list is empty"),
    ] {
        assert_eq!(Texts { flags, ..Texts::default() }.error(), line, "{flags:?}");
    }
}

#[cfg(unix)]
#[test]
fn what_is_not_utf_8_is_an_error_if_it_is_ours() {
    use std::os::unix::ffi::OsStringExt;
    let odd = || OsString::from_vec(vec![0xff]);
    let load = |flags: Vec<OsString>, environment: Vec<(OsString, OsString)>| {
        load(&POSTERN, flags, environment, || Ok(None)).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(load(vec!["--path".into(), odd()], vec![]), Err("an argument is not UTF-8".to_owned()));
    let error = "POSTERN_PATH: the value is not UTF-8".to_owned();
    assert_eq!(load(vec![], vec![("POSTERN_PATH".into(), odd())]), Err(error));
    assert_eq!(load(vec![], vec![("OTHER".into(), odd()), (odd(), odd())]), Ok(()));
}

#[test]
fn a_dotenv_that_cannot_be_read_is_named_without_its_secrets() {
    let dotenv = "PORT=1\nJWT_SECRET=hunter2 hunter2\n";
    assert_eq!(
        Texts { dotenv, ..Texts::default() }.error(),
        "cannot read .env: the line behind that of PORT is not NAME=value; a value with spaces needs quotes"
    );
    assert_eq!(
        Texts { dotenv: "hunter2", ..Texts::default() }.error(),
        "cannot read .env: its first line is not NAME=value; a value with spaces needs quotes"
    );
    let denied = load(&POSTERN, [], [], || Err(ErrorKind::PermissionDenied.into())).unwrap_err();
    assert_eq!(denied.to_string(), "cannot read .env: permission denied");
}

#[test]
fn help_shows_each_setting_with_its_flag_name_and_default() {
    let help = Texts { flags: &["--help"], ..Texts::default() }.printed();
    assert_eq!(help, Texts { flags: &["-h"], ..Texts::default() }.printed());
    for setting in SETTINGS.iter() {
        let default = if setting.default.is_empty() { "none" } else { setting.default };
        for text in [
            format!("--{} <{}>", setting.flag(), setting.placeholder),
            format!("[env: {}] [default: {default}]", setting.name),
            format!("\n{}:\n", setting.group.title()),
        ] {
            assert!(help.contains(&text), "{text} is missing in\n{help}");
        }
    }
    let widest = help.lines().max_by_key(|line| line.chars().count()).unwrap();
    assert!(widest.chars().count() <= 100, "{widest}");
    assert!(help.contains("JWT_SECRET"));
}

#[test]
fn help_is_printed_even_if_the_settings_are_bad() {
    let texts = Texts { flags: &["--help"], environment: &[("POSTERN_X", "")], dotenv: "=" };
    assert!(texts.printed().starts_with("A test\n"));
    assert_eq!(Texts { flags: &["--version"], ..texts }.printed(), "postern 1.2.3\n");
}

#[test]
fn a_program_without_workers_says_so() {
    let program = Program { has_workers: false, ..POSTERN };
    let Ok(Outcome::Print(help)) = load(&program, ["--help".into()], [], || Ok(None)) else {
        panic!("no help")
    };
    assert!(help.contains("ignores it\n"), "{help}");
    assert!(load(&program, ["--workers=4".into()], [], || Ok(None)).is_ok());
    assert!(!Texts { flags: &["--help"], ..Texts::default() }.printed().contains("ignores it"));
}

#[test]
fn the_printed_settings_can_be_fed_back() {
    let texts = Texts {
        flags: &["--print-config", "--path", "/a'b$c\"d,/e"],
        environment: &[("PORT", "9000"), ("POSTERN_MAX_MESSAGE", "1MiB"), ("POSTERN_ALLOWED_ORIGINS", "")],
        dotenv: "LOG_FORMAT=json\nPOSTERN_TRUSTED_PROXIES='loopback, 10.0.0.0/8'",
    };
    let printed = texts.printed();
    for (value, source) in [
        ("PORT=9000", "environment"),
        ("POSTERN_LISTEN=0.0.0.0:9000", "default"),
        ("POSTERN_PATH=\"/a'b\\$c\\\"d,/e\"", "flag"),
        ("POSTERN_TRUSTED_PROXIES=\"loopback, 10.0.0.0/8\"", ".env"),
        ("POSTERN_ALLOWED_ORIGINS=", "default"),
        ("LOG_FORMAT=json", ".env"),
    ] {
        let line = format!("{value:46}  # {source}");
        assert!(printed.lines().any(|printed| printed == line), "{line} is missing in\n{printed}");
    }
    assert_eq!(printed.lines().filter(|line| line.contains('=')).count(), SETTINGS.len());

    let direct = Texts { flags: &["--path", "/a'b$c\"d,/e"], ..texts }.settings();
    let fed_back = Texts { dotenv: &printed, ..Texts::default() }.settings();
    assert_eq!(format!("{direct:?}"), format!("{fed_back:?}"));
    let again = Texts { flags: &["--print-config"], dotenv: &printed, ..Texts::default() }.printed();
    let values = |printed: &str| -> Vec<String> {
        printed
            .lines()
            .map(|line| line.split("  #").next().unwrap_or_default().trim_end().to_owned())
            .collect()
    };
    assert_eq!(values(&again), values(&printed));
}

#[test]
fn bad_settings_are_not_printed() {
    let texts = Texts { flags: &["--print-config", "--port=x"], ..Texts::default() };
    assert_eq!(texts.error(), "--port=x: not a number");
}

#[test]
fn names_flags_and_groups_are_in_order() {
    let flags: Vec<String> = SETTINGS.iter().copied().map(Setting::flag).collect();
    assert!(flags.iter().all(|flag| flag.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')));
    let distinct: std::collections::BTreeSet<&String> = flags.iter().collect();
    assert_eq!(distinct.len(), SETTINGS.len());
    let mut groups: Vec<&str> = SETTINGS.iter().map(|setting| setting.group.title()).collect();
    groups.dedup();
    assert_eq!(groups, ["Listening", "Identity", "Limits", "Liveness", "Log", "Control", "Stopping"]);
}

#[test]
fn what_depends_on_the_host_is_filled_in_unless_it_is_given() {
    let settings = Texts::default().settings().for_this_host();
    assert!(settings.workers >= 1 && settings.max_connections >= 1);
    let flags = &["--workers=3", "--max-connections=5"];
    let settings = Texts { flags, ..Texts::default() }.settings().for_this_host();
    assert_eq!((settings.workers, settings.max_connections), (3, 5));
}
