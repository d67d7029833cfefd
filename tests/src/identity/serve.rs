//! The sockets of the service: hyper on smol.

use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use smol::net::{TcpListener, TcpStream};
use smol_hyper::rt::{FuturesIo, SmolTimer};

use super::service::{Answer, Route, Service, refusal};
use crate::Failure;

/// Answers requests on `listen` until the process ends.
pub fn serve(listen: SocketAddr, service: Service) -> Result<Infallible, Failure> {
    let service = Arc::new(service);
    smol::block_on(async {
        let listener = TcpListener::bind(listen)
            .await
            .map_err(Failure::while_doing(format_args!("listening on {listen}")))?;
        print_line(format_args!("Identity listens on {listen}"));
        loop {
            match listener.accept().await {
                Ok((stream, _)) => smol::spawn(connection(stream, Arc::clone(&service))).detach(),
                // The client gave up, or descriptors ran out. Either way the next one deserves its chance, but
                // not in a loop that burns the processor.
                Err(_) => {
                    smol::Timer::after(Duration::from_millis(10)).await;
                }
            }
        }
    })
}

async fn connection(stream: TcpStream, service: Arc<Service>) {
    let requests = service_fn(|request| respond(request, &service));
    // A client that goes away in the middle is its own business; the request log has what was answered.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(SmolTimer::new())
        .header_read_timeout(Some(READ_TIMEOUT))
        .serve_connection(FuturesIo::new(stream), requests)
        .await;
}

async fn respond(request: Request<Incoming>, service: &Service) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let wants_body = Route::of(head.uri.path()).wants_body(&head.method);
    let answer = match if wants_body { read(body).await } else { Ok(Bytes::new()) } {
        Ok(body) => service.answer(&head, &body, SystemTime::now()),
        Err(refusal) => refusal,
    };
    // The path without the query, and no header: a log is no place for tokens.
    print_line(format_args!(
        "{} {} {} {}",
        head.method,
        head.uri.path(),
        answer.response.status().as_u16(),
        answer.user.as_deref().unwrap_or("-")
    ));
    Ok(answer.response)
}

/// Reads the body of a login, which is small and comes soon.
async fn read(body: Incoming) -> Result<Bytes, Answer> {
    let body = Limited::new(body, MAX_BODY).collect();
    let late = async {
        smol::Timer::after(READ_TIMEOUT).await;
        None
    };
    let mut answer = match smol::future::or(async { Some(body.await) }, late).await {
        Some(Ok(body)) => return Ok(body.to_bytes()),
        Some(Err(error)) if error.is::<LengthLimitError>() => {
            refusal(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "a login fits into 8 KiB")
        }
        Some(Err(_)) => refusal(StatusCode::BAD_REQUEST, "bad_request", "the body could not be read"),
        None => refusal(StatusCode::REQUEST_TIMEOUT, "timeout", "the body did not come in time"),
    };
    // What is left of the body would be read as the next request.
    answer.response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    Err(answer)
}

fn print_line(line: std::fmt::Arguments<'_>) {
    // `println!` would panic when nobody reads any more. Then nobody misses the line either.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Email and password; anything longer is no login.
const MAX_BODY: usize = 8 * 1024;

/// How long a head and a body may take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
