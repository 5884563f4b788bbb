"""Downloads from servers that drop, truncate and lie; tokens; sources; the kill."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hostile import Hostile, Served, hostile

from sosie.core import Progress
from sosie.core.errors import UsageError
from sosie.fetch import part_file
from sosie.fetch.download import Downloaded, Wanted, download, downloading
from sosie.fetch.hubs import Hubs
from sosie.fetch.part_file import part_path, partial_bytes, sidecar_path
from sosie.fetch.retries import DownloadError, RetryPolicy
from sosie.fetch.web import Web

pytestmark = pytest.mark.once

QUICK = RetryPolicy(tries=3, wait=0.01, longest=0.02, longest_asked=1.0, stall=2.0)
DATA = random.Random(1).randbytes(3_000_000)
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server() -> Iterator[Hostile]:
    with hostile() as running:
        yield running


@pytest.fixture
def other() -> Iterator[Hostile]:
    with hostile() as running:
        yield running


@pytest.fixture(autouse=True)
def _no_proxy_and_no_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    for name in ("HF_TOKEN", "CIVITAI_TOKEN", "HF_ENDPOINT", "CIVITAI_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


class Fetch(NamedTuple):
    server: Hostile
    path: Path

    def __call__(self, sha256: str = SHA, size: int | None = len(DATA), hubs: Hubs | None = None) -> Downloaded:
        with Web(hubs or Hubs(), QUICK) as web:
            return download(web, Wanted(f"{self.server.url}/model", "the model", size, sha256), self.path)

    def refused(self, sha256: str = SHA, size: int | None = len(DATA), hubs: Hubs | None = None) -> DownloadError:
        with pytest.raises(DownloadError) as caught:
            self(sha256, size, hubs)
        return caught.value

    def is_gone(self) -> bool:
        """Neither the file nor anything of it is there."""
        return list(self.path.parent.iterdir()) == []

    def ranges(self) -> list[str]:
        return [asked.headers.get("range", "") for asked in self.server.asked]


@pytest.fixture
def fetch(server: Hostile, tmp_path: Path) -> Fetch:
    server.files["/model"] = Served(DATA)
    (tmp_path / "models").mkdir()
    return Fetch(server, tmp_path / "models" / "model.safetensors")


def served(server: Hostile) -> Served:
    found = server.files["/model"]
    assert isinstance(found, Served)
    return found


def test_a_file_arrives_whole_with_nothing_left_beside_it(fetch: Fetch) -> None:
    done = fetch()
    assert done == Downloaded(fetch.path, len(DATA), SHA, len(DATA))
    assert fetch.path.read_bytes() == DATA
    assert list(fetch.path.parent.iterdir()) == [fetch.path]
    assert fetch().received == 0
    assert len(fetch.server.asked) == 1


def test_progress_counts_up_to_the_size(fetch: Fetch) -> None:
    with Web(Hubs(), QUICK) as web:
        steps = list(downloading(web, Wanted(f"{fetch.server.url}/model", "x"), fetch.path))
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert steps[-1] == Progress("x", len(DATA), len(DATA))


def test_a_download_that_is_closed_goes_on_where_it_was(fetch: Fetch) -> None:
    with Web(Hubs(), QUICK) as web:
        steps = downloading(web, Wanted(f"{fetch.server.url}/model", "the model", len(DATA), SHA), fetch.path)
        there = next(steps).done
        steps.close()
    assert not fetch.path.exists()
    assert fetch().bytes == len(DATA)
    assert fetch.ranges() == ["", f"bytes={there:.0f}-"]


def test_a_line_that_drops_many_times_goes_on_where_it_was(fetch: Fetch) -> None:
    served(fetch.server).drop = [1_200_000, 1_100_000, 700_000]
    assert fetch().received == len(DATA)
    assert fetch.path.read_bytes() == DATA
    assert fetch.ranges() == ["", "bytes=1200000-", "bytes=2300000-"]
    assert fetch.server.sent == len(DATA)


def test_drops_without_progress_end_and_what_came_stays(fetch: Fetch) -> None:
    served(fetch.server).drop = [500_000, 0, 0, 0, 0, 0]
    error = fetch.refused()
    assert error.code == "SOS-N001"
    assert "broke off" in error.message
    assert len(fetch.server.asked) == QUICK.tries
    assert not fetch.path.exists()
    assert partial_bytes(fetch.path) == 500_000
    served(fetch.server).drop = None
    assert fetch().received == len(DATA) - 500_000
    assert fetch.path.read_bytes() == DATA


def test_a_server_that_ignores_ranges_and_always_drops_is_given_up(fetch: Fetch) -> None:
    served(fetch.server).ranges = False
    served(fetch.server).drop = 2_000_000
    assert fetch.refused().code == "SOS-N001"
    assert len(fetch.server.asked) <= 2 * QUICK.tries


def test_a_server_that_ignores_ranges_is_read_from_the_beginning(fetch: Fetch) -> None:
    served(fetch.server).ranges = False
    served(fetch.server).drop = [2_000_000]
    assert fetch().received == 2_000_000 + len(DATA)
    assert fetch.path.read_bytes() == DATA


def test_a_truncated_file_on_the_server_is_refused_before_its_body(fetch: Fetch) -> None:
    served(fetch.server).data = DATA[:1_000_000]
    error = fetch.refused()
    assert error.code == "SOS-N003"
    assert "1,000,000 bytes, expected 3,000,000 bytes" in error.message
    assert fetch.is_gone()


def test_a_length_longer_than_the_body_is_a_broken_line_unless_the_hash_says_that_it_is_whole(fetch: Fetch) -> None:
    served(fetch.server).length = len(DATA) + 10
    assert fetch.refused(size=None, sha256="").code == "SOS-N001"
    assert not fetch.path.exists()
    assert fetch(size=None).sha256 == SHA


def test_a_body_that_never_ends_is_cut_at_the_declared_size(fetch: Fetch) -> None:
    served(fetch.server).data = DATA * 40
    served(fetch.server).chunked = True
    error = fetch.refused()
    assert error.code == "SOS-N003"
    assert "more than the 3,000,000 bytes" in error.message
    assert fetch.server.sent < 40 * len(DATA)
    assert fetch.is_gone()


def test_an_endless_body_of_unknown_size_stops_when_the_disk_fills(
    fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_file, "CHECKPOINT", 500_000)
    served(fetch.server).data = DATA * 40
    served(fetch.server).chunked = True
    free = iter([5_000_000_000] * 4)
    usage = shutil.disk_usage(fetch.path.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=next(free, 900_000_000)))
    error = fetch.refused(sha256="", size=None)
    assert error.code == "SOS-N005"
    assert part_path(fetch.path).stat().st_size < 3_000_000


def test_a_chunked_body_that_breaks_off_is_not_taken_for_the_whole(fetch: Fetch) -> None:
    served(fetch.server).chunked = True
    served(fetch.server).drop = [1_500_000, 0, 0, 0]
    assert fetch.refused(sha256="", size=None).code == "SOS-N001"
    assert not fetch.path.exists()
    served(fetch.server).drop = None
    assert fetch(sha256="", size=None) == Downloaded(fetch.path, len(DATA), SHA, len(DATA) - 1_500_000)


def test_another_version_between_two_tries_starts_anew(fetch: Fetch) -> None:
    new = DATA[::-1]

    def change(file: Served) -> None:
        if len(fetch.server.asked) == 2:
            file.data, file.etag = new, '"two"'

    served(fetch.server).before = change
    served(fetch.server).drop = [2_000_000]
    assert fetch(sha256="").sha256 == hashlib.sha256(new).hexdigest()
    assert fetch.path.read_bytes() == new
    assert fetch.server.asked[1].headers["if-range"] == '"one"'


def test_a_server_that_goes_on_with_another_version_is_caught_by_its_etag(fetch: Fetch) -> None:
    new = DATA[::-1]

    def change(file: Served) -> None:
        if len(fetch.server.asked) == 2:
            file.data, file.etag = new, '"two"'
            fetch.server.asked[1].headers.pop("if-range")  # seen, and not heeded

    original = Hostile._file
    try:
        Hostile._file = lambda self, handler, file, asked: original(  # type: ignore[method-assign]
            self, handler, file, {key: value for key, value in asked.items() if key != "if-range"}
        )
        served(fetch.server).before = change
        served(fetch.server).drop = [2_000_000]
        assert fetch(sha256="").sha256 == hashlib.sha256(new).hexdigest()
    finally:
        Hostile._file = original  # type: ignore[method-assign]


def test_a_range_that_is_not_the_one_asked_for_starts_anew(fetch: Fetch) -> None:
    served(fetch.server).drop = [1_000_000]
    served(fetch.server).only_range = f"bytes 999999-{len(DATA) - 1}/{len(DATA)}"
    fetch()
    assert fetch.path.read_bytes() == DATA
    assert fetch.ranges() == ["", "bytes=1000000-", ""]


def test_a_wrong_hash_names_both_and_leaves_nothing(fetch: Fetch) -> None:
    served(fetch.server).data = DATA[::-1]
    error = fetch.refused()
    assert error.code == "SOS-N003"
    assert SHA in error.message
    assert hashlib.sha256(DATA[::-1]).hexdigest() in error.message
    assert fetch.is_gone()
    assert len(fetch.server.asked) == 1


def test_pieces_that_do_not_fit_together_are_fetched_once_more_and_only_once(fetch: Fetch) -> None:
    def other_bytes_once(file: Served) -> None:
        file.data = DATA[::-1] if len(fetch.server.asked) == 1 else DATA

    served(fetch.server).before = other_bytes_once
    served(fetch.server).drop = [1_000_000]
    assert fetch().received == 2 * len(DATA)
    assert fetch.path.read_bytes() == DATA

    fetch.path.unlink()
    fetch.server.asked.clear()
    served(fetch.server).before = None
    served(fetch.server).data = DATA[::-1]
    served(fetch.server).drop = [1_000_000, None, 1_000_000]
    assert fetch.refused().code == "SOS-N003"
    assert fetch.ranges() == ["", "bytes=1000000-", "", "bytes=1000000-"]


def test_without_validator_and_hash_nothing_is_resumed(fetch: Fetch) -> None:
    served(fetch.server).etag = 'W/"weak"'
    served(fetch.server).drop = [1_000_000]
    fetch(sha256="")
    assert fetch.ranges() == ["", ""]
    assert fetch.path.read_bytes() == DATA


def test_a_date_validates_where_there_is_no_strong_etag(fetch: Fetch) -> None:
    served(fetch.server).etag = 'W/"weak"'
    served(fetch.server).modified = "Wed, 21 Oct 2015 07:28:00 GMT"
    served(fetch.server).drop = [1_000_000]
    fetch(sha256="")
    assert fetch.server.asked[1].headers["if-range"] == "Wed, 21 Oct 2015 07:28:00 GMT"
    assert fetch.server.sent == len(DATA)


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
def test_a_web_page_with_status_200_is_refused_with_its_title(fetch: Fetch, kind: str) -> None:
    page = b"<!DOCTYPE html><html><head><title>Log in | Hub</title></head>" + b" " * 10_000 + b"</html>"
    served(fetch.server).data = page
    served(fetch.server).kind = kind
    error = fetch.refused(sha256="", size=None)
    assert error.code == "SOS-N003"
    assert "a web page ('Log in | Hub') in place of the file" in error.message
    assert fetch.is_gone()


def test_json_and_lfs_pointers_are_refused(fetch: Fetch) -> None:
    served(fetch.server).data = b'{"error":"Unauthorized","message":"log in"}'
    served(fetch.server).kind = "application/json"
    assert '{"error":"Unauthorized"' in fetch.refused(sha256="", size=None).message
    served(fetch.server).data = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"
    served(fetch.server).kind = "text/plain"
    error = fetch.refused(sha256="", size=None)
    assert "Git LFS pointer" in error.message
    assert "/resolve/" in error.hint
    assert fetch.is_gone()


def test_a_compressed_body_is_refused(fetch: Fetch) -> None:
    served(fetch.server).headers = {"Content-Encoding": "gzip"}
    assert "compressed" in fetch.refused(sha256="", size=None).message
    assert fetch.server.asked[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("status", "code", "tries"),
    [(404, "SOS-N004", 1), (410, "SOS-N004", 1), (401, "SOS-N002", 1), (403, "SOS-N002", 1), (400, "SOS-N001", 1)]
    + [(status, "SOS-N001", QUICK.tries) for status in (408, 429, 500, 502, 503, 504)],
)
def test_refusals_end_at_once_and_busy_servers_are_asked_again(
    fetch: Fetch, status: int, code: str, tries: int
) -> None:
    served(fetch.server).first = [(status, {}, b"no")] * 9
    error = fetch.refused()
    assert error.code == code
    assert f"answered {status}" in error.message
    assert len(fetch.server.asked) == tries
    assert fetch.is_gone()


def test_retry_after_is_waited_for(fetch: Fetch) -> None:
    served(fetch.server).first = [(429, {"Retry-After": "1"}, b""), (503, {}, b"")]
    start = time.monotonic()
    fetch()
    assert 1.0 <= time.monotonic() - start < 2.0


def test_a_server_that_asks_for_an_hour_is_not_waited_for(fetch: Fetch) -> None:
    served(fetch.server).first = [(429, {"Retry-After": "3600"}, b"")]
    error = fetch.refused()
    assert "3,600 s" in error.hint
    assert len(fetch.server.asked) == 1


def test_a_server_that_falls_silent_is_asked_again(fetch: Fetch, tmp_path: Path) -> None:
    served(fetch.server).pause = 0.6
    served(fetch.server).piece = 1_500_000
    patience = RetryPolicy(tries=3, wait=0.01, longest=0.02, stall=0.3)

    def awake(file: Served) -> None:
        if len(fetch.server.asked) == 2:
            file.pause = 0.0

    served(fetch.server).before = awake
    with Web(Hubs(), patience) as web:
        done = download(web, Wanted(f"{fetch.server.url}/model", "x", len(DATA), SHA), fetch.path)
    assert done.bytes == len(DATA)
    assert fetch.ranges() == ["", "bytes=1500000-"]


def test_no_server_at_all_is_an_error_that_names_the_host(fetch: Fetch) -> None:
    fetch.server.close()
    error = fetch.refused()
    assert error.code == "SOS-N001"
    assert "127.0.0.1: no connection" in error.message
    assert fetch.is_gone()


def test_too_little_room_is_said_before_anything_is_asked(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(fetch.path.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_002_999_999))
    error = fetch.refused()
    assert error.code == "SOS-N005"
    assert fetch.server.asked == []
    assert fetch.is_gone()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_003_000_000))
    assert fetch().bytes == len(DATA)


def test_a_file_that_is_there_is_kept_and_another_is_not_overwritten(fetch: Fetch) -> None:
    fetch.path.write_bytes(b"mine")
    error = fetch.refused()
    assert error.code == "SOS-N003"
    assert "4 bytes" in error.message
    assert fetch.path.read_bytes() == b"mine"
    assert list(fetch.path.parent.iterdir()) == [fetch.path]


# Tokens


def test_a_token_goes_to_its_own_host_and_not_to_where_it_redirects(fetch: Fetch, other: Hostile) -> None:
    served(fetch.server).first = [(302, {"Location": f"{other.url}/store?signature=s3cret"}, b"")]
    other.files["/store?signature=s3cret"] = Served(DATA, drop=[100_000])
    served(fetch.server).first *= 2
    hubs = Hubs(huggingface=fetch.server.url, huggingface_token="hf_s3cret")
    fetch(hubs=hubs)
    assert [asked.headers.get("authorization") for asked in fetch.server.asked] == ["Bearer hf_s3cret"] * 2
    assert [asked.headers.get("authorization") for asked in other.asked] == [None, None]
    assert fetch.path.read_bytes() == DATA


def test_the_two_tokens_do_not_go_to_each_others_hub(server: Hostile, other: Hostile, tmp_path: Path) -> None:
    hubs = Hubs(server.url, other.url, "hf_token", "civitai_token")
    server.files["/a"] = Served(first=[(302, {"Location": f"{other.url}/b"}, b"")])
    other.files["/b"] = Served(DATA)
    with Web(hubs, QUICK) as web:
        download(web, Wanted(f"{server.url}/a", "x"), tmp_path / "a.bin")
    assert server.asked[0].headers["authorization"] == "Bearer hf_token"
    assert other.asked[0].headers["authorization"] == "Bearer civitai_token"


def test_secrets_stand_in_no_message_and_no_sidecar(fetch: Fetch, other: Hostile) -> None:
    hubs = Hubs(huggingface=fetch.server.url, huggingface_token="hf_s3cret")
    location = {"Location": f"{other.url}/store?X-Amz-Signature=s3cret"}
    served(fetch.server).first = [(302, location, b"")] * 9
    other.files["/store?X-Amz-Signature=s3cret"] = Served(DATA, drop=[100_000, 0, 0, 0])
    error = fetch.refused(hubs=hubs)
    left = sidecar_path(fetch.path).read_text()
    assert json.loads(left)["bytes"] == 100_000
    for text in (error.message, error.hint, left, repr(hubs)):
        assert "s3cret" not in text
    other.files["/store?X-Amz-Signature=s3cret"] = Served(first=[(403, {}, b"")] * 9)
    error = fetch.refused(hubs=hubs)
    assert "s3cret" not in error.message + error.hint


def test_a_refusal_names_the_variable_and_where_a_token_is_made(fetch: Fetch) -> None:
    served(fetch.server).first = [(401, {"X-Error-Code": "GatedRepo"}, b"")] * 3
    without = fetch.refused(hubs=Hubs(huggingface=fetch.server.url))
    assert "HF_TOKEN is not set" in without.message
    assert "agree to the terms" in without.hint
    sent = fetch.refused(hubs=Hubs(huggingface=fetch.server.url, huggingface_token="t"))
    assert "though HF_TOKEN was sent" in sent.message
    nowhere = fetch.refused()
    assert "TOKEN" not in nowhere.message + nowhere.hint


def test_a_redirect_to_a_login_page_asks_for_the_token(fetch: Fetch, other: Hostile) -> None:
    served(fetch.server).first = [(307, {"Location": f"{other.url}/login?reason=download-auth"}, b"")]
    error = fetch.refused(hubs=Hubs(civitai=fetch.server.url))
    assert error.code == "SOS-N002"
    assert "CIVITAI_TOKEN is not set" in error.message
    assert other.asked == []


def test_redirects_in_circles_end(fetch: Fetch) -> None:
    served(fetch.server).first = [(302, {"Location": "/model"}, b"")] * 20
    assert "redirects more than" in fetch.refused().message


@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://me:pw@127.0.0.1/x", "http://127.0.0.1:99999/x"])
def test_redirects_to_other_things_than_addresses_are_refused(fetch: Fetch, location: str) -> None:
    served(fetch.server).first = [(302, {"Location": location}, b"")]
    error = fetch.refused()
    assert error.code == "SOS-N001"
    assert "pw" not in error.message


def test_a_token_is_sent_neither_in_the_clear_nor_with_a_line_break(monkeypatch: pytest.MonkeyPatch) -> None:
    with Web(Hubs(huggingface="http://hub.example", huggingface_token="s3cret"), QUICK) as web:
        with pytest.raises(UsageError) as caught, web.ask("http://hub.example/x"):
            pass
        assert "s3cret" not in caught.value.message
    monkeypatch.setenv("HF_TOKEN", "s3cret\nX-Evil: 1")
    with pytest.raises(UsageError) as caught:
        Hubs.from_environment()
    assert "s3cret" not in caught.value.message
    monkeypatch.setenv("HF_TOKEN", " good \n")
    assert Hubs.from_environment().huggingface_token == "good"


# Two processes, and a kill

CHILD = """
import sys
from pathlib import Path
from sosie.fetch.download import Wanted, download
from sosie.fetch.hubs import Hubs
from sosie.fetch.retries import RetryPolicy
from sosie.fetch.web import Web
with Web(Hubs(), RetryPolicy(tries=2, wait=0.01)) as web:
    download(web, Wanted(sys.argv[1], "x", int(sys.argv[2]), sys.argv[3]), Path(sys.argv[4]))
"""


def child(*arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *map(str, arguments)], env={**os.environ, "NO_PROXY": "127.0.0.1"}
    )


def test_a_killed_download_goes_on_and_sends_at_most_one_checkpoint_again(server: Hostile, tmp_path: Path) -> None:
    data = random.Random(2).randbytes(60_000_000)
    sha = hashlib.sha256(data).hexdigest()
    path = tmp_path / "big.safetensors"
    server.files["/big"] = Served(data, pause=0.004, piece=500_000)
    process = child(f"{server.url}/big", len(data), sha, path)
    until = time.monotonic() + 20
    while partial_bytes(path) < 2 * part_file.CHECKPOINT and time.monotonic() < until:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not path.exists()
    time.sleep(0.1)
    there, before = partial_bytes(path), server.sent
    assert there >= 2 * part_file.CHECKPOINT
    server.files["/big"] = Served(data)
    with Web(Hubs(), QUICK) as web:
        done = download(web, Wanted(f"{server.url}/big", "big", len(data), sha), path)
    assert server.asked[-1].headers["range"] == f"bytes={there}-"
    assert done.received == len(data) - there == server.sent - before
    again = before + done.received - len(data)
    print(f"killed at {before:,} bytes sent, {there:,} kept, {again:,} of {len(data):,} bytes sent again")
    assert again <= part_file.CHECKPOINT + 8_000_000  # what was on the way when it died is lost too
    assert path.read_bytes() == data
    assert list(tmp_path.iterdir()) == [path]


def test_two_processes_do_not_write_one_part(server: Hostile, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    server.files["/model"] = Served(DATA, pause=0.1)
    process = child(f"{server.url}/model", len(DATA), SHA, path)
    until = time.monotonic() + 20
    while not server.sent and time.monotonic() < until:
        time.sleep(0.01)
    try:
        error = Fetch(server, path).refused()
        assert error.code == "SOS-N006"
        assert "another process" in error.message
    finally:
        process.kill()
        process.wait()
    served(server).pause = 0.0
    assert Fetch(server, path)().sha256 == SHA


def test_a_part_that_is_not_what_was_checked_is_not_gone_on_with(fetch: Fetch) -> None:
    for damage in ("flip", "cut", "sidecar", "other hash"):
        served(fetch.server).drop = [500_000, 0, 0, 0, 0, 0]
        fetch.refused()
        part, sidecar = part_path(fetch.path), sidecar_path(fetch.path)
        if damage == "flip":
            part.write_bytes(b"\0" + part.read_bytes()[1:])
        elif damage == "cut":
            part.write_bytes(part.read_bytes()[:-1])
        elif damage == "sidecar":
            sidecar.write_text('{"bytes": 500000}')
        else:
            sidecar.write_text(sidecar.read_text().replace(SHA, "0" * 64))
        fetch.server.asked.clear()
        served(fetch.server).drop = None
        assert fetch().received == len(DATA), damage
        assert fetch.ranges() == [""]
        assert fetch.path.read_bytes() == DATA
        fetch.path.unlink()


def test_bytes_after_the_last_checkpoint_are_not_trusted(fetch: Fetch) -> None:
    served(fetch.server).drop = [500_000, 0, 0, 0, 0, 0]
    fetch.refused()
    with part_path(fetch.path).open("ab") as stream:
        stream.write(b"\0" * 1000)
    served(fetch.server).drop = None
    assert fetch().received == len(DATA) - 500_000
    assert fetch.path.read_bytes() == DATA


def test_a_part_that_is_complete_is_only_checked_and_named(fetch: Fetch) -> None:
    served(fetch.server).drop = [len(DATA) - 1, 0, 0, 0]
    fetch.refused()
    part, sidecar = part_path(fetch.path), sidecar_path(fetch.path)
    part.write_bytes(DATA)
    state = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps({**state, "bytes": len(DATA), "digest": SHA}))
    fetch.server.asked.clear()
    assert fetch().received == 0
    assert fetch.server.asked == []


def test_a_server_that_has_nothing_more_says_416(fetch: Fetch) -> None:
    served(fetch.server).drop = [1_000_000, 0, 0, 0]
    fetch.refused(size=None)
    served(fetch.server).data = DATA[:1_000_000]
    served(fetch.server).drop = None
    assert fetch.refused(size=len(DATA)).code == "SOS-N003"
    assert fetch.is_gone()


def test_help_and_doctor_do_not_load_the_http_client() -> None:
    code = "import sys\nsys.argv = ['sosie', 'model', 'fetch', '--help']\nfrom sosie.cli import main\n"
    code += "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
    code += "import sosie.api.doctor, sosie.doctor.explain\nsosie.doctor.explain.sections()\n"
    code += "assert not {'httpx2', 'torch'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "HF_TOKEN" in done.stdout
