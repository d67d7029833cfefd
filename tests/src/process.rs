//! Child processes that never outlive the test, and whose output can be waited for.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::{Failure, canary};

/// A running child. Dropping it ends the process and reaps it.
///
/// Both output streams are read by threads from the start, so a child never blocks on a full pipe. When the test
/// panics while a child lives, the last lines of the child are printed with the panic.
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Output>,
    ending: Ending,
    /// A file that it writes to instead of a pipe, for the canary.
    written: Option<File>,
}

/// How [`Process`] is ended when it is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// SIGKILL at once: right for a single process.
    Kill,
    /// SIGTERM, and SIGKILL only after two seconds: nginx's workers survive the SIGKILL of their master and would
    /// keep the port.
    Terminate,
    /// SIGKILL to the process group that it leads: for one that starts others in its place. Whoever chooses this does
    /// not wait for it: until it is reaped, no other group can have its number.
    KillGroup,
}

/// Which of its two streams a child wrote a line to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

impl Process {
    /// Starts `command` with its output kept in memory. Every message about it contains `name`.
    pub fn spawn(name: &str, command: &mut Command) -> Result<Self, Failure> {
        Self::spawn_with(name, command, [Stdio::null(), Stdio::piped()], None)
    }

    /// Starts `command` with its standard output going to `file`, for more than memory should hold. Of what it prints
    /// only standard error is kept.
    ///
    /// If `file` is none but the end of a pipe, whoever reads the other end tells it to [`heard`](Self::heard).
    pub fn spawn_with_output_in(name: &str, command: &mut Command, file: File) -> Result<Self, Failure> {
        // Another descriptor of a pipe would keep its reader waiting for an end.
        let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
        let written = if is_file { file.try_clone().ok() } else { None };
        Self::spawn_with(name, command, [Stdio::null(), file.into()], written)
    }

    /// Starts `command` with this as its standard input, and its output kept in memory.
    pub fn spawn_with_input(name: &str, command: &mut Command, input: OwnedFd) -> Result<Self, Failure> {
        Self::spawn_with(name, command, [input.into(), Stdio::piped()], None)
    }

    fn spawn_with(
        name: &str,
        command: &mut Command,
        [stdin, stdout]: [Stdio; 2],
        written: Option<File>,
    ) -> Result<Self, Failure> {
        command.stdin(stdin).stdout(stdout).stderr(Stdio::piped());
        let kept = canary::keep(name, command);
        let mut child =
            command.spawn().map_err(Failure::while_doing(format_args!("starting {name} ({command:?})")))?;
        let output = Arc::new(Output::new(kept));
        if let Some(stdout) = child.stdout.take() {
            output.read_in_background(Stream::Out, stdout);
        }
        if let Some(stderr) = child.stderr.take() {
            output.read_in_background(Stream::Err, stderr);
        }
        Ok(Self { name: name.to_owned(), child, output, ending: Ending::Kill, written })
    }

    /// Chooses what happens on drop; [`Ending::Kill`] if nobody does.
    pub fn ending(mut self, ending: Ending) -> Self {
        self.ending = ending;
        self
    }

    /// The name given at the start.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All lines so far, of both streams, in the order they were read. Bytes that are no UTF-8 are replaced.
    pub fn lines(&self) -> Vec<String> {
        self.output.state().lines.iter().map(|(_, line)| line.clone()).collect()
    }

    /// The lines of one stream so far.
    pub fn lines_of(&self, stream: Stream) -> Vec<String> {
        let state = self.output.state();
        state.lines.iter().filter(|(of, _)| *of == stream).map(|(_, line)| line.clone()).collect()
    }

    /// The first line, past or future, that satisfies `wanted`.
    ///
    /// Fails after `timeout`, and earlier if the child has closed its output; the failure shows the last lines.
    pub fn wait_for_line(&self, wanted: impl Fn(&str) -> bool, timeout: Duration) -> Result<String, Failure> {
        let deadline = Instant::now() + timeout;
        let mut seen = 0;
        let mut state = self.output.state();
        loop {
            if let Some((_, line)) = state.lines.iter().skip(seen).find(|(_, line)| wanted(line)) {
                return Ok(line.clone());
            }
            seen = state.lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            let why = match (state.open_streams, left) {
                (0, _) => "it has closed its output",
                (_, Duration::ZERO) => "time is up",
                _ => {
                    state = self.output.wait(state, left);
                    continue;
                }
            };
            drop(state);
            return Err(Failure::new(format!(
                "{} did not print the line waited for within {timeout:?} ({why}).\n{}",
                self.name,
                self.tail()
            )));
        }
    }

    /// Waits until something accepts connections at `address`; fails early if the child ends before that.
    pub fn wait_until_listening(&mut self, address: SocketAddr, timeout: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.try_wait()? {
                self.output.wait_for_end(DRAIN_TIME);
                return Err(Failure::new(format!(
                    "{} ended with {status} before it listened on {address}.\n{}",
                    self.name,
                    self.tail()
                )));
            }
            if accepts(address) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Failure::new(format!(
                    "{} does not listen on {address} after {timeout:?}.\n{}",
                    self.name,
                    self.tail()
                )));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// The exit status, if the child has ended.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, Failure> {
        self.child.try_wait().map_err(Failure::while_doing(format_args!("waiting for {}", self.name)))
    }

    /// Waits for the child to end by itself, and for the rest of its output; fails after `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus, Failure> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.try_wait()? {
                self.output.wait_for_end(DRAIN_TIME);
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(Failure::new(format!(
                    "{} still runs after {timeout:?}.\n{}",
                    self.name,
                    self.tail()
                )));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Sends a signal. A child that has ended already is not an error: the signal came too late to matter.
    pub fn signal(&mut self, signal: Signal) -> Result<(), Failure> {
        if self.try_wait()?.is_some() {
            return Ok(());
        }
        // The child is ours and not reaped yet, so its id cannot have been given to another process.
        kill_process(Pid::from_child(&self.child), signal)
            .map_err(Failure::while_doing(format_args!("sending {signal:?} to {}", self.name)))
    }

    /// Sends SIGTERM and waits for the end; fails after `timeout`, and then the child is still running.
    pub fn terminate(&mut self, timeout: Duration) -> Result<ExitStatus, Failure> {
        self.signal(Signal::TERM)?;
        self.wait(timeout)
    }

    /// Sends SIGKILL and reaps the child.
    pub fn kill(&mut self) {
        // Both fail only if the child is gone and reaped, which is what was wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Tells what somebody else has read of its standard output, so that the canary looks through it, too.
    ///
    /// # Panics
    ///
    /// If it cannot be kept.
    pub fn heard(&self, text: &[u8]) {
        self.output.keep(text);
    }

    /// The last lines, as a block for a message.
    fn tail(&self) -> String {
        let state = self.output.state();
        if state.lines.is_empty() {
            return format!("It has printed nothing at all ({}).", self.name);
        }
        let skipped = state.lines.len().saturating_sub(TAIL_LINES);
        let mut block = format!("The last lines of {}:", self.name);
        for (_, line) in state.lines.iter().skip(skipped) {
            block.push_str("\n    ");
            block.push_str(line);
        }
        block
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ending == Ending::Terminate {
            // If it fails, the kill below does the rest.
            let _ = self.terminate(Duration::from_secs(2));
        }
        if self.ending == Ending::KillGroup {
            // It fails only if nobody is left.
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        }
        self.kill();
        if let Some(written) = &self.written {
            self.output.keep_all(written);
        }
        if thread::panicking() {
            eprintln!("{}", self.tail());
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.child.id())
    }
}

/// Waits until something accepts connections at `address`.
///
/// For a child of ours [`Process::wait_until_listening`] is better: it notices when there is nothing left to wait for.
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

/// What a child has printed. Shared with the two threads that read its pipes.
struct Output {
    /// Where the canary finds it.
    kept: Option<File>,
    state: Mutex<OutputState>,
    changed: Condvar,
}

struct OutputState {
    lines: Vec<(Stream, String)>,
    /// How many of the child's streams may still bring lines.
    open_streams: usize,
}

impl Output {
    fn new(kept: Option<File>) -> Self {
        let state = OutputState { lines: Vec::new(), open_streams: 0 };
        Self { kept, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn keep(&self, bytes: &[u8]) {
        if let Some(mut kept) = self.kept.as_ref() {
            kept.write_all(bytes).expect("what a child writes can be kept");
        }
    }

    /// Keeps a whole file, which the child may share its position in.
    fn keep_all(&self, file: &File) {
        if self.kept.is_none() {
            return;
        }
        let (mut at, mut portion) = (0, vec![0; 1 << 16]);
        loop {
            let read = file.read_at(&mut portion, at).expect("what a child has written can be read");
            if read == 0 {
                return;
            }
            self.keep(portion.get(..read).unwrap_or_default());
            at += read as u64;
        }
    }

    fn state(&self) -> MutexGuard<'_, OutputState> {
        // Every change is complete when the lock is released, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, OutputState>, time: Duration) -> MutexGuard<'a, OutputState> {
        self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Lets the readers finish after the child's end. Not for ever: a grandchild may hold the pipe.
    fn wait_for_end(&self, time: Duration) {
        let deadline = Instant::now() + time;
        let mut state = self.state();
        while state.open_streams > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.wait(state, left);
        }
    }

    fn read_in_background(self: &Arc<Self>, stream: Stream, pipe: impl Read + Send + 'static) {
        self.state().open_streams += 1;
        let output = Arc::clone(self);
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut bytes = Vec::new();
            // An error of the pipe ends the stream as its end does: nothing more will come.
            while pipe.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
                output.keep(&bytes);
                let line = String::from_utf8_lossy(&bytes);
                output.push(stream, line.trim_end_matches(['\n', '\r']));
                bytes.clear();
            }
            output.state().open_streams -= 1;
            output.changed.notify_all();
        });
    }

    fn push(&self, stream: Stream, line: &str) {
        self.state().lines.push((stream, line.to_owned()));
        self.changed.notify_all();
    }
}

/// How often a state without a notification is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// How long the rest of the output of an ended child is waited for.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// How many lines of a child a message shows.
const TAIL_LINES: usize = 40;

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Process {
        Process::spawn("shell", Command::new("sh").args(["-c", script])).expect("sh starts")
    }

    #[test]
    fn lines_of_both_streams_are_kept_apart() {
        let mut process = shell("echo one; echo two >&2; printf 'three'");
        assert!(process.wait(LONG).expect("it ends").success());
        assert_eq!(process.lines_of(Stream::Out), ["one", "three"]);
        assert_eq!(process.lines_of(Stream::Err), ["two"]);
        assert_eq!(process.lines().len(), 3);
    }

    #[test]
    fn bytes_that_are_no_utf8_do_not_end_the_reading() {
        let mut process = shell(r"printf 'a\377b\nnext\n'");
        process.wait(LONG).expect("it ends");
        assert_eq!(process.lines(), ["a\u{fffd}b", "next"]);
    }

    #[test]
    fn a_line_is_found_whether_it_comes_before_or_after_the_wait_begins() {
        let process = shell("echo early; sleep 0.2; echo late; sleep 30");
        for wanted in ["late", "early"] {
            assert_eq!(process.wait_for_line(|line| line == wanted, LONG).expect("it is printed"), wanted);
        }
    }

    #[test]
    fn waiting_for_a_line_ends_with_the_child_and_shows_what_it_said() {
        let process = shell("echo something else");
        let failure = process.wait_for_line(|line| line == "never", LONG).expect_err("it is never printed");
        assert!(failure.to_string().contains("closed its output"), "{failure}");
        assert!(failure.to_string().contains("something else"), "{failure}");
    }

    #[test]
    fn waiting_for_a_line_has_a_time_limit() {
        let process = shell("sleep 30");
        let failure =
            process.wait_for_line(|_| true, Duration::from_millis(50)).expect_err("nothing is printed");
        assert!(failure.to_string().contains("time is up"), "{failure}");
    }

    #[test]
    fn terminate_tells_how_the_child_ended() {
        let mut process = shell("trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done");
        process.wait_for_line(|line| line == "ready", LONG).expect("the trap is set");
        assert_eq!(process.terminate(LONG).expect("it ends").code(), Some(3));
        assert_eq!(process.lines(), ["ready", "bye"]);
        // A second time there is nobody left to signal; the status stays the same.
        assert_eq!(process.terminate(LONG).expect("it has ended").code(), Some(3));
    }

    #[test]
    fn a_child_that_ignores_sigterm_is_reported_and_still_killed_on_drop() {
        let mut process = shell("trap '' TERM; echo ready; while :; do sleep 0.05; done");
        process.wait_for_line(|line| line == "ready", LONG).expect("the trap is set");
        let failure = process.terminate(Duration::from_millis(100)).expect_err("it ignores the signal");
        assert!(failure.to_string().contains("still runs"), "{failure}");
        process.kill();
        assert_eq!(process.wait(LONG).expect("it is reaped").signal(), Some(9));
    }

    #[test]
    fn a_child_that_ends_instead_of_listening_is_noticed_at_once() {
        let mut process = shell("echo 'cannot bind' >&2; exit 1");
        let address = crate::ports::free();
        let started = Instant::now();
        let failure = process.wait_until_listening(address, LONG).expect_err("nobody listens");
        assert!(started.elapsed() < LONG);
        assert!(failure.to_string().contains("cannot bind"), "{failure}");
    }
}
