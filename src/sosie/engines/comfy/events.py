"""ComfyUI's websocket: what it pushes while a prompt runs, as nouns.

Each connection has its own client id: a server that sees the end of an old connection late takes the new
one of the same id down with it, and is silent from then on. Events of a prompt go to the id that it was sent
with, so that after a drop a prompt is followed by asking.
"""

from __future__ import annotations

import json
import socket
import struct
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

from sosie.engines.comfy.answers import Failure, ServerImage, read_images
from sosie.engines.comfy.errors import ComfyError, LostError, NonsenseError
from sosie.engines.comfy.server import Limits, Patience, Server
from sosie.files.foreign import as_count, as_line, as_list, as_object, parse_json

PREVIEW, PREVIEW_WITH_METADATA = 1, 4
"""The two types of binary frames that hold images."""


@dataclass(frozen=True)
class Waiting:
    """How many prompts the server has, those of others included; `ahead`, how many come before ours, is not told."""

    prompts: int
    ahead: int | None = None


@dataclass(frozen=True)
class Started:
    """A prompt is taken from the queue."""

    prompt: str


@dataclass(frozen=True)
class Cached:
    """The nodes of a prompt that are not run again."""

    prompt: str
    nodes: frozenset[str]


@dataclass(frozen=True)
class Running:
    """A node of a prompt begins. None: the prompt is over and in the history."""

    prompt: str
    node: str | None


@dataclass(frozen=True)
class SamplerStepped:
    """`step` of `steps` of a node is done."""

    prompt: str
    node: str
    step: int
    steps: int


@dataclass(frozen=True)
class Produced:
    """A node has saved images."""

    prompt: str
    node: str
    images: tuple[ServerImage, ...]


@dataclass(frozen=True)
class PromptEnded:
    """A prompt ended, but is not in the history yet: only `Running(None)` says that it is.

    `interrupted` says that someone stopped it; with neither that nor a failure it went well.
    """

    prompt: str
    failure: Failure | None = None
    interrupted: bool = False


@dataclass(frozen=True)
class Glimpse:
    """A preview: an encoded image, not decoded. `prompt` and `node` are empty where the frame does not say."""

    data: bytes
    format: Literal["jpeg", "png"]
    prompt: str = ""
    node: str = ""


@dataclass(frozen=True)
class OtherEvent:
    """An event that Sosie has no use for."""

    type: str


Event = Waiting | Started | Cached | Running | SamplerStepped | Produced | PromptEnded | Glimpse | OtherEvent


def read_text(server: Server, frame: str) -> Event:
    """The event in a text frame. Raises `NonsenseError` for what is not a JSON object with a type."""
    try:
        found = as_object(parse_json(frame))
    except ValueError:
        found = {}
    kind = found.get("type")
    if not isinstance(kind, str):
        raise NonsenseError(server, f"sent '{as_line(frame, 40)}' over its websocket, which is not an event")
    data = as_object(found.get("data"))
    prompt, node = as_line(data.get("prompt_id"), 200), data.get("node")
    match kind:
        case "status":
            return Waiting(as_count(as_object(as_object(data.get("status")).get("exec_info")).get("queue_remaining")))
        case "execution_start":
            return Started(prompt)
        case "execution_cached":
            return Cached(prompt, frozenset(as_line(entry, 200) for entry in as_list(data.get("nodes"))))
        case "executing":
            return Running(prompt, None if node is None else as_line(node, 200))
        case "progress":
            return SamplerStepped(prompt, as_line(node, 200), as_count(data.get("value")), as_count(data.get("max")))
        case "executed":
            return Produced(prompt, as_line(node, 200), read_images(data.get("output")))
        case "execution_success":
            return PromptEnded(prompt)
        case "execution_error":
            return PromptEnded(prompt, Failure.read(data))
        case "execution_interrupted":
            return PromptEnded(prompt, interrupted=True)
        case _:
            return OtherEvent(as_line(kind, 40))


def read_binary(server: Server, frame: bytes) -> Event:
    """The event in a binary frame. Raises `NonsenseError` for one that is cut short or holds no image."""
    if len(frame) < 8:
        raise NonsenseError(server, f"sent {len(frame)} bytes over its websocket, which is not a frame")
    kind, number = struct.unpack_from(">II", frame)
    if kind == PREVIEW:
        return Glimpse(frame[8:], _format(server, frame[8:]))
    if kind != PREVIEW_WITH_METADATA:
        return OtherEvent(f"binary {kind}")
    if number > len(frame) - 8:
        raise NonsenseError(server, "sent a preview whose description is longer than itself")
    try:
        told = as_object(parse_json(frame[8 : 8 + number]))
    except ValueError:
        told = {}
    image = frame[8 + number :]
    prompt, node = as_line(told.get("prompt_id"), 200), as_line(told.get("node_id"), 200)
    return Glimpse(image, _format(server, image), prompt, node)


def _format(server: Server, image: bytes) -> Literal["jpeg", "png"]:
    if image.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if image.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    raise NonsenseError(server, "sent a preview that is neither JPEG nor PNG")


class EventStream:
    """One websocket; opened when it is made, with a `client_id` of its own. Raises `ComfyError` if that fails."""

    def __init__(self, server: Server, limits: Limits, patience: Patience) -> None:
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect

        self.client_id = uuid.uuid4().hex
        self._server = server
        self._open = ExitStack()
        try:
            # On its own socket the library follows no redirect, which would take the token along.
            line = self._open.enter_context(socket.create_connection(server.host_port, timeout=patience.connect))
            opened: Any = connect(
                f"{server.socket_url}?clientId={self.client_id}",
                sock=line,
                additional_headers=server.headers,
                open_timeout=patience.connect,
                close_timeout=0.5,
                max_size=limits.frame,
                compression=None,
            )
            self._socket: Any = self._open.enter_context(opened)
            self._socket.send(json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}}))
            # Its first word says that it knows the id; what is sent before that would be followed by no event.
            self.next(patience.connect)
        except ComfyError:
            self._open.close()
            raise
        except (OSError, WebSocketException, ValueError) as error:
            self._open.close()
            raise LostError(server, f"no websocket ({type(error).__name__})") from None

    def next(self, timeout: float) -> Event | None:
        """The next event, or None if none comes within `timeout` seconds.

        Raises `LostError` when the connection is gone, `NonsenseError` for a frame that is not an event; the
        stream is of no use after either.
        """
        from websockets.exceptions import WebSocketException

        try:
            frame: str | bytes = self._socket.recv(timeout=timeout)
        except TimeoutError:
            return None
        except (OSError, WebSocketException, ValueError) as error:
            raise LostError(self._server, f"the websocket broke ({type(error).__name__})") from None
        if isinstance(frame, str):
            return read_text(self._server, frame)
        return read_binary(self._server, bytes(frame))

    def close(self) -> None:
        """Ends the connection."""
        from websockets.exceptions import WebSocketException

        try:
            self._open.close()
        except (OSError, WebSocketException):
            return


def open_stream(server: Server, limits: Limits, patience: Patience) -> EventStream | None:
    """A websocket to a server, or None where there is none to be had: its jobs are followed by asking then."""
    try:
        return EventStream(server, limits, patience)
    except ComfyError:
        return None
