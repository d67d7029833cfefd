//! Ports that no other process takes between their selection and their use.
//!
//! If a test binds port 0 and closes it, the kernel may give the same port to another test or to an outgoing connection before
//! the child listens. Therefore the candidates are below the range of outgoing connections (32768 and up), and the UDP port of
//! the same number is bound: TCP stays free for the child, other test processes skip the port, and the reservation ends with
//! this process.

use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};

/// Returns a loopback address whose port is free now and stays reserved for this process.
pub fn free() -> SocketAddr {
    // Parallel processes start at different places, so they rarely collide.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    static RESERVED: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());

    let start = std::process::id() as u16;
    for _ in CANDIDATES {
        let step = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(start.wrapping_mul(131));
        let count = CANDIDATES.end() - CANDIDATES.start() + 1;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, CANDIDATES.start() + step % count));
        let Ok(reservation) = UdpSocket::bind(address) else { continue };
        // A listener would show it, too. But a child that another thread starts at that time has a copy of the listener until it
        // executes its program: it would accept connections, and the port could not be bound.
        if TcpStream::connect(address).is_err() {
            RESERVED.lock().unwrap_or_else(PoisonError::into_inner).push(reservation);
            return address;
        }
    }
    panic!("no port of {CANDIDATES:?} is free on {}", Ipv4Addr::LOCALHOST);
}

const CANDIDATES: RangeInclusive<u16> = 20_000..=31_999;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn ports_differ_and_are_free_for_tcp() {
        let (first, second) = (free(), free());
        assert_ne!(first, second);
        for address in [first, second] {
            TcpListener::bind(address).expect("a reserved port is free for TCP");
        }
    }

    #[test]
    fn reserved_port_cannot_be_reserved_again() {
        // Another process would see what a second socket of this one sees.
        assert!(UdpSocket::bind(free()).is_err());
    }
}
