"""A family: what it is called, and what it brings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sosie.families.contract.draws import OnDiffusers
from sosie.families.contract.figures import Figures
from sosie.families.contract.graphs import OnComfy
from sosie.families.contract.guides import Guides
from sosie.families.contract.partners import Partners
from sosie.families.contract.trains import Trains
from sosie.files.signature import Part
from sosie.graph.nodes import NodePack
from sosie.lora.lora import LoraSupport


@dataclass(frozen=True, eq=False)
class Family:
    """A family of models: its name in recipes, its title for people, and what it brings.

    `parts` are the kinds of file, the more particular before the more general: the first that matches counts.
    `licences` are those of its publisher as they were noted, each with what the variants' names begin with that have it
    (empty: all); the first that matches counts.
    With `reads_packed` what draws it in this process reads every storage that `files.storage` does not call unreadable;
    without, plain numbers alone. With `weighs` its encoders read weights and breaks of prompts (`core.notation`);
    without, words alone.
    `undrawn` begin the variants that this process does not draw though others are; `told_by_name` says in a sentence
    what a file's name tells and its header does not (empty: nothing).
    `partners` are what its models are put together with, `adapters` what it brings for its LoRAs, and
    `nodes` classes of ComfyUI's custom nodes that its graphs use and Sosie does not know otherwise.
    `on_diffusers`, `on_comfy` and `trains` give what runs a family. They are called only where it is
    used, so that finding families imports neither torch nor what draws; None: the family cannot do that.
    """

    name: str
    title: str
    parts: tuple[Part, ...]
    partners: Partners = field(default_factory=Partners)
    figures: Figures = field(default_factory=Figures)
    guides: Guides = field(default_factory=Guides)
    adapters: LoraSupport = field(default_factory=LoraSupport)
    nodes: tuple[NodePack, ...] = ()
    licences: tuple[tuple[str, str], ...] = ()
    on_diffusers: Callable[[], OnDiffusers] | None = None
    on_comfy: Callable[[], OnComfy] | None = None
    trains: Callable[[], Trains] | None = None
    undrawn: tuple[str, ...] = ()
    told_by_name: Callable[[str], str] = lambda _: ""
    weighs: bool = False
    reads_packed: bool = False

    def draws(self, variant: str) -> bool:
        """Whether this process draws models of that variant."""
        return self.on_diffusers is not None and not variant.startswith(self.undrawn or "\0")

    def licence(self, variant: str) -> str:
        """The publisher's licence of models of that variant; empty where none was noted."""
        return next((licence for begins, licence in self.licences if variant.startswith(begins)), "")
