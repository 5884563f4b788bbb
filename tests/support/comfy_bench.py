"""What the tests of the ComfyUI engine work with: a small compiler, plans, and an engine that is in a hurry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any, TypeVar

from PIL import Image

from sosie.core import Acceptance, Character, Draw, Finding, Plan, Progress, Render, Request, Sampler, Stage
from sosie.engines.comfy.engine import ComfyEngine, ComfySupplies
from sosie.engines.comfy.fake import FakeServer
from sosie.engines.comfy.link import ServerLink
from sosie.engines.comfy.program import CompiledGraph, FileUse, GraphProgram, Step, Upload
from sosie.engines.comfy.server import Limits, Patience, Server, parse_servers
from sosie.engines.comfy.worker import PlanWork, ServerWorker

QUICK = Patience(connect=1.0, answer=3.0, poll=0.03, quiet=0.15, gone=3.0, free=0.05)
UNET, ENCODER, VAE, LORA = (
    "z_image_bf16.safetensors",
    "qwen_3_4b.safetensors",
    "ae.safetensors",
    "character.safetensors",
)

_OPEN: list[ServerLink | ComfyEngine] = []
Opened = TypeVar("Opened", ServerLink, ComfyEngine)


def plan(seed: int = 1, source: str = "") -> Plan:
    stage = Stage("generate", "zimage", UNET, ENCODER, VAE, sampler=Sampler("res_multistep", "simple", 4, 4.0))
    request = Request("zimage", "mira", seed=seed)
    who = Character("mira", "fictional", True)
    return Plan("zimage", (stage,), Acceptance(), who, "a woman", "", 64, 64, seed, Draw(), (), request, source=source)


def zimage(seed: int, lora: bool = False, steps: int = 4) -> dict[str, Any]:
    """The graph of the recipe, as ComfyUI is sent it."""
    model = ["11", 0] if lora else ["1", 0]
    graph: dict[str, Any] = {
        "1": node("UNETLoader", unet_name=UNET, weight_dtype="default"),
        "2": node("CLIPLoader", clip_name=ENCODER, type="lumina2", device="default"),
        "3": node("VAELoader", vae_name=VAE),
        "4": node("ModelSamplingAuraFlow", model=model, shift=3.0),
        "5": node("CLIPTextEncode", clip=["2", 0], text="a woman"),
        "6": node("CLIPTextEncode", clip=["2", 0], text=""),
        "7": node("EmptySD3LatentImage", width=64, height=64, batch_size=1),
        "8": node(
            "KSampler",
            model=["4", 0],
            positive=["5", 0],
            negative=["6", 0],
            latent_image=["7", 0],
            seed=seed,
            steps=steps,
            cfg=4.0,
            sampler_name="res_multistep",
            scheduler="simple",
            denoise=1.0,
        ),
        "9": node("VAEDecode", samples=["8", 0], vae=["3", 0]),
        "10": node("SaveImage", images=["9", 0], filename_prefix="t"),
    }
    if lora:
        graph["11"] = node("LoraLoaderModelOnly", model=["1", 0], lora_name=LORA, strength_model=1.0)
    return graph


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


@dataclass
class Recipes:
    """A compiler whose every plan is `zimage`. `smaller` collects the plans that were asked for in less memory."""

    lora: bool = False
    steps: int = 4
    prefix: str = "sosie"
    stamp: str = ""
    change: dict[str, dict[str, Any]] = field(default_factory=dict)
    memory: int = 0
    version: str = ""
    smaller: list[int] = field(default_factory=list)
    findings: tuple[Finding, ...] = ()

    def __call__(self, plan: Plan, *, smaller: bool = False) -> GraphProgram:
        if smaller:
            self.smaller.append(plan.seed)
        return GraphProgram((Step("generate", self.compiled(plan)),), self.findings, self.memory, self.version)

    def compiled(self, plan: Plan) -> CompiledGraph:
        graph = zimage(plan.seed, self.lora, self.steps)
        for name, inputs in self.change.items():
            kind = inputs.get("class_type", graph.get(name, {}).get("class_type"))
            rest = {key: value for key, value in inputs.items() if key != "class_type"}
            graph[name] = node(kind, **{**graph.get(name, {}).get("inputs", {}), **rest})
        files = (
            FileUse("1", "unet_name", (UNET,), "model", self.stamp),
            FileUse("2", "clip_name", (ENCODER, "qwen_3_4b_bf16.safetensors"), "text encoder"),
        )
        return CompiledGraph(graph, "10", files=files, prefix=self.prefix)


def engine_on(
    *servers: FakeServer | Server, compiler: Any = None, patience: Patience = QUICK, limits: Limits | None = None
) -> ComfyEngine:
    found = [one if isinstance(one, Server) else parse_servers(one.url)[0] for one in servers]
    supplies = ComfySupplies(compiler or Recipes(), lambda _: Image.new("RGB", (64, 64), "navy"), {})
    return _kept_open(ComfyEngine(found, supplies, limits, patience))


def link_to(server: FakeServer | Server, patience: Patience = QUICK, limits: Limits | None = None) -> ServerLink:
    return _kept_open(
        ServerLink(server if isinstance(server, Server) else parse_servers(server.url)[0], limits, patience)
    )


def _kept_open(opened: Opened) -> Opened:
    _OPEN.append(opened)
    return opened


def close_all() -> None:
    """Closes the links and engines that a test has opened."""
    while _OPEN:
        _OPEN.pop().close()


def renders(engine: ComfyEngine, *seeds: int) -> list[Render]:
    return [event for event in events(engine, *seeds) if isinstance(event, Render)]


def events(engine: ComfyEngine, *seeds: int) -> list[Progress | Render]:
    try:
        return list(engine.run([plan(seed) for seed in seeds]))
    finally:
        engine.close()


def codes(findings: Sequence[Finding]) -> list[str]:
    return [finding.code for finding in findings]


def has_error(findings: Sequence[Finding], code: str) -> bool:
    return any(finding.code == code and finding.severity == "error" for finding in findings)


def set_behaviour(server: FakeServer, **changes: Any) -> None:
    server.behaviour = replace(server.behaviour, **changes)


def one_upload(data: bytes, is_reference: bool) -> CompiledGraph:
    graph = {
        "1": node("LoadImage", image=""),
        "2": node("SaveImage", images=["1", 0], filename_prefix="x"),
    }
    return CompiledGraph(graph, "2", (Upload("1", "image", data, is_reference),))


class Silent:
    """A host that does everything in this thread."""

    def report(self, _: Any) -> None: ...

    def here(self, work: Callable[[], Any]) -> Any:
        return work()


def sent(near: FakeServer, compiled: CompiledGraph) -> tuple[Render, Image.Image]:
    """A render of one upload, and the image that the server has of it."""
    worker = ServerWorker(link_to(near), Recipes(), {})
    program = GraphProgram((Step("generate", compiled),))
    try:
        render = worker.render(PlanWork(plan(1), program, None, compiled), "e", Silent())
    finally:
        worker.link.close()
    (data,) = near.disk.inputs.values()
    return render, Image.open(BytesIO(data))
