"""ONNX files are known by what they take and give: no weight is read, and nothing in a file is run."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import pytest
from creators_folder import onnx
from hypothesis import given
from hypothesis import strategies as st

from sosie.core.errors import BadModelError
from sosie.faces.onnx import encoded_numbers
from sosie.files.onnx import OnnxHeader, OnnxValue, read_onnx


def test_inputs_and_outputs_are_read_without_the_weights(tmp_path: Path) -> None:
    path = onnx(tmp_path / "face.onnx", 112, 512, 3_000_000_000)
    assert path.stat().st_size == 3_000_000_000
    start = time.perf_counter()
    header = read_onnx(path)
    assert time.perf_counter() - start < 0.5
    assert header.inputs == (OnnxValue("in", "float32", (None, 3, 112, 112)),)
    assert header.outputs == (OnnxValue("out", "float32", (1, 512)),)


def test_an_encoder_of_faces_is_told_from_other_networks_of_a_pack(tmp_path: Path) -> None:
    numbers = {side: encoded_numbers(read_onnx(onnx(tmp_path / f"{side}.onnx", side, 512))) for side in (112, 96, 192)}
    assert numbers == {112: 512, 96: None, 192: None}
    two = OnnxValue("out", "float32", (1, 512))
    face = OnnxValue("in", "float32", (None, 3, 112, 112))
    assert encoded_numbers(OnnxHeader((face,), (two, two))) is None
    assert encoded_numbers(OnnxHeader((face,), (OnnxValue("out", "float32", (None, None)),))) == 0
    assert encoded_numbers(OnnxHeader((OnnxValue("in", "float16", face.shape),), (two,))) is None


@pytest.mark.local
def test_the_encoder_of_the_embedded_model_is_one() -> None:
    from sosie_mini import MODEL

    assert encoded_numbers(read_onnx(MODEL.folder() / "id_encoder.onnx")) is not None


BAD = (b"", b"<html>", b"GGUF\x03\0\0\0", b"\x08\x07", b"\x3a\xff\xff\xff\xff\x7f", b"\x3a\x02\x0a\x00", b"\xff" * 64)


@pytest.mark.parametrize("content", BAD)
def test_what_is_no_model_is_one_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    with pytest.raises(BadModelError, match="no ONNX file, or a damaged one"):
        read_onnx(path)


@given(at=st.integers(0, 200), value=st.integers(0, 255), end=st.integers(0, 200))
def test_a_changed_byte_or_a_cut_is_an_error_or_another_header(
    tmp_path_factory: pytest.TempPathFactory, at: int, value: int, end: int
) -> None:
    path = onnx(tmp_path_factory.mktemp("fuzz") / "x.onnx", 112, 512)
    content = bytearray(path.read_bytes())
    content[at % len(content)] = value
    path.write_bytes(content[: len(content) - end % len(content)])
    with suppress(BadModelError):  # and nothing else
        assert read_onnx(path).outputs


def test_a_file_of_endless_fields_is_given_up_soon(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"\x08\x00" * 120_000)
    with pytest.raises(BadModelError, match="more than 100,000 fields"):
        read_onnx(path)
