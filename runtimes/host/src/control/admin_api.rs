//! The operations of the control port. Each combines the state of the process with the replies of its workers.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::StatusCode;
use postern_core::handshake::Secrets;
use postern_core::worker::AdminRequest;
use serde_json::json;
use slog::Logger;

use super::api::{self, ClientMethod, ErrorMode, KnownTokens, Method, MethodErrorCode};
use super::health;
use super::response::{ApiError, HttpResponse, as_json, as_text};
use super::router::Endpoint;
use super::worker_pool::WorkerPool;
use crate::channels::Node;
use crate::lifecycle::status::ProcessStatus;
use crate::liveness::Liveness;
use crate::log::{DroppedRecords, rfc3339};
use crate::metrics::{self, CONTENT_TYPE, Process, Sends, Snapshot, Sum, Usage};
use crate::revocations::RevocationTable;
use crate::settings::Program;
use crate::source::Source;
use crate::workers::{Reply, WorkerReply, Workers};

/// The properties of the process that are known when it starts.
#[derive(Debug)]
pub(super) struct ProcessInfo {
    pub(super) program: Program,
    pub(super) started: SystemTime,
    /// The addresses for users.
    pub(super) listen: Vec<String>,
    pub(super) max_connections: usize,
    /// The limit of connections of the control port.
    pub(super) control_connections: usize,
    pub(super) max_message: usize,
    pub(super) trusts_any: bool,
    pub(super) api_keys: Secrets,
    pub(super) has_console: bool,
    /// The settings in effect by their names, without secrets.
    pub(super) settings: Vec<(&'static str, String)>,
    pub(super) status: ProcessStatus,
    pub(super) node: Arc<Node>,
    pub(super) source: Source,
    pub(super) revocations: Arc<RevocationTable>,
    /// The properties of tokens that are read from requests.
    pub(super) tokens: KnownTokens,
    pub(super) dropped_records: DroppedRecords,
    pub(super) log: Logger,
}

/// The operations of the control port, and their state.
pub(super) struct AdminApi {
    pub(super) process: ProcessInfo,
    pub(super) pool: WorkerPool,
    liveness: Liveness,
    /// The last snapshot of each worker. After a worker has ended, its counts stay in the sum.
    last: RefCell<Vec<Option<Snapshot>>>,
    sends: Cell<Sends>,
}

impl AdminApi {
    pub(super) fn new(process: ProcessInfo, workers: impl Workers + 'static) -> AdminApi {
        let workers: Rc<dyn Workers> = Rc::new(workers);
        let last = (0..workers.count()).map(|_| None).collect();
        AdminApi {
            process,
            pool: WorkerPool::new(workers.clone()),
            liveness: Liveness::new(workers),
            last: RefCell::new(last),
            sends: Cell::default(),
        }
    }

    /// Returns the largest body that a request needs: a message, in base64 or with escapes, and the other fields.
    pub(super) fn max_body(&self) -> usize {
        self.process.max_message.saturating_mul(2).saturating_add(64 * 1024)
    }

    /// Performs a request.
    ///
    /// # Errors
    /// The request is invalid, or a worker does not reply.
    pub(super) async fn handle(
        &self,
        endpoint: Endpoint,
        body: &[u8],
        mode: ErrorMode,
    ) -> Result<HttpResponse, ApiError> {
        match endpoint {
            Endpoint::Livez => Ok(health::livez(&self.liveness).await),
            Endpoint::Readyz => {
                let ProcessInfo { status, node, max_connections, .. } = &self.process;
                Ok(health::readyz(&self.pool, status, node, *max_connections).await)
            }
            Endpoint::Metrics => self.metrics().await,
            Endpoint::Console(asset) if self.process.has_console => Ok(asset.response()),
            Endpoint::Console(_) => {
                let message = "the console is off; POSTERN_CONSOLE=on turns it on";
                Err(ApiError::new(StatusCode::NOT_FOUND, "not_found", message))
            }
            Endpoint::Info => self.info().await,
            Endpoint::Batch => {
                let calls = api::batch(body)?;
                let results = self.perform(&calls).await;
                let replies = calls.iter().zip(&results).map(|(call, result)| {
                    api::named(call.as_ref().map_or("", |call| call.method.name()), result)
                });
                let replies: Vec<_> = replies.collect();
                Ok(as_json(StatusCode::OK, &BTreeMap::from([("replies", replies)])))
            }
            Endpoint::Lines => {
                let calls: Vec<_> = api::lines(body)?.into_iter().map(Ok).collect();
                let lines: Vec<_> = self
                    .perform(&calls)
                    .await
                    .iter()
                    .map(|result| api::outcome(result).to_string())
                    .collect();
                Ok(as_text("application/json", lines.join("\n") + "\n"))
            }
            Endpoint::Method(method) => {
                let call = api::single(method, body).inspect_err(|_| {
                    if method == Method::Clients(ClientMethod::Send) {
                        self.count_send(None);
                    }
                })?;
                let result = self.perform(&[Ok(call)]).await.pop();
                Ok(match (result, mode) {
                    // A client can try again, as after any other status from 500.
                    (Some(Err(error)), _) if error.code == MethodErrorCode::Internal => {
                        as_json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": error.as_json() }))
                    }
                    (Some(Err(error)), ErrorMode::Transport) => as_json(error.status(), &error.as_json()),
                    (result, _) => as_json(StatusCode::OK, &result.as_ref().map(api::outcome)),
                })
            }
        }
    }

    async fn metrics(&self) -> Result<HttpResponse, ApiError> {
        let sum = self.sum().await?;
        let started = self.process.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        let process = Process {
            program: self.process.program.name,
            version: self.process.program.version,
            started: started.as_secs_f64(),
            workers: self.pool.count(),
            max_connections: self.process.max_connections,
            trusts_any: self.process.trusts_any,
            is_draining: self.process.status.is_draining(),
            records_dropped: self.process.dropped_records.count(),
            inbox_refusals: self.pool.refused(),
            sends: self.sends.get(),
            channels: self.process.node.stats(),
            hooks: self.process.node.hooks().stats(),
            source: self.process.source.stats(),
            checks: self.process.node.checker().map(|checker| checker.stats()),
            revocations: self.process.revocations.len(),
            usage: Usage::now(),
        };
        Ok(as_text(CONTENT_TYPE, metrics::encode(process, sum)))
    }

    async fn info(&self) -> Result<HttpResponse, ApiError> {
        let sum = self.sum().await?;
        let ProcessInfo { program, started, listen, max_connections, status, settings, .. } = &self.process;
        let uptime = started.elapsed().unwrap_or_default();
        let body = json!({
            "program": program.name,
            "version": program.version,
            "pid": std::process::id(),
            "started_at": rfc3339(*started),
            "uptime_seconds": uptime.as_secs(),
            "listen": listen,
            "workers": self.pool.count(),
            "connections": sum.totals.connections,
            "max_connections": max_connections,
            "users": sum.users,
            "memory_held_bytes": sum.totals.memory,
            "memory_max_bytes": sum.totals.max_memory,
            "draining": status.is_draining(),
            "settings": settings.iter().cloned().collect::<BTreeMap<_, _>>(),
        });
        Ok(as_json(StatusCode::OK, &body))
    }

    /// Returns the sum of the counts of all workers. If one does not reply, this fails, because a sum without it
    /// would be less than the previous one, which Prometheus takes for a restart.
    pub(super) async fn sum(&self) -> Result<Sum, ApiError> {
        let replies = self.pool.query(QUERY_TIMEOUT, AdminRequest::Totals).await;
        let mut last = self.last.borrow_mut();
        for (reply, last) in replies.into_iter().zip(last.iter_mut()) {
            match reply {
                Reply::Ok(WorkerReply::Snapshot(snapshot)) => *last = Some(*snapshot),
                Reply::Ok(_) | Reply::Timeout => return Err(unresponsive()),
                Reply::Gone => *last = last.take().map(Snapshot::after_worker_end),
            }
        }
        let known = last.iter().enumerate().filter_map(|(worker, last)| Some((worker, last.as_ref()?)));
        Ok(Snapshot::sum(known))
    }

    /// Counts a message by the number of connections that it was sent to; `None` if it was refused.
    pub(super) fn count_send(&self, connections: Option<usize>) {
        let mut sends = self.sends.get();
        let outcome = match connections {
            Some(0) => &mut sends.no_connection,
            Some(_) => &mut sends.delivered,
            None => &mut sends.refused,
        };
        *outcome += 1;
        self.sends.set(sends);
    }
}

/// The error if not all workers have replied.
fn unresponsive() -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "workers",
        "not all workers have replied; the request may have been performed by some",
    )
}

/// The time that the workers may take to reply. A turn takes less than a millisecond, but the host may be overloaded.
pub(super) const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
