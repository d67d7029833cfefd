//! `postern probe` names each fault of the path from a client to Postern, and what to do. `postern connect` exchanges
//! messages, and `postern top` shows figures.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use postern_tests::binaries::Binary;
use postern_tests::chain::Chain;
use postern_tests::gateway::{Addresses, Gateway, Running};
use postern_tests::identity::Identity;
use postern_tests::ports;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::process::{Process, Stream};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use serde_json::Value;
use tempfile::TempDir;

/// The result of a run.
struct Probed {
    is_ok: bool,
    lines: Vec<String>,
}

/// Runs `postern probe` with these arguments.
#[track_caller]
fn probe(arguments: &[&str]) -> Probed {
    let mut command = Command::new(Binary::Postern.path());
    command.arg("probe").args(arguments).stdin(Stdio::null());
    let mut process = Process::spawn("postern probe", &mut command).expect("it starts");
    let status = process.wait(Duration::from_secs(60)).expect("it ends");
    let lines = process.lines_of(Stream::Out);
    assert!(matches!(status.code(), Some(0 | 1)), "{status}: {:?}", process.lines());
    Probed { is_ok: status.code() == Some(0), lines }
}

impl Probed {
    /// Checks that this step failed with this observation and this advice.
    #[track_caller]
    fn fails(&self, step: &str, observation: &str, advice: &str) -> &Self {
        let all = self.lines.join("\n");
        assert!(!self.is_ok, "the exit status is 1:\n{all}");
        let at = self.lines.iter().position(|line| line.starts_with(&format!("✗ {step} ")));
        let at = at.unwrap_or_else(|| panic!("{step} did not fail:\n{all}"));
        assert!(self.lines[at].contains(observation), "no {observation:?} at {step}:\n{all}");
        let advised = self.lines[at + 1..].iter().take_while(|line| line.contains("→"));
        let advised: Vec<&str> = advised.map(String::as_str).collect();
        assert!(advised.join("\n").contains(advice), "no {advice:?} at {step}:\n{all}");
        self
    }

    /// Checks that these are the steps that failed.
    #[track_caller]
    fn fails_only(&self, steps: &[&str]) -> &Self {
        let failed = self.lines.iter().filter_map(|line| line.strip_prefix("✗ "));
        let failed: Vec<&str> = failed.map(|line| line[..11].trim()).collect();
        assert_eq!(failed, steps, "{}", self.lines.join("\n"));
        self
    }

    /// Checks that these steps passed, and that none failed.
    #[track_caller]
    fn passes(&self, steps: &[(&str, &str)]) {
        let all = self.lines.join("\n");
        assert!(self.is_ok && !all.contains('✗') && all.ends_with(": all checks passed"), "{all}");
        for (step, observation) in steps {
            let line = self.lines.iter().find(|line| line.starts_with(&format!("✓ {step} ")));
            let line = line.unwrap_or_else(|| panic!("no ✓ {step}:\n{all}"));
            assert!(line.contains(observation), "no {observation:?} at {step}:\n{all}");
        }
    }
}

fn url(address: SocketAddr, path: &str) -> String {
    format!("ws://{address}{path}")
}

/// An authority with a certificate for these names, in files.
struct Certificates(TempDir);

impl Certificates {
    fn generate(names: &[&str], years: (i32, i32)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "The Authority of the Tests");
        let authority =
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &authority).expect("a certificate");
        for (name, pem) in
            [("ca.pem", authority.pem()), ("chain.pem", certificate.pem()), ("key.pem", key.serialize_pem())]
        {
            std::fs::write(folder.path().join(name), pem).expect("it is written");
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }
}

/// Starts nginx with the shipped configuration and TLS on another port. Returns the URL of the WebSocket.
fn nginx_with_tls(
    identity: SocketAddr,
    postern: SocketAddr,
    certificates: &Certificates,
) -> (Running, String) {
    let (plain, tls) = (ports::free(), ports::free());
    let listen = format!("listen {plain};");
    let with_tls = format!(
        "{listen}\nlisten {tls} ssl;\nssl_certificate {};\nssl_certificate_key {};",
        certificates.path("chain.pem"),
        certificates.path("key.pem")
    );
    let addresses = Addresses { gateway: plain, identity, postern };
    let gateway = Running::start_at(Gateway::Nginx, addresses, &[(&listen, &with_tls)]);
    (gateway, format!("wss://localhost:{}/ws", tls.port()))
}

#[test]
fn a_healthy_path_with_tls_passes_each_step() {
    let certificates = Certificates::generate(&["localhost", "127.0.0.1"], (2020, 2090));
    let identity = Identity::start();
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[("POSTERN_COMPRESSION", "on")]);
        let (gateway, url) = nginx_with_tls(identity.address(), postern.address(), &certificates);
        let ca = certificates.path("ca.pem");
        let login = format!("http://{}/identity/login", gateway.address());
        let body = r#"{"email":"john@example.com","password":"password123"}"#;
        let arguments = [
            &url,
            "--ca",
            &ca,
            "--login-url",
            &login,
            "--login-body",
            body,
            "--size",
            "32KiB",
            "--idle",
            "1s",
        ];
        let probed = probe(&arguments);
        probed.passes(&[
            ("name", "localhost is "),
            ("TCP", "accepts connections"),
            ("TLS", "issued by The Authority of the Tests for localhost, 127.0.0.1, "),
            ("gateway", "nginx"),
            ("clock", "agrees"),
            ("login", "200, with a token"),
            ("token", "HS256 token (Authorization), expires in "),
            ("access", "without credentials, the upgrade is refused: 401"),
            ("upgrade", "101"),
            ("compression", "permessage-deflate is negotiated"),
            ("application", "echo"),
            ("round trip", "of 20 pings"),
            ("size", "a message of 32 KiB passes"),
            ("idle", "open after 1.0 s"),
        ]);
        assert!(!probed.lines.iter().any(|line| line.starts_with('-')), "{:?}", probed.lines);
        assert!(!probed.lines.join("\n").contains("eyJ"), "a token is printed: {:?}", probed.lines);

        let printed = probe(&[&arguments[..], &["--json"]].concat()).lines.join("\n");
        let report: Value = serde_json::from_str(&printed).expect("JSON");
        assert_eq!(
            (&report["ok"], &report["url"]),
            (&true.into(), &Value::from(&*url)),
            "{runtime}: {report}"
        );
        let steps = report["steps"].as_array().expect("steps");
        assert_eq!(steps.len(), 14, "{report}");
        assert!(steps.iter().all(|step| step["verdict"] == "passed"), "{report}");
        assert!(steps.iter().any(|step| step["p50_us"].is_u64()), "{report}");
        assert!(!printed.contains("eyJ"), "a token is printed: {printed}");
    }
}

#[test]
fn postern_itself_is_probed_with_the_headers_of_a_gateway() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[]);
        let header = ["--header", "User-ID: 7"];
        probe(&[&url(postern.address(), "/ws"), header[0], header[1]]).passes(&[
            ("gateway", "Postern answers itself"),
            ("access", "without identity headers, Postern refuses"),
            ("compression", "off"),
            ("application", "echo"),
        ]);
        let channels = url(postern.address(), "/connection/websocket");
        probe(&[&channels, header[0], header[1], "--size", "16KiB"])
            .passes(&[("application", "channels: connected to "), ("size", "16 KiB passes")]);
        probe(&[&url(postern.address(), "/ws")]).fails(
            "upgrade",
            "identity_missing",
            "--header 'User-ID: 1'",
        );
    }
}

#[test]
fn faults_before_http_are_named() {
    probe(&["ws://no-such-host.invalid/ws", "--timeout", "40s"])
        .fails("name", "no-such-host.invalid has no address", "DNS record")
        .fails_only(&["name"]);
    let closed = ports::free();
    probe(&[&url(closed, "/ws")])
        .fails("TCP", &format!("{closed} refuses connections"), "start the gateway")
        .fails_only(&["TCP"]);
    let postern = Postern::start(Runtime::Mio, &[]);
    probe(&[&format!("wss://{}/ws", postern.address())]).fails(
        "TLS",
        "does not use TLS",
        "ws:// instead of wss://",
    );
}

#[test]
fn faults_of_tls_are_named() {
    let identity = Identity::start();
    let postern = Postern::start(Runtime::Mio, &[]);
    let wrong_name = Certificates::generate(&["other.example.com"], (2020, 2090));
    let expired = Certificates::generate(&["localhost"], (2020, 2022));
    for (certificates, observation, advice) in [
        (&wrong_name, "not for localhost, but for other.example.com", "subjectAltName"),
        (&expired, "the certificate expired ", "renew the certificate"),
    ] {
        let (_gateway, url) = nginx_with_tls(identity.address(), postern.address(), certificates);
        let ca = certificates.path("ca.pem");
        probe(&[&url, "--ca", &ca]).fails("TLS", observation, advice).fails_only(&["TLS"]);
        probe(&[&url, "--ca", &ca, "--insecure"])
            .fails("TLS", observation, "--insecure")
            .fails("upgrade", "401", "log in");
    }
    let good = Certificates::generate(&["localhost"], (2020, 2090));
    let (_gateway, url) = nginx_with_tls(identity.address(), postern.address(), &good);
    probe(&[&url]).fails(
        "TLS",
        "no trusted authority has signed the certificate: issued by The Authority",
        "--ca",
    );
    probe(&[&url.replace("wss:", "ws:")]).fails("gateway", "expects TLS", "wss:// instead of ws://");
}

#[test]
fn a_missing_route_and_the_refusals_of_identity_are_named() {
    for runtime in Runtime::BOTH {
        let mut chain = Chain::start(Gateway::Traefik, runtime);
        let john = chain.login("john@example.com");
        let (ws, nothing) = (url(chain.address(), "/ws"), url(chain.address(), "/nothing"));
        probe(&[&ws, "--token", &john]).passes(&[
            ("gateway", "Traefik, by the text of its 404"),
            ("token", "HS256 token (Authorization), expires in"),
            ("access", "refused: 401, token_missing"),
            ("application", "echo"),
        ]);
        probe(&[&ws, "--cookie", &format!("access_token={john}")]).passes(&[("token", "(cookie)")]);
        probe(&[&format!("{ws}?token={john}")]).passes(&[("token", "(query)"), ("access", "401")]);
        probe(&[&nothing, "--token", &john])
            .fails("upgrade", "404 from Traefik: 404 page not found", "Path(`/nothing`)")
            .fails_only(&["upgrade"]);
        probe(&[&ws]).fails("upgrade", "401, token_missing", "--login-url");
        let forged = chain.keep_secret(chain.identity.forged_token("john@example.com"));
        probe(&[&ws, "--token", &forged])
            .fails("upgrade", "401, token_invalid", "JWT_SECRET")
            .fails_only(&["upgrade"]);
        let expired = chain.keep_secret(chain.identity.expired_token("john@example.com"));
        let probed = probe(&[&ws, "--token", &expired]);
        probed.fails("token", "it expired 60 min ago", "log in again").fails(
            "upgrade",
            "401, token_expired",
            "log in again",
        );
        assert!(!probed.lines.join("\n").contains("eyJ"), "a token is printed: {:?}", probed.lines);

        let (login, wrong) = (
            format!("http://{}/identity/login", chain.address()),
            r#"{"email":"john@example.com","password":"x"}"#,
        );
        probe(&[&ws, "--login-url", &login, "--login-body", wrong]).fails("login", "401", "--login-body");
        let nowhere = format!("http://{}/identity/login", ports::free());
        probe(&[&ws, "--login-url", &nowhere]).fails(
            "login",
            "no connection can be opened",
            "start Identity",
        );

        chain.postern.process.kill();
        probe(&[&ws, "--token", &john]).fails("upgrade", "502", "docker ps | grep websocket");
        chain.identity.process.kill();
        probe(&[&ws, "--token", &john]).fails("upgrade", "500", "docker ps | grep identity");
    }
}

#[test]
fn the_refusals_of_postern_are_named() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[]);
        let header = ["--header", "User-ID: 7"];
        let ws = url(postern.address(), "/ws");
        probe(&[&url(postern.address(), "/nothing"), header[0], header[1]])
            .fails("upgrade", "404 by Postern, not_found", "POSTERN_PATH")
            .fails_only(&["upgrade"]);
        probe(&[&ws, header[0], header[1], "--origin", "https://evil.example"])
            .fails(
                "upgrade",
                "403 by Postern, origin_not_allowed",
                "https://evil.example to POSTERN_ALLOWED_ORIGINS",
            )
            .fails_only(&["upgrade"]);
        let strict = Postern::start(runtime, &[("POSTERN_TRUSTED_PROXIES", "10.0.0.1")]);
        probe(&[&url(strict.address(), "/ws"), header[0], header[1]])
            .fails("upgrade", "403 by Postern, peer_not_trusted", "POSTERN_TRUSTED_PROXIES")
            .fails_only(&["upgrade"]);
        let closing = Postern::start(runtime, &[("POSTERN_REJECT", "close")]);
        probe(&[&url(closing.address(), "/ws"), header[0], header[1], "--origin", "https://evil.example"])
            .fails("upgrade", "a Close with 4403 origin_not_allowed", "POSTERN_ALLOWED_ORIGINS");
    }
}

/// A change of the configuration of a gateway, and the fault that it makes.
struct Fault<'f> {
    gateway: Gateway,
    change: (&'f str, &'f str),
    arguments: &'f [&'f str],
    step: &'f str,
    observation: &'f str,
    advice: &'f str,
}

#[test]
fn faults_of_gateways_are_named() {
    let identity = Identity::start();
    let john = identity.login("john@example.com");
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[]);
        for fault in [
            Fault {
                gateway: Gateway::Nginx,
                change: ("proxy_set_header Upgrade    $http_upgrade;", "proxy_set_header Upgrade \"\";"),
                arguments: &[],
                step: "upgrade",
                observation: "400 by Postern, upgrade_missing",
                advice: "proxy_set_header Upgrade $http_upgrade",
            },
            Fault {
                gateway: Gateway::Nginx,
                change: ("proxy_buffering off;", "proxy_set_header Sec-WebSocket-Version 8;"),
                arguments: &[],
                step: "upgrade",
                observation: "426 by Postern, websocket_version",
                advice: "removes or changes `Sec-WebSocket-Version: 13`",
            },
            Fault {
                gateway: Gateway::Nginx,
                change: ("proxy_read_timeout 60s;", "proxy_read_timeout 5s;"),
                arguments: &["--idle", "20s"],
                step: "idle",
                observation: "a proxy ends the connection (nginx/",
                advice: "raise `proxy_read_timeout` of nginx, or set POSTERN_PING_INTERVAL to less than ",
            },
            Fault {
                gateway: Gateway::Nginx,
                change: ("proxy_set_header User-ID    $identity_id;", "proxy_set_header User-ID \"\";"),
                arguments: &[],
                step: "upgrade",
                observation: "401 by Postern, identity_missing",
                advice: "auth_request_set",
            },
            Fault {
                gateway: Gateway::Traefik,
                change: ("middlewares: [identity-jwt-validate]", "middlewares: []"),
                arguments: &[],
                step: "access",
                observation: "the gateway does not ask Identity",
                advice: "`forwardAuth`",
            },
            Fault {
                gateway: Gateway::Haproxy,
                change: (
                    "    # No other paths exist.\n",
                    "    http-after-response set-header Date %[date(-600),http_date]\n",
                ),
                arguments: &[],
                step: "clock",
                observation: "the server's clock is 10 min behind this machine's",
                advice: "NTP",
            },
        ] {
            let gateway =
                Running::start(fault.gateway, identity.address(), postern.address(), &[fault.change]);
            let ws = url(gateway.address(), "/ws");
            let probed = probe(&[&[&*ws, "--token", &john], fault.arguments].concat());
            probed.fails(fault.step, fault.observation, fault.advice);
            if fault.step == "idle" {
                // A busy machine notices the end late, but never early.
                let line =
                    probed.lines.iter().find(|line| line.contains("s without traffic")).expect("the time");
                let words: Vec<&str> = line.split(' ').collect();
                let at = words.iter().position(|word| *word == "without").expect("the time");
                let seconds: f64 = words[at - 2].parse().expect("a number");
                assert!((5.0..9.0).contains(&seconds), "{line}");
            }
        }
    }
}

#[test]
fn the_limit_of_messages_is_found() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[("POSTERN_MAX_MESSAGE", "1KiB")]);
        for path in ["/ws", "/connection/websocket"] {
            probe(&[&url(postern.address(), path), "--header", "User-ID: 7", "--size", "64KiB"])
                .fails(
                    "size",
                    "does not pass; the largest that does has 1 KiB: Close 1009",
                    "POSTERN_MAX_MESSAGE",
                )
                .fails_only(&["size"]);
        }
    }
}

#[test]
fn the_first_message_has_the_token() {
    let identity = Identity::start();
    let validate = format!("http://{}/identity/validate", identity.address());
    let (john, forged) = (identity.login("john@example.com"), identity.forged_token("john@example.com"));
    for runtime in Runtime::BOTH {
        let paths = ("POSTERN_FIRST_MESSAGE_PATH", "/ws,/connection/websocket");
        let postern = Postern::start(runtime, &[("POSTERN_AUTH_URL", &validate), paths]);
        let (ws, channels) = (url(postern.address(), "/ws"), url(postern.address(), "/connection/websocket"));
        probe(&[&ws, "--connect-token", &john, "--size", "1KiB"])
            .passes(&[("application", "echo"), ("size", "1 KiB")]);
        probe(&[&channels, "--connect-token", &john]).passes(&[("application", "channels")]);
        probe(&[&ws]).fails("application", "Close 4401 first_message", "--connect-token");
        probe(&[&ws, "--connect-token", &forged]).fails(
            "application",
            "Close 4401 token_refused",
            "log in again",
        );
    }
}

/// Runs `postern connect` with this input. Returns whether it succeeded, its output, and its errors.
fn connect(arguments: &[&str], input: &str) -> (bool, String, String) {
    let mut command = Command::new(Binary::Postern.path());
    command.arg("connect").args(arguments).current_dir(Path::new("/"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).ok();
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn connect_sends_lines_and_prints_messages() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[]);
        let ws = url(postern.address(), "/ws");
        let (is_ok, printed, errors) = connect(&[&ws, "--header", "User-ID: 7"], "Hello\n{\"a\":[1]}\nlast");
        assert!(is_ok, "{errors}");
        assert_eq!(printed, "Hello\n{\n  \"a\": [\n    1\n  ]\n}\nlast\n", "{runtime}: {errors}");
        assert!(postern.wait_for("WebSocket connection closed for user").contains('7'));

        let channels = url(postern.address(), "/connection/websocket");
        let command = r#"{"id":2,"unsubscribe":{"channel":"a"}}"#;
        let (is_ok, printed, errors) = connect(&[&channels, "--header", "User-ID: 7"], command);
        assert!(is_ok && printed.contains("\"version\""), "{runtime}: {printed} {errors}");
        assert!(printed.contains("\"unsubscribe\": {}"), "{runtime}: {printed} {errors}");

        let (is_ok, _, errors) = connect(&[&ws], "Hello");
        assert!(!is_ok && errors.contains("identity_missing") && errors.contains("→"), "{runtime}: {errors}");
        let (is_ok, _, errors) = connect(&[&channels, "--header", "User-ID: 7"], "not a command\n");
        assert!(!is_ok && errors.contains("closed by the server: 3501"), "{runtime}: {errors}");
    }
}

#[test]
fn top_shows_the_figures_of_the_control_port() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(Binary::Postern.path());
        let output = command.arg("top").args(arguments).output().expect("it runs");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    for runtime in Runtime::BOTH {
        let postern = Postern::start_with_control(runtime, &[]);
        let mut open = postern.open();
        open.echo("Hello");
        let url = format!("http://{}", postern.control());
        probe(&[&format!("ws://{}/ws", postern.control())]).fails(
            "upgrade",
            "404",
            "this is the control port",
        );
        let (code, printed, errors) = run(&[&url, "--count", "2", "--interval", "100ms"]);
        assert_eq!(code, Some(0), "{runtime}: {errors}");
        let screens: Vec<&str> = printed.split("postern 0.").skip(1).collect();
        let [first, second] = screens[..] else { panic!("{runtime}: {printed}") };
        assert!(first.contains("\nconnections        1 of "), "{runtime}: {printed}");
        assert!(first.contains("\nmessages received  1 in total, "), "{runtime}: {printed}");
        assert!(second.contains("\nmessages received  0/s, 0 B/s\n"), "{runtime}: {printed}");
        assert!(second.contains(" % of a processor, ") && !second.contains('✗'), "{runtime}: {printed}");
        open.close();
        let (code, _, errors) = run(&[&format!("http://{}", postern.address()), "--count", "1"]);
        assert!(code == Some(1) && errors.contains("without the metrics of Postern"), "{runtime}: {errors}");
    }
    let (code, _, errors) = run(&[&format!("http://{}", ports::free())]);
    assert!(code == Some(1) && errors.contains("start Postern with POSTERN_CONTROL"), "{errors}");
}
