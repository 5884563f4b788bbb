"""Models on a machine, by their digests: fetched there from where they came from, or brought from here."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from sosie.core.event import Progress
from sosie.fetch.listed import Task
from sosie.fetch.sources import is_source
from sosie.files.foreign import object_or_none, parse_json
from sosie.machines.ssh import Command, Host, SshError, push, run
from sosie.machines.ssh.detached import begin, look
from sosie.machines.ssh.steady import Patience, steady
from sosie.pods.setup.environment import GLANCE, Ground
from sosie.pods.setup.layout import Layout, whole_ones
from sosie.pods.setup.trees import X013, bring_tree
from sosie.workspace.origin import read_origin

SMALL = 32 * 2**20
"""Files of a folder up to so many bytes go as one; a larger one goes on where a broken line left it."""

FETCH = 'exec "$python" -P -m sosie.fetch.listed "$1"'


@dataclass(frozen=True)
class Asset:
    """A model file or folder of this machine, by its digest (`files.digest.asset_digest`)."""

    path: Path
    sha256: str

    @property
    def bytes(self) -> int:
        """What it takes of the disk."""
        return sum(path.stat().st_size for path in self.files.values())

    @property
    def files(self) -> dict[str, Path]:
        """Its files by their names below its own; of a file that itself. Hidden ones are no part of it."""
        if not self.path.is_dir():
            return {self.path.name: self.path}
        found: dict[str, Path] = {}
        for path in sorted(self.path.rglob("*")):
            name = path.relative_to(self.path)
            if path.is_file() and not any(part.startswith(".") for part in name.parts):
                found[f"{self.path.name}/{name.as_posix()}"] = path
        return found

    @property
    def source(self) -> str:
        """Where the very same file can be fetched, or empty."""
        origin = read_origin(self.path) if self.path.is_file() else None
        is_same = origin is not None and not origin.converted and origin.sha256 == self.sha256
        return origin.source if origin is not None and is_same and is_source(origin.source) else ""


def missing_assets(host: Host, layout: Layout, assets: Sequence[Asset]) -> tuple[Asset, ...]:
    """Those that are not there yet. Raises `SshError`."""
    once = {asset.sha256: asset for asset in assets}
    there = whole_ones(host, [layout.asset(sha256) for sha256 in once])
    return tuple(asset for sha256, asset in once.items() if layout.asset(sha256) not in there)


def disk_for(assets: Sequence[Asset]) -> int:
    """Bytes that bringing them takes, where the largest is there twice for a while: packed, and as it is."""
    sizes = [asset.bytes for asset in assets]
    return sum(sizes) + max(sizes, default=0)


def place_of(layout: Layout, asset: Asset) -> str:
    """The absolute path of an asset there."""
    return f"{layout.asset(asset.sha256)}/{asset.path.name}"


def bring(
    host: Host, layout: Layout, ground: Ground, assets: Sequence[Asset], patience: Patience
) -> Generator[Progress]:
    """Has every asset there, whole and verified; progress is in bytes.

    What says where it came from is fetched by the machine itself, which has no token of this one's; what it cannot
    fetch, and all else, is brought from here. Raises `SshError` as `push` does.
    """
    left = steady(lambda: missing_assets(host, layout, assets), patience)
    if not left:
        return
    fetched = [asset for asset in left if asset.source]
    if fetched:
        yield from _fetched(host, layout, ground, fetched, patience)
        left = steady(lambda: missing_assets(host, layout, left), patience)
    done, total = 0, sum(asset.bytes for asset in left)
    for asset in left:
        yield Progress("bring", done, total)
        steady(lambda asset=asset: _push(host, layout, asset), patience)
        done += asset.bytes


def _fetched(
    host: Host, layout: Layout, ground: Ground, assets: Sequence[Asset], patience: Patience
) -> Generator[Progress]:
    """Has the machine fetch what it can."""
    tasks = [Task(asset.source, asset.sha256, asset.bytes, place_of(layout, asset)) for asset in assets]
    name = f"fetch-{assets[0].sha256[:16]}-{len(assets)}"
    file, total = f"{layout.root}/{name}.json", sum(task.bytes for task in tasks)
    text = json.dumps([asdict(task) for task in tasks]).encode()
    command = Command('mkdir -p -- "$(dirname -- "$1")" && cat >"$1"', (file,), [text])
    steady(lambda: run(host, command), patience)
    words = ground.command(FETCH, file)
    steady(lambda: begin(host, layout.job(name), words.script, words.arguments), patience)
    while steady(lambda: look(host, layout.job(name)), patience).state == "runs":
        yield Progress("bring", _done(host, file, patience), total)
        time.sleep(GLANCE)


def _done(host: Host, file: str, patience: Patience) -> float:
    ran = steady(lambda: run(host, Command('cat -- "$1.status" 2>/dev/null', (file,))), patience)
    try:
        table = object_or_none(parse_json(ran.out)) or {}
        return float(table.get("done", 0))
    except (ValueError, TypeError):
        return 0.0


def _push(host: Host, layout: Layout, asset: Asset) -> None:
    """Brings one asset. A tree is unpacked beside what is large of it, which is moved in last."""
    folder, found = layout.asset(asset.sha256), asset.files
    large = {name: path for name, path in found.items() if path.stat().st_size > SMALL}
    small = {name: path for name, path in found.items() if name not in large}
    for name, path in large.items():
        push(host, path, f"{folder}.large/{name}")
    stage = f"{folder}.small" if large else folder
    if small:
        bring_tree(host, dict(small), stage)
    if large:
        names = [str(PurePosixPath(name)) for name in large]
        ran = run(host, Command(MERGE, (folder, *names)))
        if ran.code:
            raise SshError(X013, f"{host.name} cannot put {asset.path.name} together: {ran.err}", "is its disk full?")


MERGE = """
folder=$1; shift
mkdir -p -- "$folder.small" || exit 4
for name do
mkdir -p -- "$(dirname -- "$folder.small/$name")" && mv -- "$folder.large/$name" "$folder.small/$name" || exit 5
done
: >"$folder.small/.whole"
rm -rf -- "$folder" "$folder.large"; mv -- "$folder.small" "$folder"
"""
