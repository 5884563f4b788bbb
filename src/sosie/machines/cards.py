"""Which cards of this machine are meant by `all` or `0,1`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sosie.core.errors import UsageError
from sosie.machines.facts import Gpu, read_machine

VISIBLE = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"
HINT = "nvidia-smi -L lists the cards; leave --devices out to draw on the first one"


@dataclass(frozen=True)
class Card:
    """One card: the number by which a user means it, what `CUDA_VISIBLE_DEVICES` calls it, and its model if known."""

    index: int
    device: str
    model: str = ""

    def __str__(self) -> str:
        return f"card {self.index}"


def installed_cards() -> tuple[Card, ...]:
    """The cards that a process of this environment may use, as `nvidia-smi` counts them.

    Where `CUDA_VISIBLE_DEVICES` is set, those that it names, in its order.
    """
    found = read_machine(Path.cwd()).gpus
    named = os.environ.get(VISIBLE)
    devices = [str(index) for index in range(len(found))] if named is None else _named(named)
    return tuple(Card(index, device, _model(found, device)) for index, device in enumerate(devices))


def only(device: str, variables: Mapping[str, str]) -> dict[str, str]:
    """The variables by which a new process sees one card, as `Card.device` has it; `variables` are those that it gets.

    CUDA counts the fastest card first unless it is told otherwise; `nvidia-smi` counts by place.
    """
    order = {} if VISIBLE in variables or ORDER in variables else {ORDER: "PCI_BUS_ID"}
    return {VISIBLE: device, **order}


def visible(found: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
    """Of a machine's cards, those that `CUDA_VISIBLE_DEVICES` leaves; all, where it does not name them by number."""
    devices = _named(os.environ.get(VISIBLE, ""))
    numbers = [int(device) for device in devices if device.isdigit() and int(device) < len(found)]
    return tuple(found[number] for number in numbers) if numbers else found


def choose_cards(text: str, installed: tuple[Card, ...]) -> tuple[Card, ...]:
    """The cards that `all` or numbers with commas between them mean, each once.

    Raises `UsageError` for a number that no card has, for one that is there twice, and where there is no card at all.
    """
    wanted = text.strip()
    if not installed:
        raise UsageError(f"--devices {wanted}: this machine has no card that Sosie can use", HINT)
    if wanted == "all":
        return installed
    if not re.fullmatch(r"\d{1,3}( ?, ?\d{1,3})*", wanted):
        raise UsageError(f"--devices '{wanted}' is not understood; expected all, or numbers like 0,1", HINT)
    numbers = [int(part) for part in wanted.split(",")]
    if len(set(numbers)) < len(numbers):
        raise UsageError(f"--devices {wanted} names a card twice", HINT)
    if missing := [number for number in numbers if number >= len(installed)]:
        there = ", ".join(str(card.index) for card in installed)
        raise UsageError(f"--devices {wanted}: there is no card {missing[0]}; this machine has {there}", HINT)
    return tuple(installed[number] for number in numbers)


def _named(text: str) -> list[str]:
    """The devices that the variable names; CUDA reads it up to the first that it does not know."""
    devices: list[str] = []
    for part in text.split(","):
        if not re.fullmatch(r"\d{1,3}|(GPU|MIG)-[\w./-]{1,80}", part.strip()):
            break
        devices.append(part.strip())
    return devices


def _model(found: tuple[Gpu, ...], device: str) -> str:
    return found[int(device)].name if device.isdigit() and int(device) < len(found) else ""
