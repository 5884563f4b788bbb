"""Prompt files of three kinds, and what is wrong with them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from sosie.core.errors import ConfigError, NotFoundError
from sosie.workspace.prompts import PromptLine, read_prompts
from sosie.workspace.prompts.files import read_prompt_file


def test_a_text_file_gives_a_prompt_a_line(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("\ufeff# comment\nsmiling, beach\n\n  laughing  \n", encoding="utf-8")
    assert read_prompts(tmp_path / "p.txt") == (PromptLine("smiling, beach", "001"), PromptLine("laughing", "002"))


def test_a_csv_file_gives_names_seeds_and_sizes(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text('prompt,name,seed,size\n"a, b",day one,7,256x512\nc,,,\n')
    first, second = read_prompts(tmp_path / "p.csv")
    assert first == PromptLine("a, b", "day-one", 7, "256x512")
    assert first.width_height == (256, 512)
    assert second == PromptLine("c", "002")
    assert second.where.endswith("p.csv:3")


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
    (tmp_path / "p.txt").write_bytes(b"\xff\x00\x81\x00\x02")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_prompts(tmp_path / "p.txt")
    with pytest.raises(NotFoundError, match="does not exist"):
        read_prompts(tmp_path / "q.txt")


FIRST, SECOND = "smiling, soft daylight", 'a sign says "OPEN", neon'


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_table_is_read_however_a_spreadsheet_saved_it(
    tmp_path: Path, separator: str, encoding: str, end: str
) -> None:
    quoted = '"' + SECOND.replace('"', '""') + '"'
    rows = [
        ["Name", "Prompt", "Seed", "Negative Prompt", "CFG Scale", "Steps", "Width", "Height"],
        ["caf\u00e9", f'"{FIRST}"', "7.0", "hat", '"5,5"', "20.0", "256", "512.0"],
        [""] * 8,
        ["b", quoted, "", "", "", "", "", ""],
        [""] * 8,
    ]
    text = end.join(separator.join(row) for row in rows) + end
    (tmp_path / "p.csv").write_bytes(text.encode(encoding))
    first, second = read_prompts(tmp_path / "p.csv")
    assert first == PromptLine(FIRST, "caf\u00e9", 7, "256x512", "hat", 20, 5.5)
    assert second == PromptLine(SECOND, "b")


def test_a_table_of_an_older_windows_is_read_and_said(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes("sep=;\r\nname;prompt\r\na;caf\u00e9 \u2013 \u201cOPEN\u201d\r\n".encode("cp1252"))
    read = read_prompt_file(tmp_path / "p.csv")
    assert read.lines == (PromptLine("caf\u00e9 \u2013 \u201cOPEN\u201d", "a"),)
    assert read.lines[0].where.endswith(":3")
    assert [one.code for one in read.findings] == ["SOS-A009"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("smiling, neon\nneutral\n", "its first row names no field 'prompt'"),
        ('prompt,name\n"smiling" woman,a\n', "p.csv:2: the row cannot be read"),
        ('prompt,name\nx,a\n"never closed,b\n', "p.csv:3: the row cannot be read"),
        ("prompt,Prompt\na,b\n", "'prompt' is there twice"),
        ("prompt,seed\na,7.5\n", "seed = '7.5' is not a whole number"),
        ("prompt,width\na,512\n", "one side of a size"),
        ("prompt,\na,b,c\n", "more fields than the header"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_truly(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "p.csv").write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_prompts(tmp_path / "p.csv")


def test_json_lines_end_at_line_feeds_alone(tmp_path: Path) -> None:
    text = '{"prompt": "a\u2028b\x85c", "seed": 7.0, "name": null, "negative": "hat", "cfg": 5}\r\n{"prompt": "d"}\n'
    (tmp_path / "p.jsonl").write_text(text, encoding="utf-8", newline="")
    assert read_prompts(tmp_path / "p.jsonl") == (
        PromptLine("a\u2028b\x85c", "001", 7, negative_prompt="hat", cfg=5.0),
        PromptLine("d", "002"),
    )
    (tmp_path / "p.json").write_text('["a", {"prompt": "b"}]')
    assert [line.prompt for line in read_prompts(tmp_path / "p.json")] == ["a", "b"]


def test_text_lines_end_at_line_ends_alone(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes("a\u2028b\r\nc\x0cd\re".encode())
    assert [line.prompt for line in read_prompts(tmp_path / "p.txt")] == ["a\u2028b", "c\x0cd", "e"]


def test_infotexts_in_a_text_file_are_one_line_each(tmp_path: Path) -> None:
    infotext = "smiling\nin a cafe\nNegative prompt: hat,\nglasses\nSteps: 20, Sampler: Euler a, Seed: 7\n"
    lines = "neutral\nlaughing\nNegative prompt: cat\nsad\nNegative prompt: dog\nSteps: 5\n"
    (tmp_path / "p.txt").write_text(f"{infotext}{infotext}\n{lines}# that is all")
    assert [line.prompt.split("\n") for line in read_prompts(tmp_path / "p.txt")] == [
        *([infotext.strip().split("\n")] * 2),
        ["neutral"],
        ["laughing", "Negative prompt: cat"],
        ["sad", "Negative prompt: dog", "Steps: 5"],
    ]


def test_names_of_any_script_and_length_stay_apart(tmp_path: Path) -> None:
    names = ["\u7f8e\u7389", "\u660e", "a" * 60 + "1", "a" * 60 + "2", "a b", "a-b", "///"]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"prompt": "x", "name": name}) + "\n" for name in names))
    got = [line.name for line in read_prompts(tmp_path / "p.jsonl")]
    assert got == ["\u7f8e\u7389", "\u660e", "a" * 40, "a" * 40 + "-2", "a-b", "a-b-2", "007"]


def test_a_long_prompt_file_is_read_in_linear_time(tmp_path: Path) -> None:
    text = "".join(json.dumps({"prompt": "x", "name": "n" * 50 + str(n)}) + "\n" for n in range(40_000))
    (tmp_path / "p.jsonl").write_text(text)
    begun = time.process_time()
    assert len({line.name for line in read_prompts(tmp_path / "p.jsonl")}) == 40_000
    assert time.process_time() - begun < 10
