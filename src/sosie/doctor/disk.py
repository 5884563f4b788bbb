"""The disk plan: what a recipe's images or a training run will take, row by row, before it starts.

Sizes are bytes; text shows GB (10^9, as disks and pods are sold) and GiB (2^30, as systems count).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sosie.core import Finding
from sosie.core.finding import Rule
from sosie.families import figures_of
from sosie.workspace.bill import Bill

D010 = Rule("SOS-D010", "error", "The pod's disk is too small")
D011 = Rule("SOS-D011", "warning", "The pod's disk leaves less than the reserve")
D012 = Rule("SOS-D012", "error", "The disk has too little free space for the run")
D013 = Rule("SOS-D013", "warning", "The disk's free space leaves less than the reserve")
D015 = Rule("SOS-D015", "info", "The size of a file is not known")
D016 = Rule("SOS-D016", "warning", "Downloads that were broken off take space")
D017 = Rule("SOS-D017", "warning", "The free space could not be read")

GB = 10**9
ENVIRONMENT = 7 * GB
"""Python with torch, diffusers and their CUDA libraries, unpacked."""

IMAGE = 10 * GB
"""A container image with CUDA. Whether it counts against a pod's quota differs; assumed that it does."""

MARGIN_PERCENT = 15
FLOOR = 5 * GB
"""The reserve: 15 % of models, environment and image, whose sizes are estimates, and 5 GB for temporary files."""

BYTES_PER_PIXEL = {"png": 1.5, "webp": 0.4}
LATENT_BYTES_PER_PIXEL = 0.5
TEXT_EMBEDDING = 1_000_000
"""A cached latent of 1024 x 1024 px takes 0.52 MB, the text embedding of a caption of 200 tokens about 1 MB."""

PARTIAL_SUFFIXES = (".incomplete", ".part", ".partial", ".aria2", ".crdownload")
MAX_ENTRIES = 100_000


@dataclass(frozen=True)
class DiskFile:
    """A model file that a run needs; `bytes` is None when its size is not known, `present` if it is there already."""

    name: str
    bytes: int | None
    present: bool = False


@dataclass(frozen=True)
class OutputImages:
    """The images that are kept, of `pixels` pixels each."""

    count: int
    pixels: int = 1024 * 1024
    format: Literal["png", "webp"] = "png"


@dataclass(frozen=True)
class TrainingRun:
    """What a training run writes.

    Checkpoints of `checkpoint` bytes (None: not known), of which `kept` stay; `optimiser` bytes of its state beside the
    newest (0: none is saved); a cache of the latents and captions of `images` images of `pixels` pixels.
    """

    checkpoint: int | None
    kept: int
    images: int
    optimiser: int = 0
    pixels: int = 1024 * 1024


@dataclass(frozen=True)
class DiskNeeds:
    """What a disk plan is made of. `pod` counts environment and container image: a rented machine has none yet.

    `families` gives estimates for files whose size is not known.
    """

    files: tuple[DiskFile, ...] = ()
    families: tuple[str, ...] = ()
    outputs: OutputImages | None = None
    training: TrainingRun | None = None
    pod: bool = False


@dataclass(frozen=True)
class DiskRow:
    """One part of the plan: its bytes, how they were computed, and how many of them are on the disk already."""

    name: str
    bytes: int
    how: str
    present: int = 0


@dataclass(frozen=True)
class DiskPlan:
    """The rows, and the names of files whose size is not known. The row `reserve` is meant to stay free."""

    rows: tuple[DiskRow, ...]
    unknown: tuple[str, ...] = field(default=())

    @property
    def bytes(self) -> int:
        """All rows together: what an empty disk must hold."""
        return sum(row.bytes for row in self.rows)

    @property
    def reserve(self) -> int:
        """What is meant to stay free."""
        return sum(row.bytes for row in self.rows if row.name == "reserve")

    @property
    def to_come(self) -> int:
        """What is not on the disk yet."""
        return self.bytes - sum(row.present for row in self.rows)


def plan_disk(needs: DiskNeeds) -> DiskPlan:
    """The plan, row by row.

    1.15 x (models + environment + image) + 2 x the largest download + checkpoints + cache + outputs + 5 GB.
    """
    unknown = tuple(file.name for file in needs.files if file.bytes is None)
    models = _models(needs, bool(unknown))
    fixed = [models]
    if needs.pod:
        fixed.append(DiskRow("environment", ENVIRONMENT, "torch, diffusers and their CUDA libraries"))
        fixed.append(DiskRow("image", IMAGE, "container with CUDA, assumed to count against the quota"))
    downloads = [file.bytes or 0 for file in needs.files if needs.pod or not file.present]
    if unknown:
        downloads.extend(figures_of(family).largest_file or 0 for family in needs.families)
    largest = max(downloads, default=0)
    rows = [*fixed, DiskRow("downloads", 2 * largest, f"2 x the largest download ({gigabytes(largest)})")]
    rows.extend(_training(needs.training))
    if needs.outputs is not None:
        kept = needs.outputs
        each = round(kept.pixels * BYTES_PER_PIXEL[kept.format])
        how = f"{kept.count:,} {kept.format.upper()} images of about {each / 1e6:.1f} MB"
        rows.append(DiskRow("outputs", kept.count * each, how))
    margin = sum(row.bytes - row.present for row in fixed) * MARGIN_PERCENT // 100
    rows.append(DiskRow("reserve", margin + FLOOR, f"{MARGIN_PERCENT} % of what is to be fetched, and 5 GB"))
    if needs.training is not None and needs.training.checkpoint is None:
        unknown = (*unknown, "a checkpoint")
    return DiskPlan(tuple(rows), unknown)


def _models(needs: DiskNeeds, guess: bool) -> DiskRow:
    known = sum(file.bytes or 0 for file in needs.files)
    present = 0 if needs.pod else sum(file.bytes or 0 for file in needs.files if file.present)
    families = dict.fromkeys(needs.families)
    total = sum(figures_of(family).files or 0 for family in families)
    if guess and total > known:
        return DiskRow("models", total, f"estimate for {' and '.join(families)}; not every size is known", present)
    return DiskRow("models", known, f"{len(needs.files)} file{'s' if len(needs.files) != 1 else ''}", present)


def _training(run: TrainingRun | None) -> Iterator[DiskRow]:
    if run is None:
        return
    if run.checkpoint is not None:
        saves = run.kept + 1
        how = f"({run.kept} kept + 1 being written) x {gigabytes(run.checkpoint)}"
        if run.optimiser:
            how += f", and 2 x {gigabytes(run.optimiser)} of optimiser state"
        yield DiskRow("checkpoints", saves * run.checkpoint + 2 * run.optimiser, how)
    each = round(run.pixels * LATENT_BYTES_PER_PIXEL) + TEXT_EMBEDDING
    yield DiskRow("cache", run.images * each, f"latent and caption of {run.images:,} images, {each / 1e6:.1f} MB each")


def check_quota(plan: DiskPlan, quota: int) -> list[Finding]:
    """SOS-D010 if a pod's empty disk of `quota` bytes is too small, D011 if only the reserve does not fit; D015."""
    hint = f"rent at least {_rounded_up(plan.bytes)} GB: a pod's disk cannot grow after it was created"
    parts = {row.name: row.bytes for row in plan.rows}
    findings = [
        (D010 if severity == "error" else D011).at("disk", message, hint)
        for severity, message in _shortage(parts, quota, "the pod's disk")
    ]
    return [*findings, *_unknown(plan)]


def check_free(plan: DiskPlan, folder: Path) -> list[Finding]:
    """SOS-D012 if the disk of `folder` is too small for what is to come, D013 for the reserve alone; D015 to D017."""
    try:
        existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        free = shutil.disk_usage(existing).free
    except OSError as error:
        message = f"the free space of {folder} could not be read: {error.strerror or error}"
        return [D017.at(str(folder), message, "check the folder's rights"), *_unknown(plan)]
    hint = "free some space, keep fewer checkpoints, or use another disk: --workspace"
    parts = {row.name: row.bytes - row.present for row in plan.rows}
    findings = [
        (D012 if severity == "error" else D013).at(str(folder), message, hint)
        for severity, message in _shortage(parts, free, f"the disk of {folder}")
    ]
    return [*findings, *_unknown(plan), *check_leftovers(folder)]


def _shortage(parts: dict[str, int], available: int, where: str) -> Iterator[tuple[Literal["error", "warning"], str]]:
    """What to say if `parts` (bytes by row) need more than `available`: an error, or a warning for the reserve."""
    reserve = parts.get("reserve", 0)
    written = sum(parts.values()) - reserve
    if written + reserve <= available:
        return
    order = sorted((name for name in parts if name != "reserve"), key=lambda name: parts[name], reverse=True)
    largest = ", ".join(f"{name} {gigabytes(parts[name])}" for name in order[:3])
    if written > available:
        message = (
            f"disk full at {gigabytes(written)} of {gigabytes(available)}: {where} has {both(available)}, the run "
            f"writes {both(written)} ({largest}) and should leave {gigabytes(reserve)} free"
        )
        yield "error", message
    else:
        message = (
            f"{where} has {both(available)}; the run writes {both(written)} ({largest}) and leaves "
            f"{gigabytes(available - written)}, expected {gigabytes(reserve)} as a reserve"
        )
        yield "warning", message


def _unknown(plan: DiskPlan) -> list[Finding]:
    if not plan.unknown:
        return []
    message = f"the size of {', '.join(plan.unknown[:5])}{' and others' if len(plan.unknown) > 5 else ''} is not known"
    hint = "the plan uses what the family's files usually take: sosie model list"
    return [D015.at("disk", message, hint)]


def check_leftovers(folder: Path) -> list[Finding]:
    """SOS-D016 for partial downloads below `folder`; links are not followed, at most 100,000 entries are looked at."""
    sizes: list[tuple[int, str]] = []
    for path in files_below(folder):
        if path.name.lower().endswith(PARTIAL_SUFFIXES):
            try:
                sizes.append((path.lstat().st_size, str(path)))
            except OSError:
                continue
    total = sum(size for size, _ in sizes)
    if total == 0:
        return []
    largest = max(sizes)[1]
    message = f"{len(sizes)} partial downloads below {folder} take {both(total)}, the largest is {largest}"
    return [D016.at(str(folder), message, "finish the downloads, or remove the files")]


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below `folder`, at most 100,000 of them; links are not followed."""
    seen = 0
    for place, _, names in os.walk(folder, onerror=None, followlinks=False):
        for name in names:
            seen += 1
            if seen > MAX_ENTRIES:
                return
            yield Path(place) / name


def disk_files(bill: Bill) -> tuple[DiskFile, ...]:
    """The files of a bill, each once, with their sizes where they are there; a folder counts as a whole."""
    files = {entry.name: entry.path.resolve() if entry.path else None for entry in bill}
    found = {path for path in files.values() if path is not None}
    sizes: dict[Path | str, DiskFile] = {}
    for name, path in files.items():
        if path is None:
            sizes[name] = DiskFile(name, None)
        elif not any(parent in found for parent in path.parents):
            sizes.setdefault(path, DiskFile(name, _size(path), present=True))
    return tuple(sizes.values())


def _size(path: Path) -> int | None:
    """The bytes of a file, or of all files below a folder (a blob that two links name counts once)."""
    try:
        if path.is_file():
            return path.stat().st_size
        sizes: dict[tuple[int, int], int] = {}
        for file in files_below(path):
            status = file.stat()
            sizes[status.st_dev, status.st_ino] = status.st_size
        return sum(sizes.values())
    except OSError:
        return None


def gigabytes(size: int) -> str:
    """The size in GB (10^9 bytes) with one digit, as disks are sold."""
    return f"{size / GB:.1f} GB"


def both(size: int) -> str:
    """The size in GB and GiB, since systems and shops count differently."""
    return f"{size / GB:.1f} GB ({size / 2**30:.1f} GiB)"


def _rounded_up(size: int) -> int:
    """Whole tens of GB, the next above."""
    return -(-size // (10 * GB)) * 10


def disk_table(plan: DiskPlan, available: int | None = None) -> str:
    """The plan for people: a line a row with GB, GiB and how it was computed, then the sum, then what there is."""
    lines = [f"{'part':<12}{'GB':>9}{'GiB':>9}  how"]
    rows: Sequence[DiskRow] = [*plan.rows, DiskRow("needed", plan.bytes, "all of the above")]
    if plan.to_come != plan.bytes:
        rows = [*rows, DiskRow("to come", plan.to_come, "without what is there already")]
    if available is not None:
        rows = [*rows, DiskRow("available", available, "")]
    lines.extend(f"{row.name:<12}{row.bytes / GB:>9.1f}{row.bytes / 2**30:>9.1f}  {row.how}".rstrip() for row in rows)
    return "\n".join(lines)
