"""The small net that says whether there may be words: it sends words to the reader, and spares most clean pictures."""

# pyright: basic, reportCallIssue=false, reportArgumentType=false, reportReturnType=false, reportAssignmentType=false
from __future__ import annotations

import importlib
import io
import sys
from typing import Any

import cv2
import numpy as np
import pytest
from places import ROOT

from sosie.core.errors import BadModelError
from sosie.scorers.defects import glance, text
from sosie.scorers.sample import Sample

sys.path.insert(0, str(ROOT / "benchmarks"))
inject = importlib.import_module("inject")


def clean(side: int) -> np.ndarray:
    image = cv2.cvtColor(cv2.imread(str(ROOT / "tests/fixtures/pictures/otto/00.jpg")), cv2.COLOR_BGR2RGB)
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize("height", [12, 20, 40, 90])
def test_words_of_any_height_may_be_words(height: int) -> None:
    for seed in range(3):
        assert glance.may_hold_words(inject.text(clean(512), "Sample", height, 0.6, seed))


def test_walls_and_textures_hold_no_words() -> None:
    for seed in range(4):
        assert not glance.may_hold_words(inject.bricks(256, seed, figure=True))
        assert not glance.may_hold_words(inject.fractal(256, seed))


def test_a_picture_that_holds_no_words_is_not_read_and_one_that_may_is(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...]] = []

    class Reader:
        txts, scores = ("SampleStock",), (0.9,)

        def __call__(self, pixels: np.ndarray) -> Reader:
            asked.append(pixels.shape)
            return self

    monkeypatch.setattr(text, "_reader", Reader)
    (score,) = text.scores(Sample(inject.bricks(256, 0, figure=True)))
    assert (score.value, score.passed, asked) == (0, True, [])
    (score,) = text.scores(Sample(inject.text(clean(512), "SampleStock", 20, 1.0, 0)))
    assert (score.value, score.passed, asked) == (11, False, [(512, 512, 3)])


def test_a_picture_smaller_than_the_nets_least_is_looked_at_once() -> None:
    shapes = [looked.shape for looked in glance.maps(np.zeros((90, 200, 3), np.uint8))]
    assert shapes == [(12, 25)]
    assert [looked.shape for looked in glance.maps(np.zeros((200, 400, 3), np.uint8))][1:] == [(13, 25), (7, 13)]


def test_weights_of_another_digest_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    glance._session.cache_clear()  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(glance, "SHA256", "0" * 64)
    with pytest.raises(BadModelError, match=r"has SHA-256 .*; expected 0000"):
        glance.may_hold_words(clean(64))


@pytest.mark.local
def test_the_packaged_net_says_what_the_trained_one_says() -> None:
    torch: Any = pytest.importorskip("torch")
    bench = importlib.import_module("glance")
    torch.manual_seed(1)
    model = bench.net()
    model(torch.randn(4, 3, 64, 64))
    packed = io.BytesIO()
    np.savez(packed, **bench.folded(model.eval()))
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    with torch.no_grad():
        wanted = model(bench.scaled([image]))[0, 0].numpy()
    session = glance.open_session(glance.glance_onnx(packed.getvalue()), BadModelError)
    (found,) = session.run(None, {"picture": bench.scaled([image]).numpy()})
    assert np.abs(found[0, 0] - wanted).max() < 0.01
