"""What one stage is put together from, whether a recipe says it or a ComfyUI graph: the noun of the checks.

A `PlacedFile` is a file in its place, known by its header; an `Assembly` is a denoiser with its partners, its
guides and the settings of its sampler. `Parts` checks every file of a bill once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from sosie.core import Finding
from sosie.core.finding import Rule, Severity
from sosie.doctor.model_files import check_identified
from sosie.families import families, find_family, guides_of, partners_of
from sosie.families.contract.guides import Guides
from sosie.families.contract.partners import Partners
from sosie.files.model_file import Known, ModelFile
from sosie.files.safetensors import Header
from sosie.lora import Lora
from sosie.workspace.bill import Contents, Resolved


@dataclass(frozen=True)
class PlacedFile:
    """A file in its place: the name it is asked by, where it lies, and what its header says.

    `path` is None for a file that was not found; `model` and `lora` are None for what is neither known.
    `header` is that of a single safetensors file.
    """

    name: str
    path: Path | None = None
    model: ModelFile | None = None
    lora: Lora | None = None
    header: Header | None = None

    @property
    def what(self) -> str:
        """What it is, for messages."""
        if self.lora is not None:
            return f"a LoRA of family {self.lora.family or 'unknown'}"
        model = self.model
        return f"a {model.role} of family {model.family} ({model.variant})" if model else "not known"


@dataclass(frozen=True)
class LoraPart:
    """A LoRA and its weight; `denoiser_only` if what it has for text encoders is not reached."""

    part: PlacedFile
    weight: float
    denoiser_only: bool = False


@dataclass(frozen=True)
class GuidePart:
    """An identity guide: its kind (`ip-adapter` for a graph's adapter of images), scale and files.

    `encoder` names the face encoder that it is fed from; empty: not known. It acts in `region` alone (a name for the
    mask; empty: everywhere), from the share `span[0]` of the steps to `span[1]`. `pictures` is how many references
    it is given.
    """

    kind: str
    scale: float
    weights: PlacedFile | None = None
    encoder: str = ""
    image_encoder: PlacedFile | None = None
    controlnet: PlacedFile | None = None
    region: str = ""
    span: tuple[float, float] = (0.0, 1.0)
    pictures: int = 1

    def meets(self, other: GuidePart) -> bool:
        """Whether both act at the same place in the same step."""
        overlap = self.span[0] < other.span[1] and other.span[0] < self.span[1]
        return self.region == other.region and overlap


@dataclass(frozen=True)
class TextLoader:
    """The node of a graph that loads text encoders, and the type that it makes of them (None: its class has none)."""

    where: str
    type: str | None = None


@dataclass(frozen=True)
class SamplingSettings:
    """How a stage samples; None where nothing says. `denoise` 1 draws from noise alone.

    `shift` is the timestep shift that is set (None: the model's own), `precision` as in recipes. Guidance acts
    from the share `guided[0]` of the steps to `guided[1]`.
    """

    steps: float | None = None
    cfg: float | None = None
    denoise: float = 1.0
    shift: float | None = None
    precision: str = "auto"
    guided: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Assembly:
    """A stage of a recipe or a sampler of a graph, with all that it uses.

    `subject` is the recipe or file, `where` the stage or node in it. `references` says whether a node
    encodes reference images for the model, and with what.

    `encoders` are files of text encoders, or the checkpoint that brings them; `loader` is the node of a graph that
    loads them, and `eyes` whether they are shown images. `vaes` are files of VAEs, or checkpoints. `controls` are the
    ControlNets and model patches that act on the stage.
    """

    subject: str
    where: str
    family: str
    model: PlacedFile | None = None
    encoders: tuple[PlacedFile, ...] = ()
    loader: TextLoader | None = None
    eyes: bool = False
    vaes: tuple[PlacedFile, ...] = ()
    controls: tuple[PlacedFile, ...] = ()
    loras: tuple[LoraPart, ...] = ()
    guides: tuple[GuidePart, ...] = ()
    settings: SamplingSettings = SamplingSettings()
    references: Literal["", "with a VAE", "without a VAE"] = ""

    @property
    def partners(self) -> Partners:
        """What its family must be put together with; an empty one if nothing is known."""
        return partners_of(self.family)

    @property
    def told_variant(self) -> str:
        """The variant of its model as the header tells it; empty where the file is not known."""
        return self.model.model.variant if self.model and self.model.model else ""

    @property
    def known_guides(self) -> Guides:
        """The identity guides that were trained for its family; none if nothing is known."""
        return guides_of(self.family)

    @property
    def title(self) -> str:
        """Its family for people."""
        family = find_family(self.family)
        return family.title if family else self.family

    @property
    def variant(self) -> str:
        """Which of the variants that share a header it is: as the user said, or as its file is called; or empty."""
        model = self.model.model if self.model else None
        if model is not None and "the same header" not in model.variant:
            return self.partners.variant_of(f"{model.variant}")
        names = [self.model.path.name if self.model.path else "", self.model.name] if self.model else []
        return next((variant for name in names if (variant := self.partners.variant_of(Path(name).stem))), "")

    def finding(self, rule: Rule, message: str, hint: str, *, severity: Severity | None = None) -> Finding:
        """A finding about this stage."""
        return rule.at(self.subject, f"{self.where}: {message}", hint, severity=severity)


def called_family(name: str) -> str:
    """The family that a file's name begins with, or empty: for files that are not there to be read.

    Animagine is no Anima, nor is what was made for FLUX.1 (`pid_flux1`) a FLUX.1.
    """
    file = Path(name.replace("\\", "/")).name.lower()
    return next((known.name for known in families() if _begins_with(file, known.partners.called)), "")


def _begins_with(file: str, called: str) -> bool:
    """Whether a name begins with that word, whatever separates its letters, and the word ends there."""
    spelled = r"[^a-z0-9]*".join(map(re.escape, called))
    goes_on = r"\d" if called[-1:].isdigit() else "[a-z]"
    return bool(called) and re.match(f"{spelled}(?!{goes_on})", file) is not None


class Parts:
    """The files of a recipe or graph, each checked once. What is wrong with the files themselves is in `findings`.

    `known` is the user's table of variants.
    """

    def __init__(self, known: Path | None = None) -> None:
        self.findings: list[Finding] = []
        self._known = known
        self._checked: dict[Path, PlacedFile] = {}

    def of(self, entry: Resolved) -> PlacedFile:
        """The part that a name stands for; without a path if it is not here."""
        if entry.path is None:
            return PlacedFile(entry.name)
        if entry.path not in self._checked:
            self._checked[entry.path] = self._check(entry.located, entry.contents)
        return replace(self._checked[entry.path], name=entry.name)

    def _check(self, path: Path, contents: Contents) -> PlacedFile:
        header = contents.header if path.suffix in (".safetensors", ".sft") and path.is_file() else None
        part = PlacedFile(path.name, path, None, contents.lora, header)
        if contents.identity is None:
            return part
        answer, found = check_identified(contents.file, contents.identity, contents.header, self._known)
        self.findings += [finding for finding in found if finding.severity != "info"]
        return replace(part, model=answer.model if isinstance(answer, Known) else None)
