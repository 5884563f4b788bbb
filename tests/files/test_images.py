"""Image files from anywhere: what is read, and what is said of what is not."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sosie.core.errors import BadImageError
from sosie.files.images import image_digest, is_image_name, read_image


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
        (b"\x00\x00\x00\x18ftypheic", "a HEIC image"),
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
    assert "expected a PNG, JPEG, WebP, BMP or TIFF image" in caught.value.message
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
    with pytest.raises(BadImageError, match=r"declares .* pixels; expected at most 100,000,000 pixels"):
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


@given(st.binary(max_size=60), st.integers(0, 400), st.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "TIFF"]))
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


def test_names_are_told_by_their_suffix() -> None:
    assert all(is_image_name(Path(name)) for name in ("a.png", "b.JPG", "c.jpeg", "d.webp", "e.bmp", "f.tif", "g.TIFF"))
    assert not any(is_image_name(Path(name)) for name in ("a.gif", "b.txt", "png", "c.safetensors"))


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"abc")
    assert image_digest(path) == hashlib.sha256(b"abc").hexdigest()
