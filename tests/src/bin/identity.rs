//! The development Identity service; see the module `postern_tests::identity`.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use postern_tests::identity::args::Args;
use postern_tests::identity::serve::serve;
use postern_tests::identity::service::Service;
use postern_tests::identity::tokens::Tokens;
use postern_tests::{Failure, http};
use signal_hook::consts::{SIGINT, SIGTERM};

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args_os()) {
        Ok(args) => args,
        Err(error) => error.exit(),
    };
    if args.healthcheck {
        return healthcheck(args.listen);
    }
    let secret = std::env::var("JWT_SECRET").unwrap_or_default();
    if secret.is_empty() {
        eprintln!("identity: JWT_SECRET is not set: it is the secret that tokens are signed with");
        return ExitCode::from(2);
    }
    if let Err(failure) = end_on_signals() {
        eprintln!("identity: {failure}");
        return ExitCode::FAILURE;
    }
    let Err(failure) = serve(args.listen, Service::new(Tokens::new(secret.as_bytes(), args.token_lifetime)));
    eprintln!("identity: {failure}");
    ExitCode::FAILURE
}

/// A request without a token gets 401 from a service that is well. An image without a shell has no other client.
fn healthcheck(listen: SocketAddr) -> ExitCode {
    match http::request(listen, "GET", "/identity/validate", &[], b"") {
        Ok(answer) if answer.status == 401 => {
            println!("ok");
            ExitCode::SUCCESS
        }
        Ok(answer) => {
            eprintln!("identity: {listen} answered {answer}");
            ExitCode::FAILURE
        }
        Err(failure) => {
            eprintln!("identity: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Nothing is worth finishing here. But the first process of a container has no default action for signals: without
/// this, `docker stop` would wait ten seconds for nothing.
fn end_on_signals() -> Result<(), Failure> {
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 0, Arc::new(AtomicBool::new(true)))
            .map_err(Failure::while_doing(format_args!("handling signal {signal}")))?;
    }
    Ok(())
}
