"""`sosie.toml` gets new entries and keeps all that its owner wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from sosie.core.errors import ConfigError
from sosie.core.schema import from_table
from sosie.files.toml import parse_toml
from sosie.workspace.config_text import with_models
from sosie.workspace.workspace import Config

WHERE = Path("sosie.toml")
NEW = {"sdxl": "/m/big love.safetensors", "instantid:ip-adapter.safetensors": '/m/"odd".bin'}

TEXTS = [
    "",
    "# mine\n",
    'model_folders = ["a"]\n',
    "model_folders = []",
    'model_folders = [  # here\n  "a",  # a ] in a comment\n  "b[]",  # last\n]\n\n[models]\nm = "x"  # kept\n',
    '[judges.own]\nonnx = "o.onnx"\n\n# the end\n',
    '# mine\n\n[models] # all\n\n[judges.own]\nonnx = "o.onnx"\n',
    '[models]\n"a.b" = "x"\n\n# about judges\n[judges.own]\nonnx = "o.onnx"',
    "model_folders = ['a',\n'b']\n[provenance]\ncertificate = '''\n[models]\n'''\n",
    '[judges]\nown = {onnx = "models = ["}\n\n[models]\nx = "y"',
]


def config(text: str) -> Config:
    return from_table(Config, parse_toml(text, "t"), "t")


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_added_is_there_and_every_line_and_comment_of_the_owner_stays(text: str) -> None:
    changed = with_models(text, ["/new"], NEW, WHERE)
    before, after = config(text), config(changed)
    assert after.model_folders == (*before.model_folders, "/new")
    assert after.models == before.models | NEW
    assert (after.judges, after.provenance) == (before.judges, before.provenance)
    for line in text.splitlines():
        for part in line.split(", "):
            assert part.strip(" ]") in changed
    assert with_models(changed, ["/new"], NEW, WHERE) == changed


def test_an_entry_of_the_same_name_is_replaced_and_the_others_stay() -> None:
    text = '[models]\na = "1"  # one\nsdxl = "old"  # two\nb = "3"\n\n[judges.own]\nonnx = "sdxl = 5"\n'
    changed = with_models(text, [], {"sdxl": "new"}, WHERE)
    assert config(changed).models == {"a": "1", "b": "3", "sdxl": "new"}
    assert "# one" in changed
    assert "old" not in changed


@pytest.mark.parametrize("text", ['models = {a = "1"}\n', 'models.a = "1"\n', '["models"]\na = "1"\n'])
def test_a_table_that_is_written_otherwise_is_left_alone_and_the_lines_are_said(text: str) -> None:
    with pytest.raises(ConfigError, match="in a way that Sosie cannot add to") as caught:
        with_models(text, ["/new"], {"sdxl": "/m/x.safetensors"}, WHERE)
    assert '[models] sdxl = "/m/x.safetensors"' in caught.value.hint


def test_a_file_that_is_wrong_already_is_an_error_of_its_own() -> None:
    with pytest.raises(ConfigError, match="model_folder"):
        with_models('model_folder = ["a"]\n', ["/new"], {}, WHERE)
