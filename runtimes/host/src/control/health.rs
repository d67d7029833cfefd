//! The health checks `/livez` and `/readyz`. They differ: a process that is full or drains is not ready, but
//! restarting it would only disconnect all of its users at once, so it is live.

use std::time::Duration;

use hyper::StatusCode;
use postern_core::worker::AdminRequest;
use serde_json::json;

use super::response::{HttpResponse, as_json};
use super::worker_pool::WorkerPool;
use crate::channels::Node;
use crate::engine::Engine;
use crate::lifecycle::status::ProcessStatus;
use crate::liveness::Liveness;
use crate::workers::{Reply, WorkerReply};

/// Answers 503 if a worker has been unresponsive for [`STUCK`].
pub(super) async fn livez(liveness: &Liveness) -> HttpResponse {
    live_response(liveness.unresponsive_since().await.map(|since| since.elapsed()))
}

/// Returns the response for the longest time that a worker has been unresponsive.
pub(super) fn live_response(unresponsive: Option<Duration>) -> HttpResponse {
    match unresponsive {
        Some(time) if time >= STUCK => {
            as_json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "stuck" }))
        }
        Some(_) | None => as_json(StatusCode::OK, &json!({ "status": "live" })),
    }
}

/// Answers 503 while the process drains or is full, while a worker does not reply, while reads are paused because
/// the log is stalled, and while an engine that is required cannot be reached.
pub(super) async fn readyz(
    pool: &WorkerPool,
    status: &ProcessStatus,
    node: &Node,
    max_connections: usize,
) -> HttpResponse {
    let mut reasons = unready_reasons(pool, status, max_connections).await;
    if node.engine().is_some_and(Engine::is_unready) {
        reasons.push("engine");
    }
    if reasons.is_empty() {
        return as_json(StatusCode::OK, &json!({ "status": "ready" }));
    }
    as_json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "not_ready", "reasons": reasons }))
}

/// Returns why the process should not be sent more users, or no reasons if it may.
async fn unready_reasons(
    pool: &WorkerPool,
    status: &ProcessStatus,
    max_connections: usize,
) -> Vec<&'static str> {
    let mut connections = 0;
    let (mut is_out_of_memory, mut is_unresponsive, mut is_log_stalled) = (false, false, false);
    for reply in pool.query(READY_TIMEOUT, AdminRequest::Load).await {
        match reply {
            Reply::Ok(WorkerReply::Load(load)) => {
                connections += load.admitted;
                is_out_of_memory |= load.is_nearly_out_of_memory;
                is_log_stalled |= load.is_log_stalled;
            }
            Reply::Ok(_) | Reply::Timeout => is_unresponsive = true,
            Reply::Gone => {}
        }
    }
    let reasons = [
        (status.is_draining(), "draining"),
        (connections >= max_connections, "connections"),
        (is_out_of_memory, "memory"),
        (is_unresponsive, "workers"),
        (is_log_stalled, "log"),
    ];
    reasons.into_iter().filter(|(holds, _)| *holds).map(|(_, reason)| reason).collect()
}

/// The time for which a worker may be unresponsive before the process should be restarted.
const STUCK: Duration = Duration::from_secs(10);

/// The time that a worker may take to report its load. Probes usually time out after one second.
const READY_TIMEOUT: Duration = Duration::from_millis(500);
