//! The secrets of gateways and the keys of operators, from a text or from a file.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use postern_core::handshake::{SecretStore, Secrets};

use super::hints;
use super::value::ValueError;

/// Reads secrets separated by commas. An empty text has none.
pub(super) fn apply(known: &mut Secrets, text: &str) -> Result<(), ValueError> {
    if !text.is_empty() {
        *known = secrets(text)?;
    }
    Ok(())
}

/// Reads secrets from the file at `path`, which `setting` names, unless the path is empty. `other` is the setting that
/// contains secrets directly. Returns the file, so that it can be read again.
pub(super) fn apply_file(
    known: &mut Secrets,
    path: &str,
    setting: &'static str,
    other: &str,
) -> Result<Option<SecretFile>, ValueError> {
    if path.is_empty() {
        return Ok(None);
    }
    if !known.is_empty() {
        return Err(format!("{other} is set already; leave out one of the two").into());
    }
    let path = PathBuf::from(path);
    let store = Arc::new(Store(RwLock::new(secrets(&read(&path)?).map_err(in_file)?)));
    *known = Secrets::stored(store.clone());
    Ok(Some(SecretFile { setting, path, store }))
}

/// A file of secrets, and the secrets that it contained when it was last read.
#[derive(Debug, Clone)]
pub(crate) struct SecretFile {
    setting: &'static str,
    path: PathBuf,
    store: Arc<dyn Replaceable>,
}

/// Secrets that can be replaced while they are in use.
pub(crate) trait Replaceable: fmt::Debug + Send + Sync {
    /// Replaces the secrets by those in the text of a file.
    ///
    /// # Errors
    /// The text cannot be used. The previous secrets stay.
    fn replace(&self, text: &str) -> Result<(), ValueError>;
}

impl SecretFile {
    /// Returns the setting that names it.
    pub(crate) fn setting(&self) -> &'static str {
        self.setting
    }

    /// Reads the file. Its secrets replace the previous ones.
    ///
    /// # Errors
    /// The file cannot be read or contains something else. The previous secrets stay.
    pub(crate) fn read_again(&self) -> Result<(), ValueError> {
        self.store.replace(&read(&self.path)?).map_err(in_file)
    }
}

impl Replaceable for Store {
    fn replace(&self, text: &str) -> Result<(), ValueError> {
        let secrets = secrets(text)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = secrets;
        Ok(())
    }
}

/// The secrets of a file.
#[derive(Debug)]
struct Store(RwLock<Secrets>);

impl SecretStore for Store {
    fn current(&self) -> Secrets {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Reads a file into secrets that `setting` names, and returns the file.
#[cfg(feature = "hooks")]
pub(super) fn read_into(
    store: Arc<dyn Replaceable>,
    path: &str,
    setting: &'static str,
) -> Result<SecretFile, ValueError> {
    let file = SecretFile { setting, path: PathBuf::from(path), store };
    file.read_again()?;
    Ok(file)
}

/// Reads a file of secrets, without the line feed at its end.
fn read(path: &Path) -> Result<String, ValueError> {
    // The errors do not quote the contents.
    let text =
        fs::read_to_string(path).map_err(|error| format!("cannot read the file: {}", hints::file(&error)))?;
    let text = text.strip_suffix('\n').map_or(&*text, |text| text.strip_suffix('\r').unwrap_or(text));
    Ok(text.to_owned())
}

fn in_file(complaint: ValueError) -> ValueError {
    format!("in the file: {complaint}").into()
}

/// Checks that a header can carry each secret, and that it is too long to be guessed.
fn secrets(text: &str) -> Result<Secrets, ValueError> {
    let secrets: Vec<&str> = text.split(',').map(str::trim).collect();
    if secrets.contains(&"") {
        return Err("a secret is empty; write for example 64 hexadecimal digits".into());
    }
    if !secrets.iter().all(|secret| secret.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err("a secret holds more than visible ASCII; write for example 64 hexadecimal digits".into());
    }
    if secrets.iter().any(|secret| !LENGTHS.contains(&secret.len())) {
        return Err(
            "a secret must have 16 to 1024 characters; write for example 64 hexadecimal digits".into()
        );
    }
    Ok(Secrets::new(secrets.into_iter().map(str::to_owned)))
}

/// Shorter secrets could be guessed over a network. Longer ones would not leave enough of a request head.
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::names::{SECRET, SECRET_FILE};

    const ONE: &str = "0123456789abcdef";
    const TWO: &str = "fedcba9876543210";

    fn all(secrets: &[&str]) -> Secrets {
        Secrets::new(secrets.iter().map(|secret| (*secret).to_owned()))
    }

    fn in_file(content: &[u8]) -> Result<Secrets, ValueError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        let mut known = Secrets::default();
        apply_file(&mut known, file.path().to_str().unwrap(), SECRET_FILE, SECRET).map(|_| known)
    }

    #[test]
    fn a_valid_file_that_is_read_again_replaces_its_secrets() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), ONE).unwrap();
        let mut known = Secrets::default();
        let path = file.path().to_str().unwrap();
        let again = apply_file(&mut known, path, SECRET_FILE, SECRET).unwrap().unwrap();
        assert_eq!(again.setting(), SECRET_FILE);
        // The workers and the control port have clones.
        let known = known.clone();
        fs::write(file.path(), TWO).unwrap();
        assert!(known.contains(ONE.as_bytes()), "it has not been read again");
        again.read_again().unwrap();
        assert_eq!(known, all(&[TWO]));
        for unsound in ["", "short", "0123456789abcdef,"] {
            fs::write(file.path(), unsound).unwrap();
            again.read_again().unwrap_err();
            assert_eq!(known, all(&[TWO]), "{unsound:?}");
        }
        fs::remove_file(file.path()).unwrap();
        assert_eq!(
            again.read_again().unwrap_err(),
            "cannot read the file: there is no such file; create it, or write another path"
        );
        assert_eq!(known, all(&[TWO]));
    }

    #[test]
    fn secrets_come_from_a_text_or_from_a_file() {
        let mut known = Secrets::default();
        apply(&mut known, "").unwrap();
        apply_file(&mut known, "", SECRET_FILE, SECRET).unwrap();
        assert!(known.is_empty());
        apply(&mut known, &format!("{ONE}, {TWO}")).unwrap();
        assert_eq!(known, all(&[ONE, TWO]));
        let error = apply_file(&mut known, "/dev/null", SECRET_FILE, SECRET).unwrap_err();
        assert_eq!(error, "POSTERN_PROXY_SECRET is set already; leave out one of the two");
        for end in ["", "\n", "\r\n"] {
            assert_eq!(in_file(format!("{ONE},{TWO}{end}").as_bytes()), Ok(all(&[ONE, TWO])));
        }
    }

    #[test]
    fn an_invalid_secret_is_reported_without_being_shown() {
        let bad = |text: &str| {
            let from_text = apply(&mut Secrets::default(), text).unwrap_err();
            let from_file = in_file(text.as_bytes()).unwrap_err();
            assert_eq!(from_file, format!("in the file: {from_text}"));
            assert!(!from_text.contains(text), "{from_text}");
            from_text
        };
        assert_eq!(bad(&format!("{ONE},")), "a secret is empty; write for example 64 hexadecimal digits");
        assert_eq!(
            bad("hunter2"),
            "a secret must have 16 to 1024 characters; write for example 64 hexadecimal digits"
        );
        bad(&"x".repeat(1025));
        assert_eq!(
            bad("correct horse battery"),
            "a secret holds more than visible ASCII; write for example 64 hexadecimal digits"
        );
        bad(&format!("{ONE}\n{TWO}"));
        assert_eq!(
            in_file(b"").unwrap_err(),
            "in the file: a secret is empty; write for example 64 hexadecimal digits"
        );
        assert_eq!(
            in_file(b"\xff").unwrap_err(),
            "cannot read the file: it is not UTF-8 text; write it as plain text"
        );
        let known = &mut Secrets::default();
        let error = apply_file(known, "/no/such/file", SECRET_FILE, SECRET).unwrap_err();
        assert_eq!(error, "cannot read the file: there is no such file; create it, or write another path");
        let error = apply_file(known, "/", SECRET_FILE, SECRET).unwrap_err();
        assert_eq!(error, "cannot read the file: it is a directory; write the path of a file");
    }
}
