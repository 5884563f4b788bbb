"""A character's training set: what is offered to it is looked at, captioned and checked."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sosie.core import Character, Event, Finding, Note, Progress, Recipe, Result
from sosie.core.errors import NotFoundError, SosieError
from sosie.core.prompt import with_trigger
from sosie.core.schema import digest
from sosie.dataset import captions, image_set
from sosie.dataset.check import DatasetImage, DatasetReport, check_dataset, check_precision
from sosie.dataset.check.buckets import BUCKETS, T020, T021, check_sizes
from sosie.dataset.given.sidecars import SUFFIXES as SIDECARS
from sosie.dataset.image_set import Looks, Member
from sosie.dataset.names import listed
from sosie.faces.encoders import similarity
from sosie.faces.templates import judge_templates
from sosie.files.foreign import as_list, read_json
from sosie.files.images import image_digest, read_image
from sosie.files.whole import make_folder, write_json
from sosie.scorers.sample import Sample
from sosie.workspace.library import find_model
from sosie.workspace.session import Session
from sosie.workspace.writing import writing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sosie.faces.encoders import Encoder
    from sosie.scorers.attributes import AttributeClassifier


@dataclass(frozen=True)
class Captioning:
    """Who writes captions: `command` (a program of the user's), or templates over what is measured.

    `model` is a captioning model on this machine, which `recaption` alone uses, on `device`. A `recipe` names the
    model that drew the pictures, or that draws like them: its attribute classifier, if it brings one, then sees
    clothes, expression, light and background. None: what can be measured of any picture.
    """

    recipe: Recipe | None = None
    command: str = ""
    model: str = ""
    device: str = "auto"


@dataclass(frozen=True)
class OfferedImage:
    """An image that is offered to a set, where it is from, the captions that came with it, and how often it comes."""

    path: Path
    source: str
    captions: tuple[str, ...] = ()
    repeats: int = 1


@dataclass(frozen=True)
class AddedImage(Result):
    """An image that became a part of the set."""

    member: Member
    path: Path


@dataclass(frozen=True)
class BuiltSet(Result):
    """The end: the set's folder, its images, how many came now and how many were left out.

    Of those that were there `corrected` got new captions; `judging` are kept for judging, and not left out for a flaw.
    """

    folder: Path
    total: int
    added: int
    left_out: int
    corrected: int = 0
    judging: int = 0


def trigger_of(character: Character) -> str:
    """The character's trigger, or the one that its name gives."""
    return character.trigger or captions.trigger_for(character.name)


def dataset_folder(session: Session, character: Character) -> Path:
    """Where the character's set lies, or will."""
    return image_set.set_folder(session.workspace.character_folder(character.name))


def offer(session: Session, character: Character, offers: Sequence[OfferedImage], how: Captioning) -> Generator[Event]:
    """Looks at the offered images and takes those that are good, each with captions, source and scores.

    Captions that came with an image are compared with those that it has, and taken where they changed.
    """
    with writing(session.workspace, character.name) as place:
        folder = image_set.set_folder(place)
        image_set.settle(folder)
        members = list(image_set.read_members(folder))
        lost = image_set.without_row(folder, members)
        members = [member for member in members if member.file not in lost]
        digests = {item.path: image_digest_or_none(item.path) for item in offers}
        first = _first_of_each(offers, digests)
        before = tuple(members)
        corrected = _correct(members, first, trigger_of(character))
        if before != tuple(members):
            image_set.write_members(folder, members)
        if corrected:
            yield Note(
                f"{len(corrected)} captions were changed where they came from, and are taken: {listed(corrected)}"
            )
        inside = {member.sha256 for member in members}
        new = [item for item in offers if digests[item.path] not in inside]
        paths = session.reference_paths(character)
        judged = [paths[reference.sha256] for reference in image_set.split(character.references)[1]]
        known = [*judged, *(folder / member.file for member in members)]
        yield Progress(f"looking at {len(new)} images", 0, 1)
        offered = [item.path for item in new]
        kept, findings = image_set.sift(offered, known, list(paths.values()), looks(session), judged)
        yield from (finding for finding in findings if finding.code != image_set.T007.code)
        judging = [finding for finding in findings if finding.code == image_set.T007.code]
        yield from _judging(judging, len(offers), len(judged))
        for done, path in enumerate(kept):
            yield Progress(f"describing {path.name}", done, len(kept))
            item = replace(first[digests[path]], path=path)
            yield AddedImage(*add(session, character, members, item, how))
    left_out = len(new) - len(kept) - len(judging)
    yield BuiltSet(folder, len(members), len(kept), left_out, len(corrected), len(judging))


def _first_of_each(
    offers: Iterable[OfferedImage], digests: Mapping[Path, str | None]
) -> dict[str | None, OfferedImage]:
    """Of images that are the same file the first with captions, by digest."""
    found: dict[str | None, OfferedImage] = {}
    for item in offers:
        known = found.get(digests[item.path])
        if known is None or (item.captions and not known.captions):
            found[digests[item.path]] = item
    return found


def _correct(members: list[Member], given: Mapping[str | None, OfferedImage], trigger: str) -> list[str]:
    """Gives members the captions that came with them, where those changed; the names of these images.

    What a person wrote into the table since is kept, until the captions where the image came from change.
    """
    corrected: list[str] = []
    for place, member in enumerate(members):
        item = given.get(member.sha256)
        if item is None:
            continue
        told = member
        if item.captions and member.given != mark(item.captions):
            told = with_words(member, trigger, item.captions)
            if told != replace(member, given=told.given):
                corrected.append(item.path.name)
        if item.source.startswith("file:"):
            told = replace(told, repeats=item.repeats)
        members[place] = told
    return corrected


def mark(words: Sequence[str]) -> str:
    """What tells whether the captions that came with an image are those of an earlier time; 12 hex digits."""
    return digest(list(words))[:12]


def with_words(member: Member, trigger: str, words: Sequence[str]) -> Member:
    """The member with captions that came with its image: word for word, the trigger in front where it is missing."""
    texts = [with_trigger(text, [trigger] if trigger else []) for text in words]
    return replace(member, caption=texts[0], alternatives=tuple(texts[1:]), by="given", given=mark(words))


def _judging(findings: Sequence[Finding], offered: int, judges: int) -> Generator[Finding]:
    """One finding of all images that are kept for judging."""
    if findings:
        names = listed([Path(finding.subject).name for finding in findings])
        message = (
            f"{len(findings)} of {offered} images are among the references that judge ({judges}: a third is kept for "
            f"that), or copies of them, and are not learned from: {names}"
        )
        yield image_set.T007.at("references", message, findings[0].hint)


def add(
    session: Session, character: Character, members: list[Member], item: OfferedImage, how: Captioning
) -> tuple[Member, Path]:
    """Makes an image a part of the set: its row, then the file, so that none is ever without; `members` gets it too."""
    sha256, trigger = image_digest(item.path), trigger_of(character)
    sample = sample_of(session, item.path)
    seen, by = (None, "given") if item.captions else _described(session, item.path, sample, "", how)
    scores = judged_scores(session, character, sample)
    with writing(session.workspace, character.name) as place:
        folder = image_set.set_folder(place)
        image_set.refresh(folder, members)
        name = image_set.name_in_set(item.path, sha256)
        member = Member(name, sha256, "", by, item.source, scores, (), item.repeats)
        if seen is None:
            member = with_words(member, trigger, item.captions)
        else:
            taken = [member.caption for member in members]
            member = replace(member, caption=captions.captions(trigger, [seen], taken)[0])
        members[:] = [*(other for other in members if other.file != member.file), member]
        image_set.write_members(folder, members)
        image_set.add_image(folder, item.path, member.file)
    return member, folder / member.file


def recaption(session: Session, character: Character, how: Captioning) -> Generator[Event]:
    """Writes every caption again but those that were given and those in a file next to their image."""
    folder = dataset_folder(session, character)
    members = list(_members(session, character))
    trigger = trigger_of(character)
    own = [member for member in members if (member.by == "given" and member.caption) or _has_file(folder, member)]
    rest = [member for member in members if member not in own]
    taken = [with_trigger(member.caption, [trigger]) for member in own]
    described: list[tuple[captions.Seen, str]] = []
    said = _said([folder / member.file for member in rest], how)
    for done, member in enumerate(rest):
        yield Progress(f"describing {member.file}", done, len(rest))
        path = folder / member.file
        described.append(_described(session, path, sample_of(session, path), next(said, ""), how))
    texts = captions.captions(trigger, [seen for seen, _ in described], taken)
    new = {member.file: (text, by) for member, text, (_, by) in zip(rest, texts, described, strict=True)}
    new |= {member.file: (text, member.by) for member, text in zip(own, taken, strict=True)}
    with writing(session.workspace, character.name):
        members = list(_members(session, character))
        for place, member in enumerate(members):
            if member.file in new:
                text, by = new[member.file]
                members[place] = replace(member, caption=text, by=by)
        image_set.write_members(folder, members)
    for member in members:
        yield AddedImage(member, folder / member.file)
    yield BuiltSet(folder, len(members), len(rest), 0)


def check(session: Session, character: Character, recipe: Recipe | None = None) -> DatasetReport:
    """What the doctor says of the set, of strangers against the character's references, and of its sizes.

    Sizes are those that the recipe trains at, or about a megapixel.
    """
    folder = dataset_folder(session, character)
    _members(session, character)
    if image_set.unwritten(folder):
        with writing(session.workspace, character.name):
            image_set.settle(folder)
    models = looks(session)
    report = check_dataset(folder, trigger_of(character), models.detector, models.encoder)
    findings = [finding for finding in report.findings if finding.code not in (T020.code, T021.code)]
    training = recipe.training if recipe else None
    findings += check_sizes(_at(report.images, training.resolution if training else 1024))
    found = {(finding.code, finding.subject) for finding in findings}
    references = list(session.reference_paths(character).values())
    strangers = image_set.check_strangers(folder, references, models)
    findings += [finding for finding in strangers if (finding.code, finding.subject) not in found]
    if recipe is not None and training is not None:
        findings += check_precision(recipe.stages[0].family, training.precision)
    return replace(report, findings=tuple(findings))


def judging_character(session: Session, character: Character) -> Character:
    """The character with those references alone that its set does not hold; all of them where there is no set.

    UsageError if the set holds all. The answer is kept, by the digests of set and references.
    """
    images = image_set.image_files(dataset_folder(session, character))
    if not images:
        return character
    key = digest([sorted(map(image_digest, images)), [reference.sha256 for reference in character.references]])
    kept = session.workspace.state / "templates" / f"held-out-{key[:32]}.json"
    try:
        left = set(as_list(read_json(kept)))
    except (SosieError, TypeError):
        found = image_set.held_out(character, session.reference_paths(character), images, looks(session))
        left = {reference.sha256 for reference in found.references}
        with suppress(OSError):
            make_folder(kept.parent)
            write_json(kept, sorted(left))
    return replace(character, references=tuple(one for one in character.references if one.sha256 in left))


def looks(session: Session) -> Looks:
    """YuNet and SFace."""
    return Looks(session.detector, session.judges[0]["sface"])


def classifier_for(session: Session, recipe: Recipe | None) -> AttributeClassifier | None:
    """The attribute classifier that the model of the recipe's first stage brings, if it does."""
    if recipe is None:
        return None
    try:
        path = find_model(session.workspace, recipe.stages[0].model).attributes
    except NotFoundError:
        return None
    return None if path is None else open_classifier(path)


@cache
def open_classifier(path: Path) -> AttributeClassifier:
    """The attribute classifier in a file, opened once a process."""
    from sosie.scorers.attributes import AttributeClassifier

    return AttributeClassifier(path)


def judged_scores(session: Session, character: Character, sample: Sample) -> dict[str, float | None]:
    """What each judge says of an image against the references that are never learned from; None without a face."""
    judges = replace(character, references=image_set.split(character.references)[1])
    found: dict[str, float | None] = {}
    for name, (encoder, template) in templates(session, judges).items():
        found[name] = None
        if sample.main_face is not None:
            found[name] = round(similarity(encoder.metric, template, sample.embedding(encoder)), 4)
    return found


def templates(session: Session, character: Character) -> dict[str, tuple[Encoder, NDArray[np.float32]]]:
    """Each judge and the template of the character's references in its space."""
    paths = session.reference_paths(character)
    return judge_templates(character, paths, session.judges[0], session.detector, session.workspace.state / "templates")


def sample_of(session: Session, path: Path) -> Sample:
    """An image with its faces."""
    return Sample.seen(np.asarray(read_image(path)), session.detector)


def image_digest_or_none(path: Path) -> str | None:
    """The digest of a file; None if it cannot be read, which is said of it later."""
    return image_digest(path) if path.is_file() else None


def _described(session: Session, path: Path, sample: Sample, said: str, how: Captioning) -> tuple[captions.Seen, str]:
    """What a picture shows, and whose words those are.

    Those of the model (`said`), or of the command, or of the templates.
    """
    seen = captions.see(sample, classifier_for(session, how.recipe))
    if how.model:
        return captions.from_words(seen, said), "model"
    if how.command:
        return captions.from_words(seen, captions.from_command(how.command, path)), "command"
    return seen, "template"


def _said(paths: Sequence[Path], how: Captioning) -> Iterator[str]:
    """What the captioning model says of each image; nothing without one."""
    if not how.model:
        return iter(())
    from sosie.dataset.captioner import Captioner, find_captioner

    return Captioner(find_captioner(how.model), how.device).describe(paths)


def _members(session: Session, character: Character) -> tuple[Member, ...]:
    members = image_set.read_members(dataset_folder(session, character))
    if not members:
        raise NotFoundError(f"'{character.name}' has no training set", f"sosie dataset build {character.name}")
    return members


def _has_file(folder: Path, member: Member) -> bool:
    return any((folder / member.file).with_suffix(suffix).is_file() for suffix in SIDECARS)


def _at(images: Iterable[DatasetImage], resolution: int) -> list[DatasetImage]:
    """The images with the buckets that they have when they are trained on at `resolution` squared pixels."""
    scale = resolution / 1024
    scaled = {bucket: (round(bucket[0] * scale), round(bucket[1] * scale)) for bucket in BUCKETS}
    return [replace(image, bucket=scaled[image.bucket]) for image in images]
