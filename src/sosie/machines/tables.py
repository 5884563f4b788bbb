"""What graphics cards, drivers and torch wheels can do: data for `sosie.doctor.machine`.

Each table says what is verified. What a table does not hold is "not known", never an error.
"""

from __future__ import annotations

from sosie.core.finding import Rule

H002 = Rule("SOS-H002", "error", "The driver does not answer")
H016 = Rule("SOS-H016", "error", "The error 'no kernel image is available' is recorded")
H024 = Rule("SOS-H024", "error", "CUDA error 803: libcuda and driver do not fit")
H025 = Rule("SOS-H025", "error", "CUDA error 804: forward compatibility on a card without it")

Version = tuple[int, int]
"""Major and minor of a CUDA or torch version."""

GPU_NAMES: tuple[tuple[str, Version], ...] = (
    (r"\b(?:GB|B)300\b", (10, 3)),
    (r"\b(?:GB|B)(?:100|200)\b", (10, 0)),
    (r"\bGB10\b", (12, 1)),
    (r"\bThor\b", (11, 0)),
    (r"\bRTX PRO \d{4}\b|\bRTX 50[5-9]0\b", (12, 0)),
    (r"\b(?:GH200|H100|H200|H800|H20)\b", (9, 0)),
    (r"\bAda\b|\bRTX 40[5-9]0\b|\bL(?:2|4|20|40|40S)\b", (8, 9)),
    (r"\b(?:A100|A800|A30)\b|\bCMP 170HX\b", (8, 0)),
    (r"\bRTX A\d{3,4}\b|\bRTX (?:2050|30[5-9]0)\b|\bA(?:2|10|10G|10M|16|40)\b|\bMX570\b", (8, 6)),
    (r"\bTITAN RTX\b|\bQuadro RTX\b|\bRTX 20[6-8]0\b|\bGTX 16[3-6]0\b|\bT(?:4|4G|[46]00|1000|1200|2000)\b", (7, 5)),
    (r"\bV100S?\b|\bTITAN V\b|\bGV100\b", (7, 0)),
    (r"\bP100\b|\bGP100\b", (6, 0)),
    (r"\bGTX 10[1-8]0\b|\bGT 1030\b|\bTITAN Xp?\b|\bP(?:4|6|40)\b|\bQuadro P\d{3,4}\b", (6, 1)),
    (r"\bGTX 9[5-8]0\b|\bM(?:4|40|60)\b", (5, 2)),
    (r"\bGTX 7[45]0\b|\bM10\b", (5, 0)),
    (r"\bK80\b", (3, 7)),
)
"""Pattern of a card's name -> compute capability, first match wins; from memory of NVIDIA's list
(developer.nvidia.com/cuda-gpus). A capability that `nvidia-smi` reports itself goes first."""

SASS_UP_TO_HOPPER: tuple[Version, ...] = ((5, 0), (6, 0), (7, 0), (7, 5), (8, 0), (8, 6), (9, 0))
SASS_FROM_TURING: tuple[Version, ...] = ((7, 5), (8, 0), (8, 6), (9, 0), (10, 0), (12, 0))
SASS_FROM_VOLTA: tuple[Version, ...] = ((7, 0), *SASS_FROM_TURING)

WheelRow = tuple[str, Version, Version, tuple[Version, ...], Version | None, tuple[Version, ...]]

WHEELS: tuple[WheelRow, ...] = (
    # cu118, cu121: recalled. 3.7 (Kepler) was in some of the cu118 wheels.
    ("cu118", (2, 0), (2, 7), SASS_UP_TO_HOPPER, None, ((3, 7),)),
    ("cu121", (2, 1), (2, 5), SASS_UP_TO_HOPPER, None, ()),
    # 2.5.1: verified by the list that torch prints when it refuses a card. 2.4, 2.6: the same script, recalled.
    ("cu124", (2, 4), (2, 6), SASS_UP_TO_HOPPER, None, ()),
    # 2.6 was built with 9.0+PTX (recalled, not verified): newer cards get a warning, not an error.
    ("cu126", (2, 6), (2, 6), SASS_UP_TO_HOPPER, (9, 0), ()),
    # 2.11: verified; 2.7 to 2.14 by the build script. An RFC (pytorch #190385) removes cu126 in 2.15.
    ("cu126", (2, 7), (2, 14), SASS_UP_TO_HOPPER, None, ()),
    # Sources differ on 7.0 in 2.7; it came back on request (pytorch #157517).
    ("cu128", (2, 7), (2, 7), SASS_FROM_TURING, (12, 0), ((7, 0),)),
    # 2.8, 2.9, 2.10: verified by recorded lists.
    ("cu128", (2, 8), (2, 10), SASS_FROM_VOLTA, None, ()),
    # 2.11: verified, without 7.0.
    ("cu128", (2, 11), (2, 11), SASS_FROM_TURING, None, ()),
    # 2.8: verified. 2.9, 2.10: the build script.
    ("cu129", (2, 8), (2, 10), SASS_FROM_VOLTA, (12, 0), ()),
    # 2.13, 2.14: verified (`_cuda_getArchFlags` of 2.14.1: 7.5 8.0 8.6 9.0 10.0 12.0). Older: the build script.
    ("cu130", (2, 9), (2, 12), SASS_FROM_TURING, (12, 0), ()),
    ("cu130", (2, 13), (2, 14), SASS_FROM_TURING, None, ()),
    # 2.13: verified.
    ("cu132", (2, 12), (2, 15), SASS_FROM_TURING, None, ()),
)
"""Tag, first and last torch, compiled architectures, architecture of the PTX, architectures that are
not certain. x86-64 wheels of pytorch.org; a torch outside the range is not known."""

PYPI_CUDA: tuple[tuple[Version, Version, str], ...] = (
    ((2, 4), (2, 4), "cu121"),
    ((2, 5), (2, 6), "cu124"),
    ((2, 7), (2, 7), "cu126"),
    ((2, 8), (2, 10), "cu128"),
    ((2, 11), (2, 14), "cu130"),
    ((2, 15), (2, 15), "cu132"),
)
"""First and last torch -> tag of the Linux wheel on PyPI (verified from the wheels' requirements)."""

DRIVER_MINIMUM: dict[int, int] = {11: 450, 12: 525, 13: 580}
"""CUDA major -> first driver branch that runs any of its minors (NVIDIA, "CUDA Compatibility", minor
version compatibility). Only for compiled code: PTX needs a driver of the wheel's own minor."""

DRIVER_CUDA: tuple[tuple[int, Version], ...] = (
    (450, (11, 0)),
    (455, (11, 1)),
    (460, (11, 2)),
    (465, (11, 3)),
    (470, (11, 4)),
    (495, (11, 5)),
    (510, (11, 6)),
    (515, (11, 7)),
    (520, (11, 8)),
    (525, (12, 0)),
    (530, (12, 1)),
    (535, (12, 2)),
    (545, (12, 3)),
    (550, (12, 4)),
    (555, (12, 5)),
    (560, (12, 6)),
    (565, (12, 7)),
    (570, (12, 8)),
    (575, (12, 9)),
    (580, (13, 0)),
    (590, (13, 1)),
    (595, (13, 2)),
    (610, (13, 3)),
    (615, (13, 4)),
)
"""Driver branch -> newest CUDA it brings. 12.4, 12.6, 12.8, 13.0 and 13.1 as NVIDIA's release notes
say, 11.4, 13.3 and 13.4 from recorded `nvidia-smi`, the rest recalled. A branch in between or above
brings at least what the one below it does."""

NEWEST_KNOWN_BRANCH = 617
"""Above this branch nothing is concluded from a CUDA version that seems too new for the driver."""

BF16_FROM: Version = (8, 0)
FP8_FROM: Version = (8, 9)

RecordedError = tuple[str, Rule, str, str]

RECORDED_ERRORS: tuple[RecordedError, ...] = (
    (
        r"\berror 803\b|system has unsupported display driver ?/ ?cuda driver combination",
        H024,
        "CUDA error 803 is recorded: the program loads a libcuda that does not belong to this driver, as a rule the "
        "cuda-compat package of the image, which is older than the driver; the driver itself is not too old",
        "take the compat folder out of the way: unset LD_LIBRARY_PATH; ls /etc/ld.so.conf.d /usr/local/cuda/compat",
    ),
    (
        r"\berror 804\b|forward compatibility was attempted on non supported HW",
        H025,
        "CUDA error 804 is recorded: the driver is older than the image's CUDA, and its cuda-compat package helps on "
        "data-centre cards only, not on GeForce",
        "choose a machine with a newer driver, or an image and a torch wheel of an older CUDA",
    ),
    (
        r"no kernel image is available for execution",
        H016,
        "'no kernel image is available' is recorded: the torch wheel was not compiled for this card",
        "install a wheel for this card, see its architecture: nvidia-smi --query-gpu=name,compute_cap --format=csv",
    ),
    (
        r"driver/library version mismatch",
        H002,
        "nvidia-smi says 'driver/library version mismatch': the driver was updated and its old kernel module is "
        "still loaded",
        "restart the machine",
    ),
    (
        r"couldn't communicate with the NVIDIA driver|Failed to initialize NVML|No devices were found",
        H002,
        "nvidia-smi is there, but the driver does not answer or shows no card",
        "check that the driver is loaded and the container was started with its GPU: docker run --gpus all",
    ),
)
"""Pattern in recorded text (case does not count), rule, message, hint; each rule at most once."""
