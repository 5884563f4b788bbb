"""Whether an image that is going to fail can be told before it is finished: on `mini`.

    python benchmarks/early_stop.py record CHARACTERS --out FOLDER [--n 6] [--held-out 4] [--fmr 0.01]
    python benchmarks/early_stop.py learn CHARACTERS --out FOLDER

`record` has the loop draw `--n` images of each prompt and character of CHARACTERS (folders of renders with a
`captions.jsonl`); what is to be repaired is repaired once. The last `--held-out` references judge alone and guide
nothing; `--fmr` is the gate. Of each attempt it keeps what the recipe's judge said, thresholds of other gates, the
core-seconds that it took to draw, and what the denoiser thought the finished picture would be at a third and at two
thirds of the steps, decoded at the picture's size and from latents of half the size. `learn` looks at these as a cheap
check would, and asks how many images that fail and that are kept it would stop. `mending.py`
asks what a kept image costs.

Core-seconds are those of the thread that draws, so other work of the machine hardly counts.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

PROMPTS = (
    "smiling, soft daylight, forest background",
    "neutral, dramatic side light, library background",
    "laughing, neon light, city at night background",
)
MOMENTS, NAMES = (1 / 3, 2 / 3), ("third", "two-thirds")
SIZES = {"whole": 1.0, "half": 0.5}
FALSE = 0.02
"""The share of keepers that a likeness may stop, in the characters that it is chosen by."""
TURN = 2
"""Draws of each prompt before the next person has a turn."""
GATES = (0.05, 0.02, 0.01)
"""False-match rates whose thresholds are recorded beside an attempt."""


@dataclass(frozen=True)
class Seen:
    """One attempt: whose, whether it repairs another, what became of it, its scores, and core-seconds.

    `draw` is what the image took from its first step on, `decode` a preview, by size; `before` the attempt before.
    """

    character: str
    prompt: int
    plan: str
    repair: bool
    before: str
    outcome: str
    reasons: tuple[str, ...]
    scores: dict[str, float]
    draw: float
    decode: dict[str, float]
    gates: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])


class Watched:
    """An engine that keeps what was thought of the finished picture on the way to it.

    It draws in a thread of its own: seconds are those of that thread, from the first step to the decoded picture.
    """

    def __init__(self, engine: Any, out: Path) -> None:
        import sosie.diffusion.vae as vaes
        import sosie.families.sdxl.diffusers.pipeline as pipelines

        self._engine, self._out = engine, out
        self.name, self.check, self.close = engine.name, engine.check, engine.close
        self._guesses: list[Any] = []
        self._kept: dict[tuple[str, str], Any] = {}
        self._began = self._draw = 0.0
        self._decode: dict[str, float] = {}
        self.spent: dict[str, tuple[float, dict[str, float]]] = {}
        made, decoded = pipelines.scheduler_for, vaes.decode_latents
        self._before = made, decoded

        def scheduler_for(*given: Any) -> Any:
            scheduler = made(*given)
            step, self._guesses, self._began = scheduler.step, [], time.thread_time()

            def kept(*values: Any, **named: Any) -> Any:
                result = step(*values, **named)
                self._guesses.append(result[1])
                return result

            scheduler.step = kept
            return scheduler

        def decode_latents(vae: Any, latents: Any) -> Any:
            start = time.thread_time()
            done = decoded(vae, latents)
            self._draw = start - self._began + time.thread_time() - start
            self._previews(decoded, vae)
            return done

        pipelines.scheduler_for, vaes.decode_latents = scheduler_for, decode_latents

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        import sosie.diffusion.vae as vaes
        import sosie.families.sdxl.diffusers.pipeline as pipelines

        pipelines.scheduler_for, vaes.decode_latents = self._before
        self.close()

    def run(self, plans: Iterable[Any]) -> Iterator[Any]:
        from sosie.core import Render

        for event in self._engine.run(plans):
            if isinstance(event, Render):
                self.spent[event.plan.id] = (self._draw, self._decode)
                for (moment, size), preview in self._kept.items():
                    preview.save(self._out / f"{event.plan.id}-{moment}-{size}.png")
            yield event

    def _previews(self, decoded: Any, vae: Any) -> None:
        import torch

        from sosie.diffusion.vae import to_image

        self._kept, spent = {}, dict.fromkeys(SIZES, 0.0)
        for name, moment in zip(NAMES, MOMENTS, strict=True):
            latents = self._guesses[round(moment * len(self._guesses)) - 1]
            for size, scale in SIZES.items():
                start = time.thread_time()
                scaled = torch.nn.functional.interpolate(latents, scale_factor=scale, mode="area")
                self._kept[name, size] = to_image(decoded(vae, scaled)[0])
                spent[size] += (time.thread_time() - start) / len(MOMENTS)
        self._decode = spent


@dataclass(frozen=True)
class Rules:
    """What is recorded: draws a prompt, references that judge alone, and the gate (a false-match rate)."""

    n: int
    held_out: int
    fmr: float


def record(people: list[Path], out: Path, rules: Rules) -> None:
    """Draws, judges and keeps: of each prompt one draw and, where it is to be repaired, its repair, in turns of two."""
    out.mkdir(parents=True, exist_ok=True)
    for turn, folder in itertools.product(range(0, rules.n, TURN), people):
        seeds = range(turn, min(turn + TURN, rules.n))
        _record_of(folder, out, rules, seeds)


def _record_of(folder: Path, out: Path, rules: Rules, seeds: Iterable[int]) -> None:
    from sosie.api.engines import open_engine
    from sosie.core import Request
    from sosie.core.plan import needed_stages
    from sosie.loop.attempts import run
    from sosie.loop.judge_room import Processes
    from sosie.loop.judging import make_judge
    from sosie.loop.task import Attempt, Bench, Task
    from sosie.workspace.bill import resolve
    from sosie.workspace.recipes import load_recipe
    from sosie.workspace.session import Session
    from sosie.workspace.workspace import open_workspace

    with Session(open_workspace(Path(tempfile.mkdtemp()))) as session, Processes(1) as room:
        recipe = load_recipe(session.workspace, "mini")
        recipe = replace(recipe, acceptance=replace(recipe.acceptance, fmr=rules.fmr))
        pictures = sorted(folder.glob("*.jpg"))
        who = _character(session, folder, folder.name, pictures[: len(pictures) - rules.held_out])
        held = _character(session, folder, "held", pictures[-rules.held_out :]) if rules.held_out else who
        bill = resolve(session.workspace, needed_stages(recipe, who), who)
        judges = {
            fmr: make_judge(session, held, replace(recipe, acceptance=replace(recipe.acceptance, fmr=fmr)), bill)[0]
            for fmr in (*GATES, rules.fmr)
        }
        judge, gates = judges[rules.fmr], {fmr: _thresholds(one) for fmr, one in judges.items()}
        with Watched(open_engine(session, "diffusers", bill, who), out) as engine:
            bench = Bench(engine, session.store, bill.digests, room)
            tasks = [
                Task(f"{i}-{seed}", recipe, who, Request("mini", who.name, prompt, seed=seed), 1, 2, judge)
                for i, prompt in enumerate(PROMPTS)
                for seed in seeds
            ]
            with (out / "attempts.jsonl").open("a", encoding="utf-8") as file:
                for event in run(tasks, bench):
                    if isinstance(event, Attempt):
                        print(json.dumps(asdict(_seen(event, engine, gates))), file=file, flush=True)


def _thresholds(judge: Any) -> dict[str, float]:
    return {one.encoder.name: float(one.threshold or math.nan) for one in judge.gate.judges}


def _character(session: Any, folder: Path, name: str, pictures: list[Path]) -> Any:
    from identity import described

    from sosie.api.characters import new_character
    from sosie.workspace.characters import CharacterFile

    return new_character(session, CharacterFile(name, "fictional", True, described(folder)), pictures).character


def _seen(attempt: Any, engine: Watched, gates: dict[float, dict[str, float]]) -> Seen:
    plan = attempt.plan
    scores = {score.name: float(score.value) for score in attempt.scorecard.scores if score.value is not None}
    draw, decode = engine.spent[plan.id]
    return Seen(
        plan.character.name,
        int(attempt.task.name.partition("-")[0]),
        plan.id,
        plan.draw.is_repair,
        plan.draw.parent,
        attempt.verdict.outcome,
        attempt.verdict.reasons,
        scores,
        draw,
        decode,
        {str(fmr): thresholds for fmr, thresholds in gates.items()},
    )


@dataclass(frozen=True)
class Looked:
    """What a cheap look saw: faces, contrast (standard deviation of luma), SFace's likeness (0 without a face)."""

    faces: int
    contrast: float
    likeness: float
    seconds: float

    @property
    def is_hopeless(self) -> bool:
        """Blank, without a face, or with several."""
        return self.contrast < BLANK or self.faces != 1


BLANK = 8.0


def looked(out: Path, people: Path, seen: list[Seen]) -> dict[tuple[str, str], dict[str, Looked]]:
    """By moment and size, what a look at each first attempt's preview saw."""
    from sosie.faces.detect import Detector
    from sosie.faces.encoders import SFace, template
    from sosie.files.images import read_image
    from sosie.scorers.sample import luma_of

    detector, encoder = Detector(), SFace()
    templates: dict[str, Any] = {}
    for who in sorted({one.character for one in seen}):
        pixels = [np.asarray(read_image(path)) for path in sorted((people / who).glob("*.jpg"))]
        found = [(image, faces[0]) for image in pixels if (faces := detector.detect(image))]
        templates[who] = template("cosine", [encoder.embed(image, face) for image, face in found])
    looks: dict[tuple[str, str], dict[str, Looked]] = {}
    for moment, size in itertools.product(NAMES, SIZES):
        for one in seen:
            pixels = np.asarray(read_image(out / f"{one.plan}-{moment}-{size}.png"))
            start = time.thread_time()
            faces = detector.detect(pixels)
            likeness = float(templates[one.character] @ encoder.embed(pixels, faces[0])) if faces else 0.0
            spent = time.thread_time() - start
            look = Looked(len(faces), float(luma_of(pixels).std()), likeness, spent)
            looks.setdefault((moment, size), {})[one.plan] = look
    return looks


def stops(seen: list[Seen], look: dict[str, Looked], with_identity: bool) -> set[str]:
    """Which plans are stopped; the least likeness that goes on is that of the other characters' keepers."""
    stopped: set[str] = set()
    for who in {one.character for one in seen}:
        kept = [look[one.plan].likeness for one in seen if one.character != who and one.outcome == "keep"]
        least = float(np.quantile(kept, FALSE)) if with_identity and kept else 0.0
        for one in (one for one in seen if one.character == who):
            if look[one.plan].is_hopeless or look[one.plan].likeness < least:
                stopped.add(one.plan)
    return stopped


def report_stops(seen: list[Seen], looks: dict[tuple[str, str], dict[str, Looked]]) -> None:
    """One row a moment, size and kind of look."""
    kept = [one for one in seen if one.outcome == "keep"]
    failed = [one for one in seen if one.outcome != "keep"]
    total = sum(one.draw for one in seen)
    print(
        f"{len(seen)} first attempts, {len(kept)} kept, {len(failed)} failed; the look's own share of drawing an image:"
    )
    print("| look | failed: stopped | kept: stopped (95 %) | drawing saved | less decoding | less looking |")
    print("| --- | --- | --- | --- | --- | --- |")
    for (moment, size), look in looks.items():
        share = MOMENTS[NAMES.index(moment)]
        for with_identity in (False, True):
            stopped = stops(seen, look, with_identity)
            saved = sum(one.draw * (1 - share) for one in seen if one.plan in stopped)
            decoding = sum(one.decode[size] for one in seen)
            looking = sum(look[one.plan].seconds for one in seen)
            false = sum(one.plan in stopped for one in kept)
            low, high = wilson(false, len(kept))
            right = sum(one.plan in stopped for one in failed)
            what = f"{moment}, {size}: blank, faces" + (", likeness" if with_identity else "")
            print(
                f"| {what} | {right} of {len(failed)} | {false} of {len(kept)} ({low:.1%} to {high:.1%}) | "
                f"{saved / total:.1%} | {(saved - decoding) / total:.1%} | {(saved - decoding - looking) / total:.1%} |"
            )


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's interval, 95 %."""
    z = 1.96
    middle, spread = hits + z * z / 2, z * math.sqrt(hits * (n - hits) / n + z * z / 4)
    return max(0.0, (middle - spread) / (n + z * z)), min(1.0, (middle + spread) / (n + z * z))


def learn(out: Path, people: Path) -> None:
    """Prints the report."""
    lines = (out / "attempts.jsonl").read_text(encoding="utf-8").splitlines()
    seen = [Seen(**json.loads(line)) for line in lines]
    first = [one for one in seen if not one.repair]
    report_stops(first, looked(out, people, first))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("record", "learn"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=6)
    parser.add_argument("--held-out", type=int, default=0, help="references that judge and do not guide")
    parser.add_argument("--fmr", type=float, default=0.05)
    parser.add_argument("--only", nargs="*", default=[], help="people, by their folders' names")
    given = parser.parse_args()
    if given.what == "record":
        people = sorted(path.parent for path in given.folder.glob("*/captions.jsonl"))
        chosen = [path for path in people if not given.only or path.name in given.only]
        record(chosen, given.out, Rules(given.n, given.held_out, given.fmr))
    else:
        learn(given.out, given.folder)


if __name__ == "__main__":
    main()
