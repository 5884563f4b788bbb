"""Steps a second and peak memory of training a LoRA of SDXL: Sosie beside diffusers' example script, on one GPU.

    python benchmarks/train_speed.py SCRIPT WORK [--steps 40] [--batches 1,4]
    python benchmarks/train_speed.py SCRIPT WORK --memory

SCRIPT is `examples/text_to_image/train_text_to_image_lora_sdxl.py` of diffusers' repository; it is run unmodified,
as shipped (`script`) and given latents and texts ready-made (`cached`). Full-size SDXL with random weights and
16 synthetic pictures at 1024x1024 are made in WORK once; rank 16, attention alone, AdamW, bf16. Every contender
has a process of its own.

Sosie runs first and records what its trainer was given; `cached` gets the very same batches, noise, timesteps and
start, so that the losses can be compared. The script keeps its LoRA in bf16, Sosie in fp32: `wide` is `cached`
with the LoRA in fp32, which tells rounding from a difference of method. `untouched` is the loss without a LoRA
on the same batches: how far a run has moved from it is how much it learned.

`--memory` compares Sosie's peaks in several settings with its own estimate. `--tiny` rehearses on a CPU in fp32.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import sdxl_parts as parts
import torch
from train_speed_script import Clock, peaks, reset_peaks, run, wait

RANK, IMAGES, TRIGGER = 16, 16, "mirasks"
GOALS = {"script": 2.0, "cached": 1.3}
"""How many times as fast Sosie must be."""

CASES: tuple[dict[str, Any], ...] = (
    {"batch": 1, "targets": "attention"},
    {"batch": 1, "targets": "transformer"},
    {"batch": 1, "targets": "all"},
    {"batch": 4, "targets": "transformer"},
    {"batch": 1, "targets": "transformer", "gradient_checkpointing": True},
    {"batch": 4, "targets": "transformer", "gradient_checkpointing": True},
    {"batch": 1, "targets": "transformer", "base_storage": "fp8"},
    {"batch": 4, "targets": "all", "gradient_checkpointing": True, "base_storage": "fp8"},
)
"""Settings whose memory is measured."""


def make_model(folder: Path, *, tiny: bool) -> None:
    """A diffusers folder with random weights: bf16 at full size, fp32 if tiny; mini's tokenizers, which are CLIP's."""
    import diffusers
    import sosie_mini
    import transformers

    device = "cuda" if torch.cuda.is_available() else "cpu"
    sizes, dtype = (parts.TINY, torch.float32) if tiny else (parts.FULL_SIZE, torch.bfloat16)
    place, mini = parts.Place(sizes, device, dtype), Path(sosie_mini.folder())
    first, second = parts.encoders(place)
    pipeline = diffusers.StableDiffusionXLPipeline(
        vae=parts.vae(place),
        text_encoder=first,
        text_encoder_2=second,
        tokenizer=transformers.CLIPTokenizer.from_pretrained(mini / "tokenizer"),
        tokenizer_2=transformers.CLIPTokenizer.from_pretrained(mini / "tokenizer_2"),
        unet=parts.unet(place),
        scheduler=diffusers.EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
        add_watermarker=False,
    )
    part = folder.with_name("model.part")
    shutil.rmtree(part, ignore_errors=True)
    pipeline.save_pretrained(part)
    part.rename(folder)


def make_images(folder: Path, size: int) -> None:
    """Smooth gradients with a disc and a bar each, and a caption for every picture."""
    from PIL import Image, ImageDraw

    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    across, down = np.meshgrid(np.linspace(0, 1, size), np.linspace(0, 1, size))
    rows: list[str] = []
    for index in range(IMAGES):
        ways, starts = rng.uniform(-1, 1, (2, 3)), rng.uniform(0.3, 0.7, 3)
        levels = starts + 0.4 * (across[..., None] * ways[0] + down[..., None] * ways[1])
        image = Image.fromarray((levels.clip(0, 1) * 255).astype(np.uint8))
        draw = ImageDraw.Draw(image)
        x, y, radius = (float(value) * size for value in rng.uniform(0.2, 0.6, 3))
        draw.ellipse((x - radius / 2, y - radius / 2, x + radius / 2, y + radius / 2), tuple(rng.integers(0, 255, 3)))
        draw.rectangle((0, y, size, y + size / 16), tuple(rng.integers(0, 255, 3)))
        image.save(folder / f"{index:02}.png")
        text = f"{TRIGGER}, picture {index} of a disc and a bar"
        rows.append(json.dumps({"file_name": f"{index:02}.png", "text": text}))
    (folder / "captions.jsonl").write_text("\n".join(rows) + "\n")


def job_of(spec: dict[str, Any]) -> Any:
    """Sosie's job; the same settings as the script's arguments where `spec` does not say otherwise."""
    from sosie.core.recipe import Sampler, Training
    from sosie.dataset.dataset import read_folder
    from sosie.training.job import BaseModel, Samples, TrainingJob

    work, steps = Path(spec["work"]), spec["steps"]
    folder = work / "run"
    shutil.rmtree(folder, ignore_errors=True)
    settings: dict[str, Any] = {"targets": "attention", **spec["settings"]}
    training = Training(
        steps=steps,
        batch=spec["batch"],
        rank=RANK,
        alpha=RANK,
        learning_rate=spec["rate"],
        schedule="constant",
        optimizer="adamw",
        min_snr=0.0,
        precision="fp32" if spec["tiny"] else "bf16",
        resolution=spec["size"],
        save_every=10 * steps,
        sample_every=steps if spec["prompts"] else 10 * steps,
        **settings,
    )
    samples = Samples(tuple(spec["prompts"]), spec["size"], spec["size"], Sampler(steps=4))
    base = BaseModel("sdxl", "random weights", work / "model", "00" * 32)
    images = read_folder(work / "images", TRIGGER)[: spec["images"]]
    return TrainingJob(base, training, images, folder, folder / "lora.safetensors", folder / "cache", samples)


class Watched:
    """Sosie's trainer with its steps and samples observed; what it computes stays as it is."""

    def __init__(self, spec: dict[str, Any]) -> None:
        from sosie.families.sdxl.training import SdxlBase
        from sosie.training.loop import Trainer

        self.spec = spec
        self.clock = Clock(spec["steps"])
        self.peaks: dict[str, dict[str, int]] = {}
        self._given: list[tuple[Any, Any, Any]] = []
        self._trainer: Any = None
        self._downs: dict[str, Any] = {}
        self._step, self._sample, self._noised = Trainer.step, Trainer.sample, SdxlBase.add_noise
        Trainer.step, Trainer.sample, SdxlBase.add_noise = map(_method, (self.step, self.sample, self.noised))

    def step(self, trainer: Any) -> Any:
        if not self.clock.marks:
            self.peaks.setdefault("encode", peaks())
            self._trainer, adapters = trainer, trainer._adapters
            downs = zip(adapters.modules, adapters.parameters[::2], strict=True)
            self._downs = {name: matrix.to("cpu", copy=True) for name, matrix in downs}
            self.clock.ready()
        return self._step(trainer)

    def sample(self, trainer: Any, judge: Any) -> Any:
        self.peaks.setdefault("encode", peaks())
        reset_peaks()
        made = self._sample(trainer, judge)
        wait()
        self.peaks["sample"] = peaks()
        return made

    def noised(self, base: Any, batch: Any, generator: Any, positions: Any) -> Any:
        state = generator.get_state()
        made = self._noised(base, batch, generator, positions)
        self._given.append((batch, state, made))
        return made

    def run(self) -> dict[str, Any]:
        """The whole training, to its delivered file."""
        from sosie.core import Finding
        from sosie.training.events import RolledBack, Stepped
        from sosie.training.run import train

        for event in train(job_of(self.spec)):
            if isinstance(event, Stepped):
                self.clock.step(event.loss)
            elif isinstance(event, RolledBack) or (isinstance(event, Finding) and event.severity == "error"):
                raise SystemExit(f"Sosie's training did not go through: {event}")
        return {**self.clock.row(), "lora": str(self._trainer._adapters.weights.dtype).removeprefix("torch.")}

    def feed(self) -> list[dict[str, Any]]:
        """What each step was given, with the latents before noise came to them (`clean`)."""
        steps: list[dict[str, Any]] = []
        for batch, state, made in self._given:
            generator = torch.Generator("cpu")
            generator.set_state(state)
            steps.append({**made, "clean": batch["mean"] + batch["std"] * _spread(batch, generator)})
        size = float(self.spec["size"])
        sizes = torch.tensor([size, size, 0, 0, size, size])
        if any(not torch.equal(row, sizes) for step in steps for row in step["sizes"]):
            raise SystemExit(f"Sosie's six sizes are not those of the script: {steps[0]['sizes'][0].tolist()}")
        return steps

    def untouched(self, steps: list[dict[str, Any]]) -> list[float]:
        """The loss of each step's batch without a LoRA."""
        adapters, base = self._trainer._adapters, self._trainer._base
        adapters.weights.detach().zero_()
        adapters.refresh()
        device = adapters.weights.device
        with torch.no_grad():
            given = [{name: tensor.to(device) for name, tensor in step.items()} for step in steps]
            return [float(base.unreduced_loss(one)[0].mean()) for one in given]

    def store(self, steps: list[dict[str, Any]]) -> None:
        torch.save({"downs": self._downs, "steps": steps}, self.spec["feed"])


def _method(bound: Any) -> Any:
    """A function that a class takes as its method, with the instance as first argument of `bound`."""
    return lambda *given: bound(*given)  # noqa: PLW0108 - a bound method would not be bound again


def _spread(batch: Any, generator: Any) -> Any:
    """The first numbers that `add_noise` draws."""
    return torch.randn(batch["std"].shape, generator=generator)


def sosie(spec: dict[str, Any]) -> dict[str, Any]:
    """Times, peaks and losses; records the feed."""
    watched = Watched(spec)
    row = watched.run()
    steps = watched.feed()
    watched.store(steps)
    return {**row, "untouched": watched.untouched(steps)}


def memory(spec: dict[str, Any]) -> dict[str, Any]:
    """Peaks of the three moments that Sosie's estimate tells of, beside it; `card` is all that is taken at the end."""
    from sosie.families.sdxl.training_memory import moments

    watched = Watched(spec)
    row = watched.run()
    measured = {**watched.peaks, "train": {name: row[name] for name in ("allocated", "reserved")}}
    job = job_of(spec)
    taken = 0
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        taken = total - free
    estimate = dict(moments(job.training, (spec["size"], spec["size"])))
    return {"measured": measured, "estimate": estimate, "card": taken, "ms": row["ms"]}


def child(spec: dict[str, Any]) -> None:
    """One contender, in a process of its own; the last line of its output is its row."""
    import diffusers
    import peft  # noqa: F401 - loaded before any clock runs, as the others are
    import transformers  # noqa: F401

    kind = spec["contender"]
    work = Path(spec["work"])
    if kind == "material":
        if not (work / "model").exists():
            make_model(work / "model", tiny=spec["tiny"])
        make_images(work / "images", spec["size"])
        row: dict[str, Any] = {}
    else:
        row = {"sosie": sosie, "memory": memory}.get(kind, run)(spec)
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    row["machine"] = f"{card}, torch {torch.__version__}, diffusers {diffusers.__version__}"
    print(json.dumps(row))


def contend(options: argparse.Namespace, contender: str, batch: int, **more: Any) -> dict[str, Any]:
    """Runs a contender; its row, or what it died of."""
    work = Path(options.work).resolve()
    size = (128 if options.tiny else 1024) if options.size is None else options.size
    settings = {name: value for name, value in more.items() if name != "batch"}
    spec = {
        "contender": contender,
        "batch": batch,
        "size": size,
        "steps": options.steps,
        "rate": options.rate,
        "rank": RANK,
        "tiny": options.tiny,
        "work": str(work),
        "script": str(Path(options.script).resolve()),
        "feed": str(work / f"feed-b{batch}.pt"),
        "settings": settings,
        "images": IMAGES,
        "prompts": [],
    }
    if contender == "memory":
        spec |= {"steps": 6, "images": 4, "prompts": [f"{TRIGGER}, a disc"]}
    began, name = time.perf_counter(), f"{contender}-b{batch}"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    command = [sys.executable, __file__, "--child", json.dumps(spec)]
    with (work / f"{name}.log").open("w") as log:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, check=False)
    about = {"contender": contender, "batch": batch, **settings, "whole": time.perf_counter() - began}
    if done.returncode:
        said = (work / f"{name}.log").read_text().splitlines()
        print(f"{name} failed:", *said[-12:], sep="\n", file=sys.stderr, flush=True)
        return {**about, "error": said[-1] if said else f"exit status {done.returncode}"}
    print(f"{name}: {about['whole']:.0f} s", file=sys.stderr, flush=True)
    return {**about, **json.loads(done.stdout.splitlines()[-1])}


def compare(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """How far two loss curves over the same batches lie apart, and how far they moved by learning.

    `mean` and `largest` are relative differences, `at_first` that of the first step, which is rounding alone.
    `learned` is the share of the untouched loss that Sosie's run has taken off in the mean of the last quarter,
    `of_learned` how much more (or, below 0, less) the other took off, as a share of that.
    """
    one, other, still = (np.array(values) for values in (ours["losses"], theirs["losses"], ours["untouched"]))
    apart, last = np.abs(one - other) / other, slice(-max(1, len(one) // 4), None)
    moved = float((still - one)[last].mean())
    return {
        "with": theirs["contender"],
        "batch": ours["batch"],
        "mean": float(apart.mean()),
        "largest": float(apart.max()),
        "at_first": float(apart[0]),
        "learned": moved / float(still[last].mean()),
        "of_learned": float((one - other)[last].mean()) / moved if moved else 0.0,
    }


def race(options: argparse.Namespace, batch: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of a batch size, and the comparisons of loss curves."""
    ours = contend(options, "sosie", batch)
    rows = [ours, contend(options, "script", batch)]
    if "error" in ours:
        return rows, []
    rows.append(contend(options, "cached", batch))
    if rows[-1].get("lora") != "float32":
        rows.append(contend(options, "wide", batch))
    for row in rows[1:]:
        if "ms" in row:
            row["sosie_is_faster"] = row["ms"] / ours["ms"]
    return rows, [compare(ours, row) for row in rows[2:] if "losses" in row]


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = ["| contender | batch | ms a step | steps/s | Sosie is faster | peak allocated, reserved, GB | LoRA |"]
    lines[0] += " before step 1, s | step 1, s |"
    lines.append("| --- " * 9 + "|")
    for row in rows:
        if "error" in row:
            lines.append(f"| {row['contender']} | {row['batch']} | {row['error']} |" + " |" * 6)
            continue
        faster, goal = row.get("sosie_is_faster"), GOALS.get(row["contender"])
        ratio = "" if faster is None else f"{faster:.2f} times" + (f" (goal {goal})" if goal else "")
        memory = f"{row['allocated'] / 1e9:.2f}, {row['reserved'] / 1e9:.2f}"
        cells = [row["contender"], row["batch"], f"{row['ms']:.1f}", f"{row['steps_per_second']:.2f}", ratio, memory]
        cells += [row["lora"], f"{row['before_first_step']:.1f}", f"{row['first_step']:.1f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(json.loads(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("script", help="diffusers' train_text_to_image_lora_sdxl.py")
    parser.add_argument("work", help="a folder for model, pictures and logs (10 GB)")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batches", default="1,4")
    parser.add_argument("--rate", type=float, default=1e-4, help="the learning rate")
    parser.add_argument("--size", type=int, help="pixels on a side")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    Path(options.work).mkdir(parents=True, exist_ok=True)
    made = contend(options, "material", 0)
    if "error" in made:
        raise SystemExit("the model could not be made")
    if options.memory:
        for case in CASES:
            print(json.dumps(contend(options, "memory", **case)), flush=True)
        return
    rows: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    for batch in map(int, options.batches.split(",")):
        if IMAGES % batch:
            raise SystemExit(f"batches of {batch} do not divide {IMAGES} pictures")
        more, others = race(options, batch)
        rows, curves = rows + more, curves + others
    print(f"{made['machine']}; {options.steps} steps\n\n{table(rows)}\n")
    for curve in curves:
        print(
            f"batch {curve['batch']}: losses of sosie and {curve['with']} differ by {curve['mean']:.1e} in the mean, "
            f"{curve['largest']:.1e} at most, {curve['at_first']:.1e} at the first step; learning took "
            f"{curve['learned']:.1e} off, {curve['with']} {curve['of_learned']:+.2%} of that"
        )
    print(json.dumps({"machine": made["machine"], "rows": rows, "curves": curves}))


if __name__ == "__main__":
    main()
