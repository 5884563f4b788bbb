"""Milliseconds a step and peak memory of training a LoRA of Z-Image: Sosie beside diffusers' example script.

    python benchmarks/zimage_train_speed.py SCRIPT WORK [--steps 25] [--batch 1] [--tiny]

SCRIPT is `examples/dreambooth/train_dreambooth_lora_z_image.py` of diffusers' repository, run unmodified: as shipped
(`script`: every picture goes through the VAE at every step) and with `--cache_latents` and Sosie's own latents, noise,
noise levels and first matrices (`cached`), so that the losses can be compared. Full-size Z-Image with random weights
(21 GB on the disk, 13 GB of the card's memory before activations; batch 1 needs about 45 GB) is made in WORK once;
1024x1024, rank 16 on attention's projections of the 30 layers, AdamW, bf16, no checkpointing. Every contender has a
process of its own. `--tiny` rehearses on a CPU in fp32. On a machine without network set HF_HUB_OFFLINE=1; it needs
torch, diffusers, transformers, peft, accelerate and this repository's `src` and `packages/*/src` on PYTHONPATH.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import runpy
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zimage_parts as parts
from train_speed import make_images
from train_speed_script import Clock

RANK, TRIGGER, TEXT = 16, "mirasks", "a picture of a disc and a bar"
LEVELS = 1000


def make_model(folder: Path, *, tiny: bool) -> None:
    """A diffusers folder with random weights and mini-z's tokenizer."""
    import diffusers
    import sosie_mini_z

    sizes, dtype = (parts.TINY, torch.float32) if tiny else (parts.FULL_SIZE, torch.bfloat16)
    if tiny:
        sizes = {**sizes, "encoder": {**sizes["encoder"], "vocab_size": 4101}}
    place = parts.Place(sizes, "cuda" if torch.cuda.is_available() else "cpu", dtype)
    part = folder.with_name("model.part")
    shutil.rmtree(part, ignore_errors=True)
    parts.transformer(place).save_pretrained(part / "transformer")
    parts.vae(place).save_pretrained(part / "vae")
    parts.encoder(place).save_pretrained(part / "text_encoder")
    diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(part / "scheduler")
    mini = Path(sosie_mini_z.__file__).parent / "weights"  # the tokenizer is there as it is; no weights are needed
    shutil.copytree(mini / "tokenizer", part / "tokenizer")
    shutil.copy(mini / "model_index.json", part)
    part.rename(folder)


def layers_of(spec: dict[str, Any]) -> list[str]:
    """The names of the modules that both adapt."""
    count = parts.TINY["transformer"]["n_layers"] if spec["tiny"] else 30
    names = ("to_q", "to_k", "to_v", "to_out.0")
    return [f"layers.{index}.attention.{name}" for index in range(count) for name in names]


def sosie(spec: dict[str, Any]) -> dict[str, Any]:
    """Sosie's trainer; what each step was given is stored for the script."""
    from sosie.core.recipe import Training
    from sosie.dataset.dataset import read_folder
    from sosie.families.zimage.training import ZImageBase
    from sosie.training import loop
    from sosie.training.events import Stepped
    from sosie.training.job import BaseModel, TrainingJob
    from sosie.training.run import train

    work, clock, given, downs = Path(spec["work"]), Clock(spec["steps"]), [], {}
    folder = work / "run"
    shutil.rmtree(folder, ignore_errors=True)
    rate, size, far = spec["rate"], spec["size"], 10 * spec["steps"]
    training = Training(
        steps=spec["steps"], batch=spec["batch"], rank=RANK, alpha=RANK, targets="attention", learning_rate=rate,
        schedule="constant", optimizer="adamw", min_snr=0.0, precision="fp32" if spec["tiny"] else "bf16",
        weight_decay=1e-4, resolution=size, save_every=far, sample_every=far,
    )  # fmt: skip
    base = BaseModel("zimage", "random weights", work / "model", "00" * 32)
    job = TrainingJob(base, training, read_folder(work / "images", TRIGGER), folder, folder / "lora.st", folder / "c")
    table = _table(work)
    noised, step = ZImageBase.add_noise, loop.Trainer.step
    places: list[torch.Tensor] = []

    def drawn(_: Any, generator: Any, count: int, __: int) -> torch.Tensor:
        places.append(torch.randint(0, LEVELS, (count,), generator=generator))
        return table[places[-1]]

    def watched(self: Any, batch: Any, generator: Any, positions: Any) -> Any:
        made = noised(self, batch, generator, positions)
        share = made["levels"].view(-1, 1, 1, 1)
        noise = made["noisy"] - (1 - share) * made["target"]
        given.append({"clean": made["target"] + noise, "noise": noise, "place": places[-1]})
        return made

    def stepped(self: Any) -> Any:
        if not clock.marks:
            pairs = zip(self._adapters.modules, self._adapters.parameters[::2], strict=True)
            downs.update({name: matrix.to("cpu", copy=True) for name, matrix in pairs})
            clock.ready()
        return step(self)

    loop.draw_timesteps, ZImageBase.add_noise, loop.Trainer.step = drawn, watched, stepped
    for event in train(job):
        if isinstance(event, Stepped):
            clock.step(event.loss)
    torch.save({"downs": downs, "steps": given}, spec["feed"])
    return clock.row()


def _table(work: Path) -> torch.Tensor:
    """The noise levels that the script knows."""
    import diffusers

    made = diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(work / "model" / "scheduler")
    return made.sigmas[:LEVELS].clone()


class _LastStepError(Exception):
    """The last step was logged."""


def script(spec: dict[str, Any]) -> dict[str, Any]:
    """The script, as shipped or with Sosie's feed."""
    import accelerate
    import diffusers
    import peft
    from diffusers import training_utils

    clock, cached = Clock(spec["steps"]), spec["contender"] == "cached"
    place = "cuda" if torch.cuda.is_available() else "cpu"
    feed = torch.load(spec["feed"], weights_only=True) if cached else None
    stock = accelerate.Accelerator.prepare

    def now() -> dict[str, Any]:
        assert feed is not None
        return feed["steps"][min(len(clock.losses), spec["steps"] - 1)]

    def prepare(accelerator: Any, transformer: Any, *others: Any, **options: Any) -> Any:
        made = stock(accelerator, transformer, *others, **options)
        if feed is not None:
            for name, module in transformer.named_modules():
                if isinstance(module, peft.tuners.lora.LoraLayer):
                    with torch.no_grad():
                        module.lora_A["default"].weight.copy_(feed["downs"][name])
            torch.randn_like = lambda like, **_: now()["noise"].to(like.device, like.dtype)
        clock.ready()
        return made

    def log(_: Any, values: dict[str, float], **__: Any) -> None:
        if clock.step(values["loss"]):
            raise _LastStepError

    accelerate.Accelerator.prepare, accelerate.Accelerator.log = prepare, log
    accelerate.Accelerator.init_trackers = lambda *_, **__: None
    if cached:
        training_utils.compute_density_for_timestep_sampling = lambda **_: (now()["place"] + 0.5) / LEVELS
        vae = json.loads((Path(spec["work"]) / "model" / "vae" / "config.json").read_text())

        def latents() -> Any:
            return (now()["clean"] / vae["scaling_factor"] + vae["shift_factor"]).to(place)

        found = types.SimpleNamespace(latent_dist=types.SimpleNamespace(mode=latents))
        diffusers.AutoencoderKL.encode = lambda *_, **__: found
    work = Path(spec["work"])
    arguments = {
        "pretrained_model_name_or_path": work / "model", "instance_data_dir": work / "pictures",
        "instance_prompt": f"{TRIGGER}, {TEXT}", "output_dir": work / "out", "resolution": spec["size"],
        "train_batch_size": spec["batch"], "max_train_steps": spec["steps"], "rank": RANK, "lora_alpha": RANK,
        "lora_layers": ",".join(layers_of(spec)), "learning_rate": spec["rate"], "lr_scheduler": "constant",
        "lr_warmup_steps": 0, "mixed_precision": "no" if spec["tiny"] else "bf16",
        "checkpointing_steps": 1_000_000, "seed": 0,
    }  # fmt: skip
    sys.argv = [spec["script"], *(f"--{name}={value}" for name, value in arguments.items())]
    sys.argv += ["--cache_latents"] if cached else []
    with contextlib.suppress(_LastStepError), contextlib.redirect_stdout(sys.stderr):
        runpy.run_path(spec["script"], run_name="__main__")
    if len(clock.losses) != spec["steps"]:
        raise SystemExit(f"the script ended after {len(clock.losses)} of {spec['steps']} steps")
    return clock.row()


def child(spec: dict[str, Any]) -> None:
    """One contender, in a process of its own; the last line of its output is its row."""
    work, row = Path(spec["work"]), {}
    if spec["contender"] == "material":
        if not (work / "model").exists():
            make_model(work / "model", tiny=spec["tiny"])
        make_images(work / "images", spec["size"])
        rows = [json.loads(line) for line in (work / "images" / "captions.jsonl").read_text().splitlines()]
        same = [json.dumps({**one, "text": f"{TRIGGER}, {TEXT}"}) for one in rows]
        (work / "images" / "captions.jsonl").write_text("\n".join(same) + "\n")
        bare = work / "pictures"  # the script opens every file of its folder as a picture
        shutil.rmtree(bare, ignore_errors=True)
        shutil.copytree(work / "images", bare, ignore=shutil.ignore_patterns("*.jsonl"))
    else:
        row = sosie(spec) if spec["contender"] == "sosie" else script(spec)
    print(json.dumps(row))


def contend(options: argparse.Namespace, contender: str) -> dict[str, Any]:
    """Runs a contender; its row."""
    work = Path(options.work).resolve()
    spec = {
        "contender": contender, "batch": options.batch, "size": 64 if options.tiny else 1024, "steps": options.steps,
        "rate": options.rate, "tiny": options.tiny, "work": str(work), "script": str(Path(options.script).resolve()),
        "feed": str(work / "feed.pt"),
    }  # fmt: skip
    command = [sys.executable, __file__, "--child", json.dumps(spec)]
    with (work / f"{contender}.log").open("w") as log:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ}, check=False)
    if done.returncode:
        print(f"{contender} failed:", *(work / f"{contender}.log").read_text().splitlines()[-12:], sep="\n", flush=True)
        return {"contender": contender, "error": done.returncode}
    return {"contender": contender, **json.loads(done.stdout.splitlines()[-1])}


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(json.loads(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("script", help="diffusers' train_dreambooth_lora_z_image.py")
    parser.add_argument("work", help="a folder for model, pictures and logs (21 GB)")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rate", type=float, default=1e-4, help="the learning rate")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    Path(options.work).mkdir(parents=True, exist_ok=True)
    if "error" in contend(options, "material"):
        raise SystemExit("the model could not be made")
    rows = [contend(options, contender) for contender in ("sosie", "script", "cached")]
    ours = rows[0]
    for row in rows:
        if "error" in row or "error" in ours:
            continue
        apart = np.abs(np.array(row["losses"]) / np.array(ours["losses"]) - 1)
        losses = f", losses differ by {apart.mean():.1e} (at most {apart.max():.1e})" if row is rows[2] else ""
        print(
            f"{row['contender']}: {row['ms']:.1f} ms a step, Sosie {row['ms'] / ours['ms']:.2f} times as fast, "
            f"{row['allocated'] / 1e9:.1f} GB{losses}"
        )
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
