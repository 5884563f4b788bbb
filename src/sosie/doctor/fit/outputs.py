"""What a graph takes out of the checkpoints that it loads, held against what their files hold."""

from __future__ import annotations

from collections.abc import Iterator

from sosie.core import Finding
from sosie.doctor.assembly import PlacedFile
from sosie.doctor.fit.partners import R013, how_to_load
from sosie.doctor.fit.slots import R010
from sosie.doctor.graph_files import GraphFiles
from sosie.families import partners_of
from sosie.files.model_file import ModelFile
from sosie.graph import Graph, Link, Node
from sosie.lora.training import plain

OUTPUTS = {"CLIP": "text encoder", "VAE": "VAE"}
"""The types of a loader's outputs, and the component of a checkpoint that each is."""


def check_outputs(graph: Graph, files: GraphFiles, subject: str) -> Iterator[Finding]:
    """SOS-R010 for a denoiser alone of which text encoder or VAE is taken, SOS-R013 for a checkpoint without it."""
    for node in graph:
        for part in files.loaded(node, "checkpoints"):
            model = part.model
            missing = [what for what in _taken(graph, node) if what in model.lacks] if model else []
            if model and missing:
                yield _lacking(node, (part, model), missing, subject)


def _taken(graph: Graph, loader: Node) -> Iterator[str]:
    """The components that other nodes take from a loader."""
    kind = loader.type
    links = {value.slot for node in graph for value in node.inputs.values() if _leads_to(value, loader)}
    for slot, type_ in enumerate(kind.outputs if kind else ()):
        if slot in links and type_ in OUTPUTS:
            yield OUTPUTS[type_]


def _leads_to(value: object, loader: Node) -> bool:
    return isinstance(value, Link) and value.node == loader.id


def _lacking(node: Node, given: tuple[PlacedFile, ModelFile], missing: list[str], subject: str) -> Finding:
    """The finding, and how to load apart what is missing."""
    part, model = given
    partners = partners_of(model.family)
    texts, vaes = partners.texts_of(model.variant), partners.vaes_of(model.variant)
    apart = [how_to_load(texts[-1])] if texts and "text encoder" in missing else []
    apart += [f"load {vaes[0].file} by VAELoader"] if vaes and "VAE" in missing else []
    holds = "the model alone" if model.role == "denoiser" else " and ".join(model.holds)
    message = (
        f"{plain(node.label)}: '{plain(part.name)}' is {part.what} and holds {holds}, no {' and no '.join(missing)}; "
        f"this graph takes {'both' if len(missing) > 1 else 'it'} from there"
    )
    rule = R010 if model.role == "denoiser" else R013
    return rule.at(subject, message, ", and ".join(apart) or "load what is missing by nodes of its own")
