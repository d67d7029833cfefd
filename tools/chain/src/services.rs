//! Redis and RabbitMQ, for Posterns that share publications.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::args::Args;
use crate::child::Child;
use crate::rabbitmq::{BrokerAddresses, RabbitMq};
use crate::{Failure, provision};

/// The services that the command line asks for. They are downloaded, and not started.
pub(crate) struct Services {
    redis: Option<(SocketAddr, Command)>,
    rabbitmq: Option<RabbitMq>,
    /// Their configurations and data, until the end.
    _folder: TempDir,
}

impl Services {
    /// Downloads and configures them.
    ///
    /// # Errors
    /// They cannot be downloaded, or a folder cannot be written.
    pub(crate) fn prepare(args: &Args) -> Result<Services, Failure> {
        let folder = tempfile::tempdir().map_err(Failure::while_doing("creating a temporary folder"))?;
        let redis = match args.redis {
            Some(address) => Some((address, redis(address, folder.path())?)),
            None => None,
        };
        let at = |address: SocketAddr, more: u16| -> SocketAddr {
            (address.ip(), address.port().saturating_add(more)).into()
        };
        let rabbitmq = args.rabbitmq.map(|amqp| {
            let addresses = BrokerAddresses { amqp, distribution: at(amqp, 1), mapper: at(amqp, 2) };
            RabbitMq::prepare(folder.path(), addresses)
        });
        Ok(Services { redis, rabbitmq: rabbitmq.transpose()?, _folder: folder })
    }

    /// Starts them. They end in the order of the result.
    ///
    /// # Errors
    /// One of them does not listen in time.
    pub(crate) fn start(&mut self) -> Result<Vec<Child>, Failure> {
        let mut children = Vec::new();
        if let Some(broker) = &self.rabbitmq {
            let BrokerAddresses { amqp, mapper, .. } = broker.addresses();
            let mapper = Child::start("epmd", &mut broker.mapper()?, mapper)?;
            children.push(Child::start("rabbitmq", &mut broker.server(), amqp)?);
            children.push(mapper);
        }
        if let Some((address, command)) = &mut self.redis {
            children.push(Child::start("redis", command, *address)?);
        }
        Ok(children)
    }

    /// Returns the URL of RabbitMQ, if it runs.
    pub(crate) fn amqp(&self) -> Option<String> {
        self.rabbitmq.as_ref().map(RabbitMq::url)
    }

    /// Adds their addresses to the environment of a Postern, which `program` is. Settings that are present stay.
    pub(crate) fn configure(&self, postern: &mut Command, program: &Path) {
        let is_given = |name: &str| std::env::var_os(name).is_some();
        if let Some(broker) = &self.rabbitmq
            && !is_given("POSTERN_AMQP_URL")
        {
            postern.env("POSTERN_AMQP_URL", broker.url());
            // Without a common engine, each Postern publishes to its own clients.
            if !knows(program, ENGINE) && !is_given("POSTERN_AMQP_MODE") {
                postern.env("POSTERN_AMQP_MODE", "each");
            }
        }
        if let Some((address, _)) = self.redis
            && knows(program, ENGINE)
            && !is_given(ENGINE)
        {
            postern.env(ENGINE, "redis").env(REDIS_URL, format!("redis://{address}"));
        }
    }
}

fn redis(address: SocketAddr, folder: &Path) -> Result<Command, Failure> {
    let (executable, libraries) = provision::redis()?;
    let mut command = Command::new(executable);
    command
        .env("LD_LIBRARY_PATH", libraries)
        .current_dir(folder)
        .args(["--bind", &address.ip().to_string(), "--port", &address.port().to_string()])
        .args(["--save", "", "--appendonly", "no"]);
    Ok(command)
}

/// Returns whether a build of Postern has this setting.
fn knows(program: &Path, setting: &str) -> bool {
    let help = Command::new(program).arg("--help").output();
    help.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(setting))
}

const ENGINE: &str = "POSTERN_ENGINE";
const REDIS_URL: &str = "POSTERN_REDIS_URL";
