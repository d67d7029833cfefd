//! `postern healthcheck`: asks the control port of a running Postern how it is, for whoever can start a program but has
//! no client, such as Docker in an image without a shell.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Whether it lives, which is what a supervisor may start it anew for.
    Live,
    /// Whether it should be sent more users.
    Ready,
}

impl Probe {
    fn path(self) -> &'static str {
        match self {
            Probe::Live => "/livez",
            Probe::Ready => "/readyz",
        }
    }
}

/// Asks at the control address that Postern is started with. What it says is one line: the body of the answer, which is
/// good if the result is.
///
/// # Errors
/// The answer is not 200, or there is none.
pub fn run(control: Option<SocketAddr>, probe: Probe) -> Result<String, Unhealthy> {
    let address = control.ok_or(Unhealthy("POSTERN_CONTROL is off, so there is nobody to ask".to_owned()))?;
    let address = reachable(address);
    let answer = ask(address, probe.path()).map_err(|error| Unhealthy(format!("{address}: {error}")))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let body = body.trim().to_owned();
    match head.split(' ').nth(1) {
        Some("200") => Ok(body),
        Some(_) if !body.is_empty() => Err(Unhealthy(body)),
        Some(_) | None => Err(Unhealthy(format!("{address}: that is no answer of Postern"))),
    }
}

/// Not well, or not there: why, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unhealthy(String);

impl fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unhealthy {}

/// Where somebody on this host reaches who listens on `address`.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

fn ask(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(LONGEST).read_to_string(&mut answer)?;
    Ok(answer)
}

/// Less than what Docker and Kubernetes wait for a probe if nobody says otherwise by much, and more than an answer takes.
const PATIENCE: Duration = Duration::from_secs(3);

/// An answer has less than a kilobyte.
const LONGEST: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn answered(answer: &'static str, probe: Probe) -> (Result<String, Unhealthy>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let n = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..n]).into_owned()
        });
        (run(Some(address), probe), server.join().unwrap())
    }

    #[test]
    fn only_a_200_is_well() {
        let (said, asked) = answered("HTTP/1.1 200 OK\r\nA: b\r\n\r\n{\"status\":\"live\"}\n", Probe::Live);
        assert_eq!(said, Ok("{\"status\":\"live\"}".to_owned()));
        assert!(asked.starts_with("GET /livez HTTP/1.1\r\nHost: 127.0.0.1:"), "{asked}");
        let (said, asked) = answered("HTTP/1.1 503 Service Unavailable\r\n\r\n{\"a\":1}\n", Probe::Ready);
        assert_eq!(said, Err(Unhealthy("{\"a\":1}".to_owned())));
        assert!(asked.starts_with("GET /readyz "), "{asked}");
        for answer in ["", "HTTP/1.1", "SSH-2.0-OpenSSH\r\n", "HTTP/1.1 404 Not Found\r\n\r\n"] {
            let (said, _) = answered(answer, Probe::Live);
            assert!(said.is_err_and(|error| error.to_string().contains("no answer of Postern")), "{answer}");
        }
    }

    #[test]
    fn nobody_there_is_not_well() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = run(Some(address), Probe::Live).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{address}: ")), "{error}");
        let error = run(None, Probe::Live).unwrap_err().to_string();
        assert_eq!(error, "POSTERN_CONTROL is off, so there is nobody to ask");
    }

    #[test]
    fn who_listens_everywhere_is_asked_here() {
        for (listens, asked) in [
            ("0.0.0.0:8081", "127.0.0.1:8081"),
            ("[::]:8081", "[::1]:8081"),
            ("10.0.0.7:8081", "10.0.0.7:8081"),
        ] {
            assert_eq!(reachable(listens.parse().unwrap()).to_string(), asked);
        }
    }
}
