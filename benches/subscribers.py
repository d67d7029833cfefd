"""Clients of channels, servers with a channels file, and Redis, for the measurements of `channels` and `cluster`."""

import contextlib
import json
import os
import re
import select
import socket
import struct
import subprocess
import time
import urllib.request
from pathlib import Path

import measuring
from measuring import SCENARIOS, Failure

KEY = "the-key-of-the-bench"
OPEN = "[without_namespace]\nallow_subscribe_for_client = true\nallow_publish_for_client = true\n"
HISTORY = f'{OPEN}history_size = 100\nhistory_ttl = "10m"\nallow_recovery = true\n'


# WebSocket pings, which are off: no client here answers any while it measures.
PATH = "/connection/websocket?cf_ws_frame_ping_pong=true"


def head(user: int, path: str = PATH) -> bytes:
    """Returns the upgrade request of a user."""
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        f"User-ID: user-{user}",
        "User-Name: John Doe",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def frame(commands: list[dict]) -> bytes:
    """Returns a frame with these commands."""
    return masked("\n".join(json.dumps(command, separators=(",", ":")) for command in commands).encode())


def masked(payload: bytes, opcode: int = 1) -> bytes:
    """Returns a frame with this payload, which is text by default, and with the mask 0."""
    first, length = 0x80 | opcode, len(payload)
    if length < 126:
        start = struct.pack("!BB", first, 0x80 | length)
    elif length < 1 << 16:
        start = struct.pack("!BBH", first, 0x80 | 126, length)
    else:
        start = struct.pack("!BBQ", first, 0x80 | 127, length)
    return start + bytes(4) + payload


class Client:
    """A connection to channels, in JSON."""

    def __init__(self, port: int, user: int):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        self.socket.sendall(head(user))
        self.wait_for(b"\r\n\r\n", 1)
        self.send([{"id": 1, "connect": {}}])
        self.wait_for(b'"connect":', 1)

    def send(self, commands: list[dict]) -> None:
        self.socket.sendall(frame(commands))

    def wait_for(self, text: bytes, count: int) -> None:
        """Reads until this text has arrived as often."""
        while self.received.count(text) < count:
            received = self.socket.recv(1 << 16)
            if not received:
                raise Failure(f"the connection has ended: {self.received[-200:]!r}")
            self.received += received
        self.received = b""

    def subscribe(self, channels: list[str]) -> None:
        self.send([{"id": 2, "subscribe": {"channel": channel}} for channel in channels])
        self.wait_for(b'"subscribe":', len(channels))


def running(
    server: str, folder: str, channels: str, connections: int, more: dict[str, str] = {}, prefix: list[str] = []
):
    file = Path(folder) / "channels.toml"
    file.write_text(channels)
    settings = {
        "POSTERN_CHANNELS_FILE": str(file),
        "POSTERN_PERSONAL_CHANNEL": "off",
        "POSTERN_PING_INTERVAL": "0",
        "POSTERN_MAX_CONNECTIONS": str(connections + 100),
        **more,
    }
    return measuring.running(server, SCENARIOS["G"], Path(folder) / "log", prefix, settings)


@contextlib.contextmanager
def redis(program: str | None, folder: str):
    """Runs a Redis server during the block, unless the program is `None`. Yields its process, and the settings for it."""
    if program is None:
        yield None, {}
        return
    port = measuring.free_port()
    log = Path(folder) / "redis.log"
    with log.open("w") as output:
        server = subprocess.Popen([program, "--port", str(port), "--save", "", "--dir", folder], stdout=output)
    try:
        measuring.wait_for(server, port, log)
        yield server, {"POSTERN_ENGINE": "redis", "POSTERN_REDIS_URL": f"redis://127.0.0.1:{port}"}
    finally:
        server.kill()
        server.wait()


def metric(api: int, name: str) -> float:
    """Returns the sum of a metric of the server."""
    with urllib.request.urlopen(f"http://127.0.0.1:{api}/metrics") as answer:
        samples = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)", answer.read().decode(), re.MULTILINE)
    return sum(map(float, samples))


def wait_until_ready(process: subprocess.Popen, api: int, folder: str, engine: dict[str, str]) -> None:
    """Waits until the server listens, and is connected with its engine."""
    measuring.wait_for(process, api, Path(folder) / "log")
    end = time.monotonic() + 10
    while engine and metric(api, "postern_engine_up") < 1:
        if time.monotonic() > end:
            raise Failure("the server is not connected with Redis")
        time.sleep(0.05)


def resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise Failure("the memory of the server is not known")


def cpu_time(pid: int) -> float:
    """Returns the processor time of all threads of a process, in seconds."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def pinned() -> tuple[list[str], list[str]]:
    """Returns the prefixes of a server and of its client, which have a processor each."""
    allowed = sorted(os.sched_getaffinity(0))
    return tuple(["taskset", "--cpu-list", str(cpu)] for cpu in (allowed[0], allowed[-1]))


def drain(clients: list[Client]) -> int:
    """Reads from all clients in a child process. Returns its id."""
    child = os.fork()
    if child:
        return child
    poll = select.epoll()
    for client in clients:
        poll.register(client.socket, select.EPOLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if not os.read(descriptor, 1 << 18):
                poll.unregister(descriptor)


def api_request(method: str, commands: list[dict], api: int) -> bytes:
    body = json.dumps({"commands": commands}).encode()
    lines = [
        f"POST /api/{method} HTTP/1.1",
        f"Host: 127.0.0.1:{api}",
        f"X-API-Key: {KEY}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body
