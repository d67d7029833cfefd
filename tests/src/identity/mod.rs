//! The development Identity service: what stands behind the gateway's question "who is this?".
//!
//! It exists so that the whole chain can run on one machine, in the tests and under `cargo chain`. It has three
//! users, all with the password `password123`, and keeps nothing: a token carries all there is to know. Do not put it
//! in front of anything real.
//!
//! | path | method | answer |
//! |---|---|---|
//! | `/identity/login` | POST `{"email","password"}` | 200 `{"accessToken"}` and a cookie; 401, 400, 413 |
//! | `/identity/logout` | POST | 200, and the cookie is removed |
//! | `/` | GET, HEAD | the page of the development chain |
//! | `/identity/validate`, and below | any | 200 with `User-ID`, `User-Email`, `User-Name`; or 401 |
//!
//! In reading order: [`users`] and [`tokens`] know nothing of HTTP, [`bearer`] finds the token in a request, [`page`] is the page, [`service`]
//! answers requests without a socket, [`serve`] is the socket, [`args`] the command line, and [`child`] starts the
//! binary for a test. [`scripted`] is another service in its place, which answers what a test says.

pub mod users;

pub mod tokens;

pub mod bearer;

pub mod page;

pub mod service;

pub mod serve;

pub mod args;

pub mod child;

pub mod scripted;

pub use child::Identity;
