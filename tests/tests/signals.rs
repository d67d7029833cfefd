//! The effects of signals on both binaries while users are connected. No signal that can be caught ends a process
//! without a Close for each of them.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use postern_tests::http::{self, Response};
use postern_tests::issuer::{Signer, claims_of_john, key_set};
use postern_tests::postern::{Postern, Runtime};
use postern_tests::ws::Open;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::json;

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Two signals within 100 ms are one, and a process that wakes late reads them up to 100 ms later.
const LATER: Duration = Duration::from_millis(400);

fn pid(number: u32) -> Pid {
    Pid::from_raw(number.cast_signed()).expect("a process")
}

/// Sends a signal by its number, which also real-time signals have.
fn send(number: u32, to: u32) {
    let status = Command::new("sh").args(["-c", &format!("kill -{number} {to}")]).status().expect("a shell");
    assert!(status.success(), "signal {number}");
}

#[track_caller]
fn assert_ends_well(postern: &mut Postern) {
    let status = postern.process.wait(PATIENCE).expect("it ends");
    assert!(status.success(), "{status}");
    assert_eq!(postern.count("stopping at once"), 0, "{:#?}", postern.log());
}

#[test]
fn signals_without_a_meaning_close_no_connection() {
    for mut postern in Postern::both(&[("LOG_LEVEL", "debug")]) {
        let mut clients: Vec<Open> = (0..3).map(|_| postern.open()).collect();
        for (signal, name) in [
            (Signal::HUP, "SIGHUP"),
            (Signal::USR1, "SIGUSR1"),
            (Signal::ALARM, "SIGALRM"),
            (Signal::VTALARM, "SIGVTALRM"),
            (Signal::PROF, "SIGPROF"),
            (Signal::IO, "SIGIO"),
            (Signal::STKFLT, "number: 16"),
            (Signal::XFSZ, "SIGXFSZ"),
        ] {
            postern.process.signal(signal).expect("a signal");
            postern.wait_for(name);
            clients.iter_mut().for_each(|client| client.echo("still here"));
        }
        for signal in [Signal::PIPE, Signal::CHILD, Signal::URG, Signal::WINCH, Signal::CONT] {
            postern.process.signal(signal).expect("a signal");
            clients.iter_mut().for_each(|client| client.echo("still here"));
        }
        for number in [35, 50, 64] {
            send(number, postern.id());
            postern.wait_for(&format!("number: {number}"));
            clients.iter_mut().for_each(|client| client.echo("still here"));
        }
        // The process is stopped and continued.
        for signal in [Signal::TSTP, Signal::TTIN, Signal::TTOU] {
            postern.process.signal(signal).expect("a signal");
            postern.process.signal(Signal::CONT).expect("a signal");
            clients.iter_mut().for_each(|client| client.echo("still here"));
        }
        postern.open().close();
        postern.process.signal(Signal::TERM).expect("a signal");
        assert!(clients.iter_mut().all(|client| client.close_code() == 1012));
        assert_ends_well(&mut postern);
    }
}

/// `timeout` signals its child, and then the process group of the child.
#[test]
fn signal_that_is_sent_twice_is_one_request() {
    for runtime in Runtime::BOTH {
        for round in 0..12 {
            let signal = if round % 2 == 0 { Signal::TERM } else { Signal::INT };
            // With and without a grace, so that the second signal arrives in every state.
            let grace = if round % 3 == 0 { "300ms" } else { "0" };
            let settings = [("POSTERN_DRAIN_GRACE", grace), ("POSTERN_DRAIN_SPREAD", "300ms")];
            let postern = Postern::with(runtime, &settings).leading().start();
            let mut clients: Vec<Open> = (0..5).map(|_| postern.open()).collect();
            let process = pid(postern.id());
            kill_process(process, signal).expect("a signal");
            thread::sleep(Duration::from_millis(round * 4));
            kill_process_group(process, signal).expect("a signal");
            for client in &mut clients {
                assert!([1001, 1012].contains(&client.close_code()), "{runtime}, round {round}");
            }
            postern.wait_for(" stopped");
            assert_eq!(postern.count("stopping at once"), 0, "{runtime}: {:#?}", postern.log());
        }
    }
}

#[test]
fn first_signal_does_not_end_a_drain_of_an_operator() {
    let settings = [("POSTERN_DRAIN_GRACE", "1s"), ("POSTERN_DRAIN_SPREAD", "0")];
    for mut postern in Postern::both_with_control(&settings) {
        let mut client = postern.open();
        postern.post("/api/drain", &json!({}));
        postern.wait_for("draining");
        postern.process.signal(Signal::TERM).expect("a signal");
        assert_eq!(client.close_code(), 1012);
        assert_ends_well(&mut postern);
    }
}

#[test]
fn sigint_during_a_drain_closes_all_connections_at_once() {
    for mut postern in Postern::both(&[("POSTERN_DRAIN_SPREAD", "1h")]) {
        let mut clients: Vec<Open> = (0..5).map(|_| postern.open()).collect();
        postern.process.signal(Signal::TERM).expect("a signal");
        postern.wait_for("stopping");
        thread::sleep(LATER);
        postern.process.signal(Signal::INT).expect("a signal");
        for client in &mut clients {
            assert!([1001, 1012].contains(&client.close_code()));
        }
        assert_ends_well(&mut postern);
    }
}

#[test]
fn sighup_reads_keys_and_secrets_again_and_closes_no_connection() {
    const SECRETS: [&str; 2] = ["the-first-secret-of-the-gateway", "the-other-secret-of-the-gateway"];
    const KEYS: [&str; 2] = ["the-first-key-of-the-backends", "the-other-key-of-the-backends"];
    for runtime in Runtime::BOTH {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [secret, key, jwks] = ["secret", "key", "jwks.json"].map(|name| folder.path().join(name));
        let signers = [Signer::new("same", 1), Signer::new("same", 2)];
        let write = |index: usize| {
            fs::write(&secret, SECRETS[index]).expect("a file");
            fs::write(&key, KEYS[index]).expect("a file");
            fs::write(&jwks, key_set(&[&signers[index]])).expect("a file");
        };
        write(0);
        let postern = Postern::start_with_control(
            runtime,
            &[
                ("POSTERN_PROXY_SECRET_FILE", secret.to_str().expect("UTF-8")),
                ("POSTERN_API_KEY", ""),
                ("POSTERN_API_KEY_FILE", key.to_str().expect("UTF-8")),
                ("POSTERN_ASSERTION", "custom"),
                ("POSTERN_ASSERTION_HEADER", "X-Assertion"),
                ("POSTERN_ASSERTION_ISSUER", "me"),
                ("POSTERN_ASSERTION_AUDIENCE", "postern"),
                ("POSTERN_ASSERTION_JWKS", jwks.to_str().expect("UTF-8")),
            ],
        );
        let handshake = |secret: usize, signer: usize| {
            postern
                .handshake()
                .header("X-Postern-Secret", SECRETS[secret])
                .header("X-Assertion", &signers[signer].token(&claims_of_john("me", "postern")))
        };
        let asks = |key: usize| -> Response {
            let headers = [("X-API-Key", KEYS[key])];
            http::request(postern.control(), "GET", "/api/info", &headers, b"").expect("an answer")
        };
        let mut before = handshake(0, 0).open();
        assert_eq!((asks(0).status, asks(1).status), (200, 401), "{runtime}");

        write(1);
        assert_eq!(handshake(1, 1).refused().status, 403, "{runtime}: it has not been read again yet");
        kill_process(pid(postern.id()), Signal::HUP).expect("a signal");
        let line = postern.wait_for("SIGHUP: keys and secrets are read again");
        for setting in ["POSTERN_PROXY_SECRET_FILE", "POSTERN_API_KEY_FILE", "POSTERN_ASSERTION_JWKS"] {
            assert!(line.contains(setting), "{runtime}: {line}");
        }
        postern.wait_for("assertion keys changed");
        handshake(1, 1).open().close();
        handshake(0, 1).refused_with(403, "proxy_secret");
        assert_eq!(handshake(1, 0).refused().status, 401, "{runtime}: the key was withdrawn");
        assert_eq!((asks(0).status, asks(1).status), (401, 200), "{runtime}");
        before.echo("still here");

        // Invalid files have no effect, and the log reports them.
        fs::write(&secret, "short").expect("a file");
        fs::remove_file(&key).expect("a file");
        kill_process(pid(postern.id()), Signal::HUP).expect("a signal");
        for setting in ["POSTERN_PROXY_SECRET_FILE", "POSTERN_API_KEY_FILE"] {
            postern.wait_for(&format!("the secrets before it stay valid, setting: {setting}"));
        }
        handshake(1, 1).open().close();
        assert_eq!(asks(1).status, 200, "{runtime}");
        before.echo("still here");
        for line in postern.log() {
            assert!(!SECRETS.iter().chain(&KEYS).any(|secret| line.contains(secret)), "{runtime}: {line}");
        }
    }
}

/// A successor does not inherit the signals that its predecessor ignores or handles. A signal to both stops both.
#[test]
fn successor_handles_signals_like_its_predecessor() {
    for runtime in Runtime::BOTH {
        let settings = [("LOG_LEVEL", "debug"), ("POSTERN_DRAIN_SPREAD", "1h")];
        let postern = Postern::with(runtime, &settings).leading().start();
        let mut old = postern.open();
        kill_process(pid(postern.id()), Signal::USR2).expect("a signal");
        let line = postern.wait_for("a successor is ready");
        let successor: u32 = line.rsplit("successor: ").next().expect("a number").parse().expect("a number");
        let mut new = postern.open();
        for signal in [Signal::USR1, Signal::HUP, Signal::ALARM, Signal::PROF] {
            kill_process_group(pid(postern.id()), signal).expect("a signal");
            old.echo("still here");
            new.echo("still here");
        }
        postern.wait_for("SIGALRM");
        for signal in [Signal::TERM, Signal::INT] {
            // To each process and then to both, as `timeout` does.
            kill_process(pid(postern.id()), signal).expect("a signal");
            kill_process(pid(successor), signal).expect("a signal");
            kill_process_group(pid(postern.id()), signal).expect("a signal");
            thread::sleep(LATER);
        }
        for client in [&mut old, &mut new] {
            assert!([1001, 1012].contains(&client.close_code()), "{runtime}");
        }
        postern.wait_for_count(" stopped", 2);
        assert_eq!(postern.count("stopping at once"), 0, "{runtime}: {:#?}", postern.log());
    }
}

/// As `nohup` and some supervisors start a process.
#[test]
fn signals_that_were_ignored_at_the_start_are_handled() {
    for runtime in Runtime::BOTH {
        let script = "trap '' HUP USR1 USR2 TERM; exec \"$0\"";
        let mut postern = Postern::with(runtime, &[]).by_shell(script).start();
        let mut client = postern.open();
        postern.process.signal(Signal::HUP).expect("a signal");
        postern.wait_for("SIGHUP");
        client.echo("still here");
        postern.process.signal(Signal::TERM).expect("a signal");
        assert_eq!(client.close_code(), 1012, "{runtime}");
        assert_ends_well(&mut postern);
    }
}

/// The kernel sends SIGXFSZ for each write above the limit of file sizes.
#[test]
fn log_file_at_its_size_limit_closes_no_connection() {
    for runtime in Runtime::BOTH {
        let mut postern = Postern::with(runtime, &[]).by_shell("ulimit -f 8; exec \"$0\" > log").start();
        let mut client = postern.open();
        let length = || fs::metadata(postern.folder().join("log")).expect("a file").len();
        let text = "x".repeat(200);
        let mut full = 0;
        while full < 100 {
            let before = length();
            client.echo(text.as_str());
            full = if before >= 4096 && length() == before { full + 1 } else { 0 };
        }
        postern.process.signal(Signal::TERM).expect("a signal");
        assert_eq!(client.close_code(), 1012, "{runtime}");
        assert_ends_well(&mut postern);
    }
}
