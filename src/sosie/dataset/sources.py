"""Where the images of a set come from: a character's references, a folder, a list of addresses."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from sosie.core import Character, Event, Note, Progress
from sosie.core.errors import NotFoundError, UsageError
from sosie.dataset import image_set
from sosie.dataset.build import Captioning, OfferedImage, dataset_folder, offer
from sosie.dataset.given import Captions, Layout, layout_of, read_captions
from sosie.dataset.given.words import of_text
from sosie.dataset.listing import fetch_listed, read_listing
from sosie.dataset.names import KINDS, listed, shown
from sosie.fetch.hubs import Hubs
from sosie.fetch.part_file import remove_dead
from sosie.fetch.retries import DownloadError
from sosie.fetch.web import Web
from sosie.files.images import image_digest
from sosie.workspace.session import Session


def from_references(session: Session, character: Character, how: Captioning) -> Generator[Event]:
    """Takes the references that are not the judge's: all but a third, rounded up."""
    teaching, judged = image_set.split(character.references)
    if not teaching:
        raise UsageError(
            f"'{character.name}' has one reference, and what is judged by is not learned from",
            f"add references, or let Sosie draw a set: sosie dataset build {character.name} --bootstrap 24",
        )
    yield Note(f"{len(teaching)} of {len(character.references)} references are learned from, {len(judged)} judge")
    paths = session.reference_paths(character)
    offers = [OfferedImage(paths[reference.sha256], f"reference:{reference.file}") for reference in teaching]
    yield from offer(session, character, offers, how)


def from_folder(session: Session, character: Character, folder: Path, how: Captioning) -> Generator[Event]:
    """Takes the images of a folder (`layout_of`), with the captions that came with them (`read_captions`).

    An image whose caption cannot be read waits for it. Raises `NotFoundError` if there is no image, `UsageError` if
    all of them wait.
    """
    layout = _layout(folder)
    captions = read_captions(folder, [placed.name for placed in layout.pictures])
    yield from (*layout.findings, *captions.findings)
    ready = [placed for placed in layout.pictures if placed.name not in captions.waiting]
    if not ready:
        raise UsageError(
            f"no image of {folder} was taken: their captions stand in files that cannot be read, and none is made up",
            "mend the files that are named above, or move them away to have captions made of what is seen",
        )
    yield from map(Note, _said_of(layout, captions, how))
    offers = [
        OfferedImage(
            placed.path,
            f"file:{shown(placed.name)}",
            captions.of(placed.name),
            placed.repeats * captions.repeats.get(placed.name, 1),
        )
        for placed in ready
    ]
    yield from offer(session, character, offers, how)


def from_list(
    session: Session, character: Character, file: Path, how: Captioning, base_url: str = ""
) -> Generator[Event]:
    """Downloads the images of a list and takes those that are good; what came already is not fetched again.

    An image that cannot be had is a finding (SOS-N001 to N006), and the others still come.
    """
    listing = read_listing(file, base_url)
    yield from map(Note, listing.notes)
    folder = dataset_folder(session, character)
    known = {member.source: member for member in image_set.read_members(folder)}
    missing = [item for item in listing.images if item.source not in known]
    offers = [
        OfferedImage(folder / known[item.source].file, item.source, of_text(item.caption))
        for item in listing.images
        if item.source in known
    ]
    place = session.workspace.state / "downloads" / character.name
    remove_dead(place)
    waits: list[str] = []
    fetched: list[Path] = []
    with Web(Hubs.from_environment(), notice=waits.append) as web:
        for index, item in enumerate(missing):
            yield Progress(f"downloading {item.source}", index, len(missing))
            try:
                fetched.append(fetch_listed(web, item, place))
                offers.append(OfferedImage(fetched[-1], item.source, of_text(item.caption)))
            except DownloadError as error:
                yield error.finding(item.source, "warning")
            yield from map(Note, waits)
            waits.clear()
    yield from offer(session, character, offers, how)
    inside = {member.sha256 for member in image_set.read_members(folder)}
    for path in fetched:
        if image_digest(path) in inside:
            path.unlink()


def _layout(folder: Path) -> Layout:
    if not folder.is_dir():
        raise NotFoundError(f"{folder} is not a folder; expected one with images", "check the path")
    try:
        layout = layout_of(folder)
    except OSError as error:
        raise NotFoundError(f"{folder} cannot be read: {error.strerror or error}") from None
    if not layout.pictures:
        hint = f"give the folder that has them: {listed(layout.passed)}" if layout.passed else ""
        raise NotFoundError(f"{folder} has no images; {KINDS}", hint)
    return layout


def _said_of(layout: Layout, captions: Captions, how: Captioning) -> Generator[str]:
    count = len(layout.pictures)
    if captions.waiting:
        waiting = listed(sorted(captions.waiting))
        yield f"{len(captions.waiting)} of {count} images wait for captions that can be read: {waiting}"
    without = count - len(captions.waiting) - sum(1 for placed in layout.pictures if captions.of(placed.name))
    if without:
        by = "--caption-command describes them" if how.command else "captions are made of what is seen in them"
        fields = f"; the table's fields are {listed(captions.other_fields, 8)}" if captions.other_fields else ""
        yield f"{without} of {count} images came without a caption{fields}: {by}"
    repeats = sorted({placed.repeats for placed in layout.pictures})
    if len(repeats) > 1:
        yield f"the folders' repeats count in training: {', '.join(map(str, repeats))}"
