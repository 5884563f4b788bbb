from __future__ import annotations

import struct
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rules import codes_in

from sosie.core.errors import NotFoundError
from sosie.doctor.pickles import check_gguf
from sosie.files.gguf import MAX_HEADER, MAX_TENSORS, TYPES, GgufError, read_gguf

CODES = codes_in("doctor/pickles.py", "files/gguf.py")

TYPE_IDS = {title: number for number, (title, _, _) in TYPES.items()}


def text(value: str | bytes) -> bytes:
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(data)) + data


def valued(value: Any) -> bytes:
    """Type and value of a metadata entry; bytes stand for themselves."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + text(value)
    elements = [valued(element) for element in value]
    return struct.pack("<I", 9) + elements[0][:4] + struct.pack("<Q", len(elements)) + b"".join(e[4:] for e in elements)


Entry = tuple[str, Sequence[int], str, int]


def gguf(metadata: Mapping[str, Any], tensors: Sequence[Entry], data: int = 0, version: int = 3) -> bytes:
    """A file; a tensor is (name, shape innermost first, GGML type, offset), `data` the zeros after the header."""
    parts = [b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))]
    parts += [text(key) + valued(value) for key, value in metadata.items()]
    for name, shape, title, offset in tensors:
        axes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        parts.append(text(name) + axes + struct.pack("<IQ", TYPE_IDS.get(title, 999), offset))
    out = b"".join(parts)
    return out + bytes(-len(out) % 32) + bytes(data)


MODEL: list[Entry] = [
    ("layers.0.weight", (256, 2), "Q4_K", 0),
    ("layers.0.norm", (2,), "F32", 288),
    ("layers.1.weight", (32, 4), "Q8_0", 320),
]
META = {"general.architecture": "lumina2", "general.file_type": 15, "tokens": ["a"] * 40, "scores": [0.5] * 40}


def file(folder: Path, data: bytes) -> Path:
    path = folder / "model.gguf"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_a_header_gives_architecture_names_shapes_types_and_size(version: int, tmp_path: Path) -> None:
    found = read_gguf(file(tmp_path, gguf(META, MODEL, 456, version)))
    assert (found.version, found.architecture, found.file_type, found.storage) == (version, "lumina2", "Q4_K_M", "Q4_K")
    assert {n: (t.shape, t.type, t.bytes) for n, t in found.tensors.items()} == {
        "layers.0.weight": ((2, 256), "Q4_K", 288),
        "layers.0.norm": ((2,), "F32", 8),
        "layers.1.weight": ((4, 32), "Q8_0", 136),
    }
    assert found.parameters == 512 + 2 + 128
    assert found.expected == found.bytes
    assert found.metadata["tokens"] == found.metadata["scores"] == ""
    assert [(f.code, f.severity) for f in check_gguf(found.path)] == [("SOS-G010", "info")]


def test_families_get_the_shape_from_before_the_file_was_packed(tmp_path: Path) -> None:
    meta = {"comfy.gguf.orig_shape.layers.0.weight": [2, 4, 8, 8, 1]}
    header = read_gguf(file(tmp_path, gguf(meta, MODEL, 456))).header
    assert header.tensors["layers.0.weight"].shape == (2, 4, 8, 8, 1)
    assert [info.dtype for info in header.tensors.values()] == ["U8", "F32", "U8"]


def test_a_truncated_file_says_how_much_is_there(tmp_path: Path) -> None:
    findings = check_gguf(file(tmp_path, gguf(META, MODEL, 455)))
    assert [(f.code, f.severity) for f in findings] == [("SOS-G005", "error")]
    size = (tmp_path / "model.gguf").stat().st_size
    assert f"{size:,} of {size + 1:,} bytes" in findings[0].message


def test_bytes_after_the_last_tensor_are_a_warning_and_padding_is_not(tmp_path: Path) -> None:
    assert [f.code for f in check_gguf(file(tmp_path, gguf(META, MODEL, 480)))] == ["SOS-G010"]
    findings = check_gguf(file(tmp_path, gguf(META, MODEL, 456 + 2**16)))
    assert [f.code for f in findings] == ["SOS-G006", "SOS-G010"]


def changed(at: int, layout: str, value: int) -> bytes:
    data = bytearray(gguf(META, MODEL, 456))
    struct.pack_into(layout, data, at, value)
    return bytes(data)


NESTED = struct.pack("<IIQIQ", 9, 9, 1, 4, 0)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "SOS-G001"),
        (b"GGUF", "SOS-G001"),
        (b"<!DOCTYPE html>" + bytes(100), "SOS-G001"),
        (changed(4, "<I", 1), "SOS-G002"),
        (changed(4, ">I", 3), "SOS-G002"),
        (changed(8, "<Q", MAX_TENSORS + 1), "SOS-G003"),
        (changed(16, "<Q", 2**63), "SOS-G003"),
        (changed(24, "<Q", 2**64 - 1), "SOS-G003"),
        (gguf({"x": struct.pack("<IQ", 8, 2**62)}, MODEL), "SOS-G003"),
        (gguf({"x": struct.pack("<IIQ", 9, 0, 2**62)}, MODEL), "SOS-G003"),
        (gguf({"x": struct.pack("<IIQ", 9, 12, 2**62)}, MODEL), "SOS-G003"),
        (gguf({"x": struct.pack("<IIQ", 9, 8, 2**62)}, MODEL), "SOS-G003"),
        (gguf({"x": NESTED}, MODEL), "SOS-G004"),
        (gguf({"x": struct.pack("<I", 99)}, MODEL), "SOS-G004"),
        (gguf({"general.alignment": 3}, MODEL, 456), "SOS-G004"),
        (gguf({"general.alignment": 0}, MODEL, 456), "SOS-G004"),
        (gguf({"general.alignment": "a"}, MODEL, 456), "SOS-G004"),
        (gguf({}, [("a", (4,), "F32", 0), ("a", (4,), "F32", 32)], 64), "SOS-G004"),
        (gguf({}, [("a", (100,), "Q4_K", 0)], 64), "SOS-G004"),
        (gguf({}, [("a", (2**40, 2**40), "F32", 0)], 64), "SOS-G004"),
        (gguf({}, [("a", (1,) * 5, "F32", 0)], 64), "SOS-G004"),
        (gguf({}, [("a", (4,), "no such type", 0)], 64), "SOS-G007"),
        (gguf({}, [("a", (4,), "F32", 4)], 64), "SOS-G008"),
        (gguf({}, [("a", (16,), "F32", 0), ("b", (4,), "F32", 32)], 64), "SOS-G008"),
        (gguf({}, []), "SOS-G009"),
        (gguf(META, MODEL)[:60], "SOS-G005"),
    ],
)
def test_a_header_that_cannot_be_true_is_refused_with_its_code(data: bytes, code: str, tmp_path: Path) -> None:
    (finding,) = check_gguf(file(tmp_path, data))
    assert (finding.code, finding.severity) == (code, "error")
    assert finding.hint
    assert str(tmp_path) in finding.message


def test_two_metadata_entries_of_one_key_are_refused(tmp_path: Path) -> None:
    entry = text("x") + valued(1)
    data = b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + entry + entry
    with pytest.raises(GgufError, match="twice"):
        read_gguf(file(tmp_path, data))


def test_a_missing_file_and_a_folder_are_errors_of_ours(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_gguf(tmp_path / "none.gguf")
    assert [f.code for f in check_gguf(tmp_path / "none.gguf")] == ["SOS-G019"]
    assert [f.code for f in check_gguf(tmp_path)] == ["SOS-G001"]


def test_the_sizes_of_blocks_are_those_of_the_format() -> None:
    per_weight = {title: 8 * size / block for title, block, size in TYPES.values()}
    known = {"Q4_K": 4.5, "Q5_K": 5.5, "Q6_K": 6.5625, "Q3_K": 3.4375, "Q2_K": 2.625, "Q8_0": 8.5, "IQ4_XS": 4.25}
    known |= {"IQ2_XXS": 2.0625, "IQ2_XS": 2.3125, "IQ2_S": 2.5625, "IQ3_S": 3.4375, "IQ1_S": 1.5625, "IQ1_M": 1.75}
    known |= {"TQ1_0": 1.6875, "TQ2_0": 2.0625, "MXFP4": 4.25, "NVFP4": 4.5, "F16": 16, "BF16": 16}
    assert {title: per_weight[title] for title in known} == known


def test_bombs_stay_below_64_megabytes(tmp_path: Path) -> None:
    wide = "\U0001f600" + "a" * 1000
    bombs = [
        gguf({f"{n}": [wide] * 16 for n in range(1000)}, []),
        gguf({f"{n}": "\U0001f600" + "a" * 4000 for n in range(4096)}, []),
        gguf({}, [(f"{n}" + "\U0001f600" * 60, (4,) * 4, "F32", 0) for n in range(MAX_TENSORS)]),
        gguf({"x": struct.pack("<IIQ", 9, 8, 2**40) + bytes(MAX_HEADER)}, []),
    ]
    for number, bomb in enumerate(bombs):
        (tmp_path / f"{number}.gguf").write_bytes(bomb)
    script = """
        import sys
        from pathlib import Path
        from sosie.doctor.pickles import check_gguf

        def peak():  # of this process alone; ru_maxrss is that of the parent too
            return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

        start = peak()
        for path in sorted(Path(sys.argv[1]).iterdir()):
            code = check_gguf(path)[0].code
            print(path.name, code, (peak() - start) // 1024)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.splitlines()
    assert [line.split()[1] for line in lines] == ["SOS-G009", "SOS-G009", "SOS-G008", "SOS-G003"]
    assert max(int(line.split()[2]) for line in lines) < 64, lines


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_whatever_a_file_holds_there_are_only_findings(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(gguf({**META, "more": [1, 2], "flag": True}, MODEL, 456))
    if data.draw(st.booleans()):
        for _ in range(data.draw(st.integers(1, 6))):
            at = data.draw(st.integers(0, len(content) - 1))
            content[at : at + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    else:
        content = bytearray(b"GGUF\3\0\0\0" + data.draw(st.binary(max_size=400)))
    path = file(tmp_path_factory.getbasetemp(), bytes(content))
    findings = check_gguf(path)
    assert findings
    assert {finding.code for finding in findings} <= CODES
    assert all(finding.message.encode() for finding in findings)
