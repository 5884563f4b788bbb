"""The LoRAs of the ablation: what each learns from, and its training by the product's own trainer."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sosie.core import Character
from sosie.core.recipe import Training
from sosie.dataset.captions import trigger_for
from sosie.faces.detect import Face

PLAIN = Training(
    steps=754, batch=4, rank=8, alpha=8.0, targets="attention", learning_rate=1e-3, schedule="constant",
    min_snr=0.0, precision="fp32", resolution=256, save_every=754, sample_every=754,
)  # fmt: skip
"""A LoRA without anything of Sosie's own; 1e-3 is the best of the rates 1e-3, 3e-4 and 1e-4."""


def lora_path(root: Path, name: str) -> Path:
    """Where a LoRA lies: `mira-lora` or `mira-plain`."""
    return root / "loras" / f"{name}.safetensors"


def face_of(table: dict[str, Any]) -> Face:
    """The face that `told` wrote."""
    return Face(tuple(table["box"]), np.array(table["points"], np.float32), table["confidence"])


def told(face: Face) -> dict[str, Any]:
    """A face as JSON."""
    return {"box": face.box, "points": face.points.tolist(), "confidence": face.confidence}


Rows = list[dict[str, Any]]


def lessons_of(session: Any, character: Character, images: Sequence[Path], root: Path) -> dict[str, Rows]:
    """What each LoRA of a person reads: the images with their captions, as `sosie train` would put them."""
    from sosie.dataset import build as datasets
    from sosie.loop.training_job import TrainOrder, job_of
    from sosie.loop.training_job import bare as without
    from sosie.workspace.bill import resolve
    from sosie.workspace.recipes import load_recipe

    recipe = load_recipe(session.workspace, "mini")
    members: list[Any] = []
    for path in images:
        how = datasets.Captioning(recipe)
        datasets.add(session, character, members, datasets.OfferedImage(path, f"file:{path.name}"), how)
    bare = replace(recipe, training=PLAIN)
    rows: dict[str, Rows] = {}
    bill = resolve(session.workspace, without(recipe).stages)
    for part, one in (("lora", recipe), ("plain", bare)):
        rows[part] = []
        for image in job_of(session, TrainOrder((character,), one), bill).images:
            copy = root / "sets" / character.name / image.path.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(image.path.read_bytes())
            face = None if image.face is None else told(image.face)
            rows[part].append({"file": copy.name, "sha256": image.sha256, "caption": image.caption, "face": face})
    return rows


def teach(root: Path, device: str, only: str) -> None:
    """Trains the LoRAs that are not there yet, nobody judging: the last step's is delivered."""
    import sosie_mini

    from sosie.dataset.dataset import TrainingImage
    from sosie.training.job import BaseModel, TrainingJob
    from sosie.training.run import train
    from sosie.workspace.recipes import read_recipe

    preset = read_recipe(Path(__file__).parents[1] / "recipes" / "mini.toml").training
    for name, parts in json.loads((root / "lessons.json").read_text()).items():
        for part, rows in parts.items():
            target = lora_path(root, f"{name}-{part}")
            if (only and only != name) or target.exists():
                continue
            images = tuple(
                TrainingImage(
                    root / "sets" / name / row["file"], row["sha256"], row["caption"], trigger_for(name),
                    row["face"] and face_of(row["face"]), name,
                )
                for row in rows
            )  # fmt: skip
            training = preset if part == "lora" else PLAIN
            base = BaseModel("sdxl", "mini", Path(sosie_mini.folder()), "")
            folder = root / "training" / f"{name}-{part}"
            job = TrainingJob(base, training, images, folder, target.resolve(), folder.parent / name, device=device)
            started = time.perf_counter()
            steps = sum(hasattr(event, "gradient") for event in train(job))
            print(f"{target.stem}: {steps} steps in {time.perf_counter() - started:.0f} s", flush=True)
