"""What a model file is, told from its header alone: one family, unknown, broken, or ambiguous."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from sosie.core.errors import BadModelError
from sosie.files.foreign import as_list, as_object, as_text, read_object
from sosie.files.gguf import read_gguf
from sosie.files.pickles.pickled import is_pickled, read_pickled
from sosie.files.regular import open_regular
from sosie.files.safetensors import Header, TensorInfo, read_header, read_tensor
from sosie.files.signature import COMFY, COMPONENTS, FamilyClaim, Signed, claims, components, nearest_part
from sosie.files.storage import parameters, storage, unpacked

DENOISERS = ("unet", "transformer")
"""The component of a diffusers folder that decides its family."""

WEIGHTLESS = ("Scheduler", "Tokenizer", "TokenizerFast", "Processor", "FeatureExtractor")
"""Endings of the classes of components that hold no tensors."""


MAX_MARK = 4096
"""Bytes of a small tensor of JSON (`.comfy_quant`) that are read."""


@dataclass(frozen=True)
class ModelFile:
    """A model that is known: what it is for and how it is stored.

    `role` is `pipeline` for a whole diffusers folder, else a role of `signature.Part`. `layout`
    is how its keys are named. `storage` is a name of `sosie.files.storage`, `parameters` how many
    numbers it holds (packed ones count, scales do not), `bytes` its size on the disk.

    What its kind is known to have: `expected_parameters` of a whole model (0: not known),
    `fingerprint`, the name of a small tensor in it that tells files apart which share a header, and
    `plain_file`, the published file in bf16; both may be empty.

    `fed_by` is the image encoder that an adapter was trained on (empty: none, or not known), `holds` what of
    `signature.COMPONENTS` a checkpoint brings. `used_by` and `blind` are as in `Part`.
    """

    path: Path
    role: str
    family: str
    variant: str
    layout: str
    storage: str
    parameters: int
    bytes: int
    expected_parameters: int = 0
    fingerprint: str = ""
    plain_file: str = ""
    fed_by: str = ""
    holds: tuple[str, ...] = ()
    used_by: str = ""
    blind: str = ""

    @property
    def lacks(self) -> tuple[str, ...]:
        """The components that a checkpoint, or a denoiser alone, does not bring; none for another role."""
        known = self.holds if self.role == "checkpoint" else ("model",) if self.role == "denoiser" else COMPONENTS
        return tuple(part for part in COMPONENTS if part not in known)

    @property
    def without(self) -> str:
        """What was not saved in a checkpoint, for people: `without VAE`, or empty."""
        return f"without {' and '.join(self.lacks)}" if self.role == "checkpoint" and self.lacks else ""


@dataclass(frozen=True)
class Known:
    """Exactly one family knows it."""

    model: ModelFile

    @property
    def message(self) -> str:
        """One sentence for people."""
        m = self.model
        size = f"{m.parameters / 1e6:,.1f} M parameters, {m.bytes / 1e6:,.1f} MB"
        lacks = f" {m.without}" if m.without else ""
        fed = f", trained on {m.fed_by}" if m.fed_by else ""
        return f"{m.path} is of family {m.family}: {m.role}{lacks}, {m.variant}{fed}; {m.layout}, {m.storage}, {size}"


@dataclass(frozen=True)
class Unknown:
    """Whole and valid, but of no known family. `nearest` is the family that comes nearest, or empty."""

    path: Path
    nearest: str
    because: str

    @property
    def message(self) -> str:
        """One sentence for people."""
        near = f"nearest is {self.nearest} because {self.because}" if self.nearest else self.because
        return f"{self.path} is of no known family: {near}"


@dataclass(frozen=True)
class Broken:
    """Not whole or not valid: why, and what to do."""

    path: Path
    why: str
    hint: str

    @property
    def message(self) -> str:
        """One sentence for people."""
        return self.why


@dataclass(frozen=True)
class Ambiguous:
    """Several families know it: what it would be in each."""

    path: Path
    candidates: tuple[ModelFile, ...]

    @property
    def message(self) -> str:
        """One sentence for people."""
        return f"{self.path} could be of family {' or '.join(model.family for model in self.candidates)}"


Identification = Known | Unknown | Broken | Ambiguous


def identify(path: Path, families: Sequence[Signed]) -> Identification:
    """Says what `path` is: a safetensors, GGUF or pickled file, or a diffusers folder.

    Reads headers, opcodes and JSON only, and runs nothing. Raises `NotFoundError` if nothing is
    there; everything else that can be wrong is an answer.
    """
    return identify_and_read(path, families)[0]


def identify_and_read(
    path: Path, families: Sequence[Signed], header: Header | None = None
) -> tuple[Identification, Header | None]:
    """As `identify`, with the header of a single file; None for a folder, or for a file that has none.

    `header` is that of a safetensors file, if it was read already.
    """
    try:
        if path.is_dir():
            return _identify_folder(path, families), None
        header, kind = read_any_header(path) if header is None else (header, "")
        return identify_header(path, header, path.stat().st_size, families, kind), header
    except BadModelError as error:
        return Broken(path, error.message, error.hint), header
    except OSError as error:
        return Broken(path, f"{error.filename or path} cannot be read: {error.strerror or error}", ""), header


def read_any_header(path: Path) -> tuple[Header, str]:
    """The header of a file of any known format, and the storage where only the format tells it, else empty.

    Raises `NotFoundError` if there is no file, `BadModelError` for one that is not whole and valid.
    """
    try:
        with open_regular(path) as stream:
            start = stream.read(512) if path.is_file() else b""
    except OSError:
        start = b""
    if start.startswith(b"GGUF"):
        return _gguf_header(path)
    if is_pickled(start):
        return read_pickled(path).header, ""
    return read_header(path), ""


def _gguf_header(path: Path) -> tuple[Header, str]:
    gguf = read_gguf(path)
    if gguf.bytes < gguf.expected:
        share = f"{gguf.bytes:,} of {gguf.expected:,} bytes are there ({gguf.bytes / gguf.expected:.0%})"
        raise BadModelError(f"{path} is truncated: {share}", "download the file again")
    return gguf.header, f"gguf-{gguf.storage}"


def identify_header(
    path: Path, header: Header, size: int, families: Sequence[Signed], kind: str = ""
) -> Identification:
    """Says what a file of `size` bytes with this header is; `path` is only named.

    `kind` is its storage where the header does not tell it.
    """
    if not header.tensors:
        return Broken(path, f"{path} holds no tensors", "get the model as a .safetensors file with its weights")
    kind = kind or _stored(path, header)
    logical = unpacked(header)
    models = tuple(_model(path, header, claim, (kind, size)) for claim in claims(logical, families))
    if len(models) > 1:
        return Ambiguous(path, models)
    if models:
        return Known(models[0])
    near = nearest_part(logical, families)
    if near is None:
        first = next(iter(header.tensors))
        return Unknown(path, "", f"none of its {len(header.tensors)} tensors is known (the first is {first[:80]!r})")
    return Unknown(path, near.family, near.because)


def _stored(path: Path, header: Header) -> str:
    """The storage; of ComfyUI's own quantisations, whether weights are rotated, a small tensor beside them tells."""
    kind = storage(header)
    mark = next((name for name in header.tensors if name.endswith(".comfy_quant")), "")
    told = header.metadata.get("_quantization_metadata", "")
    if mark and kind.endswith("-comfy") and path.is_file():
        told = read_tensor(path, header.tensors[mark].offsets, MAX_MARK).decode("utf-8", "replace")
    return kind.replace("-comfy", "-convrot") if "convrot" in told and '"convrot": false' not in told else kind


def _model(path: Path, header: Header, claim: FamilyClaim, stored: tuple[str, int]) -> ModelFile:
    part = claim.part
    # Only the part's own variant shares a header with others; the rest are known by marks of their own.
    fingerprint = claim.prefix + part.fingerprint if part.fingerprint and claim.variant == part.variant else ""
    holds = components(header) if part.role == "checkpoint" or claim.prefix == COMFY else ()
    # A denoiser's part beside others in one file is a checkpoint of which something was not saved.
    bundled = part.role == "denoiser" and len(holds) > 1
    return ModelFile(
        path=path,
        role="checkpoint" if bundled else part.role,
        family=claim.family,
        variant=claim.variant,
        layout=part.layout,
        storage=stored[0],
        parameters=parameters(header),
        bytes=stored[1],
        expected_parameters=0 if bundled else claim.parameters,
        fingerprint=fingerprint if fingerprint in header.tensors else "",
        plain_file=part.plain_file,
        fed_by=claim.fed_by,
        holds=holds if bundled or part.role == "checkpoint" else (),
        used_by=part.used_by,
        blind=part.blind if claim.variant == part.variant else "",
    )


def _identify_folder(folder: Path, families: Sequence[Signed]) -> Identification:
    """By its denoiser; every other component must be there and whole."""
    if not (folder / "model_index.json").is_file():
        return Unknown(folder, "", "a diffusers folder holds model_index.json, and this one does not")
    headers = {name: _component_header(folder / name) for name in _components(folder)}
    denoiser = next((name for name in DENOISERS if name in headers), None)
    if denoiser is None:
        return Unknown(folder, "", f"model_index.json names none of {' or '.join(DENOISERS)}")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    answer = identify_header(folder, headers[denoiser], size, families)
    if isinstance(answer, Known):
        return Known(_pipeline(answer.model, headers))
    if isinstance(answer, Ambiguous):
        return Ambiguous(folder, tuple(_pipeline(model, headers) for model in answer.candidates))
    return answer


def _pipeline(denoiser: ModelFile, headers: dict[str, Header]) -> ModelFile:
    variant = denoiser.variant
    schedule = denoiser.path / "scheduler" / "scheduler_config.json"
    config = read_object(schedule, _AGAIN) if schedule.is_file() else {}
    if config.get("prediction_type") == "v_prediction" and "v-prediction" not in variant:
        variant = f"{variant}, v-prediction"
    return dataclasses.replace(
        denoiser,
        role="pipeline",
        variant=variant,
        parameters=sum(map(parameters, headers.values())),
        expected_parameters=0,
        fingerprint="",
    )


def _components(folder: Path) -> list[str]:
    """The components in model_index.json that hold tensors; each has a folder."""
    names: list[str] = []
    for name, entry in read_object(folder / "model_index.json", _AGAIN).items():
        kinds = as_list(entry)
        if name.startswith("_") or len(kinds) != 2 or not isinstance(kinds[1], str) or kinds[1].endswith(WEIGHTLESS):
            continue
        if not _is_plain(name) or not (folder / name).is_dir():
            raise BadModelError(f"{folder} lacks the component {name[:80]!r} that model_index.json names", _AGAIN)
        names.append(name)
    return names


def _component_header(folder: Path) -> Header:
    """The tensors of all the files that a component's weights are spread over."""
    tensors: dict[str, TensorInfo] = {}
    for file in weight_files(folder):
        tensors.update(read_header(file).tensors)
    return Header(MappingProxyType(tensors), MappingProxyType({}))


def weight_files(folder: Path) -> list[Path]:
    """A component's file, or its shards by their index; files of a variant (fp16) only if there is no other.

    Raises `BadModelError` where there are none, or not all that the index names.
    """
    for base in ("diffusion_pytorch_model", "model"):
        if (folder / f"{base}.safetensors").is_file():
            return [folder / f"{base}.safetensors"]
        index = folder / f"{base}.safetensors.index.json"
        if index.is_file():
            return _shards(index)
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        raise BadModelError(f"{folder} holds no .safetensors file", "get the model with safetensors weights")
    return found[:1]


def _shards(index: Path) -> list[Path]:
    values = as_object(read_object(index, _AGAIN).get("weight_map")).values()
    names = {as_text(name) for name in values}
    if not names or not all(map(_is_plain, names)):
        raise BadModelError(f"{index} has no weight_map of tensors to files", _AGAIN)
    shards = [index.with_name(name) for name in sorted(names)]
    for shard in shards:
        if not shard.is_file():
            raise BadModelError(f"{shard} is missing; {index.name} names it", _AGAIN)
    return shards


def _is_plain(name: str) -> bool:
    """True for the name of something in a folder, false for a path that leads out of it."""
    return name not in ("", ".", "..") and not set(name) & set("/\\\0")


_AGAIN = "download the folder again"
