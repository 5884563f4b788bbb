"""Pages: one self-contained HTML file each, no script, no network, drawn from `templates/`."""

from __future__ import annotations

import base64
import io
from functools import cache
from pathlib import Path
from typing import cast

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from sosie import __version__
from sosie.files.images import read_image
from sosie.reports.place import mark


def draw_page(template: str, title: str, asked: str, **values: object) -> str:
    """The page that `template` makes of `values`; every text among them is escaped. `asked`: see `place`."""
    made = _templates().get_template(template)
    return made.render(title=title, version=__version__, mark=mark(asked), **values)


@cache
def _templates() -> Environment:
    found = Environment(
        loader=PackageLoader("sosie.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    cast("dict[str, object]", found.globals)["inline"] = inline
    return found


def inline(path: Path, side: int) -> str:
    """The picture as a data URL: WebP, no side longer than `side` pixels."""
    image = read_image(path)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=88)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
