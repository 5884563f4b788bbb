"""Training sets as they are shown, and captions that are written by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from sosie.core.errors import NotFoundError, UsageError
from sosie.dataset import image_set
from sosie.workspace.session import Session
from sosie.workspace.workspace import Workspace
from sosie.workspace.writing import writing


def describe_set(workspace: Workspace, name: str) -> list[dict[str, Any]]:
    """Every picture of a character's set with its caption; none if there is no set. Raises `SosieError`."""
    folder = image_set.set_folder(workspace.character_folder(name))
    return [_line(member) for member in image_set.read_members(folder)]


def set_path(workspace: Workspace, name: str, sha256: str) -> Path:
    """Where the picture of that digest lies. Raises `NotFoundError`."""
    folder = image_set.set_folder(workspace.character_folder(name))
    return folder / _member(image_set.read_members(folder), name, sha256).file


def change_caption(session: Session, name: str, sha256: str, caption: str) -> dict[str, Any]:
    """Writes a caption, given from now on. Raises `NotFoundError`, and `UsageError` for an empty one."""
    text = " ".join(caption.split())
    if not text:
        raise UsageError("the caption is empty; expected what the picture shows")
    with writing(session.workspace, name) as place:
        folder = image_set.set_folder(place)
        members = list(image_set.read_members(folder))
        old = _member(members, name, sha256)
        new = replace(old, caption=text, by="given")
        image_set.write_members(folder, [new if member is old else member for member in members])
    return _line(new)


def _member(members: list[image_set.Member] | tuple[image_set.Member, ...], name: str, sha256: str) -> image_set.Member:
    for member in members:
        if member.sha256 == sha256:
            return member
    raise NotFoundError(f"the training set of '{name}' has no picture {sha256[:12]}")


def _line(member: image_set.Member) -> dict[str, Any]:
    return {
        "sha256": member.sha256,
        "caption": member.caption,
        "by": member.by,
        "source": member.source or None,
        "scores": dict(member.scores),
    }
