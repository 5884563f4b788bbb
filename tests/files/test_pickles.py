from __future__ import annotations

import io
import json
import pickle
import struct
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rules import codes_in

from sosie.cli.model.convert import convert_command
from sosie.core.errors import MissingExtraError, NotFoundError, SosieError, UsageError
from sosie.doctor.pickles import check_pickle
from sosie.families import families
from sosie.files.pickles import convert as pickle_convert
from sosie.files.pickles.archive import LEGACY_MAGIC, MAX_PICKLE
from sosie.files.pickles.convert import CHILD, convert
from sosie.files.pickles.pickled import read_pickled
from sosie.files.pickles.records import PickleError
from sosie.files.safetensors import read_header
from sosie.files.signature import claims

CODES = codes_in("doctor/pickles.py", "files/pickles")

# Pickles by hand: each function gives the opcodes that push one value.


def text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def whole(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def tuple_of(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def table(items: Mapping[str, bytes]) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + tuple_of(*arguments) + b"R"


def storage(key: str, elements: int, kind: bytes = named("torch", "FloatStorage")) -> bytes:
    return tuple_of(text("storage"), kind, text(key), text("cpu"), whole(elements)) + b"Q"


ORDERED = named("collections", "OrderedDict") + b")R"


def tensor(stored: bytes, shape: tuple[int, ...], stride: tuple[int, ...] | None = None, offset: int = 0) -> bytes:
    if stride is None:
        stride = tuple(_product(shape[i + 1 :]) for i in range(len(shape)))
    sizes = (tuple_of(*map(whole, values)) for values in (shape, stride))
    return call(named("torch._utils", "_rebuild_tensor_v2"), stored, whole(offset), *sizes, b"\x89", ORDERED)


def _product(values: tuple[int, ...]) -> int:
    return values[0] * _product(values[1:]) if values else 1


def finished(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def archive(body: bytes, storages: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as members:
        members.writestr("archive/data.pkl", finished(body))
        for key, data in storages.items():
            members.writestr(f"archive/data/{key}", data)
    return out.getvalue()


def legacy(body: bytes, storages: Mapping[str, bytes]) -> bytes:
    start = [pickle.dumps(value, 2) for value in (LEGACY_MAGIC, 1001, {"little_endian": True})]
    ends = b"".join(struct.pack("<q", len(data) // 4) + data for data in storages.values())
    return b"".join(start) + finished(body) + pickle.dumps(list(storages), 2) + ends


WEIGHT = tensor(storage("0", 6), (2, 3))
SIX = bytes(range(24))


def file(folder: Path, data: bytes, name: str = "model.bin") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def refusal(path: Path) -> PickleError:
    with pytest.raises(PickleError) as caught:
        read_pickled(path)
    assert caught.value.code in CODES
    return caught.value


# What is known without running anything.


@pytest.mark.parametrize("container", [archive, legacy])
def test_names_shapes_and_dtypes_are_known_from_the_opcodes_alone(container: object, tmp_path: Path) -> None:
    assert callable(container)
    body = table({"b.weight": WEIGHT, "a.weight": tensor(storage("1", 8), (2, 2), (1, 2), 4), "epoch": whole(5)})
    pickled = read_pickled(file(tmp_path, container(body, {"0": SIX, "1": bytes(32)})))
    assert [(n, i.dtype, i.shape, i.offsets) for n, i in pickled.header.tensors.items()] == [
        ("b.weight", "F32", (2, 3), (0, 24)),
        ("a.weight", "F32", (2, 2), (24, 40)),
    ]
    assert pickled.protocol == 2
    assert pickled.left_out == 0
    assert [f.code for f in check_pickle(pickled.path)] == ["SOS-K012"]


def test_tables_in_tables_are_joined_by_dots_and_their_family_is_known(tmp_path: Path) -> None:
    key = tensor(storage("0", 1280 * 2048), (1280, 2048))
    body = table(
        {
            "image_proj": table({"latents": tensor(storage("1", 6), (1, 2, 3))}),
            "ip_adapter": ORDERED + b"(" + text("1.to_k_ip.weight") + key + b"u",
        }
    )
    pickled = read_pickled(file(tmp_path, archive(body, {"0": bytes(4 * 1280 * 2048), "1": SIX})))
    assert list(pickled.header.tensors) == ["image_proj.latents", "ip_adapter.1.to_k_ip.weight"]
    assert pickled.places["ip_adapter.1.to_k_ip.weight"] == ("ip_adapter", "1.to_k_ip.weight")
    assert [(c.family, c.part.role, c.variant) for c in claims(pickled.header, families())] == [
        ("sdxl", "ip-adapter", "plus")
    ]


def test_the_wrapper_of_a_training_script_is_taken_off_and_the_rest_counted(tmp_path: Path) -> None:
    body = table({"state_dict": table({"w": WEIGHT}), "optimizer": table({"exp_avg": WEIGHT}), "epoch": whole(3)})
    pickled = read_pickled(file(tmp_path, archive(body, {"0": SIX})))
    assert list(pickled.header.tensors) == ["w"]
    assert pickled.places["w"] == ("state_dict", "w")
    assert pickled.left_out == 1
    assert [f.code for f in check_pickle(pickled.path)] == ["SOS-K012", "SOS-K014"]


def test_metadata_that_a_module_sets_on_its_ordered_dict_is_no_reason_to_refuse(tmp_path: Path) -> None:
    state = ORDERED + b"(" + text("w") + WEIGHT + b"u" + table({"_metadata": ORDERED}) + b"b"
    assert list(read_pickled(file(tmp_path, archive(state, {"0": SIX}))).header.tensors) == ["w"]


def test_a_newer_protocol_is_read_and_warned_about(tmp_path: Path) -> None:
    names = b"\x8c\x0ctorch._utils\x94" + b"\x8c\x12_rebuild_tensor_v2\x94\x93"
    body = b"\x80\x04\x95" + bytes(8) + table({"w": WEIGHT.replace(named("torch._utils", "_rebuild_tensor_v2"), names)})
    path = file(tmp_path, archive(body, {"0": SIX}))
    assert list(read_pickled(path).header.tensors) == ["w"]
    assert [f.code for f in check_pickle(path)] == ["SOS-K012", "SOS-K013"]


# What is refused.


def touch(sentinel: Path) -> bytes:
    return call(named("os", "system"), text(f"touch {sentinel}"))


def attacks(sentinel: Path) -> dict[str, tuple[bytes, str]]:
    """Bodies of pickles that would touch the sentinel, and what must be named."""
    command = f"touch {sentinel}"
    by_memo = text("system") + b"q\x05" + b"0" + text("os") + b"h\x05\x93"
    return {
        "os.system": (touch(sentinel), "os.system"),
        "posix.system": (call(named("posix", "system"), text(command)), "posix.system"),
        "eval": (call(named("__builtin__", "eval"), text(f"open({str(sentinel)!r}, 'w')")), "builtins.eval"),
        "beside tensors": (table({"w": WEIGHT, "x": touch(sentinel)}), "os.system"),
        "as a key": (b"}(" + touch(sentinel) + WEIGHT + b"u", "os.system"),
        "inside a call": (table({"w": tensor(touch(sentinel), (2, 3))}), "os.system"),
        "a call of a call": (
            call(call(named("builtins", "getattr"), named("os", "system"), text("__call__")), text(command)),
            "builtins.getattr, os.system",
        ),
        "names from the stack": (text("os") + text("system") + b"\x93" + tuple_of(text(command)) + b"R", "os.system"),
        "names from the memo": (
            text("system") + b"q\x05" + text("os") + b"q\x06" + b"h\x06h\x05\x93" + tuple_of(text(command)) + b"R",
            "os.system",
        ),
        "names popped": (by_memo + tuple_of(text(command)) + b"R", ""),
        "INST": (b"(" + text(command) + b"ios\nsystem\n", "os.system"),
        "OBJ": (b"(" + named("os", "system") + text(command) + b"o", "os.system"),
        "NEWOBJ": (named("subprocess", "Popen") + tuple_of(text(command)) + b"\x81", "subprocess.Popen"),
        "EXT1": (b"\x82\x01" + tuple_of(text(command)) + b"R", "extension 1"),
        "EXT4": (b"\x84\x01\0\0\x01" + tuple_of(text(command)) + b"R", "extension"),
        "BUILD of an object": (
            call(named("types", "SimpleNamespace")) + table({"__setstate__": touch(sentinel)}) + b"b",
            "types.SimpleNamespace, os.system",
        ),
        "state of an ordered dict": (ORDERED + table({"x": touch(sentinel)}) + b"b", "os.system"),
        "dotted name": (
            call(named("torch", "serialization.os.system"), text(command)),
            "torch.serialization.os.system",
        ),
        "near an allowed name": (call(named("torch", "FloatStorage.os"), text(command)), "torch.FloatStorage.os"),
        "persistent id": (tuple_of(text("storage"), touch(sentinel)) + b"Q", "os.system"),
        "class of a storage": (table({"w": tensor(storage("0", 6, named("os", "system")), (2, 3))}), "os.system"),
        "numpy": (named("numpy.core.multiarray", "_reconstruct"), "numpy.core.multiarray._reconstruct"),
        "joblib": (call(named("torch._utils", "_rebuild_qtensor"), text("x")), "torch._utils._rebuild_qtensor"),
        "lightning": (
            table({"callbacks": b"}(" + named("pytorch_lightning.callbacks", "ModelCheckpoint") + b"}u", "w": WEIGHT}),
            "pytorch_lightning.callbacks.ModelCheckpoint",
        ),
    }


@pytest.mark.parametrize("attack", list(attacks(Path())))
@pytest.mark.parametrize("container", ["zip", "legacy", "bare"])
def test_what_is_not_a_tensor_is_refused_and_named_and_never_run(attack: str, container: str, tmp_path: Path) -> None:
    sentinel = tmp_path / "sentinel"
    body, names = attacks(sentinel)[attack]
    make = {"zip": archive, "legacy": legacy, "bare": lambda body, _: finished(body)}[container]
    path = file(tmp_path, make(body, {"0": SIX}))
    error = refusal(path)
    assert not sentinel.exists()
    if names:
        assert error.code == "SOS-K001"
        assert f"holds {names}" in error.message
        assert error.hint
    with pytest.raises(PickleError):
        convert(path, tmp_path / "out.safetensors")
    assert not sentinel.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["model.bin"]


def test_the_payload_of_these_tests_is_real(tmp_path: Path) -> None:
    sentinel = tmp_path / "sentinel"
    pickle.loads(finished(touch(sentinel)))
    assert sentinel.exists()


def test_a_module_that_a_pickle_names_is_not_even_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil_module.py").write_text(f"open({str(tmp_path / 'sentinel')!r}, 'w').close()")
    monkeypatch.syspath_prepend(tmp_path)
    error = refusal(file(tmp_path, archive(named("evil_module", "Thing"), {})))
    assert "evil_module.Thing" in error.message
    assert not (tmp_path / "sentinel").exists()


def test_an_old_text_pickle_is_named_too(tmp_path: Path) -> None:
    error = refusal(file(tmp_path, b"cos\nsystem\n(S'touch sentinel'\ntR."))
    assert (error.code, "os.system" in error.message) == ("SOS-K001", True)


def test_a_second_pickle_behind_the_first_is_refused(tmp_path: Path) -> None:
    sentinel = tmp_path / "sentinel"
    good, evil = table({"w": WEIGHT}), finished(touch(sentinel))
    assert refusal(file(tmp_path, archive(good + b"." + evil[:-1], {"0": SIX}))).code == "SOS-K007"
    assert refusal(file(tmp_path, legacy(good, {"0": SIX}) + evil)).code == "SOS-K007"
    keys = legacy(good, {"0": SIX}).replace(pickle.dumps(["0"], 2), evil)
    assert refusal(file(tmp_path, keys)).code == "SOS-K001"
    system = legacy(good, {"0": SIX}).replace(pickle.dumps({"little_endian": True}, 2), evil)
    assert refusal(file(tmp_path, system)).code == "SOS-K001"
    assert not sentinel.exists()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"Pos\n", "SOS-K002"),  # PERSID
        (text("module") + b"Q", "SOS-K003"),
        (tuple_of(text("module"), text("x"), text("y"), text("z"), text("q")) + b"Q", "SOS-K003"),
        (table({"w": WEIGHT.replace(text("storage"), text("module"))}), "SOS-K003"),
        (table({"w": WEIGHT.replace(b"tQ", tuple_of(text("0"), whole(0), whole(1)) + b"tQ")}), "SOS-K003"),
        (storage("../../etc/passwd", 6), "SOS-K003"),
        (storage("..", 6), "SOS-K003"),
        (storage("0", -1), "SOS-K003"),
        (storage("0", 6) + b"0" + storage("0", 7), "SOS-K002"),  # POP is never written
        (tuple_of(storage("0", 6), storage("0", 7)), "SOS-K003"),
        (table({"w": tensor(storage("0", 6), (2, 4))}), "SOS-K010"),
        (table({"w": tensor(storage("0", 6), (2, 3), (3, 1), 1)}), "SOS-K010"),
        (table({"w": tensor(storage("0", 6), (2, 3), (-3, 1))}), "SOS-K002"),
        (table({"w": tensor(storage("0", 6), (2, -3), (3, 1))}), "SOS-K002"),
        (table({"w": tensor(storage("0", 6), (2**31 - 1, 6), (0, 1))}), "SOS-K011"),
        (table({"w": tensor(storage("1", 6), (2, 3))}), "SOS-K005"),
        (table({"w": tensor(storage("0", 7), (2, 3))}), "SOS-K005"),
        (table({"a.b": WEIGHT, "a": table({"b": WEIGHT})}), "SOS-K010"),
        (table({"\ud800": WEIGHT}), "SOS-K010"),
        (table({"n" * 501: WEIGHT}), "SOS-K010"),
        (table({"epoch": whole(1)}), "SOS-K009"),
        (WEIGHT, "SOS-K009"),
        (whole(5) + b"}b", "SOS-K002"),
        (b"}" + table({}) + b"b", "SOS-K002"),
        (b"h\x07", "SOS-K002"),
        (b"R", "SOS-K002"),
        (b"t", "SOS-K002"),
        (b"(", "SOS-K002"),
        (whole(1) + whole(2), "SOS-K002"),
        (b"\x8a\xff", "SOS-K005"),
        (b"X\xff\xff\xff\x7fabc", "SOS-K005"),
        (b"\x8d" + b"\xff" * 7 + b"\x7f" + b"abc", "SOS-K005"),  # a text of 2^63 bytes
        (b"\x95" + b"\xff" * 8, "SOS-K009"),  # a frame of 2^64 bytes; frames say nothing
        (b"}()" + whole(1) + b"u", "SOS-K002"),  # a tuple as a key
    ],
)
def test_what_torch_never_writes_is_refused_with_its_code(body: bytes, code: str, tmp_path: Path) -> None:
    if code == "SOS-K009" and body.startswith(b"\x95"):
        body += b"}"
    assert refusal(file(tmp_path, archive(body, {"0": SIX}))).code == code


def test_3500_tensors_with_long_names_are_within_the_limits(tmp_path: Path) -> None:
    names = [f"{n:0480}" for n in range(3500)]
    body = table({name: tensor(storage("0", 6), (2, 3)) for name in names})
    assert len(body) > 2 * 2**20
    assert list(read_pickled(file(tmp_path, archive(body, {"0": SIX}))).header.tensors) == names


def test_tables_that_hold_themselves_or_explode_are_refused_in_time(tmp_path: Path) -> None:
    cycle = b"}q\x01" + text("again") + b"h\x01s"
    assert refusal(file(tmp_path, archive(cycle, {}))).code == "SOS-K004"
    laughs = b"]q\x00"
    for level in range(1, 40):
        previous = b"h" + bytes([level - 1])
        laughs += b"]q" + bytes([level]) + b"(" + previous * 10 + b"e"
    assert refusal(file(tmp_path, archive(b"(" + laughs + b"t", {}))).code == "SOS-K004"
    key = b")\x85q\x00"
    for level in range(1, 60):
        previous = b"h" + bytes([level - 1])
        key += b"(" + previous * 2 + b"tq" + bytes([level])
    assert "a tuple as a key" in refusal(file(tmp_path, archive(b"}(" + key + b"t" + whole(1) + b"s", {}))).message


def member(name: str, data: bytes = b"x") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as members:
        members.writestr("archive/data.pkl", finished(table({"w": WEIGHT})))
        members.writestr("archive/data/0", SIX)
        members.writestr(name, data)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (archive(table({"w": WEIGHT}), {"0": bytes(24)}, zipfile.ZIP_DEFLATED), "SOS-K006"),
        (member("archive/../../evil"), "SOS-K006"),
        (member("/etc/passwd"), "SOS-K006"),
        (member("archive\\..\\evil"), "SOS-K006"),
        (member("other/file"), "SOS-K006"),
        (member("archive/code/__torch__.py"), "SOS-K008"),
        (member("archive/constants.pkl"), "SOS-K008"),
        (b"PK\x03\x04" + bytes(100), "SOS-K005"),
        (archive(table({"w": WEIGHT}), {"0": SIX})[:-30], "SOS-K005"),
        (archive(table({"w": WEIGHT}), {"0": SIX}) + b"tail", "SOS-K005"),
        (b"PK\x03\x04" + archive(table({"w": WEIGHT}), {"0": SIX}), "SOS-K006"),
        (legacy(table({"w": WEIGHT}), {"0": SIX})[:-1], "SOS-K005"),
        (legacy(table({"w": WEIGHT}), {"0": SIX[:20]}), "SOS-K005"),
        (legacy(table({"w": WEIGHT}), {"1": SIX}), "SOS-K005"),
        (finished(table({"w": whole(1)})), "SOS-K008"),
        (b"", "SOS-K008"),
        (b"<!DOCTYPE html><html>", "SOS-K008"),
        (b"version https://git-lfs.github.com/spec/v1\n", "SOS-K008"),
    ],
)
def test_a_container_that_torch_did_not_write_is_refused(data: bytes, code: str, tmp_path: Path) -> None:
    error = refusal(file(tmp_path, data))
    assert (error.code, str(tmp_path) in error.message) == (code, True)
    assert [f.severity for f in check_pickle(tmp_path / "model.bin")] == ["error"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    error = refusal(file(tmp_path, member("archive/data.pkl", finished(touch(tmp_path / "sentinel")))))
    assert error.code == "SOS-K006"


def test_a_pickle_that_is_a_tar_archive_as_well_is_refused(tmp_path: Path) -> None:
    import tarfile

    info = tarfile.TarInfo("\x80\x02X\xff")
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT, "latin-1"))
    assert refusal(file(tmp_path, bytes(block) + bytes(1024))).code == "SOS-K008"
    assert "tar archive" in refusal(tmp_path / "model.bin").message


def test_a_missing_file_and_a_folder_are_errors_of_ours(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_pickled(tmp_path / "none.bin")
    assert [f.code for f in check_pickle(tmp_path / "none.bin")] == ["SOS-K049"]
    assert refusal(tmp_path).code == "SOS-K008"


# Limits.


def bombs() -> dict[str, bytes]:
    """Pickles of at most 4 MiB that try to become more."""
    return {
        "empty tables": b"}" * (MAX_PICKLE - 100),
        "memo": b"}" + b"r\0\0\0\0" * 3 + b"".join(b"r" + struct.pack("<I", n * 2719) for n in range(750_000)),
        "memoize": b"}" + b"\x94" * (MAX_PICKLE - 200),
        "texts": b"(" + b"".join(text("a" * 1000 + "\U0001f600") for _ in range(4000)) + b"t",
        "one text": text("\U0001f600" + "a" * (MAX_PICKLE - 200)),
        "tuples": b")" + b"\x85" * (MAX_PICKLE - 200),
        "marks": b"(" * (MAX_PICKLE - 200),
        "longs": b"(" + (b"\x8a\xff" + b"\x01" * 255) * 16_000 + b"t",
    }


def crowd(size: int) -> bytes:
    """An archive of so many members, 53 bytes each in its directory."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as members:
        for number in range(size):
            members.writestr(zipfile.ZipInfo(f"a/{number:05}"), b"")
    return out.getvalue()


def test_each_limit_is_named_that_a_file_exceeds(tmp_path: Path) -> None:
    assert "a pickle of 4,194,3" in refusal(file(tmp_path, archive(b"]" * (MAX_PICKLE + 10), {}))).message
    assert "has 20,001 members (limit 20,000)" in refusal(file(tmp_path, crowd(20_001))).message
    assert "a zip directory of 2,120,000 bytes" in refusal(file(tmp_path, crowd(40_000))).message


def test_bombs_stay_below_64_megabytes(tmp_path: Path) -> None:
    made = bombs()
    for number, body in enumerate(made.values()):
        file(tmp_path, archive(body, {}), f"{number}.bin")
    file(tmp_path, legacy(made["memoize"], {}), "legacy.bin")
    file(tmp_path, crowd(39_000), "crowd.bin")
    script = """
        import sys
        from pathlib import Path
        from sosie.files.pickles.records import PickleError
        from sosie.files.pickles.pickled import read_pickled

        def peak():  # of this process alone; ru_maxrss is that of the parent too
            return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

        start = peak()
        for path in sorted(Path(sys.argv[1]).iterdir()):
            try:
                read_pickled(path)
            except PickleError as error:
                used = (peak() - start) // 1024
                print(path.name, error.code, used)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.splitlines()
    assert len(lines) == len(made) + 2
    # Long numbers fit, as they are short in memory too; they make no table.
    assert {line.split()[1] for line in lines} == {"SOS-K004", "SOS-K009"}
    assert max(int(line.split()[2]) for line in lines) < 64, lines


# Fuzzing.

VALID = (
    archive(table({"a": table({"w": WEIGHT}), "v": tensor(storage("1", 4), (2, 2))}), {"0": SIX, "1": bytes(16)}),
    legacy(table({"a": table({"w": WEIGHT}), "v": tensor(storage("1", 4), (2, 2))}), {"0": SIX, "1": bytes(16)}),
)
OPCODES = st.sampled_from([bytes([code.code.encode("latin-1")[0]]) for code in __import__("pickletools").opcodes])


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
@given(st.data())
@settings(max_examples=200, deadline=None)
def test_whatever_a_file_holds_there_are_only_errors_of_ours(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    kind = data.draw(st.sampled_from(["bytes", "mutated", "opcodes"]))
    if kind == "mutated":
        content = bytearray(data.draw(st.sampled_from(VALID)))
        for _ in range(data.draw(st.integers(1, 6))):
            at = data.draw(st.integers(0, len(content) - 1))
            content[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=6))
    elif kind == "bytes":
        start = data.draw(st.sampled_from([b"", b"\x80\x02", b"PK\x03\x04", finished(b"]")]))
        content = bytearray(start + data.draw(st.binary(max_size=300)))
    else:
        parts = st.one_of(OPCODES, st.just(WEIGHT), st.just(text("k")), st.just(ORDERED), st.binary(max_size=3))
        body = b"".join(data.draw(st.lists(parts, max_size=30)))
        content = bytearray(data.draw(st.sampled_from([archive, legacy]))(body, {"0": SIX}))
    path = file(tmp_path_factory.getbasetemp(), bytes(content), "fuzzed.bin")
    findings = check_pickle(path)
    assert {finding.code for finding in findings} <= CODES
    assert all(finding.message.encode() for finding in findings)
    if findings[0].severity == "info":
        assert all(name.encode() for name in read_pickled(path).header.tensors)


# Conversion.


def fake_child(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(pickle_convert, "CHILD", file(folder, textwrap.dedent(script).encode(), "child.py"))


def good_file(folder: Path) -> Path:
    return file(folder, archive(table({"w": WEIGHT}), {"0": SIX}))


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("import sys; sys.stderr.write('noise\\nValueError: no\\n'); sys.exit(3)", "SOS-K020"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SOS-K021"),
        ("import time; time.sleep(60)", "SOS-K021"),
        (
            """
            import base64, json, sys
            plan = json.load(sys.stdin)
            head = base64.b64decode(plan["header"]).replace(b'"w"', b'"x"')
            open(sys.argv[2], "wb").write(head + bytes(24))
            """,
            "SOS-K022",
        ),
    ],
)
def test_a_child_that_fails_leaves_nothing_behind(
    script: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    fake_child(tmp_path, monkeypatch, script)
    with pytest.raises(PickleError) as caught:
        convert(good_file(work), work / "out.safetensors", 1 if "sleep" in script else 60)
    assert caught.value.code == code
    assert [p.name for p in work.iterdir()] == ["model.bin"]


def test_the_child_gets_no_environment_and_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    fake_child(
        tmp_path,
        monkeypatch,
        """
        import os, sys
        here = [name for name in os.listdir() if name != "stderr"]
        sys.stderr.write("\\n" + " ".join([*sorted(os.environ), *here, str(sys.flags.isolated)]))
        sys.exit(3)
        """,
    )
    with pytest.raises(PickleError) as caught:
        convert(good_file(tmp_path), tmp_path / "out.safetensors")
    words = caught.value.message.split("refuses it: ")[1].split()
    assert set(words) - {"LC_CTYPE"} == {"HOME", "TMPDIR", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "1"}


def test_the_command_writes_beside_the_file_and_names_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = """
        import base64, json, sys
        plan = json.load(sys.stdin)
        open(sys.argv[2], "wb").write(base64.b64decode(plan["header"]) + bytes(range(24)))
    """
    fake_child(tmp_path, monkeypatch, script)
    path = good_file(tmp_path)
    arguments = [str(path), "--json", "--workspace", str(tmp_path)]
    assert convert_command.main(arguments, standalone_mode=False) == 0
    line = json.loads(capsys.readouterr().out)
    out = path.with_suffix(".safetensors")
    assert line == {"path": str(path), "out": str(out), "tensors": 1, "bytes": out.stat().st_size}
    assert read_header(out).tensors == read_pickled(path).header.tensors
    assert out.stat().st_mode & 0o600 == 0o600


def test_without_torch_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_child(tmp_path, monkeypatch, "import sys; sys.exit(4)")
    with pytest.raises(MissingExtraError) as caught:
        convert(good_file(tmp_path), tmp_path / "out.safetensors")
    assert "sosie[local]" in caught.value.hint


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    out = file(tmp_path, b"mine", "out.safetensors")
    with pytest.raises(UsageError):
        convert(good_file(tmp_path), out)
    assert out.read_bytes() == b"mine"
    with pytest.raises(UsageError):
        convert(good_file(tmp_path), tmp_path / "out.bin")


@pytest.mark.parametrize(
    "deed",
    [
        "os.system('touch sentinel')",
        "__import__('subprocess').run(['touch', 'sentinel'])",
        "open('sentinel', 'w')",
        "os.open('sentinel', os.O_CREAT | os.O_WRONLY)",
        "__import__('socket').create_connection(('127.0.0.1', 9))",
        "__import__('pickle').loads(b'cos\\nsystem\\n(tR.')",
    ],
)
def test_a_child_that_would_run_code_ends_before_the_code_acts(deed: str, tmp_path: Path) -> None:
    script = (
        "import os, runpy\n"
        f"child = runpy.run_path({str(CHILD)!r})\n"
        f"child['watch']('out')\nopen('out', 'w').close()\n{deed}\nprint('lived')"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert "it tried to do what loading a table of tensors does not do" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_the_child_limits_its_memory_and_what_it_writes(tmp_path: Path) -> None:
    script = (
        "import runpy\n"
        f"child = runpy.run_path({str(CHILD)!r})\n"
        "child['limit']({'memory': 50_000_000, 'seconds': 9}, 1000)\n"
        "try:\n    bytearray(200_000_000)\nexcept MemoryError:\n    print('no memory')\n"
        "try:\n    open('out', 'wb').write(bytes(3_000_000))\nexcept OSError:\n    print('no file')\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.split("\n")[0] == "no memory"
    assert (tmp_path / "out").stat().st_size <= 1000 + 2**20


@pytest.mark.local
@pytest.mark.parametrize("zipped", [True, False])
def test_every_tensor_of_a_real_file_comes_out_with_the_same_bytes(zipped: bool, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    base = torch.randn(6, 4)
    kinds = {
        str(d).removeprefix("torch."): torch.arange(12).reshape(3, 4).to(d) for d in (torch.float16, torch.bfloat16)
    }
    kinds |= {str(d): torch.arange(5).to(d) for d in (torch.float64, torch.int64, torch.int8, torch.uint8, torch.bool)}
    if zipped:  # torch cannot read these in its own old format
        kinds |= {"f8": torch.randn(3, 4).to(torch.float8_e4m3fn), "u16": torch.tensor([1, 65535], dtype=torch.uint16)}
    kinds |= {
        "whole": base,
        "transposed": base.t(),
        "slice": base[1:3, ::2],
        "expanded": base.expand(2, 6, 4),
        "parameter": torch.nn.Parameter(base.clone()),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
    }
    module = torch.nn.BatchNorm2d(3).state_dict()
    path = tmp_path / "model.bin"
    torch.save({"a": kinds, "b": module, "epoch": 3}, path, _use_new_zipfile_serialization=zipped)
    out = tmp_path / "out.safetensors"
    convert(path, out)
    wanted = {f"a.{n}": t for n, t in kinds.items()} | {f"b.{n}": t for n, t in module.items()}
    found = load_file(out)
    assert set(found) == set(wanted)
    for name, value in found.items():
        assert value.dtype == wanted[name].dtype
        expected = wanted[name].detach().contiguous()
        assert torch.equal(value.reshape(-1).view(torch.uint8), expected.reshape(-1).view(torch.uint8)), name
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.bin", "out.safetensors"]


@pytest.mark.local
@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_newer_protocols_are_converted_as_far_as_torch_reads_them_and_else_refused_whole(
    protocol: int, tmp_path: Path
) -> None:
    import torch

    path, out = tmp_path / "model.bin", tmp_path / "out.safetensors"
    torch.save({"w": torch.arange(6.0).reshape(2, 3)}, path, pickle_protocol=protocol)
    assert [f.code for f in check_pickle(path)] == ["SOS-K012", "SOS-K013"]
    assert read_pickled(path).protocol == protocol
    if protocol == 3:
        convert(path, out)
        assert read_header(out).tensors == read_pickled(path).header.tensors
        return
    with pytest.raises(PickleError) as caught:
        convert(path, out)
    assert caught.value.code == "SOS-K020"
    assert "Unsupported operand" in caught.value.message
    assert "weights_only" not in caught.value.message  # torch's own message says how to get round it
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.local
def test_real_files_that_are_no_tables_of_tensors_are_refused(tmp_path: Path) -> None:
    import numpy as np
    import torch

    path = tmp_path / "model.bin"
    torch.save({"w": torch.zeros(2), "lr": np.float64(1)}, path)
    assert "scalar" in refusal(path).message
    torch.save(torch.nn.Linear(2, 2), path)
    assert "torch.nn.modules.linear.Linear" in refusal(path).message
    torch.save({"w": torch.zeros(2, 2).to_sparse()}, path)
    assert "_rebuild_sparse_tensor" in refusal(path).message
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), path)
    assert refusal(path).code in ("SOS-K008", "SOS-K006")


def test_the_errors_are_core_errors() -> None:
    assert issubclass(PickleError, SosieError)
