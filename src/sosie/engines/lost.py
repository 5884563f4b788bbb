"""A card that is gone: told from an error of torch that is about something else."""

from __future__ import annotations

import re

from sosie.core.errors import LostError

GONE = re.compile(
    r"CUDA (driver )?error: (?!.*(out of memory|ALLOC_FAILED|no kernel image))(?P<why>[^\n]{1,200})", re.IGNORECASE
)
"""How torch begins the message of an error after which a process can use its card no more."""


def lost_card(error: BaseException, device: str) -> LostError | None:
    """What an error of torch on `device` says of the card, if it says that the card is gone; else None.

    Memory that does not suffice, and a torch that has no code for the card, are no loss of it.
    """
    match = GONE.search(str(error)[:2000]) if isinstance(error, RuntimeError) else None
    if match is None:
        return None
    why = match["why"].strip().rstrip(".")
    hint = (
        "the same command does what is left; if the card fails again: nvidia-smi, and the kernel's log (dmesg) for Xid"
    )
    return LostError(f"the card failed while it drew ({device}: {why})", hint)
