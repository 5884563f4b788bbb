"""What a server says, as nouns. Nothing in it is trusted: texts are cut and cleaned, numbers are checked.

A name that a server gives is only ever sent back to it; no file is written under one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from sosie.files.foreign import as_count, as_line, as_list, as_object, object_or_none

State = Literal["pending", "running", "done", "failed", "cancelled", "unknown"]

MAX_IMAGES = 1000
"""Most images of one answer that are looked at."""

MAX_FOLDERS = 256
"""Most folders of models that are believed."""

MAX_PATH = 1000
"""Letters of the longest of their paths."""

NO_MODELS = frozenset({"custom_nodes", "configs", "datasets", "output", "input", "temp"})
"""Folders that ComfyUI names besides those of models."""


@dataclass(frozen=True)
class ServerImage:
    """An image on a server: what `/view` is asked for."""

    filename: str
    subfolder: str = ""
    type: str = "output"

    @staticmethod
    def read(value: Any) -> ServerImage | None:
        """From a JSON object; None for names that no saved image has."""
        found = as_object(value)
        parts = [found.get("filename"), found.get("subfolder", ""), found.get("type", "output")]
        texts = [part for part in parts if isinstance(part, str) and len(part) <= 1000 and part.isprintable()]
        return ServerImage(*texts) if len(texts) == 3 and texts[0] else None


Outputs = Mapping[str, tuple[ServerImage, ...]]
"""The images that each node saved, by its id."""


def read_outputs(value: Any) -> Outputs:
    """The images in a history's `outputs`; texts, sounds and damaged entries are left out."""
    found = {node: read_images(output) for node, output in as_object(value).items()}
    return MappingProxyType({node: images for node, images in found.items() if images})


def read_images(value: Any) -> tuple[ServerImage, ...]:
    """The images in one node's output."""
    images = (ServerImage.read(entry) for entry in as_list(as_object(value).get("images"))[:MAX_IMAGES])
    return tuple(image for image in images if image is not None)


@dataclass(frozen=True)
class Failure:
    """Why a node failed: the exception's type and text, the node's id and class."""

    type: str
    message: str
    node: str = ""
    kind: str = ""

    @staticmethod
    def read(value: Any) -> Failure:
        """From the data of `execution_error`; what is missing is empty."""
        found = as_object(value)
        return Failure(
            as_line(found.get("exception_type"), 120),
            as_line(found.get("exception_message"), 600),
            as_line(found.get("node_id"), 40),
            as_line(found.get("node_type"), 80),
        )

    @property
    def label(self) -> str:
        """How messages call the node."""
        return f"{self.kind or 'a node'} {self.node}".strip()


@dataclass(frozen=True)
class PromptJob:
    """What a server knows of a prompt. `unknown`: not waiting, not running, not in its history."""

    state: State
    outputs: Outputs = field(default_factory=lambda: MappingProxyType({}))
    failure: Failure | None = None

    @property
    def is_over(self) -> bool:
        """Whether it ended, well or not."""
        return self.state in ("done", "failed", "cancelled")


UNKNOWN = PromptJob("unknown")

_STATES: Mapping[str, State] = MappingProxyType(
    {
        "pending": "pending",
        "in_progress": "running",
        "completed": "done",
        "failed": "failed",
        "cancelled": "cancelled",
    }
)


def read_job(value: Any) -> PromptJob | None:
    """From `/api/jobs/ID`; None for what is not a job."""
    found = as_object(value)
    state = _STATES.get(str(found.get("status")))
    if state is None:
        return None
    failure = Failure.read(found["execution_error"]) if isinstance(found.get("execution_error"), dict) else None
    return PromptJob(state, read_outputs(found.get("outputs")), failure)


def read_history(value: Any) -> PromptJob:
    """From one entry of `/history`, which calls an interrupted job an error."""
    found = as_object(value)
    status = as_object(found.get("status"))
    messages = {str(entry[0]): entry[1] for entry in map(as_list, as_list(status.get("messages"))) if len(entry) == 2}
    outputs = read_outputs(found.get("outputs"))
    if "execution_interrupted" in messages:
        return PromptJob("cancelled", outputs)
    if "execution_error" in messages:
        return PromptJob("failed", outputs, Failure.read(messages["execution_error"]))
    return PromptJob("failed" if status.get("status_str") == "error" else "done", outputs)


@dataclass(frozen=True)
class Problem:
    """What `/prompt` says is wrong: ComfyUI's type of error, the node and its class (empty: the whole graph)."""

    type: str
    text: str
    node: str = ""
    kind: str = ""


def read_problems(value: Any) -> tuple[Problem, ...]:
    """The problems in an answer of `/prompt`, whatever its status: those of nodes, or else the graph's own."""
    found = as_object(value)
    problems: list[Problem] = []
    for node, entry in as_object(found.get("node_errors")).items():
        kind = as_line(as_object(entry).get("class_type"), 80)
        problems += [_problem(error, as_line(node, 40), kind) for error in as_list(as_object(entry).get("errors"))[:20]]
    error = found.get("error")
    if not problems and isinstance(error, str):
        return (Problem("", as_line(error)),)
    if not problems and (whole := object_or_none(error)) is not None:
        extra = as_object(whole.get("extra_info"))
        problems.append(_problem(error, as_line(extra.get("node_id"), 40), as_line(extra.get("class_type"), 80)))
    return tuple(problems[:50])


def _problem(value: Any, node: str, kind: str) -> Problem:
    found = as_object(value)
    parts = [as_line(found.get(key)) for key in ("message", "details")]
    return Problem(as_line(found.get("type"), 80), ": ".join(part for part in parts if part), node, kind)


@dataclass(frozen=True)
class System:
    """What a server runs on. Memory (the device's, what of it is free, the machine's) in bytes.

    0 and empty where it does not say.
    """

    version: str = ""
    python: str = ""
    torch: str = ""
    platform: str = ""
    device: str = ""
    memory: int = 0
    free: int = 0
    ram: int = 0

    @staticmethod
    def read(value: Any) -> System | None:
        """From `/system_stats`; None for what is none."""
        found = as_object(value)
        system, devices = as_object(found.get("system")), as_list(found.get("devices"))
        if not system:
            return None
        device = as_object(devices[0]) if devices else {}
        return System(
            as_line(system.get("comfyui_version"), 40),
            as_line(system.get("python_version"), 80).partition(" ")[0],
            as_line(system.get("pytorch_version"), 40),
            as_line(system.get("os"), 40),
            as_line(device.get("name"), 120),
            as_count(device.get("vram_total")),
            as_count(device.get("vram_free")),
            as_count(system.get("ram_total")),
        )


@dataclass(frozen=True)
class LogEntry:
    """A piece of the server's log; `time` is the server's own and sorts as text."""

    time: str
    text: str


def read_log(value: Any) -> tuple[LogEntry, ...]:
    """From `/internal/logs/raw`."""
    found = [as_object(entry) for entry in as_list(as_object(value).get("entries"))[-2000:]]
    return tuple(
        LogEntry(as_line(entry.get("t"), 40), str(entry.get("m"))[:20_000])
        for entry in found
        if isinstance(entry.get("m"), str)
    )


def read_folders(value: Any) -> Mapping[str, tuple[str, ...]]:
    """Kinds of models to folders, from `/internal/folder_paths`; a kind without a folder is left out."""
    found: dict[str, tuple[str, ...]] = {}
    room = MAX_FOLDERS
    for kind, paths in as_object(value).items():
        told = [path for path in as_list(paths) if isinstance(path, str) and len(path) <= MAX_PATH]
        fit = tuple(path for path in told if path and path.isprintable())[:room]
        if fit and kind not in NO_MODELS:
            found[kind] = fit
            room -= len(fit)
    return found
