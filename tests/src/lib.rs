//! What the tests of this workspace share: real processes, real gateways, real sockets.
//!
//! Nothing here mocks anything. A test starts the very binaries and the very gateway configurations that are
//! shipped, and looks at what a client receives and at what Postern logs. Nothing is skipped either: a gateway or
//! a client that is missing is fetched once into `target/provision/`, and if that fails, the test fails and says
//! how to help.
//!
//! Everything is blocking and has a time limit, so that a test reads from top to bottom and cannot hang.
//!
//! In reading order:
//!
//! * [`ports`], [`process`]: free ports, and children that do not outlive a test;
//! * [`canary`]: whether what they write has a secret in it;
//! * [`binaries`], [`provision`]: what is started: where Cargo has put it, downloaded on demand;
//! * [`postern`], [`identity`], [`gateway`]: the three members of the chain;
//! * [`scripted_identity`]: an Identity service with scripted answers;
//! * [`issuer`]: a gateway that signs identities;
//! * [`http`], [`ws`]: clients that can also say what a well-behaved client never would;
//! * [`forwarder`]: puts a user into the requests of clients that cannot;
//! * [`chain`]: all of them together;
//! * [`systemd`], [`kubernetes`]: what is shipped to start them by, read;
//! * [`documents`]: README.md and the other documents, parsed, and their commands, run.

pub mod canary;
pub mod ports;
pub mod process;

pub mod binaries;
pub mod provision;

pub mod gateway;
pub mod identity;
pub mod issuer;
pub mod postern;
pub mod scripted_identity;

pub mod forwarder;
pub mod http;
pub mod ws;

pub mod chain;

pub mod kubernetes;
pub mod systemd;

pub mod documents;

pub use postern_chain::{Failure, workspace};
