"""Work grows with what it is given and not with its square: four times the input, at most eight times the work."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sosie.doctor.workflows import check_graph
from sosie.graph.attach import expect_runnable, find_seeds, find_texts
from sosie.graph.outputs import find_output
from sosie.graph.read import read_table
from sosie.workspace.prompts import read_prompts
from sosie.workspace.workspace import open_workspace

pytestmark = pytest.mark.once

SAMPLER = {"seed": 1, "steps": 20, "cfg": 5, "sampler_name": "euler", "scheduler": "normal", "denoise": 1}


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def drawing(chain: dict[str, Any], model: list[Any], positive: list[Any], latent: list[Any]) -> dict[str, Any]:
    """A graph in the API format with `chain` in it, whose end feeds the last sampler."""
    last = {**SAMPLER, "model": model, "positive": positive, "negative": ["text", 0], "latent_image": latent}
    return {
        "model": node("CheckpointLoaderSimple", ckpt_name="a.safetensors"),
        **chain,
        "text": node("CLIPTextEncode", clip=["model", 1], text="a portrait"),
        "empty": node("EmptyLatentImage", width=1024, height=1024, batch_size=1),
        "last": node("KSampler", **last),
        "image": node("VAEDecode", samples=["last", 0], vae=["model", 2]),
        "save": node("SaveImage", images=["image", 0], filename_prefix="x"),
    }


def chained(n: int, kind: str, name: str, begin: list[Any], **widgets: Any) -> dict[str, Any]:
    ends = [begin, *([str(index), 0] for index in range(n))]
    return {str(index): node(kind, **{name: ends[index]}, **widgets) for index in range(n)}


def loras(n: int) -> dict[str, Any]:
    chain = chained(n, "LoraLoaderModelOnly", "model", ["model", 0], lora_name="b.safetensors", strength_model=0.5)
    return drawing(chain, [str(n - 1), 0], ["text", 0], ["empty", 0])


def conditionings(n: int) -> dict[str, Any]:
    chain = chained(n, "ConditioningSetTimestepRange", "conditioning", ["text", 0], start=0.0, end=1.0)
    return drawing(chain, ["model", 0], [str(n - 1), 0], ["empty", 0])


def samplers(n: int) -> dict[str, Any]:
    wires = {"model": ["model", 0], "positive": ["text", 0], "negative": ["text", 0]}
    chain = chained(n, "KSampler", "latent_image", ["empty", 0], **SAMPLER, **wires)
    return drawing(chain, ["model", 0], ["text", 0], [str(n - 1), 0])


def unknown(n: int) -> dict[str, Any]:
    chain = chained(n, "NobodyKnowsThis", "model", ["model", 0])
    return drawing(chain, [str(n - 1), 0], ["text", 0], ["empty", 0])


def drawn(n: int, kind: str, mode: int) -> dict[str, Any]:
    """A graph in the editor's format: `n` nodes in a row, and a preview at their end."""
    wire = {"name": "images", "type": "IMAGE"}
    out = {"name": "IMAGE", "type": "IMAGE"}
    nodes: list[dict[str, Any]] = [{"id": 0, "type": "LoadImage", "outputs": [out], "widgets_values": ["a.png"]}]
    for index in range(1, n + 1):
        entry = {"id": index, "type": kind, "mode": mode, "inputs": [{**wire, "link": index}], "outputs": [out]}
        nodes.append({**entry, "widgets_values": []})
    nodes.append({"id": n + 1, "type": "PreviewImage", "inputs": [{**wire, "link": n + 1}], "outputs": []})
    links = [[index, index - 1, 0, index, 0, "IMAGE"] for index in range(1, n + 2)]
    return {"nodes": nodes, "links": links, "version": 0.4}


GRAPHS: dict[str, Callable[[int], dict[str, Any]]] = {
    "LoRAs": loras,
    "conditionings": conditionings,
    "samplers": samplers,
    "unknown classes": unknown,
    "reroutes": lambda n: drawn(n, "Reroute", 0),
    "bypassed nodes": lambda n: drawn(n, "ImageInvert", 4),
}


def seconds(work: Callable[[], object]) -> float:
    """The shortest of three tries, in seconds of this process."""
    found: list[float] = []
    for _ in range(3):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found)


def test_a_prompt_file_is_read_in_time_that_grows_with_its_lines(tmp_path: Path) -> None:
    def read(n: int) -> float:
        path = tmp_path / f"{n}.txt"
        path.write_text("".join(f"scene {index}\n" for index in range(n)))
        return seconds(lambda: read_prompts(path))

    assert read(16_000) < 8 * read(4_000)


@pytest.mark.parametrize("kind", GRAPHS)
def test_a_graph_is_checked_in_time_that_grows_with_its_nodes(kind: str, tmp_path: Path) -> None:
    def check(n: int) -> float:
        table = GRAPHS[kind](n)
        return seconds(lambda: check_graph(open_workspace(tmp_path), read_table(table, "a graph"), "a graph"))

    assert check(2_000) < 8 * check(500)


@pytest.mark.parametrize("kind", ["LoRAs", "conditionings", "samplers"])
def test_a_graph_is_made_ready_in_time_that_grows_with_its_nodes(kind: str) -> None:
    def prepare(n: int) -> float:
        graph = read_table(GRAPHS[kind](n), "a graph")

        def work() -> None:
            output = find_output(graph)
            expect_runnable(graph, output)
            find_texts(graph, output, "positive")
            find_seeds(graph, output)

        return seconds(work)

    assert prepare(4_000) < 8 * prepare(1_000)
