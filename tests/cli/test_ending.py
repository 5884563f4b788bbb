"""How commands end: one line, the exit code, and no traceback, whatever happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sosie.workspace import recipes

Sosie = Callable[..., Any]
CODE = "from sosie.cli import main; main()"
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="shells of POSIX")
HOSTILE = "a\x1b[2J\u202eb\nerror: forged"


def shell(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`script` in a shell where `$sosie` is the command."""
    words = ["bash", "-c", f"sosie() {{ '{sys.executable}' -c '{CODE}' \"$@\"; }}; {script}"]
    variables = {**os.environ, **environment}
    return subprocess.run(words, capture_output=True, text=True, timeout=60, env=variables, check=False)


def test_what_nobody_foresaw_is_one_line_that_names_a_log(
    sosie: Sosie, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_workspace: object) -> None:
        raise ZeroDivisionError("http://anna:S3cr3t@host/x \x1b[31m\nsecond")

    (workspace / ".sosie").mkdir(exist_ok=True)
    monkeypatch.setattr(recipes, "list_recipes", fail)
    done = sosie("recipe", "list", "--workspace", workspace)
    log = next((workspace / ".sosie" / "logs").glob("error-*.log"))
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[0] == (
        f"error: ZeroDivisionError: http://host/x \\x1b[31m\\nsecond; the details are in {log}"
    )
    text = log.read_text(encoding="utf-8")
    assert "in fail" in text
    assert "Traceback" in text
    assert "S3cr3t" not in text
    if os.name == "posix":
        assert log.stat().st_mode & 0o777 == 0o600


def test_without_a_workspace_the_log_is_the_users(
    sosie: Sosie, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import platformdirs

    monkeypatch.setattr(platformdirs, "user_log_dir", lambda *_, **__: str(tmp_path / "logs"))
    monkeypatch.setattr(recipes, "list_recipes", lambda _: 1 / 0)
    for _ in range(22):
        assert sosie("recipe", "list", "--workspace", tmp_path).code == 2
    assert len(list((tmp_path / "logs").glob("error-*.log"))) == 20


def test_a_failure_of_the_system_is_said_in_its_words(
    sosie: Sosie, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_workspace: object) -> None:
        raise PermissionError(13, "Permission denied", "/some/file")

    monkeypatch.setattr(recipes, "list_recipes", fail)
    assert sosie("recipe", "list", "--workspace", workspace).err.startswith("error: Permission denied (/some/file); ")


def test_a_library_that_makes_another_error_of_an_interrupt_is_interrupted_all_the_same(
    sosie: Sosie, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_workspace: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("numpy") from None

    monkeypatch.setattr(recipes, "list_recipes", fail)
    done = sosie("recipe", "list", "--workspace", workspace)
    assert done.code == 130
    assert done.err.startswith("error: interrupted")


def test_an_interrupt_that_is_told_at_the_first_line_is_one_line() -> None:
    told = "def tell(*_): raise KeyboardInterrupt"
    code = f"import sosie.cli\n{told}\nsosie.cli.signal.signal = tell\nsosie.cli.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")


@POSIX
def test_a_reader_that_leaves_is_no_error() -> None:
    done = shell("sosie recipe list | head -1; echo ${PIPESTATUS[0]}; sosie --help | true; echo ${PIPESTATUS[0]}")
    assert done.stdout.split("\n")[1:] == ["0", "0", ""]
    assert done.stderr == ""


@POSIX
@pytest.mark.parametrize("redirection", [">&-", ">/dev/full"])
def test_a_stdout_that_takes_nothing_is_one_error(redirection: str) -> None:
    if "full" in redirection and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    for command in ("recipe list", "--help", "recipe show mini --json"):
        done = shell(f"sosie {command} {redirection}")
        assert done.returncode == 2
        assert done.stderr.startswith("error: stdout cannot be written: ")
        assert done.stderr.count("\n") == 2


@POSIX
def test_without_stderr_the_exit_code_says_it() -> None:
    assert shell("sosie nothing 2>&-").returncode == 2
    assert shell("sosie recipe list 2>&- >/dev/null").returncode == 0
    if Path("/dev/full").exists():
        assert shell("sosie nothing 2>/dev/full").returncode == 2


@POSIX
def test_an_encoding_that_has_not_every_letter_is_no_error(workspace: Path) -> None:
    folder = workspace / "recipes"
    folder.mkdir()
    text = 'name = "own"\nsummary = "größe 日本"\nprompt = "{prompt}"\nwidth = 256\nheight = 256\n'
    (folder / "own.toml").write_text(text + '[[stages]]\nkind = "generate"\nfamily = "sdxl"\nmodel = "mini"\n', "utf-8")
    done = shell(f"sosie recipe list --workspace {workspace}", PYTHONIOENCODING="ascii")
    assert r"gr\xf6\xdfe \u65e5\u672c" in done.stdout
    done = shell(f"sosie recipe show own --json --workspace {workspace}", PYTHONIOENCODING="ascii")
    assert json.loads(done.stdout)["summary"] == "größe 日本"


def test_what_is_typed_and_read_reaches_the_terminal_escaped(sosie: Sosie, workspace: Path, tmp_path: Path) -> None:
    folder = workspace / "recipes"
    folder.mkdir()
    summary = json.dumps(HOSTILE)
    text = f'name = "own"\nsummary = {summary}\nprompt = "{{prompt}}"\nwidth = 256\nheight = 256\n'
    (folder / "own.toml").write_text(text + '[[stages]]\nkind = "generate"\nfamily = "sdxl"\nmodel = "mini"\n', "utf-8")
    picture = tmp_path / f"{HOSTILE[:6]}.png"
    picture.write_bytes(b"no picture")
    at = ("--workspace", workspace)
    for words in (
        ("recipe", "list", *at), ("recipe", "list", "--json", *at), ("recipe", "show", "own", *at),
        ("recipe", "check", HOSTILE, *at), ("doctor", picture, *at), ("doctor", picture, "--json", *at),
        ("verify", picture, *at), ("score", picture, "--character", "mira", *at), (HOSTILE,), ("new", f"--{HOSTILE}"),
        ("generate", "mira", HOSTILE, "-n", "1", "--engine", HOSTILE, *at),
    ):  # fmt: skip
        done = sosie(*words)
        printed = done.out + done.err
        assert not {"\x1b", "\u202e"} & set(printed), words
        assert "\nerror: forged" not in printed, words
    listed = sosie("recipe", "list", "--json", *at).out
    assert HOSTILE in [json.loads(line)["summary"] for line in listed.splitlines()]


@pytest.mark.parametrize("as_json", [False, True])
def test_addresses_are_never_repeated_as_they_were_typed(sosie: Sosie, workspace: Path, as_json: bool) -> None:
    address = "http://anna:S3cr3t@127.0.0.1:1/x?token=S3cr3t"
    more = ["--json"] if as_json else []
    for words in (
        ("doctor", address), ("doctor", f"comfy:{address}"), ("model", "fetch", address), ("comfy", "record", address),
        ("generate", "mira", "x", "--engine", f"comfy:{address}"), ("generate", "mira", "x", "--engine", address),
        ("lora", "show", address), ("verify", address), ("recipe", "check", address),
        ("model", "fetch", f"hf:{address}"),
    ):  # fmt: skip
        done = sosie(*words, "--workspace", workspace, *more)
        assert "S3cr3t" not in done.out + done.err, words
        assert "anna" not in done.out + done.err, words


@pytest.mark.once
@POSIX
def test_an_interrupt_at_any_moment_ends_with_one_line() -> None:
    for step in range(1, 25):
        process = subprocess.Popen(
            [sys.executable, "-c", "from sosie.cli import main; print(flush=True); main()", "recipe", "list"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(step * 0.0125)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        if "Traceback" in err and "sosie" not in err:
            continue  # before the first line of Sosie
        assert process.returncode in (0, 130, -signal.SIGINT)
        assert err.count("\n") <= 2
        assert "Traceback" not in err
