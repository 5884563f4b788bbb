"""ReActor in users' graphs: it swaps the face of a finished image. Known by class and inputs alone."""

from __future__ import annotations

from sosie.families.contract.guides import GuideKind
from sosie.graph.guides import GuideNode

KINDS = ("ReActorFaceSwap", "ReActorFaceSwapOpt")

GUIDE = GuideKind("reactor", nodes=tuple(GuideNode(kind, (("enabled", False),)) for kind in KINDS))
