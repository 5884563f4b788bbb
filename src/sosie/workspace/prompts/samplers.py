"""Samplers by the names that A1111, Forge and infotexts give them, as those that recipes use."""

from __future__ import annotations

import re
from typing import get_args

from sosie.core.errors import nearest
from sosie.core.recipe import Schedule

SCHEDULES: dict[str, str] = {
    **{name: name for name in get_args(Schedule)},
    "automatic": "",
    "": "",
    "sgm uniform": "sgm_uniform",
    "uniform": "model",
}
"""A schedule's name to the recipe's; empty: it stays the recipe's."""

_SPACED = re.compile(r"\s+(karras|exponential|sgm uniform|simple|normal|beta)$")


def sampling_of(sampler: str, schedule: str) -> tuple[str, str]:
    """`DPM++ 2M Karras` as (`dpmpp_2m`, `karras`), `Euler a` as (`euler_a`, ""); whether an engine has it, it says.

    Raises `ValueError` for a schedule that is not known.
    """
    name = " ".join(sampler.lower().split())
    spaced = " ".join(schedule.lower().replace("_", " ").split())
    if found := _SPACED.search(name):
        name, spaced = name[: found.start()], spaced if spaced not in ("", "automatic") else found[1]
    known = {key.replace("_", " "): value for key, value in SCHEDULES.items()}
    if spaced not in known:
        raise ValueError(f"schedule '{schedule}' is not known{nearest(spaced, [key for key in known if key])}")
    name = re.sub(r"^dpm\+\+", "dpmpp", name)
    name = re.sub(r"^dpm2\b", "dpm_2", name)
    name = re.sub(r"^unipc\b", "uni_pc", name)
    name = re.sub(r"^euler a(ncestral)?$", "euler_a", name)
    name = re.sub(r" a$", " ancestral", name)
    return re.sub(r"[\s-]+", "_", name), known[spaced]
