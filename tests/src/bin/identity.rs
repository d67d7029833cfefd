//! The development Identity service as tests start it: it records each token that it issues for the search for secrets.

use std::process::ExitCode;

use postern_tests::canary::{self, Kind};

fn main() -> ExitCode {
    postern_identity::run::run(|token| {
        canary::secret(Kind::Token, token);
    })
}
