"""`sosie comfy record`: what a bug report needs, and no secret that was planted anywhere."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from comfy_bench import engine_on, renders
from hypothesis import given, settings
from hypothesis import strategies as st

from sosie.engines.comfy.errors import ComfyError
from sosie.engines.comfy.fake import Behaviour, FakeServer, Scripted
from sosie.engines.comfy.recording import record
from sosie.engines.comfy.redact import Redaction, redact, redact_text, users_in
from sosie.engines.comfy.server import parse_servers
from sosie.files.json_bounds import DEEPEST

pytestmark = pytest.mark.once

Sosie = Callable[..., Any]

SECRETS = (
    "hf_QwErTyUiOpAsDfGhJkLz1234567890",
    "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",
    "comfyui-0a1b2c3d4e5f60718293a4b5",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "9f86d081884c7d659a2feaa0c55ad015",
    "hunter2hunter2",
    "pa55-word!",
    "annabelle",
    "203.0.113.77",
    "2001:db8::dead:beef",
    "anna@pod-77.example.org",
    "a walled garden at dusk",
    "the quiet lighthouse keeper",
    "elena_at_home_00001_.png",
)
PROMPT, OTHER_PROMPT = SECRETS[-3], SECRETS[-2]


def graph(text: str) -> dict[str, Any]:
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sdxl.safetensors"}},
        "2": {
            "class_type": "CLIPTextEncode",
            "inputs": {"clip": ["1", 1], "text": text},
            "_meta": {"title": OTHER_PROMPT},
        },
        "3": {"class_type": "KSampler", "inputs": {"model": ["1", 0], "seed": 7, "sampler_name": "euler"}},
        "4": {"class_type": "CivitAI_Loader", "inputs": {"api_key": "pa55-word!", "model": "x"}},
        "5": {"class_type": "LoadImage", "inputs": {"image": "elena_at_home_00001_.png"}},
    }


def scripted() -> dict[str, Scripted]:
    item = [1, "6a1ffb93-1b3c-4e2f-9ae1-1f2f3a4b5c6d", graph(PROMPT), {"auth_token_comfy_org": SECRETS[3]}, ["9"]]
    failed = {
        "node_id": "2",
        "node_type": "CLIPTextEncode",
        "exception_type": "RuntimeError",
        "exception_message": f"cannot encode '{PROMPT}'\nin /home/annabelle/ComfyUI/models",
        "traceback": ['  File "/home/annabelle/ComfyUI/execution.py", line 545, in execute\n', f"token={SECRETS[4]}\n"],
        "current_inputs": {"text": [OTHER_PROMPT]},
    }
    job = {
        "prompt": item,
        "outputs": {
            "9": {"images": [{"filename": SECRETS[-1], "subfolder": "annabelle", "type": "output"}], "text": [PROMPT]}
        },
        "status": {"status_str": "error", "completed": False, "messages": [["execution_error", failed]]},
        "meta": {"9": {"x": PROMPT}},
    }
    log = [
        "\x1b[32mStarting server on http://203.0.113.77:8188 and [2001:db8::dead:beef]:8188, http://127.0.0.1:8188\n",
        f"Authorization: Bearer {SECRETS[0]}\n",
        f"GET https://civitai.com/api/download/1?token={SECRETS[4]}&x=1\n",
        "Cloning https://annabelle:hunter2hunter2@git.example.org/x.git\n",
        "sudo: annabelle : TTY=pts/0 ; anna@pod-77.example.org logged in\n",
        "login with 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 done\n",
        r"Loading C:\Users\annabelle\ComfyUI\models\loras\x.safetensors" + "\n",
        f"HF_TOKEN={SECRETS[0]} COMFY_API_KEY: {SECRETS[2]} password 'pa55-word!'\n",
        f"prompt: {OTHER_PROMPT}, masterpiece\n",
        "lora key not loaded: lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_k.alpha\n",
        "unet missing: ['layers.0.attention.qkv.weight']\n",
    ]
    stats = {
        "system": {
            "os": "posix",
            "comfyui_version": "0.33.0",
            "pytorch_version": "2.14.1+cu130",
            "argv": ["/home/annabelle/main.py", "--api-key", "hunter2hunter2", "--listen", "203.0.113.77", "--cpu"],
        },
        "devices": [{"name": "cuda:0 NVIDIA GeForce RTX 3090", "vram_total": 25_000_000_000}],
    }
    parts = {
        "/system_stats": stats,
        "/queue": {"queue_running": [item], "queue_pending": [item]},
        "/history": {"6a1ffb93-1b3c-4e2f-9ae1-1f2f3a4b5c6d": job},
        "/internal/logs/raw": {"entries": [{"t": "2026", "m": line} for line in log]},
        "/features": {
            "max_upload_size": 104857600,
            "extension": {"x": {"session": SECRETS[4], "auth": {"a": SECRETS[5]}}},
        },
    }
    return {path: Scripted(body=json.dumps(part).encode()) for path, part in parts.items()}


def text_of(recording: dict[str, Any]) -> str:
    return json.dumps(recording, ensure_ascii=False)


def recorded(**options: Any) -> dict[str, Any]:
    with FakeServer(Behaviour(scripted=scripted())) as server:
        return record(parse_servers(server.url)[0], **options)


def test_no_planted_secret_is_in_a_recording() -> None:
    text = text_of(recorded()).lower()
    assert [secret for secret in SECRETS if secret.lower() in text] == []
    assert "garden" not in text
    assert "lighthouse" not in text


def test_what_a_bug_report_needs_is_in_a_recording() -> None:
    recording = recorded()
    text = text_of(recording)
    for needed in (
        "0.33.0",
        "2.14.1+cu130",
        "NVIDIA GeForce RTX 3090",
        "http://127.0.0.1:8188",
        "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_k.alpha",
        "unet missing: ['layers.0.attention.qkv.weight']",
        "cannot encode '[text]'",
        "execution.py",
        "sdxl.safetensors",
        "6a1ffb93-1b3c-4e2f-9ae1-1f2f3a4b5c6d",
    ):
        assert needed in text, needed
    job = recording["history"]["6a1ffb93-1b3c-4e2f-9ae1-1f2f3a4b5c6d"]
    assert job["graph"]["3"]["inputs"] == {"model": ["1", 0], "seed": 7, "sampler_name": "euler"}
    assert job["graph"]["2"]["inputs"] == {"clip": ["1", 1], "text": f"[text of {len(PROMPT)} letters]"}
    assert job["outputs"]["9"]["images"] == [{"filename": "[name].png", "subfolder": "[folder]", "type": "output"}]
    assert recording["object_info"]["KSampler"]["input"]["required"]["sampler_name"]
    assert recording["features"]["max_upload_size"] == 104857600
    assert recording["failed"] == {}


def test_prompts_are_in_a_recording_when_they_are_asked_for_and_secrets_are_not() -> None:
    text = text_of(recorded(with_prompts=True))
    assert PROMPT in text
    assert OTHER_PROMPT in text
    prompts = {PROMPT, OTHER_PROMPT, SECRETS[-1]}
    assert [secret for secret in SECRETS if secret not in prompts and secret.lower() in text.lower()] == []


def test_secrets_of_this_machine_are_removed_wherever_a_server_says_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOSIE_COMFY_TOKEN", "plainwordtoken")
    monkeypatch.setenv("MY_PASSWORD", "plainpassword")
    monkeypatch.setenv("USER", "berthe")
    log = {"entries": [{"t": "1", "m": "plainwordtoken and plainPassword of Berthe, not of bertheville"}]}
    with FakeServer(Behaviour(scripted={"/internal/logs/raw": Scripted(body=json.dumps(log).encode())})) as server:
        (line,) = record(parse_servers(server.url, "plainwordtoken")[0])["log"]
    assert line == "[removed] and [removed] of [user], not of bertheville"


def test_a_real_run_is_recorded_with_its_graph() -> None:
    with FakeServer() as server:
        renders(engine_on(server), 5)
        recording = record(parse_servers(server.url)[0])
    (job,) = recording["history"].values()
    assert job["status"] == "success"
    assert job["graph"]["8"]["inputs"]["seed"] == 5
    assert "a woman" not in text_of(recording)


def test_the_names_of_the_users_own_pictures_are_counted_and_not_told() -> None:
    with FakeServer() as server:
        server.disk.inputs["elena_at_home.png"] = b"x"
        recording = record(parse_servers(server.url)[0])
    assert recording["object_info"]["LoadImage"]["input"]["required"]["image"] == ["[1 files]"]
    assert "elena" not in text_of(recording)


def test_a_broken_server_is_recorded_as_far_as_it_answers() -> None:
    broken = {"/object_info": Scripted(500, b"boom"), "/history": Scripted(body=b"<html>"), "/features": Scripted(404)}
    with FakeServer(Behaviour(scripted=broken)) as server:
        recording = record(parse_servers(server.url)[0])
    assert set(recording["failed"]) == {"/object_info", "/history", "/features"}
    assert recording["system_stats"]["system"]["comfyui_version"] == "0.33.0"
    assert recording["object_info"] == {}


def test_nonsense_of_every_shape_is_recorded_without_a_crash() -> None:
    deep: Any = "x"
    for _ in range(DEEPEST):
        deep = [deep]
    for value in (None, 5, "text", [], {}, deep, {"queue_running": 7}, {"a": {"prompt": 3}}, [[[]]]):
        body = json.dumps(value).encode()
        paths = ("/system_stats", "/features", "/object_info", "/queue", "/history", "/internal/logs/raw")
        with FakeServer(Behaviour(scripted={path: Scripted(body=body) for path in paths})) as server:
            json.dumps(record(parse_servers(server.url)[0]))


def test_a_server_whose_every_answer_is_nested_too_deep_is_an_error() -> None:
    body = b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1)
    paths = ("/system_stats", "/features", "/object_info", "/queue", "/history", "/internal/logs/raw")
    with (
        FakeServer(Behaviour(scripted={path: Scripted(body=body) for path in paths})) as server,
        pytest.raises(ComfyError, match="JSON for /system_stats that is not read: it is nested 101 deep"),
    ):
        record(parse_servers(server.url)[0])


def test_a_server_that_is_not_there_is_an_error() -> None:
    with FakeServer() as server:
        address = parse_servers(server.url)[0]
    with pytest.raises(ComfyError, match="cannot be reached"):
        record(address)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(
        [
            "token={}",
            "x --token {} y",
            "Authorization: Bearer {}",
            '{{"api_key": "{}"}}',
            "https://h/x?sig={}",
            "https://u:{}@h/x",
            "X-Api-Key: {}",
            "PASSWORD='{}'",
            "'auth_token': '{}'",
        ]
    ),
    st.text("abcdefghijABCDEFGHIJ0123456789._~+-", min_size=6, max_size=60).filter(lambda text: text[0].isalnum()),
)
def test_whatever_stands_where_secrets_stand_is_removed(place: str, secret: str) -> None:
    assert secret not in redact_text(f"before {place.format(secret)} after", Redaction())


def test_what_is_called_a_secret_goes_whole_whatever_it_holds() -> None:
    value = {"auth_token": ["a", {"b": "plain"}], "x": ["--password", "plain", "--port", "8188"], "Cookie": "plain"}
    assert redact(value, Redaction()) == {
        "auth_token": "[removed]",
        "x": ["--password", "[removed]", "--port", "8188"],
        "Cookie": "[removed]",
    }


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:8188",
        "listening on 0.0.0.0 and [::1]:8188",
        "12:30:45 step 3/25",
        "torch 2.14.1+cu130, driver 570.86.10",
        "diffusion_model.layers.0.attention.to_q.lora_A.weight",
        "value not in list: unet_name: 'z_image_bf16.safetensors' not in []",
        "/workspace/ComfyUI/models/loras/character.safetensors",
        "IPAdapterUnifiedLoaderFaceID",
        "comfyui-workflow-templates, comfyui-frontend-package",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact_text(text, Redaction()) == text


def test_users_are_known_by_their_home_folders() -> None:
    text = r"/home/anna/x, /Users/Bob.B/y, C:\Users\Carl\z, /mnt/c/Users/dora/q, /home/ubuntu/x"
    assert sorted(users_in({"a": [text]})) == ["Bob.B", "Carl", "anna", "dora"]
    assert redact_text("/home/anna/ComfyUI/x.py", Redaction()) == "~/ComfyUI/x.py"


def test_long_hostile_texts_take_no_long_time() -> None:
    started = time.thread_time()
    for text in (
        "a" * 24_000,
        "1." * 12_000,
        "a:" * 12_000,
        "token" * 5_000,
        "/home/" * 4_000,
        "aA1" * 8_000,
        "x@" * 12_000,
    ):
        redact_text(text, Redaction())
    assert time.thread_time() - started < 5


def test_the_command_writes_a_file_and_never_over_one(sosie: Sosie, tmp_path: Path) -> None:
    out = tmp_path / "recording.json"
    with FakeServer(Behaviour(scripted=scripted())) as server:
        result = sosie("comfy", "record", server.url, "--out", out, "--workspace", tmp_path)
        assert (result.code, result.out.strip()) == (0, str(out))
        assert json.loads(out.read_text())["system_stats"]["system"]["comfyui_version"] == "0.33.0"
        again = sosie("comfy", "record", server.url, "--out", out, "--workspace", tmp_path)
        assert again.code == 2
        assert "exists already" in again.err
        shown = sosie("comfy", "record", server.url, "--json", "--workspace", tmp_path)
    assert json.loads(shown.out)["with_prompts"] is False
    assert [secret for secret in SECRETS if secret.lower() in (shown.out + shown.err).lower()] == []


def test_the_command_refuses_an_address_that_is_none(sosie: Sosie, tmp_path: Path) -> None:
    for wrong in ("ftp://x", "http://a:b@127.0.0.1:1", "comfy+ssh://root@far,comfy+ssh://root@far"):
        result = sosie("comfy", "record", wrong, "--workspace", tmp_path)
        assert result.code == 2
        assert "a:b" not in result.err
