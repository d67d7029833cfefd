//! `deploy/dev`: a changed source is served on the same port, an invalid one has no effect, and no process is left. The
//! test changes a copy of the source.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use cargo_chain::without_package;
use postern_tests::postern::Runtime;
use postern_tests::process::{Ending, Process};
use postern_tests::ws::{Handshake, Outcome};
use postern_tests::{ports, workspace};

/// The message of a refusal, before and after the change.
const BEFORE: &str = "no user id: the gateway did not vouch for a user";
const AFTER: &str = "the message after the change";

/// A build of three crates during all other tests.
const PATIENCE: Duration = Duration::from_secs(300);

#[test]
fn changed_source_is_served_on_the_same_port() {
    let copy = tempfile::tempdir().expect("a temporary folder");
    for item in [
        "Cargo.toml",
        "Cargo.lock",
        "core",
        "runtimes",
        "channels",
        "clients",
        "simulation",
        "tools",
        "deploy/dev",
        "tests/Cargo.toml",
        "tests/src",
        "tests/tests",
    ] {
        copy_all(&workspace::path(item), &copy.path().join(item));
    }
    copy_all(&workspace::path("benches/Cargo.toml"), &copy.path().join("benches/Cargo.toml"));
    copy_all(&workspace::path("benches/src"), &copy.path().join("benches/src"));
    copy_all(&workspace::path("benches/benches"), &copy.path().join("benches/benches"));

    // The second binary reverts the change of the first.
    for (runtime, before, after) in [(Runtime::Mio, BEFORE, AFTER), (Runtime::Smol, AFTER, BEFORE)] {
        let address = ports::free();
        let mut dev = start(runtime, copy.path(), address);
        wait_until_served(address, before, &dev);
        let mut client = Handshake::to(address).as_john().open();
        client.echo("before");

        let refusals = copy.path().join("core/src/handshake/error.rs");
        let good = fs::read_to_string(&refusals).expect("it is there");
        assert!(good.contains(before), "the line to change is elsewhere");
        fs::write(&refusals, "this is not Rust").expect("it can be written");
        dev.wait_for_line(|line| line.contains("could not compile"), PATIENCE).expect("the compiler says so");
        client.echo("a source that does not compile has no effect");

        fs::write(&refusals, good.replace(before, after)).expect("it can be written");
        wait_until_served(address, after, &dev);
        assert_eq!(client.close_code(), 1012, "{runtime}");
        Handshake::to(address).as_john().open().echo("after");

        let status = dev.terminate(PATIENCE).expect("it ends");
        assert_eq!(status.code(), Some(143), "{runtime}");
        let connected = std::net::TcpStream::connect(address);
        assert!(connected.is_err(), "{runtime}: a process still listens");
    }
}

/// Starts `deploy/dev` in the copy, on a port.
#[track_caller]
fn start(runtime: Runtime, copy: &Path, address: SocketAddr) -> Process {
    let mut command = Command::new(copy.join("deploy/dev"));
    if runtime == Runtime::Smol {
        command.arg("--smol");
    }
    without_package(&mut command);
    command
        // Optional features take minutes to compile.
        .arg("--no-default-features")
        // Dependencies come from the workspace's target folder. The build of the copy has its own.
        .env("CARGO_BUILD_BUILD_DIR", workspace::path("target"))
        .env("CARGO_TARGET_DIR", copy.join("target"))
        .env("PORT", address.port().to_string())
        .env("POSTERN_LISTEN", address.to_string())
        .env("POSTERN_CONTROL", "off")
        // The client answers no ping while the compiler runs.
        .env("POSTERN_PING_INTERVAL", "0")
        .env("LOG_LEVEL", "info");
    Process::spawn(&format!("dev-{runtime}"), &mut command).expect("it starts").ending(Ending::Terminate)
}

/// Connects without a user until the refusal has this text.
#[track_caller]
fn wait_until_served(address: SocketAddr, text: &str, dev: &Process) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Ok(Outcome::Refused(answer)) = Handshake::to(address).send()
            && answer.text().contains(text)
        {
            return;
        }
        assert!(Instant::now() < deadline, "{text:?} is not served:\n{}", dev.lines().join("\n"));
        thread::sleep(Duration::from_millis(100));
    }
}

/// Copies a file or a folder.
fn copy_all(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).expect("it can be created");
        for entry in fs::read_dir(from).expect("it is a folder") {
            let entry = entry.expect("it is readable");
            copy_all(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::create_dir_all(to.parent().expect("it is in a folder")).expect("it can be created");
        fs::copy(from, to).expect("it can be copied");
    }
}
