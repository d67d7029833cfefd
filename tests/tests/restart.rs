//! Processes that follow each other on one port: by SIGUSR2, and by a supervisor that keeps the port.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::{Read, Write};
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
use postern_tests::http;
use postern_tests::ports;
use postern_tests::postern::{API_KEY, Postern, Runtime};
use postern_tests::process::Process;
use postern_tests::ws::Handshake;
use rustix::process::{Pid, Signal, kill_process};
use smol::net::TcpStream;
use smol::stream::StreamExt;
use smol::{LocalExecutor, Timer};

/// What became of those who came.
#[derive(Debug, Default)]
struct Tally {
    served: usize,
    /// How often something else happened.
    failed: BTreeMap<String, usize>,
    longest: Duration,
}

/// Comes, says something, hears it back, and goes.
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

/// Two hundred a second visit, until `done`.
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

/// Processes that follow each other by SIGUSR2, and write one log.
struct Dynasty {
    postern: Postern,
    /// The numbers of all of them so far.
    processes: Vec<u32>,
}

impl Dynasty {
    fn start(runtime: Runtime, addresses: &str, settings: &[(&str, &str)]) -> Dynasty {
        let postern = Postern::start_leading(runtime, addresses, settings);
        Dynasty { processes: vec![postern.id()], postern }
    }

    /// The one that serves.
    fn current(&self) -> u32 {
        *self.processes.last().expect("there is a first")
    }

    fn signal(&self, signal: Signal) {
        let process = Pid::from_raw(self.current().cast_signed()).expect("a process");
        kill_process(process, signal).expect("a signal");
    }

    /// Waits for a line that names the number of a process which is not known yet.
    fn newcomer(&self, text: &str) -> u32 {
        let number = |line: &str| -> Option<u32> {
            let number = line.contains(text).then(|| line.rsplit("successor: ").next())??.parse().ok()?;
            (!self.processes.contains(&number)).then_some(number)
        };
        let line = self.postern.process.wait_for_line(|line| number(line).is_some(), PATIENCE);
        number(&line.expect("a successor")).expect("a number")
    }

    /// Has the one that serves start a successor, and waits until that serves.
    fn restart(&mut self) {
        self.signal(Signal::USR2);
        self.processes.push(self.newcomer("a successor serves"));
    }

    fn lines_with(&self, text: &str) -> usize {
        self.postern.log().iter().filter(|line| line.contains(text)).count()
    }

    /// Ends the last, and waits until all have ended.
    fn end(self) {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        let ended = |line: &String| line.contains(" stopped");
        while self.postern.log().iter().filter(|line| ended(line)).count() < self.processes.len() {
            assert!(Instant::now() < deadline, "not all of {:?} have ended", self.processes);
            thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(self.lines_with("stopping at once"), 0);
    }
}

/// How often, if nobody says otherwise.
fn times(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |times| times.parse().expect("a number"))
}

/// `POSTERN_TEST_RESTARTS` says how often.
#[test]
fn it_is_restarted_again_and_again_and_nobody_is_refused() {
    let restarts = times("POSTERN_TEST_RESTARTS", 5);
    for runtime in Runtime::BOTH {
        let settings = [("POSTERN_HANDSHAKE_TIMEOUT", "3s"), ("POSTERN_LOG_MESSAGES", "off")];
        let mut dynasty = Dynasty::start(runtime, "", &settings);
        let to = dynasty.postern.address();
        let mut stays = Handshake::to(to).as_john().open();
        let done = AtomicBool::new(false);
        let tally = thread::scope(|scope| {
            let crowd = scope.spawn(|| visits(to, &done));
            for _ in 0..restarts {
                thread::sleep(Duration::from_millis(300));
                dynasty.restart();
            }
            thread::sleep(Duration::from_millis(300));
            done.store(true, Ordering::Relaxed);
            crowd.join().expect("a crowd")
        });
        let Tally { served, failed, longest } = tally;
        println!(
            "{runtime}: {restarts} restarts, {served} connections served, the slowest in {longest:?}; {failed:?}"
        );
        assert!(failed.is_empty(), "{runtime}: {failed:?}");
        assert!(served > 50 * restarts, "{runtime}: {served}");
        // Whoever is connected to the first of them is told to come again.
        let Message::Close(Some(close)) = stays.receive() else { panic!("{runtime}: no Close") };
        assert_eq!(u16::from(close.code), 1012, "{runtime}");
        while stays.socket.read().is_ok() {}
        dynasty.end();
    }
}

/// Upgrades by a Unix socket. The status line of the answer.
fn knock(path: &Path) -> String {
    let mut stream = UnixStream::connect(path).expect("a connection");
    let to = ([127, 0, 0, 1], 80).into();
    stream.write_all(&Handshake::to(to).as_john().bytes()).expect("the request is taken");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn the_control_port_and_the_file_of_a_socket_go_over() {
    for runtime in Runtime::BOTH {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("postern.sock");
        let control = ports::free();
        let settings = [
            ("POSTERN_CONTROL", control.to_string()),
            ("POSTERN_API_KEY", API_KEY.to_owned()),
            ("POSTERN_HANDSHAKE_TIMEOUT", "1s".to_owned()),
        ];
        let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
        let mut dynasty = Dynasty::start(runtime, &format!(",unix:{}", path.display()), &settings);
        let answering = || {
            let headers = [("X-API-Key", API_KEY)];
            let answer = http::request(control, "GET", "/api/info", &headers, b"").expect("an answer");
            answer.json()["pid"].as_u64().expect("a number")
        };
        for _ in 0..2 {
            assert_eq!(answering(), u64::from(dynasty.current()), "{runtime}");
            let before = dynasty.current();
            dynasty.restart();
            for _ in 0..10 {
                assert_ne!(answering(), u64::from(before), "{runtime}");
                let ready = http::request(control, "GET", "/readyz", &[], b"").expect("an answer");
                assert_eq!(ready.status, 200, "{runtime}");
            }
            assert_eq!(knock(&path), "HTTP/1.1 101", "{runtime}");
        }
        // All but the last end, and leave the file.
        let deadline = Instant::now() + PATIENCE;
        while dynasty.lines_with(" stopped") < 2 {
            assert!(Instant::now() < deadline, "{runtime}");
            thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(knock(&path), "HTTP/1.1 101", "{runtime}");
        dynasty.end();
        assert!(!path.exists(), "{runtime}");
    }
}

#[test]
fn a_successor_that_cannot_serve_leaves_the_old_one_serving() {
    thread::scope(|scope| {
        for runtime in Runtime::BOTH {
            scope.spawn(move || {
                let mut dynasty = Dynasty::start(runtime, "", &[("POSTERN_HANDSHAKE_TIMEOUT", "1s")]);
                let to = dynasty.postern.address();
                let dotenv = dynasty.postern.folder().join(".env");
                let mut open = Handshake::to(to).as_john().open();
                let mut serves_on = |why: &str| {
                    dynasty.postern.wait_for(&format!("so this process serves on: {why}"));
                    open.echo("as if nothing had happened");
                    Handshake::to(to).as_john().open().echo("and whoever comes");
                };
                std::fs::write(&dotenv, "POSTERN_NO_SUCH=1").expect("settings");
                dynasty.signal(Signal::USR2);
                serves_on("it ended before it served: exit status: 2");
                // Nobody writes into it, so whoever reads it waits.
                std::fs::remove_file(&dotenv).expect("a file");
                assert!(Command::new("mkfifo").arg(&dotenv).status().expect("a pipe").success());
                dynasty.signal(Signal::USR2);
                serves_on("it did not serve within 10s");
                std::fs::remove_file(&dotenv).expect("a pipe");
                // Not what the name led to at the start counts, but where it leads now.
                let program = dynasty.postern.program();
                std::fs::remove_file(&program).expect("a link");
                std::fs::write(&program, "#!/bin/sh\nexit 3\n").expect("another version");
                std::fs::set_permissions(&program, Permissions::from_mode(0o700)).expect("to be executed");
                dynasty.signal(Signal::USR2);
                serves_on("it ended before it served: exit status: 3");
                std::fs::remove_file(&program).expect("a file");
                dynasty.signal(Signal::USR2);
                serves_on("it cannot be started");
                symlink(runtime.binary().path(), &program).expect("a link");
                dynasty.restart();
                Handshake::to(to).as_john().open().echo("the last is not hindered");
                dynasty.end();
            });
        }
    });
}

#[test]
fn who_is_told_to_stop_takes_a_successor_that_does_not_serve_yet_along() {
    for runtime in Runtime::BOTH {
        let dynasty = Dynasty::start(runtime, "", &[]);
        let pipe = dynasty.postern.folder().join(".env");
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("a pipe").success());
        dynasty.signal(Signal::USR2);
        let successor = dynasty.newcomer("a successor is started");
        assert!(Path::new(&format!("/proc/{successor}")).exists(), "{runtime}");
        let begun = Instant::now();
        dynasty.end();
        assert!(begun.elapsed() < Duration::from_secs(8), "{runtime}: {:?}", begun.elapsed());
        assert!(!Path::new(&format!("/proc/{successor}")).exists(), "{runtime}");
    }
}

/// `POSTERN_TEST_ACTIVATIONS` says how often.
#[test]
fn a_supervisor_that_keeps_the_port_starts_it_again_and_again_and_nobody_is_refused() {
    let activations = times("POSTERN_TEST_ACTIVATIONS", 3);
    for runtime in Runtime::BOTH {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        // Whoever comes between two processes waits here.
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
        // Nobody is to wait until it is built.
        runtime.binary().path();
        let done = AtomicBool::new(false);
        let (tally, mut last) = thread::scope(|scope| {
            let crowd = scope.spawn(|| visits(to, &done));
            let mut process = activate();
            for _ in 1..activations {
                thread::sleep(Duration::from_millis(300));
                assert!(process.terminate(PATIENCE).expect("it ends").success(), "{runtime}");
                process = activate();
            }
            thread::sleep(Duration::from_millis(300));
            done.store(true, Ordering::Relaxed);
            (crowd.join().expect("a crowd"), process)
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
fn the_file_of_a_socket_that_a_supervisor_keeps_stays() {
    for runtime in Runtime::BOTH {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("postern.sock");
        let socket = UnixListener::bind(&path).expect("a socket");
        for _ in 0..2 {
            let socket = socket.try_clone().expect("a descriptor").into();
            let mut process = Postern::activate(runtime, socket, &[("POSTERN_HANDSHAKE_TIMEOUT", "1s")]);
            assert_eq!(knock(&path), "HTTP/1.1 101", "{runtime}");
            assert!(process.terminate(PATIENCE).expect("it ends").success(), "{runtime}");
            assert!(path.exists(), "{runtime}");
        }
    }
}

#[test]
fn what_is_no_listener_ends_the_start() {
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

/// What a supervisor hears next, but for signs of life.
fn news(ear: &UnixDatagram) -> String {
    let mut words = [0; 256];
    loop {
        let length = ear.recv(&mut words).expect("words");
        let words = String::from_utf8_lossy(&words[..length]).into_owned();
        if words != "WATCHDOG=1" {
            return words;
        }
    }
}

#[test]
fn a_supervisor_hears_of_it() {
    for runtime in Runtime::BOTH {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let ear = UnixDatagram::bind(&path).expect("a socket");
        ear.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let settings = [
            ("NOTIFY_SOCKET", path.to_str().expect("a path")),
            ("WATCHDOG_USEC", "400000"),
            ("POSTERN_HANDSHAKE_TIMEOUT", "1s"),
        ];
        let signs_of_life = |count| {
            let mut words = [0; 256];
            let begun = Instant::now();
            for _ in 0..count {
                let length = ear.recv(&mut words).expect("words");
                assert_eq!(&words[..length], b"WATCHDOG=1", "{runtime}");
            }
            begun.elapsed()
        };
        let mut dynasty = Dynasty::start(runtime, "", &settings);
        let first = dynasty.current();
        assert_eq!(news(&ear), format!("MAINPID={first}\nREADY=1"), "{runtime}");
        let took = signs_of_life(4);
        assert!(took > Duration::from_millis(400) && took < Duration::from_secs(4), "{runtime}: {took:?}");

        dynasty.restart();
        let second = dynasty.current();
        // Each of the two says so: who may be heard depends on NotifyAccess=.
        let mut said = [news(&ear), news(&ear)];
        said.sort();
        let expected = [format!("MAINPID={second}"), format!("MAINPID={second}\nREADY=1")];
        assert_eq!(said, expected, "{runtime}");
        // The first ends, and nobody is told that the service stops.
        let deadline = Instant::now() + PATIENCE;
        while dynasty.lines_with(" stopped") < 1 {
            assert!(Instant::now() < deadline, "{runtime}");
            signs_of_life(1);
        }
        dynasty.signal(Signal::TERM);
        assert_eq!(news(&ear), "STOPPING=1", "{runtime}");
    }
}

/// Ten times what a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(20);
