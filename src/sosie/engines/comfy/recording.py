"""A recording of a ComfyUI server for bug reports: what it says of itself, its last jobs and its log, without secrets.

Only what is listed here is taken along; from jobs the graph, what was saved and how it ended. Texts in graphs are
prompts, and are left out unless asked for; choices and file names stay. Parts that the server does not give are
named with the reason, so that a broken server can be recorded too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from sosie import __version__
from sosie.engines.comfy.catalogue import NodeCatalogue
from sosie.engines.comfy.client import Client
from sosie.engines.comfy.errors import ComfyError
from sosie.engines.comfy.program import inputs_of, link_of
from sosie.engines.comfy.redact import Redaction, redact, redaction_here, texts_in, users_in
from sosie.engines.comfy.server import Server
from sosie.files.foreign import as_list, as_object
from sosie.graph import node_type, node_types

PARTS = ("/system_stats", "/features", "/object_info", "/queue", "/history?max_items=8", "/internal/logs/raw")
"""What is asked for, each once."""

JOBS = 8
LINES = 400
"""Most jobs, and most pieces of the log, that are taken along: the last ones."""

PIECE = 12
"""Letters of the shortest piece of a prompt that is looked for elsewhere."""

TOLD = (
    *("prompt_id", "node_id", "node_type", "executed", "nodes", "timestamp"),
    *("exception_type", "exception_message", "traceback"),
)
"""What is kept of a job's messages; the inputs of the node that failed are not."""


class RecordingClient(Client):
    """A client that gives the answers as they are."""

    def part(self, path: str) -> Any:
        """The JSON that the server answers to a GET. Raises `ComfyError`."""
        return self._json("GET", path)


def record(server: Server, with_prompts: bool = False, hidden: Iterable[str] = ()) -> dict[str, Any]:
    """The recording, ready to be written as JSON; `hidden` are more texts to be removed (the far end of a tunnel).

    Raises `ComfyError` if the server gives nothing at all.
    """
    recorder = RecordingClient(server)
    raw: dict[str, Any] = {}
    failed: dict[str, str] = {}
    first: ComfyError | None = None
    try:
        for path in PARTS:
            try:
                raw[path.partition("?")[0]] = recorder.part(path)
            except ComfyError as error:
                first = first or error
                failed[path.partition("?")[0]] = error.message
    finally:
        recorder.close()
    if first is not None and not raw:
        raise first
    known = redaction_here(urlsplit(server.url).hostname or "", server.token).and_texts(hidden, "[server]")
    return _without_secrets(raw, failed, with_prompts, known)


def _without_secrets(
    raw: Mapping[str, Any], failed: Mapping[str, str], with_prompts: bool, redaction: Redaction
) -> dict[str, Any]:
    offers = as_object(raw.get("/object_info"))
    pick = _Pick(NodeCatalogue(offers), with_prompts)
    jobs = [(name, as_object(job)) for name, job in as_object(raw.get("/history")).items()][-JOBS:]
    queue = as_object(raw.get("/queue"))
    queued = {
        name: [_graph_of(item) for item in as_list(queue.get(name))[:JOBS]]
        for name in ("queue_running", "queue_pending")
    }
    graphs = [*(_graph_of(job.get("prompt")) for _, job in jobs), *queued["queue_running"], *queued["queue_pending"]]
    used = {str(as_object(node).get("class_type")) for graph in graphs for node in graph.values()}
    logs = as_object(raw.get("/internal/logs/raw"))
    log = [as_object(entry).get("m") for entry in as_list(logs.get("entries"))[-LINES:]]
    picked: dict[str, Any] = {
        "system_stats": raw.get("/system_stats"),
        "features": raw.get("/features"),
        "object_info": {name: _offer(name, offers[name]) for name in sorted({*node_types(), *used} & offers.keys())},
        "queue": {name: [pick.graph(graph) for graph in some] for name, some in queued.items()},
        "history": {name: pick.job(job) for name, job in jobs},
        "log": [entry for entry in log if isinstance(entry, str)],
    }
    redaction = redaction.and_texts(users_in(raw), "[user]")
    if not with_prompts:
        redaction = redaction.and_texts(pick.texts(graphs), "[text]")
        redaction = redaction.and_texts((t for _, job in jobs for t in _inputs_told(job, pick)), "[text]")
    kept = redact(picked, redaction)
    return {"sosie": __version__, "with_prompts": with_prompts, **kept, "failed": redact(failed, redaction)}


class _Pick:
    """What is taken along of jobs."""

    def __init__(self, catalogue: NodeCatalogue, with_prompts: bool) -> None:
        self._catalogue = catalogue
        self._with_prompts = with_prompts

    def graph(self, graph: Mapping[str, Any]) -> dict[str, Any]:
        """The nodes with their inputs; titles and everything else that editors write is left out."""
        return {
            name: {
                "class_type": as_object(node).get("class_type"),
                "inputs": {key: self._value(node, key, value) for key, value in inputs_of(node).items()},
            }
            for name, node in graph.items()
        }

    def job(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Graph, saved files and messages of a finished job."""
        status = as_object(job.get("status"))
        messages = [as_list(message) for message in as_list(status.get("messages"))]
        return {
            "graph": self.graph(_graph_of(job.get("prompt"))),
            "outputs": {name: self._output(output) for name, output in as_object(job.get("outputs")).items()},
            "status": status.get("status_str"),
            "completed": status.get("completed"),
            "messages": [
                [message[0], {key: value for key, value in as_object(message[1]).items() if key in TOLD}]
                for message in messages
                if len(message) == 2
            ],
        }

    def texts(self, graphs: list[dict[str, Any]]) -> Iterator[str]:
        """The texts in graphs that are not choices: they may stand in the log and in errors too."""
        for graph in graphs:
            for node in graph.values():
                for key, value in inputs_of(node).items():
                    if not self.is_choice(node, key, value):
                        yield from _lines(text for text in texts_in(value) if text not in graph)

    def is_choice(self, node: Any, key: str, value: Any) -> bool:
        """Whether a value says nothing of its own: a number, a link, a file or another entry of a list."""
        if isinstance(value, bool | int | float) or value is None or link_of(value) is not None:
            return True
        kind = str(as_object(node).get("class_type"))
        offer, known = self._catalogue.node(kind), node_type(kind)
        for kind_ in (offer, known):
            takes = kind_.input(key) if kind_ else None
            if takes is not None and (value in (takes.choices or ()) or (kind_ is known and takes.type == "FILE")):
                return isinstance(value, str)
        return False

    def _value(self, node: Any, key: str, value: Any) -> Any:
        if self._with_prompts or self.is_choice(node, key, value):
            return value
        letters = sum(map(len, texts_in(value)))
        return f"[text of {letters} letters]"

    def _output(self, output: Any) -> dict[str, Any]:
        images = [as_object(image) for image in as_list(as_object(output).get("images"))[:JOBS]]
        return {"images": [self._saved(image) for image in images], "kinds": sorted(map(str, as_object(output)))}

    def _saved(self, image: Mapping[str, Any]) -> dict[str, Any]:
        name, folder = str(image.get("filename", "")), str(image.get("subfolder", ""))
        if not self._with_prompts:
            # What a file is called is often made of the prompt.
            name, folder = f"[name]{PurePosixPath(name).suffix[:8]}", "[folder]" if folder else ""
        return {"filename": name, "subfolder": folder, "type": image.get("type")}


def _graph_of(item: Any) -> dict[str, Any]:
    """The graph in an item of the queue or the history: `[number, id, graph, extra, outputs]`."""
    parts = as_list(item)
    return as_object(parts[2]) if len(parts) > 2 else {}


def _inputs_told(job: Mapping[str, Any], pick: _Pick) -> Iterator[str]:
    """The texts among the inputs that a failed node had, which come from other nodes too."""
    for message in map(as_list, as_list(as_object(job.get("status")).get("messages"))):
        told = as_object(message[1]) if len(message) == 2 else {}
        node = {"class_type": told.get("node_type")}
        for key, values in as_object(told.get("current_inputs")).items():
            for value in as_list(values):
                if not pick.is_choice(node, key, value):
                    yield from _lines(texts_in(value))


def _lines(texts: Iterable[str]) -> Iterator[str]:
    """Texts, and their lines and clauses: programs print them in pieces."""
    for text in texts:
        yield text
        yield from (part.strip() for part in re.split(r"[\n,.;:()]", text) if len(part.strip()) >= PIECE)


def _offer(name: str, offer: Any) -> dict[str, Any]:
    """A class's inputs and outputs; of the user's own pictures only how many there are."""
    inputs: dict[str, Any] = {}
    for group, members in as_object(as_object(offer).get("input")).items():
        inputs[group] = {key: _input(name, key, entry) for key, entry in as_object(members).items()}
    found = as_object(offer)
    return {"input": inputs, "output": found.get("output"), "python_module": found.get("python_module")}


def _input(kind: str, key: str, entry: Any) -> Any:
    parts = as_list(entry)
    options = as_object(parts[1]) if len(parts) > 1 else {}
    is_upload = any(name.endswith("_upload") and value for name, value in options.items())
    known = node_type(kind)
    known_entry = known.input(key) if known else None
    if is_upload or kind.startswith("LoadImage") or (known_entry is not None and known_entry.type == "IMAGE_FILE"):
        count = len(as_list(parts[0])) if parts else 0
        return [parts[0] if parts and isinstance(parts[0], str) else f"[{count} files]"]
    return [parts[0] if parts else None, {k: v for k, v in options.items() if k not in ("tooltip", "default")}]
