//! The development Identity service: validates tokens for a gateway, and answers with the user's identity.
//!
//! It exists so that the whole chain can run on one machine, in tests and under `cargo chain`. It has three users, all
//! with the password `password123`, and stores no data: a token contains everything that the service needs. Do not use
//! it in production.
//!
//! | path | method | answer |
//! |---|---|---|
//! | `/identity/login` | POST `{"email","password"}` | 200 `{"accessToken"}` and a cookie; 401, 400, 413 |
//! | `/identity/logout` | POST | 200, and the cookie is removed |
//! | `/` | GET, HEAD | the page of the development chain |
//! | `/example/`, and files below | GET, HEAD | the files of an example |
//! | `/identity/validate`, and below | any | 200 with `User-ID`, `User-Email`, `User-Name`; or 401 |
//!
//! In reading order: [`users`] and [`tokens`] are independent of HTTP, [`bearer`] finds the token in a request, [`page`] is
//! the page, [`files`] has the files of an example, [`service`] answers requests without a socket, [`revoke`] calls Postern, [`serve`] is
//! the socket, [`args`] the command line, and [`run`] the program.

pub mod users;

pub mod tokens;

pub mod bearer;

pub mod page;

pub mod files;

pub mod service;

pub mod revoke;

pub mod serve;

pub mod args;

pub mod run;
