"""The page's routes: what they answer, what they refuse, and that no path leads out of the workspace."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import random
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'sosie[studio]'")

from asgi import ask
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from renders import picture
from studio_page import HOST, READ, WRITE, Studio

from sosie.studio.app import OPENAPI, shell
from sosie.studio.routes import jobs as job_routes

STATIC = Path(__file__).parents[2] / "src/sosie/studio/static"


def png(image: Image.Image, **text: str) -> bytes:
    info = PngInfo()
    for key, value in text.items():
        info.add_text(key, value)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


# ---- images


def test_a_window_of_images_says_what_judges_and_people_said(studio: Studio) -> None:
    found = studio.json("/api/images?start=1&count=2&sort=oldest")
    assert (found["total"], found["start"]) == (6, 1)
    assert [one["sha256"] for one in found["images"]] == [one.sha256 for one in studio.stored[1:3]]
    first = found["images"][0]
    assert (first["verdict"], first["human"], first["stars"], first["seed"]) == (
        "keep", None, None, str(studio.stored[1].plan.seed)
    )  # fmt: skip
    dlib = next(score for score in first["scores"] if score["name"] == "dlib")
    assert (dlib["value"], dlib["reason"]) == (None, "not installed")


def test_a_person_s_verdict_stands_beside_the_machine_s(studio: Studio) -> None:
    sha256 = studio.stored[1].sha256
    assert studio.json("/api/opinions", {"images": [sha256], "verdict": "reject", "stars": 2}) == {"said": 1}
    one = studio.json(f"/api/images/{sha256}")
    assert (one["verdict"], one["human"], one["stars"]) == ("keep", "reject", 2)
    assert one["settings"]["asked"]["prompt"] == "prompt 1"
    assert one["made_by"]["recipe"] == "mini"
    assert studio.json("/api/images?differs=true")["total"] == 1
    assert studio.json("/api/opinions", {"filter": {"machine": "reject"}, "verdict": "keep"}) == {"said": 3}
    assert studio.json("/api/images?human=keep")["total"] == 3
    assert studio.post("/api/opinions", {"images": [sha256]}).status == 409
    assert studio.post("/api/opinions", {"verdict": "keep"}).status == 409


def test_pictures_are_named_by_digest_and_small_ones_are_made_once_by_a_child(studio: Studio) -> None:
    one = studio.stored[0]
    whole = studio.get(f"/i/{one.sha256}")
    assert (whole.status, whole.body) == (200, one.image.read_bytes())
    assert "immutable" in whole.headers["cache-control"]
    small = studio.get(f"/i/{one.sha256}?w=160")
    assert (small.status, small.headers["content-type"]) == (200, "image/webp")
    (made,) = (studio.root / ".sosie/thumbs").glob("*/*.webp")
    assert made.name == f"{one.sha256}-160.webp"
    before = made.stat().st_mtime_ns
    assert studio.get(f"/i/{one.sha256}?w=160").body == small.body
    assert made.stat().st_mtime_ns == before
    assert studio.get(f"/i/{one.sha256}?w=161").status == 409
    assert studio.get(f"/i/{'0' * 64}").status == 404


# ---- characters, sets and jobs


def test_a_character_is_shown_with_what_it_has(studio: Studio) -> None:
    (mira,) = studio.json("/api/characters")
    assert (mira["name"], len(mira["references"])) == ("mira", 12)
    whole = studio.json("/api/characters/mira")
    assert (whole["likeness"], whole["adult"], whole["calibrations"]) == ("fictional", True, [])
    assert whole["made"] == [{"recipe": "mini", "kept": 3, "judged": 6}]
    reference = studio.get(f"/api/characters/mira/references/{mira['references'][0]}?w=160")
    assert reference.headers["content-type"] == "image/webp"
    assert studio.get(f"/api/characters/mira/references/{'0' * 64}").status == 404
    assert studio.get("/api/characters/nobody").status == 404
    names = {one["name"] for one in studio.json("/api/recipes")}
    assert {"mini", "sdxl-instantid"} <= names


def test_a_caption_is_changed_in_place_and_counts_as_given(studio: Studio) -> None:
    folder = studio.root / "characters/mira/dataset"
    folder.mkdir()
    picture(1).save(folder / "one.png")
    (member,) = studio.json("/api/characters/mira/dataset")
    path = f"/api/characters/mira/dataset/{member['sha256']}"
    assert studio.get(f"{path}?w=160").status == 200
    changed = studio.json(f"{path}/caption", {"caption": "mira,  a red\ncoat"})
    assert (changed["caption"], changed["by"]) == ("mira, a red coat", "given")
    assert studio.json("/api/characters/mira/dataset") == [changed]
    assert studio.post(f"{path}/caption", {"caption": " "}).status == 409
    assert studio.post(f"/api/characters/mira/dataset/{'0' * 64}/caption", {"caption": "x"}).status == 404


def test_the_queue_is_the_command_line_s(studio: Studio) -> None:
    asked = {"kind": "generate", "request": {"character": "mira", "engine": "fake", "seed": 2**62}}
    first, second = (studio.json("/api/jobs", asked)["id"] for _ in range(2))
    studio.json(f"/api/jobs/{second}/move", {"before": first})
    assert [job["id"] for job in studio.json("/api/jobs")] == [second, first]
    assert studio.json("/api/jobs")[0]["request"]["seed"] == 2**62
    assert studio.json(f"/api/jobs/{second}/cancel", {})["state"] == "cancelled"
    assert studio.json(f"/api/jobs/{second}/continue", {})["state"] == "queued"
    assert studio.json(f"/api/jobs/{first}/events")[0]["told"] == {"state": "queued"}
    assert studio.post("/api/jobs/99/cancel", {}).status == 404
    assert studio.post("/api/jobs", {"kind": "erase", "request": {}}).status == 422
    wrong = studio.post("/api/jobs", {"kind": "fetch", "request": {"recipe": "https://example.org/x"}})
    assert wrong.status == 404


def test_the_stream_goes_on_after_the_last_event_that_was_seen(studio: Studio) -> None:
    studio.json("/api/jobs", {"kind": "generate", "request": {"character": "mira", "engine": "fake"}})
    studio.desk.newest = 1

    async def lines(start: int | None, count: int) -> list[str]:
        stream = job_routes._stream(studio.desk, start)
        try:
            return [await anext(stream) for _ in range(count)]
        finally:
            await stream.aclose()

    hello, event = asyncio.run(lines(0, 2))
    assert "event: hello" in hello
    assert event.startswith("id: 1\ndata: ")
    assert json.loads(event.partition("data: ")[2])["told"] == {"state": "queued"}
    assert asyncio.run(lines(None, 1))[0].splitlines()[1] == "id: 1"


def test_an_image_is_saved_with_its_manifest_and_with_its_settings_only_if_asked(studio: Studio, sosie: Any) -> None:
    from sosie.provenance.parameters import parameters_in
    from sosie.provenance.verify import verify

    stored, path = studio.stored[1], studio.root / "saved.png"
    for query, holds in (("", False), ("?metadata=true", True)):
        answer = studio.get(f"/api/images/{stored.sha256}/file{query}")
        assert answer.headers["content-disposition"] == f"attachment; filename*=utf-8''mira-{stored.plan.id[:8]}.png"
        path.write_bytes(answer.body)
        report = verify(path)
        assert (report.state, report.plan_id) == ("valid", stored.plan.id)
        assert ("prompt 1" in parameters_in(path)) is holds
        assert Image.open(path).tobytes() == Image.open(stored.image).tobytes()
    assert studio.get(f"/api/images/{'0' * 64}/file").status == 404
    out = studio.root / "out.png"
    assert sosie("image", "export", stored.sha256, out, "--workspace", studio.root).out == f"{out}\n"
    assert verify(out).plan_id == stored.plan.id
    assert sosie("image", "export", stored.sha256, out, "--workspace", studio.root).code == 2


# ---- what comes from elsewhere


def test_an_uploaded_picture_becomes_pixels_under_our_own_name(studio: Studio) -> None:
    taken = studio.json("/api/uploads", png(picture(9), comment="<script>"))
    path = studio.root / ".sosie/uploads" / f"{taken['sha256']}.png"
    assert b"<script>" not in path.read_bytes()
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    assert (taken["width"], taken["own"], taken["settings"]) == (64, None, None)
    assert studio.get(f"/api/uploads/{taken['sha256']}?w=160").headers["content-type"] == "image/webp"


def test_a_dropped_image_of_ours_or_of_a1111_brings_its_settings_back(studio: Studio) -> None:
    ours = studio.json("/api/uploads", png(Image.open(studio.stored[2].image)))
    assert ours["own"]["sha256"] == studio.stored[2].sha256
    assert ours["settings"]["asked"]["prompt"] == "prompt 2"
    text = "a cat <b>\nNegative prompt: blurred\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 512x768"
    others = studio.json("/api/uploads", png(picture(77), parameters=text))["settings"]
    assert others["asked"] == {
        "prompt": "a cat <b>",
        "seed": "5",
        "size": "512x768",
        "negative": "blurred",
        "steps": "20",
        "cfg": "7",
        "sampler": "Euler a",
    }


def test_a_signed_copy_of_an_own_image_is_known_by_its_manifest(studio: Studio) -> None:
    from sosie.provenance.keys import ensure_key
    from sosie.provenance.manifest import claim_of, write_signed

    stored, copy = studio.stored[3], studio.root / "copy.jpg"  # other pixels than those of the store
    write_signed(Image.open(stored.image), copy, claim_of(stored.plan, "fake"), ensure_key(studio.root / ".sosie/keys"))
    assert studio.json("/api/uploads", copy.read_bytes())["own"]["sha256"] == stored.sha256


def bomb() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "body",
    [b"", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", b"<!doctype html>", b"\x89PNG\r\n", bomb()],
    ids=["nothing", "svg", "html", "cut", "bomb"],
)
def test_what_is_no_picture_is_refused_by_the_child_and_nothing_stays(studio: Studio, body: bytes) -> None:
    answer = studio.post("/api/uploads", body)
    assert answer.status == 422
    assert str(studio.root) not in answer.text or "uploads" in answer.text
    assert list((studio.root / ".sosie/uploads").iterdir()) == []


def test_a_body_that_is_too_large_is_refused_before_it_is_kept(studio: Studio) -> None:
    answer = ask(studio.app, "/api/uploads", "POST", {**WRITE, "content-length": str(10**12)})
    assert answer.status == 413
    answer = ask(studio.app, "/api/jobs", "POST", WRITE, [b"x" * 70_000])
    assert answer.status in (400, 413)  # FastAPI says 400 of a body that breaks off


def test_the_doctor_says_what_a_dropped_file_is_without_our_name_for_it(studio: Studio) -> None:
    header = json.dumps({"lora_unet_x.lora_up.weight": {"dtype": "F16", "shape": [4, 4], "data_offsets": [0, 32]}})
    whole = struct.pack("<Q", len(header)) + header.encode() + bytes(32)
    for body in (whole, whole[:-20]):
        found = studio.json("/api/doctor?suffix=safetensors", body)["checkups"]
        text = json.dumps(found)
        assert found[0]["findings"]
        assert "uploads" not in text
        assert re.search("[0-9a-f]{32}", text) is None
    assert studio.post("/api/doctor?suffix=exe", whole).status == 422
    assert list((studio.root / ".sosie/uploads").iterdir()) == []


# ---- nobody else, and nothing outside

ODD = [
    "..", "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/x", "/etc/passwd", "//host/share", "\\\\host\\share",
    "C:\\x", "\0", "a" * 5000, "\u202e\u00e9\U0001f600", "-1", "1e9", "9" * 30, "link", "0" * 63, "A" * 64, "mira/..",
]  # fmt: skip


def test_requests_by_the_thousand_read_and_write_nothing_outside_the_workspace(studio: Studio) -> None:
    (studio.root / "characters/link").symlink_to("/etc")
    (studio.root / ".sosie/images/link").symlink_to("/etc")
    secret = studio.root.parent / "secret.txt"
    secret.write_text("do not read this")
    outside = sorted(path.name for path in studio.root.parent.iterdir())
    places = [
        "/{}", "/static/{}", "/i/{}", "/i/{}?w=160", "/api/images/{}", "/api/characters/{}", "/api/uploads/{}",
        "/api/characters/mira/references/{}", "/api/characters/{}/dataset", "/api/characters/mira/dataset/{}",
        "/api/jobs/{}/events", "/api/training/{}/curve", "/api/images?sort={}", "/api/images?failed={}&below={}",
    ]  # fmt: skip
    chance = random.Random(0)
    for _ in range(600):
        odd = chance.choice(ODD) if chance.random() < 0.6 else "".join(chance.choices("./\\%20af~:?#&=\0é", k=12))
        path = chance.choice(places).replace("{}", odd)
        method = chance.choice(["GET", "GET", "POST", "DELETE", "PUT"])
        answer = ask(studio.app, path, method, WRITE, [chance.choice([b"", b"{}", b"\xff", odd.encode()])])
        assert answer.status < 500 or answer.status == 507, (method, path, answer.text)
        for leaked in (b"do not read this", b"root:x:", b"Traceback"):
            assert leaked not in answer.body, path
    assert sorted(path.name for path in studio.root.parent.iterdir()) == outside
    assert secret.read_text() == "do not read this"


def test_only_the_shell_is_open_and_no_get_changes_anything(studio: Studio) -> None:
    document = studio.json(OPENAPI)
    paths = document["paths"]
    assert len(paths) > 20
    counts = studio.json("/api/jobs?every=true"), studio.json("/api/images")["total"]
    for path, methods in paths.items():
        filled = re.sub(r"\{sha256\}", studio.stored[0].sha256, path)
        filled = filled.replace("{name}", "mira").replace("{number}", "1").replace("{language}", "en")
        filled = filled.replace("{step}", "1").replace("{place}", "0")
        for method in methods:
            bare = ask(studio.app, filled, method.upper(), {"host": HOST, "origin": f"http://{HOST}"}, [b"{}"])
            assert bare.status == 401, (method, path)
            if method == "post":
                assert ask(studio.app, filled, "POST", READ, [b"{}"]).status == 403
                other = {**WRITE, "origin": "http://evil.example"}
                assert ask(studio.app, filled, "POST", other, [b"{}"]).status == 403
                assert ask(studio.app, filled, "POST", {**WRITE, "origin": "null"}, [b"{}"]).status == 403
            elif path != "/api/events" and not path.endswith(("machine", "calibration")):  # they look at faces
                assert studio.get(filled).status in (200, 404)
    assert (studio.json("/api/jobs?every=true"), studio.json("/api/images")["total"]) == counts
    assert ask(studio.app, "/api/images", headers={**READ, "host": "evil.example"}).status == 421


def test_every_route_is_described_by_types(studio: Studio) -> None:
    for path, methods in studio.json(OPENAPI)["paths"].items():
        for method, said in methods.items():
            assert said.get("description"), (method, path)


PARITY = {
    "/api/characters post": "new", "/api/characters get": "doctor", "/api/characters/{name} get": "doctor",
    "/api/images get": "image list", "/api/images/{sha256} get": "image list", "/api/images/choices get": "image list",
    "/api/characters/{name}/calibration get": "calibrate", "/api/characters/{name}/file get": "character export",
    "/api/characters/file post": "character import", "/api/characters/{name}/words post": "character edit",
    "/api/images/{sha256}/file get": "image export",
    "/api/opinions post": "image mark", "/api/jobs get": "job list", "/api/jobs post": "job add",
    "/api/jobs/{number}/cancel post": "job cancel", "/api/jobs/{number}/continue post": "job continue",
    "/api/jobs/{number}/move post": "job move", "/api/jobs/{number}/events get": "job list",
    "/api/events get": "job run", "/api/doctor post": "doctor", "/api/doctor/machine get": "doctor",
    "/api/machines get": "pod list", "/api/machines/offers get": "pod search",
    "/api/machines/{name}/end post": "pod down",
    "/api/doctor/pieces post": "doctor", "/api/doctor/mend post": "doctor", "/api/doctor/mended/{sha256} get": "doctor",
    "/api/recipes get": "recipe list", "/api/training get": "train", "/api/training/{number}/curve get": "train",
    "/api/training/{number}/ask post": "train",
    "/api/experiments get": "experiment list", "/api/experiments post": "experiment new",
    "/api/experiments/forecast post": "experiment run", "/api/experiments/{name} get": "experiment report",
    "/api/experiments/{name}/report/{language} get": "experiment report",
    "/api/recipes/{name}/fields get": "recipe show",
    "/api/decisions get": "decide list", "/api/decisions post": "decide new",
    "/api/decisions/{name}/accept post": "decide accept", "/api/characters/{name}/dataset get": "dataset check",
    "/api/characters/{name}/dataset/{sha256}/caption post": "dataset caption",
    "/api/studio get": "studio",
}  # fmt: skip
"""What the page can do, and the command that does it; pictures, and uploads, which are files there, are left out."""


def test_what_the_page_can_do_the_command_line_can(studio: Studio) -> None:
    import click

    from sosie.cli.group import cli

    paths = studio.json(OPENAPI)["paths"]
    offered = {f"{path} {method}" for path, methods in paths.items() for method in methods}
    files = {one for one in offered if "/i/" in one or "/uploads" in one or "references/" in one}
    files.add("/api/characters/{name}/dataset/{sha256} get")
    files.add("/api/training/{number}/samples/{step}/{place} get")
    files.add("/api/experiments/{name}/report/images/{picture} get")
    assert offered - files == set(PARITY)
    for command in PARITY.values():
        found: click.Command | None = cli
        for word in command.split():
            assert isinstance(found, click.Group)
            found = found.get_command(click.Context(found), word)
        assert found is not None, command


# ---- the shell


def test_the_scripts_are_small_and_nothing_in_them_writes_markup() -> None:
    files = shell()
    scripts = [content for path, (_, content) in files.items() if path.endswith(".js")]
    assert sum(map(len, scripts)) <= 160_000
    assert sum(len(gzip.compress(one)) for one in scripts) <= 50_000
    assert len(files["/static/app.css"][1]) <= 30_000
    first = sum(len(gzip.compress(content)) for path, (_, content) in files.items() if not path.endswith("fr.json"))
    assert first <= 100_000
    own = {path: content.decode() for path, (_, content) in files.items() if "/vendor/" not in path}
    for path, text in own.items():
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|dangerously", text), path
        assert not re.search(r"https?://(?!www\.w3\.org)", text), path  # nothing leaves the machine
    assert "<script>" not in own["/"]
    assert " style=" not in own["/"]
    for name in ("preact", "htm", "signals"):
        assert (STATIC / "vendor" / f"LICENSE.{name}").is_file()


def test_both_languages_have_the_same_words_and_every_word_that_is_used() -> None:
    english, french = (json.loads((STATIC / f"{name}.json").read_text(encoding="utf-8")) for name in ("en", "fr"))
    assert list(english) == list(french)
    for key, text in english.items():
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", french[key])), key
    used: set[str] = set()
    for path in (STATIC / "js").rglob("*.js"):
        used |= set(re.findall(r'\bt\("([^"$]+)"', path.read_text(encoding="utf-8")))
    assert len(used) > 100
    assert used - set(english) == set()


def contrast(first: str, second: str) -> float:
    """WCAG 2's ratio of two colours #rgb or #rrggbb."""

    def light(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * one for one in colour[1:])
        parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
        linear = [one / 12.92 if one <= 0.03928 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dark = sorted((light(first), light(second)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_text_has_contrast_in_light_and_in_dark() -> None:
    css = (STATIC / "app.css").read_text()
    schemes = re.findall(r":root \{([^}]*)\}", css)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", scheme))
        pairs = [(ink, ground) for ink in ("ink", "faint", "accent") for ground in ("paper", "card", "ground")]
        pairs += [("on", "accent"), ("good", "good-bg"), ("bad", "bad-bg"), ("warn", "warn-bg")]
        low = {pair: round(contrast(colours[pair[0]], colours[pair[1]]), 2) for pair in pairs}
        assert {pair: ratio for pair, ratio in low.items() if ratio < 4.5} == {}
    assert contrast("#000", "#ffffff") == pytest.approx(21)


def test_the_help_imports_none_of_it_and_the_server_no_torch() -> None:
    code = """
import sys
from sosie.cli.group import cli
from sosie.cli.studio import command
heavy = {"torch", "cv2", "onnxruntime", "fastapi", "uvicorn", "pydantic"}
print(*heavy & set(sys.modules), "|", end=" ")
import sosie.studio.server
print(*{"torch", "diffusers", "cv2", "onnxruntime"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.strip() == "|"


ADDRESS = "http://127.0.0.1:7860/#the-key"


@pytest.mark.parametrize("words", [("studio", "--no-browser"), ("panel", "serve", "blind")])
def test_the_address_that_is_printed_is_whole(
    words: tuple[str, ...], workspace: Path, sosie: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Nothing:
        """A panel that nobody voted in."""

        panel = type("Panel", (), {"id": ""})

        class votes:  # noqa: N801
            @staticmethod
            def last(_: str) -> dict[str, Any]:
                return {}

    def serve(*arguments: Any) -> type[Nothing]:
        arguments[-1](ADDRESS)
        return Nothing

    monkeypatch.setattr("sosie.studio.server.serve_studio", serve)
    monkeypatch.setattr("sosie.api.comparing.panels.serve_panel", serve)
    assert sosie(*words, "--workspace", workspace).out == f"{ADDRESS}\n"
    line = json.loads(sosie(*words, "--json", "--workspace", workspace).out.splitlines()[0])
    assert line["address"] == ADDRESS


def test_the_browser_is_led_by_a_private_file_and_not_by_a_command_line(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sosie.studio.opening import open_in_browser
    from sosie.workspace.workspace import open_workspace

    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setenv("BROWSER", "nothing")
    (workspace / ".sosie").mkdir(mode=0o700, exist_ok=True)
    path = open_in_browser(open_workspace(workspace), ADDRESS)
    assert path is not None
    assert opened == [path.as_uri()]
    assert "the-key" not in opened[0]
    assert ADDRESS in path.read_text()
    assert sys.platform == "win32" or path.stat().st_mode & 0o077 == 0


def test_a_trap_in_what_judges_said_comes_as_text(studio: Studio) -> None:
    found: dict[str, Any] = studio.json("/api/images")
    assert found["images"][1]["reasons"] == ["<img src=x onerror=alert(1)>"]
    answer = studio.get("/api/images")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
