"""Full and read-only disks: an error that names them, and nothing lost."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from catalogues import check_whole
from renders import a_render

from sosie.core.errors import StoreError
from sosie.store import Store, StoredRender


@contextmanager
def mounted(*command: str | Path) -> Iterator[Path]:
    folder = Path(command[-1])
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_an_error_and_loses_nothing(tmp_path: Path) -> None:
    with mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path / "small") as small:
        done: list[StoredRender] = []
        with Store.open(small / ".sosie") as store:
            with pytest.raises(StoreError, match="the disk is full") as caught:
                done.extend(store.add_render(a_render(seed)) for seed in range(200))
            assert str(small / ".sosie") in caught.value.message
            assert "expected room" in caught.value.message
            assert "free some space" in caught.value.hint
            assert len(done) > 5
            assert not list(small.glob("**/*.part"))
            assert [store.find_render(stored.plan.id, "fake") for stored in done] == done
        done_images = {stored.image for stored in done}
        for path in small.glob(".sosie/images/*/*.png"):
            if path not in done_images:
                path.unlink()
        with Store.open(small / ".sosie") as store:
            assert [store.find_render(stored.plan.id, "fake") for stored in done] == done


@pytest.mark.parametrize("left", [0, 8, 24, 48, 100])
def test_a_disk_that_is_full_at_the_first_use_is_named(tmp_path: Path, left: int) -> None:
    with mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path / "small") as small:
        with suppress(OSError), (small / "fill").open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        os.truncate(small / "fill", (small / "fill").stat().st_size - 1024 * left)
        with pytest.raises(StoreError, match="the disk is full"), Store.open(small / ".sosie") as store:
            [store.add_render(a_render(seed)) for seed in range(30)]
        (small / "fill").unlink()
        with Store.open(small / ".sosie") as store:
            store.add_render(a_render(1))
        check_whole(small / ".sosie")


def test_a_read_only_disk_is_an_error_and_loses_nothing(tmp_path: Path) -> None:
    with mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path / "disk") as disk:
        with Store.open(disk / ".sosie") as store:
            done = store.add_render(a_render(1))
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for folder in (disk / ".sosie", disk / ".other"):
            with pytest.raises(StoreError, match="is read-only; expected") as caught:
                Store.open(folder)
            assert str(folder) in caught.value.message
            assert "--workspace" in caught.value.hint
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        with Store.open(disk / ".sosie") as store:
            assert store.find_render(done.plan.id, "fake") == done


def test_images_that_become_read_only_in_mid_run_are_an_error_and_lose_nothing(store: Store) -> None:
    done = store.add_render(a_render(1))
    with mounted("--bind", store.folder / "images", store.folder / "images") as bound:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(bound)], check=True)
        with pytest.raises(StoreError, match="is read-only; expected"):
            store.add_render(a_render(2))
        assert store.find_render(done.plan.id, "fake") == done
    assert store.add_render(a_render(2)).id == 2


def test_an_image_that_cannot_be_synced_leaves_no_row_and_no_temporary(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    def fail_for_temporaries(descriptor: int) -> None:
        if temporaries := list(folder.glob("images/*/.*.part")):
            seen.extend(temporaries)
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail_for_temporaries)
        with pytest.raises(StoreError, match="Input/output error"):
            store.add_render(a_render(1))
    assert len(seen) == 1
    assert store.counts()["renders"] == 0
    assert not [path for path in folder.glob("images/*/*") if path.is_file()]
