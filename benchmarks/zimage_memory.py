"""Peaks of GPU memory of Z-Image in each storage and memory mode, beside the estimate of the plan.

    python benchmarks/zimage_memory.py [--size 1024x1024] [--storages bf16,fp8,gguf] [--tiny]

Files of full size with random weights are written (the headers are those of the published ones), then loaded as a
recipe's are, so loading is timed, too. Each moment's peak is what the allocator reserved from an empty cache, plus
CUDA's own. Then cards of 24 and 12 GB are imitated by a limit on the process: the mode that `choose` takes for them
must draw. Last, streams of DFloat11 are unpacked. Takes 30 GB of disk in `--folder`. With `--tiny` it rehearses on a
CPU with the tests' small model, where no memory is measured.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sosie.diffusion.flow.memory import ImageNeeds, Work, estimates
from sosie.diffusion.memory import CONTEXT, GB, Mode, choose
from sosie.diffusion.offload import device_of, place
from sosie.diffusion.weights.dfloat11 import Stream, decode
from sosie.families.zimage.diffusers.denoise import Guidance, Velocity
from sosie.families.zimage.diffusers.load import Files, load_parts
from sosie.families.zimage.diffusers.parts import Parts
from sosie.families.zimage.diffusers.text import encode
from sosie.families.zimage.diffusers.weights import part_sizes
from sosie.families.zimage.memory import PASSES
from sosie.families.zimage.packing import held_packed
from sosie.files.safetensors import TensorInfo
from sosie.files.strip import read_stripped

ROOT = Path(__file__).parents[1]
HEADERS = ROOT / "tests" / "fixtures" / "headers"
CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
MODES: dict[str, tuple[Mode, ...]] = {
    "bf16": ("full", "tiled", "offload", "fp8", "sequential"),
    "fp8": ("full", "offload", "sequential"),
    "gguf": ("full", "offload"),
}
PROMPT = "a portrait of a woman with red hair, soft daylight, a forest behind her, smiling"


@dataclass(frozen=True)
class Row:
    """One moment: bytes reserved at most, what was estimated, seconds."""

    storage: str
    mode: str
    moment: str
    reserved: int
    estimated: int
    seconds: float


def table_of(name: str) -> dict[str, TensorInfo]:
    return dict(read_stripped(HEADERS / f"{name}.json.gz")[0].tensors)


def numbers(shape: tuple[int, ...], wide: float = 0.02) -> torch.Tensor:
    """Normal numbers of a weight, bfloat16 in main memory; norms are ones."""
    if len(shape) < 2:
        return torch.ones(shape, dtype=torch.bfloat16)
    return (torch.randn(shape, device=DEVICE, dtype=torch.bfloat16) * wide).cpu()


def write_safetensors(path: Path, tensors: Iterator[tuple[str, str, torch.Tensor]], shapes: dict[str, Any]) -> Path:
    """A file of tensors that are made one after the other; `shapes` is dtype, shape and bytes by name, in order."""
    at, header = 0, {}
    for name, (dtype, shape, size) in shapes.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for _, _, tensor in tensors:
            stream.write(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return path


def plain_file(path: Path, table: dict[str, TensorInfo]) -> Path:
    shapes = {name: ("BF16", info.shape, 2 * math.prod(info.shape)) for name, info in table.items()}
    return write_safetensors(path, ((name, "", numbers(info.shape)) for name, info in table.items()), shapes)


def fp8_file(path: Path, table: dict[str, TensorInfo], keep: Callable[[str], bool] = held_packed) -> Path:
    """e4m3 with one scale a weight (`scale_weight`), modulation and embedders in bf16."""
    shapes: dict[str, Any] = {}
    for name, info in table.items():
        count = math.prod(info.shape)
        eight = held(name, info, keep)
        shapes[name] = ("F8_E4M3", info.shape, count) if eight else ("BF16", info.shape, 2 * count)
        if eight:
            shapes[f"{name.removesuffix('weight')}scale_weight"] = ("F32", (), 4)

    def tensors() -> Iterator[tuple[str, str, torch.Tensor]]:
        for name, info in table.items():
            whole = numbers(info.shape)
            if not held(name, info, keep):
                yield name, "", whole
                continue
            yield name, "", (whole.to(DEVICE) / 0.0005).to(torch.float8_e4m3fn).cpu()
            yield "", "", torch.tensor(0.0005)

    return write_safetensors(path, tensors(), shapes)


def held(name: str, info: TensorInfo, keep: Callable[[str], bool] = held_packed) -> bool:
    return len(info.shape) == 2 and name.endswith(".weight") and keep(name.removesuffix(".weight"))


def gguf_file(path: Path, table: dict[str, TensorInfo]) -> Path:
    """Q8_0 for what may stay packed, F32 for norms, BF16 for the rest, by llama.cpp's own writer."""
    import gguf

    kinds = gguf.GGMLQuantizationType
    writer = gguf.GGUFWriter(path, "lumina2", use_temp_file=False)
    chance = np.random.default_rng(1)
    for name, info in table.items():
        if held(name, info) and info.shape[1] % 32 == 0:
            blocks = chance.integers(0, 256, (info.shape[0], info.shape[1] // 32, 34), np.uint8)
            blocks[:, :, :2] = np.frombuffer(np.float16(0.0003).tobytes(), np.uint8)
            writer.add_tensor(name, blocks.reshape(info.shape[0], -1), raw_dtype=kinds.Q8_0)
        elif len(info.shape) < 2:
            writer.add_tensor(name, np.ones(info.shape, np.float32), raw_dtype=kinds.F32)
        else:
            data = numbers(info.shape).view(torch.uint8).numpy()
            writer.add_tensor(name, data, raw_dtype=kinds.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


WRITERS = {"bf16": plain_file, "fp8": fp8_file, "gguf": gguf_file}


def files_of(storage: str, folder: Path, tiny: bool) -> Files:
    """The three files; encoder and VAE are shared and bf16."""
    if tiny:
        sys.path.insert(0, str(ROOT / "tests" / "support"))
        import tiny_zimage

        from sosie.files.safetensors import read_header

        made = tiny_zimage.make(folder / f"tiny-{storage}")
        table = dict(read_header(made.transformer).tensors)
        encoder, vae = made.text_encoder, made.vae
    else:
        table = table_of("zimage-single")
        encoder, vae = folder / "encoder.safetensors", folder / "ae.safetensors"
        if not encoder.is_file():
            plain_file(encoder, {n: i for n, i in table_of("qwen3-4b").items() if not n.startswith("lm_head")})
            plain_file(vae, table_of("vae-16-single"))
    suffix = "gguf" if storage == "gguf" else "safetensors"
    return Files(WRITERS[storage](folder / f"z-{storage}.{suffix}", table), encoder, vae)


def moments(parts: Parts, width: int, height: int, rows: int) -> dict[str, Callable[[], Any]]:
    """By the names of the estimate."""
    text: dict[str, torch.Tensor] = {}

    def read() -> None:
        text["prompt"] = encode(parts, PROMPT).to(DEVICE)

    def denoise() -> None:
        channels = int(parts.transformer.config.in_channels)
        guidance = Guidance(text["prompt"], text["prompt"] if rows == 2 else None, 4.0)
        velocity = Velocity(parts.transformer, guidance, device_of(parts.transformer))
        latents = torch.randn(1, channels, height // 8, width // 8, device=DEVICE)
        with torch.no_grad():
            for sigma in (1.0, 0.5):
                latents = velocity(latents, sigma)

    def decode_() -> None:
        vae: Any = parts.vae
        latents = torch.randn(1, 16, height // 8, width // 8, device=device_of(vae), dtype=vae.dtype)
        with torch.no_grad():
            vae.decode(latents, return_dict=False)

    return {"generate text": read, "generate denoise": denoise, "generate decode": decode_}


def empty() -> None:
    gc.collect()
    if CUDA:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def measure(parts: Parts, named: tuple[str, str], work: Work, estimated: dict[str, int]) -> list[Row]:
    found: list[Row] = []
    for name, moment in moments(parts, work.width, work.height, work.rows).items():
        moment()
        empty()
        started = time.perf_counter()
        moment()
        if CUDA:
            torch.cuda.synchronize()
        peak = torch.cuda.max_memory_reserved() if CUDA else 0
        found.append(Row(*named, name, peak, estimated[name], time.perf_counter() - started))
        print(found[-1], flush=True)
    return found


def on_card(parts: Parts, card: float, needs: ImageNeeds) -> str:
    """What `choose` takes for a card of so many bytes, and whether every moment runs within them."""
    mode, work = choose(int(card), estimates(needs)), needs.works[0]
    place(parts, mode, DEVICE)
    empty()
    if CUDA:
        torch.cuda.set_per_process_memory_fraction((card - CONTEXT) / torch.cuda.get_device_properties(0).total_memory)
    try:
        for moment in moments(parts, work.width, work.height, work.rows).values():
            moment()
    except torch.OutOfMemoryError as error:
        return f"{card / GB:.0f} GB: '{mode}' does not fit: {str(error)[:200]}"
    finally:
        peak = torch.cuda.max_memory_reserved() if CUDA else 0
        if CUDA:
            torch.cuda.set_per_process_memory_fraction(1.0)
    return f"{card / GB:.0f} GB: '{mode}' fits, {(peak + CONTEXT) / GB:.1f} GB at most"


def unpacking(count: int) -> str:
    """DFloat11's speed on this device; the encoder is that of the tests."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    from stored import dfloat11

    weight = (torch.randn(count) * 0.02).bfloat16()
    pieces = dfloat11("b", [weight])
    parts = ("luts", "encoded_exponent", "sign_mantissa", "output_positions", "gaps")
    stream = Stream("b", *(pieces[f"b.{part}"] for part in parts))
    decode(stream, DEVICE)
    started = time.perf_counter()
    found = decode(stream, DEVICE).cpu()
    seconds = time.perf_counter() - started
    right = torch.equal(found.view(torch.int16), weight.view(torch.int16))
    return f"DFloat11: {count / 1e6:.0f} million numbers in {seconds:.2f} s, {'the same bits' if right else 'WRONG'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1024x1024")
    parser.add_argument("--storages", default="bf16,fp8,gguf")
    parser.add_argument("--rows", type=int, default=2, help="2 under guidance, 1 without")
    parser.add_argument("--folder", type=Path, help="where files of full size are written; else a temporary one")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    width, height = (64, 64) if options.tiny else map(int, options.size.split("x"))
    work = Work("generate", width, height, options.rows)
    rows: list[Row] = []
    said: list[str] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        for storage in options.storages.split(","):
            files = files_of(storage, Path(name), options.tiny)
            needs = ImageNeeds((work,), PASSES, part_sizes(files.transformer, files.text_encoder, files.vae, 2))
            for mode in MODES[storage]:
                started = time.perf_counter()
                parts = load_parts(files, torch.bfloat16, DEVICE, packed=True)
                said.append(f"{storage}: loaded in {time.perf_counter() - started:.1f} s")
                if CUDA:
                    place(parts, mode, DEVICE)
                estimated = dict(next(one for one in estimates(needs) if one.mode == mode).moments)
                rows += measure(parts, (storage, mode), work, estimated)
                if mode == "offload" and CUDA:
                    said += [f"{storage}, {on_card(parts, card * GB, needs)}" for card in (24, 12)]
                del parts
                empty()
            files.transformer.unlink()
    said.append(unpacking(100_000 if options.tiny else 4_000_000))
    own = 0
    if CUDA:
        free, total = torch.cuda.mem_get_info()
        own = total - free - torch.cuda.memory_reserved()
    machine = torch.cuda.get_device_name() if CUDA else "CPU"
    print(f"\n{machine}, torch {torch.__version__}, CUDA's own {own / GB:.2f} GB; {width}x{height}, {work.rows} rows\n")
    print(
        "| storage | mode | moment | measured, GB | estimated | off | s |\n| --- | --- | --- | --- | --- | --- | --- |"
    )
    for row in rows:
        real = row.reserved + own
        off = f"{100 * (row.estimated / real - 1):+.0f} %" if row.reserved else ""
        values = f"{real / GB:.2f} | {row.estimated / GB:.2f} | {off} | {row.seconds:.2f}"
        print(f"| {row.storage} | {row.mode} | {row.moment} | {values} |")
    print("\n".join(dict.fromkeys(said)))
    print(json.dumps({"machine": machine, "own": own, "rows": [vars(row) for row in rows]}))


if __name__ == "__main__":
    main()
