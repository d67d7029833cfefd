//! File descriptors: what is left of them for users, for the control port, and for an answer, when clients take all they
//! can. On both binaries.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::http::{self, Response};
use postern_tests::postern::{Postern, Runtime};
use postern_tests::ws::{Handshake, Open, Outcome};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

/// The limit of open files, and how many clients take what they can: more than that, the queue of the kernel not counted.
const OPEN_FILES: usize = 256;
const SLOW_HEADS: usize = 600;

/// Clients that send the beginning of a request and nothing more, and come back as soon as they are refused.
struct SlowHeads {
    to: SocketAddr,
    streams: Vec<TcpStream>,
}

impl SlowHeads {
    fn new(to: SocketAddr) -> Self {
        let mut heads = Self { to, streams: Vec::new() };
        heads.come_back();
        heads
    }

    fn come_back(&mut self) {
        self.streams.retain_mut(is_open);
        while self.streams.len() < SLOW_HEADS {
            let Ok(mut stream) = TcpStream::connect_timeout(&self.to, Duration::from_secs(1)) else { return };
            // It may have been refused meanwhile.
            let _ = stream.write_all(b"GET /ws HTTP/1.1\r\nHo");
            stream.set_nonblocking(true).expect("it need not wait");
            self.streams.push(stream);
        }
    }
}

/// Whether the other side has not ended the connection.
fn is_open(stream: &mut TcpStream) -> bool {
    loop {
        match stream.read(&mut [0; 1024]) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
}

/// Runs `work` while slow heads attack.
fn under_attack<T>(postern: &Postern, work: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    let mut heads = SlowHeads::new(postern.address());
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                heads.come_back();
                thread::sleep(Duration::from_millis(20));
            }
        });
        let end = End(&is_over);
        let result = work();
        drop(end);
        result
    })
}

/// Ends an attack, also if the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn livez(postern: &Postern) -> Response {
    http::request(postern.control(), "GET", "/livez", &[], b"").expect("the control port answers")
}

/// The value of a metric of this series.
fn metric(postern: &Postern, series: &str) -> u64 {
    let metrics = http::request(postern.control(), "GET", "/metrics", &[], b"").expect("an answer").text();
    let line = metrics.lines().find_map(|line| line.strip_prefix(series));
    line.map_or(0, |value| value.trim().parse().expect("a number"))
}

/// How many descriptors it has.
fn files_of(postern: &Postern) -> usize {
    fs::read_dir(format!("/proc/{}/fd", postern.id())).expect("its descriptors").count()
}

/// The processor time that it has used, in hundredths of a second.
fn ticks_of(postern: &Postern) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", postern.id())).expect("its times");
    let (_, fields) = stat.rsplit_once(") ").expect("the name of the program");
    // proc_pid_stat(5): the state is the third field; utime is the 14th, stime the 15th.
    fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

/// More than a busy machine needs, and less than the five seconds after which a slow head is gone by itself.
const PROMPT: Duration = Duration::from_secs(3);

#[test]
fn slow_heads_that_come_back_keep_out_neither_users_nor_operators() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start_with_open_files(runtime, &[], OPEN_FILES);
        let john = Handshake::to(postern.address()).as_john();
        let mut users: Vec<Open> = (0..10).map(|_| john.open()).collect();
        under_attack(&postern, || {
            let (begin, used) = (Instant::now(), ticks_of(&postern));
            while begin.elapsed() < Duration::from_secs(3) {
                let asked = Instant::now();
                users.push(john.open());
                assert!(asked.elapsed() < PROMPT, "{runtime}: a user waits for {:?}", asked.elapsed());
                let asked = Instant::now();
                assert_eq!(livez(&postern).status, 200, "{runtime}");
                assert!(asked.elapsed() < PROMPT, "{runtime}: an operator waits for {:?}", asked.elapsed());
                let files = files_of(&postern);
                assert!(files < OPEN_FILES - 16, "{runtime}: {files} of {OPEN_FILES} descriptors are in use");
                thread::sleep(Duration::from_millis(200));
            }
            let used = (ticks_of(&postern) - used) as f64 / 100.0;
            let share = used / begin.elapsed().as_secs_f64();
            assert!(share < 0.7, "{runtime}: {share:.2} of a processor");
            users.iter_mut().for_each(|user| user.echo("not disturbed"));
        });
        assert!(metric(&postern, "postern_handshakes_rejected_total{reason=\"crowded\"}") > 0, "{runtime}");
        assert!(!postern.log().iter().any(|line| line.contains("cannot accept connections")), "{runtime}");
    }
}

#[test]
fn slow_heads_give_their_places_to_users_and_users_keep_theirs() {
    let settings = [("POSTERN_MAX_CONNECTIONS", "4"), ("POSTERN_WORKERS", "2")];
    for runtime in Runtime::BOTH {
        let postern = Postern::start_with_open_files(runtime, &settings, 1024);
        let mut slow = SlowHeads { to: postern.address(), streams: Vec::new() };
        for _ in 0..20 {
            let mut stream = TcpStream::connect(postern.address()).expect("it listens");
            stream.write_all(b"GET /ws HTTP/1.1\r\n").expect("the bytes are taken");
            stream.set_nonblocking(true).expect("it need not wait");
            slow.streams.push(stream);
        }
        let john = Handshake::to(postern.address()).as_john();
        let mut users: Vec<Open> = (0..4).map(|_| john.open()).collect();
        let refused = john.refused();
        assert_eq!(
            (refused.status, &refused.json()["error"]["code"]),
            (503, &"overloaded".into()),
            "{runtime}"
        );
        assert!(refused.headers.contains_key("retry-after"), "{runtime}: {refused}");
        users.iter_mut().for_each(|user| user.echo("not disturbed"));
        // The place of a user who has gone is free at once.
        users.remove(0).close();
        users.push(john.open());
        assert_eq!(john.refused().status, 503, "{runtime}");
    }
}

#[test]
fn limits_that_the_descriptors_cannot_hold_are_reduced_with_one_warning_each() {
    let settings = [("POSTERN_MAX_CONNECTIONS", "5000"), ("POSTERN_MAX_HANDSHAKES", "4096")];
    for runtime in Runtime::BOTH {
        let postern = Postern::start_with_open_files(runtime, &settings, OPEN_FILES);
        let holds = |setting: &str| -> usize {
            let line =
                postern.wait_for(&format!("{setting} is more than the limit of open files allows, so "));
            let (_, rest) = line.split_once("allows, so ").expect("it is there");
            let number = rest.split(' ').next().and_then(|number| number.parse().ok()).expect("a number");
            assert!(line.contains("WARN") && line.contains(&format!("open_files: {OPEN_FILES}")), "{line}");
            number
        };
        let (connections, handshakes) =
            (holds("POSTERN_MAX_CONNECTIONS=5000"), holds("POSTERN_MAX_HANDSHAKES=4096"));
        assert!(connections > 50 && connections < OPEN_FILES - 64, "{runtime}: {connections}");
        assert_eq!(handshakes, connections.div_ceil(2), "{runtime}");
        assert_eq!(metric(&postern, "postern_connections_max") as usize, connections, "{runtime}");
        let first = postern.wait_for(" listens on ");
        assert!(
            first.contains(&format!("max_connections: {connections}, max_handshakes: {handshakes}")),
            "{first}"
        );
        let warnings = postern.log().iter().filter(|line| line.contains("limit of open files")).count();
        assert_eq!(warnings, 2, "{runtime}: {:?}", postern.log());
    }
    for runtime in Runtime::BOTH {
        let postern = Postern::start_with_open_files(runtime, &[], OPEN_FILES);
        postern.wait_for("max_handshakes: ");
        let is_warned = postern.log().iter().any(|line| line.contains("limit of open files"));
        assert!(!is_warned, "{runtime}: the defaults follow the limit");
    }
}

#[test]
fn without_descriptors_clients_get_503_operators_an_answer_and_nothing_spins() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start_with_control(runtime, &[]);
        let john = Handshake::to(postern.address()).as_john();
        let mut users: Vec<Open> = (0..20).map(|_| john.open()).collect();
        // What it has now, and no more.
        let process = Pid::from_raw(postern.id().try_into().expect("a process id"));
        let limit = Rlimit { current: Some(files_of(&postern) as u64), ..getrlimit(Resource::Nofile) };
        let before = prlimit(process, Resource::Nofile, limit).expect("the limit of a child can be lowered");
        let mut refused = 0;
        for _ in 0..30 {
            match john.send().expect("an answer, and not a reset") {
                // A descriptor that another use had.
                Outcome::Open(user) => users.push(*user),
                Outcome::Refused(response) => {
                    refused += 1;
                    assert_eq!(
                        (response.status, &response.json()["error"]["code"]),
                        (503, &"overloaded".into())
                    );
                    assert_eq!(response.header("connection"), "close", "{runtime}");
                    let seconds: u32 = response.header("retry-after").parse().expect("seconds");
                    assert!((1..=10).contains(&seconds), "{runtime}: {seconds}");
                }
            }
        }
        assert!(refused >= 25, "{runtime}: {refused} of 30 were refused");
        postern.wait_for("the process has as many descriptors as it may (ulimit -n)");
        for _ in 0..10 {
            assert_eq!(livez(&postern).status, 200, "{runtime}");
        }
        let counted = metric(&postern, "postern_handshakes_rejected_total{reason=\"overloaded\"}");
        assert_eq!(counted, refused, "{runtime}");
        // Some come and stay, without a word.
        let _silent: Vec<TcpStream> =
            (0..50).map(|_| TcpStream::connect(postern.address()).expect("the kernel takes it")).collect();
        let used = ticks_of(&postern);
        thread::sleep(Duration::from_secs(2));
        let used = ticks_of(&postern) - used;
        assert!(used < 50, "{runtime}: {used} of 200 ticks in two seconds");
        users[0].echo("not disturbed");
        // There is room again, first by those who go and then by the limit.
        users.truncate(10);
        users.push(wait_until_open(&john));
        prlimit(process, Resource::Nofile, before).expect("the limit can be raised again");
        for _ in 0..15 {
            users.push(wait_until_open(&john));
        }
        users.iter_mut().for_each(|user| user.echo("all the same"));
    }
}

#[track_caller]
fn wait_until_open(handshake: &Handshake) -> Open {
    for _ in 0..200 {
        match handshake.send() {
            Ok(Outcome::Open(open)) => return *open,
            Ok(Outcome::Refused(_)) | Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
    panic!("there is room, and nobody is admitted");
}
