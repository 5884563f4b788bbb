"""Servers that lie, drip, flood and redirect: every reply is bounded, and what is wrong with it is said."""

from __future__ import annotations

import contextlib
import io
import json
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from comfy_bench import QUICK, Recipes, engine_on, link_to, plan, renders, set_behaviour
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sosie.core.errors import UsageError
from sosie.engines.comfy.answers import (
    Failure,
    ServerImage,
    System,
    read_history,
    read_job,
    read_log,
    read_outputs,
    read_problems,
)
from sosie.engines.comfy.errors import ComfyError, LostError, NonsenseError
from sosie.engines.comfy.events import (
    Cached,
    EventStream,
    Glimpse,
    OtherEvent,
    Produced,
    PromptEnded,
    Running,
    SamplerStepped,
    Started,
    Waiting,
    read_binary,
    read_text,
)
from sosie.engines.comfy.fake import Behaviour, FakeServer, Scripted
from sosie.engines.comfy.pictures import decode
from sosie.engines.comfy.run import render
from sosie.engines.comfy.server import Limits, Server, parse_servers, token_from_environment
from sosie.files.foreign import as_line

pytestmark = pytest.mark.once

HERE = Server("http://127.0.0.1:1")
SMALL = Limits(json=100_000, image=50_000, frame=100_000, pixels=10_000, seconds=0.5)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as fake:
        yield fake


def image_of(server: FakeServer, **changes: Any) -> Image.Image:
    set_behaviour(server, **changes)
    link = link_to(server, limits=SMALL)
    return render(link, Recipes().compiled(plan(1)), lambda _: None).image


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that declares any size."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


# Names


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd", "..\\..\\x.png", "a\0b.png", "x" * 5000, "con"])
def test_a_path_like_file_name_is_only_ever_asked_for(
    server: FakeServer, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = {
        "status": "completed",
        "outputs": {"10": {"images": [{"filename": name, "subfolder": "../..", "type": "x"}]}},
    }
    set_behaviour(server, is_mute=True)

    class Everywhere(dict[str, Scripted]):
        def get(self, key: str, default: Any = None) -> Any:
            return Scripted(body=json.dumps(job).encode()) if key.startswith("/api/jobs/") else default

    with pytest.raises(NonsenseError, match=r"no such file|saved no image"):
        image_of(server, scripted=Everywhere())
    assert list(tmp_path.iterdir()) == []


def test_letters_that_move_a_terminals_cursor_are_not_shown() -> None:
    assert as_line("a\x1b[2Jb\r\nc\u202ed\x07") == "a[2Jb cd"
    assert len(as_line("x" * 10_000)) == 300


def test_names_of_uploads_that_leave_the_folder_are_refused(server: FakeServer) -> None:
    for name in ("../x.png", "", "a\nb", 7, None, "x" * 300):
        set_behaviour(server, scripted={"/upload/image": Scripted(body=json.dumps({"name": name}).encode())})
        with pytest.raises(NonsenseError, match="gave no name"):
            link_to(server).client.upload(b"x")
    body = json.dumps({"name": "x.png", "subfolder": "../.."}).encode()
    set_behaviour(server, scripted={"/upload/image": Scripted(body=body)})
    with pytest.raises(NonsenseError):
        link_to(server).client.upload(b"x")


# Sizes and times


def test_a_declared_length_of_10_gb_is_not_read(server: FakeServer) -> None:
    started = time.monotonic()
    with pytest.raises(NonsenseError, match="wants to send more than 50,000 bytes for /view"):
        image_of(server, scripted={"/view": Scripted(body=b"x", length=10_000_000_000)})
    set_behaviour(server, scripted={"/system_stats": Scripted(length=10**17)})
    with pytest.raises(NonsenseError, match="more than 100,000 bytes for /system_stats"):
        link_to(server, limits=SMALL).client.system()
    assert time.monotonic() - started < 3


def test_a_body_that_grows_beyond_the_limit_is_left(server: FakeServer) -> None:
    set_behaviour(server, scripted={"/object_info": Scripted(body=b" " * 100_001, length=-1)})
    with pytest.raises(NonsenseError, match="more than 100,000 bytes"):
        link_to(server, limits=SMALL).client.object_info()


def test_an_answer_that_drips_is_left_after_a_while(server: FakeServer) -> None:
    set_behaviour(server, scripted={"/system_stats": Scripted(body=b" " * 200, pace=0.02)})
    started = time.monotonic()
    with pytest.raises(LostError, match="took longer than"):
        link_to(server, limits=SMALL).client.system()
    assert time.monotonic() - started < 2


def test_a_server_that_says_nothing_is_left(server: FakeServer) -> None:
    set_behaviour(server, scripted={"/system_stats": Scripted(body=b"{}", pace=2.0)})
    with pytest.raises(LostError, match="nothing came in time"):
        link_to(server, replace(QUICK, answer=0.2)).client.system()


def test_a_body_that_is_shorter_than_declared_is_a_broken_line(server: FakeServer) -> None:
    set_behaviour(server, scripted={"/system_stats": Scripted(body=b"{}", length=100, breaks=True)})
    with pytest.raises(LostError, match="the line broke"):
        link_to(server).client.system()


def test_a_line_that_breaks_while_an_image_comes_is_tried_again(server: FakeServer) -> None:
    image = image_of(server, scripted={"/view": Scripted(body=b"x", length=100, breaks=True, times=2)})
    assert image.size == (64, 64)
    assert server.count("GET", "/view") == 3


def test_a_frame_beyond_the_limit_closes_the_websocket_and_the_image_comes(server: FakeServer) -> None:
    image = image_of(server, frames=(b"\0\0\0\1\0\0\0\1\xff\xd8\xff" + b"x" * 200_000,), step_seconds=0.01)
    assert image.size == (64, 64)


# Images


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (bomb(60_000, 60_000), "declares more than 179 million pixels"),
        (bomb(1000, 1000), "declares 1000 x 1000 pixels"),
        (bomb(64, 64), "not a whole image"),
        (b"<html>no image</html>", "not a whole image"),
        (b"", "not a whole image"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "not a whole image"),
        (b"GIF89a" + b"\0" * 20, "not a whole image"),
    ],
)
def test_what_is_no_image_is_not_decoded(server: FakeServer, data: bytes, why: str) -> None:
    with pytest.raises(NonsenseError, match=why):
        image_of(server, scripted={"/view": Scripted(body=data)})


@given(st.binary(max_size=300), st.integers(0, 200))
@settings(max_examples=60, deadline=None)
def test_no_damage_to_an_image_is_more_than_an_error(noise: bytes, at: int) -> None:
    stream = io.BytesIO()
    Image.effect_noise((24, 24), 50).save(stream, "PNG")
    data = bytearray(stream.getvalue())
    data[at : at + len(noise)] = noise
    try:
        picture = decode(HERE, bytes(data), SMALL)
    except NonsenseError:
        return
    assert picture.mode == "RGB"


# JSON


@pytest.mark.parametrize("body", [b"", b"no json", b"[1, 2]", b"null", b"[" * 50_000, b'{"a": ' * 20_000, b"9" * 9000])
def test_wrong_json_is_an_error_of_ours(server: FakeServer, body: bytes) -> None:
    for path, ask in (
        ("/system_stats", lambda client: client.system()),
        ("/prompt", lambda client: client.submit({}, "me", "id")),
        ("/upload/image", lambda client: client.upload(b"x")),
        ("/api/jobs/id", lambda client: client.job("id")),
    ):
        set_behaviour(server, scripted={path: Scripted(body=body)})
        with pytest.raises(NonsenseError):
            ask(link_to(server).client)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "status",
                    "outputs",
                    "images",
                    "filename",
                    "messages",
                    "prompt",
                    "error",
                    "errors",
                    "node_errors",
                    "entries",
                    "system",
                    "devices",
                    "t",
                    "m",
                    "type",
                    "data",
                    "node",
                    "extra_info",
                    "execution_error",
                ]
            )
            | st.text(max_size=4),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(_JSON)
@settings(max_examples=300, deadline=None)
def test_every_reader_takes_every_json(value: Any) -> None:
    for read in (
        read_job,
        read_history,
        read_outputs,
        read_problems,
        read_log,
        System.read,
        ServerImage.read,
        Failure.read,
    ):
        read(value)


@given(_JSON, st.sampled_from(["status", "executing", "executed", "progress", "execution_cached", "execution_error"]))
@settings(max_examples=200, deadline=None)
def test_every_event_may_hold_anything(value: Any, kind: str) -> None:
    read_text(HERE, json.dumps({"type": kind, "data": value}))


@given(st.binary(max_size=60))
def test_every_binary_frame_is_an_event_or_an_error_of_ours(frame: bytes) -> None:
    with contextlib.suppress(NonsenseError):
        read_binary(HERE, frame)


# Frames as they were recorded


@pytest.mark.parametrize(
    ("kind", "data", "event"),
    [
        ("status", {"status": {"exec_info": {"queue_remaining": 3}}, "sid": "x"}, Waiting(3)),
        ("execution_start", {"prompt_id": "p", "timestamp": 1}, Started("p")),
        ("execution_cached", {"nodes": ["1", "2"], "prompt_id": "p"}, Cached("p", frozenset("12"))),
        ("executing", {"node": "8", "display_node": "8", "prompt_id": "p"}, Running("p", "8")),
        ("executing", {"node": None, "prompt_id": "p"}, Running("p", None)),
        ("progress", {"value": 1, "max": 4, "prompt_id": "p", "node": "8"}, SamplerStepped("p", "8", 1, 4)),
        (
            "executed",
            {"node": "10", "output": {"images": [{"filename": "t_1.png", "subfolder": "", "type": "output"}]}}
            | {"prompt_id": "p"},
            Produced("p", "10", (ServerImage("t_1.png"),)),
        ),
        ("execution_success", {"prompt_id": "p", "timestamp": 1}, PromptEnded("p")),
        ("execution_interrupted", {"prompt_id": "p", "node_id": "8"}, PromptEnded("p", interrupted=True)),
        (
            "execution_error",
            {"prompt_id": "p", "node_id": "1", "node_type": "UNETLoader"}
            | {"exception_type": "E", "exception_message": "header too large\n"},
            PromptEnded("p", Failure("E", "header too large", "1", "UNETLoader")),
        ),
        ("progress_state", {"prompt_id": "p", "nodes": {}}, OtherEvent("progress_state")),
        ("feature_flags", {"assets": False}, OtherEvent("feature_flags")),
    ],
)
def test_text_frames_are_read(kind: str, data: dict[str, Any], event: Any) -> None:
    assert read_text(HERE, json.dumps({"type": kind, "data": data})) == event


def test_binary_frames_are_read() -> None:
    jpeg, png = b"\xff\xd8\xff\xe0rest", b"\x89PNG\r\n\x1a\nrest"
    assert read_binary(HERE, struct.pack(">II", 1, 1) + jpeg) == Glimpse(jpeg, "jpeg")
    assert read_binary(HERE, struct.pack(">II", 1, 2) + png) == Glimpse(png, "png")
    told = json.dumps({"node_id": "8", "prompt_id": "p", "image_type": "image/jpeg"}).encode()
    assert read_binary(HERE, struct.pack(">II", 4, len(told)) + told + jpeg) == Glimpse(jpeg, "jpeg", "p", "8")
    assert read_binary(HERE, struct.pack(">II", 3, 1) + b"8text") == OtherEvent("binary 3")


def test_the_first_message_asks_for_previews_with_metadata(server: FakeServer) -> None:
    stream = EventStream(parse_servers(server.url)[0], Limits(), QUICK)
    assert stream.next(1.0) == OtherEvent("feature_flags")
    assert server.life is not None
    assert server.life.sockets[stream.client_id].has_metadata
    stream.close()


def test_an_old_connection_that_ends_silences_a_new_one_of_the_same_id(server: FakeServer) -> None:
    """Why each connection has an id of its own; the fake has the bug, too."""
    link = link_to(server)
    name = link.client_id
    old = server.life.sockets[name] if server.life else None
    other = EventStream(parse_servers(server.url)[0], Limits(), QUICK)
    assert server.life is not None
    assert old is not None
    server.life.sockets[name] = server.life.sockets.pop(other.client_id)
    old.cut()
    deadline = time.monotonic() + 2
    while name in server.life.sockets and time.monotonic() < deadline:
        time.sleep(0.01)
    assert name not in server.life.sockets
    other.close()


# Addresses and tokens


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1:8188",
        "ftp://h",
        "http://",
        "http://h:99999999",
        "http://h?x=1",
        "http://h,http://h",
        "http://h:0",
        "http://user:secret@h",
        "https://secret@h",
        "http://h,",
    ],
)
def test_what_is_no_address_is_refused_without_showing_a_password(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_servers(text)
    assert "secret" not in error.value.message + error.value.hint


def test_addresses_are_read() -> None:
    one, two = parse_servers("http://127.0.0.1:8188, https://pod.example/proxy/")
    assert (one.name, one.is_local, one.socket_url) == ("127.0.0.1:8188", True, "ws://127.0.0.1:8188/ws")
    assert (two.name, two.is_local, two.socket_url) == ("pod.example/proxy", False, "wss://pod.example/proxy/ws")
    assert replace(one, identity="root@far:22").name == "root@far:22"


def test_a_token_goes_over_https_or_stays_on_this_machine() -> None:
    with pytest.raises(UsageError, match=r"not sent to pod\.example by http") as error:
        parse_servers("http://pod.example", "s3cret")
    assert "s3cret" not in error.value.message
    (server,) = parse_servers("https://pod.example", "s3cret")
    assert server.headers == {"Authorization": "Bearer s3cret"}
    assert "s3cret" not in repr(server)


def test_a_token_with_a_space_is_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOSIE_COMFY_TOKEN", "a b")
    with pytest.raises(UsageError):
        token_from_environment()
    monkeypatch.setenv("SOSIE_COMFY_TOKEN", " ab ")
    assert token_from_environment() == "ab"


def test_a_proxied_server_gets_the_token_with_every_request_and_in_no_graph() -> None:
    with FakeServer(Behaviour(token="s3cret")) as fake:
        (server,) = parse_servers(fake.url, "s3cret")
        (made,) = renders(engine_on(server), 1)
        assert made.image.size == (64, 64)
        assert {headers.get("authorization") for _, _, headers in fake.asked} == {"Bearer s3cret"}
        assert any(path.startswith("/ws") for _, path, _ in fake.asked)
        assert b"s3cret" not in b"".join(fake.disk.outputs.values())
        with pytest.raises(ComfyError, match="answered 401") as error:
            renders(engine_on(fake), 1)
        assert (error.value.code, "SOSIE_COMFY_TOKEN" in error.value.hint) == ("SOS-Y002", True)


def test_a_redirect_is_not_followed_and_takes_no_token_along() -> None:
    with FakeServer() as other, FakeServer() as fake:
        away = Scripted(302, headers={"Location": f"{other.url}/ws"})
        socket = replace(away, headers={"Location": other.url.replace("http", "ws") + "/ws"})
        set_behaviour(fake, scripted={"/system_stats": away, "/ws": socket})
        (server,) = parse_servers(fake.url, "s3cret")
        with pytest.raises(NonsenseError, match="redirects /system_stats"):
            link_to(server).client.system()
        with pytest.raises(LostError, match="no websocket"):
            EventStream(server, Limits(), QUICK)
        assert other.asked == []


def test_a_proxy_that_waits_for_its_server_is_waited_for(server: FakeServer) -> None:
    set_behaviour(server, scripted={"/prompt": Scripted(502, b"Bad Gateway", times=2)})
    (made,) = renders(engine_on(server), 1)
    assert made.image.size == (64, 64)
