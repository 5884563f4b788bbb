"""Requests by the ten thousand against every route of the page, behind its guard: none may read or write outside.

    python benchmarks/fuzz_studio.py [REQUESTS] [SEED]

They come with the right key, which is the worst case, and with paths, digests, names, numbers, queries and bodies that
lead out of folders elsewhere: `..`, absolute, UNC, encoded, NUL, long and foreign, multipart bodies, and links in the
workspace that lead outside (which only its user can have made). An audit hook sees every file that this process opens,
lists, moves or removes while it answers; what the child processes do is seen by comparing everything beside the
workspace afterwards. Printed are the answers by status, and the peak of memory beyond the start.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import resource
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image

import sosie
from sosie.core import Environment, Render, Request, Scorecard, Verdict, plan
from sosie.core.character import Character
from sosie.core.plan import Draw
from sosie.core.recipe import Recipe, Stage
from sosie.servers.pages.guard import TOKEN, Doors, Guard
from sosie.servers.pages.key import Key
from sosie.store import Store
from sosie.studio.app import LARGER, OPENAPI, shell, studio_app
from sosie.studio.desk import Desk
from sosie.workspace.workspace import open_workspace

HOST = "127.0.0.1:7860"
KEY = Key("secret")
WRITE = {"host": HOST, "cookie": f"sosie-7860={KEY.cookie}", "origin": f"http://{HOST}", TOKEN: KEY.header}
SECRET = b"do not read this"
ODD = [
    "..", "../../secret.txt", "..%2f..%2fsecret.txt", "%2e%2e/%2e%2e/secret.txt", "/etc/passwd", "//host/share",
    "\\\\host\\share", "C:\\x", "\0", "a" * 5000, "\u202e\u00e9\U0001f600", "-1", "1e9", "9" * 30, "link", "0" * 63,
    "A" * 64, "mira/..", "file:///etc/passwd", "http://169.254.169.254/", "....//secret.txt", "%00", "~root", "*",
]  # fmt: skip
BUILDING = ("open", "os.listdir", "os.scandir", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "shutil.rmtree")
ROOT = Path(__file__).parent.parent
MULTIPART = b"--x\r\nContent-Disposition: form-data; name=f; filename=../../x\r\n\r\n" * 2000


class Watch:
    """What this process opens outside of the places that it may, while it is on."""

    def __init__(self, workspace: Path) -> None:
        paths = [workspace, Path(sosie.__file__).parent, ROOT / "recipes", *map(Path, sysconfig.get_paths().values())]
        self._allowed = tuple(os.path.realpath(path) for path in (*paths, Path(sys.prefix), Path(sys.base_prefix)))
        self._allowed += tuple(os.path.realpath(path) for path in sys.path if path)
        self._linked = os.path.realpath(workspace.parent / "elsewhere")
        self.followed = 0
        self.on = False
        self.found: Counter[str] = Counter()
        sys.addaudithook(self._see)

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on or event not in BUILDING or not arguments or isinstance(arguments[0], int):
            return
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if path.startswith(self._linked):
            self.followed += 1  # the user's own link: only its content must not come out
        elif not path.startswith((*self._allowed, "/dev/", "/proc/self", "/usr/share/zoneinfo")):
            self.found[f"{event} {path}"] += 1


def ask(app: Any, path: str, method: str, body: bytes, kind: str) -> tuple[int, bytes]:
    """Status and body of the answer to one request."""
    bare, _, query = path.partition("?")
    headers = {**WRITE, "content-type": kind}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": bare,
        "raw_path": bare.encode("utf-8", "replace"),
        "query_string": query.encode("utf-8", "replace"),
        "root_path": "",
        "client": ("127.0.0.1", 5),
        "server": ("127.0.0.1", 7860),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
    }
    left, sent = [body], list[dict[str, Any]]()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": left.pop(), "more_body": False} if left else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], b"".join(one.get("body", b"") for one in sent[1:])


def a_request(chance: random.Random, paths: list[tuple[str, list[str]]]) -> tuple[str, str, bytes, str]:
    """Path, method, body and its type."""

    def odd() -> str:
        return chance.choice(ODD) if chance.random() < 0.6 else "".join(chance.choices("./\\%20af~:?#&=\0\u00e9", k=12))

    path, names = chance.choice(paths)
    path = re.sub(r"\{\w+\}", lambda _: odd(), path)
    if chance.random() < 0.5:
        path += "?" + "&".join(f"{name}={odd()}" for name in chance.sample([*names, "w", "file", "path"], 2))
    tables: list[Any] = [{}, {"kind": "generate", "request": {"character": odd(), "source": odd(), "recipe": odd()}}]
    tables += [{"images": [odd()]}, {"name": odd(), "images": [odd()], "likeness": "fictional", "adult": True}, odd()]
    tables += [{"kind": chance.choice(["train", "fetch", "experiment"]), "request": {"name": odd(), "recipe": odd()}}]
    bodies = [b"", b"\xff", MULTIPART, *(json.dumps(one).encode() for one in tables)]
    body = chance.choice(bodies)
    kind = "multipart/form-data; boundary=x" if body is MULTIPART else "application/json"
    return path, chance.choice(["GET", "GET", "POST", "POST", "DELETE", "PUT", "HEAD"]), body, kind


def beside(folder: Path, workspace: Path) -> dict[str, tuple[int, bytes]]:
    """Everything in the folder but the workspace: time of change, content."""
    files = [path for path in folder.rglob("*") if path.is_file() and workspace not in path.parents]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def a_workspace(root: Path) -> None:
    """One image, one character of one picture, links that lead out."""
    who = Character("mira", "fictional", adult=True)
    recipe = Recipe("mini", (Stage("generate", "sdxl", "mini"),), "{prompt}", 64, 64)
    drawn = plan(recipe, who, Request("mini", "mira", "smiling"), Draw(), {"mini": "a" * 64})
    image = Image.effect_noise((64, 64), 60).convert("RGB")
    with Store.open(root / ".sosie") as store:
        stored = store.add_render(Render(image, drawn, "fake", Environment("3", "x", "cpu", ()), 1.0))
        store.add_scorecard(stored.id, "gate", Scorecard(()), Verdict("keep", ("x",)))
    folder = root / "characters/mira/references"
    folder.mkdir(parents=True)
    image.save(folder / "0.png")
    (root / "characters/mira/character.toml").write_text('name = "mira"\nlikeness = "fictional"\nadult = true\n')
    elsewhere = root.parent / "elsewhere"
    elsewhere.mkdir()
    for name in ("character.toml", "link.toml", "0.png"):
        (elsewhere / name).write_bytes(SECRET)
    (root / "characters/link").symlink_to(elsewhere)
    (root / ".sosie/images/link").symlink_to(elsewhere)
    (root / "experiments").mkdir()
    (root / "experiments/link.toml").symlink_to(elsewhere / "link.toml")


def main(count: int, seed: int) -> None:
    """Fuzzes, and ends with an error if anything was found."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        outside = Path(folder)
        root = outside / "workspace"
        root.mkdir()
        (outside / "secret.txt").write_bytes(SECRET)
        a_workspace(root)
        desk = Desk(open_workspace(root))
        app = Guard(studio_app(desk), Doors((HOST,), frozenset(shell()), KEY, larger=LARGER))
        document = json.loads(ask(app, OPENAPI, "GET", b"", "application/json")[1])
        slow = ("/api/events", "/api/doctor/machine")  # a stream that does not end, and 6 s of this machine's facts
        paths = [
            (path, sorted({one["name"] for said in methods.values() for one in said.get("parameters", ())}))
            for path, methods in document["paths"].items()
            if path not in slow
        ]
        paths += [(path, ["x"]) for path in ("/{a}", "/static/{a}", "/static/js/{a}", "/i/{a}", "/session", "//{a}/i")]
        before, watch = beside(outside, root), Watch(root)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        statuses: Counter[int] = Counter()
        wrong: list[str] = []
        started = time.monotonic()
        watch.on = True
        for _ in range(count):
            path, method, body, kind = a_request(chance, paths)
            status, answer = ask(app, path, method, body, kind)
            statuses[status] += 1
            if status >= 500 and status != 507:
                wrong.append(f"{status} {method} {path[:120]}")
            if SECRET in answer or b"root:x:" in answer or b"Traceback" in answer or answer == b"secret":
                wrong.append(f"leak {method} {path[:120]}")
        watch.on = False
        seconds = time.monotonic() - started
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
        desk.close()
        changed = beside(outside, root) != before
    print(f"{count} requests in {seconds:.0f} s, seed {seed}; {len(paths)} routes; memory grew by {grown:.0f} MiB")
    print(", ".join(f"{status}: {number}" for status, number in sorted(statuses.items())))
    for one, number in watch.found.most_common(20):
        print(f"outside: {one} ({number})")
    for one in wrong[:20]:
        print(one)
    if changed or wrong or watch.found:
        raise SystemExit(f"{len(wrong)} wrong answers; outside changed: {changed}; seen outside: {len(watch.found)}")
    print(f"links in the workspace were followed {watch.followed} times; nothing of their content came out")
    print("nothing else outside the workspace was opened, listed, written or changed")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
