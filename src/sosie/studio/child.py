"""The process that opens files which came from elsewhere: `python -P -m sosie.studio.child`.

One JSON object a line is asked on its input and answered on its output. It has limits of memory and of open files, so
that a picture made to hurt ends this process and nothing else; only pixels that it has encoded anew leave it.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sosie.core.errors import SosieError
from sosie.files.json_bounds import parse
from sosie.files.regular import open_regular

if TYPE_CHECKING:
    from PIL import Image

    from sosie.faces.detect import Detector
    from sosie.workspace.workspace import Workspace

MEMORY = 6 << 30
"""Bytes of address space: a picture of 64 million pixels takes 0.6 GB at its worst, the nets of faces map one."""

FILES = 64
MOST_LIST = 4 << 20
"""Bytes of the list of a file's parts."""

QUALITY = 84
FACE = 1.4
"""Sides of a zoomed square, in those of its face."""


def small(request: Mapping[str, Any]) -> dict[str, Any]:
    """A WebP copy of a picture, no side above `width`; of its largest face, with `face`. Written whole."""
    from PIL import Image

    from sosie.files.images import read_image
    from sosie.files.whole import make_folder, write_whole

    image = read_image(Path(request["path"]))
    if request.get("face"):
        image = _face(image)
    image.thumbnail((request["width"], request["width"]), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY)
    out = Path(request["out"])
    make_folder(out.parent)
    write_whole(out, buffer.getvalue())
    return {"width": image.width, "height": image.height}


def _face(image: Image.Image) -> Image.Image:
    """The square around the largest face, at one scale whatever the picture's; the middle where there is no face."""
    import numpy as np

    faces = _detector().detect(np.asarray(image))
    if faces:
        x, y, width, height = max(faces, key=lambda face: face.box[2] * face.box[3]).box
        half, middle = max(width, height) * FACE / 2, (x + width / 2, y + height / 2)
    else:
        half, middle = min(image.size) / 2, (image.width / 2, image.height / 2)
    side = min(round(2 * half), *image.size)
    left = max(0, min(round(middle[0] - side / 2), image.width - side))
    top = max(0, min(round(middle[1] - side / 2), image.height - side))
    return image.crop((left, top, left + side, top + side))


@cache
def _detector() -> Detector:
    from sosie.faces.detect import Detector

    return Detector()


def take(request: Mapping[str, Any]) -> dict[str, Any]:
    """A PNG of the pixels of an uploaded picture, and the settings that other programs wrote into it."""
    from sosie.api.views.settings import settings_in
    from sosie.files.images import read_picture
    from sosie.files.whole import make_folder, write_whole
    from sosie.store.images import encode

    path = Path(request["path"])
    picture = read_picture(path)
    encoded = encode(picture.image)
    out = Path(request["folder"]) / f"{encoded.sha256}.png"
    make_folder(out.parent)
    write_whole(out, encoded.data)
    size = {"width": encoded.width, "height": encoded.height}
    known = {"sha256": encoded.sha256, "pixels": encoded.pixels, **size, "notes": list(picture.notes)}
    return {**known, "settings": settings_in(path)}


def trace(request: Mapping[str, Any]) -> dict[str, Any]:
    """The plan and the recipe that the manifest or the watermark of an uploaded picture names."""
    from sosie.api.views.settings import traced

    return dict(traced(_workspace(request), Path(request["path"])))


def examine(request: Mapping[str, Any]) -> dict[str, Any]:
    """What the doctor says of an uploaded file."""
    from sosie.api.views.dropped import examine_whole

    return examine_whole(_workspace(request), Path(request["path"]))


def pieces(request: Mapping[str, Any]) -> dict[str, Any]:
    """What the doctor says of a file of which parts were uploaded: how long a list is, [start, length] each, bytes."""
    from sosie.api.views.dropped import PART, examine_pieces

    path, held = Path(request["path"]), dict[tuple[int, int], bytes]()
    with open_regular(path) as stream:
        length = int.from_bytes(stream.read(4), "little")
        for start, count in cast("list[list[int]]", parse(stream.read(min(length, MOST_LIST)), MOST_LIST * 20, True)):
            held[start, count] = stream.read(count)
    return examine_pieces(_workspace(request), f"{PART}{path.suffix}", request["size"], held)


def mend(request: Mapping[str, Any]) -> dict[str, Any]:
    """Converts an uploaded file into the workspace."""
    from sosie.api.views.dropped import mend

    return mend(_workspace(request), Path(request["path"]))


def _workspace(request: Mapping[str, Any]) -> Workspace:
    from sosie.workspace.workspace import open_workspace

    return open_workspace(Path(request["root"]))


def calibration(request: Mapping[str, Any]) -> dict[str, Any]:
    """How a character's references and images lie to impostors: nets of faces look at them."""
    from sosie.api.views.calibration import describe_calibration
    from sosie.workspace.session import Session

    with Session(_workspace(request)) as session:
        return describe_calibration(session, request["name"], request["recipe"])


def take_character(request: Mapping[str, Any]) -> dict[str, Any]:
    """A character of an uploaded archive, which `sosie character export` or OpenChar wrote."""
    from sosie.api.character_files import import_char, import_character, is_char_file
    from sosie.core.errors import UsageError
    from sosie.workspace.characters import CharacterFile
    from sosie.workspace.session import Session

    path, workspace = Path(request["path"]), _workspace(request)
    left: list[list[str]] = []
    if is_char_file(path):
        likeness, adult = request.get("likeness"), request.get("adult") is True
        if not likeness or not adult:
            hint = "sosie character import FILE --likeness fictional --adult"
            raise UsageError("a .char file declares neither likeness nor age, which must be said for it", hint)
        with Session(workspace) as session:
            who = import_char(session, path, CharacterFile(request["name"], likeness, adult)).character
    else:
        made = import_character(workspace, path, request["name"])
        who, left = made.character, [list(row) for row in made.left]
    counts = {"references": len(who.references), "loras": len(who.loras)}
    return {"character": who.name, "likeness": who.likeness, **counts, "left": left}


Task = Callable[[Mapping[str, Any]], dict[str, Any]]
TASKS: Mapping[str, Task] = {
    "small": small,
    "take": take,
    "trace": trace,
    "examine": examine,
    "pieces": pieces,
    "mend": mend,
    "calibration": calibration,
    "take_character": take_character,
}


def _limit() -> None:
    if sys.platform != "win32":
        import resource

        for what, most in ((resource.RLIMIT_NOFILE, FILES), (resource.RLIMIT_CORE, 0)):
            resource.setrlimit(what, (most, most))
        if sys.platform == "linux":
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def main() -> None:
    """Answers until its input ends."""
    _limit()
    answers = sys.stdout
    sys.stdout = sys.stderr  # what libraries print is no answer
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = TASKS[request["do"]](request)
        except SosieError as error:
            own = str(request.get("path") or "\0")  # our name for what came from elsewhere
            answer = {"error": error.message.replace(own, "the file"), "hint": error.hint.replace(own, "FILE")}
        except MemoryError:
            answer = {"error": "the file needs more memory than a file that came from elsewhere may have"}
        except Exception as error:
            answer = {"error": f"the file cannot be read ({type(error).__name__})"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
