"""What the command line can do, the page can: each command has its place there, or a reason why it has none.

The other way round, each route of the page names its command in `test_studio_routes.PARITY`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'sosie[studio]'")

from studio_page import Studio

from sosie.api.jobs.requests import KINDS
from sosie.cli.group import cli
from sosie.studio.app import OPENAPI

SCRIPTS = Path(__file__).parents[2] / "src/sosie/studio/static/js"

ON_THE_PAGE = {
    "new": "POST /api/characters",
    "generate": "job generate",
    "character export": "GET /api/characters/{name}/file",
    "character import": "POST /api/characters/file",
    "character edit": "POST /api/characters/{name}/words",
    "calibrate": "job calibrate",
    "model fetch": "job fetch",
    "dataset build": "job dataset",
    "dataset caption": "POST /api/characters/{name}/dataset/{sha256}/caption",
    "dataset check": "GET /api/characters/{name}/dataset",
    "train": "job train",
    "decide new": "POST /api/decisions",
    "decide accept": "POST /api/decisions/{name}/accept",
    "decide list": "GET /api/decisions",
    "recipe list": "GET /api/recipes",
    "recipe show": "GET /api/recipes/{name}/fields",
    "model show": "POST /api/doctor/pieces",
    "model convert": "POST /api/doctor/mend",
    "lora show": "POST /api/doctor/pieces",
    "lora convert": "POST /api/doctor/mend",
    "doctor": "POST /api/doctor",
    "experiment list": "GET /api/experiments",
    "experiment new": "POST /api/experiments",
    "experiment report": "GET /api/experiments/{name}/report/{language}",
    "experiment resume": "job experiment",
    "experiment run": "job experiment",
    "pod down": "POST /api/machines/{name}/end",
    "pod list": "GET /api/machines",
    "pod search": "GET /api/machines/offers",
    "image list": "GET /api/images",
    "image export": "GET /api/images/{sha256}/file",
    "image mark": "POST /api/opinions",
    "job add": "POST /api/jobs",
    "job cancel": "POST /api/jobs/{number}/cancel",
    "job continue": "POST /api/jobs/{number}/continue",
    "job list": "GET /api/jobs",
    "job move": "POST /api/jobs/{number}/move",
}
"""Where the page does what a command does: a route, or a kind of job."""

PROGRAMS = "it is for programs and other machines, which have a command line"
TEXT = "it writes about the record; what is written is long, and read in an editor"
NOT_THERE = {
    "studio": "it is the page",
    "job run": "the page works through the queue while it is served",
    "compare": "two images are compared in the review; runs and folders by the command",
    "decide show": "old versions of a decision; the page lists the newest",
    "panel new": "a panel is put to others, who must not see the studio",
    "panel report": "a panel is put to others, who must not see the studio",
    "panel serve": "a panel is put to others, who must not see the studio",
    "pod up": "it binds money: what it may cost is agreed to in a terminal, whose command the page shows",
    "pod ssh": "a shell on another machine must not hang on a page",
    "pod tunnel": "a port of another machine must not hang on a page",
    "pod push": "it names a file on this machine, and no request of a page may",
    "pod pull": "it names a file on this machine, and no request of a page may",
    "pod export": "it writes a file for another program's command line",
    "model add": "it names a folder on this machine, and no request of a page may",
    "model strip": "it names files on this machine, and no request of a page may",
    "model list": "the doctor says what a file is; recipes name their models",
    "lora add": "it names a file on this machine, and no request of a page may; training gives a LoRA by itself",
    "score": "it names files on this machine, and no request of a page may",
    "verify": "it names files on this machine, and no request of a page may",
    "recipe check": "the doctor examines a dropped recipe, and every run checks its own",
    "recipe copy": "a recipe is edited as a file",
    "comfy record": PROGRAMS,
    "worker draw": PROGRAMS,
    "worker status": "the page's own jobs use the worker and end it",
    "worker stop": "the page's own jobs use the worker and end it",
    **dict.fromkeys(("audit", "note add", "note list", "note rented", "note tried"), TEXT),
    **dict.fromkeys(("task add", "task list", "task set"), TEXT),
}
"""Why a command has no place on the page."""


def commands(group: click.Group, before: str = "") -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        if isinstance(found, click.Group):
            yield from commands(found, f"{before}{name} ")
        else:
            yield f"{before}{name}"


def test_every_command_has_its_place_on_the_page_or_a_reason_why_not(studio: Studio) -> None:
    every = set(commands(cli))
    assert len(every) > 50
    assert every - set(ON_THE_PAGE) - set(NOT_THERE) == set(), "a new command: where on the page is it, or why not?"
    own = {name for name in ON_THE_PAGE if name not in every} | {name for name in NOT_THERE if name not in every}
    assert own == set(), "there is no such command"
    paths = studio.json(OPENAPI)["paths"]
    routes = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    for command, place in ON_THE_PAGE.items():
        kind, _, name = place.partition(" ")
        assert name in KINDS if kind == "job" else place in routes, command


def test_what_the_routes_can_change_has_a_place_in_the_scripts_of_the_page(studio: Studio) -> None:
    scripts = "\n".join(path.read_text(encoding="utf-8") for path in SCRIPTS.rglob("*.js"))
    for path, methods in studio.json(OPENAPI)["paths"].items():
        parts = [re.escape(part) for part in re.split(r"\{\w+\}", path)]
        if "post" in methods and not path.startswith("/api/jobs/"):
            assert re.search(r"\$\{.+?\}".join(parts) + r"[`\"?]", scripts), path
    assert "/api/jobs/${job.id}/${what}" in scripts
    asked = set(re.findall(r'\bask\("(\w+)"', scripts))
    assert set(KINDS) == asked


def test_a_program_finds_every_route_parameter_and_body_in_one_document(studio: Studio) -> None:
    document = studio.json(OPENAPI)
    assert document["info"]["title"] == "Sosie"
    for path, methods in document["paths"].items():
        for method, said in methods.items():
            named = {one["name"] for one in said.get("parameters", []) if one["in"] == "path"}
            assert named == set(re.findall(r"\{(\w+)\}", path)), (method, path)
            assert method != "post" or "requestBody" in said or path.endswith(("/cancel", "/continue")), path
    for schema in document["components"]["schemas"].values():
        assert schema.get("description") or schema["title"] in ("HTTPValidationError", "ValidationError")
