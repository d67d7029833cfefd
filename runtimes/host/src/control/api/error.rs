//! The error of a method, and the form in which it is reported.

use std::borrow::Cow;

use hyper::StatusCode;
use postern_channels::relay::command::Failure;
use serde_json::{Value, json};

/// The number of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum MethodErrorCode {
    /// A fault of the server, or a worker that does not reply.
    Internal = 100,
    /// The namespace is not configured.
    UnknownChannel = 102,
    /// The request cannot be fulfilled in any state of the server.
    BadRequest = 107,
    /// The feature is off for the channel.
    NotAvailable = 108,
    /// The position belongs to another stream.
    UnrecoverablePosition = 112,
}

impl MethodErrorCode {
    /// Returns the text with which messages begin, and the status in [`ErrorMode::Transport`].
    fn describe(self) -> (&'static str, StatusCode) {
        match self {
            MethodErrorCode::Internal => ("internal server error", StatusCode::INTERNAL_SERVER_ERROR),
            MethodErrorCode::UnknownChannel => ("unknown channel", StatusCode::NOT_FOUND),
            MethodErrorCode::BadRequest => ("bad request", StatusCode::BAD_REQUEST),
            MethodErrorCode::NotAvailable => ("not available", StatusCode::BAD_REQUEST),
            MethodErrorCode::UnrecoverablePosition => {
                ("unrecoverable position", StatusCode::RANGE_NOT_SATISFIABLE)
            }
        }
    }
}

/// The reason why a method was not performed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct MethodError {
    pub(in super::super) code: MethodErrorCode,
    /// The change that the client has to make.
    advice: Cow<'static, str>,
}

impl MethodError {
    pub(in super::super) fn new(code: MethodErrorCode, advice: impl Into<Cow<'static, str>>) -> MethodError {
        MethodError { code, advice: advice.into() }
    }

    /// Creates the error of a request that cannot be fulfilled in any state of the server.
    pub(in super::super) fn bad(advice: impl Into<Cow<'static, str>>) -> MethodError {
        MethodError::new(MethodErrorCode::BadRequest, advice)
    }

    /// Creates the error of a request that the engine has not performed, or whose result is unknown.
    pub(in super::super) fn unavailable(failure: &Failure) -> MethodError {
        let advice = format!(
            "the engine is unavailable ({}: {}); send the same request with an idempotency_key again",
            failure.cause.label(),
            failure.text
        );
        MethodError::new(MethodErrorCode::Internal, advice)
    }

    /// Returns the JSON object with the number and the text.
    pub(in super::super) fn as_json(&self) -> Value {
        let (name, _) = self.code.describe();
        json!({ "code": self.code as u32, "message": format!("{name}: {}", self.advice) })
    }

    /// Returns the status in [`ErrorMode::Transport`].
    pub(in super::super) fn status(&self) -> StatusCode {
        self.code.describe().1
    }
}

/// The form in which the errors of methods are reported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in super::super) enum ErrorMode {
    /// With status 200, in a member `error` in place of `result`.
    #[default]
    Body,
    /// With a status that says the cause, and without the member around it.
    Transport,
}

impl ErrorMode {
    /// The header with which a client selects the mode.
    pub(in super::super) const HEADER: &str = "x-centrifugo-error-mode";

    /// Returns the mode that the value of the header selects.
    pub(in super::super) fn from_header(value: Option<&[u8]>) -> ErrorMode {
        if value == Some(b"transport") { ErrorMode::Transport } else { ErrorMode::Body }
    }
}
