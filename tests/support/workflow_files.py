"""Workflow files as ComfyUI has them: sent to its API, and saved by its editor."""

from __future__ import annotations

from typing import Any

from sosie.graph import node_type

Json = dict[str, Any]


def api(**changes: Any) -> Json:
    """Z-Image Base as ComfyUI is sent it; `changes` replace inputs, named `NODE_INPUT`."""
    nodes: Json = {
        "unet": node("UNETLoader", unet_name="z_image_bf16.safetensors", weight_dtype="default"),
        "shift": node("ModelSamplingAuraFlow", model=["unet", 0], shift=3.0),
        "clip": node("CLIPLoader", clip_name="qwen_3_4b.safetensors", type="lumina2", device="default"),
        "vae": node("VAELoader", vae_name="ae.safetensors"),
        "yes": node("CLIPTextEncode", text="a lighthouse", clip=["clip", 0]),
        "no": node("CLIPTextEncode", text="", clip=["clip", 0]),
        "empty": node("EmptySD3LatentImage", width=1024, height=1024, batch_size=1),
        "draw": node(
            "KSampler",
            model=["shift", 0],
            positive=["yes", 0],
            negative=["no", 0],
            latent_image=["empty", 0],
            seed=7,
            steps=25,
            cfg=4.0,
            sampler_name="res_multistep",
            scheduler="simple",
            denoise=1.0,
        ),
        "decode": node("VAEDecode", samples=["draw", 0], vae=["vae", 0]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="x"),
    }
    for name, value in changes.items():
        place, _, key = name.partition("_")
        nodes[place]["inputs"][key] = value
    return nodes


def node(kind: str, **inputs: Any) -> Json:
    return {"class_type": kind, "inputs": inputs}


class Drawing:
    """A graph as the editor saves it, built node by node: wires are named by the node and output they begin at."""

    def __init__(self, as_objects: bool = False) -> None:
        self.nodes: list[Json] = []
        self.links: list[Any] = []
        self._as_objects = as_objects

    def add(self, name: int, kind: str, wires: Json | None = None, values: Any = (), **more: Any) -> None:
        """`wires` maps inputs to (node, output, type); None is an input without a wire, a name with `!` a widget's."""
        inputs: list[Json] = []
        for key, wire in (wires or {}).items():
            slot: Json = {"name": key.strip("!"), "type": wire[2] if wire else "*", "link": None}
            if key.endswith("!"):
                slot["widget"] = {"name": key.strip("!")}
            if wire:
                slot["link"] = self.wire(wire, name, len(inputs))
            inputs.append(slot)
        kinds = more.pop("gives", node_type(kind).outputs if node_type(kind) else ())
        outputs = [{"name": kind, "type": kind, "links": []} for kind in kinds]
        values = values if isinstance(values, dict) else list(values)
        entry = {"id": name, "type": kind, "mode": 0, "inputs": inputs, "outputs": outputs, "widgets_values": values}
        self.nodes.append(entry | more)

    def wire(self, begins: tuple[int, int, str], target: int, slot: int) -> int:
        number = len(self.links) + 100
        origin, output, kind = begins
        if self._as_objects:
            keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
            self.links.append(dict(zip(keys, (number, origin, output, target, slot, kind), strict=True)))
        else:
            self.links.append([number, origin, output, target, slot, kind])
        return number

    def file(self, **more: Any) -> Json:
        return {"version": 0.4, "nodes": self.nodes, "links": self.links, **more}


def draw_body(d: Drawing, steps: Any = 25, **sampler: Any) -> None:
    """The nodes of `api`, with the ids 1 to 9, without what saves."""
    d.add(1, "UNETLoader", {}, ["z_image_bf16.safetensors", "default"])
    d.add(2, "ModelSamplingAuraFlow", {"model": (1, 0, "MODEL")}, [3])
    d.add(3, "CLIPLoader", {}, ["qwen_3_4b.safetensors", "lumina2", "default"])
    d.add(4, "VAELoader", {}, ["ae.safetensors"])
    d.add(5, "CLIPTextEncode", {"clip": (3, 0, "CLIP")}, ["a lighthouse"])
    d.add(6, "CLIPTextEncode", {"clip": (3, 0, "CLIP")}, [""])
    d.add(7, "EmptySD3LatentImage", {}, [1024, 1024, 1])
    wires = {
        "model": (2, 0, "MODEL"),
        "positive": (5, 0, "CONDITIONING"),
        "negative": (6, 0, "CONDITIONING"),
        "latent_image": (7, 0, "LATENT"),
        **sampler,
    }
    d.add(8, "KSampler", wires, [7, "randomize", steps, 4, "res_multistep", "simple", 1])
    d.add(9, "VAEDecode", {"samples": (8, 0, "LATENT"), "vae": (4, 0, "VAE")})


def drawing(**more: Any) -> Json:
    d = Drawing()
    draw_body(d)
    d.add(10, "SaveImage", {"images": (9, 0, "IMAGE")}, ["x"])
    return d.file(**more)
