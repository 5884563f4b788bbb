"""The doctor on the page: what is read of a file leaves the browser, and what can be mended is."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'sosie[studio]'")

from safetensors.numpy import load_file, save_file
from studio_page import Studio

from sosie.api.doctor import examine
from sosie.api.lines import json_of
from sosie.api.needs import Examination
from sosie.workspace.workspace import open_workspace


class Browser:
    """Keeps a file of which `start` are the first bytes and zeros the rest, and sends what is asked for."""

    def __init__(self, studio: Studio, start: bytes, size: int) -> None:
        self.studio = studio
        self.start = start
        self.size = size
        self.sent = 0

    def examine(self, suffix: str = "safetensors") -> dict[str, Any]:
        held: list[list[int]] = []
        for _ in range(12):
            text = json.dumps(held).encode()
            pieces = [self.read(start, length) for start, length in held]
            body = b"".join([struct.pack("<I", len(text)), text, *pieces])
            self.sent = len(body)
            found = self.studio.json(f"/api/doctor/pieces?suffix={suffix}&size={self.size}", body)
            if "wanted" not in found:
                (checkup,) = found["checkups"]
                return checkup
            held += found["wanted"]
        raise AssertionError("it never has enough")

    def read(self, start: int, length: int) -> bytes:
        assert start + length <= self.size
        return self.start[start : start + length].ljust(length, b"\0")


def split_lora(folder: Path) -> Path:
    """What musubi-tuner writes for Z-Image: names that ComfyUI does not find."""
    tensors: dict[str, Any] = {}
    for layer in range(30):
        for name in ("to_q", "to_k", "to_v", "to_out_0"):
            key = f"lora_unet_layers_{layer}_attention_{name}"
            tensors[f"{key}.lora_down.weight"] = np.full((4, 3840), 0.01, np.float16)
            tensors[f"{key}.lora_up.weight"] = np.full((3840, 4), 0.02, np.float16)
            tensors[f"{key}.alpha"] = np.array(4.0, np.float16)
    save_file(tensors, folder / "face.safetensors")
    return folder / "face.safetensors"


def test_twelve_gigabytes_are_examined_by_their_header_and_a_few_samples(studio: Studio) -> None:
    layers = 12
    each = 1_000_000_000
    table = {
        f"blocks.{n}.weight": {"dtype": "F16", "shape": [each // 2], "data_offsets": [n * each, (n + 1) * each]}
        for n in range(layers)
    }
    header = json.dumps(table).encode()
    browser = Browser(studio, struct.pack("<Q", len(header)) + header, 8 + len(header) + layers * each)
    found = browser.examine()
    assert browser.sent < 1_000_000
    assert {one["code"] for one in found["findings"]} == {"SOS-F101", "SOS-F121"}  # no known family, and all zeros
    assert "uploads" not in json.dumps(found)
    assert "browser" not in json.dumps(found)
    short = Browser(studio, browser.start, browser.size - 1)
    assert "SOS-F100" in {one["code"] for one in short.examine()["findings"]}


def test_parts_of_a_lora_say_what_the_whole_file_says_and_it_is_mended_into_the_workspace(
    studio: Studio, tmp_path: Path
) -> None:
    path = split_lora(tmp_path)
    content = path.read_bytes()
    found = Browser(studio, content, len(content)).examine()
    (own,) = examine(open_workspace(studio.root), (str(path),), Examination())
    assert [one["code"] for one in found["findings"]] == [one["code"] for one in json_of(own)["findings"]]
    assert (found["kind"], found["family"], found["mends"]) == ("lora", "zimage", ["convert-lora"])
    made = studio.json("/api/doctor/mend?suffix=safetensors", content)
    assert [one["kind"] for one in made["checkups"]] == ["lora"]
    assert made["sha256"] not in json.dumps(made["checkups"])
    assert "the file: 240 of 240" in made["checkups"][0]["findings"][0]["message"]
    assert "the file: 360 of 360" in found["findings"][0]["message"]
    assert not {"SOS-L006", "SOS-L008"} & {one["code"] for one in made["checkups"][0]["findings"]}
    mended = studio.root / "outputs/mended" / f"{made['sha256']}.safetensors"
    assert len(load_file(mended)) == 240
    answer = studio.get(f"/api/doctor/mended/{made['sha256']}")
    assert (answer.body, answer.headers["content-type"]) == (mended.read_bytes(), "application/octet-stream")
    assert not list((studio.root / ".sosie/uploads").iterdir())
    refused = studio.post("/api/doctor/mend?suffix=safetensors", mended.read_bytes())
    assert (refused.status, "without loss" in refused.text) == (422, True)


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xff\xff\xff[[0,9]]", b"\x02\0\0\0{}", b"\x05\0\0\0[[1]]", b"\x07\0\0\0[[0,-1]"]
)
def test_a_body_of_parts_that_is_none_is_refused_or_asked_for_anew(studio: Studio, body: bytes) -> None:
    answer = studio.post("/api/doctor/pieces?suffix=gguf&size=1000", body)
    assert answer.status == 422 or json.loads(answer.text) == {"wanted": [[0, 1000]]}
    assert studio.post("/api/doctor/pieces?suffix=gguf&size=-1", body).status == 422
    assert studio.post("/api/doctor/pieces?suffix=toml&size=10", body).status == 422


def test_the_machine_is_shown_at_a_glance_and_what_is_not_known_is_null(studio: Studio) -> None:
    found = studio.json("/api/doctor/machine")
    assert found["memory"] > 2**28
    assert found["free_disk"] > 0
    assert isinstance(found["cards"], list)
    assert found["checkups"][0]["kind"] == "machine"
