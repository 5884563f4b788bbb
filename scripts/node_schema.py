"""Writes the schema of ComfyUI's nodes from what a server says of them.

    python scripts/node_schema.py http://127.0.0.1:8188 src/sosie/graph/core_nodes.txt
    python scripts/node_schema.py object_info.json src/sosie/graph/pack_nodes.txt --packs

SERVER is a running server's address or a file that its `/object_info` was saved to. Only facts of the interface are
kept: names, types, order, defaults, ranges and short lists of choices. Which folder a file is looked for in is no fact
of that answer: `FOLDERS` says it by the input's name.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2

from sosie.graph.notation import CORE, MAX_SEED, Input, NodeType, read_class
from sosie.graph.object_info import read_object_info

PACKS = {
    "ComfyUI_InstantID": ("InstantID", "https://github.com/cubiq/ComfyUI_InstantID"),
    "ComfyUI_IPAdapter_plus": ("IPAdapter plus", "https://github.com/cubiq/ComfyUI_IPAdapter_plus"),
    "ComfyUI-Impact-Pack": ("Impact Pack", "https://github.com/ltdrdata/ComfyUI-Impact-Pack (with its Subpack)"),
    "ComfyUI_UltimateSDUpscale": ("Ultimate SD Upscale", "https://github.com/ssitu/ComfyUI_UltimateSDUpscale"),
}
"""Packs whose classes `--packs` writes, by their folder in custom_nodes: their names and addresses."""

FOLDERS = {
    "ckpt_name": "checkpoints",
    "unet_name": "diffusion_models",
    "clip_name": "text_encoders",
    "clip_name1": "text_encoders",
    "clip_name2": "text_encoders",
    "clip_name3": "text_encoders",
    "clip_name4": "text_encoders",
    "text_encoder": "text_encoders",
    "vae_name": "vae",
    "lora_name": "loras",
    "control_net_name": "controlnet",
    "style_model_name": "style_models",
    "hypernetwork_name": "hypernetworks",
    "gligen_name": "gligen",
    "photomaker_model_name": "photomaker",
    "audio_encoder_name": "audio_encoders",
    "ipadapter_file": "ipadapter",
    "instantid_file": "instantid",
}
"""Folders of `models/` by the name of the input that lists them."""

OF_CLASS = {
    ("CLIPVisionLoader", "clip_name"): "clip_vision",
    ("UpscaleModelLoader", "model_name"): "upscale_models",
    ("LatentUpscaleModelLoader", "model_name"): "latent_upscale_models",
    ("ModelPatchLoader", "name"): "model_patches",
    ("UltralyticsDetectorProvider", "model_name"): "ultralytics",
    ("SAMLoader", "model_name"): "sams",
}
"""Folders of inputs whose name says too little."""

OPEN_CHOICES = {"type", "upscale_method", "preset", "config_name", "aspect_ratio", "folder", "provider"}
"""Inputs whose lists differ between versions and machines, so that they are left to the server."""

OPTIONAL = {("ComfySwitchNode", "on_false"), ("ComfySwitchNode", "on_true")}
"""Inputs that are told to be required, and are not: the side of a switch that is not taken may be empty."""

MOST = 160
"""Characters of a list of choices that are worth a place here; a choice that brings inputs always is."""


def described(source: str) -> tuple[dict[str, Any], str]:
    """What a server or a file says of its classes, and the server's version, as far as it is known."""
    if "://" not in source:
        return json.loads(Path(source).read_text()), "(recorded)"
    with httpx2.Client(base_url=source, timeout=60) as client:
        version = client.get("/system_stats").json()["system"]["comfyui_version"]
        return client.get("/object_info").json(), version


def main() -> None:
    """Writes the file that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server")
    parser.add_argument("out", type=Path)
    parser.add_argument("--packs", action="store_true", help="write the packs of PACKS, not ComfyUI's own nodes")
    parser.add_argument("--version", default="", help="of the server that a file was saved from")
    asked = parser.parse_args()
    table, version = described(asked.server)
    texts: list[str] = []
    for folder, (name, address) in (PACKS if asked.packs else {CORE: (CORE, asked.version or version)}).items():
        kinds = [kind for key, entry in sorted(table.items()) if (kind := read_object_info(key, entry)).pack == folder]
        found = [written(told(kind, table["KSampler"])) for kind in kinds]
        for text in found:
            read_class(text, name)
        texts += [f"= {name} = {address}", *found]
    asked.out.write_text("\n".join([*texts, ""]))
    sys.stdout.write(f"{sum(not text.startswith('=') for text in texts)} classes, {asked.out.stat().st_size:,} bytes\n")


def told(kind: NodeType, sampler: dict[str, Any]) -> NodeType:
    """A class without what is the server's own: its files, its lists of samplers, and long lists."""
    drawn = sampler["input"]["required"]
    lists = {"SAMPLER_NAME": tuple(drawn["sampler_name"][0]), "SCHEDULER_NAME": tuple(drawn["scheduler"][0])}
    brings = {entry.parent for entry in kind.inputs if entry.only}
    return replace(kind, inputs=tuple(_told(kind.name, entry, lists, brings) for entry in kind.inputs))


def _told(kind: str, entry: Input, lists: dict[str, tuple[str, ...]], brings: set[str]) -> Input:
    if (kind, entry.name) in OPTIONAL:
        return replace(entry, required=False)
    folder = OF_CLASS.get((kind, entry.name)) or FOLDERS.get(entry.name, "")
    if entry.type == "IMAGE_FILE":
        return replace(entry, choices=None, default="")
    if entry.type in ("COMBO", "FILE") and folder:
        return replace(entry, type="FILE", folder=folder, choices=None, default="")
    if entry.type == "FILE":
        return replace(entry, type="COMBO", choices=None, default="")
    for name, listed in lists.items():
        if entry.type == "COMBO" and entry.choices and entry.choices[: len(listed)] == listed:
            return replace(entry, type=name, choices=None, default="")
    if entry.choices is None or entry.name in brings:
        return entry
    long = sum(len(str(choice)) + 1 for choice in entry.choices) > MOST
    return replace(entry, choices=None) if long or not entry.choices or entry.name in OPEN_CHOICES else entry


def written(kind: NodeType) -> str:
    """A class in the short form."""
    marks = ("+" if kind.is_open else "") + ("!" if kind.ends else "")
    lines = [f"{marks}{kind.name} -> {', '.join(kind.outputs)}".rstrip()]
    entries = [" ".join(_words(entry)) for entry in kind.inputs]
    return "\n".join([*lines, *_wrapped(entries)])


def _words(entry: Input) -> Iterator[str]:
    only = "@" + "|".join(map(_quoted, entry.only)) if entry.only else ""
    yield _quoted(entry.name) + ("" if entry.required else "?") + only
    yield entry.type
    if entry.type == "FILE":
        yield entry.folder
    first = str(entry.choices[0]) if entry.choices else ""
    default = "" if entry.type == "SEED" and entry.default == "0" else entry.default
    if default and default != first and len(default) < MOST:
        yield _quoted(default)
    if entry.low is not None and entry.high is not None and (entry.low, entry.high) != (0, MAX_SEED):
        whole = entry.type != "FLOAT"
        yield ":".join(str(int(bound)) if whole else _number(bound) for bound in (entry.low, entry.high))
    if entry.choices:
        yield "|".join(_quoted(str(choice)) for choice in entry.choices) + ("|" if len(entry.choices) == 1 else "")
    yield from sorted(entry.marks)


def _quoted(text: str) -> str:
    return quote(text, safe="!#$&'()*/;=[]{}<>^\"`~._-")


def _number(value: float) -> str:
    return f"{value:g}" if float(f"{value:g}") == value else repr(float(value))


def _wrapped(entries: list[str]) -> Iterator[str]:
    line = ""
    for place, entry in enumerate(entries):
        text = entry + ("," if place + 1 < len(entries) else "")
        if line and len(line) + len(text) > 118:
            yield line
            line = ""
        line = f"{line} {text}" if line else f"  {text}"
    if line:
        yield line


if __name__ == "__main__":
    main()
