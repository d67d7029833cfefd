//! Child processes that end with the test, and whose output can be waited for.

use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::{Failure, canary};

/// A running child. Dropping it ends the process and reaps it.
///
/// Threads read both output streams from the start, so a child never blocks on a full pipe. If the test panics while a
/// child runs, the last lines of the child are printed with the panic.
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Output>,
    ending: Ending,
    /// A file that it writes to instead of a pipe, for the canary.
    written: Option<File>,
}

/// The way in which [`Process`] is ended when it is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// SIGKILL at once: right for a single process.
    Kill,
    /// SIGTERM, and SIGKILL only after two seconds: nginx's workers survive the SIGKILL of their master and would
    /// keep the port.
    Terminate,
    /// SIGKILL to the process group that it leads, for a process that starts successors. Do not wait for such a process:
    /// until it is reaped, no other group can have its number.
    KillGroup,
}

/// The stream to which a child wrote a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

impl Process {
    /// Starts `command` and keeps its output in memory. Every message about it contains `name`.
    pub fn spawn(name: &str, command: &mut Command) -> Result<Self, Failure> {
        Self::spawn_with(name, command, Stdio::null(), None)
    }

    /// Starts `command` with this standard input. If there is a file for its standard output, only its standard error is
    /// kept in memory.
    ///
    /// If the file is the end of a pipe, the reader of the other end passes what it reads to [`heard`](Self::heard).
    pub fn spawn_with(
        name: &str,
        command: &mut Command,
        input: impl Into<Stdio>,
        file: Option<File>,
    ) -> Result<Self, Failure> {
        // A second descriptor of a pipe would keep its reader waiting for the end.
        let is_file = |file: &&File| file.metadata().is_ok_and(|metadata| metadata.is_file());
        let written = file.as_ref().filter(is_file).and_then(|file| file.try_clone().ok());
        command.stdin(input).stdout(file.map_or_else(Stdio::piped, Stdio::from)).stderr(Stdio::piped());
        let kept = canary::keep(name, command);
        let mut child =
            command.spawn().map_err(Failure::while_doing(format_args!("starting {name} ({command:?})")))?;
        let output = Arc::new(Output { kept, state: Mutex::default() });
        if let Some(stdout) = child.stdout.take() {
            output.read_in_background(Stream::Out, stdout);
        }
        if let Some(stderr) = child.stderr.take() {
            output.read_in_background(Stream::Err, stderr);
        }
        Ok(Self { name: name.to_owned(), child, output, ending: Ending::Kill, written })
    }

    /// Selects what happens on drop. The default is [`Ending::Kill`].
    pub fn ending(mut self, ending: Ending) -> Self {
        self.ending = ending;
        self
    }

    /// Returns the id of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns all lines so far, of both streams, in the order in which they were read. Invalid UTF-8 is replaced.
    pub fn lines(&self) -> Vec<String> {
        self.output.state().lines.iter().map(|(_, line)| line.clone()).collect()
    }

    /// Returns the lines of one stream so far.
    pub fn lines_of(&self, stream: Stream) -> Vec<String> {
        let state = self.output.state();
        state.lines.iter().filter(|(of, _)| *of == stream).map(|(_, line)| line.clone()).collect()
    }

    /// Waits for the first line, past or future, that satisfies `wanted`.
    ///
    /// Fails after `timeout`, and earlier if the child has closed its output. The failure shows the last lines.
    pub fn wait_for_line(&self, wanted: impl Fn(&str) -> bool, timeout: Duration) -> Result<String, Failure> {
        let deadline = Instant::now() + timeout;
        let mut seen = 0;
        loop {
            let why = {
                let state = self.output.state();
                if let Some((_, line)) = state.lines.iter().skip(seen).find(|(_, line)| wanted(line)) {
                    return Ok(line.clone());
                }
                seen = state.lines.len();
                if state.open_streams == 0 { "it has closed its output" } else { "time is up" }
            };
            if why != "time is up" || Instant::now() >= deadline {
                return Err(self.failure(&format!("did not print the expected line in {timeout:?} ({why})")));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Waits until `address` accepts connections. Fails early if the child ends before that.
    pub fn wait_until_listening(&mut self, address: SocketAddr, timeout: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + timeout;
        while !accepts(address) {
            if let Some(status) = self.try_wait()? {
                self.output.wait_for_end();
                return Err(self.failure(&format!("ended with {status} before it listened on {address}")));
            }
            if Instant::now() >= deadline {
                return Err(self.failure(&format!("does not listen on {address} after {timeout:?}")));
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// Returns the exit status, if the child has ended.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, Failure> {
        self.child.try_wait().map_err(Failure::while_doing(format_args!("waiting for {}", self.name)))
    }

    /// Waits for the child to end by itself, and for the rest of its output. Fails after `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus, Failure> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.try_wait()? {
                self.output.wait_for_end();
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(self.failure(&format!("still runs after {timeout:?}")));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Sends a signal. It is not an error if the child has already ended. After SIGSTOP, this waits until all threads have
    /// stopped, which they do one after the other.
    pub fn signal(&mut self, signal: Signal) -> Result<(), Failure> {
        if self.try_wait()?.is_some() {
            return Ok(());
        }
        // The child is not reaped yet, so no other process can have its id.
        kill_process(Pid::from_child(&self.child), signal)
            .map_err(Failure::while_doing(format_args!("sending {signal:?} to {}", self.name)))?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while signal == Signal::STOP && !is_stopped(self.child.id()) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Sends SIGTERM and waits for the end. Fails after `timeout`; then the child is still running.
    pub fn terminate(&mut self, timeout: Duration) -> Result<ExitStatus, Failure> {
        self.signal(Signal::TERM)?;
        self.wait(timeout)
    }

    /// Sends SIGKILL and reaps the child.
    pub fn kill(&mut self) {
        // Both fail only if the child has ended and is reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Passes on what a test has read of the standard output, so that the canary searches it, too.
    pub fn heard(&self, text: &[u8]) {
        self.output.keep(text);
    }

    /// Returns a failure of this process, with its last lines.
    fn failure(&self, what: &str) -> Failure {
        Failure::new(format!("{} {what}.\n{}", self.name, self.tail()))
    }

    /// Returns the last lines, as a block for a message.
    fn tail(&self) -> String {
        let state = self.output.state();
        let skipped = state.lines.len().saturating_sub(TAIL_LINES);
        let mut block = format!("The last of {} lines of {}:", state.lines.len(), self.name);
        for (_, line) in state.lines.iter().skip(skipped) {
            block.push_str("\n    ");
            block.push_str(line);
        }
        block
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ended = self.try_wait().ok().flatten();
        match self.ending {
            Ending::Kill => {}
            // If it fails, the kill below does the rest.
            Ending::Terminate => drop(self.terminate(Duration::from_secs(2))),
            // It fails only if the group is empty.
            Ending::KillGroup => drop(kill_process_group(Pid::from_child(&self.child), Signal::KILL)),
        }
        self.kill();
        if let Some(written) = &self.written {
            self.output.keep_all(written);
        }
        if thread::panicking() {
            // An end that the test has not expected may be the cause of its failure.
            ended.iter().for_each(|status| eprintln!("{} had ended with {status}.", self.name));
            eprintln!("{}", self.tail());
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.child.id())
    }
}

/// Waits until `address` accepts connections.
///
/// For a child use [`Process::wait_until_listening`], which notices its end.
pub fn wait_until_listening(address: SocketAddr, timeout: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + timeout;
    while !accepts(address) {
        if Instant::now() >= deadline {
            return Err(Failure::new(format!("nothing listens on {address} after {timeout:?}")));
        }
        thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

/// The output of a child. Shared with the two threads that read its pipes.
struct Output {
    /// The file in which the canary searches.
    kept: Option<File>,
    state: Mutex<OutputState>,
}

#[derive(Default)]
struct OutputState {
    lines: Vec<(Stream, String)>,
    /// The number of the child's streams that are not at their end.
    open_streams: usize,
}

impl Output {
    fn keep(&self, bytes: &[u8]) {
        if let Some(mut kept) = self.kept.as_ref() {
            kept.write_all(bytes).expect("the output of a child can be kept");
        }
    }

    /// Keeps a whole file, whose position the child may share.
    fn keep_all(&self, file: &File) {
        if self.kept.is_none() {
            return;
        }
        let (mut at, mut portion) = (0, vec![0; 1 << 16]);
        loop {
            let read = file.read_at(&mut portion, at).expect("the output of a child can be read");
            if read == 0 {
                return;
            }
            self.keep(portion.get(..read).unwrap_or_default());
            at += read as u64;
        }
    }

    fn state(&self) -> MutexGuard<'_, OutputState> {
        // Every change is complete when the lock is released, so a panic of another thread leaves no half a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the readers finish after the child's end. The time is limited because a grandchild may hold the pipe.
    fn wait_for_end(&self) {
        let deadline = Instant::now() + DRAIN_TIME;
        while self.state().open_streams > 0 && Instant::now() < deadline {
            thread::sleep(POLL_INTERVAL);
        }
    }

    fn read_in_background(self: &Arc<Self>, stream: Stream, pipe: impl Read + Send + 'static) {
        self.state().open_streams += 1;
        let output = Arc::clone(self);
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut bytes = Vec::new();
            // An error of the pipe ends the stream in the same way as its end.
            while pipe.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
                output.keep(&bytes);
                let line = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
                output.state().lines.push((stream, line));
                bytes.clear();
            }
            output.state().open_streams -= 1;
        });
    }
}

/// The interval in which a condition is checked.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// The time to wait for the rest of the output of an ended child.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// The number of lines of a child that a message shows.
const TAIL_LINES: usize = 40;

/// Whether all threads of a process are stopped (proc_pid_stat(5)).
fn is_stopped(process: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return true };
    let is_stopped = |thread: fs::DirEntry| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The name before it may contain anything.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    };
    threads.flatten().all(is_stopped)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Process {
        Process::spawn("shell", Command::new("sh").args(["-c", script])).expect("sh starts")
    }

    #[test]
    fn lines_of_both_streams_are_kept_apart() {
        let mut process = shell(r"echo one; echo two >&2; printf 'a\377b'");
        assert!(process.wait(LONG).expect("it ends").success());
        assert_eq!(process.lines_of(Stream::Out), ["one", "a\u{fffd}b"]);
        assert_eq!(process.lines_of(Stream::Err), ["two"]);
    }

    #[test]
    fn each_wait_fails_when_the_child_has_ended_or_time_is_up() {
        let mut process = shell("echo 'cannot bind' >&2; exit 1");
        for failure in [
            process.wait_for_line(|line| line == "never", LONG).map(drop),
            process.wait_until_listening(crate::ports::free(), LONG),
        ] {
            let failure = failure.expect_err("the child has ended").to_string();
            assert!(failure.contains("cannot bind"), "{failure}");
        }
        let mut process = shell("trap '' TERM; echo ready; while :; do sleep 0.05; done");
        process.wait_for_line(|line| line == "ready", LONG).expect("the trap is set");
        let soon = Duration::from_millis(100);
        process.wait_for_line(|line| line == "never", soon).expect_err("the line is not printed");
        process.terminate(soon).expect_err("the child ignores the signal");
    }
}
