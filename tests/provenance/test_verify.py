"""What a check says of an image: valid, tampered or not ours, and what no file may break."""

from __future__ import annotations

import datetime
import io
import os
import socket
import time
import zlib
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from signing import CLAIM, PLAN_ID, SUFFIXES, Authority, changed, codes, noise, p256, picture

from sosie.provenance import verify as verify_module
from sosie.provenance.binding import Reading, read, sign
from sosie.provenance.keys import ensure_key, load_key
from sosie.provenance.manifest import GENERATED, write_signed, write_unsigned
from sosie.provenance.signing_key import SigningKey
from sosie.provenance.verify import verify

pytestmark = pytest.mark.once


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


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_padding_that_no_signature_covers_must_hold_nothing(tmp_path: Path, key: SigningKey, suffix: str) -> None:
    target = tmp_path / f"image{suffix}"
    write_signed(picture(), target, CLAIM, key)
    assert verify(target).state == "valid"
    target = changed(target, target.read_bytes().index(b"\0" * 200) + 100)
    if suffix == ".png":  # whoever changes it can make the checksum fit
        data = bytearray(target.read_bytes())
        start = data.index(b"caBX")
        end = start + 4 + int.from_bytes(data[start - 4 : start], "big")
        data[end : end + 4] = zlib.crc32(data[start:end]).to_bytes(4, "big")
        target.write_bytes(data)
    report = verify(target)
    assert (report.state, codes(report)) == ("tampered", {"SOS-P005"})
    assert "padding" in report.findings[0].message


def test_a_chunk_whose_checksum_does_not_fit_is_tampered(tmp_path: Path, key: SigningKey) -> None:
    target = tmp_path / "image.png"
    write_signed(picture(), target, CLAIM, key)
    data = target.read_bytes()
    start = data.index(b"caBX")
    report = verify(changed(target, start + 4 + int.from_bytes(data[start - 4 : start], "big")))
    assert (report.state, codes(report)) == ("tampered", {"SOS-P005"})


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
