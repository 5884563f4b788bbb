"""A result as a reader sees it: rows of words and numbers, from which page and Markdown are made alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from sosie.core.experiment_result import ArmResult, Cell, Contrast, ExperimentResult
from sosie.reports.curves import Figure, lay_out
from sosie.reports.experiment.figures import Heat, Intervals, extremes, heats, intervals, running_means
from sosie.reports.words import Words

MOST_CURVES = 6
EXTREMES = 6


@dataclass(frozen=True, eq=False)
class View:
    """A result in a language."""

    result: ExperimentResult
    words: Words

    @cached_property
    def digits(self) -> int:
        """Digits after the point: three where the margin is in hundredths, else two."""
        return 3 if (self.result.design.margin or 1.0) < 0.1 else 2

    def number(self, value: float | None, signed: bool = False) -> str:
        """A value of the end point."""
        return self.words.number(value, self.digits, signed)

    def found(self, one: Contrast) -> str:
        """A contrast's difference with its interval."""
        between = self.words.between(one.low, one.high, self.digits, True)
        return f"{self.number(one.estimate, True)} ({between})"

    @cached_property
    def answer(self) -> str:
        """The answer in a sentence."""
        result, words = self.result, self.words
        won = result.winner
        if won is None:
            return words("empty") if result.state == "empty" else words("nobody", base=result.design.baseline)
        if won.fresh is None:
            return words("won_unmeasured", arm=won.arm)
        key = "won_confirmed" if won.is_confirmed else "won_open"
        return words(key, arm=won.arm, base=result.design.baseline, found=self.found(won.fresh))

    @cached_property
    def design(self) -> tuple[tuple[str, str], ...]:
        """What was declared, name and value."""
        return tuple(self._design())

    def _design(self) -> Iterator[tuple[str, str]]:
        result, design, words = self.result, self.result.design, self.words
        state = words("state_empty") if result.state == "empty" else words(result.state)
        yield words("character"), result.character
        yield words("recipe"), result.recipe
        yield words("state"), state
        yield words("endpoint"), f"{design.endpoint}: {words.said(result.scale)}"
        yield words("baseline"), design.baseline
        counts = {"blocks": result.blocks, "prompts": len(result.prompts), "seeds": len(result.seeds)}
        yield words("blocks"), words("blocks_value", **counts)
        yield words("unit"), words("unit_image" if design.unit == "image" else "unit_run")
        yield words("margin"), words("margin_value", margin=self.number(design.margin))
        looks = words("looks_anytime", every=design.every, clip=self.number(design.clip))
        yield words("looks"), looks if design.stopping == "anytime" else words("looks_none")
        yield words("error"), words("error_value", alpha=words.number(100 * design.alpha, 0), n=len(result.contrasts))
        yield words("floor"), self.number(result.floor)
        yield words("smallest"), self._smallest()
        if design.confirm:
            yield words("fresh"), words("fresh_value", n=design.confirm)

    def _smallest(self) -> str:
        if self.result.smallest is not None:
            return self.number(self.result.smallest)
        if self.result.design.unit == "training run":
            return self.words("smallest_unknown")
        return self.words("smallest_none", clip=self.number(self.result.design.clip))

    @cached_property
    def intervals(self) -> Intervals | None:
        """The figure of the contrasts."""
        design = self.result.design
        return intervals(self.result.contrasts, design.margin or 0.0, design.clip or 1.0)

    @cached_property
    def touches_zero(self) -> bool:
        """Whether the interval of a difference that is claimed does not exclude 0: Holm claims more than Bonferroni."""
        claimed = (one for one in self.result.contrasts if one.verdict in ("better", "worse"))
        return any(one.low is not None and one.high is not None and one.low <= 0 <= one.high for one in claimed)

    @cached_property
    def heats(self) -> tuple[Heat, ...]:
        """The heat maps."""
        return heats(self.result.arms)

    @cached_property
    def curve(self) -> Figure | None:
        """The running mean differences; None where there is nothing to draw."""
        curves = dict(list(running_means(self.result).items())[:MOST_CURVES])
        return lay_out(self.words("curve_title"), curves, None) if curves else None

    @cached_property
    def extremes(self) -> tuple[tuple[str, tuple[Cell, ...]], ...]:
        """The best and the worst images, each under its title."""
        best, worst = extremes(self.result.cells, EXTREMES)
        return (self.words("best"), best), (self.words("worst"), worst)

    @cached_property
    def failures(self) -> tuple[Cell, ...]:
        """The cells that could not be drawn."""
        return tuple(cell for cell in self.result.cells if cell.error is not None)

    @cached_property
    def other_names(self) -> tuple[str, ...]:
        """The other measures, in the order in which they came."""
        return tuple(dict.fromkeys(name for arm in self.result.arms for name in arm.others))

    def alt(self, cell: Cell) -> str:
        """What a picture shows, for who does not see it."""
        score = self.words("no_score") if cell.score is None else f"{self.words('score')} {self.number(cell.score)}"
        return f"{cell.arm}, {self.result.prompts[cell.prompt]}, {self.words('seed')} {cell.seed}: {score}"

    def score(self, cell: Cell) -> str:
        """A cell's score, or that there is none."""
        return self.words("no_score") if cell.score is None else self.number(cell.score)

    def kept(self, arm: ArmResult) -> str:
        """The share that was kept, with its interval."""
        if arm.kept is None:
            return "-"
        low, high = ((None if one is None else 100 * one) for one in (arm.kept.low, arm.kept.high))
        between = self.words.between(low, high, 0)
        return f"{self.words.share(arm.kept.value)} ({between})"

    @cached_property
    def blocks_shown(self) -> tuple[tuple[int, int], ...]:
        """Blocks of which all arms' images are shown: first one of each prompt, then other seeds."""
        known = list(dict.fromkeys((cell.prompt, cell.seed) for cell in self.result.cells if not cell.fresh))
        seen: dict[int, int] = {}
        ranked: list[tuple[int, tuple[int, int]]] = []
        for block in known:
            ranked.append((seen.get(block[0], 0), block))
            seen[block[0]] = seen.get(block[0], 0) + 1
        room = max(1, 240 // max(1, len(self.result.arms)))
        return tuple(block for _, block in sorted(ranked, key=lambda one: one[0]))[:room]

    def cell(self, arm: str, block: tuple[int, int]) -> Cell | None:
        """An arm's image of a block."""
        return self._cells.get((arm, *block))

    @cached_property
    def _cells(self) -> dict[tuple[str, int, int], Cell]:
        return {(cell.arm, cell.prompt, cell.seed): cell for cell in self.result.cells if not cell.fresh}

    @cached_property
    def rows_of_arms(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The arms in rows by their first axis: the row's name and its arms; one row where there is no axis."""
        rows: dict[str, list[str]] = {}
        for arm in self.result.arms:
            axis = next(iter(arm.levels), "")
            rows.setdefault(f"{axis}={arm.levels[axis]}" if axis else "", []).append(arm.name)
        return tuple((name, tuple(arms)) for name, arms in rows.items())

    def short(self, arm: str, row: str) -> str:
        """An arm's name without what its row says already."""
        return arm.removeprefix(f"{row}, ") if row else arm
