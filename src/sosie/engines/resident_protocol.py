"""What a command and the resident worker of its workspace say to each other, and how they find each other.

A worker writes its address and a fresh key to the door file, in a folder that only its user may enter; who has the
key may speak (both sides prove it, by HMAC). A message is one JSON object or the raw pixels of an
image, each with a limit; nothing is unpickled.
"""

from __future__ import annotations

import base64
import importlib.metadata
import json
import os
import secrets
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from sosie import __version__
from sosie.core import Environment, Finding, Plan, Preview, Progress, Render, errors
from sosie.core.errors import EngineError, SosieError, StoreError
from sosie.core.schema import digest, from_table, to_table
from sosie.families.contract.draws import Settings
from sosie.files import whole
from sosie.files.foreign import object_or_none, parse_json, read_object
from sosie.files.whole import whole_stream
from sosie.workspace.workspace import Config

if TYPE_CHECKING:
    if sys.platform == "win32":
        from multiprocessing.connection import PipeConnection

        Link: TypeAlias = Connection[Any, Any] | PipeConnection[Any, Any]
    else:
        Link: TypeAlias = Connection[Any, Any]

FOLDER = "worker"
DOOR = "door.json"
MAX_TEXT = 16 << 20
"""Bytes of a JSON message: a plan has about ten thousand."""

MAX_PIXELS = 1 << 28
"""Pixels of an image that is sent: four times what the largest plan can ask for."""

PACKAGES = ("torch", "diffusers", "transformers", "numpy", "onnxruntime", "opencv-python-headless")
VARIABLES = ("CUDA_", "HIP_", "MKL_", "OMP_", "PYTORCH_", "ROCR_", "SOSIE_CACHE", "TORCH")
"""How the variables begin that decide on which device, and how, an engine computes."""

WITHOUT_EFFECT = "OMP_WAIT_POLICY"
"""Engines set it themselves; pixels do not depend on it."""


@dataclass(frozen=True)
class Role:
    """What a worker is for: the engine of this name, with these settings, in the workspace at `root` (absolute).

    `card` is the only one that it sees, as `CUDA_VISIBLE_DEVICES` names it; empty: those that the environment names.
    A workspace has one worker for each card, and one for none.
    """

    root: str
    engine: str
    settings: Settings
    card: str = ""


@dataclass(frozen=True)
class Door:
    """Where a worker listens, the key to it (hexadecimal), and the digest of its role.

    The same in every version, as are the requests `retire` and `stop`: a worker of another one is replaced by them.
    """

    address: str
    key: str = field(repr=False)
    pid: int
    role: str


@dataclass(frozen=True)
class Status:
    """What a worker says of itself. `ends_in` is in seconds; None while it works.

    `served` counts the images that it made, `waiting` the calls behind the one that is worked on. `card` is its role's.
    """

    pid: int
    version: str
    engine: str
    served: int
    waiting: int
    ends_in: float | None
    card: str = ""


def role_digest(role: Role, config: Config) -> str:
    """Of all that must be the same for a worker's images to be those of a new process.

    The role, Sosie and the packages it renders with, the interpreter, `sosie.toml` and the variables of `VARIABLES`.
    """
    packages = {name: _version(name) for name in PACKAGES}
    chosen = {name: value for name, value in os.environ.items() if name.startswith(VARIABLES)}
    chosen.pop(WITHOUT_EFFECT, None)
    return digest([role, config, __version__, sys.executable, packages, chosen])


def folder_of(state: Path, card: str = "") -> Path:
    """The folder of the worker of a card in a workspace's state folder."""
    return state / (f"{FOLDER}-{card}" if card else FOLDER)


def worker_cards(state: Path) -> tuple[str, ...]:
    """The cards, or none (empty), that a workspace has or had a worker for, sorted."""
    names = (path.parent.name for path in state.glob(f"{FOLDER}*/lock"))
    return tuple(sorted(name.removeprefix(FOLDER).removeprefix("-") for name in names))


def make_folder(state: Path, card: str = "") -> Path:
    """The folder of a card's worker (`folder_of`), made if need be, that nobody else may enter.

    Raises `EngineError` where the file system keeps no permissions, `StoreError` where it cannot be written.
    """
    folder = folder_of(state, card)
    try:
        whole.make_folder(folder, 0o700)
        if sys.platform != "win32":
            folder.chmod(0o700)
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be made: {error.strerror or error}", "check the workspace's rights"
        ) from None
    _refuse_open(folder)
    return folder


def listen(folder: Path) -> tuple[Listener, str]:
    """A new listener and its address: a socket in `folder`, or in a private temporary one if its path is too long."""
    if sys.platform == "win32":
        listener = Listener(None, "AF_PIPE")
        return listener, str(listener.address)
    path = folder / "socket"
    path.unlink(missing_ok=True)
    with suppress(OSError):  # longer than some 100 bytes, or a file system without sockets
        return Listener(str(path), "AF_UNIX", backlog=16), str(path)
    place = os.environ.get("XDG_RUNTIME_DIR", "")
    path = Path(tempfile.mkdtemp(prefix="sosie-", dir=place if Path(place or "-").is_dir() else None)) / "socket"
    return Listener(str(path), "AF_UNIX", backlog=16), str(path)


def write_door(folder: Path, address: str, role: str) -> Door:
    """The door of this process with a fresh key, in place at once; only this user can read it."""
    door = Door(address, secrets.token_hex(32), os.getpid(), role)
    with whole_stream(folder / DOOR, mode=0o600) as stream:
        stream.write(json.dumps(to_table(door)).encode())
        _refuse_open(Path(stream.name))
    return door


def read_door(state: Path, card: str = "") -> Door | None:
    """The door of a card's worker, or None. Raises `EngineError` if others may read or have written it."""
    path = folder_of(state, card) / DOOR
    try:
        found = read_object(path)
        _refuse_open(path)
        return from_table(Door, found, str(path))
    except (OSError, ValueError, SosieError) as error:
        if isinstance(error, EngineError):
            raise
        return None  # not one that this version wrote


def send(link: Link, table: Mapping[str, Any]) -> None:
    """One JSON object. Raises `OSError` if nobody is there, `EngineError` if it is larger than `MAX_TEXT`."""
    data = json.dumps(table, separators=(",", ":")).encode()
    if len(data) > MAX_TEXT:
        raise EngineError(f"a message to the worker has {len(data)} bytes; expected at most {MAX_TEXT}")
    link.send_bytes(data)


def receive(link: Link) -> dict[str, Any]:
    """The next JSON object. Raises `EOFError` or `OSError` if the other side is gone or sends what is not one."""
    while not link.poll(1.0):  # so that an interrupt is seen on every system
        pass
    try:
        value = object_or_none(parse_json(link.recv_bytes(MAX_TEXT)))
    except ValueError as error:
        raise OSError(f"a message is not JSON: {error}") from None
    if value is None:
        raise OSError("a message is not a JSON object")
    return value


def render_facts(render: Render) -> dict[str, Any]:
    """What a message says of a render beside its pixels."""
    return {
        "engine": render.engine,
        "environment": to_table(render.environment),
        "seconds": render.seconds,
        "findings": to_table(render.findings),
        "measures": to_table(render.measures),
        "size": list(render.image.size),
    }


def send_render(link: Link, index: int, render: Render) -> None:
    """A render of the plan at `index`: its facts, then its pixels. Raises as `send` does."""
    width, height = render.image.size
    if width * height > MAX_PIXELS:
        raise EngineError(
            f"the image of {width}x{height} pixels is too large to be sent; expected {MAX_PIXELS} at most"
        )
    send(link, {"say": "render", "plan": index, **render_facts(render)})
    link.send_bytes(render.image.convert("RGB").tobytes())


def receive_render(link: Link, facts: Mapping[str, Any], plan: Plan) -> Render:
    """The render that `send_render` announced by `facts`. Raises `OSError` if it is not whole."""
    from PIL import Image

    width, height = map(int, facts["size"])
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise OSError(f"an image of {width}x{height} pixels was announced")
    pixels = link.recv_bytes(width * height * 3)
    if len(pixels) != width * height * 3:
        raise OSError("an image came incomplete")
    return Render(
        Image.frombytes("RGB", (width, height), pixels),
        plan,
        str(facts["engine"]),
        from_table(Environment, facts["environment"], "worker"),
        float(facts["seconds"]),
        read_findings(facts["findings"]),
        tuple((str(name), float(value)) for name, value in facts["measures"]),
    )


def progress_table(event: Progress) -> dict[str, Any]:
    """How far it is, and its picture where it has one, as a message."""
    table: dict[str, Any] = {"say": "progress", "phase": event.what, "step": event.done, "steps": event.total}
    if isinstance(event, Preview):
        table |= {"picture": base64.b64encode(event.data).decode("ascii"), "format": event.format}
    return table


def read_progress(table: Mapping[str, Any]) -> Progress:
    """What `progress_table` wrote. Raises `OSError` if the picture is none, `KeyError`."""
    event = Progress(str(table["phase"]), float(table["step"]), float(table["steps"]))
    if "picture" not in table:
        return event
    try:
        data = base64.b64decode(str(table["picture"]), validate=True)
    except ValueError as error:
        raise OSError(f"a preview is not whole: {error}") from None
    return Preview(event.what, event.done, event.total, data, str(table["format"]))


def read_findings(tables: Sequence[Mapping[str, Any]]) -> tuple[Finding, ...]:
    """Findings out of a message."""
    return tuple(from_table(Finding, table, "worker") for table in tables)


def error_table(error: SosieError) -> dict[str, Any]:
    """An error as a message."""
    return {"say": "error", "kind": type(error).__name__, "message": error.message, "hint": error.hint}


def read_error(table: Mapping[str, Any]) -> SosieError:
    """The error that `error_table` wrote, of the same class where this is one of Sosie's."""
    kind = getattr(errors, str(table["kind"]), EngineError)
    known = isinstance(kind, type) and issubclass(kind, SosieError)
    return (kind if known else EngineError)(str(table["message"]), str(table["hint"]))


def _refuse_open(path: Path) -> None:
    if sys.platform == "win32":
        return
    facts = path.stat()
    if facts.st_uid != os.getuid() or facts.st_mode & 0o077:
        raise EngineError(
            f"{path} belongs to another user, or others may read it; a worker listens only to its own user",
            f"remove {path.parent}, use a workspace on a disk that keeps permissions, or leave --keep-loaded out",
        )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
