//! `cargo chain`: the printed commands work, and no process is left behind.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::binaries::Binary;
use postern_tests::gateway::{Addresses, Gateway, Running};
use postern_tests::identity::Identity;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::process::{Process, Stream};
use postern_tests::{http, ports};
use rustix::process::{Pid, Signal, kill_process};

/// Four free ports, and the flags that name them.
struct Ports([SocketAddr; 4]);

impl Ports {
    fn reserve() -> Self {
        Self([(); 4].map(|()| ports::free()))
    }

    fn flags(&self) -> Vec<String> {
        let flags = FLAGS.iter().zip(self.0);
        flags.flat_map(|(flag, address)| [(*flag).to_owned(), address.port().to_string()]).collect()
    }

    #[track_caller]
    fn assert_free(&self) {
        for address in self.0 {
            TcpListener::bind(address).unwrap_or_else(|error| panic!("{address} is still in use: {error}"));
        }
    }
}

fn spawn(ports: &Ports, flags: &[&str]) -> Process {
    let postern = if flags.contains(&"--smol") { Binary::PosternSmol } else { Binary::Postern };
    let mut command = Command::new(Binary::Chain.path());
    command.arg("--postern").arg(postern.path()).args(flags).args(ports.flags());
    Process::spawn("chain", &mut command).expect("the command starts")
}

fn ready(chain: &Process) {
    chain.wait_for_line(|line| line == "Ctrl-C ends everything.", STARTING).expect("the chain is ready");
}

/// Returns the printed line that starts like this.
fn printed(chain: &Process, start: &str) -> String {
    let lines = chain.lines_of(Stream::Out);
    let line = lines.iter().find(|line| line.trim_start().starts_with(start));
    line.unwrap_or_else(|| panic!("no line starts with {start}")).trim().to_owned()
}

fn shell(script: &str) -> Process {
    let mut shell = Process::spawn("sh", Command::new("sh").args(["-c", script])).expect("sh starts");
    shell.wait(PATIENCE).expect("the commands end");
    shell
}

/// Runs the three printed commands as if pasted into a shell, one after the other.
#[track_caller]
fn check_printed_commands(flags: &[&str], postern: &str) {
    let ports = Ports::reserve();
    let mut chain = spawn(&ports, flags);
    ready(&chain);
    let login = printed(&chain, "TOKEN=");

    let curl = printed(&chain, "curl -i");
    let shell_with_curl = shell(&format!("{login}\n{curl} --max-time 2"));
    let answer = shell_with_curl.lines_of(Stream::Out);
    assert!(answer.iter().any(|line| line.starts_with("HTTP/1.1 101 ")), "{:?}", shell_with_curl.lines());

    let talk = printed(&chain, "PYTHONPATH=");
    // The client ends when its input does; an echo needs a moment before that.
    let talking = shell(&format!("{login}\n(sleep 1; echo 'Hello World'; sleep 1) | {talk}"));
    assert!(talking.lines().iter().any(|line| line.contains("< Hello World")), "{:?}", talking.lines());

    let of = |text: &str| {
        let lines = chain.lines_of(Stream::Out);
        let line = lines.iter().find(|line| line.contains(text));
        line.unwrap_or_else(|| panic!("no line contains {text}")).trim().to_owned()
    };
    let (short, refresh, logout) = (of("\"ttl\":20"), of("/identity/refresh"), of("/identity/logout"));
    let story = shell(&format!("{short}\n(sleep 3) | {talk} &\nsleep 1\n{refresh}\n{logout}\nwait"));
    // A line may follow the prompt of the client.
    let statuses: Vec<String> =
        story.lines_of(Stream::Out).into_iter().filter(|line| line.contains("HTTP/1.1 ")).collect();
    assert!(statuses.iter().any(|line| line.contains(" 204")), "{:?}", story.lines());
    assert!(statuses.iter().any(|line| line.contains(" 200")), "{:?}", story.lines());

    for text in [
        "Credentials of John Doe (123) are revoked, and the connection is closed",
        "WebSocket connection established - User: John Doe (john@example.com) - ID: 123",
        "Message from John Doe (123): Hello World",
        "WebSocket connection closed for user John Doe (123)",
    ] {
        let prefix = format!("{postern:>12} | ");
        chain
            .wait_for_line(|line| line.starts_with(&prefix) && line.contains(text), PATIENCE)
            .expect("Postern's log is printed with its name before it");
    }

    chain.signal(Signal::INT).expect("it runs");
    assert_eq!(chain.wait(PATIENCE).expect("it ends").code(), Some(0));
    ports.assert_free();
}

#[test]
fn printed_commands_work_with_each_binary() {
    check_printed_commands(&[], "postern");
    check_printed_commands(&["--nginx", "--smol"], "postern-smol");
}

#[test]
fn gateways_route_the_page_and_no_other_path() {
    for gateway in Gateway::ALL {
        let (identity, postern) = (Identity::start(), Postern::start(Runtime::Mio, &[]));
        let (identity, postern) = (&identity, &postern);
        let addresses = Addresses {
            gateway: identity.address(),
            identity: identity.address(),
            postern: postern.address(),
        };
        let (from, to) = gateway.with_page(addresses);
        let running = Running::start(gateway, identity.address(), postern.address(), &[(&from, &to)]);
        let get = |path| http::request(running.address(), "GET", path, &[], b"").expect("an answer");
        let page = get("/");
        assert_eq!(page.status, 200, "{gateway}: {page}");
        assert!(page.text().contains("<title>Postern"), "{gateway}: {page}");
        assert_eq!(get("/index.html").status, 404, "{gateway}");
        // The page does not change the authentication.
        assert_eq!(get("/ws").status, 401, "{gateway}");
    }
}

#[test]
fn end_of_one_process_is_named_and_ends_the_others() {
    for name in ["identity", "postern", "traefik"] {
        let ports = Ports::reserve();
        let mut chain = spawn(&ports, &[]);
        ready(&chain);
        let line = printed(&chain, &format!("chain | {name} (process "));
        let id = line.split(['(', ')']).nth(1).and_then(|process| process.strip_prefix("process "));
        let id = id.and_then(|id| id.parse().ok()).and_then(Pid::from_raw).expect("the id is printed");
        kill_process(id, Signal::KILL).expect("it runs");
        assert_eq!(chain.wait(PATIENCE).expect("it ends").code(), Some(1), "{name}");
        let last = chain.lines_of(Stream::Err).pop().unwrap_or_default();
        assert_eq!(last, format!("chain: {name} (process {}) has ended: signal 9", id.as_raw_nonzero()));
        ports.assert_free();
    }
}

/// Listens on a reserved port. The socket that reserved it may exist for another moment in a child that another test is
/// starting, until the child executes its program.
fn hold(address: SocketAddr) -> TcpListener {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpListener::bind(address) {
            Ok(listener) => return listener,
            Err(error) => assert!(Instant::now() < deadline, "{address} is reserved: {error}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn port_in_use_is_named_with_its_flag() {
    for (taken, flag) in FLAGS.into_iter().enumerate() {
        let ports = Ports::reserve();
        let _holder = hold(ports.0[taken]);
        let mut chain = spawn(&ports, &[]);
        assert_eq!(chain.wait(PATIENCE).expect("it ends").code(), Some(1));
        let lines = chain.lines();
        assert!(lines.len() == 1 && lines[0].ends_with(flag), "one clear line expected: {lines:?}");
        assert!(lines[0].contains(&ports.0[taken].to_string()), "{lines:?}");
    }
}

const FLAGS: [&str; 4] = ["--gateway-port", "--identity-port", "--port", "--control-port"];

/// In a clean clone this includes a download.
const STARTING: Duration = Duration::from_secs(600);

const PATIENCE: Duration = Duration::from_secs(60);
