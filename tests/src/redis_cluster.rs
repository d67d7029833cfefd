//! A Redis Cluster as children of a test.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use crate::redis::Redis;
use crate::{ports, wait_until};

/// Three masters, and a replica of the one that has all keys of Postern.
#[derive(Debug)]
pub struct RedisCluster {
    /// The servers: the master with the keys, the two others, the replica.
    pub servers: [Redis; 4],
    /// The addresses that Postern knows.
    known: [SocketAddr; 4],
    is_tls: bool,
}

/// The differences from the defaults.
#[derive(Debug, Default)]
pub struct Options<'o> {
    /// Arguments of the servers.
    pub arguments: &'o [&'o str],
    /// Whether all of them are known by ports for TLS.
    pub is_tls: bool,
}

impl RedisCluster {
    /// Starts it.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn start() -> RedisCluster {
        RedisCluster::with(&Options::default())
    }

    /// Starts it with options.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn with(options: &Options<'_>) -> RedisCluster {
        let server = |_| {
            let [secure, bus] = [ports::free(), ports::free()];
            let [secure_port, bus_port] = [secure, bus].map(|address| address.port().to_string());
            let tls = if options.is_tls {
                &["--tls-port", &secure_port, "--tls-cluster", "yes", "--tls-replication", "yes"][..]
            } else {
                &[]
            };
            let mode =
                ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", &bus_port];
            // The replica does not wait for others.
            let sync = ["--repl-diskless-sync-delay", "0"];
            let server = Redis::with(&[tls, &mode, &sync, options.arguments].concat());
            let known = if options.is_tls { secure } else { server.address() };
            (server, known, bus)
        };
        let started = [0, 1, 2, 3].map(server);
        for (number, (server, _, _)) in started.iter().enumerate() {
            server.run(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]);
            // Without this, each node learns of the others later.
            for (_, known, bus) in &started[..number] {
                let [host, port, bus] =
                    [known.ip().to_string(), known.port().to_string(), bus.port().to_string()];
                assert_eq!(server.run(&["CLUSTER", "MEET", &host, &port, &bus]), "OK");
            }
        }
        let known = started.each_ref().map(|(_, known, _)| *known);
        let cluster =
            RedisCluster { servers: started.map(|(server, _, _)| server), known, is_tls: options.is_tls };
        cluster.share_slots();
        cluster
    }

    fn share_slots(&self) {
        let slot = self.slot();
        let mut ranges = RANGES;
        ranges.sort_by_key(|range| !range.contains(&slot));
        for (server, range) in self.servers.iter().zip(ranges) {
            let [first, last] = [range.start(), range.end()].map(u16::to_string);
            assert_eq!(server.run(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]), "OK");
        }
        let master = self.id(0);
        wait_until("the nodes know each other", || {
            let knows_all = |server: &Redis| {
                let nodes = server.run(&["CLUSTER", "NODES"]);
                nodes.lines().count() == self.servers.len() && !nodes.contains("handshake")
            };
            self.servers.iter().all(knows_all)
        });
        assert_eq!(self.servers[3].run(&["CLUSTER", "REPLICATE", &master]), "OK");
        wait_until("the cluster is complete, and the replica is known", || {
            let is_complete = |server: &Redis| {
                let nodes = server.run(&["CLUSTER", "NODES"]);
                server.run(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
                    && nodes.lines().filter(|line| line.contains(&format!("slave {master}"))).count() == 1
            };
            self.servers.iter().all(is_complete)
                && self.servers[0].run(&["INFO", "replication"]).contains("state=online")
        });
    }

    /// Returns the URL with the addresses of all nodes.
    pub fn url(&self) -> String {
        self.url_of(&[0, 1, 2, 3])
    }

    /// Returns the URL with the addresses of some nodes.
    pub fn url_of(&self, nodes: &[usize]) -> String {
        let addresses: Vec<String> = nodes.iter().map(|&node| self.known[node].to_string()).collect();
        let scheme = if self.is_tls { "rediss+cluster" } else { "redis+cluster" };
        format!("{scheme}://{}", addresses.join(","))
    }

    /// Returns the address by which Postern knows a node.
    pub fn known(&self, node: usize) -> String {
        self.known[node].to_string()
    }

    /// Returns the slot of all keys of Postern, according to Redis.
    ///
    /// # Panics
    ///
    /// If there is no reply.
    pub fn slot(&self) -> u16 {
        self.servers[1].run(&["CLUSTER", "KEYSLOT", "{postern}:leases"]).parse().expect("a slot")
    }

    /// Returns the id of a node.
    ///
    /// # Panics
    ///
    /// If there is no reply.
    pub fn id(&self, node: usize) -> String {
        self.servers[node].run(&["CLUSTER", "MYID"])
    }

    /// Moves all keys of Postern from one master to another.
    ///
    /// # Panics
    ///
    /// If they cannot be moved.
    pub fn move_slot(&self, from: usize, to: usize) {
        self.begin_move(from, to);
        self.end_move(from, to);
    }

    /// Begins to move the slot with the keys. They stay where they are.
    ///
    /// # Panics
    ///
    /// If it is refused.
    pub fn begin_move(&self, from: usize, to: usize) {
        let slot = self.slot().to_string();
        let set = |server: usize, state: &str, other: usize| {
            let reply = self.servers[server].run(&["CLUSTER", "SETSLOT", &slot, state, &self.id(other)]);
            assert_eq!(reply, "OK");
        };
        set(to, "IMPORTING", from);
        set(from, "MIGRATING", to);
    }

    /// Moves the keys, and ends what [`begin_move`](RedisCluster::begin_move) has begun.
    ///
    /// # Panics
    ///
    /// If they cannot be moved.
    pub fn end_move(&self, from: usize, to: usize) {
        let (slot, target) = (self.slot().to_string(), self.known[to]);
        let [host, port] = [target.ip().to_string(), target.port().to_string()];
        loop {
            let keys = self.servers[from].run(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]);
            if keys.is_empty() {
                break;
            }
            let migrate = ["MIGRATE", &host, &port, "", "0", "5000", "KEYS"];
            let reply = self.servers[from].run(&[&migrate[..], &keys.lines().collect::<Vec<_>>()].concat());
            assert!(reply == "OK" || reply == "NOKEY", "{reply}");
        }
        for server in [to, from] {
            let reply = self.servers[server].run(&["CLUSTER", "SETSLOT", &slot, "NODE", &self.id(to)]);
            assert_eq!(reply, "OK");
        }
    }
}

/// The slots of the masters.
const RANGES: [RangeInclusive<u16>; 3] = [0..=5460, 5461..=10_922, 10_923..=16_383];
