"""PuLID in users' graphs: nodes of cubiq/PuLID_ComfyUI and of its ports to FLUX, known by class and inputs alone."""

from __future__ import annotations

from sosie.families.contract.guides import GuideKind
from sosie.graph.guides import GuideNode

KINDS = ("ApplyPulid", "ApplyPulidAdvanced", "ApplyPulidFlux")

GUIDE = GuideKind("pulid", ("sdxl", "flux1"), nodes=tuple(GuideNode(kind, (("weight", 0.0),)) for kind in KINDS))
