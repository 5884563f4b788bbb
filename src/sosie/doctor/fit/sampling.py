"""Whether steps, guidance, shift and precision suit the variant of a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sosie.core import Finding
from sosie.core.finding import Rule
from sosie.dataset.check.precision import check_precision
from sosie.doctor.assembly import Assembly
from sosie.families.contract.partners import SamplingRange

R020 = Rule("SOS-R020", "warning", "The steps do not suit the model's variant")
R021 = Rule("SOS-R021", "warning", "The CFG does not suit the model's variant")
R022 = Rule("SOS-R022", "warning", "The timestep shift was left at a node's default")


def check_sampling(assembly: Assembly) -> list[Finding]:
    """SOS-R020 to R022, and SOS-T040 for a precision in which the family overflows.

    Where neither the user nor the file's name tells the variant, settings that suit one of them pass. Steps are
    judged only where the stage draws from noise alone: a pass over an image takes fewer.
    """
    precision = check_precision(assembly.family, assembly.settings.precision, training=False)
    return [
        *_steps(assembly),
        *_cfg(assembly),
        *_shift(assembly),
        *(replace(f, subject=assembly.subject, message=f"{assembly.where}: {f.message}") for f in precision),
    ]


def _ranges(a: Assembly) -> tuple[SamplingRange, ...]:
    """The ranges that may hold: the variant's, or all if the variant is not known."""
    variant = a.variant
    return tuple(entry for entry in a.partners.ranges if not variant or entry.variant == variant)


def _steps(a: Assembly) -> Iterator[Finding]:
    ranges, steps = _ranges(a), a.settings.steps
    if not ranges or steps is None or a.settings.denoise < 1:
        return
    if not any(low <= steps <= high for low, high in (entry.steps for entry in ranges)):
        wanted = " or ".join(f"{r.steps[0]} to {r.steps[1]} ({r.title})" for r in ranges)
        yield a.finding(R020, f"{steps:g} steps; expected {wanted}", _hint(a, ranges))


def _cfg(a: Assembly) -> Iterator[Finding]:
    ranges, cfg = _ranges(a), a.settings.cfg
    if not ranges or cfg is None:
        return
    if not any(low <= cfg <= high for low, high in (entry.cfg for entry in ranges)):
        wanted = " or ".join(f"{r.cfg[0]:g} to {r.cfg[1]:g} ({r.title})" for r in ranges)
        yield a.finding(R021, f"CFG {cfg:g}; expected {wanted}", _hint(a, ranges))


def _hint(a: Assembly, ranges: tuple[SamplingRange, ...]) -> str:
    if len(ranges) > 1:
        return "which variant it is, no header tells: sosie model add FILE --variant NAME"
    return f"published settings: {a.partners.published}"


def _shift(a: Assembly) -> Iterator[Finding]:
    fit, shift = a.partners, a.settings.shift
    if fit.left_shift and shift is not None and abs(shift - fit.left_shift) < 1e-6:
        message = f"the shift is {shift:g}, the default of {fit.shift_node}; {a.title} has {fit.shift:g} built in"
        yield a.finding(R022, message, f"set it to {fit.shift:g}, or remove the node")
