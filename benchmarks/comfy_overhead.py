"""Seconds an image on a ComfyUI server: a bare script, Sosie's engine, and all of `sosie generate`.

    python benchmarks/comfy_overhead.py [URL] [--recipe zimage] [--images 4] [--rounds 5] [--step-seconds 0.1]

The bare script is urllib and a websocket: it sends the same graph to the same server, waits for its end, reads the
history, fetches the image and writes it. `generate` judges, signs and records each image too, while the server draws
the next one. Blocks of images take turns; the first round is not counted, nor is the first image of a block of
Sosie's, which looks at the server. Without a URL the fake server answers, with pictures of examples/mira.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import os
import sys
import tempfile
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from websockets.sync.client import connect

from sosie.api.characters import new_character
from sosie.api.comfy_graphs import open_compiler
from sosie.api.engines import open_graphs
from sosie.api.generation import Delivered, Order, generate
from sosie.core import Character, Draw, Plan, Recipe, Render, Request, plan
from sosie.engines.comfy.catalogue import NodeCatalogue
from sosie.engines.comfy.client import Client
from sosie.engines.comfy.fake import Behaviour, FakeServer
from sosie.engines.comfy.fake.pictures import pictures_of
from sosie.engines.comfy.matching import match
from sosie.engines.comfy.server import parse_servers
from sosie.workspace.bill import Bill, resolve
from sosie.workspace.characters import CharacterFile, load_character
from sosie.workspace.prompts import PromptLine
from sosie.workspace.recipes import load_recipe
from sosie.workspace.session import Session
from sosie.workspace.workspace import open_workspace

MIRA = Path(__file__).parent.parent / "examples" / "mira"
DESCRIPTION = "a young woman, light skin, auburn braided hair, brown eyes"


@dataclass(frozen=True, eq=False)
class Setting:
    """What all three draw, and where."""

    session: Session
    url: str
    recipe: Recipe
    character: Character
    folder: Path

    @property
    def engine(self) -> str:
        return f"comfy:{self.url}"

    @property
    def bill(self) -> Bill:
        return resolve(self.session.workspace, self.recipe.stages, self.character, remote=True)

    def plans(self, seed: int, count: int) -> list[Plan]:
        request = Request(self.recipe.name, self.character.name, "smiling", seed=seed)
        assets = self.bill.digests
        return [plan(self.recipe, self.character, request, Draw(index), assets) for index in range(count)]


class Bare:
    """The script that people write: one websocket, one graph, another seed each time."""

    def __init__(self, setting: Setting, stack: contextlib.ExitStack) -> None:
        self.url, self.folder = setting.url, setting.folder
        self.graph, self.output = graph_of(setting)
        self.client = uuid.uuid4().hex
        address = f"ws{self.url.removeprefix('http')}/ws?clientId={self.client}"
        self.socket = stack.enter_context(connect(address, max_size=None))

    def __call__(self, seed: int) -> None:
        graph = copy.deepcopy(self.graph)
        for entry in graph.values():
            if "seed" in entry["inputs"]:
                entry["inputs"]["seed"] = seed
        body = json.dumps({"prompt": graph, "client_id": self.client}).encode()
        prompt = json.loads(self.get("/prompt", body))["prompt_id"]
        while True:
            frame = self.socket.recv()
            event = json.loads(frame) if isinstance(frame, str) else {"type": "", "data": {}}
            data = event["data"]
            if event["type"] == "executing" and data["node"] is None and data["prompt_id"] == prompt:
                break
        outputs = json.loads(self.get(f"/history/{prompt}"))[prompt]["outputs"]
        image = outputs[self.output]["images"][0]
        (self.folder / f"{seed}.png").write_bytes(self.get(f"/view?{urllib.parse.urlencode(image)}"))

    def get(self, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            return answer.read()


def graph_of(setting: Setting) -> tuple[dict[str, Any], str]:
    """The recipe's graph with the server's names of files in it, and the node that saves the image."""
    program = open_compiler(setting.session, setting.bill)(setting.plans(0, 1)[0])
    if len(program.steps) != 1 or program.steps[0].draft.uploads:
        sys.exit(
            f"recipe {setting.recipe.name} is more than one graph, or has uploads: a bare script could not send it"
        )
    client = Client(parse_servers(setting.url)[0])
    fitted = match(program.steps[0].draft, NodeCatalogue(client.object_info()), "server")
    client.close()
    if wrong := [finding.message for finding in fitted.findings if finding.severity == "error"]:
        sys.exit("\n".join(wrong))
    return json.loads(json.dumps(fitted.compiled.graph)), fitted.compiled.output


def engine_only(setting: Setting, seed: int, count: int) -> float:
    """Seconds an image of the engine: graphs sent, followed, fetched, decoded and looked at."""
    engine = open_graphs(setting.session, setting.engine, open_compiler(setting.session, setting.bill))
    try:
        return per_image(event for event in engine.run(setting.plans(seed, count + 1)) if isinstance(event, Render))
    finally:
        engine.close()


def whole(setting: Setting, seed: int, count: int) -> float:
    """Seconds an image of `sosie generate`: judged, stored, signed and delivered as well."""
    lines = (PromptLine("smiling"),)
    out = setting.folder / "delivered"
    order = Order(setting.character, setting.recipe, lines, count + 1, seed, out, 1, setting.engine)
    return per_image(event for event in generate(setting.session, order) if isinstance(event, Delivered))


def per_image(images: Iterator[object]) -> float:
    """The mean time from one image to the next."""
    times = [time.perf_counter() for _ in images]
    return (times[-1] - times[0]) / (len(times) - 1)


def bare(script: Bare, seed: int, count: int) -> float:
    script(seed)
    start = time.perf_counter()
    for number in range(1, count + 1):
        script(seed + number)
    return (time.perf_counter() - start) / count


def measure(setting: Setting, script: Bare, rounds: int, images: int) -> dict[str, list[float]]:
    kinds: dict[str, Callable[[int], float]] = {
        "bare script": lambda seed: bare(script, seed, images),
        "Sosie's engine": lambda seed: engine_only(setting, seed, images),
        "`sosie generate`": lambda seed: whole(setting, seed, images),
    }
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for turn in range(rounds + 1):
        for place, (kind, run) in enumerate(kinds.items()):
            seconds = run(1_000_000 * (turn * len(kinds) + place + 1))
            if turn:
                times[kind].append(seconds)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", default="")
    parser.add_argument("--recipe", default="zimage")
    parser.add_argument("--images", type=int, default=4, help="Of each block.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--step-seconds", type=float, default=0.1, help="Of the fake server.")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = given.url.rstrip("/")
        if not url:
            behaviour = Behaviour(pictures=pictures_of(MIRA), step_seconds=given.step_seconds)
            url = stack.enter_context(FakeServer(behaviour)).url
        session = stack.enter_context(Session(open_workspace(folder)))
        new_character(session, CharacterFile("mira", "fictional", True, DESCRIPTION), sorted(MIRA.glob("*.jpg")))
        who = load_character(session.workspace, "mira")
        setting = Setting(session, url, load_recipe(session.workspace, given.recipe), who, folder)
        times = measure(setting, Bare(setting, stack), given.rounds, given.images)
    print(
        f"| {given.recipe} | s an image: median (least to most) | more than bare, s | ratio: median (least to most) |"
    )
    print("| --- | --- | --- | --- |")
    first = np.array(times["bare script"])
    for kind, seconds in times.items():
        own = np.array(seconds)
        ratios = own / first
        pool = f"{np.median(own):.3f} ({own.min():.3f} to {own.max():.3f})"
        print(
            f"| {kind} | {pool} | {np.median(own - first):+.3f} | "
            f"{np.median(ratios):.3f} ({ratios.min():.3f} to {ratios.max():.3f}) |"
        )
    print(f"\n{given.rounds} rounds of {given.images} images; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
