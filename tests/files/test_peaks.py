"""How much memory hostile files may cost, reader by reader, as the peak of a process of its own."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from peaks import of_file, peak_of
from PIL import Image

pytestmark = pytest.mark.once

HEADER, JSON_ROOM, PICTURE, ARRAYS = 64, 192, 300, 140
"""MiB."""


def safetensors(path: Path, text: bytes) -> Path:
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    return path


def filled(unit: bytes, size: int, start: bytes = b"[", end: bytes = b"0]") -> bytes:
    return start + unit * ((size - len(start) - len(end)) // len(unit)) + end


TENSOR = b'"%07d":{"dtype":"F32","shape":[1,1,1,1],"data_offsets":[0,4]},'
HEADERS = {
    "objects": filled(b"{},", 9_900_000),
    "lists": filled(b"[],", 9_900_000),
    "small objects": filled(b'{"a":1},', 9_900_000),
    "numbers": filled(b"1000,", 9_900_000),
    "texts": filled(b'"ab",', 9_900_000),
    "keys": b'{"__metadata__":{' + b"".join(b'"%07d":"x",' % n for n in range(600_000)) + b'"x":"x"}}',
    "one wide text": b'{"__metadata__":{"x":"' + b"y" * 9_000_000 + "\U0001f600".encode() + b'"}}',
    "one wide escape": b'{"__metadata__":{"x":"' + b"y" * 9_000_000 + rb"\ud83d\ude00" + b'"}}',
    "one long text": b'{"__metadata__":{"x":"' + b"y" * 9_000_000 + b'"}}',
    "many tensors": b"{" + b"".join(TENSOR % n for n in range(20_000)) + b'"x":{}}',
    "too many tensors": b"{" + b"".join(TENSOR % n for n in range(150_000)) + b'"x":{}}',
    "levels": filled(b'{"a":', 9_900_000, b"", b""),
    "digits": b'{"a":' + b"9" * 9_000_000 + b"}",
}


@pytest.mark.parametrize("kind", HEADERS)
def test_a_header_takes_at_most_64_mib(tmp_path: Path, kind: str) -> None:
    warm = safetensors(tmp_path / "warm.safetensors", b'{"__metadata__":{}}')
    path = safetensors(tmp_path / "x.safetensors", HEADERS[kind])
    taken, said = of_file("sosie.files.safetensors", "read_header", path, warm)
    assert taken < HEADER, said


@pytest.mark.parametrize("unit", [b"{},", b'{"a":1},', b"[],", b'"ab",', b"1e5,", b'"' + b"x" * 1000 + b'",'])
def test_an_answer_of_json_takes_at_most_192_mib(tmp_path: Path, unit: bytes) -> None:
    (tmp_path / "x.json").write_bytes(filled(unit, 60_000_000))
    # The bytes are the caller's, who bounds them.
    read = f"content = Path({str(tmp_path / 'x.json')!r}).read_bytes()"
    setup = f"from sosie.files.foreign import parse_json\n{read}"
    taken, said = peak_of(setup, "parse_json(content)", "parse_json(b'[]')")
    assert taken < JSON_ROOM, said


def png(path: Path, side: int, depth: int, kind: int) -> Path:
    """A PNG of zeros: a kilobyte says a megapixel."""
    row = 1 + side * {0: 1, 2: 3, 4: 2, 6: 4}[kind] * depth // 8
    pack = zlib.compressobj(9)
    data = b"".join(pack.compress(bytes(row)) for _ in range(side)) + pack.flush()
    parts = [(b"IHDR", struct.pack(">IIBBBBB", side, side, depth, kind, 0, 0, 0)), (b"IDAT", data), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path


@pytest.mark.parametrize(("depth", "kind"), [(8, 2), (8, 6), (16, 0), (16, 4), (8, 0), (16, 2), (16, 6)])
@pytest.mark.parametrize("side", [3999, 6000])
def test_a_short_picture_takes_at_most_300_mib(tmp_path: Path, depth: int, kind: int, side: int) -> None:
    Image.new("RGBA", (64, 64)).save(tmp_path / "warm.png")
    path = png(tmp_path / "x.png", side, depth, kind)
    taken, said = of_file("sosie.files.images", "read_image", path, tmp_path / "warm.png")
    assert taken < PICTURE, said
    assert ("read" in said) == (side == 3999)


def test_a_servers_picture_is_as_large_as_what_was_asked_for(tmp_path: Path) -> None:
    path = png(tmp_path / "x.png", 6000, 8, 6)
    setup = (
        "from sosie.engines.comfy.pictures import decode\nfrom sosie.engines.comfy.server import Limits, Server\n"
        f"data = Path({str(path)!r}).read_bytes()\nserver = Server('http://127.0.0.1:1')\nimport PIL.PngImagePlugin"
    )
    taken, said = peak_of(setup, "decode(server, data, Limits(), 1024 * 1024)")
    assert taken < 20
    assert "6000 x 6000 pixels" in said


def npz(path: Path, arrays: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in arrays.items():
            archive.writestr(f"{name}.npy", content)
    return path


def npy(shape: tuple[int, ...], data: bytes, dtype: str = "<f4") -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": dtype, "fortran_order": False, "shape": shape})
    return out.getvalue() + data


META = np.array(json.dumps({"name": "x", "generator": "", "descriptions": ["x"], "encoders": {"a": "0"}}))


@pytest.mark.parametrize("kind", ["zeros", "declared", "objects", "many"])
def test_arrays_take_at_most_what_they_declare(tmp_path: Path, kind: str) -> None:
    out = io.BytesIO()
    np.save(out, META)
    contents = {
        "zeros": npy((250_000_000,), bytes(1_000_000_000)),
        "declared": npy((2**40,), bytes(100)),
        "objects": npy((1,), b"cos\nsystem\n.", "|O"),
        "many": npy((15_000_000,), bytes(60_000_000)),
    }
    arrays = {f"a{n}" if n else "a": contents[kind] for n in range(3 if kind == "many" else 1)}
    path = npz(tmp_path / "x.npz", {"meta": out.getvalue(), **arrays})
    warm = npz(tmp_path / "warm.npz", {"meta": out.getvalue(), "a": npy((1, 4), bytes(16))})
    taken, said = of_file("sosie.scorers.cohort", "load_cohort", path, warm)
    assert taken < ARRAYS
    assert "is not a cohort" in said or "has more than" in said
    (tmp_path / "x.npy").write_bytes(contents[kind][:200])
    setup = "from sosie.faces.templates import kept\nimport numpy as np"
    taken, said = peak_of(setup, f"kept(Path({str(tmp_path / 'x.npy')!r}), lambda: np.zeros(3, np.float32))")
    assert taken < 20
    assert said == "'read'"
