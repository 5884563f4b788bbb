"""Fetching: what files a recipe needs, where each comes from, and bringing the missing ones here."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Collection, Generator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from sosie.api.models import convert_model
from sosie.core import Event, Finding, Progress, Recipe, RecipeFile, Result
from sosie.core.errors import NotFoundError, SosieError, UsageError, nearest
from sosie.core.finding import Rule
from sosie.core.plan import needed_stages
from sosie.doctor.downloads import check_fetched
from sosie.fetch.download import N005, RESERVE, Downloaded, copying, downloading
from sosie.fetch.hubs import origin
from sosie.fetch.part_file import partial_bytes, remove_dead
from sosie.fetch.resolve import resolve as published
from sosie.fetch.retries import N001, DownloadError
from sosie.fetch.sources import LocalFile, Source, is_source, parse_source, safe_name
from sosie.fetch.web import N002, N004, Web
from sosie.files.digest import asset_digest, file_digest
from sosie.files.pickles.pickled import SUFFIXES as PICKLED
from sosie.files.pickles.pickled import is_pickled
from sosie.files.regular import open_regular
from sosie.files.whole import give_name, make_folder
from sosie.workspace.bill import Bill, Resolved, resolve
from sosie.workspace.origin import Origin, origin_path, read_origin, write_origin
from sosie.workspace.recipes import list_recipes, load_recipe, read_recipe
from sosie.workspace.workspace import Workspace

N007 = Rule("SOS-N007", "error", "The publisher has another file than the recipe names")
N009 = Rule("SOS-N009", "warning", "Nothing says what a fetched file must be")
N010 = Rule("SOS-N010", "warning", "A recipe does not say where a file comes from")

REFRESH_SECONDS = 0.1

State = Literal["here", "missing", "partial", "unknown source"]


@dataclass(frozen=True)
class FetchRow:
    """A file that is needed: what is known of it, and whether it is here.

    `file` is as the recipe names it, with what its publisher or an earlier fetch adds; its source is pinned
    (commit, version) where the publisher was asked. `path` is the file, or where it will be, `have` the bytes that
    are here. `token` names the variable without which the publisher refuses. `published` is None where nothing can
    be fetched.
    """

    file: RecipeFile
    state: State
    path: Path
    have: int = 0
    title: str = ""
    token: str = ""
    published: Source | None = None

    @property
    def bytes(self) -> int | None:
        """The size of the whole file; None if it is unknown."""
        return self.file.bytes or (0 if self.state == "here" else None)


@dataclass(frozen=True)
class Listing:
    """The files, and what is wrong with fetching some of them. `families` are those that they must fit."""

    rows: tuple[FetchRow, ...]
    findings: tuple[Finding, ...]
    families: frozenset[str] = frozenset()

    @property
    def to_fetch(self) -> tuple[FetchRow, ...]:
        """The rows that a fetch brings."""
        return tuple(row for row in self.rows if row.state != "here" and row.published is not None)


@dataclass(frozen=True)
class Fetched(Result):
    """The file of a `row` that was brought: where it is now, where from, and what the doctor says of it."""

    row: FetchRow
    path: Path
    origin: Origin
    received: int
    findings: tuple[Finding, ...]
    seconds: float


def list_files(workspace: Workspace, web: Web, what: str, name: str = "") -> Listing:
    """The files of a recipe (by name or file), or the one file of a source, which is called `name`.

    Publishers are asked for what is not here. Raises `UsageError` and `NotFoundError` for a `what` that
    is neither; what a publisher says is a finding.
    """
    remove_dead(workspace.models)
    recipe = None if is_source(what) else _recipe(workspace, what)
    if recipe is None:
        row, found = _not_here(workspace, web, RecipeFile(_checked(name), source=what))
        return Listing((row,), tuple(found))
    if name:
        raise UsageError(f"--as names the file of one source, and {what} is a recipe", f"sosie model fetch {what}")
    files = {file.name: file for file in recipe.files}
    bill = resolve(workspace, needed_stages(recipe), also=files)
    files |= {entry.name: RecipeFile(entry.name) for entry in bill if entry.name not in files}
    families = frozenset(stage.family for stage in (*recipe.stages, *recipe.repair))
    return replace(_list(workspace, web, bill, tuple(files.values())), families=families)


def check_room(workspace: Workspace, rows: Sequence[FetchRow]) -> list[Finding]:
    """SOS-N005 if the disk has no room for all of `rows`; a pickle and what is made of it are there together."""
    pickles = [row.bytes or 0 for row in rows if row.published and _is_pickle(row.published)]
    need = sum((row.bytes or 0) - row.have for row in rows) + max(pickles, default=0)
    free = shutil.disk_usage(workspace.root).free
    if need + RESERVE <= free:
        return []
    message = f"{workspace.root} has {free / 1e9:.1f} GB free; {need / 1e9:.1f} GB are to come and 1 GB stays free"
    hint = "free some space, or use another disk: --workspace"
    return [N005.at(str(workspace.root), message, hint)]


def fetch(workspace: Workspace, web: Web, row: FetchRow, families: frozenset[str]) -> Generator[Event]:
    """Brings the file of a row of `to_fetch`, checked; a pickle is converted, and only then goes. `Fetched` is last.

    Raises `DownloadError` (see `download`), and what `convert_model` raises: the pickle stays then.
    """
    began, source = time.monotonic(), row.published
    if source is None:
        raise NotFoundError(f"'{row.file.name}' has no source", f"sosie model fetch SOURCE --as {row.file.name}")
    wanted = replace(source.wanted, size=row.bytes, sha256=row.file.sha256)
    raw = _raw_path(row.path, source)
    steps = copying(Path(source.url), wanted, raw) if _is_local(source) else downloading(web, wanted, raw)
    with _promised(row, source, raw) as origin:
        done = yield from _described(row.file.name, steps)
        converted = _convert(done, row.path)
    findings = converted or []
    if not row.file.sha256:
        message = f"{row.file.name}: neither its publisher nor a recipe says its SHA-256; what came has {done.sha256}"
        findings.append(N009.at(row.file.name, message, "compare it with the publisher's page"))
    findings += check_fetched(row.path, row.file.role, families, workspace.known_table)
    record = replace(
        origin,
        sha256=done.sha256,
        bytes=done.bytes,
        fetched=datetime.now(UTC).isoformat(timespec="seconds"),
        converted="" if converted is None else file_digest(row.path),
    )
    write_origin(row.path, record)
    yield Fetched(row, row.path, record, done.received, tuple(findings), time.monotonic() - began)


@contextmanager
def _promised(row: FetchRow, source: Source, raw: Path) -> Generator[Origin]:
    """Writes where a file will come from, before it has its name: a fetch that is killed can then be gone on with."""
    # What a killed fetch made of a pickle, but did not come to record, is made again.
    if raw != row.path and (known := read_origin(row.path)) is not None and not known.is_finished:
        row.path.unlink(missing_ok=True)
    file = row.file
    origin = Origin(source.text, source.title, file.licence, file.commercial, file.sha256, row.bytes or 0, "")
    make_folder(row.path.parent)
    write_origin(row.path, origin)
    try:
        yield origin
    except SosieError:
        if not row.path.exists():
            origin_path(row.path).unlink(missing_ok=True)
        raise


def _described(name: str, steps: Generator[Progress, None, Downloaded]) -> Generator[Progress, None, Downloaded]:
    """Progress ten times a second, with gigabytes and speed."""
    start = shown = time.monotonic()
    first: float | None = None
    with closing(steps):
        while True:
            try:
                at = next(steps)
            except StopIteration as end:
                return end.value
            now = time.monotonic()
            first = at.done if first is None else first
            if now - shown >= REFRESH_SECONDS:
                shown = now
                rate = (at.done - first) / (now - start) / 1e6
                of = f" of {at.total / 1e9:.2f}" if at.total else ""
                yield replace(at, what=f"{name}  {at.done / 1e9:.2f}{of} GB  {rate:.0f} MB/s")


def _recipe(workspace: Workspace, what: str) -> Recipe | None:
    """The recipe that is meant, or None for a path; a recipe's name wins over a file of that name."""
    recipes = list_recipes(workspace)
    path = workspace.path(what)
    if what in recipes:
        return load_recipe(workspace, what)
    if path.is_file():
        return read_recipe(path) if path.suffix == ".toml" else None
    raise NotFoundError(f"'{what}' is no recipe, no source and no file{nearest(what, recipes)}", "sosie recipe list")


def _checked(name: str) -> str:
    """A name for a model that was given with `--as`; an ending of a model file is taken off."""
    stem = re.sub(r"\.(safetensors|onnx|bin|pth|pt|ckpt|sft|gguf)$", "", name)
    if name and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", stem):
        raise UsageError(
            f"--as '{name}' is not a name: expected 1 to 100 letters, digits, '-', '_' or '.'", "--as my-model"
        )
    return stem


def _list(workspace: Workspace, web: Web, bill: Bill, files: Sequence[RecipeFile]) -> Listing:
    rows: list[FetchRow] = []
    findings: list[Finding] = []
    silent: set[str] = set()
    for file in files:
        here = _here(bill[file.name], file)
        if here is not None:
            rows.append(here)
            findings += _changed(here, file)
            continue
        row, found = _not_here(workspace, web, file, silent)
        rows.append(row)
        findings += found
        if any(finding.code == N001.code for finding in found):
            silent.add(_host(web, file.source))
    return Listing(tuple(rows), tuple(findings))


def _here(entry: Resolved, file: RecipeFile) -> FetchRow | None:
    path, installed, fetched = entry.path, entry.installed, entry.origin
    if path is None or installed is None:
        return None
    try:
        size = sum(f.stat().st_size for f in ([path] if path.is_file() else path.rglob("*")) if f.is_file())
    except OSError:
        return None
    known = replace(file, bytes=size, source=file.source or installed.source)
    if fetched is not None:
        known = replace(known, source=fetched.source, sha256=file.sha256 or fetched.sha256)
        if not file.licence:
            known = replace(known, licence=fetched.licence, commercial=fetched.commercial)
    kept = replace(known, licence=known.licence or installed.licence)
    return FetchRow(kept, "here", path, size, fetched.title if fetched else "")


def _changed(row: FetchRow, file: RecipeFile) -> list[Finding]:
    """SOS-N007 if what is here is known to be another file than the recipe names; nothing is read for it."""
    fetched = read_origin(row.path)
    if fetched is not None and file.sha256 and fetched.sha256 != file.sha256:
        why = f"was fetched from {fetched.source} with SHA-256 {fetched.sha256}, the recipe names {file.sha256}"
    elif (
        fetched is None
        and file.bytes
        and row.path.is_file()
        and row.path.suffix == Path(file.source).suffix
        and row.have != file.bytes
    ):
        why = f"has {row.have:,} bytes, the recipe names a file of {file.bytes:,} bytes"
    else:
        return []
    hint = "move it away and fetch again, or change the recipe: sosie recipe copy"
    return [N007.at(file.name, f"{row.path} {why}", hint, severity="warning")]


def _not_here(
    workspace: Workspace, web: Web, file: RecipeFile, silent: Collection[str] = ()
) -> tuple[FetchRow, list[Finding]]:
    """The row of a file that is to be fetched, after its publisher was asked, unless its host is `silent`."""
    path = _target(workspace, file.name, f"{file.name}.safetensors")
    size, sha256 = file.bytes or None, file.sha256.lower()
    row = FetchRow(replace(file, name=file.name or file.source, sha256=sha256), "unknown source", path)
    if not file.source:
        message = f"the recipe does not say where '{file.name}' comes from, and it is not here"
        hint = f"sosie model fetch SOURCE --as {file.name.partition(':')[0]}"
        return row, [N010.at(file.name, message, hint)]
    row = replace(row, state="missing")
    try:
        if (host := _host(web, file.source)) in silent:
            raise DownloadError(N001, f"{file.source}: {host} could not be reached for another file", "try later")
        source = _published(workspace, web, file.source, sha256)
    except DownloadError as error:
        token = web.hubs.token(_address(web, file.source))[0] if error.code == N002.code else ""
        return replace(row, token=token), [error.finding(row.file.name)]
    name = file.name or Path(source.name).stem
    path = _target(workspace, name, source.name)
    have = partial_bytes(_raw_path(path, source))
    known = replace(
        file,
        name=name,
        source=source.text,
        bytes=size or source.size or 0,
        sha256=sha256 or source.sha256,
        licence=file.licence or source.licence,
        commercial=file.commercial if file.licence else source.commercial,
    )
    row = FetchRow(known, "partial" if have else "missing", path, have, source.title, source.token, source)
    for what, asked, said in (("bytes", size, source.size), ("SHA-256", sha256, source.sha256)):
        if asked and said and asked != said:
            message = f"{source.text} has {what} {said}, the recipe names a file with {what} {asked}"
            hint = "the publisher replaced it: name the older revision or version in the recipe's source"
            return replace(row, published=None), [N007.at(name, message, hint)]
    return _unless_there(row, source)


def _unless_there(row: FetchRow, source: Source) -> tuple[FetchRow, list[Finding]]:
    """The row as `here` if its path is this very file; SOS-N007 if it is another, or nobody can tell."""
    fetched = read_origin(row.path)
    killed = fetched is not None and not fetched.is_finished and fetched.source == source.text
    if killed or not row.path.exists():
        return row, []
    sha256 = (
        fetched.sha256 if fetched else ("" if _is_pickle(source) or not row.file.sha256 else asset_digest(row.path))
    )
    if sha256 and sha256 == row.file.sha256:
        return replace(row, state="here", have=row.bytes or 0), []
    message = f"{row.path} is there already" + (f", fetched from {fetched.source}" if fetched else "")
    finding = N007.at(row.file.name, message, "move it away, or fetch under another name: --as NAME")
    return replace(row, published=None), [finding]


def _published(workspace: Workspace, web: Web, text: str, sha256: str) -> Source:
    address = parse_source(text, web.hubs)
    if not isinstance(address, LocalFile):
        return published(web, address, sha256)
    path = workspace.path(address.path)
    if not path.is_file():
        raise DownloadError(N004, f"there is no file {path}", "name a file that is there")
    return Source(str(path), str(path), safe_name(path.name), path.stat().st_size, title=path.name)


def _address(web: Web, source: str) -> str:
    """The address of the hub of a source, or the source where it is an address itself."""
    hubs = {"hf": web.hubs.huggingface, "civitai": web.hubs.civitai}
    return hubs.get(source.partition(":")[0], source)


def _host(web: Web, source: str) -> str:
    return origin(_address(web, source))[1] if is_source(source) else ""


def _is_local(source: Source) -> bool:
    return not is_source(source.url)


def _is_pickle(source: Source) -> bool:
    return Path(source.name).suffix.lower() in PICKLED


def _target(workspace: Workspace, name: str, file_name: str) -> Path:
    """Where a file goes by its name in recipes: `NAME` and `MODEL:FILE` in `models/`, a path where it says."""
    model, colon, inside = name.partition(":")
    if colon:
        path = workspace.models / model / inside
    elif "/" in name or "\\" in name:
        path = workspace.path(name)
    else:
        suffix = Path(file_name).suffix.lower()
        path = workspace.models / f"{name}{'.safetensors' if suffix in PICKLED else suffix}"
    if path.suffix.lower() in PICKLED:
        raise UsageError(
            f"'{name}' names a pickle; pickles are converted before they are used",
            f"in the recipe: {Path(name).with_suffix('.safetensors')}",
        )
    if workspace.root.resolve() not in path.resolve().parents:
        raise UsageError(f"'{name}' leads out of the workspace, to {path}", "name it by a word, or put it into models/")
    return path


def _raw_path(path: Path, source: Source) -> Path:
    """Where the published file goes: beside `path` if it is a pickle that must be converted first."""
    return path.with_suffix(Path(source.name).suffix.lower()) if _is_pickle(source) else path


def _convert(done: Downloaded, path: Path) -> list[Finding] | None:
    """Makes `path` of what was downloaded: by conversion if its content is a pickle, whatever its name says.

    None if it is no pickle and `path` is what was published.
    """
    raw = done.path
    with open_regular(raw) as stream:
        pickled = is_pickled(stream.read(512)) and path.suffix != ".onnx"
    if raw != path and path.exists():
        raise UsageError(f"{path} is there already", "move it away, then run the same command again")
    if not pickled:
        if raw != path:
            give_name(raw, path, overwrite=False)
        return None
    if raw == path:
        raw = path.with_name(f"{path.stem}.published.pth")
        give_name(path, raw)
    conversion = convert_model(raw, path)
    raw.unlink()
    return list(conversion.findings)
