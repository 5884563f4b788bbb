"""One life of the fake server, from start to crash: its queue, its worker, its cache, its history and its log.

What a life knows is gone with it, as ComfyUI's is; only files stay.
"""

from __future__ import annotations

import datetime
import json
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

from sosie.engines.comfy.fake.behaviour import Behaviour
from sosie.engines.comfy.fake.nodes import NodeError, Result, is_sampler, run_node
from sosie.engines.comfy.fake.pictures import answer, picture_size
from sosie.engines.comfy.fake.schema import above, is_link
from sosie.engines.comfy.fake.sockets import ServerSocket
from sosie.graph import node_types

if TYPE_CHECKING:
    from PIL.Image import Image

LOG_LENGTH = 300


class InterruptedPromptError(Exception):
    """Someone asked for the running prompt to be stopped."""


class CrashError(Exception):
    """The server dies here."""


@dataclass
class Disk:
    """What outlives a crash. `outputs` by (type, subfolder, file name); `models` says what a model file holds."""

    outputs: dict[tuple[str, str, str], bytes] = field(default_factory=dict[tuple[str, str, str], bytes])
    inputs: dict[str, bytes] = field(default_factory=dict[str, bytes])
    models: dict[str, str] = field(default_factory=dict[str, str])
    spent: dict[str, int] = field(default_factory=dict[str, int])
    finished: list[str] = field(default_factory=list[str])
    """Ids of the prompts whose images were saved, in order: more than one for an image is one too many."""


@dataclass(frozen=True)
class QueuedPrompt:
    """A prompt in the queue."""

    number: float
    id: str
    graph: dict[str, Any]
    extra: dict[str, Any]

    def listed(self, outputs: list[str]) -> list[Any]:
        """As `/queue` and the history show it."""
        return [self.number, self.id, self.graph, self.extra, outputs]


class Life:
    """The server's memory and its worker thread. `lock` guards everything that requests read."""

    def __init__(self, disk: Disk, behaviour: Callable[[], Behaviour], on_crash: Callable[[], None]) -> None:
        self.lock = threading.RLock()
        self.disk = disk
        self.queue: list[QueuedPrompt] = []
        self.running: QueuedPrompt | None = None
        self.history: dict[str, dict[str, Any]] = {}
        self.sockets: dict[str, ServerSocket] = {}
        self.log: deque[dict[str, str]] = deque(maxlen=LOG_LENGTH)
        self.frees: list[float] = []
        self.is_over = False
        self.interrupted = False
        self._behaviour = behaviour
        self._on_crash = on_crash
        self._cache: dict[str, Result] = {}
        self._saved: dict[str, list[dict[str, str]]] = {}
        self._wake = threading.Condition(self.lock)
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def put(self, item: QueuedPrompt) -> None:
        """Adds a prompt to the queue."""
        with self.lock:
            self.queue.append(item)
            self.queue.sort(key=lambda entry: entry.number)
            self._wake.notify_all()
        self.write("got prompt\n")
        self.broadcast()

    def free(self, unload: bool, memory: bool) -> None:
        """Sets the flags that the worker looks at when it is idle; only the second makes it forget its cache."""
        with self.lock:
            if memory:
                self.frees.append(time.monotonic() + self._behaviour().free_lag)
            self._wake.notify_all()
        self.write(f"free: unload {unload}, memory {memory}\n")

    def end(self) -> None:
        """The life is over: nothing is sent or run any more."""
        with self.lock:
            self.is_over = True
            sockets = list(self.sockets.values())
            self._wake.notify_all()
        for one in sockets:
            one.cut()

    def write(self, text: str) -> None:
        """Adds to the log."""
        with self.lock:
            self.log.append({"t": datetime.datetime.now().isoformat(timespec="microseconds"), "m": text})

    def send(self, item: QueuedPrompt, kind: str, **data: Any) -> None:
        """Pushes an event of a prompt to the connection that it was sent from."""
        self._push(item, json.dumps({"type": kind, "data": {"prompt_id": item.id, **data}}))

    def broadcast(self) -> None:
        """Tells every connection how long the queue is."""
        with self.lock:
            left, sockets = len(self.queue) + (self.running is not None), list(self.sockets.values())
        if not self._behaviour().is_mute:
            data = {"status": {"exec_info": {"queue_remaining": left}}}
            for one in sockets:
                one.send(json.dumps({"type": "status", "data": data}))

    def _push(self, item: QueuedPrompt, frame: str | bytes) -> None:
        with self.lock:
            target = self.sockets.get(str(item.extra.get("client_id")))
        if target is not None and not self._behaviour().is_mute and not self.is_over:
            target.send(frame)

    def _work(self) -> None:
        while True:
            with self.lock:
                while not self.queue and not self.is_over:
                    self._free_now()
                    self._wake.wait(0.01 if self.frees else None)
                if self.is_over:
                    return
                self.running = item = self.queue.pop(0)
            try:
                self._execute(item)
            except CrashError:
                self._on_crash()
                return
            with self.lock:
                self.running = None
                self._free_now()

    def _free_now(self) -> None:
        """Forgets the cache if that was asked for long enough ago."""
        if self.frees and time.monotonic() >= self.frees[0]:
            self.frees.clear()
            self._cache.clear()
            self._saved.clear()

    def _execute(self, item: QueuedPrompt) -> None:
        """One prompt, with the events of a real server in their order."""
        self.interrupted = False
        messages: list[Any] = []
        outputs: dict[str, Any] = {}

        def tell(kind: str, **data: Any) -> None:
            messages.append([kind, {"prompt_id": item.id, **data}])
            self.send(item, kind, **data)

        tell("execution_start")
        order = list(dict.fromkeys(node for end in item.extra["outputs"] for node in above(item.graph, end)))
        signatures = {node: self._signature(item, node) for node in order}
        tell("execution_cached", nodes=[node for node in order if signatures[node] in self._cache])
        status = "success"
        node = ""
        try:
            for node in order:
                self._run(item, node, signatures, outputs)
            tell("execution_success")
        except NodeError as error:
            status = "error"
            raised = {"exception_type": error.raised.type, "exception_message": error.raised.message}
            self.write(f"!!! Exception during processing !!! {error.raised.message}\n")
            kind = item.graph[node]["class_type"]
            tell("execution_error", node_id=node, node_type=kind, executed=[], traceback=[], **raised)
        except InterruptedPromptError:
            status = "error"
            tell("execution_interrupted", node_id=node, node_type=item.graph[node]["class_type"], executed=[])
        time.sleep(self._behaviour().history_lag)
        with self.lock:
            if self.is_over:
                raise CrashError
            told = {"status_str": status, "completed": status == "success", "messages": messages}
            entry = {"prompt": item.listed(item.extra["outputs"]), "outputs": outputs, "status": told}
            self.history[item.id] = entry
            self.running = None
        self.send(item, "executing", node=None)
        self.write("Prompt executed in 0.01 seconds\n")
        self.broadcast()

    def _run(self, item: QueuedPrompt, node: str, signatures: dict[str, str], outputs: dict[str, Any]) -> None:
        """One node: from the cache, or run."""
        entry, key = item.graph[node], signatures[node]
        kind = node_types()[entry["class_type"]]
        if key not in self._cache:
            self.send(item, "executing", node=node, display_node=node)
            self._raise(kind.name)
            for line in self._behaviour().says.get(kind.name, ()):
                self.write(line)
            inputs = {
                name: self._cache[signatures[value[0]]] if is_link(value) else value
                for name, value in entry.get("inputs", {}).items()
            }
            if is_sampler(kind.name):
                self._sample(item, node, int(entry["inputs"].get("steps", 4)))
            result = run_node(kind.name, inputs, self.disk.models)
            upload = inputs.get("image")
            if isinstance(upload, str) and upload in self.disk.inputs:
                result = replace(result, size=picture_size(self.disk.inputs[upload]))
            for line in result.said:
                self.write(line)
            if kind.ends:
                self._saved[key] = [self._save(item, node, next(v for v in inputs.values() if isinstance(v, Result)))]
            self._cache[key] = result
        if kind.ends:
            outputs[node] = {"images": self._saved[key]}
            self.send(item, "executed", node=node, display_node=node, output=outputs[node])

    def _sample(self, item: QueuedPrompt, node: str, steps: int) -> None:
        for step in range(1, steps + 1):
            behaviour = self._behaviour()
            time.sleep(behaviour.step_seconds)
            if self.is_over:
                raise CrashError
            if self.interrupted:
                raise InterruptedPromptError
            if step == 1:
                for frame in behaviour.frames:
                    self._push(item, frame)
            if step == behaviour.die_at and self._spend("die"):
                raise CrashError
            if step == behaviour.drop_at and self._spend("drop"):
                with self.lock:
                    for one in self.sockets.values():
                        one.cut()
            self.send(item, "progress_state", nodes={node: {"value": step, "max": steps, "state": "running"}})
            self.send(item, "progress", node=node, value=step, max=steps)
            if behaviour.previews:
                self._preview(item, node)

    def _preview(self, item: QueuedPrompt, node: str) -> None:
        """A preview, in the form that the client asked for."""
        import PIL.Image

        stream = BytesIO()
        PIL.Image.new("RGB", (8, 8), (90, 60, 30)).save(stream, "JPEG")
        target = self.sockets.get(str(item.extra.get("client_id")))
        if target is not None and target.has_metadata:
            told = json.dumps({"node_id": node, "prompt_id": item.id, "image_type": "image/jpeg"}).encode()
            self._push(item, struct.pack(">II", 4, len(told)) + told + stream.getvalue())
        else:
            self._push(item, struct.pack(">II", 1, 1) + stream.getvalue())

    def _raise(self, kind: str) -> None:
        raised = self._behaviour().raises.get(kind)
        if raised is not None and self._spend(f"raise {kind}", raised.times):
            raise NodeError(raised)

    def _spend(self, what: str, times: int | None = None) -> bool:
        """Whether something that happens a number of times happens now; counted on the disk, over all lives."""
        limit = self._behaviour().times if times is None else times
        done = self.disk.spent[what] = self.disk.spent.get(what, 0) + 1
        return done <= limit

    def _save(self, item: QueuedPrompt, node: str, result: Result) -> dict[str, str]:
        """Writes a picture as SaveImage does: under its prefix, with the next number, its graph inside."""
        from PIL.PngImagePlugin import PngInfo

        entry = item.graph[node]
        made, pictures = self._behaviour().picture, self._behaviour().pictures
        picture: Image = (
            made(item.graph, node) if made else answer(result, item.graph, node, self.disk.inputs, pictures)
        )
        prefix = str(entry["inputs"].get("filename_prefix", "ComfyUI"))
        place = "output" if "filename_prefix" in entry["inputs"] else "temp"
        subfolder, _, stem = prefix.rpartition("/")
        number = 1
        while (place, subfolder, f"{stem}_{number:05}_.png") in self.disk.outputs:
            number += 1
        told, stream = PngInfo(), BytesIO()
        told.add_text("prompt", json.dumps(item.graph))
        picture.save(stream, "PNG", pnginfo=told)
        name = f"{stem}_{number:05}_.png"
        with self.lock:
            if self.is_over:
                raise CrashError
            self.disk.outputs[place, subfolder, name] = stream.getvalue()
            self.disk.finished.append(item.id)
        return {"filename": name, "subfolder": subfolder, "type": place}

    def _signature(self, item: QueuedPrompt, node: str) -> str:
        """What ComfyUI knows a node's result by: its class, its inputs, and those of all before it."""
        entry = item.graph[node]
        inputs = {
            name: [self._signature(item, value[0]), value[1]] if is_link(value) else value
            for name, value in sorted(entry.get("inputs", {}).items())
        }
        return json.dumps([entry["class_type"], inputs])
