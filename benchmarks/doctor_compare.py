"""What Sosie's doctor finds in twenty bad inputs, beside comfy-lint, comfy-preflight, comfy-model-vault, ai-toolkit's
doctor and spandrel; and whether four healthy inputs are left in peace.

python benchmarks/doctor_compare.py --tools FOLDER [--spandrel PYTHON] [--json FILE]

FOLDER holds a virtual environment for each tool (comfy-lint, comfy-preflight, comfy-model-vault) and a checkout of
ai-toolkit (its folder `manager` is enough); PYTHON is an interpreter that has spandrel. What is not there is "not
installed". A tool "finds" an input if its output says what is wrong (the pattern in `bad_inputs.py`), it "fails" if
it only ends with an error, and it is "silent" if it does not. "-" is an input of a kind that it does not look at.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bad_inputs import Bad, dotted, fixture, hollow, lora, make, schema, workflow

SPANDREL = "import sys; from spandrel import ModelLoader; ModelLoader().load_from_file(sys.argv[1])"

SMI = """#!/bin/sh
case "$*" in
  *noheader*) echo "{name}, {memory}, {driver}, {compute}" ;;
  *) echo "| NVIDIA-SMI {driver}   Driver Version: {driver}   CUDA Version: 12.9 |" ;;
esac
"""
"""An `nvidia-smi` that answers as a recording does, for tools that only look at the machine they run on."""


@dataclass(frozen=True)
class Answer:
    """What a tool said of one input: `finds`, `fails`, `silent`, `-` or `not installed`, in how many seconds of CPU."""

    word: str
    seconds: float = 0.0


class Tools:
    """Runs each tool on an input, in a folder of its own."""

    def __init__(self, folder: Path, tools: Path, spandrel: Path | None) -> None:
        self.folder, self.tools, self.spandrel = folder, tools, spandrel
        self.objects = folder / "object_info.json"
        self.objects.write_text(json.dumps(schema(folder / "models")))
        self.inputs = folder / "inputs.json"
        names = {
            name: [*node["input"]["required"], *node["input"]["optional"]]
            for name, node in json.loads(self.objects.read_text()).items()
        }
        self.inputs.write_text(json.dumps(names))

    def sosie(self, bad: Bad) -> Answer:
        """Only the messages count, not the names of the files that they are about."""
        command = [str(Path(sys.executable).with_name("sosie")), *bad.asked, "--json", "--workspace", str(self.folder)]
        done, seconds = self._timed(command)
        messages = [f["message"] for line in done.stdout.splitlines() for f in json.loads(line).get("findings", [])]
        return self._answer(bad, " ".join(messages).replace(str(bad.path), ""), done.returncode, seconds)

    def comfy_lint(self, bad: Bad) -> Answer:
        return self._installed(bad, ("workflow",), "comfy-lint", "comfy-lint", str(bad.path), "--schema-cache",
                               str(self.objects), "--json")  # fmt: skip

    def comfy_preflight(self, bad: Bad) -> Answer:
        return self._installed(bad, ("workflow",), "comfy-preflight", "comfy-preflight", "check", str(bad.path),
                               "--schema", str(self.inputs), "--consumer", "7.model", "--json")  # fmt: skip

    def comfy_model_vault(self, bad: Bad) -> Answer:
        """It looks at a folder; every input gets one that holds nothing else."""
        if bad.kind not in ("file", "lora"):
            return Answer("-")
        alone = Path(tempfile.mkdtemp(dir=self.folder)) / "checkpoints"
        alone.mkdir()
        os.link(bad.path, alone / bad.path.name)
        return self._installed(bad, ("file", "lora"), "comfy-model-vault", "comfy-vault", "scan", str(alone.parent))

    def ai_toolkit(self, bad: Bad) -> Answer:
        """On a machine that answers as the recording does; it looks at the environment that it manages itself."""
        if bad.kind not in ("machine", "disk"):
            return Answer("-")
        source = self.tools / "ai-toolkit"
        if not (source / "manager").is_dir():
            return Answer("not installed")
        place = Path(tempfile.mkdtemp(dir=self.folder))
        shutil.copytree(source / "manager", place / "manager")
        subprocess.run(["git", "init", "-q", str(place)], check=True)
        if bad.kind == "machine":
            name, compute, memory, _, driver = bad.path.read_text().splitlines()[1].split(", ")
            smi = place / "nvidia-smi"
            smi.write_text(SMI.format(name=name, memory=memory, driver=driver, compute=compute))
            smi.chmod(0o755)
        environment = {**os.environ, "PATH": f"{place}:{os.environ['PATH']}"}
        done, seconds = self._timed([sys.executable, "-m", "manager", "doctor"], place, environment)
        wrong = "\n".join(line for line in done.stdout.splitlines() if "FAIL" in line and "venv" not in line)
        return self._answer(bad, wrong, 0, seconds)  # it ends with an error wherever it manages no environment yet

    def spandrel_loader(self, bad: Bad) -> Answer:
        if bad.kind not in ("file", "lora"):
            return Answer("-")
        if self.spandrel is None:
            return Answer("not installed")
        done, seconds = self._timed([str(self.spandrel), "-c", SPANDREL, str(bad.path)])
        last = done.stderr.strip().splitlines()[-1:]
        return self._answer(bad, "".join(last).replace(str(bad.path), ""), done.returncode, seconds)

    def _installed(self, bad: Bad, kinds: tuple[str, ...], tool: str, command: str, *arguments: str) -> Answer:
        if bad.kind not in kinds:
            return Answer("-")
        program = self.tools / tool / "bin" / command
        if not program.is_file():
            return Answer("not installed")
        done, seconds = self._timed([str(program), *arguments])
        text = (done.stdout + done.stderr).replace(str(bad.path), "")
        return self._answer(bad, text, done.returncode, seconds)

    @staticmethod
    def _timed(
        command: list[str], place: Path | None = None, environment: dict[str, str] | None = None
    ) -> tuple[subprocess.CompletedProcess[str], float]:
        """What the command did, and the seconds of CPU that it took: the clock of a shared machine says less."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=600, cwd=place, env=environment
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return done, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    @staticmethod
    def _answer(bad: Bad, text: str, code: int, seconds: float) -> Answer:
        if re.search(bad.says, text):
            return Answer("finds", seconds)
        return Answer("fails" if code else "silent", seconds)


def whole(path: Path, name: str) -> Path:
    """A file of a published model's tensors with numbers as weights have them: small, around 0, in bf16."""
    hollow(path, {tensor: ("BF16", shape) for tensor, (_, shape) in fixture(name).items()})
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    count = (len(content) - start) // 2
    numbers = np.random.default_rng(1).normal(0, 0.02, count).astype("<f4").view("<u2")[1::2]
    content[start:] = numbers[:count].tobytes()
    path.write_bytes(content)
    return path


def healthy(folder: Path) -> list[Bad]:
    """Four inputs that nothing is wrong with; to find anything in them is a false alarm."""
    vae, upscaler = whole(folder / "good.safetensors", "vae-16-single"), whole(folder / "4x.safetensors", "esrgan-4x")
    turbo = {"ss_sd_model_name": "Z-Image-Turbo"}
    adapter = lora(folder / "good_lora.safetensors", dotted, (".lora_A.weight", ".lora_B.weight"), turbo)
    graph = folder / "good.json"
    graph.write_text(json.dumps(workflow("z_image_bf16.safetensors")))
    never = r"(?!)"
    return [
        Bad("a whole VAE", "file", vae, never, ("doctor", str(vae))),
        Bad("a whole upscaler", "file", upscaler, never, ("doctor", str(upscaler))),
        Bad("a LoRA that fits", "lora", adapter, never, ("doctor", str(adapter))),
        Bad("a graph without fault", "workflow", graph, never, ("doctor", str(graph))),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", type=Path, required=True)
    parser.add_argument("--spandrel", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bad, good = make(folder), healthy(folder)
        tools = Tools(folder, options.tools.absolute(), options.spandrel)
        columns = {
            "sosie": tools.sosie,
            "comfy-lint": tools.comfy_lint,
            "comfy-preflight": tools.comfy_preflight,
            "comfy-model-vault": tools.comfy_model_vault,
            "ai-toolkit": tools.ai_toolkit,
            "spandrel": tools.spandrel_loader,
        }
        rows = [(item, {column: ask(item) for column, ask in columns.items()}) for item in [*bad, *good]]
    show(rows, len(bad), list(columns))
    if options.json:
        table: list[Any] = [
            {"input": item.title, **{name: [one.word, round(one.seconds, 3)] for name, one in answers.items()}}
            for item, answers in rows
        ]
        options.json.write_text(json.dumps(table, indent=1))


def show(rows: list[tuple[Bad, dict[str, Answer]]], bad: int, columns: list[str]) -> None:
    """The table in Markdown: answers, then how many were found and the median time of an answer."""
    print(f"| input | {' | '.join(columns)} |\n|{' --- |' * (len(columns) + 1)}")
    for index, (item, answers) in enumerate(rows):
        words = [answers[column].word for column in columns]
        if index >= bad:
            words = [{"silent": "no alarm", "fails": "**alarm**"}.get(word, word) for word in words]
        print(f"| {item.title} | {' | '.join(words)} |")
    found = [sum(answers[column].word == "finds" for _, answers in rows[:bad]) for column in columns]
    asked = [sum(answers[column].seconds > 0 for _, answers in rows[:bad]) for column in columns]
    print(f"| **found, of those looked at** | {' | '.join(f'{f} of {a}' for f, a in zip(found, asked, strict=True))} |")
    times = [[answers[column].seconds for _, answers in rows if answers[column].seconds] for column in columns]
    print(f"| **seconds of CPU, median** | {' | '.join(f'{np.median(t):.2f}' if t else '-' for t in times)} |")


if __name__ == "__main__":
    main()
