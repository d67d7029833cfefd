//! The secrets of a chain: the one that signs tokens, and the key of Postern's API.

use std::fs::File;
use std::io::Read;

use crate::Failure;

/// Returns the secret in this variable of the environment, or a new random one.
pub(crate) fn given_or_new(variable: &str) -> Result<String, Failure> {
    match std::env::var(variable) {
        Ok(secret) if !secret.is_empty() => Ok(secret),
        _ => new(),
    }
}

fn new() -> Result<String, Failure> {
    // The size of the HS256 output (RFC 7518, section 3.2).
    let mut bytes = [0; 32];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(Failure::while_doing("reading /dev/urandom for a secret"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_secrets_are_long_and_differ() {
        let (first, second) = (new().expect("it is there"), new().expect("it is there"));
        assert_eq!(first.len(), 64);
        assert_ne!(first, second);
    }
}
