"""What a machine fetches by itself, in a network of its own: slow and broken lines, a full disk."""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from processes import until

from sosie.fetch.part_file import part_path

pytestmark = pytest.mark.once

DATA = random.Random(2).randbytes(1_200_000)
SHA = hashlib.sha256(DATA).hexdigest()
FETCH = """
import sys
from pathlib import Path
from sosie.core.errors import SosieError
from sosie.fetch.download import Wanted, download
from sosie.fetch.hubs import Hubs
from sosie.fetch.retries import RetryPolicy
from sosie.fetch.web import Web
url, size, sha256, path = sys.argv[1:]
try:
    with Web(Hubs(), RetryPolicy(tries=40, wait=0.05, longest=0.1, longest_asked=1.0, stall=0.7)) as web:
        download(web, Wanted(url, "the model", int(size), sha256), Path(path))
except SosieError as error:
    sys.exit(f"{error.code} {error.message}")
"""


@dataclass(frozen=True)
class Network:
    """A namespace with one line to here, and a server at this end of it that knows ranges."""

    name: str
    near: str
    far: str
    url: str
    ranges: list[int]

    def fetch(self, path: Path) -> subprocess.Popen[str]:
        words = [
            "ip",
            "netns",
            "exec",
            self.name,
            sys.executable,
            "-c",
            FETCH,
            self.url,
            str(len(DATA)),
            SHA,
            str(path),
        ]
        with (path.parent / "said").open("w") as said:
            return subprocess.Popen(words, stderr=said, text=True)

    def line(self, state: str) -> None:
        ip("link", "set", self.near, state)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def network() -> Iterator[Network]:
    """Skips where none can be made: it takes root and iproute2."""
    number = os.getpid() % 250
    name, near, far = f"sosie{number}", f"so{number}a", f"so{number}b"
    if os.getuid() or not shutil.which("ip") or subprocess.run(["ip", "netns", "add", name], check=False).returncode:
        pytest.skip("no network namespace can be made here")
    try:
        ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        ip("addr", "add", f"10.203.{number}.1/24", "dev", near)
        ip("link", "set", near, "up")
        ip("-n", name, "addr", "add", f"10.203.{number}.2/24", "dev", far)
        ip("-n", name, "link", "set", far, "up")
        ranges: list[int] = []
        handler = type("Handler", (Handler,), {"ranges": ranges})
        with ThreadingHTTPServer((f"10.203.{number}.1", 0), handler) as server:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            yield Network(name, near, far, f"http://10.203.{number}.1:{server.server_port}/model", ranges)
            server.shutdown()
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)
        subprocess.run(["ip", "link", "del", near], check=False, capture_output=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    ranges: list[int]

    def do_GET(self) -> None:
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(found[1]) if found else 0
        self.ranges.append(start)
        self.send_response(206 if found else 200)
        self.send_header("ETag", '"one"')
        self.send_header("Content-Length", str(len(DATA) - start))
        if found:
            self.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(DATA[start:])

    def log_message(self, *_: object) -> None:
        pass


def slow(network: Network, rate: str) -> None:
    words = ("qdisc", "replace", "dev", network.near, "root", "tbf", "rate", rate, "burst", "16k", "latency", "50ms")
    subprocess.run(["tc", *words], check=True, capture_output=True)


@pytest.mark.skipif(not shutil.which("tc"), reason="no tc")
def test_a_slow_link_that_goes_down_for_a_while_only_delays_a_download(network: Network, tmp_path: Path) -> None:
    slow(network, "4mbit")
    path = tmp_path / "model"
    running = network.fetch(path)
    part = part_path(path)
    assert until(lambda: part.exists() and part.stat().st_size > 100_000, 60)
    network.line("down")
    assert until(lambda: len(network.ranges) >= 1, 5)
    stood = part.stat().st_size
    network.line("up")
    assert running.wait(120) == 0
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SHA
    assert all(start > 0 for start in network.ranges[1:])  # nothing is fetched from the beginning again
    assert stood < len(DATA)


def test_a_link_that_stalls_is_left_and_the_rest_is_asked_for(network: Network, tmp_path: Path) -> None:
    slow(network, "4mbit")
    path = tmp_path / "model"
    running = network.fetch(path)
    part = part_path(path)
    assert until(lambda: part.exists() and part.stat().st_size > 100_000, 60)
    slow(network, "1kbit")
    stood = part.stat().st_size
    assert not until(lambda: part.stat().st_size > stood + 200_000, 1.5)
    subprocess.run(["tc", "qdisc", "del", "dev", network.near, "root"], check=True)
    assert running.wait(120) == 0
    assert len(network.ranges) >= 2
    assert network.ranges[-1] >= stood


def test_a_disk_that_is_really_full_ends_a_download_and_says_so(network: Network, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        running = network.fetch(small / "model")
        assert running.wait(60) == 1
        assert "SOS-N005" in (small / "said").read_text()
        assert not (small / "model").exists()
    finally:
        subprocess.run(["umount", str(small)], check=True)
