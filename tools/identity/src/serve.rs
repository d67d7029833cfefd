//! The sockets of the service: hyper on smol.

use std::convert::Infallible;
use std::io::{self, Write};
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

use crate::revoke::Revoker;
use crate::service::{Answer, Route, Service, refusal};

/// Answers requests on `listen` until the process ends. Returns only if it cannot listen.
///
/// `revoker` ends the connections of sessions that log out, if there is one.
pub fn serve(listen: SocketAddr, service: Service, revoker: Option<Revoker>) -> io::Result<Infallible> {
    let service = Arc::new((service, revoker));
    smol::block_on(async {
        let listener = TcpListener::bind(listen).await?;
        print_line(format_args!("Identity listens on {listen}"));
        loop {
            match listener.accept().await {
                Ok((stream, _)) => smol::spawn(connection(stream, Arc::clone(&service))).detach(),
                // The client gave up, or the process has no file descriptor left. The pause keeps the loop from using
                // all of a core.
                Err(_) => {
                    smol::Timer::after(Duration::from_millis(10)).await;
                }
            }
        }
    })
}

async fn connection(stream: TcpStream, service: Arc<(Service, Option<Revoker>)>) {
    let requests = service_fn(|request| respond(request, &service.0, service.1.as_ref()));
    // An error means that the client closed the connection early. The request log has the answer.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(SmolTimer::new())
        .header_read_timeout(Some(READ_TIMEOUT))
        .serve_connection(FuturesIo::new(stream), requests)
        .await;
}

async fn respond(
    request: Request<Incoming>,
    service: &Service,
    revoker: Option<&Revoker>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let wants_body = Route::of(head.uri.path()).wants_body(&head.method);
    let answer = match if wants_body { read(body).await } else { Ok(Bytes::new()) } {
        Ok(body) => service.answer(&head, &body, SystemTime::now()),
        Err(refusal) => refusal,
    };
    if let (Some(session), Some(revoker)) = (answer.ended_session.clone(), revoker.cloned()) {
        match smol::unblock(move || revoker.revoke(&session)).await {
            Ok(status) if status == "200" => {}
            Ok(status) => print_line(format_args!("Postern has not revoked a session: status {status}")),
            Err(error) => print_line(format_args!("Postern has not revoked a session: {error}")),
        }
    }
    // The path without the query, and no header: tokens must not be logged.
    print_line(format_args!(
        "{} {} {} {}",
        head.method,
        head.uri.path(),
        answer.response.status().as_u16(),
        answer.user.as_deref().unwrap_or("-")
    ));
    Ok(answer.response)
}

/// Reads the body of a login, up to [`MAX_BODY`] and within [`READ_TIMEOUT`].
async fn read(body: Incoming) -> Result<Bytes, Answer> {
    let body = Limited::new(body, MAX_BODY).collect();
    let late = async {
        smol::Timer::after(READ_TIMEOUT).await;
        None
    };
    let mut answer = match smol::future::or(async { Some(body.await) }, late).await {
        Some(Ok(body)) => return Ok(body.to_bytes()),
        Some(Err(error)) if error.is::<LengthLimitError>() => {
            refusal(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "a login has at most 8 KiB")
        }
        Some(Err(_)) => refusal(StatusCode::BAD_REQUEST, "bad_request", "the body could not be read"),
        None => refusal(StatusCode::REQUEST_TIMEOUT, "timeout", "the body took longer than 5 seconds"),
    };
    // The unread rest of the body would be parsed as the next request.
    answer.response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    Err(answer)
}

fn print_line(line: std::fmt::Arguments<'_>) {
    // `println!` would panic if standard output is closed.
    let _ = writeln!(io::stdout(), "{line}");
}

/// The largest body of a login, in bytes.
const MAX_BODY: usize = 8 * 1024;

/// The time that the head and the body of a request may each take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
