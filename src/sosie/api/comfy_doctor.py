"""The doctor on ComfyUI servers: what they are, what a recipe lacks there, and by ssh the files of their machines."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sosie.api.comfy import FAR, reached
from sosie.api.comfy_far import FarDoctor
from sosie.api.comfy_graphs import PROMPT, SOMEBODY, open_compiler
from sosie.api.comfy_near import NearDoctor
from sosie.api.doctor import Checkup
from sosie.api.needs import Examination
from sosie.api.recipes import load_recipe
from sosie.core import Draw, Finding, Recipe, Request, plan
from sosie.core.finding import has_errors
from sosie.core.plan import needed_stages
from sosie.doctor.machine import Needs
from sosie.doctor.recipe_needs import needs_of
from sosie.doctor.remote import LEAST_DISK, finding_of
from sosie.engines.comfy.answers import System
from sosie.engines.comfy.catalogue import Catalogue
from sosie.engines.comfy.client import Client
from sosie.engines.comfy.errors import ComfyError
from sosie.engines.comfy.live import Y005, check_system, fit
from sosie.engines.comfy.program import FileUse, Program, inputs_of
from sosie.engines.comfy.server import Server
from sosie.engines.comfy.station import Y034
from sosie.graph import node_types
from sosie.graph.nodes import packs as known_packs
from sosie.machines.ssh import SshError
from sosie.workspace.bill import resolve
from sosie.workspace.session import Session
from sosie.workspace.workspace import Workspace

if TYPE_CHECKING:
    from sosie.doctor.remote import FarModel


@dataclass(frozen=True)
class ServerReport:
    """What a server says of itself. `packs` are the packs that Sosie's graphs use, and the classes each lacks there.

    `files` are the recipe's files by the names that they are asked by, and what they are called there (None: not
    there, or not once).
    """

    system: System
    classes: int
    packs: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    files: Mapping[str, str | None] = field(default_factory=dict[str, "str | None"])


@dataclass(frozen=True)
class _Asked:
    """What servers are examined for: a recipe's programs on this compiler, and what a machine needs for it."""

    recipe: str = ""
    programs: tuple[Program, ...] = ()
    needs: Needs | None = None

    @property
    def uses(self) -> tuple[FileUse, ...]:
        """Every model file, once for each place."""
        return tuple(use for program in self.programs for step in program.steps for use in step.draft.files)


def examine_servers(workspace: Workspace, subject: str, how: Examination) -> Generator[Checkup]:
    """One checkup a server of `comfy:URL1,URL2` or `comfy+ssh://...`, and one for each model file there.

    Files are those of servers on this machine, and by ssh.

    With a recipe the server is compared with it, and only its files are looked at. Nothing is rendered, and nothing
    brought to a machine. Raises `UsageError` for an address that is none.
    """
    with Session(workspace) as session:
        asked = _asked(session, load_recipe(workspace, how.recipe), how) if how.recipe else _Asked()
        try:
            with reached(subject) as (servers, tunnels):
                parts = [part.strip() for part in subject.removeprefix("comfy:").split(",")]
                names = [part if part.startswith(FAR) else f"comfy:{part}" for part in parts]
                for place, (name, server) in enumerate(zip(names, servers, strict=True)):
                    far = FarDoctor(workspace, *tunnels[place], server, {}) if tunnels else None
                    yield _examine(name, server, asked, far)
                    if far:
                        yield from _files(name, asked, far)
                    elif server.is_local:
                        yield from _near(workspace, asked, server)
        except SshError as error:
            yield Checkup(subject, "server", findings=(finding_of(error, subject),))


def _asked(session: Session, recipe: Recipe, how: Examination) -> _Asked:
    """The programs of an image and of its repair, for somebody without a LoRA."""
    bill = resolve(session.workspace, needed_stages(recipe), remote=True)
    needs = needs_of(recipe, bill, how.purpose)
    compiler = open_compiler(session, bill)
    request = Request(recipe.name, SOMEBODY.name, PROMPT)
    draws = (Draw(), Draw(attempt=1, source="0" * 64)) if recipe.repair else (Draw(),)
    plans = [plan(recipe, SOMEBODY, request, draw, dict.fromkeys(bill.entries, "")) for draw in draws]
    programs = tuple(replace(compiler(one), memory=needs.vram_mib * 2**20) for one in plans)
    return _Asked(recipe.name, programs, replace(needs, disk_bytes=LEAST_DISK))


def _examine(name: str, server: Server, asked: _Asked, far: FarDoctor | None) -> Checkup:
    """The server, and the machine that it runs on if there is a line to it."""
    report, findings = _live(server, asked)
    if far is not None:
        findings += far.refused() + far.examine_machine(asked.needs)
    return Checkup(name, "server", findings=tuple(dict.fromkeys(findings)), server=report)


def _live(server: Server, asked: _Asked) -> tuple[ServerReport | None, list[Finding]]:
    client = Client(server)
    try:
        system, catalogue = client.system(), Catalogue(client.object_info())
        shows_log = client.log() is not None
    except ComfyError as error:
        return None, [error.finding(server.name)]
    finally:
        client.close()
    programs = asked.programs or (Program(()),)
    findings = [found for program in programs for found in check_system(system, program, server.name)]
    packs = _packs(catalogue)
    findings.append(_told_packs(packs, len(catalogue.names), server))
    if not shows_log:
        message = "the server shows no log, so that a LoRA or weights that were not loaded would not be noticed"
        findings.append(Y034.at(server.name, message, "update ComfyUI"))
    files: dict[str, str | None] = {}
    wrong = [finding for program in asked.programs for finding in program.findings]
    for step in (step for program in asked.programs for step in program.steps):
        fitted = fit(step.draft, catalogue, server.name)
        wrong += fitted.findings
        for use in step.draft.files:
            offer = catalogue.node(str(step.draft.graph[use.node].get("class_type")))
            there = inputs_of(fitted.compiled.graph[use.node]).get(use.input)
            options = offer.inputs[use.input].options if offer and use.input in offer.inputs else None
            files[use.names[0]] = there if there in (options or ()) else None
    if asked.recipe and not has_errors(wrong):
        message = f"recipe '{asked.recipe}' can run: its nodes and {len(files)} files are there"
        findings.append(Y005.at(server.name, message))
    return ServerReport(system, len(catalogue.names), packs, files), [*findings, *wrong]


def _packs(catalogue: Catalogue) -> dict[str, tuple[str, ...]]:
    """Every pack that graphs of Sosie use, with its classes that the server lacks."""
    there = set(catalogue.names)
    kinds = node_types().values()
    return {pack: tuple(k.name for k in kinds if k.pack == pack and k.name not in there) for pack in known_packs()}


def _told_packs(packs: Mapping[str, Sequence[str]], classes: int, server: Server) -> Finding:
    sizes = {pack: sum(kind.pack == pack for kind in node_types().values()) for pack in packs}
    whole = [pack for pack, lacks in packs.items() if not lacks]
    partly = [f"{pack} (without {', '.join(lacks)})" for pack, lacks in packs.items() if 0 < len(lacks) < sizes[pack]]
    gone = [pack for pack, lacks in packs.items() if len(lacks) == sizes[pack]]
    message = f"{classes:,} classes of nodes; packs: {', '.join([*whole, *partly]) or 'none that Sosie uses'}"
    message += f"; not there: {', '.join(gone)}" if gone else ""
    addresses = "; ".join(address for pack, address in known_packs().items() if pack in gone)
    return Y005.at(server.name, message, addresses)


def _files(name: str, asked: _Asked, far: FarDoctor) -> Iterator[Checkup]:
    """The recipe's files on a machine, or all of its model folders."""
    try:
        for found in far.examine_files(asked.uses if asked.recipe else None):
            yield _of_file(found)
    except SshError as error:
        yield Checkup(name, "server", findings=(finding_of(error, name),))


def _near(workspace: Workspace, asked: _Asked, server: Server) -> Iterator[Checkup]:
    """The same of a server of this machine; a checkup without a path, for Sosie mends nothing in its folders."""
    near = NearDoctor(workspace, server, {})
    for found in near.examine_files(asked.uses if asked.recipe else None):
        yield replace(found, path="")


def _of_file(found: FarModel) -> Checkup:
    kind = "lora" if found.role == "lora" else "model"
    known = (found.role, found.family, found.variant, found.layout, found.storage, found.parameters)
    return Checkup(found.file.name, kind, "", *known, findings=found.findings)
