"""What `face_pass.py` measured, as a table by character, and the contact sheet.

python benchmarks/face_pass_report.py WORK/ [SHEET.webp]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from face_pass import Work
from PIL import Image


def report(work: Work, path: Path | None) -> None:
    """Prints a table by character, and writes the contact sheet: worst first, source and result."""
    composed, scores = work.lines("composed"), work.lines("scores")
    keys = [key for key in scores if scores[key]["before"] and scores[key]["after"]]
    gains = {
        key: {name: scores[key]["after"][name] - scores[key]["before"][name] for name in scores[key]["before"]}
        for key in keys
    }
    refused = {key for key, one in composed.items() if one["said"] and one["said"] != ["SOS-E043"]}
    plain = {key for key, one in composed.items() if one["said"] == ["SOS-E043"]}
    people = sorted({key.partition("-")[0] for key in composed})
    print("| character | passes | refused | body's tone | SFace before, gain | of kept | dlib before, gain | outside |")
    print("|---|---|---|---|---|---|---|---|")
    for person in (*people, ""):
        of = [key for key in composed if key.startswith(f"{person}-" if person else "")]
        seen = [key for key in of if key in gains]
        mean = {name: np.mean([scores[key]["before"][name] for key in seen]) for name in ("sface", "dlib")}
        gain = {name: np.mean([gains[key][name] for key in seen]) for name in ("sface", "dlib")}
        real = np.mean([0.0 if key in refused else gains[key]["sface"] for key in seen])
        outside = sum(composed[key]["outside"] for key in of)
        print(
            f"| {person or 'all'} | {len(of)} | {len(refused & set(of))} | {len(plain & set(of))} "
            f"| {mean['sface']:.3f} {gain['sface']:+.3f} "
            f"| {real:+.3f} | {mean['dlib']:.3f} {gain['dlib']:+.3f} | {outside} |"
        )
    for name in ("seam", "colour", "grain", "skin"):
        for when in ("",) if name == "seam" else ("_before", "_after"):
            values = [value for one in composed.values() if (value := one["measures"].get(name + when)) is not None]
            low, middle, high = np.percentile(values, (5, 50, 95))
            print(f"{name}{when}: n = {len(values)}, 5 % {low:.2f}, median {middle:.2f}, 95 % {high:.2f}")
    if path is not None:
        order = sorted(composed, key=lambda key: -composed[key]["measures"].get("seam", 99.0))
        sheet(work, [key for key in order if work.result(key).exists()], path)


def sheet(work: Work, keys: Sequence[str], path: Path, side: int = 96, columns: int = 12) -> None:
    """Pairs of source and result in rows, each `side` px wide, the first in the upper left corner."""
    pictures = {one.key: one.picture for one in work.passes()}
    rows = -(-len(keys) // columns)
    canvas = Image.new("RGB", (columns * (2 * side + 4), rows * (side + 4)), "white")
    for place, key in enumerate(keys):
        left, top = place % columns * (2 * side + 4), place // columns * (side + 4)
        with Image.open(work.result(key)) as result:
            for offset, image in ((0, work.picture(pictures[key])), (side, result)):
                canvas.paste(image.resize((side, side), Image.Resampling.LANCZOS), (left + offset, top))
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(path, quality=80, method=6)
    print(f"{path}: {path.stat().st_size // 1000} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("sheet", type=Path, nargs="?")
    asked = parser.parse_args()
    report(Work(asked.work), asked.sheet)


if __name__ == "__main__":
    main()
