//! What `cargo chain` does: Identity, a gateway and Postern on this machine, without Docker.
//!
//! `tools/chain` has built what is ours. This fetches what is not, starts the three, waits for each, prints the commands
//! that work now, and ends all of them when a signal comes or when one of them ends by itself.

use std::cell::Cell;
use std::fmt;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use crate::Failure;
use crate::binaries::Binary;
use crate::process::{Process, Sink};
use crate::provision;

pub mod args;
mod instructions;
mod secret;

use args::{Args, Build};

/// Runs the chain until a signal comes, which is success, or something goes wrong.
pub fn run(args: &Args) -> Result<(), Failure> {
    // Before anything is started, so that no signal finds children and nobody who ends them.
    let interrupt = Interrupt::listen()?;
    check_ports(args)?;
    let secret = secret::given_or_new()?;

    let identity = Binary::Identity.find()?;
    let postern = postern(args)?;
    say(format_args!(
        "looking for {} in target/provision, and downloading it if it is missing",
        args.gateway
    ));
    args.gateway.provision()?;
    let websockets = provision::python_websockets()?;
    if interrupt.came() {
        return Ok(());
    }

    let addresses = args.addresses;
    let mut identity = Command::new(identity);
    identity.args(["--listen", &addresses.identity.to_string()]).env("JWT_SECRET", &secret);
    let identity = start("identity", &mut identity, addresses.identity)?;

    let mut postern = Command::new(postern);
    postern.env("PORT", addresses.postern.port().to_string());
    postern.env("POSTERN_LISTEN", addresses.postern.to_string());
    postern.env("POSTERN_CONTROL", args.control.to_string());
    // Whoever has pressed Ctrl-C waits for the end.
    postern.envs([("POSTERN_DRAIN_GRACE", "0"), ("POSTERN_DRAIN_SPREAD", "0")]);
    // For clients that send their token in a message.
    postern.env("JWT_SECRET", &secret);
    let postern = start(&args.runtime.to_string(), &mut postern, addresses.postern)?;

    let (from, to) = args.gateway.with_page(addresses);
    let gateway = args.gateway.run(addresses, &[(&from, &to)], Sink::Console)?;
    say(format_args!("{:?} listens on {}", gateway.process, addresses.gateway));
    let (gateway, _folder) = gateway.into_parts();

    print_block(&instructions::text(addresses.gateway, &websockets));
    // In the order in which they end: Postern says goodbye to its clients while there is a way to them.
    let mut children = [postern, gateway, identity];
    let outcome = watch(&mut children, &interrupt);
    end(&mut children, &interrupt);
    outcome
}

/// The file that is started as Postern.
fn postern(args: &Args) -> Result<PathBuf, Failure> {
    let program = std::env::current_exe().map_err(Failure::while_doing("looking for this program"))?;
    // Cargo puts the binaries of a profile into one folder, and has the folders of the profiles side by side.
    let folder = match args.build {
        Build::Release => {
            program.parent().and_then(|folder| folder.parent()).map(|target| target.join("release"))
        }
        Build::Dev | Build::File(_) => program.parent().map(PathBuf::from),
    };
    let file = match &args.build {
        Build::File(file) => file.clone(),
        Build::Release | Build::Dev => folder.unwrap_or_default().join(args.runtime.to_string()),
    };
    if !file.is_file() {
        return Err(Failure::new(format!("there is no {}: `cargo chain` builds it", file.display())));
    }
    Ok(file)
}

/// Says now, in one line, what would otherwise be said by a child in its own words, after the build.
fn check_ports(args: &Args) -> Result<(), Failure> {
    let addresses = args.addresses;
    for (whose, address, flag) in [
        ("the gateway", addresses.gateway, args::GATEWAY_PORT),
        ("Identity", addresses.identity, args::IDENTITY_PORT),
        ("Postern", addresses.postern, args::PORT),
        ("Postern's control port", args.control, args::CONTROL_PORT),
    ] {
        TcpListener::bind(address).map_err(|error| {
            Failure::new(format!(
                "{address} is not free for {whose} ({error}): end what listens there, or choose another port \
                 with --{flag}"
            ))
        })?;
    }
    Ok(())
}

fn start(name: &str, command: &mut Command, address: SocketAddr) -> Result<Process, Failure> {
    let mut process = Process::spawn_into(name, command, Sink::Console)?;
    process.wait_until_listening(address, Duration::from_secs(20))?;
    say(format_args!("{process:?} listens on {address}"));
    Ok(process)
}

/// Waits for a signal, or for the first child to end.
fn watch(children: &mut [Process], interrupt: &Interrupt) -> Result<(), Failure> {
    loop {
        if interrupt.came() {
            return Ok(());
        }
        for child in children.iter_mut() {
            if let Some(status) = child.try_wait()? {
                return Err(Failure::new(format!("{child:?} has ended: {}", how(status))));
            }
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Ends the children one after the other; a second signal ends what is left at once.
fn end(children: &mut [Process], interrupt: &Interrupt) {
    for child in children {
        // A child that is gone already needs no goodbye.
        if !matches!(child.try_wait(), Ok(None)) {
            continue;
        }
        say(format_args!("ending {}; another Ctrl-C kills it", child.name()));
        if let Err(failure) = child.signal(Signal::TERM) {
            say(format_args!("{failure}"));
        }
        while matches!(child.try_wait(), Ok(None)) {
            if interrupt.came() {
                child.kill();
                break;
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// Whether a signal to stop has come: SIGINT, SIGTERM, SIGQUIT, or SIGHUP of a terminal that is closed. The children are in
/// groups of their own, so nothing but this program ends them.
struct Interrupt {
    flag: Arc<AtomicBool>,
    /// When it was seen the last time.
    seen: Cell<Option<Instant>>,
}

impl Interrupt {
    fn listen() -> Result<Self, Failure> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGQUIT, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&flag))
                .map_err(Failure::while_doing(format_args!("handling signal {signal}")))?;
        }
        Ok(Self { flag, seen: Cell::new(None) })
    }

    /// True once for each time one came. Two of them in quick succession are one: `cargo` and `timeout` pass on what the
    /// terminal sends to the whole group anyway.
    fn came(&self) -> bool {
        if !self.flag.swap(false, Ordering::Relaxed) {
            return false;
        }
        let last = self.seen.replace(Some(Instant::now()));
        last.is_none_or(|last| last.elapsed() > REPEAT)
    }
}

/// A line of our own between those of the children.
fn say(line: fmt::Arguments<'_>) {
    print_block(&format!("{:>12} | {line}\n", "chain"));
}

fn print_block(text: &str) {
    // `println!` would panic when nobody reads any more, and the children would be left alone.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Within this time, two signals are one request.
const REPEAT: Duration = Duration::from_millis(200);

const POLL_INTERVAL: Duration = Duration::from_millis(50);
