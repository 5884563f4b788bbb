"""Checks one model file or diffusers folder: what it is, whether it is whole, and what would load it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from sosie.core import Finding
from sosie.core.errors import BadModelError, ConfigError, NotFoundError
from sosie.core.finding import Rule
from sosie.doctor.model_probe import probe
from sosie.doctor.pickles import check_gguf, check_pickle
from sosie.families import families
from sosie.files.model_file import Ambiguous, Broken, Identification, Known, ModelFile, Unknown, identify_and_read
from sosie.files.pickles.pickled import is_pickled
from sosie.files.regular import open_regular
from sosie.files.safetensors import Header
from sosie.files.storage import loader, parameters, storage
from sosie.workspace.known import fingerprint, read_known

F100 = Rule("SOS-F100", "error", "A model file is broken")
F101 = Rule("SOS-F101", "warning", "A model file is of no known family")
F102 = Rule("SOS-F102", "warning", "Several families claim a model file")
F103 = Rule("SOS-F103", "error", "A model file is packed as DFloat11")
F104 = Rule("SOS-F104", "warning", "A model file is stored in a way that not every program loads")
F105 = Rule("SOS-F105", "warning", "A model file holds fewer or more parameters than its kind has")
F106 = Rule("SOS-F106", "info", "A model's variant cannot be told from its header")
F107 = Rule("SOS-F107", "warning", "The table of known variants cannot be read")
F108 = Rule("SOS-F108", "error", "There is no such file")

TOLERANCE = 0.01
"""Share of the parameters that may differ: programs add or drop a norm, a token or an unused head."""


def check_model_file(
    path: Path, known: Path | None = None, header: Header | None = None
) -> tuple[Identification, list[Finding]]:
    """What `path` is, and what there is to say of it; never raises for what a file holds.

    `known` is the user's table of variants (`sosie.workspace.known`), `header` that of a safetensors file,
    if it was read already. A missing path is Broken (SOS-F108).
    """
    try:
        answer, header = identify_and_read(path, families(), header)
    except NotFoundError as error:
        return Broken(path, error.message, error.hint), [
            F108.at(str(path), error.message, "name a file or folder that is there")
        ]
    return check_identified(path, answer, header, known)


def check_identified(
    path: Path, answer: Identification, header: Header | None, known: Path | None = None
) -> tuple[Identification, list[Finding]]:
    """As `check_model_file`, of a file that was identified already; `header` is that of a single file."""
    findings = _of_format(path)
    # The offsets of other formats are not those of a safetensors file.
    readable = header if header is not None and not findings else None
    if isinstance(answer, Broken) and not any(finding.severity == "error" for finding in findings):
        findings.append(F100.at(str(path), answer.message, answer.hint))
    elif isinstance(answer, Ambiguous):
        hint = "its configuration or its publisher's page tells which; name the family in the recipe"
        findings.append(F102.at(str(path), answer.message, hint))
    elif isinstance(answer, Unknown):
        findings += _of_unknown(answer, readable)
    elif isinstance(answer, Known):
        findings += _of_model(answer.model)
        if readable is not None:
            answer, more = _told_apart(answer, readable, known)
            findings += more
    if readable is not None and not isinstance(answer, Broken):
        findings += probe(path, readable)
    return answer, findings


def _of_format(path: Path) -> list[Finding]:
    """What the checks of pickles and GGUF files say, if it is one."""
    try:
        with open_regular(path) as stream:
            start = stream.read(512)
    except OSError:
        return []
    if start.startswith(b"GGUF"):
        return check_gguf(path)
    return check_pickle(path) if is_pickled(start) else []


def _of_model(model: ModelFile) -> list[Finding]:
    """Storage and size of a model that is known."""
    findings: list[Finding] = []
    if model.storage == "dfloat11":
        findings.append(_dfloat11(model.path, model.parameters, model.bytes, model.plain_file))
    elif loads := loader(model.storage):
        whole = f" ({_gb(2 * model.parameters)} in bf16)" if model.parameters else ""
        message = f"{model.path} is stored as {model.storage}, {_gb(model.bytes)}{whole}; it needs {loads}"
        hint = f"where that is missing, take {model.plain_file}" if model.plain_file else "else take the bf16 file"
        findings.append(F104.at(str(model.path), message, hint))
    share = model.parameters / model.expected_parameters if model.expected_parameters else 1.0
    if abs(share - 1) > TOLERANCE:
        message = (
            f"{model.path} holds {model.parameters:,} parameters; {model.family} {model.variant} has "
            f"{model.expected_parameters:,} ({share:.0%}): "
            "one shard of several, a pruned or extended model, or tensors are missing"
        )
        hint = f"the whole file has about {_gb(2 * model.expected_parameters)} in bf16"
        findings.append(F105.at(str(model.path), message, hint))
    return findings


def _of_unknown(answer: Unknown, header: Header | None) -> list[Finding]:
    hint = "the file may be right for a program that knows its family"
    found = [F101.at(str(answer.path), answer.message, hint)]
    if header is not None and storage(header) == "dfloat11":
        found.append(_dfloat11(answer.path, parameters(header), answer.path.stat().st_size, ""))
    return found


def _dfloat11(path: Path, numbers: int, size: int, plain_file: str) -> Finding:
    message = (
        f"{path} is packed as DFloat11 ({_gb(size)} for {numbers:,} parameters, {_gb(2 * numbers)} in bf16): "
        f"a plain loader reports success and draws noise or black; it needs {loader('dfloat11')}"
    )
    hint = f"take {plain_file} instead" if plain_file else "take the file in bf16 instead"
    return F103.at(str(path), message, hint)


def _told_apart(answer: Known, header: Header, known: Path | None) -> tuple[Known, list[Finding]]:
    """The model with the variant that its fingerprint has in the table, or why that is not known."""
    model = answer.model
    if not model.fingerprint:
        return answer, []
    subject = str(model.path)
    try:
        digest = fingerprint(model.path, header, model.fingerprint)
        variant = read_known(known).get(model.family, {}).get(digest) if known else None
    except BadModelError as error:
        return answer, [F106.at(subject, error.message, error.hint)]
    except ConfigError as error:
        return answer, [F107.at(str(known), error.message, f"mend or remove {known}")]
    if variant:
        return Known(dataclasses.replace(model, variant=variant)), []
    message = f"{subject}: no header tells {model.variant}; the fingerprint of its {model.fingerprint} is {digest[:16]}"
    hint = f"say once which it is: sosie model add {subject} --variant NAME"
    return answer, [F106.at(subject, message, hint)]


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
