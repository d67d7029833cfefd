//! The answer of a backend to a request about a command.
//!
//! ```json
//! {"result": {"info": {"role": "seller"}, "data": {"price": 10}}}
//! {"error": {"code": 403, "message": "the auction is over"}}
//! ```

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postern_channels::ErrorCode;
use postern_channels::hooks::{Allowed, HookAnswer, HookCommand, HookError, HookRequest};
use postern_channels::namespaces::options::DataFormat;
use postern_channels::protocol::{Encoding, Raw};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The form in which values of an answer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expected {
    /// Whether `data` may be any bytes. Otherwise it must be JSON.
    is_binary: bool,
    /// Whether `data` must be a JSON object.
    is_object: bool,
    /// The maximum size of `data`. 0: not limited.
    max: usize,
}

impl Expected {
    /// Returns the form of the values of the answer to a request.
    pub(super) fn of(request: &HookRequest) -> Expected {
        match request.command {
            HookCommand::Subscribe { .. } | HookCommand::Rpc { .. } => {
                Expected { is_binary: request.encoding == Encoding::Protobuf, is_object: false, max: 0 }
            }
            HookCommand::Publish { format, max_publication, .. } => Expected {
                is_binary: format == DataFormat::Binary,
                is_object: format == DataFormat::JsonObject,
                max: max_publication,
            },
        }
    }
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    result: Option<ResultBody<'a>>,
    error: Option<ErrorBody>,
}

#[derive(Deserialize)]
struct ResultBody<'a> {
    #[serde(borrow)]
    info: Option<&'a RawValue>,
    b64info: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    b64data: Option<String>,
}

#[derive(Deserialize)]
struct ErrorBody {
    code: Option<u32>,
    message: Option<String>,
    temporary: Option<bool>,
}

/// Decodes an answer. Unknown members are ignored.
///
/// # Errors
/// The end of a sentence that begins with "the answer". It does not quote the answer.
pub(super) fn decode(body: &[u8], expected: &Expected) -> Result<HookAnswer, &'static str> {
    let body: Body<'_> = serde_json::from_slice(body).map_err(|_| "is not JSON with a result or an error")?;
    match body {
        Body { result: Some(result), error: None } => result.decode(expected).map(HookAnswer::Allowed),
        Body { result: None, error: Some(error) } => error.decode().map(HookAnswer::Refused),
        Body { result: Some(_), error: Some(_) } => Err("has a result and an error"),
        Body { result: None, error: None } => Err("has neither a result nor an error"),
    }
}

impl ResultBody<'_> {
    fn decode(self, expected: &Expected) -> Result<Allowed, &'static str> {
        let info = value(self.info, self.b64info, false)?;
        let data = value(self.data, self.b64data, expected.is_binary)?;
        if let Some(data) = &data {
            if expected.is_object && !data.starts_with(b"{") {
                return Err("has data that is not an object, which the namespace requires");
            }
            if expected.max != 0 && data.len() > expected.max {
                return Err("has more data than max_publication allows");
            }
        }
        Ok(Allowed { info, data })
    }
}

/// Returns a value that is JSON, or base64 of bytes. `is_binary` is whether the bytes may be no JSON.
fn value(
    json: Option<&RawValue>,
    base64: Option<String>,
    is_binary: bool,
) -> Result<Option<Arc<[u8]>>, &'static str> {
    let bytes = match (json, base64) {
        (None, None) => return Ok(None),
        (Some(json), None) => json.get().as_bytes().to_vec(),
        (None, Some(base64)) => STANDARD.decode(base64).map_err(|_| "has a value that is not base64")?,
        (Some(_), Some(_)) => return Err("has a value as JSON and as base64"),
    };
    if is_binary {
        return Ok(Some(bytes.into()));
    }
    let text =
        Raw::new(&bytes).compact().map_err(|_| "has a value that is not JSON, or has too many levels")?;
    Ok(Some(text.as_ref().into()))
}

impl ErrorBody {
    fn decode(self) -> Result<HookError, &'static str> {
        let code = self.code.unwrap_or(ErrorCode::PermissionDenied.number());
        let is_own = (FIRST..=LAST).contains(&code);
        let known = ErrorCode::from_number(code);
        if known.is_none() && !is_own {
            return Err("has an error with a code that is not from 400 to 1999, and not one of Postern");
        }
        let usual = known.map_or("refused", ErrorCode::message);
        let message = self.message.filter(|text| !text.is_empty()).unwrap_or_else(|| usual.to_owned());
        if message.len() > MAX_MESSAGE {
            return Err("has an error with a message of more than 1 KiB");
        }
        let is_temporary = self.temporary.unwrap_or(known.is_some_and(ErrorCode::is_temporary));
        Ok(HookError { code, message: message.into(), is_temporary })
    }
}

/// The codes of errors of an application.
const FIRST: u32 = 400;
const LAST: u32 = 1999;

/// The maximum length of the message of an error, in bytes.
const MAX_MESSAGE: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: Expected = Expected { is_binary: false, is_object: false, max: 0 };

    fn allowed(info: Option<&str>, data: Option<&str>) -> Result<HookAnswer, &'static str> {
        let bytes = |text: &str| Arc::from(text.as_bytes());
        Ok(HookAnswer::Allowed(Allowed { info: info.map(bytes), data: data.map(bytes) }))
    }

    fn refused(code: u32, message: &str, is_temporary: bool) -> Result<HookAnswer, &'static str> {
        Ok(HookAnswer::Refused(HookError { code, message: message.into(), is_temporary }))
    }

    #[track_caller]
    fn check(body: &str, expected: Expected, answer: Result<HookAnswer, &'static str>) {
        assert_eq!(decode(body.as_bytes(), &expected), answer, "{body}");
    }

    #[test]
    fn results_allow_with_values_that_stay_as_they_are() {
        check(r#"{"result":{}}"#, JSON, allowed(None, None));
        check(r#"{"result":{"data":null,"later":1},"error":null}"#, JSON, allowed(None, None));
        check(
            "{\"result\": {\n \"info\": [ 1 ],\n \"data\": {\"a\": 1.0e2, \"b\": 12345678901234567890123}\n}}",
            JSON,
            allowed(Some("[1]"), Some(r#"{"a":1.0e2,"b":12345678901234567890123}"#)),
        );
        check(r#"{"result":{"b64info":"WyAxXQ==","b64data":"MQ=="}}"#, JSON, allowed(Some("[1]"), Some("1")));
        let binary = Expected { is_binary: true, ..JSON };
        check(r#"{"result":{"b64data":"Iw=="}}"#, binary, allowed(None, Some("#")));
        check(r#"{"result":{"data":"a"}}"#, binary, allowed(None, Some(r#""a""#)));
    }

    #[test]
    fn errors_refuse_with_a_code_and_a_text() {
        check(r#"{"error":{}}"#, JSON, refused(103, "permission denied", false));
        check(r#"{"error":{"code":111}}"#, JSON, refused(111, "too many requests", true));
        check(r#"{"error":{"code":400,"message":"no","temporary":true}}"#, JSON, refused(400, "no", true));
        check(r#"{"error":{"code":1999}}"#, JSON, refused(1999, "refused", false));
    }

    #[test]
    fn other_answers_cannot_be_used() {
        for body in
            ["", "junk", "{}", "[]", "1", r#"{"result":true}"#, r#"{"error":{"code":-1}}"#, "{\"result\":{}"]
        {
            assert!(decode(body.as_bytes(), &JSON).is_err(), "{body}");
        }
        for (body, expected, complaint) in [
            (r#"{"result":{},"error":{}}"#, JSON, "has a result and an error"),
            (r#"{"result":{"b64data":"~"}}"#, JSON, "has a value that is not base64"),
            (r#"{"result":{"data":1,"b64data":"MQ=="}}"#, JSON, "has a value as JSON and as base64"),
            (
                r#"{"result":{"b64data":"Iw=="}}"#,
                JSON,
                "has a value that is not JSON, or has too many levels",
            ),
            (
                r#"{"result":{"data":[1]}}"#,
                Expected { is_object: true, ..JSON },
                "has data that is not an object, which the namespace requires",
            ),
            (
                r#"{"result":{"data":[1]}}"#,
                Expected { max: 2, ..JSON },
                "has more data than max_publication allows",
            ),
            (
                r#"{"error":{"code":399}}"#,
                JSON,
                "has an error with a code that is not from 400 to 1999, and not one of Postern",
            ),
        ] {
            check(body, expected, Err(complaint));
        }
        let long = format!(r#"{{"error":{{"message":"{}"}}}}"#, "a".repeat(1025));
        check(&long, JSON, Err("has an error with a message of more than 1 KiB"));
    }
}
