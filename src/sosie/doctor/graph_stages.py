"""The stages of a graph: for every sampler the model, LoRAs, guides, encoder and VAE that its wires lead to."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Literal

from sosie.doctor.assembly import (
    Assembly,
    GuidePart,
    LoraPart,
    PlacedFile,
    SamplingSettings,
    TextLoader,
    called_family,
)
from sosie.doctor.fit.slots import MODELS
from sosie.doctor.graph_files import GraphFiles
from sosie.families import families
from sosie.graph import Graph, Link, Node, Value
from sosie.graph.guides import Loaded, guide_node
from sosie.graph.named_files import lora_strength, named_files

SAMPLERS = (
    "KSampler",
    "KSamplerAdvanced",
    "KSampler (Efficient)",
    "SamplerCustom",
    "SamplerCustomAdvanced",
    "FaceDetailer",
    "UltimateSDUpscale",
    "UltimateSDUpscaleNoUpscale",
)

DECODERS = ("VAEDecode", "VAEDecodeTiled")
BASES = ("checkpoints", "diffusion_models")
"""The folders of files that a stage draws with."""

MASKS = ("mask", "attn_mask")
"""The inputs of guides that say where in the image they act."""

AREAS = "ConditioningSetArea"
"""The beginning of the classes of nodes that let conditioning act in a part of the image alone."""

SHIFTS = ("ModelSamplingAuraFlow", "ModelSamplingSD3")


def graph_stages(graph: Graph, files: GraphFiles, subject: str) -> Iterator[Assembly]:
    """One assembly a sampler; what its wires do not tell (an unknown node on the way) is left out.

    The family of a model's file that is not there is the one that its name tells, if it tells one.
    """
    walk = Walk(graph, files)
    for sampler in graph.of(*SAMPLERS):
        chain = walk.models(sampler)
        base = next((part for node in chain if (part := walk.base(node)) is not None), None)
        model = base.model if base else None
        encoders, loader = walk.encoders(sampler)
        yield Assembly(
            subject=subject,
            where=sampler.label,
            family=model.family if model else called_family(base.name) if base else "",
            model=base,
            encoders=encoders,
            loader=loader,
            eyes=walk.eyes(sampler),
            vaes=tuple(walk.vaes(sampler)),
            controls=tuple(walk.controls(sampler, chain)),
            loras=tuple(walk.loras(chain)),
            guides=tuple(walk.guides([*chain, *walk.conditioning(sampler)])),
            settings=walk.settings(sampler, chain),
            references=walk.references(sampler),
        )


class Walk:
    """Goes up the wires of a graph. Every walk ends: a node is visited once."""

    def __init__(self, graph: Graph, files: GraphFiles) -> None:
        self._graph = graph
        self._files = files
        self._decoders: dict[str, list[Node]] = {}
        for decoder in graph.of(*DECODERS):
            if sampler := self._way_to_sampler(decoder, "samples")[1]:
                self._decoders.setdefault(sampler.id, []).append(decoder)

    @cached_property
    def _readers(self) -> dict[str, list[Node]]:
        """The nodes that a node's outputs go to, by its id."""
        found: dict[str, list[Node]] = {}
        for other in self._graph:
            for source in {value.node for value in other.inputs.values() if isinstance(value, Link)}:
                found.setdefault(source, []).append(other)
        return found

    def value(self, node: Node | None, name: str) -> Value | None:
        """The value of a widget, through a node that only holds a value; None if it is not known."""
        seen: set[str] = set()
        while node is not None and node.id not in seen:
            seen.add(node.id)
            if not isinstance(node.inputs.get(name), Link):
                entry = kind.input(name) if (kind := node.type) else None
                return node.inputs.get(name, entry.fallback if entry and not node.unread else None)
            found = self._graph.source(node, name)
            node, name = (found[0], "value") if found else (None, "")
        return None

    def number(self, node: Node | None, name: str) -> float | None:
        """The value of a widget as a number, or None."""
        try:
            return float(self.value(node, name) or 0) if self.value(node, name) is not None else None
        except (TypeError, ValueError):
            return None

    def up(self, start: Node | None, name: str, carries: str) -> Iterator[Node]:
        """The nodes on the way up a wire, nearest first, as long as each takes what it gives."""
        seen: set[str] = set()
        node, inputs = start, (name,)
        while node is not None:
            found = next((f for entry in inputs if (f := self._graph.source(node, entry)) is not None), None)
            node = found[0] if found and found[0].id not in seen else None
            if node is not None:
                seen.add(node.id)
                yield node
                inputs = self._through(node, carries)

    def _through(self, node: Node, carries: str) -> tuple[str, ...]:
        """The inputs by which a node passes something on."""
        kind = node.type
        if kind is None or (kind.is_open and not kind.inputs):
            wired = [name for name, value in node.inputs.items() if isinstance(value, Link)]
            told = [name for name in wired if carries.lower() in name.lower()]
            return tuple(told or wired if "*" in node.outputs else told)
        if kind.name == "ComfySwitchNode":
            return ("on_true",) if self.value(node, "switch") is True else ("on_false",)
        return tuple(entry.name for entry in kind.inputs if carries in entry.type.split(","))

    def models(self, sampler: Node) -> list[Node]:
        """The chain of the model, from the sampler up to its loader."""
        return list(self.up(self._guider(sampler), "model", "MODEL"))

    def conditioning(self, sampler: Node) -> list[Node]:
        """The chain of the positive conditioning, from the sampler up."""
        guider = self._guider(sampler)
        chains = (list(self.up(guider, name, "CONDITIONING")) for name in ("positive", "conditioning"))
        return next((chain for chain in chains if chain), list[Node]())

    def _guider(self, sampler: Node) -> Node | None:
        """The node that holds model, conditioning and CFG of a sampler."""
        if sampler.kind != "SamplerCustomAdvanced":
            return sampler
        found = self._graph.source(sampler, "guider")
        return found[0] if found else None

    def base(self, node: Node) -> PlacedFile | None:
        """The file of the model, if the node loads one; in a class that is not known, by what the file is."""
        if node.link("model"):
            return None
        parts = [(file.folder, self._files.at(file)) for file in named_files(node)]
        named = [part for folder, part in parts if folder in BASES]
        told = [part for folder, part in parts if not folder and part.model and part.model.role in MODELS]
        return next(iter([*named, *told]), None)

    def encoders(self, sampler: Node) -> tuple[tuple[PlacedFile, ...], TextLoader | None]:
        """The files of the text encoders and the node that loads them, or the checkpoint that brings them."""
        for node in self.up(self._text(sampler), "clip", "CLIP"):
            if found := self._files.loaded(node, "text_encoders"):
                type_ = self.value(node, "type")
                return found, TextLoader(node.label, type_ if isinstance(type_, str) else None)
            if found := self._files.loaded(node, "checkpoints"):
                return found, None
        return (), None

    def eyes(self, sampler: Node) -> bool:
        """Whether the text encoder is shown images."""
        text = self._text(sampler)
        kind = text.type if text else None
        images = [entry.name for entry in kind.inputs if entry.type == "IMAGE"] if kind else ["image", "image1"]
        return text is not None and any(text.link(name) for name in images)

    def controls(self, sampler: Node, chain: list[Node]) -> Iterator[PlacedFile]:
        """The ControlNets on the way of the conditioning, but for those of guides, and the patches on the model's."""
        for node in self.conditioning(sampler):
            if guide_node(node.kind) is None and (loader := self._graph.source(node, "control_net")):
                yield from self._files.loaded(loader[0], "controlnet")
        for node in chain:
            if loader := self._graph.source(node, "model_patch"):
                yield from self._files.loaded(loader[0], "model_patches")

    def _text(self, sampler: Node) -> Node | None:
        """The nearest node that encodes the positive text."""
        guider = self._guider(sampler)
        for name in ("positive", "conditioning"):
            chain = self.up(guider, name, "CONDITIONING")
            found = next((node for node in chain if node.link("clip")), None)
            if found is not None:
                return found
        return None

    def references(self, sampler: Node) -> Literal["", "with a VAE", "without a VAE"]:
        """Whether reference images are encoded for the model."""
        text = self._text(sampler)
        takes = (family.guides.references for family in families())
        nodes = {one.node.kind: one.node for one in takes if one}
        if text is None or text.kind not in nodes or not any(text.link(name) for name, _ in nodes[text.kind].off):
            return ""
        return "with a VAE" if text.link("vae") else "without a VAE"

    def vaes(self, sampler: Node) -> Iterator[PlacedFile]:
        """The VAEs that decode what a sampler gives, or encode what it starts from: files, or checkpoints with one."""
        holders = [sampler] if sampler.link("vae") else []
        holders += self._decoders.get(sampler.id, [])
        started, before = self._way_to_sampler(sampler, "latent_image")
        if before is None:
            holders += [node for node in started if node.link("vae")]
        for holder in holders:
            for node in self.up(holder, "vae", "VAE"):
                yield from self._files.loaded(node, "vae") or self._files.loaded(node, "checkpoints")

    def _way_to_sampler(self, start: Node, name: str) -> tuple[list[Node], Node | None]:
        """The nodes of the latent's way up to the nearest sampler, and that sampler; None if none lies on it."""
        way: list[Node] = []
        for node in self.up(start, name, "LATENT"):
            if node.kind in SAMPLERS:
                return way, node
            way.append(node)
        return way, None

    def loras(self, chain: list[Node]) -> Iterator[LoraPart]:
        """The LoRAs on the model's way that have an effect, those of stacks that are put on it too."""
        stacked = ((one, above) for above in chain for one in (above, *self.up(above, "lora_stack", "LORA_STACK")))
        for node, above in stacked:
            for file in named_files(node):
                part = self._files.at(file) if file.folder in ("loras", "") else None
                if part is None or not (file.folder or part.lora):
                    continue
                weight = lora_strength(node, file, self.number)
                alone = above.type is not None and above.link("clip") is None
                if weight != 0:
                    yield LoraPart(part, 1.0 if weight is None else weight, denoiser_only=alone)

    def guides(self, chain: list[Node]) -> Iterator[GuidePart]:
        """The identity guides on these ways that have an effect, each once."""
        for node in {node.id: node for node in chain}.values():
            guide = guide_node(node.kind)
            scale = (self.number(node, guide.scale) if guide and guide.scale else 0) or 0
            if guide is None or scale <= 0:
                continue
            encoder, of = guide.encoder or ("", "")
            faces = self._graph.source(node, encoder)
            yield GuidePart(
                guide.guide,
                scale,
                self._loaded(node, guide.weights),
                str(self.value(faces[0], of) or "") if faces else "",
                self._loaded(node, guide.image_encoder),
                self._loaded(node, guide.controlnet),
                self._region(node),
                (self.number(node, "start_at") or 0.0, 1.0 if (end := self.number(node, "end_at")) is None else end),
            )

    def _region(self, node: Node) -> str:
        """What names the mask of a guide, or that of the conditioning which it takes or gives; empty: it has none."""
        for name in MASKS:
            if link := node.link(name):
                return f"{link.node}:{link.slot}"
        for other in (*self._readers.get(node.id, ()), *self.up(node, "positive", "CONDITIONING")):
            masked = other.link("mask") or other.kind.startswith(AREAS)
            if masked and guide_node(other.kind) is None:
                return other.id
        return ""

    def _loaded(self, node: Node, by: Loaded | None) -> PlacedFile | None:
        """The file that feeds an input, if the node at its other end names one; or that the node names itself."""
        if by is None:
            return None
        found = self._graph.source(node, by[0]) if by[0] else (node, 0)
        return self._files.part(found[0], by[1]) if found else None

    def settings(self, sampler: Node, chain: list[Node]) -> SamplingSettings:
        """Steps, CFG, denoise, shift and precision; the node nearest to the sampler wins."""
        sigmas = self._graph.source(sampler, "sigmas")
        plan = sigmas[0] if sigmas else sampler
        guider = self._guider(sampler)
        free = guider is not None and guider.kind == "BasicGuider"
        shifting = next((node for node in chain if node.kind in SHIFTS), None)
        computing = next((node for node in chain if node.kind == "ModelComputeDtype"), None)
        denoise = self.number(plan, "denoise")
        return SamplingSettings(
            steps=self.number(plan, "steps"),
            cfg=1.0 if free else self.number(guider, "cfg"),
            denoise=1.0 if denoise is None else denoise,
            shift=self.number(shifting, "shift") if shifting else None,
            precision=str(self.value(computing, "dtype") or "auto") if computing else "auto",
        )
