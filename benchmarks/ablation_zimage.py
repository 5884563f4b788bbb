"""What a LoRA does on the small Z-Image: text alone, a plain LoRA, the LoRA of the recipe `mini-z`, with a face pass.

    python benchmarks/ablation_zimage.py prepare CHARACTERS/ MODEL/ WORK/   latents, states of texts, faces
    python benchmarks/ablation_zimage.py search WORK/ [--seconds 240]       presets, on three people, by another judge
    python benchmarks/ablation_zimage.py teach WORK/ [--columns lora,plain] LoRAs of all eight, and their pictures
    python benchmarks/ablation_zimage.py judge WORK/                        scores of all pictures

CHARACTERS holds one folder a person, as in `ablation.py`: the first eight references are learned from, the last four
judge and do neither. MODEL is the expanded `mini-z`. `search` compares presets by `mini`'s own face encoder, which is
not among the judges, on the people in `SEARCHED`; it writes presets.json, and the best one is what `teach` takes. All
columns of a picture have one seed; LoRAs are those after their last step; nothing is picked.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from ablation import GUIDING, PROMPTS
from ablation_lora import face_of, told
from PIL import Image

from sosie.core.plan import derive_seed
from sosie.core.recipe import Sampler, Training
from sosie.dataset.captions import trigger_for

SEARCHED = ("mira", "otto", "iris")
SAMPLER = Sampler("euler", "simple", 20, 5.0, shift=3.0)
WORKERS = 4

PRESET = Training(
    steps=300,
    batch=4,
    rank=16,
    alpha=16.0,
    targets="transformer",
    texts="prompts",
    caption_dropout=0.05,
    learning_rate=1e-3,
    schedule="cosine",
    warmup=20,
    min_snr=0.0,
    timesteps="logit-normal",
    timestep_shift=3.0,
    ema=0.98,
    precision="fp32",
    resolution=256,
    face_weight=2.0,
    save_every=10_000,
    sample_every=10_000,
)
"""Where the search begins."""

PLAIN = replace(
    PRESET,
    steps=112,
    rank=8,
    alpha=8.0,
    targets="feed-forward",
    texts="captions",
    caption_dropout=0.0,
    warmup=0,
    timesteps="uniform",
    timestep_shift=1.0,
    ema=0.0,
    face_weight=1.0,
)
"""Rank 8 and 112 steps of batch 4: what the small model's own page reports of `mira`."""

CHANGES: dict[str, dict[str, Any]] = {
    "shift 1.5": {"timestep_shift": 1.5},
    "rate 2e-3": {"learning_rate": 2e-3},
    "uniform": {"timesteps": "uniform", "timestep_shift": 1.0},
    "captions": {"texts": "captions"},
    "rank 32": {"rank": 32, "alpha": 32.0},
    "all": {"targets": "all"},
    "400 steps": {"steps": 400},
    "batch 2": {"batch": 2, "steps": 600},
    "shift 1": {"timestep_shift": 1.0},
    "rate 5e-4": {"learning_rate": 5e-4},
    "face 4": {"face_weight": 4.0},
    "feed-forward": {"targets": "feed-forward"},
    "no dropout": {"caption_dropout": 0.0},
    "face 1": {"face_weight": 1.0},
    "ema 0.95": {"ema": 0.95},
    "attention": {"targets": "attention"},
    "rate 4e-3": {"learning_rate": 4e-3},
    "shift 6": {"timestep_shift": 6.0},
    "mode": {"timesteps": "mode", "timestep_shift": 1.0},
    "weighted": {"timesteps": "weighted", "timestep_shift": 1.0},
}
"""Each is compared with PRESET; changes that help are then taken together."""


def prepare(characters: Path, model: Path, work: Path) -> None:
    """Writes what each LoRA reads and every text that is drawn, with everything encoded."""
    from ablation_lora import lessons_of
    from identity import described

    from sosie.api.characters import new_character
    from sosie.families.contract.trains import BaseFiles
    from sosie.families.zimage.training import open_base
    from sosie.training.prepare import prepare as encode
    from sosie.workspace.characters import CharacterFile
    from sosie.workspace.session import Session
    from sosie.workspace.workspace import open_workspace

    root = work / "workspace"
    root.mkdir(parents=True, exist_ok=True)
    table: dict[str, Any] = {}
    base = open_base(BaseFiles(model), PRESET, "cpu")
    with Session(open_workspace(root)) as session:
        for folder in sorted(path for path in characters.iterdir() if path.is_dir()):
            pictures = sorted(folder.glob("*.jpg"))
            about = described(folder)
            details = CharacterFile(folder.name, "fictional", True, about)
            character = new_character(session, details, pictures[:GUIDING], replace=True).character
            rows = lessons_of(session, character, pictures[:GUIDING], work)["plain"]
            held = [np.asarray(Image.open(path).convert("RGB")) for path in pictures[GUIDING:]]
            faces = [session.detector.detect(pixels)[0] for pixels in held]
            table[folder.name] = {
                "rows": rows,
                "about": about,
                "held": [[str(path), told(face)] for path, face in zip(pictures[GUIDING:], faces, strict=True)],
            }
    (work / "people.json").write_text(json.dumps(table))
    for name in table:
        for training in (PRESET, PLAIN):
            for _ in encode(job_of(work, name, "encoding", training), base):
                pass
        states: dict[str, Any] = {"negative": base.encode_text("")["states"]}
        for column in ("text", "lora"):
            for index in range(len(PROMPTS)):
                states[f"{column}-{index}"] = base.encode_text(prompt(table, name, PROMPTS[index], column))["states"]
        _store(work / "texts" / f"{name}.safetensors", states)
        print(name, flush=True)


def _store(path: Path, tensors: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def prompt(table: dict[str, Any], name: str, about: str, column: str) -> str:
    """The recipe's prompt, with the trigger where a LoRA acts."""
    text = f"portrait of {table[name]['about']}, {about}"
    return text if column == "text" else f"{trigger_for(name)}, {text}"


def job_of(work: Path, name: str, run: str, training: Training) -> Any:
    """The training of one person's LoRA."""
    from sosie.dataset.dataset import TrainingImage
    from sosie.training.job import BaseModel, TrainingJob

    table = json.loads((work / "people.json").read_text())
    images: list[TrainingImage] = []
    for row in table[name]["rows"]:
        trigger = trigger_for(name)
        said = row["caption"].removeprefix(f"{trigger}, ")
        words = (prompt(table, name, said, "lora"),) if training.texts == "prompts" else ()
        face = row["face"] and face_of(row["face"])
        path = work / "sets" / name / row["file"]
        images.append(TrainingImage(path, row["sha256"], row["caption"], trigger, face, name, prompts=words))
    base = BaseModel("zimage", "mini-z", work / "model", "mini-z")
    folder = work / "runs" / run / name
    target = (work / "loras" / run / f"{name}.safetensors").resolve()
    return TrainingJob(base, training, tuple(images), folder, target, work / "cache", device=device())


def device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


class Studio:
    """The model in one process: it trains LoRAs by the product's trainer and draws with them."""

    def __init__(self, work: Path) -> None:
        import diffusers
        import torch

        from sosie.families.zimage import training
        from sosie.training import run

        torch.set_num_threads(2)
        self._work = work
        load = diffusers.ZImageTransformer2DModel.from_pretrained
        self._stock = load(work / "model" / "transformer", torch_dtype=torch.float32).requires_grad_(False)
        self._vae = diffusers.AutoencoderKL.from_pretrained(work / "model" / "vae", torch_dtype=torch.float32)
        self._vae.to(device()).requires_grad_(False)
        training._load = self._parts
        run.check_job = lambda _: []
        self._eye = _Eye(work)

    def _parts(self, *_: Any) -> Any:
        """What the trainer is given: everything is in the cache, so nothing encodes."""
        import copy

        import torch

        empty = torch.nn.Identity()
        return SimpleNamespace(transformer=copy.deepcopy(self._stock), text_encoder=empty, vae=empty, tokenizer=None)

    def teach(self, name: str, run: str, training: Training) -> float:
        """Seconds of a training, all in all."""
        import shutil

        from sosie.training.run import train

        job = job_of(self._work, name, run, training)
        shutil.rmtree(job.folder, ignore_errors=True)
        began = time.perf_counter()
        for _ in train(job):
            pass
        return time.perf_counter() - began

    def draw(self, name: str, run: str) -> list[Image.Image]:
        """A picture of each prompt, all in one batch, with a LoRA unless the run is `text`."""
        import torch
        from safetensors.torch import load_file

        from sosie.diffusion.flow.levels import flow_levels
        from sosie.diffusion.flow.sampling import sample
        from sosie.diffusion.vae import decode_latents, to_image
        from sosie.families.zimage.velocity import layout, up, velocity

        texts = load_file(self._work / "texts" / f"{name}.safetensors")
        column = "text" if run == "text" else "lora"
        chosen = [texts[f"{column}-{index}"] for index in range(len(PROMPTS))]
        chosen += [texts["negative"]] * len(PROMPTS)
        longest = up(max(map(len, chosen)))
        padded = [torch.nn.functional.pad(states, (0, 0, 0, longest - len(states))) for states in chosen]
        model = self._with_lora(name, run)
        places = {"states": torch.stack(padded), **layout(model.config, (32, 32), [len(states) for states in chosen])}
        places = {key: tensor.to(device()) for key, tensor in places.items()}
        drawn = [
            torch.randn((16, 32, 32), generator=torch.Generator().manual_seed(derive_seed(1, index, 0)))
            for index in range(len(PROMPTS))
        ]

        def denoise(x: Any, sigma: float) -> Any:
            both = torch.cat([x, x])
            levels = torch.full((len(both),), sigma, device=x.device)
            way, other = velocity(model, {**places, "noisy": both, "levels": levels}).chunk(2)
            return x + sigma * (other + SAMPLER.cfg * (way - other))

        with torch.no_grad():
            latents = sample(SAMPLER.name, denoise, torch.stack(drawn).to(device()), flow_levels(SAMPLER, 3.0))
            latents = latents + self._vae.config.shift_factor * self._vae.config.scaling_factor
            return [to_image(decode_latents(self._vae, one[None])[0]) for one in latents]

    def _with_lora(self, name: str, run: str) -> Any:
        import copy

        from sosie.core.recipe import LoraUse
        from sosie.diffusion.lora_merge import LoraMerge, lora_changes
        from sosie.families import families
        from sosie.lora import read_lora

        model = copy.deepcopy(self._stock).to(device())
        if run == "text":
            return model
        path = self._work / "loras" / run / f"{name}.safetensors"

        def changes(file: Path) -> list[Any]:
            return list(lora_changes(read_lora(file, families()), "zimage", {"denoiser": "transformer"}))

        LoraMerge({"transformer": model}, changes).set([LoraUse("own")], {"own": path})
        return model

    def do(self, name: str, run: str, training: Training | None, keep: bool) -> dict[str, Any]:
        """Trains and draws; likeness to the held-out references by `mini`'s encoder."""
        seconds = self.teach(name, run, training) if training is not None else 0.0
        pictures = self.draw(name, run)
        if keep:
            for index, picture in enumerate(pictures):
                path = self._work / "images" / run / f"{name}-{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture.save(path)
        return {"run": run, "name": name, "seconds": seconds, **self._eye.likeness(name, pictures)}


class _Eye:
    """`mini`'s face encoder: it guides nothing here, and judges only the search."""

    def __init__(self, work: Path) -> None:
        from sosie.faces.detect import Detector
        from sosie.faces.encoders import ArcFaceOnnx

        self._detector = Detector()
        self._encoder = ArcFaceOnnx("mini", next((work / "model").glob("id_encoder.onnx")))
        table = json.loads((work / "people.json").read_text())
        self._people = {name: self._template(rows["held"]) for name, rows in table.items()}

    def _template(self, held: list[Any]) -> np.ndarray:
        vectors = [
            self._encoder.embed(np.asarray(Image.open(path).convert("RGB")), face_of(face)) for path, face in held
        ]
        mean = np.mean(vectors, axis=0)
        return mean / np.linalg.norm(mean)

    def likeness(self, name: str, pictures: list[Image.Image]) -> dict[str, float]:
        own: list[float] = []
        other: list[float] = []
        for picture in pictures:
            pixels = np.asarray(picture)
            for face in self._detector.detect(pixels)[:1]:
                found = self._encoder.embed(pixels, face)
                own.append(float(found @ self._people[name]))
                other.append(float(np.mean([found @ v for n, v in self._people.items() if n != name])))
        return {"own": float(np.mean(own)), "other": float(np.mean(other)), "faces": len(own)}


Task = tuple[str, str, Training | None, bool]
_studio: list[Studio] = []


def _open(work: Path) -> None:
    _studio.append(Studio(work))


def _done(task: Task) -> dict[str, Any]:
    try:
        return _studio[0].do(*task)
    except Exception as error:
        return {"run": task[1], "name": task[0], "error": f"{type(error).__name__}: {error}"}


class Crew:
    """Several processes, each with the model."""

    def __init__(self, work: Path) -> None:
        self._pool = multiprocessing.get_context("spawn").Pool(WORKERS, _open, (work,))

    def run(self, tasks: list[Task]) -> Iterator[dict[str, Any]]:
        for row in self._pool.imap_unordered(_done, tasks):
            print(json.dumps(row), flush=True)
            yield row


def search(work: Path, seconds: float, changes: dict[str, dict[str, Any]] = CHANGES) -> None:
    """Single changes while there is time, then the best of each kind together."""
    began, crew = time.monotonic(), Crew(work)
    found: dict[str, list[dict[str, Any]]] = {}
    presets = {"preset": PRESET, **{name: replace(PRESET, **change) for name, change in changes.items()}}

    def measure(names: list[str]) -> None:
        tasks = [(person, name.replace(" ", "-"), presets[name], False) for name in names for person in SEARCHED]
        for row in crew.run(tasks):
            found.setdefault(row["run"].replace("-", " "), []).append(row)

    def value(name: str) -> float:
        rows = [row for row in found.get(name.replace("-", " "), []) if "own" in row]
        return float(np.mean([row["own"] for row in rows])) if len(rows) == len(SEARCHED) else -1.0

    names = list(presets)
    for place in range(0, len(names), WORKERS):
        if time.monotonic() - began < seconds * 0.75:
            measure(names[place : place + WORKERS])
    better = sorted((name for name in changes if value(name) > value("preset")), key=value, reverse=True)
    together: dict[str, Any] = {}
    sums: list[str] = []
    for name in better[:5]:
        together = {**changes[name], **together}  # of two changes of one setting the better one counts
        sums.append(f"best {len(sums) + 1}")
        presets[sums[-1]] = replace(PRESET, **together)
    if time.monotonic() - began < seconds:
        measure(sums[1:])
    ranked = sorted((name for name in presets if value(name) > 0), key=value, reverse=True)
    rows = [[name, value(name), _changed(presets[name])] for name in ranked]
    (work / "presets.json").write_text(json.dumps(rows, indent=1))
    print(json.dumps(rows), f"{time.monotonic() - began:.0f} s", flush=True)


def _changed(training: Training) -> dict[str, Any]:
    return {name: value for name, value in vars(training).items() if value != getattr(PRESET, name)}


def teach(work: Path, columns: list[str]) -> None:
    """The columns of all people, with pictures."""
    best = json.loads((work / "presets.json").read_text())[0] if (work / "presets.json").exists() else ["", 0, {}]
    presets = {"text": None, "plain": PLAIN, "lora": replace(PRESET, **best[2])}
    people = json.loads((work / "people.json").read_text())
    tasks: list[Task] = [(person, column, presets[column], True) for column in columns for person in people]
    for _ in Crew(work).run(tasks):
        pass


def judge(work: Path) -> None:
    """Both judges against the references that were not learned from, copy-paste index, adherence, defects."""
    from ablation import Work
    from identity import described

    from sosie.api.characters import new_character
    from sosie.dataset.build import open_classifier, templates
    from sosie.faces.encoders import similarity
    from sosie.scorers.adherence import score_adherence
    from sosie.scorers.copy_paste import copy_paste_index
    from sosie.scorers.defects import score_defects
    from sosie.scorers.sample import Sample
    from sosie.workspace.characters import CharacterFile
    from sosie.workspace.session import Session
    from sosie.workspace.workspace import open_workspace

    store = Work(work)
    table, scores = store.read("people"), store.read("scores")
    (work / "judging").mkdir(exist_ok=True)
    with Session(open_workspace(work / "judging")) as session:
        encoders = session.judges[0]
        people: dict[str, Any] = {}
        shown: dict[str, Any] = {}
        for name, rows in table.items():
            held = [Path(path) for path, _ in rows["held"]]
            details = CharacterFile(name, "fictional", True, described(held[0].parent))
            people[name] = templates(session, new_character(session, details, held, replace=True).character)
            learned = [(work / "sets" / name / row["file"], row["face"]) for row in rows["rows"] if row["face"]]
            both = [[(Path(p), f) for p, f in rows["held"]], learned]
            shown[name] = {
                judge: [
                    np.stack([e.embed(np.asarray(Image.open(p).convert("RGB")), face_of(f)) for p, f in side])
                    for side in reversed(both)
                ]
                for judge, e in encoders.items()
            }
        classifier = open_classifier(attributes())
        for path in sorted((work / "images").glob("*/*.png")):
            column, (name, _, index) = path.parent.name, path.stem.rpartition("-")
            if f"{column}/{path.stem}" in scores:
                continue
            pixels = np.asarray(Image.open(path).convert("RGB"))
            sample = Sample(pixels, session.detector.detect(pixels), PROMPTS[int(index)])
            asked = prompt(table, name, PROMPTS[int(index)], "text")
            adherence = score_adherence(sample, asked, classifier)
            row: dict[str, Any] = {
                "adherence": adherence.value,
                "answers": {answer.attribute: answer.is_met for answer in adherence.answers},
                "defects": [score.name for score in score_defects(sample) if score.passed is False],
            }
            for judge, encoder in encoders.items() if sample.faces else ():
                found = encoder.embed(pixels, sample.faces[0])
                values = {who: similarity(encoder.metric, people[who][judge][1], found) for who in people}
                copy = copy_paste_index(found[np.newaxis], *shown[name][judge])[0]
                row[judge] = {
                    "own": float(values.pop(name)),
                    "other": [*map(float, values.values())],
                    "copy": float(copy),
                }
            scores[f"{column}/{path.stem}"] = row
            if len(scores) % 20 == 0:
                print(len(scores), flush=True)
                store.write("scores", scores)
    store.write("scores", scores)


def attributes() -> Path:
    """The classifier that `mini` brings; it was trained on pictures of that model."""
    import sosie_mini

    return Path(sosie_mini.__file__).parent / "attributes.onnx"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("prepare", "search", "teach", "judge"))
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--columns", default="text,plain,lora")
    asked = parser.parse_args()
    work = asked.folders[-1]
    if asked.step == "prepare":
        prepare(*asked.folders)
    elif asked.step == "search":
        search(work, asked.seconds)
    elif asked.step == "teach":
        teach(work, asked.columns.split(","))
    else:
        judge(work)


if __name__ == "__main__":
    main()
