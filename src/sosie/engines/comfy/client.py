"""ComfyUI over HTTP: one request a method, everything bounded, nothing believed.

Redirects are not followed, so that the token goes to the server that it is for and to no other. A line that
breaks is a `LostError`, an answer that no ComfyUI gives a `NonsenseError`, a refusal a `ComfyError`.
"""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from sosie import __version__
from sosie.engines.comfy.answers import (
    UNKNOWN,
    LogEntry,
    Problem,
    PromptJob,
    ServerImage,
    System,
    read_folders,
    read_history,
    read_job,
    read_log,
    read_problems,
)
from sosie.engines.comfy.errors import Y001, ComfyError, LostError, NonsenseError, refused, refused_status, too_large
from sosie.engines.comfy.program import ApiGraph
from sosie.engines.comfy.server import Limits, Patience, Server
from sosie.engines.comfy.uploads import ROOM
from sosie.fetch.exchange import TLS_HINT, LateError, Line, tls_trouble
from sosie.files.foreign import as_count, as_line, as_list, as_object, parse_json

RECENT = 64
"""How many of the last jobs are searched for one of ours."""

ANOTHER_ID = "sosie"
"""The key of `extra_data` that holds our own id of a prompt, for servers that choose ids themselves."""


@dataclass(frozen=True)
class HttpAnswer:
    """Status and whole body."""

    status: int
    body: bytes

    @property
    def said(self) -> str:
        """The start of the body, for people."""
        return as_line(self.body[:400].decode("utf-8", "replace"), 160)


class Client:
    """A connection to one server; `close` ends it. Every method is one request, and may be used from any thread."""

    def __init__(self, server: Server, limits: Limits | None = None, patience: Patience | None = None) -> None:
        import httpx2

        self.server = server
        self.limits = limits or Limits()
        self.patience = patience or Patience()
        self._has_jobs = True
        self._line = Line(
            httpx2.Client(
                headers={"User-Agent": f"sosie/{__version__}", "Accept-Encoding": "identity", **server.headers},
                timeout=httpx2.Timeout(self.patience.answer, connect=self.patience.connect),
                verify=_trusted(server),
                trust_env=not server.is_local,
            )
        )

    def close(self) -> None:
        """Ends the connection."""
        self._line.close()

    def system(self) -> System:
        """Versions, device and memory."""
        found = System.read(self._json("GET", "/system_stats"))
        if found is None:
            raise NonsenseError(self.server, "answered something else than ComfyUI's system_stats")
        return found

    def object_info(self) -> Mapping[str, Any]:
        """Every class of nodes with its inputs, as the server describes them."""
        return as_object(self._json("GET", "/object_info"))

    def model_folders(self) -> Mapping[str, tuple[str, ...]]:
        """Kinds of models to the folders that they are looked for in, as the server's machine names them."""
        return read_folders(self._json("GET", "/internal/folder_paths"))

    def max_upload(self) -> int:
        """The largest body that it takes, in bytes; 0 if it does not say (versions without `/features`)."""
        answer = self._send("GET", "/features", self.limits.json)
        found = as_object(self._parsed(answer, "/features")) if answer.status == 200 else {}
        return as_count(found.get("max_upload_size"))

    def submit(self, graph: ApiGraph, client_id: str, prompt_id: str) -> str:
        """Puts a graph into the queue and gives its id, which is `prompt_id` unless the server chose another.

        A graph that is taken only in part (HTTP 200 with `node_errors`) is taken out again, and refused.
        """
        body = {
            "prompt": graph,
            "client_id": client_id,
            "prompt_id": prompt_id,
            "extra_data": {ANOTHER_ID: prompt_id},
        }
        answer = self._send("POST", "/prompt", self.limits.json, json=body)
        if answer.status == 400:
            raise refused(self.server, self._problems(answer))
        self._expect_ok(answer, "/prompt")
        parsed = self._parsed(answer, "/prompt")
        given = as_object(parsed).get("prompt_id")
        if not isinstance(given, str) or not 0 < len(given) <= 200:
            raise NonsenseError(self.server, "took a graph and gave no id for it")
        if problems := read_problems(parsed):
            self.remove(given)
            raise refused(self.server, problems)
        return given

    def job(self, prompt_id: str) -> PromptJob:
        """What becomes of a prompt. Old servers, which have no `/api/jobs`, are asked for queue and history."""
        if self._has_jobs:
            answer = self._send("GET", f"/api/jobs/{quote(prompt_id, safe='')}", self.limits.json)
            if answer.status == 404:
                if answer.body.lstrip().startswith(b"{"):
                    return UNKNOWN
                self._has_jobs = False
            else:
                self._expect_ok(answer, "/api/jobs")
                job = read_job(self._parsed(answer, "/api/jobs"))
                if job is None:
                    raise NonsenseError(self.server, "answered something else than a job")
                return job
        # The queue first: a job that ends between the two requests is then in the history.
        running, pending = self._queue()
        if prompt_id in running:
            return PromptJob("running")
        if prompt_id in pending:
            return PromptJob("pending")
        found = as_object(self._json("GET", f"/history/{quote(prompt_id, safe='')}"))
        return read_history(found[prompt_id]) if prompt_id in found else UNKNOWN

    def find(self, prompt_id: str) -> str:
        """The id under which a prompt that was sent as `prompt_id` is known, or empty if it never arrived."""
        if self.job(prompt_id).state != "unknown":
            return prompt_id
        queue = as_object(self._json("GET", "/queue"))
        items = [*as_list(queue.get("queue_running")), *as_list(queue.get("queue_pending"))]
        history = as_object(self._json("GET", f"/history?max_items={RECENT}"))
        items += [as_object(entry).get("prompt") for entry in history.values()]
        for item in map(as_list, items):
            if len(item) > 3 and as_object(item[3]).get(ANOTHER_ID) == prompt_id and isinstance(item[1], str):
                return item[1]
        return ""

    def ahead(self, prompt_id: str) -> int | None:
        """How many prompts run or wait before one that waits; None for one that does not."""
        found = as_object(self._json("GET", "/queue"))
        waiting = [as_list(item) for item in as_list(found.get("queue_pending"))]
        # The list is no order: each has a number, and the lowest is next.
        numbers = {item[1]: item[0] for item in waiting if len(item) > 1 and isinstance(item[1], str)}
        own = numbers.get(prompt_id)
        if not isinstance(own, int | float):
            return None
        before = sum(isinstance(number, int | float) and number < own for number in numbers.values())
        return before + len(_ids(found.get("queue_running")))

    def remove(self, prompt_id: str) -> None:
        """Takes our prompt out of the queue, or stops it if it runs; others' go on."""
        self._send("POST", "/queue", self.limits.json, json={"delete": [prompt_id]})
        # Old servers stop whatever runs, whichever id they are told: so they are asked first what that is.
        if prompt_id in self._queue()[0]:
            self._send("POST", "/interrupt", self.limits.json, json={"prompt_id": prompt_id})

    def free(self) -> None:
        """Asks it to unload all models and to forget what it has cached; it does so when it is idle next."""
        body = {"unload_models": True, "free_memory": True}
        self._expect_ok(self._send("POST", "/free", self.limits.json, json=body), "/free")

    def view(self, saved: ServerImage) -> bytes | None:
        """The file of an image, or None if it is not there (moved or deleted since it was saved)."""
        asked = {"filename": saved.filename, "subfolder": saved.subfolder, "type": saved.type}
        answer = self._send("GET", f"/view?{urlencode(asked)}", self.limits.image)
        if answer.status == 404:
            return None
        self._expect_ok(answer, "/view")
        return answer.body

    def upload(self, data: bytes, limit: int = 0) -> str:
        """Uploads a PNG or WebP file under a name made from its content; gives the name by which nodes load it.

        `limit` is the largest body that the server takes (0: not known).
        """
        kind = "webp" if data.startswith(b"RIFF") else "png"
        name = f"{hashlib.sha256(data).hexdigest()[:24]}.{kind}"
        if limit and len(data) + ROOM > limit:
            raise too_large(self.server, f"takes no more than {limit:,} bytes, and an image has {len(data):,}")
        fields = {"subfolder": "sosie", "type": "input", "overwrite": "false"}
        answer = self._send(
            "POST", "/upload/image", self.limits.json, files={"image": (name, data, f"image/{kind}")}, data=fields
        )
        self._expect_ok(answer, "an image")
        found = as_object(self._parsed(answer, "/upload/image"))
        parts = [found.get("subfolder"), found.get("name")]
        texts = [part for part in parts if isinstance(part, str) and len(part) <= 200 and part.isprintable()]
        if len(texts) != 2 or not texts[1] or ".." in "/".join(texts):
            raise NonsenseError(self.server, "took an image and gave no name for it")
        return "/".join(part for part in texts if part)

    def log(self) -> tuple[LogEntry, ...] | None:
        """The last pieces of its log, or None where it shows none."""
        answer = self._send("GET", "/internal/logs/raw", self.limits.json)
        return read_log(self._parsed(answer, "/internal/logs/raw")) if answer.status == 200 else None

    def _queue(self) -> tuple[set[str], set[str]]:
        """The ids that run, and those that wait."""
        found = as_object(self._json("GET", "/queue"))
        return _ids(found.get("queue_running")), _ids(found.get("queue_pending"))

    def _problems(self, answer: HttpAnswer) -> tuple[Problem, ...]:
        try:
            return read_problems(parse_json(answer.body))
        except ValueError:
            return (Problem("", answer.said),)

    def _json(self, method: str, path: str) -> Any:
        answer = self._send(method, path, self.limits.json)
        self._expect_ok(answer, path.partition("?")[0])
        return self._parsed(answer, path.partition("?")[0])

    def _parsed(self, answer: HttpAnswer, what: str) -> Any:
        try:
            return parse_json(answer.body)
        except (json.JSONDecodeError, UnicodeDecodeError):
            shown = answer.said[:60] or "nothing"
            raise NonsenseError(self.server, f"answered '{shown}' for {what}, which is not JSON") from None
        except ValueError as error:
            raise NonsenseError(self.server, f"answered JSON for {what} that is not read: {error}") from None

    def _expect_ok(self, answer: HttpAnswer, what: str) -> None:
        if answer.status != 200:
            raise refused_status(self.server, what, answer.status, answer.said)

    def _send(self, method: str, path: str, limit: int, **content: Any) -> HttpAnswer:
        """One request and its whole answer, at most `limit` bytes; the body may take `limits.seconds`."""
        import httpx2

        what, url = path.partition("?")[0], self.server.url + path
        # An image has to go up before its answer can begin.
        seconds = self.limits.seconds if "files" in content else min(self.patience.answer, self.limits.seconds)
        try:
            with self._line.exchange(method, url, seconds, **content) as exchange:
                declared = exchange.response.headers.get("content-length", "")
                if declared.isdecimal() and (len(declared) > 18 or int(declared) > limit):
                    raise self._too_long(what, limit)
                body = bytearray()
                for piece in exchange.pieces(self.limits.seconds):
                    body += piece
                    if len(body) > limit:
                        raise self._too_long(what, limit)
                return HttpAnswer(exchange.response.status_code, bytes(body))
        except LateError:
            raise LostError(self.server, f"{what} took longer than {seconds:,.0f} s") from None
        except httpx2.TimeoutException:
            raise LostError(self.server, f"nothing came in time for {what}") from None
        except httpx2.ConnectError as error:
            if why := tls_trouble(error):
                raise ComfyError(Y001, f"server {self.server.name} cannot be trusted: {why}", TLS_HINT) from None
            raise LostError(self.server, "no connection") from None
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise LostError(self.server, f"the line broke for {what} ({type(error).__name__})") from None

    def _too_long(self, what: str, limit: int) -> ComfyError:
        return NonsenseError(self.server, f"wants to send more than {limit:,} bytes for {what}")


def _trusted(server: Server) -> ssl.SSLContext:
    """The certificates that a server is checked against; none for http, which has no use for their loading."""
    is_secure = server.url.startswith("https:")
    return ssl.create_default_context() if is_secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _ids(value: Any) -> set[str]:
    """The ids in one list of `/queue`."""
    items = map(as_list, as_list(value))
    return {item[1] for item in items if len(item) > 1 and isinstance(item[1], str)}
