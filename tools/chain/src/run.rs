//! Downloads the gateway, starts the Identity service, Postern and the gateway, prints commands to try, and ends all
//! three on a signal or when one of them ends.

use std::cell::Cell;
use std::ffi::OsStr;
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

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use crate::args::{self, Args, Build};
use crate::child::Child;
use crate::example::Example;
use crate::gateway::Gateway;
use crate::services::Services;
use crate::{Failure, gateway, instructions, provision, secret};

/// Runs the chain until a signal arrives, which is a success, or a step fails.
pub fn run(args: &Args) -> Result<(), Failure> {
    // Before any child is started, so that a signal ends the children, too.
    let interrupt = Interrupt::listen()?;
    check_ports(args)?;
    let secret = secret::given_or_new("JWT_SECRET")?;
    let api_key = secret::given_or_new("POSTERN_API_KEY")?;

    let identity = identity()?;
    let postern = postern(args)?;
    say(format_args!(
        "looking for {} in target/provision, and downloading it if it is missing",
        args.gateway
    ));
    args.gateway.provision()?;
    let websockets = provision::python_websockets()?;
    let files = args.example.map(Example::files).transpose()?.unwrap_or_default();
    let mut services = Services::prepare(args)?;
    let amqp = services.amqp();
    let backend = match args.example {
        Some(example) => example.backend(args.control, &api_key, amqp.as_deref())?,
        None => None,
    };
    if interrupt.came() {
        return Ok(());
    }

    let addresses = args.addresses;
    let mut identity = Command::new(identity);
    identity.args(["--listen", &addresses.identity.to_string()]).env("JWT_SECRET", &secret);
    // A logout ends the connections of its session.
    identity.args(["--revoke-at", &args.control.to_string()]).env("POSTERN_API_KEY", &api_key);
    identity.args(files.iter().flat_map(|folder| [OsStr::new("--files"), folder.as_os_str()]));
    let identity = start("identity", &mut identity, addresses.identity)?;

    let services_running = services.start()?;
    let mut posterns = Vec::new();
    for node in args.nodes() {
        let mut command = Command::new(&postern);
        command.env("PORT", node.data.port().to_string());
        command.env("POSTERN_LISTEN", node.data.to_string());
        command.env("POSTERN_CONTROL", node.control.to_string());
        // Ctrl-C should end Postern at once, without a grace period.
        command.envs([("POSTERN_DRAIN_GRACE", "0"), ("POSTERN_DRAIN_SPREAD", "0")]);
        // For clients that send their token in a message.
        command.env("JWT_SECRET", &secret).env("POSTERN_API_KEY", &api_key);
        if let Some(example) = args.example
            && std::env::var_os(CHANNELS_FILE).is_none()
        {
            command.env(CHANNELS_FILE, example.channels());
        }
        services.configure(&mut command, &postern);
        posterns.push(start(&node.name, &mut command, node.data)?);
    }

    let folder = tempfile::tempdir().map_err(Failure::while_doing("creating a temporary folder"))?;
    let (from, to) = args.gateway.with_page(addresses);
    let more: Vec<SocketAddr> = args.nodes().skip(1).map(|node| node.data).collect();
    let (one, all) = Gateway::with_nodes(&more);
    let changes = [(&*from, &*to), (&*one, &*all)];
    // Only Traefik has several.
    let changes = if more.is_empty() { &changes[..1] } else { &changes[..] };
    let mut gateway = args.gateway.prepare(folder.path(), addresses, changes)?;
    let gateway = start(&args.gateway.to_string(), &mut gateway, addresses.gateway)?;
    gateway::wait_until_routed(addresses.gateway)?;

    let backend = backend.map(|mut command| Child::spawn("house", &mut command)).transpose()?;

    if let Some(example) = args.example {
        print_block(&instructions::of_example(example, addresses.gateway, amqp.as_deref())?);
    }
    print_block(&instructions::text(addresses.gateway, &websockets));
    // The order in which they end: Postern can still send Close frames through the gateway.
    let mut children: Vec<_> = backend.into_iter().chain(posterns).collect();
    children.extend([gateway, identity]);
    children.extend(services_running);
    let outcome = watch(&mut children, &interrupt);
    end(&mut children, &interrupt);
    outcome
}

/// Returns the path of the Identity service. Cargo puts the binaries of a profile into one folder, and the tests
/// build this program and the Identity service under names with a prefix.
fn identity() -> Result<PathBuf, Failure> {
    let program = this_program()?;
    let name = program.file_name().unwrap_or_default().to_string_lossy().replace("chain", "identity");
    existing(program.with_file_name(name))
}

/// Returns the path of Postern. The folders of Cargo's profiles are next to each other.
fn postern(args: &Args) -> Result<PathBuf, Failure> {
    let profile = match &args.build {
        Build::File(file) => return existing(file.clone()),
        Build::Release => "release",
        Build::Dev => "debug",
    };
    let target = this_program()?.ancestors().nth(2).map(PathBuf::from).unwrap_or_default();
    existing(target.join(profile).join(args.package))
}

fn this_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(Failure::while_doing("looking for this program"))
}

fn existing(file: PathBuf) -> Result<PathBuf, Failure> {
    if file.is_file() {
        return Ok(file);
    }
    Err(Failure::new(format!("there is no {}: `cargo chain` builds it", file.display())))
}

/// Fails if a port is in use. Otherwise a child would fail later, with an error that does not name the flag.
fn check_ports(args: &Args) -> Result<(), Failure> {
    let addresses = args.addresses;
    let mut used = vec![
        ("the gateway", addresses.gateway, args::GATEWAY_PORT),
        ("Identity", addresses.identity, args::IDENTITY_PORT),
    ];
    for node in args.nodes() {
        used.push(("Postern", node.data, args::PORT));
        used.push(("Postern's control port", node.control, args::CONTROL_PORT));
    }
    used.extend(args.redis.map(|address| ("Redis", address, args::REDIS_PORT)));
    used.extend(args.rabbitmq.map(|address| ("RabbitMQ", address, args::RABBITMQ_PORT)));
    for (whose, address, flag) in used {
        TcpListener::bind(address).map_err(|error| {
            Failure::new(format!(
                "{address} is not available for {whose} ({error}): stop the program that listens there, or choose \
                 another port with --{flag}"
            ))
        })?;
    }
    Ok(())
}

fn start(name: &str, command: &mut Command, address: SocketAddr) -> Result<Child, Failure> {
    let child = Child::start(name, command, address)?;
    say(format_args!("{child} listens on {address}"));
    Ok(child)
}

/// Waits for a signal, or for the first child to end.
fn watch(children: &mut [Child], interrupt: &Interrupt) -> Result<(), Failure> {
    loop {
        if interrupt.came() {
            return Ok(());
        }
        for child in children.iter_mut() {
            if let Some(status) = child.try_wait()? {
                return Err(Failure::new(format!("{child} has ended: {}", how(status))));
            }
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Ends the children one after the other. A second signal kills the one that is ending.
fn end(children: &mut [Child], interrupt: &Interrupt) {
    for child in children {
        if !matches!(child.try_wait(), Ok(None)) {
            continue;
        }
        say(format_args!("ending {}; another Ctrl-C kills it", child.name()));
        if let Err(failure) = child.terminate() {
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

/// Records signals that stop the chain: SIGINT, SIGTERM, SIGQUIT, or the SIGHUP of a closed terminal. The children are
/// in separate process groups, so only this program ends them.
struct Interrupt {
    flag: Arc<AtomicBool>,
    /// The time of the last signal.
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

    /// Returns true once for each signal. Two signals within [`REPEAT`] count as one, because `cargo` and `timeout`
    /// forward the signals that a terminal sends to the whole group.
    fn came(&self) -> bool {
        if !self.flag.swap(false, Ordering::Relaxed) {
            return false;
        }
        let last = self.seen.replace(Some(Instant::now()));
        last.is_none_or(|last| last.elapsed() > REPEAT)
    }
}

/// Prints a line of this program between the lines of the children.
fn say(line: fmt::Arguments<'_>) {
    print_block(&format!("{:>12} | {line}\n", "chain"));
}

fn print_block(text: &str) {
    // `println!` would panic if standard output is closed, and the children would not be ended.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

const CHANNELS_FILE: &str = "POSTERN_CHANNELS_FILE";

/// Two signals within this time count as one.
const REPEAT: Duration = Duration::from_millis(200);

const POLL_INTERVAL: Duration = Duration::from_millis(50);
