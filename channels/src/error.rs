//! The codes of error replies.

/// The code of an error reply. SDKs decide by the code and by [`ErrorCode::is_temporary`] whether to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u32)]
pub enum ErrorCode {
    /// A fault of the server.
    Internal = 100,
    /// The user is not authenticated.
    Unauthorized = 101,
    /// No namespace has the name in front of the colon.
    UnknownChannel = 102,
    /// The user may not do this. Also the answer to a subscription token that is invalid.
    PermissionDenied = 103,
    /// No handler has the name of the remote procedure call.
    MethodNotFound = 104,
    /// The connection is subscribed to the channel already.
    AlreadySubscribed = 105,
    /// The connection has as many channels as it may have.
    LimitExceeded = 106,
    /// The request is well-formed and cannot be fulfilled for any user.
    BadRequest = 107,
    /// The feature is not enabled for the channel.
    NotAvailable = 108,
    /// The token has expired. An SDK gets another one and tries again.
    TokenExpired = 109,
    /// The subscription or the connection has expired.
    Expired = 110,
    /// A rate is exceeded.
    TooManyRequests = 111,
    /// Publications after the given position are not in the history any more.
    UnrecoverablePosition = 112,
}

impl ErrorCode {
    /// All codes.
    const ALL: [ErrorCode; 13] = [
        ErrorCode::Internal,
        ErrorCode::Unauthorized,
        ErrorCode::UnknownChannel,
        ErrorCode::PermissionDenied,
        ErrorCode::MethodNotFound,
        ErrorCode::AlreadySubscribed,
        ErrorCode::LimitExceeded,
        ErrorCode::BadRequest,
        ErrorCode::NotAvailable,
        ErrorCode::TokenExpired,
        ErrorCode::Expired,
        ErrorCode::TooManyRequests,
        ErrorCode::UnrecoverablePosition,
    ];

    /// Returns the number that is sent.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// Returns the code with this number.
    pub fn from_number(number: u32) -> Option<ErrorCode> {
        ErrorCode::ALL.into_iter().find(|code| code.number() == number)
    }

    /// Returns the text that is sent with the number.
    pub fn message(self) -> &'static str {
        match self {
            ErrorCode::Internal => "internal server error",
            ErrorCode::Unauthorized => "unauthorized",
            ErrorCode::UnknownChannel => "unknown channel",
            ErrorCode::PermissionDenied => "permission denied",
            ErrorCode::MethodNotFound => "method not found",
            ErrorCode::AlreadySubscribed => "already subscribed",
            ErrorCode::LimitExceeded => "limit exceeded",
            ErrorCode::BadRequest => "bad request",
            ErrorCode::NotAvailable => "not available",
            ErrorCode::TokenExpired => "token expired",
            ErrorCode::Expired => "expired",
            ErrorCode::TooManyRequests => "too many requests",
            ErrorCode::UnrecoverablePosition => "unrecoverable position",
        }
    }

    /// Returns whether the same request may succeed later.
    pub fn is_temporary(self) -> bool {
        matches!(self, ErrorCode::Internal | ErrorCode::TooManyRequests)
    }
}
