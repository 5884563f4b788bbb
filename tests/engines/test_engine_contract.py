"""An engine is one file: a toy of another distribution is used by the commands without an edit elsewhere."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sosie.core.errors import ConfigError, UsageError
from sosie.engines import BUILT_IN, find_scheme, scheme_of

ENGINE = '''
"""An engine that paints its plan's first reference in one colour."""

import platform

from PIL import Image

from sosie.core import Environment, Finding, Progress, Render
from sosie.core.errors import UsageError
from sosie.core.finding import Rule
from sosie.engines.scheme import Scheme

E900 = Rule("TOY-E900", "warning", "The toy draws")


class Toy:
    def __init__(self, colour, paths):
        self.name = f"toy-{colour}"
        self.paths = paths

    def check(self, plan):
        return [E900.at("toy", f"{len(self.paths)} files were given")]

    def run(self, plans):
        for plan in plans:
            yield Progress("generate", 1, 1)
            reference = plan.character.references[plan.seed % len(plan.character.references)]
            with Image.open(self.paths[reference.sha256]) as source:
                image = source.convert("RGB").resize((plan.width, plan.height))
            yield Render(image, plan, self.name, Environment(platform.python_version(), "any", "none", ()), 0.0)

    def close(self):
        pass


def open_toy(address, supplies):
    colour = address.partition(":")[2]
    if not colour:
        raise UsageError("engine 'toy' needs a colour", "--engine toy:blue")
    return Toy(colour, supplies.paths)


SCHEME = Scheme("toy", "toy:COLOUR", open_toy, reads="references")
REMOTE = Scheme("far-toy", "far-toy:COLOUR", open_toy, reads="references", is_remote=True)
'''

POINTS = "toy = sosie_toy_engine:SCHEME\nfar-toy = sosie_toy_engine:REMOTE\n"

Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    def installed(code: str, points: str) -> None:
        root = tmp_path / "site"
        info = root / "sosie_toy_engine-1.dist-info"
        info.mkdir(parents=True)
        (root / "sosie_toy_engine.py").write_text(code)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sosie-toy-engine\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[sosie.engines]\n{points}")
        monkeypatch.syspath_prepend(str(root))
        importlib.invalidate_caches()

    yield installed
    sys.modules.pop("sosie_toy_engine", None)


def generate(sosie: Callable[..., Any], workspace: Path, engine: str, *more: str) -> Any:
    out = workspace.parent / "out"
    words = ("--engine", engine, "-n", "1", "--seed", "2", "--workspace", workspace, "--out", out, "--json", *more)
    return sosie("generate", "mira", "smiling", "--recipe", "mini", *words)


@pytest.mark.local
@pytest.mark.parametrize("engine", ["toy:blue", "far-toy:blue"])
def test_a_toy_engine_of_another_package_delivers_images(
    sosie: Callable[..., Any], workspace: Path, install: Install, engine: str
) -> None:
    install(ENGINE, POINTS)
    result = generate(sosie, workspace, engine)
    assert result.code == 0, result.err
    assert "TOY-E900: 12 files were given" in result.err
    assert [json.loads(line)["verdict"] for line in result.out.splitlines()][-1:] == ["keep"]
    assert len(list((workspace.parent / "out").glob("mira-*.png"))) == 1


def test_what_an_engine_offers_is_asked_of_its_scheme(
    sosie: Callable[..., Any], workspace: Path, install: Install
) -> None:
    install(ENGINE, POINTS)
    for engine, flags, expected in (
        ("toy:blue", ("--face-detailer",), "--face-detailer is for ComfyUI; engine 'toy:blue' has no such nodes"),
        ("far-toy:blue", ("--keep-loaded", "5"), "--keep-loaded is for engines on this machine"),
        ("toy", (), "engine 'toy' needs a colour"),
    ):
        result = generate(sosie, workspace, engine, *flags)
        assert (result.code, expected in result.err) == (2, True), result.err


def test_an_engine_that_is_not_known_is_told_the_nearest_and_those_that_are_there(install: Install) -> None:
    install(ENGINE, POINTS)
    with pytest.raises(UsageError, match="engine 'tyo:blue' is not known; did you mean 'toy'") as stop:
        scheme_of("tyo:blue")
    assert stop.value.hint.startswith(
        "engines: comfy, comfy+ssh, diffusers, fake, far-toy, pod, ray, shards, ssh, toy;"
    )
    with pytest.raises(UsageError, match="engine 'fake:1' is not known"):
        scheme_of("fake:1")
    assert find_scheme("tyo:blue") is None


@pytest.mark.parametrize(
    ("code", "points", "expected"),
    [
        ("import no_such_module", POINTS, "cannot be loaded: No module named 'no_such_module'"),
        ("SCHEME = 1", POINTS, "names a int, not a Scheme"),
        (ENGINE, "toy = sosie_toy_engine:REMOTE\n", "brings engine 'far-toy', expected one of its own name"),
        (ENGINE, "toy = sosie_toy_engine:NONE\n", "cannot be loaded"),
    ],
)
def test_a_broken_entry_point_is_a_clear_error_for_its_engine_alone(
    install: Install, code: str, points: str, expected: str
) -> None:
    install(code, points)
    with pytest.raises(ConfigError) as stop:
        scheme_of("toy:blue")
    assert expected in stop.value.message
    assert "of sosie-toy-engine" in stop.value.message
    assert scheme_of("fake").name == "fake"


def test_an_engine_that_is_there_twice_is_an_error(install: Install) -> None:
    install(ENGINE, "fake = sosie_toy_engine:SCHEME\n")
    with pytest.raises(ConfigError, match="of sosie-toy-engine brings engine 'fake', which is there already"):
        scheme_of("fake")


def test_every_engine_that_is_shipped_says_what_it_offers() -> None:
    said = {scheme_of(entry.name).name: scheme_of(entry.name) for entry in BUILT_IN}
    assert set(said) == {entry.name for entry in BUILT_IN}
    assert {name for name, scheme in said.items() if scheme.is_remote} == {"comfy", "comfy+ssh"}
    assert {name for name, scheme in said.items() if scheme.runs_graphs} == {"comfy", "comfy+ssh"}
