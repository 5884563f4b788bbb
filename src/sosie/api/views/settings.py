"""The settings that made an image, as a request for images, as far as they can be had.

Of the store's images, of those whose manifest or watermark names a plan, and of what A1111, ComfyUI and their kin have
written into a picture.
What is written in a picture is anybody's: it is read in the process that opens files which came from elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sosie.core.errors import ConfigError, SosieError
from sosie.files.foreign import as_list, as_object, as_text, parse_json
from sosie.provenance.texts import texts_in
from sosie.workspace.prompts.line import number, parse_size, whole_number
from sosie.workspace.prompts.samplers import sampling_of
from sosie.workspace.prompts.settings import read_settings

if TYPE_CHECKING:
    from sosie.store.gallery import Gallery, Shown
    from sosie.workspace.workspace import Workspace

LONGEST = 4000
"""Letters of a text that is given back."""

MOST_UNUSED = 40
MOST_TEXT = 20_000
MOST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Restored:
    """`asked` are fields of a job `generate`; `unused` are what was found and has no place there, by name.

    `how` says what told it: `sosie`, `a1111`, `comfyui` or `manifest`.
    """

    how: str
    asked: Mapping[str, Any]
    unused: tuple[tuple[str, str], ...] = ()

    @property
    def table(self) -> dict[str, Any]:
        """As JSON, bounded."""
        unused = [[name[:200], value[:LONGEST]] for name, value in self.unused[:MOST_UNUSED]]
        asked = {name: value[:LONGEST] if isinstance(value, str) else value for name, value in self.asked.items()}
        return {"how": self.how, "asked": asked, "unused": unused}


def settings_of(gallery: Gallery, shown: Shown) -> dict[str, Any]:
    """What to ask for so that a stored image is drawn again."""
    requested = as_object(gallery.settings(shown.plan).get("requested"))
    sampling = as_object(requested.get("sampling"))
    loras = [as_object(lora) for lora in as_list(requested.get("loras"))]
    tags = [f"<lora:{Path(as_text(one.get('file'))).stem}:{one.get('weight', 1):g}>" for one in loras]
    prompt = " ".join([as_text(requested.get("prompt", shown.prompt)), *tags]).strip()
    asked: dict[str, Any] = {
        "character": shown.character,
        "recipe": shown.recipe,
        "prompt": prompt,
        "seed": str(requested.get("seed", shown.seed)),
        "size": f"{shown.width}x{shown.height}",
    }
    more = {
        "negative": requested.get("negative_prompt"),
        "steps": sampling.get("steps"),
        "cfg": sampling.get("cfg"),
        "sampler": sampling.get("name"),
        "schedule": sampling.get("schedule"),
    }
    asked |= {name: value if isinstance(value, str) else f"{value:g}" for name, value in more.items() if value}
    unused: list[tuple[str, str]] = []
    if pixels := as_text(requested.get("source")):
        source = gallery.of_pixels(pixels)
        if source is None:
            unused.append(("source", pixels))
        else:
            del asked["size"]
            asked |= {"source": source.sha256, "stages": as_list(requested.get("stages"))}
    return Restored("sosie", asked, tuple(unused)).table


def settings_in(path: Path) -> dict[str, Any] | None:
    """What other programs have written into a picture of how it was made; None if that is nothing that is known."""
    texts = texts_in(path)
    found = _of_a1111(texts.get("parameters", ""))
    for name in ("prompt", "workflow"):
        found = found or _of_comfyui(texts.get(name, ""))
    return found.table if found else None


def traced(workspace: Workspace, path: Path) -> dict[str, str]:
    """The plan and the recipe that the manifest or the watermark of a picture names; empty if none does."""
    from sosie.api.verify import verify_image

    report = verify_image(workspace, path)
    holds = report.state == "valid"
    return {"plan": report.plan_id if holds else report.watermark, "recipe": report.recipe if holds else ""}


def settings_of_recipe(recipe: str) -> dict[str, Any] | None:
    """What a manifest says of an image that another workspace made: its recipe, and nothing of the request."""
    return Restored("manifest", {"recipe": recipe}).table if recipe else None


def _of_a1111(text: str) -> Restored | None:
    told = read_settings(text[:MOST_TEXT])
    if not text or told.how != "an infotext":
        return None
    return _restored("a1111", told.values, told.unused)


def _of_comfyui(text: str) -> Restored | None:
    from sosie.graph.made_with import made_with
    from sosie.graph.read import read_table

    try:
        made = made_with(read_table(parse_json(text.encode("utf-8", "replace")), "the picture"))
    except (SosieError, ValueError):
        return None
    return _restored("comfyui", made.values, made.unused)


def _restored(how: str, values: Mapping[str, str], unused: Iterable[tuple[str, str]]) -> Restored:
    """Of values by Sosie's names those that a request can take; what it cannot take as it stands is not used."""
    asked: dict[str, Any] = {}
    left = list(unused)
    sizes = dict(values)
    if "size" not in sizes and "width" in sizes and "height" in sizes:
        sizes["size"] = f"{sizes.pop('width')}x{sizes.pop('height')}"
    for name, value in sizes.items():
        taken = _taken(name, value)
        if taken is None:
            left.append((name, value))
        elif value.strip():
            asked["negative" if name == "negative_prompt" else name] = taken
    return Restored(how, asked, tuple(left))


def _taken(name: str, value: str) -> str | None:
    """The text that a request takes for a setting, or None."""
    try:
        match name:
            case "prompt" | "negative_prompt":
                return value
            case "seed":
                return value if re.fullmatch(r"\d{1,19}", value) and int(value) <= MOST_SEED else None
            case "size":
                width, height = parse_size(value)
                return f"{width}x{height}"
            case "steps":
                steps = whole_number(value)
                return str(steps) if steps and 0 < steps <= 1000 else None
            case "cfg":
                cfg = number(value)
                return f"{cfg:g}" if cfg is not None and 0 <= cfg <= 100 else None
            case "sampler":
                return value if sampling_of(value, "") else None
            case "schedule":
                return value if sampling_of("euler", value) else None
            case _:
                return None
    except (ConfigError, ValueError):
        return None
