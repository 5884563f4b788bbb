"""Provenance: what is written, what a check says of it, and what no file, key or disk may break."""

from __future__ import annotations

import base64
import datetime
import io
import logging
import multiprocessing
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import time
import traceback
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import c2pa
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from sosie.core import Acceptance, Asset, Character, Draw, Plan, Request, Stage
from sosie.core.errors import DeliveryError, NotFoundError, ProvenanceError, UsageError
from sosie.provenance import keys as keys_module
from sosie.provenance import verify as verify_module
from sosie.provenance.binding import Reading, read, sign
from sosie.provenance.keys import ensure_key, load_key
from sosie.provenance.manifest import GENERATED, Claim, claim_of, definition_of, write_signed, write_unsigned, xmp_of
from sosie.provenance.signing_key import SigningKey
from sosie.provenance.verify import Report, verify

pytestmark = pytest.mark.once

PLAN_ID = "ab" * 32
CLAIM = Claim(PLAN_ID, "mini", "diffusers", (("mini", "cd" * 32), ("mini:ip-adapter.safetensors", "")))
SUFFIXES = (".png", ".jpg", ".webp")
NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return ensure_key(tmp_path_factory.mktemp("workspace") / "keys")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "small", "size=1m")


@pytest.fixture
def read_only_disk(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "read-only", "ro,size=1m")


def mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if not mount or not umount:
        pytest.skip("mount is not installed")
    command = [mount, "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run([umount, str(folder)], check=True)


def picture(side: int = 48, mode: str = "RGB") -> Image.Image:
    return Image.effect_mandelbrot((side, side), (-2, -1.5, 1, 1.5), 20).convert(mode)


def noise(side: int) -> Image.Image:
    return Image.frombytes("RGB", (side, side), os.urandom(side * side * 3))


def codes(report: Report) -> set[str]:
    return {finding.code for finding in report.findings}


def changed(path: Path, position: int, value: int = 1) -> Path:
    data = bytearray(path.read_bytes())
    data[position] ^= value
    target = path.with_name("changed" + path.suffix)
    target.write_bytes(data)
    return target


# --- own certificates -----------------------------------------------------------------------------


class Authority:
    """A certificate authority that issues what a test asks for."""

    def __init__(self, name: str = "Example CA") -> None:
        self.private = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = dict.fromkeys(
            (
                "digital_signature",
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        self.certificate = (
            self._builder(self.name, self.private.public_key(), NOW - DAY, NOW + 99 * DAY)
            .add_extension(x509.BasicConstraints(True, 0), True)
            .add_extension(x509.KeyUsage(**usage, key_cert_sign=True, crl_sign=True), True)
            .sign(self.private, hashes.SHA256())
        )
        self.usage = usage

    def _builder(self, subject: x509.Name, public: Any, start: Any, end: Any, serial: int = 0) -> Any:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public)
            .serial_number(serial or x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
        )

    def issue(
        self,
        public: Any,
        start: Any = NOW - DAY,
        end: Any = NOW + 30 * DAY,
        purpose: Any = ExtendedKeyUsageOID.EMAIL_PROTECTION,
        subject: x509.Name | None = None,
        serial: int = 0,
    ) -> x509.Certificate:
        subject = subject or x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Studio Example")])
        usage = {**self.usage, "digital_signature": True}
        return (
            self._builder(subject, public, start, end, serial)
            .add_extension(x509.BasicConstraints(False, None), True)
            .add_extension(x509.KeyUsage(**usage, key_cert_sign=False, crl_sign=False), True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.private.public_key()), False)
            .add_extension(x509.ExtendedKeyUsage([purpose]), False)
            .sign(self.private, hashes.SHA256())
        )

    def write(self, folder: Path, private: Any, leaf: x509.Certificate, chain: bool = True) -> tuple[Path, Path]:
        pem = serialization.Encoding.PEM
        certificate, private_key = folder / "own-certificate.pem", folder / "own-key.pem"
        parts = (leaf, self.certificate) if chain else (leaf,)
        certificate.write_bytes(b"".join(part.public_bytes(pem) for part in parts))
        private_key.touch(mode=0o600)
        private_key.write_bytes(
            private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return certificate, private_key


def p256() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


# --- writing --------------------------------------------------------------------------------------


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


# --- delivery -------------------------------------------------------------------------------------


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


# --- verification ---------------------------------------------------------------------------------


def test_a_flipped_bit_in_any_region_of_a_png_is_never_valid(tmp_path: Path, key: SigningKey) -> None:
    target = tmp_path / "image.png"
    write_signed(picture(24), target, CLAIM, key)
    data = target.read_bytes()
    states = {i: verify(changed(target, i)).state for i in range(8, len(data), 13)}
    assert "valid" not in states.values()
    pixels, text = data.index(b"IDAT") + 4, data.index(b"DigitalSourceType=")
    manifest, plan = data.index(b"caBX") + 4, data.index(PLAN_ID.encode())
    for position in (pixels + 5, text + 3, plan + 2, manifest + 900, len(data) - 1):
        assert verify(changed(target, position)).state == "tampered", position


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_changed_pixels_are_tampered_and_the_signature_still_names_its_plan(
    tmp_path: Path, key: SigningKey, suffix: str
) -> None:
    target = tmp_path / f"image{suffix}"
    write_signed(noise(48), target, CLAIM, key)
    marker = {".png": b"IDAT", ".jpg": b"\xff\xda", ".webp": b"VP8L"}[suffix]
    report = verify(changed(target, target.read_bytes().rindex(marker) + 60), key)
    assert (report.state, report.plan_id, report.own) == ("tampered", PLAN_ID, True)
    assert "SOS-P004" in codes(report)
    assert not any("unchanged" in line for line in report.proves)


def test_a_changed_plan_id_is_tampered_and_is_not_repeated_as_a_fact(tmp_path: Path, key: SigningKey) -> None:
    target = tmp_path / "image.jpg"
    write_signed(picture(), target, CLAIM, key)
    report = verify(changed(target, target.read_bytes().index(PLAN_ID.encode()), 3), key)
    assert (report.state, report.plan_id, report.generated, report.own) == ("tampered", "", False, None)
    assert report.proves == ()


def test_the_padding_that_no_signature_covers_is_covered_by_the_chunks_checksum(
    tmp_path: Path, key: SigningKey
) -> None:
    target = tmp_path / "image.png"
    write_signed(picture(), target, CLAIM, key)
    report = verify(changed(target, target.read_bytes().index(b"\0" * 200) + 100))
    assert (report.state, codes(report)) == ("tampered", {"SOS-P005"})
    assert "checksum" in report.findings[0].message


def test_a_manifest_moved_to_another_image_is_tampered(tmp_path: Path, key: SigningKey) -> None:
    write_signed(picture(), tmp_path / "a.png", CLAIM, key)
    write_unsigned(noise(48), tmp_path / "b.png")
    signed, other = (tmp_path / "a.png").read_bytes(), (tmp_path / "b.png").read_bytes()
    start = signed.index(b"caBX") - 4
    end = start + 12 + int.from_bytes(signed[start : start + 4], "big")
    (tmp_path / "b.png").write_bytes(other[:33] + signed[start:end] + other[33:])
    report = verify(tmp_path / "b.png", key)
    assert (report.state, report.own) == ("tampered", True)
    assert "the file is not the one signed" in report.proves[0]


def test_bytes_added_after_the_end_are_tampering(tmp_path: Path, key: SigningKey) -> None:
    target = tmp_path / "image.png"
    write_signed(picture(), target, CLAIM, key)
    with target.open("ab") as file:
        file.write(b"more")
    assert verify(target).state == "tampered"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_re_encoding_drops_the_manifest_and_a_kept_xmp_is_called_a_mere_statement(
    tmp_path: Path, key: SigningKey, suffix: str
) -> None:
    target, again, kept = tmp_path / f"image{suffix}", tmp_path / f"again{suffix}", tmp_path / "kept.jpg"
    write_signed(picture(), target, CLAIM, key)
    with Image.open(target) as image:
        xmp = image.info["xmp"]
        bare = image.copy()
    bare.info = {}
    bare.save(again)
    bare.save(kept, xmp=xmp)
    assert (verify(again).state, verify(again).generated) == ("absent", False)
    report = verify(kept)
    assert (report.state, report.generated, codes(report)) == ("absent", True, {"SOS-P003", "SOS-P008"})


def test_another_workspaces_image_is_valid_but_not_ours(tmp_path: Path, key: SigningKey) -> None:
    write_signed(picture(), tmp_path / "image.png", CLAIM, ensure_key(tmp_path / "other"))
    report = verify(tmp_path / "image.png", key)
    assert (report.state, report.own) == ("valid", False)
    assert "SOS-P010" in codes(report)
    assert any("anyone can make a certificate" in line for line in report.does_not_prove)


def test_a_forged_certificate_with_our_name_and_serial_number_is_not_ours(tmp_path: Path, key: SigningKey) -> None:
    ours = x509.load_pem_x509_certificates(key.chain.encode())
    forger, private = Authority(), p256()
    forger.name = ours[0].issuer
    leaf = forger.issue(private.public_key(), subject=ours[0].subject, serial=key.serial)
    forged = load_key(*forger.write(tmp_path, private, leaf))
    assert (forged.serial, forged.common_name) == (key.serial, key.common_name)
    write_signed(picture(), tmp_path / "image.png", CLAIM, forged)
    report = verify(tmp_path / "image.png", key)
    assert (report.state, report.own) == ("valid", False)


def test_another_certificate_of_our_own_issuer_is_not_ours(tmp_path: Path) -> None:
    authority, ours, theirs = Authority(), p256(), p256()
    own = load_key(*authority.write(tmp_path, ours, authority.issue(ours.public_key())))
    colleague = load_key(*authority.write(tmp_path, theirs, authority.issue(theirs.public_key())))
    write_signed(picture(), tmp_path / "image.png", CLAIM, colleague)
    assert verify(tmp_path / "image.png", own).own is False
    assert verify(tmp_path / "image.png", colleague).own is True


def test_a_signature_that_binds_no_image_is_not_valid(
    tmp_path: Path, key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_signed(picture(), tmp_path / "image.png", CLAIM, key)
    table = dict(read(tmp_path / "image.png").table)
    passed = [c for c in table["validation_results"]["activeManifest"]["success"] if "dataHash" not in c["code"]]
    table["validation_results"]["activeManifest"]["success"] = passed
    monkeypatch.setattr(verify_module, "read", lambda *_: Reading("read", table))
    report = verify(tmp_path / "image.png")
    assert (report.state, codes(report)) == ("tampered", {"SOS-P005", "SOS-P006"})
    assert "no signature over the image" in report.findings[0].message


def test_whether_a_key_without_its_issuers_is_ours_is_left_open(tmp_path: Path) -> None:
    private, authority = p256(), Authority()
    lone = load_key(*authority.write(tmp_path, private, authority.issue(private.public_key()), chain=False))
    write_signed(picture(), tmp_path / "image.png", CLAIM, lone)
    assert verify(tmp_path / "image.png", lone).own is None


def test_a_certificate_that_expired_since_is_said_and_is_not_called_tampering(tmp_path: Path) -> None:
    private, authority = p256(), Authority()
    end = datetime.datetime.now(datetime.UTC).replace(microsecond=0) + datetime.timedelta(seconds=2)
    brief = load_key(*authority.write(tmp_path, private, authority.issue(private.public_key(), end=end)))
    write_signed(picture(), tmp_path / "image.png", CLAIM, brief)
    while datetime.datetime.now(datetime.UTC) < end + datetime.timedelta(seconds=1):
        time.sleep(0.1)
    report = verify(tmp_path / "image.png")
    assert report.state == "valid"
    assert "SOS-P007" in codes(report)
    assert verify(changed(tmp_path / "image.png", -40)).state == "tampered"


def test_a_manifest_of_other_software_is_read_generically_and_its_texts_are_tamed(
    tmp_path: Path, key: SigningKey
) -> None:
    buffer = io.BytesIO()
    picture().save(buffer, "PNG")
    action = {"action": "c2pa.created", "digitalSourceType": GENERATED}
    definition = {
        "claim_generator_info": [{"name": "Evil \x1b[2J\u202e" + "x" * 900, "version": "7"}],
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [action]}},
            {"label": "org.sosie.plan", "data": {"plan": "../../x", "recipe": ["not a text"], "models": "nor a list"}},
        ],
    }
    (tmp_path / "image.png").write_bytes(sign(buffer.getvalue(), "image/png", definition, key))
    report = verify(tmp_path / "image.png")
    assert (report.state, report.generated) == ("valid", True)
    assert (report.plan_id, report.recipe, report.models) == ("", "", ())
    assert "SOS-P011" in codes(report)
    assert report.software.isprintable()
    assert len(report.software) < 250


def test_verify_never_fetches_a_manifest_that_the_file_only_names(tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(0.2)
        link = f"http://127.0.0.1:{server.getsockname()[1]}/manifest.c2pa"
        chunks = PngImagePlugin.PngInfo()
        chunks.add_itxt(
            "XML:com.adobe.xmp",
            '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            '<rdf:Description rdf:about="" xmlns:dcterms="http://purl.org/dc/terms/"'
            f' dcterms:provenance="{link}"/></rdf:RDF></x:xmpmeta>',
        )
        picture().save(tmp_path / "image.png", pnginfo=chunks)
        report = verify(tmp_path / "image.png")
        with pytest.raises(TimeoutError):
            server.accept()
    assert (report.state, codes(report)) == ("absent", {"SOS-P003", "SOS-P012"})


def test_what_is_no_image_gets_a_clear_answer(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello world\n" * 50)
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("text.png", "empty.png", "folder.png", "pipe.png", "none.png", "nul\0.png"):
        report = verify(tmp_path / name)
        assert (report.state, codes(report)) == ("unreadable", {"SOS-P001"}), name
        assert report.findings[0].message.startswith("cannot be read as an image: ")


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_a_file_cut_into_a_million_chunks_is_refused_at_once(tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"image{suffix}"
    write_unsigned(picture(), target)
    data, many = target.read_bytes(), 1_000_000
    if suffix == ".png":
        data = data[:33] + (b"\0\0\0\0teSt" + zlib.crc32(b"teSt").to_bytes(4, "big")) * many + data[33:]
    else:
        body = data[8:] + b"teSt\0\0\0\0" * many
        data = b"RIFF" + len(body).to_bytes(4, "little") + body
    target.write_bytes(data)
    start = time.perf_counter()
    report = verify(target)
    assert (report.state, codes(report)) == ("unreadable", {"SOS-P002"})
    assert time.perf_counter() - start < 5


def test_an_image_bomb_is_not_decoded(tmp_path: Path) -> None:
    write_unsigned(picture(), tmp_path / "bomb.png")
    data = bytearray((tmp_path / "bomb.png").read_bytes())
    data[16:24] = (65_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(data)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(tmp_path / "bomb.png")
    assert verify(tmp_path / "bomb.png").state == "absent"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_truncated_file_is_never_valid(tmp_path: Path, key: SigningKey, suffix: str) -> None:
    target, cut = tmp_path / f"image{suffix}", tmp_path / f"cut{suffix}"
    write_signed(noise(48), target, CLAIM, key)
    data = target.read_bytes()
    for length in (0, 3, 8, 20, 60, 1000, len(data) // 2, len(data) - 30, len(data) - 1):
        cut.write_bytes(data[:length])
        assert verify(cut, key).state in ("unreadable", "tampered"), length


def test_a_huge_file_is_refused_by_its_size_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(verify_module.MAX_BYTES + 1)
    report = verify(tmp_path / "huge.png")
    assert (report.state, codes(report)) == ("unreadable", {"SOS-P002"})


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=12)), min_size=1, max_size=4),
    suffix=st.sampled_from(SUFFIXES),
)
def test_no_mutilated_file_makes_verify_raise_or_lie(
    tmp_path: Path, key: SigningKey, edits: list[tuple[int, bytes]], suffix: str
) -> None:
    original = tmp_path / f"original{suffix}"
    if not original.exists():
        write_signed(picture(24), original, CLAIM, key)
    data = bytearray(original.read_bytes())
    for position, patch in edits:
        start = position % len(data)
        data[start : start + len(patch)] = patch
    target = tmp_path / f"mutilated{suffix}"
    target.write_bytes(data)
    report = verify(target, key)
    assert report.state in ("valid", "tampered", "absent", "unreadable")
    if report.state == "valid":  # then only padding changed: pixels and claim are the signed ones
        assert report.plan_id == PLAN_ID
        with Image.open(target) as left, Image.open(original) as right:
            assert left.tobytes() == right.tobytes()


# --- keys -----------------------------------------------------------------------------------------


def test_a_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        first = ensure_key(tmp_path / "keys")
    finally:
        os.umask(mask)
    assert ensure_key(tmp_path / "keys") == first
    modes = {path.relative_to(tmp_path).as_posix(): stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes == {
        "keys": 0o700,
        "keys/signing": 0o700,
        "keys/signing/private-key.pem": 0o600,
        "keys/signing/certificate.pem": 0o600,
    }


def test_the_self_made_certificates_are_exactly_what_c2pa_asks_and_name_nobody(key: SigningKey) -> None:
    leaf, authority = x509.load_pem_x509_certificates(key.chain.encode())
    leaf.verify_directly_issued_by(authority)
    names = [attribute.value for attribute in (*leaf.subject, *leaf.issuer, *authority.subject)]
    pattern = r"Sosie signing key|Sosie self-made certificate( authority [0-9a-f]{8})?"
    assert all(re.fullmatch(pattern, str(name)) for name in names)
    oids = {extension.oid._name for extension in leaf.extensions}
    assert oids == {
        "basicConstraints",
        "keyUsage",
        "extendedKeyUsage",
        "subjectKeyIdentifier",
        "authorityKeyIdentifier",
    }
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert not usage.key_cert_sign
    purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.EMAIL_PROTECTION]
    start = leaf.not_valid_before_utc
    assert (start.hour, start.minute, start.second) == (0, 0, 0)
    assert leaf.not_valid_after_utc - NOW > 29 * 365 * DAY


def _make_key(folders: list[Path], barrier: Any, answers: Any) -> None:
    import sosie.provenance.binding
    import sosie.provenance.manifest  # noqa: F401

    prints: list[str] = []
    for folder in folders:
        barrier.wait(20)
        prints.append(ensure_key(folder).fingerprint)
    answers.put(prints)


def test_two_processes_at_once_make_one_key_and_both_use_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(2), context.Queue()
    folders = [tmp_path / str(i) for i in range(5)]
    processes = [context.Process(target=_make_key, args=(folders, barrier, answers)) for _ in range(2)]
    for process in processes:
        process.start()
    first, second = answers.get(timeout=30), answers.get(timeout=30)
    for process in processes:
        process.join(30)
    assert first == second == [ensure_key(folder).fingerprint for folder in folders]
    assert len(set(first)) == len(folders)
    assert {path.name for folder in folders for path in folder.iterdir()} == {"signing"}


def test_a_loser_of_the_race_takes_the_winners_key_and_cleans_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    winner = ensure_key(tmp_path / "elsewhere")
    made = keys_module._self_made

    def overtaken() -> tuple[bytes, bytes]:
        shutil.copytree(tmp_path / "elsewhere" / "signing", tmp_path / "keys" / "signing")
        return made()

    monkeypatch.setattr(keys_module, "_self_made", overtaken)
    assert ensure_key(tmp_path / "keys") == winner
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["signing"]


def test_half_a_key_is_named_and_never_replaced_silently(tmp_path: Path) -> None:
    ensure_key(tmp_path / "keys")
    (tmp_path / "keys" / "signing" / "certificate.pem").unlink()
    with pytest.raises(ProvenanceError, match=r"incomplete.*certificate\.pem does not exist"):
        ensure_key(tmp_path / "keys")
    assert (tmp_path / "keys" / "signing" / "private-key.pem").exists()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_private_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    ensure_key(tmp_path / "keys")
    path = tmp_path / "keys" / "signing" / "private-key.pem"
    path.chmod(mode)
    with pytest.raises(ProvenanceError, match=f"open to other users .mode {mode:o}") as caught:
        ensure_key(tmp_path / "keys")
    assert f"chmod 600 {path}" in caught.value.hint


def test_the_private_key_is_in_no_repr_error_traceback_or_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    key = ensure_key(tmp_path / "keys")
    private_key = tmp_path / "keys" / "signing" / "private-key.pem"
    said = [repr(key), str(key), f"{key}"]
    pem = private_key.read_text()
    other, authority = p256(), Authority()
    wrong, _ = authority.write(tmp_path, other, authority.issue(other.public_key()))
    for attempt in (
        lambda: write_signed(picture(), tmp_path / "none" / "x.png", CLAIM, key),
        lambda: load_key(wrong, private_key),
        lambda: load_key(private_key, private_key),
        lambda: sign(b"no image", "image/png", definition_of(CLAIM), key),
    ):
        with pytest.raises((DeliveryError, ProvenanceError)) as caught:
            attempt()
        said += [caught.value.message, caught.value.hint, *traceback.format_exception(caught.value)]
    said += [caplog.text, *capfd.readouterr()]
    everything = "\n".join(said)
    body = "".join(pem.splitlines()[1:-1])
    number = key.private.private_numbers().private_value
    secrets = [*pem.splitlines()[1:-1], base64.b64decode(body).hex(), str(number), f"{number:x}"]
    assert not any(secret in everything for secret in secrets)
    assert "PRIVATE KEY" not in repr(key)


@pytest.mark.parametrize("kind", ["es256", "es384", "es512", "ps256", "ed25519"])
def test_a_users_own_key_of_every_kind_that_c2pa_allows_signs(tmp_path: Path, kind: str) -> None:
    private: Any = {
        "es256": p256,
        "es384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "es512": lambda: ec.generate_private_key(ec.SECP521R1()),
        "ps256": lambda: rsa.generate_private_key(65537, 2048),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
    }[kind]()
    authority = Authority()
    own = load_key(*authority.write(tmp_path, private, authority.issue(private.public_key())))
    assert (own.algorithm, own.common_name) == (kind, "Studio Example")
    write_signed(picture(), tmp_path / "image.png", CLAIM, own)
    report = verify(tmp_path / "image.png", own)
    assert (report.state, report.own, report.signer) == ("valid", True, "Studio Example")


def test_a_key_that_does_not_match_its_certificate_is_refused(tmp_path: Path) -> None:
    authority = Authority()
    paths = authority.write(tmp_path, p256(), authority.issue(p256().public_key()))
    with pytest.raises(ProvenanceError, match="does not match the certificate"):
        load_key(*paths)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(NOW - 9 * DAY, NOW - DAY, "expired on 20"), (NOW + DAY, NOW + 9 * DAY, "valid only from 20")],
)
def test_a_certificate_out_of_its_dates_is_refused(tmp_path: Path, start: Any, end: Any, expected: str) -> None:
    private, authority = p256(), Authority()
    paths = authority.write(tmp_path, private, authority.issue(private.public_key(), start, end))
    with pytest.raises(ProvenanceError, match=expected):
        load_key(*paths)


def test_a_certificate_for_another_purpose_is_refused_before_any_image(tmp_path: Path) -> None:
    private, authority = p256(), Authority()
    leaf = authority.issue(private.public_key(), purpose=ExtendedKeyUsageOID.SERVER_AUTH)
    with pytest.raises(ProvenanceError, match="not fit for C2PA") as caught:
        load_key(*authority.write(tmp_path, private, leaf))
    assert "emailProtection" in caught.value.hint


def test_files_that_are_missing_not_pem_encrypted_or_no_files_are_named(tmp_path: Path) -> None:
    private, authority = p256(), Authority()
    certificate, private_key = authority.write(tmp_path, private, authority.issue(private.public_key()))
    text, locked, curve = tmp_path / "text.pem", tmp_path / "locked.pem", tmp_path / "curve.pem"
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    for path in (text, locked, curve):
        path.touch(mode=0o600)
    text.write_text("not a key\n")
    locked.write_bytes(private.private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(b"password")))
    curve.write_bytes(
        dsa.generate_private_key(1024).private_bytes(pem, pkcs8, serialization.NoEncryption()),
    )
    with pytest.raises(NotFoundError, match=r"certificate .*none\.pem does not exist"):
        load_key(tmp_path / "none.pem", private_key)
    with pytest.raises(NotFoundError, match=r"private key .*none\.pem does not exist"):
        load_key(certificate, tmp_path / "none.pem")
    for paths, expected in (
        ((text, private_key), "holds no certificate in PEM form"),
        ((private_key, private_key), "holds no certificate in PEM form"),
        ((certificate, text), "holds no private key in PEM form"),
        ((certificate, locked), "is encrypted"),
        ((certificate, curve), "does not match"),
        ((certificate, tmp_path), "is not a file"),
        ((tmp_path, private_key), "is not a file"),
    ):
        with pytest.raises(ProvenanceError, match=expected):
            load_key(*paths)


# --- the package ----------------------------------------------------------------------------------


def test_importing_provenance_loads_no_heavy_library() -> None:
    code = (
        "import sys, sosie.provenance.keys, sosie.provenance.manifest, sosie.provenance.verify\n"
        "print([m for m in ('c2pa', 'PIL', 'cryptography', 'numpy', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


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
