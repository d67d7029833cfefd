//! The units of `deploy/systemd`, judged by systemd's own tools. No systemd runs here, so what it would do is done by
//! `systemd-socket-activate`, which is a part of it, by a shell for `ExecReload=`, and by strace and a filter of the
//! kernel for what the service may not call.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use async_tungstenite::tungstenite::Message;
use postern_tests::postern::{self, API_KEY, Postern, Runtime};
use postern_tests::process::{Ending, Process};
use postern_tests::systemd::{self, DROP_INS, Host, UNITS, Unit};
use postern_tests::ws::Handshake;
use postern_tests::{http, ports, provision, workspace};
use rustix::process::{Pid, Signal, kill_process};
use seccompiler::{BpfMap, TargetArch};
use serde_json::{Value, json};
use tempfile::TempDir;

/// With none, each and all of the drop-ins.
fn combinations() -> [Vec<&'static str>; 4] {
    [vec![], vec![DROP_INS[0]], vec![DROP_INS[1]], DROP_INS.to_vec()]
}

#[test]
fn systemd_finds_nothing_to_complain_about() {
    for drop_ins in combinations() {
        let host = Host::with(&drop_ins);
        for unit in UNITS {
            let (is_content, said) = host.analyze(&["verify", "--man=no", unit]);
            assert!(is_content && said.is_empty(), "{unit} with {drop_ins:?}: {said}");
        }
    }
    // It would complain.
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
fn its_exposure_is_at_most_one_and_a_half() {
    let judge = |host: Host| {
        let arguments = ["security", "--offline=true", "--threshold=15", "--no-pager", "postern.service"];
        let (is_content, said) = host.analyze(&arguments);
        let exposure = said.lines().find(|line| line.contains("Overall exposure level"));
        (is_content, exposure.unwrap_or_else(|| panic!("no exposure: {said}")).to_owned())
    };
    for drop_ins in combinations() {
        let (is_content, exposure) = judge(Host::with(&drop_ins));
        println!("with {drop_ins:?}: {exposure}");
        assert!(is_content, "{drop_ins:?}: {exposure}");
    }
    // It would be too much with these.
    for (from, to) in [
        ("CapabilityBoundingSet=\n", ""),
        ("SystemCallFilter=@system-service\nSystemCallFilter=~@privileged @resources\n", ""),
    ] {
        let (is_content, exposure) = judge(Host::with(&[]).change(from, to));
        assert!(!is_content, "{from}: {exposure}");
    }
}

/// All names of settings that stand in there, also in comments.
fn names_in(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_part(c));
    words.filter(|word| word.starts_with("POSTERN_")).map(str::to_owned).collect()
}

/// What `--print-config` says of each setting.
fn settings(runtime: Runtime, environment: &[(&str, &str)]) -> BTreeMap<String, String> {
    let lines = Postern::print_config(runtime, environment);
    let settings = lines.iter().filter_map(|line| line.split_once("  #")?.0.trim().split_once('='));
    settings.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A time in whole seconds, as both systemd and Postern write it.
#[track_caller]
fn seconds(time: &str) -> u64 {
    time.strip_suffix('s').and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{time:?}"))
}

/// Puts the credentials of the drop-in into a folder. Gives the settings that lead there.
#[track_caller]
fn credentials(folder: &Path) -> Vec<(String, String)> {
    let unit = Unit::shipped("secrets.conf");
    for credential in unit.all("LoadCredential") {
        let (name, source) = credential.split_once(':').expect("a name and a source");
        assert_eq!(source, format!("/etc/postern/{name}"));
        fs::write(folder.join(name), format!("{API_KEY}\n")).expect("a credential");
    }
    let path = folder.to_str().expect("a path");
    let settings = unit.all("Environment").into_iter().map(|line| {
        let (name, value) = line.split_once('=').expect("a name and a value");
        assert!(value.starts_with("%d/"), "{line}");
        (name.to_owned(), value.replace("%d", path))
    });
    settings.collect()
}

#[test]
fn both_know_each_setting_that_is_named_and_take_those_that_are_set() {
    let folder = tempfile::tempdir().expect("a folder");
    let credentials = credentials(folder.path());
    assert_eq!(credentials.len(), 2);
    let limits = fs::read_to_string(workspace::path("deploy/production.env")).expect("it is there");
    let limits = limits.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    let set: Vec<_> = credentials.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let set: Vec<_> = set.into_iter().chain(limits).collect();
    assert!(set.len() > 6, "{set:?}");
    let files = UNITS.iter().chain(&DROP_INS);
    let named: BTreeSet<_> = files.flat_map(|name| names_in(&systemd::text(name))).collect();
    assert!(named.len() > 4, "{named:?}");
    for runtime in Runtime::BOTH {
        let settings = settings(runtime, &set);
        for (name, value) in &set {
            assert_eq!(settings[*name], *value, "{runtime}");
        }
        for name in &named {
            assert!(settings.contains_key(name), "{runtime} does not know {name}");
        }
    }
}

#[test]
fn it_is_given_more_time_than_it_takes() {
    let unit = Unit::shipped("postern.service");
    for runtime in Runtime::BOTH {
        let hard = seconds(&settings(runtime, &[])["POSTERN_DRAIN_HARD"]);
        assert!(seconds(unit.one("TimeoutStopSec")) > hard + 5, "{runtime}: {hard}");
    }
}

/// The file that a unit starts for each of the two.
#[track_caller]
fn check_what_is_started(runtime: Runtime) {
    let unit = match runtime {
        Runtime::Mio => Unit::shipped("postern.service"),
        Runtime::Smol => Unit::shipped("smol.conf"),
    };
    assert_eq!(unit.all("ExecStart").last(), Some(&format!("/usr/local/bin/{runtime}").as_str()));
}

/// Writes `.env`. Nobody is waited for longer than a test has to.
fn configure(folder: &Path, path: &str) {
    let text = format!(
        "POSTERN_PATH={path}\nPOSTERN_DRAIN_GRACE=0\nPOSTERN_DRAIN_SPREAD=0\nPOSTERN_HANDSHAKE_TIMEOUT=1s\n\
         POSTERN_WORKERS=2\n"
    );
    fs::write(folder.join("etc/.env"), text).expect("settings");
}

/// A Postern that `systemd-socket-activate` has started, with sockets of the names that the units give them, in a folder
/// with `.env`, as the service says.
struct Activated {
    runtime: Runtime,
    process: Process,
    /// By the name of the unit.
    addresses: BTreeMap<&'static str, SocketAddr>,
    folder: TempDir,
    /// Hears what systemd would hear.
    ear: UnixDatagram,
}

impl Activated {
    /// `wrapper` stands before the binary.
    #[track_caller]
    fn start(runtime: Runtime, wrapper: &[String]) -> Self {
        check_what_is_started(runtime);
        let folder = tempfile::tempdir().expect("a folder");
        let [etc, secrets] = ["etc", "credentials"].map(|name| folder.path().join(name));
        fs::create_dir(&etc).and_then(|()| fs::create_dir(&secrets)).expect("folders");
        let notify = folder.path().join("notify");
        let ear = UnixDatagram::bind(&notify).expect("a socket");
        ear.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let service = Unit::shipped("postern.service");
        assert_eq!(
            service.one("WorkingDirectory"),
            format!("/etc/{}", service.one("ConfigurationDirectory"))
        );
        let mut addresses = BTreeMap::new();
        let mut names = Vec::new();
        let mut command = systemd::tool("systemd-socket-activate");
        for name in UNITS.into_iter().filter(|name| name.ends_with(".socket")) {
            let unit = Unit::shipped(name);
            assert_eq!(unit.one("Service"), "postern.service");
            let shipped: SocketAddr = unit.one("ListenStream").parse().expect("an address");
            assert!(shipped.ip().is_loopback(), "{name}");
            let address = ports::free();
            command.arg(format!("--listen={address}"));
            names.push(unit.all("FileDescriptorName").last().copied().unwrap_or(name).to_owned());
            addresses.insert(name, address);
        }
        command.arg(format!("--fdname={}", names.join(":")));
        let watchdog = seconds(service.one("WatchdogSec")) * 1_000_000;
        command.arg(format!("--setenv=NOTIFY_SOCKET={}", notify.display()));
        command.arg(format!("--setenv=WATCHDOG_USEC={watchdog}"));
        for (name, value) in credentials(&secrets) {
            command.arg(format!("--setenv={name}={value}"));
        }
        command.args(wrapper).arg(runtime.binary().path());
        command.current_dir(&etc).process_group(0);
        configure(folder.path(), "/ws");
        let process = Process::spawn(&runtime.to_string(), &mut command).expect("it starts");
        let process = process.ending(Ending::KillGroup);
        for address in addresses.values() {
            let listens = |line: &str| line.contains(&format!("Listening on {address}"));
            process.wait_for_line(listens, PATIENCE).expect("it listens");
        }
        Self { runtime, process, addresses, folder, ear }
    }

    fn handshake(&self) -> Handshake {
        Handshake::to(self.addresses["postern.socket"]).as_john().header("X-Postern-Secret", API_KEY)
    }

    /// What the control port says.
    #[track_caller]
    fn ask(&self, path: &str) -> Value {
        let control = self.addresses["postern-control.socket"];
        let answer = http::request(control, "GET", path, &[("X-API-Key", API_KEY)], b"").expect("an answer");
        assert_eq!(answer.status, 200, "{}: {path}: {answer}", self.runtime);
        answer.json()
    }

    /// What systemd would hear next, but for signs of life.
    #[track_caller]
    fn news(&self) -> String {
        let mut words = [0; 256];
        loop {
            let length = self.ear.recv(&mut words).unwrap_or_else(|error| {
                panic!("{}: {error}: {:#?}", self.runtime, self.process.lines());
            });
            let words = String::from_utf8_lossy(&words[..length]).into_owned();
            if words != "WATCHDOG=1" {
                return words;
            }
        }
    }

    /// Starts by a connection, talks, reloads, talks to the successor, and stops. Gives the ids of the two processes.
    #[track_caller]
    fn live(&self) -> [u32; 2] {
        let runtime = self.runtime;
        let mut open = self.handshake().open();
        open.echo("Hello");
        open.echo(vec![7_u8; 60_000]);
        let news = self.news();
        let first: u32 = news
            .strip_prefix("MAINPID=")
            .and_then(|news| news.strip_suffix("\nREADY=1")?.parse().ok())
            .unwrap_or_else(|| panic!("{runtime}: {news}"));
        assert_eq!(first, self.process.id(), "{runtime}");
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
        let service = Unit::shipped("postern.service");
        let reload = service.one("ExecReload").strip_prefix("/bin/").expect("a program that each shell has");
        let status = Command::new("sh").args(["-c", reload]).env("MAINPID", first.to_string()).status();
        assert!(status.expect("a shell").success(), "{runtime}: {reload}");
        // The successor says so, and the first does, whoever is faster.
        let mut said = [self.news(), self.news()];
        said.sort();
        let second: u32 = said[0].strip_prefix("MAINPID=").expect("a process").parse().expect("a number");
        assert_eq!(said[1], format!("MAINPID={second}\nREADY=1"), "{runtime}");
        assert_ne!(first, second, "{runtime}");
        let mut new = self.handshake().target("/reloaded").open();
        new.echo("Hello again");
        assert_eq!(self.handshake().refused().status, 404, "{runtime}");
        assert_eq!(self.ask("/api/info")["pid"], second, "{runtime}");
        let Message::Close(Some(close)) = open.receive() else { panic!("{runtime}: no Close") };
        assert_eq!(u16::from(close.code), 1012, "{runtime}");
        while open.socket.read().is_ok() {}
        self.wait_for_ends(1);

        // As `systemctl stop` does with KillMode=mixed.
        assert_eq!(service.one("KillMode"), "mixed");
        kill_process(Pid::from_raw(second.cast_signed()).expect("a process"), Signal::TERM)
            .expect("a signal");
        assert_eq!(self.news(), "STOPPING=1", "{runtime}");
        while new.socket.read().is_ok() {}
        self.wait_for_ends(2);
        [first, second]
    }

    /// Waits until so many processes have ended well.
    #[track_caller]
    fn wait_for_ends(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.process.lines().iter().filter(|line| line.contains(" stopped")).count() < count {
            assert!(Instant::now() < deadline, "{}: {:#?}", self.runtime, self.process.lines());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn both_are_started_by_their_sockets_reloaded_and_stopped() {
    for runtime in Runtime::BOTH {
        Activated::start(runtime, &[]).live();
    }
}

/// Without it, users would get there.
#[test]
fn the_control_port_is_known_by_its_name() {
    assert_eq!(Unit::shipped("postern-control.socket").one("FileDescriptorName"), "control");
    assert!(Unit::shipped("postern.socket").all("FileDescriptorName").is_empty());
}

/// The calls in a trace of strace: the name, and the rest of the line, of each thread.
fn calls(trace: &str) -> impl Iterator<Item = (&str, &str)> {
    trace.lines().filter_map(|line| {
        // `123 read(0, …` of a thread; `123 <... read resumed>…` was there before.
        let (_, call) = line.split_once(' ')?;
        let (name, rest) = call.trim_start().split_once('(')?;
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_').then_some((name, rest))
    })
}

#[test]
fn neither_calls_what_the_service_may_not() {
    let service = Unit::shipped("postern.service");
    let allowed = systemd::system_calls(&service.all("SystemCallFilter"));
    assert!(allowed.contains("read") && !allowed.contains("setrlimit") && !allowed.contains("mount"));
    let families: BTreeSet<_> = service.one("RestrictAddressFamilies").split(' ').collect();
    for runtime in Runtime::BOTH {
        let traces = tempfile::tempdir().expect("a folder");
        let path = traces.path().join("trace");
        let (strace, libraries) = provision::strace().expect("strace");
        let wrapper = [
            "env".to_owned(),
            format!("LD_LIBRARY_PATH={}", libraries.display()),
            strace.display().to_string(),
            "-D".to_owned(),
            "-f".to_owned(),
            "-E".to_owned(),
            "LD_LIBRARY_PATH".to_owned(),
            format!("--output={}", path.display()),
            "--".to_owned(),
        ];
        let activated = Activated::start(runtime, &wrapper);
        let processes = activated.live().map(|id| id.to_string());
        let deadline = Instant::now() + PATIENCE;
        let trace = loop {
            let trace = fs::read_to_string(&path).expect("a trace");
            let ended = |line: &str| line.split_once("+++ exited with 0").map(|(id, _)| id.trim().to_owned());
            let ended: Vec<_> = trace.lines().filter_map(ended).collect();
            if processes.iter().all(|id| ended.contains(id)) {
                break trace;
            }
            assert!(Instant::now() < deadline, "{runtime}: {processes:?} and {ended:?}");
            thread::sleep(Duration::from_millis(20));
        };
        let mut names = BTreeSet::new();
        for (name, rest) in calls(&trace) {
            names.insert(name);
            let what = format!("{runtime}: {name}({rest}");
            let first = rest.split([',', ')']).next().unwrap_or_default();
            match name {
                "socket" | "socketpair" => assert!(families.contains(first), "{what}"),
                // MemoryDenyWriteExecute=
                "mmap" => assert!(!rest.contains("PROT_WRITE|PROT_EXEC"), "{what}"),
                "mprotect" | "pkey_mprotect" => assert!(!rest.contains("PROT_EXEC"), "{what}"),
                // RestrictNamespaces=, SocketBindDeny=, RestrictSUIDSGID=
                "clone" | "clone3" | "unshare" => assert!(!rest.contains("CLONE_NEW"), "{what}"),
                "bind" => panic!("{what}"),
                _ => {}
            }
        }
        println!("{runtime}: {} system calls: {names:?}", names.len());
        // The trace is one of both processes, with all that they did.
        for name in ["execve", "accept4", "sendto", "sendmsg", "recvmsg"] {
            assert!(names.contains(name), "{runtime}: {name} is not in {names:?}");
        }
        let refused: Vec<_> = names.iter().filter(|name| !allowed.contains(**name)).collect();
        assert!(refused.is_empty(), "{runtime} calls {refused:?}");
    }
}

/// The filter that systemd makes of these calls, but that it ends who calls another one.
fn filter(allowed: &BTreeSet<String>, service: &Unit) -> BpfMap {
    let families: Vec<_> = service
        .one("RestrictAddressFamilies")
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
            "mmap" => vec![with(lacks(2, write)), with(lacks(2, execute))],
            "mprotect" | "pkey_mprotect" => vec![with(lacks(2, execute))],
            // CLONE_NEWNS to CLONE_NEWNET
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
    // Some are calls of other architectures.
    let known = allowed.iter().map(|name| rules(name)).filter(|rules| compile(rules).is_ok());
    let known: Vec<_> = known.flatten().collect();
    assert!(known.len() > 200, "{}", known.len());
    compile(&known).expect("a filter")
}

/// Does this under a filter, which whatever it starts inherits.
fn under<T: Send>(filter: &BpfMap, act: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let filtered = scope.spawn(|| {
            seccompiler::apply_filter(&filter["service"]).expect("a filter");
            act()
        });
        filtered.join().expect("it goes well")
    })
}

#[test]
fn both_live_under_the_filter_of_the_service() {
    let service = Unit::shipped("postern.service");
    let allowed = systemd::system_calls(&service.all("SystemCallFilter"));
    let whole = filter(&allowed, &service);
    for runtime in Runtime::BOTH {
        // What is fetched and built is no part of the service.
        runtime.binary().path();
        systemd::tool("systemd-socket-activate");
        let activated = under(&whole, || Activated::start(runtime, &[]));
        activated.live();
        // It is in force: without one call that it needs, the same does not even begin.
        let mut fewer = allowed.clone();
        assert!(fewer.remove("accept4"));
        let fewer = filter(&fewer, &service);
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

/// Ten times what a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(20);
