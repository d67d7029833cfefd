//! The program: its command line, its environment and its signals.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::args::Args;
use crate::files::Files;
use crate::revoke::Revoker;
use crate::serve::serve;
use crate::service::Service;
use crate::tokens::Tokens;

/// Runs the service until a signal ends the process, or the health check. `on_issue` is called with each token that
/// the service issues: tests record them.
pub fn run(on_issue: fn(&str)) -> ExitCode {
    let args = match Args::parse(std::env::args_os()) {
        Ok(args) => args,
        Err(error) => error.exit(),
    };
    if args.healthcheck {
        return healthcheck(args.listen);
    }
    let secret = std::env::var("JWT_SECRET").unwrap_or_default();
    if secret.is_empty() {
        eprintln!("identity: JWT_SECRET is not set: set it to the secret that signs tokens");
        return ExitCode::from(2);
    }
    if let Err(error) = exit_on_signals() {
        eprintln!("identity: cannot handle signals: {error}");
        return ExitCode::FAILURE;
    }
    let tokens = Tokens::new(secret.as_bytes(), args.token_lifetime).on_issue(on_issue);
    let key = std::env::var("POSTERN_API_KEY").unwrap_or_default();
    let revoker = args.revoke_at.map(|address| Revoker { address, key });
    let service = Service::new(tokens).with_files(Files::new(args.files));
    let Err(error) = serve(args.listen, service, revoker);
    eprintln!("identity: cannot listen on {}: {error}", args.listen);
    ExitCode::FAILURE
}

/// Reports whether a request without a token gets 401. An image without a shell has no other client for a health check.
fn healthcheck(listen: SocketAddr) -> ExitCode {
    match status_without_token(listen) {
        Ok(status) if status == "401" => {
            println!("ok");
            ExitCode::SUCCESS
        }
        Ok(status) => {
            eprintln!("identity: {listen} answered {status:?} instead of 401");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("identity: {listen} does not answer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn status_without_token(listen: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&listen, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let request = format!("GET /identity/validate HTTP/1.1\r\nHost: {listen}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split(' ').nth(1).unwrap_or_default().to_owned())
}

/// Exits with 0 on SIGINT and SIGTERM. The first process of a container has no default action for signals: without
/// this, `docker stop` would wait ten seconds and then kill the process.
fn exit_on_signals() -> io::Result<()> {
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 0, Arc::new(AtomicBool::new(true)))?;
    }
    Ok(())
}

/// The time for which the health check waits for a connection, and for the answer.
const TIMEOUT: Duration = Duration::from_secs(10);
