"""Face encoders: an image and a Face go in, a vector that tells people apart comes out."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sosie.core.errors import BadModelError, ConfigError, MissingExtraError, NotFoundError
from sosie.faces.align import ARCFACE_TEMPLATE, align, umeyama, warp
from sosie.faces.detect import Face
from sosie.faces.nets.dlib_resnet import MEAN, SCALE, SIDE, dlib_onnx
from sosie.faces.onnx import open_session
from sosie.faces.picture import Picture
from sosie.faces.weights import DLIB_RESNET, SFACE, quiet_opencv, refused

Image8 = NDArray[np.uint8]
Vector = NDArray[np.float32]
Metric = Literal["cosine", "euclidean"]


class Encoder(Protocol):
    """A net that embeds faces; `name` and `sha256` (of its weights) go into every score.

    `metric` says how two of its embeddings compare: `similarity` knows both.
    """

    @property
    def name(self) -> str:
        """The judge's name in scores and configuration."""
        ...

    @property
    def sha256(self) -> str:
        """The SHA-256 of the weights, as hexadecimal."""
        ...

    @property
    def metric(self) -> Metric:
        """How two embeddings are compared."""
        ...

    def embed(self, image: Image8 | Picture, face: Face) -> Vector:
        """The embedding float32 [d] of `face` in `image` (RGB uint8 [h, w, 3], or a `Picture` that others share)."""
        ...


class SFace:
    """SFace (Zhong et al. 2021, OpenCV Zoo, Apache-2.0), 128-d, L2-normalised.

    As in OpenCV's own `FaceRecognizerSF`: 112 x 112 RGB, 0 to 255 without normalisation, but
    through the plain net with its input named, since OpenCV 5 takes the weights that this file
    lists as graph inputs for inputs. 29 ms a face on one core; not to be shared between threads.
    """

    name = "sface"
    sha256 = SFACE.sha256
    metric: Metric = "cosine"

    def __init__(self) -> None:
        """Reads the pinned weights; BadModelError or MissingExtraError as `PackagedWeights` says."""
        self._cv2: Any = importlib.import_module("cv2")
        with quiet_opencv(self._cv2):
            self._net: Any = self._cv2.dnn.readNetFromONNX(np.frombuffer(SFACE.read(), dtype=np.uint8))

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process reads the weights itself."""
        return SFace, ()

    def embed(self, image: Image8 | Picture, face: Face) -> Vector:
        """The unit embedding float32 [128] of `face` in `image`."""
        self._net.setInput(self._cv2.dnn.blobFromImage(align(image, face.points)), "data")
        return unit(self._net.forward())


# Where the five points lie in dlib's chip of 150 px: the ArcFace template, scaled and moved so that the eyes
# come where dlib's mean face (get_face_chip_details, padding 0.25) has the middle of its eye corners.
_DLIB_EYES = np.array([[47.7, 47.1], [100.3, 47.1]])
_DLIB_SCALE = float((_DLIB_EYES[1, 0] - _DLIB_EYES[0, 0]) / np.ptp(ARCFACE_TEMPLATE[:2, 0]))
DLIB_TEMPLATE: NDArray[np.float64] = (
    ARCFACE_TEMPLATE - ARCFACE_TEMPLATE[:2].mean(axis=0)
) * _DLIB_SCALE + _DLIB_EYES.mean(axis=0)


class DlibResNet:
    """dlib's ResNet (King 2017, CC0), 128-d, compared by Euclidean distance (0.6 in dlib's docs).

    The chip is cut by YuNet's five points, not by dlib's landmark predictor: on 256 px renders of
    eight people the ROC-AUC own against other was 0.969 this way, 0.956 with the predictor on a
    square around the face and 0.900 with it on YuNet's box. onnxruntime runs it, on one thread: 10 ms a face on
    one core where dlib itself takes 160, and the same numbers within 1e-6 (docs/decisions/0024-judges-cost.md).
    """

    name = "dlib"
    sha256 = DLIB_RESNET.sha256
    metric: Metric = "euclidean"

    def __init__(self) -> None:
        """Reads the pinned weights; MissingExtraError if the extra `judges` is not installed."""
        self._session = open_session(dlib_onnx(DLIB_RESNET.read()), lambda why: refused(DLIB_RESNET, why))

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process reads the weights itself."""
        return DlibResNet, ()

    def embed(self, image: Image8 | Picture, face: Face) -> Vector:
        """The embedding float32 [128] of `face` in `image`, as dlib gives it (norm about 1.4)."""
        return self.embed_chips([warp(image, umeyama(face.points, DLIB_TEMPLATE), SIDE)])[0]

    def embed_chips(self, chips: Sequence[Image8]) -> NDArray[np.float32]:
        """The embeddings float32 [n, 128] of chips, RGB uint8 [150, 150, 3], in one pass."""
        pixels = (np.stack(chips).astype(np.float32) - MEAN) / SCALE
        return self._session.run(None, {"chip": pixels.transpose(0, 3, 1, 2)})[0]


class ArcFaceOnnx:
    """Any ONNX model in ArcFace's layout, run by onnxruntime on one thread.

    One input float32 [n, 3, 112, 112]: RGB, (value - 127.5) / 127.5, aligned to the ArcFace
    template; one output [n, d]. AuraFace, antelopev2's glintr100 and mini's id_encoder are such.
    """

    metric: Metric = "cosine"

    def __init__(self, name: str, path: Path, sha256: str = "") -> None:
        """Loads and tries the model at `path`.

        NotFoundError if there is no such file; BadModelError if it is no such model, or if
        `sha256` is given and is not that of the file.
        """
        if not path.is_file():
            raise NotFoundError(f"{path}: face encoder '{name}' does not exist", "check [encoders] in sosie.toml")
        content = path.read_bytes()
        self._path = path
        self.name = name
        self.sha256 = hashlib.sha256(content).hexdigest()
        if sha256 and sha256.lower() != self.sha256:
            message = f"{path}: has SHA-256 {self.sha256}; expected {sha256.lower()}"
            raise BadModelError(message, "download the file again, or correct the digest in the configuration")
        self._session = _open_session(path, content)
        self._input = _checked_input(path, self._session)
        self._try(path)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process reads the weights itself."""
        return ArcFaceOnnx, (self.name, self._path, self.sha256)

    def embed(self, image: Image8 | Picture, face: Face, *, normalise: bool = True) -> Vector:
        """The embedding float32 [d] of `face` in `image`; with `normalise` its L2 norm is 1.

        Without, it is what the model gives: InstantID and its like were trained on that.
        """
        raw = self._run(align(image, face.points))
        return unit(raw) if normalise else raw[0]

    def _run(self, crop: Image8) -> Vector:
        blob = (crop.astype(np.float32) - 127.5) / 127.5
        output = self._session.run(None, {self._input: blob.transpose(2, 0, 1)[np.newaxis]})[0]
        return np.asarray(output, dtype=np.float32)

    def _try(self, path: Path) -> None:
        """One run on a grey image: BadModelError unless a finite vector comes out."""
        try:
            raw = self._run(np.full((112, 112, 3), 100, dtype=np.uint8))
        # onnxruntime's exceptions have no common base below Exception.
        except Exception as error:
            raise _not_arcface(path, f"a model that fails on an image of 112 x 112 px ({error})") from error
        if raw.ndim != 2 or raw.shape[0] != 1 or raw.shape[1] < 2 or not np.isfinite(raw).all():
            raise _not_arcface(path, f"output shape {list(raw.shape)}")


def _open_session(path: Path, content: bytes) -> Any:
    return open_session(content, lambda why: _not_arcface(path, f"a file that onnxruntime cannot load ({why})"))


def _checked_input(path: Path, session: Any) -> str:
    """The name of the model's one image input; BadModelError if its layout is another."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise _not_arcface(path, f"{len(inputs)} inputs and {len(outputs)} outputs")
    shape = list(inputs[0].shape)
    # A dimension that the model leaves open is a name or None.
    fits = len(shape) == 4 and all(
        not isinstance(found, int) or found == wanted for found, wanted in zip(shape, (1, 3, 112, 112), strict=True)
    )
    if not fits or inputs[0].type != "tensor(float)":
        raise _not_arcface(path, f"input shape {shape} of {inputs[0].type}")
    return str(inputs[0].name)


def _not_arcface(path: Path, found: str) -> BadModelError:
    message = f"{path}: found {found}; expected one input float32 [1, 3, 112, 112] and one output [1, d]"
    return BadModelError(message, "use the recognition model of a pack (AuraFace, antelopev2: glintr100.onnx)")


_BUILT_IN: dict[str, Callable[[], Encoder]] = {"sface": SFace, "dlib": DlibResNet}


def judge_encoders(plugged: Mapping[str, Path]) -> tuple[dict[str, Encoder], dict[str, str]]:
    """The encoders that can judge, by name, and name -> reason for those that are not installed.

    `plugged` are the user's own ArcFace-layout files by name. ConfigError if one of them takes the
    name of a built-in judge; a broken or missing file raises as `ArcFaceOnnx` says.
    """
    for name in plugged:
        if name in _BUILT_IN:
            raise ConfigError(f"the face encoder '{name}' has the name of a built-in judge", "give it another name")
    installed: dict[str, Encoder] = {}
    missing: dict[str, str] = {}
    for name, load in _BUILT_IN.items():
        try:
            installed[name] = load()
        except MissingExtraError as error:
            missing[name] = f"not installed: {error.hint}"
    for name, path in plugged.items():
        installed[name] = ArcFaceOnnx(name, path)
    return installed, missing


def unit(vector: NDArray[np.float32]) -> Vector:
    """`vector` flattened to [d], float32, with L2 norm 1; a zero vector stays zero."""
    flat = np.array(vector, dtype=np.float32).ravel()
    norm = float(np.linalg.norm(flat))
    return flat / np.float32(norm) if norm > 0 else flat


def template(metric: Metric, embeddings: Sequence[Vector]) -> Vector:
    """What several embeddings of one person have in common: float32 [d].

    Cosine: the mean of the unit vectors, renormalised. Euclidean: the plain mean. ValueError if
    there is none.
    """
    if not embeddings:
        raise ValueError("expected at least one embedding")
    if metric == "cosine":
        return unit(np.mean([unit(vector) for vector in embeddings], axis=0))
    return np.stack(embeddings).mean(axis=0).astype(np.float32)


def similarity(metric: Metric, template: Vector, embedding: Vector) -> float:
    """The cosine in [-1, 1] (higher is nearer) or the Euclidean distance (lower is nearer)."""
    if metric == "cosine":
        return float(np.clip(unit(template) @ unit(embedding), -1.0, 1.0))
    return float(np.linalg.norm(template - embedding))
