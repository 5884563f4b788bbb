"""Pictures as wrong ComfyUI graphs give them, drawn by `mini` and `mini-z`: which looks and checks tell them?

    python benchmarks/failures.py draw CHARACTERS/ OUT/        what is not drawn yet, with its processor seconds
    python benchmarks/failures.py measure OUT/

CHARACTERS holds a folder of references for each person, with `captions.jsonl`. Each person is drawn as the recipes
draw (`--clean`, `--seed`), the first `--failures` of them with each setting of `DRAWN` too; `DECODED` are clean
pictures' own latents, decoded as a wrong VAE node decodes them; `SCALED` are clean pictures through an enlarger.
A later run on the same folder draws only what is missing. Nothing is picked, and no threshold was set on any of it.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from defects import wilson
from drift import values
from identity import described
from inject import Pixels
from looks import sharpened
from PIL import Image

from sosie.core import Character, Draw, Recipe, Render, Request, plan
from sosie.core.plan import needed_stages
from sosie.core.score import Score
from sosie.diffusion.loading import load_vae
from sosie.diffusion.vae import encode_image
from sosie.faces.detect import Detector
from sosie.scorers.defects import DEFECTS, score_defects
from sosie.scorers.looks import LOOKS, look_score
from sosie.scorers.looks.drift import COLOURS, drifts
from sosie.scorers.looks.view import View
from sosie.scorers.sample import Sample
from sosie.scorers.statistics import auc

PROMPTS = (
    "smiling, soft daylight, forest background",
    "neutral, studio light, plain grey background",
    "talking, golden hour, beach background",
    "serious, overcast, street background",
)
CHECKS = tuple(name for name in DEFECTS if name != "text")
"""Defects that are looked for beside the looks; no word is written into these pictures."""

Edit = Callable[[Recipe], Recipe]


def sampled(stage: int = 0, **settings: Any) -> Edit:
    """The recipe with these settings of one stage's sampler."""

    def edit(recipe: Recipe) -> Recipe:
        stages = list(recipe.stages)
        stages[stage] = replace(stages[stage], sampler=replace(stages[stage].sampler, **settings))
        return replace(recipe, stages=tuple(stages))

    return edit


def guided(scale: float) -> Edit:
    """The recipe with its face guide at this scale."""

    def edit(recipe: Recipe) -> Recipe:
        first = recipe.stages[0]
        guides = tuple(replace(guide, scale=scale) for guide in first.guides)
        return replace(recipe, stages=(replace(first, guides=guides), *recipe.stages[1:]))

    return edit


def passed(**settings: Any) -> Edit:
    """The face pass alone, with these settings, its seam never refused."""

    def edit(recipe: Recipe) -> Recipe:
        face = next(stage for stage in recipe.stages if stage.kind == "detail")
        assert face.detail
        face = replace(face, sampler=replace(face.sampler, **settings), detail=replace(face.detail, seam=100.0))
        return replace(recipe, stages=(face,))

    return edit


@dataclass(frozen=True)
class Drawn:
    """A failure that is drawn: the recipe, what is wrong in it, and whether it works on a clean picture of mini-z."""

    recipe: str
    edit: Edit
    given: bool = False


DRAWN: Mapping[str, Drawn] = {
    "mini, CFG 20": Drawn("mini", sampled(cfg=20.0)),
    "mini, 3 steps": Drawn("mini", sampled(steps=3)),
    "mini, face guide at 2": Drawn("mini", guided(2.0)),
    "mini, LCM sampler": Drawn("mini", sampled(name="lcm", steps=6, cfg=1.0)),
    "mini-z, CFG 20": Drawn("mini-z", sampled(cfg=20.0)),
    "mini-z, 3 steps": Drawn("mini-z", sampled(steps=3)),
    "mini-z, shift 30": Drawn("mini-z", sampled(shift=30.0)),
    "mini-z, shift 0.1": Drawn("mini-z", sampled(shift=0.1)),
    "face pass, denoise 1, 3 steps": Drawn("mini-hybrid", passed(denoise=1.0, steps=3), given=True),
    "face pass, denoise 0.15": Drawn("mini-hybrid", passed(denoise=0.15), given=True),
}
Latents = torch.Tensor


def noisy(latents: Latents, share: float, seed: int) -> Latents:
    """What a sampler hands over that stopped early: 1 - `share` of the picture, the rest noise."""
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed))
    return (1 - share) * latents + share * noise


DECODED: Mapping[str, Callable[[Latents, int], Latents]] = {
    "as it is": lambda latents, _seed: latents,
    "scaled by 1.4 (SD 1.5's factor on SDXL)": lambda latents, _seed: latents * 0.18215 / 0.13025,
    "scaled by 0.7 (SDXL's factor on SD 1.5)": lambda latents, _seed: latents * 0.13025 / 0.18215,
    "scaled by 2.8 (not scaled at all, as FLUX's)": lambda latents, _seed: latents / 0.3611 + 0.1159,
    "stopped at 10 % noise": lambda latents, seed: noisy(latents, 0.1, seed),
    "stopped at 25 % noise": lambda latents, seed: noisy(latents, 0.25, seed),
    "channels of another model": lambda latents, _seed: latents.flip(1),
}
"""What is decoded in place of a clean picture's own latents, whose mean is 0 and deviation 1 for both VAEs."""


def enlarged(image: Pixels, how: int) -> Pixels:
    return np.asarray(cv2.resize(image, None, fx=4, fy=4, interpolation=how), np.uint8)


def rung(image: Pixels) -> Pixels:
    return sharpened(sharpened(sharpened(image)))


SCALED: Mapping[str, Callable[[Pixels], Pixels]] = {
    "4x, Lanczos": lambda image: enlarged(image, cv2.INTER_LANCZOS4),
    "4x, nearest": lambda image: enlarged(image, cv2.INTER_NEAREST),
    "4x, Lanczos, sharpened three times": lambda image: rung(enlarged(image, cv2.INTER_LANCZOS4)),
    "black (fp16 overflow)": np.zeros_like,
}


def folder_of(out: Path, kind: str) -> Path:
    """One folder a kind, whatever its name holds."""
    return out / "pictures" / kind.replace("%", "percent").replace("/", "-")


class Bench:
    """Draws into a folder by way of a workspace of its own."""

    def __init__(self, session: Any, out: Path, seed: int) -> None:
        self.session, self.out, self.seed = session, out, seed

    def people(self, folder: Path) -> Iterator[Character]:
        from sosie.api.characters import new_character
        from sosie.workspace.characters import CharacterFile, load_character

        for person in sorted(path for path in folder.iterdir() if path.is_dir()):
            if not (self.session.workspace.root / "characters" / person.name).exists():
                details = CharacterFile(person.name, "fictional", True, described(person))
                new_character(self.session, details, sorted(person.glob("*.jpg")))
            yield load_character(self.session.workspace, person.name)

    def draw(self, kind: str, recipe: Recipe, who: Character, prompts: Sequence[str], given: str = "") -> None:
        """The pictures of a kind that are not there yet, one a prompt."""
        from sosie.api.engines import open_engine
        from sosie.workspace.bill import resolve

        folder = folder_of(self.out, kind)
        folder.mkdir(parents=True, exist_ok=True)
        left = [at for at in range(len(prompts)) if not (folder / f"{who.name}-{at}.png").exists()]
        if not left:
            return
        bill = resolve(self.session.workspace, needed_stages(recipe, who), who)
        engine = open_engine(self.session, "diffusers", bill, who)
        for at in left:
            began = time.process_time()
            kinds = ("detail",) if given else ()
            request = Request(recipe.name, who.name, prompts[at], seed=self.seed, source=given, stages=kinds)
            for event in engine.run([plan(recipe, who, request, Draw(at), bill.digests)]):
                if isinstance(event, Render):
                    event.image.save(folder / f"{who.name}-{at}.png")
                    said = [one.code for one in event.findings]
                    print(f"{kind}: {who.name}-{at}, {time.process_time() - began:.1f} s {said}", flush=True)
        engine.close()


def draw(session: Any, characters: Path, out: Path, asked: argparse.Namespace) -> None:
    """Clean pictures first, since the face passes work on them; then one a person and failure, of the first prompt."""
    from sosie.workspace.recipes import load_recipe

    bench = Bench(session, out, asked.seed)
    recipes = {name: load_recipe(session.workspace, name) for name in ("mini", "mini-z", "mini-hybrid")}
    for place, who in enumerate(bench.people(characters)):
        for name in ("mini", "mini-z"):
            bench.draw(name, recipes[name], who, PROMPTS[: asked.clean])
        for kind, one in DRAWN.items() if place < asked.failures else ():
            given = ""
            if one.given:
                given = session.store.add_source(Image.open(folder_of(out, "mini-z") / f"{who.name}-0.png"))
            bench.draw(kind, one.edit(recipes[one.recipe]), who, PROMPTS[:1], given)


@cache
def vae_of(name: str) -> Any:
    import sosie_mini
    import sosie_mini_z

    return load_vae((sosie_mini if name == "mini" else sosie_mini_z).folder() / "vae", torch.float32)


def decoded(name: str, image: Pixels, change: Callable[[Latents, int], Latents], tile: int = 0) -> Pixels:
    """A clean picture's latents, changed and decoded; with `tile` in squares of so many latents that know no other."""
    vae = vae_of(name)
    seed = int.from_bytes(hashlib.sha256(image.tobytes()).digest()[:4], "big")
    with torch.inference_mode():
        raw = change(encode_image(vae, Image.fromarray(image)), seed) / float(vae.config.scaling_factor)
        raw = raw + float(vae.config.shift_factor or 0.0)
        side = tile or raw.shape[-1]
        across, down = (range(0, raw.shape[axis], side) for axis in (3, 2))
        parts = [[raw[:, :, y : y + side, x : x + side] for x in across] for y in down]
        rows = [torch.cat([vae.decode(part, return_dict=False)[0] for part in row], 3) for row in parts]
    levels = (torch.cat(rows, 2)[0] / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).numpy()
    return (levels * 255).round().astype(np.uint8)


def shown(folder: Path) -> dict[str, Pixels]:
    return {path.stem: np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob("*.png"))}


def kinds(out: Path, models: Sequence[str]) -> Iterator[tuple[str, str, dict[str, Pixels]]]:
    """Each kind with the clean set that it belongs to; what is decoded or enlarged are the people who failures show."""
    clean = {name: shown(folder_of(out, name)) for name in models}
    for name, some in clean.items():
        yield name, name, some
    people: set[str] = set()
    for kind, one in DRAWN.items():
        name = "mini" if one.recipe == "mini" else "mini-z"
        if name in clean:
            found = shown(folder_of(out, kind))
            people |= set(found)
            yield kind, name, found
    for name, some in clean.items():
        first = {stem: image for stem, image in some.items() if stem in people}
        for how, change in DECODED.items():
            yield f"{name}, decoded {how}", name, {s: decoded(name, i, change) for s, i in first.items()}
        tiles = {s: decoded(name, i, DECODED["as it is"], 16) for s, i in first.items()}
        yield f"{name}, decoded in tiles without overlap", name, tiles
        for how, alter in SCALED.items():
            yield f"{name}, {how}", name, {s: alter(i) for s, i in first.items()}


@dataclass(frozen=True)
class Told:
    """What is said of one picture: each look's score, colours unlike the others, failed checks, whether a face is."""

    looks: Mapping[str, Score]
    colours: bool
    checks: tuple[str, ...]
    face: bool

    @property
    def by_looks(self) -> bool:
        return self.colours or any(score.passed is False for score in self.looks.values())

    @property
    def silent(self) -> bool:
        """Whether a run would say nothing of it: no look, no check, and there is a face to judge."""
        return self.face and not self.by_looks and not self.checks


Colours = dict[str, dict[str, float]]


def told_of(image: Pixels, detector: Detector, earlier: Mapping[str, Sequence[float]]) -> Told:
    sample = Sample.seen(image, detector)
    view = View(sample)
    found = {look.name: look_score(look, look.scale, view) for look in LOOKS}
    values = {name: float(score.value) for name, score in found.items() if name in COLOURS and score.value is not None}
    failed = [score.name for score in score_defects(sample, CHECKS) if score.passed is False]
    return Told(found, bool(drifts(values, earlier)), tuple(failed), sample.main_face is not None)


def judged(out: Path, models: Sequence[str]) -> Iterator[tuple[str, str, list[Told]]]:
    """What is told of each kind; colours are compared with those of the clean set, a picture never with itself."""
    detector, own = Detector(), dict[str, Colours]()
    for kind, name, some in kinds(out, models):
        if kind == name:
            own[name] = {stem: values(image) for stem, image in some.items()}
        found: list[Told] = []
        for stem, image in some.items():
            others = [one for other, one in own[name].items() if other != stem]
            found.append(told_of(image, detector, {look: [one[look] for one in others] for look in COLOURS}))
        print(f"{time.process_time():6.1f} s of a core  {kind}", file=sys.stderr, flush=True)
        yield kind, name, found


def cell(scores: Sequence[Score]) -> str:
    """`2 of 8`, and how many have no value: `2 of 7 (1)`; a dash where none has one."""
    values = [score for score in scores if score.value is not None]
    if not values:
        return "-"
    gone = f" ({len(scores) - len(values)})" if len(values) < len(scores) else ""
    return f"{sum(score.passed is False for score in values)} of {len(values)}{gone}"


def share(count: int, n: int) -> str:
    rate = wilson(count, n)
    return f"{count} of {n} ({rate[0]:.0%} to {rate[1]:.0%})"


def report(out: Path, models: Sequence[str]) -> Iterator[str]:
    """The tables: what is told of each kind, and how far the looks' values set it apart from clean ones."""
    gated = [look.name for look in LOOKS if look.scale.threshold is not None]
    names = [look.name for look in LOOKS]
    found = list(judged(out, models))
    clean = {name: some for kind, name, some in found if kind == name}
    yield f"| pictures | a face | {' | '.join(f'`{name}`' for name in gated)} | colours | checks | nothing is said |"
    yield "|" + "---|" * (len(gated) + 5)
    for kind, _, some in found:
        cells = [cell([one.looks[name] for one in some]) for name in gated]
        failed = Counter(name for one in some for name in one.checks)
        checks = ", ".join(f"{name} {count}" for name, count in failed.most_common(2)) or "-"
        silent, colours = sum(one.silent for one in some), sum(one.colours for one in some)
        faces = sum(one.face for one in some)
        yield f"| {kind} | {faces} of {len(some)} | {' | '.join(cells)} | {colours} | {checks} | {silent} |"
    yield ""
    for name, some in clean.items():
        alarms = sum(one.by_looks for one in some)
        yield f"False alarms on what `{name}` draws, of any look: {share(alarms, len(some))}."
    titles = " | ".join(f"`{name}`" for name in names)
    yield from ("", f"| pictures | {titles} |", "|" + "---|" * (len(names) + 1))
    for kind, name, some in found:
        cells = [apart(look, some, clean[name]) for look in names]
        yield f"| {kind} | {' | '.join(cells)} |"


def apart(look: str, some: Sequence[Told], clean: Sequence[Told]) -> str:
    """The median, and the chance that a picture has more of it than a clean one (0.5: no difference)."""
    ours, theirs = ([value for one in group if (value := one.looks[look].value) is not None] for group in (some, clean))
    if not ours:
        return "-"
    return f"{np.median(ours):.2f} ({auc(ours, theirs):.2f})" if theirs else f"{np.median(ours):.2f}"


def sizes(out: Path) -> Iterator[str]:
    """Of the clean pictures at other sizes: how many have no value of a look, since the face is too small."""
    names = [look.name for look in LOOKS]
    yield from (
        "",
        f"| side, px | px between the eyes | {' | '.join(f'`{n}`' for n in names)} |",
        "|" + "---|" * (len(names) + 2),
    )
    detector = Detector()
    some = [image for stem, image in shown(folder_of(out, "mini")).items() if stem.endswith("-0")]
    for side in (96, 128, 192, 256, 384, 512, 1024):
        how = cv2.INTER_AREA if side < some[0].shape[0] else cv2.INTER_CUBIC
        scaled = [np.asarray(cv2.resize(image, (side, side), interpolation=how), np.uint8) for image in some]
        samples = [Sample.seen(image, detector) for image in scaled]
        eyes = [face.interocular for sample in samples if (face := sample.main_face) is not None]
        views = [View(sample) for sample in samples]
        none = [sum(isinstance(look.measure(view), str) for view in views) for look in LOOKS]
        between = f"{min(eyes):.0f} to {max(eyes):.0f}" if eyes else "no face"
        yield f"| {side} | {between} | {' | '.join(f'{n} of {len(some)}' if n else 'all measured' for n in none)} |"


def main() -> None:
    from sosie.workspace.session import Session
    from sosie.workspace.workspace import open_workspace

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("draw", "measure"))
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--seed", type=int, default=1811)
    parser.add_argument("--clean", type=int, default=3, help="clean pictures a person and model")
    parser.add_argument("--failures", type=int, default=5, help="of so many people each failure is drawn")
    parser.add_argument("--models", nargs="+", default=("mini", "mini-z"), help="of these the failures are measured")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if asked.step == "draw":
        characters, out = asked.folders
        (out / "workspace").mkdir(parents=True, exist_ok=True)
        with Session(open_workspace(out / "workspace")) as session:
            draw(session, characters, out, asked)
        return
    print("\n".join((*report(asked.folders[0], asked.models), *sizes(asked.folders[0]))))


if __name__ == "__main__":
    main()
