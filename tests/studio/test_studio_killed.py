"""A server of its own process and a real browser: a training that is cancelled, and a kill in the middle of a run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, NEEDS_CHROMIUM, PATIENCE, QUIET

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'sosie[studio]'")
pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install 'sosie[studio]'")

from sosie.api.jobs.queue import list_jobs
from sosie.api.resident import stop_worker
from sosie.workspace.workspace import open_workspace

pytestmark = [pytest.mark.once, pytest.mark.browser, NEEDS_CHROMIUM]

COMMAND = [sys.executable, "-c", "from sosie.cli import main; main()", "studio", "--no-browser", "--json"]


begun: list[Server] = []
"""Every server of a test, so that none outlives it."""


class Server:
    """`sosie studio` in a process of its own."""

    def __init__(self, root: Path, port: int = 0) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "--workspace", str(root), "--port", str(port)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": ""},
        )
        begun.append(self)
        assert self.process.stdout is not None
        self.address: str = json.loads(self.process.stdout.readline())["address"]
        self.port = int(self.address.partition("/#")[0].rpartition(":")[2])

    def kill(self) -> None:
        self.end(signal.SIGKILL)

    def end(self, how: int = signal.SIGINT) -> int:
        self.process.send_signal(how)
        code = self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.fixture
def server(workspace: Path) -> Iterator[Server]:
    begun.clear()
    yield Server(workspace)
    for one in begun:
        if one.process.poll() is None:
            one.end(signal.SIGKILL)
    stop_worker(open_workspace(workspace))


@pytest.fixture
def page(server: Server) -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    said: list[str] = []
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET, timeout=PATIENCE)
        page = browser.new_context(reduced_motion="reduce").new_page()
        page.set_default_timeout(PATIENCE)
        api.expect.set_options(timeout=PATIENCE)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(server.address)
        yield page
        browser.close()
    assert said == []


def test_a_training_is_cancelled_and_a_run_goes_on_after_its_server_was_killed(
    page: Any, server: Server, workspace: Path
) -> None:
    from playwright.sync_api import expect

    bar = page.get_by_role("region", name="Queue")
    page.get_by_role("link", name="Training").click()
    page.get_by_role("button", name="Train", exact=True).click()
    expect(bar.locator("[data-job='1'][data-state=running]")).to_be_visible()
    bar.get_by_role("button", name="Cancel").click()
    bar.get_by_role("button", name="All jobs").click()
    expect(bar.locator("[data-job='1'][data-state=cancelled]")).to_be_visible()

    page.get_by_role("link", name="Generate").click()
    page.get_by_label("What the character does").fill("smiling")
    page.get_by_label("Images", exact=True).fill("6")
    page.get_by_text("More settings").click()
    page.get_by_label("Engine").fill("fake")
    page.get_by_role("button", name="Generate Ctrl+").click()
    expect(page.locator(".results .tag.good").first).to_be_visible()
    server.kill()
    page.get_by_role("link", name="Doctor").click()
    expect(page.get_by_text("The server cannot be reached")).to_be_visible()

    again = Server(workspace, server.port)
    page.goto("about:blank")
    page.goto(again.address)
    left = bar.locator("[data-job='2'][data-state=stopped]")
    left.get_by_role("button", name="Continue").click()
    bar.get_by_role("button", name="All jobs").click()
    expect(bar.locator("[data-job='2'][data-state=done]")).to_be_visible()
    page.get_by_role("link", name="Generate").click()
    expect(page.locator(".results .tag.good").nth(5)).to_be_visible()
    assert [job.state for job in list_jobs(open_workspace(workspace))] == ["done", "cancelled"]
    assert len(list((workspace / "outputs/mira").glob("mira-*.png"))) == 6
    assert again.end() in (0, 130)
