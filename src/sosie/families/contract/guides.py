"""A kind of identity guide: what it needs, how it joins a run in this process, and how it is drawn as nodes.

One file each. A family brings those that were trained for it; another distribution adds one to any family by the entry
point group `sosie.guides`, and no other file is edited:

    [project.entry-points."sosie.guides"]
    portrait = "sosie_portrait:GUIDE"

A guide gives data alone (embeddings, images, tokens): the family puts them where its models take them. So what a
family does with its weights (memory modes, precision, CUDA graphs) holds with every guide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from sosie.core import Guide
from sosie.core.errors import EngineError
from sosie.core.recipe import Keypoints
from sosie.families.contract.draws import StageInput
from sosie.families.contract.graphs import GraphStage
from sosie.files.signature import Part, Role
from sosie.graph.build import Builder, WantedFile
from sosie.graph.graph import Link
from sosie.graph.guides import GuideNode
from sosie.graph.nodes import NodePack

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

Join = Literal["adapter", "text", "control", "images"]
"""Where a run takes what a guide gives: `Conditioning` says what each is."""

Need = Literal["weights", "encoder", "image_encoder", "keypoints", "picture"]
"""The fields of a recipe's guide that a kind may need."""


@dataclass(frozen=True, eq=False)
class Pose:
    """Where the face is to be: five points [5, 2] in pixels of an image of `width` x `height`."""

    points: NDArray[np.float32]
    width: int
    height: int


@dataclass(frozen=True, eq=False)
class GuideInput:
    """A guide of a stage that is about to be drawn; `pose` is None where no face is there yet."""

    guide: Guide
    given: StageInput
    pose: Pose | None = None

    @property
    def embedding(self) -> NDArray[np.float32]:
        """The embedding [d] of the character's face by the guide's encoder."""
        return self.given.faces.embedding(self.guide, self.given.plan)


@dataclass(frozen=True, eq=False)
class Control:
    """A ControlNet's picture (RGB, as large as what is drawn), with its file, scale, start and end.

    Where the guide has an adapter too, the ControlNet reads its identity tokens in place of the text (InstantID).
    """

    picture: Image
    keypoints: Keypoints


@dataclass(frozen=True, eq=False)
class Conditioning:
    """What a guide gives to one run, by where it joins. What is None, or empty, joins nothing.

    `embedding` (float32 [d]) and `look` (RGB) go to its **adapter**: the guide's weights in the attention of the
    denoiser, which project the embedding, or what its image encoder sees in `look`, to tokens. The guide's scale is the
    family's to apply. `text` (float32 [tokens, width]) follows the prompt's tokens, with zeros in the unconditional
    half; it is scaled by the guide itself. `control` is for a **ControlNet**. `images` (RGB) are references that the
    model itself takes.
    """

    embedding: NDArray[np.float32] | None = None
    look: Image | None = None
    text: NDArray[np.float32] | None = None
    control: Control | None = None
    images: tuple[Image, ...] = ()

    @property
    def joins(self) -> tuple[Join, ...]:
        """Where it joins."""
        given: dict[Join, bool] = {
            "adapter": self.embedding is not None or self.look is not None,
            "text": self.text is not None,
            "control": self.control is not None,
            "images": bool(self.images),
        }
        return tuple(join for join, is_given in given.items() if is_given)


@dataclass(frozen=True)
class InProcess:
    """How a guide joins a run in this process.

    `condition` is called once for each stage and image; it may raise `EngineError`. `joins` are the parts of a
    `Conditioning` that it may give. For one that joins by an adapter, `adapter` is the kind of projection that its
    weights hold, as the family calls it.
    """

    condition: Callable[[GuideInput], Conditioning]
    joins: tuple[Join, ...]
    adapter: str = ""


@dataclass(frozen=True)
class Scene:
    """What a sampler draws with, in a graph; None: the family has no such thing."""

    model: Link
    positive: Link | None = None
    negative: Link | None = None
    clip: Link | None = None
    vae: Link | None = None

    @property
    def inputs(self) -> dict[str, Link | None]:
        """As inputs of a sampling node."""
        return {"model": self.model, "positive": self.positive, "negative": self.negative}


@dataclass(frozen=True, eq=False)
class GuideStage:
    """A guide of a stage that is drawn as nodes. With `has_points` there is a picture called `POINTS`."""

    guide: Guide
    given: GraphStage
    has_points: bool = False


@dataclass(frozen=True)
class InGraphs:
    """How a guide is drawn as nodes of ComfyUI.

    `files` are what its nodes load; `draw` adds them, and returns what the sampler now draws with. A node measures
    faces by the encoder of `GuideKind.pack`, and takes no other. `pictures` makes what else is uploaded, by what it is
    called in the graph, from the plan's local files and the size (width, height) of what is drawn; it may raise
    `SosieError`. `shown` makes those that are references of the character, from what a run in this process is given.
    """

    files: Callable[[Guide], tuple[WantedFile, ...]]
    draw: Callable[[Builder, GuideStage, Scene], Scene]
    pictures: Callable[[Guide, Mapping[str, Path], tuple[int, int]], Mapping[str, Image]] | None = None
    shown: Callable[[GuideInput], Mapping[str, Image]] | None = None


POINTS = "key points"
"""What the picture of the key points is called in graphs."""


@dataclass(frozen=True)
class GuideKind:
    """A kind of guide, by its name in recipes, and the families that it was trained for.

    `role` is that of its weights' file (empty: any), `stand_ins` are variants of files that reduced models have in
    its place. `encoder` is the face encoder that it was trained with and `pack` InsightFace's pack that brings it
    (empty: it looks at images); it is fed the embedding scaled to length 1, or as the encoder gives it if it is `raw`.
    `needs` are the fields that its entry in a recipe must fill, each with what belongs there. One that `spans` acts in
    a part of the steps, from `start` to `end`, where its entry says so; in graphs none does. It acts in stages of the
    kinds `stages` (empty: in all). One that `shows` the model the character's references as pictures says how many at
    most, and takes a framing; its `scale` is image guidance.

    `in_process` and `in_graphs` run it; without both it is known from graphs of ComfyUI alone. `nodes` are the classes
    by which it is found in users' graphs, `packs` those that its own graphs use and Sosie does not know otherwise, and
    `parts` are its files, where no family knows them.
    """

    name: str
    families: tuple[str, ...] = ()
    role: Role | Literal[""] = "ip-adapter"
    stand_ins: tuple[str, ...] = ()
    encoder: str = ""
    pack: str = ""
    raw: bool = False
    spans: bool = False
    shows: int = 0
    stages: tuple[str, ...] = ()
    needs: Mapping[Need, str] = field(default_factory=lambda: MappingProxyType({}))
    in_process: InProcess | None = None
    in_graphs: InGraphs | None = None
    nodes: tuple[GuideNode, ...] = ()
    packs: tuple[NodePack, ...] = ()
    parts: tuple[Part, ...] = ()

    @property
    def in_recipes(self) -> bool:
        """Whether a recipe may name it."""
        return self.in_process is not None or self.in_graphs is not None

    @property
    def adapter(self) -> str:
        """The kind of projection in its weights, if it joins a run in this process by an adapter; else empty."""
        return self.in_process.adapter if self.in_process else ""


@dataclass(frozen=True)
class References:
    """Reference images that the model itself takes.

    Only weights with tensors that begin with `mark`, of that `variant`, know them; `node` is the class of ComfyUI's
    nodes that encodes them, and `guide` the kind of guide that gives them in a recipe (empty: none).
    """

    mark: str
    variant: str
    node: GuideNode
    guide: str = ""


@dataclass(frozen=True)
class Guides:
    """The kinds of guide of a family. Where none is for a face, `none` says why (empty: not known).

    `takes` is where its runs in this process take what guides give. `instead` is what gives the character's face
    where a guide or reference images cannot.
    """

    kinds: tuple[GuideKind, ...] = ()
    none: str = ""
    instead: str = "use a LoRA of the character"
    takes: tuple[Join, ...] = ()
    references: References | None = None

    def kind(self, name: str) -> GuideKind | None:
        """The kind of that name, or None."""
        return next((kind for kind in self.kinds if kind.name == name), None)


def conditionings(known: Guides, given: StageInput, pose: Pose | None = None) -> list[tuple[Guide, Conditioning]]:
    """What each guide of a stage gives, in their order.

    Raises `EngineError` for one that cannot act in this process, or gives what it did not declare.
    """
    found: list[tuple[Guide, Conditioning]] = []
    for guide in given.stage.guides:
        kind = known.kind(guide.kind)
        if kind is None or kind.in_process is None:
            raise EngineError(f"guide '{guide.kind}' cannot act in this process", "sosie recipe check RECIPE")
        conditioning = kind.in_process.condition(GuideInput(guide, given, pose))
        if odd := [join for join in conditioning.joins if join not in kind.in_process.joins]:
            declared = ", ".join(kind.in_process.joins) or "nothing"
            message = f"guide '{guide.kind}' gives something for '{odd[0]}', and declares {declared}"
            raise EngineError(message, "update or uninstall the package that brings it")
        found.append((guide, conditioning))
    return found


def guided(known: Guides, build: Builder, given: GraphStage, scene: Scene, *, has_points: bool = False) -> Scene:
    """The scene with the nodes of a stage's guides in it, in their order."""
    for guide in given.stage.guides:
        kind = known.kind(guide.kind)
        if kind is not None and kind.in_graphs is not None:
            scene = kind.in_graphs.draw(build, GuideStage(guide, given, has_points), scene)
    return scene


def guide_files(known: Guides, guides: tuple[Guide, ...]) -> tuple[WantedFile, ...]:
    """The files that the nodes of guides load."""
    kinds = ((guide, known.kind(guide.kind)) for guide in guides)
    return tuple(file for guide, kind in kinds if kind and kind.in_graphs for file in kind.in_graphs.files(guide))
