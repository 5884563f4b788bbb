"""Which families' models stay on the GPU, which rest in main memory, and which are closed.

A recipe may draw with several families, one stage after the other. What fits stays; a family that must make room
rests: its weights wait in main memory, seconds away. Where main memory does not hold them either, it is
closed and loaded again when its turn comes. On a CPU there is nowhere to rest.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol

from sosie.core import Finding, Plan, Stage
from sosie.core.finding import Rule
from sosie.core.plan import asset_names
from sosie.families import families, figures_of
from sosie.families.contract.draws import Runner, StageOutput
from sosie.files.model_file import Known, identify
from sosie.files.storage import in_memory
from sosie.machines.memory import available_memory

E029 = Rule("SOS-E029", "info", "Models take turns on the GPU")

GB = 1e9
MARGIN = 1.08
"""What fits must fit so many times over."""

SMALL = 0.5 * GB
"""What holds less than this many bytes stays: little is won by moving it."""

Move = Literal["rest", "close"]


@dataclass(frozen=True)
class Free:
    """Free bytes where is computed (`device`) and in main memory; on a CPU they are the same (`main` is None)."""

    device: int
    main: int | None


def decide(need: int, held: Mapping[str, int], free: Free) -> dict[str, Move]:
    """Which of the families that hold memory must leave, in this order, so that `need` more bytes fit.

    The smallest family that suffices leaves, else the largest and then the next. It rests if main memory has room for
    it. Where even all of them are not enough all large ones leave: the family that comes finds a cheaper way itself.
    """
    missing, main = need * MARGIN - free.device, free.main
    staying = {family: size for family, size in held.items() if size >= SMALL}
    moves: dict[str, Move] = {}
    while missing > 0 and staying:
        enough = [family for family, size in staying.items() if size >= missing]
        family = min(enough, key=staying.__getitem__) if enough else max(staying, key=staying.__getitem__)
        size = staying.pop(family)
        rests = main is not None and size * MARGIN <= main
        moves[family] = "rest" if rests else "close"
        main = main - size if rests and main is not None else main
        missing -= size
    return moves


class Memory(Protocol):
    """The memory that models are held in; `scale` is its bytes for one byte of a file."""

    scale: int

    def free(self) -> Free:
        """What is free now, what a caching allocator keeps for itself included."""
        ...

    def used(self) -> int | None:
        """Bytes that models of this process hold where is computed; None: not known."""
        ...


class CardMemory:
    """A GPU's, as torch knows it."""

    scale = 1

    def free(self) -> Free:
        """Free bytes of the GPU and of main memory."""
        from torch import cuda

        cached = cuda.memory_reserved() - cuda.memory_allocated()
        return Free(cuda.mem_get_info()[0] + cached, free_memory())

    def used(self) -> int:
        """Bytes of all tensors on the GPU."""
        from torch import cuda

        return cuda.memory_allocated()


class MainMemory:
    """A CPU's: models are stored in 16 bits, and computed in fp32 there."""

    scale = 2

    def free(self) -> Free:
        """Free bytes of main memory."""
        return Free(free_memory(), None)

    def used(self) -> None:
        """Not known: tensors are not told from the rest of the process."""
        return


def free_memory() -> int:
    """Free bytes of main memory, within a container's limit; where nobody can tell, more than anything needs."""
    free = available_memory()
    return sys.maxsize if free is None else free


class Residency:
    """The runners of the families in use, one each, and what each holds."""

    def __init__(self, make: Callable[[str], Runner], open_memory: Callable[[], Memory]) -> None:
        self._make = make
        self._open_memory = open_memory
        self._runners: dict[str, Runner] = {}
        self._held: dict[str, int] = {}
        self._told: set[tuple[str, str, Move]] = set()
        self._findings: list[Finding] = []

    def run(
        self, stage: Stage, plan: Plan, paths: Mapping[str, Path], work: Callable[[Runner], StageOutput]
    ) -> StageOutput:
        """What `work` returns for the stage's runner, once others have made room for it."""
        self._make_room(stage, plan, paths)
        if stage.family not in self._runners:
            self._runners[stage.family] = self._make(stage.family)
        before = self._memory.used()
        try:
            return work(self._runners[stage.family])
        finally:
            self._count(stage.family, before, self._needed(stage.family, plan, paths))

    @cached_property
    def _memory(self) -> Memory:
        return self._open_memory()

    def findings(self) -> tuple[Finding, ...]:
        """Who rests or was closed, each pair of families once, since this was last asked."""
        found, self._findings = tuple(self._findings), []
        return found

    def close(self) -> None:
        """Frees all weights."""
        for runner in self._runners.values():
            runner.close()
        self._runners.clear()
        self._held.clear()

    def _make_room(self, stage: Stage, plan: Plan, paths: Mapping[str, Path]) -> None:
        others = {family: size for family, size in self._held.items() if family != stage.family}
        if not others:
            return
        need = self._needed(stage.family, plan, paths) - self._held.get(stage.family, 0)
        free = self._memory.free()
        for family, move in decide(need, others, free).items():
            before = self._memory.used()
            if move == "rest":
                self._runners[family].rest()
                self._count(family, before, 0)
            else:
                self._runners.pop(family).close()
                del self._held[family]
            self._tell(plan, stage.family, family, move, f"needs {need / GB:.1f} GB of {free.device / GB:.1f} GB free")

    def _needed(self, family: str, plan: Plan, paths: Mapping[str, Path]) -> int:
        return needed(family, plan, paths) * self._memory.scale

    def _tell(self, plan: Plan, coming: str, leaving: str, move: Move, why: str) -> None:
        if (coming, leaving, move) in self._told:
            return
        self._told.add((coming, leaving, move))
        what = "rests in main memory" if move == "rest" else "is closed, and loaded again when its turn comes,"
        message = f"'{leaving}' {what} while '{coming}' draws, which {why}"
        self._findings.append(E029.at(plan.recipe, message))

    def _count(self, family: str, before: int | None, known: int) -> None:
        """Takes down what a family holds: what changed since `before`, or what is known of it."""
        now = self._memory.used()
        if now is None or before is None:
            self._held[family] = known
        else:
            self._held[family] = max(self._held.get(family, 0) + now - before, 0)


def needed(family: str, plan: Plan, paths: Mapping[str, Path]) -> int:
    """Bytes that the plan's stages of a family take in 16 bits.

    By the family's figures, but what their files have at least, and twice that at most: there are small models, too.
    """
    stages = tuple(stage for stage in plan.stages if stage.family == family)
    figures = figures_of(family)
    guided = any(stage.guides for stage in stages)
    known = (figures.memory_guided if guided else None) or figures.memory or 0
    files = sum(_loaded(paths[name]) for name in asset_names(stages) if name in paths)
    return max(files, min(known, 2 * files)) if files else known


def _loaded(path: Path) -> int:
    """Bytes of a file or folder, or of what its weights become where they do not stay packed."""
    size = _size(path)
    answer = identify(path, families()) if path.is_file() else None
    if not isinstance(answer, Known):
        return size
    return max(size, in_memory(answer.model.storage, answer.model.parameters, size))


def _size(path: Path) -> int:
    """Bytes of a file, or of the weights in a folder."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size if path.is_file() else 0
