"""Image files from anywhere: what is read, and what is said of what is not."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from places import ROOT

from sosie.core.errors import BadImageError
from sosie.files.colour import ADOBE_RGB, DISPLAY_P3, profile_of, to_srgb
from sosie.files.images import image_digest, read_image, read_picture, true_suffix
from sosie.files.picture_kinds import is_picture, pictures_in


def picture(width: int = 40, height: int = 30) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), (200, 20, 20))
    image.paste((20, 20, 200), (width // 2, 0, width, height))
    return image


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def png_with_header(header: bytes) -> bytes:
    """A PNG of a few bytes with any header chunk, whose checksums are right."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"a red fox, portrait\n", "text"),
        (b"\n<!DOCTYPE html><html><body>404</body></html>", "an HTML page"),
        (b'<?xml version="1.0"?><svg/>', "an SVG drawing"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"%PDF-1.7", "a PDF document"),
        (b"\0\0\0\x18ftypmp42", "a video"),
        (b"\x00\x01\x02\x03" * 40, "data of no known image format"),
    ],
)
def test_a_file_that_is_no_image_is_named_for_what_it_is(tmp_path: Path, content: bytes, found: str) -> None:
    path = tmp_path / "face.png"
    path.write_bytes(content)
    with pytest.raises(BadImageError) as caught:
        read_image(path)
    assert str(path) in caught.value.message
    assert found in caught.value.message
    assert "expected a PNG, JPEG, WebP, BMP, TIFF, AVIF or HEIC image" in caught.value.message
    assert caught.value.hint


def test_a_gif_is_refused_by_name(tmp_path: Path) -> None:
    path = save(tmp_path / "face.gif", picture())
    with pytest.raises(BadImageError, match="found a GIF image; expected a PNG"):
        read_image(path)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(BadImageError, match="does not exist"):
        read_image(tmp_path / "nothing.png")
    with pytest.raises(BadImageError, match="is a folder"):
        read_image(tmp_path)
    with pytest.raises(BadImageError, match="cannot be read"):
        image_digest(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tiff"])
def test_a_truncated_image_is_refused(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    noisy = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    path = save(tmp_path / f"face.{suffix}", noisy)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(BadImageError):
        read_image(path)


def test_a_png_with_flipped_bytes_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "face.png", picture())
    content = bytearray(path.read_bytes())
    middle = content.index(b"IDAT") + 6
    content[middle : middle + 4] = b"\xff\x00\xff\x00"
    path.write_bytes(bytes(content))
    with pytest.raises(BadImageError, match="damaged or cut short"):
        read_image(path)


def test_what_pillow_reports_in_another_way_is_the_same_error(tmp_path: Path) -> None:
    path = tmp_path / "face.png"
    path.write_bytes(png_with_header(b"\0\0\0"))  # a ValueError, neither OSError nor UnidentifiedImageError
    with pytest.raises(BadImageError, match="damaged or cut short"):
        read_image(path)


@pytest.mark.parametrize(("width", "height"), [(12_000, 9_000), (13_000, 13_000), (60_000, 60_000)])
def test_an_image_bomb_is_refused_before_it_is_decoded(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_with_header(struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)))
    with pytest.raises(BadImageError, match=r"declares .* pixels; expected at most 64,000,000 pixels, and"):
        read_image(path)


def test_the_limit_on_pixels_counts_the_declared_size(tmp_path: Path) -> None:
    path = save(tmp_path / "face.png", picture(40, 30))
    with pytest.raises(BadImageError, match="40 x 30 pixels"):
        read_image(path, max_pixels=1199)
    assert read_image(path, max_pixels=1200).size == (40, 30)


def test_the_first_frame_of_an_animation_is_taken(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (20, 20), (250, 0, 0)), Image.new("RGB", (20, 20), (0, 250, 0))
    for name in ("moving.png", "moving.webp", "pages.tiff"):
        options: dict[str, object] = {"lossless": True} if name.endswith("webp") else {}
        path = save(tmp_path / name, first, save_all=True, append_images=[second], **options)
        assert read_image(path).getpixel((10, 10)) == (250, 0, 0)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned 90 degrees clockwise
    path = save(tmp_path / "phone.jpg", picture(), exif=exif, quality=95)
    image = read_image(path)
    assert image.size == (30, 40)
    red, blue = image.getpixel((15, 5)), image.getpixel((15, 35))
    assert red[0] > 150 > red[2]
    assert blue[2] > 150 > blue[0]


def test_a_damaged_exif_block_does_not_cost_the_picture(tmp_path: Path) -> None:
    path = save(tmp_path / "phone.jpg", picture(), exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x03")
    assert read_image(path).size == (40, 30)


def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256, dtype=np.uint16)[np.newaxis].repeat(4, axis=0)
    for name in ("depth.png", "depth.tiff"):
        pixels = np.asarray(read_image(save(tmp_path / name, Image.fromarray(ramp))))
        assert pixels.shape == (4, 256, 3)
        assert np.array_equal(pixels[0, :, 0], np.arange(256))


def test_thirty_two_bit_samples_and_lab_colours_are_refused(tmp_path: Path) -> None:
    for image in (
        Image.fromarray(np.zeros((4, 4), dtype=np.float32)),
        Image.new("I", (4, 4)),
        Image.new("LAB", (4, 4)),
    ):
        path = save(tmp_path / "depth.tiff", image)
        with pytest.raises(BadImageError, match=f"pixels of mode {image.mode}; expected grey, RGB or CMYK"):
            read_image(path)


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    path = save(tmp_path / "print.jpg", picture().convert("CMYK"), quality=95)
    red = read_image(path).getpixel((5, 15))
    assert red[0] > 150 > red[2]


def test_alpha_is_composited_on_white(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    half = Image.new("LA", (8, 8), (0, 128))
    assert read_image(save(tmp_path / "clear.png", clear)).getpixel((4, 4)) == (255, 255, 255)
    assert read_image(save(tmp_path / "half.png", half)).getpixel((4, 4)) == (127, 127, 127)


def test_a_palette_keeps_its_colours_and_its_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([9, 8, 7, 10, 200, 30])
    assert read_image(save(tmp_path / "palette.png", image)).getpixel((4, 4)) == (10, 200, 30)
    assert read_image(save(tmp_path / "clear.png", image, transparency=1)).getpixel((4, 4)) == (255, 255, 255)


def test_a_photo_of_thirty_megapixels_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / "photo.jpg", picture(6_720, 4_480), quality=60)
    image = read_image(path)
    assert (image.mode, image.size) == ("RGB", (6_720, 4_480))


@given(st.binary(max_size=60), st.integers(0, 400), st.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "TIFF", "AVIF"]))
@settings(max_examples=150, deadline=None)
def test_damage_anywhere_is_an_image_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, damage: bytes, place: int, kind: str
) -> None:
    buffer = io.BytesIO()
    picture().save(buffer, kind)
    content = bytearray(buffer.getvalue())
    content[place : place + len(damage)] = damage
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(bytes(content))
    try:
        image = read_image(path, max_pixels=100_000)
    except BadImageError:
        return
    assert image.mode == "RGB"
    assert image.width * image.height <= 100_000


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"abc")
    assert image_digest(path) == hashlib.sha256(b"abc").hexdigest()


# What a file is


def written(path: Path, kind: str, image: Image.Image | None = None) -> Path:
    (image or picture()).save(path, kind)
    return path


@pytest.mark.parametrize(
    ("name", "kind", "suffix"),
    [
        ("a.jfif", "JPEG", ".jpg"),
        ("b.jpe", "JPEG", ".jpg"),
        ("c", "PNG", ".png"),
        ("d.png", "WEBP", ".webp"),
        ("e.txt", "BMP", ".bmp"),
        ("f.JPG", "AVIF", ".avif"),
        ("g.data", "TIFF", ".tif"),
    ],
)
def test_a_picture_is_what_its_content_says_and_not_its_name(tmp_path: Path, name: str, kind: str, suffix: str) -> None:
    path = written(tmp_path / name, kind)
    assert pictures_in(tmp_path) == [path]
    assert true_suffix(path) == suffix
    assert read_image(path).size == (40, 30)


def test_a_caption_that_begins_as_a_bitmap_would_is_no_picture(tmp_path: Path) -> None:
    for name, content in (
        ("a.txt", b"BMW, red, on a street, parked in the sun"),
        ("b.txt", b"II* is a film"),
        ("c", b""),
    ):
        (tmp_path / name).write_bytes(content)
    assert [path.name for path in pictures_in(tmp_path) if path.suffix] == []


def test_what_systems_leave_and_what_is_no_file_is_no_picture(tmp_path: Path) -> None:
    written(tmp_path / "._a.jpg", "JPEG")
    (tmp_path / "Thumbs.db").write_bytes(b"\x89PNG")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    assert pictures_in(tmp_path) == []
    assert pictures_in(tmp_path / "none") == []


@pytest.mark.parametrize(
    ("content", "found", "way"),
    [
        (b"GIF89a" + bytes(20), "a GIF image", "256 colours"),
        (b"\xff\x0a" + bytes(20), "a JPEG XL image", "djxl"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(20), "a JPEG XL image", "djxl"),
        (b"8BPS" + bytes(20), "a Photoshop document", "export"),
        (b"II*\0\x10\0\0\0CR\x02\0" + bytes(20), "a camera's raw file", "develop"),
        (b'<?xml version="1.0"?><!-- x --><svg width="3">', "an SVG drawing", "export"),
    ],
)
def test_a_picture_of_a_kind_that_is_not_read_is_named_with_the_way_out(
    tmp_path: Path, content: bytes, found: str, way: str
) -> None:
    path = tmp_path / "picture"
    path.write_bytes(content)
    assert is_picture(path)
    with pytest.raises(BadImageError, match=found) as caught:
        read_image(path)
    assert way in caught.value.hint


def test_a_raw_file_whose_preview_alone_could_be_read_is_refused(tmp_path: Path) -> None:
    for name, options in (("a.nef", {}), ("b.tif", {"tiffinfo": {50706: b"\1\4\0\0"}})):
        path = save(tmp_path / name, picture(), format="TIFF", **options)
        with pytest.raises(BadImageError, match="a camera's raw file"):
            read_image(path)


def test_heic_is_read_by_its_plugin_or_named_with_the_way_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "phone.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(30))
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(BadImageError, match="found a HEIC image") as caught:
        read_image(path)
    assert "sosie[heic]" in caught.value.hint


# Colours


def test_wide_colours_become_those_of_srgb_to_the_eye(tmp_path: Path) -> None:
    """The numbers were worked out from the matrices of IEC 61966-2-1, SMPTE EG 432-1 and Adobe RGB (1998)."""
    for space, inside, outside in (
        (DISPLAY_P3, (200, 60, 60), (217, 42, 52)),
        (ADOBE_RGB, (200, 100, 50), (227, 100, 42)),
        (DISPLAY_P3, (128, 128, 128), (128, 128, 128)),
    ):
        path = save(tmp_path / "wide.png", Image.new("RGB", (8, 8), inside), icc_profile=profile_of(space))
        read = read_picture(path)
        assert np.abs(np.subtract(read.image.getpixel((4, 4)), outside)).max() <= 2, (
            space,
            read.image.getpixel((4, 4)),
        )
        assert space.name in read.notes[0]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_every_format_brings_its_profile(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "wide"
    Image.new("RGB", (16, 16), (200, 60, 60)).save(path, kind, icc_profile=profile_of(DISPLAY_P3), quality=100)
    red, green, blue = read_image(path).getpixel((8, 8))
    assert red > 210
    assert max(green, blue) < 70


def test_the_profile_of_srgb_moves_no_pixel(tmp_path: Path) -> None:
    from PIL import ImageCms

    rng = np.random.default_rng(1)
    noise = Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    read = read_picture(save(tmp_path / "a.png", noise, icc_profile=own))
    assert np.array_equal(np.asarray(read.image), np.asarray(noise))
    assert read.notes == ()


def test_a_damaged_profile_or_one_of_another_mode_costs_nothing(tmp_path: Path) -> None:
    for image, profile in (
        (picture(), b"nothing"),
        (picture(), b""),
        (picture().convert("CMYK"), profile_of(ADOBE_RGB)),
    ):
        path = save(tmp_path / "a.tif", image, icc_profile=profile)
        assert read_image(path).getpixel((5, 15))[0] > 150
    grey, name = to_srgb(Image.new("L", (4, 4), 128), profile_of(DISPLAY_P3))
    assert (grey.getpixel((1, 1)), name) == ((128, 128, 128), "Display P3")


def test_a_png_says_its_colours_by_numbers_too(tmp_path: Path) -> None:
    red = Image.new("RGB", (4, 4), (200, 60, 60))
    plain = save(tmp_path / "plain.png", red).read_bytes()
    for name, chunk, moved in (
        ("p3", (b"cICP", bytes((12, 13, 0, 1))), True),
        ("srgb", (b"cICP", bytes((1, 13, 0, 1))), False),
        ("wide", (b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)), True),
        ("usual", (b"gAMA", struct.pack(">I", 45455)), False),
        ("linear", (b"gAMA", struct.pack(">I", 100000)), True),
    ):
        path = tmp_path / f"{name}.png"
        path.write_bytes(with_chunk(plain, *chunk))
        assert (read_image(path).getpixel((1, 1)) != (200, 60, 60)) == moved, name


def test_a_camera_says_adobe_rgb_in_exif_alone(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x8769] = {0xA001: 0xFFFF, 0xA005: {1: "R03"}}
    path = save(tmp_path / "a.jpg", Image.new("RGB", (16, 16), (200, 100, 50)), exif=exif, quality=100)
    assert read_image(path).getpixel((8, 8))[0] > 220


def test_high_dynamic_range_is_said(tmp_path: Path) -> None:
    path = tmp_path / "hdr.png"
    path.write_bytes(with_chunk(save(tmp_path / "a.png", picture()).read_bytes(), b"cICP", bytes((9, 16, 0, 1))))
    assert any("high dynamic range" in note for note in read_picture(path).notes)


def test_a_grey_tiff_whose_zero_is_white_is_not_inverted(tmp_path: Path) -> None:
    deep = Image.fromarray(np.full((4, 4), 60_000, np.uint16))
    path = save(tmp_path / "a.tif", deep, tiffinfo={262: 0})
    with Image.open(path) as stored:
        assert stored.tag_v2[262] == 0
    assert read_image(path).getpixel((1, 1))[0] == 255 - 233


def test_alpha_is_kept_beside_the_picture_and_said(tmp_path: Path) -> None:
    half = Image.new("RGBA", (8, 8), (200, 0, 0, 128))
    read = read_picture(save(tmp_path / "a.png", half))
    assert read.alpha is not None
    assert read.alpha.getpixel((1, 1)) == 128
    assert "on white" in read.notes[0]
    assert read_picture(save(tmp_path / "b.png", Image.new("RGBA", (8, 8), (200, 0, 0, 255)))).alpha is None


# Metadata


def with_chunk(png: bytes, kind: bytes, data: bytes) -> bytes:
    """The PNG with a chunk after its header."""
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return png[:33] + chunk + png[33:]


def test_megabytes_of_text_do_not_cost_a_png_its_pixels(tmp_path: Path) -> None:
    plain = save(tmp_path / "plain.png", picture()).read_bytes()
    text = b"x" * 3_000_000
    noisy = np.random.default_rng(0).integers(32, 127, 2_000_000, dtype=np.uint8).tobytes()
    for name, kind, data in (
        ("text", b"tEXt", b"workflow\0" + noisy),
        ("packed", b"zTXt", b"workflow\0\0" + zlib.compress(text)),
        ("unicode", b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(noisy)),
        ("profile", b"iCCP", b"big\0\0" + zlib.compress(noisy)),
        ("broken", b"zTXt", b"workflow\0\0nothing"),
        ("unknown", b"prVt", noisy),
    ):
        path = tmp_path / f"{name}.png"
        path.write_bytes(with_chunk(plain, kind, data))
        read = read_picture(path)
        assert np.array_equal(np.asarray(read.image), np.asarray(picture())), name
        assert any("MB of text" in note for note in read.notes) == (name in ("text", "unicode")), name


def test_a_profile_that_unpacks_without_end_is_passed_over_and_said(tmp_path: Path) -> None:
    plain = save(tmp_path / "plain.png", picture()).read_bytes()
    path = tmp_path / "bomb.png"
    path.write_bytes(with_chunk(plain, b"iCCP", b"big\0\0" + zlib.compress(bytes(40_000_000))))
    read = read_picture(path)
    assert read.image.size == (40, 30)
    assert any("colour profile of more than 16 MB" in note for note in read.notes)


def test_how_a_picture_is_turned_is_read_from_text_too(tmp_path: Path) -> None:
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><a tiff:Orientation=\"6\"/></x:xmpmeta>"
    plain = save(tmp_path / "plain.png", picture()).read_bytes()
    path = tmp_path / "turned.png"
    path.write_bytes(with_chunk(plain, b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))
    assert read_image(path).size == (30, 40)


def test_heic_is_a_picture_like_any_other() -> None:
    pytest.importorskip("pi_heif")
    path = ROOT / "tests" / "fixtures" / "pictures" / "small.heic"
    image = read_image(path)
    assert image.size == (64, 48)
    assert image.getpixel((5, 5))[0] > 150 > image.getpixel((5, 5))[2]
    assert true_suffix(path) == ".heic"


def test_libtiff_says_nothing_on_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(out, "TIFF", compression="tiff_lzw")
    damaged = bytearray(out.getvalue())
    damaged[2000:2400] = bytes(400)
    (tmp_path / "x.tif").write_bytes(damaged)
    with pytest.raises(BadImageError, match="damaged or cut short"):
        read_image(tmp_path / "x.tif")
    os.write(2, b"still there")
    assert capfd.readouterr().err == "still there"
