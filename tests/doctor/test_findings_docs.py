"""`docs/findings`: one section for every code, found by people and by `sosie doctor --explain`."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from places import ROOT

import sosie as package
from sosie.doctor import codes

Sosie = Callable[..., Any]

FOLDER = ROOT / "docs" / "findings"
HEADING = re.compile(r"^## (SOS-[A-Z]\d{3}): (.+)$", re.MULTILINE)
TABLES = re.compile(r"^\s+\"SOS-[A-Z]\d{3}\": \"")
"""A line of a table of titles: to stand there is not to be used."""


def used() -> set[str]:
    """The codes in the source, outside the tables of titles and the docstrings."""
    found: set[str] = set()
    short: set[str] = set()
    for path in Path(package.__file__).parent.rglob("*.py"):
        if path.name == "codes.py":
            continue
        lines = [line for line in path.read_text().splitlines() if not TABLES.match(line)]
        found |= set(re.findall(r"[\"'](SOS-[A-Z]\d{3})[\"']", "\n".join(lines)))
        if path.name == "references.py":
            short |= {f"SOS-{code}" for code in re.findall(r"_left_out\(\"([A-Z]\d{3})\"", path.read_text())}
    return found | short


def sections() -> list[tuple[str, str, str]]:
    """Letter of the file, code and title of every section."""
    return [(file.stem, *match) for file in sorted(FOLDER.glob("?.md")) for match in HEADING.findall(file.read_text())]


def test_every_code_that_is_given_has_a_title_and_every_title_is_given() -> None:
    assert used() == set(codes.titles())


def test_every_code_has_one_section_in_the_file_of_its_letter_under_its_title() -> None:
    found = sections()
    assert {code: title for _, code, title in found} == codes.titles()
    assert [code for code, count in Counter(code for _, code, _ in found).items() if count > 1] == []
    assert [code for letter, code, _ in found if code[4] != letter] == []
    for file in FOLDER.glob("?.md"):
        assert file.read_text().count("\n## ") == len(HEADING.findall(file.read_text())), file.name
        assert (order := HEADING.findall(file.read_text())) == sorted(order)


@pytest.mark.parametrize("letter", sorted({code[4] for code in codes.titles()}))
def test_every_section_has_cause_proof_and_cure_once_and_in_order(letter: str) -> None:
    for code in (code for code in codes.titles() if code[4] == letter):
        section = codes.explanation(code)
        body = section.split("\n\n", 1)[1].strip().split("\n\n")
        assert [part.split(" ")[0] for part in body] == ["**Cause.**", "**Proof.**", "**Cure.**"], code
        parts = codes.paragraphs(section)
        assert list(parts) == ["cause", "proof", "cure"], code
        for name, part in parts.items():
            assert part, (code, name)
            assert not part[0].islower(), (code, name)
            assert part.endswith("."), (code, name)
        assert max(map(len, section.splitlines())) <= 120, code


def test_the_index_lists_every_code_with_title_and_severity() -> None:
    rows = re.findall(
        r"^\| \[(\S+)\]\((\w)\.md\) \| (.+) \| (.+) \|$", (FOLDER / "README.md").read_text(), re.MULTILINE
    )
    assert [(code, title) for code, _, title, _ in rows] == sorted(codes.titles().items())
    for code, letter, _, severity in rows:
        assert letter == code[4]
        assert set(severity.split(" or ")) <= {"info", "warning", "error"}, code


def test_the_index_has_the_severities_of_the_source() -> None:
    text = (FOLDER / "README.md").read_text()
    told = dict(re.findall(r"^\| \[(\S+)\].* \| (.+) \|$", text, re.MULTILINE))
    seen: set[str] = set()
    for path in Path(package.__file__).parent.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            # Finding(code, severity, ...) and loras' _finding(lora, code, severity, ...), where both are written out
            if not isinstance(call, ast.Call):
                continue
            values = [value.value for value in call.args if isinstance(value, ast.Constant)]
            for code, severity in pairwise(values):
                if str(code).startswith("SOS-") and severity in ("info", "warning", "error"):
                    seen.add(str(code))
                    assert severity in told[str(code)], f"{path.name}: {code} is {severity}, told {told[str(code)]}"
    assert len(seen) > 90


def test_commands_in_the_sections_exist() -> None:
    from sosie.cli import COMMANDS

    text = "\n".join(file.read_text() for file in FOLDER.glob("*.md"))
    named = set(re.findall(r"`sosie (\w+)", " ".join(text.split())))
    assert named
    assert named <= set(COMMANDS)
    for group, word in set(re.findall(r"`sosie (model|lora|recipe) ([a-z]+)", " ".join(text.split()))):
        source = (ROOT / "src" / "sosie" / "cli").glob(f"{group}*.py")
        assert any(f'command("{word}")' in path.read_text() for path in source), f"sosie {group} {word}"


def test_explain_prints_the_section(sosie: Sosie, tmp_path: Path) -> None:
    result = sosie("doctor", "--explain", "SOS-D001", "--workspace", tmp_path)
    assert result.code == 0, result.err
    assert result.out.startswith("SOS-D001: The output folder cannot be written to\n\n**Cause.** ")
    assert "--out" in result.out
    assert "SOS-D002" not in result.out


def test_explain_gives_the_three_paragraphs_as_json(sosie: Sosie, tmp_path: Path) -> None:
    result = sosie("doctor", "--explain", "SOS-F103", "--json", "--workspace", tmp_path)
    line = json.loads(result.out)
    assert list(line) == ["code", "title", "cause", "proof", "cure"]
    assert line["title"] == codes.titles()["SOS-F103"]
    assert "encoded_exponent" in line["proof"]
    assert not any("\n" in part or "**" in part for part in line.values())


def test_an_unknown_code_names_the_nearest(sosie: Sosie, tmp_path: Path) -> None:
    result = sosie("doctor", "--explain", "SOS-F13", "--workspace", tmp_path)
    assert result.code == 2
    assert "did you mean 'SOS-F1" in result.err
    for hostile in ("../../secret", "SOS-", "", "SOS-.001"):
        assert sosie("doctor", "--explain", hostile, "--workspace", tmp_path).code == 2


def test_the_sections_are_found_inside_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "site-packages" / "sosie"
    (installed / "findings").mkdir(parents=True)
    (installed / "findings" / "D.md").write_text("# D\n\n## SOS-D001: x\n\n**Cause.** From the package.\n")
    monkeypatch.setattr(package, "__file__", str(installed / "__init__.py"))
    assert "From the package." in codes.explanation("SOS-D001")


def test_the_wheel_and_the_source_archive_take_the_sections_along() -> None:
    import tomllib

    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    assert build["wheel"]["force-include"]["docs/findings"] == "sosie/findings"
    assert "docs/findings" in build["sdist"]["include"]
