"""The doctor over ssh says of a file far away what it says of the same file here, from a few ranges of it."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from far_machine import SMI, FarMachine, far_machine
from header_files import fill, hollow, stripped
from weight_files import lora, weights

from sosie.core import Finding
from sosie.doctor.examined import Examined
from sosie.doctor.loras import check_read_lora
from sosie.doctor.model_files import check_model_file
from sosie.doctor.remote import check_line, check_remote_machine, examine_on
from sosie.families import families
from sosie.lora import read_lora
from sosie.machines.here import Here
from sosie.machines.machine import MachineFile
from sosie.machines.remote import Remote
from sosie.machines.ssh import Host, Pace, SshError, Tunnel, find_file
from sosie.machines.ssh import command as command_module
from sosie.workspace.known import fingerprint, remember

pytestmark = pytest.mark.once

FAR = Host("far", "root", 40022)


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FarMachine]:
    command_module._is_strict.cache_clear()
    yield far_machine(tmp_path, lambda path: monkeypatch.setenv("PATH", path))
    command_module._is_strict.cache_clear()


def put(machine: FarMachine, name: str, content: bytes) -> MachineFile:
    (machine.root / name).write_bytes(content)
    file = find_file(FAR, f"{machine.root}/{name}")
    assert file is not None
    return file


def codes(found: Examined | list[Finding]) -> list[str]:
    return [finding.code for finding in (found.findings if isinstance(found, Examined) else found)]


def local(file: MachineFile) -> list[tuple[str, str]]:
    """What the doctor says of the file itself, with the name that it has from afar."""
    path = Path(file.path)
    try:
        found = check_read_lora(read_lora(path, families()))
    except Exception:
        found = check_model_file(path)[1]
    return [(finding.code, finding.message.replace(file.path, file.name)) for finding in found]


def said(found: Examined) -> list[tuple[str, str]]:
    return [(finding.code, finding.message) for finding in found.findings]


def pickled(pickle_first: bool = True) -> bytes:
    """An upscaler as torch.save writes it: one tensor, stored."""
    out = BytesIO()
    body = (
        b"\x80\x02}q\x00X\x0c\x00\x00\x00conv1.weightq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02((X\x07\x00\x00\x00"
        b"storageq\x03ctorch\nFloatStorage\nq\x04X\x01\x00\x00\x000q\x05X\x03\x00\x00\x00cpuq\x06K\x10tq\x07QK\x00K\x04"
        b"K\x04\x86q\x08K\x04K\x01\x86q\x09\x89ccollections\nOrderedDict\nq\x0a)Rq\x0btq\x0cRq\x0ds."
    )
    filler = ("a/filler", b"x" * 5_000_000)
    members = [("a/data.pkl", body), ("a/data/0", b"\1" * 64), filler, ("a/version", b"3\n")]
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members if pickle_first else [filler, *members[:2], ("a/more", b"x" * 5_000_000)]:
            archive.writestr(name, content)
    return out.getvalue()


CASES = {
    "unknown.safetensors": weights(40),
    "alpha 8.safetensors": lora(8.0),
    "alpha 0.safetensors": lora(0.0),
    "cut.safetensors": weights(10)[:-5000],
    "page.safetensors": b"<!doctype html><html>log in</html>",
    "pointer.safetensors": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12309000000\n",
    "zeros.safetensors": bytes(100_000),
    "empty.safetensors": b"",
    "tiny.gguf": b"GGUF" + struct.pack("<IQQ", 3, 0, 0),
    "upscaler.pth": pickled(),
    "packed anew.pth": pickled(pickle_first=False),
    "evil.ckpt": b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R.",
}


@pytest.mark.parametrize("name", CASES)
def test_a_file_far_away_is_told_as_the_same_file_here(far: FarMachine, name: str) -> None:
    file = put(far, name, CASES[name])
    assert said(examine_on(Remote(FAR), file)) == local(file)


@pytest.mark.parametrize("name", CASES)
def test_any_machine_that_reads_ranges_can_be_examined(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(CASES[name])
    file = MachineFile(str(path), len(CASES[name]), 0, "leased")
    assert said(examine_on(Here(), file)) == local(file)


def test_only_the_header_and_samples_of_a_large_file_are_read(far: FarMachine) -> None:
    file = put(far, "large.safetensors", weights(300))
    asked: list[int] = []
    original = command_module.run

    def counted(*arguments: Any) -> Any:
        ran = original(*arguments)
        asked.append(len(ran.out))
        return ran

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sosie.machines.ssh.files.run", counted)
        examine_on(Remote(FAR), file)
    assert len(asked) == 3
    assert sum(asked) < file.size / 10


@pytest.mark.parametrize(("content", "code"), [(b"\x00\x7e", "SOS-F120"), (b"\x00\x00", "SOS-F121"), (b"\x11\x3c", "")])
def test_samples_of_the_weights_far_away_are_probed(far: FarMachine, content: bytes, code: str) -> None:
    found = examine_on(Remote(FAR), put(far, "probed.safetensors", weights(30, content)))
    assert [c for c in codes(found) if c.startswith("SOS-F12")] == ([code] if code else [])
    assert all("samples of" not in finding.message for finding in found.findings)


def test_a_model_of_12_gb_is_told_as_here_with_its_variant(far: FarMachine, tmp_path: Path) -> None:
    header, _ = stripped("zimage-single")
    path = hollow(far.root / "z_image.safetensors", header)
    fill(path, header, list(header.tensors))
    file = find_file(FAR, str(path))
    assert file is not None
    assert file.size > 12e9
    assert said(examine_on(Remote(FAR), file)) == local(file)
    remember(tmp_path / "known.json", "zimage", fingerprint(path, header, "layers.28.ffn_norm1.weight"), "Turbo")
    found = examine_on(Remote(FAR), file, tmp_path / "known.json")
    assert found.what is not None
    assert (found.what.family, found.what.variant, found.findings) == ("zimage", "Turbo", ())


def test_an_old_pickle_that_is_too_long_to_be_fetched_is_left_and_told(
    far: FarMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sosie.doctor.remote.WHOLE", 10)
    found = examine_on(Remote(FAR), put(far, "old.pth", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19." + bytes(100)))
    assert codes(found) == ["SOS-X010"]


def test_a_machine_that_goes_away_is_an_error_and_no_finding_of_the_file(far: FarMachine) -> None:
    file = put(far, "x.safetensors", weights(3))
    far.behave(says="ssh: connect to host far port 40022: Connection refused")
    with pytest.raises(SshError):
        examine_on(Remote(FAR), file)


def test_cards_memory_and_disk_are_told_by_the_machine_itself(far: FarMachine) -> None:
    far.program("nvidia-smi", f"cat <<'END'\n{SMI}\nEND")
    far.program("df", "echo Filesystem 1024-blocks Used Available Capacity Mounted; echo overlay 100 40 1000 40% /")
    facts = Remote(FAR).facts(str(far.root))
    assert facts.gpus[0].name == "NVIDIA GeForce RTX 3090"
    assert facts.gpus[0].vram_mib == 24576
    assert facts.free_disk == 1000 * 1024
    assert facts.ram_mib
    findings = check_remote_machine(Remote(FAR), str(far.root))
    assert codes(findings) == ["SOS-H043"]
    assert findings[0].subject == "far:40022: disk"


def test_a_machine_without_a_card_is_told_and_no_obstacle(far: FarMachine) -> None:
    far.program("nvidia-smi", "echo 'nvidia-smi: not found' >&2; exit 127")
    (told,) = [one for one in check_remote_machine(Remote(FAR), str(far.root)) if one.code == "SOS-H001"]
    assert told.severity == "info"
    assert "draws there" in told.hint  # not that a machine is to be rented: this may be one
    assert "rent a machine" not in told.hint


def test_a_new_host_key_and_a_login_that_was_taken_away_are_findings(far: FarMachine) -> None:
    far.behave(new_key=True)
    with Tunnel(FAR, 9, Pace(0.05, 0.2, 10.0)) as tunnel:
        (key,) = check_line(tunnel)
        assert (key.code, key.severity) == ("SOS-X005", "info")
        assert "SHA256:" in key.message
        far.behave(says="root@far: Permission denied (publickey).")
        assert [(f.code, f.severity) for f in check_line(tunnel)][1:] == [("SOS-X006", "warning")]
