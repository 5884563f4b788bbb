"""A ComfyUI server without ComfyUI, for tests: it answers, pushes and misbehaves as a real one (0.33) does."""

from sosie.engines.comfy.fake.behaviour import Behaviour, Raises, Scripted
from sosie.engines.comfy.fake.server import FakeServer

__all__ = ["Behaviour", "FakeServer", "Raises", "Scripted"]
