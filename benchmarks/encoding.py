"""PNG encoders side by side on a picture with real grain and on a smooth one: time of one core, and bytes.

    pip install isal zlib-ng imagecodecs fpng-py
    python benchmarks/encoding.py PHOTO [--width 2048] [--grain 3]

PHOTO is enlarged to the width; grain is Gaussian, in levels of 255. What is not installed is left out. Encoders of
whole PNG files are held against the pixels that went in; those of `zlib` streams are given rows filtered by numpy.
Prints a table and one JSON line. Times are the least of three, of a process's own clock.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from PIL import Image

from sosie.files.png_writing import encode_png

Encoder = Callable[[Any], bytes]


def pillow(level: int) -> Encoder:
    def encode(pixels: Any) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG", compress_level=level)
        return stream.getvalue()

    return encode


def opencv(*settings: int) -> Encoder:
    return lambda pixels: cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), list(settings))[1].tobytes()


def rows_above(pixels: Any) -> Any:
    """Filter 2 of PNG (Up), by numpy."""
    flat = pixels.reshape(len(pixels), -1)
    made = np.empty((len(flat), flat.shape[1] + 1), np.uint8)
    made[:, 0] = 2
    made[0, 1:], made[1:, 1:] = flat[0], flat[1:] - flat[:-1]
    return made


def streams(name: str, level: int) -> Encoder:
    """What a replacement of zlib makes of the rows: a PNG file but for 57 bytes."""
    library = importlib.import_module(name)
    return lambda pixels: library.compress(rows_above(pixels), level)


def encoders() -> dict[str, Encoder]:
    """By name; those that are installed."""
    made: dict[str, Encoder] = {
        "Sosie (OpenCV, Up, RLE)": lambda pixels: encode_png(Image.fromarray(pixels)),
        "Pillow, level 1": pillow(1),
        "Pillow, level 6": pillow(6),
        "OpenCV, as it is": opencv(),
        "OpenCV, level 1": opencv(cv2.IMWRITE_PNG_COMPRESSION, 1),
    }
    wanted = {
        "isal.isal_zlib": lambda: {"isal, Up, level 1 (stream)": streams("isal.isal_zlib", 1)},
        "zlib_ng.zlib_ng": lambda: {"zlib-ng, Up, level 2 (stream)": streams("zlib_ng.zlib_ng", 2)},
        "imagecodecs": lambda: {"libpng, level 1": lambda p: importlib.import_module("imagecodecs").png_encode(p, 1)},
        "fpng_py": lambda: {
            "fpng": lambda p: importlib.import_module("fpng_py").fpng_encode_image_to_memory(
                p.tobytes(), p.shape[1], p.shape[0], 3
            )
        },
    }
    for name, make in wanted.items():
        try:
            importlib.import_module(name)
        except ImportError:
            continue
        made |= make()
    return made


def measure(encode: Encoder, pixels: Any) -> tuple[float, int]:
    """Seconds and bytes."""
    best, data = float("inf"), b""
    for _ in range(3):
        started = time.process_time()
        data = encode(pixels)
        best = min(best, time.process_time() - started)
    if data.startswith(b"\x89PNG") and not np.array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels):
        raise SystemExit("the pixels are not those that went in")
    return best, len(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo")
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--grain", type=float, default=3)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    photo = Image.open(options.photo).convert("RGB")
    size = options.width, round(options.width * photo.height / photo.width)
    smooth = np.asarray(photo.resize(size, Image.Resampling.LANCZOS))
    noise = np.random.default_rng(0).normal(0, options.grain, smooth.shape)
    grain = np.clip(smooth + noise, 0, 255).astype(np.uint8)
    rows: list[dict[str, Any]] = []
    for name, encode in encoders().items():
        found = {kind: measure(encode, pixels) for kind, pixels in (("grain", grain), ("smooth", smooth))}
        rows.append({"encoder": name} | {kind: {"s": s, "bytes": n} for kind, (s, n) in found.items()})
    first = rows[0]
    print("| encoder | grain: time | bytes | smooth: time | bytes |\n| --- | --- | --- | --- | --- |")
    for row in rows:
        shares = [f"{row[kind][key] / first[kind][key]:.2f}" for kind in ("grain", "smooth") for key in ("s", "bytes")]
        print(f"| {row['encoder']} | {' | '.join(shares)} |")
    print(json.dumps({"size": size, "rows": rows}))


if __name__ == "__main__":
    main()
