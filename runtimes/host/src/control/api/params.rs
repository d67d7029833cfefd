//! The parameters of a method: the members of a JSON object, read by name and type.
//!
//! Unknown members are ignored, and the last one of several with the same name counts, so that SDKs of later versions can be
//! used. `null` is an absent member, except for values of the application.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::MethodError;

/// The members of a JSON object.
#[derive(Debug, Default)]
pub(in super::super) struct Params<'b>(BTreeMap<String, &'b RawValue>);

impl<'b> Params<'b> {
    /// Parses an object.
    ///
    /// # Errors
    /// The text is not one JSON object: the position, and the error.
    pub(in super::super) fn parse(text: &'b [u8]) -> Result<Params<'b>, serde_json::Error> {
        serde_json::from_slice(text).map(Params)
    }

    /// Returns the object.
    pub(super) fn to_raw(&self) -> Box<RawValue> {
        super::raw(&self.0)
    }

    /// Returns a string. It is empty if it is absent.
    pub(super) fn text(&self, name: &str) -> Result<String, MethodError> {
        self.get(name, "a string").map(Option::unwrap_or_default)
    }

    /// Returns a flag. It is false if it is absent.
    pub(super) fn flag(&self, name: &str) -> Result<bool, MethodError> {
        self.get(name, "true or false").map(Option::unwrap_or_default)
    }

    /// Returns a number that is not negative. It is 0 if it is absent.
    pub(super) fn uint(&self, name: &str) -> Result<u64, MethodError> {
        self.get(name, "a whole number of at least 0").map(Option::unwrap_or_default)
    }

    /// Returns a list of strings.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>, MethodError> {
        self.get(name, "a list of strings").map(Option::unwrap_or_default)
    }

    /// Returns an object whose values are strings.
    pub(super) fn labels(&self, name: &str) -> Result<BTreeMap<String, String>, MethodError> {
        self.get(name, "an object whose values are strings").map(Option::unwrap_or_default)
    }

    /// Returns a number. It is 0 if it is absent.
    pub(super) fn int(&self, name: &str) -> Result<i64, MethodError> {
        self.get(name, "a whole number").map(Option::unwrap_or_default)
    }

    /// Returns an object.
    pub(in super::super) fn object(&self, name: &str) -> Result<Option<Params<'b>>, MethodError> {
        self.get(name, "an object").map(|members| members.map(Params))
    }

    /// Returns a list of objects.
    pub(in super::super) fn objects(&self, name: &str) -> Result<Vec<Params<'b>>, MethodError> {
        let list: Option<Vec<_>> = self.get(name, "a list of objects")?;
        Ok(list.unwrap_or_default().into_iter().map(Params).collect())
    }

    /// Returns the names of the members.
    pub(in super::super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Checks that there are no other members than these: of a method that would do more without a member that is misspelt.
    pub(super) fn check_names(&self, known: &[&str]) -> Result<(), MethodError> {
        let Some(unknown) = self.names().find(|name| !known.contains(name)) else { return Ok(()) };
        let unknown: String = unknown.chars().take(MAX_NAME).collect();
        Err(MethodError::bad(format!("{unknown} is unknown; the members are {}", known.join(", "))))
    }

    /// Returns the JSON text of a member, which may be `null`.
    pub(super) fn raw(&self, name: &str) -> Option<&'b [u8]> {
        self.0.get(name).map(|value| value.get().as_bytes())
    }

    /// Returns the bytes of a member in base64. They are empty if it is absent.
    pub(super) fn bytes(&self, name: &str) -> Result<Vec<u8>, MethodError> {
        STANDARD.decode(self.text(name)?).map_err(|_| {
            MethodError::bad(format!(
                "{name} must be base64 in the standard alphabet (A-Z a-z 0-9 + /), with padding"
            ))
        })
    }

    fn get<T: Deserialize<'b>>(&self, name: &str, kind: &str) -> Result<Option<T>, MethodError> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        serde_json::from_str(value.get()).map_err(|_| MethodError::bad(format!("{name} must be {kind}")))
    }
}

/// The most characters of a name in an error.
const MAX_NAME: usize = 50;
