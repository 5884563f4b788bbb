"""What a delivered image says of its making, and what it keeps to itself."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import c2pa
import pytest
from PIL import Image
from signing import CLAIM, PLAN_ID, SUFFIXES, codes, noise, picture

from sosie.core import Acceptance, Asset, Character, Draw, Plan, Request, Stage
from sosie.core.errors import UsageError
from sosie.provenance.manifest import GENERATED, Claim, claim_of, definition_of, write_signed, write_unsigned, xmp_of
from sosie.provenance.signing_key import SigningKey
from sosie.provenance.verify import verify

pytestmark = pytest.mark.once


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_signed_image_is_valid_and_says_what_made_it(tmp_path: Path, key: SigningKey, suffix: str) -> None:
    target = tmp_path / f"image{suffix}"
    write_signed(picture(), target, CLAIM, key)
    report = verify(target, key)
    assert (report.state, report.own, report.trusted, report.generated) == ("valid", True, False, True)
    assert (report.plan_id, report.recipe, report.engine) == (PLAN_ID, "mini", "diffusers")
    assert report.models == (("mini", "cd" * 32), ("ip-adapter.safetensors", ""))
    assert report.software.startswith("Sosie ")
    assert codes(report) == {"SOS-P006", "SOS-P009"}
    assert all(finding.severity == "info" for finding in report.findings)
    assert "this workspace's key" in report.proves[0]


@pytest.mark.parametrize("suffix", [".png", ".webp"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_the_pixels_of_a_signed_image_are_bit_for_bit_those_that_were_given(
    tmp_path: Path, key: SigningKey, suffix: str, mode: str
) -> None:
    image, target = noise(40).convert(mode), tmp_path / f"image{suffix}"
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize((40, 40)).point(lambda a: a if a > 99 else 0))
    write_signed(image, target, CLAIM, key)
    with Image.open(target) as written:
        assert written.mode == mode
        assert written.tobytes() == image.tobytes()


def test_signing_adds_less_than_6_kb_and_no_thumbnail(tmp_path: Path, key: SigningKey) -> None:
    write_signed(picture(256), tmp_path / "signed.png", CLAIM, key)
    write_unsigned(picture(256), tmp_path / "plain.png")
    added = (tmp_path / "signed.png").stat().st_size - (tmp_path / "plain.png").stat().st_size
    assert 0 < added < 6_000


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_ordinary_viewers_find_the_digital_source_type_in_the_xmp(tmp_path: Path, key: SigningKey, suffix: str) -> None:
    target = tmp_path / f"image{suffix}"
    write_signed(picture(), target, CLAIM, key)
    with Image.open(target) as image:
        assert f'DigitalSourceType="{GENERATED}"'.encode() in image.info["xmp"]
    import xml.etree.ElementTree as ET

    assert ET.fromstring(xmp_of(CLAIM)).tag.endswith("xmpmeta")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_the_image_or_the_names_carry_in_secret_is_not_written(
    tmp_path: Path, key: SigningKey, suffix: str
) -> None:
    image = picture()
    image.info = {"comment": b"SECRET prompt", "parameters": "SECRET", "xmp": b"SECRET", "exif": b"Exif\0\0SECRET"}
    claim = Claim(
        PLAN_ID,
        "/home/SECRET/recipes/portrait.toml",
        "comfy http://SECRET:8188",
        (
            ("/home/SECRET/a.safetensors", ""),
            ("C:\\Users\\SECRET\\b.safetensors", ""),
            ("SECRET:8188/c.safetensors", ""),
        ),
    )
    write_signed(image, tmp_path / f"signed{suffix}", claim, key)
    write_unsigned(image, tmp_path / f"plain{suffix}")
    for name in ("signed", "plain"):
        assert b"SECRET" not in (tmp_path / f"{name}{suffix}").read_bytes()
    report = verify(tmp_path / f"signed{suffix}")
    assert [name for name, _ in report.models] == ["a.safetensors", "b.safetensors", "c.safetensors"]
    assert (report.recipe, report.engine) == ("portrait.toml", "comfy")


def test_the_claim_of_a_plan_names_neither_character_nor_prompt_nor_seed() -> None:
    plan = Plan(
        recipe="mini",
        stages=(Stage("generate", "sdxl", "mini"),),
        acceptance=Acceptance(),
        character=Character("Mirabelle", "fictional", True),
        prompt="PROMPT",
        negative_prompt="NEGATIVE",
        width=64,
        height=64,
        seed=987654321,
        draw=Draw(),
        assets=(Asset("mini", "cd" * 32),),
        requested=Request("mini", "Mirabelle", "PROMPT"),
    )
    claim = claim_of(plan, "diffusers")
    assert claim == Claim(plan.id, "mini", "diffusers", (("mini", "cd" * 32),))
    written = repr(definition_of(claim)) + xmp_of(claim)
    assert not re.search("Mirabelle|PROMPT|NEGATIVE|987654321", written)


def test_an_unsigned_image_has_no_trace_of_provenance(tmp_path: Path) -> None:
    write_unsigned(picture(), tmp_path / "plain.png")
    report = verify(tmp_path / "plain.png")
    assert (report.state, report.generated, codes(report)) == ("absent", False, {"SOS-P003"})
    assert any("re-encoding" in line for line in report.does_not_prove)


def test_the_colour_profile_is_kept_since_it_changes_what_is_seen(tmp_path: Path, key: SigningKey) -> None:
    image = picture()
    image.info["icc_profile"] = b"a colour profile"
    write_signed(image, tmp_path / "image.png", CLAIM, key)
    with Image.open(tmp_path / "image.png") as written:
        assert written.info["icc_profile"] == b"a colour profile"


def test_a_suffix_or_mode_that_cannot_be_written_is_a_usage_error(tmp_path: Path, key: SigningKey) -> None:
    with pytest.raises(UsageError, match=r"\.png, \.jpg or \.webp.*did you mean '\.jpg'"):
        write_signed(picture(), tmp_path / "image.jpge", CLAIM, key)
    with pytest.raises(UsageError, match="mode RGBA") as caught:
        write_signed(picture(mode="RGBA"), tmp_path / "image.jpg", CLAIM, key)
    assert caught.value.hint == "write it as .png"
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_is_one_that_any_c2pa_reader_understands(tmp_path: Path, key: SigningKey) -> None:
    write_signed(picture(), tmp_path / "image.png", CLAIM, key)
    manifest = c2pa.Reader(tmp_path / "image.png").get_active_manifest()
    assert manifest is not None
    actions = next(a for a in manifest["assertions"] if a["label"] == "c2pa.actions.v2")["data"]["actions"]
    assert [(a["action"], a["digitalSourceType"], a["softwareAgent"]["name"]) for a in actions] == [
        ("c2pa.created", GENERATED, "Sosie")
    ]
    assert "thumbnail" not in manifest
    data = (tmp_path / "image.png").read_bytes()
    start = data.index(b"caBX")
    length = int.from_bytes(data[start - 4 : start], "big")
    checksum = int.from_bytes(data[start + 4 + length :][:4], "big")
    assert zlib.crc32(data[start : start + 4 + length]) == checksum
