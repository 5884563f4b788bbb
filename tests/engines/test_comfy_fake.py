"""The fake ComfyUI server: the nodes of the official templates, its pictures, and the fake as a program."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comfy_bench import (
    QUICK,
    Recipes,
    Silent,
    link_to,
    node,
    one_upload,
    plan,
    sent,
    zimage,
)
from PIL import Image
from recipe_graphs import RUNS, planned, shipped

from sosie.api.engines import open_engine
from sosie.core import Render
from sosie.engines.comfy.client import Client
from sosie.engines.comfy.errors import ComfyError
from sosie.engines.comfy.fake import Behaviour, FakeServer
from sosie.engines.comfy.fake.pictures import pictures_of
from sosie.engines.comfy.matching import match
from sosie.engines.comfy.program import CompiledGraph, GraphProgram, Step, png
from sosie.engines.comfy.server import parse_servers
from sosie.engines.comfy.worker import PlanWork, ServerWorker
from sosie.workspace.session import Session
from sosie.workspace.workspace import open_workspace

pytestmark = pytest.mark.once

Sosie = Callable[..., Any]


def chosen(**changed: Any) -> dict[str, Any]:
    """The nodes by which ComfyUI's own Z-Image templates choose a size and a file format."""
    graph = zimage(1)
    graph["20"] = node("ResolutionSelector", aspect_ratio="2:3 (Portrait Photo)", megapixels=1.0, multiple=64)
    graph["7"]["inputs"] |= {"width": ["20", 0], "height": ["20", 1]}
    saved = {"format": "png", "format.bit_depth": "8-bit", "format.input_color_space": "sRGB"} | changed
    graph["10"] = node("SaveImageAdvanced", images=["9", 0], filename_prefix="t", **saved)
    return graph


def test_the_fake_has_the_nodes_of_the_official_templates(near: FakeServer) -> None:
    worker = ServerWorker(link_to(near), Recipes(), {})
    compiled = CompiledGraph(chosen(), "10")
    assert match(compiled, worker._offers(), "s").findings == ()
    render = worker.render(
        PlanWork(plan(1), GraphProgram((Step("generate", compiled),)), None, compiled), "e", Silent()
    )
    assert render.image.size == (832, 1280)
    worker.link.close()


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [({"format": "exr"}, 2), ({"format": "gif"}, 1), ({"format.bit_depth": "12-bit"}, 1)],
)
def test_the_fake_takes_only_what_a_format_brings(near: FakeServer, changed: dict[str, Any], wrong: int) -> None:
    client = Client(parse_servers(near.url)[0], None, QUICK)
    with pytest.raises(ComfyError, match="Value not in list") as error:
        client.submit(chosen(**changed), "me", "id")
    assert error.value.code == "SOS-Y011"
    offers = ServerWorker(link_to(near), Recipes(), {})._offers()
    found = match(CompiledGraph(chosen(**changed), "10"), offers, "s").findings
    assert sum(f.severity == "error" for f in found) >= 1
    client.close()


def test_the_fake_answers_with_pictures_and_with_what_a_graph_works_on(tmp_path: Path) -> None:
    Image.new("RGB", (40, 20), "red").save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("x")
    with FakeServer(Behaviour(pictures=pictures_of(tmp_path))) as fake:
        render, _ = sent(fake, one_upload(png(Image.new("RGB", (30, 50), "blue")), False))
        assert (render.image.size, render.image.getpixel((9, 9))) == ((30, 50), (0, 0, 255))
        drawn = CompiledGraph(zimage(1), "10")
        worker = ServerWorker(link_to(fake), Recipes(), {})
        render = worker.render(PlanWork(plan(1), GraphProgram((Step("generate", drawn),)), None, drawn), "e", Silent())
        assert (render.image.size, render.image.getpixel((9, 9))) == ((64, 64), (255, 0, 0))
        worker.link.close()


def test_the_fake_runs_as_a_program(sosie: Sosie, tmp_path: Path, references: list[Path]) -> None:
    command = [sys.executable, "-m", "sosie.engines.comfy.fake", "--pictures", str(references[0].parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        try:
            assert sosie("doctor", f"comfy:{url}", "--recipe", "zimage-turbo", "--workspace", tmp_path).code == 0
        finally:
            process.terminate()
    for wrong, said in (
        ([*command[:-1], str(tmp_path)], "holds no .png or .jpg"),
        ([*command, "--holds", "ae.safetensors=sand"], "--holds knows no 'sand'"),
    ):
        refused = subprocess.run(wrong, capture_output=True, text=True, check=False)
        assert refused.returncode == 2
        assert said in refused.stderr


@pytest.mark.parametrize("recipe", RUNS)
def test_every_shipped_recipe_runs_on_the_fake_out_of_the_box(
    workspace: Path, references: list[Path], recipe: str
) -> None:
    from sosie.workspace.bill import resolve
    from sosie.workspace.characters import load_character

    with Session(open_workspace(workspace)) as session, FakeServer(Behaviour(pictures=tuple(references))) as fake:
        of = replace(planned(shipped(recipe), load_character(session.workspace, "mira")), width=256, height=384)
        bill = resolve(session.workspace, of.stages, of.character, remote=True)
        engine = open_engine(session, f"comfy:{fake.url}", bill, of.character)
        findings = engine.check(of)
        (render,) = (event for event in engine.run([of]) if isinstance(event, Render))
        engine.close()
        assert {finding.severity for finding in (*findings, *render.findings)} <= {"info"}
        assert render.image.size == ((1024, 1536) if recipe == "sdxl-instantid" else (256, 384))
        assert session.detector.detect(np.asarray(render.image))
        assert fake.count("POST", "/prompt") == {"hybrid": 2, "zimage-klein": 2, "sdxl-instantid": 3}.get(recipe, 1)
