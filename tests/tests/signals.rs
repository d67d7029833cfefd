//! What signals do to both binaries while users are connected. No signal that can be caught ends a process without a Close
//! for each of them.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::http::{self, Response};
use postern_tests::issuer::{Signer, claims_of_john, key_set};
use postern_tests::ports;
use postern_tests::postern::{API_KEY, Postern, Runtime, command};
use postern_tests::process::Process;
use postern_tests::ws::{Handshake, Open};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::json;
use tempfile::TempDir;
use tungstenite::Message;

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Two signals within 100 ms are one, and a process that wakes late reads them up to 100 ms later.
const LATER: Duration = Duration::from_millis(400);

fn connect(postern: &Postern) -> Open {
    Handshake::to(postern.address()).as_john().open()
}

/// The code of the Close that comes next; the answer to it is sent.
#[track_caller]
fn closed(open: &mut Open) -> u16 {
    let message = open.receive();
    let Message::Close(Some(frame)) = message else { panic!("a Close is expected, not {message:?}") };
    while open.socket.read().is_ok() {}
    frame.code.into()
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(number.cast_signed()).expect("a process")
}

/// Sends a signal by its number, which also real-time signals have.
fn send(number: u32, to: u32) {
    let status = Command::new("sh").args(["-c", &format!("kill -{number} {to}")]).status().expect("a shell");
    assert!(status.success(), "signal {number}");
}

#[track_caller]
fn ends_well(postern: &mut Postern) {
    let status = postern.process.wait(PATIENCE).expect("it ends");
    assert!(status.success(), "{status}");
    let log = postern.log();
    assert!(!log.iter().any(|line| line.contains("stopping at once")), "{log:#?}");
}

#[test]
fn signals_that_ask_for_nothing_cost_nobody_a_connection() {
    for runtime in Runtime::BOTH {
        let mut postern = Postern::start(runtime, &[("LOG_LEVEL", "debug")]);
        let mut clients: Vec<Open> = (0..3).map(|_| connect(&postern)).collect();
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
        // It stands still, and goes on as if nothing had happened.
        for signal in [Signal::TSTP, Signal::TTIN, Signal::TTOU] {
            postern.process.signal(signal).expect("a signal");
            postern.process.signal(Signal::CONT).expect("a signal");
            clients.iter_mut().for_each(|client| client.echo("still here"));
        }
        connect(&postern).close();
        postern.process.signal(Signal::TERM).expect("a signal");
        assert!(clients.iter_mut().all(|client| closed(client) == 1012), "{runtime}");
        ends_well(&mut postern);
    }
}

#[test]
fn signals_that_ask_for_the_end_close_every_connection_first() {
    for runtime in Runtime::BOTH {
        for (signal, code) in
            [(Signal::QUIT, 1001), (Signal::INT, 1001), (Signal::POWER, 1012), (Signal::XCPU, 1012)]
        {
            let mut postern = Postern::start(runtime, &[]);
            let mut clients: Vec<Open> = (0..5).map(|_| connect(&postern)).collect();
            postern.process.signal(signal).expect("a signal");
            for client in &mut clients {
                assert_eq!(closed(client), code, "{runtime}: {signal:?}");
            }
            ends_well(&mut postern);
        }
    }
}

/// `timeout` signals its child, and then the process group in which the child is.
#[test]
fn a_signal_that_is_sent_twice_is_one_request() {
    for runtime in Runtime::BOTH {
        for round in 0..12 {
            let signal = if round % 2 == 0 { Signal::TERM } else { Signal::INT };
            // With and without a grace, so that the second signal meets every state.
            let grace = if round % 3 == 0 { "300ms" } else { "0" };
            let settings = [("POSTERN_DRAIN_GRACE", grace), ("POSTERN_DRAIN_SPREAD", "300ms")];
            let postern = Postern::start_leading(runtime, "", &settings);
            let mut clients: Vec<Open> = (0..5).map(|_| connect(&postern)).collect();
            let process = pid(postern.id());
            kill_process(process, signal).expect("a signal");
            thread::sleep(Duration::from_millis(round * 4));
            kill_process_group(process, signal).expect("a signal");
            for client in &mut clients {
                assert!([1001, 1012].contains(&closed(client)), "{runtime}, round {round}");
            }
            postern.wait_for(" stopped");
            let log = postern.log();
            assert!(!log.iter().any(|line| line.contains("stopping at once")), "{runtime}: {log:#?}");
        }
    }
}

#[test]
fn a_first_signal_never_ends_a_drain_that_an_operator_began() {
    for runtime in Runtime::BOTH {
        let settings = [("POSTERN_DRAIN_GRACE", "1s"), ("POSTERN_DRAIN_SPREAD", "0")];
        let mut postern = Postern::start_with_control(runtime, &settings);
        let mut client = connect(&postern);
        let headers = [("X-API-Key", API_KEY), ("Content-Type", "application/json")];
        http::request(postern.control(), "POST", "/api/drain", &headers, b"{}").expect("an answer");
        postern.wait_for("draining");
        postern.process.signal(Signal::TERM).expect("a signal");
        assert_eq!(closed(&mut client), 1012, "{runtime}");
        ends_well(&mut postern);
    }
}

#[test]
fn an_interrupt_during_a_drain_closes_the_rest_at_once() {
    for runtime in Runtime::BOTH {
        let mut postern = Postern::start(runtime, &[("POSTERN_DRAIN_SPREAD", "1h")]);
        let mut clients: Vec<Open> = (0..5).map(|_| connect(&postern)).collect();
        postern.process.signal(Signal::TERM).expect("a signal");
        postern.wait_for("stopping");
        thread::sleep(LATER);
        postern.process.signal(Signal::INT).expect("a signal");
        for client in &mut clients {
            assert!([1001, 1012].contains(&closed(client)), "{runtime}");
        }
        ends_well(&mut postern);
    }
}

#[test]
fn hup_reads_keys_and_secrets_again_and_closes_nothing() {
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
            Handshake::to(postern.address())
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
        let refused = handshake(0, 1).refused();
        assert_eq!((refused.status, &refused.json()["error"]["code"]), (403, &json!("proxy_secret")));
        assert_eq!(handshake(1, 0).refused().status, 401, "{runtime}: the key was withdrawn");
        assert_eq!((asks(0).status, asks(1).status), (401, 200), "{runtime}");
        before.echo("still here");

        // What cannot be used changes nothing, and the log says so.
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

/// What this process ignores or handles, its successor does not inherit; and a signal to both of them stops both in order.
#[test]
fn a_successor_takes_signals_as_its_predecessor_did() {
    for runtime in Runtime::BOTH {
        let settings = [("LOG_LEVEL", "debug"), ("POSTERN_DRAIN_SPREAD", "1h")];
        let postern = Postern::start_leading(runtime, "", &settings);
        let mut old = connect(&postern);
        kill_process(pid(postern.id()), Signal::USR2).expect("a signal");
        let line = postern.wait_for("a successor serves");
        let successor: u32 = line.rsplit("successor: ").next().expect("a number").parse().expect("a number");
        let mut new = connect(&postern);
        for signal in [Signal::USR1, Signal::HUP, Signal::ALARM, Signal::PROF] {
            kill_process_group(pid(postern.id()), signal).expect("a signal");
            old.echo("still here");
            new.echo("still here");
        }
        postern.wait_for("SIGALRM");
        for signal in [Signal::TERM, Signal::INT] {
            // To each of them and then to both, as `timeout` does.
            kill_process(pid(postern.id()), signal).expect("a signal");
            kill_process(pid(successor), signal).expect("a signal");
            kill_process_group(pid(postern.id()), signal).expect("a signal");
            thread::sleep(LATER);
        }
        for client in [&mut old, &mut new] {
            assert!([1001, 1012].contains(&closed(client)), "{runtime}");
        }
        let begun = Instant::now();
        while postern.log().iter().filter(|line| line.contains(" stopped")).count() < 2 {
            assert!(begun.elapsed() < PATIENCE, "{runtime}: both end");
            thread::sleep(Duration::from_millis(20));
        }
        let log = postern.log();
        assert!(!log.iter().any(|line| line.contains("stopping at once")), "{runtime}: {log:#?}");
    }
}

/// Starts Postern from a shell, in which `script` sets what it inherits; `"$0"` is the binary.
fn start_by_shell(runtime: Runtime, script: &str) -> (Process, SocketAddr, TempDir) {
    let (binary, folder) = command(runtime);
    let address = ports::free();
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(binary.get_program()).current_dir(folder.path()).process_group(0);
    shell.envs([("POSTERN_DRAIN_GRACE", "0"), ("POSTERN_DRAIN_SPREAD", "0"), ("POSTERN_CONTROL", "off")]);
    shell.env("POSTERN_LISTEN", address.to_string());
    let mut process = Process::spawn(&runtime.to_string(), &mut shell).expect("Postern starts");
    process.wait_until_listening(address, PATIENCE).expect("it listens");
    (process, address, folder)
}

/// As `nohup` and some supervisors start a process.
#[test]
fn signals_that_were_ignored_at_the_start_have_their_effect() {
    for runtime in Runtime::BOTH {
        let script = "trap '' HUP USR1 USR2 TERM; exec \"$0\"";
        let (mut process, address, _folder) = start_by_shell(runtime, script);
        let mut client = Handshake::to(address).as_john().open();
        process.signal(Signal::HUP).expect("a signal");
        process.wait_for_line(|line| line.contains("SIGHUP"), PATIENCE).expect("a reload");
        client.echo("still here");
        process.signal(Signal::TERM).expect("a signal");
        assert_eq!(closed(&mut client), 1012, "{runtime}");
        assert!(process.wait(PATIENCE).expect("it ends").success(), "{runtime}");
    }
}

/// The kernel sends SIGXFSZ for each write beyond the limit of file sizes.
#[test]
fn a_log_file_at_its_limit_costs_nobody_a_connection() {
    for runtime in Runtime::BOTH {
        let (mut process, address, folder) = start_by_shell(runtime, "ulimit -f 8; exec \"$0\" > log");
        let mut client = Handshake::to(address).as_john().open();
        let length = || fs::metadata(folder.path().join("log")).expect("a file").len();
        let text = "x".repeat(200);
        let mut full = 0;
        while full < 100 {
            let before = length();
            client.echo(text.as_str());
            full = if before >= 4096 && length() == before { full + 1 } else { 0 };
        }
        process.signal(Signal::TERM).expect("a signal");
        assert_eq!(closed(&mut client), 1012, "{runtime}");
        assert!(process.wait(PATIENCE).expect("it ends").success(), "{runtime}");
    }
}
