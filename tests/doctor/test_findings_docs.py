"""`docs/findings`: one section for every code, found by people and by `sosie doctor --explain`."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from places import ROOT
from rules import SOURCE, rules

import sosie as package
from sosie.doctor import explain

Sosie = Callable[..., Any]

FOLDER = ROOT / "docs" / "findings"
HEADING = re.compile(r"^## (SOS-[A-Z]\d{3}): (.+)$", re.MULTILINE)
MARK = re.compile(r"SOS-[A-Z]\d{3}")
TITLES = {rule.code: rule.title for rule in rules()}


def sections() -> list[tuple[str, str, str]]:
    """Letter of the file, code and title of every section."""
    return [(file.stem, *match) for file in sorted(FOLDER.glob("?.md")) for match in HEADING.findall(file.read_text())]


def test_every_rule_has_a_code_of_its_own_the_name_of_its_code_and_a_title_with_a_capital() -> None:
    for rule in rules():
        assert MARK.fullmatch(rule.code), rule
        assert rule.name == rule.code.removeprefix("SOS-"), rule
        assert rule.severity in ("info", "warning", "error"), rule
        assert rule.title[0].isupper(), rule
    assert [code for code, count in Counter(rule.code for rule in rules()).items() if count > 1] == []


def test_codes_are_written_in_rules_alone() -> None:
    written = {
        (path.name, part.value)
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Rule")
        for part in ast.iter_child_nodes(node)
        if isinstance(part, ast.Constant) and MARK.fullmatch(str(part.value))
    }
    assert written == set()


def test_every_code_has_one_section_in_the_file_of_its_letter_under_its_title() -> None:
    found = sections()
    assert {code: title for _, code, title in found} == TITLES
    assert [code for code, count in Counter(code for _, code, _ in found).items() if count > 1] == []
    assert [code for letter, code, _ in found if code[4] != letter] == []
    for file in FOLDER.glob("?.md"):
        assert file.read_text().count("\n## ") == len(HEADING.findall(file.read_text())), file.name
        assert (order := HEADING.findall(file.read_text())) == sorted(order)


@pytest.mark.parametrize("letter", sorted({code[4] for code in TITLES}))
def test_every_section_has_cause_proof_and_cure_once_and_in_order(letter: str) -> None:
    for code in (code for code in TITLES if code[4] == letter):
        section = explain.explanation(code)
        body = section.split("\n\n", 1)[1].strip().split("\n\n")
        assert [part.split(" ")[0] for part in body] == ["**Cause.**", "**Proof.**", "**Cure.**"], code
        parts = explain.paragraphs(section)
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
    assert [(code, title) for code, _, title, _ in rows] == sorted(TITLES.items())
    for code, letter, _, severity in rows:
        assert letter == code[4]
        assert set(severity.split(" or ")) <= {"info", "warning", "error"}, code


def test_the_index_has_the_severities_of_the_source() -> None:
    text = (FOLDER / "README.md").read_text()
    told = dict(re.findall(r"^\| \[(\S+)\].* \| (.+) \|$", text, re.MULTILINE))
    for rule in rules():
        assert rule.severity in told[rule.code].split(" or "), rule
    named = {rule.name: rule.code for rule in rules()}
    seen: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            # R010.at(..., severity="warning") and x.finding(R010, ..., severity="warning")
            if not isinstance(call, ast.Call):
                continue
            severity = next((word.value for word in call.keywords if word.arg == "severity"), None)
            given = [*call.args, call.func.value] if isinstance(call.func, ast.Attribute) else call.args
            codes = [named[part.id] for part in given if isinstance(part, ast.Name) and part.id in named]
            if isinstance(severity, ast.Constant) and codes:
                seen.add(codes[0])
                assert str(severity.value) in told[codes[0]], f"{path.name}: {codes[0]} is {severity.value}"
    assert len(seen) > 7


def test_commands_in_the_sections_exist() -> None:
    from sosie.cli.group import COMMANDS

    text = "\n".join(file.read_text() for file in FOLDER.glob("*.md"))
    named = set(re.findall(r"`sosie (\w+)", " ".join(text.split())))
    assert named
    assert named <= set(COMMANDS)
    for group, word in set(re.findall(r"`sosie (model|lora|recipe) ([a-z]+)", " ".join(text.split()))):
        cli = ROOT / "src" / "sosie" / "cli"
        source = [*cli.glob(f"{group}*.py"), *cli.glob(f"{group}/*.py")]
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
    assert line["title"] == TITLES["SOS-F103"]
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
    assert "From the package." in explain.explanation("SOS-D001")


def test_the_wheel_and_the_source_archive_take_the_sections_along() -> None:
    import tomllib

    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    assert build["wheel"]["force-include"]["docs/findings"] == "sosie/findings"
    assert "docs/findings" in build["sdist"]["include"]
