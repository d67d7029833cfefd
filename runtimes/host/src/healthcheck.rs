//! `postern healthcheck`: sends a health check to the control port of a running Postern. It is for supervisors that
//! can run a program but have no HTTP client, such as Docker with an image without a shell.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// A health check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Whether the process works or should be restarted.
    Live,
    /// Whether the process should be sent more users.
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

/// Sends a health check to the control address in the settings. Returns the body of the response, which is one line.
///
/// # Errors
/// The status of the response is not 200, or there is no response.
pub fn run(control: Option<SocketAddr>, probe: Probe) -> Result<String, Unhealthy> {
    let address = control.ok_or(Unhealthy(CONTROL_IS_OFF.to_owned()))?;
    let address = reachable(address);
    let response = get(address, probe.path()).map_err(|error| Unhealthy(format!("{address}: {error}")))?;
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
    let body = body.trim().to_owned();
    match head.split(' ').nth(1) {
        Some("200") => Ok(body),
        Some(_) if !body.is_empty() => Err(Unhealthy(body)),
        Some(_) | None => Err(Unhealthy(format!("{address}: the response is not from Postern"))),
    }
}

/// Why a health check has failed, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unhealthy(String);

impl fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unhealthy {}

/// Returns the address at which a process on this host reaches a listener on `address`.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut response = String::new();
    stream.take(MAX_RESPONSE).read_to_string(&mut response)?;
    Ok(response)
}

const CONTROL_IS_OFF: &str = "POSTERN_CONTROL is off; the health check needs the control port";

/// The timeout of the connection, of the request and of the response. A response takes less than that, and Docker
/// waits longer for a health check.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The largest response in bytes. Postern's have less than a kilobyte.
const MAX_RESPONSE: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Runs a health check against a server with this response. Returns the result and the request.
    fn check(response: &'static str, probe: Probe) -> (Result<String, Unhealthy>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let n = stream.read(&mut request).unwrap();
            stream.write_all(response.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..n]).into_owned()
        });
        (run(Some(address), probe), server.join().unwrap())
    }

    #[test]
    fn only_a_200_is_healthy() {
        let (result, request) = check("HTTP/1.1 200 OK\r\nA: b\r\n\r\n{\"status\":\"live\"}\n", Probe::Live);
        assert_eq!(result, Ok("{\"status\":\"live\"}".to_owned()));
        assert!(request.starts_with("GET /livez HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        let (result, request) = check("HTTP/1.1 503 Service Unavailable\r\n\r\n{\"a\":1}\n", Probe::Ready);
        assert_eq!(result, Err(Unhealthy("{\"a\":1}".to_owned())));
        assert!(request.starts_with("GET /readyz "), "{request}");
        for response in ["", "HTTP/1.1", "SSH-2.0-OpenSSH\r\n", "HTTP/1.1 404 Not Found\r\n\r\n"] {
            let (result, _) = check(response, Probe::Live);
            assert!(result.is_err_and(|error| error.to_string().contains("not from Postern")), "{response}");
        }
    }

    #[test]
    fn without_a_listener_it_is_unhealthy() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = run(Some(address), Probe::Live).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{address}: ")), "{error}");
        let error = run(None, Probe::Live).unwrap_err().to_string();
        assert_eq!(error, CONTROL_IS_OFF);
    }

    #[test]
    fn a_listener_on_all_addresses_is_reached_at_the_loopback_address() {
        for (listener, reached) in [
            ("0.0.0.0:8081", "127.0.0.1:8081"),
            ("[::]:8081", "[::1]:8081"),
            ("10.0.0.7:8081", "10.0.0.7:8081"),
        ] {
            assert_eq!(reachable(listener.parse().unwrap()).to_string(), reached);
        }
    }
}
