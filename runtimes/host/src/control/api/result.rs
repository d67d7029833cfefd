//! The results of methods as JSON texts, in which the values of applications are unchanged.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::error::MethodError;

/// The result of a method, or the reason why it was not performed.
pub(in super::super) type MethodResult = Result<Box<RawValue>, MethodError>;

/// Returns a value as a JSON text.
pub(in super::super) fn raw(value: &impl Serialize) -> Box<RawValue> {
    // It does not fail, because all keys are texts. A default is not a valid text.
    to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// Returns the JSON text that `text` is.
pub(super) fn from_text(text: Vec<u8>) -> Box<RawValue> {
    let text = String::from_utf8(text).unwrap_or_default();
    RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// Returns `{"result":…}`, or `{"error":…}`.
pub(in super::super) fn outcome(outcome: &MethodResult) -> Box<RawValue> {
    match outcome {
        Ok(result) => raw(&BTreeMap::from([("result", result)])),
        Err(error) => raw(&BTreeMap::from([("error", error.as_json())])),
    }
}

/// Returns `{NAME:…}`, or `{"error":…}`.
pub(in super::super) fn named(name: &str, outcome: &MethodResult) -> Box<RawValue> {
    match outcome {
        Ok(result) => raw(&BTreeMap::from([(name, result)])),
        Err(error) => raw(&BTreeMap::from([("error", error.as_json())])),
    }
}
