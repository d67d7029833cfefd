//! HTTP requests to other services. Workers never wait for them.
//!
//! * `http_url`: parses the URL of a service.
//! * `client`: sends one request and reads the answer, with the same rules for all services: the certificate authorities of the
//!   system, no redirects, and a maximum length of the answer.
//! * `wiping`: overwrites the buffers of connections.
//! * `pool`: sends requests on a few threads, and passes each answer to a callback.

mod client;
mod http_url;
mod pool;
mod wiping;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) use client::{Answer, Client, ClientConfig, RequestError};
pub(crate) use http_url::{HttpUrl, HttpUrlError};
#[cfg(feature = "assertion")]
pub(crate) use pool::SubmitError;
pub(crate) use pool::{Pool, PoolConfig};
