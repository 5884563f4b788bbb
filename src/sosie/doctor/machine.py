"""Checks that a machine can do what is asked of it: card against wheel, driver against CUDA, memory, disk.

Facts: NVIDIA, "CUDA Compatibility" (minor version and forward compatibility); pytorch.org's wheels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from sosie.core import Finding
from sosie.core.finding import Rule, has_errors
from sosie.families import families
from sosie.machines.facts import Gpu, MachineFacts, TorchWheel
from sosie.machines.tables import (
    BF16_FROM,
    DRIVER_CUDA,
    DRIVER_MINIMUM,
    FP8_FROM,
    NEWEST_KNOWN_BRANCH,
    WHEELS,
    Version,
)

H001 = Rule("SOS-H001", "info", "No NVIDIA card was found")
H010 = Rule("SOS-H010", "error", "The torch wheel was not compiled for this card")
H011 = Rule("SOS-H011", "warning", "The torch wheel runs on this card only through PTX")
H012 = Rule("SOS-H012", "info", "What the torch wheel was compiled for is not known")
H013 = Rule("SOS-H013", "info", "The card's compute capability is not known")
H014 = Rule("SOS-H014", "info", "Torch is not installed")
H015 = Rule("SOS-H015", "error", "The torch wheel has no CUDA")
H020 = Rule("SOS-H020", "error", "The driver is too old for the wheel's CUDA")
H021 = Rule("SOS-H021", "warning", "The driver is older than the wheel's CUDA minor version")
H022 = Rule("SOS-H022", "info", "The driver is newer than the wheel's CUDA, which is fine")
H023 = Rule("SOS-H023", "warning", "CUDA forward-compatibility libraries are in use")
H026 = Rule("SOS-H026", "info", "The driver's version is not known")
H030 = Rule("SOS-H030", "warning", "The card has no bf16")
H031 = Rule("SOS-H031", "warning", "The card stores fp8 and does not compute in it")
H040 = Rule("SOS-H040", "error", "The card has too little memory")
H041 = Rule("SOS-H041", "warning", "The card's memory is in use")
H042 = Rule("SOS-H042", "error", "The machine has too little memory")
H043 = Rule("SOS-H043", "error", "The disk has too little free space")
H044 = Rule("SOS-H044", "info", "The card's memory is not known")

Dtype = Literal["", "bf16", "fp16", "fp32", "fp8"]


@dataclass(frozen=True)
class Needs:
    """What a job asks of a machine; 0 and empty ask for nothing. One card must hold `vram_mib` MiB.

    `gpu` is False for a job that a CPU does as well; `dtype` is what it computes in; `disk_bytes`
    is the need of a disk plan. `cure` is what to do where the card is too small, or empty. `far`: the machine that
    is asked about is another one than that which asks.
    """

    gpu: bool = True
    vram_mib: int = 0
    dtype: Dtype = ""
    ram_mib: int = 0
    disk_bytes: int = 0
    cure: str = ""
    far: bool = False


def check_machine(source: MachineFacts, needs: Needs) -> list[Finding]:
    """SOS-H001 to H044: all that keeps this machine from doing the job, card by card."""
    findings = [rule.at("machine", message, hint) for rule, message, hint in source.errors]
    if not source.gpus and not findings:
        findings.append(_no_gpu(needs))
    if source.gpus and source.live and source.torch is None:
        message = "torch is not installed in this Python: images are made by a remote engine only"
        findings.append(H014.at("torch", message, 'pip install "sosie[local]"'))
    if source.torch is not None and source.torch.tag.startswith(("cpu", "rocm", "xpu")) and source.gpus:
        findings.append(_no_cuda(source.torch, source.gpus[0]))
    findings.extend(_about_cards(source, needs))
    findings.extend(_memory_and_disk(source, needs))
    return findings


def _about_cards(source: MachineFacts, needs: Needs) -> list[Finding]:
    """The findings of each kind of card. Errors of one are warnings while another card can do the job."""
    cards = [list(_about(subject, gpu, source.torch, needs)) for subject, gpu in _kinds(source.gpus)]
    if any(not has_errors(card) for card in cards):
        cards = [[_spare(finding) for finding in card] for card in cards]
    return [finding for card in cards for finding in card]


def _spare(finding: Finding) -> Finding:
    if finding.severity != "error":
        return finding
    return replace(
        finding, severity="warning", hint="use the other card: CUDA_VISIBLE_DEVICES says which ones are seen"
    )


def _about(subject: str, gpu: Gpu, torch: TorchWheel | None, needs: Needs) -> Iterator[Finding]:
    if torch is not None and torch.cuda is not None:
        yield from _architecture(subject, gpu, torch)
        yield from _driver(subject, gpu, torch, torch.cuda)
    yield from _compat(subject, gpu)
    yield from _ability(subject, gpu, needs)
    yield from _vram(subject, gpu, needs)


def _no_gpu(needs: Needs) -> Finding:
    message = "no NVIDIA card was found (nvidia-smi is missing or names none)"
    hint = "use a remote engine, rent a machine, or the embedded model: sosie generate CHARACTER --recipe mini"
    if needs.far:
        hint = "the embedded model draws there without one (--recipe mini); all else wants a machine with a card"
    return H001.at("machine", message, hint, severity="error" if needs.gpu else "info")


def _no_cuda(torch: TorchWheel, gpu: Gpu) -> Finding:
    message = f"torch {torch.version} is built for {torch.tag}, not for CUDA: the {gpu.name} is not used"
    return H015.at("torch", message, _install(gpu))


def _kinds(gpus: tuple[Gpu, ...]) -> list[tuple[str, Gpu]]:
    """Each kind of card once, with the most free memory that one of them has."""
    kinds: dict[tuple[str, Version | None, int | None, str], tuple[int, Gpu]] = {}
    for index, gpu in enumerate(gpus):
        key = (gpu.name, gpu.compute, gpu.vram_mib, gpu.driver)
        first, freest = kinds.get(key, (index, gpu))
        kinds[key] = (first, gpu if (gpu.free_mib or 0) > (freest.free_mib or 0) else freest)
    return [(f"GPU {index}" if len(gpus) > 1 else "GPU", gpu) for index, gpu in kinds.values()]


def _text(version: Version) -> str:
    return f"{version[0]}.{version[1]}"


def _sm(version: Version) -> str:
    return f"sm_{version[0]}{version[1]}"


def _runs(compute: Version, architectures: tuple[Version, ...]) -> bool:
    """Compiled code of the same major and of no higher minor runs: sm_86 on 8.9, not sm_90 on 12.0."""
    return any(major == compute[0] and minor <= compute[1] for major, minor in architectures)


def _architecture(subject: str, gpu: Gpu, torch: TorchWheel) -> Iterator[Finding]:
    if gpu.compute is None:
        message = f"{gpu.name}: the compute capability is not known, so it is not compared with torch {torch}"
        hint = "nvidia-smi --query-gpu=name,compute_cap,driver_version,memory.total --format=csv"
        yield H013.at(subject, message, hint)
        return
    if torch.architectures is None:
        message = f"what torch {torch} was compiled for is not known; {gpu.name} needs {_sm(gpu.compute)}"
        hint = 'python -c "import torch; print(torch._C._cuda_getArchFlags())"'
        yield H012.at("torch", message, hint)
        return
    if _runs(gpu.compute, torch.architectures) or _runs(gpu.compute, torch.unsure):
        return
    compiled = " ".join(_sm(version) for version in torch.architectures)
    if torch.ptx is not None and torch.ptx <= gpu.compute:
        message = (
            f"{gpu.name} is {_sm(gpu.compute)}, torch {torch} holds {compiled} and PTX of {_text(torch.ptx)}: it may "
            "start after minutes of compiling, and runs slower"
        )
        yield H011.at(subject, message, _install(gpu))
        return
    message = (
        f"{gpu.name} is {_sm(gpu.compute)}, torch {torch} was compiled for {compiled}: every CUDA call ends in "
        "'no kernel image is available for execution on the device'"
    )
    yield H010.at(subject, message, _install(gpu))


def _install(gpu: Gpu) -> str:
    """The command that installs a wheel which card and driver both run, or where to look."""
    branch = _branch(gpu.driver)
    for tag in ("cu128", "cu130", "cu126", "cu124", "cu118"):
        major, minor = int(tag[2:4]), int(tag[4])
        row = next(
            (row for row in reversed(WHEELS) if row[0] == tag and gpu.compute and _runs(gpu.compute, row[3])), None
        )
        if row is None or (branch is not None and _native(branch) < (major, minor)):
            continue
        (first, last) = row[2]
        return f'pip install "torch=={first}.{last}.*" --index-url https://download.pytorch.org/whl/{tag}'
    return "choose a wheel for this card and driver: https://pytorch.org/get-started/previous-versions"


def _branch(driver: str) -> int | None:
    number = re.match(r"\d{3}(?=\.|$)", driver)
    return int(number[0]) if number else None


def _native(branch: int) -> Version:
    """The newest CUDA that a driver of this branch brings; a branch that is not in the table brings no less."""
    return max((cuda for first, cuda in DRIVER_CUDA if first <= branch), default=(0, 0))


def _driver(subject: str, gpu: Gpu, torch: TorchWheel, wheel: Version) -> Iterator[Finding]:
    """The wheel's CUDA against the driver. Drivers run every older CUDA; only an old driver is a fault."""
    branch = _branch(gpu.driver)
    if branch is None:
        message = f"the driver's version is not known, so it is not compared with torch {torch} (CUDA {_text(wheel)})"
        yield H026.at(subject, message, "nvidia-smi")
        return
    native = _native(branch)
    least = DRIVER_MINIMUM.get(wheel[0])
    needed = next((first for first, cuda in DRIVER_CUDA if cuda >= wheel), None)
    if least is None or (needed is None and branch > NEWEST_KNOWN_BRANCH):
        return
    if branch < least:
        message = (
            f"driver {gpu.driver} runs CUDA {_text(native)} at most, torch {torch} brings CUDA {_text(wheel)}; "
            f"CUDA {wheel[0]}.x needs driver {least} or newer"
        )
        yield H020.at(subject, message, f"{_install(gpu)}; or update the driver to {least} or newer")
    elif native < wheel:
        message = (
            f"driver {gpu.driver} is of CUDA {_text(native)}, torch {torch} of CUDA {_text(wheel)}: compiled code "
            "runs, but what is compiled at run time (torch.compile, Triton, PTX) may fail"
        )
        hint = f"update the driver to {needed} or newer" if needed else "update the driver"
        yield H021.at(subject, message, hint)
    elif native > wheel:
        message = (
            f"driver {gpu.driver} (CUDA {_text(native)}) is newer than torch {torch} (CUDA {_text(wheel)}): "
            "that is fine, a driver runs every older CUDA"
        )
        yield H022.at(subject, message)


def _compat(subject: str, gpu: Gpu) -> Iterator[Finding]:
    """A CUDA version that this driver cannot have by itself comes from the image's cuda-compat package."""
    branch = _branch(gpu.driver)
    if branch is None or gpu.cuda is None or branch > NEWEST_KNOWN_BRANCH or gpu.cuda[0] <= _native(branch)[0]:
        return
    home = re.search(r"GeForce|TITAN|\bRTX \d{4}", gpu.name, re.IGNORECASE) is not None
    message = (
        f"nvidia-smi reports CUDA {_text(gpu.cuda)}, driver {gpu.driver} by itself brings {_text(_native(branch))}: "
        "the image loads its cuda-compat libraries, which "
        + ("this card does not support (CUDA error 804)" if home else "data-centre cards alone support")
    )
    hint = "choose an image of an older CUDA, or a machine with a newer driver"
    yield H023.at(subject, message, hint, severity="error" if home else "warning")


def _ability(subject: str, gpu: Gpu, needs: Needs) -> Iterator[Finding]:
    if gpu.compute is None:
        return
    if needs.dtype == "bf16" and gpu.compute < BF16_FROM:
        message = f"{gpu.name} ({_sm(gpu.compute)}) has no bf16; expected {_sm(BF16_FROM)} or newer: slow, or it fails"
        failing = [each.title for each in families() if any(one.precision == "fp16" for one in each.figures.fails)]
        hint = f"use a card from the RTX 30 series on; fp16 is no way out for {' and '.join(failing)}"
        yield H030.at(subject, message, hint)
    if needs.dtype == "fp8" and gpu.compute < FP8_FROM:
        message = (
            f"{gpu.name} ({_sm(gpu.compute)}) does not compute in fp8; expected {_sm(FP8_FROM)} or newer: fp8 files "
            "save memory here, not time"
        )
        yield H031.at(subject, message, "use the bf16 file if it fits the card's memory")


def _vram(subject: str, gpu: Gpu, needs: Needs) -> Iterator[Finding]:
    needed = needs.vram_mib
    if needed <= 0:
        return
    hint = needs.cure or "choose a smaller size, an fp8 or GGUF file, offloading, or a larger card"
    if gpu.vram_mib is None:
        message = f"{gpu.name}: the memory is not known (shared with the CPU?); the job needs about {needed:,} MiB"
        yield H044.at(subject, message, hint)
    elif gpu.vram_mib < needed:
        message = f"{gpu.name} has {gpu.vram_mib:,} MiB, the job needs about {needed:,} MiB"
        yield H040.at(subject, message, hint)
    elif gpu.free_mib is not None and gpu.free_mib < needed:
        message = (
            f"{gpu.name} has {gpu.free_mib:,} of {gpu.vram_mib:,} MiB free, the job needs about {needed:,} MiB: "
            "another program holds the rest"
        )
        yield H041.at(subject, message, "end what holds it: nvidia-smi lists the programs")


def _memory_and_disk(source: MachineFacts, needs: Needs) -> Iterator[Finding]:
    if source.ram_mib is not None and source.ram_mib < needs.ram_mib:
        message = (
            f"the machine (or container) has {source.ram_mib:,} MiB of memory, the job needs {needs.ram_mib:,} MiB"
        )
        yield H042.at("memory", message, "load the model in parts, or take a larger machine")
    if source.free_disk is not None and source.free_disk < needs.disk_bytes:
        message = f"{source.free_disk / 1e9:.1f} GB of the disk are free, the job needs {needs.disk_bytes / 1e9:.1f} GB"
        yield H043.at("disk", message, "free some space; the disk plan says what takes it")
