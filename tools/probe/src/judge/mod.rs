//! The meaning of observations: each function returns a step with a verdict, the observation in words, and what to do.
//!
//! It has no sockets and no clock. `reach` judges names, TCP and TLS; `gateway` recognizes gateways and has the lines of their
//! configurations; `clock` compares clocks and judges tokens; `answer` explains the answer to an upgrade, with the table of codes
//! in `codes`; `login` judges a login, `open` an open connection.

pub(crate) mod answer;
pub(crate) mod clock;
pub(crate) mod codes;
pub(crate) mod gateway;
pub(crate) mod login;
pub(crate) mod open;
pub(crate) mod reach;
