"""Whether a stage's guides, and its guidance, can act where it is drawn: they have a way to, and all that they need."""

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

E032 = Rule("SOS-E032", "error", "A guide does not take a setting")
E033 = Rule("SOS-E033", "error", "Guidance cannot be switched off for a part of the steps here")
E034 = Rule("SOS-E034", "error", "A guide does not act in a stage of this kind")
E038 = Rule("SOS-E038", "error", "A guide shows the model more references than it takes, or none")
E039 = Rule("SOS-E039", "error", "A recipe draws one person, and several were asked for")

FIELDS = {"keypoints": "[stages.guides.keypoints]"}

Where = Literal["in process", "in graphs"]


def check_guides(stage: Stage, plan: Plan, where: Where) -> list[Finding]:
    """SOS-E008, E012, E013, E030 and E032 to E039, from the plan alone."""
    family = family_of(stage.family)
    hint = f"sosie recipe copy {plan.recipe} NEW-NAME, and edit it"
    wrong: list[tuple[Rule, str]] = []
    for guide in stage.guides:
        kind = family.guides.kind(guide.kind)
        if where == "in graphs":
            wrong += _in_graphs(guide, kind, family.guides, family.title)
        else:
            wrong += _in_process(guide, kind, family.guides, family.title)
        wrong += [*_incomplete(guide, kind), *_too_much(guide, kind, where), *_shown(guide, kind, plan, where)]
        if kind and kind.stages and stage.kind not in kind.stages:
            acts = " and ".join(kind.stages)
            wrong.append((E034, f"guide '{guide.kind}' acts in stages {acts}, not in '{stage.kind}'"))
    wrong += _company(stage, plan, family.guides)
    sampler = stage.sampler
    if not sampler.guides_always and (where == "in graphs" or not family.partners.switches_cfg):
        place = "ComfyUI's samplers" if where == "in graphs" else f"{family.title} in this process"
        share = f"cfg_start = {sampler.cfg_start:g} and cfg_end = {sampler.cfg_end:g}"
        wrong.append((E033, f"{share}: {place} cannot switch guidance off in between; expected 0 and 1"))
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
    return f": {known.none}" if known.none else f"; expected {', '.join(able)}" if able else ""


def _incomplete(guide: Guide, kind: GuideKind | None) -> Iterator[tuple[Rule, str]]:
    for need, what in kind.needs.items() if kind else ():
        if not getattr(guide, need):
            yield E008, f"guide '{guide.kind}' has no {FIELDS.get(need, need)}; expected {what}"


def _too_much(guide: Guide, kind: GuideKind | None, where: Where) -> Iterator[tuple[Rule, str]]:
    """What the entry says and the kind does not look at."""
    if kind is None:
        return
    if (guide.start, guide.end) != (0, 1) and not (kind.spans and where == "in process"):
        place = " on ComfyUI" if kind.spans else ""
        yield E032, f"guide '{guide.kind}' acts in every step{place}; expected start = 0 and end = 1"
    if guide.picture and "picture" not in kind.needs:
        yield E032, f"guide '{guide.kind}' is given no picture; expected no picture = '{guide.picture}'"
    if guide.framing != "whole" and not kind.shows:
        yield E032, f"guide '{guide.kind}' frames its references itself; expected no framing = '{guide.framing}'"


def _shown(guide: Guide, kind: GuideKind | None, plan: Plan, where: Where) -> Iterator[tuple[Rule, str]]:
    """Of a guide by which the model sees the references themselves. A graph may be looked at without a character."""
    if kind is None or not kind.shows:
        return
    if guide.references > kind.shows:
        yield E038, f"guide '{guide.kind}' shows {guide.references} references; the model takes {kind.shows} at most"
    if guide.references < len(plan.character.cast):
        people = len(plan.character.cast)
        yield E038, f"guide '{guide.kind}' shows {guide.references} references of {people} people; expected one of each"
    if not plan.character.references and where == "in process":
        name = plan.character.name
        yield E038, f"guide '{guide.kind}' shows the references of '{name}', and there are none; expected one or more"


def _company(stage: Stage, plan: Plan, known: Guides) -> Iterator[tuple[Rule, str]]:
    """Of a picture of several people: the stage must be able to tell them apart."""
    if not plan.character.cast or stage.kind == "upscale":
        return
    kinds = [known.kind(guide.kind) for guide in stage.guides]
    if stage.kind == "detail" or not any(kind and kind.shows for kind in kinds):
        why = "no guide of it shows references" if stage.kind != "detail" else "a face pass draws one face"
        people = f"'{plan.character.name}' are {len(plan.character.cast)} people"
        yield E039, f"{people}, and stage '{stage.kind}' draws one: {why}"
