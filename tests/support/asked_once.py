"""Nets that see a picture again answer from memory: judges are most of what the tests take, and see few pictures.

onnxruntime gives the same bits for the same model and inputs, on one thread as Sosie runs it. Only what is asked in
this process is remembered, and at most `MOST` bytes of it, the oldest forgotten first.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

MOST = 256 << 20

_answers: OrderedDict[bytes, list[Any]] = OrderedDict()
_held = 0


def remember_answers() -> None:
    """From now on, in this process."""
    from onnxruntime import InferenceSession

    made, asked = InferenceSession.__init__, InferenceSession.run

    def make(self: Any, path_or_bytes: Any, *arguments: Any, **named: Any) -> None:
        made(self, path_or_bytes, *arguments, **named)
        self.asked_once_model = hashlib.sha256(
            path_or_bytes if isinstance(path_or_bytes, bytes) else str(path_or_bytes).encode()
        ).digest()

    def run(self: Any, names: Sequence[str] | None, inputs: Mapping[str, Any], *options: Any) -> list[Any]:
        key = _key(self.asked_once_model, names, inputs)
        if key is None or options:
            return asked(self, names, inputs, *options)
        if key not in _answers:
            _keep(key, asked(self, names, inputs))
        _answers.move_to_end(key)
        return [answer.copy() for answer in _answers[key]]

    InferenceSession.__init__, InferenceSession.run = make, run  # type: ignore[method-assign]


def _key(model: bytes, names: Sequence[str] | None, inputs: Mapping[str, Any]) -> bytes | None:
    """None for inputs that are no arrays."""
    digest = hashlib.blake2b(model + repr(names).encode())
    for name, array in inputs.items():
        if not hasattr(array, "tobytes"):
            return None
        digest.update(f"{name} {array.dtype} {array.shape} ".encode() + array.tobytes())
    return digest.digest()


def _keep(key: bytes, answers: list[Any]) -> None:
    global _held  # noqa: PLW0603
    _answers[key] = answers
    _held += sum(answer.nbytes for answer in answers)
    while _held > MOST and len(_answers) > 1:
        _held -= sum(answer.nbytes for answer in _answers.popitem(last=False)[1])
