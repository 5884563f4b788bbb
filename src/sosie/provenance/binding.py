"""The C2PA library behind two functions: `sign` and `read`. Neither ever uses the network.

The library is c2pa-python (MIT or Apache-2.0), the binding of the Content Authenticity
Initiative's c2pa-rs; the format is the C2PA specification 2.x (https://spec.c2pa.org).
Its own defaults add a thumbnail of 130 kB and fetch manifests that an image merely links to:
both are switched off here, for each call, since the library's global settings do not do it.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sosie.core.errors import ProvenanceError
from sosie.files.foreign import parse_json
from sosie.files.regular import open_regular

if TYPE_CHECKING:
    from sosie.provenance.signing_key import SigningKey

SETTINGS: dict[str, Any] = {
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
}

Outcome = Literal["read", "absent", "elsewhere", "damaged", "unsupported", "broken"]


@dataclass(frozen=True)
class Reading:
    """What the library says of one file.

    `outcome`: `read` (a manifest was read, `table` is the library's JSON), `absent` (none),
    `elsewhere` (the file only links to one), `damaged` (not a whole image file), `unsupported`
    (no image type that can hold a manifest) or `broken` (a manifest that cannot be parsed);
    `detail` is the library's own sentence.
    """

    outcome: Outcome
    table: Mapping[str, Any]
    detail: str = ""


def sign(data: bytes, mime: str, definition: Mapping[str, Any], key: SigningKey) -> bytes:
    """The image file `data` with a signed manifest put in; nothing else of it changes.

    `definition` is a manifest definition of c2pa-rs. No time stamp is asked for. The library
    verifies its own output. Raises `ProvenanceError` if it refuses the certificate or the image.
    """
    c2pa: Any = importlib.import_module("c2pa")
    target = io.BytesIO()
    try:
        with (
            c2pa.Context.from_dict(SETTINGS) as context,
            c2pa.Signer.from_info(
                c2pa.C2paSignerInfo(key.algorithm, key.chain.encode(), key.private_pem(), None)
            ) as signer,
        ):
            c2pa.Builder(dict(definition), context=context).sign(signer, mime, io.BytesIO(data), target)
    except c2pa.C2paError as error:
        raise ProvenanceError(f"the manifest could not be signed: {_first_line(error)}") from None
    return target.getvalue()


def read(path: Path, anchors: str = "") -> Reading:
    """Reads and validates the manifest of a file; `anchors` (PEM) are trusted beside the library's own list.

    Raises OSError if the file cannot be opened; everything in the file itself is an outcome.
    """
    c2pa: Any = importlib.import_module("c2pa")
    settings = {**SETTINGS, "trust": {"user_anchors": anchors}} if anchors else SETTINGS
    with open_regular(path) as file:
        try:
            with (
                c2pa.Context.from_dict(settings) as context,
                c2pa.Reader(None, file, context=context) as reader,
            ):
                return Reading("read", parse_json(reader.json()))
        except c2pa.C2paError.ManifestNotFound:
            return Reading("absent", {})
        except c2pa.C2paError.NotSupported as error:
            return Reading("unsupported", {}, _first_line(error))
        except c2pa.C2paError as error:
            detail = _first_line(error)
            return Reading(_outcome(detail), {}, detail)
        except (RecursionError, ValueError):
            return Reading("broken", {}, "its content cannot be decoded")


def _outcome(detail: str) -> Outcome:
    """Tells the library's untyped errors apart; a sentence that is not known means a broken manifest."""
    if "asset could not be parsed" in detail or detail.startswith("Io:"):
        return "damaged"
    return "elsewhere" if detail.startswith(("Remote:", "RemoteManifest:")) else "broken"


def _first_line(error: Exception) -> str:
    """The library's message on one line, at most 200 characters."""
    return " ".join(str(error).split())[:200]
