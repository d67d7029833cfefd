"""The parts that the commands in this folder share: the servers, the scenarios, and how both are built and run."""

import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BENCHES = Path(__file__).resolve().parent
ROOT = BENCHES.parent
TARGET = (ROOT / os.environ.get("CARGO_TARGET_DIR", "target")).resolve()
# The folder for the downloads and builds of the peers.
PEERS = TARGET / "peers"


class Failure(Exception):
    """An error that ends the run, or one of its measurements."""


@dataclass(frozen=True)
class Scenario:
    """The arguments of `load`, and the numbers of messages in the two runs of `instructions`."""

    name: str
    title: str
    connections: int
    size: int = 20
    pipeline: int = 1
    kind: str = "binary"
    counts: tuple[int, int] = (0, 0)

    @property
    def is_idle(self) -> bool:
        return self.counts == (0, 0)

    def load(self) -> list[str]:
        return [
            *("--connections", str(self.connections), "--size", str(self.size)),
            *("--pipeline", str(self.pipeline), "--kind", self.kind),
        ]


SCENARIOS = {
    scenario.name: scenario
    for scenario in [
        Scenario("A", "100 connections, 20 B", 100, counts=(5_000, 25_000)),
        Scenario("B", "500 connections, 20 B", 500, counts=(5_000, 25_000)),
        Scenario("C", "10 connections, 64 in flight, 20 B", 10, pipeline=64, counts=(64_000, 256_000)),
        Scenario("D", "100 connections, 1 KiB", 100, 1024, counts=(5_000, 15_000)),
        Scenario("T", "100 connections, 1 KiB, ASCII text", 100, 1024, kind="text", counts=(5_000, 15_000)),
        Scenario("U", "100 connections, 1 KiB, other text", 100, 1024, kind="utf8", counts=(5_000, 15_000)),
        Scenario("E", "10 connections, 4 in flight, 16 KiB", 10, 16 << 10, 4, counts=(2_000, 6_000)),
        Scenario("F", "4 connections, 1 MiB", 4, 1 << 20, counts=(40, 120)),
        Scenario("G", "10,000 idle connections", 10_000),
    ]
}

OURS = ["postern", "postern-smol"]
# The environment with `--log`: each message is logged, as by default.
LOGGED = {"POSTERN_LOG_MESSAGES": "truncated", "LOG_LEVEL": "info"}
LIMIT = "raw-epoll"
# The limit of `fanout`.
FANOUT_LIMIT = "raw-fanout"
# The programs of the peers. Each has the name of its library.
LIBRARIES = [
    "fastwebsockets",
    "tokio-websockets",
    "sockudo-ws",
    "tokio-tungstenite",
    "async-tungstenite",
    "yawc",
    "wtx",
]
SERVERS = [LIMIT, *OURS, *LIBRARIES]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def choice(names: list[str]):
    """Returns a parser for a comma-separated list of these names."""

    def parse(text: str) -> list[str]:
        chosen = [name.strip() for name in text.split(",") if name.strip()]
        for name in chosen:
            if name not in names:
                raise ValueError(name)
        return chosen

    parse.__name__ = "list of " + ", ".join(names)
    return parse


def build(servers: list[str], features: list[str] = []) -> None:
    """Builds the load generator, the attack generator and the servers with the release profile, and these features."""
    ours = [name for name in servers if name in OURS]
    peers = [name for name in servers if name in [LIMIT, FANOUT_LIMIT, *LIBRARIES]]
    packages = [argument for name in ["postern-load", "postern-attack", *ours] for argument in ("--package", name)]
    enabled = [argument for feature in features for argument in ("--features", feature)]
    cargo(ROOT / "Cargo.toml", TARGET, [*packages, "--bins", *enabled])
    if peers:
        cargo(BENCHES / "peers/Cargo.toml", PEERS, [argument for name in peers for argument in ("--bin", name)])


def cargo(manifest: Path, target: Path, arguments: list[str], profile: str = "release", flags: str = "") -> None:
    command = ["cargo", "build", "--profile", profile, "--locked", "--quiet", "--manifest-path", manifest]
    # The flags of the environment stay in effect.
    flags = " ".join(filter(None, [os.environ.get("RUSTFLAGS"), flags]))
    environment = {**os.environ, "RUSTFLAGS": flags} if flags else None
    say(f"building {' '.join(argument for argument in arguments if not argument.startswith('--'))}")
    if subprocess.run([*command, "--target-dir", target, *arguments], env=environment).returncode:
        raise Failure("cargo build failed")


def npm(name: str, version: str) -> Path:
    """Returns the folder `node_modules` with the packages of a lock file in `benches/peers/npm`. They are downloaded if it does
    not exist."""
    folder = PEERS / f"{name}-{version}"
    if not (folder / "node_modules").exists() and shutil.which("npm"):
        say(f"downloading {name} {version}")
        folder.mkdir(parents=True, exist_ok=True)
        for file in ("package.json", "package-lock.json"):
            shutil.copy(BENCHES / "peers/npm" / name / file, folder)
        command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", "--prefix", folder]
        subprocess.run(command, stdout=sys.stderr)
    return folder / "node_modules"


def npm_version(name: str, package: str) -> str:
    """Returns the version of a package in a lock file in `benches/peers/npm`."""
    lock = json.loads((BENCHES / "peers/npm" / name / "package-lock.json").read_text())
    return lock["packages"][f"node_modules/{package}"]["version"]


def install_bun() -> bool:
    """Downloads Bun with npm if it is missing. Returns whether it runs."""
    npm("bun", npm_version("bun", "bun"))
    return runs([bun(), "--version"])


def runs(command: list) -> bool:
    """Returns whether a command succeeds."""
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


def bun() -> Path:
    packages = PEERS / f"bun-{npm_version('bun', 'bun')}/node_modules/@oven"
    programs = sorted(packages.glob("bun-*/bin/bun"))
    # There are builds for several processors and C libraries; npm installs the ones that may run here.
    return next((program for program in programs if runs([program, "--version"])), packages / "bun")


def versions(servers: list[str]) -> dict[str, str]:
    """Returns the versions of the libraries from their lock file, and the commit of Postern."""
    lock = (BENCHES / "peers/Cargo.lock").read_text()
    found = dict(re.findall(r'name = "(.+)"\nversion = "(.+)"', lock))
    git = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True)
    known = {**{name: found[name] for name in LIBRARIES}, "bun": npm_version("bun", "bun"), "postern": git.stdout.strip() or "?"}
    return {name: known[name] for name in servers if name in known}


# Settings of the scenarios that differ from the defaults.
FOR_SCENARIOS = {
    "POSTERN_LOG_MESSAGES": "off",
    "LOG_LEVEL": "warn",
    "POSTERN_MAX_MESSAGE": "16MiB",
    "POSTERN_MAX_FRAME": "16MiB",
    "POSTERN_MAX_BACKLOG": "64MiB",
}


def command(server: str, port: int, scenario: Scenario | None) -> tuple[list, dict[str, str]]:
    """Returns the arguments of a server, and additions to its environment. Without a scenario Postern has its default
    settings."""
    if server in OURS:
        settings = {
            "PORT": str(port),
            "POSTERN_LISTEN": f"127.0.0.1:{port}",
            "POSTERN_CONTROL": "127.0.0.1:0",
            # They are stopped after the last connection has ended.
            "POSTERN_DRAIN_GRACE": "0",
            "POSTERN_DRAIN_SPREAD": "0",
        }
        if scenario:
            settings |= FOR_SCENARIOS
        if server == "postern":
            settings["POSTERN_WORKERS"] = "1"
        return [TARGET / "release" / server], settings
    if server == "bun":
        return [bun(), BENCHES / "peers/bun-echo.js", str(port)], {}
    return [PEERS / "release" / server, str(port), str(scenario.size)], {}


@contextmanager
def running(
    server: str,
    scenario: Scenario | None,
    log: Path,
    prefix: list = (),
    more: dict[str, str] = {},
    program: Path | None = None,
):
    """Runs a server, or another build of it, during the block, and ends it with SIGTERM. Yields its process and its
    port."""
    port = free_port()
    arguments, settings = command(server, port, scenario)
    started = [*prefix, program or arguments[0], *arguments[1:]]
    with listening(started, {**settings, **more}, port, log) as process:
        yield process, port


@contextmanager
def listening(arguments: list, settings: dict[str, str], port: int, log: Path):
    """Runs a program that listens on this port during the block, and ends it with SIGTERM. Yields its process."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("POSTERN_", "LOG_"))}
    with open(log, "wb") as output:
        process = subprocess.Popen(
            arguments,
            env={**inherited, **settings},
            # A `.env` of the developer must not be read.
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        wait_for(process, port, log)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(process: subprocess.Popen, port: int, log: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if process.poll() is not None:
            raise Failure(f"the server ended at once: {log.read_text(errors='replace').strip()[-300:]}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise Failure("the server did not listen")


def processors() -> tuple[list, list, list]:
    """Returns the prefixes of the commands that run the server, the measured client and the disturbing client, each
    on its processor. With only two processors the clients share one, on which the measured client has a real-time
    priority."""
    allowed = sorted(os.sched_getaffinity(0))
    server, quiet = allowed[0], allowed[-1]
    disturber = allowed[1] if len(allowed) > 2 else quiet
    pinned = [["taskset", "--cpu-list", str(cpu)] for cpu in (server, quiet, disturber)]
    if disturber == quiet:
        real_time = ["chrt", "--fifo", "1"]
        if subprocess.run([*real_time, "true"], stderr=subprocess.DEVNULL).returncode:
            raise Failure("with two processors the measured client needs a real-time priority, which requires root")
        pinned[1] += real_time
    return tuple(pinned)


def load(port: int, arguments: list[str], prefix: list = (), timeout: float = 300) -> dict:
    """Runs the load generator. Returns its report."""
    program = [*prefix, TARGET / "release/load", f"127.0.0.1:{port}", *arguments]
    try:
        done = subprocess.run(program, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise Failure(f"load took more than {timeout:.0f} s") from None
    if done.returncode:
        raise Failure(f"load: {(done.stderr or done.stdout).strip()[-300:]}")
    return json.loads(done.stdout)


def memory_of_sockets() -> int:
    """Returns the memory of the kernel's TCP buffers, in bytes."""
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        if line.startswith("TCP:"):
            return int(line.split("mem")[1].split()[0]) * 4096
    return 0


def enter_own_network(arguments: list[str]) -> None:
    """Replaces this process by a new one with these arguments in a network namespace, if that is allowed."""
    unshare = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
    attempt = [*unshare, "ip", "link", "set", "lo", "up"]
    try:
        is_allowed = subprocess.run(attempt, stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        is_allowed = False
    if not is_allowed:
        say("this run has no separate network namespace: other traffic may disturb it")
        return
    sys.stdout.flush()
    os.execvp(unshare[0], [*unshare, sys.executable, os.path.abspath(arguments[0]), *arguments[1:]])


def bring_up_own_network() -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def allow_files(wanted: int) -> None:
    """Raises the limit of open files of this process and its children to this number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
        except (ValueError, OSError):
            raise Failure(f"{wanted} open files are needed and {hard} are allowed: raise `ulimit -n`") from None


def table(head: list[str], rows: list[list[str]]) -> str:
    """Returns a Markdown table. All columns except the first contain numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
