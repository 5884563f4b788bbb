"""Panels: made, served and counted."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

from sosie.core import Event, Progress, Result
from sosie.core.errors import UsageError
from sosie.files.images import read_image
from sosie.lab.measuring import measure_images
from sosie.lab.sides import Side, read_side
from sosie.panels.drawing import draw_pairs
from sosie.panels.folder import PanelFolder, make_panel, open_panel
from sosie.panels.panel import Panel, PanelImage, Question
from sosie.panels.results import Results, results
from sosie.reports.panel.page import write_panel
from sosie.reports.words import Language
from sosie.servers.pages.serving import Listening
from sosie.store import images
from sosie.workspace.characters import load_character
from sosie.workspace.recipes import load_recipe
from sosie.workspace.session import Session
from sosie.workspace.workspace import Workspace, check_name

MOST_REFERENCES = 3
"""Of a character's references, so that they stand above a pair on a phone."""


@dataclass(frozen=True)
class PanelOrder:
    """A panel that is to be made: cells by the words of `sosie compare`, and at most so many test pairs."""

    name: str
    sides: tuple[str, ...]
    character: str
    recipe: str = ""
    question: Question = "likeness"
    pairs: int = 200
    seed: int = 0


@dataclass(frozen=True)
class NewPanel(Result):
    """A panel that was made."""

    panel: Panel
    path: Path


@dataclass(frozen=True)
class PanelResults(Result):
    """What people answered, beside what was measured; and the page, if one was asked for."""

    results: Results
    page: Path | None = None


def new_panel(session: Session, order: PanelOrder) -> Generator[Event]:
    """Copies the images into a panel of their own, pixels only, and draws its pairs. Raises `SosieError`."""
    workspace = session.workspace
    if not 1 <= order.pairs <= 1_500:
        raise UsageError(f"--pairs {order.pairs} is out of range: 1 to 1500")
    if len(order.sides) < 2:
        raise UsageError("a panel compares two cells at least", "sosie panel new NAME A B --character NAME")
    check_name(order.name)
    character = load_character(workspace, order.character)
    recipe = load_recipe(workspace, order.recipe or character.recipe or "mini")
    sides = [read_side(workspace, text) for text in order.sides]
    names = _names(sides, order.sides)
    references = list(session.reference_paths(character).values())[:MOST_REFERENCES]
    total = len(references) + sum(len(side.images) for side in sides)
    pictures: dict[str, images.Encoded] = {}
    done = 0

    def take(path: Path) -> tuple[str, Progress]:
        nonlocal done
        done += 1
        picture = images.encode(read_image(path))
        pictures[picture.sha256] = picture
        return picture.sha256, Progress(f"copied {path.name}", done, total)

    shown: list[str] = []
    for path in references:
        sha256, progress = take(path)
        shown.append(sha256)
        yield progress
    taken: list[PanelImage] = []
    for name, side in zip(names, sides, strict=True):
        for image in side.images:
            sha256, progress = take(image.path)
            taken.append(PanelImage(sha256, name, image.block, image.guides, image.prompt))
            yield progress
    pairs = draw_pairs(taken, names, order.pairs, order.seed)
    panel = Panel(
        order.name, order.question, character.name, recipe.name, names, tuple(shown), tuple(taken), pairs, order.seed
    )
    yield NewPanel(panel, make_panel(workspace, panel, pictures.values()).path)


def serve_panel(workspace: Workspace, name: str, listening: Listening, ready: Callable[[str], None]) -> PanelFolder:
    """Serves the page until it is interrupted; `ready` gets the address, which holds the key. Returns the panel.

    Raises `MissingExtraError` without the extra `panel`, and `UsageError` where it cannot listen.
    """
    from sosie.core.errors import MissingExtraError

    folder = open_panel(workspace, name)
    try:
        from sosie.servers.pages.panel.app import panel_app, shell
        from sosie.servers.pages.panel.ballot import Ballot
    except ImportError as error:
        hint = "pip install 'sosie[panel]'"
        raise MissingExtraError(f"a panel cannot be served: {error.name} is not installed", hint) from None
    from sosie.servers.pages.guard import Guard
    from sosie.servers.pages.key import Key
    from sosie.servers.pages.serving import address_of, bound, doors, serve

    ballot = Ballot(folder)
    listener = bound(listening)
    with listener:
        own = doors(listening, listener.getsockname()[1], frozenset(shell()), Key())
        serve(Guard(panel_app(ballot), own), listener, lambda: ready(address_of(own)))
    return folder


def count_votes(session: Session, name: str, out: Path | None = None, language: Language = "en") -> Generator[Event]:
    """Judges the panel's images, and holds every score against what people answered. Ends with `PanelResults`.

    With `out` a page is written there.
    """
    folder = open_panel(session.workspace, name)
    panel = folder.panel
    votes = folder.votes.last(panel.id)
    character = load_character(session.workspace, panel.character)
    recipe = load_recipe(session.workspace, panel.recipe)
    files = [(folder.image_path(image.sha256), image.prompt) for image in panel.images]
    guides = frozenset(digest for image in panel.images for digest in image.guides)
    measured = yield from measure_images(session, character, recipe, files, guides)
    found = results(panel, votes, measured)
    yield PanelResults(found, write_panel(found, out, language) if out else None)


def _names(sides: list[Side], words: tuple[str, ...]) -> tuple[str, ...]:
    """What the cells are called: the sides' own names, or the words where two have the same."""
    names = [side.name for side in sides]
    names = names if len(set(names)) == len(names) else list(words)
    if len(set(names)) < len(names):
        raise UsageError("one cell is named twice; expected different ones")
    return tuple(names)
