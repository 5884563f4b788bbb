"""A bill: what each name of a recipe means here, or why it means nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from sosie.core import Stage
from sosie.core.errors import NotFoundError, UsageError
from sosie.core.recipe import LoraUse
from sosie.files.digest import file_digest
from sosie.workspace.bill import resolve
from sosie.workspace.workspace import Workspace, open_workspace

STAGES = (
    Stage("generate", "sdxl", "one", vae="gone", loras=(LoraUse("twice"), LoraUse("one"))),
    Stage("detail", "sdxl", "one"),
)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Model folders with `one`, and two files called `twice` that differ."""
    for name, text in (("one", "1"), ("a/twice", "2"), ("b/twice", "3")):
        path = tmp_path / "models" / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "sosie.toml").write_text('[models]\nlater = "elsewhere/later.safetensors"\n')
    return open_workspace(tmp_path)


def test_each_name_stands_once_with_its_place_or_why_there_is_none(workspace: Workspace) -> None:
    bill = resolve(workspace, STAGES, also=("later",))
    assert [entry.name for entry in bill] == ["one", "gone", "twice", "later"]
    assert bill["one"].path == bill["one"].place == workspace.models / "one.safetensors"
    assert bill["one"].sha256 == file_digest(workspace.models / "one.safetensors")
    problems = [bill["gone"].problem, bill["twice"].problem, bill["later"].problem]
    assert [type(problem) for problem in problems] == [NotFoundError, UsageError, NotFoundError]
    assert bill["later"].place == workspace.root / "elsewhere" / "later.safetensors"
    assert bill["gone"].place is None


def test_what_is_not_here_may_be_on_the_servers_of_a_remote_engine_alone(workspace: Workspace) -> None:
    here = resolve(workspace, STAGES)
    with pytest.raises(NotFoundError, match="'gone' was not found"):
        _ = here.digests
    with pytest.raises(NotFoundError, match="'gone' was not found"):
        _ = here.paths
    remote = resolve(workspace, STAGES, remote=True)
    assert dict(remote.digests) == {"one": here["one"].sha256, "gone": "", "twice": ""}
    assert list(remote.paths) == ["one"]


def test_a_file_that_is_broken_is_an_answer_and_no_error(workspace: Workspace) -> None:
    contents = resolve(workspace, STAGES)["one"].contents
    assert (contents.lora, contents.header) == (None, None)
    assert contents.identity is not None
    assert "one.safetensors" in contents.identity.message
