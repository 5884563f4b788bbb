"""The toy: a checkpoint of a few small layers that knows one face, that of the guide's references."""

from __future__ import annotations

from sosie.families.contract.draws import OnDiffusers
from sosie.families.contract.family import Family
from sosie.families.contract.figures import FailingPrecision, Figures
from sosie.families.contract.graphs import OnComfy
from sosie.families.contract.guides import Guides
from sosie.families.contract.partners import Partners, SamplingRange
from sosie.families.contract.trains import Trains
from sosie.files.signature import Mark, Part
from sosie.graph.nodes import NodePack
from sosie_toy.adapters import ADAPTERS
from sosie_toy.guide import TOYFACE

PARTS = (
    Part(
        "checkpoint",
        "single file",
        (Mark("toy.embed.weight", 0, (8,)), Mark("stem.0.out.weight", 1, (16,))),
        parameters=24 + 2 * (24 * 8 + 8 * 16),
    ),
    Part("ip-adapter", "toy", (Mark("toy_face.weight"),), variant="toyface"),
)

NODES = NodePack(
    "Toys",
    "https://example.org/toys",
    """
ToyLoader -> TOY
  toy_name FILE checkpoints
ToyFace -> TOY
  toy TOY, faces IMAGE
ToySampler -> IMAGE
  toy TOY, seed SEED, width INT 64 8:512, height INT 64 8:512, text STRING
""",
)


def _on_diffusers() -> OnDiffusers:
    from sosie_toy import on_diffusers

    return on_diffusers


def _on_comfy() -> OnComfy:
    from sosie_toy import on_comfy

    return on_comfy


def _trains() -> Trains:
    from sosie_toy import training

    return training


FAMILY = Family(
    name="toy",
    title="Toy",
    parts=PARTS,
    partners=Partners(
        ranges=(SamplingRange("base", "Toy", (2, 4), (1.0, 2.0)),),
        published="2 steps at CFG 1",
        variant_of=lambda _: "base",
        called="toy",
    ),
    figures=Figures(
        files=5_000,
        largest_file=4_000,
        lora_rank=1_000,
        memory=7 * 10**9,
        memory_training=9 * 10**9,
        precision="bf16",
        fails=(FailingPrecision("fp16", "toys overflow fp16"),),
    ),
    guides=Guides((TOYFACE,), takes=("images",)),
    adapters=ADAPTERS,
    nodes=(NODES,),
    on_diffusers=_on_diffusers,
    on_comfy=_on_comfy,
    trains=_trains,
)
