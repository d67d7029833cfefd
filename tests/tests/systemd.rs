//! The units of `deploy/systemd`, judged by systemd's own tools. No systemd runs here: its `systemd-socket-activate` starts
//! the service, a shell runs `ExecReload=`, and a filter of the kernel applies the restrictions of system calls.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use postern_tests::postern::{self, API_KEY, Postern, Runtime};
use postern_tests::process::{Ending, Process};
use postern_tests::systemd::{self, DROP_INS, Host, UNITS};
use postern_tests::ws::Handshake;
use postern_tests::{http, ports, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use seccompiler::{BpfMap, TargetArch};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Returns the combinations: without, with each, and with all of the drop-ins.
fn combinations() -> [Vec<&'static str>; 4] {
    [vec![], vec![DROP_INS[0]], vec![DROP_INS[1]], DROP_INS.to_vec()]
}

#[test]
fn systemd_analyze_verifies_the_units_and_rejects_mistakes() {
    for drop_ins in combinations() {
        let host = Host::with(&drop_ins);
        for unit in UNITS {
            let (is_accepted, said) = host.analyze(&["verify", "--man=no", unit]);
            assert!(is_accepted && said.is_empty(), "{unit} with {drop_ins:?}: {said}");
        }
    }
    for (from, to, about) in [
        ("WatchdogSec=30s", "WatchdogSec=soon", "soon"),
        ("WatchdogSec=30s", "WatchdogSek=30s", "WatchdogSek"),
        ("ExecStart=/usr/local/bin/postern", "ExecStart=/usr/local/bin/poster", "/usr/local/bin/poster "),
    ] {
        let (_, said) = Host::with(&[]).change(from, to).analyze(&["verify", "--man=no", "postern.service"]);
        assert!(said.contains(about), "{to}: {said}");
    }
}

#[test]
fn exposure_level_of_the_service_is_at_most_1_5() {
    let judge = |host: Host| {
        let arguments = ["security", "--offline=true", "--threshold=15", "--no-pager", "postern.service"];
        let (is_accepted, said) = host.analyze(&arguments);
        let exposure = said.lines().find(|line| line.contains("Overall exposure level"));
        (is_accepted, exposure.unwrap_or_else(|| panic!("no exposure: {said}")).to_owned())
    };
    for drop_ins in combinations() {
        let (is_accepted, exposure) = judge(Host::with(&drop_ins));
        println!("with {drop_ins:?}: {exposure}");
        assert!(is_accepted, "{drop_ins:?}: {exposure}");
    }
    // Without these it would be higher.
    for (from, to) in [
        ("CapabilityBoundingSet=\n", ""),
        ("SystemCallFilter=@system-service\nSystemCallFilter=~@privileged @resources\n", ""),
    ] {
        let (is_accepted, exposure) = judge(Host::with(&[]).change(from, to));
        assert!(!is_accepted, "{from}: {exposure}");
    }
}

/// Returns a time in whole seconds, as both systemd and Postern write it.
#[track_caller]
fn seconds(time: &str) -> u64 {
    time.strip_suffix('s').and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{time:?}"))
}

/// Puts the credentials of the drop-in into a folder. Returns the settings that name them.
#[track_caller]
fn credentials(folder: &Path) -> Vec<(String, String)> {
    for credential in systemd::values("secrets.conf", "LoadCredential") {
        let (name, source) = credential.split_once(':').expect("a name and a source");
        assert_eq!(source, format!("/etc/postern/{name}"));
        fs::write(folder.join(name), format!("{API_KEY}\n")).expect("a credential");
    }
    let path = folder.to_str().expect("a path");
    let settings = systemd::values("secrets.conf", "Environment").into_iter().map(|line| {
        let (name, value) = line.split_once('=').expect("a name and a value");
        assert!(value.starts_with("%d/"), "{line}");
        (name.to_owned(), value.replace("%d", path))
    });
    settings.collect()
}

#[test]
fn both_binaries_use_the_credentials_and_stop_in_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let credentials = credentials(folder.path());
    assert_eq!(credentials.len(), 2);
    let set: Vec<_> = credentials.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for runtime in Runtime::BOTH {
        let settings = Postern::settings(runtime, &set);
        for (name, value) in &set {
            assert_eq!(settings[*name], *value, "{runtime}");
        }
        let hard = seconds(&settings["POSTERN_DRAIN_HARD"]);
        assert!(seconds(&systemd::value(SERVICE, "TimeoutStopSec")) > hard + 5, "{runtime}: {hard}");
    }
}

/// Writes `.env`, with which a drain ends soon.
fn configure(folder: &Path, path: &str) {
    let text = format!(
        "POSTERN_PATH={path}\nPOSTERN_DRAIN_GRACE=0\nPOSTERN_DRAIN_SPREAD=0\nPOSTERN_HANDSHAKE_TIMEOUT=1s\n\
         POSTERN_WORKERS=2\n"
    );
    fs::write(folder.join("etc/.env"), text).expect("settings");
}

/// A Postern that `systemd-socket-activate` has started as the units say: with sockets of their names, in a folder with
/// `.env`.
struct Activated {
    runtime: Runtime,
    process: Process,
    /// By the name of the unit.
    addresses: BTreeMap<&'static str, SocketAddr>,
    folder: TempDir,
    /// Receives the notifications for systemd.
    notifications: UnixDatagram,
}

impl Activated {
    #[track_caller]
    fn start(runtime: Runtime) -> Self {
        let unit = if runtime == Runtime::Mio { SERVICE } else { "smol.conf" };
        let started = systemd::values(unit, "ExecStart").pop();
        assert_eq!(started, Some(format!("/usr/local/bin/{runtime}")));
        let folder = tempfile::tempdir().expect("a folder");
        let [etc, secrets] = ["etc", "credentials"].map(|name| folder.path().join(name));
        fs::create_dir(&etc).and_then(|()| fs::create_dir(&secrets)).expect("folders");
        let notify = folder.path().join("notify");
        let notifications = UnixDatagram::bind(&notify).expect("a socket");
        notifications.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let configuration = format!("/etc/{}", systemd::value(SERVICE, "ConfigurationDirectory"));
        assert_eq!(systemd::value(SERVICE, "WorkingDirectory"), configuration);
        let mut addresses = BTreeMap::new();
        let mut names = Vec::new();
        let mut command = systemd::tool("systemd-socket-activate");
        for name in UNITS.into_iter().filter(|name| name.ends_with(".socket")) {
            assert_eq!(systemd::value(name, "Service"), SERVICE);
            let shipped: SocketAddr = systemd::value(name, "ListenStream").parse().expect("an address");
            assert!(shipped.ip().is_loopback(), "{name}");
            let address = ports::free();
            command.arg(format!("--listen={address}"));
            names.push(systemd::values(name, "FileDescriptorName").pop().unwrap_or(name.to_owned()));
            addresses.insert(name, address);
        }
        command.arg(format!("--fdname={}", names.join(":")));
        let watchdog = seconds(&systemd::value(SERVICE, "WatchdogSec")) * 1_000_000;
        command.arg(format!("--setenv=NOTIFY_SOCKET={}", notify.display()));
        command.arg(format!("--setenv=WATCHDOG_USEC={watchdog}"));
        for (name, value) in credentials(&secrets) {
            command.arg(format!("--setenv={name}={value}"));
        }
        command.arg(runtime.binary().path());
        command.current_dir(&etc).process_group(0);
        configure(folder.path(), "/ws");
        let process = Process::spawn(&runtime.to_string(), &mut command).expect("it starts");
        let process = process.ending(Ending::KillGroup);
        for address in addresses.values() {
            let listens = |line: &str| line.contains(&format!("Listening on {address}"));
            process.wait_for_line(listens, PATIENCE).expect("it listens");
        }
        Self { runtime, process, addresses, folder, notifications }
    }

    fn handshake(&self) -> Handshake {
        Handshake::to(self.addresses["postern.socket"]).as_john().header("X-Postern-Secret", API_KEY)
    }

    /// Returns the response of the control port.
    #[track_caller]
    fn ask(&self, path: &str) -> Value {
        let control = self.addresses["postern-control.socket"];
        let answer = http::request(control, "GET", path, &[("X-API-Key", API_KEY)], b"").expect("an answer");
        assert_eq!(answer.status, 200, "{}: {path}: {answer}", self.runtime);
        answer.json()
    }

    /// Returns the next notification for systemd except those for the watchdog.
    #[track_caller]
    fn notification(&self) -> String {
        let mut bytes = [0; 256];
        loop {
            let length = self.notifications.recv(&mut bytes).unwrap_or_else(|error| {
                panic!("{}: {error}: {:#?}", self.runtime, self.process.lines());
            });
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if text != "WATCHDOG=1" {
                return text;
            }
        }
    }

    /// Connects, reloads, connects to the successor, and stops.
    #[track_caller]
    fn run(&self) {
        let runtime = self.runtime;
        let mut open = self.handshake().open();
        open.echo("Hello");
        open.echo(vec![7_u8; 60_000]);
        let first = self.process.id();
        assert_eq!(self.notification(), format!("MAINPID={first}\nREADY=1"), "{runtime}");
        assert_eq!(self.ask("/readyz")["status"], "ready", "{runtime}");
        let listen = json!([self.addresses["postern.socket"].to_string()]);
        let info = self.ask("/api/info");
        assert_eq!((&info["listen"], &info["pid"]), (&listen, &json!(first)), "{runtime}: {info}");
        assert_eq!(
            self.handshake().instead("X-Postern-Secret", "another-secret-of-32-digits").refused().status,
            403
        );

        // As `systemctl reload` does, with other settings.
        configure(self.folder.path(), "/reloaded");
        let reload = systemd::value(SERVICE, "ExecReload");
        let reload = reload.strip_prefix("/bin/").expect("a program that each shell has");
        let status = Command::new("sh").args(["-c", reload]).env("MAINPID", first.to_string()).status();
        assert!(status.expect("a shell").success(), "{runtime}: {reload}");
        // Both the successor and the first process notify systemd, in any order.
        let mut said = [self.notification(), self.notification()];
        said.sort();
        let second: u32 = said[0].strip_prefix("MAINPID=").expect("a process").parse().expect("a number");
        assert_eq!(said[1], format!("MAINPID={second}\nREADY=1"), "{runtime}");
        assert_ne!(first, second, "{runtime}");
        let mut new = self.handshake().target("/reloaded").open();
        new.echo("Hello again");
        assert_eq!(self.handshake().refused().status, 404, "{runtime}");
        assert_eq!(self.ask("/api/info")["pid"], second, "{runtime}");
        assert_eq!(open.close_code(), 1012, "{runtime}");
        self.wait_for_ends(1);

        // As `systemctl stop` does with KillMode=mixed.
        assert_eq!(systemd::value(SERVICE, "KillMode"), "mixed");
        kill_process(Pid::from_raw(second.cast_signed()).expect("a process"), Signal::TERM)
            .expect("a signal");
        assert_eq!(self.notification(), "STOPPING=1", "{runtime}");
        while new.socket.read().is_ok() {}
        self.wait_for_ends(2);
        // SocketBindDeny=any: both processes use the sockets of systemd.
        for line in self.process.lines().iter().filter(|line| line.contains(" listens on ")) {
            let is_of_systemd = self.addresses.values().any(|address| line.contains(&address.to_string()));
            assert!(is_of_systemd, "{runtime}: {line}");
        }
    }

    /// Waits until `count` processes have ended without an error.
    #[track_caller]
    fn wait_for_ends(&self, count: usize) {
        let has_stopped = |line: &&String| line.contains(" stopped");
        let stopped = || self.process.lines().iter().filter(has_stopped).count();
        wait_until("processes end", || stopped() >= count);
    }
}

/// Postern recognises the control port by this name. Without it, users could reach it.
#[test]
fn only_the_socket_of_the_control_port_has_its_name() {
    assert_eq!(systemd::value("postern-control.socket", "FileDescriptorName"), "control");
    assert_eq!(systemd::values("postern.socket", "FileDescriptorName"), [""; 0]);
}

/// Returns the filter that systemd makes of these calls, except that another call ends the process.
fn filter(allowed: &BTreeSet<String>) -> BpfMap {
    let families: Vec<_> = systemd::value(SERVICE, "RestrictAddressFamilies")
        .split(' ')
        .map(|family| match family {
            "AF_UNIX" => 1,
            "AF_INET" => 2,
            "AF_INET6" => 10,
            _ => panic!("{family}"),
        })
        .collect();
    let lacks = |index: usize, bits: u64| json!({ "index": index, "type": "dword", "op": { "masked_eq": bits }, "val": 0 });
    let (write, execute) = (2, 4);
    let rules = |name: &str| -> Vec<Value> {
        let with = |arguments: Value| json!({ "syscall": name, "args": [arguments] });
        match name {
            "socket" | "socketpair" => families
                .iter()
                .map(|family| with(json!({ "index": 0, "type": "dword", "op": "eq", "val": family })))
                .collect(),
            // MemoryDenyWriteExecute=
            "mmap" => vec![with(lacks(2, write)), with(lacks(2, execute))],
            "mprotect" | "pkey_mprotect" => vec![with(lacks(2, execute))],
            // RestrictNamespaces=: CLONE_NEWNS to CLONE_NEWNET
            "clone" => vec![with(lacks(0, 0x7e02_0000))],
            _ => vec![json!({ "syscall": name })],
        }
    };
    let architecture = TargetArch::try_from(std::env::consts::ARCH).expect("an architecture with filters");
    let compile = |rules: &[Value]| {
        let filter = json!({
            "service": { "mismatch_action": "kill_process", "match_action": "allow", "filter": rules }
        });
        seccompiler::compile_from_json(filter.to_string().as_bytes(), architecture)
    };
    // Some calls exist on other architectures only.
    let known = allowed.iter().map(|name| rules(name)).filter(|rules| compile(rules).is_ok());
    let known: Vec<_> = known.flatten().collect();
    assert!(known.len() > 200, "{}", known.len());
    compile(&known).expect("a filter")
}

/// Runs `act` under a filter, which the processes that it starts inherit.
fn under<T: Send>(filter: &BpfMap, act: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let filtered = scope.spawn(|| {
            seccompiler::apply_filter(&filter["service"]).expect("a filter");
            act()
        });
        filtered.join().expect("no panic under the filter")
    })
}

#[test]
fn both_are_started_by_their_sockets_reloaded_and_stopped_under_the_filter() {
    let mut allowed = systemd::system_calls(&systemd::values(SERVICE, "SystemCallFilter"));
    assert!(allowed.contains("read") && !allowed.contains("setrlimit") && !allowed.contains("mount"));
    // RestrictNamespaces=
    allowed.retain(|call| call != "unshare" && call != "setns");
    let whole = filter(&allowed);
    for runtime in Runtime::BOTH {
        // The downloads of the harness are not a part of the service.
        systemd::tool("systemd-socket-activate");
        under(&whole, || Activated::start(runtime)).run();
        // The filter is in force: without one call that it needs, Postern does not start.
        let mut fewer = allowed.clone();
        assert!(fewer.remove("accept4"));
        let fewer = filter(&fewer);
        let (mut command, _folder) = postern::command(runtime);
        let address = ports::free();
        command.env("POSTERN_LISTEN", address.to_string());
        let mut process =
            under(&fewer, || Process::spawn(&runtime.to_string(), &mut command)).expect("it starts");
        let _ = process.wait_until_listening(address, PATIENCE);
        let status = process.wait(PATIENCE).expect("it is ended");
        assert_eq!(status.signal(), Some(31), "{runtime}: {status}");
    }
}

const SERVICE: &str = "postern.service";

/// Ten times the time that a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(20);
