"""Kills, and disks that fail, in every command that writes: nothing lost, nothing half, nothing left.

    python benchmarks/reliability.py kills --work /tmp/reliability --most 4
    python benchmarks/reliability.py failures --work /tmp/reliability --most 3
    python benchmarks/reliability.py train --work /tmp/reliability --kills 20
    python benchmarks/reliability.py fetch --work /tmp/reliability --kills 40

Each command is run once as it is and once under strace, which counts its calls; then again and again in a fresh copy
of the same workspace, killed before its k-th rename, sync, unlink or mkdir (`kills`), or with that call failing as
full, broken, read-only and forbidden disks do (`failures`). `--most` bounds the moments of each kind of call.
`fetch` downloads from a server that fails in turn (errors, dropped lines, no ranges, a slow line) and is killed
meanwhile. After each of them the workspace is looked at, the same command is run to its end, and the result is
compared. Needs strace. Prints a JSON line for each fault, then one for each command.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURES = sorted((ROOT / "examples" / "mira").glob("*.jpg"))
SOSIE = [sys.executable, "-c", "from sosie.cli import main; main()"]
DETAILS = ["--likeness", "fictional", "--adult", "--description", "a young woman, braided auburn hair, brown eyes"]
CALLS = {
    "rename": "rename,renameat,renameat2,link,linkat",
    "sync": "fsync,fdatasync",
    "unlink": "unlink,unlinkat,rmdir",
    "mkdir": "mkdir,mkdirat",
}
ERRORS = ("ENOSPC", "EIO", "EROFS", "EACCES")
CHANGES = ("catalogue.sqlite", ".origin.json", ".html", "contact-sheet", ".log", "tfevents")
"""What holds times, and so differs from run to run."""


@dataclass(frozen=True)
class Command:
    """A command that writes: its words and the folder's beginning (`set`: with a training set)."""

    name: str
    words: list[str]
    begin: str = "mira"


def commands() -> list[Command]:
    pictures = [str(path) for path in PICTURES]
    return [
        Command("new", ["new", "nora", *pictures[:6], *DETAILS]),
        Command("new --replace", ["new", "mira", *pictures[:6], *DETAILS, "--replace"]),
        Command("generate", ["generate", "mira", "smiling", "-n", "2", "--engine", "fake", "--out", "out"]),
        Command("calibrate", ["calibrate", "mira", "-n", "20", "--engine", "fake"]),
        Command("dataset build", ["dataset", "build", "mira"]),
        Command("dataset caption", ["dataset", "caption", "mira"], "set"),
        Command("lora add", ["lora", "add", "mira", "a.safetensors", "--trigger", "m1ra"]),
        Command("lora convert", ["lora", "convert", "a.safetensors", "b.safetensors", "--to", "diffusers"]),
        Command("recipe copy", ["recipe", "copy", "mini", "mine"]),
        Command("model convert", ["model", "convert", "p.pth", "--out", "models/p.safetensors"]),
        Command("model strip", ["model", "strip", "a.safetensors", "header.safetensors"]),
        Command("model fetch", ["model", "fetch", "a.safetensors", "--as", "fetched", "--yes"]),
    ]


def run(folder: Path, words: list[str], *wrapped: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*wrapped, *SOSIE, *words],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=6000,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def begin(work: Path) -> dict[str, Path]:
    """A workspace with a character, a LoRA file and a pickle; and the same with a training set."""
    plain = fresh(work / "begin")
    (plain / "models").mkdir()
    make_lora(plain / "a.safetensors")
    make_pickle(plain / "p.pth")
    said = run(plain, ["new", "mira", *map(str, PICTURES), *DETAILS])
    assert said.returncode in (0, 1), said.stderr
    (plain / "characters/mira/calibration").mkdir()
    (plain / "characters/mira/calibration/kept.txt").write_text("kept")
    with_set = work / "begin-set"
    shutil.rmtree(with_set, ignore_errors=True)
    shutil.copytree(plain, with_set)
    said = run(with_set, ["dataset", "build", "mira"])
    assert said.returncode in (0, 1), said.stderr
    return {"mira": plain, "set": with_set}


def make_lora(path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    numbers = np.random.default_rng(0)
    module = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
    shapes = {"lora_down.weight": (4, 640), "lora_up.weight": (640, 4)}
    tensors = {f"{module}.{name}": numbers.normal(size=shape).astype(np.float16) for name, shape in shapes.items()}
    save_file(
        {**tensors, f"{module}.alpha": np.array(4, np.float16)}, path, {"ss_base_model_version": "sdxl_base_v1-0"}
    )


def make_pickle(path: Path) -> None:
    import torch

    torch.save({"weight": torch.arange(4096, dtype=torch.float32)}, path)


def fresh(folder: Path, source: Path | None = None) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    if source is None:
        folder.mkdir(parents=True)
    else:
        shutil.copytree(source, folder)
    return folder


CACHE = ".sosie/templates/"
"""What is computed again when it is missing: a command that ends with "exists already" does not do so."""


def contents(folder: Path) -> dict[str, str]:
    """What a folder holds that does not depend on the time: files by name, images of the store by what they show."""
    found: dict[str, str] = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or "/locks/" in name or any(part in name for part in CHANGES):
            continue
        signed = name.startswith("out/") or "/signing/" in name
        found[name] = "" if signed else hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return found


def faults(folder: Path, known: list[dict[str, str]]) -> Iterator[str]:
    """What is lost or half in a workspace right after a kill; each finished file must be as it was or as it becomes."""
    mira = folder / "characters" / "mira"
    try:
        tomllib.loads((mira / "character.toml").read_text())
    except (OSError, ValueError) as error:
        yield f"character.toml: {error}"
    if len(list((mira / "references").glob("*.jpg"))) not in (6, len(PICTURES)):
        yield "references are half"
    if not (mira / "calibration/kept.txt").exists():
        yield "the calibration is gone"
    rows = mira / "dataset" / "captions.jsonl"
    listed = {json.loads(line)["file"] for line in rows.read_text().splitlines()} if rows.exists() else set[str]()
    if strays := [path.name for path in rows.parent.glob("*.jpg") if path.name not in listed]:
        yield f"images without a row: {strays}"
    for name, digest in contents(folder).items():
        hidden = any(part.startswith(".") for part in Path(name).parts if part != ".sosie")
        whole = hidden or name.endswith((".part", ".json", ".jsonl")) or "/images/" in name
        if not whole and digest not in (old := [one[name] for one in known if name in one]) and old:
            yield f"{name} is neither the old nor the new one"
    yield from of_the_store(folder)


def of_the_store(folder: Path) -> Iterator[str]:
    path = folder / ".sosie" / "catalogue.sqlite"
    if not path.exists() or not path.stat().st_size:
        return
    with closing(sqlite3.connect(path)) as base:
        if base.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
            yield "the catalogue is damaged"
        if not base.execute("SELECT 1 FROM sqlite_master WHERE name = 'deliveries'").fetchone():
            return
        for (sha256,) in base.execute("SELECT sha256 FROM images"):
            image = folder / ".sosie/images" / sha256[:2] / f"{sha256}.png"
            if not image.exists() or hashlib.sha256(image.read_bytes()).hexdigest() != sha256:
                yield f"image {sha256[:12]} is recorded and not there"
        recorded = base.execute("SELECT path, sha256, finished FROM deliveries").fetchall()
        for place, sha256, finished in recorded:
            if finished and hashlib.sha256(Path(place).read_bytes()).hexdigest() != sha256:
                yield f"{place} is recorded as delivered and is not what was"
        delivered = {Path(place).name for place, _, _ in recorded}
        yield from (
            f"{p.name} is not on record" for p in (folder / "out").glob("mira-*.png") if p.name not in delivered
        )


def left(folder: Path) -> list[str]:
    hidden = (path for path in folder.rglob("*") if path.name.endswith((".part", ".tmp", ".old")))
    return sorted(path.relative_to(folder).as_posix() for path in (*hidden, *folder.rglob(".replacement")))


def moments(count: int, most: int) -> list[int]:
    """At most `most` numbers of 1 to `count`, the first and the last among them."""
    if most == 1 or count <= most:
        return list(range(1, min(count, most) + 1))
    return sorted({round(1 + place * (count - 1) / (most - 1)) for place in range(most)})


def counted(folder: Path, words: list[str]) -> dict[str, int]:
    """How often a command makes each kind of call."""
    trace = folder.parent / "trace"
    run(folder, words, "strace", "-f", "-qq", "-o", str(trace), "-e", f"trace={','.join(CALLS.values())}")
    text = trace.read_text(errors="replace")
    return {
        kind: len(re.findall(rf"^\d+ +(?:{names.replace(',', '|')})\(", text, re.M)) for kind, names in CALLS.items()
    }


def look(args: argparse.Namespace, fails: bool) -> int:
    """All commands, all moments; returns how many faults were found."""
    beginnings, bad, total = begin(args.work), 0, 0
    for command in commands():
        if args.only and command.name not in args.only:
            continue
        source = beginnings[command.begin]
        straight = fresh(args.work / "straight", source)
        done = run(straight, command.words)
        assert done.returncode in (0, 1), done.stderr
        known = [contents(source), contents(straight)]
        counts = counted(fresh(args.work / "count", source), command.words)
        tried = wrong = 0
        for kind, count in counts.items():
            for place, k in enumerate(moments(count, args.most)):
                how = f"error={ERRORS[place % len(ERRORS)]}" if fails else "signal=SIGKILL"
                folder = fresh(args.work / "case", source)
                names = CALLS[kind]
                inject = ("-e", f"trace={names}", "-e", f"inject={names}:{how}:when={k}")
                first = run(folder, command.words, "strace", "-f", "-qq", "-o", "/dev/null", *inject)
                tried += 1
                found = list(faults(folder, known))
                if fails and (first.returncode not in (0, 1, 2) or "Traceback" in first.stderr):
                    found.append(f"exit {first.returncode}: {first.stderr[-200:]}")
                again = run(folder, command.words)
                refused = first.returncode in (0, 1) or "exists" in again.stderr or "there already" in again.stderr
                if again.returncode != done.returncode and not refused:
                    found.append(f"again: exit {again.returncode}, not {done.returncode}: {again.stderr[-200:]}")
                now = contents(folder)
                wanted = {name: what for name, what in known[1].items() if name in now or not name.startswith(CACHE)}
                if now != wanted:
                    found.append(f"another result: {sorted(set(now.items()) ^ set(wanted.items()))[:4]}")
                found += [f"left: {name}" for name in left(folder)]
                if found:
                    wrong += 1
                    print(
                        json.dumps({"command": command.name, "call": kind, "k": k, "how": how, "found": found}),
                        flush=True,
                    )
        bad, total = bad + wrong, total + tried
        print(json.dumps({"command": command.name, "calls": counts, "tried": tried, "faults": wrong}), flush=True)
    print(json.dumps({"tried": total, "faults": bad}))
    return bad


QUICK = {"save_every": 1, "warmup": 2, "batch": 1, "rank": 4}
"""A training that saves its state after each step."""


def train(args: argparse.Namespace) -> int:
    """One training, killed and resumed until it ends: the same file as without a kill.

    Two kills in three come at a random moment after a state was saved, up to two steps later; the others at a random
    moment from the start on, while the model is loaded too.
    """
    begin_set = begin(args.work)["set"]
    run(begin_set, ["recipe", "copy", "mini", "quick"])
    recipe = begin_set / "recipes" / "quick.toml"
    text = recipe.read_text()
    for name, value in {**QUICK, "steps": args.steps, "sample_every": args.steps}.items():
        text = re.sub(rf"(?m)^(\[training\](?:\n(?!\[).*)*?\n{name} = )\S+", rf"\g<1>{value}", text, count=1)
    recipe.write_text(text)
    words = ["train", "mira", "--recipe", "quick", "--device", "cpu"]
    straight = fresh(args.work / "straight", begin_set)
    began = time.monotonic()
    done = run(straight, words)
    seconds = time.monotonic() - began
    assert done.returncode in (0, 1), done.stderr
    expected = loras(straight)
    folder, rng = fresh(args.work / "case", begin_set), random.Random(1)
    kills: list[int] = []
    while True:
        state = saved(folder)
        process = subprocess.Popen(
            [*SOSIE, *words, *(["--resume"] if state else [])],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        if len(kills) >= args.kills:
            process.wait()
            break
        if len(kills) % 3 == 2:
            time.sleep(rng.uniform(0, 0.3) * seconds)
        else:
            while process.poll() is None and saved(folder) == state:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 2) * seconds / args.steps / 2)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills.append(steps_of(folder))
        print(json.dumps({"killed": len(kills), "at step": kills[-1]}), flush=True)
    found = loras(folder)
    same = found == expected and not left(folder)
    line = {"kills": len(kills), "steps": args.steps, "seconds without a kill": round(seconds), "same": same}
    print(json.dumps({**line, "file": found, "left": left(folder)}))
    return not same


FAILING: dict[str, dict[str, object]] = {
    "well": {},
    "errors first": {"first": [(status, {}, b"") for status in (500, 503, 502)]},
    "asks to wait": {"first": [(429, {"Retry-After": "1"}, b"slowly")]},
    "drops each line": {"drop": 1_500_000},
    "drops, without ranges": {"drop": [700_000, 2_000_000, None], "ranges": False},
    "sends less than it says": {"drop": [300_000, 300_000, None]},
    "in chunks, dropped": {"chunked": True, "drop": [900_000, None]},
    "changes meanwhile": {
        "drop": [1_000_000, None],
        "before": lambda served: setattr(served, "etag", served.etag + "1"),
    },
    "slow": {"pause": 0.03},
}
"""How the server fails, by name: fields of `hostile.Served`."""


def fetch(args: argparse.Namespace) -> int:
    """`model fetch` from a server that fails, killed at random moments, then run again until it is done."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    import numpy as np
    from hostile import Served, hostile
    from safetensors.numpy import save_file

    os.environ["NO_PROXY"] = "127.0.0.1"
    source, rng, bad = args.work / "served.safetensors", random.Random(2), 0
    noise = np.random.default_rng(1).standard_normal((1500, 1500)).astype(np.float32)
    save_file({"model.diffusion_model.out.2.weight": noise}, source)
    whole, expected = source.read_bytes(), digest_of(source)
    for place in range(args.kills):
        how = list(FAILING)[place % len(FAILING)]
        folder, found = fresh(args.work / "case"), list[str]()
        with hostile() as server:
            words = ["model", "fetch", f"{server.url}/served.safetensors", "--as", "fetched", "--yes"]
            server.files["/served.safetensors"] = Served(whole, **copy.deepcopy(FAILING[how]))  # type: ignore[arg-type]
            upto = rng.randrange(len(whole))
            exits = killed(folder, words, lambda server=server, upto=upto: server.sent >= upto)
            before = server.sent
            there = list((folder / "models").glob("*.safetensors"))
            if any(digest_of(path) != expected for path in there):
                found.append("half a file under the file's name")
            again = run(folder, words)
        if again.returncode not in (0, 1) and "there already" not in again.stderr + again.stdout:
            found.append(f"again: exit {again.returncode}: {again.stderr[-200:]}")
        if [digest_of(path) for path in (folder / "models").glob("*.safetensors")] != [expected]:
            found.append("another file")
        found += [f"left: {one}" for one in left(folder)]
        bad += bool(found)
        line = {"server": how, "exit": exits, "MB sent before": before / 1e6, "after": (server.sent - before) / 1e6}
        print(json.dumps({**line, "found": found}), flush=True)
    print(json.dumps({"killed": args.kills, "faults": bad}))
    return bad


def killed(folder: Path, words: list[str], when: Callable[[], bool]) -> int:
    """Runs a command until `when` is true, kills it, and returns how it ended."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([*SOSIE, *words], cwd=folder, stdout=quiet, stderr=quiet)
    while process.poll() is None and not when():
        time.sleep(0.001)
    process.kill()
    return process.wait()


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def saved(folder: Path) -> list[tuple[int, int]]:
    """What tells one saved state of a training from another."""
    return [
        (s.st_mtime_ns, s.st_ino) for path in folder.glob(".sosie/training/*/state.safetensors") if (s := path.stat())
    ]


def steps_of(folder: Path) -> int:
    """How many steps the log of the training has."""
    return sum(len(path.read_text().splitlines()) for path in folder.glob(".sosie/training/*/log.jsonl"))


def loras(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("characters/mira/loras/*")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("kills", "failures", "train", "fetch"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--most", type=int, default=4)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=24, help="of the training that is killed; more than kills")
    parser.add_argument("--only", nargs="*", default=[], help="the commands, by the names that the lines have")
    args = parser.parse_args()
    args.work = args.work.absolute()
    args.work.mkdir(parents=True, exist_ok=True)
    works = {"train": train, "fetch": fetch}
    sys.exit(bool(works[args.what](args) if args.what in works else look(args, args.what == "failures")))


if __name__ == "__main__":
    main()
