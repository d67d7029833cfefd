//! The example that ARCHITECTURE.md's "Writing a third runtime" refers to is a runtime.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::Duration;

use postern_tests::binaries::Binary;
use postern_tests::ports;
use postern_tests::process::Process;
use postern_tests::ws::Handshake;

/// Starts the example. Returns it with the descriptor whose end stops it.
fn start() -> (Process, SocketAddr, OwnedFd) {
    let address = ports::free();
    let (input, end) = std::io::pipe().expect("a pipe");
    let mut command = Command::new(Binary::Blocking.path());
    command.arg(address.to_string());
    let mut process =
        Process::spawn_with("blocking", &mut command, OwnedFd::from(input), None).expect("it starts");
    process.wait_until_listening(address, PATIENCE).expect("it listens");
    (process, address, end.into())
}

#[test]
fn example_admits_echoes_refuses_and_closes() {
    let (process, address, _end) = start();
    let mut client = Handshake::to(address).as_john().open();
    client.echo("Hello World");
    client.echo(vec![0_u8, 1, 0xfe, 0xff]);
    // More than one read.
    client.echo(vec![b'x'; 65_536]);
    Handshake::to(address).refused_with(401, "identity_missing");
    // At the same time, in a separate thread.
    Handshake::to(address).as_john().open().close();
    client.close();
    for line in [
        "established: 123",
        "123: Hello World",
        "refused: 401 identity_missing",
        "closed: 123, 1000 closed by the client",
    ] {
        process.wait_for_line(|printed| printed == line, PATIENCE).expect("the line is printed");
    }
}

#[test]
fn unfinished_head_times_out() {
    let (_process, address, _end) = start();
    // An unfinished head is refused after five seconds.
    let mut connection = postern_tests::http::Connection::open(address).expect("it listens");
    connection.send(b"GET /ws HTTP/1.1\r\n").expect("it reads");
    assert_eq!(connection.response().expect("an answer").status, 408);
}

#[test]
fn example_stops_at_the_end_of_its_input() {
    let (mut process, address, end) = start();
    let mut client = Handshake::to(address).as_john().open();
    client.echo("Hello World");
    drop(end);
    assert_eq!(client.close_code(), 1001);
    assert!(process.wait(PATIENCE).expect("it ends").success());
}

const PATIENCE: Duration = Duration::from_secs(20);
