//! The command line of `cargo chain`.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::example::Example;
use crate::gateway::{Addresses, Gateway};

/// The command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Args {
    /// The gateway to run.
    pub gateway: Gateway,
    /// The package of Postern, which is also the name of its binary.
    pub package: &'static str,
    /// The build of Postern to run.
    pub build: Build,
    /// The addresses of all three, on the loopback interface.
    pub addresses: Addresses,
    /// The address of Postern's control port.
    pub control: SocketAddr,
    /// The number of Posterns. The ports of the second are two above the ports of the first, and so on.
    pub count: u16,
    /// The address of Redis, if it runs.
    pub redis: Option<SocketAddr>,
    /// The address of RabbitMQ, if it runs. It uses the next two ports, too.
    pub rabbitmq: Option<SocketAddr>,
    /// The example to serve.
    pub example: Option<Example>,
}

/// A build of Postern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Build {
    /// The build of the release profile.
    Release,
    /// The build of the dev profile.
    Dev,
    /// The binary at this path.
    File(PathBuf),
}

impl Args {
    /// Parses the command line. The first word is the name of the program.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let matches = command().try_get_matches_from(words)?;
        let count = *matches.get_one(NODES).expect("the flag has a default");
        let example = matches.get_one::<String>(EXAMPLE).map(|name| Example::named(name));
        if example.is_some() && count > 1 && !matches.get_flag("redis") {
            let message = "with --example, several nodes need --redis: without it, each has other channels";
            return Err(command().error(ErrorKind::MissingRequiredArgument, message));
        }
        Ok(Self {
            gateway: if matches.get_flag("nginx") { Gateway::Nginx } else { Gateway::Traefik },
            package: if matches.get_flag("smol") { "postern-smol" } else { "postern" },
            build: match matches.get_one::<PathBuf>(POSTERN) {
                Some(file) => Build::File(file.clone()),
                None if matches.get_flag("dev") => Build::Dev,
                None => Build::Release,
            },
            addresses: Addresses {
                gateway: address(&matches, GATEWAY_PORT),
                identity: address(&matches, IDENTITY_PORT),
                postern: address(&matches, PORT),
            },
            control: address(&matches, CONTROL_PORT),
            count,
            redis: matches.get_flag("redis").then(|| address(&matches, REDIS_PORT)),
            rabbitmq: matches.get_flag("rabbitmq").then(|| address(&matches, RABBITMQ_PORT)),
            example,
        })
    }
}

/// One of the Posterns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name in the output.
    pub name: String,
    /// The address for clients.
    pub data: SocketAddr,
    /// The address of its control port.
    pub control: SocketAddr,
}

impl Args {
    /// Returns the Posterns to run.
    pub fn nodes(&self) -> impl Iterator<Item = Node> {
        let above = |address: SocketAddr, index: u16| -> SocketAddr {
            (address.ip(), address.port().saturating_add(2 * index)).into()
        };
        (0..self.count).map(move |index| Node {
            name: match self.count {
                1 => self.package.to_owned(),
                _ => format!("{} {}", self.package, index + 1),
            },
            data: above(self.addresses.postern, index),
            control: above(self.control, index),
        })
    }
}

/// The names of the flags for the ports.
pub(super) const GATEWAY_PORT: &str = "gateway-port";
pub(super) const IDENTITY_PORT: &str = "identity-port";
pub(super) const PORT: &str = "port";
pub(super) const CONTROL_PORT: &str = "control-port";
pub(super) const REDIS_PORT: &str = "redis-port";
pub(super) const RABBITMQ_PORT: &str = "rabbitmq-port";

const NODES: &str = "nodes";

const EXAMPLE: &str = "example";

const POSTERN: &str = "postern";

fn command() -> Command {
    let flag = |name, help| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    let port = |name, default, help| {
        Arg::new(name)
            .long(name)
            .value_name("PORT")
            .value_parser(value_parser!(u16).range(1..))
            .default_value(default)
            .help(help)
    };
    Command::new("cargo chain")
        .bin_name("cargo chain")
        .about("Runs the Identity service, a gateway and Postern on this machine, without Docker")
        .arg(flag("smol", "Run postern-smol instead of postern"))
        .arg(flag("nginx", "Run nginx instead of Traefik").conflicts_with(NODES))
        .arg(flag("dev", "Use the dev profile for Postern: faster to build, slower to run"))
        .arg(
            Arg::new(POSTERN)
                .long(POSTERN)
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .conflicts_with("dev")
                .help("Run this binary of Postern instead of building one; with --smol it must be postern-smol"),
        )
        .arg(
            Arg::new(NODES)
                .long(NODES)
                .value_name("N")
                .value_parser(value_parser!(u16).range(1..=9))
                .default_value("1")
                .help("Run this many Posterns behind Traefik; the ports of the second are two above the ports of the first, and so on"),
        )
        .arg(flag("redis", "Run Redis, too"))
        .arg(flag("rabbitmq", "Run RabbitMQ, too, and publish the messages of its exchange postern"))
        .arg(
            Arg::new(EXAMPLE)
                .long(EXAMPLE)
                .value_name("NAME")
                .value_parser(Example::NAMES)
                .help("Serve the page of examples/NAME, with its channels and its backend"),
        )
        .arg(port(GATEWAY_PORT, "9191", "Port of the gateway, where clients connect"))
        .arg(port(IDENTITY_PORT, "9292", "Port of the Identity service"))
        .arg(port(PORT, "8080", "Port of Postern"))
        .arg(port(CONTROL_PORT, "8081", "Port of Postern's health checks, metrics and API"))
        .arg(port(REDIS_PORT, "6379", "Port of Redis"))
        .arg(port(RABBITMQ_PORT, "5672", "Port of RabbitMQ, which uses the next two ports, too"))
        .after_help(
            "Environment:\n  JWT_SECRET        the secret that signs tokens; by default each start generates a new \
             one\n  POSTERN_API_KEY   the key of Postern's API, with which a logout ends connections; \
             generated, too\n  POSTERN_*, LOG_*  settings of Postern",
        )
}

fn address(matches: &ArgMatches, flag: &str) -> SocketAddr {
    let port: u16 = *matches.get_one(flag).expect("the flag has a default");
    (Ipv4Addr::LOCALHOST, port).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Args, clap::Error> {
        Args::parse(std::iter::once("chain").chain(words.iter().copied()).map(OsString::from))
    }

    #[test]
    fn defaults_are_postern_and_traefik_on_the_documented_ports() {
        let args = parse(&[]).expect("nothing is required");
        assert_eq!((args.gateway, args.package, args.build), (Gateway::Traefik, "postern", Build::Release));
        let Addresses { gateway, identity, postern } = args.addresses;
        let ports = [gateway, identity, postern, args.control].map(|address| address.port());
        assert_eq!(ports, [9191, 9292, 8080, 8081]);
        assert_eq!((args.count, args.redis, args.rabbitmq), (1, None, None));
    }

    #[test]
    fn every_flag_changes_its_own_value() {
        let mut words = vec!["--smol", "--nginx", "--dev"];
        words.extend(["--gateway-port", "1", "--identity-port", "2", "--port", "3", "--control-port", "4"]);
        let args = parse(&words).expect("good flags");
        assert_eq!((args.gateway, args.package, args.build), (Gateway::Nginx, "postern-smol", Build::Dev));
        let Addresses { gateway, identity, postern } = args.addresses;
        let ports = [gateway, identity, postern, args.control].map(|address| address.port());
        assert_eq!(ports, [1, 2, 3, 4]);
    }

    #[test]
    fn nodes_and_services_are_added_by_flags() {
        let args =
            parse(&["--nodes", "2", "--redis", "--rabbitmq", "--rabbitmq-port", "5"]).expect("good flags");
        let nodes: Vec<_> =
            args.nodes().map(|node| (node.name, node.data.port(), node.control.port())).collect();
        assert_eq!(nodes, [("postern 1".to_owned(), 8080, 8081), ("postern 2".to_owned(), 8082, 8083)]);
        assert_eq!(args.redis.map(|address| address.port()), Some(6379));
        assert_eq!(args.rabbitmq.map(|address| address.port()), Some(5));
        let args = parse(&["--example", "auction", "--nodes", "2", "--redis"]).expect("good flags");
        assert_eq!(args.example, Some(Example::Auction));
        let error = parse(&["--example", "plain", "--nodes", "2"]).expect_err("the nodes share no channels");
        assert!(error.to_string().contains("--redis") && error.exit_code() == 2, "{error}");
        for words in
            [&["--example", "none"][..], &["--nodes", "0"], &["--nodes", "10"], &["--nodes", "2", "--nginx"]]
        {
            parse(words).expect_err("these are refused");
        }
    }

    #[test]
    fn postern_flag_selects_a_file_and_conflicts_with_dev() {
        let args = parse(&["--postern", "target/other/postern"]).expect("a good flag");
        assert_eq!(args.build, Build::File("target/other/postern".into()));
        let error = parse(&["--postern", "postern", "--dev"]).expect_err("there is nothing to build");
        assert!(error.to_string().contains("--dev"), "{error}");
    }

    #[test]
    fn error_of_a_bad_port_names_the_flag() {
        for port in ["0", "65536", "http"] {
            let error = parse(&["--gateway-port", port]).expect_err("not a port");
            assert!(error.to_string().contains("--gateway-port"), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
