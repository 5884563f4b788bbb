"""A server that speaks as Vast.ai's does, on this machine: for tests, and for trying `sosie pod` without an account.

    python -m sosie.pods.providers.fake_vast --ssh-port 2222
    export VAST_URL=http://127.0.0.1:8790 VAST_API_KEY=fake-key-of-vast

Offers are used up by renting, filters act, prices hold the storage that is asked for, lists come in pages of 25, and
states go from null over loading to running. What goes wrong is said by `Faults`.
"""

from __future__ import annotations

import argparse
import operator
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sosie.pods.providers.fake_server import Answer, FakeServer, Thresholds

KEY = "fake-key-of-vast"
PAGE = 25
IMAGES = {"2188dfd3e0a0b83691bb468ddae0a4e5": "vastai/comfy"}
"""The images of templates, by their hashes."""

HOURS_A_MONTH = 730
THRESHOLDS = {
    ("PUT", r"/api/v0/asks/\d+/"): 4.5,
    ("GET", r"/api/v1/instances/"): 1.0,
    ("GET", r"/api/v0/instances/\d+/"): 2.0,
    ("DELETE", r"/api/v0/instances/\d+/"): 3.0,
    ("GET", r"/api/v0/volumes/"): 5.5,
}
"""Seconds between two requests, where Vast.ai's published description of its interface has a number."""

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "neq": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "in": lambda value, limit: value in limit,
    "notin": lambda value, limit: value not in limit,
}


def offer(number: int, gpu: str, price: float, place: str, **more: Any) -> dict[str, Any]:
    """A row of the search, with figures of a sound machine unless others are given."""
    row: dict[str, Any] = {
        "id": number,
        "ask_contract_id": number,
        "machine_id": number % 1000,
        "host_id": number % 100,
        "gpu_name": gpu,
        "num_gpus": 1,
        "gpu_ram": 24564.0,
        "compute_cap": 890,
        "cuda_max_good": 12.8,
        "driver_version": "570.86.10",
        "disk_space": 500.0,
        "inet_down": 800.0,
        "inet_down_cost": 0.002,
        "storage_cost": 0.15,
        "reliability2": 0.995,
        "geolocation": place,
        "direct_port_count": 20,
        "verified": True,
        "external": False,
        "rentable": True,
        "rented": False,
        "base": price,
        "min_bid": round(price * 0.5, 4),
    }
    return {**row, **more}


def some_offers() -> list[dict[str, Any]]:
    """Invented machines: sound ones, and each kind that must not be rented."""
    ampere = {"compute_cap": 860, "gpu_ram": 24576.0}
    blackwell = {"compute_cap": 1200, "gpu_ram": 32607.0}
    return [
        offer(11, "RTX 3090", 0.19, "Germany, DE", **ampere),
        offer(12, "RTX 3090", 0.16, "Russia, RU", **ampere),
        offer(13, "RTX 3090", 0.20, "Ireland, IE", **ampere, driver_version="470.82.01", cuda_max_good=11.4),
        offer(14, "RTX 4090", 0.36, "France, FR"),
        offer(15, "RTX 4090", 0.33, "Texas, US", inet_down=40.0),
        offer(16, "RTX 5090", 0.52, "Germany, DE", **blackwell, driver_version="580.65.06", cuda_max_good=13.0),
        offer(17, "RTX 5090", 0.48, "Poland, PL", **blackwell, driver_version="565.57.01", cuda_max_good=12.7),
        offer(18, "H200", 24.0, "Texas, US", num_gpus=8, gpu_ram=143_771.0, compute_cap=900, disk_space=4000.0),
        offer(19, "GTX 1080", 0.06, "Spain, ES", compute_cap=610, gpu_ram=8192.0, disk_space=40.0),
        offer(20, "RTX 4090", 0.30, "Germany, DE", verified=False),
    ]


@dataclass
class Faults:
    """What goes wrong: each word of `create` acts on one creation, `list_busy` on so many requests of a list.

    `create`: `504` (created, then a gateway's error), `500` (nothing was created), `429` (plain text), `gone` (the
    offer is used up), `refused` (an error, and a contract all the same). `states` is what a new machine is, one state
    each time it is asked for; the last one stays. `rises` are prices an hour that hosts want, by instance; with
    `rises_cut` their list says that there are more. `message` is every machine's status_msg. `undying` machines are
    not gone when they were destroyed.
    """

    create: list[str] = field(default_factory=list[str])
    states: tuple[str | None, ...] = (None, "loading", "running")
    list_busy: int = 0
    rises: dict[int, float] = field(default_factory=dict[int, float])
    rises_cut: bool = False
    message: str = ""
    undying: int = 0
    no_direct: bool = False


class FakeVast(FakeServer):
    """The server, from the constructor on until `close`. `ssh` is where every machine is reached.

    The keys that machines are given are added to the file `authorized`. `limits` (`Thresholds(THRESHOLDS)`, which the
    command line sets) has requests that come too early answered with 429.
    """

    KEY = KEY

    def __init__(
        self,
        offers: list[dict[str, Any]] | None = None,
        ssh: tuple[str, int] = ("127.0.0.1", 22),
        faults: Faults | None = None,
        port: int = 0,
        authorized: Path | None = None,
    ) -> None:
        self.offers = {row["id"]: row for row in (some_offers() if offers is None else offers)}
        self.instances: dict[int, dict[str, Any]] = {}
        self.faults = faults or Faults()
        self.ssh = ssh
        self.authorized = authorized
        self.ended: list[int] = []
        self.volumes: list[dict[str, Any]] = []
        self.limits: Thresholds | None = None
        self._next = 1000
        super().__init__(port)

    def reply(self, method: str, target: str, body: Any) -> Answer:
        """Of `answer`."""
        return Answer(*self.answer(method, target, body))

    def unknown_key(self) -> Answer:
        """As Vast.ai says it."""
        return Answer(401, {"success": False, "error": "auth_error", "msg": "invalid key"})

    def forbidden(self) -> Answer:
        """As Vast.ai says it."""
        return Answer(403, {"success": False, "error": "forbidden", "msg": "this key has no right to that"})

    def own_path(self, key: str) -> str | None:
        """Of the instance with that CONTAINER_API_KEY."""
        return next((f"/api/v0/instances/{one}/" for one in self.instances if key == own_key(one)), None)

    def answer(self, method: str, target: str, body: Any) -> tuple[int, Any]:
        """Status and body (a text is sent as it is) of one request."""
        parts = urlsplit(target)
        with self._lock:
            self.requests.append((method, target, body))
            if self.limits and (threshold := self.limits.refused(method, parts.path)):
                return 429, f"API requests too frequent: endpoint threshold={threshold}"
            if method == "POST" and parts.path == "/api/v0/bundles/":
                return self._search(body)
            if method == "PUT" and (found := re.fullmatch(r"/api/v0/asks/(\d+)/", parts.path)):
                return self._create(int(found[1]), body)
            if method == "GET" and parts.path == "/api/v1/instances/":
                return self._list(parse_qs(parts.query))
            if parts.path == "/api/v0/instances/":
                return 200, {"success": False, "error": "deprecated_endpoint"}
            if method == "GET" and parts.path == "/api/v0/instances/pending-price-increases/":
                return 200, self._rises()
            if (method, parts.path) == ("GET", "/api/v0/volumes/"):
                return 200, {"volumes": self.volumes}
            if found := re.fullmatch(r"/api/v0/instances/(\d+)/(ssh/)?", parts.path):
                return self._one(method, int(found[1]), bool(found[2]), body)
        return 404, {"success": False, "error": "not_found", "msg": "no such path"}

    def _rises(self) -> dict[str, Any]:
        rows: list[dict[str, Any]] = []
        for number, price in self.faults.rises.items():
            if number not in self.instances:
                continue
            disk = 0.01 / 3600  # not what the host wants more for: null in its place
            row = {"pending_price_increase_id": 7000 + number, "contract_id": number, "host_id": 3}
            old = {"old_gpu_costpersec": self.instances[number]["dph_total"] / 3600 - disk}
            same = {"old_disk_ram_costpersec": disk, "new_disk_ram_costpersec": None}
            rows.append({**row, **old, "new_gpu_costpersec": price / 3600 - disk, **same})
        more = {"count": len(rows), "truncated": self.faults.rises_cut}
        return {"success": True, "pending_price_increases": rows, **more}

    def _search(self, body: Any) -> tuple[int, Any]:
        disk = body.get("allocated_storage", 5)
        found: list[dict[str, Any]] = []
        for row in self.offers.values():
            priced = {**row, "dph_total": row["base"] + row["storage_cost"] * disk / HOURS_A_MONTH}
            filters: dict[str, Any] = {name: wanted for name, wanted in body.items() if isinstance(wanted, dict)}
            if all(_holds(priced, name, wanted) for name, wanted in filters.items()):
                found.append({key: value for key, value in priced.items() if key != "base"})
        found.sort(key=lambda row: row["dph_total"])
        return 200, {"offers": found[: body.get("limit", 64)]}

    def _create(self, number: int, body: Any) -> tuple[int, Any]:
        fault = self.faults.create.pop(0) if self.faults.create else ""
        image = body.get("image") or IMAGES.get(body.get("template_hash_id", ""))
        if image is None:
            return 400, {"success": False, "error": "invalid_args", "msg": "neither an image nor a known template"}
        if fault == "429":
            return 429, "Too many requests, slow down"
        if fault == "500":
            return 500, {"success": False, "error": "internal"}
        row = self.offers.pop(number, None)
        if fault == "gone" or row is None:
            return 410, {
                "success": False,
                "error": "no_such_ask",
                "msg": f"ask {number} is not available",
                "ask_id": number,
            }
        self._next += 1
        bid = body.get("price")
        fault = "refused" if bid is not None and bid < row["min_bid"] else fault
        price = (bid or row["base"]) + row["storage_cost"] * body["disk"] / HOURS_A_MONTH
        self.instances[self._next] = {
            "id": self._next,
            "label": body["label"],
            "dph_total": price,
            "gpu_name": row["gpu_name"],
            "is_bid": bid is not None,
            "polls": 0,
            "image": image,
            "onstart": body["onstart"],
            "keys": [],
        }
        if fault == "504":
            return 504, "<html>upstream timed out</html>"
        if fault == "refused":
            return 400, {"success": False, "error": "low_bid", "msg": "bid too low", "new_contract": self._next}
        return 200, {"success": True, "new_contract": self._next, "instance_api_key": own_key(self._next)}

    def _list(self, query: dict[str, list[str]]) -> tuple[int, Any]:
        if self.faults.list_busy:
            self.faults.list_busy -= 1
            return 429, "API requests too frequent"
        after = int(query.get("after_token", ["0"])[0])
        rows = [self._row(one) for number, one in sorted(self.instances.items()) if number > after]
        token = str(rows[PAGE - 1]["id"]) if len(rows) > PAGE else None
        page = {"success": True, "instances": rows[:PAGE], "next_token": token, "total_instances": len(self.instances)}
        return 200, page

    def _one(self, method: str, number: int, is_key: bool, body: Any) -> tuple[int, Any]:
        found = self.instances.get(number)
        if method == "GET":
            return 200, {"instances": self._row(found) if found else None}
        if found is None:
            return 404, {"success": False, "error": "no_such_instance", "msg": f"instance {number} not found"}
        if method == "POST" and is_key:
            found["keys"].append(body["ssh_key"])
            if self.authorized is not None:
                with self.authorized.open("a", encoding="utf-8") as stream:
                    stream.write(f"{body['ssh_key']}\n")
            return 200, {"success": True}
        if method == "DELETE":
            if self.faults.undying:
                self.faults.undying -= 1
            else:
                del self.instances[number]
                self.ended.append(number)
            return 200, {"success": True}
        return 400, {"success": False, "error": "bad_request"}

    def _row(self, one: dict[str, Any]) -> dict[str, Any]:
        states = self.faults.states
        state: str | None = states[min(int(one["polls"]), len(states) - 1)]
        one["polls"] += 1
        host, port = self.ssh
        row = {key: value for key, value in one.items() if key not in ("polls", "keys")}
        intended = {"cur_state": "running", "intended_status": "running", "next_state": "running"}
        if state == "outbid":
            state, intended = "exited", dict.fromkeys(intended, "stopped")
        direct = {"public_ipaddr": host, "ports": {"22/tcp": [{"HostIp": "0.0.0.0", "HostPort": str(port)}]}}  # noqa: S104
        proxy = {"ssh_host": "localhost" if host == "127.0.0.1" else host, "ssh_port": port}
        reach = {} if state != "running" else proxy if self.faults.no_direct else {**direct, **proxy}
        return {**row, **intended, **reach, "actual_status": state, "status_msg": self.faults.message}


def own_key(number: int) -> str:
    """What an instance has as CONTAINER_API_KEY."""
    return f"key-of-instance-{number}"


def _holds(row: dict[str, Any], field_name: str, wanted: dict[str, Any]) -> bool:
    value = row.get("reliability2" if field_name == "reliability" else field_name)
    if field_name == "geolocation":
        value = str(value)[-2:]
    if field_name == "driver_version":
        major, minor, patch = (int(part) for part in str(value).split("."))
        value = major * 1_000_000 + minor * 1_000 + patch
    return value is not None and all(OPERATORS[name](value, limit) for name, limit in wanted.items())


def main() -> None:
    """The server of the command line, until it is interrupted."""
    parser = argparse.ArgumentParser(description="A fake of Vast.ai's interface, on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=8790)
    parser.add_argument("--ssh-port", type=int, default=22, help="where every rented machine is reached, on 127.0.0.1")
    parser.add_argument("--authorized-keys", type=Path, help="a file for that sshd; machines' keys are added to it")
    parser.add_argument("--fault", action="append", default=[], choices=["504", "500", "429", "gone", "refused"])
    asked = parser.parse_args()
    ssh, faults = ("127.0.0.1", asked.ssh_port), Faults(create=asked.fault)
    with FakeVast(ssh=ssh, faults=faults, port=asked.port, authorized=asked.authorized_keys) as fake:
        fake.limits = Thresholds(THRESHOLDS)
        sys.stdout.write(f"export VAST_URL={fake.url} VAST_API_KEY={KEY}\n")
        sys.stdout.flush()
        fake.wait()


if __name__ == "__main__":
    main()
