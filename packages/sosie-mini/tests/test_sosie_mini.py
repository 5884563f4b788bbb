from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import sosie_mini
from sosie_mini import cache, packing
from sosie_mini.manifest import Manifest, load_manifest

PACKAGE = Path(__file__).resolve().parent.parent
WEIGHTS = Path(sosie_mini.__file__).parent / "weights"


def run_python(code: str, cache_root: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "SOSIE_CACHE": str(cache_root), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="session")
def make_manifest() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_manifest", PACKAGE / "tools" / "make_manifest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def expanded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real folder, expanded once; tests only read it."""
    root = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOSIE_CACHE", str(root))
        return sosie_mini.folder()


class Tiny:
    """A package of a few kilobytes with the layout of the real one, and a cache of its own."""

    def __init__(self, root: Path, make_manifest: ModuleType) -> None:
        from safetensors.numpy import save_file

        self.weights, self.models = root / "weights", root / "cache" / "models"
        for folder in ("unet", "tokenizer"):
            (self.weights / folder).mkdir(parents=True)
        scale = np.array([0.5, 0.25], np.float32)
        save_file({"w": np.array([[1, -2], [3, 127]], np.int8), "w_scale": scale}, self.weights / "unet/m.safetensors")
        (self.weights / "tokenizer" / "tokenizer.json").write_text('{"a": 1}')
        (self.weights / "model_index.json").write_text("{}")
        self.manifest: Manifest = make_manifest.make_manifest(self.weights)

    def folder(self, verify: bool = False) -> Path:
        return cache.ensure_folder(cache.Package("mini", self.weights, self.manifest), self.models, verify)


@pytest.fixture
def tiny(tmp_path: Path, make_manifest: ModuleType) -> Tiny:
    return Tiny(tmp_path, make_manifest)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Path]:
    """An empty tmpfs of 1 MB."""
    where = tmp_path / "mount"
    where.mkdir()
    try:
        command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(where)]
        done = subprocess.run(command, check=False, capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip("mounting is not allowed here")
    yield where
    subprocess.run(["umount", str(where)], check=True)


# What it expands to


def test_the_shipped_manifest_is_the_one_that_the_shipped_weights_give(make_manifest: ModuleType) -> None:
    assert make_manifest.make_manifest(WEIGHTS) == load_manifest()


def test_the_folder_holds_every_file_of_the_manifest_with_its_digest_and_nothing_else(expanded: Path) -> None:
    manifest = load_manifest()
    assert cache.damaged_files(expanded, manifest) == []
    found = {p.relative_to(expanded).as_posix() for p in expanded.rglob("*") if p.is_file()}
    assert found == {file.path for file in manifest.expanded} | {cache.MARKER}
    assert expanded.name == f"mini-{manifest.weights_digest[:12]}"


def test_both_tokenizers_are_there_and_are_the_same(expanded: Path) -> None:
    one, two = (expanded / name / "tokenizer.json" for name in ("tokenizer", "tokenizer_2"))
    assert one.read_bytes() == two.read_bytes()


def test_the_expanded_tensors_are_float16_and_readable_by_safetensors(expanded: Path) -> None:
    from safetensors.numpy import load_file

    for path in expanded.rglob("*.safetensors"):
        tensors = load_file(path)
        assert tensors
        assert {value.dtype for value in tensors.values()} == {np.dtype("float16")}
        assert not [name for name in tensors if name.endswith("_scale")]


def packed_file(*tensors: tuple[str, str, np.ndarray]) -> bytes:
    header, data = {}, b""
    for name, dtype, value in tensors:
        offsets = [len(data), len(data) + value.nbytes]
        header[name] = {"dtype": dtype, "shape": value.shape, "data_offsets": offsets}
        data += value.tobytes()
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_an_int8_tensor_is_multiplied_by_the_scale_of_its_row_and_others_are_rounded_to_half() -> None:
    from safetensors.numpy import load

    packed = packed_file(
        ("conv", "I8", np.array([[[1], [2]], [[-3], [127]]], np.int8)),
        ("conv_scale", "F32", np.array([0.1, 2.0], np.float32)),
        ("bias", "BF16", np.array([0x3F80, 0xC000], np.uint16)),
        ("ids", "I64", np.array([[0, 1, 2]])),
    )
    tensors = load(packing.expand(packed))
    assert set(tensors) == {"conv", "bias", "ids"}
    expected = np.array([[[np.float32(0.1)], [np.float32(0.1) * 2]], [[-6], [254]]], np.float32).astype(np.float16)
    assert np.array_equal(tensors["conv"], expected)
    assert tensors["bias"].tolist() == [1.0, -2.0]
    assert tensors["ids"].tolist() == [[0, 1, 2]]
    assert tensors["ids"].dtype == np.int64


def test_a_dtype_that_the_packed_format_does_not_use_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'w' has dtype F64"):
        packing.expand(packed_file(("w", "F64", np.zeros(1))))


def test_expanding_twice_gives_the_same_bytes_and_an_aligned_header() -> None:
    packed = (WEIGHTS / "ip-adapter" / "ip-adapter-faceid_mini.safetensors").read_bytes()
    once = packing.expand(packed)
    assert once == packing.expand(packed)
    length = int.from_bytes(once[:8], "little")
    assert length % 8 == 0
    assert json.loads(once[8 : 8 + length])["__metadata__"] == {"format": "pt"}


def test_the_model_is_found_by_its_entry_point() -> None:
    (point,) = entry_points(group="sosie.models", name="mini")
    model = point.load()
    assert model is sosie_mini.MODEL
    assert (model.name, model.family, model.licence) == ("mini", "sdxl", "CC0-1.0")
    assert model.folder is sosie_mini.folder
    assert model.cohort is None or model.cohort.is_file()


def test_neither_the_package_nor_an_expansion_imports_torch(tmp_path: Path) -> None:
    code = "import sys, sosie_mini; sosie_mini.folder(); print([m for m in ('torch', 'diffusers') if m in sys.modules])"
    out, err = run_python(code, tmp_path).communicate(timeout=60)
    assert out.strip() == "[]", err


# Whole or not at all


def test_a_second_call_writes_nothing_and_reads_no_digest(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny.folder()
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    monkeypatch.setattr(cache, "file_digest", lambda path: pytest.fail(f"digested {path}"))
    assert tiny.folder() == folder
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


def test_processes_that_ask_at_once_all_get_the_whole_folder(tmp_path: Path) -> None:
    code = (
        "import sosie_mini; from sosie_mini.cache import damaged_files; from sosie_mini.manifest import load_manifest;"
        "p = sosie_mini.folder(); print(p, damaged_files(p, load_manifest()))"
    )
    running = [run_python(code, tmp_path) for _ in range(3)]
    said = [process.communicate(timeout=60) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], said
    assert len({out for out, _ in said}) == 1
    assert said[0][0].endswith("[]\n")
    assert [p.name for p in (tmp_path / "models").iterdir()] == [Path(said[0][0].split()[0]).name]


def test_processes_that_repair_at_once_all_get_the_whole_folder(tiny: Tiny) -> None:
    folder = tiny.folder()
    code = f"""
import json; from pathlib import Path
from sosie_mini.cache import Package, damaged_files, ensure_folder; from sosie_mini.manifest import Manifest
manifest = Manifest.from_json(json.loads({json.dumps(tiny.manifest.to_json())!r}))
package = Package("mini", Path({str(tiny.weights)!r}), manifest)
print(damaged_files(ensure_folder(package, Path({str(tiny.models)!r})), manifest))
"""
    for _ in range(2):
        (folder / "unet" / "m.safetensors").write_bytes(b"short")
        running = [run_python(code, tiny.models) for _ in range(3)]
        said = [process.communicate(timeout=60) for process in running]
        assert [out for out, _ in said] == ["[]\n"] * 3, said


@pytest.mark.parametrize("survived", [0, 7, 17], ids=lambda n: f"after-{n}-files")
def test_a_process_killed_while_it_expands_leaves_nothing_that_is_taken_for_the_folder(
    tmp_path: Path, survived: int
) -> None:
    assert len(load_manifest().expanded) == 18
    code = f"""
import os, signal, sosie_mini
from sosie_mini import cache
write, done = cache._write, []
def killing(path, data):
    if len(done) == {survived}:
        write(path, data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    done.append(path)
    write(path, data)
cache._write = killing
sosie_mini.folder()
"""
    process = run_python(code, tmp_path)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    (leftover,) = (tmp_path / "models").iterdir()
    assert leftover.name.endswith(".part")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOSIE_CACHE", str(tmp_path))
        os.utime(leftover, (time.time() + 60, time.time() + 60))
        folder = sosie_mini.folder()
        assert cache.damaged_files(folder, load_manifest()) == []
        assert leftover.exists(), "a young one may belong to a living process"
        old = time.time() - cache.FRESH_SECONDS - 1
        os.utime(leftover, (old, old))
        held = cache._hold(leftover)
        assert sosie_mini.folder() == folder
        assert leftover.exists(), "one that is held does"
        os.close(held)
        assert sosie_mini.folder() == folder
        assert not leftover.exists()


def test_the_folder_takes_its_name_in_one_rename_when_all_is_in_it(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    rename, renamed = Path.rename, []

    def watched(path: Path, target: Path) -> Path:
        assert not target.exists()
        assert cache.damaged_files(path, tiny.manifest) == []
        assert (path / cache.MARKER).read_text() == tiny.manifest.digest
        renamed.append(target)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", watched)
    folder = tiny.folder()
    assert renamed == [folder]


def test_a_failure_in_the_middle_leaves_neither_folder_nor_temporary(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_path: Path, _data: bytes) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(cache, "_write", broken)
    with pytest.raises(sosie_mini.MiniError, match="Input/output error"):
        tiny.folder()
    assert list(tiny.models.iterdir()) == []


# Damage


@pytest.mark.parametrize("damage", ["truncated", "same size", "missing"])
def test_a_damaged_cache_file_is_expanded_anew_and_the_others_are_left_alone(tiny: Tiny, damage: str) -> None:
    folder = tiny.folder()
    file = folder / "unet" / "m.safetensors"
    good, other = file.read_bytes(), (folder / "model_index.json").stat().st_ino
    if damage == "truncated":
        file.write_bytes(good[:-1])
    elif damage == "same size":
        file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    else:
        file.unlink()
    assert tiny.folder() == folder
    assert file.read_bytes() == good
    assert (folder / "model_index.json").stat().st_ino == other
    assert [p.name for p in tiny.models.iterdir()] == [folder.name]


def test_a_flipped_bit_that_left_size_and_time_alone_is_found_at_once_by_verify_and_by_the_next_process(
    tiny: Tiny,
) -> None:
    folder = tiny.folder()
    file = folder / "unet" / "m.safetensors"
    good = file.read_bytes()
    bad = good[:-1] + bytes([good[-1] ^ 1])

    def flip() -> None:
        before = file.stat()
        file.write_bytes(bad)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    def flip_unseen() -> None:
        flip()
        state = cache._state(folder, tiny.manifest)
        assert state is not None
        cache._checked[folder] = state  # where a file's time of change is not kept, it is what it was

    if sys.platform != "win32":  # its time of change is that of its making
        time.sleep(0.02)  # a tick of its clock
        flip()
        tiny.folder()
        assert file.read_bytes() == good
    flip_unseen()
    tiny.folder()
    assert file.read_bytes() == bad, "the cheap check cannot see this"
    tiny.folder(verify=True)
    assert file.read_bytes() == good
    flip_unseen()
    cache._checked.clear()  # what a new process starts with
    tiny.folder()
    assert file.read_bytes() == good


@pytest.mark.parametrize("marker", [None, "", "of another manifest"])
def test_a_folder_without_its_marker_is_not_trusted_and_gets_it_back(tiny: Tiny, marker: str | None) -> None:
    folder = tiny.folder()
    (folder / cache.MARKER).unlink()
    if marker is not None:
        (folder / cache.MARKER).write_text(marker)
    tiny.folder()
    assert (folder / "model_index.json").read_text() == "{}"
    assert (folder / cache.MARKER).read_text() == tiny.manifest.digest


@pytest.mark.parametrize("damage", ["truncated", "same size", "missing"])
def test_a_damaged_packed_file_is_an_error_that_names_it_and_says_to_reinstall(tiny: Tiny, damage: str) -> None:
    file = tiny.weights / "unet" / "m.safetensors"
    good = file.read_bytes()
    file.unlink()
    if damage != "missing":
        file.write_bytes(good[:-1] if damage == "truncated" else good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(sosie_mini.MiniError) as caught:
        tiny.folder()
    assert str(file) in caught.value.message
    assert "reinstall" in caught.value.hint
    assert list(tiny.models.iterdir()) == []


# Places that cannot be written


def test_a_full_disk_is_an_error_that_says_so_and_leaves_nothing(mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOSIE_CACHE", str(mount))
    with pytest.raises(sosie_mini.MiniError) as caught:
        sosie_mini.folder()
    assert "No space left on device" in caught.value.message
    assert "80 MB" in caught.value.message
    assert "SOSIE_CACHE" in caught.value.hint
    assert list((mount / "models").iterdir()) == []


def test_a_read_only_cache_is_an_error_that_names_it(mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(mount)], check=True)
    monkeypatch.setenv("SOSIE_CACHE", str(mount))
    with pytest.raises(sosie_mini.MiniError) as caught:
        sosie_mini.folder()
    assert "Read-only file system" in caught.value.message
    assert str(mount) in caught.value.message
    assert "SOSIE_CACHE" in caught.value.hint


def test_a_read_only_cache_that_holds_the_folder_serves_it(tiny: Tiny, mount: Path) -> None:
    tiny.models = mount / "models"
    folder = tiny.folder()
    subprocess.run(["mount", "-o", "remount,ro", str(mount)], check=True)
    cache._checked.clear()
    assert tiny.folder() == folder


def test_a_cache_path_that_runs_through_a_file_is_an_error_that_names_it(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    tiny.models = tmp_path / "file" / "models"
    with pytest.raises(sosie_mini.MiniError, match="Not a directory") as caught:
        tiny.folder()
    assert str(tiny.models) in caught.value.message


def test_the_cache_is_where_the_environment_says_else_in_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOSIE_CACHE", "somewhere")
    assert cache.cache_folder() == Path.cwd() / "somewhere"
    monkeypatch.setenv("SOSIE_CACHE", "")
    assert cache.cache_folder().name == "sosie"


# Against torch and diffusers


@pytest.mark.local
def test_the_expansion_equals_that_of_torch_bit_for_bit(expanded: Path) -> None:
    import torch
    from safetensors.torch import load_file

    compared = 0
    for path in WEIGHTS.rglob("*.safetensors"):
        packed, ours = load_file(path), load_file(expanded / path.relative_to(WEIGHTS))
        assert set(ours) == {name for name in packed if not name.endswith("_scale")}
        for name, value in ours.items():
            reference = packed[name].float()
            if (scale := packed.get(name + "_scale")) is not None:
                reference = reference * scale.view(-1, *[1] * (reference.ndim - 1))
            assert torch.equal(value.view(torch.int16), reference.half().contiguous().view(torch.int16)), name
            compared += value.numel()
    assert compared > 34_000_000


@pytest.mark.local
def test_stock_diffusers_classes_load_every_part(expanded: Path) -> None:
    from diffusers import ControlNetModel, StableDiffusionXLPipeline

    pipe, info = StableDiffusionXLPipeline.from_pretrained(expanded, output_loading_info=True), None
    if isinstance(pipe, tuple):
        pipe, info = pipe
    assert not info or not any(info.values()), info
    assert type(pipe.unet).__name__ == "UNet2DConditionModel"
    assert pipe.vae.config.latent_channels == 4
    assert pipe.scheduler.config.prediction_type == "v_prediction"
    pipe.load_ip_adapter(
        expanded,
        subfolder="ip-adapter",
        weight_name="ip-adapter-faceid_mini.safetensors",
        image_encoder_folder=None,
    )
    assert type(pipe.unet.encoder_hid_proj.image_projection_layers[0]).__name__ == "IPAdapterFaceIDImageProjection"
    _, info = ControlNetModel.from_pretrained(expanded / "controlnet", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]


def test_the_face_encoder_gives_a_vector_of_norm_one(expanded: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(expanded / "id_encoder.onnx"), options, ["CPUExecutionProvider"])
    image = np.linspace(-1, 1, 3 * 112 * 112, dtype=np.float32).reshape(1, 3, 112, 112)
    (embedding,) = session.run(["embedding"], {"image": image})
    assert embedding.shape == (1, 256)
    assert abs(float(np.linalg.norm(embedding)) - 1) < 1e-3
