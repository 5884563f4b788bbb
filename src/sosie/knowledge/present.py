"""What is so now in a workspace: the digest of a model or a judge, a setting of a recipe, the cohort for thresholds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

from sosie.core.errors import NotFoundError, SosieError, nearest
from sosie.core.schema import to_table
from sosie.faces.weights import PINNED
from sosie.files.digest import asset_digest
from sosie.knowledge.decision import Premise
from sosie.workspace.bill import resolve_one
from sosie.workspace.characters import calibration_file
from sosie.workspace.experiments import load_result
from sosie.workspace.recipes import load_recipe
from sosie.workspace.workspace import Workspace

NAMED_BY = ("kind", "file", "name")
"""The keys by which an entry of a recipe's list is named, beside its place from 0 on."""


class Present:
    """What is so now, each looked up once."""

    def __init__(self, workspace: Workspace, character: str = "") -> None:
        self._workspace = workspace
        self._character = character
        self._value = cache(self._look)

    def value(self, premise: Premise) -> str:
        """What a premise is now; empty for what is not there any more. Never raises for that."""
        return self._value(premise.kind, premise.name)

    def premise_of_model(self, name: str) -> Premise:
        """The model by the name that recipes have for it. Raises `NotFoundError`, or `BadModelError`."""
        return Premise("model", name, resolve_one(self._workspace, name).sha256)

    def premise_of_setting(self, recipe: str, field: str) -> Premise:
        """A field of a recipe, its default too. Raises `NotFoundError` that names the nearest."""
        return Premise(
            "setting", f"{recipe}:{field}", setting_of(to_table(load_recipe(self._workspace, recipe)), field)
        )

    def premise_of_calibration(self, recipe: str) -> Premise:
        """The cohort of the character for a recipe, else that of its model; of neither, an empty value."""
        return Premise("calibration", recipe, self._calibration(recipe))

    def _look(self, kind: str, name: str) -> str:
        try:
            if kind == "model":
                return self.premise_of_model(name).value
            if kind == "setting":
                recipe, _, field = name.partition(":")
                return self.premise_of_setting(recipe, field).value
            if kind == "judge":
                return self._judge(name)
            return self._result(name) if kind == "result" else self._calibration(name)
        except SosieError:
            return ""

    def _result(self, experiment: str) -> str:
        found = load_result(self._workspace, experiment)
        return found.digest if found else ""

    def _judge(self, name: str) -> str:
        """The weights by which an encoder judges here now: those of `sosie.toml`, else those that this version pins."""
        own = self._workspace.config.judges.get(name)
        if own is not None:
            path = self._workspace.path(own.onnx)
            return asset_digest(path) if path.is_file() else ""
        return PINNED[name].sha256 if name in PINNED else ""

    def _calibration(self, recipe: str) -> str:
        stages = load_recipe(self._workspace, recipe).stages
        own = calibration_file(self._workspace, self._character, recipe) if self._character else None
        if own is not None and own.exists():
            return asset_digest(own)
        shipped = self._cohort_of(stages[0].model)
        return asset_digest(shipped) if shipped else ""

    def _cohort_of(self, model: str) -> Path | None:
        installed = resolve_one(self._workspace, model).installed
        return installed.cohort if installed else None


def setting_of(table: Mapping[str, Any], field: str) -> str:
    """The value as JSON of a recipe's field: `stages.generate.sampler.cfg`; an entry of a list by kind, file or place.

    Raises `NotFoundError` that names the nearest.
    """
    value: Any = table
    walked = ""
    for part in field.split("."):
        known = dict(_inside(value))
        if part not in known:
            where = f" in {walked}" if walked else ""
            raise NotFoundError(f"a recipe has no field '{part[:80]}'{where}{nearest(part, known)}")
        value, walked = known[part], f"{walked}.{part}".lstrip(".")
    return json.dumps(value, sort_keys=True)


def _inside(value: Any) -> Iterator[tuple[str, Any]]:
    """What a table or a list holds, by every name that it has."""
    if isinstance(value, dict):
        yield from cast("dict[str, Any]", value).items()
    elif isinstance(value, list):
        entries = cast("list[Any]", value)
        for place, entry in reversed(list(enumerate(entries))):  # of two with one name the first counts
            yield str(place), entry
            if isinstance(entry, dict):
                named = cast("dict[str, Any]", entry)
                yield from ((str(named[key]), named) for key in NAMED_BY if key in named)
