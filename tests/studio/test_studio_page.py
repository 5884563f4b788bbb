"""The page in a real browser: what a creator does in a day, on a screen and on a phone."""

from __future__ import annotations

import base64
import http.client
import io
import json
import shutil
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, NEEDS_CHROMIUM, PATIENCE, QUIET

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'sosie[studio]'")
pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install 'sosie[studio]'")

import uvicorn
from PIL.PngImagePlugin import PngInfo
from places import EXAMPLES
from renders import CARD, KEEP, a_render, picture

from sosie.api.character_files import export_character
from sosie.api.jobs.queue import add_job, list_jobs, open_jobs
from sosie.api.resident import stop_worker
from sosie.servers.pages.serving import Listening
from sosie.store import Store
from sosie.store.gallery import Gallery
from sosie.studio.server import serve_studio
from sosie.workspace.workspace import Workspace, open_workspace

pytestmark = [pytest.mark.once, pytest.mark.browser, NEEDS_CHROMIUM]


@pytest.fixture(scope="module")
def opened(_made: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Thirty judged images, a training set of one, and a job whose process has died; tests add to it."""
    root = tmp_path_factory.mktemp("page") / "workspace"
    shutil.copytree(_made, root)
    with Store.open(root / ".sosie") as store:
        for seed in range(30):
            one = store.add_render(a_render(seed, prompt=f"prompt {seed}"))
            store.add_scorecard(one.id, "gate", CARD, KEEP)
    (root / "characters/mira/dataset").mkdir()
    picture(1).save(root / "characters/mira/dataset/one.png")
    opened = open_workspace(root)
    job = add_job(opened, "generate", {"character": "mira", "prompt": "left behind", "engine": "fake", "n": 1})
    with open_jobs(opened) as jobs, jobs.working(job.id):
        pass
    return opened


@pytest.fixture(scope="module")
def address(opened: Workspace) -> Iterator[str]:
    """The address of a studio that is served by a thread, jobs and all."""
    servers: list[Any] = []
    build = uvicorn.Server

    def kept(config: Any) -> Any:
        servers.append(build(config))
        return servers[0]

    shown: list[str] = []
    ready = threading.Event()

    def show(text: str) -> None:
        shown.append(text)
        ready.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uvicorn, "Server", kept)
        thread = threading.Thread(target=serve_studio, args=(opened, Listening(), show))
        thread.start()
        assert ready.wait(120)
    yield shown[0]
    servers[0].should_exit = True
    thread.join(60)
    stop_worker(opened)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def browser(address: str) -> Iterator[Any]:
    """Chromium, which ends before the studio does: a studio waits for its open tabs."""
    assert address
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET, timeout=PATIENCE)
        api.expect.set_options(timeout=PATIENCE)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A page that remembers nothing, open on the studio; what its scripts complain of fails the test."""
    said: list[str] = []
    context = browser.new_context(viewport={"width": 1600, "height": 1000}, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("requestfailed", lambda one: said.append(one.url) if not one.url.startswith(page.url[:20]) else None)
    page.goto(address)
    yield page
    context.close()
    assert said == []


def images(workspace: Workspace) -> int:
    """How many images the store has."""
    from sosie.store.gallery import Query

    with Gallery(workspace.state) as gallery:
        return gallery.count(Query())


def opinions(workspace: Workspace) -> list[tuple[str, int | None]]:
    from sosie.store.gallery import Query

    with Gallery(workspace.state) as gallery:
        rows = gallery.window(Query())
    return [(row.opinion.verdict, row.opinion.stars) for row in rows if row.opinion.verdict or row.opinion.stars]


HOLD = """() => {
    const send = window.fetch;
    window.sent = [];
    window.fetch = (...asked) => new Promise((go) => {
        const release = () => go(send(...asked));
        if (!String(asked[0]).endsWith("/api/opinions")) release();
        else if (window.sent.push(release) > 1) release();
    });
}"""
"""The next opinion is not sent until it is released."""


def test_a_creator_reviews_by_keys_compares_and_finds_the_place_again(page: Any, opened: Workspace) -> None:
    from playwright.sync_api import expect

    page.get_by_role("link", name="Review").click()
    assert "#/review" in page.url
    assert "secret" not in page.url
    n = images(opened)
    expect(page.locator(f"[data-total='{n}']")).to_be_visible()
    cells = page.locator(".grid .cell[data-sha256]")
    expect(cells.first).to_be_visible()
    grid = page.get_by_role("grid")
    assert grid.get_attribute("aria-rowcount") is not None
    grid.focus()
    for key in ("k", "x"):  # the first is kept, the second rejected
        page.keyboard.press(key)
    expect(page.locator("#cell-1 .tag.bad")).to_have_text("✗ you")
    page.evaluate(HOLD)
    page.keyboard.press("4")
    expect(page.locator("#cell-2 .tag.warn")).to_have_text("★★★★")
    page.keyboard.press("u")
    expect(page.locator("#cell-2 .tag.warn")).to_have_count(0)
    assert page.evaluate("sent.length") == 1  # an undo never overtakes what it undoes
    page.evaluate("sent[0]()")
    expect(page.get_by_text("Undone")).to_be_visible()
    page.keyboard.press("Shift+ArrowRight")
    expect(page.get_by_text("2 selected")).to_be_visible()
    page.keyboard.press("c")
    dialog = page.get_by_role("dialog", name="Compare")
    expect(dialog.locator(".many img")).to_have_count(2)
    dialog.get_by_role("button", name="Slider").click()
    dialog.get_by_role("slider").fill("20")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(grid).to_be_focused()
    page.keyboard.press("Enter")
    large = page.get_by_role("dialog", name="Image of mira")
    expect(large.get_by_text("not installed")).to_be_visible()  # a dash with its reason
    page.keyboard.press("Escape")
    page.keyboard.press("End")
    expect(page.locator(f"#cell-{n - 1}.at")).to_be_visible()
    page.reload()
    expect(page.locator(f"#cell-{n - 1}.at")).to_be_visible()
    assert opinions(opened) == [("keep", None), ("reject", None)]


def test_images_arrive_with_verdicts_and_a_job_that_was_left_behind_is_continued(page: Any, opened: Workspace) -> None:
    from playwright.sync_api import expect

    bar = page.get_by_role("region", name="Queue")
    left = bar.locator(".job[data-state=stopped]")
    expect(left).to_contain_text("left behind")
    expect(bar).to_contain_text("1 job runs, waits or was stopped")
    left.get_by_role("button", name="Continue").click()
    expect(left).to_have_count(0)
    page.get_by_role("link", name="Generate").click()
    page.get_by_label("What the character does").fill("<img src=x onerror=alert(1)> smiling")
    page.get_by_label("Images", exact=True).fill("2")
    page.get_by_text("More settings").click()
    page.get_by_label("Engine").fill("fake")
    page.get_by_label("Seed").fill("7")
    page.get_by_role("button", name="Generate Ctrl+↵").click()
    expect(page.locator(".results .tag.good").nth(1)).to_be_visible()
    bar.get_by_role("button", name="All jobs").click()
    expect(bar.locator(".job").nth(1)).to_be_visible()
    expect(bar.locator(".job:not([data-state=done])")).to_have_count(0)
    assert {job.state for job in list_jobs(opened)} == {"done"}
    page.reload()
    expect(page.locator(".results .tag.good").nth(1)).to_be_visible()
    page.locator(".results .cell[aria-label]").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Edit and run").click()
    expect(page.get_by_label("What the character does")).to_have_value("<img src=x onerror=alert(1)> smiling")


DROP = """([name, data]) => {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const dropped = new DataTransfer();
    dropped.items.add(new File([bytes], name, { type: "image/png" }));
    document.querySelector("main").dispatchEvent(new DragEvent("drop", { dataTransfer: dropped, bubbles: true }));
}"""


def test_a_picture_of_another_program_is_dropped_anywhere_and_its_settings_come_back(page: Any) -> None:
    from playwright.sync_api import expect

    info, buffer = PngInfo(), io.BytesIO()
    settings = "Steps: 12, Sampler: Euler a, CFG scale: 2,5, Seed: 5, Size: 256x256, Model: <b>dreamy"
    info.add_text("parameters", f"in the rain\nNegative prompt: blurred\n{settings}")
    picture(99).save(buffer, "PNG", pnginfo=info)
    page.get_by_role("link", name="Review").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Review")
    expect(page.get_by_role("grid")).to_be_visible()  # the page is let in, and listens
    page.evaluate(DROP, ["old.png", base64.b64encode(buffer.getvalue()).decode()])
    restored = page.get_by_role("region", name="The settings of old.png are back")
    expect(restored).to_contain_text("Model: <b>dreamy")
    expect(page.get_by_label("What the character does")).to_have_value("in the rain")
    page.get_by_text("More settings").click()
    for label, value in (("Steps", "12"), ("Sampler", "Euler a"), ("Seed", "5"), ("Size", "256x256")):
        expect(page.get_by_label(label, exact=True)).to_have_value(value)


def test_what_is_drawn_is_seen_before_it_is_done(page: Any, opened: Workspace) -> None:
    from playwright.sync_api import expect

    page.get_by_role("link", name="Generate").click()
    page.get_by_label("Images", exact=True).fill("3")
    job = add_job(opened, "generate", {"character": "mira", "engine": "fake", "n": 1})
    with open_jobs(opened) as jobs:
        small = io.BytesIO()
        picture(4).save(small, "JPEG")
        page.evaluate("(job) => localStorage.setItem('watched', JSON.stringify({ job }))", job.id)
        page.reload()
        expect(page.get_by_text("The recipe's own prompt")).to_be_visible()
        page.get_by_role("button", name="All jobs").click()
        expect(page.locator(f"[data-job='{job.id}'][data-state=done]")).to_be_visible()  # its end forgets pictures
        jobs.preview(job.id, base64.b64encode(small.getvalue()).decode())
        jobs.tell(job.id, "note", {"text": "more"})
    expect(page.get_by_role("img", name="The image that is being drawn")).to_be_visible()


RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
CONTRAST = ["color-contrast"]
"""What another theme changes; the rest of a page is the same in both."""


@pytest.mark.parametrize("width", [1600, 390])
def test_axe_finds_nothing_on_any_screen_light_or_dark(page: Any, width: int) -> None:
    from playwright.sync_api import expect

    axe = pytest.importorskip("axe_playwright_python.base", reason="axe is not here: pip install axe-playwright-python")
    found: list[tuple[str, str, str, str]] = []

    def look(where: str) -> None:
        for scheme, rules in (("light", RULES), ("dark", CONTRAST)):
            page.emulate_media(color_scheme=scheme)
            asked = {"runOnly": rules, "resultTypes": ["violations"]}
            broken = page.evaluate("(asked) => axe.run(document, asked)", asked)["violations"]
            found.extend((where, scheme, one["id"], one["nodes"][0]["html"][:200]) for one in broken)

    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate(axe.AXE_SCRIPT)
    for screen in (
        "characters",
        "characters/mira",
        "characters/new",
        "generate",
        "experiments",
        "experiments/new",
        "training",
        "doctor",
        "machines",
    ):
        page.evaluate(f"location.hash = '#/{screen}'")
        expect(page.locator("main h1")).to_be_visible()
        expect(page.locator("main h1")).not_to_have_text("Sosie")  # which stands above the word that a key is missing
        expect(page.get_by_text("Loading")).to_have_count(0)
        look(screen)
    page.evaluate("location.hash = '#/review'")
    expect(page.locator(".cell[data-sha256]").first).to_be_visible()
    look("review")
    page.get_by_role("grid").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_text("Everything that made it")).to_be_visible()
    look("viewer")
    page.keyboard.press("Escape")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("c")
    expect(page.get_by_role("dialog", name="Compare").locator(".many img")).to_have_count(2)
    look("compare")
    assert found == []


def test_who_goes_to_another_screen_while_the_page_loads_is_let_in(page: Any, address: str) -> None:
    from playwright.sync_api import expect

    held: list[Any] = []

    def hold(request: Any) -> None:
        held.append(request)

    newcomer = page.context.browser.new_context()
    newcomer.set_default_timeout(PATIENCE)
    slow = newcomer.new_page()
    slow.route("**/static/en.json", hold)
    with slow.expect_request("**/static/en.json"):
        slow.goto(address, wait_until="commit")
    slow.evaluate("location.hash = '#/training'")
    held[0].continue_()
    expect(slow.get_by_role("heading", level=1)).to_have_text("Training")
    newcomer.close()


def test_the_keyboard_goes_from_the_screens_to_what_they_hold_and_then_to_the_queue(page: Any) -> None:
    from playwright.sync_api import expect

    page.get_by_role("link", name="Generate").click()
    expect(page.locator("main")).to_be_focused()  # what was chosen is where one is
    order: list[str] = []
    for _ in range(30):
        page.keyboard.press("Tab")
        order.append(page.evaluate("(document.activeElement.closest('main, nav, .bar') || document.body).className "
                                   "|| document.activeElement.closest('main, nav, .bar')?.tagName || ''"))  # fmt: skip
    walked = [place for place, before in zip(order, ["", *order], strict=False) if place != before]
    assert walked[:2] == ["MAIN", "bar"]
    assert page.evaluate("getComputedStyle(document.querySelector('button')).transitionDuration") == "0s"


def test_a_caption_is_edited_a_broken_lora_examined_and_a_character_made(
    page: Any, opened: Workspace, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    page.get_by_role("link", name="Training").click()
    caption = page.get_by_role("textbox", name="Caption of picture")
    caption.fill("mira in a red coat")
    page.get_by_label("Recipe").select_option("mini-z")  # the screen is drawn again, and what was typed stays
    expect(caption).to_have_value("mira in a red coat")
    caption.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("written by hand")).to_be_visible()
    rows = (opened.root / "characters/mira/dataset/captions.jsonl").read_text().splitlines()
    assert json.loads(rows[0])["caption"] == "mira in a red coat"

    broken = tmp_path / "face.safetensors"
    header = json.dumps({"lora_unet_x.lora_up.weight": {"dtype": "F16", "shape": [4, 4], "data_offsets": [0, 32]}})
    broken.write_bytes(struct.pack("<Q", len(header)) + header.encode() + bytes(3))
    page.get_by_role("link", name="Doctor").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Doctor")
    page.locator("input[type=file]").set_input_files(broken)
    expect(page.locator(".finding.error")).to_be_visible()

    page.get_by_role("link", name="Characters").click()
    page.get_by_role("button", name="New character").click()
    expect(page.get_by_label("Name")).to_be_visible()  # the list has an input for files too
    page.locator("input[type=file]").set_input_files([EXAMPLES / f"0{place}.jpg" for place in range(3)])
    expect(page.locator("figure")).to_have_count(3)
    page.get_by_label("Name").fill("nora")
    page.get_by_label("Fictional: this person does not exist").check()
    page.get_by_label("The character is an adult").check()
    page.get_by_role("button", name="Make the character of 3 pictures").click()
    expect(page.get_by_role("heading", name="nora")).to_be_visible()
    assert (opened.root / "characters/nora/character.toml").is_file()
    page.get_by_role("button", name="Edit description and marks").click()
    page.get_by_label("Description").fill("a woman in red")
    page.get_by_role("button", name="Keep", exact=True).click()
    expect(page.locator("main p").get_by_text("a woman in red")).to_be_visible()

    export_character(opened, "nora", tmp_path / "ida.char")
    shutil.rmtree(opened.root / "characters/nora")
    page.get_by_role("link", name="Characters").click()
    page.locator("input[type=file]").set_input_files(tmp_path / "ida.char")
    form = page.get_by_role("form", name="ida.char")
    form.get_by_label("Fictional: this person does not exist").check()
    form.get_by_label("The character is an adult").check()
    form.get_by_role("button", name="Take in").click()
    expect(page.get_by_role("heading", name="nora")).to_be_visible()


def test_an_experiment_goes_from_axes_to_its_report(page: Any, opened: Workspace) -> None:
    from playwright.sync_api import expect

    page.get_by_role("link", name="Experiments").click()
    page.get_by_role("button", name="New experiment").click()
    page.get_by_label("Question").fill("Which CFG?")
    page.get_by_label("Add an axis").select_option("stages.generate.sampler.cfg")
    page.get_by_label("Values of stages.generate.sampler.cfg").fill("3,5 5")
    page.get_by_label("Seeds a prompt").fill("2")
    page.get_by_text("More settings").click()
    page.get_by_label("Engine").fill("fake")
    expect(page.get_by_role("row", name="Cells 4: 2 arms \u00d7 2 blocks")).to_be_visible()
    expect(page.get_by_role("row", name="It can show")).to_contain_text("more seeds are needed")
    page.get_by_role("button", name="Declare and run").click()
    answers = page.get_by_role("heading", name="Answers")
    expect(answers).to_be_visible()
    expect(page.locator("tr[data-arm]")).to_have_count(2)
    expect(page.locator("tr[data-arm] img").first).to_be_visible()
    with page.context.expect_page() as other:
        page.get_by_role("link", name="Open the report").click()
    expect(other.value.get_by_role("heading", level=1)).to_have_text("Which CFG?")
    other.value.close()
    page.get_by_label("Decision").fill("CFG 3.5 stays")
    page.get_by_role("button", name="Accept").click()
    expect(page.get_by_role("alert")).to_contain_text("undecided")
    page.get_by_role("button", name="Propose only").click()
    expect(page.get_by_role("cell", name="CFG 3.5 stays")).to_be_visible()
    assert (opened.root / "experiments/which-cfg.toml").is_file()


def test_the_page_is_french_and_dark_on_a_phone_and_nothing_is_cut_off(page: Any, address: str, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    phone = page.context.browser.new_context(
        viewport={"width": 390, "height": 844}, locale="fr-FR", color_scheme="dark", reduced_motion="reduce"
    )
    phone.set_default_timeout(PATIENCE)
    small = phone.new_page()
    small.goto(address)
    for name in ("Personnages", "Générer", "Trier", "Expériences", "Entraîner", "Docteur", "Machines"):
        small.get_by_role("link", name=name).click()
        expect(small.get_by_role("heading", level=1)).to_have_text(name)
        assert small.evaluate("document.documentElement.scrollWidth") <= 390, name
        assert small.evaluate("document.querySelector('main').scrollWidth") <= 390, name
    assert small.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 20, 19)"
    assert small.evaluate("document.documentElement.lang") == "fr"
    small.get_by_role("link", name="Personnages").click()
    assert "button" in small.locator("main").aria_snapshot()
    broken = tmp_path / "visage.safetensors"
    broken.write_bytes(b"<!doctype html>" + bytes(64))
    small.get_by_role("link", name="Docteur").click()
    expect(small.get_by_role("heading", level=1)).to_have_text("Docteur")  # the list of characters takes files too
    small.locator("input[type=file]").set_input_files(broken)
    finding = small.locator("[data-checkup] .finding").first
    expect(finding).to_contain_text("le fichier est une page web, pas un modèle")
    exact = finding.locator("details")
    exact.locator("summary").click()
    expect(exact.locator("[lang=en]")).to_contain_text("web page")


def test_nobody_is_let_in_without_the_key_on_the_socket_itself(address: str) -> None:
    host = address.removeprefix("http://").partition("/")[0]
    for headers, status in (({"host": host}, 401), ({"host": "evil.example"}, 421)):
        connection = http.client.HTTPConnection(host, timeout=60)
        connection.request("GET", "/api/images", headers=headers)
        assert connection.getresponse().status == status
        connection.close()
