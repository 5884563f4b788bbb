"""The seam between recipes and ComfyUI: what a compiler makes of a plan, and what the engine does with it.

A plan becomes a `GraphProgram`: graphs in the API format, run one after another. Before each one Sosie may
look at the image so far (find the face, draw a mask), after each one it may work on what came back
(composite it). A compiler names files as the recipe does; the engine puts the server's own names in
their place. It writes no credentials into a graph, for ComfyUI stores graphs in its images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from sosie.core import Finding, Plan
from sosie.families.contract.draws import StageOutput
from sosie.graph.to_api import to_api

if TYPE_CHECKING:
    from PIL.Image import Image

    from sosie.graph.build import BuiltGraph

ApiGraph = Mapping[str, Mapping[str, Any]]
"""The API format: nodes by id, each `{"class_type": ..., "inputs": {...}}`. Never changed in place."""


@dataclass(frozen=True)
class Upload:
    """An image that a node is given: a PNG file's bytes for the input `input` of the node `node`.

    The engine uploads it under a name made from its content, and writes the name that the server
    returns into the graph. A reference of the character may be scaled down; other images keep their pixels.
    """

    node: str
    input: str
    data: bytes
    is_reference: bool = False


@dataclass(frozen=True)
class FileUse:
    """A model file that a node names. `names` are its names, the recipe's own first, then known aliases.

    `role` says for people what it is (`text encoder`). `stamp` is what is known of its content (a
    digest, or size and time): when it changes, the server is made to read the file again; empty: not known.
    """

    node: str
    input: str
    names: tuple[str, ...]
    role: str = ""
    stamp: str = ""


@dataclass(frozen=True, eq=False)
class CompiledGraph:
    """A graph to be sent, the id of the node that saves its image, and what it needs.

    With a `prefix` the engine names the file itself (`PREFIX/ID`), by the input `filename_prefix` of
    the output node; empty leaves the node as it is. `finish` makes the stage's output of the image
    that came back (RGB), which should have about `pixels` pixels (0: nobody knows).
    """

    graph: ApiGraph
    output: str
    uploads: tuple[Upload, ...] = ()
    files: tuple[FileUse, ...] = ()
    prefix: str = "sosie"
    finish: Callable[[Image], StageOutput] = StageOutput
    pixels: int = 0


def from_built(
    built: BuiltGraph, output: str, pictures: Mapping[str, bytes] | None = None, stamps: Mapping[str, str] | None = None
) -> CompiledGraph:
    """A built graph as it is sent. `pictures` are PNG files by what they are (`Picture.what`), `stamps` by asset.

    Without its picture an upload is empty, as in a draft.
    """
    places = built.pictures.items()
    files = built.files.items()
    known = stamps or {}
    return CompiledGraph(
        to_api(built.graph),
        output,
        tuple(
            Upload(at.node, at.input, (pictures or {}).get(picture.what, b""), picture.what.startswith("reference "))
            for at, picture in places
        ),
        tuple(FileUse(at.node, at.input, use.names, use.role, known.get(use.asset, "")) for at, use in files),
    )


@dataclass(frozen=True, eq=False)
class Step:
    """One graph of a program. `phase` is what progress is shown as: the stage's kind.

    `draft` is what is checked before a run, its uploads without data. `compile` gives the graph that
    is sent, from the image so far (RGB, None at the start), or the step's output where nothing is to
    be rendered (no face to draw anew); None: the draft itself is sent.
    """

    phase: str
    draft: CompiledGraph
    compile: Callable[[Image | None], CompiledGraph | StageOutput] | None = None


@dataclass(frozen=True, eq=False)
class GraphProgram:
    """What a plan is on ComfyUI. An error among the findings forbids to run it.

    `memory` is how many bytes of the GPU it wants (0: not known), `version` the oldest ComfyUI that
    runs it right (empty: any).
    """

    steps: tuple[Step, ...]
    findings: tuple[Finding, ...] = ()
    memory: int = 0
    version: str = ""


class Compiler(Protocol):
    """Turns plans into programs, without a server and without a weight."""

    def __call__(self, plan: Plan, *, smaller: bool = False) -> GraphProgram:
        """The program of a plan; `smaller` asks for as many steps in less memory (tiles, offloading)."""
        ...


def link_of(value: Any) -> tuple[str, Any] | None:
    """The node and the output that an input is linked to; None for a value."""
    if not isinstance(value, list | tuple):
        return None
    parts = tuple(cast("Sequence[Any]", value))
    return parts if len(parts) == 2 and isinstance(parts[0], str) else None


def inputs_of(node: Any) -> dict[str, Any]:
    """A copy of a node's inputs; empty for what is not a node."""
    found = cast("Mapping[str, Any]", node).get("inputs") if isinstance(node, Mapping) else None
    return dict(cast("Mapping[str, Any]", found)) if isinstance(found, Mapping) else {}


def png(image: Image) -> bytes:
    """An image as the bytes of a PNG file without metadata."""
    from io import BytesIO

    bare = image.copy()
    bare.info = {}
    stream = BytesIO()
    bare.save(stream, "PNG", compress_level=1)
    return stream.getvalue()
