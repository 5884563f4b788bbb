"""What the fake server draws: pictures of a folder, and what it was given where a graph works on an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from sosie.engines.comfy.fake.behaviour import Graph
from sosie.engines.comfy.fake.nodes import WAY, Result, draw
from sosie.engines.comfy.fake.schema import is_link

if TYPE_CHECKING:
    from PIL.Image import Image


def answer(result: Result, graph: Graph, node: str, uploads: Mapping[str, bytes], pictures: Sequence[Path]) -> Image:
    """What a node saves: one of `pictures`, by the result's digest, or the upload that it was made from.

    It is cut to the result's size around its middle. Without pictures, and where weights were missing, it is what
    `draw` makes.
    """
    import PIL.Image
    import PIL.ImageOps

    if not pictures or "df11" in result.traits:
        return draw(result)
    data = uploads.get(worked_on(graph, node))
    chosen = pictures[int(result.digest[:8], 16) % len(pictures)]
    with PIL.Image.open(chosen if data is None else BytesIO(data)) as image:
        return PIL.ImageOps.fit(image.convert("RGB"), result.size, PIL.Image.Resampling.LANCZOS)


def worked_on(graph: Graph, node: str) -> str:
    """The name of the uploaded image that a node's image was made from, or empty if it was made of noise."""
    for _ in graph:
        inputs = graph[node].get("inputs", {})
        if graph[node]["class_type"] == "LoadImage":
            return str(inputs.get("image", ""))
        node = next((inputs[name][0] for name in WAY if is_link(inputs.get(name))), "")
        if node not in graph:
            break
    return ""


def picture_size(data: bytes) -> tuple[int, int]:
    """Width and height of an uploaded image."""
    import PIL.Image

    with PIL.Image.open(BytesIO(data)) as image:
        return image.size


def pictures_of(folder: Path) -> tuple[Path, ...]:
    """The images of a folder, by name."""
    return tuple(sorted(path for path in folder.iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg")))
