//! Settings of a process: all errors are reported at once on standard error, and no port is opened. Settings without an effect
//! are warnings.

use std::fs;
use std::net::TcpStream;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use postern_tests::ports;
use postern_tests::postern::{Postern, Runtime, command};
use postern_tests::process::{Process, Stream};

/// Runs it with these flags, this environment and this `.env`. Returns its exit code, standard output and standard error.
#[track_caller]
fn run(
    runtime: Runtime,
    flags: &[&str],
    environment: &[(&str, &str)],
    dotenv: &str,
) -> (Option<i32>, Vec<String>, Vec<String>) {
    let (mut command, folder) = command(runtime);
    fs::write(folder.path().join(".env"), dotenv).expect("a file");
    command.args(flags).envs(environment.iter().copied());
    let mut process = Process::spawn(&runtime.to_string(), &mut command).expect("it starts");
    let status = process.wait(Duration::from_secs(20)).expect("it ends");
    (status.code(), process.lines_of(Stream::Out), process.lines_of(Stream::Err))
}

#[test]
fn errors_of_all_sources_are_reported_at_once() {
    for runtime in Runtime::BOTH {
        let free = ports::free();
        let (listen, port) = (free.to_string(), free.port().to_string());
        let (code, out, err) = run(
            runtime,
            &["--message-timeout=1h30m", "--prot=1"],
            &[
                ("POSTERN_LISTEN", &listen),
                ("POSTERN_MAX_CONNECTIONS", "-1"),
                ("POSTERN_PRT", &port),
                ("POSTERN_LOG_QUEUE", "1KiB"),
            ],
            "# Ours\nLOG_LEVEL=debug\nPOSTERN_MAX_MESSAGE=1.5MiB\na b\nPOSTERN_TRUSTED_PROXIES=traefik\n",
        );
        assert_eq!((code, out.len()), (Some(2), 0), "{runtime}: {out:?}");
        let mut expected = [
            "--message-timeout=1h30m: a duration has one number and one unit; write 90m",
            "--prot: no such flag; did you mean --port?",
            "POSTERN_MAX_CONNECTIONS=-1: is negative; write a whole number from 0",
            "POSTERN_LOG_QUEUE=1KiB: must be at least 64KiB",
            "POSTERN_PRT: no such setting; did you mean PORT?",
            ".env line 3: POSTERN_MAX_MESSAGE=1.5MiB: a size has no fraction; write 1536KiB",
            ".env line 4: not NAME=value; a value with spaces needs quotation marks around it, and each quotation mark \
             its partner",
            ".env line 5: POSTERN_TRUSTED_PROXIES=traefik: traefik is not a block of addresses: names are not looked \
             up, so write the address of the host or its network; write for example 10.0.0.0/8, or loopback, private, \
             any",
        ]
        .map(|line| format!("{runtime}: {line}"));
        let mut said = err.clone();
        said.sort();
        expected.sort();
        assert_eq!(said, expected, "{runtime}");
        assert!(TcpStream::connect(free).is_err(), "{runtime}");
    }
}

#[test]
fn check_config_checks_a_channels_file_and_opens_no_port() {
    for runtime in Runtime::BOTH {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("channels.toml");
        let path = path.to_str().expect("UTF-8");
        let listen = ports::free().to_string();
        let environment = [("POSTERN_LISTEN", &*listen)];
        fs::write(path, "[namespaces.auction]\nsubscribe_for = [\"auction:*\"]\n").expect("a file");
        let (code, out, err) = run(runtime, &["check-config", path], &environment, "");
        let expected = [
            "the settings are valid",
            "the channels file is valid",
            "without_namespace: no options, so all channels are closed",
            "auction: subscribe_for = [\"auction:*\"]",
        ];
        assert_eq!(
            (code, out, err),
            (Some(0), expected.map(str::to_owned).to_vec(), Vec::new()),
            "{runtime}"
        );

        fs::write(path, "[namespaces.auction]\nhistory_tll = \"5m\"\n").expect("a file");
        let (code, out, err) = run(runtime, &["check-config", path], &environment, "");
        let error = "line 2, column 1: \"history_tll\" is unknown; did you mean history_ttl?";
        assert_eq!((code, out, err), (Some(2), Vec::new(), vec![format!("{runtime}: {path}: {error}")]));
    }
}

#[test]
fn error_of_a_listener_is_one_line_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("taken.sock");
    let _taken = UnixListener::bind(&socket).expect("a socket");
    let missing = format!("unix:{}", folder.path().join("missing/x.sock").display());
    let socket = format!("unix:{}", socket.display());
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[]);
        let (taken, free) = (postern.address().to_string(), ports::free().to_string());
        for format in ["term", "json"] {
            for (listen, control, words) in [
                (taken.as_str(), "off", "another port in PORT or POSTERN_LISTEN"),
                (&free, &taken, "another port in POSTERN_CONTROL"),
                (&socket, "off", "another path in POSTERN_LISTEN"),
                (&missing, "off", "create it, or set another path in POSTERN_LISTEN"),
                // A documentation address (RFC 5737), which no interface has.
                ("192.0.2.1:8080", "off", "no interface of this host has the address"),
            ] {
                let settings =
                    [("POSTERN_LISTEN", listen), ("POSTERN_CONTROL", control), ("LOG_FORMAT", format)];
                let (code, out, err) = run(runtime, &[], &settings, "");
                assert_eq!((code, out.len(), err.len()), (Some(1), 0, 1), "{runtime}: {out:?} {err:?}");
                let [line] = &err[..] else { unreachable!() };
                assert!(
                    line.starts_with(&format!("{runtime}: ")) && line.contains("cannot listen on "),
                    "{line}"
                );
                assert!(line.contains(words), "{line}");
            }
        }
    }
}

#[test]
fn settings_without_an_effect_are_warnings_at_start_and_in_print_config() {
    let settings = [
        ("POSTERN_USER_POLICY", "replace"),
        ("POSTERN_MESSAGE_BURST", "5"),
        ("POSTERN_TRUSTED_PROXIES", "127.0.0.1/8"),
        ("POSTERN_DRAIN_HARD", "1s"),
        ("POSTERN_DRAIN_SPREAD", "2s"),
    ];
    let names =
        ["POSTERN_USER_POLICY", "POSTERN_MESSAGE_BURST", "POSTERN_TRUSTED_PROXIES", "POSTERN_DRAIN_SPREAD"];
    for runtime in Runtime::BOTH {
        let mut postern = Postern::start(runtime, &settings);
        for name in names {
            let line = postern.wait_for(&format!("WARN {name}"));
            assert!(["; set ", "; write ", "; leave "].iter().any(|advice| line.contains(advice)), "{line}");
        }
        assert!(postern.terminate().success(), "{runtime}");
        assert_eq!(postern.count(" WARN POSTERN_"), names.len(), "{runtime}: {:#?}", postern.log());

        let printed = Postern::print_config(runtime, &settings);
        for name in names {
            assert!(
                printed.iter().any(|line| line.starts_with(&format!("# {name}"))),
                "{runtime}: {printed:#?}"
            );
        }
    }
}
