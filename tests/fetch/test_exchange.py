"""Servers that drip for ever, lie about encryption, or lead into this machine: each request ends, and says why."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hostile import Served, hostile

from sosie.engines.comfy.client import Client
from sosie.engines.comfy.errors import ComfyError, LostError
from sosie.engines.comfy.server import Limits, Patience, Server
from sosie.fetch import download as downloads
from sosie.fetch import web as webs
from sosie.fetch.download import Wanted, download
from sosie.fetch.exchange import Deadline
from sosie.fetch.hubs import OWN, PRIVATE, PUBLIC, Hubs, zone
from sosie.fetch.retries import DownloadError, RetryPolicy
from sosie.fetch.web import Web

QUICK = RetryPolicy(tries=2, wait=0.01, longest=0.02, answer=0.4, stall=0.4)

HEAD = b"HTTP/1.1 200 OK\r\n"
FOREVER: dict[str, tuple[bytes, Iterator[bytes]]] = {
    "headers": (HEAD, itertools.repeat(b"X-A: b\r\n")),
    "one header": (HEAD + b"X-A: ", itertools.repeat(b"b")),
    "100 Continue": (b"", itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n")),
    "a status line": (b"HTTP/1.1 ", itertools.repeat(b"2")),
    "a chunk's length": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", itertools.repeat(b"a")),
    "a body": (HEAD + b"Content-Length: 100000\r\n\r\n", itertools.repeat(b"x")),
    "a body without length": (HEAD + b"\r\n", itertools.repeat(b"x")),
}


@contextlib.contextmanager
def serving(answer: Callable[[socket.socket], None], host: str = "127.0.0.1") -> Iterator[str]:
    """A server that reads the head of a request and leaves the rest to `answer`; gives its address."""
    listener = socket.create_server((host, 0))

    def one(line: socket.socket) -> None:
        with line, contextlib.suppress(OSError):
            line.recv(65536)
            answer(line)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        listener.close()


def dripping(kind: str) -> Callable[[socket.socket], None]:
    start, rest = FOREVER[kind]

    def answer(line: socket.socket) -> None:
        line.sendall(start)
        for piece in rest:
            line.sendall(piece)
            time.sleep(0.02)

    return answer


def fetched(url: str, path: Path, patience: RetryPolicy = QUICK) -> DownloadError:
    with Web(Hubs(), patience) as web, pytest.raises(DownloadError) as caught:
        download(web, Wanted(f"{url}/model", "the model"), path / "model.safetensors")
    return caught.value


@pytest.mark.parametrize("kind", FOREVER)
def test_a_server_that_drips_for_ever_is_given_up(kind: str, tmp_path: Path) -> None:
    with serving(dripping(kind)) as url:
        error = fetched(url, tmp_path)
    assert error.code == "SOS-N001"
    assert "next to nothing" in error.message or "bytes came in" in error.message
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize("kind", FOREVER)
def test_a_comfyui_that_drips_for_ever_is_lost(kind: str) -> None:
    with serving(dripping(kind)) as url:
        client = Client(Server(url), Limits(seconds=0.4), Patience(answer=0.4))
        with pytest.raises(LostError):
            client.system()
        client.close()


def test_a_steady_answer_that_outlasts_the_deadline_of_its_head_is_read(tmp_path: Path) -> None:
    with hostile() as server, Web(Hubs(), QUICK) as web:
        server.files["/model"] = Served(b"\0" * 60_000, piece=5_000, pause=0.1)
        done = download(web, Wanted(f"{server.url}/model", "the model"), tmp_path / "model.bin")
    assert done.bytes == 60_000


def test_json_is_read_within_one_deadline() -> None:
    with serving(dripping("a body")) as url, Web(Hubs(), QUICK) as web, pytest.raises(DownloadError):
        web.json(f"{url}/api")


def test_a_deadline_that_is_met_cuts_nothing() -> None:
    cuts: list[int] = []
    with Deadline(lambda: cuts.append(1), 0.02) as late:
        time.sleep(0.1)
    with Deadline(lambda: cuts.append(2), 0.05) as met:
        met.extend(0.2)
        time.sleep(0.1)
    time.sleep(0.2)
    assert (cuts, late.passed, met.passed) == ([1], True, False)


def test_patience_ends_by_the_clock_too(tmp_path: Path) -> None:
    patience = RetryPolicy(tries=1000, wait=0.01, longest=0.02, answer=0.2, stall=0.2, give_up=0.5)
    with serving(dripping("headers")) as url:
        error = fetched(url, tmp_path, patience)
    assert "tried 3 times" in error.message


def test_a_body_without_length_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "MOST_UNKNOWN", 300_000)

    def flood(line: socket.socket) -> None:
        line.sendall(HEAD + b"\r\n")
        while True:
            line.sendall(b"x" * 65536)

    with serving(flood) as url:
        error = fetched(url, tmp_path)
    assert "does not say how long it is" in error.message
    assert list(tmp_path.iterdir()) == []


# Encryption


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nobody")])
    day = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    signed = (
        made.not_valid_before(day).not_valid_after(day + datetime.timedelta(days=20_000)).sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM) + key.private_bytes(serialization.Encoding.PEM, *form)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@contextlib.contextmanager
def encrypted(context: ssl.SSLContext, asked: list[int]) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = listener.accept()
                asked.append(1)
                with line, contextlib.suppress(OSError):
                    context.wrap_socket(line, server_side=True).close()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


def test_a_certificate_of_nobody_is_said_and_not_tried_again(certificate: ssl.SSLContext, tmp_path: Path) -> None:
    asked: list[int] = []
    with encrypted(certificate, asked) as url:
        error = fetched(url, tmp_path)
        with pytest.raises(ComfyError, match="certificate is not valid") as caught:
            Client(Server(url)).system()
    assert "127.0.0.1 cannot be trusted: its certificate is not valid" in error.message
    assert not isinstance(caught.value, LostError)
    assert len(asked) == 2


def test_a_server_that_speaks_no_tls_is_said_and_not_tried_again(tmp_path: Path) -> None:
    with serving(lambda line: line.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as url:
        error = fetched(url.replace("http:", "https:"), tmp_path)
    assert "no encrypted line" in error.message
    assert "http only" in error.message


# Redirects into this machine


@pytest.mark.parametrize(
    ("address", "near"),
    [
        ("127.0.0.1", OWN),
        ("127.8.8.8", OWN),
        ("::1", OWN),
        ("::ffff:127.0.0.1", OWN),
        ("0.0.0.0", OWN),
        ("169.254.169.254", OWN),
        ("fe80::1%eth0", OWN),
        ("10.1.2.3", PRIVATE),
        ("192.168.0.1", PRIVATE),
        ("100.64.0.1", PRIVATE),
        ("fd00::1", PRIVATE),
        ("93.184.216.34", PUBLIC),
        ("2606:4700::1111", PUBLIC),
        ("a-proxy", PUBLIC),
    ],
)
def test_how_near_an_address_is(address: str, near: int) -> None:
    assert zone(address) == near


@pytest.mark.parametrize("before", [False, True], ids=["a new connection", "one that is open"])
def test_a_redirect_into_this_machine_is_not_followed(
    before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webs, "zone", lambda address: PUBLIC if address == "127.0.0.2" else OWN)
    with hostile() as own:
        own.files["/secret"] = Served(b"secret")
        location = f"{own.url}/secret"

        def lead(line: socket.socket) -> None:
            line.sendall(f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())

        with serving(lead, "127.0.0.2") as url, Web(Hubs(), QUICK) as web:
            if before:
                with web.ask(location) as answer:
                    assert answer.whole(100) == b"secret"
            with pytest.raises(DownloadError, match="on this machine, and is not followed"):
                download(web, Wanted(f"{url}/model", "the model"), tmp_path / "model.bin")
        assert len(own.asked) == before


def test_an_answer_that_breaks_in_time_is_no_timeout() -> None:
    with serving(lambda line: line.sendall(HEAD)) as url:
        client = Client(Server(url))
        with pytest.raises(LostError, match="RemoteProtocolError"):
            client.system()
        client.close()
