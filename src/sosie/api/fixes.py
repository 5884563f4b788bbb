"""What the doctor mends by itself: exact conversions beside the original, and partial downloads removed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from sosie.api.doctor import Checkup, examine
from sosie.api.models import convert_model
from sosie.api.needs import Examination
from sosie.core import Finding
from sosie.core.errors import SosieError, UsageError
from sosie.doctor.disk import D016
from sosie.doctor.leftovers import find_partials, open_files, size_text, why_kept
from sosie.doctor.loras import L006, L008, L011, L014, check_lora
from sosie.doctor.pickles import K012, K013
from sosie.families import families
from sosie.lora import read_lora
from sosie.lora.convert import convert
from sosie.workspace.workspace import Workspace

Action = Literal["convert-lora", "convert-model", "remove-partial"]
Opened = Callable[[], frozenset[tuple[int, int]]]


@dataclass(frozen=True)
class Fix:
    """A cure that loses nothing: of the finding `code`, by `action` on `path`, into `out` if it writes a file.

    `blocked` says why it is not done, or is empty.
    """

    code: str
    action: Action
    path: Path
    out: Path | None = None
    blocked: str = ""

    @property
    def message(self) -> str:
        """One sentence for people, before it is done."""
        if self.action == "remove-partial":
            return f"remove {self.path}, a download that was broken off"
        how = "exactly, into a layout that every loader reads" if self.action == "convert-lora" else "byte for byte"
        return f"convert {self.path} to {self.out}, {how}"


@dataclass(frozen=True)
class Fixed:
    """A fix that was tried: whether it is done, and what happened."""

    fix: Fix
    done: bool
    message: str


def propose_fixes(checkups: Sequence[Checkup]) -> tuple[Fix, ...]:
    """Every fix for what was found, each file once; the blocked ones too."""
    found: dict[tuple[Action, Path], Fix] = {}
    opened = cache(open_files)
    for checkup in checkups:
        for finding in checkup.findings:
            for fix in FIXES.get(finding.code, _none)(checkup, finding, opened):
                found.setdefault((fix.action, fix.path), fix)
    return tuple(found.values())


def apply_fix(fix: Fix) -> Fixed:
    """Does it, or says why not; nothing that exists is overwritten, and no `SosieError` is raised."""
    try:
        return Fixed(fix, True, _ACTIONS[fix.action](fix))
    except SosieError as error:
        return Fixed(fix, False, f"{error.message}{f' ({error.hint})' if error.hint else ''}")
    except OSError as error:
        return Fixed(fix, False, f"{fix.path}: {error.strerror or error}")


def examine_again(
    workspace: Workspace, checkups: Sequence[Checkup], fixed: Sequence[Fixed], how: Examination
) -> Generator[Checkup]:
    """The checkups as they are now: a converted file's successor in its place, without what was removed."""
    successors = {one.fix.path: one.fix.out for one in fixed if one.done and one.fix.out is not None}
    removed = [one.fix.path for one in fixed if one.done and one.fix.out is None]
    for checkup in checkups:
        path = Path(checkup.path)
        if successor := successors.get(path):
            yield from _anew(workspace, str(successor), successor, how)
        elif checkup.path and path in removed:
            continue
        elif any(finding.code == D016.code for finding in checkup.findings) and removed:
            yield from _anew(workspace, checkup.subject, path, how)
        else:
            yield checkup


def _anew(workspace: Workspace, subject: str, path: Path, how: Examination) -> Iterator[Checkup]:
    """The checkups of one path, under the name that it was asked for; what is asked of a recipe stays asked."""
    if path.suffix != ".toml":
        how = Examination()
    for checkup in examine(workspace, (str(path.absolute()),), how):
        if checkup.kind != "machine":
            yield replace(checkup, subject=subject)


def _none(*_: object) -> tuple[Fix, ...]:
    return ()


def _lora(checkup: Checkup, finding: Finding, _: Opened) -> tuple[Fix, ...]:
    """Of a LoRA that was examined itself and can be converted: the hint says so, for it was tried."""
    path = Path(checkup.path)
    if checkup.kind != "lora" or "sosie lora convert" not in finding.hint:
        return ()
    return (_into(finding.code, "convert-lora", path, path.with_name(f"{path.stem}.comfy.safetensors")),)


def _pickle(checkup: Checkup, finding: Finding, _: Opened) -> tuple[Fix, ...]:
    """Of a file that was examined itself; torch refuses a newer protocol."""
    path = Path(checkup.path)
    if checkup.kind != "model" or any(
        other.severity == "error" or other.code == K013.code for other in checkup.findings
    ):
        return ()
    return (_into(finding.code, "convert-model", path, path.with_suffix(".safetensors")),)


def _into(code: str, action: Action, path: Path, out: Path) -> Fix:
    blocked = f"{out} is there already; use it in place of {path.name}" if out.exists() else ""
    return Fix(code, action, path, out, blocked)


def _partials(_: Checkup, finding: Finding, opened: Opened) -> tuple[Fix, ...]:
    paths = sorted(find_partials(Path(finding.subject)))
    return tuple(Fix(finding.code, "remove-partial", path, blocked=why_kept(path, opened())) for path in paths)


def _convert_lora(fix: Fix) -> str:
    """Converts, and takes the result back if it mends nothing."""
    out = fix.out or fix.path
    before = _troubles(fix.path)
    done = convert(read_lora(fix.path, families()), out, "comfy")
    if not before - _troubles(out):
        out.unlink()
        raise UsageError(f"{fix.path}: no layout mends {', '.join(sorted(before))}", "sosie lora show FILE")
    notes = "".join(f"; {note}" for note in done.notes)
    return f"{out}: {done.tensors} tensors, equal to the last bit{notes}; {fix.path.name} is as it was"


def _troubles(path: Path) -> set[str]:
    return {finding.code for finding in check_lora(path) if FIXES.get(finding.code) is _lora}


def _convert_model(fix: Fix) -> str:
    done = convert_model(fix.path, fix.out)
    return f"{done.out}: {done.tensors} tensors, byte for byte the same; {fix.path.name} is as it was"


def _remove(fix: Fix) -> str:
    """Looks again before it removes: the question may have stood for long. The notes that belong to it go too."""
    if why := why_kept(fix.path, open_files()):
        raise UsageError(f"{fix.path} stays: {why}")
    size = fix.path.lstat().st_size
    fix.path.unlink()
    fix.path.with_name(f"{fix.path.name}.json").unlink(missing_ok=True)
    return f"{fix.path} removed: {size_text(size)} are free again"


FIXES: Mapping[str, Callable[[Checkup, Finding, Opened], tuple[Fix, ...]]] = {
    D016.code: _partials,
    K012.code: _pickle,
    L006.code: _lora,
    L008.code: _lora,
    L011.code: _lora,
    L014.code: _lora,
}
"""Finding code -> what mends it. Whatever is not here needs a decision, or something from elsewhere."""

_ACTIONS: Mapping[Action, Callable[[Fix], str]] = {
    "convert-lora": _convert_lora,
    "convert-model": _convert_model,
    "remove-partial": _remove,
}
