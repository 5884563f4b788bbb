"""Thresholds of users' own workflows: by the references at first, then by impostors that their graphs draw."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from places import DESCRIPTION
from workflow_files import api, node

from sosie.api.calibration import Calibration, CalibrationRequest, calibrate
from sosie.api.characters import new_character
from sosie.api.impostors import SCENES
from sosie.core import Character, Finding
from sosie.core.character import CharacterLora
from sosie.core.errors import NotFoundError, UsageError
from sosie.engines.comfy.fake import Behaviour, FakeServer
from sosie.engines.comfy.workflow import Workflow, drawing_digest, open_workflow
from sosie.files.digest import file_digest
from sosie.graph import Graph
from sosie.graph.read import read_table
from sosie.graph.without_character import apply_changes, candidates, guide_changes, lora_changes, split_settings
from sosie.loop.judge import Judge
from sosie.loop.judging import ImageSource, make_judge
from sosie.workspace.bill import Bill
from sosie.workspace.characters import CharacterFile, load_character
from sosie.workspace.recipes import load_recipe
from sosie.workspace.session import Session
from sosie.workspace.workspace import open_workspace

pytestmark = pytest.mark.once

Json = dict[str, Any]
LORA = "character.safetensors"
ENGINE = "comfy:http://127.0.0.1:8188"


def with_lora(strength: float = 0.9, kind: str = "LoraLoaderModelOnly", **more: Any) -> Json:
    table = api(shift_model=["lora", 0])
    table["lora"] = node(kind, model=["unet", 0], lora_name=LORA, strength_model=strength, **more)
    return table


def guided(**nodes: Json) -> Graph:
    """A graph in which every node of `nodes` lies on the model's way, one behind the other."""
    table = api()
    before = "unet"
    for name, entry in nodes.items():
        table[name] = {**entry, "inputs": {**entry["inputs"], "model": [before, 0]}}
        before = name
    table["shift"]["inputs"]["model"] = [before, 0]
    return read_table(table, "flow.json")


def texts(changes: Sequence[Any]) -> list[str]:
    return [change.text for change in changes]


# --- what is taken out ---


@pytest.mark.parametrize(
    ("entry", "taken"),
    [
        (node("ApplyInstantID", weight=0.8), ["face.weight=0"]),
        (node("ApplyInstantIDAdvanced", ip_weight=0.8, cn_strength=0.6), ["face.ip_weight=0", "face.cn_strength=0"]),
        (node("IPAdapterFaceID", weight=0.85, weight_faceidv2=1.0), ["face.weight=0", "face.weight_faceidv2=0"]),
        (node("ApplyPulidFlux", weight=1.0, start_at=0.0), ["face.weight=0"]),
        (node("ReActorFaceSwap", enabled=True, swap_model="x"), ["face.enabled=false"]),
        (node("TextEncodeZImageOmni", prompt="a", image1=["unet", 0]), ["face.image1=nothing"]),
        (node("ApplyInstantID", weight=0.0), []),
        (node("IPAdapterUnifiedLoaderFaceID", preset="FACEID", lora_strength=0.6), []),
        (node("SomebodysFace", weight=0.8), []),
    ],
)
def test_known_face_guides_are_put_to_nothing(entry: Json, taken: list[str]) -> None:
    changes = guide_changes(guided(face=entry), "save")
    assert texts(changes) == taken
    left = apply_changes(guided(face=entry), changes)
    assert guide_changes(left, "save") == ()


@pytest.mark.parametrize(
    ("loader", "is_face"),
    [
        (node("IPAdapterUnifiedLoaderFaceID", preset="FACEID PLUS V2", lora_strength=0.6), True),
        (node("IPAdapterUnifiedLoader", preset="PLUS FACE (portraits)"), True),
        (node("IPAdapterModelLoader", ipadapter_file="ip-adapter-plus-face_sdxl_vit-h.safetensors"), True),
        (node("IPAdapterUnifiedLoader", preset="STANDARD (medium strength)"), False),
        (node("IPAdapterModelLoader", ipadapter_file="ip-adapter_sdxl.safetensors"), False),
    ],
)
def test_an_adapter_is_a_face_guide_if_its_weights_are_for_faces_else_the_user_is_asked(
    loader: Json, is_face: bool
) -> None:
    graph = guided(loader=loader, adapter=node("IPAdapterAdvanced", weight=0.7, ipadapter=["loader", 1]))
    taken = texts(guide_changes(graph, "save"))
    assert ("adapter.weight=0" in taken) == is_face
    assert ("loader.lora_strength=0" in taken) == ("FACEID" in str(loader))
    assert [(one.id, name) for one, name in candidates(graph, "save")] == [("adapter", "weight")]


def test_a_guide_that_does_not_lead_to_the_result_is_left_alone() -> None:
    table = api() | {"idle": node("ApplyInstantID", model=["unet", 0], weight=0.8)}
    assert guide_changes(read_table(table, "x"), "save") == ()


def test_all_strengths_of_a_characters_lora_go_also_in_nodes_that_are_not_known() -> None:
    mine = "people/mira.safetensors"
    graph = guided(
        plain=node("LoraLoader", lora_name=mine, strength_model=0.8, strength_clip=0.7, clip=["clip", 0]),
        other=node("LoraLoader", lora_name="style.safetensors", strength_model=0.8, strength_clip=0.7),
        odd=node("SomebodysLora", lora_name=mine, strength=0.8, steps=3),
        power=node("Power Lora Loader (rgthree)", lora_1={"on": True, "lora": mine, "strength": 1.0}),
    )
    changes = lora_changes(graph, "save", lambda name: name == mine)
    assert texts(changes) == ["plain.strength_model=0", "plain.strength_clip=0", "odd.strength=0", "power.lora_1=off"]
    left = apply_changes(graph, changes)
    assert left.nodes["power"].inputs["lora_1"]["on"] is False
    assert left.nodes["other"] == graph.nodes["other"]
    assert graph.nodes["plain"].inputs["strength_model"] == 0.8


def test_a_setting_to_nothing_takes_out_and_any_other_belongs_to_the_workflow() -> None:
    graph = guided(
        lora=node("LoraLoader", lora_name=LORA, strength_model=0.8, strength_clip=0.7, clip=["clip", 0]),
        odd=node("SomebodysFace", weight=0.8, enabled=True, steps=3),
    )
    settings = ["lora.strength_model=0", "odd.enabled=false", "odd.steps=0", "draw.steps=30", "prompt=yes.text"]
    kept, changes = split_settings(graph, settings)
    assert kept == ("odd.steps=0", "draw.steps=30", "prompt=yes.text")
    assert texts(changes) == ["lora.strength_model=0", "lora.strength_clip=0", "odd.enabled=false"]
    assert split_settings(graph, ["lora.strength_model=0.5"]) == (("lora.strength_model=0.5",), ())
    with pytest.raises(NotFoundError):
        split_settings(graph, ["lara.strength_model=0"])


# --- what draws ---


def test_what_draws_is_the_graph_without_what_is_set_for_every_image(tmp_path: Path) -> None:
    def digest(table: Json, *settings: str) -> str:
        return drawing_digest(write(tmp_path, table, *settings))

    same = with_lora()
    same["draw"]["inputs"]["seed"], same["yes"]["inputs"]["text"] = 99, "a fox"
    same["save"]["inputs"]["filename_prefix"] = "other"
    same["look"] = node("PreviewImage", images=["decode", 0])
    assert digest(same) == digest(with_lora())
    for setting in ("draw.steps=30", "no.text=rain", "lora.strength_model=0.5"):
        assert digest(with_lora(), setting) != digest(with_lora())


# --- on the fake server ---


@pytest.fixture(scope="module")
def judged_before(tmp_path_factory: pytest.TempPathFactory, references: list[Path]) -> Path:
    """A workspace with the character, whose five references have been looked at."""
    root = tmp_path_factory.mktemp("judged")
    with Session(open_workspace(root)) as session:
        mira = new_character(session, CharacterFile("mira", "fictional", True, DESCRIPTION), references[:5]).character
        make_judge(session, mira, load_recipe(session.workspace, "zimage"), None)
    return root


@pytest.fixture
def workspace(tmp_path: Path, judged_before: Path) -> Path:
    return Path(shutil.copytree(judged_before, tmp_path / "workspace"))


@pytest.fixture
def session(workspace: Path) -> Iterator[Session]:
    with Session(open_workspace(workspace)) as opened:
        yield opened


@contextmanager
def drawing(references: list[Path]) -> Iterator[tuple[FakeServer, list[Json]]]:
    """A server that draws the character if her LoRA acts, else faces that are squeezed; and what it was sent."""
    sent: list[Json] = []

    def picture(graph: Any, _: str) -> Image.Image:
        sent.append(json.loads(json.dumps(graph)))
        image = Image.open(references[graph["draw"]["inputs"]["seed"] % len(references)]).convert("RGB")
        if graph["lora"]["inputs"]["strength_model"]:
            return image
        return image.resize((image.width * 3 // 4, image.height)).resize((256, 352))

    with FakeServer(replace(Behaviour(), picture=picture)) as server:
        yield server, sent


def write(folder: Path, table: Json, *settings: str) -> Workflow:
    path = folder / "flow.json"
    path.write_text(json.dumps(table))
    return open_workflow(path, settings)


def impostors(
    session: Session, who: Character, flow: Workflow, engine: str, n: int = 4
) -> tuple[list[Finding], Calibration]:
    events = list(calibrate(session, CalibrationRequest(who, flow.recipe, n, 0, engine, flow)))
    made = events[-1]
    assert isinstance(made, Calibration)
    return [event for event in events if isinstance(event, Finding)], made


def judged(session: Session, who: Character, flow: Workflow, engine: str = ENGINE) -> tuple[Judge, tuple[Finding, ...]]:
    return make_judge(session, who, flow.recipe, Bill(), ImageSource(engine, flow))


def coded(judged: tuple[Judge, tuple[Finding, ...]], code: str) -> Finding:
    (found,) = (finding for finding in judged[1] if finding.code == code)
    return found


def test_a_workflow_is_judged_by_the_impostors_that_it_drew_until_its_graph_changes(
    session: Session, references: list[Path], tmp_path: Path
) -> None:
    mira = load_character(session.workspace, "mira")
    mira = replace(mira, loras=(CharacterLora(f"loras/{LORA}", "zimage", "0" * 64),))
    flow = write(tmp_path, with_lora(), "draw.steps=9")
    with drawing(references) as (server, sent):
        findings, made = impostors(session, mira, flow, f"comfy:{server.url}")
        before = len(sent)
        impostors(session, mira, flow, f"comfy:{server.url}")
    assert len(sent) == before == 4
    assert made.n + made.without_face == 4
    assert made.path.parent.name == "workflows"
    assert [graph["lora"]["inputs"]["strength_model"] for graph in sent] == [0] * 4
    described = f"portrait of {mira.prompt_description}, "
    assert [graph["yes"]["inputs"]["text"] for graph in sent] == [described + scene for scene in SCENES[:4]]
    assert len({graph["draw"]["inputs"]["seed"] for graph in sent}) == 4
    assert {graph["draw"]["inputs"]["steps"] for graph in sent} == {9}
    (told,) = (finding for finding in findings if finding.code == "SOS-J006")
    assert (told.severity, "lora.strength_model=0 (LoraLoaderModelOnly character" in told.message) == ("info", True)

    found = judged(session, mira, flow)
    assert [finding.code for finding in found[1]] == []
    assert found[0].gate.joint is not None
    assert found[0].gate.joint.cohort == "mira/flow.json"
    again = with_lora()
    again["draw"]["inputs"]["seed"] = 5
    assert judged(session, mira, write(tmp_path, again, "draw.steps=9"))[0].gate.joint == found[0].gate.joint
    for other in (write(tmp_path, with_lora()), write(tmp_path, with_lora(), "draw.steps=10")):
        stale = coded(judged(session, mira, other), "SOS-J003")
        assert "the graph of flow.json" in stale.message
        assert "the references are used" in stale.message
    assert "--set draw.steps=10" in stale.hint
    changed = replace(mira, description="an old man")
    assert "description" in coded(judged(session, changed, flow), "SOS-J003").message


def test_a_setting_takes_the_character_out_and_generate_needs_it_not(
    session: Session, references: list[Path], tmp_path: Path
) -> None:
    mira = load_character(session.workspace, "mira")
    with drawing(references) as (server, sent):
        engine = f"comfy:{server.url}"
        with pytest.raises(UsageError) as caught:
            impostors(session, mira, write(tmp_path, with_lora()), engine)
        assert sent == []
        assert "lora.strength_model (LoraLoaderModelOnly character.safetensors)" in caught.value.message
        path = tmp_path / "flow.json"
        command = f"sosie calibrate mira --workflow {path} --set lora.strength_model=0 --engine {engine}"
        assert caught.value.hint == command
        impostors(session, mira, write(tmp_path, with_lora(), "lora.strength_model=0"), engine)
    flow = write(tmp_path, with_lora())
    assert judged(session, mira, flow)[0].gate.joint is not None
    assert judged(session, mira, write(tmp_path, with_lora(0.5)))[0].gate.joint is not None
    stale = coded(judged(session, mira, write(tmp_path, with_lora(), "draw.cfg=5"), engine), "SOS-J003")
    assert stale.hint == command.replace("--set", "--set draw.cfg=5 --set")


def test_a_renamed_lora_is_known_by_its_content_and_a_graph_without_a_character_says_so(
    session: Session, references: list[Path], tmp_path: Path
) -> None:
    models = session.workspace.models / "loras"
    models.mkdir(parents=True)
    (models / LORA).write_bytes(b"weights")
    own = CharacterLora("loras/other.safetensors", "zimage", file_digest(models / LORA))
    mira = replace(load_character(session.workspace, "mira"), loras=(own,))
    with drawing(references) as (server, sent):
        impostors(session, mira, write(tmp_path, with_lora()), f"comfy:{server.url}", 2)
        assert [graph["lora"]["inputs"]["strength_model"] for graph in sent] == [0, 0]
        with pytest.raises(UsageError, match="no node looks as if"):
            impostors(session, mira, write(tmp_path, api()), f"comfy:{server.url}")


def test_where_the_prompt_is_not_clear_only_the_seed_changes(
    session: Session, references: list[Path], tmp_path: Path
) -> None:
    table = with_lora()
    table["more"] = node("CLIPTextEncode", text="detailed", clip=["clip", 0])
    table["both"] = node("ConditioningCombine", conditioning_1=["yes", 0], conditioning_2=["more", 0])
    table["draw"]["inputs"]["positive"] = ["both", 0]
    mira = load_character(session.workspace, "mira")
    flow = write(tmp_path, table, "lora.strength_model=0")
    with drawing(references) as (server, sent):
        findings, _ = impostors(session, mira, flow, f"comfy:{server.url}", 2)
    assert [graph["yes"]["inputs"]["text"] for graph in sent] == ["a lighthouse"] * 2
    assert len({graph["draw"]["inputs"]["seed"] for graph in sent}) == 2
    assert "only the seed changes" in findings[0].message


# --- thresholds from the references ---


def test_without_a_cohort_the_least_alike_reference_sets_the_threshold_and_no_rate_is_told(
    session: Session, tmp_path: Path
) -> None:
    mira = load_character(session.workspace, "mira")
    flow = write(tmp_path, with_lora(), "draw.steps=9")
    judge, _ = bench = judged(session, mira, flow)
    told = coded(bench, "SOS-J005")
    path = tmp_path / "flow.json"
    assert told.severity == "warning"
    assert told.hint == f"sosie calibrate mira --workflow {path} --set draw.steps=9 --engine {ENGINE}"
    for each in judge.gate.judges:
        assert each.basis == "5 references, each against the others"
        assert each.rate is None
        assert (
            f"{each.encoder.name} at {'least' if each.higher_is_better else 'most'} {each.threshold:.4f}"
            in told.message
        )
    assert (judge.gate.joint, judge.gate.others) == (None, None)
    card, _ = judge(Image.open(next(iter(session.reference_paths(mira).values()))))
    assert {score.passed for score in card.of("identity")} == {True}
    assert {(one.rate, one.joint) for score in card.of("identity") if (one := score.evidence)} == {(None, None)}


def test_hints_of_recipes_name_the_engine_only_if_it_is_not_the_default(session: Session) -> None:
    mira, recipe = load_character(session.workspace, "mira"), load_recipe(session.workspace, "zimage")
    command = "sosie calibrate mira --recipe zimage"
    assert (
        coded(make_judge(session, mira, recipe, Bill(), ImageSource(ENGINE)), "SOS-J005").hint
        == f"{command} --engine {ENGINE}"
    )
    assert coded(make_judge(session, mira, recipe, None), "SOS-J005").hint == command


def test_three_references_set_no_threshold(session: Session, references: list[Path], tmp_path: Path) -> None:
    few = new_character(session, CharacterFile("few", "fictional", True, "a woman"), references[:3]).character
    judge, findings = judged(session, few, write(tmp_path, with_lora()))
    missing = [finding for finding in findings if finding.code == "SOS-J002"]
    assert [finding.severity for finding in missing] == ["error"] * len(judge.gate.judges)
    assert "3 can be compared" in missing[0].message
    assert missing[0].hint.endswith(f"--engine {ENGINE}")
    assert judge.gate.unrated == ()


def test_a_first_run_of_a_workflow_delivers_and_says_everywhere_that_strangers_are_unknown(
    sosie: Callable[..., Any], workspace: Path, references: list[Path], tmp_path: Path
) -> None:
    write(tmp_path, with_lora())
    at = ("--workspace", workspace)
    flow = ("--workflow", tmp_path / "flow.json")
    out = tmp_path / "o"
    with drawing(references) as (server, _):
        engine = ("--engine", f"comfy:{server.url}")
        first = sosie("generate", "mira", *flow, *engine, "--out", out, "--no-provenance", "--json", *at)
        assert first.code == 0, first.err
        assert "warning SOS-J005" in first.err
        judge = json.loads(first.out.splitlines()[0])["scores"]["identity"][0]
        assert (judge["fmr"], judge["cohort"], judge["joint"]) == (None, None, None)
        assert judge["threshold_from"] == "5 references, each against the others"
        assert "thresholds from 5 references, each against the others" in first.err
        page = (out / "index.html").read_text()
        assert "how many strangers would pass is unknown" in page
        assert page.count(">unknown</tr>") >= 2
        made = sosie("calibrate", "mira", *flow, "--set", "lora.strength_model=0", *engine, "-n", 20, "--json", *at)
        assert made.code == 0, made.err
        assert "SOS-J006: taken out of flow.json: lora.strength_model=0" in made.err
        second = sosie("generate", "mira", *flow, *engine, "--out", out, "--json", *at)
    assert "SOS-J" not in second.err
    judge = json.loads(second.out.splitlines()[0])["scores"]["identity"][0]
    assert (judge["cohort"], judge["threshold_from"]) == ("mira/flow.json", "mira/flow.json")
    assert judge["n"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "a.b=0"], "none was given"),
        (["--workflow", "x.json", "--recipe", "zimage", "--engine", ENGINE], "take the place of each other"),
        (["--workflow", "x.json"], "runs no ComfyUI workflows"),
        (["--workflow", "x.json", "--engine", ENGINE], "does not exist"),
    ],
)
def test_calibrate_refuses_what_cannot_be(
    sosie: Callable[..., Any], workspace: Path, arguments: list[str], message: str
) -> None:
    result = sosie("calibrate", "mira", *arguments, "--workspace", workspace)
    assert result.code == 2
    assert message in result.err
