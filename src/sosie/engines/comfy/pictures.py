"""Images that come from a server: bounded before they are decoded, and looked at for what is not a picture."""

from __future__ import annotations

import warnings
from io import BytesIO
from typing import TYPE_CHECKING

from sosie.core import Finding
from sosie.core.finding import Rule
from sosie.engines.blank import one_colour
from sosie.engines.comfy.errors import NonsenseError
from sosie.engines.comfy.server import Limits, Server
from sosie.files.images import MAX_SIDE

if TYPE_CHECKING:
    from PIL.Image import Image

Y033 = Rule("SOS-Y033", "error", "An image is black, or of one colour")

ROOM = 4
"""So many times the pixels that were asked for may come."""

LEAST = 2048 * 2048
"""Pixels that may come whatever was asked for: a face is drawn in a larger square than it has."""


def decode(server: Server, data: bytes, limits: Limits, asked: int = 0) -> Image:
    """The picture (RGB) in a file's bytes, without its metadata.

    Raises `NonsenseError` for what is not a PNG, JPEG or WebP, is damaged, or declares more than `limits.pixels` or
    much more than the `asked` ones (0: nobody knows how many); that is checked before anything is decoded.
    """
    import PIL.Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with PIL.Image.open(BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as image:
                width, height = image.size
                most = min(limits.pixels, max(ROOM * asked, LEAST)) if asked else limits.pixels
                if width * height > most or max(width, height) > MAX_SIDE:
                    raise NonsenseError(server, f"sent an image that declares {width} x {height} pixels")
                image.load()
                picture = image.convert("RGB")
    except NonsenseError:
        raise
    except PIL.Image.DecompressionBombError:
        raise NonsenseError(server, "sent an image that declares more than 179 million pixels") from None
    # Pillow's decoders let a dozen exception types out of hostile files (struct.error, IndexError, zlib.error...).
    except Exception as error:
        message = f"sent {len(data):,} bytes that are not a whole image ({type(error).__name__})"
        raise NonsenseError(server, message) from None
    # Metadata holds the graph, and whatever else the server wrote.
    picture.info = {}
    return picture


def check_picture(image: Image, subject: str) -> list[Finding]:
    """An error if every pixel has the same colour: what comes of weights that are not there, and of NaN."""
    colour = one_colour(image)
    if not colour:
        return []
    message = f"the image that came back is {colour}; the server calls that a success"
    return [Y033.at(subject, message, "sosie doctor FILE on the model's files; see the log")]
