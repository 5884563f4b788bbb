"""A server that speaks as version 2 of RunPod's interface does, on this machine.

    python -m sosie.pods.providers.fake_runpod --ssh-port 2222
    export RUNPOD_URL=http://127.0.0.1:8791 RUNPOD_API_KEY=fake-key-of-runpod

Unknown fields are refused by name, errors are problems of RFC 9457, and a pod goes from PROVISIONING over STARTING to
RUNNING.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sosie.pods.providers.fake_server import Answer, FakeServer, Windows

KEY = "fake-key-of-runpod"
FIELDS = {
    *("name", "image", "args", "disk", "env", "ports", "registry", "cloud", "cpu", "gpu", "mounts", "templateId"),
    *("dataCenterIds", "globalNetworking", "startJupyter", "startSsh"),
}
GPU_FIELDS = {"id", "count", "minCudaVersion", "allowedCudaVersions"}
WINDOWS = {"minute": (60, 60), "hour": (3000, 3600), "day": (50_000, 86_400)}
"""Requests and seconds, as the examples of RunPod's published description have them."""

ISSUED = "2026-01-01T00:00:00Z"


def card(
    name: str, memory: int, secure: float, community: float, stock: Mapping[str, str], **more: Any
) -> dict[str, Any]:
    """A type of card as the catalogue has it; `stock` by data centre."""
    return {
        "id": f"NVIDIA {name}",
        "name": name,
        "pool": None,
        "manufacturer": "NVIDIA",
        "memory": memory,
        "secure": secure > 0,
        "community": community > 0,
        "price": {"secure": secure, "community": community},
        "maxCount": {"secure": 8, "community": 4},
        "stock": dict(stock),
        "cuda": ["12.8", "13.0"],
        **more,
    }


def some_cards() -> list[dict[str, Any]]:
    """An invented catalogue."""
    return [
        card("GeForce RTX 4090", 24, 0.69, 0.34, {"EU-RO-1": "HIGH", "US-TX-3": "LOW", "EUR-IS-1": "NONE"}),
        card("GeForce RTX 5090", 32, 0.94, 0.69, {"EU-CZ-1": "LOW"}, cuda=["12.8"]),
        card("A40", 48, 0.40, 0.0, {"CA-MTL-1": "MEDIUM"}),
        card("H100 80GB HBM3", 80, 2.99, 0.0, {"EU-FR-1": "NONE"}),
    ]


@dataclass
class Faults:
    """`create` acts on one creation each: `500` (created, then an error), `429`, `full` (no capacity).

    `states` is what a new pod is, one each time it is asked for. `busy` requests of any kind are answered with 429.
    `hidden` pods have no public address. `undying` ones are still there after they were terminated, `changing` ones
    answer so often that they cannot be terminated now. `stop_only`: nobody may terminate, only stop.
    """

    create: list[str] = field(default_factory=list[str])
    states: tuple[str, ...] = ("PROVISIONING", "STARTING", "RUNNING")
    busy: int = 0
    hidden: bool = False
    undying: int = 0
    changing: int = 0
    stop_only: bool = False
    cost: float = 0.0


class FakeRunPod(FakeServer):
    """The server, from the constructor on until `close`. `ssh` is where every machine is reached.

    `limits` (`Windows(WINDOWS)`, which the command line sets) has more requests than that answered with 429.
    """

    KEY = KEY

    def __init__(self, ssh: tuple[str, int] = ("127.0.0.1", 22), faults: Faults | None = None, port: int = 0) -> None:
        self.cards = some_cards()
        self.pods: dict[str, dict[str, Any]] = {}
        self.faults = faults or Faults()
        self.ssh = ssh
        self.volumes: list[dict[str, Any]] = []
        self.limits: Windows | None = None
        self.records: list[dict[str, Any]] = []
        self._count = 0
        super().__init__(port)

    def reply(self, method: str, target: str, body: Any) -> Answer:
        """Of `answer`, with the headers that RunPod sends."""
        if self.limits is None:
            return _with_headers(*self.answer(method, target, body))
        with self._lock:
            full = self.limits.take()
            headers, wait = self.limits.headers, self.limits.left(full) if full else 0
        found = (
            problem(429, f"rate limit exceeded for the {full} window") if full else self.answer(method, target, body)
        )
        answer = _with_headers(*found)
        more = {"Retry-After": str(wait)} if full else {}
        return replace(answer, headers={**answer.headers, **headers, **more})

    def unknown_key(self) -> Answer:
        """As RunPod says it."""
        return _with_headers(*problem(401, "missing bearer token"))

    def forbidden(self) -> Answer:
        """As RunPod says it."""
        return _with_headers(*problem(403, "access denied"))

    def own_path(self, key: str) -> str | None:
        """Of the pod with that RUNPOD_API_KEY of its own."""
        return next((f"/v2/pods/{one}" for one in self.pods if key == own_key(one)), None)

    def answer(self, method: str, target: str, body: Any) -> tuple[int, Any]:
        """Status and body of one request."""
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        with self._lock:
            self.requests.append((method, target, body))
            if self.faults.busy:
                self.faults.busy -= 1
                return problem(429, "rate limit exceeded for the minute window")
            if (method, parts.path) == ("GET", "/v2/catalog/gpus"):
                return self._catalogue(query)
            if (method, parts.path) == ("GET", "/v2/pods"):
                return 200, {"pods": [self._shown(one) for one in self.pods.values()]}
            if (method, parts.path) == ("POST", "/v2/pods"):
                return self._create(body)
            if (method, parts.path) == ("GET", "/v2/network-volumes"):
                return 200, {"networkVolumes": self.volumes}
            if (method, parts.path) == ("GET", "/v2/billing/pods"):
                return 200, {"records": self.records, "metadata": {"recordCount": len(self.records)}}
            if found := re.fullmatch(r"/v2/pods/(\w+)(/action)?", parts.path):
                return self._act(method, found[1], body) if found[2] else self._one(method, found[1])
        return problem(404, "resource not found")

    def _catalogue(self, query: dict[str, str]) -> tuple[int, Any]:
        if query.get("include") == "AVAILABILITY" and "product" not in query:
            return problem(400, "product is required with include=AVAILABILITY")
        cloud = query.get("cloud", "SECURE").lower()
        found = [self._priced(one, cloud, query) for one in self.cards if one[cloud]]
        return 200, {"gpus": [one for one in found if one is not None]}

    def _priced(self, one: dict[str, Any], cloud: str, query: dict[str, str]) -> dict[str, Any] | None:
        codes = query["countryCodes"].split(",") if "countryCodes" in query else None
        stock = {place: level for place, level in one["stock"].items() if codes is None or _country(place) in codes}
        if codes is not None and not stock:
            return None
        least = tuple(int(part) for part in query.get("minCudaVersion", "0").split("."))
        versions = [text for text in one["cuda"] if tuple(int(part) for part in text.split(".")) >= least]
        levels = [level for level in stock.values() if level != "NONE"] if versions else []
        shown = {key: value for key, value in one.items() if key not in ("stock", "cuda")}
        centres = [{"id": place, "name": place, "availability": level} for place, level in stock.items()]
        return {
            **shown,
            "availability": levels[0] if levels else "NONE",
            **({"dataCenters": centres} if cloud == "secure" else {}),
            "cudaVersions": [{"version": text, "available": bool(levels)} for text in versions],
        }

    def _create(self, body: dict[str, Any]) -> tuple[int, Any]:
        fault = self.faults.create.pop(0) if self.faults.create else ""
        unknown = sorted({*body} - FIELDS) + sorted({*body.get("gpu", {})} - GPU_FIELDS)
        if unknown:
            errors = [f"$: additional properties '{name}' not allowed" for name in unknown]
            return problem(422, "Request validation failed.", errors)
        if not body.get("name") or ("gpu" in body) == ("cpu" in body) or ("image" in body) == ("templateId" in body):
            return problem(400, "name, image, and exactly one of gpu and cpu are required")
        known = next((one for one in self.cards if one["id"] == body["gpu"]["id"]), None)
        if fault == "429":
            return problem(429, "rate limit exceeded for the minute window")
        if known is None or fault == "full":
            return problem(400, "no machine with that GPU has capacity")
        self._count += 1
        number = f"pod{self._count:04d}"
        cloud = body.get("cloud", "SECURE").lower()
        cost = self.faults.cost or known["price"][cloud] * body["gpu"].get("count", 1)
        self.pods[number] = {"id": number, "body": body, "cost": cost, "polls": 0}
        if fault == "500":
            return problem(500, "internal error")
        return 201, self._shown(self.pods[number])

    def _one(self, method: str, number: str) -> tuple[int, Any]:
        if number not in self.pods:
            return problem(404, "The requested Pod does not exist.")
        if method == "GET":
            return 200, self._shown(self.pods[number])
        if method == "DELETE":
            if self.faults.stop_only:
                return problem(403, "access denied")
            if self.faults.changing:
                self.faults.changing -= 1
                return problem(409, "the Pod is changing its state")
            if self.faults.undying:
                self.faults.undying -= 1
            else:
                del self.pods[number]
            return 204, None
        return problem(405, "The requested method is not allowed for this path.")

    def _act(self, method: str, number: str, body: Any) -> tuple[int, Any]:
        if method != "POST":
            return problem(405, "The requested method is not allowed for this path.")
        if number not in self.pods:
            return problem(404, "The requested Pod does not exist.")
        if body != {"action": "stop"}:
            return problem(422, "Request validation failed.", ["$.action: only stop is known here"])
        self.pods[number]["stopped"] = True
        return 200, self._shown(self.pods[number])

    def _shown(self, one: dict[str, Any]) -> dict[str, Any]:
        body, states = one["body"], self.faults.states
        status: str = states[min(int(one["polls"]), len(states) - 1)]
        one["polls"] += 1
        status = "EXITED" if one.get("stopped") else status
        host, port = self.ssh
        reach = {"host": host, "port": port, "username": "root", "command": f"ssh root@{host} -p {port}"}
        proxy = {**reach, "host": "ssh.runpod.example", "port": 22, "username": f"{one['id']}-0123abcd"}
        is_up = status == "RUNNING"
        return {
            "id": one["id"],
            "name": body["name"],
            "status": status,
            "actions": ["stop", "terminate"],
            "image": body.get("image", ""),
            "args": body.get("args", ""),
            "disk": body.get("disk", 20),
            "mounts": {},
            "ports": body.get("ports", []),
            "env": body.get("env", {}),
            "registry": None,
            "gpu": body["gpu"],
            "cloud": body.get("cloud", "SECURE"),
            "dataCenterId": None,
            "cudaVersion": "12.8",
            "template": None,
            "ssh": {"proxy": proxy if is_up else None, "direct": reach if is_up and not self.faults.hidden else None},
            "cost": 0.0 if status in ("EXITED", "TERMINATED") else one["cost"],
            "locked": False,
            "runtime": None,
            "createdAt": ISSUED,
            "startedAt": ISSUED if is_up else None,
            "globalNetworking": {"enabled": False},
        }


def problem(status: int, detail: str, errors: list[str] | None = None) -> tuple[int, dict[str, Any]]:
    """An error as RFC 9457 has it."""
    titles = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed"}
    more = {409: "Conflict", 422: "Unprocessable Entity", 429: "Too Many Requests"}
    title = titles.get(status) or more.get(status, "Server Error")
    return status, {"title": title, "status": status, "detail": detail, **({"errors": errors} if errors else {})}


def own_key(number: str) -> str:
    """What a pod has as RUNPOD_API_KEY."""
    return f"key-of-{number}"


def _country(place: str) -> str:
    parts = place.split("-")
    return parts[1] if parts[0] in ("EU", "EUR") else parts[0]


def _with_headers(status: int, body: Any) -> Answer:
    headers = {"RateLimit": '"minute";r=99;t=30'}
    if status >= 400:
        headers["Content-Type"] = "application/problem+json"
    if status == 429:
        headers["Retry-After"] = "12"
    return Answer(status, body, headers)


def main() -> None:
    """The server of the command line, until it is interrupted."""
    parser = argparse.ArgumentParser(description="A fake of version 2 of RunPod's interface, on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=8791)
    parser.add_argument("--ssh-port", type=int, default=22, help="where every rented machine is reached, on 127.0.0.1")
    parser.add_argument("--fault", action="append", default=[], choices=["500", "429", "full"])
    asked = parser.parse_args()
    faults = Faults(create=asked.fault)
    with FakeRunPod(ssh=("127.0.0.1", asked.ssh_port), faults=faults, port=asked.port) as fake:
        fake.limits = Windows(WINDOWS)
        sys.stdout.write(f"export RUNPOD_URL={fake.url} RUNPOD_API_KEY={KEY}\n")
        sys.stdout.flush()
        fake.wait()


if __name__ == "__main__":
    main()
