"""Prompt files of three kinds, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sosie.core.errors import ConfigError, NotFoundError
from sosie.workspace.prompts import PromptLine, read_prompts


def test_a_text_file_gives_a_prompt_a_line(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("\ufeff# comment\nsmiling, beach\n\n  laughing  \n", encoding="utf-8")
    assert read_prompts(tmp_path / "p.txt") == (PromptLine("smiling, beach", "001"), PromptLine("laughing", "002"))


def test_a_csv_file_gives_names_seeds_and_sizes(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text('prompt,name,seed,size\n"a, b",day one,7,256x512\nc,,,\n')
    first, second = read_prompts(tmp_path / "p.csv")
    assert first == PromptLine("a, b", "day-one", 7, "256x512")
    assert first.width_height == (256, 512)
    assert second == PromptLine("c", "002")


def test_a_jsonl_file_gives_the_same(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "a", "seed": 3}\n\n{"prompt": "b", "name": "../../etc"}\n')
    assert read_prompts(tmp_path / "p.jsonl") == (PromptLine("a", "001", 3), PromptLine("b", "etc"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.csv", "prompt,sead\nx,3\n", "unknown field 'sead'; did you mean 'seed'"),
        ("p.csv", "prompt,seed\nx,y\n", "p.csv:2: seed = 'y' is not a whole number"),
        ("p.csv", "prompt,seed\na,b,c\n", "quote prompts"),
        ("p.csv", "prompt,name\n,x\n", "the prompt is empty"),
        ("p.jsonl", "{\n", "p.jsonl:1: not a JSON object"),
        ("p.jsonl", "[1]\n", "not a JSON object"),
        ("p.jsonl", '{"prompt": "a", "size": "big"}\n', "not WIDTHxHEIGHT"),
        ("p.jsonl", '{"prompt": "a", "name": "n"}\n{"prompt": "b", "name": "n"}\n', "'n' is used twice"),
        ("p.txt", "\n# nothing\n", "holds no prompt"),
        ("p.md", "x", "not a prompt file"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_prompts(tmp_path / name)


def test_a_binary_or_missing_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_prompts(tmp_path / "p.txt")
    with pytest.raises(NotFoundError, match="does not exist"):
        read_prompts(tmp_path / "q.txt")
