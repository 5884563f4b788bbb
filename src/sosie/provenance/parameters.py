"""How an image was made, in the words that other programs read: A1111's `parameters`, or a JSON file beside it.

`parameters` is a text chunk of a PNG: prompt, `Negative prompt: ...`, and a line of settings (A1111's
`modules/infotext_utils.py`; CivitAI reads the same). Models are known there by the first ten digits of a file's
SHA-256, LoRAs by AutoV3: the first twelve of the SHA-256 of what follows a safetensors file's header. A model in
several files has no such hash.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from sosie import __version__
from sosie.core import Plan, Stage
from sosie.core.errors import SosieError
from sosie.core.schema import to_table
from sosie.files.digest import tensors_digest

Metadata = Literal["none", "a1111", "sidecar"]
"""What is written of an image's making beside its manifest."""

KINDS: tuple[Metadata, ...] = get_args(Metadata)

SAMPLERS = {
    "euler": "Euler",
    "euler_a": "Euler a",
    "ddim": "DDIM",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_sde": "DPM++ SDE",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "dpm_2": "DPM2",
    "heun": "Heun",
    "lms": "LMS",
    "uni_pc": "UniPC",
    "lcm": "LCM",
}
"""A1111's names of samplers; others keep the recipe's."""

SCHEDULES = {
    "karras": "Karras",
    "exponential": "Exponential",
    "sgm_uniform": "SGM Uniform",
    "normal": "Normal",
    "simple": "Simple",
    "beta": "Beta",
}
"""A1111's names of schedules; a model's own is Automatic."""


def infotext(plan: Plan, files: Mapping[str, Path]) -> str:
    """A1111's text of a plan; `files` are those of its assets that lie here."""
    stage = _first(plan)
    sampler = stage.sampler
    settings = {
        "Steps": str(sampler.steps),
        "Sampler": SAMPLERS.get(sampler.name, sampler.name),
        "Schedule type": SCHEDULES.get(sampler.schedule, "Automatic"),
        "CFG scale": f"{sampler.cfg:g}",
        "Seed": str(plan.seed),
        "Size": f"{plan.width}x{plan.height}",
        "Model hash": _model_hash(plan, stage, files),
        "Model": _stem(stage.model),
        "Denoising strength": f"{sampler.denoise:g}" if stage.kind != "generate" else "",
        "Clip skip": str(stage.clip_skip + 2) if stage.clip_skip else "",
        "Lora hashes": ", ".join(
            f"{_stem(use.file)}: {hash_}" for use in stage.loras if (hash_ := _autov3(use.file, files))
        ),
        "Version": f"Sosie {__version__}",
    }
    line = ", ".join(f"{name}: {_quoted(value)}" for name, value in settings.items() if value)
    tags = "".join(f" <lora:{_stem(use.file)}:{use.weight:g}>" for use in stage.loras)
    negative = f"\nNegative prompt: {_flat(plan.negative_prompt)}" if plan.negative_prompt else ""
    return f"{_flat(stage.prompt or plan.prompt)}{tags}{negative}\n{line}"


def sidecar(plan: Plan, files: Mapping[str, Path]) -> dict[str, Any]:
    """What a JSON file beside the image says: everything that was asked and used."""
    stage = _first(plan)
    return {
        "prompt": plan.prompt,
        "negative_prompt": plan.negative_prompt,
        "seed": plan.seed,
        "width": plan.width,
        "height": plan.height,
        "steps": stage.sampler.steps,
        "cfg": stage.sampler.cfg,
        "sampler": stage.sampler.name,
        "schedule": stage.sampler.schedule,
        "model": {
            "name": stage.model,
            "hash": _model_hash(plan, stage, files) or None,
            "sha256": plan.asset(stage.model).sha256 or None,
        },
        "loras": [
            {"name": use.file, "weight": use.weight, "autov3": _autov3(use.file, files) or None}
            | {"sha256": plan.asset(use.file).sha256 or None}
            for use in stage.loras
        ],
        "recipe": plan.recipe,
        "stages": to_table(plan.stages),
        "asked": to_table(plan.requested),
        "plan": plan.id,
        "software": f"Sosie {__version__}",
    }


def parameters_in(path: Path) -> str:
    """The `parameters` that a PNG holds; empty if it holds none, or is none."""
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG",)) as image:
            return str(image.info.get("parameters", ""))
    except (OSError, ValueError, SyntaxError):
        return ""


def _first(plan: Plan) -> Stage:
    """The stage that other programs would do: the one that draws, or the first that works on an image."""
    return next((stage for stage in plan.stages if stage.kind == "generate"), plan.stages[0])


def _model_hash(plan: Plan, stage: Stage, files: Mapping[str, Path]) -> str:
    path = files.get(stage.model)
    return plan.asset(stage.model).sha256[:10] if path is not None and path.is_file() else ""


def _autov3(name: str, files: Mapping[str, Path]) -> str:
    try:
        return tensors_digest(files[name])[:12] if name in files else ""
    except SosieError:
        return ""


def _stem(name: str) -> str:
    """The name without folders and ending: no folder of the machine is told."""
    return re.sub(r"\.(?:safetensors|sft|ckpt|pt|pth|bin)$", "", re.split(r"[/\\:]", name)[-1], flags=re.IGNORECASE)


def _quoted(value: str) -> str:
    """A value that holds a separator of the line stands in quotes, as A1111 writes it."""
    if not re.search(r'[,:\n"]', value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _flat(text: str) -> str:
    return " ".join(text.split("\n"))
