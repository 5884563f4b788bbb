"""One JSON for each noun."""

from __future__ import annotations

from importlib import import_module

import pytest

from sosie.api.lines import WRITERS, json_of
from sosie.core import Finding, Note


@pytest.mark.parametrize("name", WRITERS)
def test_every_noun_with_a_json_is_there_under_its_name(name: str) -> None:
    module, _, noun = name.rpartition(".")
    kind = getattr(import_module(module), noun)
    assert f"{kind.__module__}.{kind.__qualname__}" == name


def test_a_finding_is_an_object_and_a_noun_that_is_never_shown_an_error() -> None:
    finding = Finding("SOS-X000", "warning", "here", "it is odd", "mend it")
    expected = {"code": "SOS-X000", "severity": "warning", "message": "it is odd", "hint": "mend it"}
    assert list(json_of(finding).items()) == list(expected.items())
    with pytest.raises(TypeError, match="Note has no JSON"):
        json_of(Note("two of three"))
