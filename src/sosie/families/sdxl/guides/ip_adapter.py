"""IP-Adapters for any image, known from graphs alone: face guides if their weights are for faces, else of style."""

from __future__ import annotations

from sosie.families.contract.guides import GuideKind
from sosie.graph.guides import GuideNode

KINDS = ("IPAdapter", "IPAdapterAdvanced", "IPAdapterBatch", "IPAdapterMS", "IPAdapterTiled", "IPAdapterEmbeds")

GUIDE = GuideKind(
    "ip-adapter",
    ("sdxl",),
    nodes=tuple(
        GuideNode(
            kind,
            (("weight", 0.0), ("weight_faceidv2", 0.0)),
            "ip-adapter",
            "weight",
            weights=("ipadapter", "ipadapter_file"),
            encoder=("insightface", "model_name"),
            image_encoder=("clip_vision", "clip_name"),
            any_image=True,
        )
        for kind in KINDS
    ),
)
