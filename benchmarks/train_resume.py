"""Whether a training of Z-Image that is killed goes on to the same file, bit for bit, on this machine.

    python benchmarks/train_resume.py WORK [--steps 10] [--kill 5] [--tiny]

Full-size Z-Image with random weights is made in WORK once (21 GB; `zimage_train_speed.py` uses the same), with
pictures of four shapes, so that batches change size from step to step; the settings are those of the recipe `zimage`.
Three processes: one trains to the end; one ends itself by signal 9 after `--kill` steps, its last state three steps
old or younger; one resumes that. Losses and LoRAs are compared. `--tiny` rehearses on a CPU in fp32.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from zimage_train_speed import TRIGGER, make_model

EVERY = 3
"""Steps between two states."""

FILE = "lora.safetensors"
SHAPES = ((1024, 1024), (832, 1216), (1216, 832), (640, 640))


def make_pictures(folder: Path, scale: float) -> None:
    """Noise in coarse squares, two pictures of each shape."""
    from PIL import Image

    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    rows: list[str] = []
    for index, (width, height) in enumerate(2 * SHAPES):
        squares = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
        size = (round(width * scale), round(height * scale))
        squares.resize(size, Image.Resampling.BICUBIC).save(folder / f"{index}.png")
        rows.append(json.dumps({"file_name": f"{index}.png", "text": f"{TRIGGER}, {'a long word ' * index}"}))
    (folder / "captions.jsonl").write_text("\n".join(rows) + "\n")


def job_of(spec: dict[str, Any]) -> Any:
    from sosie.dataset.dataset import read_folder
    from sosie.training.job import BaseModel, TrainingJob
    from sosie.workspace.recipes import read_recipe, shipped_folder

    work, tiny = Path(spec["work"]), spec["tiny"]
    own = read_recipe(shipped_folder() / "zimage.toml").training
    assert own is not None
    training = replace(own, steps=spec["steps"], warmup=2, save_every=EVERY, sample_every=10 * spec["steps"])
    if tiny:
        training = replace(training, precision="fp32", resolution=128, least_resolution=64)
    folder = work / spec["folder"]
    base = BaseModel("zimage", "random weights", work / "model", "00" * 32)
    images = read_folder(work / "shapes", TRIGGER)
    return TrainingJob(base, training, images, folder, folder / FILE, work / "resume-cache")


def child(spec: dict[str, Any]) -> None:
    """One training; the last line of its output is its row."""
    import torch

    from sosie.training.events import Stepped
    from sosie.training.run import train

    work, job, losses = Path(spec["work"]), job_of(spec), {}
    if not (work / "model").exists():
        make_model(work / "model", tiny=spec["tiny"])
    began = time.perf_counter()
    first = 0.0
    for event in train(job, resume=(job.folder / "state.safetensors").exists()):
        if isinstance(event, Stepped):
            first = first or time.perf_counter() - began
            losses[event.step] = event.loss
            if event.step == spec["kill"]:
                os.kill(os.getpid(), signal.SIGKILL)
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    print(json.dumps({"losses": losses, "first": first, "peak": peak}))


def same_lora(one: Path, other: Path) -> bool:
    """Whether two files hold the same tensors bit for bit; what stands around them names the time."""
    from safetensors.numpy import load_file

    ours, theirs = load_file(one), load_file(other)
    return ours.keys() == theirs.keys() and all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)


def run(options: argparse.Namespace, folder: str, kill: int) -> dict[str, Any] | None:
    """A process of its own; its row, or None if it was killed."""
    work = Path(options.work).resolve()
    spec = {"work": str(work), "folder": folder, "kill": kill, "steps": options.steps, "tiny": options.tiny}
    log = work / f"resume-{folder}-{kill}.log"
    with log.open("w") as errors:
        command = [sys.executable, __file__, "--child", json.dumps(spec)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, text=True, check=False)
    if done.returncode == -signal.SIGKILL:
        return None
    if done.returncode:
        raise SystemExit("\n".join(log.read_text().splitlines()[-12:]))
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(json.loads(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--kill", type=int, default=5)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    work = Path(options.work)
    work.mkdir(parents=True, exist_ok=True)
    for name in ("whole", "cut"):
        shutil.rmtree(work / name, ignore_errors=True)
    make_pictures(work / "shapes", 1 / 8 if options.tiny else 1)
    whole = run(options, "whole", 0)
    if run(options, "cut", options.kill) is not None:
        raise SystemExit(f"the run was not killed: it has no step {options.kill}")
    rest = run(options, "cut", 0)
    assert whole is not None
    assert rest is not None
    again = options.kill - options.kill % EVERY
    steps = [str(step) for step in range(again + 1, options.steps + 1)]
    same = sum(rest["losses"].get(step) == whole["losses"][step] for step in steps)
    print(f"killed after step {options.kill}, resumed from the state of step {again}")
    print(f"losses: {same} of {len(steps)} the same bit for bit; {len(rest['losses'])} steps made again or anew")
    is_same = same_lora(work / "whole" / FILE, work / "cut" / FILE)
    print(f"the LoRA: {'the same bit for bit' if is_same else 'DIFFERENT'}")
    print(f"seconds to the first step: {whole['first']:.0f}, resumed {rest['first']:.0f}; {whole['peak'] / 1e9:.1f} GB")
    print(json.dumps([whole, rest]))
    if same != len(steps) or not is_same:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
