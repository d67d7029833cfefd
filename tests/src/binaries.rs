//! The binaries that tests start. Cargo builds them before it runs a test; no test builds anything.
//!
//! Cargo builds a package's binaries for that package's own integration tests only, so `Cargo.toml` of this package has
//! binaries that are built from the same files as the binaries of other packages. They are therefore as new as the
//! tests, whether `cargo test --workspace`, `cargo test -p postern-tests --test messages` or `cargo nextest run` has
//! built them.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::Failure;

/// A binary of this package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// Postern on mio.
    Postern,
    /// Postern on smol.
    PosternSmol,
    /// The development Identity service.
    Identity,
    /// The second half of `cargo chain`.
    Chain,
    /// Searches the output of all processes of the tests for secrets.
    Canary,
    /// Opens and ends connections in every possible way.
    Churn,
    /// The load generator.
    Load,
    /// Clients of channels that talk in one room.
    Talk,
    /// The example of a third runtime.
    Blocking,
    /// The example that writes the manual page and the completions.
    Manual,
}

impl Binary {
    /// Returns the path of the binary in the profile of the tests.
    ///
    /// # Panics
    ///
    /// If it is not there, with the command that builds it.
    #[track_caller]
    pub fn path(self) -> &'static Path {
        static PATHS: [OnceLock<Result<PathBuf, Failure>>; 10] = [const { OnceLock::new() }; 10];

        match PATHS[self as usize].get_or_init(|| self.find()) {
            Ok(path) => path,
            Err(failure) => panic!("{failure}"),
        }
    }

    /// Finds the binary among those that were built with the program that runs now.
    pub fn find(self) -> Result<PathBuf, Failure> {
        let file = self.file();
        // Cargo and nextest set it for integration tests.
        if let Some(path) = env::var_os(format!("CARGO_BIN_EXE_{file}")) {
            return Ok(path.into());
        }
        let program = env::current_exe().map_err(Failure::while_doing("looking for this program"))?;
        // Programs are in the folder of a profile, and tests are in its folder `deps`.
        let mut places = program.ancestors().skip(1).take(2).map(|folder| folder.join(file));
        places.find(|place| place.is_file()).ok_or_else(|| {
            Failure::new(format!(
                "there is no {file} near {}: build it with `cargo build -p postern-tests --bins`",
                program.display()
            ))
        })
    }

    /// Returns the name of the file.
    fn file(self) -> &'static str {
        match self {
            Self::Postern => "tested-postern",
            Self::PosternSmol => "tested-postern-smol",
            Self::Identity => "tested-identity",
            Self::Chain => "tested-chain",
            Self::Canary => "canary",
            Self::Churn => "tested-churn",
            Self::Load => "tested-load",
            Self::Talk => "tested-talk",
            Self::Blocking => "tested-blocking",
            Self::Manual => "tested-manual",
        }
    }
}

/// The name of the program.
impl fmt::Display for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.file().trim_start_matches("tested-"))
    }
}
