//! The examples of `examples/`: pages that the Identity service serves behind the gateway, with their channels.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use crate::{Failure, provision, workspace};

/// An example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Example {
    /// An auction with the JavaScript SDK, with several users, and with a backend that bids.
    Auction,
    /// A room in one file, without an SDK.
    Plain,
}

impl Example {
    /// The names of all examples, which are the names of their folders.
    pub const NAMES: [&str; 2] = ["auction", "plain"];

    /// Returns the example with one of [`Self::NAMES`].
    pub fn named(name: &str) -> Self {
        if name == "plain" { Self::Plain } else { Self::Auction }
    }

    /// Returns its folder.
    pub fn folder(self) -> PathBuf {
        workspace::path(match self {
            Self::Auction => "examples/auction",
            Self::Plain => "examples/plain",
        })
    }

    /// Returns the folders with the files of its page, after downloading the SDK if it needs one.
    ///
    /// # Errors
    /// The SDK cannot be downloaded.
    pub fn files(self) -> Result<Vec<PathBuf>, Failure> {
        let mut folders = vec![self.folder()];
        if self == Self::Auction {
            folders.push(provision::javascript_sdk()?.join("centrifuge/dist"));
        }
        Ok(folders)
    }

    /// Returns its channels file.
    pub fn channels(self) -> PathBuf {
        self.folder().join("channels.toml")
    }

    /// Returns the command that starts its backend, if it has one. `control` is the control port of a Postern, and `amqp` the URL of
    /// RabbitMQ, if it runs.
    ///
    /// # Errors
    /// The client of RabbitMQ cannot be downloaded.
    pub fn backend(
        self,
        control: SocketAddr,
        api_key: &str,
        amqp: Option<&str>,
    ) -> Result<Option<Command>, Failure> {
        if self != Self::Auction {
            return Ok(None);
        }
        let mut command = Command::new("python3");
        command.arg(self.folder().join("house.py"));
        command.env("HOUSE_API", format!("http://{control}/api")).env("POSTERN_API_KEY", api_key);
        if let Some(url) = amqp {
            command.env("AMQP_URL", url).env("PYTHONPATH", provision::pika()?);
        }
        Ok(Some(command))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_example_has_a_page_and_a_channels_file() {
        for name in Example::NAMES {
            let example = Example::named(name);
            assert_eq!(example.folder(), workspace::path("examples").join(name));
            assert!(example.folder().join("index.html").is_file(), "{name}");
            assert!(example.channels().is_file(), "{name}");
        }
    }
}
