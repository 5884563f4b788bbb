"""The doctor on ComfyUI servers: what they are, what a recipe lacks there, and the files of their machines."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field

from sosie.core import Finding
from sosie.core.finding import has_errors
from sosie.doctor.examined import Examined
from sosie.doctor.machine import Needs
from sosie.engines.comfy.answers import System
from sosie.engines.comfy.catalogue import NodeCatalogue
from sosie.engines.comfy.client import Client
from sosie.engines.comfy.errors import ComfyError
from sosie.engines.comfy.matching import Y005, check_system, match
from sosie.engines.comfy.program import FileUse, GraphProgram, inputs_of
from sosie.engines.comfy.server import Server
from sosie.engines.comfy.worker import Y034
from sosie.graph.nodes import packs as known_packs
from sosie.graph.nodes import used_packs
from sosie.machines.ssh import SshError
from sosie.servers.address import reach
from sosie.servers.doctor import ServerDoctor
from sosie.workspace.workspace import Workspace

SHOWN = 6
"""Most classes that one message lists."""


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
class ServerExamined:
    """A server by its address, what it says of itself (None: it does not answer), and what was found."""

    subject: str
    report: ServerReport | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Asked:
    """What servers are examined for: a recipe's programs, and what a machine needs for it."""

    recipe: str = ""
    programs: tuple[GraphProgram, ...] = ()
    needs: Needs | None = None

    @property
    def uses(self) -> tuple[FileUse, ...]:
        """Every model file, once for each place."""
        return tuple(use for program in self.programs for step in program.steps for use in step.draft.files)


def examine_servers(workspace: Workspace, address: str, asked: Asked) -> Generator[ServerExamined | Examined]:
    """Each server of `comfy:URL1,URL2` or `comfy+ssh://...`, and after it each model file of its machine.

    Files are those of servers on this machine, and by ssh.

    With a recipe the server is compared with it, and only its files are looked at. Nothing is rendered, and nothing
    brought to a machine. Raises `UsageError` for an address that is none.
    """
    try:
        with reach(address, workspace) as found:
            for one in found:
                report, findings = _live(one.server, asked)
                doctor = ServerDoctor(workspace, one, {})
                looked = doctor.examine_machine(asked.needs)
                # ssh says on its own line that nothing listened: the commands of the look are answered after it.
                findings += doctor.refused() + looked
                yield ServerExamined(one.name, report, tuple(dict.fromkeys(findings)))
                if one.remote or one.server.is_local:
                    yield from _files(one.name, doctor, asked)
    except SshError as error:
        yield ServerExamined(address, findings=(error.finding(address),))


def _files(name: str, doctor: ServerDoctor, asked: Asked) -> Generator[ServerExamined | Examined]:
    try:
        yield from doctor.examine_files(asked.uses if asked.recipe else None)
    except SshError as error:
        yield ServerExamined(name, findings=(error.finding(name),))


def _live(server: Server, asked: Asked) -> tuple[ServerReport | None, list[Finding]]:
    client = Client(server)
    try:
        system, catalogue = client.system(), NodeCatalogue(client.object_info())
        shows_log = client.log() is not None
    except ComfyError as error:
        return None, [error.finding(server.name)]
    finally:
        client.close()
    programs = asked.programs or (GraphProgram(()),)
    findings = [found for program in programs for found in check_system(system, program, server.name)]
    packs = _packs(catalogue)
    findings.append(_packs_finding(packs, len(catalogue.names), server))
    if not shows_log:
        message = "the server shows no log, so that a LoRA or weights that were not loaded would not be noticed"
        findings.append(Y034.at(server.name, message, "update ComfyUI"))
    files: dict[str, str | None] = {}
    wrong = [finding for program in asked.programs for finding in program.findings]
    for step in (step for program in asked.programs for step in program.steps):
        fitted = match(step.draft, catalogue, server.name)
        wrong += fitted.findings
        for use in step.draft.files:
            offer = catalogue.node(str(step.draft.graph[use.node].get("class_type")))
            there = inputs_of(fitted.compiled.graph[use.node]).get(use.input)
            takes = offer.input(use.input) if offer else None
            options = takes.choices if takes else None
            files[use.names[0]] = there if there in (options or ()) else None
    if asked.recipe and not has_errors(wrong):
        message = f"recipe '{asked.recipe}' can run: its nodes and {len(files)} files are there"
        findings.append(Y005.at(server.name, message))
    return ServerReport(system, len(catalogue.names), packs, files), [*findings, *wrong]


def _packs(catalogue: NodeCatalogue) -> dict[str, tuple[str, ...]]:
    """Every pack that graphs of Sosie use, with its classes that the server lacks."""
    there = set(catalogue.names)
    return {pack: tuple(name for name in names if name not in there) for pack, names in used_packs().items()}


def _packs_finding(packs: Mapping[str, Sequence[str]], classes: int, server: Server) -> Finding:
    sizes = {pack: len(names) for pack, names in used_packs().items()}
    whole = [pack for pack, lacks in packs.items() if not lacks]
    partly = [f"{pack} (without {_some(lacks)})" for pack, lacks in packs.items() if 0 < len(lacks) < sizes[pack]]
    gone = [pack for pack, lacks in packs.items() if len(lacks) == sizes[pack]]
    message = f"{classes:,} classes of nodes; packs: {', '.join([*whole, *partly]) or 'none that Sosie uses'}"
    message += f"; not there: {', '.join(gone)}" if gone else ""
    addresses = "; ".join(address for pack, address in known_packs().items() if pack in gone)
    return Y005.at(server.name, message, addresses)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} others" if len(names) > SHOWN else "")
