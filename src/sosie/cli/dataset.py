"""`sosie dataset`: build, check and caption a character's training set."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from sosie.cli.options import PATH, common, session
from sosie.cli.output import Output
from sosie.core import Event, Finding
from sosie.core.errors import UsageError
from sosie.workspace.workspace import Workspace

if TYPE_CHECKING:
    from sosie.core import Character, Recipe
    from sosie.dataset.build import AddedImage, BuiltSet
    from sosie.workspace.session import Session

RECIPE = click.option(
    "--recipe", "recipe_name", help="The model that the pictures are like, or are drawn by. Default: the character's."
)
COMMAND = click.option(
    "--caption-command", "caption_command", default="", help='Your captioning program: "PROGRAM {image}".'
)


@click.group("dataset")
def command() -> None:
    """Build, check and caption the set of images that a character's LoRA is trained on."""


@command.command("build")
@click.argument("character")
@click.option("--from", "folder", type=PATH, help="A folder of images; captions beside them count.")
@click.option("--urls", type=PATH, help="A list of addresses: txt, or a JSON export (Cloudinary, S3).")
@click.option("--base-url", default="", help="What stands before the keys of an S3 listing.")
@click.option("--bootstrap", "n", type=int, help="Draw images with the identity guides until the set has so many.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Of --bootstrap.")
@click.option("--attempts", type=int, default=4, show_default=True, help="Tries a picture, of --bootstrap.")
@click.option("--engine", default="diffusers", show_default=True, help="What draws, of --bootstrap.")
@RECIPE
@COMMAND
@common
def build(character: str, output: Output, workspace: Workspace, **flags: Any) -> int:
    """Add images to the training set of CHARACTER: its references, a folder, a list, or drawn ones.

    Without a source the references become the set, but for a third that is left to the judge. Every
    image is looked at; what would do harm (another person, no face, a copy, blur) is left out, with the
    reason. Each gets a caption of its own, its source and its scores. The same command again adds only
    what is missing. Exit 1 if a picture was left out, or fewer came than asked for.
    """
    sources = [name for name in ("folder", "urls", "n") if flags[name] is not None]
    if len(sources) > 1:
        raise UsageError("more than one source was given; expected one of --from, --urls, --bootstrap")
    if flags["base_url"] and flags["urls"] is None:
        raise UsageError("--base-url is about an S3 listing, and none was given", "add --urls FILE")
    with session(workspace) as opened:
        whom, recipe = _whom(workspace, character, flags["recipe_name"])
        built, left = _show(output, _events(opened, whom, recipe, flags))
    if flags["n"] is not None and built is not None and built.total < flags["n"]:
        output.error(
            f"the set stayed short: {built.total} of {flags['n']} images", "raise --attempts, or try another --seed"
        )
        return 1
    return int(left)


@command.command("caption")
@click.argument("character")
@RECIPE
@COMMAND
@click.option(
    "--model",
    default="",
    metavar="PATH_OR_NAME",
    help="A captioning model on this machine (BLIP, BLIP-2, Florence-2...): its folder, or name in the hub's cache.",
)
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Of --model."
)
@common
def caption(character: str, output: Output, workspace: Workspace, **flags: Any) -> int:
    """Write the captions of CHARACTER's training set anew.

    Each is unique and begins with the trigger; it names what does not belong to the face: what a program or a
    model says of hair, eyes, age and the like is taken out. Captions that came with an image stay, and so does
    a caption in NAME.txt beside an image. A model must be there already, in safetensors; none is downloaded.
    """
    from sosie.dataset.build import Captioning, recaption

    if flags["model"] and flags["caption_command"]:
        raise UsageError("both --model and --caption-command were given; expected one of them")
    with session(workspace) as opened:
        whom, recipe = _whom(workspace, character, flags["recipe_name"])
        how = Captioning(recipe, flags["caption_command"], flags["model"], flags["device"])
        _show(output, recaption(opened, whom, how))
    return 0


@command.command("check")
@click.argument("character")
@RECIPE
@common
def check(character: str, recipe_name: str | None, output: Output, workspace: Workspace) -> int:
    """Say what is wrong with CHARACTER's training set before a run is paid for.

    Captions, trigger, sizes (those that the recipe trains at), copies, blur, balance, and images that show
    somebody else than the references. Exit 1 if there is a warning or an error.
    """
    from sosie.dataset.build import check as look
    from sosie.dataset.build import dataset_folder, judging_character

    with session(workspace) as opened:
        whom, recipe = _whom(workspace, character, recipe_name)
        report = look(opened, whom, recipe)
        folder = dataset_folder(opened, whom)
        judging = len(judging_character(opened, whom).references)
    for finding in report.findings:
        output.finding(finding, always=True)
    balance = report.balance
    if output.as_json:
        from sosie.api.lines import json_of

        output.line(
            {
                "character": character,
                "path": str(folder),
                "images": len(report.images),
                "judging_references": judging,
                **json_of(report),
            }
        )
    else:
        output.data(str(folder))
        output.say(
            f"{len(report.images)} images: {balance.close_up} close-ups, {balance.half_body} half bodies, "
            f"{balance.full_body} full bodies; {balance.frontal} frontal, {balance.left} left, {balance.right} right; "
            f"judged by {judging} references that are not in it"
        )
    return int(any(finding.severity != "info" for finding in report.findings))


def _whom(workspace: Workspace, name: str, recipe_name: str | None) -> tuple[Character, Recipe | None]:
    """The character, and the recipe that was named or is its own; else none, for nobody said what drew the pictures."""
    from sosie.workspace.characters import load_character
    from sosie.workspace.recipes import load_recipe

    character = load_character(workspace, name)
    chosen = recipe_name or character.recipe
    return character, load_recipe(workspace, chosen) if chosen else None


def _events(opened: Session, character: Character, recipe: Recipe | None, flags: dict[str, Any]) -> Generator[Event]:
    from sosie.dataset.build import Captioning
    from sosie.dataset.sources import from_folder, from_list, from_references

    how = Captioning(recipe, flags["caption_command"])
    if flags["n"] is not None:
        from sosie.api.datasets import Bootstrap, bootstrap
        from sosie.workspace.recipes import load_recipe

        drawn_by = recipe or load_recipe(opened.workspace, "mini")
        terms = {name: flags[name] for name in ("n", "seed", "attempts", "engine")}
        return bootstrap(opened, Bootstrap(character, drawn_by, command=how.command, **terms))
    if flags["folder"] is not None:
        return from_folder(opened, character, flags["folder"], how)
    if flags["urls"] is not None:
        return from_list(opened, character, flags["urls"], how, flags["base_url"])
    return from_references(opened, character, how)


def _show(output: Output, events: Generator[Event]) -> tuple[BuiltSet | None, bool]:
    """Shows what happens; the end, and whether a finding left something out."""
    from sosie.dataset.build import AddedImage, BuiltSet

    built: BuiltSet | None = None
    left = False
    with output.progress(), closing(events):
        for event in events:
            output.event(event, always=True)
            if isinstance(event, Finding):
                left = left or event.severity != "info"
            elif isinstance(event, AddedImage):
                _added(output, event)
            elif isinstance(event, BuiltSet):
                built = event
    if built is not None:
        output.say(f"✓ {built.total} images in {built.folder}: {', '.join(_counts(built))}")
    return built, left


def _counts(built: BuiltSet) -> Generator[str]:
    yield f"{built.added} new"
    if built.corrected:
        yield f"{built.corrected} with new captions"
    if built.judging:
        yield f"{built.judging} kept for judging"
    yield f"{built.left_out} left out"


def _added(output: Output, event: AddedImage) -> None:
    if output.as_json:
        from sosie.api.lines import json_of

        output.line(json_of(event))
    else:
        output.data(f"{event.path}\t{' | '.join((event.member.caption, *event.member.alternatives))}")
