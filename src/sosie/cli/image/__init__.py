"""`sosie image`: the images of the store, and what people say of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sosie.cli.options import PATH, common
from sosie.cli.output import Output
from sosie.core.errors import UsageError
from sosie.workspace.workspace import Workspace

if TYPE_CHECKING:
    from sosie.store.gallery import Shown


@click.group("image")
def command() -> None:
    """List the images of the store, say what you think of them, and write them to files."""


def _filters(function: Any) -> Any:
    """The options that choose images."""
    for option in (
        click.option("--job", type=int, help="Of this job."),
        click.option("--until", default="", metavar="YYYY-MM-DD", help="Made on this day (UTC), or before."),
        click.option("--since", default="", metavar="YYYY-MM-DD", help="Made on this day (UTC), or after."),
        click.option("--below", type=float, help="Whose identity, by the first judge, is below this value."),
        click.option("--failed", default="", metavar="SCORE", help="That failed this score: sface, noise, ..."),
        click.option("--differs", is_flag=True, help="On which you and the judges disagree."),
        click.option("--human", type=click.Choice(["keep", "reject", "none"]), default="", help="Your verdict."),
        click.option(
            "--machine",
            type=click.Choice(["keep", "retry", "repair", "reject", "none"]),
            default="",
            help="The judges' verdict; none: not judged. Default: any.",
        ),
        click.option("--recipe", default="", help="Drawn by this recipe."),
        click.option("--character", default="", help="Of this character."),
    ):
        function = option(function)
    return function


@command.command("list")
@_filters
@click.option(
    "--sort",
    type=click.Choice(["newest", "oldest", "identity", "-identity", "stars"]),
    default="newest",
    show_default=True,
    help="The order; -identity: the best first.",
)
@click.option("--start", type=click.IntRange(0), default=0, show_default=True, help="How many to pass over.")
@click.option("-n", "count", type=click.IntRange(1, 500), default=100, show_default=True, help="How many to list.")
@common
def list_(output: Output, workspace: Workspace, start: int, count: int, **asked: Any) -> None:
    """List images of the store with the judges' verdict and yours; a value that is not there is a dash."""
    from sosie.api.views.images import line_of
    from sosie.store import Store
    from sosie.store.gallery import Gallery, Query

    Store.open(workspace.state).close()
    with Gallery(workspace.state) as gallery:
        query = Query(**asked)
        found, total = gallery.window(query, start, count), gallery.count(query)
    for shown in found:
        output.line(line_of(shown)) if output.as_json else output.data(_row(shown))
    output.say(f"{len(found)} of {total} images")


@command.command("mark")
@click.argument("images", nargs=-1, metavar="[SHA256]...")
@_filters
@click.option(
    "--as", "verdict", type=click.Choice(["keep", "reject", "none"]), help="Your verdict; none takes it back."
)
@click.option("--stars", type=click.IntRange(0, 5), help="1 to 5; 0 takes them back.")
@common
def mark(
    images: tuple[str, ...], verdict: str | None, stars: int | None, output: Output, workspace: Workspace, **asked: Any
) -> None:
    """Say what you think of images: those named by their SHA-256, or all that the options choose.

    Your verdict stands beside the judges', which stays as it is; what you said before stays on record.
    """
    from sosie.api.views.images import say_of
    from sosie.store import Store
    from sosie.store.gallery import Gallery, Query

    query = Query(**asked) if any(asked.values()) or asked["below"] is not None else None
    said: Any = "" if verdict == "none" else verdict
    Store.open(workspace.state).close()
    with Gallery(workspace.state) as gallery:
        count = say_of(gallery, images, query, said, stars)
    output.line({"said": count}) if output.as_json else output.say(f"said of {count} images")


@command.command("export")
@click.argument("image", metavar="SHA256")
@click.argument("file", type=PATH, required=False)
@click.option(
    "--metadata", is_flag=True, help="With prompt and settings as A1111 writes them; without, nobody reads them."
)
@common
def export(image: str, file: Path | None, metadata: bool, output: Output, workspace: Workspace) -> None:
    """Write an image of the store to FILE (.png) with a signed manifest, as `sosie generate` delivers it.

    FILE is CHARACTER-PLAN.png by default; one that is there is not written over.
    """
    from sosie.api.jobs.requests import check_digest
    from sosie.api.views.export import exported
    from sosie.files.regular import is_there
    from sosie.files.whole import write_whole
    from sosie.workspace.session import Session

    with Session(workspace) as session:
        name, content = exported(session, check_digest(image), metadata)
    target = file or Path(name)
    if is_there(target):
        raise UsageError(f"{target} is there already", "name another file")
    write_whole(target, content)
    output.line({"image": str(target), "bytes": len(content)}) if output.as_json else output.data(str(target))


def _row(shown: Shown) -> str:
    identity = [score for score in shown.scores if score.kind == "identity"]
    values = " ".join(f"{one.name} {'-' if one.value is None else format(one.value, '.3f')}" for one in identity)
    stars = "-" if shown.opinion.stars is None else f"{shown.opinion.stars}*"
    said = (shown.outcome or "-", shown.opinion.verdict or "-", stars)
    return "\t".join((shown.sha256, *said, values or "-", shown.character, shown.recipe, shown.prompt))
