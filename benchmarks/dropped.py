"""What the Doctor screen takes for a file of 12 GB: a true Z-Image header, a real server and a real Chromium.

    python benchmarks/dropped.py [--header tests/fixtures/headers/zimage-single.json.gz] [--runs 3]

The file is a hole but for the beginning of each tensor, so that the doctor finds weights where it looks; it is removed
at the end. Told of each run: bytes of the file, of each body that left the browser and their sum, the processor time of
the server with its children, the clock from the drop to the answer, and what the answer is.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import psutil
from header_files import fill, hollow
from playwright.sync_api import Page, sync_playwright

from sosie.files.strip import read_stripped

ROOT = Path(__file__).parents[1]
QUIET = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


def processor_time(process: psutil.Process) -> float:
    """Seconds of a process, of its children that live, and of those that have ended and were waited for."""
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
        total += times.children_user + times.children_system if one.pid == process.pid else 0.0
    return total


COUNT = """() => {
    const send = window.fetch;
    window.sent = [];
    window.fetch = (path, options) => {
        if (options && options.body instanceof Blob) window.sent.push(options.body.size);
        return send(path, options);
    };
}"""
"""Notes the bytes of every body, which the browser tells no driver of."""


def drop(page: Page, server: psutil.Process, file: Path) -> dict[str, object]:
    """One file on the Doctor screen."""
    page.get_by_role("link", name="Doctor").click()
    page.get_by_role("heading", name="This machine").wait_for()
    page.evaluate(COUNT)
    before = processor_time(server)
    started = time.perf_counter()
    page.locator("input[type=file]").set_input_files(file)
    checkup = page.locator("[data-checkup]").first
    checkup.wait_for()
    clock = time.perf_counter() - started
    sent: list[int] = page.evaluate("window.sent")
    told = {
        "sent": sent,
        "sum": sum(sent),
        "server": round(processor_time(server) - before, 2),
        "clock": round(clock, 2),
    }
    return {**told, "answer": " ".join(checkup.inner_text().split())[:300]}


def main() -> None:
    """Measures, and prints a JSON object a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--header", type=Path, default=ROOT / "tests/fixtures/headers/zimage-single.json.gz")
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    header, _ = read_stripped(asked.header)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        root = Path(folder)
        file = root / "z_image.safetensors"
        fill(hollow(file, header), header, header.tensors)
        (root / "workspace/characters").mkdir(parents=True)
        (root / "workspace/sosie.toml").touch()
        command = [
            str(Path(sys.executable).with_name("sosie")),
            "studio",
            "--no-browser",
            "--workspace",
            str(root / "workspace"),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=QUIET)
            for _ in range(asked.runs):
                page = browser.new_context().new_page()
                page.goto(address)
                print(
                    json.dumps({"size": file.stat().st_size, **drop(page, psutil.Process(process.pid), file)}),
                    flush=True,
                )
                page.context.close()
            browser.close()
            process.terminate()


if __name__ == "__main__":
    main()
