"""Addresses as people may see them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sosie.core.address import conceal, show_address
from sosie.core.errors import UsageError
from sosie.core.finding import Rule

SECRET = "S3cr3t"


@pytest.mark.parametrize(
    ("typed", "seen"),
    [
        (f"http://anna:{SECRET}@host:8188/x", "http://host:8188/x"),
        (f"http://anna:{SECRET}/w@host/x", "http://host/x"),
        (f"http://anna:{SECRET}?w@host/x", "http://host/x"),
        (f"http://an:na@{SECRET}@host/x", "http://host/x"),
        (f"comfy:http://a:{SECRET}@h1:1,http://b:{SECRET}@h2:2/x?token={SECRET}", "comfy:http://h1:1,http://h2:2/x"),
        (f"comfy+ssh://anna:{SECRET}@host:22/f?key={SECRET}", "comfy+ssh://host:22/f"),
        (f"comfy+ssh://root:{SECRET}@host:22", "comfy+ssh://host:22"),
        (f"http://proxy/http://a:{SECRET}@host/x", "http://proxy/http://host/x"),
        (f"//a:{SECRET}@host/x#{SECRET}", "//host/x"),
        (f"https://host/image/upload/s--{SECRET}--/v1/x.jpg?a=1", "https://host/image/upload/.../v1/x.jpg"),
        (f"https://host/eyJhbGciOi.{SECRET}.x/a", "https://host/.../a"),
        (f"https://host/exp=1~hmac={SECRET}/a", "https://host/.../a"),
        (f"http://host:99999/x?sig={SECRET}", "http://host:99999/x"),
        (f"http://[::1/x?sig={SECRET}", "http://[::1/x"),
        (f"host/x?X-Amz-Signature={SECRET}", "host/x"),
        (f"anna:{SECRET}@host:8188", "...@host:8188"),
        ("https://huggingface.co/a/b/resolve/0123/x.safetensors", "https://huggingface.co/a/b/resolve/0123/x.safetensors"),
        (f"http:/anna:{SECRET}@host/x?token={SECRET}", "http:/host/x"),
        ("comfy+ssh://root@HOST:PORT", "comfy+ssh://root@HOST:PORT"),
    ],
)  # fmt: skip
def test_an_address_is_shown_without_what_may_be_secret(typed: str, seen: str) -> None:
    assert show_address(typed) == seen
    assert conceal(f"'{typed}' is not an engine") == f"'{seen}' is not an engine"
    error = UsageError(f"{typed}: tried 6 times", f"open {typed}")
    finding = Rule("SOS-R001", "error", "A recipe is not valid").at(typed, f"{typed} is gone", f"open {typed}")
    for text in (error.message, error.hint, str(error), finding.subject, finding.message, finding.hint):
        assert SECRET not in text
        assert "anna" not in text


@pytest.mark.parametrize(
    ("typed", "seen"),
    [
        (f"comfy+ssh://anna:{SECRET}@h:22/f?port=8189", "comfy+ssh://h:22/f?port=8189"),
        ("comfy+ssh://root@h?port=1,comfy+ssh://root@h?port=2", "comfy+ssh://root@h?port=1,comfy+ssh://root@h?port=2"),
        ("ssh:root@h:40022?python=/opt/bin/python", "ssh:root@h:40022?python=/opt/bin/python"),
        (f"ssh:{SECRET}@h:40022", "...@h:40022"),
        ("(comfy+ssh://...?port=NUMBER).", "(comfy+ssh://...?port=NUMBER)."),
        (f"comfy+ssh://h?port={SECRET}", "comfy+ssh://h"),
        (f"comfy+ssh://h?port=1&token={SECRET}", "comfy+ssh://h"),
        (f"comfy+ssh://h?port=1#{SECRET}", "comfy+ssh://h"),
        ("http://h/x?port=8188", "http://h/x"),
    ],
)  # fmt: skip
def test_the_port_behind_ssh_is_shown_and_nothing_else_of_a_query(typed: str, seen: str) -> None:
    assert conceal(typed) == seen


def test_an_address_typed_with_spaces_is_one_all_the_same() -> None:
    assert conceal(f"'http://an na:{SECRET} x@host/y' is none") == "'http://host/y' is none"


@pytest.mark.parametrize(
    "text",
    [
        "is it a workflow? yes", "hf:OWNER/REPO@REVISION:FILE", "civitai:12@34", "me@example.org", "a//b",
        "4:3 @ 25 fps",
        "https://host/@user/x", "file:///a/b", "C:\\a\\b", "'a' is not 'b'; did you mean 'c'?", "50 % of 3: fine",
    ],
)  # fmt: skip
def test_what_is_no_address_stays_as_it_is(text: str) -> None:
    assert conceal(text) == text


@given(st.text("a:/@?#'. =&;,[]-%\n", max_size=60))
def test_a_password_is_shown_nowhere(rest: str) -> None:
    assert SECRET not in conceal(f"{rest} http://anna:{SECRET}@host/x{rest}")
    show_address(rest)


@pytest.mark.parametrize("part", ["?", "//", "a:", "'://", "@", "?-", "/s--", "a//b@", "?sig", "-", "' "])
def test_a_long_message_takes_no_time(part: str) -> None:
    start = time.process_time()
    assert len(conceal(part * 100_000)) <= 20_010
    assert time.process_time() - start < 2
