"""The fake server's HTTP side, on this machine only. It can crash and come back, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import email
import json
import socket
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO, Self, cast
from urllib.parse import parse_qs, urlsplit

from sosie.engines.comfy.fake.behaviour import Behaviour, Scripted
from sosie.engines.comfy.fake.life import Disk, Life, QueuedPrompt
from sosie.engines.comfy.fake.schema import judge, object_info
from sosie.engines.comfy.fake.sockets import ServerSocket, accept_key
from sosie.graph import node_types

JSON = "application/json; charset=utf-8"


class FakeServer:
    """A context manager. `behaviour` may be replaced while it runs; `disk` is what it has saved and holds.

    It listens at `port` of this machine (0: any that is free). `asked` are the requests so far: method, path and
    headers (names in lower case).
    """

    def __init__(self, behaviour: Behaviour | None = None, port: int = 0) -> None:
        self.behaviour = behaviour or Behaviour()
        self.disk = Disk()
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.spent: dict[str, int] = {}
        self.lines: set[socket.socket] = set()
        self.life: Life | None = None
        self._http: _Http | None = None
        self._port = port
        self._ended = False
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self.stop()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Begins a new life, on the same port."""
        object_info(self.behaviour, self.disk.inputs)
        self._http = _Http(("127.0.0.1", self._port), self)
        self._port = self._http.server_address[1]
        self.life = Life(self.disk, lambda: self.behaviour, self.crash)
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Ends its life as a kill does: lines break, and what was in memory is gone."""
        http, self._http = self._http, None
        if http is None:
            return
        if self.life is not None:
            self.life.end()
        http.shutdown()
        http.server_close()
        for line in list(self.lines):
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def crash(self) -> None:
        """Stops, and starts again after `restart_seconds` (negative: never)."""
        self.stop()
        seconds = self.behaviour.restart_seconds
        if seconds < 0:
            return

        def again() -> None:
            time.sleep(seconds)
            if not self._ended:
                self.start()

        threading.Thread(target=again, daemon=True).start()

    def count(self, method: str, path: str) -> int:
        """How often something was asked."""
        return sum(asked[0] == method and asked[1].startswith(path) for asked in self.asked)


class _Http(ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], fake: FakeServer) -> None:
        self.fake = fake
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Lines that clients break are no news."""


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self._fake.lines.add(self.connection)

    def finish(self) -> None:
        self._fake.lines.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        """Says nothing."""

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    @property
    def _fake(self) -> FakeServer:
        return cast("_Http", self.server).fake

    @property
    def _life(self) -> Life:
        life = self._fake.life
        if life is None or life.is_over:
            raise ConnectionError
        return life

    def _handle(self) -> None:
        fake, behaviour = self._fake, self._fake.behaviour
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = urlsplit(self.path)
        path = parts.path if parts.path.startswith("/api/jobs") else parts.path.removeprefix("/api")
        headers = {name.lower(): value for name, value in self.headers.items()}
        fake.asked.append((self.command, self.path, headers))
        if behaviour.token and headers.get("authorization") != f"Bearer {behaviour.token}":
            return self._answer(401, b"who are you?")
        scripted = behaviour.scripted.get(path)
        if scripted is not None and fake.spent.get(path, 0) < scripted.times:
            fake.spent[path] = fake.spent.get(path, 0) + 1
            return self._play(scripted)
        if path == "/ws":
            return self._websocket(parse_qs(parts.query).get("clientId", [uuid.uuid4().hex])[0])
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if self.command == "POST":
            return self._post(path, body)
        return self._get(path, query)

    def _get(self, path: str, query: dict[str, str]) -> None:
        behaviour, life, disk = self._fake.behaviour, self._life, self._fake.disk
        name = path.rpartition("/")[2]
        if path == "/system_stats":
            return self._json(_system(behaviour))
        if path == "/object_info":
            return self._answer(200, object_info(behaviour, disk.inputs), JSON)
        if path == "/features":
            return self._json({"supports_preview_metadata": True, "max_upload_size": behaviour.max_upload})
        if path == "/internal/logs/raw" and behaviour.shows_log:
            with life.lock:
                return self._json({"entries": list(life.log), "size": {"cols": 80, "rows": 24}})
        if path == "/queue":
            with life.lock:
                running = [life.running.listed([])] if life.running else []
                return self._json({"queue_running": running, "queue_pending": [i.listed([]) for i in life.queue]})
        if path == "/history":
            with life.lock:
                return self._json(dict(list(life.history.items())[-int(query.get("max_items", "10000")) :]))
        if path.startswith("/history/"):
            with life.lock:
                return self._json({name: life.history[name]} if name in life.history else {})
        if path.startswith("/api/jobs/") and not behaviour.is_old:
            return self._job(name)
        if path == "/view":
            place = query.get("type", "output"), query.get("subfolder", ""), query.get("filename", "")
            data = disk.outputs.get(place)
            return self._answer(404, b"") if data is None else self._answer(200, data, "image/png")
        return self._answer(404, b"404: Not Found")

    def _job(self, name: str) -> None:
        life = self._life
        with life.lock:
            if name in life.history:
                entry = life.history[name]
                messages = dict(entry["status"]["messages"])
                status = "completed" if entry["status"]["completed"] else "failed"
                job = {"id": name, "status": status, "outputs": entry["outputs"]}
                if "execution_interrupted" in messages:
                    job["status"] = "cancelled"
                if "execution_error" in messages:
                    job["execution_error"] = messages["execution_error"]
                return self._json(job)
            if life.running is not None and life.running.id == name:
                return self._json({"id": name, "status": "in_progress"})
            if any(item.id == name for item in life.queue):
                return self._json({"id": name, "status": "pending"})
        return self._json({"error": "Job not found"}, 404)

    def _post(self, path: str, body: bytes) -> None:
        life, behaviour = self._life, self._fake.behaviour
        if path == "/upload/image":
            return self._upload(body)
        try:
            asked = json.loads(body)
        except ValueError:
            return self._answer(500, b"500 Internal Server Error\n\nServer got itself in trouble")
        if path == "/prompt":
            return self._prompt(asked)
        if path == "/queue":
            with life.lock:
                life.queue[:] = [item for item in life.queue if item.id not in asked.get("delete", [])]
            return self._answer(200, b"")
        if path == "/interrupt":
            with life.lock:
                wanted = None if behaviour.is_old else asked.get("prompt_id")
                if life.running is not None and wanted in (None, life.running.id):
                    life.interrupted = True
            return self._answer(200, b"")
        if path == "/free":
            life.free(bool(asked.get("unload_models")), bool(asked.get("free_memory")))
            return self._answer(200, b"")
        return self._answer(404, b"404: Not Found")

    def _prompt(self, asked: dict[str, Any]) -> None:
        life, behaviour = self._life, self._fake.behaviour
        graph = asked.get("prompt")
        if graph is None:
            missing = {"type": "no_prompt", "message": "No prompt provided", "details": "No prompt provided"}
            return self._json({"error": missing, "node_errors": {}}, 400)
        if not all(isinstance(entry, dict) for entry in graph.values()):
            return self._answer(500, b"500 Internal Server Error\n\nServer got itself in trouble")
        error, node_errors = judge(graph, behaviour, self._fake.disk.inputs)
        if error is not None:
            return self._json({"error": error, "node_errors": node_errors}, 400)
        name = str(uuid.uuid4()) if behaviour.is_old else asked.get("prompt_id") or str(uuid.uuid4())
        ends = [
            node
            for node, entry in graph.items()
            if node_types()[entry["class_type"]].ends
            and not any(node in wrong["dependent_outputs"] for wrong in node_errors.values())
        ]
        extra = {**asked.get("extra_data", {}), "client_id": asked.get("client_id"), "outputs": ends}
        number = self._fake.spent["prompts"] = self._fake.spent.get("prompts", 0) + 1
        life.put(QueuedPrompt(number, name, graph, extra))
        if number <= behaviour.accepts_then_breaks:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return None
        return self._json({"prompt_id": name, "number": number, "node_errors": node_errors})

    def _upload(self, body: bytes) -> None:
        limit = self._fake.behaviour.max_upload
        if len(body) > limit:
            return self._answer(413, f"Maximum request body size {limit} exceeded.".encode())
        message = email.message_from_bytes(f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode() + body)
        found: dict[str, tuple[str, bytes]] = {}
        for part in message.walk():
            field = part.get_param("name", header="content-disposition")
            data = part.get_payload(decode=True)
            if isinstance(field, str) and isinstance(data, bytes):
                found[field] = (part.get_filename() or "", data)
        name, data = found.get("image", ("", b""))
        subfolder = found.get("subfolder", ("", b""))[1].decode()
        if not name or ".." in f"{subfolder}/{name}":
            return self._answer(400, b"")
        inputs, stem = self._fake.disk.inputs, name.rpartition(".")
        number = 0
        while inputs.get(full := f"{subfolder}/{name}".lstrip("/"), data) != data:
            number += 1
            name = f"{stem[0]} ({number}).{stem[2]}"
        inputs[full] = data
        return self._json({"name": name, "subfolder": subfolder, "type": "input"})

    def _websocket(self, client_id: str) -> None:
        """Upgrades the connection; the end of an old one takes a new one of the same id along, as in 0.33."""
        life = self._life
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", accept_key(self.headers["Sec-WebSocket-Key"]))
        self.end_headers()
        one = ServerSocket(self.connection, cast("BinaryIO", self.rfile))
        with life.lock:
            life.sockets[client_id] = one
        data = {"status": {"exec_info": {"queue_remaining": 0}}, "sid": client_id}
        one.send(json.dumps({"type": "status", "data": data}))
        is_first = True
        while (text := one.receive()) is not None:
            if is_first:
                asked = json.loads(text)
                one.has_metadata = bool(asked.get("data", {}).get("supports_preview_metadata"))
                one.send(json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}}))
            is_first = False
        with life.lock:
            life.sockets.pop(client_id, None)
        self.close_connection = True

    def _play(self, scripted: Scripted) -> None:
        self.send_response(scripted.status)
        for name, value in scripted.headers.items():
            self.send_header(name, value)
        length = len(scripted.body) if scripted.length is None else scripted.length
        if length >= 0:
            self.send_header("Content-Length", str(length))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if scripted.pace:
            for i in range(len(scripted.body)):
                time.sleep(scripted.pace)
                self.wfile.write(scripted.body[i : i + 1])
        else:
            self.wfile.write(scripted.body)
        if scripted.breaks:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def _json(self, value: Any, status: int = 200) -> None:
        self._answer(status, json.dumps(value).encode(), JSON)

    def _answer(self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _system(behaviour: Behaviour) -> dict[str, Any]:
    system = {
        "os": "linux",
        "ram_total": behaviour.ram,
        "comfyui_version": behaviour.version,
        "python_version": "3.11.7 (main) [GCC 12.2.0]",
        "pytorch_version": "2.14.1+cu130",
        "argv": ["main.py"],
    }
    device = {"name": "cuda:0 fake", "type": "cuda", "vram_total": behaviour.memory, "vram_free": behaviour.memory}
    return {"system": system, "devices": [device]}
