"""Files of people: what is no file, no text or too much is one error, and nothing is waited for."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from sosie.core.errors import BadFileError, NotFoundError
from sosie.files.regular import open_regular, read_bytes, read_text

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes and devices in folders")


def test_a_text_is_read_with_and_without_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfgr\xc3\xbc\xc3\x9fe\r\n")
    assert read_text(tmp_path / "a.txt") == "grüße\r\n"
    assert read_bytes(tmp_path / "a.txt", most=12) == b"\xef\xbb\xbfgr\xc3\xbc\xc3\x9fe\r\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"one\ntwo \xff", "the list .*a.txt is not UTF-8 text .byte 0xff in line 2"),
        ("x".encode("utf-16"), "is not UTF-8 text .UTF-16"),
        (b"one\ntwo\n\0", "is not text: it has a NUL in line 3"),
        (b"x" * 101, "has more than 100 bytes"),
    ],
)
def test_what_is_no_text_of_that_length_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(BadFileError, match=message):
        read_text(tmp_path / "a.txt", 100, "the list")


@pytest.mark.parametrize("name", ["absent", "absent/below", "a\0b", "x" * 300, "\ud800", "y/" * 3000])
def test_a_name_that_is_or_can_be_no_file_is_one_error(tmp_path: Path, name: str) -> None:
    with pytest.raises((BadFileError, NotFoundError), match=r"does not exist|cannot be read"):
        read_text(tmp_path / name)
    with pytest.raises(OSError, match=r"."):
        open_regular(tmp_path / name)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="it is a folder, not a file"):
        read_text(tmp_path)


@POSIX
def test_a_pipe_and_a_device_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadFileError, match="it is a pipe, not a file"):
        read_text(tmp_path / "pipe")
    for device in ("/dev/zero", "/dev/tty"):
        with pytest.raises(BadFileError, match=r"it is a device, not a file|No such device"):
            read_text(Path(device))
