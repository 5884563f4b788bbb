"""Engines by their addresses, given what a session's workspace has for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sosie.core import Character, Engine
from sosie.core.errors import UsageError
from sosie.engines import scheme_of
from sosie.engines.scheme import Supplies, unwatched
from sosie.families.contract.draws import Settings
from sosie.machines.cards import choose_cards, installed_cards
from sosie.workspace.bill import Bill
from sosie.workspace.session import Session
from sosie.workspace.workspace import Workspace

if TYPE_CHECKING:
    from sosie.engines.comfy.program import Compiler
    from sosie.engines.comfy.reach import Graphs
    from sosie.engines.comfy.workflow import Workflow


PLACES = 2
"""Plans that a card's process has at a time: it draws the next one while the last one's pixels are on their way."""


@dataclass(frozen=True)
class Workers:
    """In which processes of this machine an engine works; in this one, unless something is said.

    `devices` is `all` or numbers of cards, each of which gets a process; empty: what the environment shows. The
    processes stay for `keep_loaded` minutes after their last call, for others to use. If they are `watched` they give
    previews.
    """

    devices: str = ""
    keep_loaded: float = 0.0
    watched: bool = False

    @property
    def flag(self) -> str:
        """The option that asks for a process, or empty."""
        return "--devices" if self.devices else "--keep-loaded" if self.keep_loaded else ""


def open_engine(
    session: Session,
    address: str,
    bill: Bill,
    character: Character,
    settings: Settings | None = None,
    workers: Workers | None = None,
) -> Engine:
    """The engine of that address for plans of the bill's stages; nothing heavy is loaded before it runs.

    Raises `UsageError` for an engine or card that is not known, and what keeps a file of the bill from being here.
    """
    scheme = scheme_of(address)
    workers = workers or Workers()
    if (scheme.is_remote or scheme.has_workers) and workers.flag:
        raise UsageError(f"{workers.flag} is for engines on this machine; '{address}' has processes of its own")
    if scheme.runs_graphs:
        from sosie.api.comfy_graphs import open_compiler

        return open_graphs(session, address, open_compiler(session, bill))
    paths: Mapping[str, Path] = {}
    if scheme.reads != "nothing":
        paths = bill.paths if scheme.reads == "models" else session.reference_paths(character)
    if not workers.flag:
        return make_engine(session, address, paths, settings)
    from sosie.engines.crew import Crew, Member
    from sosie.engines.resident import ResidentEngine
    from sosie.engines.resident_protocol import Role

    def worker(card: str) -> ResidentEngine:
        role = Role(str(session.workspace.root.resolve()), address, settings or Settings(), card)
        return ResidentEngine(session.workspace, role, paths, workers.keep_loaded, workers.watched)

    if not workers.devices:
        return worker("")
    cards = choose_cards(workers.devices, installed_cards())
    return Crew([Member(str(card), worker(card.device)) for _ in range(PLACES) for card in cards])


def open_graphs(session: Session, address: str, compiler: Compiler, variant: str = "") -> Engine:
    """The engine of that address with ComfyUI graphs that this compiler makes (`engines.comfy.reach.Graphs`).

    Raises `UsageError` for an engine that runs no graphs.
    """
    if not scheme_of(address).runs_graphs:
        raise UsageError(f"engine '{address}' runs no ComfyUI graphs", "add --engine comfy:http://127.0.0.1:8188")
    from sosie.engines.comfy.reach import Graphs
    from sosie.servers.doctor import with_doctors
    from sosie.servers.stamps import Stamps

    stamps = Stamps(session.workspace.state / "comfy-files.json")
    graphs = Graphs(compiler, partial(with_doctors, session.workspace), stamps, variant)
    return make_engine(session, address, {}, None, graphs)


def open_users_workflow(workspace: Workspace, path: Path, changes: Sequence[str], address: str) -> Workflow:
    """A workflow file of the user's for the servers of an address, which name the inputs of classes unknown here.

    Raises `UsageError` for an engine that runs no graphs, and what `open_workflow` raises.
    """
    if not scheme_of(address).runs_graphs:
        hint = "add --engine comfy:http://127.0.0.1:8188"
        raise UsageError(f"engine '{address}' runs no ComfyUI workflows", hint)
    from sosie.engines.comfy.workflow import open_workflow
    from sosie.servers.kinds import ServedKinds

    return open_workflow(path, changes, ServedKinds(address, workspace))


def make_engine(
    session: Session,
    address: str,
    paths: Mapping[str, Path],
    settings: Settings | None = None,
    graphs: Graphs | None = None,
    watched: Callable[[], bool] = unwatched,
) -> Engine:
    """The engine of that address in this process; it looks up in `paths` what it reads."""
    from sosie.api.faces import SessionFaces

    faces, source = SessionFaces(session, paths), session.source_image
    root = session.workspace.root
    supplies = Supplies(paths, faces, source, settings or Settings(), graphs, root, watched)
    return scheme_of(address).open(address, supplies)
