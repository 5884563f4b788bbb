"""What commands print with `--json`, and the text of `--help`: which commands are run, and what of it is compared.

Everything goes through the command line. Paths, dates, seconds and digests of what was computed become names.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "lines.json"
HELP = Path(__file__).parent / "help.json"
ROOT = Path(__file__).parents[2]
DESCRIPTION = "a young woman, light skin, auburn braided hair, brown eyes"
PROMPT = "smiling, soft daylight, forest background"

PROSE = frozenset(
    {"message", "hint", "reason", "reasons", "notes", "because", "proves", "does_not_prove"}
    | {"summary", "title", "proof", "cure"}
)
"""Keys whose text is for people: it may be worded better at any time. Only whether there is one is compared."""

TRAINING = f"""[training]
steps = 2
batch = 1
rank = 4
alpha = 4.0
resolution = 256
save_every = 1
sample_every = 2
prompts = ["{PROMPT}"]

[acceptance]"""


@dataclass(frozen=True)
class Printed:
    """A command's exit code and its lines of JSON, normalised."""

    code: int
    lines: tuple[Any, ...]


def cli(*arguments: object) -> tuple[int, str]:
    """Runs the command line in this process; the exit code and stdout."""
    from sosie.cli import main

    kept, out = sys.argv, io.StringIO()
    sys.argv = ["sosie", *map(str, arguments)]
    os.environ["COLUMNS"] = "80"
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            main()
    except SystemExit as stop:
        return int(stop.code or 0), out.getvalue()
    finally:
        sys.argv = kept
    return 0, out.getvalue()


def commands(root: Path) -> Iterator[tuple[str, list[object]]]:
    """Each command once, by a name, in an order in which each finds what it needs; `root` is the workspace."""
    example = sorted((ROOT / "examples" / "mira").glob("*.jpg"))
    broken, lora = root / "broken.safetensors", root / "golden.safetensors"
    who = ["--likeness", "fictional", "--adult", "--description", DESCRIPTION, "--trigger", "m1ra"]
    yield "new", ["new", "mira", *example, *who]
    draw = ["generate", "mira", PROMPT, "--seed", 7, "--recipe"]
    yield "generate", [*draw, "quick"]
    yield "generate, answered by the store", [*draw, "quick"]
    yield "generate, rejected", [*draw, "strict", "--attempts", 1]
    given = ["--from", example[0], "--attempts", 1, "--out", root / "given"]
    yield "generate, given", ["generate", "mira", PROMPT, "--recipe", "upscale", *given]
    yield "generate, an unknown recipe", [*draw, "qick"]
    (image,) = (root / "outputs" / "mira").glob("mira-*.png")
    yield "score", ["score", example[0], image, broken, "--character", "mira", "--recipe", "quick"]
    yield "verify", ["verify", image, example[0]]
    yield "calibrate", ["calibrate", "mira", "--recipe", "weak", "-n", 20]
    yield "generate, by its own cohort", [*draw, "weak", "--attempts", 1]
    yield "dataset build", ["dataset", "build", "mira", "--recipe", "quick"]
    yield "dataset check", ["dataset", "check", "mira", "--recipe", "quick"]
    yield "dataset caption", ["dataset", "caption", "mira"]
    yield "train", ["train", "mira", "--recipe", "quick", "--device", "cpu"]
    yield "train, again", ["train", "mira", "--recipe", "quick", "--device", "cpu"]
    yield "train, list", ["train", "--list"]
    yield "recipe list", ["recipe", "list"]
    yield "recipe copy", ["recipe", "copy", "mini", "own"]
    yield "recipe check", ["recipe", "check", "own", "sdxl-instantid", "wrong"]
    yield "recipe show", ["recipe", "show", "quick"]
    yield "recipe show, a graph", ["recipe", "show", "zimage", "--as", "comfy"]
    yield "model list", ["model", "list"]
    yield "model show", ["model", "show", "mini", "mini-upscaler", lora, broken, "nothing"]
    yield "model fetch, a recipe's list", ["model", "fetch", "mini", "--list"]
    yield "model fetch, a file's list", ["model", "fetch", lora, "--as", "mine", "--list"]
    yield "model fetch", ["model", "fetch", lora, "--as", "mine", "--yes"]
    yield "lora show", ["lora", "show", lora, broken, "--base", "mini"]
    yield "lora add", ["lora", "add", "mira", lora, "--trained-on", "mini", "--model", "mini", "--trigger", "zxv"]
    yield "lora convert", ["lora", "convert", lora, root / "converted.safetensors", "--to", "diffusers"]
    yield "doctor, a recipe", ["doctor", "recipe:quick"]
    yield "doctor, a recipe without its files", ["doctor", "recipe:sdxl-instantid", "--quota", "50GB"]
    yield "doctor, a character", ["doctor", "character:mira"]
    yield "doctor, a dataset", ["doctor", root / "characters" / "mira" / "dataset", "--family", "sdxl"]
    yield "doctor, a LoRA", ["doctor", lora]
    yield "doctor, a broken file", ["doctor", broken]
    yield "doctor, a pickle", ["doctor", root / "pickle.bin"]
    yield "doctor, a graph", ["doctor", root / "graph.json"]
    yield "doctor, a training", ["doctor", "recipe:mini", "--training", 300]
    yield "doctor, an explanation", ["doctor", "--explain", "SOS-E001"]


def prepare(root: Path) -> None:
    """Writes the recipes and files that the commands name."""
    from pixels import write_lora

    recipes = root / "recipes"
    recipes.mkdir()
    mini = (ROOT / "recipes" / "mini.toml").read_text(encoding="utf-8")
    start, end = mini.index("[training]"), mini.index("[acceptance]")
    quick = mini[:start] + TRAINING + mini[end + len("[acceptance]") :]
    quick = quick.replace('name = "mini"', 'name = "quick"', 1).replace("steps = 20", "steps = 8")
    (recipes / "quick.toml").write_text(quick, encoding="utf-8")
    head = mini[: mini.index("[[stages.guides]]")].replace('name = "mini"', 'name = "weak"', 1)
    weak = head.replace("steps = 20", "steps = 2") + f'\n[calibration]\nprompts = ["{PROMPT}"]\n'
    (recipes / "weak.toml").write_text(weak, encoding="utf-8")
    strict = weak.replace('"weak"', '"strict"') + "\n[acceptance]\nfmr = 0.005\n"
    (recipes / "strict.toml").write_text(strict, encoding="utf-8")
    (recipes / "wrong.toml").write_text(weak.replace("steps = 2", "stepz = 2").replace('"weak"', '"wrong"'), "utf-8")
    stage = (
        '[[stages]]\nkind = "upscale"\nfamily = "esrgan"\nmodel = "mini-upscaler"\n\n[stages.upscale]\nfactor = 1.25\n'
    )
    upscale = f'name = "upscale"\nprompt = "{{prompt}}"\nwidth = 512\nheight = 512\n\n{stage}'
    (recipes / "upscale.toml").write_text(upscale, encoding="utf-8")
    (root / "broken.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{broken}")
    (root / "pickle.bin").write_bytes(b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R.")
    graph = {"1": {"class_type": "KSampler", "inputs": {"model": ["2", 0], "steps": 8}}}
    (root / "graph.json").write_text(json.dumps(graph), encoding="utf-8")
    write_lora(root / "golden.safetensors")


def run(root: Path) -> dict[str, Printed]:
    """What every command prints in the empty folder `root`, normalised."""
    prepare(root)
    printed: dict[str, Printed] = {}
    for name, arguments in commands(root):
        code, out = cli(*arguments, "--json", "--workspace", root)
        computed = {"sha256"} if name.startswith("train") else set[str]()
        lines = tuple(normal(json.loads(line), root, computed) for line in out.splitlines())
        printed[name] = Printed(code, lines)
    return printed


def normal(value: Any, root: Path, computed: set[str], key: str = "") -> Any:
    """The value without what depends on the machine, the day or the checkout; floats to three digits."""
    if isinstance(value, Mapping):
        return {key: normal(item, root, computed, key) for key, item in value.items()}
    if isinstance(value, list) and key == "looks":
        return [look["name"] for look in value]  # what they measure is tested beside them
    if isinstance(value, list):
        return [normal(item, root, computed, key) for item in value]
    if key in ("seconds", "machine", "started", "finished") or key in computed:
        return None if value is None else f"<{key}>"
    if isinstance(value, float):
        return round(value, 3)
    if not isinstance(value, str):
        return value
    text = value.replace(str(root), "<workspace>").replace(str(ROOT), "<checkout>")
    text = re.sub(r"^(/[^ ]*|<checkout>)/recipes/", "<shipped>/", text)
    text = re.sub(r"[^ ]*/models/mini-[0-9a-f]{12}", "<mini>", text)
    text = re.sub(r"[^ ]*/sosie_mini/upscaler", "<package>/upscaler", text)
    text = re.sub(r"images/[0-9a-f]{2}/[0-9a-f]{64}", "images/<pixels>", text)
    return re.sub(r"\d+\.\d+\.\d+(\.dev\d+)?\b", "<version>", text)


def helps(*path: str) -> dict[str, str]:
    """The text of `--help` of every command, by the command's words."""
    code, text = cli(*path, "--help")
    assert code == 0
    found = {" ".join(("sosie", *path)): text}
    _, _, listed = text.partition("\nCommands:\n")
    for name in re.findall(r"^  ([a-z-]+) ", listed, re.MULTILINE):
        found |= helps(*path, name)
    return found


def record(root: Path) -> None:
    """Writes what every command prints."""
    table = {name: {"code": done.code, "lines": done.lines} for name, done in run(root).items()}
    FILE.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def record_help() -> None:
    """Writes the help of every command."""
    HELP.write_text(json.dumps(helps(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
