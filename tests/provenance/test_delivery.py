"""Delivered files: whole or not at all, on full disks, in read-only folders, after an interruption."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from signing import CLAIM, noise, picture

from sosie.core.errors import DeliveryError, ProvenanceError
from sosie.provenance.keys import ensure_key
from sosie.provenance.manifest import write_signed, write_unsigned
from sosie.provenance.signing_key import SigningKey

pytestmark = pytest.mark.once


def test_a_full_disk_is_named_and_leaves_no_part_file_and_the_old_image(small_disk: Path, key: SigningKey) -> None:
    target = small_disk / "image.png"
    write_signed(picture(), target, CLAIM, key)
    before = target.read_bytes()
    with pytest.raises(DeliveryError, match=r"image\.png could not be written: No space left") as caught:
        write_signed(noise(1024), target, CLAIM, key)
    assert "free some space" in caught.value.hint
    assert [path.name for path in small_disk.iterdir()] == ["image.png"]
    assert target.read_bytes() == before


def test_a_read_only_folder_is_named_with_the_systems_reason(read_only_disk: Path, key: SigningKey) -> None:
    for write in (lambda t: write_signed(picture(), t, CLAIM, key), lambda t: write_unsigned(picture(), t)):
        with pytest.raises(DeliveryError, match=r"read-only/image\.png .*Read-only file system") as caught:
            write(read_only_disk / "image.png")
        assert "another folder" in caught.value.hint


def test_a_key_cannot_be_made_on_a_read_only_disk_and_the_error_says_so(read_only_disk: Path) -> None:
    with pytest.raises(ProvenanceError, match="Read-only file system") as caught:
        ensure_key(read_only_disk / "keys")
    assert "--no-provenance" in caught.value.hint


def test_a_missing_folder_and_a_folder_in_the_files_place_are_delivery_errors(tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match="No such file") as caught:
        write_unsigned(picture(), tmp_path / "none" / "image.png")
    assert "make the folder" in caught.value.hint
    (tmp_path / "image.png").mkdir()
    with pytest.raises(DeliveryError, match="directory"):
        write_unsigned(picture(), tmp_path / "image.png")
    assert [path.name for path in tmp_path.iterdir()] == ["image.png"]


def test_an_interruption_before_the_rename_keeps_the_old_file_and_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "image.png"
    target.write_bytes(b"old")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_unsigned(picture(), target)
    assert [path.name for path in tmp_path.iterdir()] == ["image.png"]
    assert target.read_bytes() == b"old"


def test_a_delivered_file_has_the_users_ordinary_permissions(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        write_unsigned(picture(), tmp_path / "image.png")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "image.png").stat().st_mode) == 0o640
