"""Reads a ComfyUI workflow from its JSON file, in the API format or the UI format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sosie.core.errors import BadFileError, BadModelError
from sosie.files.foreign import as_object, read_json
from sosie.graph.api_format import from_api, is_api
from sosie.graph.graph import Graph
from sosie.graph.notation import Kinds
from sosie.graph.ui_format import from_ui, is_ui

MAX_BYTES = 8_000_000
"""Largest workflow file that is read; the largest published templates have 0.5 MB."""


def read_workflow(path: Path, kinds: Kinds | None = None) -> Graph:
    """The graph of a workflow file; `kinds` describes classes that Sosie does not know, as a server may.

    Raises `NotFoundError`, or `BadModelError` for what is not a whole workflow.
    """
    try:
        table = read_json(path, MAX_BYTES)
    except BadFileError as error:
        raise BadModelError(error.message, _SAVE) from None
    return read_table(table, str(path), kinds)


def read_table(table: Any, where: str, kinds: Kinds | None = None) -> Graph:
    """The graph of parsed JSON; `where` names it in errors, `kinds` as above. Raises `BadModelError`."""
    known = as_object(table)
    if is_ui(known):
        return from_ui(known, where, kinds)
    if is_api(known.get("prompt")):
        known = known["prompt"]
    if is_api(known):
        return from_api(known, where, kinds)
    wanted = "a list 'nodes' (UI format), or nodes with a 'class_type' by their ids (API format)"
    raise BadModelError(f"{where} is not a ComfyUI workflow; expected {wanted}", _SAVE)


_SAVE = "save it in ComfyUI with Workflow > Save or Export (API)"
