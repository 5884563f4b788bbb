"""`python -m sosie.engines.comfy.fake`: the fake server as a program, to try things out without a GPU."""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path

from sosie.engines.comfy.fake.behaviour import Behaviour
from sosie.engines.comfy.fake.nodes import KEYS, TRAPS
from sosie.engines.comfy.fake.pictures import pictures_of
from sosie.engines.comfy.fake.server import FakeServer
from sosie.families import families

CONTENTS = (*TRAPS, "wrong encoder", "df11", *KEYS)
"""What a model file may hold; `nodes` says what comes of it."""


def main() -> int:
    """Serves until it is interrupted; the address is printed first."""
    parser = argparse.ArgumentParser(prog="python -m sosie.engines.comfy.fake", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="Default: any that is free.")
    parser.add_argument("--pictures", type=Path, help="A folder of images to answer with. Default: noise.")
    parser.add_argument("--step-seconds", type=float, default=0.0, help="How long a sampling step takes.")
    parser.add_argument(
        "--holds",
        action="append",
        default=[],
        metavar="FILE=TRAP",
        help=f"A model file that is not what it should be: {', '.join(CONTENTS)}.",
    )
    given = parser.parse_args()
    families()  # what they bring is part of the schema
    holds = dict(text.partition("=")[::2] for text in given.holds)
    if wrong := [text for text in holds.values() if text not in CONTENTS]:
        parser.error(f"--holds knows no '{wrong[0]}'; expected FILE=TRAP, with one of {', '.join(CONTENTS)}")
    pictures = pictures_of(given.pictures) if given.pictures else ()
    if given.pictures and not pictures:
        parser.error(f"{given.pictures} holds no .png or .jpg")
    try:
        server = FakeServer(Behaviour(pictures=pictures, step_seconds=given.step_seconds), given.port)
    except OSError as error:
        parser.error(f"port {given.port} of this machine cannot be listened at: {error.strerror or error}")
    with server:
        server.disk.models.update(holds)
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
