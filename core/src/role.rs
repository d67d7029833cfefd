//! The two sides of RFC 6455. They differ in masking, and in which side closes the TCP connection first.

use std::fmt;

/// One side: [`Server`] or [`Client`]. A session is compiled for each of them, so the session of a server contains no
/// code for clients.
pub trait Role: sealed::Sealed {
    /// Whether the frames of the peer must be masked, or must not be masked (RFC 6455 §5.1).
    const PEER_MASKS: bool;

    /// Whether this side closes the TCP connection first after the closing handshake (RFC 6455 §7.1.1).
    const CLOSES_FIRST: bool;

    /// Returns the key of the next frame, if this side masks.
    fn masking_key(&mut self) -> Option<[u8; 4]>;
}

/// The side that accepts the connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Server;

impl Role for Server {
    const PEER_MASKS: bool = true;
    const CLOSES_FIRST: bool = true;

    #[inline]
    fn masking_key(&mut self) -> Option<[u8; 4]> {
        None
    }
}

/// The side that opens the connection. Its masking keys are passed in, because the core has no source of randomness.
#[derive(Clone, Copy)]
pub struct Client<K> {
    keys: K,
}

impl<K: FnMut() -> [u8; 4]> Client<K> {
    pub(crate) fn new(keys: K) -> Client<K> {
        Client { keys }
    }
}

impl<K: FnMut() -> [u8; 4]> Role for Client<K> {
    const PEER_MASKS: bool = false;
    const CLOSES_FIRST: bool = false;

    #[inline]
    fn masking_key(&mut self) -> Option<[u8; 4]> {
        Some((self.keys)())
    }
}

impl<K> fmt::Debug for Client<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Server {}
    impl<K> Sealed for super::Client<K> {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_client_masks_and_each_frame_anew() {
        assert_eq!(Server.masking_key(), None);
        let mut next = 0;
        let mut client = Client::new(|| {
            next += 1;
            [next; 4]
        });
        assert_eq!([client.masking_key(), client.masking_key()], [Some([1; 4]), Some([2; 4])]);
        assert_eq!(format!("{client:?}"), "Client", "without what its keys come from");
    }
}
