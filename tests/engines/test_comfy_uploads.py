"""Images on their way to a ComfyUI server: what is too large is scaled or packed once, or refused."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from comfy_bench import (
    one_upload,
    sent,
    set_behaviour,
)
from PIL import Image

from sosie.engines.comfy.errors import ComfyError
from sosie.engines.comfy.fake import FakeServer, Scripted
from sosie.engines.comfy.program import Upload, png
from sosie.engines.comfy.uploads import smaller

pytestmark = pytest.mark.once


def noise(side: int, seed: int = 1) -> bytes:
    made_ = np.random.default_rng(seed).integers(0, 256, (side // 8, side // 8, 3), "uint8")
    return png(Image.fromarray(made_).resize((side, side), Image.Resampling.BICUBIC))


def test_a_reference_that_is_too_large_is_scaled_once_and_said(near: FakeServer) -> None:
    data = noise(512)
    set_behaviour(near, max_upload=len(data) // 2)
    render, image = sent(near, one_upload(data, True))
    assert 256 <= image.size[0] == image.size[1] < 512
    (told,) = [f for f in render.findings if f.code == "SOS-Y018"]
    assert told.severity == "info"
    assert f"{image.size[0]}x{image.size[1]} px" in told.message
    assert near.count("POST", "/upload") == 1


def test_other_images_keep_their_pixels_and_the_error_stays_where_that_is_too_much(near: FakeServer) -> None:
    data = noise(512)
    packed = smaller(Upload("1", "image", data), 0)
    assert packed is not None
    set_behaviour(near, max_upload=len(packed.data) + 5000)
    assert near.behaviour.max_upload < len(data)
    render, image = sent(near, one_upload(data, False))
    assert image.convert("RGB").tobytes() == Image.open(BytesIO(data)).tobytes()
    assert [f for f in render.findings if f.code == "SOS-Y018"] == []
    near.disk.inputs.clear()
    set_behaviour(near, max_upload=len(packed.data) - 5000)
    with pytest.raises(ComfyError, match="takes no more than") as error:
        sent(near, one_upload(data, False))
    assert error.value.code == "SOS-Y018"
    set_behaviour(near, max_upload=9000)
    with pytest.raises(ComfyError, match="takes no more than"):
        sent(near, one_upload(data, True))
    assert near.count("POST", "/upload") == 1


def test_a_proxy_that_takes_less_than_the_server_says_is_tried_once_more(near: FakeServer) -> None:
    set_behaviour(near, scripted={"/upload/image": Scripted(413, b"<html>nginx", times=1)})
    render, image = sent(near, one_upload(noise(512), False))
    assert (image.format, image.size, render.image.size) == ("WEBP", (512, 512), (512, 512))
    assert near.count("POST", "/upload") == 2
    near.disk.inputs.clear()
    set_behaviour(near, scripted={"/upload/image": Scripted(413, b"<html>nginx")})
    near.spent.clear()
    with pytest.raises(ComfyError, match="answered 413"):
        sent(near, one_upload(noise(512), False))
    assert near.count("POST", "/upload") == 4
    # What cannot be packed better is not sent a second time.
    raw = np.random.default_rng(2).integers(0, 256, (256, 256, 3), "uint8")
    with pytest.raises(ComfyError, match="answered 413"):
        sent(near, one_upload(png(Image.fromarray(raw)), False))
    assert near.count("POST", "/upload") == 5
