//! Asks a node of a Redis Cluster for the master that has the keys of a prefix.
//!
//! All keys with the prefix are in one of the 16,384 slots of the cluster, and a slot is on one master.

use postern_channels::relay::command::{Cause, Failure};
use redis::ConnectionAddr;
use redis::aio::MultiplexedConnection;

use super::connector::{Answer, HostPort};
use super::encoding;

/// Asks the node with the address `asked`. With `prefers_names`, hosts have the names that they announce.
pub(super) async fn ask(
    connection: &mut MultiplexedConnection,
    slot: u16,
    asked: &HostPort,
    prefers_names: bool,
) -> Result<Answer, Failure> {
    let mut nodes = redis::cmd("CLUSTER");
    nodes.arg("NODES");
    let answer = nodes.query_async::<redis::Value>(connection).await.map_err(|error| {
        if error.detail().is_some_and(|text| text.contains("cluster support disabled")) {
            return Failure::new(
                Cause::Cluster,
                "the server is not in cluster mode; write redis:// or rediss://",
            );
        }
        encoding::failure(&error)
    })?;
    let answer = encoding::text(&answer).and_then(|text| View::parse(text, slot, asked, prefers_names));
    let View { master, nodes } =
        answer.ok_or_else(|| Failure::new(Cause::Protocol, "the answer of the node has another form"))?;
    let ((host, port), epoch) =
        master.ok_or_else(|| Failure::new(Cause::Unreachable, "the slot has no master, or it has failed"))?;
    Ok(Answer { master: ConnectionAddr::Tcp(host, port), epoch, nodes })
}

/// Returns the slot of all keys that contain `{tag}` first: CRC16 (XMODEM) modulo the number of slots.
pub(super) fn slot(tag: &str) -> u16 {
    let shift = |crc: u16, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
    let crc = tag.bytes().fold(0, |crc, byte| (0..8).fold(crc ^ (u16::from(byte) << 8), shift));
    crc % 16_384
}

/// The cluster according to a node.
#[derive(Debug, PartialEq, Eq)]
struct View {
    /// The address and the configuration epoch of the master of the slot, unless it has failed.
    master: Option<(HostPort, u64)>,
    /// The addresses of all nodes that have not failed.
    nodes: Vec<HostPort>,
}

impl View {
    /// Parses the reply to `CLUSTER NODES`. Each line is
    /// `ID IP:PORT@BUS_PORT,HOSTNAME FLAGS MASTER PING PONG EPOCH STATE SLOTS…`.
    fn parse(text: &str, slot: u16, asked: &HostPort, prefers_names: bool) -> Option<View> {
        let mut view = View { master: None, nodes: Vec::new() };
        for line in text.lines() {
            let mut fields = line.split(' ');
            let (address, flags) = (fields.nth(1)?, fields.next()?);
            let epoch = fields.nth(3)?.parse().ok()?;
            let is = |flag: &str| flags.split(',').any(|one| one == flag);
            // `fail?` is the opinion of this node only.
            if is("fail") || is("handshake") || is("noaddr") {
                continue;
            }
            let (known, name) = address.split_once(',').unwrap_or((address, ""));
            let (ip, port) = known.split_once('@').map_or(known, |(known, _)| known).rsplit_once(':')?;
            // Later versions append other properties to the name.
            let name = name.split(',').next().filter(|name| !name.is_empty() && !name.contains('='));
            let port = port.parse().ok()?;
            let node = match name {
                Some(name) if prefers_names || ip.is_empty() => (name.to_owned(), port),
                Some(_) | None if !ip.is_empty() => (ip.to_owned(), port),
                // A node that no other has met does not know its address.
                Some(_) | None if is("myself") => asked.clone(),
                Some(_) | None => continue,
            };
            // The slots that are being moved are in brackets.
            let has = |slots: &str| {
                let (first, last) = slots.split_once('-').unwrap_or((slots, slots));
                let range = first.parse::<u16>().ok().zip(last.parse().ok());
                range.is_some_and(|(first, last)| (first..=last).contains(&slot))
            };
            if is("master") && fields.skip(1).any(has) {
                view.master = Some((node.clone(), epoch));
            }
            view.nodes.push(node);
        }
        Some(view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: &str = "\
07c3 127.0.0.1:7004@17004,node-4 slave e7d1 0 1426238317239 4 connected
67ed 127.0.0.1:7002@17002,node-2 master - 0 1426238316232 2 connected 5461-10922 [5400-<-e7d1]
292f 127.0.0.1:7003@17003, master,fail? - 0 1426238318243 3 connected 10923-16000 16002-16383
6ec2 127.0.0.1:7005@17005,,shard-id=1 master,fail - 0 1426238316232 5 disconnected 16001
824f :0@0 slave,noaddr 292f 0 1426238317741 6 disconnected
aaaa :0@0 handshake - 0 0 0 disconnected
e7d1 :7001@17001 myself,master - 0 0 1 connected 0-5460 [5400->-67ed]
";

    fn host(host: &str, port: u16) -> HostPort {
        (host.to_owned(), port)
    }

    fn parse(slot: u16, prefers_names: bool) -> View {
        View::parse(NODES, slot, &host("redis.example", 7), prefers_names).expect("a view")
    }

    #[test]
    fn a_slot_is_on_the_master_that_has_its_range() {
        for (slot, expected) in [
            (0, Some((host("redis.example", 7), 1))),
            (5400, Some((host("redis.example", 7), 1))),
            (5461, Some((host("127.0.0.1", 7002), 2))),
            (10_922, Some((host("127.0.0.1", 7002), 2))),
            (16_002, Some((host("127.0.0.1", 7003), 3))),
            (16_001, None),
        ] {
            assert_eq!(parse(slot, false).master, expected, "{slot}");
        }
    }

    #[test]
    fn names_are_preferred_for_certificates() {
        assert_eq!(parse(6000, true).master, Some((host("node-2", 7002), 2)));
        assert_eq!(parse(11_000, true).master, Some((host("127.0.0.1", 7003), 3)));
        let only_name = "67ed :7002@17002,node-2 master - 0 0 2 connected 1";
        let view = View::parse(only_name, 1, &host("a", 1), false).expect("a view");
        assert_eq!(view.master, Some((host("node-2", 7002), 2)));
    }

    #[test]
    fn nodes_that_have_failed_or_have_no_address_are_not_known() {
        let expected = [("127.0.0.1", 7004), ("127.0.0.1", 7002), ("127.0.0.1", 7003), ("redis.example", 7)];
        assert_eq!(parse(0, false).nodes, expected.map(|(name, port)| host(name, port)));
    }

    #[test]
    fn an_address_of_ipv6_and_a_version_without_names_are_read() {
        for address in ["::1:7002@17002", "::1:7002"] {
            let line = format!("67ed {address} master - 0 0 2 connected 1");
            let view = View::parse(&line, 1, &host("a", 1), true).expect("a view");
            assert_eq!(view.master, Some((host("::1", 7002), 2)));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in
            ["x", "a 1.2.3.4:5@6 master - 0 0", "a 1.2.3.4:b@6 master - 0 0 1 connected", "a b c d e f g h"]
        {
            assert_eq!(View::parse(text, 0, &host("a", 1), false), None, "{text}");
        }
    }

    #[test]
    fn the_slot_of_a_prefix_is_the_one_of_redis() {
        // The example of the specification: 0x31C3.
        assert_eq!(slot("123456789"), 12_739);
    }
}
