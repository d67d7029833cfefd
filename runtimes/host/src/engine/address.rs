//! The URL of Redis.

use redis::{ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo};

use super::connector::HostPort;

/// The address of Redis, and the user.
#[derive(Debug, Clone)]
pub(super) struct Address {
    pub(super) place: Place,
    /// The user, the password and the database.
    pub(super) login: RedisConnectionInfo,
    /// Whether all connections are by TLS.
    pub(super) is_tls: bool,
}

/// The way to the master.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Place {
    /// By its address.
    Server(ConnectionAddr),
    /// By asking the sentinels.
    Sentinels {
        /// Their hosts and ports.
        sentinels: Vec<HostPort>,
        /// The name of the master.
        master: String,
    },
    /// By asking the nodes of a cluster.
    Cluster {
        /// Their hosts and ports.
        nodes: Vec<HostPort>,
    },
}

impl Address {
    /// Parses a URL.
    ///
    /// # Errors
    /// The end of a sentence that begins with the setting. It does not quote the URL.
    pub(super) fn parse(text: &str) -> Result<Address, &'static str> {
        if text.starts_with("unix:") || text.starts_with("redis+unix:") {
            return Address::of_server(text, false);
        }
        let (scheme, rest) = text.split_once("://").ok_or(NOT_AN_ADDRESS)?;
        let (protocol, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let is_tls = match protocol {
            "redis" => false,
            "rediss" if rest.contains('#') => return Err(FRAGMENT),
            "rediss" => true,
            _ => return Err(NOT_AN_ADDRESS),
        };
        match kind {
            "sentinel" => Address::of_sentinels(rest, is_tls),
            "cluster" => Address::of_cluster(rest, is_tls),
            // TLS is not a matter of the client library.
            "" => Address::of_server(&format!("redis://{rest}"), is_tls),
            _ => Err(NOT_AN_ADDRESS),
        }
    }

    fn of_server(text: &str, is_tls: bool) -> Result<Address, &'static str> {
        let info = text.into_connection_info().map_err(|_| NOT_AN_ADDRESS)?;
        let place = Place::Server(info.addr().clone());
        Ok(Address { place, login: info.redis_settings().clone(), is_tls })
    }

    /// Parses `USER:PASSWORD@HOST:PORT,HOST:PORT/MASTER_NAME/DATABASE`.
    fn of_sentinels(text: &str, is_tls: bool) -> Result<Address, &'static str> {
        let (user, rest) = split_user(text);
        let (hosts, path) = rest.split_once('/').ok_or(NOT_SENTINELS)?;
        let (master, database) = path.split_once('/').unwrap_or((path, ""));
        // Sentinel itself allows no other names.
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if master.is_empty() || !master.bytes().all(is_allowed) {
            return Err(NOT_SENTINELS);
        }
        let (sentinels, login) = parse_hosts(user, hosts, SENTINEL_PORT, database).ok_or(NOT_SENTINELS)?;
        Ok(Address { place: Place::Sentinels { sentinels, master: master.to_owned() }, login, is_tls })
    }

    /// Parses `USER:PASSWORD@HOST:PORT,HOST:PORT`.
    fn of_cluster(text: &str, is_tls: bool) -> Result<Address, &'static str> {
        let (user, rest) = split_user(text);
        let (hosts, database) = rest.split_once('/').unwrap_or((rest, ""));
        if rest.contains(['?', '#']) {
            return Err(NOT_NODES);
        }
        let (nodes, login) = parse_hosts(user, hosts, PORT, database).ok_or(NOT_NODES)?;
        if login.db() != 0 {
            return Err(DATABASE);
        }
        Ok(Address { place: Place::Cluster { nodes }, login, is_tls })
    }
}

/// Splits `USER:PASSWORD@` off. A password may contain an `@`.
fn split_user(text: &str) -> (&str, &str) {
    match text.rfind('@') {
        Some(at) => text.split_at(at + 1),
        None => ("", text),
    }
}

/// Parses several hosts with the same login.
fn parse_hosts(
    user: &str,
    hosts: &str,
    port: u16,
    database: &str,
) -> Option<(Vec<HostPort>, RedisConnectionInfo)> {
    let mut addresses = Vec::new();
    let mut login = None;
    for host in hosts.split(',') {
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        let port = if has_port { String::new() } else { format!(":{port}") };
        let url = format!("redis://{user}{host}{port}/{database}");
        let info = url.into_connection_info().ok()?;
        let ConnectionAddr::Tcp(host, port) = info.addr() else { return None };
        addresses.push((host.clone(), *port));
        login = Some(info.redis_settings().clone());
    }
    Some((addresses, login?))
}

/// The port of a server without another one.
const PORT: u16 = 6379;

/// The port of a sentinel without another one.
const SENTINEL_PORT: u16 = 26379;

const NOT_AN_ADDRESS: &str = "not an address of Redis; write for example redis://redis.example:6379";

const NOT_SENTINELS: &str = "not the addresses of sentinels and the name of a master; write for example \
                             redis+sentinel://sentinel-1.example:26379,sentinel-2.example:26379/mymaster";

const NOT_NODES: &str = "not the addresses of nodes of a Redis Cluster; write for example \
                         redis+cluster://redis-1.example:6379,redis-2.example:6379";

const DATABASE: &str = "a Redis Cluster has only database 0; leave out the number after the slash";

const FRAGMENT: &str = "certificates are always checked; leave out the part that begins with #";

#[cfg(test)]
mod tests {
    use super::*;

    fn sentinels(address: &Address) -> (Vec<(&str, u16)>, &str) {
        let Place::Sentinels { sentinels, master } = &address.place else { panic!("{address:?}") };
        (sentinels.iter().map(|(host, port)| (host.as_str(), *port)).collect(), master)
    }

    #[test]
    fn a_server_has_a_user_a_database_and_perhaps_tls() {
        for (text, is_tls) in
            [("redis://john:hunter2@redis:1/3", false), ("rediss://john:hunter2@redis:1/3", true)]
        {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.place, Place::Server(ConnectionAddr::Tcp("redis".to_owned(), 1)));
            let login = &address.login;
            assert_eq!((login.username(), login.password(), login.db()), (Some("john"), Some("hunter2"), 3));
            assert_eq!(address.is_tls, is_tls);
        }
        for text in
            ["redis://redis", "rediss://[::1]:6379/", "unix:/run/redis.sock", "redis+unix:/run/redis.sock"]
        {
            assert!(Address::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn sentinels_have_the_name_of_a_master() {
        let address = Address::parse("redis+sentinel://a/mymaster").unwrap();
        assert_eq!(sentinels(&address), (vec![("a", 26379)], "mymaster"));
        assert_eq!((address.login.password(), address.login.db(), address.is_tls), (None, 0, false));
        let address =
            Address::parse("rediss+sentinel://john:hu@nter2@a:1,[::1],[::1]:2,10.0.0.1/my-master/4").unwrap();
        let expected = vec![("a", 1), ("::1", 26379), ("::1", 2), ("10.0.0.1", 26379)];
        assert_eq!(sentinels(&address), (expected, "my-master"));
        let login = &address.login;
        assert_eq!((login.username(), login.password(), login.db()), (Some("john"), Some("hu@nter2"), 4));
        assert!(address.is_tls);
    }

    #[test]
    fn nodes_of_a_cluster_have_one_login_and_the_first_database() {
        let expected =
            [("a", 6379), ("b", 7), ("::1", 6379), ("::1", 2)].map(|(host, port)| (host.to_owned(), port));
        for end in ["", "/", "/0"] {
            let text = format!("rediss+cluster://john:hu@nter2@a,b:7,[::1],[::1]:2{end}");
            let address = Address::parse(&text).unwrap();
            assert_eq!(address.place, Place::Cluster { nodes: expected.to_vec() });
            let login = &address.login;
            assert_eq!((login.username(), login.password(), login.db()), (Some("john"), Some("hu@nter2"), 0));
            assert!(address.is_tls);
        }
        assert!(!Address::parse("redis+cluster://a").unwrap().is_tls);
    }

    #[test]
    fn other_texts_are_refused_without_being_shown() {
        for (text, expected) in [
            ("127.0.0.1:6379", NOT_AN_ADDRESS),
            ("http://hunter2@127.0.0.1", NOT_AN_ADDRESS),
            ("redis://host:port", NOT_AN_ADDRESS),
            ("redis+other://hunter2@host", NOT_AN_ADDRESS),
            ("rediss://user:hunter2@redis/#insecure", FRAGMENT),
            ("redis+sentinel://user:hunter2@redis", NOT_SENTINELS),
            ("redis+sentinel://user:hunter2@redis/", NOT_SENTINELS),
            ("redis+sentinel://a:port/mymaster", NOT_SENTINELS),
            ("redis+sentinel://a,,b/mymaster", NOT_SENTINELS),
            ("redis+sentinel:///mymaster", NOT_SENTINELS),
            ("redis+sentinel://a/mymaster/first", NOT_SENTINELS),
            ("redis+sentinel://a/mymaster?db=1", NOT_SENTINELS),
            ("redis+cluster://", NOT_NODES),
            ("redis+cluster:///", NOT_NODES),
            ("redis+cluster://a?db=3", NOT_NODES),
            ("redis+cluster://a/#insecure", NOT_NODES),
            ("redis+cluster://user:hunter2@a,,b", NOT_NODES),
            ("redis+cluster://user:hunter2@a:port", NOT_NODES),
            ("redis+cluster://user:hunter2@a/mymaster", NOT_NODES),
            ("rediss+cluster://a/#insecure", FRAGMENT),
            ("redis+cluster://user:hunter2@a,b/3", DATABASE),
        ] {
            assert_eq!(Address::parse(text).unwrap_err(), expected, "{text}");
            assert!(!expected.contains("hunter2"));
        }
    }
}
