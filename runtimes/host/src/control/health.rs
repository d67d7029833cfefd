//! Whether the process lives, and whether it should be sent more users. The two differ: who is full or about to stop
//! lives well, and to start it anew would send all its users to the others at once.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::json;

use super::reply::{Reply, as_json};
use crate::phase::Phase;
use crate::workers::{Answer, Desk, WorkerContext};

/// 503 if a worker has not done anything for ten seconds, although it was asked to.
pub(super) async fn livez(desk: &Desk) -> Reply {
    judge(desk.silent_since().await.map(|since| since.elapsed()))
}

/// What the longest silence of a worker means.
pub(super) fn judge(silence: Option<Duration>) -> Reply {
    match silence {
        Some(silence) if silence >= STUCK => {
            as_json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "stuck" }))
        }
        Some(_) | None => as_json(StatusCode::OK, &json!({ "status": "live" })),
    }
}

/// 503 while the process drains, is full, has a worker that does not answer, or cannot write a log that may lose
/// nothing.
pub(super) async fn readyz(desk: &Desk, phase: &Phase, max_connections: usize) -> Reply {
    let reasons = unready(desk, phase, max_connections).await;
    if reasons.is_empty() {
        return as_json(StatusCode::OK, &json!({ "status": "ready" }));
    }
    as_json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "not_ready", "reasons": reasons }))
}

/// Why it should be sent no more users. Nothing, if it may.
async fn unready(desk: &Desk, phase: &Phase, max_connections: usize) -> Vec<&'static str> {
    let load = |context: &mut dyn WorkerContext| {
        let worker = context.worker();
        (worker.admitted(), worker.is_nearly_out_of_memory(), worker.is_log_stalled())
    };
    let answers = desk.ask(PATIENCE, || load).await;
    let mut connections = 0;
    let (mut is_out_of_memory, mut is_silent, mut is_log_stalled) = (false, false, false);
    for answer in answers {
        match answer {
            Answer::Said((here, is_short, is_stalled)) => {
                connections += here;
                is_out_of_memory |= is_short;
                is_log_stalled |= is_stalled;
            }
            Answer::Silent => is_silent = true,
            Answer::Gone => {}
        }
    }
    let reasons = [
        (phase.is_draining(), "draining"),
        (connections >= max_connections, "connections"),
        (is_out_of_memory, "memory"),
        (is_silent, "workers"),
        (is_log_stalled, "log"),
    ];
    reasons.into_iter().filter(|(holds, _)| *holds).map(|(_, reason)| reason).collect()
}

/// How long a worker may owe a sign of life before the process is better started anew.
const STUCK: Duration = Duration::from_secs(10);

/// How long a worker has to say how full it is. Those who ask wait a second, usually.
const PATIENCE: Duration = Duration::from_millis(500);
