"""Whether a stage's guides can act where it is drawn: they have a way to, and all that they need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Literal

from sosie.core import Finding, Guide, Plan, Stage
from sosie.core.finding import Rule
from sosie.core.stage_rules import E008, E012
from sosie.families import family_of
from sosie.families.contract.guides import GuideKind, Guides

E013 = Rule("SOS-E013", "error", "A guide is fed by a face encoder that ComfyUI's node does not use")
E030 = Rule("SOS-E030", "error", "A guide cannot act in this process")

FIELDS = {"keypoints": "[stages.guides.keypoints]"}

Where = Literal["in process", "in graphs"]


def check_guides(stage: Stage, plan: Plan, where: Where) -> list[Finding]:
    """SOS-E008, E012, E013 and E030, from the plan alone."""
    family = family_of(stage.family)
    hint = f"sosie recipe copy {plan.recipe} NEW-NAME, and edit it"
    wrong: list[tuple[Rule, str]] = []
    for guide in stage.guides:
        kind = family.guides.kind(guide.kind)
        if where == "in graphs":
            wrong += _in_graphs(guide, kind, family.guides, family.title)
        else:
            wrong += _in_process(guide, kind, family.guides, family.title)
        wrong += _incomplete(guide, kind)
    return [rule.at(plan.recipe, message, hint) for rule, message in wrong]


def _in_process(guide: Guide, kind: GuideKind | None, known: Guides, title: str) -> Iterator[tuple[Rule, str]]:
    if kind is None or kind.in_process is None:
        able = [one.name for one in known.kinds if one.in_process]
        yield E030, f"guide '{guide.kind}' cannot act on {title} in this process{_instead(able, known)}"
        return
    for join in kind.in_process.joins:
        if join not in known.takes:
            takes = ", ".join(known.takes) or "nothing"
            yield E030, f"guide '{guide.kind}' joins a run by its {join}; {title} takes {takes} of guides"


def _in_graphs(guide: Guide, kind: GuideKind | None, known: Guides, title: str) -> Iterator[tuple[Rule, str]]:
    if kind is None or kind.in_graphs is None:
        able = [one.name for one in known.kinds if one.in_graphs]
        yield E012, f"guide '{guide.kind}' has no node for {title}{_instead(able, known)}"
        return
    stem = PurePosixPath(guide.encoder.rpartition(":")[2].replace("\\", "/")).stem
    if kind.pack and stem not in (kind.encoder, kind.pack):
        message = (
            f"guide '{guide.kind}' is fed by the face encoder '{guide.encoder}'; ComfyUI's node measures faces by "
            f"{kind.encoder} of {kind.pack}, and takes no other"
        )
        yield E013, message


def _instead(able: list[str], known: Guides) -> str:
    return f"; expected {', '.join(able)}" if able else f": {known.none}" if known.none else ""


def _incomplete(guide: Guide, kind: GuideKind | None) -> Iterator[tuple[Rule, str]]:
    for need, what in kind.needs.items() if kind else ():
        if not getattr(guide, need):
            yield E008, f"guide '{guide.kind}' has no {FIELDS.get(need, need)}; expected {what}"
