"""What the manifest of an image proves, and what it does not.

Any file may be given: every answer is a `ProvenanceReport`, and nothing in a file is fetched from the
network. Texts from a manifest are shortened and freed of control characters, since whoever made
the file chose them.
"""

from __future__ import annotations

import re
import stat
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sosie.core.finding import Finding, Rule
from sosie.files.foreign import as_list, as_object
from sosie.provenance.binding import Reading, read
from sosie.provenance.chunks import MAX_CHUNKS, manifest_chunk_intact, padding_empty, too_many_chunks
from sosie.provenance.manifest import PLAN_LABEL

if TYPE_CHECKING:
    from sosie.provenance.signing_key import SigningKey

P001 = Rule("SOS-P001", "error", "A file cannot be read as an image")
P002 = Rule("SOS-P002", "error", "A file is too large, or cut into too many chunks, to be checked")
P003 = Rule("SOS-P003", "warning", "An image has no C2PA manifest")
P004 = Rule("SOS-P004", "error", "An image was changed after it was signed")
P005 = Rule("SOS-P005", "error", "A manifest was changed or does not hold")
P006 = Rule("SOS-P006", "info", "A signer's certificate is on no public trust list")
P007 = Rule("SOS-P007", "warning", "A signer's certificate is out of its dates")
P008 = Rule("SOS-P008", "info", "An image's XMP says that AI made it")
P009 = Rule("SOS-P009", "info", "An image is signed by this workspace's key")
P010 = Rule("SOS-P010", "info", "An image is signed by another key than this workspace's")
P011 = Rule("SOS-P011", "info", "An image was made by other software")
P013 = Rule("SOS-P013", "info", "An image carries the watermark of a plan of this workspace")
P012 = Rule("SOS-P012", "warning", "An image names a manifest that is kept elsewhere")

State = Literal["valid", "tampered", "absent", "unreadable"]

MAX_BYTES = 512 << 20
MAX_TEXT = 200
MAX_MODELS = 64

_SOURCE_TYPES = ("trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia")
_UNTRUSTED = "signingCredential.untrusted"
_OUT_OF_DATE = ("signingCredential.expired", "claimSignature.outsideValidity")

SAYS_NOTHING = (
    "that the picture shows or does not show a real person, or that anyone consented",
    "that what the signer says of the making is true",
    "that the labels of the manifest's own structure are unchanged: no signature covers them, and they hold nothing",
)
NO_IDENTITY = "who signed: anyone can make a certificate with any name in it"
NO_WATERMARK = (
    "that this workspace did not make it: no watermark was found, and turning, cutting or redrawing removes it"
)
NOT_UNCHANGED = (
    "that the picture is as it was delivered, or who spread it: a watermark stays in what is made of a picture"
)
NOT_ABSENCE = "anything about how the image was made: a manifest is lost by any re-encoding, screenshot or upload"


@dataclass(frozen=True)
class ProvenanceReport:
    """What is known of one file.

    `state`: `valid` (the bytes are those that were signed), `tampered` (they are not, or the
    manifest is broken), `absent` (no manifest), `unreadable` (not a whole image file).
    `trusted`: the signer's certificate leads to the public C2PA trust list of the library.
    `own`: it is the certificate of the key that was passed; None if that cannot be said.
    `signer`, `software`, `plan_id`, `recipe`, `engine` and `models` are what a signature covers,
    else empty. `watermark` is the id of the plan whose mark the pixels carry, if it is known. `generated`: the
    image is declared as made by a model, in its manifest or, where that is absent, in its XMP. `proves` and
    `does_not_prove` are sentences for the user.
    """

    state: State
    trusted: bool = False
    own: bool | None = None
    signer: str = ""
    software: str = ""
    plan_id: str = ""
    recipe: str = ""
    engine: str = ""
    models: tuple[tuple[str, str], ...] = ()
    generated: bool = False
    proves: tuple[str, ...] = ()
    does_not_prove: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    watermark: str = ""


@dataclass(frozen=True)
class Marked:
    """The plans whose images carry a watermark, by id, and the sizes in pixels of their images."""

    plans: tuple[str, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()


def verify(path: Path, own: SigningKey | None = None, marked: Callable[[], Marked] = Marked) -> ProvenanceReport:
    """Reads and checks the manifest of `path`; `own` is this workspace's key, to recognise its images.

    A file whose manifest is gone or does not hold is looked through for the watermark of one of the plans
    `marked`, which are asked for only then.

    Never raises for what a file is or holds. Limits: a regular file of at most 512 MiB and 50 000 chunks.
    """
    if problem := _unfit(path):
        return ProvenanceReport("unreadable", findings=(problem,))
    try:
        if too_many_chunks(path):
            message = f"more than {MAX_CHUNKS} chunks: no ordinary image is cut so small"
            return ProvenanceReport("unreadable", findings=(P002.at(str(path), message),))
        reading = read(path)
        intact = reading.outcome != "read" or (manifest_chunk_intact(path) and padding_empty(path))
        ours = _is_own(path, reading, own) if own else None
    except OSError as error:
        return ProvenanceReport("unreadable", findings=(_cannot_read(path, error.strerror or str(error)),))
    read_one = reading.outcome == "read"
    report = _judge(path, reading, intact, ours) if read_one else _without_manifest(path, reading)
    return report if report.state in ("valid", "unreadable") else _with_watermark(path, report, marked())


def _unfit(path: Path) -> Finding | None:
    """Why a file is not even opened, or None."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        return _cannot_read(path, getattr(error, "strerror", None) or str(error))
    if not stat.S_ISREG(status.st_mode):
        return _cannot_read(path, "it is not a file")
    if status.st_size > MAX_BYTES:
        message = f"{status.st_size} bytes; files of at most {MAX_BYTES} are checked"
        return P002.at(str(path), message, "give the image itself")
    return None


def _cannot_read(path: Path, reason: str) -> Finding:
    return P001.at(str(path), f"cannot be read as an image: {reason}", "give a PNG, JPEG or WebP")


def _without_manifest(path: Path, reading: Reading) -> ProvenanceReport:
    """The report of a file from which no manifest could be read."""
    subject = str(path)
    if reading.outcome in ("damaged", "unsupported"):
        reason = "the file is damaged or cut off" if reading.outcome == "damaged" else "not a type that is known"
        return ProvenanceReport("unreadable", findings=(_cannot_read(path, f"{reason} ({_text(reading.detail)})"),))
    if reading.outcome == "broken":
        message = f"it holds a manifest that is broken: {_text(reading.detail)}; expected one that can be read"
        finding = P005.at(subject, message, "ask for the original file")
        return ProvenanceReport("tampered", does_not_prove=(NO_IDENTITY, *SAYS_NOTHING), findings=(finding,))
    findings = [P003.at(subject, "no C2PA manifest in this file; its absence proves nothing")]
    if reading.outcome == "elsewhere":
        message = f"it names a manifest kept elsewhere, which was not fetched ({_text(reading.detail)})"
        findings.append(P012.at(subject, message))
    if declared := _xmp_says_generated(path):
        message = "its XMP says that it was made by AI; anyone can write or remove that"
        findings.append(P008.at(subject, message))
    return ProvenanceReport("absent", generated=declared, does_not_prove=(NOT_ABSENCE,), findings=tuple(findings))


def _with_watermark(path: Path, report: ProvenanceReport, marked: Marked) -> ProvenanceReport:
    """The report with the plan whose watermark the picture carries, if it is one that is known."""
    from sosie.core.errors import SosieError
    from sosie.files.images import read_image
    from sosie.provenance.watermark import ALARM, find

    if not marked.plans:
        return report
    try:
        match = find(read_image(path), marked.plans, marked.sizes)
    except SosieError:
        return report
    if match is None:
        return replace(report, does_not_prove=(*report.does_not_prove, NO_WATERMARK))
    plan = match.plan_id[:12]
    message = f"its pixels carry the watermark of plan {plan} of this workspace ({match.right} of 64 bits)"
    proves = (
        f"the picture comes from the image of plan {plan}: of pictures without its mark at most 1 in {1 / ALARM:,.0f} "
        "would be taken for one of this workspace's",
    )
    return replace(
        report,
        watermark=match.plan_id,
        proves=(*report.proves, *proves),
        does_not_prove=(*report.does_not_prove, NOT_UNCHANGED),
        findings=(*report.findings, P013.at(str(path), message)),
    )


def _judge(path: Path, reading: Reading, intact: bool, ours: bool | None) -> ProvenanceReport:
    """The report of a manifest that was read: state first, then whose it is and what it says."""
    manifest, passed, failed = _active(reading.table)
    expired = any(code in failed for code in _OUT_OF_DATE)
    wrong = [code for code in failed if code != _UNTRUSTED and code not in _OUT_OF_DATE]
    bound = any(code.startswith("assertion.") and code.endswith("Hash.match") for code in passed)
    signed = "claimSignature.validated" in passed
    if not intact:
        wrong.append("checksum or padding of the manifest")
    state: State = "valid" if signed and bound and not wrong else "tampered"
    sealed = signed and all(code.endswith("Hash.mismatch") for code in wrong)
    trusted = state == "valid" and not expired and reading.table.get("validation_state") == "Trusted"
    report = ProvenanceReport(state, trusted, ours if sealed else None)
    if sealed:
        report = _with_claim(report, manifest)
    findings = [*_state_findings(str(path), state, wrong, expired), *_signer_findings(str(path), report)]
    return replace(report, findings=tuple(findings), **_sentences(report))


def _with_claim(report: ProvenanceReport, manifest: Mapping[str, Any]) -> ProvenanceReport:
    """Fills in what the signature covers: signer, software and, if Sosie wrote it, the plan."""
    signature, plan = as_object(manifest.get("signature_info")), _assertion(manifest, PLAN_LABEL)
    generators = as_list(manifest.get("claim_generator_info"))
    software = as_object(generators[0] if generators else None)
    models = tuple(
        (_text(as_object(item).get("name")), _digest(as_object(item).get("sha256")))
        for item in as_list(plan.get("models"))[:MAX_MODELS]
    )
    return replace(
        report,
        signer=_joined(signature.get("common_name"), signature.get("issuer"), " / "),
        software=_joined(software.get("name"), software.get("version"), " "),
        plan_id=_digest(plan.get("plan")),
        recipe=_text(plan.get("recipe")),
        engine=_text(plan.get("engine")),
        models=models,
        generated=_declares_generated(manifest),
    )


def _state_findings(subject: str, state: State, wrong: list[str], expired: bool) -> Iterator[Finding]:
    if state == "tampered" and any(code.endswith("Hash.mismatch") for code in wrong):
        message = "the file was changed after it was signed: its bytes are not those that the manifest was made for"
        yield P004.at(subject, message, "ask for the original file")
    elif state == "tampered":
        detail = ", ".join(_text(code) for code in wrong[:5]) or "no signature over the image"
        message = f"its manifest was changed or does not hold: {detail}"
        yield P005.at(subject, message, "ask for the original file")
    if expired:
        message = "the signer's certificate is out of its dates, and no time stamp shows when it was used"
        yield P007.at(subject, message)


def _signer_findings(subject: str, report: ProvenanceReport) -> Iterator[Finding]:
    if report.own:
        yield P009.at(subject, "signed by this workspace's key")
    elif report.own is False:
        yield P010.at(subject, "signed by another key than this workspace's")
    if report.signer and not report.trusted:
        message = f"the certificate of '{report.signer}' is on no public trust list: it proves no identity"
        yield P006.at(subject, message)
    if report.signer and not report.plan_id:
        message = f"made by other software ({report.software or 'unnamed'}): it names no plan"
        yield P011.at(subject, message)


def _sentences(report: ProvenanceReport) -> dict[str, tuple[str, ...]]:
    """What a report proves and does not, in sentences."""
    proves: list[str] = []
    whose = "this workspace's key" if report.own else f"the holder of the key of '{report.signer}'"
    if report.state == "valid":
        proves.append(f"the bytes are unchanged since they were signed by {whose}")
        if report.generated:
            proves.append("the signer declares the image as generated by a model")
        if report.plan_id:
            models = ", ".join(name for name, _ in report.models)
            proves.append(f"the signer declares plan {report.plan_id[:12]}, recipe '{report.recipe}', models: {models}")
    elif report.signer:
        proves.append(f"a manifest signed by {whose} was put into this file; the file is not the one signed")
    doubts = SAYS_NOTHING if report.trusted or report.own else (NO_IDENTITY, *SAYS_NOTHING)
    return {"proves": tuple(proves), "does_not_prove": doubts}


def _is_own(path: Path, reading: Reading, own: SigningKey) -> bool | None:
    """Whether `own`'s certificate signed: the chain leads to its issuers, and the serial number is its.

    A serial number alone can be copied by anyone; a chain to the issuer cannot.
    """
    manifest, _, _ = _active(reading.table)
    signature = as_object(manifest.get("signature_info"))
    if signature.get("cert_serial_number") != str(own.serial):
        return False
    if not own.anchors:
        return None
    _, passed, _ = _active(read(path, own.anchors).table)
    return "signingCredential.trusted" in passed


def _active(table: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[str], list[str]]:
    """The active manifest, and the codes of the checks of all manifests that passed and failed."""
    results = as_object(table.get("validation_results"))
    active = as_object(results.get("activeManifest"))
    deltas = [as_object(as_object(item).get("validationDeltas")) for item in as_list(results.get("ingredientDeltas"))]
    failed = [code for part in (active, *deltas) for code in _codes(part.get("failure"))]
    manifest = as_object(as_object(table.get("manifests")).get(str(table.get("active_manifest"))))
    return manifest, _codes(active.get("success")), failed


def _codes(value: Any) -> list[str]:
    return [str(as_object(item).get("code", "")) for item in as_list(value)]


def _declares_generated(manifest: Mapping[str, Any]) -> bool:
    """True if an action of the active manifest has a digital source type that a model made."""
    actions = as_list(_assertion(manifest, "c2pa.actions").get("actions"))
    kinds = [str(as_object(action).get("digitalSourceType", "")).rsplit("/", 1)[-1] for action in actions]
    return any(kind in _SOURCE_TYPES for kind in kinds)


def _assertion(manifest: Mapping[str, Any], label: str) -> Mapping[str, Any]:
    """The data of the assertion `label` (or of its version `label.v2`), or an empty table."""
    for item in map(as_object, as_list(manifest.get("assertions"))):
        if re.fullmatch(re.escape(label) + r"(\.v\d+)?", str(item.get("label", ""))):
            return as_object(item.get("data"))
    return {}


def _xmp_says_generated(path: Path) -> bool:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as image:
                xmp = image.info.get("xmp", b"")
    except Exception:  # whatever a decoder raises on a hostile file: no XMP is the answer
        return False
    return isinstance(xmp, bytes) and any(kind.encode() in xmp for kind in _SOURCE_TYPES)


def _text(value: Any) -> str:
    """A text of a stranger, fit for a terminal: printable, at most `MAX_TEXT` characters."""
    text = value[: MAX_TEXT + 1] if isinstance(value, str) else ""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _digest(value: Any) -> str:
    return value if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) else ""


def _joined(first: Any, second: Any, between: str) -> str:
    return between.join(text for text in (_text(first), _text(second)) if text)
