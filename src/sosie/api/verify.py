"""Verifying: what an image's provenance proves, and what not."""

from __future__ import annotations

from pathlib import Path

from sosie.provenance.keys import load_key
from sosie.provenance.signing_key import SigningKey
from sosie.provenance.verify import ProvenanceReport, verify
from sosie.workspace.workspace import Workspace


def verify_image(workspace: Workspace, image: Path) -> ProvenanceReport:
    """Reads and checks one image; knows the workspace's own key if there is one."""
    return verify(image, _own_key(workspace))


def _own_key(workspace: Workspace) -> SigningKey | None:
    from sosie.provenance.keys import ensure_key

    own = workspace.config.provenance
    if own.certificate:
        return load_key(workspace.path(own.certificate), workspace.path(own.private_key))
    folder = workspace.state / "keys"
    return ensure_key(folder) if folder.is_dir() else None
