"""`sosie model fetch`: sources, what hubs say, a recipe's files, and the way of a file into the workspace."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile import Hostile, Served, hostile
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from sosie.api.downloads import Fetched, fetch, list_files
from sosie.core import Progress
from sosie.core.errors import UsageError
from sosie.fetch.hubs import Hubs
from sosie.fetch.resolve import resolve
from sosie.fetch.retries import DownloadError, RetryPolicy
from sosie.fetch.sources import CivitaiFile, HuggingFaceFile, LocalFile, Source, WebFile, parse_source, safe_name
from sosie.fetch.web import Web
from sosie.workspace.origin import origin_path, read_origin
from sosie.workspace.workspace import open_workspace

pytestmark = pytest.mark.once

Sosie = Callable[..., Any]

QUICK = RetryPolicy(tries=2, wait=0.01, longest=0.02, stall=2.0)
COMMIT = "c" * 40
UPSCALER = save(
    {"model.0.weight": np.ones((4, 3, 3, 3), "f4"), "model.1.sub.0.RDB1.conv1.0.weight": np.ones((2, 4, 3, 3), "f4")}
)
SHA = hashlib.sha256(UPSCALER).hexdigest()

RECIPE = """
name = "tiny"
prompt = "{prompt}"
width = 64
height = 64

[[stages]]
kind = "generate"
family = "sdxl"
model = "mini"

[[stages]]
kind = "upscale"
family = "esrgan"
model = "4x-tiny"

[[files]]
name = "4x-tiny"
role = "upscaler"
source = "hf:owner/repo:weights/4x tiny.safetensors"
"""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hostile]:
    """Hugging Face, with one repository whose file is in another host's storage."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with hostile() as server, hostile() as storage:
        server.storage = storage  # type: ignore[attr-defined]
        publish(server, UPSCALER)
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield server


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hostile]:
    """CivitAI, with the model 7 of two versions, 70 (new) and 30 (old); there is also a model 30."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with hostile() as server:
        new, old = version(70, "v2", UPSCALER, 7), version(30, "v1", b"old", 7)
        other = version(300, "only", b"other", 30)
        for number, name, versions in ((7, "Big Model", (new, old)), (30, "Other Model", (other,))):
            say(
                server,
                f"models/{number}",
                {"id": number, "name": name, "allowCommercialUse": ["Image"], "modelVersions": versions},
            )
        for one in (new, old, other):
            say(server, f"model-versions/{one['id']}", one)
        say(server, f"model-versions/by-hash/{hashlib.sha256(b'old').hexdigest()}", old)
        server.files["/api/download/models/70"] = Served(UPSCALER)
        monkeypatch.setenv("CIVITAI_ENDPOINT", server.url)
        monkeypatch.delenv("CIVITAI_TOKEN", raising=False)
        yield server


def say(server: Hostile, path: str, table: Any) -> None:
    server.files[f"/api/v1/{path}"] = Served(json.dumps(table).encode(), kind="application/json")


def version(number: int, name: str, data: bytes, model: int) -> dict[str, Any]:
    file = {
        "id": number * 10,
        "name": f"{name}.safetensors",
        "type": "Model",
        "sizeKB": len(data) / 1024,
        "hashes": {"SHA256": hashlib.sha256(data).hexdigest().upper()},
        "metadata": {"format": "SafeTensor", "fp": "fp16"},
        "primary": True,
    }
    return {"id": number, "modelId": model, "name": name, "baseModel": "SDXL 1.0", "files": [file]}


def publish(hub: Hostile, data: bytes, name: str = "weights/4x%20tiny.safetensors", gated: Any = False) -> None:
    """Puts a file on the hub: its head redirects to the storage."""
    sha256 = hashlib.sha256(data).hexdigest()
    storage: Hostile = hub.storage  # type: ignore[attr-defined]
    storage.files[f"/{sha256}?sig=s3cret"] = Served(data)
    head = {
        "X-Repo-Commit": COMMIT,
        "X-Linked-Size": str(len(data)),
        "X-Linked-Etag": f'"{sha256}"',
        "Location": f"{storage.url}/{sha256}?sig=s3cret",
    }
    for revision in ("main", COMMIT):
        hub.files[f"/owner/repo/resolve/{revision}/{name}"] = Served(first=[(302, head, b"")] * 99)
    say_hub = {"id": "owner/repo", "sha": COMMIT, "gated": gated, "cardData": {"license": "apache-2.0"}}
    hub.files[f"/api/models/owner/repo/revision/{COMMIT}"] = Served(
        json.dumps(say_hub).encode(), kind="application/json"
    )


def ask(text: str, sha256: str = "") -> Source:
    hubs = Hubs.from_environment()
    address = parse_source(text, hubs)
    assert not isinstance(address, LocalFile)
    with Web(hubs, QUICK) as web:
        return resolve(web, address, sha256)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A workspace with the recipe `tiny`."""
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "tiny.toml").write_text(RECIPE)
    return tmp_path


# What is written


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("hf:owner/repo:a.safetensors", HuggingFaceFile("owner/repo", "a.safetensors")),
        ("hf:o-w.n/re_po@refs/pr/1:sub/a b.bin", HuggingFaceFile("o-w.n/re_po", "sub/a b.bin", "refs/pr/1")),
        ("https://huggingface.co/o/r/resolve/main/s/a.bin?download=true", HuggingFaceFile("o/r", "s/a.bin")),
        ("https://huggingface.co/o/r/blob/abc/a%20b.bin", HuggingFaceFile("o/r", "a b.bin", "abc")),
        ("civitai:12345", CivitaiFile(12345)),
        ("civitai:1@2", CivitaiFile(model=1, version=2)),
        ("civitai:1@2:x.pt", CivitaiFile(model=1, version=2, file="x.pt")),
        ("civitai:" + "A" * 64, CivitaiFile(sha256="a" * 64)),
        ("https://civitai.com/models/7/big-model?modelVersionId=30", CivitaiFile(model=7, version=30)),
        ("https://civitai.com/models/7", CivitaiFile(model=7)),
        ("https://civitai.com/api/download/models/30?fp=fp16", CivitaiFile(version=30, traits=(("fp", "fp16"),))),
        (
            "https://civitai.com/api/download/models/30?new=1",
            WebFile("https://civitai.com/api/download/models/30?new=1"),
        ),
        ("https://example.org/a.bin", WebFile("https://example.org/a.bin")),
        ("models/a.bin", LocalFile("models/a.bin")),
        ("C:\\models\\a.bin", LocalFile("C:\\models\\a.bin")),
    ],
)
def test_a_source_means_what_is_written(text: str, address: object) -> None:
    assert parse_source(text, Hubs()) == address


@pytest.mark.parametrize(
    "text",
    [
        "hf:owner:a",
        "hf:o/r:",
        "hf:o/r:../a",
        "hf:../r:a",
        "hf:o/r@../x:a",
        "hf:o/r:a/./b",
        "civitai:abc",
        "civitai:",
        "ftp://x/y",
        "",
        "https://",
        "https://u:p4ss@h/x",
        "https://h:99999/x",
        "https://civitai.com/api/download/models/1?token=p4ss",
    ],
)
def test_a_source_that_is_written_wrong_is_refused_without_its_secrets(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_source(text, Hubs())
    assert "p4ss" not in caught.value.message + caught.value.hint


def test_names_that_servers_give_lead_nowhere() -> None:
    assert safe_name("../../evil.safetensors") == "evil.safetensors"
    assert safe_name("C:\\Windows\\evil.bin") == "evil.bin"
    assert safe_name("a\x00b\n.bin. ") == "ab.bin"
    assert safe_name("x" * 300 + ".safetensors") == "x" * 188 + ".safetensors"
    for text in ("", "..", "/", ".bashrc", "a/..", "con.bin", "\x00", "dir/"):
        with pytest.raises(UsageError):
            safe_name(text)


@given(st.text())
def test_no_name_has_folders_control_characters_or_a_leading_dot(text: str) -> None:
    try:
        name = safe_name(text)
    except UsageError:
        return
    assert 0 < len(name) <= 200
    assert not re.search(r"[/\\:\x00-\x1f]", name)
    assert not name.startswith(".")


def test_sources_show_no_query() -> None:
    source = WebFile("https://h/a.bin?X-Amz-Signature=s3cret")
    assert "s3cret" not in repr(source) + str(source)


# What hubs say


def test_hugging_face_tells_size_hash_commit_and_licence_without_the_file(hub: Hostile) -> None:
    source = ask("hf:owner/repo:weights/4x tiny.safetensors")
    assert source.text == f"hf:owner/repo@{COMMIT}:weights/4x tiny.safetensors"
    assert (source.size, source.sha256) == (len(UPSCALER), SHA)
    assert (source.name, source.licence, source.commercial) == ("4x tiny.safetensors", "apache-2.0", "yes")
    assert COMMIT in source.url
    assert source.token == ""
    assert hub.storage.asked == []  # type: ignore[attr-defined]


def test_a_gated_repository_names_the_token(hub: Hostile) -> None:
    publish(hub, UPSCALER, gated="auto")
    assert ask("hf:owner/repo:weights/4x tiny.safetensors").token == "HF_TOKEN"


def test_what_hugging_face_does_not_have_is_said(hub: Hostile) -> None:
    with pytest.raises(DownloadError) as caught:
        ask("hf:owner/repo:nothing.bin")
    assert caught.value.code == "SOS-N004"
    hub.files["/no/body/resolve/main/a.bin"] = Served(first=[(401, {"X-Error-Code": "RepoNotFound"}, b"")])
    with pytest.raises(DownloadError) as caught:
        ask("hf:no/body:a.bin")
    assert caught.value.code == "SOS-N002"
    assert "no such repository, or it is private" in caught.value.message


def test_civitai_names_the_version(site: Hostile) -> None:
    source = ask("civitai:70")
    assert source.text == "civitai:7@70"
    assert source.title == "Big Model, version 'v2' (SDXL 1.0)"
    assert (source.size, source.sha256, source.name) == (len(UPSCALER), SHA, "v2.safetensors")
    assert source.commercial == "yes"
    assert source.url == f"{site.url}/api/download/models/70"
    assert ask("civitai:7").text == "civitai:7@70"
    assert ask("civitai:7@30").title == "Big Model, version 'v1' (SDXL 1.0)"
    assert ask(f"{site.url}/models/30/other").text == "civitai:30@300"


def test_a_number_that_is_a_model_and_a_version_is_not_guessed(site: Hostile) -> None:
    with pytest.raises(UsageError) as caught:
        ask("civitai:30")
    assert "civitai:7@30 is Big Model, version 'v1'" in caught.value.message
    assert "civitai:30@300 is Other Model" in caught.value.message
    old, other = (hashlib.sha256(data).hexdigest() for data in (b"old", b"other"))
    assert ask("civitai:30", old).text == "civitai:7@30"
    assert ask("civitai:30", other).text == "civitai:30@300"


def test_a_known_hash_finds_the_older_version(site: Hostile) -> None:
    old = hashlib.sha256(b"old").hexdigest()
    assert ask("civitai:7", old).text == "civitai:7@30"
    assert ask(f"civitai:{old}").text == "civitai:7@30"


def test_a_version_of_another_model_is_an_error(site: Hostile) -> None:
    with pytest.raises(UsageError, match=r"belongs to civitai:7@30"):
        ask("civitai:30@30")
    with pytest.raises(DownloadError) as caught:
        ask("civitai:999")
    assert caught.value.code == "SOS-N004"


def test_of_several_files_one_is_named(site: Hostile) -> None:
    one = version(70, "v2", UPSCALER, 7)
    small = {**one["files"][0], "id": 5, "name": "small.safetensors", "primary": False, "metadata": {"fp": "fp8"}}
    one["files"] = [{**one["files"][0], "primary": False}, small]
    say(site, "model-versions/70", one)
    with pytest.raises(UsageError, match=r"v2\.safetensors, small\.safetensors"):
        ask("civitai:7@70")
    source = ask("civitai:7@70:small.safetensors")
    assert source.text == "civitai:7@70:small.safetensors"
    assert source.url.endswith("/70?fileId=5")
    assert ask(f"{site.url}/api/download/models/70?fp=fp8").name == "small.safetensors"


def test_an_address_is_called_as_its_server_calls_it(hub: Hostile) -> None:
    hub.files["/d/77"] = Served(b"x" * 10, headers={"Content-Disposition": 'attachment; filename="../up.safetensors"'})
    source = ask(f"{hub.url}/d/77")
    assert (source.name, source.size, source.sha256) == ("up.safetensors", 10, "")


# A recipe's files


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.local
def test_a_recipe_lists_every_file_and_fetches_what_is_missing(sosie: Sosie, hub: Hostile, recipe: Path) -> None:
    listed = sosie("model", "fetch", "tiny", "--list", "--json", "--workspace", recipe)
    assert listed.code == 0, listed.err
    tiny, mini = rows(listed.out)
    assert tiny["name"] == "4x-tiny"
    assert tiny["source"] == f"hf:owner/repo@{COMMIT}:weights/4x tiny.safetensors"
    assert (tiny["state"], tiny["bytes"], tiny["sha256"], tiny["licence"]) == (
        "missing",
        len(UPSCALER),
        SHA,
        "apache-2.0",
    )
    assert (mini["name"], mini["state"]) == ("mini", "here")

    fetched = sosie("model", "fetch", "tiny", "--yes", "--json", "--workspace", recipe)
    by_name = {row["name"]: row for row in rows(fetched.out)}
    assert by_name["4x-tiny"]["state"] == "fetched"
    path = recipe / "models" / "4x-tiny.safetensors"
    assert by_name["4x-tiny"]["path"] == str(path)
    assert path.read_bytes() == UPSCALER
    origin = read_origin(path)
    assert origin is not None
    assert (origin.source, origin.licence, origin.sha256) == (tiny["source"], "apache-2.0", SHA)
    assert {file.name for file in path.parent.iterdir()} == {path.name, origin_path(path).name}

    hub.files.clear()
    again = sosie("model", "fetch", "tiny", "--workspace", recipe)
    assert (again.code, again.out) == (0, "")
    models = sosie("model", "list", "--json", "--workspace", recipe)
    assert {row["name"] for row in rows(models.out)} >= {"4x-tiny", "mini"}
    assert not any("origin" in row["name"] for row in rows(models.out))


def test_the_table_counts_gb_and_gib(sosie: Sosie, hub: Hostile, recipe: Path) -> None:
    file = recipe / "recipes" / "tiny.toml"
    hub.files.clear()
    file.write_text(RECIPE + 'bytes = 6938040682\nlicence = "openrail++"\ncommercial = "yes"\n')
    result = sosie("model", "fetch", "tiny", "--list", "--workspace", recipe)
    line = next(line for line in result.out.splitlines() if line.startswith("4x-tiny"))
    assert line.split()[1:5] == ["missing", "6.94", "6.46", "?"]
    assert "yes  openrail++; hf:owner/repo:weights" in line
    assert result.code == 1
    assert "SOS-N004" in result.err


def test_without_a_terminal_yes_is_needed(sosie: Sosie, hub: Hostile, recipe: Path) -> None:
    result = sosie("model", "fetch", "tiny", "--workspace", recipe)
    assert result.code == 2
    assert "--yes" in result.err
    assert not (recipe / "models").exists()


def test_a_file_that_the_publisher_replaced_is_not_fetched(sosie: Sosie, hub: Hostile, recipe: Path) -> None:
    file = recipe / "recipes" / "tiny.toml"
    file.write_text(RECIPE + f'sha256 = "{"0" * 64}"\n')
    result = sosie("model", "fetch", "tiny", "--yes", "--workspace", recipe)
    assert result.code == 2
    assert "SOS-N007" in result.err
    assert not (recipe / "models").exists()


def test_a_file_for_another_purpose_is_found_out(sosie: Sosie, hub: Hostile, recipe: Path) -> None:
    file = recipe / "recipes" / "tiny.toml"
    file.write_text(RECIPE.replace('role = "upscaler"', 'role = "controlnet"'))
    result = sosie("model", "fetch", "tiny", "--yes", "--workspace", recipe)
    assert result.code == 1
    assert "SOS-N008" in result.err
    assert "upscaler of family esrgan; expected controlnet for esrgan or sdxl" in result.err


def test_a_folder_inside_an_embedded_model_is_here(sosie: Sosie, tmp_path: Path) -> None:
    result = sosie("model", "fetch", "mini", "--list", "--json", "--workspace", tmp_path)
    assert result.code == 0, result.err
    assert {row["name"]: row["state"] for row in rows(result.out)}["mini:controlnet"] == "here"


def test_a_failed_download_does_not_keep_the_others_from_coming(sosie: Sosie, hub: Hostile, recipe: Path) -> None:
    publish(hub, b"<html><title>Sorry</title></html>", "page.safetensors")
    page = '\n[[files]]\nname = "page"\nsource = "hf:owner/repo:page.safetensors"\n'
    (recipe / "recipes" / "tiny.toml").write_text(RECIPE.replace("[[files]]", page + "\n[[files]]"))
    result = sosie("model", "fetch", "tiny", "--yes", "--json", "--workspace", recipe)
    assert result.code == 2
    states = {row["name"]: row["state"] for row in rows(result.out)}
    assert (states["page"], states["4x-tiny"]) == ("failed", "fetched")
    assert "SOS-N003" in result.err
    assert "Sorry" in result.err


def test_a_file_without_a_source_is_yours_to_bring(sosie: Sosie, hub: Hostile, recipe: Path) -> None:
    (recipe / "recipes" / "tiny.toml").write_text(RECIPE.replace("source =", "# source ="))
    result = sosie("model", "fetch", "tiny", "--list", "--workspace", recipe)
    assert result.code == 1
    assert "SOS-N010" in result.err
    assert "sosie model fetch SOURCE --as 4x-tiny" in result.err


def test_a_hub_that_cannot_be_reached_is_asked_once(hub: Hostile, recipe: Path) -> None:
    more = '\n[[files]]\nname = "other"\nsource = "hf:owner/repo:other.bin"\n'
    (recipe / "recipes" / "tiny.toml").write_text(RECIPE + more)
    for path in list(hub.files):
        hub.files[path] = Served(first=[(503, {}, b"")] * 99)
    with Web(Hubs.from_environment(), QUICK) as web:
        listing = list_files(open_workspace(recipe), web, "tiny")
    assert [finding.code for finding in listing.findings] == ["SOS-N001", "SOS-N001"]
    assert len(hub.asked) == QUICK.tries
    assert listing.to_fetch == ()


def test_a_partial_download_is_listed_as_such(sosie: Sosie, hub: Hostile, recipe: Path) -> None:
    stored = next(iter(hub.storage.files.values()))  # type: ignore[attr-defined]
    stored.drop = [400, 0, 0, 0, 0, 0, 0, 0]
    workspace = open_workspace(recipe)
    with Web(Hubs.from_environment(), QUICK) as web:
        listing = list_files(workspace, web, "tiny")
        with pytest.raises(DownloadError):
            list(fetch(workspace, web, listing.to_fetch[0], listing.families))
        row = list_files(workspace, web, "tiny").rows[0]
    assert (row.state, row.have, row.bytes) == ("partial", 400, len(UPSCALER))


def test_a_fetch_yields_its_progress_and_then_the_file(
    hub: Hostile, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sosie.api.downloads.REFRESH_SECONDS", 0.0)
    workspace = open_workspace(recipe)
    with Web(Hubs.from_environment(), QUICK) as web:
        listing = list_files(workspace, web, "tiny")
        *moved, done = fetch(workspace, web, listing.to_fetch[0], listing.families)
    assert isinstance(done, Fetched)
    assert (done.row, done.path.stat().st_size) == (listing.to_fetch[0], len(UPSCALER))
    steps = [event for event in moved if isinstance(event, Progress)]
    assert steps == moved
    assert (steps[-1].done, steps[-1].total) == (len(UPSCALER), len(UPSCALER))
    assert steps[-1].what.startswith(f"{done.row.file.name}  0.00 of 0.00 GB  ")


def test_one_source_is_fetched_under_a_name(sosie: Sosie, site: Hostile, tmp_path: Path) -> None:
    result = sosie("model", "fetch", "civitai:70", "--as", "big", "--yes", "--workspace", tmp_path)
    assert result.code == 0, result.err
    assert result.out == f"{tmp_path / 'models' / 'big.safetensors'}\n"
    assert "Big Model, version 'v2' (SDXL 1.0)" in result.err
    again = sosie("model", "fetch", "civitai:70", "--as", "big", "--yes", "--workspace", tmp_path)
    assert (again.code, again.out) == (0, "")
    other = sosie("model", "fetch", "civitai:7@30", "--as", "big", "--yes", "--workspace", tmp_path)
    assert other.code == 2
    assert "SOS-N007" in other.err
    assert site.paths().count("/api/download/models/70") == 1


def test_a_path_is_copied_in(sosie: Sosie, hub: Hostile, tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes(UPSCALER)
    result = sosie("model", "fetch", "mine.safetensors", "--as", "own", "--yes", "--workspace", tmp_path)
    assert result.code == 1, result.err
    assert "SOS-N009" in result.err
    assert SHA in result.err
    assert (tmp_path / "models" / "own.safetensors").read_bytes() == UPSCALER
    assert hub.asked == []


@pytest.mark.parametrize("name", ["../out", ".hidden", "a/b", "a:b", "x" * 200])
def test_names_that_lead_elsewhere_are_refused(sosie: Sosie, site: Hostile, tmp_path: Path, name: str) -> None:
    result = sosie("model", "fetch", "civitai:70", "--as", name, "--yes", "--workspace", tmp_path)
    assert result.code == 2
    assert "is not a name" in result.err


def test_recipes_do_not_write_outside_the_workspace(sosie: Sosie, hub: Hostile, recipe: Path) -> None:
    file = recipe / "recipes" / "tiny.toml"
    for name in ("../evil", "mini:../../../evil", "/tmp/evil"):
        file.write_text(RECIPE.replace('name = "4x-tiny"', f'name = "{name}"'))
        result = sosie("model", "fetch", "tiny", "--yes", "--workspace", recipe)
        assert result.code == 2
        assert "leads out of the workspace" in result.err


def test_what_is_no_recipe_no_source_and_no_file_is_said(sosie: Sosie, hub: Hostile, recipe: Path) -> None:
    result = sosie("model", "fetch", "tinny", "--workspace", recipe)
    assert result.code == 2
    assert "did you mean 'tiny'?" in result.err
    assert sosie("model", "fetch", "tiny", "--as", "x", "--workspace", recipe).code == 2


def test_a_disk_that_is_too_small_for_all_is_said_before_the_first(
    sosie: Sosie, hub: Hostile, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    usage = shutil.disk_usage(recipe)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000_000))
    result = sosie("model", "fetch", "tiny", "--yes", "--workspace", recipe)
    assert result.code == 2
    assert "SOS-N005" in result.err
    assert not (recipe / "models").exists()


@pytest.mark.local
def test_a_published_pickle_is_converted_and_goes(sosie: Sosie, hub: Hostile, tmp_path: Path) -> None:
    import io

    import torch
    from safetensors.torch import load

    stream = io.BytesIO()
    torch.save(load(UPSCALER), stream)
    publish(hub, stream.getvalue(), "4x.pth")
    result = sosie("model", "fetch", "hf:owner/repo:4x.pth", "--as", "up", "--yes", "--json", "--workspace", tmp_path)
    assert result.code == 0, result.err
    path = tmp_path / "models" / "up.safetensors"
    assert set(load(path.read_bytes())) == set(load(UPSCALER))
    assert {file.name for file in path.parent.iterdir()} == {path.name, origin_path(path).name}
    (line,) = rows(result.out)
    assert line["sha256"] == hashlib.sha256(stream.getvalue()).hexdigest()
    assert line["converted"] == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["evil.bin", "evil.safetensors"])
def test_a_pickle_that_runs_code_is_refused_and_never_run(
    sosie: Sosie, hub: Hostile, tmp_path: Path, name: str
) -> None:
    import pickle

    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (marker,))

    publish(hub, pickle.dumps(Evil(), protocol=2), name)
    result = sosie("model", "fetch", f"hf:owner/repo:{name}", "--yes", "--workspace", tmp_path)
    assert result.code != 0
    assert "SOS-K0" in result.err
    assert not marker.exists()
    assert not list((tmp_path / "models").glob("*.safetensors"))


@pytest.mark.parametrize("pickled", [False, True])
def test_a_fetch_that_was_killed_before_its_origin_was_written_is_gone_on_with(
    sosie: Sosie, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pickled: bool
) -> None:
    if pickled:
        torch = pytest.importorskip("torch")
        source = tmp_path / "given.pth"
        torch.save({"weight": torch.zeros(8)}, source)
    else:
        source = tmp_path / "given.safetensors"
        source.write_bytes(save({"weight": np.zeros(8, np.float32)}))
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    words = ("model", "fetch", source, "--as", "mine", "--yes", "--workspace", workspace)

    def killed(*_: object) -> list[object]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sosie.api.downloads.check_fetched", killed)
        assert sosie(*words).code == 130
    assert (workspace / "models/mine.safetensors").exists()
    done = sosie(*words)
    assert done.code in (0, 1), done.err
    origin = read_origin(workspace / "models/mine.safetensors")
    assert origin is not None
    assert origin.fetched
    assert bool(origin.converted) == pickled
    left = sorted(path.name for path in (workspace / "models").iterdir())
    assert left == [".mine.safetensors.origin.json", "mine.safetensors"]
