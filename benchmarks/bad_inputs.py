"""Twenty bad inputs, as they turn up in practice, made on the spot: sparse files with true headers, no weights.

`make(FOLDER)` writes them and says of each what is wrong, which words would say so, and what Sosie is asked.
"""

from __future__ import annotations

import json
import os
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sosie.files.strip import read_stripped

HEADERS = Path(__file__).parent.parent / "tests" / "fixtures" / "headers"
BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1}
Table = Mapping[str, tuple[str, tuple[int, ...]]]

WIDTHS = {"attention.to_q": (3840, 3840), "attention.to_k": (3840, 3840), "attention.to_v": (3840, 3840)}
WIDTHS |= {"attention.to_out.0": (3840, 3840), "feed_forward.w1": (3840, 10240), "feed_forward.w2": (10240, 3840)}
WIDTHS |= {"feed_forward.w3": (3840, 10240), "adaLN_modulation.0": (256, 15360)}
"""Z-Image's modules that LoRAs change: columns and rows."""


@dataclass(frozen=True)
class Bad:
    """One input: its kind (`file`, `lora`, `workflow`, `dataset`, `machine`, `disk`), and the path that is looked at.

    `says` is a regular expression; a tool has found what is wrong if its output matches. `asked` is
    what Sosie's command line is given, beside `--json` and the workspace.
    """

    title: str
    kind: str
    path: Path
    says: str
    asked: tuple[str, ...]


def fixture(name: str) -> Table:
    """The tensors of a published model, by the stripped header of that name."""
    return {n: (i.dtype, i.shape) for n, i in read_stripped(HEADERS / f"{name}.json.gz")[0].tensors.items()}


def hollow(path: Path, table: Table, metadata: Mapping[str, str] | None = None, cut: float = 1.0) -> Path:
    """A sparse safetensors file; the first 4 kB of each tensor are no zeros. `cut` is the share that was fetched."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, (dtype, shape) in table.items():
        end = offset
        size = 1
        for axis in shape:
            size *= axis
        end += size * BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in table:
            begin, end = header[name]["data_offsets"]
            file.seek(start + begin)
            file.write(b"\x3c" * min(4096, end - begin))
        file.truncate(int((start + offset) * cut))
    return path


def lora(path: Path, spell: Callable[[int, str], str], suffixes: tuple[str, str], metadata: Mapping[str, str]) -> Path:
    """A LoRA of rank 16 for all 30 layers of Z-Image; `spell` gives a module's name."""
    table: dict[str, tuple[str, tuple[int, ...]]] = {}
    for layer in range(30):
        for module, (columns, rows) in WIDTHS.items():
            stem = spell(layer, module)
            table[stem + suffixes[0]] = ("BF16", (16, columns))
            table[stem + suffixes[1]] = ("BF16", (rows, 16))
    return hollow(path, table, metadata)


def dotted(layer: int, module: str) -> str:
    """As ai-toolkit names modules."""
    return f"diffusion_model.layers.{layer}.{module}"


def flat(layer: int, module: str) -> str:
    """As musubi-tuner names modules."""
    return f"lora_unet_layers_{layer}_{module.replace('.', '_')}"


def gguf(path: Path) -> Path:
    """A GGUF file (version 3) of one tensor of 4 x 4096 numbers, of which half is there."""
    name, architecture = b"blk.0.attn_q.weight", b"qwen3"
    key = b"general.architecture"
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1)
    head += struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, len(architecture)) + architecture
    head += struct.pack("<Q", len(name)) + name + struct.pack("<IQQIQ", 2, 4096, 4, 1, 0)
    head += b"\0" * (-len(head) % 32)
    path.write_bytes(head + b"\x3c" * (4096 * 4))
    return path


def workflow(unet: str, nodes: Mapping[str, Any] | None = None, model: tuple[str, int] = ("1", 0)) -> dict[str, Any]:
    """A text-to-image graph of Z-Image in ComfyUI's API format; the sampler reads from `model`."""
    text = {"clip": ["2", 0]}
    sampler = {"seed": 1, "steps": 30, "cfg": 4.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    links = {"model": list(model), "positive": ["4", 0], "negative": ["5", 0], "latent_image": ["6", 0]}
    return {
        "1": {"class_type": "UNETLoader", "inputs": {"unet_name": unet, "weight_dtype": "default"}},
        "2": {"class_type": "CLIPLoader", "inputs": {"clip_name": "qwen_3_4b.safetensors", "type": "lumina2"}},
        "3": {"class_type": "VAELoader", "inputs": {"vae_name": "ae.safetensors"}},
        "4": {"class_type": "CLIPTextEncode", "inputs": {**text, "text": "a portrait"}},
        "5": {"class_type": "CLIPTextEncode", "inputs": {**text, "text": ""}},
        "6": {"class_type": "EmptySD3LatentImage", "inputs": {"width": 1024, "height": 1024, "batch_size": 1}},
        "7": {"class_type": "KSampler", "inputs": {**sampler, **links}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["7", 0], "vae": ["3", 0]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "z"}},
        **(nodes or {}),
    }


FACE: dict[str, Any] = {"weight": 0.8, "weight_faceidv2": 1.0, "weight_type": "linear", "combine_embeds": "concat"}
FACE |= {"start_at": 0.0, "end_at": 1.0, "embeds_scaling": "V only"}
"""The settings of IPAdapter plus' node for FaceID."""


def schema(models: Path) -> dict[str, Any]:
    """What a ComfyUI server with these model files answers to `/object_info`, for the nodes that are used here."""
    files = {kind: sorted(path.name for path in (models / kind).iterdir()) for kind in ("unet", "clip", "vae", "loras")}
    number: Callable[[str], list[Any]] = lambda kind: [kind, {"default": 1}]  # noqa: E731
    text = ["STRING", {"multiline": True}]

    def node(
        required: dict[str, Any], output: tuple[str, ...], optional: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        inputs = {"required": required, "optional": optional or {}}
        return {"input": inputs, "output": list(output), "output_name": list(output), "output_node": not output}

    sampler = {"model": ["MODEL"], "seed": number("INT"), "steps": number("INT"), "cfg": number("FLOAT")}
    sampler |= {"sampler_name": [["euler", "res_multistep"]], "scheduler": [["simple", "normal"]]}
    sampler |= {"positive": ["CONDITIONING"], "negative": ["CONDITIONING"], "latent_image": ["LATENT"]}
    face: dict[str, Any] = {"model": ["MODEL"], "ipadapter": ["IPADAPTER"], "image": ["IMAGE"]}
    face |= {name: [[value]] if isinstance(value, str) else number("FLOAT") for name, value in FACE.items()}
    return {
        "UNETLoader": node({"unet_name": [files["unet"]], "weight_dtype": [["default", "fp8_e4m3fn"]]}, ("MODEL",)),
        "CLIPLoader": node({"clip_name": [files["clip"]], "type": [["lumina2", "sd3"]]}, ("CLIP",)),
        "VAELoader": node({"vae_name": [files["vae"]]}, ("VAE",)),
        "LoraLoaderModelOnly": node(
            {"model": ["MODEL"], "lora_name": [files["loras"]], "strength_model": number("FLOAT")}, ("MODEL",)
        ),
        "CLIPTextEncode": node({"text": text, "clip": ["CLIP"]}, ("CONDITIONING",)),
        "EmptySD3LatentImage": node(
            {"width": number("INT"), "height": number("INT"), "batch_size": number("INT")}, ("LATENT",)
        ),
        "KSampler": node({**sampler, "denoise": number("FLOAT")}, ("LATENT",)),
        "VAEDecode": node({"samples": ["LATENT"], "vae": ["VAE"]}, ("IMAGE",)),
        "SaveImage": node({"images": ["IMAGE"], "filename_prefix": text}, ()),
        "LoadImage": node({"image": [["face.png"]]}, ("IMAGE", "MASK")),
        "IPAdapterModelLoader": node({"ipadapter_file": [["ip-adapter.bin"]]}, ("IPADAPTER",)),
        "IPAdapterFaceID": node(face, ("MODEL",)),
    }


def make(folder: Path) -> list[Bad]:
    """Writes all twenty below `folder`, with the healthy files that some of them stand beside."""
    models = folder / "models"
    for kind in ("unet", "clip", "vae", "loras"):
        (models / kind).mkdir(parents=True)
    hollow(models / "unet" / "z_image_bf16.safetensors", fixture("zimage-single"))
    hollow(models / "clip" / "qwen_3_4b.safetensors", fixture("qwen3-4b"))
    hollow(models / "vae" / "ae.safetensors", fixture("vae-16-single"))
    return [*_files(models), *_loras(models / "loras"), *_workflows(folder), *_others(folder)]


def _files(models: Path) -> list[Bad]:
    page = models / "clip" / "qwen_page.safetensors"
    page.write_text("<!DOCTYPE html><html><head><title>Sign in</title></head><body>401</body></html>\n" * 40)
    pointer = models / "vae" / "ae_pointer.safetensors"
    oid = "sha256:" + "0" * 64
    pointer.write_text(f"version https://git-lfs.github.com/spec/v1\noid {oid}\nsize 335304388\n")
    cut = hollow(models / "unet" / "z_image_cut.safetensors", fixture("zimage-single"), cut=0.41)
    packed = hollow(models / "unet" / "z_image_b.safetensors", fixture("zimage-dfloat11"))
    nan = models / "vae" / "ae_b.safetensors"
    hollow(nan, fixture("vae-16-single"))
    content = bytearray(nan.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    content[start:] = b"\xff\x7f" * ((len(content) - start) // 2)
    nan.write_bytes(content)
    code = models / "unet" / "4x.pth"
    code.write_bytes(b"\x80\x02cposix\nsystem\n(S'true'\ntR.")
    half = gguf(models / "unet" / "z_image_q8.gguf")
    partial = models / "unet" / "z_image_turbo.safetensors.part"
    partial.write_bytes(b"\x3c" * 10**6)
    os.utime(partial, (time.time() - 90_000,) * 2)
    rows = [
        ("a web page saved as a model", page, "(?i)html|web ?page"),
        ("a Git LFS pointer", pointer, "(?i)lfs"),
        ("a truncated download", cut, "(?i)truncat|incomplete|cut off"),
        ("Z-Image packed as DFloat11", packed, "(?i)dfloat11|df11"),
        ("a VAE of NaN", nan, r"(?i)\bnan\b"),
        ("a pickle that runs code", code, r"posix\.system|posix system|SOS-K001"),
        ("half a GGUF file", half, "(?i)truncat|incomplete"),
        ("a download that was broken off", partial, "(?i)partial|unfinished|broken off"),
    ]
    return [Bad(title, "file", path, says, ("doctor", str(path))) for title, path, says in rows]


def _loras(folder: Path) -> list[Bad]:
    turned = {"ss_base_model_version": "zimage"}
    musubi = lora(folder / "elena_a.safetensors", flat, (".lora_down.weight", ".lora_up.weight"), turned)
    table = {"lora_unet_input_blocks_4_1_proj_in.lora_down.weight": ("F16", (8, 640))}
    table |= {"lora_unet_input_blocks_4_1_proj_in.lora_up.weight": ("F16", (640, 8))}
    foreign = hollow(folder / "style.safetensors", table)
    base = {"ss_sd_model_name": "Z-Image-De-Turbo"}
    turbo = lora(folder / "elena.safetensors", dotted, (".lora_A.weight", ".lora_B.weight"), base)
    show = ("lora", "show")
    return [
        Bad("a LoRA whose names ComfyUI drops", "lora", musubi, "(?i)drops|not loaded", (*show, str(musubi))),
        Bad("an SDXL LoRA for Z-Image", "lora", foreign, "(?i)none of its|no tensor.*match|sdxl",
            (*show, str(foreign), "--base", "zimage")),
        Bad("a LoRA of De-Turbo for Base", "lora", turbo, "(?i)trained on .*de-?turbo.*base",
            (*show, str(turbo), "--for", "base")),
    ]  # fmt: skip


def _workflows(folder: Path) -> list[Bad]:
    chosen = {"class_type": "LoraLoaderModelOnly", "inputs": {"model": ["1", 0], "strength_model": 1.0}}
    chosen["inputs"] |= {"lora_name": "style.safetensors"}
    face = {
        "10": {"class_type": "LoadImage", "inputs": {"image": "face.png"}},
        "11": {"class_type": "IPAdapterModelLoader", "inputs": {"ipadapter_file": "ip-adapter.bin"}},
        "12": {
            "class_type": "IPAdapterFaceID",
            "inputs": {"model": ["1", 0], "ipadapter": ["11", 0], "image": ["10", 0], **FACE},
        },
    }
    good = "z_image_bf16.safetensors"
    absent = r"(?i)z_image_fp32\S* (is|was|does) not|(missing|not found|not there)\W.*z_image_fp32"
    adapter = "(?i)siglip|(no|trained a) .*adapter"
    rows: list[tuple[str, str, dict[str, Any], str]] = [
        ("a link to a node that is not there", "link", workflow(good, model=("77", 0)), r"(?i)\b77\b"),
        ("a model file that does not exist", "missing", workflow("z_image_fp32.safetensors"), absent),
        ("an SDXL LoRA on Z-Image in a graph", "lora", workflow(good, {"10": chosen}, ("10", 0)), "(?i)sdxl.*z-?image"),
        ("a face reference on Z-Image in a graph", "face", workflow(good, face, ("12", 0)), adapter),
    ]  # fmt: skip
    found: list[Bad] = []
    for title, name, graph, says in rows:
        path = folder / f"{name}.json"
        path.write_text(json.dumps(graph, indent=1))
        found.append(Bad(title, "workflow", path, says, ("doctor", str(path))))
    return found


RECIPE = """name = "z"
prompt = "{prompt}"
width = 1024
height = 1024
[[stages]]
kind = "generate"
family = "zimage"
model = "z_image_bf16"
"""


def _others(folder: Path) -> list[Bad]:
    data = folder / "data"
    data.mkdir()
    for picture in sorted((HEADERS.parents[2] / "examples" / "mira").glob("*.jpg"))[:10]:
        (data / picture.name).write_bytes(picture.read_bytes())
        (data / picture.name).with_suffix(".txt").write_text("a photo of a woman")
    csv = "name, compute_cap, memory.total [MiB], memory.free [MiB], driver_version\n"
    card, driver, recipe = folder / "card.txt", folder / "driver.txt", folder / "z.toml"
    card.write_text(csv + "NVIDIA GeForce RTX 5090, 12.0, 32607 MiB, 32000 MiB, 575.57.08\ntorch 2.6.0+cu124\n")
    driver.write_text(csv + "NVIDIA GeForce RTX 3090, 8.6, 24576 MiB, 24000 MiB, 550.90.07\ntorch 2.11.0+cu130\n")
    recipe.write_text(RECIPE)
    fp16 = ("doctor", str(data), "--trigger", "elena", "--family", "zimage", "--precision", "fp16")
    pod = ("doctor", str(recipe), "--training", "3000", "--quota", "50GB")
    return [
        Bad("captions without trigger, all alike", "dataset", data, "(?i)trigger", fp16[:4]),
        Bad("Z-Image to be trained in fp16", "dataset", data, "(?i)fp16.*65,?504", fp16),
        Bad("sm_120 with torch 2.6 of CUDA 12.4", "machine", card, "(?i)sm_120", ("doctor", "--from", str(card))),
        Bad("driver 550 with torch of CUDA 13", "machine", driver, r"driver 550\.\S+ runs CUDA|driver.*too old",
            ("doctor", "--from", str(driver))),
        Bad("a pod of 50 GB for a training run", "disk", recipe, "(?i)disk full", pod),
    ]  # fmt: skip
