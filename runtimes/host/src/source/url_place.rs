//! The URL of a broker, in a setting or in a file.

use std::fmt;
use std::fs;
use std::path::PathBuf;

/// The URL of a broker, or the file that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UrlPlace<U> {
    /// The URL.
    Setting(U),
    /// The file, which is read for each connection, so that the password can be replaced.
    File(PathBuf),
}

/// The URL of a kind of broker.
pub(crate) trait UrlText: Clone {
    /// The setting that has the URL, and the setting that has the file.
    const SETTINGS: [&'static str; 2];
    /// Says what is wrong, without the text.
    type Error: fmt::Display;

    /// Parses the URL.
    ///
    /// # Errors
    /// It is something else.
    fn parse(text: &str) -> Result<Self, Self::Error>;
}

impl<U: UrlText> UrlPlace<U> {
    /// Returns the URL.
    ///
    /// # Errors
    /// The file cannot be read, or has something else. The text does not quote its contents.
    pub(crate) fn read(&self) -> Result<U, String> {
        match self {
            UrlPlace::Setting(url) => Ok(url.clone()),
            UrlPlace::File(path) => {
                let text =
                    fs::read_to_string(path).map_err(|error| format!("cannot read the file: {error}"))?;
                U::parse(text.trim_end()).map_err(|error| format!("in the file: {error}"))
            }
        }
    }

    /// Returns the setting that the URL comes from.
    pub(crate) fn setting(&self) -> &'static str {
        let [url, file] = U::SETTINGS;
        match self {
            UrlPlace::Setting(_) => url,
            UrlPlace::File(_) => file,
        }
    }
}
