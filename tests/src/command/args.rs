//! The command line of `cargo chain`.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::gateway::{Addresses, Gateway};
use crate::postern::Runtime;

/// What is started, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Args {
    /// Which gateway.
    pub gateway: Gateway,
    /// Which binary.
    pub runtime: Runtime,
    /// Which file that binary is.
    pub build: Build,
    /// Who listens where; all on the loopback interface.
    pub addresses: Addresses,
    /// Where Postern answers probes and operators.
    pub control: SocketAddr,
}

/// Which build of Postern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Build {
    /// The one of the release profile.
    Release,
    /// The one of the dev profile.
    Dev,
    /// This file.
    File(PathBuf),
}

impl Args {
    /// Parses the command line; the first word is the name of the program.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let matches = command().try_get_matches_from(words)?;
        Ok(Self {
            gateway: if matches.get_flag("nginx") { Gateway::Nginx } else { Gateway::Traefik },
            runtime: if matches.get_flag("smol") { Runtime::Smol } else { Runtime::Mio },
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

/// The names of the flags that move a member to another port.
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
        .about("Starts Identity, a gateway and Postern on this machine, without Docker")
        .arg(flag("smol", "Start postern-smol instead of postern"))
        .arg(flag("nginx", "Start nginx instead of Traefik"))
        .arg(flag("dev", "Build Postern with the dev profile: faster to build, slower to run"))
        .arg(
            Arg::new(POSTERN)
                .long(POSTERN)
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .conflicts_with("dev")
                .help("Start this file and build no Postern; with --smol it has to be postern-smol"),
        )
        .arg(port(GATEWAY_PORT, "9191", "Where clients connect"))
        .arg(port(IDENTITY_PORT, "9292", "Where the Identity service listens"))
        .arg(port(PORT, "8080", "Where Postern listens"))
        .arg(port(CONTROL_PORT, "8081", "Where Postern's control port is"))
        .after_help(
            "Environment:\n  JWT_SECRET  the secret that tokens are signed with; without it, each start makes a new \
             one\n  POSTERN_*, LOG_*  Postern's settings",
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
    fn the_defaults_are_the_production_binary_behind_traefik_on_the_documented_ports() {
        let args = parse(&[]).expect("nothing is required");
        assert_eq!(
            (args.gateway, args.runtime, args.build),
            (Gateway::Traefik, Runtime::Mio, Build::Release)
        );
        let Addresses { gateway, identity, postern } = args.addresses;
        let ports = [gateway, identity, postern, args.control].map(|address| address.port());
        assert_eq!(ports, [9191, 9292, 8080, 8081]);
    }

    #[test]
    fn every_flag_changes_what_it_names() {
        let mut words = vec!["--smol", "--nginx", "--dev"];
        words.extend(["--gateway-port", "1", "--identity-port", "2", "--port", "3", "--control-port", "4"]);
        let args = parse(&words).expect("good flags");
        assert_eq!((args.gateway, args.runtime, args.build), (Gateway::Nginx, Runtime::Smol, Build::Dev));
        let Addresses { gateway, identity, postern } = args.addresses;
        let ports = [gateway, identity, postern, args.control].map(|address| address.port());
        assert_eq!(ports, [1, 2, 3, 4]);
    }

    #[test]
    fn a_file_is_started_as_it_is() {
        let args = parse(&["--postern", "target/other/postern"]).expect("a good flag");
        assert_eq!(args.build, Build::File("target/other/postern".into()));
        let error = parse(&["--postern", "postern", "--dev"]).expect_err("there is nothing to build");
        assert!(error.to_string().contains("--dev"), "{error}");
    }

    #[test]
    fn a_bad_port_names_the_flag() {
        for port in ["0", "65536", "http"] {
            let error = parse(&["--gateway-port", port]).expect_err("no port");
            assert!(error.to_string().contains("--gateway-port"), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
