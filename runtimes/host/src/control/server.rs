//! The sockets of the control port: hyper on smol. Few connections, none of which may stay for long without a request,
//! and of which the oldest makes room if there are too many.

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
use super::key;
use super::response::{ApiError, HttpResponse};
use super::router;
use crate::listen::{FdReserve, Listener, is_out_of_descriptors};

/// Answers requests until the task that runs it is dropped. Once a successor has taken over, only those that have come.
pub(super) async fn serve(
    listener: Async<Listener>,
    api: Rc<AdminApi>,
    executor: Rc<LocalExecutor<'static>>,
) -> Infallible {
    let mut connections: VecDeque<Task<()>> = VecDeque::new();
    // Descriptors of its own, so that it answers when the process has no other. Without them it does what it can.
    let mut reserve = FdReserve::new(RESERVE).ok();
    loop {
        let handed_over = async {
            api.process.status.handed_over().await;
            None
        };
        let accepted = async { Some(listener.read_with(Listener::accept).await) };
        // The end goes first: whoever waits in the queue then is the successor's.
        let Some(accepted) = handed_over.or(accepted).await else { break };
        let stream = match accepted {
            Ok((stream, _)) => Async::new_nonblocking(TcpStream::from(stream)),
            Err(error) => Err(error),
        };
        connections.retain(|connection| !connection.is_finished());
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) if is_out_of_descriptors(&error) => {
                // If the reserve is used up, the oldest connection is ended for the new one.
                if !reserve.as_mut().is_some_and(FdReserve::release) {
                    match connections.pop_front() {
                        Some(oldest) => drop(oldest.cancel().await),
                        None => drop(Timer::after(RECOVER).await),
                    }
                }
                continue;
            }
            Err(_) => {
                // The client gave up, or memory ran out: the next one deserves its chance, but not at once.
                Timer::after(RECOVER).await;
                continue;
            }
        };
        if let Some(reserve) = &mut reserve {
            // Fails as long as there is no descriptor, and is tried again for each connection.
            reserve.refill(0);
        }
        while connections.len() >= api.process.control_connections.max(1) {
            // A client that asks for health or metrics is done within milliseconds.
            if let Some(oldest) = connections.pop_front() {
                oldest.cancel().await;
            }
        }
        connections.push_back(executor.spawn(converse(stream, api.clone())));
    }
    drop(listener);
    // To drop their tasks would end them in the middle of an answer.
    connections.into_iter().for_each(Task::detach);
    pending().await
}

/// Carries one connection from its first request to its end.
async fn converse(stream: Async<TcpStream>, api: Rc<AdminApi>) {
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
        // A client that goes away in the middle is its own business.
        let _ = connection.as_mut().await;
        true
    };
    let handed_over = async {
        api.process.status.handed_over().await;
        false
    };
    if !ended.or(handed_over).await {
        // Its next request is the successor's.
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

/// Answers one request. The order is that of what the client may learn: first whether it may ask at all.
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
    api.handle(endpoint, head.uri.query().unwrap_or_default(), &body).await
}

/// A body is JSON, and says so: no page of another site can send that without being asked for its origin.
fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let said = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = said.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = "the body must be JSON, with the header Content-Type: application/json";
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", message))
}

/// Reads a body that is no longer than `limit` and comes in time.
async fn read(body: Incoming, limit: usize) -> Result<Bytes, ApiError> {
    let too_large = || {
        let message = format!("a body has at most {limit} bytes here");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    };
    // What is announced need not be read first.
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

/// How many descriptors are kept back.
const RESERVE: usize = 4;

/// From the connection, or the answer before, to the end of a request's head; a connection that is kept for another
/// request is closed then, too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// From the head to the end of the body.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest head; hyper's least.
const MAX_HEAD: usize = 8192;

/// How long after an error nobody is accepted.
const RECOVER: Duration = Duration::from_millis(100);
