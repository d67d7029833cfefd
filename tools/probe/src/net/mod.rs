//! Connections to the server, with time limits: `dial` has names and TCP, `tls` and `certificate` TLS, `http` a request and its
//! answer, `websocket` messages.

pub(crate) mod certificate;
pub(crate) mod dial;
pub(crate) mod http;
pub(crate) mod tls;
pub(crate) mod websocket;
