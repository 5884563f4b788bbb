"""ComfyUI's pitfalls, each by name: what a real server (0.33) does, and that the image is right nevertheless."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from comfy_bench import (
    LORA,
    QUICK,
    UNET,
    Recipes,
    codes,
    engine_on,
    events,
    has_error,
    link_to,
    node,
    plan,
    renders,
    set_behaviour,
    zimage,
)
from PIL import Image

from sosie.api.generation import described
from sosie.core import Plan, Preview, Progress, Render
from sosie.core.errors import EngineError
from sosie.engines.comfy.answers import ServerImage
from sosie.engines.comfy.engine import ComfyEngine, ComfySupplies
from sosie.engines.comfy.errors import ComfyError, LostError, OutOfMemoryError
from sosie.engines.comfy.fake import Behaviour, FakeServer, Raises, Scripted
from sosie.engines.comfy.program import CompiledGraph, GraphProgram, Step, Upload, png
from sosie.engines.comfy.run import free, render
from sosie.engines.comfy.server import parse_servers
from sosie.engines.comfy.worker import Queued
from sosie.families.contract.draws import StageOutput

pytestmark = pytest.mark.once

OOM = Raises("torch.OutOfMemoryError", "Allocation on device\nThis error means you ran out of memory on your GPU.", 1)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as fake:
        yield fake


# A run as it should be


def test_a_plan_becomes_an_image_with_its_environment(server: FakeServer) -> None:
    engine = engine_on(server)
    assert engine.name == f"comfy:{server.url.removeprefix('http://')}"
    (made,) = renders(engine, 7)
    assert made.image.size == (64, 64)
    assert made.image.mode == "RGB"
    assert made.engine == engine.name
    assert ("comfyui", "0.33.0") in made.environment.packages
    assert made.environment.device.endswith("cuda:0 fake")
    assert made.findings == ()


def test_the_same_plan_gives_the_same_image_and_another_seed_another(server: FakeServer) -> None:
    one, two, other = renders(engine_on(server), 1, 1, 2)
    assert one.image.tobytes() == two.image.tobytes()
    assert one.image.tobytes() != other.image.tobytes()


def test_renders_of_one_server_come_in_the_order_of_the_plans(server: FakeServer) -> None:
    assert [made.plan.seed for made in renders(engine_on(server), 3, 1, 2)] == [3, 1, 2]


def test_steps_become_progress_and_previews_too(server: FakeServer) -> None:
    set_behaviour(server, previews=True)
    found = events(engine_on(server), 1)
    steps = [(event.done, event.total) for event in found if type(event) is Progress and event.what == "generate"]
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    previews = [event for event in found if isinstance(event, Preview)]
    assert len(previews) == 4
    assert {preview.format for preview in previews} == {"jpeg"}
    assert Image.open(io.BytesIO(previews[0].data)).size == (8, 8)
    assert [event.what for event in found if isinstance(event, Progress)][:2] == ["queue", "load"]


def test_an_image_carries_nothing_of_the_servers_metadata(server: FakeServer) -> None:
    (made,) = renders(engine_on(server), 1)
    (stored,) = server.disk.outputs.values()
    assert "prompt" in Image.open(io.BytesIO(stored)).info
    assert made.image.info == {}


# History race


def test_execution_success_is_not_taken_for_the_end(server: FakeServer) -> None:
    set_behaviour(server, history_lag=0.3)
    patience = replace(QUICK, quiet=5.0)
    (made,) = renders(engine_on(server, patience=patience), 1)
    assert made.image.size == (64, 64)
    assert server.count("POST", "/prompt") == 1


def test_a_failure_is_read_from_the_job_and_not_before_it_is_there(server: FakeServer) -> None:
    set_behaviour(server, history_lag=0.2, raises={"KSampler": Raises("RuntimeError", "it broke")})
    with pytest.raises(ComfyError, match="KSampler 8 failed: it broke") as error:
        renders(engine_on(server), 1)
    assert error.value.code == "SOS-Y025"


# Cached runs


def test_a_cached_run_whose_file_was_moved_is_saved_again(server: FakeServer) -> None:
    link = link_to(server)
    compiled = replace(Recipes(prefix="").compiled(plan(1)))
    first = render(link, compiled, lambda _: None)
    server.disk.outputs.clear()
    again = render(link, compiled, lambda _: None)
    assert again.again >= 1
    assert first.image.tobytes() == again.image.tobytes()
    assert server.count("POST", "/free") == 1


def test_under_a_name_of_ours_a_cached_run_is_saved_anew_each_time(server: FakeServer) -> None:
    link = link_to(server)
    compiled = Recipes().compiled(plan(1))
    for _ in range(2):
        rendered = render(link, compiled, lambda _: None)
        server.disk.outputs.clear()
    assert rendered.cached >= {"1", "2", "8", "9"}
    assert rendered.again == 0
    assert server.count("POST", "/prompt") == 2


def test_a_server_that_says_saved_and_never_has_the_file_is_given_up(server: FakeServer) -> None:
    set_behaviour(server, scripted={"/view": Scripted(404)})
    with pytest.raises(ComfyError, match="has no such file") as error:
        renders(engine_on(server), 1)
    assert error.value.code == "SOS-Y003"
    assert server.count("POST", "/prompt") == 3


def test_a_replaced_model_file_is_read_anew(server: FakeServer) -> None:
    """Replacing a file on disk does nothing until `/free` with `free_memory`."""
    server.disk.models[UNET] = "df11"
    recipes = Recipes(stamp="old")
    engine = engine_on(server, compiler=recipes)
    (black,) = [event for event in engine.run([plan(1)]) if isinstance(event, Render)]
    assert has_error(black.findings, "SOS-Y033")
    server.disk.models[UNET] = "good"
    (still,) = [event for event in engine.run([plan(2)]) if isinstance(event, Render)]
    assert has_error(still.findings, "SOS-Y033"), "the fake keeps what it loaded, as the real one does"
    recipes.stamp = "new"
    (good,) = renders(engine, 3)
    assert good.findings == ()
    assert good.image.getextrema() != ((0, 0),) * 3


def test_unloading_alone_leaves_the_old_file_in_use_and_is_not_all_that_is_asked_for(server: FakeServer) -> None:
    """`/free {"unload_models": true}` draws black on; `free_memory` mends it."""
    server.disk.models[UNET] = "df11"
    engine = engine_on(server)
    next(event for event in engine.run([plan(1)]) if isinstance(event, Render))
    server.disk.models[UNET] = "good"
    assert httpx2.post(f"{server.url}/free", json={"unload_models": True}).status_code == 200
    (still,) = [event for event in engine.run([plan(2)]) if isinstance(event, Render)]
    assert has_error(still.findings, "SOS-Y033")
    engine.close()
    link = link_to(server)
    free(link)
    link.close()
    (good,) = renders(engine_on(server), 3)
    assert not has_error(good.findings, "SOS-Y033")


def test_free_is_asynchronous_and_waited_for(server: FakeServer) -> None:
    set_behaviour(server, free_lag=0.15)
    server.disk.models[UNET] = "df11"
    recipes = Recipes(stamp="old")
    engine = engine_on(server, compiler=recipes, patience=replace(QUICK, free=0.4))
    assert has_error(next(e for e in engine.run([plan(1)]) if isinstance(e, Render)).findings, "SOS-Y033")
    server.disk.models[UNET] = "good"
    recipes.stamp = "new"
    (good,) = renders(engine, 1)
    assert good.findings == ()


# The websocket


def test_without_a_websocket_jobs_are_polled(server: FakeServer) -> None:
    set_behaviour(server, scripted={"/ws": Scripted(404)}, step_seconds=0.02)
    (made,) = renders(engine_on(server), 1)
    assert made.image.size == (64, 64)
    assert server.count("GET", "/api/jobs/") >= 2


def test_a_websocket_that_falls_silent_is_not_waited_for(server: FakeServer) -> None:
    set_behaviour(server, is_mute=True)
    started = time.monotonic()
    (made,) = renders(engine_on(server), 1)
    assert made.image.size == (64, 64)
    assert time.monotonic() - started < 3


def test_a_dropped_websocket_loses_nothing_and_the_next_prompt_has_events_again(server: FakeServer) -> None:
    set_behaviour(server, drop_at=2, step_seconds=0.02)
    found = events(engine_on(server), 1, 2)
    assert len([event for event in found if isinstance(event, Render)]) == 2
    assert server.count("POST", "/prompt") == 2
    (first, _) = (place for place, event in enumerate(found) if isinstance(event, Render))
    steps = [e.done for e in found[first:] if isinstance(e, Progress) and e.what == "generate"]
    assert steps == [1, 2, 3, 4]


def test_every_connection_has_a_client_id_of_its_own(server: FakeServer) -> None:
    set_behaviour(server, drop_at=2, step_seconds=0.02)
    renders(engine_on(server), 1, 2)
    asked = [path for _, path, _ in server.asked if path.startswith("/ws")]
    assert len(asked) == len(set(asked)) == 2


def test_nonsense_on_the_websocket_is_survived(server: FakeServer) -> None:
    for frame in (
        "no json",
        '{"data": 1}',
        b"\x00\x00",
        b"\x00\x00\x00\x04\xff\xff\xff\xff{}",
        b"\0\0\0\1\0\0\0\1GIF8",
    ):
        set_behaviour(server, frames=(frame,))
        (made,) = renders(engine_on(server), 1)
        assert made.image.size == (64, 64), frame


# Restarts


def test_a_server_that_restarts_in_mid_run_gets_the_prompt_again(server: FakeServer) -> None:
    set_behaviour(server, die_at=2, step_seconds=0.02, restart_seconds=0.3)
    (made,) = renders(engine_on(server), 1)
    assert made.image.size == (64, 64)
    assert server.count("POST", "/prompt") == 2
    assert len(server.disk.finished) == 1, "no image was made twice"


@pytest.mark.parametrize("is_mute", [False, True])
def test_a_kill_after_the_image_was_saved_makes_no_second_one(server: FakeServer, is_mute: bool) -> None:
    """Whether or not an event told of the file: its name is known."""
    set_behaviour(server, history_lag=0.5, restart_seconds=0.2, is_mute=is_mute)
    engine = engine_on(server)
    found: list[Render] = []
    thread = threading.Thread(target=lambda: found.extend(renders(engine, 1)))
    thread.start()
    while not server.disk.finished:
        time.sleep(0.01)
    server.crash()
    thread.join(10)
    assert found[0].image.size == (64, 64)
    assert len(server.disk.finished) == 1
    assert server.count("POST", "/prompt") == 1


def test_a_server_that_dies_of_every_try_is_reported_with_the_count(server: FakeServer) -> None:
    set_behaviour(server, die_at=1, times=99, restart_seconds=0.05)
    with pytest.raises(ComfyError, match="restarted 3 times") as error:
        renders(engine_on(server), 1)
    assert error.value.code == "SOS-Y027"


def test_a_server_that_stays_away_is_lost(server: FakeServer) -> None:
    set_behaviour(server, die_at=1, restart_seconds=-1)
    with pytest.raises(LostError, match="cannot be reached"):
        renders(engine_on(server, patience=replace(QUICK, gone=0.3)), 1)


@pytest.mark.parametrize("is_old", [False, True])
def test_a_prompt_whose_answer_was_lost_is_not_sent_twice(server: FakeServer, is_old: bool) -> None:
    set_behaviour(server, accepts_then_breaks=1, is_old=is_old)
    (made,) = renders(engine_on(server), 1)
    assert made.image.size == (64, 64)
    assert server.count("POST", "/prompt") == 1
    assert len(server.disk.finished) == 1


def test_a_history_that_was_cleared_does_not_lose_the_image(server: FakeServer) -> None:
    set_behaviour(server, scripted={f"/api/jobs/{'0' * 8}": Scripted(404)})
    link = link_to(server)
    life = server.life
    assert life is not None
    known = type(life.history)
    life.history = type("Forgetful", (known,), {"__setitem__": lambda *_: None})()  # cleared as soon as it is written
    rendered = render(link, Recipes().compiled(plan(1)), lambda _: None)
    assert rendered.image.size == (64, 64)
    assert server.count("POST", "/prompt") == 1


# Others at the same server


def test_closing_early_takes_back_our_prompt_and_leaves_the_others(server: FakeServer) -> None:
    set_behaviour(server, step_seconds=0.05)
    other = link_to(server)
    theirs: list[Any] = []
    thread = threading.Thread(target=lambda: theirs.append(render(other, Recipes().compiled(plan(50)), lambda _: None)))
    engine = engine_on(server, compiler=Recipes(steps=400))
    running = engine.run([plan(1)])
    for event in running:
        if event.what == "generate":  # type: ignore[union-attr]
            break
    thread.start()
    while server.count("POST", "/prompt") < 2:
        time.sleep(0.01)
    started = time.monotonic()
    running.close()
    engine.close()
    assert time.monotonic() - started < 2
    thread.join(10)
    assert theirs[0].image.size == (64, 64)
    assert server.life is not None
    assert [entry["status"]["status_str"] for entry in server.life.history.values()] == ["error", "success"]


@pytest.mark.parametrize("is_old", [False, True])
def test_a_waiting_prompt_is_taken_back_without_stopping_what_runs(server: FakeServer, is_old: bool) -> None:
    """An old server stops whatever runs, whichever id it is told."""
    set_behaviour(server, step_seconds=0.1, is_old=is_old)
    theirs, ours = link_to(server).client, link_to(server).client
    first = theirs.submit(zimage(1, steps=6), "them", "6b1d3c1e-0000-4000-8000-000000000001")
    second = ours.submit(zimage(2), "us", "6b1d3c1e-0000-4000-8000-000000000002")
    ours.remove(second)
    assert ours.job(second).state == "unknown"
    while not (job := theirs.job(first)).is_over:
        time.sleep(0.02)
    assert job.state == "done"
    assert server.count("POST", "/interrupt") == 0


def test_an_image_that_waits_tells_how_many_jobs_come_before_it(server: FakeServer) -> None:
    set_behaviour(server, step_seconds=0.05)
    theirs = link_to(server).client
    for number in (1, 2):
        theirs.submit(zimage(90 + number, steps=40), "them", f"6b1d3c1e-0000-4000-8000-00000000000{number}")
    waits = [event for event in events(engine_on(server), 1) if isinstance(event, Queued)]
    assert waits[0].ahead is None
    told = [event.ahead for event in waits[1:]]
    assert told[0] == 2
    assert told == sorted(told, reverse=True)
    assert 1 in told
    assert [described(event) for event in waits[:2]] == [
        "waiting for the server",
        "waiting for the server, 2 before it",
    ]


def test_a_job_that_waits_for_nobody_asks_for_no_queue(server: FakeServer) -> None:
    waits = [event for event in events(engine_on(server), 1) if isinstance(event, Queued)]
    assert [event.ahead for event in waits] == [None]
    assert server.count("GET", "/queue") == 0


def test_the_place_in_a_queue_goes_by_the_numbers_and_not_by_the_order(server: FakeServer) -> None:
    listed = {"queue_running": [[0, "x", {}, {}, []]], "queue_pending": [[9, "a"], [3, "b"], [5, "us"], ["?"], 7]}
    set_behaviour(server, scripted={"/queue": Scripted(body=json.dumps(listed).encode())})
    assert link_to(server).client.ahead("us") == 2
    assert link_to(server).client.ahead("nobody") is None


@pytest.mark.parametrize("is_old", [False, True])
def test_a_job_that_somebody_stopped_is_reported_as_that(server: FakeServer, is_old: bool) -> None:
    """`/api/jobs` calls it cancelled, `/history` an error."""
    set_behaviour(server, step_seconds=0.05, is_old=is_old)
    engine = engine_on(server, compiler=Recipes(steps=100))

    def read_and_stop() -> None:
        for event in engine.run([plan(1)]):
            if isinstance(event, Progress) and event.what == "generate" and server.life:
                server.life.interrupted = True

    with pytest.raises(ComfyError, match="someone stopped the job") as error:
        read_and_stop()
    assert error.value.code == "SOS-Y026"
    engine.close()


def test_a_job_that_somebody_removed_is_not_sent_again(server: FakeServer) -> None:
    set_behaviour(server, step_seconds=0.05)
    theirs = link_to(server).client
    theirs.submit(zimage(9, steps=30), "them", "6b1d3c1e-0000-4000-8000-000000000003")

    def remove() -> None:
        while server.life is not None and (not server.life.running or not server.life.queue):
            time.sleep(0.01)
        if server.life is not None:
            server.life.queue.clear()

    threading.Thread(target=remove, daemon=True).start()
    with pytest.raises(ComfyError, match="removed the job from the queue"):
        renders(engine_on(server), 1)
    assert server.count("POST", "/prompt") == 2


# Partly valid prompts, and refusals


def test_a_partly_valid_prompt_is_a_failure_though_the_status_is_200(server: FakeServer) -> None:
    link = link_to(server)
    graph = {**zimage(1), "20": node("SaveImage", filename_prefix="x")}
    with pytest.raises(ComfyError, match="SaveImage 20: Required input is missing: images") as error:
        link.client.submit(graph, "me", "6b1d3c1e-0000-4000-8000-000000000004")
    assert error.value.code == "SOS-Y013"
    assert server.count("POST", "/queue") == 1, "what was taken of it is taken out again"


def test_a_graph_in_the_editors_format_is_refused_with_a_500(server: FakeServer) -> None:
    with pytest.raises(ComfyError, match="answered 500 for /prompt") as error:
        link_to(server).client.submit({"nodes": [], "links": []}, "me", "x")  # type: ignore[dict-item]
    assert error.value.code == "SOS-Y017"


# Memory


def test_no_request_names_an_origin_for_which_comfyui_answers_403(server: FakeServer) -> None:
    renders(engine_on(server), 1)
    assert any(path.startswith("/ws") for _, path, _ in server.asked)
    assert all("origin" not in headers for _, _, headers in server.asked)
    set_behaviour(server, scripted={"/prompt": Scripted(403)})
    with pytest.raises(ComfyError, match="answered 403") as error:
        renders(engine_on(server), 2)
    assert error.value.code == "SOS-Y002"


def test_out_of_memory_is_freed_and_tried_once_in_a_smaller_mode(server: FakeServer) -> None:
    set_behaviour(server, raises={"KSampler": OOM})
    recipes = Recipes()
    (made,) = renders(engine_on(server, compiler=recipes), 5)
    assert recipes.smaller == [5]
    assert server.count("POST", "/free") == 1
    assert [(f.code, f.severity) for f in made.findings] == [("SOS-Y023", "warning")]


def test_out_of_memory_in_the_smaller_mode_too_is_reported(server: FakeServer) -> None:
    set_behaviour(server, raises={"KSampler": replace(OOM, times=2)})
    with pytest.raises(OutOfMemoryError, match="a smaller mode tried") as error:
        renders(engine_on(server), 5)
    assert error.value.code == "SOS-Y023"
    assert server.count("POST", "/prompt") == 2


# Silent failures


def test_a_df11_file_is_a_success_to_the_server_and_an_error_to_us(server: FakeServer) -> None:
    server.disk.models[UNET] = "df11"
    (made,) = renders(engine_on(server), 1)
    assert made.image.getextrema() == ((0, 0),) * 3
    for code in ("SOS-Y031", "SOS-Y032", "SOS-Y033"):
        assert has_error(made.findings, code)


@pytest.mark.parametrize("content", ["foreign lora", "half lora"])
def test_a_lora_that_loads_nothing_or_half_is_an_error(server: FakeServer, content: str) -> None:
    (plain,) = renders(engine_on(server), 1)
    server.disk.models[LORA] = content
    (made,) = renders(engine_on(server, compiler=Recipes(lora=True)), 1)
    assert (made.image.tobytes() == plain.image.tobytes()) == (content == "foreign lora")
    assert has_error(made.findings, "SOS-Y030")
    assert "6 of a LoRA's tensors were not loaded" in made.findings[0].message


def test_a_lora_that_loads_is_not_remarked_upon(server: FakeServer) -> None:
    (made,) = renders(engine_on(server, compiler=Recipes(lora=True)), 1)
    assert made.findings == ()


def test_a_lora_that_loaded_nothing_is_remembered_while_it_is_cached(server: FakeServer) -> None:
    """The log tells of it once, when the node runs; the second image is as wrong as the first."""
    server.disk.models[LORA] = "foreign lora"
    first, second = renders(engine_on(server, compiler=Recipes(lora=True)), 1, 2)
    assert codes(first.findings) == codes(second.findings) == ["SOS-Y030"]


def test_what_was_loaded_before_we_came_is_said_to_be_unknown_once(server: FakeServer) -> None:
    renders(engine_on(server, compiler=Recipes(lora=True)), 1)
    second, third = renders(engine_on(server, compiler=Recipes(lora=True)), 2, 3)
    assert codes(second.findings) == ["SOS-Y035"]
    assert "11" in second.findings[0].message
    assert third.findings == ()


def test_a_server_without_a_log_is_named_once(server: FakeServer) -> None:
    set_behaviour(server, shows_log=False)
    first, second = renders(engine_on(server), 1, 2)
    assert codes(first.findings) == ["SOS-Y034"]
    assert second.findings == ()


@pytest.mark.parametrize("content", ["foreign lora", "half lora", ""])
def test_what_was_loaded_in_an_earlier_run_is_remembered_by_a_later_one(server: FakeServer, content: str) -> None:
    """The server still has it loaded, and says nothing of it to the new process either."""
    server.disk.models[LORA] = content
    kept: dict[str, str] = {}
    found = [codes(renders(remembering(server, kept), seed)[0].findings) for seed in (1, 2)]
    assert found == [["SOS-Y030"] if content else []] * 2


def test_what_is_remembered_of_a_server_is_forgotten_when_it_is_made_to_load_anew(server: FakeServer) -> None:
    server.disk.models[LORA] = "foreign lora"
    kept: dict[str, str] = {}
    renders(remembering(server, kept, Recipes(lora=True, stamp="old")), 1)
    server.disk.models[LORA] = ""
    renders(remembering(server, kept, Recipes(stamp="new")), 2)
    # Somebody else has the LoRA loaded, which is mended now.
    renders(remembering(server, {}), 3)
    (made,) = renders(remembering(server, kept, Recipes(lora=True, stamp="new")), 4)
    assert codes(made.findings) == ["SOS-Y035"]


def test_what_is_remembered_in_a_damaged_file_is_nothing(server: FakeServer) -> None:
    kept: dict[str, str] = {}
    renders(remembering(server, kept), 1)
    for damaged in ("{", "[1]", '[{"about": "lora"}]', "5", '[{"about": "lora", "finding": {"x": 1}}]'):
        kept.update(dict.fromkeys(kept, damaged))
        assert renders(remembering(server, kept), 2)[0].findings == (), damaged


def test_what_is_remembered_of_one_server_is_not_said_of_another(server: FakeServer) -> None:
    server.disk.models[LORA] = "foreign lora"
    kept: dict[str, str] = {}
    renders(remembering(server, kept), 1)
    with FakeServer() as other:
        renders(remembering(other, {}), 1)
        (made,) = renders(remembering(other, kept), 2)
    assert codes(made.findings) == ["SOS-Y035"]


def remembering(server: FakeServer, kept: dict[str, str], recipes: Recipes | None = None) -> ComfyEngine:
    supplies = ComfySupplies(recipes or Recipes(lora=True), lambda _: Image.new("RGB", (64, 64)), kept)
    return ComfyEngine(parse_servers(server.url), supplies, patience=QUICK)


def test_a_log_that_no_longer_reaches_back_to_the_beginning_is_told(server: FakeServer) -> None:
    """It keeps 300 lines: a LoRA with more foreign tensors than that, or a pack that writes at every step, fills it."""
    assert server.life is not None
    server.life.write("Starting server\n")
    server.disk.models[LORA] = "foreign lora"
    set_behaviour(server, says={"KSampler": tuple(f"step {number}" for number in range(400))})
    engine = engine_on(server, compiler=Recipes(lora=True))
    (first, second) = renders(engine, 1, 2)
    assert codes(first.findings) == ["SOS-Y034"]
    assert first.findings[0].severity == "warning"
    assert "more than the 300 lines" in first.findings[0].message
    # Nothing was seen of the LoRA, and that is not taken for silence.
    assert codes(second.findings) == ["SOS-Y034", "SOS-Y035"]


def test_the_log_of_a_server_that_was_started_anew_is_whole(server: FakeServer) -> None:
    assert server.life is not None
    server.life.write("Starting server\n")
    set_behaviour(server, die_at=2, step_seconds=0.02, restart_seconds=0.3)
    (made,) = renders(engine_on(server), 1)
    assert made.findings == ()


def test_lines_of_earlier_prompts_are_not_ours(server: FakeServer) -> None:
    assert server.life is not None
    server.life.write("lora key not loaded: transformer.a\nunet missing: ['b']\n")
    (made,) = renders(engine_on(server), 1)
    assert made.findings == ()


@pytest.mark.parametrize(
    ("content", "file", "code", "said"),
    [
        ("truncated", UNET, "SOS-Y020", "incomplete metadata, file not fully covered"),
        ("html", UNET, "SOS-Y020", "header too large"),
        ("other kind", UNET, "SOS-Y021", "Could not detect model type"),
        ("wrong encoder", "qwen_3_4b.safetensors", "SOS-Y022", "normalized_shape"),
    ],
)
def test_a_wrong_file_is_named_by_what_the_node_raised(
    server: FakeServer, content: str, file: str, code: str, said: str
) -> None:
    server.disk.models[file] = content
    with pytest.raises(ComfyError, match=said) as error:
        renders(engine_on(server), 1)
    assert error.value.code == code
    # Only a node that loads is known to fail of its own file.
    assert (f"failed to load {file}: " in error.value.message) == (code != "SOS-Y022")


# Uploads, and programs of several graphs


class WithPicture:
    """A compiler that gives a node an image, and works on what comes back."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.seen: list[Any] = []
        self.threads: set[int] = set()

    def __call__(self, plan: Plan, *, smaller: bool = False) -> GraphProgram:
        load = {"21": node("LoadImage", image="later"), "22": node("SaveImage", images=["21", 0], filename_prefix="x")}
        draft = CompiledGraph(load, "22", (Upload("21", "image", b""),))

        def second(image: Image.Image | None) -> CompiledGraph | StageOutput:
            self.seen.append(image)
            self.threads.add(threading.get_ident())
            return replace(draft, uploads=(Upload("21", "image", self.data),), finish=self.finish)

        first = Recipes().compiled(plan)
        return GraphProgram((Step("generate", first), Step("detail", draft, second)))

    def finish(self, image: Image.Image) -> StageOutput:
        self.threads.add(threading.get_ident())
        return StageOutput(image.resize((32, 32)), (), (("seam", 1.5),))


def test_a_second_graph_is_made_from_the_first_ones_image_in_the_readers_thread(server: FakeServer) -> None:
    compiler = WithPicture(png(Image.new("RGB", (48, 40), "red")))
    (made,) = renders(engine_on(server, compiler=compiler), 1)
    assert compiler.seen[0].size == (64, 64)
    assert made.image.size == (32, 32)
    assert made.measures == (("detail.seam", 1.5),)
    assert compiler.threads == {threading.get_ident()}


def test_the_name_that_the_server_gives_an_upload_is_the_one_that_is_used(server: FakeServer) -> None:
    client = link_to(server).client
    one, other = png(Image.new("RGB", (8, 8), "red")), png(Image.new("RGB", (8, 8), "blue"))
    name = client.upload(one)
    assert client.upload(one) == name
    server.disk.inputs[name] = other
    assert client.upload(one) == name.replace(".png", " (1).png")


def test_an_upload_that_was_cleared_away_is_sent_again(server: FakeServer) -> None:
    compiler = WithPicture(png(Image.new("RGB", (16, 16), "red")))
    engine = engine_on(server, compiler=compiler)
    made: list[Render] = []
    for event in engine.run([plan(1), plan(2)]):
        if isinstance(event, Render):
            made.append(event)
            server.disk.inputs.clear()
    engine.close()
    assert len(made) == 2


def test_an_upload_that_is_too_large_says_which_limit_to_raise(server: FakeServer) -> None:
    set_behaviour(server, max_upload=5000)
    with pytest.raises(ComfyError, match=r"takes no more than 5,000 bytes, and an image has \d") as error:
        renders(engine_on(server, compiler=WithPicture(png(Image.effect_noise((128, 128), 60)))), 1)
    assert (error.value.code, "--max-upload-size" in error.value.hint) == ("SOS-Y018", True)
    assert "answered" not in error.value.message
    assert server.count("POST", "/upload/image") == 0
    set_behaviour(server, scripted={"/features": Scripted(404)})
    with pytest.raises(ComfyError, match="Maximum request body size 5000 exceeded") as error:
        renders(engine_on(server, compiler=WithPicture(png(Image.effect_noise((128, 128), 60)))), 1)
    assert error.value.code == "SOS-Y018"


def test_a_node_that_refuses_an_upload_twice_is_reported(server: FakeServer) -> None:
    with pytest.raises(ComfyError, match="Invalid image file") as error:
        link_to(server).client.submit(
            {"1": node("LoadImage", image="gone.png"), "2": node("SaveImage", images=["1", 0], filename_prefix="x")},
            "me",
            "6b1d3c1e-0000-4000-8000-000000000005",
        )
    assert error.value.code == "SOS-Y015"


def test_a_program_without_steps_or_with_an_error_does_not_run(server: FakeServer) -> None:
    with pytest.raises(EngineError, match="has no stage"):
        renders(engine_on(server, compiler=lambda plan, *, smaller=False: GraphProgram(())), 1)
    assert server.count("POST", "/prompt") == 0


def test_an_old_server_without_jobs_is_asked_for_queue_and_history() -> None:
    with FakeServer(Behaviour(is_old=True, is_mute=True, history_lag=0.1)) as old:
        (made,) = renders(engine_on(old), 1)
        assert made.image.size == (64, 64)
        assert old.count("GET", "/api/jobs/") == 1
        assert old.count("GET", "/history/") >= 1
        set_behaviour(old, raises={"KSampler": Raises("RuntimeError", "it broke")})
        with pytest.raises(ComfyError, match="it broke"):
            renders(engine_on(old), 2)


def test_the_fake_saves_as_a_real_server_does(server: FakeServer) -> None:
    client = link_to(server).client
    for _ in range(2):
        client.submit({**zimage(1), "10": node("SaveImage", images=["9", 0], filename_prefix="a/t")}, "", "")
        time.sleep(0.1)
    assert list(server.disk.outputs) == [("output", "a", "t_00001_.png")], "the second was cached"
    assert client.view(ServerImage("t_00001_.png", "a"))
    assert client.view(ServerImage("t_00002_.png", "a")) is None
