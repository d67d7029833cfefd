//! Postern as a child of a test.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, PipeReader};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::binaries::Binary;
use crate::http::{self, Response};
use crate::process::{Ending, Process, Stream};
use crate::ws::{Handshake, Open};
use crate::{canary, ports, provision};

/// One of the two binaries. Both must behave in the same way, so most tests run with both.
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

    /// The runtimes with one event loop, and `postern` also with several, because other threads accept then. The second
    /// part is the value of `POSTERN_WORKERS`.
    pub const WITH_WORKERS: [(Self, &'static str); 3] =
        [(Self::Mio, "1"), (Self::Mio, "3"), (Self::Smol, "1")];

    /// Returns the binary of this runtime.
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

/// A Postern before its start.
#[derive(Debug)]
pub struct Launch<'s> {
    runtime: Runtime,
    settings: Vec<(&'s str, &'s str)>,
    addresses: &'s str,
    has_control: bool,
    is_leader: bool,
    output: Option<File>,
    wrapper: Vec<String>,
    channels: Option<&'s str>,
}

impl<'s> Launch<'s> {
    /// Adds a control port, and [`API_KEY`] unless the settings name another key.
    pub fn control(mut self) -> Self {
        self.has_control = true;
        self
    }

    /// Gives it a channels file with this text: [`CHANNELS_FILE`] in its [folder](Postern::folder).
    pub fn channels(mut self, text: &'s str) -> Self {
        self.channels = Some(text);
        self
    }

    /// Listens on these addresses in addition to its own: `,unix:/run/postern.sock`.
    pub fn listening(mut self, addresses: &'s str) -> Self {
        self.addresses = addresses;
        self
    }

    /// Makes it the leader of a process group that ends with it, so that it can have successors. They are started from
    /// [`Postern::program`].
    pub fn leading(mut self) -> Self {
        self.is_leader = true;
        self
    }

    /// Sends its log to a file, a pipe or a socket, and not to [`Postern::log`].
    pub fn output(mut self, output: impl Into<OwnedFd>) -> Self {
        self.output = Some(File::from(output.into()));
        self
    }

    /// Starts it by this command, which must end with the execution of its arguments.
    pub fn under(mut self, wrapper: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.wrapper = wrapper.into_iter().map(Into::into).collect();
        self
    }

    /// Starts it by this shell script, in which `"$0"` is the binary.
    pub fn by_shell(self, script: &str) -> Self {
        self.under(["sh", "-c", script])
    }

    /// Runs it under strace with these arguments, which may make system calls fail. Its process is Postern itself:
    /// strace is a child of it.
    pub fn traced(self, arguments: &[String]) -> Self {
        self.under(strace(arguments))
    }

    /// Starts it on a free port, and waits until it listens.
    ///
    /// # Panics
    ///
    /// If it does not start, with its output.
    #[track_caller]
    pub fn start(self) -> Postern {
        let (address, control) = (ports::free(), self.has_control.then(ports::free));
        let (mut command, folder) = command_under(self.runtime, &self.wrapper, self.is_leader);
        if let Some(control) = control {
            command.env("POSTERN_CONTROL", control.to_string()).env("POSTERN_API_KEY", API_KEY);
        }
        if let Some(text) = self.channels {
            fs::write(folder.path().join(CHANNELS_FILE), text).expect("the channels file is written");
            command.env("POSTERN_CHANNELS_FILE", CHANNELS_FILE);
        }
        command.env("PORT", address.port().to_string());
        command.env("POSTERN_LISTEN", format!("{address}{}", self.addresses));
        command.envs(NO_DRAIN).envs(self.settings);
        canary::talk(&mut command);
        let process =
            Process::spawn_with(&self.runtime.to_string(), &mut command, Stdio::null(), self.output);
        let ending = if self.is_leader { Ending::KillGroup } else { Ending::Kill };
        let mut process = process.expect("Postern starts").ending(ending);
        for address in control.into_iter().chain([address]) {
            process.wait_until_listening(address, PATIENCE).expect("Postern listens");
        }
        Postern { process, address, control, folder }
    }

    /// Starts it with its log in a pipe, and returns the end from which it can be read.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    #[track_caller]
    pub fn start_unread(self) -> (Postern, PipeReader) {
        let (reader, writer) = io::pipe().expect("a pipe");
        (self.output(writer).start(), reader)
    }
}

/// The name of the channels file.
pub const CHANNELS_FILE: &str = "channels.toml";

/// A running Postern with its defaults and the settings of the test.
#[derive(Debug)]
pub struct Postern {
    /// Its process.
    pub process: Process,
    address: SocketAddr,
    control: Option<SocketAddr>,
    /// Its working directory: empty, so that it does not read a `.env` of the developer.
    folder: TempDir,
}

impl Postern {
    /// Prepares one with these settings in its environment.
    pub fn with<'s>(runtime: Runtime, settings: &[(&'s str, &'s str)]) -> Launch<'s> {
        Launch {
            runtime,
            settings: settings.to_vec(),
            addresses: "",
            has_control: false,
            is_leader: false,
            output: None,
            wrapper: Vec::new(),
            channels: None,
        }
    }

    /// Starts it with these settings.
    ///
    /// # Panics
    ///
    /// As [`Launch::start`].
    #[track_caller]
    pub fn start(runtime: Runtime, settings: &[(&str, &str)]) -> Self {
        Self::with(runtime, settings).start()
    }

    /// Starts it with these settings and a control port.
    ///
    /// # Panics
    ///
    /// As [`Launch::start`].
    #[track_caller]
    pub fn start_with_control(runtime: Runtime, settings: &[(&str, &str)]) -> Self {
        Self::with(runtime, settings).control().start()
    }

    /// Starts both binaries with these settings, one after the other. A panic names the binary, because it prints the log.
    ///
    /// # Panics
    ///
    /// As [`Launch::start`].
    pub fn both(settings: &[(&str, &str)]) -> impl Iterator<Item = Self> {
        Runtime::BOTH.into_iter().map(|runtime| Self::start(runtime, settings))
    }

    /// Starts both binaries with these settings and a control port, one after the other.
    ///
    /// # Panics
    ///
    /// As [`Launch::start`].
    pub fn both_with_control(settings: &[(&str, &str)]) -> impl Iterator<Item = Self> {
        Runtime::BOTH.into_iter().map(|runtime| Self::start_with_control(runtime, settings))
    }

    /// Starts it on this listening socket, as a supervisor does (sd_listen_fds(3)): with `LISTEN_FDS`.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[track_caller]
    pub fn activate(runtime: Runtime, socket: OwnedFd, settings: &[(&str, &str)]) -> Process {
        // The shell knows the id of the process that the binary becomes.
        let script = "export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" 3<&0 </dev/null";
        let (mut command, _folder) = command_under(runtime, &["sh", "-c", script].map(str::to_owned), false);
        command.envs(NO_DRAIN).envs(settings.iter().copied());
        canary::talk(&mut command);
        Process::spawn_with(&runtime.to_string(), &mut command, socket, None).expect("Postern starts")
    }

    /// Runs it with these settings alone, and expects that it refuses them. Returns its status and its standard error.
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

    /// Returns the output of `--print-config` with these settings in the environment.
    ///
    /// # Panics
    ///
    /// If it fails.
    #[track_caller]
    pub fn print_config(runtime: Runtime, settings: &[(&str, &str)]) -> Vec<String> {
        let (mut command, _folder) = command(runtime);
        command.arg("--print-config").envs(settings.iter().copied());
        let mut process = Process::spawn(&runtime.to_string(), &mut command).expect("Postern starts");
        let status = process.wait(PATIENCE).expect("Postern ends");
        assert!(status.success(), "{runtime} --print-config: {:?}", process.lines());
        process.lines_of(Stream::Out)
    }

    /// Returns all settings and their values, by `--print-config`.
    ///
    /// # Panics
    ///
    /// As [`print_config`](Self::print_config).
    #[track_caller]
    pub fn settings(runtime: Runtime, settings: &[(&str, &str)]) -> BTreeMap<String, String> {
        let lines = Self::print_config(runtime, settings);
        let settings = lines.iter().filter_map(|line| line.split(" #").next()?.trim().split_once('='));
        settings.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Returns the address of its data port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address of its control port.
    ///
    /// # Panics
    ///
    /// If it was started without one.
    #[track_caller]
    pub fn control(&self) -> SocketAddr {
        self.control.expect("a Postern with a control port")
    }

    /// Returns its working directory, which its successors share.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the program of its successors, if it [leads](Launch::leading): a link to the binary.
    pub fn program(&self) -> PathBuf {
        self.folder.path().join(PROGRAM)
    }

    /// Returns the id of its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Returns a handshake without a user.
    pub fn handshake(&self) -> Handshake {
        Handshake::to(self.address)
    }

    /// Returns a handshake as John.
    pub fn john(&self) -> Handshake {
        self.handshake().as_john()
    }

    /// Returns a connection of John.
    ///
    /// # Panics
    ///
    /// If it is refused.
    #[track_caller]
    pub fn open(&self) -> Open {
        self.john().open()
    }

    /// Returns a connection of John, as a socket.
    ///
    /// # Panics
    ///
    /// If it is refused.
    #[track_caller]
    pub fn open_stream(&self) -> TcpStream {
        self.open().into_stream()
    }

    /// Returns the response of the control port to a GET with [`API_KEY`].
    ///
    /// # Panics
    ///
    /// If there is none.
    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        http::request(self.control(), "GET", target, &[("X-API-Key", API_KEY)], b"").expect("a response")
    }

    /// Returns the response of the control port to a POST with [`API_KEY`].
    ///
    /// # Panics
    ///
    /// If there is none.
    #[track_caller]
    pub fn post(&self, target: &str, body: &Value) -> Response {
        let headers = [("X-API-Key", API_KEY), ("Content-Type", "application/json")];
        http::request(self.control(), "POST", target, &headers, body.to_string().as_bytes())
            .expect("a response")
    }

    /// Returns the value of a sample of `/metrics`, whose name includes its labels. `None` if there is no such sample.
    ///
    /// # Panics
    ///
    /// If the control port does not respond.
    #[track_caller]
    pub fn metric(&self, sample: &str) -> Option<f64> {
        let metrics = self.get("/metrics").text();
        let value = metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.map(|value| value.parse().expect("a number"))
    }

    /// Returns the processor time that it has used.
    ///
    /// # Panics
    ///
    /// If it has ended.
    pub fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).expect("it runs");
        let (_, fields) = stat.rsplit_once(") ").expect("the name of the program");
        // proc_pid_stat(5): the state is the third field, utime the 14th and stime the 15th, in ticks of 10 ms.
        let ticks = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number"));
        Duration::from_millis(10 * ticks.sum::<u64>())
    }

    /// Returns the log so far: all lines of standard output.
    pub fn log(&self) -> Vec<String> {
        self.process.lines_of(Stream::Out)
    }

    /// Makes the current resident memory the highest one, and returns it in bytes.
    ///
    /// # Panics
    ///
    /// If the process has ended.
    #[track_caller]
    pub fn reset_peak_memory(&self) -> usize {
        fs::write(format!("/proc/{}/clear_refs", self.id()), "5").expect("it runs");
        self.peak_memory()
    }

    /// Returns the highest resident memory since the last reset, in bytes.
    ///
    /// # Panics
    ///
    /// As [`reset_peak_memory`](Self::reset_peak_memory).
    #[track_caller]
    pub fn peak_memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
    }

    /// Returns the number of lines of the log that contain `text`.
    pub fn count(&self, text: &str) -> usize {
        self.log().iter().filter(|line| line.contains(text)).count()
    }

    /// Waits for a line of either stream that contains `text`, and returns it.
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

    /// Waits until `count` lines of the log contain `text`.
    ///
    /// # Panics
    ///
    /// If there are fewer.
    #[track_caller]
    pub fn wait_for_count(&self, text: &str, count: usize) {
        crate::wait_until(&format!("{count} lines contain {text:?}"), || self.count(text) >= count);
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

/// Returns the binary in an empty folder, without the settings in the developer's environment.
pub fn command(runtime: Runtime) -> (Command, TempDir) {
    command_under(runtime, &[], false)
}

/// Returns the same, started by another command, and as the leader of a process group under the name [`PROGRAM`].
fn command_under(runtime: Runtime, wrapper: &[String], is_leader: bool) -> (Command, TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut program = runtime.binary().path().to_owned();
    if is_leader {
        let link = folder.path().join(PROGRAM);
        symlink(&program, &link).expect("a link");
        program = link;
    }
    let mut command = match wrapper {
        [] => Command::new(program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    };
    if is_leader {
        command.process_group(0);
    }
    command.current_dir(folder.path());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["POSTERN_", "LOG_"].iter().any(|prefix| text.starts_with(prefix))
            || ["PORT", "HOST_PORT", "JWT_SECRET"].contains(&text.as_ref())
        {
            command.env_remove(name);
        }
    }
    // Tests run in parallel, so only the tests of the control port have one.
    command.env("POSTERN_CONTROL", "off");
    (command, folder)
}

/// Returns the beginning of a command that runs under strace with these arguments.
fn strace(arguments: &[String]) -> Vec<String> {
    let (strace, libraries) = provision::strace().expect("strace");
    // The traced program does not need strace's libraries.
    let mut command = vec!["env".to_owned(), format!("LD_LIBRARY_PATH={}", libraries.display())];
    command.push(strace.display().to_string());
    command.extend(["-D", "-E", "LD_LIBRARY_PATH"].map(str::to_owned));
    command.extend_from_slice(arguments);
    command.push("--".to_owned());
    command
}

/// Tests of other subjects end sooner without the drain.
const NO_DRAIN: [(&str, &str); 2] = [("POSTERN_DRAIN_GRACE", "0"), ("POSTERN_DRAIN_SPREAD", "0")];

/// The name of the link to the binary of a Postern with successors.
const PROGRAM: &str = "program";

/// The key for `/api` of a Postern with a control port.
pub const API_KEY: &str = "0123456789abcdef-the-key-of-the-tests";

/// Ten times the time that a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(20);
