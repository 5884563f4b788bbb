"""The engine `ssh:`: a machine that is reached by ssh draws, with this very Sosie, what this one plans and judges.

It needs Linux, ssh and Python 3.11 to 3.13 there; all else is brought. Store, judges and delivery stay here.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from importlib.util import find_spec

from sosie.core import Finding, Plan, Progress, Render
from sosie.core.errors import EngineError, LostError, SosieError
from sosie.core.feed import LONG, feed_of
from sosie.core.finding import RuleError
from sosie.core.schema import digest, to_table
from sosie.engines.crew import Crew, Member
from sosie.engines.diffusers import check_plan
from sosie.engines.far.frames import Frame, packed
from sosie.engines.far.known import Known, known_of, room_for
from sosie.engines.far.link import Link
from sosie.engines.far.site import INNER, Site, read_site
from sosie.engines.far.spool import SpoolRole, read_render
from sosie.engines.resident_protocol import read_error
from sosie.engines.scheme import Scheme, Supplies
from sosie.machines.ssh import SshError
from sosie.machines.ssh.channel import Channel
from sosie.machines.ssh.steady import steady
from sosie.pods.setup.assets import Asset, bring, disk_for, missing_assets, place_of
from sosie.pods.setup.environment import Ground, probe, ready
from sosie.pods.setup.layout import whole_ones
from sosie.pods.setup.trees import bring_tree, tree_digest
from sosie.workspace.workspace import Workspace, open_workspace

AHEAD = 2
"""Plans that a machine has at a time: it draws the next one while the last one's pixels are on their way. A list of
plans it has whole, and goes on with it when nobody is connected."""

GLANCE = 0.25
KEPT = 16
"""Renders that stay there after they came, until they are surely on record here."""

ATTEND = 'mkdir -p -- "$1" && exec "$python" -P -m sosie.engines.far.attendant "$1" "$2"'


class FarEngine:
    """Keeps the Engine protocol, for one machine."""

    def __init__(self, site: Site, supplies: Supplies) -> None:
        if supplies.root is None:
            raise EngineError(f"engine 'ssh:{site.host.name}' was given no workspace")
        self._site = site
        self._host = site.host
        self._supplies = supplies
        self._workspace = open_workspace(supplies.root)
        self._known_once: Known | None = None
        self._ground: Ground | None = None
        self._link: Link | None = None
        self._spool = ""
        self._there: dict[str, str] = {}
        self._given: deque[str] = deque()

    @property
    def name(self) -> str:
        """That of the engine there: by whether the machine has a card."""
        if self._site.engine != INNER:
            return self._site.engine
        return "diffusers-cuda" if self._known.facts.gpus else "diffusers-cpu"

    def check(self, plan: Plan) -> list[Finding]:
        """What the doctor says of the machine, of what must be brought there, and of the plan."""
        try:
            known = self._known
            found = [*known.taken, *(one for one in known.findings if one.severity != "info")]
            left = missing_assets(self._host, known.layout, self._assets(plan))
            if not self._site.python and not whole_ones(self._host, [known.layout.environment(known.lock.name)]):
                found += room_for(self._host, known, disk_for(left) + known.lock.disk)
            else:
                found += room_for(self._host, known, disk_for(left))
        except RuleError as error:
            return [error.finding(self._host.name)]
        return [*found, *(check_plan(plan) if find_spec("torch") else [])]

    def run(self, plans: Iterable[Plan]) -> Iterator[Progress | Render]:
        """Renders every plan, in order. Raises `LostError` when the machine is gone, `EngineError` as its engine."""
        feed, waiting = feed_of(plans), deque[Plan]()
        ahead = max(AHEAD, len(plans)) if isinstance(plans, Sequence) else AHEAD
        try:
            while True:
                while len(waiting) < ahead and (plan := feed.take(0.0 if waiting else LONG)) is not None:
                    link = yield from self._opened(plan)
                    link.ask(plan.id, self._request(plan))
                    waiting.append(plan)
                if not waiting:
                    if feed.ended:
                        return
                    continue
                link = yield from self._opened(waiting[0])
                if (frame := link.next(GLANCE)) is not None:
                    yield from self._understood(frame, waiting)
        except SshError as error:
            raise LostError(error.message, error.hint) from error
        finally:
            for plan in waiting:
                if self._link is not None:
                    self._link.forget(plan.id)

    def close(self) -> None:
        """Lets go of the line; the worker there keeps its models for a quarter of an hour."""
        if self._link is not None:
            self._link.close()
            self._link = None

    @property
    def _known(self) -> Known:
        if self._known_once is None:
            self._known_once = known_of(self._site.host, self._site.python, self._site.patience)
        return self._known_once

    def _assets(self, plan: Plan) -> list[Asset]:
        paths = self._supplies.paths
        return [Asset(paths[asset.name], asset.sha256) for asset in plan.assets if asset.name in paths]

    def _opened(self, plan: Plan) -> Generator[Progress, None, Link]:
        """The line to a machine that has all that a plan needs."""
        known, patience = self._known, self._site.patience
        if self._ground is None:
            ground = yield from ready(self._host, known.layout, known.lock, self._site.python, patience)
            if known.facts.gpus:
                probe(self._host, ground, patience)
            self._ground = ground
        left = [asset for asset in self._assets(plan) if asset.sha256 not in self._there]
        if left:
            yield from bring(self._host, known.layout, self._ground, left, patience)
            self._there |= {asset.sha256: place_of(known.layout, asset) for asset in left}
        if self._link is None:
            self._link = self._begin(plan, known, self._ground)
        return self._link

    def _begin(self, plan: Plan, known: Known, ground: Ground) -> Link:
        """A line to an attendant whose worker has the plan's character."""
        folder = self._workspace.character_folder(plan.character.name)
        names = ["character.toml", *(reference.file for reference in plan.character.references)]
        tree = {f"characters/{plan.character.name}/{name}": folder / name for name in names}
        workspace = known.layout.workspace(tree_digest(dict(tree)))
        if not steady(lambda: whole_ones(self._host, [workspace]), self._site.patience):
            steady(lambda: bring_tree(self._host, dict(tree), workspace), self._site.patience)
        role = SpoolRole(workspace, self._supplies.settings, self._site.engine)
        self._spool = known.layout.spool(digest([to_table(role), ground.code, ground.python]))
        command = ground.command(ATTEND, self._spool, json.dumps(to_table(role)))
        return Link(self._host.name, lambda: Channel(self._host, command), self._site.patience)

    def _request(self, plan: Plan) -> bytes:
        files = {asset.name: self._there[asset.sha256] for asset in plan.assets if asset.sha256 in self._there}
        table = {"do": "draw", "id": plan.id, "plan": plan.to_json(), "files": files}
        if not plan.source:
            return packed(table)
        image = self._supplies.source(plan.source).convert("RGB")
        return packed({**table, "size": list(image.size)}, image.tobytes())

    def _understood(self, frame: Frame, waiting: deque[Plan]) -> Iterator[Progress | Render]:
        table, data = frame
        plan = next((one for one in waiting if one.id == table.get("id")), None)
        if plan is None:
            return
        try:
            match table.get("say"):
                case "progress":
                    yield Progress(str(table["phase"]), float(table["step"]), float(table["steps"]))
                case "render":
                    waiting.remove(plan)
                    render = self._checked(read_render(table, data, plan))
                    self._note(plan)
                    yield render
                    self._settle(plan)
                case "error":
                    waiting.remove(plan)
                    error = read_error(table)
                    raise type(error)(f"{self._host.name}: {error.message}", error.hint)
                case _:
                    pass
        except (OSError, KeyError, TypeError, ValueError, SosieError) as error:
            if isinstance(error, SosieError) and table.get("say") == "error":
                raise
            raise LostError(f"{self._host.name} sent what is no render: {error}", "look at the machine") from error

    def _checked(self, render: Render) -> Render:
        if render.engine != self.name:
            hint = "look at its card: nvidia-smi; sosie doctor RECIPE --from FILE judges what it says"
            raise LostError(f"{self._host.name} draws as {render.engine}, expected {self.name}", hint)
        return render

    def _note(self, plan: Plan) -> None:
        if self._site.drawn is not None:
            with self._site.drawn.open("a", encoding="ascii") as stream:
                stream.write(f"{plan.id}\n")

    def _settle(self, plan: Plan) -> None:
        """Lets the machine remove a render that came some time ago."""
        self._given.append(plan.id)
        while len(self._given) > KEPT and self._link is not None:
            self._link.drop(self._given.popleft())


def far_engine(sites: Iterable[Site], supplies: Supplies) -> FarEngine | Crew:
    """The engine of one machine, or a crew of several, each of which draws what no other does."""
    engines = [(site.host.name, FarEngine(site, supplies)) for site in sites]
    if len(engines) == 1:
        return engines[0][1]
    return Crew([Member(name, engine) for name, engine in engines])


def _sites(address: str) -> list[Site]:
    return [read_site(one) for one in address.partition(":")[2].split(",")]


def _open(address: str, supplies: Supplies) -> FarEngine | Crew:
    return far_engine(_sites(address), supplies)


def _examine(address: str, _: Workspace) -> Iterator[tuple[str, tuple[Finding, ...]]]:
    from sosie.engines.far.examine import examine_sites

    return examine_sites(_sites(address))


SCHEME = Scheme("ssh", "ssh:USER@HOST", _open, has_workers=True, examine=_examine)
