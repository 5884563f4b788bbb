"""Verifying: what an image's provenance proves, and what not."""

from __future__ import annotations

from pathlib import Path

from sosie.provenance.keys import load_key
from sosie.provenance.signing_key import SigningKey
from sosie.provenance.verify import Marked, ProvenanceReport, verify
from sosie.store.record import Record
from sosie.workspace.workspace import Workspace


def verify_image(workspace: Workspace, image: Path) -> ProvenanceReport:
    """Reads and checks one image; knows the workspace's own key, and the plans that it marked, if there are any."""
    return verify(image, _own_key(workspace), lambda: _marked(workspace))


def _marked(workspace: Workspace) -> Marked:
    folder = workspace.state
    if not (folder / "catalogue.sqlite").is_file():
        return Marked()
    with Record(folder) as record:
        rows = record.marked()
    sizes = dict.fromkeys((width, height) for _, width, height in rows)
    return Marked(tuple(dict.fromkeys(plan for plan, _, _ in rows)), tuple(sizes))


def _own_key(workspace: Workspace) -> SigningKey | None:
    from sosie.provenance.keys import ensure_key

    own = workspace.config.provenance
    if own.certificate:
        return load_key(workspace.path(own.certificate), workspace.path(own.private_key))
    folder = workspace.state / "keys"
    return ensure_key(folder) if folder.is_dir() else None
