//! A message broker as a source of publications.
//!
//! * `mapping`: the publications that follow from a delivery, or the reason why there are none.
//! * `acknowledgements`: the deliveries that can be acknowledged, and when.
//! * `backoff`: the pause before the next attempt to connect.
//!
//! The host receives deliveries, publishes in their order, and sends the acknowledgements.

mod acknowledgements;
mod backoff;
mod mapping;

pub use acknowledgements::Acknowledgements;
pub use backoff::pause_after;
pub use mapping::{Delivery, HEADER_PREFIX, Header, Outcome, Poison, map};
