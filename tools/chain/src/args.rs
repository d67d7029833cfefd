//! The command line of `cargo chain`.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

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
        })
    }
}

/// The names of the flags for the ports.
pub(super) const GATEWAY_PORT: &str = "gateway-port";
pub(super) const IDENTITY_PORT: &str = "identity-port";
pub(super) const PORT: &str = "port";
pub(super) const CONTROL_PORT: &str = "control-port";

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
        .arg(flag("nginx", "Run nginx instead of Traefik"))
        .arg(flag("dev", "Use the dev profile for Postern: faster to build, slower to run"))
        .arg(
            Arg::new(POSTERN)
                .long(POSTERN)
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .conflicts_with("dev")
                .help("Run this binary of Postern instead of building one; with --smol it must be postern-smol"),
        )
        .arg(port(GATEWAY_PORT, "9191", "Port of the gateway, where clients connect"))
        .arg(port(IDENTITY_PORT, "9292", "Port of the Identity service"))
        .arg(port(PORT, "8080", "Port of Postern"))
        .arg(port(CONTROL_PORT, "8081", "Port of Postern's health checks, metrics and API"))
        .after_help(
            "Environment:\n  JWT_SECRET        the secret that signs tokens; by default each start generates a new \
             one\n  POSTERN_*, LOG_*  settings of Postern",
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
