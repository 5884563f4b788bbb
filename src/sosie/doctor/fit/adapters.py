"""Whether the IP-Adapters of a graph are fed what they were trained on: the image encoder, a face's embedding.

Sources: ComfyUI_IPAdapter_plus `IPAdapterPlus.py` (what its nodes ask of weights, and what its unified loaders bring).
"""

from __future__ import annotations

from collections.abc import Iterator

from sosie.core import Finding
from sosie.core.finding import Rule
from sosie.doctor.assembly import PlacedFile
from sosie.doctor.graph_files import GraphFiles
from sosie.files.model_file import ModelFile
from sosie.graph import Graph, Node
from sosie.lora.training import plain

R034 = Rule("SOS-R034", "error", "An adapter is not fed by the image encoder that it was trained on")
R035 = Rule("SOS-R035", "error", "An adapter's weights do not suit its node")

FACES = "faceid"
"""The beginning of the variants of adapters that take a face's embedding."""

FACE_NODE = "FaceID"
"""What the names of nodes hold that ask InsightFace."""

PICTURES = ("image", "image_style")
"""The inputs of a picture, which is encoded by the node itself."""


def check_adapters(graph: Graph, files: GraphFiles, subject: str) -> Iterator[Finding]:
    """SOS-R034 and R035 for each node whose adapter is loaded by its file's name.

    What a unified loader gives brings its own encoders, and is not judged.
    """
    for node in graph:
        loader = graph.source(node, "ipadapter")
        for weights in files.loaded(loader[0], "ipadapter") if loader else ():
            model = weights.model
            if model is None or model.role != "ip-adapter":
                continue
            label = plain(node.label)
            yield from _image_encoder(graph, files, node, (f"{label}: '{plain(weights.name)}'", model, subject))
            yield from _face(node, (f"{label}: '{plain(weights.name)}'", model, subject))


_Asked = tuple[str, ModelFile, str]
"""Node and adapter for messages, what the adapter is, and the subject of the findings."""


def _image_encoder(graph: Graph, files: GraphFiles, node: Node, asked: _Asked) -> Iterator[Finding]:
    name, model, subject = asked
    if not any(node.link(picture) for picture in PICTURES):
        return
    trained = model.fed_by or "CLIP-H"
    loader = graph.source(node, "clip_vision")
    if not node.link("clip_vision"):
        message = f"{name} comes without an image encoder, and the node gets none; it was trained on {trained}"
        hint = f"load {trained} by CLIPVisionLoader into IPAdapterAdvanced, or the adapter by IPAdapterUnifiedLoader"
        yield R034.at(subject, message, hint)
    for encoder in files.loaded(loader[0], "clip_vision") if loader else ():
        if model.fed_by and (given := _variant(encoder)) and given != model.fed_by:
            message = f"{name} was trained on the image encoder {model.fed_by}, and '{plain(encoder.name)}' is {given}"
            yield R034.at(subject, message, f"load {model.fed_by} in CLIPVisionLoader")


def _variant(part: PlacedFile) -> str:
    return part.model.variant if part.model and part.model.role == "image-encoder" else ""


def _face(node: Node, asked: _Asked) -> Iterator[Finding]:
    name, model, subject = asked
    if model.variant.startswith(FACES) and not node.link("insightface"):
        message = f"{name} is {model.variant}, which takes a face's embedding: without InsightFace the node stops"
        hint = "use IPAdapterFaceID with IPAdapterInsightFaceLoader, or IPAdapterUnifiedLoaderFaceID"
        yield R035.at(subject, message, hint)
    elif FACE_NODE in node.kind and not model.variant.startswith(FACES):
        message = f"{name} is {model.variant}, no FaceID: the face is not asked, it works as a plain adapter"
        yield R035.at(subject, message, "choose FaceID weights, or use IPAdapterAdvanced", severity="warning")
