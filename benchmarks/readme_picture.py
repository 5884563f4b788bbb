"""The README's picture: the kept images of a run in a row, each with its scene and scores.

sosie generate mira --prompts examples/scenes.csv --out demo/images --json > run.jsonl
python benchmarks/readme_picture.py run.jsonl examples/scenes.csv docs/images/mira.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from sosie.workspace.prompts import read_prompts

TILE, GAP, FOOT = 256, 12, 62


def main(run: str, prompts: str, target: str) -> None:
    lines = [json.loads(line) for line in Path(run).read_text().splitlines()]
    kept = [line for line in lines if line["verdict"] == "keep"]
    scenes = {line.name: line.prompt for line in read_prompts(Path(prompts))}
    row = Image.new("RGB", (len(kept) * (TILE + GAP) - GAP, TILE + FOOT), "white")
    draw, text, bold = ImageDraw.Draw(row), ImageFont.load_default(12), ImageFont.load_default(13)
    for index, line in enumerate(kept):
        x = index * (TILE + GAP)
        path = Path(line["image"])
        with Image.open(path) as image:
            row.paste(image.convert("RGB"), (x, 0))
        draw.text((x, TILE + 5), scenes[path.stem.split("-")[1]].replace(" background", ""), "#1c1c1e", text)
        for place, judge in enumerate(line["scores"]["identity"]):
            bound = "min" if judge["higher_is_better"] else "max"
            words = f"{judge['judge']} {judge['value']:.2f} ({bound} {judge['threshold']:.2f})"
            draw.text((x + place * 132, TILE + 23), words, "#1a7f37", bold)
        joint = line["scores"]["identity"][0]["joint"]
        draw.text((x, TILE + 42), f"{100 * joint['fmr']:.1f} % of {joint['n']} impostors pass both", "#6e6e73", text)
    row.save(target, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
