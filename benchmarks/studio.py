"""How fast the page is, and how much memory it takes: a real server and a real Chromium.

    python benchmarks/studio.py [--images 10000] [--workspace FOLDER] [--rounds 3]

Measured: from the start of `sosie studio` to its first answer, before torch is loaded; first paint and first
contentful paint on loopback; frames while 10,000 images are scrolled from top to end in 120 jumps at 1600 and 390 px;
memory of server and child beforehand, after that, and with 100 streams open; what the 101st stream is told; and large
bodies of every kind at the same time. With `--workspace` a store that was filled before is taken.
"""

from __future__ import annotations

import argparse
import http.client
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from sosie.core import Calibrated, CohortRate, Environment, Render, Request, Score, Scorecard, Verdict, plan
from sosie.core.character import Character
from sosie.core.plan import Draw
from sosie.core.recipe import Recipe, Stage
from sosie.store import Store

JUMPS = 120
QUIET = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
TOKEN = "x-sosie-token"
SCROLL = """async (jumps) => {
    const grid = document.querySelector('.grid');
    const end = grid.scrollHeight - grid.clientHeight;
    const frames = [];
    for (let jump = 1; jump <= jumps; jump += 1) {
        const started = performance.now();
        grid.scrollTop = end * jump / jumps;
        await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
        frames.push(performance.now() - started);
    }
    return [frames, document.querySelectorAll('*').length];
}"""


def fill(root: Path, count: int) -> None:
    """A store of judged images, small ones: the page shows copies of one size whatever they are."""
    rated = Calibrated(CohortRate("mini", 300, 2, 2 / 300, 0.021))
    card = Scorecard((Score("identity", "sface", 0.61, 0.4, passed=True, evidence=rated),))
    recipe = Recipe("mini", (Stage("generate", "sdxl", "mini"),), "{prompt}", 64, 64)
    who, environment = Character("mira", "fictional", adult=True), Environment("3", "x", "cpu", ())
    made = plan(recipe, who, Request("mini", "mira", "smiling"), Draw(), {"mini": "a" * 64})
    with Store.open(root / ".sosie") as store:
        for seed in range(count):
            image = Image.new("RGB", (64, 64), (seed % 256, seed // 256, 90))
            stored = store.add_render(Render(image, replace(made, seed=seed), "fake", environment, 1.0))
            store.add_scorecard(stored.id, "gate", card, Verdict("keep", ("all judges pass",)))


class Served:
    """`sosie studio` on a workspace, as a user starts it."""

    def __init__(self, root: Path) -> None:
        started = time.perf_counter()
        command = [str(Path(sys.executable).with_name("sosie")), "studio", "--no-browser", "--workspace", str(root)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        if self.process.stdout is None:
            raise SystemExit("no output")
        self.address = self.process.stdout.readline().strip()
        host, _, self.secret = self.address.removeprefix("http://").partition("/#")
        self.host = host
        self.ask("GET", "/static/js/app.js")
        self.seconds = time.perf_counter() - started
        self.cpu = sum(psutil.Process(self.process.pid).cpu_times()[:2])
        answer = self.ask("POST", "/session", headers={"origin": f"http://{host}", TOKEN: self.secret})
        cookie = answer.getheader("set-cookie", "").partition(";")[0]
        header = answer.read().decode()
        self.read = {"cookie": cookie}
        self.write = {"cookie": cookie, "origin": f"http://{host}", TOKEN: header}

    def ask(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Any:
        """An answer whose body was not read yet."""
        link = http.client.HTTPConnection(self.host, timeout=120)
        link.request(method, path, body or None, headers or {})
        return link.getresponse()

    def memory(self) -> float:
        """MB of the server and its children."""
        own = psutil.Process(self.process.pid)
        return sum(one.memory_info().rss for one in (own, *own.children(recursive=True))) / 1e6

    def close(self) -> None:
        """Ends it as Ctrl-C does."""
        self.process.terminate()
        self.process.wait(60)


def paint(page: Page, address: str) -> tuple[float, float]:
    """Milliseconds to the first and to the first contentful paint."""
    page.goto(address)
    page.wait_for_selector("nav a")
    found = page.evaluate("performance.getEntriesByType('paint').map((one) => [one.name, one.startTime])")
    times = dict(found)
    return times["first-paint"], times["first-contentful-paint"]


def scrolled(page: Page, served: Served, images: int) -> None:
    """Prints the frames of one scroll from top to end."""
    page.goto(served.address)
    page.wait_for_selector("nav a")
    page.evaluate("location.hash = '#/review'")
    page.wait_for_selector(f"[data-total='{images}']")
    page.wait_for_selector(".grid .cell[data-sha256]")
    frames, nodes = page.evaluate(SCROLL, JUMPS)
    shares = statistics.quantiles(frames, n=20)
    size = page.viewport_size or {"width": 0}
    print(f"  {size['width']} px: frame p50 {statistics.median(frames):.0f} ms, p95 {shares[-1]:.0f} ms, {nodes} nodes")


def burdened(served: Served) -> None:
    """Prints the memory with 100 streams and with bodies of many megabytes."""
    before = served.memory()
    streams = [served.ask("GET", "/api/events", headers=served.read) for _ in range(100)]
    refused = served.ask("GET", "/api/events", headers=served.read).status
    print(f"  100 tabs: {served.memory() - before:+.0f} MB; the 101st stream is answered {refused}")
    for stream in streams:
        stream.close()
    before = served.memory()
    part = b"--x\r\nContent-Disposition: form-data; name=f; filename=x\r\n\r\nx\r\n"
    bodies = {"multipart/form-data; boundary=x": part * 60_000, "application/json": b"[" * 4_000_000}
    said: list[int] = []
    for name in ("jobs", "characters", "opinions", "uploads", "doctor", "characters/file"):
        for kind, body in bodies.items():
            try:
                said.append(served.ask("POST", f"/api/{name}", body, {**served.write, "content-type": kind}).status)
            except (ConnectionError, http.client.HTTPException):
                said.append(0)  # it closed the line before all was sent
    print(f"  bodies of 4 MB to 6 routes: {served.memory() - before:+.0f} MB; answers {sorted(set(said))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        root = asked.workspace or Path(folder)
        if not (root / ".sosie/catalogue.sqlite").is_file():
            fill(root, asked.images)
        starts: list[tuple[float, float]] = []
        for _ in range(asked.rounds):
            served = Served(root)
            starts.append((served.seconds, served.cpu))
            served.close()
        wall, cpu = (statistics.median(column) for column in zip(*starts, strict=True))
        print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print(f"  first answer after {wall:.2f} s, {cpu:.2f} s of a core (median of {asked.rounds})")
        served = Served(root)
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET, timeout=120_000)
        empty = served.memory()
        paints = []
        for _ in range(asked.rounds):
            page = browser.new_page(viewport={"width": 1600, "height": 1000})
            page.set_default_timeout(120_000)
            paints.append(paint(page, served.address))
            page.close()
        first, content = (statistics.median(column) for column in zip(*paints, strict=True))
        print(f"  first paint {first:.0f} ms, first contentful paint {content:.0f} ms")
        for width, height in ((1600, 1000), (390, 844)):
            page = browser.new_page(viewport={"width": width, "height": height})
            page.set_default_timeout(120_000)
            for _ in range(2):  # first with copies of pictures to be made, then with those there
                scrolled(page, served, asked.images)
            page.close()
        print(f"  server and child: {empty:.0f} MB, then {served.memory():.0f} MB")
        burdened(served)
        browser.close()
        served.close()


if __name__ == "__main__":
    main()
