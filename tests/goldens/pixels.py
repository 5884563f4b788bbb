"""Pictures of the embedded model, case by case: what is drawn, with what, and how two of them are compared.

Everything goes through the in-process engine and plans: `DiffusersEngine`, `Supplies` and `plan`.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sosie.core import (
    Character,
    Detail,
    Draw,
    Guide,
    Keypoints,
    LoraUse,
    Plan,
    Recipe,
    Render,
    Request,
    Sampler,
    Stage,
    Upscale,
    plan,
)
from sosie.core.plan import asset_names
from sosie.engines.diffusers import DiffusersEngine, Supplies
from sosie.faces.detect import Detector

FILE = Path(__file__).parent / "mini.npz"
EXAMPLE = Path(__file__).parents[2] / "examples" / "mira" / "00.jpg"
REDUCED = 32
"""The longer side of a recorded picture."""

SAMPLERS = ("euler", "euler_a", "ddim", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_sde", "uni_pc", "lcm")
SCHEDULES = ("model", "karras", "exponential", "sgm_uniform", "simple", "beta")
REFUSED = {("lcm", "karras"), ("lcm", "exponential")}

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Case:
    """One picture. `given` starts from the portrait in place of noise; `stages` run in order."""

    name: str
    stages: tuple[Stage, ...]
    prompt: str = "smiling, soft daylight, forest background"
    negative: str = ""
    size: tuple[int, int] = (128, 96)
    seed: int = 7
    given: bool = False
    character: str = "mira"


FACEID = Guide("faceid", "mini:ip-adapter/ip-adapter-faceid_mini.safetensors", "mini:id_encoder.onnx")
INSTANTID = replace(FACEID, kind="instantid", keypoints=Keypoints("mini:controlnet", stick=2.0, radius=4.5))
LORA = "golden.safetensors"


def stage(sampler: Sampler, **more: Any) -> Stage:
    return Stage("generate", "sdxl", "mini", sampler=sampler, **more)


EULER = Sampler("euler", "model", 4, 3.5)
DRAW = stage(EULER)
GUIDED = stage(EULER, guides=(FACEID,))
REFINE = replace(GUIDED, kind="refine", sampler=replace(EULER, steps=6, denoise=0.5))
FACE = replace(
    REFINE,
    kind="detail",
    guides=(INSTANTID,),
    sampler=replace(EULER, steps=6, denoise=0.6),
    detail=Detail(size=256, seam=100.0),
)
UPSCALE = Stage("upscale", "esrgan", "mini-upscaler", upscale=Upscale(4.0))
LONG = ", ".join(f"word {number} of a long description" for number in range(24))


def cases() -> Iterator[Case]:
    """Every case, once: 46 samplers and schedules, then whatever else changes a picture."""
    for sampler, schedule in product(SAMPLERS, SCHEDULES):
        if (sampler, schedule) not in REFUSED:
            steps = 6 if schedule in ("model", "simple") else 4  # at 4 the two are one
            yield Case(f"{sampler}-{schedule}", (stage(Sampler(sampler, schedule, steps, 3.5)),))
    for sampler in SAMPLERS:
        yield Case(f"refine-{sampler}", (replace(REFINE, sampler=Sampler(sampler, "model", 5, 3.5, 0.6)),), given=True)
    yield Case("one-step", (stage(replace(EULER, steps=1)),))
    yield Case("without-guidance", (stage(replace(EULER, cfg=1.0)),))
    yield Case("faceid", (GUIDED,))
    yield Case("faceid-other-face", (GUIDED,), character="another")
    yield Case("faceid-half", (replace(GUIDED, guides=(replace(FACEID, scale=0.4),)),))
    yield Case("faceid-without-guidance", (replace(GUIDED, sampler=replace(EULER, cfg=1.0)),))
    yield Case("faceid-dpmpp_2m_sde", (replace(GUIDED, sampler=Sampler("dpmpp_2m_sde", "karras", 6, 5.0)),))
    yield Case("lora", (replace(DRAW, loras=(LoraUse(LORA, 0.8),)),))
    yield Case("lora-beside-guide", (replace(GUIDED, loras=(LoraUse(LORA, 0.7, "zxv", 0.35),)),))
    yield Case("clip-skip-1", (replace(DRAW, clip_skip=1),))
    yield Case("clip-skip-2", (replace(DRAW, clip_skip=2),))
    yield Case("negative", (DRAW,), negative="(beach:1.5), [neon light], night")
    yield Case("weights", (DRAW,), "(smiling:1.4), ((forest)), [daylight], \\(studio\\)")
    yield Case("chunks", (DRAW,), f"smiling BREAK beach, {LONG}", negative="night")
    yield Case("own-prompt", (replace(DRAW, prompt="photo of {prompt}, by night"),))
    yield Case("bf16", (replace(DRAW, precision="bf16"),))
    yield Case("full-size", (GUIDED,), size=(256, 256))
    yield Case("face-pass", (FACE,), given=True)
    yield Case("face-pass-faceid", (replace(FACE, guides=(FACEID,)),), given=True)
    yield Case("face-pass-lora", (replace(FACE, loras=(LoraUse(LORA, 3.0),)),), given=True)
    yield Case("upscale", (replace(UPSCALE, upscale=Upscale(2.0, tile=96, overlap=16)),), given=True)
    yield Case("all-stages", (GUIDED, REFINE, UPSCALE), size=(128, 128))
    yield Case("given-all-stages", (REFINE, FACE, replace(UPSCALE, upscale=Upscale(1.5))), given=True)


@cache
def portrait() -> Image.Image:
    """The first render of the example character at the model's own scale, in an odd-sized picture."""
    with Image.open(EXAMPLE) as image:
        small = image.convert("RGB").resize((256, 256), Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (277, 269), (90, 110, 130))
    canvas.paste(small, (12, 9))
    return canvas


class KnownFaces:
    """Keeps `families.Faces`: a face for each name, drawn from a seed, and the largest face of a picture."""

    def embedding(self, guide: Guide, plan: Plan) -> NDArray[np.float32]:
        vector = np.random.default_rng(len(plan.character.name)).normal(size=256).astype(np.float32)
        return vector / np.linalg.norm(vector)

    def crops(self, guide: Guide, plan: Plan) -> Sequence[Image.Image]:
        return []

    def find(self, image: Image.Image, plan: Plan, stage: Stage) -> Any:
        return Detector().detect(np.asarray(image))[0]


def write_lora(path: Path) -> Path:
    """A LoRA in kohya's layout that changes attention, feed-forward, a convolution and a text encoder, from a seed."""
    from safetensors.numpy import save_file

    block = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0"
    shapes = {
        f"{block}_attn1_to_q": ((4, 128), (128, 4)),
        f"{block}_attn2_to_k": ((4, 256), (128, 4)),
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_v": ((8, 256), (224, 8)),
        "lora_unet_down_blocks_1_resnets_0_conv1": ((4, 64, 3, 3), (128, 4, 1, 1)),
        "lora_te2_text_model_encoder_layers_1_self_attn_q_proj": ((4, 128), (128, 4)),
    }
    numbers = np.random.default_rng(5)
    content: dict[str, NDArray[np.float32]] = {}
    for stem, (down, up) in shapes.items():
        content[f"{stem}.lora_down.weight"] = numbers.normal(0, 0.15, down).astype(np.float32)
        content[f"{stem}.lora_up.weight"] = numbers.normal(0, 0.15, up).astype(np.float32)
        content[f"{stem}.alpha"] = np.array(float(len(content[f"{stem}.lora_down.weight"])), np.float32)
    save_file(content, path)
    return path


def open_engine(folder: Path) -> DiffusersEngine:
    """The in-process engine on the CPU; `folder` gets the LoRA."""
    import sosie_mini

    names = {name for case in cases() for name in asset_names(case.stages)}
    mini = sosie_mini.folder()
    paths = {name: mini / name.partition(":")[2] for name in names if name.partition(":")[0] == "mini"}
    paths |= {"mini-upscaler": sosie_mini.upscaler(), LORA: write_lora(folder / LORA)}
    return DiffusersEngine(Supplies(paths, KnownFaces(), lambda _: portrait()), device="cpu")


def draw(engine: DiffusersEngine, case: Case) -> Pixels:
    """The picture of a case, uint8 [height, width, 3]."""
    recipe = Recipe(
        "golden",
        case.stages,
        "portrait of {trigger}, {description}, {prompt}",
        *case.size,
        negative_prompt=case.negative,
    )
    source = "f" * 64 if case.given else ""
    kinds = tuple(stage.kind for stage in case.stages) if case.given else ()
    request = Request("golden", case.character, case.prompt, seed=case.seed, source=source, stages=kinds)
    who = Character(case.character, "fictional", True, "a young woman, light skin, auburn braided hair, brown eyes")
    planned = plan(recipe, who, request, Draw(), dict.fromkeys(asset_names(case.stages), ""))
    assert not engine.check(planned)
    (render,) = (event for event in engine.run([planned]) if isinstance(event, Render))
    assert not render.findings
    return np.asarray(render.image)


def digest(pixels: Pixels) -> str:
    """SHA-256 of size and pixels."""
    return hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def reduced(pixels: Pixels) -> Pixels:
    """The picture with its longer side at `REDUCED` px, each pixel the mean of those under it."""
    image = Image.fromarray(pixels)
    scale = REDUCED / max(image.size)
    return np.asarray(image.resize([round(side * scale) for side in image.size], Image.Resampling.BOX))


def difference(one: Pixels, other: Pixels) -> float:
    """The mean distance of two pictures of one size, in levels of 255."""
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


def environment() -> str:
    """What rounding depends on: packages, the CPU, its vector units and the number of threads."""
    import torch

    processor = platform.processor()
    if (info := Path("/proc/cpuinfo")).exists():
        lines = dict(line.partition("\t")[::2] for line in info.read_text().split("\n\n")[0].splitlines())
        keys = ("vendor_id", "cpu family", "model", "flags")
        text = json.dumps([value.strip(" \t:") for key in keys for name, value in lines.items() if name.strip() == key])
        processor = hashlib.sha256(text.encode()).hexdigest()[:16]
    packages = ("torch", "diffusers", "transformers", "numpy", "pillow", "opencv-python-headless", "spandrel")
    return json.dumps(
        {
            "packages": {name: version(name) for name in packages},
            "capability": torch.backends.cpu.get_cpu_capability(),
            "processor": processor,
            "threads": torch.get_num_threads(),
        }
    )


def record(folder: Path) -> None:
    """Draws every case and writes `mini.npz`: a digest, a reduced picture and a size of each, and the environment."""
    engine = open_engine(folder)
    content: dict[str, Any] = {"environment": np.array(environment())}
    for case in cases():
        pixels = draw(engine, case)
        content[f"{case.name}/digest"] = np.array(digest(pixels))
        content[f"{case.name}/size"] = np.array(pixels.shape)
        content[f"{case.name}/image"] = reduced(pixels)
    engine.close()
    np.savez_compressed(FILE, **content)


def as_recorded(engine: DiffusersEngine, case: Case, recorded: Mapping[str, np.ndarray], tolerance: float) -> None:
    """Fails unless a case draws its recorded picture: to the bit where it was recorded, else within `tolerance`."""
    drawn = draw(engine, case)
    assert drawn.shape == tuple(recorded[f"{case.name}/size"])
    moved = difference(reduced(drawn), recorded[f"{case.name}/image"])
    assert moved < tolerance
    if str(recorded["environment"]) == environment():
        assert digest(drawn) == str(recorded[f"{case.name}/digest"]), f"moved by {moved:.3f} levels"
