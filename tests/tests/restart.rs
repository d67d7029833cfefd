//! Processes that replace each other on one port: by SIGUSR2, and by a supervisor that keeps the port.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::{Read, Write};
use std::iter;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use async_tungstenite::tungstenite::client::IntoClientRequest;
use async_tungstenite::tungstenite::{self, Message};
use postern_tests::http::Connection;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::process::Process;
use postern_tests::wait_until;
use postern_tests::ws::Handshake;
use rustix::process::{Pid, Signal, kill_process};
use smol::net::TcpStream;
use smol::stream::StreamExt;
use smol::{LocalExecutor, Timer};

/// The results of the clients.
#[derive(Debug, Default)]
struct Tally {
    served: usize,
    /// Errors, with their counts.
    failed: BTreeMap<String, usize>,
    longest: Duration,
}

/// Connects, sends a message, receives its echo, and closes.
async fn visit(to: SocketAddr) -> Result<(), tungstenite::Error> {
    let mut request = format!("ws://{to}/ws").into_client_request()?;
    request.headers_mut().insert("User-ID", "123".parse().expect("a value"));
    let (mut socket, _) = async_tungstenite::client_async(request, TcpStream::connect(to).await?).await?;
    socket.send(Message::text("hello")).await?;
    let heard = socket.next().await.ok_or(tungstenite::Error::ConnectionClosed)??;
    assert_eq!(heard, Message::text("hello"));
    socket.close(None).await?;
    while let Some(message) = socket.next().await {
        match message {
            Ok(_) => {}
            Err(tungstenite::Error::ConnectionClosed) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Starts 200 clients per second, until `done`.
fn visits(to: SocketAddr, done: &AtomicBool) -> Tally {
    let executor = LocalExecutor::new();
    smol::block_on(executor.run(async {
        let mut visitors = Vec::new();
        let mut ticks = Timer::interval(Duration::from_millis(5));
        while !done.load(Ordering::Relaxed) {
            ticks.next().await;
            visitors.push(executor.spawn(async move {
                let begun = Instant::now();
                (visit(to).await, begun.elapsed())
            }));
        }
        let mut tally = Tally::default();
        for visitor in visitors {
            let (outcome, took) = visitor.await;
            tally.longest = tally.longest.max(took);
            match outcome {
                Ok(()) => tally.served += 1,
                Err(error) => *tally.failed.entry(error.to_string()).or_default() += 1,
            }
        }
        tally
    }))
}

/// Processes that replace each other by SIGUSR2, and write one log.
struct Succession {
    postern: Postern,
    /// The ids of all of them so far.
    processes: Vec<u32>,
}

impl Succession {
    fn start(runtime: Runtime, addresses: &str, settings: &[(&str, &str)]) -> Succession {
        let postern = Postern::with(runtime, settings).listening(addresses).leading().start();
        Succession { processes: vec![postern.id()], postern }
    }

    /// Returns the id of the process that serves.
    fn current(&self) -> u32 {
        *self.processes.last().expect("there is a first")
    }

    fn signal(&self, signal: Signal) {
        let process = Pid::from_raw(self.current().cast_signed()).expect("a process");
        kill_process(process, signal).expect("a signal");
    }

    /// Waits for a line with the id of a new process.
    fn new_process(&self, text: &str) -> u32 {
        let number = |line: &str| -> Option<u32> {
            let number = line.contains(text).then(|| line.rsplit("successor: ").next())??.parse().ok()?;
            (!self.processes.contains(&number)).then_some(number)
        };
        let line = self.postern.process.wait_for_line(|line| number(line).is_some(), PATIENCE);
        number(&line.expect("a successor")).expect("a number")
    }

    /// Makes the current process start a successor, and waits until the successor serves.
    fn restart(&mut self) {
        self.signal(Signal::USR2);
        self.processes.push(self.new_process("a successor is ready"));
    }

    /// Stops the last process, and waits until all have ended.
    fn end(self) {
        self.signal(Signal::TERM);
        self.postern.wait_for_count(" stopped", self.processes.len());
        assert_eq!(self.postern.count("stopping at once"), 0);
    }
}

/// Returns the number in a variable, or the default.
fn times(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |times| times.parse().expect("a number"))
}

/// `POSTERN_TEST_RESTARTS` sets the number of restarts.
#[test]
fn restarts_refuse_no_client() {
    let restarts = times("POSTERN_TEST_RESTARTS", 5);
    for (runtime, workers) in Runtime::WITH_WORKERS {
        let settings = [
            ("POSTERN_HANDSHAKE_TIMEOUT", "3s"),
            ("POSTERN_LOG_MESSAGES", "off"),
            ("POSTERN_WORKERS", workers),
        ];
        let mut succession = Succession::start(runtime, "", &settings);
        let to = succession.postern.address();
        let mut stays = Handshake::to(to).as_john().open();
        let done = AtomicBool::new(false);
        let tally = thread::scope(|scope| {
            let clients = scope.spawn(|| visits(to, &done));
            for _ in 0..restarts {
                thread::sleep(Duration::from_millis(300));
                succession.restart();
            }
            thread::sleep(Duration::from_millis(300));
            done.store(true, Ordering::Relaxed);
            clients.join().expect("the clients")
        });
        let Tally { served, failed, longest } = tally;
        println!(
            "{runtime}: {restarts} restarts, {served} connections served, the slowest in {longest:?}; {failed:?}"
        );
        assert!(failed.is_empty(), "{runtime}: {failed:?}");
        assert!(served > 50 * restarts, "{runtime}: {served}");
        assert_eq!(stays.close_code(), 1012, "{runtime}: the first connection");
        succession.end();
    }
}

/// Upgrades through a Unix socket. Returns the beginning of the status line.
fn upgrade_status(path: &Path) -> String {
    let mut stream = UnixStream::connect(path).expect("a connection");
    let to = ([127, 0, 0, 1], 80).into();
    stream.write_all(&Handshake::to(to).as_john().bytes()).expect("the request is taken");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn successor_takes_over_the_control_port_and_the_unix_socket() {
    for runtime in Runtime::BOTH {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("postern.sock");
        let unix = format!(",unix:{}", path.display());
        let settings = [("POSTERN_HANDSHAKE_TIMEOUT", "1s")];
        let postern = Postern::with(runtime, &settings).listening(&unix).control().leading().start();
        let mut succession = Succession { processes: vec![postern.id()], postern };
        let info = |succession: &Succession| {
            succession.postern.get("/api/info").json()["pid"].as_u64().expect("a number")
        };
        for _ in 0..2 {
            assert_eq!(info(&succession), u64::from(succession.current()), "{runtime}");
            let before = succession.current();
            succession.restart();
            for _ in 0..10 {
                assert_ne!(info(&succession), u64::from(before), "{runtime}");
                assert_eq!(succession.postern.get("/readyz").status, 200, "{runtime}");
            }
            assert_eq!(upgrade_status(&path), "HTTP/1.1 101", "{runtime}");
        }
        // All processes except the last end, and do not remove the file.
        succession.postern.wait_for_count(" stopped", 2);
        assert_eq!(upgrade_status(&path), "HTTP/1.1 101", "{runtime}");
        succession.end();
        assert!(!path.exists(), "{runtime}");
    }
}

#[test]
fn process_continues_to_serve_if_its_successor_fails() {
    thread::scope(|scope| {
        for runtime in Runtime::BOTH {
            scope.spawn(move || {
                let mut succession = Succession::start(runtime, "", &[("POSTERN_HANDSHAKE_TIMEOUT", "1s")]);
                let to = succession.postern.address();
                let dotenv = succession.postern.folder().join(".env");
                let mut open = Handshake::to(to).as_john().open();
                let mut check_serves = |why: &str| {
                    succession.postern.wait_for(&format!("so this process continues to serve: {why}"));
                    open.echo("an earlier connection");
                    Handshake::to(to).as_john().open().echo("a new connection");
                };
                std::fs::write(&dotenv, "POSTERN_NO_SUCH=1").expect("settings");
                succession.signal(Signal::USR2);
                check_serves("it ended before it served: exit status: 2");
                // No process writes to the pipe, so a successor that reads it waits.
                std::fs::remove_file(&dotenv).expect("a file");
                assert!(Command::new("mkfifo").arg(&dotenv).status().expect("a pipe").success());
                succession.signal(Signal::USR2);
                check_serves("it did not serve within 10s");
                std::fs::remove_file(&dotenv).expect("a pipe");
                // The successor is the program that now has the name of the first.
                let program = succession.postern.program();
                std::fs::remove_file(&program).expect("a link");
                std::fs::write(&program, "#!/bin/sh\nexit 3\n").expect("another version");
                std::fs::set_permissions(&program, Permissions::from_mode(0o700)).expect("to be executed");
                succession.signal(Signal::USR2);
                check_serves("it ended before it served: exit status: 3");
                std::fs::remove_file(&program).expect("a file");
                succession.signal(Signal::USR2);
                check_serves("it cannot be started");
                symlink(runtime.binary().path(), &program).expect("a link");
                succession.restart();
                Handshake::to(to).as_john().open().echo("the successor serves");
                succession.end();
            });
        }
    });
}

#[test]
fn process_that_stops_ends_a_successor_that_does_not_serve_yet() {
    for runtime in Runtime::BOTH {
        let succession = Succession::start(runtime, "", &[]);
        let pipe = succession.postern.folder().join(".env");
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("a pipe").success());
        succession.signal(Signal::USR2);
        let successor = succession.new_process("a successor is started");
        assert!(Path::new(&format!("/proc/{successor}")).exists(), "{runtime}");
        let begun = Instant::now();
        succession.end();
        assert!(begun.elapsed() < Duration::from_secs(8), "{runtime}: {:?}", begun.elapsed());
        assert!(!Path::new(&format!("/proc/{successor}")).exists(), "{runtime}");
    }
}

#[test]
fn process_with_pid_1_logs_why_it_starts_no_successor() {
    for runtime in Runtime::BOTH {
        let namespace = ["unshare", "--map-root-user", "--pid", "--fork", "--kill-child"];
        let postern = Postern::with(runtime, &[]).under(namespace).start();
        let unshare = postern.id();
        let children = std::fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children"));
        let process = children.expect("unshare runs").trim().parse().ok().and_then(Pid::from_raw);
        let process = process.expect("unshare has one child");
        let mut open = postern.open();
        for count in 1..=2 {
            kill_process(process, Signal::USR2).expect("a signal");
            postern.wait_for_count(
                "ERROR there is no successor, so this process continues to serve: \
                 this process has PID 1, and a successor would be killed when it exits",
                count,
            );
        }
        open.echo("an earlier connection");
        postern.open().echo("a new connection");
        kill_process(process, Signal::TERM).expect("a signal");
        assert_eq!(open.close_code(), 1012, "{runtime}");
        postern.wait_for(" stopped");
        assert_eq!(postern.count("a successor is started"), 0, "{runtime}");
    }
}

/// `POSTERN_TEST_ACTIVATIONS` sets the number of activations.
#[test]
fn activations_by_a_supervisor_refuse_no_client() {
    let activations = times("POSTERN_TEST_ACTIVATIONS", 3);
    for runtime in Runtime::BOTH {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        // Clients that connect between two processes wait in this queue.
        rustix::net::listen(&socket, 4096).expect("a longer queue");
        let to = socket.local_addr().expect("an address");
        let settings = [("POSTERN_HANDSHAKE_TIMEOUT", "1s"), ("POSTERN_LOG_MESSAGES", "off")];
        let activate = || {
            let socket = socket.try_clone().expect("a descriptor").into();
            let process = Postern::activate(runtime, socket, &settings);
            let listens = process.wait_for_line(|line| line.contains(&format!("listens on {to}")), PATIENCE);
            listens.expect("it listens there");
            assert!(process.lines().iter().any(|line| line.contains("listeners are from LISTEN_FDS")));
            process
        };
        let done = AtomicBool::new(false);
        let (tally, mut last) = thread::scope(|scope| {
            let clients = scope.spawn(|| visits(to, &done));
            let mut process = activate();
            for _ in 1..activations {
                thread::sleep(Duration::from_millis(300));
                assert!(process.terminate(PATIENCE).expect("it ends").success(), "{runtime}");
                process = activate();
            }
            thread::sleep(Duration::from_millis(300));
            done.store(true, Ordering::Relaxed);
            (clients.join().expect("the clients"), process)
        });
        assert!(last.terminate(PATIENCE).expect("it ends").success(), "{runtime}");
        let Tally { served, failed, longest } = tally;
        println!(
            "{runtime}: {activations} activations, {served} connections served, the slowest in {longest:?}; {failed:?}"
        );
        assert!(failed.is_empty(), "{runtime}: {failed:?}");
        assert!(served > 50 * activations, "{runtime}: {served}");
    }
}

#[test]
fn stop_of_an_activated_process_waits_for_handshakes_in_progress_only() {
    for runtime in Runtime::BOTH {
        for is_pending in [false, true] {
            let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
            let to = socket.local_addr().expect("an address");
            let settings = [("POSTERN_HANDSHAKE_TIMEOUT", "60s")];
            let socket = socket.try_clone().expect("a descriptor").into();
            let mut process = Postern::activate(runtime, socket, &settings);
            Handshake::to(to).as_john().open().close();
            let mut open = Handshake::to(to).as_john().open();
            let bytes = Handshake::to(to).as_john().bytes();
            let (first, rest) = bytes.split_at(20);
            let mut unfinished = is_pending.then(|| Connection::open(to).expect("a connection"));
            if let Some(unfinished) = &mut unfinished {
                unfinished.send(first).expect("the bytes are taken");
                // A connection that is not accepted yet is left to the next process.
                thread::sleep(Duration::from_millis(300));
            }
            open.echo("before the signal");
            let begun = Instant::now();
            process.signal(Signal::TERM).expect("a signal");
            process.wait_for_line(|line| line.contains("accepted so far"), PATIENCE).expect("it stops");
            if let Some(unfinished) = &mut unfinished {
                thread::sleep(Duration::from_millis(600));
                open.echo("a handshake is in progress");
                unfinished.send(rest).expect("the bytes are taken");
                assert_eq!(unfinished.response().expect("a response").status, 101, "{runtime}");
            }
            assert_eq!(open.close_code(), 1012, "{runtime}");
            assert!(begun.elapsed() < Duration::from_secs(20), "{runtime}: {:?}", begun.elapsed());
            drop(unfinished);
            assert!(process.wait(PATIENCE).expect("it ends").success(), "{runtime}");
        }
    }
}

#[test]
fn unix_socket_of_a_supervisor_is_not_removed() {
    for runtime in Runtime::BOTH {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("postern.sock");
        let socket = UnixListener::bind(&path).expect("a socket");
        for _ in 0..2 {
            let socket = socket.try_clone().expect("a descriptor").into();
            let mut process = Postern::activate(runtime, socket, &[("POSTERN_HANDSHAKE_TIMEOUT", "1s")]);
            assert_eq!(upgrade_status(&path), "HTTP/1.1 101", "{runtime}");
            assert!(process.terminate(PATIENCE).expect("it ends").success(), "{runtime}");
            assert!(path.exists(), "{runtime}");
        }
    }
}

#[test]
fn descriptor_that_is_not_a_listener_ends_the_start() {
    for runtime in Runtime::BOTH {
        let socket = UnixDatagram::unbound().expect("a socket").into();
        let mut process: Process = Postern::activate(runtime, socket, &[]);
        assert_eq!(process.wait(PATIENCE).expect("it ends").code(), Some(1), "{runtime}");
        let lines = process.lines();
        assert!(
            lines.iter().any(|line| line.contains("LISTEN_FDS: cannot listen on its descriptor 0")),
            "{lines:?}"
        );
    }
}

#[test]
fn supervisor_is_notified_of_starts_restarts_and_stops() {
    for runtime in Runtime::BOTH {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let settings = [
            ("NOTIFY_SOCKET", path.to_str().expect("a path")),
            ("WATCHDOG_USEC", "400000"),
            ("POSTERN_HANDSHAKE_TIMEOUT", "1s"),
        ];
        let receive = || {
            let mut bytes = [0; 256];
            let length = socket.recv(&mut bytes).expect("a notification");
            String::from_utf8_lossy(&bytes[..length]).into_owned()
        };
        let next = || iter::repeat_with(receive).find(|text| text != "WATCHDOG=1").expect("a notification");
        let mut succession = Succession::start(runtime, "", &settings);
        let first = succession.current();
        assert_eq!(next(), format!("MAINPID={first}\nREADY=1"), "{runtime}");
        let begun = Instant::now();
        assert_eq!([(); 4].map(|()| receive()), ["WATCHDOG=1"; 4], "{runtime}");
        let took = begun.elapsed();
        assert!(took > Duration::from_millis(400) && took < Duration::from_secs(4), "{runtime}: {took:?}");

        succession.restart();
        let second = succession.current();
        // Both notify the supervisor, because NotifyAccess= may allow only one of them.
        let mut said = [next(), next()];
        said.sort();
        let expected = [format!("MAINPID={second}"), format!("MAINPID={second}\nREADY=1")];
        assert_eq!(said, expected, "{runtime}");
        // The first process ends, and does not report that the service stops.
        wait_until("the first process ends", || {
            assert_eq!(receive(), "WATCHDOG=1", "{runtime}");
            succession.postern.count(" stopped") > 0
        });
        succession.signal(Signal::TERM);
        assert_eq!(next(), "STOPPING=1", "{runtime}");
    }
}

/// Ten times the time that a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(20);
