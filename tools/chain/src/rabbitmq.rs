//! RabbitMQ of the distribution, in a separate folder, with any ports, and without root.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Failure, provision};

/// A broker that is configured and not started.
#[derive(Clone, Debug)]
pub struct RabbitMq {
    /// The files of the packages.
    root: PathBuf,
    /// Its configuration, its data and its log.
    folder: PathBuf,
    addresses: BrokerAddresses,
}

/// The addresses of a broker, on the loopback interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokerAddresses {
    /// AMQP, for its clients.
    pub amqp: SocketAddr,
    /// For `rabbitmqctl`.
    pub distribution: SocketAddr,
    /// The port mapper of Erlang, a separate process.
    pub mapper: SocketAddr,
}

impl RabbitMq {
    /// Downloads RabbitMQ if it is missing, and writes the configuration into `folder`.
    ///
    /// # Errors
    /// It cannot be downloaded, or the folder cannot be written.
    pub fn prepare(folder: &Path, addresses: BrokerAddresses) -> Result<RabbitMq, Failure> {
        let root = provision::rabbitmq()?;
        let broker = RabbitMq { root, folder: folder.to_owned(), addresses };
        let write = |name: &str, text: &str| {
            fs::write(folder.join(name), text)
                .map_err(Failure::while_doing(format_args!("writing {name} of RabbitMQ")))
        };
        write("rabbitmq.conf", &format!("listeners.tcp.1 = {}\n", addresses.amqp))?;
        write("plugins", "[].\n")?;
        // The script of the package expects Erlang at the root of the host.
        let erlang = broker.root.join("usr/lib/erlang");
        let runtime = broker.erlang_runtime()?;
        let script = format!(
            "#!/bin/sh\nexport ROOTDIR='{}' BINDIR='{}' EMU=beam PROGNAME=erl LD_LIBRARY_PATH='{}'\nexec \"$BINDIR/erlexec\" \"$@\"\n",
            erlang.display(),
            runtime.display(),
            provision::libraries(&broker.root)?.to_string_lossy(),
        );
        write("erl", &script)?;
        fs::set_permissions(folder.join("erl"), fs::Permissions::from_mode(0o755))
            .map_err(Failure::while_doing("making erl executable"))?;
        Ok(broker)
    }

    /// Returns the URL for clients.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@{}/%2f", self.addresses.amqp)
    }

    /// Returns the addresses.
    pub fn addresses(&self) -> BrokerAddresses {
        self.addresses
    }

    /// Returns the command that starts the port mapper, which must listen before the server starts. Otherwise the server would
    /// start one that outlives it.
    ///
    /// # Errors
    /// The packages do not contain it.
    pub fn mapper(&self) -> Result<Command, Failure> {
        let mut command = Command::new(self.erlang_runtime()?.join("epmd"));
        let port = self.addresses.mapper.port().to_string();
        command.args(["-address", "127.0.0.1", "-port", &port]);
        command.env("LD_LIBRARY_PATH", provision::libraries(&self.root)?);
        Ok(command)
    }

    /// Returns the command that starts the server.
    pub fn server(&self) -> Command {
        let mut command = self.script("rabbitmq-server");
        // Without it, the server would be a child of its script.
        command.env("RUNNING_UNDER_SYSTEMD", "true");
        command
    }

    /// Returns a command that controls the server: `rabbitmqctl`.
    pub fn control(&self, arguments: &[&str]) -> Command {
        let mut command = self.script("rabbitmqctl");
        command.arg("--quiet").args(arguments);
        command
    }

    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(self.root.join("usr/lib/rabbitmq/bin").join(name));
        let in_folder = |name: &str| self.folder.join(name);
        let BrokerAddresses { amqp, distribution, mapper } = self.addresses;
        let mut path = OsString::from(&self.folder);
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        command
            .current_dir(&self.folder)
            .env("PATH", path)
            .env("HOME", &self.folder)
            .env("RABBITMQ_NODENAME", "postern@localhost")
            .env("RABBITMQ_NODE_IP_ADDRESS", amqp.ip().to_string())
            .env("RABBITMQ_NODE_PORT", amqp.port().to_string())
            .env("RABBITMQ_DIST_PORT", distribution.port().to_string())
            .env("RABBITMQ_MNESIA_BASE", in_folder("data"))
            .env("RABBITMQ_LOG_BASE", in_folder("log"))
            // To standard output.
            .env("RABBITMQ_LOGS", "-")
            .env("RABBITMQ_PID_FILE", in_folder("pid"))
            .env("RABBITMQ_CONFIG_FILE", in_folder("rabbitmq.conf"))
            .env("RABBITMQ_CONF_ENV_FILE", in_folder("none"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", in_folder("plugins"))
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", mapper.port().to_string())
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none",
            );
        command
    }

    /// Returns the folder of the runtime of Erlang, whose name has its version.
    fn erlang_runtime(&self) -> Result<PathBuf, Failure> {
        let erlang = self.root.join("usr/lib/erlang");
        let entries = fs::read_dir(&erlang)
            .map_err(Failure::while_doing(format_args!("reading {}", erlang.display())))?;
        let is_runtime = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with("erts-");
        let found = entries.filter_map(Result::ok).find(is_runtime);
        let found = found
            .ok_or_else(|| Failure::new(format!("the runtime of Erlang is not in {}", erlang.display())))?;
        Ok(found.path().join("bin"))
    }
}
