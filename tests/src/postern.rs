//! Postern as a child of a test.

use std::fmt;
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use tempfile::TempDir;

use crate::binaries::Binary;
use crate::process::{Ending, Process, Stream};
use crate::{Failure, canary, ports, provision};

/// Which of the two binaries. What one does, the other must do too, so most tests run with both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// `postern`
    Mio,
    /// `postern-smol`
    Smol,
}

impl Runtime {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Mio, Self::Smol];

    /// The binary of this runtime.
    pub fn binary(self) -> Binary {
        match self {
            Self::Mio => Binary::Postern,
            Self::Smol => Binary::PosternSmol,
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.binary().fmt(f)
    }
}

/// A running Postern with nothing but its defaults and what the test set.
#[derive(Debug)]
pub struct Postern {
    /// Its process.
    pub process: Process,
    address: SocketAddr,
    control: Option<SocketAddr>,
    /// Where it was started: empty, so that no `.env` of the developer is read.
    folder: TempDir,
}

impl Postern {
    /// Starts it on a free port with these settings in its environment, and waits until it listens.
    ///
    /// # Panics
    ///
    /// If it does not start, with what it said.
    #[track_caller]
    pub fn start(runtime: Runtime, settings: &[(&str, &str)]) -> Self {
        Self::start_beside(runtime, "", settings)
    }

    /// The same, listening on these addresses, too: `,unix:/run/postern.sock`.
    ///
    /// # Panics
    ///
    /// If it does not start, with what it said.
    #[track_caller]
    pub fn start_beside(runtime: Runtime, addresses: &str, settings: &[(&str, &str)]) -> Self {
        Self::start_by(runtime, addresses, settings, Process::spawn)
    }

    /// The same, as the leader of a process group, all of which ends with it: for one that gets successors. They are
    /// started by [`program`](Self::program), as it is.
    ///
    /// # Panics
    ///
    /// If it does not start, with what it said.
    #[track_caller]
    pub fn start_leading(runtime: Runtime, addresses: &str, settings: &[(&str, &str)]) -> Self {
        Self::start_by(runtime, addresses, settings, |name, command| {
            Ok(Process::spawn(name, &mut leading(command)?)?.ending(Ending::KillGroup))
        })
    }

    /// The same. Its log goes to a file, a pipe or a socket, and so not to [`log`](Self::log).
    ///
    /// # Panics
    ///
    /// If it does not start, with what it said.
    #[track_caller]
    pub fn start_leading_to(runtime: Runtime, settings: &[(&str, &str)], log: File) -> Self {
        Self::start_by(runtime, "", settings, |name, command| {
            let mut command = leading(command)?;
            Ok(Process::spawn_with_output_in(name, &mut command, log)?.ending(Ending::KillGroup))
        })
    }

    /// Starts it on this socket, which listens, as a supervisor does (sd_listen_fds(3)): with `LISTEN_FDS`.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[track_caller]
    pub fn activate(runtime: Runtime, socket: OwnedFd, settings: &[(&str, &str)]) -> Process {
        let (binary, _folder) = command(runtime);
        // The shell knows the number of the process that the binary becomes, and puts the socket in its place.
        let script = "export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" 3<&0 </dev/null";
        let mut shell = with_environment(Command::new("sh"), &binary);
        shell.args(["-c", script]).arg(binary.get_program());
        shell.envs([("POSTERN_DRAIN_GRACE", "0"), ("POSTERN_DRAIN_SPREAD", "0")]);
        shell.envs(settings.iter().copied());
        canary::talk(&mut shell);
        Process::spawn_with_input(&runtime.to_string(), &mut shell, socket).expect("Postern starts")
    }

    /// Starts it with a control port, and with [`API_KEY`] unless these settings name another.
    ///
    /// # Panics
    ///
    /// If it does not start, with what it said.
    #[track_caller]
    pub fn start_with_control(runtime: Runtime, settings: &[(&str, &str)]) -> Self {
        let control = ports::free();
        let address = control.to_string();
        let ours = [("POSTERN_CONTROL", address.as_str()), ("POSTERN_API_KEY", API_KEY)];
        let settings: Vec<_> = ours.iter().chain(settings).copied().collect();
        let mut postern = Self::start(runtime, &settings);
        postern.process.wait_until_listening(control, PATIENCE).expect("its control port listens");
        Self { control: Some(control), ..postern }
    }

    /// Its log goes to a file, and so not to [`log`](Self::log).
    ///
    /// # Panics
    ///
    /// If it does not start, with what it said.
    #[track_caller]
    pub fn start_logging_to(runtime: Runtime, settings: &[(&str, &str)], log: File) -> Self {
        Self::start_by(runtime, "", settings, |name, command| {
            Process::spawn_with_output_in(name, command, log)
        })
    }

    /// Starts it under strace with these arguments, which therefore may let system calls fail. Its process is that of
    /// Postern: strace is a child of it.
    ///
    /// # Panics
    ///
    /// If it does not start, with what it said.
    #[track_caller]
    pub fn start_traced(runtime: Runtime, settings: &[(&str, &str)], arguments: &[String]) -> Self {
        let (strace, libraries) = provision::strace().expect("strace");
        Self::start_by(runtime, "", settings, |name, command| {
            let mut traced = Command::new(strace);
            // Its library is no business of Postern's.
            traced.env("LD_LIBRARY_PATH", libraries).args(["-D", "-E", "LD_LIBRARY_PATH"]);
            traced.args(arguments).arg("--").arg(command.get_program()).args(command.get_args());
            for (variable, value) in command.get_envs() {
                match value {
                    Some(value) => traced.env(variable, value),
                    None => traced.env_remove(variable),
                };
            }
            if let Some(folder) = command.get_current_dir() {
                traced.current_dir(folder);
            }
            Process::spawn(name, &mut traced)
        })
    }

    /// Starts it with at most so much memory of its own (RLIMIT_DATA: heap and stacks), in KiB.
    ///
    /// # Panics
    ///
    /// If it does not start, with what it said.
    #[track_caller]
    pub fn start_limited(runtime: Runtime, settings: &[(&str, &str)], kibibytes: usize) -> Self {
        Self::start_by(runtime, "", settings, |name, command| {
            let mut shell = with_environment(Command::new("sh"), command);
            shell.args(["-c", &format!("ulimit -d {kibibytes} && exec \"$0\"")]).arg(command.get_program());
            Process::spawn(name, &mut shell)
        })
    }

    /// Starts it with a control port, and with at most so many open files (RLIMIT_NOFILE).
    ///
    /// # Panics
    ///
    /// If it does not start, with what it said.
    #[track_caller]
    pub fn start_with_open_files(runtime: Runtime, settings: &[(&str, &str)], limit: usize) -> Self {
        let control = ports::free();
        let address = control.to_string();
        let settings: Vec<_> =
            [("POSTERN_CONTROL", address.as_str())].iter().chain(settings).copied().collect();
        let mut postern = Self::start_by(runtime, "", &settings, |name, command| {
            let mut shell = with_environment(Command::new("sh"), command);
            shell.args(["-c", &format!("ulimit -n {limit} && exec \"$0\"")]).arg(command.get_program());
            Process::spawn(name, &mut shell)
        });
        postern.process.wait_until_listening(control, PATIENCE).expect("its control port listens");
        Self { control: Some(control), ..postern }
    }

    #[track_caller]
    fn start_by(
        runtime: Runtime,
        addresses: &str,
        settings: &[(&str, &str)],
        spawn: impl FnOnce(&str, &mut Command) -> Result<Process, Failure>,
    ) -> Self {
        let address = ports::free();
        let (mut command, folder) = command(runtime);
        command.env("PORT", address.port().to_string());
        command.env("POSTERN_LISTEN", format!("{address}{addresses}"));
        // Tests of other things end sooner without a drain.
        command.envs([("POSTERN_DRAIN_GRACE", "0"), ("POSTERN_DRAIN_SPREAD", "0")]);
        command.envs(settings.iter().copied());
        canary::talk(&mut command);
        let mut process = spawn(&runtime.to_string(), &mut command).expect("Postern starts");
        process.wait_until_listening(address, PATIENCE).expect("Postern listens");
        Self { process, address, control: None, folder }
    }

    /// Starts it with these settings and nothing else, expecting that it refuses them. Returns how it ended, and what
    /// it said on standard error.
    ///
    /// # Panics
    ///
    /// If it does not end.
    #[track_caller]
    pub fn refuse(runtime: Runtime, settings: &[(&str, &str)]) -> (ExitStatus, Vec<String>) {
        let (mut command, _folder) = command(runtime);
        command.envs(settings.iter().copied());
        let mut process = Process::spawn(&runtime.to_string(), &mut command).expect("Postern starts");
        let status = process.wait(PATIENCE).expect("Postern refuses its settings");
        (status, process.lines_of(Stream::Err))
    }

    /// Has it print its settings, `--print-config`, with these in its environment.
    ///
    /// # Panics
    ///
    /// If it does not.
    #[track_caller]
    pub fn print_config(runtime: Runtime, settings: &[(&str, &str)]) -> Vec<String> {
        let (mut command, _folder) = command(runtime);
        command.arg("--print-config").envs(settings.iter().copied());
        let mut process = Process::spawn(&runtime.to_string(), &mut command).expect("Postern starts");
        let status = process.wait(PATIENCE).expect("Postern ends");
        assert!(status.success(), "{runtime} --print-config: {:?}", process.lines());
        process.lines_of(Stream::Out)
    }

    /// Where it listens for upgrades.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens for operators.
    ///
    /// # Panics
    ///
    /// If it was started without a control port.
    #[track_caller]
    pub fn control(&self) -> SocketAddr {
        self.control.expect("a Postern with a control port")
    }

    /// Where it runs: what is in there from now on, a successor finds.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The name that it was started by, if it [leads](Self::start_leading): a link to the binary.
    pub fn program(&self) -> PathBuf {
        self.folder.path().join(PROGRAM)
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The log so far: all lines of standard output.
    pub fn log(&self) -> Vec<String> {
        self.process.lines_of(Stream::Out)
    }

    /// Waits for a line that contains `text`, on either stream, and returns it.
    ///
    /// # Panics
    ///
    /// If none comes.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> String {
        self.process
            .wait_for_line(|line| line.contains(text), PATIENCE)
            .unwrap_or_else(|failure| panic!("waiting for {text:?}: {failure}"))
    }

    /// Sends SIGTERM and waits until the process has ended.
    ///
    /// # Panics
    ///
    /// If it does not end.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        self.process.terminate(PATIENCE).expect("Postern ends after SIGTERM")
    }
}

/// The binary with an environment in which no setting of the developer is left, and in an empty folder.
pub fn command(runtime: Runtime) -> (Command, TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(runtime.binary().path());
    command.current_dir(folder.path());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["POSTERN_", "LOG_"].iter().any(|prefix| text.starts_with(prefix))
            || ["PORT", "HOST_PORT", "JWT_SECRET"].contains(&text.as_ref())
        {
            command.env_remove(name);
        }
    }
    // Many run side by side on this machine, so only those whose control port is tested have one.
    command.env("POSTERN_CONTROL", "off");
    (command, folder)
}

/// The same command by the name [`PROGRAM`], which is a link to its binary, as the leader of a process group.
fn leading(command: &Command) -> Result<Command, Failure> {
    let program = command.get_current_dir().expect("a folder").join(PROGRAM);
    symlink(command.get_program(), &program).map_err(Failure::while_doing("linking Postern"))?;
    let mut leading = with_environment(Command::new(program), command);
    leading.process_group(0);
    Ok(leading)
}

/// The same environment and folder for another command.
fn with_environment(mut command: Command, of: &Command) -> Command {
    for (name, value) in of.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    if let Some(folder) = of.get_current_dir() {
        command.current_dir(folder);
    }
    command
}

/// The name of the link that leads to the binary of one that gets successors.
const PROGRAM: &str = "program";

/// What opens `/api` of a Postern with a control port.
pub const API_KEY: &str = "0123456789abcdef-the-key-of-the-tests";

/// Ten times what a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(20);
