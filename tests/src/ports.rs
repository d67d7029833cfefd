//! Ports that nobody else will take between the choice and the use.
//!
//! The usual way, to bind port 0 and close again, has a gap: until the child listens, the kernel may give the
//! same port to another test or to an outgoing connection. Here the gap is closed on both sides. The candidates
//! lie below the range that Linux takes ports for outgoing connections from (32768 and up), and a port is reserved
//! by holding its UDP namesake: that leaves TCP free for the child, excludes every other test process, and ends
//! with this process, however that ends.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};

/// A loopback address whose port is free now and stays reserved for this process.
pub fn free() -> SocketAddr {
    // Processes that run side by side start at different places and so rarely meet.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    static RESERVED: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());

    let start = std::process::id() as u16;
    for _ in CANDIDATES {
        let step = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(start.wrapping_mul(131));
        let count = CANDIDATES.end() - CANDIDATES.start() + 1;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, CANDIDATES.start() + step % count));
        let Ok(reservation) = UdpSocket::bind(address) else { continue };
        if TcpListener::bind(address).is_ok() {
            RESERVED.lock().unwrap_or_else(PoisonError::into_inner).push(reservation);
            return address;
        }
    }
    panic!("no port of {CANDIDATES:?} is free on {}", Ipv4Addr::LOCALHOST);
}

const CANDIDATES: RangeInclusive<u16> = 20_000..=31_999;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ports_differ_and_can_be_listened_on() {
        let (first, second) = (free(), free());
        assert_ne!(first, second);
        for address in [first, second] {
            TcpListener::bind(address).expect("a reserved port is free for TCP");
        }
    }

    #[test]
    fn a_reserved_port_is_taken_for_every_other_process() {
        // Another process would see what a second socket of this one sees.
        assert!(UdpSocket::bind(free()).is_err());
    }
}
