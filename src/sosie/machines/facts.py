"""What a machine is: its cards, driver, torch wheel, memory and disk, live or from recorded text.

Torch is never imported: its version comes from the package's metadata, its architectures from a table.
"""

from __future__ import annotations

import csv
import importlib.metadata
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sosie.core.errors import ConfigError, NotFoundError
from sosie.core.finding import Rule
from sosie.files.regular import open_regular
from sosie.machines.memory import total_memory
from sosie.machines.tables import GPU_NAMES, PYPI_CUDA, RECORDED_ERRORS, WHEELS, Version

MAX_TEXT = 1_000_000
"""Longest recorded text in bytes that is read; `nvidia-smi -q` of eight cards has 60 kB."""

MAX_GPUS = 64
MAX_LINES = 20_000
MAX_LINE = 400
TIMEOUT_SECONDS = 15.0
QUERY = "name,compute_cap,driver_version,memory.total,memory.free"


@dataclass(frozen=True)
class Gpu:
    """One card. `compute` is its compute capability (8.9 = (8, 9)); memory is in MiB; None = not known.

    `driver` is the driver's version as text, or empty. `cuda` is the newest CUDA that `nvidia-smi`
    says the driver runs.
    """

    name: str
    compute: Version | None = None
    vram_mib: int | None = None
    free_mib: int | None = None
    driver: str = ""
    cuda: Version | None = None


@dataclass(frozen=True)
class TorchWheel:
    """A torch build. `tag` is `cu124`, `cpu`, `rocm6.2`..., or empty when it is not known.

    `architectures` is None when the table does not hold this wheel. `ptx` is the architecture whose
    PTX newer cards can compile; `unsure` holds architectures on which sources differ.
    """

    version: str
    tag: str
    cuda: Version | None = None
    architectures: tuple[Version, ...] | None = None
    ptx: Version | None = None
    unsure: tuple[Version, ...] = ()

    def __str__(self) -> str:
        return self.version if not self.tag or "+" in self.version else f"{self.version}+{self.tag}"


@dataclass(frozen=True)
class MachineFacts:
    """What is known of a machine; None is "not known", and no check concludes anything from it.

    `errors` are (rule, message, hint) of failures that the text itself records. `live` is False
    for recorded text, which speaks of torch, memory and disk only where it says so itself.
    """

    gpus: tuple[Gpu, ...] = ()
    torch: TorchWheel | None = None
    ram_mib: int | None = None
    free_disk: int | None = None
    errors: tuple[tuple[Rule, str, str], ...] = ()
    live: bool = False


def read_machine(folder: Path) -> MachineFacts:
    """The machine that runs this, and the free bytes of the disk that holds `folder`. Runs `nvidia-smi` twice."""
    text = _run(["nvidia-smi"]) + "\n" + _run(["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv"])
    facts = machine_from_smi(text)
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        free = None
    memory = total_memory()
    return replace(facts, torch=installed_torch(), ram_mib=memory and memory // 2**20, free_disk=free, live=True)


def machine_from_file(path: Path) -> MachineFacts:
    """Recorded text of a machine; NotFoundError without a file, ConfigError for one that holds no such text."""
    try:
        if not path.is_file():
            raise NotFoundError(f"{path} does not exist, or is no file")
        with open_regular(path) as stream:
            content = stream.read(MAX_TEXT + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from None
    hint = "record it on the machine: (nvidia-smi; pip list; cat /proc/meminfo; df -Pk .) > machine.txt"
    if len(content) > MAX_TEXT:
        raise ConfigError(f"{path} has more than {MAX_TEXT:,} bytes; expected the output of nvidia-smi", hint)
    # PowerShell's `>` writes UTF-16 with a byte order mark.
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    facts = machine_from_smi(content.decode(encoding, errors="replace"))
    if not facts.gpus and not facts.errors:
        raise ConfigError(f"{path} names no NVIDIA card; expected the output of nvidia-smi", hint)
    return facts


def machine_from_smi(text: str) -> MachineFacts:
    """The cards in the text of `nvidia-smi`: its table, `--query-gpu=... --format=csv`, `-q`, or several in a row.

    A line that names a torch version (`pip list`, `pip freeze`, `torch.utils.collect_env`) is taken
    too, and so are memory (`/proc/meminfo`), the first disk of `df -Pk` and CUDA errors. What cannot
    be read is left out: this never raises.
    """
    lines = [line[:MAX_LINE].rstrip() for line in text[:MAX_TEXT].splitlines()[:MAX_LINES]]
    driver, cuda = _header(lines)
    found = _from_csv(lines) or _from_q(lines) or _from_table(lines)
    gpus = tuple(
        replace(gpu, compute=gpu.compute or compute_of(gpu.name), driver=gpu.driver or driver, cuda=cuda)
        for gpu in found
    )
    errors: dict[str, tuple[Rule, str, str]] = {}
    for pattern, rule, message, hint in RECORDED_ERRORS:
        if any(re.search(pattern, line, re.IGNORECASE) for line in lines):
            errors.setdefault(rule.code, (rule, message, hint))
    memory, disk = _recorded_sizes(lines)
    return MachineFacts(gpus, _recorded_torch(lines), memory, disk, tuple(errors.values()))


def compute_of(name: str) -> Version | None:
    """The compute capability of the card with this name, by the table; None if it is not in there."""
    return next((compute for pattern, compute in GPU_NAMES if re.search(pattern, name, re.IGNORECASE)), None)


def torch_wheel(version: str, cuda: str = "") -> TorchWheel:
    """The wheel of a version such as `2.11.0+cu130`; `cuda` ("13.0") is what its metadata says, if anything.

    Without a local part on Linux it is PyPI's wheel of that version.
    """
    public, _, local = version.partition("+")
    tag = local or (f"cu{cuda.replace('.', '')}" if cuda else "")
    numbers = re.match(r"(\d{1,3})\.(\d{1,3})", public)
    release = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
    if not tag:
        tag = next((name for first, last, name in PYPI_CUDA if first <= release <= last), "")
    digits = re.fullmatch(r"cu(\d{2})(\d)", tag)
    wheel = TorchWheel(version, tag, (int(digits[1]), int(digits[2])) if digits else None)
    # A nightly of the next release and NVIDIA's own builds ("2.7.0a0+nv25.4") are compiled otherwise.
    if re.fullmatch(r"\d{1,3}(\.\d{1,3}){1,2}(\.post\d{1,3})?", public):
        for name, first, last, architectures, ptx, unsure in WHEELS:
            if name == tag and first <= release <= last:
                return replace(wheel, architectures=architectures, ptx=ptx, unsure=unsure)
    return wheel


def installed_torch() -> TorchWheel | None:
    """The torch wheel of this Python, from its metadata and the text of its `version.py`; None without one."""
    try:
        package = importlib.metadata.distribution("torch")
    except importlib.metadata.PackageNotFoundError:
        return None
    version = package.version
    try:
        with open_regular(Path(str(package.locate_file("torch/version.py")))) as stream:
            text = stream.read(10_000).decode("utf-8", errors="replace")
    except OSError:
        text = ""
    full = re.search(r"^__version__ = '([^'\n]{1,80})'", text, re.MULTILINE)
    cuda = re.search(r"^cuda[^=\n]{0,40}= '(\d{1,2}\.\d)'", text, re.MULTILINE)
    if not full and "+" not in version and sys.platform != "linux":
        return TorchWheel(version, "")
    return torch_wheel(full[1] if full else version, cuda[1] if cuda else "")


def _run(command: list[str]) -> str:
    """What the command prints, errors too; empty if it is missing or does not answer in time."""
    try:
        done = subprocess.run(  # noqa: S603  a constant command
            command, capture_output=True, timeout=TIMEOUT_SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return (done.stdout[:MAX_TEXT] + b"\n" + done.stderr[:MAX_LINE]).decode("utf-8", errors="replace")


def _header(lines: Iterable[str]) -> tuple[str, Version | None]:
    """The driver's version and its CUDA, of the table ("CUDA UMD Version" since 595) or of `-q`."""
    driver, cuda = "", None
    for line in lines:
        named = re.search(r"\b(?:Driver|KMD) Version\s{0,60}:\s{0,8}(\d{3}\.\d{1,3}(?:\.\d{1,3})?)", line)
        driver = driver or (named[1] if named else "")
        newest = re.search(r"\bCUDA (?:UMD )?Version\s{0,60}:\s{0,8}(\d{1,2})\.(\d{1,2})", line)
        cuda = cuda or ((int(newest[1]), int(newest[2])) if newest else None)
    return driver, cuda


def _recorded_torch(lines: Iterable[str]) -> TorchWheel | None:
    pattern = r"^(?:torch|PyTorch version)\s{0,40}(?:==|:|\s)\s{0,40}(\d{1,2}\.\d{1,3}[\w.+]{0,60})$"
    for line in lines:
        if match := re.match(pattern, line):
            return torch_wheel(match[1])
    return None


def _recorded_sizes(lines: Iterable[str]) -> tuple[int | None, int | None]:
    """Memory in MiB and free bytes of the disk, of `/proc/meminfo` and `df` in blocks of 1 kB."""
    memory = disk = None
    heading = False
    for line in lines:
        total = re.match(r"MemTotal:\s{1,40}(\d{1,15}) kB$", line)
        memory = memory or (int(total[1]) // 1024 if total else None)
        row = re.search(r"\s\d{1,15}\s{1,40}\d{1,15}\s{1,40}(\d{1,15})\s{1,40}\d{1,3}%\s", line) if heading else None
        disk = int(row[1]) * 1024 if row and disk is None else disk
        heading = re.match(r"Filesystem\s{1,80}(?:1024-blocks|1K-blocks)\s", line) is not None
    return memory, disk


def _mib(text: str) -> int | None:
    number = re.match(r"\s{0,40}(\d{1,9})(?:\s?MiB)?\s{0,40}$", text)
    return int(number[1]) if number else None


def _compute(text: str) -> Version | None:
    number = re.match(r"\s{0,40}(\d{1,2})\.(\d)\s{0,40}$", text)
    return (int(number[1]), int(number[2])) if number else None


def _driver(text: str) -> str:
    number = re.match(r"\s{0,40}(\d{3}\.\d{1,3}(?:\.\d{1,3})?)\s{0,40}$", text)
    return number[1] if number else ""


def _cells(line: str) -> list[str]:
    try:
        rows = list(csv.reader([line], skipinitialspace=True))
    except csv.Error:
        return []
    return [cell.strip() for row in rows for cell in row]


def _from_csv(lines: Iterable[str]) -> list[Gpu]:
    """The cards of `--format=csv`: by the column names, or by what the cells look like after `noheader`."""
    gpus: list[Gpu] = []
    columns: list[str] = []
    for line in lines:
        cells = _cells(line) if "," in line and "|" not in line else []
        if "name" in cells or "gpu_name" in cells:
            columns = [cell.split(" ")[0].removeprefix("gpu_") for cell in cells]
        elif len(cells) > 1 and len(cells) == len(columns):
            row = dict(zip(columns, cells, strict=True))
            free, used, total = (_mib(row.get(f"memory.{part}", "")) for part in ("free", "used", "total"))
            if free is None and total is not None and used is not None:
                free = max(0, total - used)
            compute, driver = _compute(row.get("compute_cap", "")), _driver(row.get("driver_version", ""))
            gpus.append(Gpu(row["name"][:120], compute, total, free, driver))
        elif len(cells) > 1 and not columns:
            gpus.extend(_headerless(cells))
        if len(gpus) >= MAX_GPUS:
            break
    return gpus


def _headerless(cells: list[str]) -> Iterator[Gpu]:
    name = next((cell for cell in cells if re.match(r"(?:NVIDIA|Tesla|GeForce|Quadro) ?[\w ]", cell)), "")
    sizes = [size for cell in cells if cell.endswith("MiB") and (size := _mib(cell)) is not None]
    compute = next((number for cell in cells if (number := _compute(cell))), None)
    driver = next((number for cell in cells if (number := _driver(cell))), "")
    if name and (sizes or compute or driver):
        yield Gpu(name[:120], compute, max(sizes, default=None), None, driver)


def _from_q(lines: Iterable[str]) -> list[Gpu]:
    """The cards of `nvidia-smi -q`: one block a card, memory under "FB Memory Usage"."""
    gpus: list[Gpu] = []
    within = False
    for line in lines:
        key, colon, value = (part.strip() for part in line.partition(":"))
        if key == "Product Name" and value and len(gpus) < MAX_GPUS:
            gpus.append(Gpu(value[:120]))
        elif not colon:
            within = key == "FB Memory Usage"
        elif within and gpus and key in ("Total", "Free"):
            size = _mib(value)
            gpus[-1] = replace(gpus[-1], **{"vram_mib" if key == "Total" else "free_mib": size})
    return gpus


_ROW = re.compile(r"\s{0,8}\d{1,3}\s{1,4}(\S.{0,60}?)\s{1,60}(?:On|Off|N/A|WDDM|TCC|MCDM)\s{0,8}")
_BUS = re.compile(r"\b[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.\d")
_MEMORY = re.compile(r"\b(\d{1,9})MiB\s{0,20}/\s{0,20}(\d{1,9})MiB")


def _from_table(lines: Iterable[str]) -> list[Gpu]:
    """The cards of the plain table: a line with name and bus, then one with used / total memory."""
    gpus: list[Gpu] = []
    for line in lines:
        cells = line.strip().strip("|").split("|")
        row = _ROW.fullmatch(cells[0]) if len(cells) == 3 and _BUS.search(cells[1]) else None
        if row and len(gpus) < MAX_GPUS:
            gpus.append(Gpu(row[1]))
        elif gpus and gpus[-1].vram_mib is None and len(cells) == 3 and (memory := _MEMORY.search(cells[1])):
            used, total = int(memory[1]), int(memory[2])
            gpus[-1] = replace(gpus[-1], vram_mib=total, free_mib=max(0, total - used))
    return gpus
