"""A training that is begun here and done elsewhere: what it needs goes there, what it says and makes comes here.

The process there needs no line. Here the journal is read from its beginning by every command that follows it, so that
a line that breaks, or a command that was ended, changes nothing.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sosie.api.trainings.journal import FILE, read_event
from sosie.api.trainings.work import Work
from sosie.api.trainings.worker import ORDER, order_table
from sosie.core import Note, Progress
from sosie.core.errors import LostError, UsageError
from sosie.core.finding import has_errors
from sosie.core.schema import to_table
from sosie.dataset.build import dataset_folder
from sosie.dataset.image_set import image_files
from sosie.engines.far.known import known_of, room_for
from sosie.engines.far.pod import pod_sites
from sosie.engines.far.site import Site, read_site
from sosie.files.images import read_image
from sosie.files.whole import make_folder
from sosie.machines.ssh import Command, Host, pull, run
from sosie.machines.ssh.detached import Standing, begin, look
from sosie.machines.ssh.steady import Patience, steady
from sosie.pods.pod import find_pod
from sosie.pods.setup.assets import Asset, bring, disk_for, missing_assets, place_of
from sosie.pods.setup.environment import Ground, probe, ready
from sosie.pods.setup.layout import Layout, whole_ones
from sosie.pods.setup.trees import bring_tree, tree_digest
from sosie.training.events import Ended, Event, RolledBack, Stepped
from sosie.workspace.bill import resolve_one
from sosie.workspace.characters import without_lora
from sosie.workspace.session import Session
from sosie.workspace.workspace import Workspace

if TYPE_CHECKING:
    from sosie.loop.training_job import TrainOrder

GLANCE = 2.0
MOST = 900_000
"""Bytes of the journal that one look brings."""

DEATHS = 3
"""So often a process that was killed is begun again."""

BY_SIGNAL = 128
"""Exit codes from here on are of a process that was killed."""

TRAIN = 'exec "$python" -P -m sosie.api.trainings.worker "$1"'
READ = 'tail -c "+$2" -- "$1" 2>/dev/null | head -c "$3"; exit 0'


def train_far(session: Session, work: Work) -> Generator[Event | Note]:
    """What the training says, on the machine of the order; the file that it delivers is `work.job.output` here.

    Raises what ended it there, `LostError` for a machine that is gone, `SshError` for one that cannot be used.
    """
    site = site_of(session.workspace, work.order.engine)
    known, patience = known_of(site.host, site.python, site.patience), site.patience
    assets = _assets(session.workspace, work)
    left = steady(lambda: missing_assets(site.host, known.layout, list(assets.values())), patience)
    is_ready = bool(site.python or whole_ones(site.host, [known.layout.environment(known.lock.name)]))
    needed = disk_for(left) + (0 if is_ready else known.lock.disk)
    yield from known.taken
    findings = [*known.findings, *room_for(site.host, known, needed)]
    if has_errors(findings):
        yield from findings
        raise UsageError(f"nothing was trained: {site.host.name} cannot do it", "take another machine")
    ground = yield from ready(site.host, known.layout, known.lock, site.python, patience)
    if known.facts.gpus:
        probe(site.host, ground, patience)
    yield from bring(site.host, known.layout, ground, list(assets.values()), patience)
    places = {name: place_of(known.layout, asset) for name, asset in assets.items()}
    run_there = _Run(site.host, known.layout, ground, patience)
    folder = yield from run_there.brought(_tree(session, work.order, places))
    yield from run_there.followed(folder, work)


def site_of(workspace: Workspace, address: str) -> Site:
    """The machine of `ssh:USER@HOST` or `pod:NAME`. Raises `UsageError` for another engine, or several machines."""
    scheme, _, rest = address.partition(":")
    if scheme not in ("ssh", "pod") or not rest:
        raise UsageError(f"'{address}' is no machine that trains", "--engine ssh:USER@HOST or --engine pod:NAME")
    if "," in rest:
        raise UsageError(f"'{address}' names several machines; one LoRA is trained on one", "name one of them")
    return read_site(rest) if scheme == "ssh" else pod_sites(workspace, address)[0]


def price_of(workspace: Workspace, address: str) -> float | None:
    """What an hour of the machine of `address` costs, in US dollars: of a pod what was agreed; None of any other."""
    scheme, _, rest = address.partition(":")
    return find_pod(workspace, rest.partition("?")[0]).price if scheme == "pod" and "," not in rest else None


@dataclass(frozen=True)
class _Run:
    """A machine that is ready."""

    host: Host
    layout: Layout
    ground: Ground
    patience: Patience

    def brought(self, tree: dict[str, Path | bytes]) -> Generator[Progress, None, str]:
        """The folder there with the workspace of this order, brought once."""
        folder = self.layout.training(tree_digest(tree))
        if not steady(lambda: whole_ones(self.host, [folder]), self.patience):
            yield Progress("bringing the training set", 0, 0)
            steady(lambda: bring_tree(self.host, tree, folder), self.patience)
        return folder

    def followed(self, folder: str, work: Work) -> Generator[Event | Note]:
        """Begins the training, unless it is under way or over, and tells what it says until its end."""
        step, deaths, offset, rest = 0, 0, 1, b""
        if self._standing(folder).state != "runs" and not self._is_over(folder):
            self._begin(folder)
        while True:
            standing = self._standing(folder)  # before the journal: what was said at the end is in it then
            while piece := self._piece(folder, offset):
                offset += len(piece)
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    event = read_event(line, lambda name: self._picture(folder, name))
                    if isinstance(event, Stepped):
                        if event.step <= step:  # it was killed, and went on from an earlier state
                            yield RolledBack(event.step - 1, 1.0)
                        step = event.step
                    if isinstance(event, Ended):
                        yield self._fetched(event, work)
                        return
                    if event is not None:
                        yield event
            if standing.state == "runs":
                time.sleep(GLANCE)
                continue
            deaths += 1
            if deaths >= DEATHS or (standing.state == "ended" and standing.code < BY_SIGNAL):
                said = standing.last_line or f"it was {standing.state}"
                hint = f"its log: {folder}/work/log on {self.host.name}; the same command goes on from its last state"
                raise LostError(f"the training on {self.host.name} ended without a result: {said}", hint)
            yield Note(f"the training on {self.host.name} was killed; it goes on from its last state")
            self._begin(folder)

    def _is_over(self, folder: str) -> bool:
        """Whether a training that ended has nothing more to do: it was delivered."""
        script = 'tail -n 1 -- "$1" 2>/dev/null; exit 0'
        ran = steady(lambda: run(self.host, Command(script, (f"{folder}/journal/{FILE}",))), self.patience)
        return b'"event": "Ended"' in ran.out and b'"path": ""' not in ran.out

    def _begin(self, folder: str) -> None:
        command = self.ground.command(TRAIN, folder)
        steady(lambda: begin(self.host, f"{folder}/work", command.script, command.arguments), self.patience)

    def _standing(self, folder: str) -> Standing:
        return steady(lambda: look(self.host, f"{folder}/work"), self.patience)

    def _piece(self, folder: str, offset: int) -> bytes:
        command = Command(READ, (f"{folder}/journal/{FILE}", str(offset), str(MOST)))
        return steady(lambda: run(self.host, command), self.patience).out

    def _picture(self, folder: str, name: str) -> Any:
        with tempfile.TemporaryDirectory() as place:
            return read_image(self._pulled(f"{folder}/journal/{name}", Path(place) / Path(name).name))

    def _pulled(self, there: str, here: Path) -> Path:
        return steady(lambda: pull(self.host, there, here), self.patience)

    def _fetched(self, ended: Ended, work: Work) -> Ended:
        """The end, with the file that was delivered at its place here."""
        if ended.path is None:
            return ended
        make_folder(work.job.output.parent)
        return replace(ended, path=self._pulled(str(ended.path), work.job.output))


def _assets(workspace: Workspace, work: Work) -> dict[str, Asset]:
    """The base, its parts, and the LoRAs that it begins with, by the names that are asked for."""
    found = {entry.name: entry for entry in work.bill}
    training = work.order.recipe.training
    for name in (work.order.continue_from, training.assistant if training else ""):
        if name and name not in found:
            found[name] = resolve_one(workspace, name)
    return {name: Asset(entry.located, entry.sha256) for name, entry in found.items()}


def _tree(session: Session, order: TrainOrder, places: dict[str, str]) -> dict[str, Path | bytes]:
    """A workspace with the characters, their sets and the order."""
    recipe = to_table(order.recipe)
    models = "".join(f"{json.dumps(name)} = {json.dumps(place)}\n" for name, place in places.items())
    tree: dict[str, Path | bytes] = {
        "sosie.toml": f"[models]\n{models}".encode(),
        ORDER: json.dumps(order_table(order, recipe), sort_keys=True).encode(),
    }
    for character in order.characters:
        home = session.workspace.character_folder(character.name)
        toml = (home / "character.toml").read_text(encoding="utf-8")
        for lora in character.loras:  # what is trained knows nothing of those that are there
            toml = without_lora(toml, lora.file, home / "character.toml")
        tree[f"characters/{character.name}/character.toml"] = toml.encode()
        tree |= {f"characters/{character.name}/{one.file}": home / one.file for one in character.references}
        tree |= _below(dataset_folder(session, character), f"characters/{character.name}/dataset")
    if order.regularisation is not None:
        tree |= _below(order.regularisation, "regularisation")
    return tree


def _below(folder: Path, name: str) -> dict[str, Path | bytes]:
    paths: Iterable[Path] = sorted({*image_files(folder), *folder.glob("*.jsonl"), *folder.glob("*.txt")})
    return {f"{name}/{path.relative_to(folder).as_posix()}": path for path in paths}
