"""The bill of a recipe: everything that its stages name, resolved once.

For each name: where it is, what it holds, where it comes from, or why it is not here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from sosie.core import Character, Stage
from sosie.core.errors import NotFoundError, SosieError, UsageError
from sosie.core.plan import asset_names
from sosie.families import families
from sosie.files.digest import asset_digest
from sosie.files.model_file import Broken, Identification, identify_and_read
from sosie.files.safetensors import Header, read_header
from sosie.lora import Lora, read_lora
from sosie.workspace.library import InstalledModel, Library
from sosie.workspace.origin import Origin, read_origin
from sosie.workspace.workspace import Workspace

LAYERS_OF_A_FOLDER = ("diffusion_pytorch_model.safetensors", "model.safetensors")
"""The weights of a folder that is one component of a pipeline."""


@dataclass(frozen=True)
class Contents:
    """What the header of `file` says: it is a LoRA, or else what the families identify it as.

    Of a folder that is one component of a pipeline, `file` is its weights; of a pipeline, the folder, which has no
    one `header`. All are None for an ONNX file, which is not read.
    """

    file: Path
    header: Header | None = None
    lora: Lora | None = None
    identity: Identification | None = None


@dataclass(frozen=True)
class Resolved:
    """What a name means here: the file or folder at `path`, or None and the `problem` that says why.

    `installed` is the model that it is or is part of. `place` is where `sosie.toml` or a model folder has it,
    even if the file does not exist; None if neither names it. `trained_on` is the base of a LoRA by the user's word.
    """

    name: str
    path: Path | None = None
    problem: SosieError | None = None
    installed: InstalledModel | None = None
    place: Path | None = None
    trained_on: str = ""

    @property
    def located(self) -> Path:
        """The path; raises `problem` if there is none."""
        if self.path is None:
            raise self.problem or NotFoundError(f"'{self.name}' was not found", "sosie model list")
        return self.path

    @cached_property
    def contents(self) -> Contents:
        """Read at the first call, headers only. Never raises for what a file holds."""
        return read_contents(self.located, self.trained_on)

    @cached_property
    def origin(self) -> Origin | None:
        """Where it was fetched from, None if it was not or is not here."""
        return read_origin(self.path) if self.path else None

    @cached_property
    def sha256(self) -> str:
        """Its digest (`files.digest.asset_digest`), computed at the first call."""
        return asset_digest(self.located)


@dataclass(frozen=True)
class Bill:
    """What `stages` name: each name once, in their order.

    `known` is the user's table of variants that share a header. With `remote` the engine's servers have files
    of their own, and a file that is not here may be there.
    """

    stages: tuple[Stage, ...] = ()
    entries: Mapping[str, Resolved] = field(default_factory=dict[str, Resolved])
    known: Path | None = None
    remote: bool = False

    def __getitem__(self, name: str) -> Resolved:
        return self.entries[name]

    def __iter__(self) -> Iterator[Resolved]:
        return iter(self.entries.values())

    @cached_property
    def paths(self) -> Mapping[str, Path]:
        """Where each file or folder is, without those that only the servers may have.

        Raises the first `problem` of the others.
        """
        return {entry.name: entry.located for entry in self if not self._may_be_remote(entry)}

    @cached_property
    def digests(self) -> Mapping[str, str]:
        """The SHA-256 of each; empty for one that only the servers may have. Raises as `paths`."""
        return {entry.name: "" if self._may_be_remote(entry) else entry.sha256 for entry in self}

    def _may_be_remote(self, entry: Resolved) -> bool:
        return self.remote and isinstance(entry.problem, (NotFoundError, UsageError))


def resolve(
    workspace: Workspace,
    stages: tuple[Stage, ...],
    character: Character | None = None,
    remote: bool = False,
    also: Iterable[str] = (),
) -> Bill:
    """The bill of these stages (`core.plan.needed_stages`), and of the names in `also`.

    The model folders are walked once. What is missing or means several files is an entry with a `problem`.
    Of `character` it is taken what its LoRAs were trained on.
    """
    library = Library(workspace)
    trained_on = {character.lora_name(lora): lora.trained_on for lora in character.loras} if character else {}
    names = dict.fromkeys((*asset_names(stages), *also))
    entries = {name: _resolved(library, name, trained_on.get(name, "")) for name in names}
    return Bill(stages, entries, workspace.known_table, remote)


def resolve_one(workspace: Workspace, name: str) -> Resolved:
    """One file or model by the name that a user gives, as in a bill."""
    return _resolved(Library(workspace), name, "")


def read_contents(path: Path, trained_on: str = "") -> Contents:
    """What a file, or a folder that is a pipeline or one component of it, holds."""
    file = _weights(path)
    if file.suffix == ".onnx":
        return Contents(file)
    header: Header | None = None
    if file.suffix in (".safetensors", ".sft"):
        with suppress(SosieError):
            header = read_header(file)
            return Contents(file, header, read_lora(file, families(), trained_on, header))
    try:
        identity, header = identify_and_read(file, families(), header)
    except NotFoundError as error:
        return Contents(file, identity=Broken(file, error.message, error.hint))
    return Contents(file, header, identity=identity)


def _resolved(library: Library, name: str, trained_on: str) -> Resolved:
    place = library.place(name)
    try:
        path, installed = library.asset(name)
    except SosieError as error:
        return Resolved(name, problem=error, place=place)
    return Resolved(name, path, None, installed, place, trained_on)


def _weights(path: Path) -> Path:
    """The file by which a path is known: of a component's folder its weights, of anything else itself."""
    if not path.is_dir() or (path / "model_index.json").is_file():
        return path
    named = [path / name for name in LAYERS_OF_A_FOLDER if (path / name).is_file()]
    return (named or sorted(path.glob("*.safetensors")) or [path])[0]
