"""Who draws the impostors of a calibration: a recipe without its guides, or a user's graph without its character."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sosie.api.engines import open_engine, open_graphs
from sosie.core import Character, Engine, Finding, Recipe
from sosie.core.errors import SosieError, UsageError
from sosie.core.finding import Rule
from sosie.core.plan import needed_stages, without_guides
from sosie.core.recipe import Calibration
from sosie.engines import scheme_of
from sosie.engines.comfy.workflow import Workflow, drawing_digest, open_workflow, prompt_places, with_changes
from sosie.files.digest import asset_digest
from sosie.graph import Node, read_workflow
from sosie.graph.without_character import (
    InputChange,
    candidates,
    described,
    guide_changes,
    lora_changes,
    split_settings,
)
from sosie.loop.judging import (
    ImageSource,
    calibrate_command,
    calibration_path,
    generator_digest,
    workflow_cohort_name,
    workflow_cohorts,
)
from sosie.workspace.bill import resolve
from sosie.workspace.library import Library
from sosie.workspace.session import Session

J006 = Rule("SOS-J006", "info", "What was taken out of a workflow for its calibration")

SOMEBODY = "an adult"
"""Who is drawn for a character without a description."""

SCENES = (
    "smiling, soft daylight, in a forest",
    "neutral expression, studio light, plain grey background",
    "laughing, golden hour, on a beach",
    "talking, neon light, city at night",
    "surprised, overhead light, in an office",
    "neutral expression, cool moonlight, mountains",
    "grinning, morning light, in front of a brick wall",
    "thoughtful, dramatic side light, in a library",
    "smiling, looking slightly left, warm lamplight, at a kitchen table",
    "serious, overcast light, on a busy street",
    "calm, looking slightly right, window light, in a cafe",
    "laughing, harsh midday sun, in a garden",
)
"""What the impostors of a workflow do, one after another: its own prompt tells no range."""

MAX_SHOWN = 8


@dataclass(frozen=True, eq=False)
class Impostors:
    """A recipe with the prompts of its calibration, the digests of what it reads, and the engine that draws it.

    `generator` is the digest of what draws, `name` and `path` are the cohort's, `changes` what was taken out.
    """

    recipe: Recipe
    assets: Mapping[str, str]
    open: Callable[[], Engine]
    generator: str
    name: str
    path: Path
    changes: tuple[InputChange, ...] = ()
    findings: tuple[Finding, ...] = ()


def recipe_impostors(session: Session, character: Character, recipe: Recipe, engine: str) -> Impostors:
    """A recipe's own stages, without guides and the character's LoRAs."""
    bare = without_guides(recipe)
    bill = resolve(session.workspace, needed_stages(bare, character), character, scheme_of(engine).is_remote)
    return Impostors(
        bare,
        bill.digests,
        lambda: open_engine(session, engine, bill, character),
        generator_digest(recipe, bill.digests),
        f"{character.name}/{recipe.name}",
        calibration_path(session, character, recipe),
    )


def workflow_impostors(session: Session, character: Character, workflow: Workflow, engine: str) -> Impostors:
    """A workflow's own graph; SOS-J006 says what was taken out of it, and what may still show the character.

    Raises `UsageError` if there was nothing to take out.
    """
    kept, changes = split_settings(read_workflow(workflow.path), workflow.settings)
    base = open_workflow(workflow.path, kept, workflow.kinds)
    graph, output = base.compiler.graph, base.output
    changes += guide_changes(graph, output)
    changes += lora_changes(graph, output, _is_own_lora(session, character))
    if not changes:
        raise _nothing_taken_out(character, workflow, engine)
    bare = with_changes(base, changes)
    prompts, frame, why = _prompts(bare, character)
    recipe = dataclasses.replace(bare.recipe, prompt=frame, calibration=Calibration(prompts))
    digest = drawing_digest(bare)

    def opened() -> Engine:
        return open_graphs(session, engine, bare.compiler)

    return Impostors(
        recipe,
        bare.assets,
        opened,
        digest,
        workflow_cohort_name(character, workflow),
        workflow_cohorts(session, character) / f"{digest[:16]}.npz",
        changes,
        (_taken_out(workflow, bare, changes, why),),
    )


def _prompts(workflow: Workflow, character: Character) -> tuple[tuple[str, ...], str, str]:
    """The prompts, the frame that they are put into, and why there is none."""
    try:
        prompt_places(workflow)
    except UsageError as error:
        return ("",), "{prompt}", f"its prompt stays as it is, and only the seed changes ({error.message})"
    who = "{description}" if character.prompt_description else SOMEBODY
    return SCENES, f"portrait of {who}, {{prompt}}", ""


def _is_own_lora(session: Session, character: Character) -> Callable[[str], bool]:
    """Whether a LoRA is one of the character's, by its file's name or, where the file is here, by its content."""
    names = {PurePosixPath(lora.file).stem.casefold() for lora in character.loras}
    contents = {lora.sha256 for lora in character.loras}
    library = Library(session.workspace)

    def is_own(name: str) -> bool:
        file = PurePosixPath(name.replace("\\", "/"))
        if not contents or not file.name:
            return False
        if file.stem.casefold() in names:
            return True
        try:
            return any(asset_digest(path) in contents for path in library.files(file.name))
        except SosieError:
            return False

    return is_own


def _taken_out(workflow: Workflow, bare: Workflow, changes: tuple[InputChange, ...], why: str) -> Finding:
    graph = workflow.compiler.graph
    told = ", ".join(f"{change.text} ({described(graph.nodes[change.node])})" for change in changes)
    taken = {change.node for change in changes}
    left = [(node, name) for node, name in candidates(bare.compiler.graph, bare.output) if node.id not in taken]
    message = f"taken out of {workflow.path.name}: {told}"
    message += f"; {why}" if why else ""
    message += f"; left in: {_listed(left)}" if left else ""
    hint = f'if one of those shows the character, add --set "{left[0][0].id}.{left[0][1]}=0"' if left else ""
    return J006.at(workflow.path.name, message, hint)


def _nothing_taken_out(character: Character, workflow: Workflow, engine: str) -> UsageError:
    found = candidates(workflow.compiler.graph, workflow.output)
    message = (
        f"nothing was taken out of {workflow.path.name}, so that its images would be no impostors: no known face guide "
        f"and no LoRA of {character.name} acts in it, and --set puts nothing to 0"
    )
    if not found:
        hint = "without a calibration the images are judged by how alike the references are to each other"
        return UsageError(f"{message}; no node looks as if it showed a character", hint)
    node, name = found[0]
    named = dataclasses.replace(workflow, settings=(*workflow.settings, f"{node.id}.{name}=0"))
    hint = calibrate_command(character, workflow.recipe, ImageSource(engine, named))
    return UsageError(f"{message}; {character.name} may be in {_listed(found)}", hint)


def _listed(found: Sequence[tuple[Node, str]]) -> str:
    names = [f"{node.id}.{name} ({described(node)})" for node, name in found[:MAX_SHOWN]]
    return ", ".join(names) + (f" and {len(found) - MAX_SHOWN} more" if len(found) > MAX_SHOWN else "")
