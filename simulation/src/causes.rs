//! Which answers and close codes have a cause. A client never violates the protocol, so most of them need one in the plan.

use postern_core::close_code;
use postern_core::handshake::Reject;
use postern_core::session::RatePolicy;

use crate::client::Client;
use crate::plan::Plan;

/// Whether there is a cause for this status.
pub(crate) fn explain_status(status: u16, client: &Client, plan: &Plan, is_stopping: bool) -> bool {
    let config = &plan.config;
    match status {
        101 => {
            let is_refused_by_close = config.handshake.reject == Reject::Close;
            !client.habits.stops_in_head && (!client.habits.is_refused || is_refused_by_close)
        }
        401 => client.habits.is_refused,
        408 => true,
        429 => plan.users.is_some(),
        503 => {
            is_stopping
                || plan.log_stalls > 0
                || config.max_memory < usize::MAX
                || config.max_connections.is_some()
                // The share of a worker.
                || config.handshake.max_handshakes.div_ceil(plan.workers) < plan.clients
        }
        _ => false,
    }
}

/// Whether there is a cause for a Close with this code, which the client received.
pub(crate) fn explain_close(code: Option<u16>, client: &Client, plan: &Plan, is_stopping: bool) -> bool {
    if client.sent_close() == Some(code) {
        return true;
    }
    let config = &plan.config;
    match code {
        // The operators' codes.
        Some(1000 | 4000 | 4999) => plan.requests > 0,
        Some(1001) => is_stopping && plan.may_close_at_once,
        Some(1012) => is_stopping && plan.spread.is_some(),
        // Too many pings, or a message that does not arrive in time.
        Some(1008) => true,
        Some(1009) => client.has_sent_too_long(),
        Some(1013) => config.max_memory < usize::MAX,
        Some(close_code::UNAUTHORIZED) => client.habits.is_refused,
        Some(close_code::NO_PONG) => true,
        Some(close_code::REPLACED) => plan.users.as_ref().is_some_and(|users| users.replaces()),
        Some(close_code::SLOW_CONSUMER) => {
            // Echoes alone do not exceed the limit, unless the answers to one read do.
            let session = &config.session;
            let most = session.pause_backlog + plan.read_buffer + session.max_message;
            plan.requests > 0 || session.max_backlog < most
        }
        Some(close_code::RATE_EXCEEDED) => {
            config.session.has_rates() && config.session.rate_policy == RatePolicy::Close
        }
        Some(close_code::TOO_MANY_CONNECTIONS) => plan.users.is_some(),
        Some(_) | None => false,
    }
}
