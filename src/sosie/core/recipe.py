"""A Recipe: how an image is made and when it is good enough."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from sosie.core.ranges import Range
from sosie.core.schema import LATER

StageKind = Literal["generate", "refine", "detail", "upscale"]
Schedule = Literal["model", "karras", "exponential", "sgm_uniform", "simple", "normal", "beta"]
Noise = Literal["own", "comfy"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
DrawingPrecision = Literal["auto", "fp32", "bf16", "fp16", "fp8"]
Commercial = Literal["yes", "no", "ask"]
Targets = Literal["attention", "feed-forward", "transformer", "all"]
Texts = Literal["captions", "prompts"]
Timesteps = Literal["uniform", "logit-normal", "sigmoid", "mode", "weighted"]
Optimizer = Literal["auto", "adamw", "adamw8bit"]
LearningRateSchedule = Literal["constant", "linear", "cosine"]
BaseStorage = Literal["precision", "fp8", "auto"]
Checkpointing = Literal[True, False, "auto"]
Tone = Literal["guide", "body"]
Framing = Literal["whole", "head"]

MAX_SIDE = 8192
"""Pixels of the longest side of an image that is drawn, or of a tile."""

CHARACTER_LORA = "character"
"""The name by which a recipe asks for the character's own LoRA of the stage's family."""


@dataclass(frozen=True)
class Sampler:
    """The sampler of a stage, by the names the field uses (`euler`, `dpmpp_2m`, ...).

    `schedule` spaces the noise levels: `model` keeps what the model was trained with, `karras` is
    Karras et al. 2022. `cfg` is the guidance scale (1 switches guidance off). `denoise` is how
    much of the noise a stage that works on an image adds and removes, 0 to 1 (1: from pure
    noise). `shift` is the timestep shift of flow models; 0 keeps the model's own. `noise` says how a
    seed becomes noise in process: `own` draws all of it on the CPU, so that every device gives one
    picture; `comfy` draws it as a ComfyUI server does, where the same seed then gives the same picture.
    Guidance acts from the share `cfg_start` of the steps to `cfg_end` (arXiv:2404.07724), and is off in the others.
    """

    name: str = "euler"
    schedule: Schedule = "model"
    steps: Annotated[int, Range(1, 1000)] = 25
    cfg: Annotated[float, Range(1, 100)] = 5.0
    denoise: Annotated[float, Range(0, 1, above=True)] = 1.0
    shift: Annotated[float, Range(0, 100)] = 0.0
    noise: Noise = field(default="own", metadata=LATER)
    cfg_start: Annotated[float, Range(0, 1)] = field(default=0.0, metadata=LATER)
    cfg_end: Annotated[float, Range(0, 1)] = field(default=1.0, metadata=LATER)

    @property
    def guides_always(self) -> bool:
        """Whether guidance acts in every step."""
        return (self.cfg_start, self.cfg_end) == (0, 1)

    def conflicts(self) -> Iterator[str]:
        """What `core.ranges` asks for."""
        if not self.cfg_start < self.cfg_end:
            yield f"cfg_start = {self.cfg_start:g} is not below cfg_end = {self.cfg_end:g}"


@dataclass(frozen=True)
class Keypoints:
    """A ControlNet that is fed the five points of the face as a picture, in InstantID's manner.

    `start` and `end` are shares of the steps, 0 to 1, in which it acts with `scale`. `stick` is half
    the width of the limbs and `radius` that of the discs, in pixels of the picture.
    """

    controlnet: str
    scale: Annotated[float, Range(0, 2)] = 0.8
    start: Annotated[float, Range(0, 1)] = 0.0
    end: Annotated[float, Range(0, 1)] = 1.0
    stick: Annotated[float, Range(0, above=True)] = 4.0
    radius: Annotated[float, Range(0, above=True)] = 10.0

    def conflicts(self) -> Iterator[str]:
        """What `core.ranges` asks for."""
        if not self.start < self.end:
            yield f"start = {self.start:g} is not below end = {self.end:g}"


@dataclass(frozen=True)
class Guide:
    """A guide: what makes the model draw this face, or in this pose.

    `kind` is one that was trained for the stage's family, and says which of the files it needs. `weights`, `encoder`
    (of faces), `image_encoder` (CLIP, of `faceid-plus-v2`), `lora` (FaceID's own, with `lora_weight`) and the key
    points' ControlNet name files: a path, or `MODEL:FILE` for a file inside a model. `scale` is 0 (no effect) to 1
    (full), in the steps from the share `start` to `end`. `references` is how many of the character's references, the
    most frontal first, give the mean embedding; 1 takes the best alone. `picture` names the picture that a ControlNet
    is given: an image, or the key points of a body as JSON (OpenPose's). `framing` says what of the references a model
    sees that looks at them itself: `whole` pictures, or the `head` with hair and neck.
    """

    kind: str
    weights: str = ""
    encoder: str = ""
    scale: Annotated[float, Range(0, 2)] = 0.85
    references: Annotated[int, Range(1, 100)] = 4
    image_encoder: str = ""
    lora: str = ""
    lora_weight: Annotated[float, Range(-4, 4)] = 0.65
    keypoints: Keypoints | None = None
    start: Annotated[float, Range(0, 1)] = field(default=0.0, metadata=LATER)
    end: Annotated[float, Range(0, 1)] = field(default=1.0, metadata=LATER)
    picture: str = field(default="", metadata=LATER)
    framing: Framing = field(default="whole", metadata=LATER)

    def conflicts(self) -> Iterator[str]:
        """What `core.ranges` asks for."""
        if not self.start < self.end:
            yield f"start = {self.start:g} is not below end = {self.end:g}"


@dataclass(frozen=True)
class LoraUse:
    """A LoRA of a stage: a file, or `character` for the character's own, and its weight (-4 to 4).

    `trigger` is what the prompt must say for it to act; the character's own LoRA brings its own. While it
    acts, the scales of the stage's guides are multiplied by `guide_scale` (0 to 1): a LoRA and a guide that
    both know the face add up, and together at full strength they overshoot.
    """

    file: str
    weight: Annotated[float, Range(-4, 4)] = 1.0
    trigger: str = ""
    guide_scale: Annotated[float, Range(0, 1)] = 1.0


@dataclass(frozen=True)
class Detail:
    """How a `detail` stage draws the face anew.

    The working square is `margin` times the head's size and is drawn at `size` px. The mask follows the
    face and its skin, grown by `dilate` and softened by `feather` (shares of the face's
    width); `parser`, a face-parsing ONNX file, replaces it. Faces with fewer than `min_face` px
    between the eyes or turned by more than `max_yaw` degrees are left alone. A composite whose
    seam is more severe than `seam` (CIEDE2000; see `faces.blend.Seam`) is refused.

    `tone` says whose skin the picture gets: the `guide`'s, on face, ears and neck, or the `body`'s, on the new face.
    `far` is added to the sampler's denoise for a face as unlike the character as a stranger's, and less of it the more
    alike the two are already.
    """

    size: Annotated[int, Range(64, 2048, step=8)] = 1024
    margin: Annotated[float, Range(1, 5)] = 1.8
    dilate: Annotated[float, Range(0, 1)] = 0.04
    feather: Annotated[float, Range(0, 1)] = 0.12
    parser: str = ""
    min_face: Annotated[float, Range(0)] = 12.0
    max_yaw: Annotated[float, Range(0, 90)] = 60.0
    seam: Annotated[float, Range(0, above=True)] = 5.0
    tone: Tone = field(default="guide", metadata=LATER)
    far: Annotated[float, Range(0, 1)] = field(default=0.0, metadata=LATER)


@dataclass(frozen=True)
class Upscale:
    """How an `upscale` stage enlarges: exactly `factor` times, in tiles of `tile` px that overlap."""

    factor: Annotated[float, Range(1, 16)] = 2.0
    tile: Annotated[int, Range(64, MAX_SIDE)] = 512
    overlap: Annotated[int, Range(0)] = 32

    def conflicts(self) -> Iterator[str]:
        """What `core.ranges` asks for."""
        if not self.overlap < self.tile / 2:
            yield f"overlap = {self.overlap} is not below half a tile"


@dataclass(frozen=True)
class Stage:
    """One step of a recipe, run by one family.

    `text_encoder` and `vae` name files where they are not part of `model`. `prompt` is a template
    of its own, or empty for the recipe's. `clip_skip` leaves out that many of the last layers of
    CLIP. `detail` and `upscale` count in stages of that kind.
    """

    kind: StageKind
    family: str
    model: str
    text_encoder: str = ""
    vae: str = ""
    precision: DrawingPrecision = "auto"
    clip_skip: Annotated[int, Range(0, 12)] = 0
    prompt: str = ""
    loras: tuple[LoraUse, ...] = ()
    sampler: Sampler = field(default_factory=Sampler)
    guides: tuple[Guide, ...] = ()
    detail: Detail = field(default_factory=Detail)
    upscale: Upscale = field(default_factory=Upscale)


@dataclass(frozen=True)
class LookRule:
    """A look that must pass, by its name in docs/looks.md.

    `limit` takes the place of its threshold, and is needed where it has none: the least value of a look of which more
    is better, for all others a value that is not reached.
    """

    name: str
    limit: float | None = None


@dataclass(frozen=True)
class Acceptance:
    """When an image is kept.

    `fmr` is the share of impostors that may pass all judges together (0 to 1). `judges` are
    required by name; when empty, every installed judge must pass. `defects` are the defect checks that must
    pass; all of them, if none is named. Scores of other packages' scorers count only where they are named here.
    `looks` are the looks that must pass; none, if none is named.
    """

    fmr: Annotated[float, Range(0, 1, above=True, below=True)] = 0.05
    judges: tuple[str, ...] = ()
    defects: tuple[str, ...] = ()
    looks: tuple[LookRule, ...] = field(default=(), metadata=LATER)


@dataclass(frozen=True)
class Marking:
    """How images say what they are, beside their manifest.

    With `watermark` 64 bits of the plan's id lie in the pixels, invisibly; they are judged and kept with it.
    """

    watermark: bool = False


@dataclass(frozen=True)
class Calibration:
    """What the impostors of a calibration are asked to do, one prompt after another."""

    prompts: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class Training:
    """How a character's LoRA is trained on the model of the recipe's first stage.

    `steps` are updates of `batch` images each; the learning rate rises over `warmup` of them and then
    follows `schedule` (to 0 at the end, unless constant). The change of a weight is alpha / rank * B A
    in the projections of attention alone, in these and the feed-forward's, in all of the transformer's, or in all
    layers that repeat, convolutions and refiners too. `texts` is what is read with a picture: its caption, or the
    recipe's prompt with the caption in it, as `generate` writes it; in `caption_dropout` of its turns it is read with
    no text at all. `min_snr` is gamma of arXiv:2303.09556 (0: off); `timesteps` says which noises are seen more often,
    `timestep_shift` moves them towards noise (above 1; arXiv:2403.03206). `ema` is the decay of the weights' moving
    average (0: off), `clip` the largest norm of the gradient. `precision` is what is computed in; the frozen weights
    lie in it too, or in fp8. What is "auto" is chosen by the memory of the card: first layers are computed twice, then
    weights lie in fp8. `assistant` names a LoRA that acts while it is trained and not when it is used (a training
    adapter of a distilled model; empty: none). Pictures fill about `resolution` squared pixels; those that have
    fewer are not enlarged but to `least_resolution` (0: to `resolution`). Pixels of the face count
    `face_weight` times, a regularisation image `regularisation` times.

    Every `save_every` steps what a run needs to go on is saved; every `sample_every` steps a checkpoint
    is, and `prompts` (empty: those of the calibration) are drawn with it and judged; the best and the
    newest `keep` stay. A run that is over-trained at `patience` judgements in a row ends.
    """

    steps: Annotated[int, Range(1, 1_000_000)] = 1500
    batch: Annotated[int, Range(1, 256)] = 1
    rank: Annotated[int, Range(1, 1024)] = 16
    alpha: Annotated[float, Range(0, 4096, above=True)] = 16.0
    targets: Targets = "transformer"
    texts: Texts = "captions"
    caption_dropout: Annotated[float, Range(0, 1)] = field(default=0.0, metadata=LATER)
    learning_rate: Annotated[float, Range(0, 1, above=True)] = 1e-4
    schedule: LearningRateSchedule = "cosine"
    warmup: Annotated[int, Range(0)] = 0
    optimizer: Optimizer = "auto"
    weight_decay: Annotated[float, Range(0, 1, below=True)] = 0.01
    clip: Annotated[float, Range(0, above=True)] = 1.0
    min_snr: Annotated[float, Range(0)] = 5.0
    timesteps: Timesteps = "uniform"
    timestep_shift: Annotated[float, Range(0.01, 100)] = 1.0
    ema: Annotated[float, Range(0, 1, below=True)] = 0.0
    precision: Precision = "auto"
    base_storage: BaseStorage = "precision"
    gradient_checkpointing: Checkpointing = False
    assistant: str = field(default="", metadata=LATER)
    resolution: Annotated[int, Range(64, 2048, step=64)] = 1024
    least_resolution: Annotated[int, Range(0, 2048, step=64)] = field(default=0, metadata=LATER)
    face_weight: Annotated[float, Range(1, 100)] = 1.0
    regularisation: Annotated[float, Range(0, 10)] = 1.0
    save_every: Annotated[int, Range(1)] = 250
    sample_every: Annotated[int, Range(1)] = 250
    keep: Annotated[int, Range(1, 1000)] = 4
    patience: Annotated[int, Range(2, 100)] = 3
    prompts: tuple[str, ...] = ()
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0

    def conflicts(self) -> Iterator[str]:
        """What `core.ranges` asks for."""
        if not self.warmup < self.steps:
            yield f"warmup = {self.warmup} is not below steps = {self.steps}"


@dataclass(frozen=True)
class RecipeFile:
    """Where a file that the stages name comes from, and under what terms.

    `name` is the name in the stages, `role` what the doctor must recognise it as (empty: any).
    `source` is `hf:OWNER/REPO:FILE`, `civitai:NUMBER`, a URL, or empty where the user brings it.
    `bytes` and `sha256` are 0 and empty where they are not known in advance. `commercial` says
    whether images made with it may be sold under `licence`.
    """

    name: str
    role: str = ""
    source: str = ""
    bytes: int = 0
    sha256: str = ""
    licence: str = ""
    commercial: Commercial = "ask"


@dataclass(frozen=True)
class Recipe:
    """Stages in order, the prompt's frame, the size in pixels, and the rules of acceptance.

    `prompt` is a template with the fields `{description}`, `{face}` (the description without its hair), `{trigger}` and
    `{prompt}`; a part
    between commas whose fields are all empty is dropped. `repair` are the stages that mend an
    image which fails by its identity alone, before a new one is drawn. `files` says where the
    stages' files come from. With `for_sale` none of them may forbid that its images are sold.
    """

    name: str
    stages: tuple[Stage, ...]
    prompt: str
    width: int
    height: int
    summary: str = ""
    negative_prompt: str = ""
    repair: tuple[Stage, ...] = ()
    acceptance: Acceptance = field(default_factory=Acceptance)
    calibration: Calibration = field(default_factory=Calibration)
    files: tuple[RecipeFile, ...] = ()
    training: Training | None = None
    provenance: Marking = field(default_factory=Marking)
    for_sale: bool = field(default=False, metadata=LATER)

    def source_of(self, name: str) -> RecipeFile | None:
        """What the recipe says of the file that a stage calls `name`."""
        return next((file for file in self.files if file.name == name), None)
