"""Mutated inputs through every reader: only the project's errors come out, and memory stays under its bound.

python benchmarks/fuzz_readers.py [INPUTS] [SEED]

Each reader is given its share of INPUTS (50,000), made from right ones by what damages files in practice and by what
attackers write: bits turned, pieces cut out, doubled and moved, lengths changed, and tokens at which parsers break.
Printed is, for each reader, what became of its inputs, the slowest one, and the peak of its memory beyond the start.
`fuzz_headers.py` looks for more with the coverage as its guide.
"""

from __future__ import annotations

import io
import json
import os
import random
import resource
import struct
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sosie.core.errors import SosieError
from sosie.core.recipe import Recipe
from sosie.dataset.listing import read_listing
from sosie.doctor.model_files import check_model_file
from sosie.engines.comfy.answers import read_history, read_job, read_log, read_problems
from sosie.engines.comfy.errors import ComfyError
from sosie.engines.comfy.pictures import decode
from sosie.engines.comfy.server import Limits, Server
from sosie.faces.templates import kept
from sosie.families import families
from sosie.files.foreign import parse_json
from sosie.files.images import read_image
from sosie.files.safetensors import read_header
from sosie.files.toml import load_toml
from sosie.graph.read import read_workflow
from sosie.lora.read import read_lora
from sosie.provenance.chunks import too_many_chunks
from sosie.scorers.cohort import load_cohort
from sosie.workspace.known import read_known
from sosie.workspace.prompts import read_prompts
from sosie.workspace.workspace import Config

MOST = 300
"""MiB; what a reader may take at most."""

TOKENS = (
    b"{}", b"[]", b"[" * 200, b'{"a":' * 200, b"NaN", b"1e999", b"9" * 5000, b"-", b"null", b"\0", b"\xff\xfe",
    b"\\ud800",
    b"\xed\xa0\x80", b"\xef\xbb\xbf", b'"', b"'", b'"""', b"\x1b[2J", b"\r\n", b"\xe2\x80\xae", b"../", b"\x80\x02c",
    b"\x7f\xff\xff\xff\xff\xff\xff\xff", b"\0\0\0\0", b"a.b." * 50, b"x" * 3000,
    b"http://a:b@c/?d", b",", b":", b"=",
)  # fmt: skip


@dataclass(frozen=True)
class Reader:
    """A reader, the ending of the files that it is given, and right ones."""

    name: str
    read: Callable[[Path], Any]
    suffix: str
    seeds: tuple[bytes, ...]


def mutated(chance: random.Random, seeds: tuple[bytes, ...]) -> bytes:
    """One of the seeds with one to six things done to it."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 6))):
        at, end = sorted(chance.randrange(len(data) + 1) for _ in range(2))
        end = min(end, at + 4096)
        match chance.randrange(8):
            case 0 if data:
                data[min(at, len(data) - 1)] ^= 1 << chance.randrange(8)
            case 1:
                del data[at:end]
            case 2:
                data[at:at] = data[at:end] * chance.choice((1, 1, 2, 50))
            case 3:
                data[at:at] = chance.choice(TOKENS)
            case 4:
                data[at:end] = chance.choice(TOKENS)
            case 5:
                del data[at:]
            case 6:
                data[at : at + 8] = struct.pack(
                    chance.choice(("<Q", ">Q")), chance.choice((0, 1, 255, 2**31, 2**63, len(data)))
                )
            case _:
                other = chance.choice(seeds)
                data[at:end] = other[at:end]
    return bytes(data[:200_000])


def picture(kind: str, mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.effect_noise((48, 40), 50).convert(mode).save(out, kind)
    return out.getvalue()


def safetensors(table: dict[str, Any], data: bytes) -> bytes:
    text = json.dumps(table).encode()
    return struct.pack("<Q", len(text)) + text + data


def lora() -> bytes:
    down = {"dtype": "F16", "shape": [8, 640], "data_offsets": [0, 10240]}
    up = {"dtype": "F16", "shape": [640, 8], "data_offsets": [10240, 20480]}
    name = "lora_unet_input_blocks_4_1_proj_in"
    table = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
    return safetensors({"__metadata__": {"ss_tag_frequency": '{"a": {"b": 1}}'}, **table}, bytes(20480))


def npz() -> bytes:
    out = io.BytesIO()
    meta = json.dumps({"name": "x", "generator": "", "descriptions": ["x"], "encoders": {"a": "0"}})
    np.savez_compressed(out, meta=meta, a=np.ones((20, 8), np.float32))
    return out.getvalue()


def npy() -> bytes:
    out = io.BytesIO()
    np.save(out, np.ones(64, np.float32))
    return out.getvalue()


def pickled() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as members:
        members.writestr("archive/data.pkl", b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s.")
        members.writestr("archive/data/0", bytes(64))
    return out.getvalue()


def gguf() -> bytes:
    key, value, name = b"general.architecture", b"qwen3", b"blk.0.attn_q.weight"
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + struct.pack("<Q", len(key)) + key
    head += struct.pack("<IQ", 8, len(value)) + value + struct.pack("<Q", len(name)) + name
    return head + struct.pack("<IQQIQ", 2, 64, 4, 1, 0) + bytes(600)


API = {"1": {"class_type": "KSampler", "inputs": {"seed": 1, "cfg": 4.0, "model": ["2", 0], "text": "a"}}}
UI = {"nodes": [{"id": 1, "type": "KSampler", "inputs": [{"name": "m", "type": "MODEL", "link": 1}], "outputs": [],
                 "widgets_values": [1, "fixed", 20]}], "links": [[1, 1, 0, 1, 0, "MODEL"]], "groups": []}  # fmt: skip
ANSWER = {"status": {"status_str": "success", "messages": [["execution_start", {}]]}, "entries": [{"t": "1", "m": "x"}],
          "outputs": {"9": {"images": [{"filename": "a.png", "subfolder": "", "type": "output"}]}},
          "node_errors": {"1": {"class_type": "X", "errors": [{"type": "t", "message": "m"}]}}}  # fmt: skip


def answers(path: Path) -> None:
    """What Sosie makes of a server's answers."""
    value = parse_json(path.read_bytes())
    for read in (read_history, read_job, read_log, read_problems):
        read(value)


def stored(root: Path) -> tuple[bytes, ...]:
    """Small files of weights: fp8 with marks, GGUF in three types, DFloat11."""
    sys.path.insert(0, str(root / "tests" / "support"))
    sys.path.insert(0, str(root / "tests" / "diffusion"))
    from test_hostile_weights import dfloat11_file, fp8_file, gguf_file

    with tempfile.TemporaryDirectory() as name:
        paths = [make(Path(name) / make.__name__) for make in (fp8_file, gguf_file, dfloat11_file)]
        for path in paths:
            every_weight(path)  # what is imported then is not counted
        return tuple(path.read_bytes() for path in paths)


def every_weight(path: Path) -> None:
    """Every tensor that a file of weights has, as numbers."""
    from test_hostile_weights import read_all

    read_all(path)


def readers(root: Path) -> list[Reader]:
    recipes = tuple(path.read_bytes() for path in sorted((root / "recipes").glob("*.toml"))[:4])
    known = families()
    server = Server("http://127.0.0.1:1")
    images = (*map(picture, ("PNG", "JPEG", "WEBP", "TIFF", "BMP")), picture("PNG", "RGBA"))
    jsonl = b'{"prompt": "a", "name": "n", "seed": 1, "size": "256x512"}\n{"prompt": "b"}\n'
    table = b'prompt,name,seed,size\n"a, b",day one,7,256x512\nc,,,\n'
    urls = (
        b'{"Name": "b", "Contents": [{"Key": "a.png", "Size": 3}]}',
        b'["https://a/b.png", {"url": "https://a/c.png"}]',
    )
    return [
        Reader("safetensors headers", read_header, ".safetensors", (lora(),)),
        Reader("LoRAs", lambda path: read_lora(path, known), ".safetensors", (lora(),)),
        Reader("model files (safetensors, GGUF, pickles)", check_model_file, ".bin", (lora(), gguf(), pickled())),
        Reader("pictures", read_image, ".png", images),
        Reader("a server's pictures", lambda path: decode(server, path.read_bytes(), Limits(), 2000), ".png", images),
        Reader("cohorts (npz)", load_cohort, ".npz", (npz(),)),
        Reader("templates (npy)", lambda path: kept(path, lambda: np.zeros(1, np.float32)), ".npy", (npy(),)),
        Reader("a server's answers", answers, ".json", (json.dumps(ANSWER).encode(),)),
        Reader("workflows", read_workflow, ".json", (json.dumps(API).encode(), json.dumps(UI).encode())),
        Reader("recipes", lambda path: load_toml(Recipe, path), ".toml", recipes),
        Reader(
            "sosie.toml",
            lambda path: load_toml(Config, path),
            ".toml",
            (b'models = {a = "b"}\nmodel_folders = ["c"]\n',),
        ),
        Reader("known.json", read_known, ".json", (b'{"zimage": {"' + b"0" * 64 + b'": "Base"}}',)),
        Reader("prompts (jsonl)", read_prompts, ".jsonl", (jsonl,)),
        Reader("prompts (csv)", read_prompts, ".csv", (table,)),
        Reader("prompts (txt)", read_prompts, ".txt", (b"smiling, beach\n# no\n(a:1.2) b\n",)),
        Reader("lists of images", read_listing, ".json", (*urls, b"https://a/b.png\n# no\nhttps://a/c.jpg\n")),
        Reader("chunks of signed pictures", too_many_chunks, ".png", images[:1]),
        *([Reader("weights (fp8, GGUF, DFloat11)", every_weight, ".bin", stored(root))] if find_spec("torch") else []),
    ]


def peak() -> float:
    """MiB, the most since `forget_peak` where the system can forget, else since the start."""
    try:
        words = Path("/proc/self/status").read_text().split()
        return int(words[words.index("VmHWM:") + 1]) / 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def forget_peak() -> None:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def run(reader: Reader, inputs: int, chance: random.Random, folder: Path) -> tuple[int, int, list[str], float]:
    """How many were read, how many refused, what else came of some, and the slowest in seconds."""
    path = folder / f"input{reader.suffix}"
    right = refused = 0
    wrong: list[str] = []
    slowest = 0.0
    for _ in range(inputs):
        path.write_bytes(mutated(chance, reader.seeds))
        start = time.perf_counter()
        try:
            reader.read(path)
            right += 1
        except (SosieError, ComfyError):
            refused += 1
        except ValueError as error:
            if reader.name != "a server's answers":  # `parse_json` says so; its callers make an error of it
                wrong.append(f"{type(error).__name__}: {error}")
            refused += 1
        except Exception as error:
            wrong.append(f"{type(error).__name__}: {error}")
        slowest = max(slowest, time.perf_counter() - start)
        if wrong and len(wrong) <= 3:
            Path(tempfile.gettempdir(), f"fuzz-{len(wrong)}{reader.suffix}").write_bytes(path.read_bytes())
    return right, refused, wrong, slowest


def main() -> int:
    inputs = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    chance = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    every = readers(Path(__file__).parents[1])
    memory = Path("/dev/shm")
    bad = 0
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        print("| reader | inputs | read | refused | other errors | slowest (s) | peak (MiB) |")
        print("|---|---|---|---|---|---|---|")
        for reader in every:
            share = -(-inputs // len(every))
            run(reader, 3, chance, Path(name))  # what is imported now is not counted
            forget_peak()
            before = peak()
            right, refused, wrong, slowest = run(reader, share, chance, Path(name))
            taken = peak() - before
            bad += len(wrong) + (taken > MOST)
            print(
                f"| {reader.name} | {share:,} | {right:,} | {refused:,} | {len(wrong)} | {slowest:.2f} | {taken:.0f} |",
                flush=True,
            )
            for said in sorted(set(wrong))[:5]:
                print(f"    {said[:200]}", file=sys.stderr)
    return int(bad > 0)


if __name__ == "__main__":
    os.environ.setdefault("SOSIE_CACHE", tempfile.gettempdir())
    sys.exit(main())
