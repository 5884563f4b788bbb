"""`generate --plans`: what a run would begin with, as a manifest that any number of machines can draw."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from sosie.api.generation import Order, first_plans
from sosie.core import Character, Finding, Result
from sosie.core.errors import CheckFailedError, UsageError
from sosie.core.finding import has_errors
from sosie.engines.shards.manifest import Manifest
from sosie.files.whole import copy_whole, make_folder
from sosie.workspace.session import Session


@dataclass(frozen=True)
class Planned(Result):
    """A manifest with `plans` in `shards`; `new` of them were not in it before."""

    folder: Path
    plans: int
    shards: int
    new: int


def plan_many(session: Session, order: Order, folder: Path) -> Generator[Finding | Planned]:
    """Writes the first plan of every image into the manifest in `folder`, and the character beside them.

    The same order again adds nothing. Raises `CheckFailedError` if a check finds an error, `UsageError` for several
    people in one picture and for a workflow of one's own.
    """
    if order.workflow is not None or order.character.cast:
        what = "a workflow" if order.workflow is not None else "several people in one picture"
        raise UsageError(f"--plans writes plans of recipes and of one character; {what} is none", "leave --plans out")
    plans, findings = first_plans(session, order)
    yield from findings
    if has_errors(findings):
        raise CheckFailedError("no plans were written: a check found an error")
    manifest = Manifest.make(folder)
    _bring(session, order.character, manifest)
    for digest in {plan.source for plan in plans if plan.source}:
        manifest.add_source(digest, session.source_image(digest))
    new = manifest.add(plans)
    yield Planned(folder, manifest.counts()[0], len(manifest.shards()), new)


def _bring(session: Session, character: Character, manifest: Manifest) -> None:
    """The character's text, references and LoRAs."""
    source = session.workspace.character_folder(character.name)
    names = ["character.toml", *(one.file for one in character.references), *(one.file for one in character.loras)]
    for name in dict.fromkeys(names):
        target = manifest.folder / "characters" / character.name / name
        make_folder(target.parent)
        copy_whole(source / name, target)
