//! The peers that are trusted to identify users.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// The peer of a socket. X-Forwarded-For never counts, because any client can write it.
// Exhaustive on purpose: code that decides which peers are trusted must decide about each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A peer on the network.
    Tcp {
        /// The address. An IPv4 address mapped into IPv6 (`::ffff:10.0.0.1`) counts as the IPv4 one.
        ip: IpAddr,
        /// The port, for the log.
        port: u16,
    },
    /// A process on this host, through a Unix socket: the mode of its file has let it in.
    Unix,
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Peer {
        Peer::Tcp { ip: address.ip().to_canonical(), port: address.port() }
    }
}

/// An address with its port, or `unix:`.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Peer::Tcp { ip, port } => SocketAddr::new(ip.to_canonical(), port).fmt(f),
            Peer::Unix => f.write_str("unix:"),
        }
    }
}

/// Parses a block of addresses, `10.0.0.0/8` or `fd00::/8`; a bare address is a block of one. Bits after the prefix do not
/// count.
// The parser of ipnet reads leading zeros as decimal, and other programs as octal: 010.0.0.0 is 8.0.0.0 to them. The
// parser of `std` refuses them.
pub fn parse_block(text: &str) -> Option<IpNet> {
    match text.split_once('/') {
        Some((ip, prefix)) => IpNet::new(ip.parse().ok()?, prefix.parse().ok()?).ok(),
        None => text.parse::<IpAddr>().ok().map(IpNet::from),
    }
}

/// The peers whose identity headers are trusted. Fails closed: an empty list trusts no peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Creates a list of these blocks.
    pub fn new(blocks: Vec<IpNet>) -> TrustedProxies {
        TrustedProxies(blocks)
    }

    /// Returns the addresses of this host: `127.0.0.0/8` and `::1`.
    pub fn loopback() -> TrustedProxies {
        TrustedProxies::preset(&["127.0.0.0/8", "::1"])
    }

    /// Returns the private networks: RFC 1918 and the unique local addresses of RFC 4193.
    pub fn private() -> TrustedProxies {
        TrustedProxies::preset(&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"])
    }

    /// Returns the shared address space of RFC 6598, 100.64.0.0/10: carrier-grade NAT, Tailscale, the pods of some
    /// clouds.
    pub fn cgnat() -> TrustedProxies {
        TrustedProxies::preset(&["100.64.0.0/10"])
    }

    /// Returns the link-local addresses of RFC 3927 and RFC 4291.
    pub fn link_local() -> TrustedProxies {
        TrustedProxies::preset(&["169.254.0.0/16", "fe80::/10"])
    }

    /// Returns a list that trusts every peer. Any client that reaches the port can then claim to be any user.
    pub fn any() -> TrustedProxies {
        TrustedProxies::preset(&["0.0.0.0/0", "::/0"])
    }

    fn preset(blocks: &[&str]) -> TrustedProxies {
        TrustedProxies(blocks.iter().filter_map(|block| parse_block(block)).collect())
    }

    /// Adds the blocks of another list.
    pub fn extend(&mut self, other: TrustedProxies) {
        self.0.extend(other.0);
    }

    /// Whether the identity headers of this peer are trusted. The headers of a peer on a Unix socket always are: the
    /// mode of its file decides which processes can connect.
    pub fn trusts_peer(&self, peer: Peer) -> bool {
        match peer {
            Peer::Tcp { ip, .. } => self.trusts(ip),
            Peer::Unix => true,
        }
    }

    /// Whether the identity headers of a TCP peer with this address are trusted. An IPv4 address that is mapped into IPv6 is in
    /// IPv4 blocks alone.
    pub fn trusts(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|block| block.contains(&ip))
    }

    /// Whether a block that is not all of its family contains this address: whether it is known to be a proxy.
    pub(super) fn names(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|block| block.prefix_len() > 0 && block.contains(&ip))
    }

    /// Whether all addresses of a family are trusted, which deserves a warning at start.
    pub fn trusts_any(&self) -> bool {
        self.0.iter().any(|block| block.prefix_len() == 0)
    }

    /// Returns the blocks, in the order in which they were given.
    pub fn blocks(&self) -> &[IpNet] {
        &self.0
    }
}

impl Default for TrustedProxies {
    fn default() -> TrustedProxies {
        TrustedProxies::loopback()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(block: &str, ip: &str, inside: bool) {
        let trusted = TrustedProxies::new(vec![parse_block(block).expect("a block")]);
        let ip: IpAddr = ip.parse().expect("an address");
        assert_eq!(trusted.trusts(ip), inside, "{ip} in {block}");
    }

    #[test]
    fn a_block_holds_its_first_and_last_address_and_not_their_neighbours() {
        check("10.0.0.0/8", "10.0.0.0", true);
        check("10.0.0.0/8", "10.255.255.255", true);
        check("10.0.0.0/8", "9.255.255.255", false);
        check("10.0.0.0/8", "11.0.0.0", false);
        check("192.168.7.4", "192.168.7.4", true);
        check("192.168.7.4", "192.168.7.5", false);
        check("0.0.0.0/0", "203.0.113.9", true);
        check("fd00::/8", "fdff::1", true);
        check("fd00::/8", "fe00::1", false);
        check("::/0", "2001:db8::1", true);
        check("::1", "::1", true);
    }

    #[test]
    fn a_mapped_ipv4_address_counts_as_ipv4() {
        check("127.0.0.0/8", "::ffff:127.0.0.1", true);
        check("::/0", "::ffff:127.0.0.1", false);
    }

    #[test]
    fn families_do_not_mix() {
        check("0.0.0.0/0", "::1", false);
        check("::/0", "127.0.0.1", false);
    }

    #[test]
    fn what_is_no_block_is_refused() {
        for text in [
            "",
            "10",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "host",
            "10.0.0.0/8/8",
            "010.0.0.0/8",
        ] {
            assert_eq!(parse_block(text), None, "{text}");
        }
    }

    #[test]
    fn blocks_are_written_as_they_are_read() {
        for (text, written) in
            [("10.0.0.0/8", "10.0.0.0/8"), ("::1", "::1/128"), ("127.0.0.1", "127.0.0.1/32")]
        {
            assert_eq!(parse_block(text).expect("a block").to_string(), written);
        }
        let block = |text: &str| parse_block(text).expect("a block");
        let mut trusted = TrustedProxies::new(vec![block("192.0.2.1")]);
        trusted.extend(TrustedProxies::loopback());
        assert_eq!(trusted.blocks(), [block("192.0.2.1"), block("127.0.0.0/8"), block("::1")]);
    }

    #[test]
    fn a_peer_is_written_as_its_own_family() {
        let peer = |ip: &str| Peer::Tcp { ip: ip.parse().expect("an address"), port: 80 }.to_string();
        assert_eq!(Peer::Unix.to_string(), "unix:");
        assert_eq!(peer("192.0.2.1"), "192.0.2.1:80");
        assert_eq!(peer("::ffff:192.0.2.1"), "192.0.2.1:80");
        assert_eq!(peer("2001:db8::1"), "[2001:db8::1]:80");
    }

    #[test]
    fn the_default_trusts_this_host_alone() {
        let trusted = TrustedProxies::default();
        for (ip, verdict) in
            [("127.0.0.1", true), ("::1", true), ("10.0.0.1", false), ("::ffff:10.0.0.1", false)]
        {
            assert_eq!(trusted.trusts(ip.parse().expect("an address")), verdict, "{ip}");
        }
        assert!(!trusted.trusts_any());
        assert!(TrustedProxies::any().trusts_any());
        let nobody = TrustedProxies::new(Vec::new());
        assert!(!nobody.trusts("127.0.0.1".parse().expect("an address")));
        assert!(!nobody.trusts_peer(Peer::from(SocketAddr::from(([127, 0, 0, 1], 1)))));
        assert!(nobody.trusts_peer(Peer::Unix));
        assert!(trusted.trusts_peer(Peer::from(SocketAddr::from(([127, 0, 0, 1], 1)))));
    }

    #[test]
    fn the_other_presets_are_their_blocks() {
        for (trusted, inside, outside) in [
            (TrustedProxies::cgnat(), ["100.64.0.0", "100.127.255.255"], ["100.63.255.255", "100.128.0.0"]),
            (TrustedProxies::link_local(), ["169.254.0.1", "febf::1"], ["169.253.0.1", "fec0::1"]),
        ] {
            let trusts = |ip: &str| trusted.trusts(ip.parse().expect("an address"));
            assert!(inside.into_iter().all(trusts) && !outside.into_iter().any(trusts), "{trusted:?}");
        }
    }

    #[test]
    fn a_peer_that_is_mapped_into_ipv6_is_an_ipv4_peer() {
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:80".parse().expect("an address");
        assert_eq!(Peer::from(mapped), Peer::from(SocketAddr::from(([192, 0, 2, 1], 80))));
    }

    #[test]
    fn the_private_preset_is_rfc_1918_and_rfc_4193() {
        let trusted = TrustedProxies::private();
        for (ip, verdict) in [
            ("10.1.2.3", true),
            ("172.16.0.1", true),
            ("172.31.255.255", true),
            ("172.32.0.0", false),
            ("192.168.0.1", true),
            ("192.169.0.1", false),
            ("fc00::1", true),
            ("fdff::1", true),
            ("fe80::1", false),
            ("127.0.0.1", false),
        ] {
            assert_eq!(trusted.trusts(ip.parse().expect("an address")), verdict, "{ip}");
        }
    }
}
