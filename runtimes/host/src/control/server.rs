//! The HTTP server of the control port: hyper on smol. The number of connections is small. An idle connection is
//! closed after [`HEAD_TIMEOUT`], and at the limit the oldest is closed for a new one.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::pending;
use std::net::TcpStream;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use smol::future::FutureExt;
use smol::{Async, LocalExecutor, Task, Timer};
use smol_hyper::rt::{FuturesIo, SmolTimer};

use super::admin_api::AdminApi;
use super::api::ErrorMode;
use super::key;
use super::response::{ApiError, HttpResponse};
use super::router;
use crate::listen::{FdReserve, Listener, is_out_of_descriptors};

/// Serves requests until the task is dropped. After a successor has taken over, serves only the connections that are
/// accepted already.
pub(super) async fn serve(
    listener: Async<Listener>,
    api: Rc<AdminApi>,
    executor: Rc<LocalExecutor<'static>>,
) -> Infallible {
    let mut connections: VecDeque<Task<()>> = VecDeque::new();
    // Reserved file descriptors, so that the control port responds when the process has no other. It also works
    // without.
    let mut reserve = FdReserve::new(RESERVE).ok();
    loop {
        let handed_over = async {
            api.process.status.handed_over().await;
            None
        };
        let accepted = async { Some(listener.read_with(Listener::accept).await) };
        // Checked before `accepted`: after the handover, connections in the accept queue belong to the successor.
        let Some(accepted) = handed_over.or(accepted).await else { break };
        let stream = match accepted {
            Ok((stream, _)) => Async::new_nonblocking(TcpStream::from(stream)),
            Err(error) => Err(error),
        };
        connections.retain(|connection| !connection.is_finished());
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) if is_out_of_descriptors(&error) => {
                // Without a reserve, the oldest connection is closed for the new one.
                if !reserve.as_mut().is_some_and(FdReserve::release) {
                    match connections.pop_front() {
                        Some(oldest) => drop(oldest.cancel().await),
                        None => drop(Timer::after(RECOVER).await),
                    }
                }
                continue;
            }
            Err(_) => {
                // The client has disconnected, or the kernel has no memory: accept again later.
                Timer::after(RECOVER).await;
                continue;
            }
        };
        if let Some(reserve) = &mut reserve {
            // It fails while no file descriptor is free, and is tried again for each connection.
            reserve.refill(0);
        }
        while connections.len() >= api.process.control_connections.max(1) {
            // A request for health or metrics takes milliseconds, so the oldest connection is probably idle.
            if let Some(oldest) = connections.pop_front() {
                oldest.cancel().await;
            }
        }
        connections.push_back(executor.spawn(serve_connection(stream, api.clone())));
    }
    drop(listener);
    // Dropping a task would end its connection within a response.
    connections.into_iter().for_each(Task::detach);
    pending().await
}

/// Serves one connection from its first request to its end.
async fn serve_connection(stream: Async<TcpStream>, api: Rc<AdminApi>) {
    let requests = service_fn(|request| {
        let api = api.clone();
        async move { Ok::<_, Infallible>(respond(request, &api).await.unwrap_or_else(HttpResponse::from)) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(SmolTimer::new())
            .header_read_timeout(Some(HEAD_TIMEOUT))
            .max_buf_size(MAX_HEAD)
            .serve_connection(FuturesIo::new(stream), requests)
    );
    let ended = async {
        // It fails if the client disconnects within a request.
        let _ = connection.as_mut().await;
        true
    };
    let handed_over = async {
        api.process.status.handed_over().await;
        false
    };
    if !ended.or(handed_over).await {
        // The client sends its next request to the successor.
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

/// Answers one request. The API key is checked first, so that a client without one gets no other information.
async fn respond(request: Request<Incoming>, api: &AdminApi) -> Result<HttpResponse, ApiError> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    if router::needs_key(path) {
        key::check(&api.process.api_keys, &head.headers).map_err(ApiError::and_close)?;
    }
    let endpoint = router::route(&head.method, path).map_err(ApiError::and_close)?;
    let body = if endpoint.takes_body() {
        check_type(&head.headers).map_err(ApiError::and_close)?;
        read(body, api.max_body()).await.map_err(ApiError::and_close)?
    } else {
        Bytes::new()
    };
    let mode = ErrorMode::from_header(head.headers.get(ErrorMode::HEADER).map(|value| value.as_bytes()));
    api.handle(endpoint, &body, mode).await
}

/// Checks that the content type is JSON. A page of another site cannot send it without a CORS preflight.
fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = "the body must be JSON, with the header Content-Type: application/json";
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", message))
}

/// Reads a body of at most `limit` bytes within [`BODY_TIMEOUT`].
async fn read(body: Incoming, limit: usize) -> Result<Bytes, ApiError> {
    let too_large = || {
        let message = format!("the body must have at most {limit} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    };
    // A larger Content-Length is refused before the body is read.
    if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(too_large());
    }
    let whole = async { Some(Limited::new(body, limit).collect().await) };
    let late = async {
        Timer::after(BODY_TIMEOUT).await;
        None
    };
    match whole.or(late).await {
        Some(Ok(body)) => Ok(body.to_bytes()),
        Some(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Some(Err(_)) => Err(ApiError::bad(
            "body",
            "the body could not be read to its end; send as many bytes as Content-Length says",
        )),
        None => {
            let message = format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs());
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", message))
        }
    }
}

/// The number of reserved file descriptors.
const RESERVE: usize = 4;

/// The longest time from the start of a connection or the previous response to the end of the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest time from the head to the end of the body.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest head in bytes: the smallest limit that hyper allows.
const MAX_HEAD: usize = 8192;

/// The time for which no connection is accepted after an error.
const RECOVER: Duration = Duration::from_millis(100);
