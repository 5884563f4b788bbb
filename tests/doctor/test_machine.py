"""The machine check: cards, drivers and wheels from recorded text, without torch and without a card."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rules import codes_in

from sosie.core.errors import ConfigError, NotFoundError
from sosie.core.finding import Finding, has_errors
from sosie.doctor.machine import Needs, check_machine
from sosie.machines import facts as machine_facts
from sosie.machines.facts import (
    Gpu,
    MachineFacts,
    compute_of,
    installed_torch,
    machine_from_file,
    machine_from_smi,
    read_machine,
    torch_wheel,
)

CODES = codes_in("doctor/machine.py", "machines/tables.py")

HEAD = """\
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI {driver:<22} Driver Version: {driver:<14} CUDA Version: {cuda:<8} |
+-----------------------------------------+------------------------+----------------------+
| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |
| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |
|                                         |                        |               MIG M. |
|=========================================+========================+======================|
"""
ROW = """\
| {index:>3}  {name:<27} Off |   00000000:0{index}:00.0  On |                  N/A |
|  0%   43C    P8             19W /  575W | {used:>7}MiB / {total:>6}MiB |      0%      Default |
|                                         |                        |                  N/A |
+-----------------------------------------+------------------------+----------------------+
"""
PROCESSES = """
+-----------------------------------------------------------------------------------------+
| Processes:                                                                              |
|  GPU   GI   CI              PID   Type   Process name                        GPU Memory |
|        ID   ID                                                               Usage      |
|=========================================================================================|
|    0   N/A  N/A            2211      G   /usr/lib/xorg/Xorg                       123MiB |
+-----------------------------------------------------------------------------------------+
"""


def table(*cards: tuple[str, int, int], driver: str = "570.86.15", cuda: str = "12.8") -> str:
    rows = [ROW.format(index=i, name=name, used=used, total=total) for i, (name, used, total) in enumerate(cards)]
    return "Fri Sep 12 10:49:47 2025\n" + HEAD.format(driver=driver, cuda=cuda) + "".join(rows) + PROCESSES


def machine(name: str, driver: str, cuda: str, torch: str, vram: int = 24564) -> MachineFacts:
    return machine_from_smi(table((name, 10, vram), driver=driver, cuda=cuda) + f"\ntorch=={torch}\n")


def by_code(findings: list[Finding]) -> dict[str, Finding]:
    assert {finding.code for finding in findings} <= CODES
    return {finding.code: finding for finding in findings}


# --- the stories ---


def test_sm_120_gpu_against_torch_2_6_cu124_is_an_error_that_names_the_wheel_to_install() -> None:
    facts = machine("NVIDIA GeForce RTX 5090", "570.86.15", "12.8", "2.6.0+cu124", 32607)
    finding = by_code(check_machine(facts, Needs()))["SOS-H010"]
    assert finding.severity == "error"
    assert "sm_120" in finding.message
    assert "2.6.0+cu124" in finding.message
    assert "sm_90" in finding.message
    assert finding.hint == 'pip install "torch==2.11.*" --index-url https://download.pytorch.org/whl/cu128'


def test_driver_550_against_cu130_is_an_error_that_says_what_the_driver_runs() -> None:
    facts = machine("NVIDIA GeForce RTX 4090", "550.54.14", "12.4", "2.11.0+cu130")
    finding = by_code(check_machine(facts, Needs()))["SOS-H020"]
    assert finding.severity == "error"
    assert "driver 550.54.14 runs CUDA 12.4 at most" in finding.message
    assert "580 or newer" in finding.message
    assert "cu124" in finding.hint


def test_a_newer_driver_is_fine() -> None:
    facts = machine("NVIDIA GeForce RTX 4090", "580.95.05", "13.0", "2.6.0+cu124")
    findings = check_machine(facts, Needs())
    assert [(finding.code, finding.severity) for finding in findings] == [("SOS-H022", "info")]
    assert "that is fine" in findings[0].message


# --- card against wheel ---


@pytest.mark.parametrize(
    ("name", "torch", "code"),
    [
        ("NVIDIA GeForce RTX 4090", "2.8.0+cu128", None),
        ("NVIDIA GeForce RTX 3090", "2.11.0+cu130", None),
        ("NVIDIA GeForce RTX 5090", "2.7.1+cu126", "SOS-H010"),
        ("NVIDIA GeForce RTX 5090", "2.7.1", "SOS-H010"),
        ("NVIDIA GeForce RTX 5090", "2.7.1+cu128", None),
        ("NVIDIA GeForce RTX 5090", "2.6.0+cu126", "SOS-H011"),
        ("NVIDIA H100 80GB HBM3", "2.8.0+cu128", None),
        ("Tesla V100-SXM2-32GB", "2.10.0+cu128", None),
        ("Tesla V100-SXM2-32GB", "2.11.0+cu128", "SOS-H010"),
        ("Tesla V100-SXM2-32GB", "2.9.0+cu130", "SOS-H010"),
        ("NVIDIA GeForce GTX 1080 Ti", "2.14.1+cu130", "SOS-H010"),
        ("NVIDIA GeForce GTX 1080 Ti", "2.8.0+cu128", "SOS-H010"),
        ("NVIDIA GeForce GTX 1080 Ti", "2.14.0+cu126", None),
        ("NVIDIA GeForce RTX 5090", "2.99.0+cu128", "SOS-H012"),
        ("NVIDIA GeForce RTX 5090", "2.7.0a0+nv25.4", None),
        ("NVIDIA GeForce RTX 5090", "2.9.0.dev20250904+cu129", "SOS-H012"),
        ("NVIDIA Something 9999", "2.8.0+cu128", "SOS-H013"),
        ("Tesla V100-SXM2-32GB", "2.7.1+cu128", None),
    ],
)
def test_a_card_is_compared_with_what_the_wheel_holds(name: str, torch: str, code: str | None) -> None:
    findings = check_machine(machine(name, "590.44.01", "13.1", torch), Needs())
    found = [finding.code for finding in findings if finding.code in ("SOS-H010", "SOS-H011", "SOS-H012", "SOS-H013")]
    assert found == ([code] if code else [])


def test_the_wheel_that_is_advised_runs_on_card_and_driver() -> None:
    old = check_machine(machine("Tesla V100-SXM2-32GB", "590.44.01", "13.1", "2.11.0+cu130"), Needs())
    assert 'torch==2.10.*" --index-url https://download.pytorch.org/whl/cu128' in by_code(old)["SOS-H010"].hint
    pascal = check_machine(machine("NVIDIA GeForce GTX 1080 Ti", "535.183.01", "12.2", "2.9.0+cu128"), Needs())
    assert "whl/cu118" in by_code(pascal)["SOS-H010"].hint


def test_a_wheel_without_cuda_does_not_use_the_card() -> None:
    found = by_code(check_machine(machine("NVIDIA GeForce RTX 4090", "570.86.15", "12.8", "2.8.0+cpu"), Needs()))
    assert found["SOS-H015"].severity == "error"
    assert set(found) == {"SOS-H015"}


@pytest.mark.parametrize(
    ("name", "compute"),
    [
        ("NVIDIA GeForce RTX 2050", (8, 6)),
        ("NVIDIA GeForce RTX 2080 Ti", (7, 5)),
        ("NVIDIA RTX A6000", (8, 6)),
        ("NVIDIA RTX 6000 Ada Generation", (8, 9)),
        ("Quadro RTX 6000", (7, 5)),
        ("NVIDIA RTX PRO 6000 Blac...", (12, 0)),
        ("NVIDIA A100-SXM4-80GB", (8, 0)),
        ("NVIDIA A10G", (8, 6)),
        ("NVIDIA L40S", (8, 9)),
        ("Tesla T4", (7, 5)),
        ("NVIDIA B200", (10, 0)),
        ("NVIDIA GB300", (10, 3)),
        ("NVIDIA GB10", (12, 1)),
        ("NVIDIA GH200 480GB", (9, 0)),
        ("NVIDIA GeForce RTX 4070 Laptop GPU", (8, 9)),
        ("NVIDIA GeForce GTX 1660 SUPER", (7, 5)),
        ("NVIDIA GeForce ...", None),
    ],
)
def test_a_compute_capability_is_known_from_the_name(name: str, compute: tuple[int, int] | None) -> None:
    assert compute_of(name) == compute


# --- driver against CUDA ---


@pytest.mark.parametrize(
    ("driver", "torch", "code", "severity"),
    [
        ("535.183.01", "2.8.0+cu128", "SOS-H021", "warning"),
        ("520.61.05", "2.6.0+cu124", "SOS-H020", "error"),
        ("570.26", "2.8.0+cu128", None, ""),
        ("580.65.06", "2.11.0+cu130", None, ""),
        ("580.65.06", "2.13.0+cu132", "SOS-H021", "warning"),
        ("617.14", "2.6.0+cu124", "SOS-H022", "info"),
        ("450.80.02", "2.7.1+cu118", "SOS-H021", "warning"),
        ("", "2.8.0+cu128", "SOS-H026", "info"),
        ("720.10", "2.99.0+cu160", None, ""),
    ],
)
def test_only_an_old_driver_is_a_fault(driver: str, torch: str, code: str | None, severity: str) -> None:
    gpu = Gpu("NVIDIA A100-SXM4-80GB", (8, 0), 81920, driver=driver)
    findings = check_machine(MachineFacts((gpu,), torch_wheel(torch)), Needs())
    found = [(f.code, f.severity) for f in findings if f.code.startswith("SOS-H02")]
    assert found == ([(code, severity)] if code else [])


def test_a_cuda_version_that_the_driver_cannot_have_is_forward_compatibility() -> None:
    home = by_code(check_machine(machine("NVIDIA GeForce RTX 4090", "550.54.14", "13.0", "2.6.0+cu124"), Needs()))
    assert home["SOS-H023"].severity == "error"
    assert "804" in home["SOS-H023"].message
    centre = by_code(check_machine(machine("NVIDIA H100 80GB HBM3", "550.54.14", "13.0", "2.6.0+cu124"), Needs()))
    assert centre["SOS-H023"].severity == "warning"
    newest = machine("NVIDIA GeForce RTX 4090", "640.10", "15.0", "2.6.0+cu124")
    assert "SOS-H023" not in by_code(check_machine(newest, Needs()))


@pytest.mark.parametrize(
    ("line", "code", "word"),
    [
        (
            "Error 803: system has unsupported display driver / cuda driver combination",
            "SOS-H024",
            "not too old",
        ),
        (
            "RuntimeError: CUDA error 804: forward compatibility was attempted on non supported HW",
            "SOS-H025",
            "GeForce",
        ),
        ("RuntimeError: CUDA error: no kernel image is available for execution on the device", "SOS-H016", "compiled"),
        ("Failed to initialize NVML: Driver/library version mismatch", "SOS-H002", "restart"),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", "SOS-H002", "driver"),
        ("No devices were found", "SOS-H002", "gpus all"),
    ],
)
def test_a_recorded_failure_is_explained(line: str, code: str, word: str) -> None:
    findings = check_machine(machine_from_smi(f"some log\n{line}\n"), Needs())
    assert [(finding.code, finding.severity) for finding in findings] == [(code, "error")]
    assert word in findings[0].message + findings[0].hint


# --- abilities and sizes ---


def test_bf16_and_fp8_need_the_cards_that_have_them() -> None:
    def codes(name: str, dtype: str) -> set[str]:
        facts = machine_from_smi(table((name, 0, 24000)))
        return set(by_code(check_machine(facts, Needs(dtype=dtype))))  # type: ignore[arg-type]

    assert codes("Tesla T4", "bf16") == {"SOS-H030"}
    assert codes("NVIDIA GeForce RTX 3090", "bf16") == set()
    assert codes("NVIDIA GeForce RTX 3090", "fp8") == {"SOS-H031"}
    assert codes("NVIDIA GeForce RTX 4090", "fp8") == set()


def test_memory_is_compared_with_the_estimate() -> None:
    facts = machine_from_smi(table(("NVIDIA GeForce RTX 3060", 9000, 12288)))
    assert check_machine(facts, Needs(vram_mib=3000)) == []
    busy = by_code(check_machine(facts, Needs(vram_mib=8000)))
    assert busy["SOS-H041"].severity == "warning"
    assert "3,288 of 12,288 MiB" in busy["SOS-H041"].message
    small = by_code(check_machine(facts, Needs(vram_mib=16000)))
    assert small["SOS-H040"].severity == "error"
    unified = machine_from_smi("name, compute_cap, memory.total [MiB]\nNVIDIA GB10, 12.1, [N/A]\n")
    assert by_code(check_machine(unified, Needs(vram_mib=16000)))["SOS-H044"].severity == "info"


def test_memory_and_disk_of_the_machine_are_compared() -> None:
    facts = MachineFacts((Gpu("NVIDIA L4", (8, 9)),), ram_mib=8000, free_disk=20_000_000_000)
    found = by_code(check_machine(facts, Needs(ram_mib=16000, disk_bytes=50_000_000_000)))
    assert set(found) == {"SOS-H042", "SOS-H043"}
    assert "20.0 GB" in found["SOS-H043"].message
    assert check_machine(facts, Needs(ram_mib=8000, disk_bytes=20_000_000_000)) == []


def test_no_card_is_an_error_only_for_what_needs_one() -> None:
    assert has_errors(check_machine(MachineFacts(), Needs()))
    assert not has_errors(check_machine(MachineFacts(), Needs(gpu=False)))


def test_eight_equal_cards_give_one_finding_and_a_free_one_is_enough() -> None:
    cards = [("NVIDIA GeForce RTX 4090", used, 24564) for used in (24000, 24000, 100)]
    assert check_machine(machine_from_smi(table(*cards)), Needs(vram_mib=20000)) == []
    findings = check_machine(machine_from_smi(table(*cards)), Needs(vram_mib=40000))
    assert [finding.code for finding in findings] == ["SOS-H040"]


def test_a_second_card_for_the_screen_does_not_stop_the_job() -> None:
    text = table(("NVIDIA GeForce GT 1030", 0, 2048), ("NVIDIA GeForce RTX 3090", 0, 24576)) + "torch==2.8.0+cu128"
    findings = check_machine(machine_from_smi(text), Needs(vram_mib=16000))
    assert not has_errors(findings)
    assert {(f.code, f.subject) for f in findings} == {("SOS-H010", "GPU 0"), ("SOS-H040", "GPU 0")}
    other = table(("NVIDIA GeForce RTX 3090", 0, 24576), ("NVIDIA GeForce GT 1030", 0, 2048))
    assert {f.subject for f in check_machine(machine_from_smi(other), Needs(vram_mib=16000))} == {"GPU 1"}


# --- reading ---


def test_the_table_is_read_with_every_card() -> None:
    facts = machine_from_smi(table(("NVIDIA GeForce RTX 5090", 1124, 32607), ("NVIDIA L4", 3, 23034)))
    assert facts.gpus == (
        Gpu("NVIDIA GeForce RTX 5090", (12, 0), 32607, 31483, "570.86.15", (12, 8)),
        Gpu("NVIDIA L4", (8, 9), 23034, 23031, "570.86.15", (12, 8)),
    )


def test_the_table_of_newer_drivers_names_kmd_and_umd() -> None:
    text = table(("NVIDIA GeForce RTX 5060", 0, 8151)).replace("Driver Version:", "KMD Version:")
    gpu = machine_from_smi(text.replace("CUDA Version: 12.8", "CUDA UMD Version: 13.3")).gpus[0]
    assert (gpu.driver, gpu.cuda) == ("570.86.15", (13, 3))


def test_the_table_of_windows_is_read() -> None:
    gpu = machine_from_smi(table(("NVIDIA GeForce RTX 4090", 5, 24564)).replace(" Off |   0", "WDDM |   0")).gpus[0]
    assert (gpu.name, gpu.vram_mib) == ("NVIDIA GeForce RTX 4090", 24564)


def test_csv_is_read_by_its_column_names_in_any_order() -> None:
    text = (
        "driver_version, memory.used [MiB], name, memory.total [MiB], compute_cap\n"
        '550.54.14, 500 MiB, "NVIDIA A100, custom", 40960 MiB, 8.0\n'
    )
    assert machine_from_smi(text).gpus == (Gpu("NVIDIA A100, custom", (8, 0), 40960, 40460, "550.54.14"),)


def test_csv_without_a_header_is_read_by_what_its_cells_look_like() -> None:
    gpu = machine_from_smi("NVIDIA GeForce RTX 4070 Laptop GPU, 8.9, 581.42, 8188 MiB\nNVIDIA is a company, yes\n").gpus
    assert gpu == (Gpu("NVIDIA GeForce RTX 4070 Laptop GPU", (8, 9), 8188, None, "581.42"),)


def test_the_long_text_is_read() -> None:
    text = """
==============NVSMI LOG==============

Timestamp                                 : Tue May  5 03:38:32 2026
Driver Version                            : 535.183.01
CUDA Version                              : 12.2

Attached GPUs                             : 2
GPU 00000000:00:04.0
    Product Name                          : NVIDIA A100-SXM4-40GB
    FB Memory Usage
        Total                             : 40960 MiB
        Reserved                          : 520 MiB
        Used                              : 0 MiB
        Free                              : 40441 MiB
    BAR1 Memory Usage
        Total                             : 65536 MiB
        Free                              : 65535 MiB
GPU 00000000:00:05.0
    Product Name                          : Tesla T4
    FB Memory Usage
        Total                             : 15360 MiB
"""
    assert machine_from_smi(text).gpus == (
        Gpu("NVIDIA A100-SXM4-40GB", (8, 0), 40960, 40441, "535.183.01", (12, 2)),
        Gpu("Tesla T4", (7, 5), 15360, None, "535.183.01", (12, 2)),
    )


def test_a_reported_capability_wins_over_the_table_of_names() -> None:
    text = "name, compute_cap\nNVIDIA GeForce RTX 4090, 9.9\n"
    assert machine_from_smi(text).gpus[0].compute == (9, 9)


def test_torch_is_found_in_a_package_list() -> None:
    for line in ("torch==2.6.0+cu124", "torch              2.6.0+cu124", "PyTorch version: 2.6.0+cu124"):
        wheel = machine_from_smi(line).torch
        assert wheel is not None
        assert (wheel.tag, wheel.cuda) == ("cu124", (12, 4))
    assert machine_from_smi("torchvision==0.21.0\ntorch-fidelity==0.3.0").torch is None


def test_a_plain_version_is_the_wheel_of_pypi() -> None:
    assert [torch_wheel(f"2.{minor}.0").tag for minor in (6, 7, 8, 11, 15, 40)] == [
        "cu124",
        "cu126",
        "cu128",
        "cu130",
        "cu132",
        "",
    ]
    assert str(torch_wheel("2.11.0")) == "2.11.0+cu130"


def test_recorded_text_of_powershell_is_read(tmp_path: Path) -> None:
    path = tmp_path / "machine.txt"
    path.write_bytes(table(("NVIDIA L4", 0, 23034)).encode("utf-16"))
    assert machine_from_file(path).gpus[0].name == "NVIDIA L4"


def test_files_that_are_no_recording_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "machine.txt"
    with pytest.raises(NotFoundError):
        machine_from_file(path)
    with pytest.raises(NotFoundError):
        machine_from_file(tmp_path)
    path.write_bytes(b"hello")
    with pytest.raises(ConfigError, match="names no NVIDIA card"):
        machine_from_file(path)
    path.write_bytes(b"x" * (machine_facts.MAX_TEXT + 1))
    with pytest.raises(ConfigError, match="1,000,000 bytes"):
        machine_from_file(path)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_text_makes_the_reader_fail(data: st.DataObject) -> None:
    parts = st.sampled_from(
        [*table(("NVIDIA L4", 0, 23034)).splitlines(), "name, memory.total", '"', "FB Memory Usage"]
    )
    lines = data.draw(st.lists(st.one_of(parts, st.text(max_size=80)), max_size=12))
    joined = data.draw(st.sampled_from(["\n", ",", "|", ":", "\r", "\x00"])).join(lines)
    findings = check_machine(machine_from_smi(joined), Needs(vram_mib=1000, dtype="fp8"))
    assert {finding.code for finding in findings} <= CODES


@pytest.mark.parametrize("unit", ["\n", "|", ",", "| 0 A ", "CUDA Version ", '"', " ", "1", "NVIDIA, 8.9, 1 MiB\n"])
def test_a_megabyte_of_anything_is_read_in_seconds(unit: str) -> None:
    started = time.monotonic()
    facts = machine_from_smi(unit * (machine_facts.MAX_TEXT // len(unit)))
    assert time.monotonic() - started < 8
    assert len(facts.gpus) <= machine_facts.MAX_GPUS


def test_the_live_machine_is_read_through_nvidia_smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(command: list[str]) -> str:
        if len(command) == 1:
            return table(("NVIDIA GeForce ...", 0, 24564), driver="580.65.06", cuda="13.0")
        return (
            "name, compute_cap, driver_version, memory.total [MiB], memory.free [MiB]\n"
            "NVIDIA GeForce RTX 4090, 8.9, 580.65.06, 24564 MiB, 24000 MiB\n"
        )

    monkeypatch.setattr(machine_facts, "_run", run)
    facts = read_machine(tmp_path)
    assert facts.gpus == (Gpu("NVIDIA GeForce RTX 4090", (8, 9), 24564, 24000, "580.65.06", (13, 0)),)
    assert facts.live
    assert facts.free_disk
    assert facts.free_disk > 0


def test_a_missing_or_hanging_nvidia_smi_is_no_card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_machine(tmp_path).gpus == ()
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexec /bin/sleep 20\n")
    program.chmod(0o755)
    monkeypatch.setattr(machine_facts, "TIMEOUT_SECONDS", 0.3)
    started = time.monotonic()
    assert read_machine(tmp_path).gpus == ()
    assert time.monotonic() - started < 10


def test_the_installed_torch_is_read_from_text_and_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text("raise SystemExit('imported')\n")
    (tmp_path / "torch/version.py").write_text("__version__ = '2.6.0+cu124'\ncuda: Optional[str] = '12.4'\n")
    (tmp_path / "torch-2.6.0.dist-info").mkdir()
    (tmp_path / "torch-2.6.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.6.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    wheel = installed_torch()
    assert wheel is not None
    assert (str(wheel), wheel.cuda) == ("2.6.0+cu124", (12, 4))
    (tmp_path / "torch/version.py").unlink()
    plain = installed_torch()
    assert plain is not None
    assert plain.version == "2.6.0"


def test_the_check_imports_neither_torch_nor_numpy() -> None:
    code = (
        "import sys; from pathlib import Path; from sosie.doctor.machine import *; from sosie.machines.facts import *; "
        "check_machine(read_machine(Path('.')), Needs()); "
        "sys.exit(int('torch' in sys.modules or 'numpy' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
