//! Settings from texts to values.

mod check_config;
mod control;
mod mistakes;
mod plan;
mod warnings;

use std::num::NonZeroUsize;
use std::time::Duration;

use postern_core::WorkerConfig;
use postern_core::handshake::{
    AllowedOrigins, ClientAddress, HandshakeConfig, HandshakeError, IdCharset, NameEncoding, Reject, Secrets,
    TrustedProxies,
};
use postern_core::policy::{DrainConfig, KeepAliveConfig, Rate};
use postern_core::session::{RatePolicy, SessionConfig};
use postern_core::worker::SUBPROTOCOL;
use slog::Level;

use super::setting::Setting;
use super::table::SETTINGS;
use super::*;
use crate::listen::Address;
use crate::log::{EmailLog, LogFormat, LogSettings, MessageLog};

const POSTERN: Program =
    Program { name: "postern", version: "1.2.3", about: "A test", has_workers: true, commands: &[] };

const HOST: Host = Host { cores: NonZeroUsize::new(2).unwrap(), memory: 16 << 30, open_files: 20_000 };

/// The sources of settings.
#[derive(Default)]
struct Texts<'t> {
    flags: &'t [&'t str],
    environment: &'t [(&'t str, &'t str)],
    dotenv: &'t str,
}

impl Texts<'_> {
    fn load(&self) -> Result<Outcome, SettingsErrors> {
        let environment = self.environment.iter().map(|(name, value)| (name.into(), value.into()));
        load(&POSTERN, self.flags.iter().map(OsString::from), environment, || {
            Ok(Some(self.dotenv.to_owned()))
        })
    }

    #[track_caller]
    fn loaded(&self) -> LoadedSettings {
        match self.load() {
            Ok(Outcome::Start(loaded)) => *loaded,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn settings(&self) -> Settings {
        self.loaded().settings
    }

    /// Returns the plan for a host with two cores, 16 GiB and 20,000 files.
    #[track_caller]
    fn plan(&self) -> Plan {
        Plan::resolve(&POSTERN, &self.loaded(), &HOST)
    }

    #[track_caller]
    fn printed(&self) -> String {
        match self.load() {
            Ok(Outcome::Print(text)) => text,
            Ok(Outcome::PrintConfig(loaded)) => {
                print::config(&loaded.texts, &Plan::resolve(&POSTERN, &loaded, &HOST))
            }
            other => panic!("{other:?}"),
        }
    }

    /// Returns the only error.
    #[track_caller]
    fn error(&self) -> String {
        let mut errors = self.errors();
        assert_eq!(errors.len(), 1, "{errors:#?}");
        errors.remove(0)
    }

    #[track_caller]
    fn errors(&self) -> Vec<String> {
        let errors: Vec<_> = self.load().unwrap_err().iter().map(ToString::to_string).collect();
        assert!(errors.iter().all(|error| !error.contains('\n')), "{errors:#?}");
        errors
    }

    #[track_caller]
    fn warnings(&self) -> Vec<String> {
        self.plan().warnings.iter().map(ToString::to_string).collect()
    }
}

fn tcp(text: &str) -> Address {
    Address::Tcp(text.parse().unwrap())
}

fn environment(name: &str, value: &str) -> Settings {
    Texts { environment: &[(name, value)], ..Texts::default() }.settings()
}

/// Returns the rules for all connections with one setting.
fn rules(name: &str, value: &str) -> WorkerConfig {
    Texts { environment: &[(name, value)], ..Texts::default() }.plan().rules().clone()
}

#[test]
fn the_defaults_are_those_of_the_core() {
    let settings = Texts::default().settings();
    assert_eq!(settings.listen, [tcp("[::]:8080")]);
    assert_eq!((settings.workers, settings.max_connections), (None, None));
    assert_eq!(settings.session, SessionConfig::default());
    assert_eq!((settings.log, settings.log_queue), (LogSettings::default(), None));
    assert_eq!(settings.control.address, Some("127.0.0.1:8081".parse().unwrap()));
    assert!(settings.control.api_keys.is_empty());
    assert_eq!(settings.drain, DrainConfig::default());
    assert_eq!(settings.keep_alive, KeepAliveConfig::default());
    assert_eq!(format!("{:?}", settings.handshake), format!("{:?}", HandshakeConfig::default()));
}

#[test]
fn flags_take_precedence_over_the_environment_over_dotenv_over_defaults() {
    let dotenv = "POSTERN_MAX_HEADERS=11\nPOSTERN_MAX_FRAGMENTS=12\nPOSTERN_WORKERS=13";
    let environment = &[("POSTERN_MAX_HEADERS", "21"), ("POSTERN_MAX_FRAGMENTS", "22")];
    let settings = Texts { flags: &["--max-headers", "31"], environment, dotenv }.settings();
    assert_eq!(settings.handshake.max_headers, 31);
    assert_eq!(settings.session.max_fragments, 22);
    assert_eq!(settings.workers, NonZeroUsize::new(13));
    assert_eq!(settings.session.max_frame, 64 * 1024);
}

#[test]
fn an_empty_value_counts_as_none() {
    let texts = Texts {
        environment: &[("POSTERN_PATH", ""), ("PORT", " ")],
        dotenv: "POSTERN_PATH=/dotenv\nPOSTERN_LISTEN=\n",
        ..Texts::default()
    };
    let settings = texts.settings();
    assert_eq!(settings.handshake.paths, ["/dotenv"]);
    assert_eq!(settings.listen, [tcp("[::]:8080")]);
}

#[test]
fn a_dotenv_with_comments_and_settings_of_other_programs_is_read() {
    let dotenv = "PORT=8081 # WebSocket server port\n\
                  HOST_PORT=8083 # Docker host port mapping\n\
                  JWT_SECRET=your-secret-key # Not used (Identity service validates)\n";
    let settings = Texts { dotenv, ..Texts::default() }.settings();
    assert_eq!(settings.listen, [tcp("[::]:8081")]);
    // 8081 is the default of the control port, which moves to the next port.
    assert_eq!(settings.control.address, Some("127.0.0.1:8082".parse().unwrap()));
}

#[test]
fn the_default_control_port_avoids_the_ports_of_data_listeners() {
    let control = |environment: &[(&str, &str)]| {
        let settings = Texts { environment, ..Texts::default() }.settings();
        settings.control.address.map(|address| address.to_string())
    };
    let listen = "[::]:8081,127.0.0.1:8082,unix:/run/8083";
    assert_eq!(control(&[("POSTERN_LISTEN", listen)]).as_deref(), Some("127.0.0.1:8083"));
    assert_eq!(control(&[("POSTERN_LISTEN", "127.0.0.1:8082")]).as_deref(), Some("127.0.0.1:8081"));
    // An address that an operator writes is not changed.
    let written = [("PORT", "8081"), ("POSTERN_CONTROL", "127.0.0.2:8083")];
    assert_eq!(control(&written).as_deref(), Some("127.0.0.2:8083"));
    assert_eq!(control(&[("PORT", "8081"), ("POSTERN_CONTROL", "off")]), None);
}

#[test]
fn dotenv_is_read_as_a_shell_would() {
    let dotenv = "\u{feff}# comment\n\nexport PORT='1'\nPORT=\"2\"\nPOSTERN_LISTEN=127.0.0.1:$PORT\n\
                  OTHER=\"two\nlines\"\nPOSTERN_STRICT_KEY=true ";
    let settings = Texts { dotenv, ..Texts::default() }.settings();
    assert_eq!(settings.listen, [tcp("127.0.0.1:2")]);
    assert!(settings.handshake.strict_key);
}

#[test]
fn the_default_address_has_the_port_and_a_given_one_keeps_its_own() {
    assert_eq!(environment("PORT", "9000").listen, [tcp("[::]:9000")]);
    let environment = &[("PORT", "9000"), ("POSTERN_LISTEN", "127.0.0.1:1, [::1]:2")];
    let settings = Texts { environment, ..Texts::default() }.settings();
    assert_eq!(settings.listen, [tcp("127.0.0.1:1"), tcp("[::1]:2")]);
}

#[test]
fn the_longest_frame_follows_the_longest_message() {
    let session = environment("POSTERN_MAX_MESSAGE", "1MiB").session;
    assert_eq!((session.max_message, session.max_frame), (1 << 20, 1 << 20));
    let session = environment("POSTERN_MAX_FRAME", "1KiB").session;
    assert_eq!((session.max_message, session.max_frame), (64 << 10, 1 << 10));
}

#[test]
fn reading_pauses_before_the_backlog_is_full_whatever_its_size() {
    for (size, max, pause) in
        [("1KiB", 1 << 10, 256), ("1MiB", 1 << 20, 256 << 10), ("64MiB", 64 << 20, 256 << 10)]
    {
        let session = rules("POSTERN_MAX_BACKLOG", size).session;
        assert_eq!((session.max_backlog, session.pause_backlog), (max, pause), "{size}");
    }
}

#[test]
fn each_setting_reaches_its_place() {
    let handshake = |name, value| rules(name, value).handshake;
    let session = |name, value| rules(name, value).session;
    let rate = session("POSTERN_MESSAGE_RATE", "100").message_rate;
    assert_eq!(rate, Rate { per_second: 100, burst: 200 });
    let rate = session("POSTERN_BYTE_RATE", "1MiB").byte_rate;
    assert_eq!(rate, Rate { per_second: 1 << 20, burst: 1 << 20 });
    assert_eq!(session("POSTERN_RATE_POLICY", "close").rate_policy, RatePolicy::Close);
    assert_eq!(session("POSTERN_MAX_FRAGMENTS", "7").max_fragments, 7);
    assert_eq!(session("POSTERN_MESSAGE_BURST", "7").message_rate.burst, 7);
    assert!(rules("POSTERN_MAX_CONNECTIONS_PER_USER", "2").users.is_some());
    assert_eq!(environment("POSTERN_CONNECT_RATE", "500").connect_rate, 500);
    assert_eq!(handshake("POSTERN_MAX_HANDSHAKES", "9").max_handshakes, 9);
    assert_eq!(environment("POSTERN_PATH", "/a, /b/c").handshake.paths, ["/a", "/b/c"]);
    assert_eq!(environment("POSTERN_PATH", "/ws,/ws/*").handshake.paths, ["/ws", "/ws/*"]);
    // An exact path of channels precedes a pattern.
    assert_eq!(handshake("POSTERN_PATH", "/*").paths, ["/connection/websocket", "/*"]);
    assert_eq!(handshake("POSTERN_CHANNELS_PATH", "off").paths, ["/ws"]);
    // Both settings serve channels at the same path.
    let both = [("POSTERN_APP", "channels"), ("POSTERN_PATH", "/connection/websocket")];
    assert!(Texts { environment: &both, ..Texts::default() }.load().is_ok());
    assert_eq!(handshake("POSTERN_HEALTH_PATH", "/healthz").health_path.as_deref(), Some("/healthz"));
    assert_eq!(handshake("POSTERN_HEALTH_PATH", "off").health_path, None);
    let subprotocols = |text| {
        let mut names = handshake("POSTERN_SUBPROTOCOLS", text).subprotocols;
        assert_eq!(names.split_off(names.len() - 2), ["centrifuge-protobuf", "centrifuge-json"]);
        names
    };
    assert_eq!(subprotocols("ocpp1.6, chat"), ["ocpp1.6", "chat", SUBPROTOCOL]);
    assert_eq!(subprotocols("chat,postern.v1.json,mqtt"), ["chat", SUBPROTOCOL, "mqtt"]);
    assert_eq!(subprotocols(""), [SUBPROTOCOL]);
    for (text, source) in [
        ("auto", ClientAddress::Auto),
        ("x-forwarded-for", ClientAddress::XForwardedFor),
        ("forwarded", ClientAddress::Forwarded),
        ("off", ClientAddress::Off),
    ] {
        assert_eq!(handshake("POSTERN_CLIENT_ADDRESS", text).client_address, source);
    }
    assert_eq!(handshake("POSTERN_USER_ID_HEADER", "X-Uid").identity.id, "X-Uid");
    assert_eq!(handshake("POSTERN_USER_EMAIL_HEADER", "X-Mail").identity.email, "X-Mail");
    assert_eq!(handshake("POSTERN_USER_NAME_HEADER", "X-Name").identity.name, "X-Name");
    assert_eq!(handshake("POSTERN_TRUSTED_PROXIES", "private").trusted_proxies, TrustedProxies::private());
    assert_eq!(handshake("POSTERN_ALLOWED_ORIGINS", "*").allowed_origins, AllowedOrigins::Any);
    assert_eq!(handshake("POSTERN_HOST_HEADER", "X-Forwarded-Host").host_header, "X-Forwarded-Host");
    assert_eq!(handshake("POSTERN_USER_ID_CHARSET", "any").identity_rules.ids, IdCharset::Any);
    assert_eq!(handshake("POSTERN_USER_NAME_ENCODING", "raw").identity_rules.names, NameEncoding::Raw);
    assert_eq!(handshake("POSTERN_USER_SESSION_ID_HEADER", "X-Sid").identity.session_id, "X-Sid");
    assert_eq!(handshake("POSTERN_USER_SESSION_ID_HEADER", "off").identity.session_id, "");
    assert_eq!(handshake("POSTERN_USER_TOKEN_EXP_HEADER", "X-Exp").identity.token_exp, "X-Exp");
    assert_eq!(handshake("POSTERN_USER_TOKEN_EXP_HEADER", "off").identity.token_exp, "");
    assert_eq!(handshake("POSTERN_USER_TOKEN_ISSUED_AT_HEADER", "X-Iat").identity.token_issued_at, "X-Iat");
    assert_eq!(handshake("POSTERN_USER_TOKEN_ID_HEADER", "X-Jti").identity.token_id, "X-Jti");
    assert_eq!(environment("POSTERN_EXPIRY_GRACE", "1s").expiry.grace, Duration::from_secs(1));
    assert_eq!(environment("POSTERN_EXPIRY_SPREAD", "0").expiry.spread, Duration::ZERO);
    assert_eq!(handshake("POSTERN_USER_CHANNELS_HEADER", "User-Channels").identity.channels, "User-Channels");
    assert_eq!(handshake("POSTERN_USER_CHANNELS_HEADER", "off").identity.channels, "");
    assert_eq!(handshake("POSTERN_PROXY_SECRET_HEADER", "X-Proof").proxy_secret.header, "X-Proof");
    let secrets = Secrets::new(["0123456789abcdef".to_owned()]);
    assert_eq!(handshake("POSTERN_PROXY_SECRET", "0123456789abcdef").proxy_secret.secrets, secrets);
    assert_eq!(handshake("POSTERN_REJECT", "close").reject, Reject::Close);
    assert!(handshake("POSTERN_STRICT_KEY", "true").strict_key);
    assert_eq!(handshake("POSTERN_MAX_HEAD", "512").max_head, 512);
    assert_eq!(handshake("POSTERN_MAX_HEADERS", "256").max_headers, 256);
    assert_eq!(handshake("POSTERN_HANDSHAKE_TIMEOUT", "1ms").timeout, Duration::from_millis(1));

    assert_eq!(session("POSTERN_MESSAGE_TIMEOUT", "0").message_timeout, Duration::ZERO);
    assert_eq!(session("POSTERN_WRITE_TIMEOUT", "1m").write_timeout, Duration::from_secs(60));
    assert_eq!(session("POSTERN_CLOSE_TIMEOUT", "1s").close_timeout, Duration::from_secs(1));

    assert_eq!(environment("POSTERN_LISTEN_MODE", "0600").socket_access.mode, 0o600);
    assert_eq!(environment("POSTERN_LISTEN_OWNER", "7:8").socket_access.owner.group, Some(8));
    let seven = NonZeroUsize::new(7);
    assert_eq!(environment("POSTERN_WORKERS", "7").workers, seven);
    assert_eq!(environment("POSTERN_MAX_CONNECTIONS", "7").max_connections, seven);
    assert_eq!(environment("POSTERN_MAX_MEMORY", "7").max_memory, seven);
    assert_eq!(environment("POSTERN_LOG_QUEUE", "64KiB").log_queue, NonZeroUsize::new(64 << 10));
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
        let identity = Texts { environment, ..Texts::default() }.settings().handshake.identity;
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
    assert_eq!(fed_back.handshake.identity.token_exp, "");
}

#[test]
fn help_shows_each_setting_with_its_flag_name_and_default() {
    let help = Texts { flags: &["--help"], ..Texts::default() }.printed();
    assert_eq!(help, Texts { flags: &["-h"], ..Texts::default() }.printed());
    for setting in SETTINGS.iter() {
        let default = if setting.default.is_empty() { "none" } else { &*setting.default };
        for text in [
            format!("--{} <{}>", setting.flag(), setting.placeholder),
            format!("[env: {}] [default: {default}]", setting.name),
            format!("\n{}:\n", setting.group),
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

/// Kubernetes and Docker make variables for a service or container called `postern`, or `postern-` and something.
#[test]
fn service_links_are_ignored_with_one_warning() {
    let links = [
        ("POSTERN_PORT", "tcp://10.0.0.11:8080"),
        ("POSTERN_PORT_8080_TCP", "tcp://10.0.0.11:8080"),
        ("POSTERN_PORT_8080_TCP_ADDR", "10.0.0.11"),
        ("POSTERN_SERVICE_HOST", "10.0.0.11"),
        ("POSTERN_SERVICE_PORT", "8080"),
        ("POSTERN_SERVICE_PORT_HTTP", "8080"),
        ("POSTERN_CONTROL_PORT", "tcp://10.0.0.12:8081"),
        ("POSTERN_SMOL_SERVICE_HOST", "fd00::12"),
        ("POSTERN_PATH", "/a"),
    ];
    let texts = Texts { environment: &links, ..Texts::default() };
    assert_eq!(texts.settings().handshake.paths, ["/a"]);
    assert_eq!(
        texts.warnings(),
        [
            "POSTERN_CONTROL_PORT and 7 others are variables that Kubernetes or Docker makes for a service, not a \
          setting, and are ignored; write enableServiceLinks: false in the pod to be without"
        ]
    );
    // A variable that only looks like a link is an error.
    for (name, value) in [
        ("POSTERN_PORT", "8080"),
        ("POSTERN_SERVICE_HOST", "postern.example.com"),
        ("POSTERN_SERVICE_PROT", "8080"),
        ("POSTERN_MAX_MESAGE", "64KiB"),
    ] {
        let environment = &[links.as_slice(), &[(name, value)]].concat();
        let environment: Vec<_> =
            environment.iter().filter(|(known, said)| *known != name || *said == value).copied().collect();
        let error = Texts { environment: &environment, ..Texts::default() }.error();
        assert!(error.starts_with(&format!("{name}: no such setting")), "{error}");
    }
    // An operator wrote the lines of `.env`.
    let error = Texts { dotenv: "POSTERN_PORT=tcp://10.0.0.11:8080", ..Texts::default() }.error();
    assert!(error.contains("POSTERN_PORT: no such setting; did you mean PORT?"), "{error}");
}

#[test]
fn values_shared_with_other_programs_are_accepted_in_their_notation() {
    for (text, level) in [
        ("INFO", Level::Info),
        ("Information", Level::Info),
        ("notice", Level::Info),
        ("warning", Level::Warning),
        ("WARN", Level::Warning),
        ("err", Level::Error),
        ("Error", Level::Error),
        ("fatal", Level::Critical),
        ("CRIT", Level::Critical),
        ("panic", Level::Critical),
        ("emerg", Level::Critical),
        ("Verbose", Level::Debug),
        (" debug\t", Level::Debug),
    ] {
        assert_eq!(environment("LOG_LEVEL", text).log.level, level, "{text}");
    }
    for (text, format) in [
        ("JSON", LogFormat::Json),
        ("Term", LogFormat::Term),
        ("text", LogFormat::Term),
        ("console", LogFormat::Term),
    ] {
        assert_eq!(environment("LOG_FORMAT", text).log.format, format, "{text}");
    }
    for (text, is_strict) in
        [("TRUE", true), ("1", true), ("yes", true), ("On", true), ("0", false), ("No", false)]
    {
        assert_eq!(environment("POSTERN_STRICT_KEY", text).handshake.strict_key, is_strict, "{text}");
    }
    assert_eq!(environment("POSTERN_CONTROL", "OFF").control.address, None);
    assert_eq!(environment("POSTERN_REQUEST_ID_HEADER", "Off").handshake.request_id, "");
    assert_eq!(environment("POSTERN_IDENTITY", "Authelia").handshake.identity.id, "Remote-User");
    assert_eq!(environment("POSTERN_REJECT", "CLOSE").handshake.reject, Reject::Close);
    let private = environment("POSTERN_TRUSTED_PROXIES", "Private").handshake.trusted_proxies;
    assert_eq!(private, TrustedProxies::private());
}

#[test]
fn a_program_without_workers_says_so() {
    let program = Program { has_workers: false, ..POSTERN };
    let Ok(Outcome::Print(help)) = load(&program, ["--help".into()], [], || Ok(None)) else {
        panic!("no help")
    };
    assert!(help.contains("and ignores it\n"), "{help}");
    assert!(load(&program, ["--workers=4".into()], [], || Ok(None)).is_ok());
    assert!(!Texts { flags: &["--help"], ..Texts::default() }.printed().contains("and ignores it"));
}

#[test]
fn the_help_describes_the_subcommands_of_the_program() {
    const COMMANDS: &[Command] = &[Command {
        name: "probe",
        usage: "[OPTIONS] URL",
        about: "probe checks.",
        run: |_| process::ExitCode::SUCCESS,
    }];
    let program = Program { commands: COMMANDS, ..POSTERN };
    let Ok(Outcome::Print(help)) = load(&program, ["--help".into()], [], || Ok(None)) else {
        panic!("no help")
    };
    assert!(
        help.contains("\n       postern probe [OPTIONS] URL\n") && help.contains("\n\nprobe checks.\n\n"),
        "{help}"
    );
    for (program, complaint) in
        [(&program, "probe: must be the first argument"), (&POSTERN, "probe: this program does not have it")]
    {
        let errors =
            load(program, ["--port=1".into(), "probe".into()], [], || Ok(None)).unwrap_err().to_string();
        assert!(errors.contains(complaint), "{errors}");
    }
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
        ("POSTERN_LISTEN=[::]:9000", "default"),
        ("POSTERN_PATH=\"/a'b\\$c\\\"d,/e\"", "flag"),
        ("POSTERN_TRUSTED_PROXIES=\"loopback, 10.0.0.0/8\"", ".env"),
        ("POSTERN_ALLOWED_ORIGINS=", "default"),
        ("LOG_FORMAT=json", ".env"),
    ] {
        let is_line = |line: &str| {
            line.split_once("  # ").is_some_and(|(text, of)| (text.trim_end(), of) == (value, source))
        };
        assert!(printed.lines().any(is_line), "{value}  # {source} is missing in\n{printed}");
    }
    assert_eq!(printed.lines().filter(|line| line.contains('=')).count(), SETTINGS.len());

    let [direct, fed_back] = [
        Texts { flags: &["--path", "/a'b$c\"d,/e"], ..texts },
        Texts { dotenv: &printed, ..Texts::default() },
    ]
    .map(|texts| texts.settings());
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
    assert_eq!(texts.error(), "--port=x: not a whole number; write a whole number from 0 to 65535");
}

#[test]
fn names_flags_and_groups_are_in_order() {
    let flags: Vec<String> = SETTINGS.iter().map(Setting::flag).collect();
    assert!(flags.iter().all(|flag| flag.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')));
    let distinct: std::collections::BTreeSet<&String> = flags.iter().collect();
    assert_eq!(distinct.len(), SETTINGS.len());
    let mut groups: Vec<&str> = SETTINGS.iter().map(|setting| setting.group).collect();
    groups.dedup();
    assert_eq!(
        groups,
        [
            "Listening",
            "Channels",
            "Engine",
            "Identity",
            "Credentials",
            "Hooks",
            "Sources",
            "Limits",
            "Liveness",
            "Log",
            "Control",
            "Stopping"
        ]
    );
}

#[test]
fn each_setting_that_the_text_of_a_refusal_names_exists() {
    let mut count = 0;
    for message in HandshakeError::all().into_iter().map(crate::refusal::message) {
        // The texts are inserted into JSON without escaping.
        assert!(message.is_ascii() && !message.contains(['"', '\\']), "{message}");
        let words = message.split(|c: char| !c.is_ascii_uppercase() && c != '_');
        for name in words.filter(|word| word.starts_with("POSTERN_")) {
            assert!(SETTINGS.iter().any(|setting| setting.name == name), "{message}");
            count += 1;
        }
    }
    assert!(count > 10, "{count} names");
}
