"""The driver's side: a member of a crew for each card of a cluster.

Plans travel as JSON, known by their ids; images go through a folder beside the store where the host sees it, and
through Ray only where it does not. Store, judges and delivery stay with the driver.
"""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sosie import __version__
from sosie.core import Environment, Finding, Plan, Progress, Render
from sosie.core.errors import EngineError, LostError
from sosie.core.finding import Rule
from sosie.core.schema import from_table, to_table
from sosie.engines.crew import Crew, Member
from sosie.engines.ray.actor import CardActor
from sosie.engines.ray.cluster import Cluster, Slot, read_address
from sosie.engines.resident_protocol import MAX_PIXELS, read_error, read_findings
from sosie.engines.scheme import Scheme, Supplies
from sosie.families.contract.draws import Settings
from sosie.files import whole

if TYPE_CHECKING:
    from PIL.Image import Image

E042 = Rule("SOS-E042", "error", "A host has another version of Sosie")

INNER = "diffusers"
START_SECONDS = 180.0
"""What a host may take to begin a process and import Sosie."""

FREE_SECONDS = 10.0
"""How long a card that a dead process held may take to be free again."""

GLANCE = 1.0
STALE = 86400.0
"""Seconds after which the folder of a driver that was killed is removed."""


@dataclass(frozen=True)
class Order:
    """What a host needs to know.

    `folder` is where its pixels go if it holds `token`; `files` is where the driver has what plans name, good for those
    who see that folder.
    """

    root: str
    folder: str
    token: str
    files: dict[str, str]
    settings: Settings
    engine: str = INNER


class RayEngine:
    """Keeps the Engine protocol: a crew over the cards that the cluster has when it is first asked."""

    def __init__(self, address: str, supplies: Supplies, engine: str = INNER) -> None:
        if supplies.root is None:
            raise EngineError(f"engine '{address}' was given no workspace")
        self._cluster = Cluster(address)
        self._supplies = supplies
        state = supplies.root / ".sosie"
        self._folder = state / "incoming" / secrets.token_hex(8)
        files = {name: str(path.absolute()) for name, path in supplies.paths.items()}
        root = str(supplies.root.resolve())
        self._order = Order(root, str(self._folder.absolute()), secrets.token_hex(16), files, supplies.settings, engine)
        self._crew: Crew | None = None

    @property
    def name(self) -> str:
        """That of the engine that the hosts hold."""
        return self._opened.name

    def check(self, plan: Plan) -> list[Finding]:
        """What the hosts say, each thing once."""
        return self._opened.check(plan)

    def run(self, plans: Iterable[Plan]) -> Iterator[Progress | Render]:
        """As a crew."""
        return self._opened.run(plans)

    def close(self) -> None:
        """Ends the processes on the hosts, and leaves the cluster."""
        if self._crew is not None:
            self._crew.close()
        self._cluster.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _opened(self) -> Crew:
        if self._crew is None:
            slots = self._cluster.slots()
            whole.make_folder(self._folder, 0o700)
            (self._folder / "token").write_text(self._order.token, encoding="ascii")
            _sweep(self._folder.parent)
            self._crew = Crew(
                [Member(str(slot), RayMember(self._cluster, slot, self._order, self._supplies)) for slot in slots]
            )
        return self._crew


class RayMember:
    """One card: an actor of its own, made when it is first asked, and again when it was lost."""

    def __init__(self, cluster: Cluster, slot: Slot, order: Order, supplies: Supplies) -> None:
        self._cluster = cluster
        self._slot = slot
        self._order = order
        self._source = supplies.source
        self._actor: Any = None
        self._name = ""
        self._sees = False
        self._refusal: Finding | None = None

    @property
    def name(self) -> str:
        """The name of the host's engine; that of Sosie's version, if it is another one."""
        if not self._name:
            self._start()
            if self._refusal is None:
                self._name = str(self._ask("name")["name"])
        return self._name or f"{INNER}-refused"

    def check(self, plan: Plan) -> list[Finding]:
        """SOS-E042, or what the host's engine says."""
        if self.name and self._refusal is not None:
            return [self._refusal]
        return list(read_findings(self._ask("check", plan)["findings"]))

    def run(self, plans: Iterable[Plan]) -> Generator[Progress | Render]:
        """Renders every plan. Raises `LostError` when the process, its host or its card is gone."""
        for plan in plans:
            for answer in self._answers("run", plan):
                match answer["say"]:
                    case "progress":
                        yield Progress(str(answer["phase"]), float(answer["step"]), float(answer["steps"]))
                    case "render":
                        yield self._render(answer, plan)
                    case _:
                        pass

    def close(self) -> None:
        """Ends the process."""
        self._drop()

    def _start(self) -> None:
        """Has a process begin on a card that is free, and asks it who it is."""
        if self._actor is not None:
            return
        self._cluster.expect_free(FREE_SECONDS)
        self._actor = self._cluster.begin(self._slot, CardActor, json.dumps(to_table(self._order)))
        hello = self._get(self._actor.hello.remote(), START_SECONDS)
        self._refusal = refusal(hello)
        self._sees = False

    def _ask(self, do: str, plan: Plan | None = None) -> dict[str, Any]:
        return list(self._answers(do, plan))[-1]

    def _answers(self, do: str, plan: Plan | None) -> Generator[dict[str, Any]]:
        """What the host answers; its errors are raised, and whatever ends early ends its process."""
        self._start()
        complete = False
        try:
            request: dict[str, Any] = {"do": do, "plan": plan.to_json() if plan is not None else {}}
            if plan is not None and plan.source and do == "run":
                request |= self._sent(plan)
            stream = self._actor.ask.options(num_returns="streaming").remote(request)
            for reference in self._arrivals(stream):
                answer = self._get(reference, START_SECONDS)
                if answer["say"] == "error":
                    complete = answer["kind"] != LostError.__name__
                    raise self._of_host(answer)
                self._sees = bool(answer.get("sees", self._sees))
                yield answer
            complete = True
        finally:
            if not complete:
                self._drop()

    def _arrivals(self, stream: Any) -> Iterator[Any]:
        """The references that a stream brings, one by one, as long as the head is there."""
        ray = self._cluster.ray
        while True:
            try:
                ready, _ = ray.wait([stream], timeout=GLANCE, fetch_local=False)
                if ready:
                    yield next(stream)
                self._cluster.expect_head()  # beside arrivals too: Ray ends a process whose head is long gone
            except StopIteration:
                return
            except ray.exceptions.RayError as error:
                raise self._lost(error) from None

    def _get(self, reference: Any, seconds: float) -> Any:
        """A value; `LostError` if it cannot be had in time or at all."""
        ray, until = self._cluster.ray, time.monotonic() + seconds
        while True:
            try:
                return ray.get(reference, timeout=GLANCE)
            except ray.exceptions.GetTimeoutError:
                self._cluster.expect_head()
                if time.monotonic() > until:
                    raise self._lost(f"nothing came within {seconds:.0f} s") from None
            except ray.exceptions.RayError as error:
                raise self._lost(error) from None

    def _lost(self, why: object) -> LostError:
        self._drop()
        text = str(why)
        if "ModuleNotFoundError" in text or "ImportError" in text:
            return LostError(
                f"{self._slot.host} has no Sosie that Ray's Python there can import, or an older one", INSTALL
            )
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return LostError(f"its process or host is gone: {(lines or ['no reason was given'])[0][:200]}")

    def _of_host(self, answer: dict[str, Any]) -> Exception:
        error = read_error(answer)
        return type(error)(f"{self._slot.host}: {error.message}", error.hint)

    def _drop(self) -> None:
        """Lets go of the process; Ray ends it."""
        actor, self._actor, self._name = self._actor, None, ""
        if actor is not None:
            with suppress(Exception):
                self._cluster.ray.kill(actor)

    def _sent(self, plan: Plan) -> dict[str, Any]:
        """The image that a plan works on: in the driver's folder for who sees it, or with the request."""
        image = self._source(plan.source).convert("RGB")
        if not self._sees:
            return {"size": list(image.size), "file": "", "pixels": image.tobytes()}
        name = f"source-{plan.source[:32]}"
        with whole.whole_stream(Path(self._order.folder) / name) as stream:
            stream.write(image.tobytes())
        return {"size": list(image.size), "file": name, "pixels": b""}

    def _render(self, answer: dict[str, Any], plan: Plan) -> Render:
        return Render(
            self._image(answer),
            plan,
            str(answer["engine"]),
            from_table(Environment, answer["environment"], "host"),
            float(answer["seconds"]),
            read_findings(answer["findings"]),
            tuple((str(name), float(value)) for name, value in answer["measures"]),
        )

    def _image(self, answer: dict[str, Any]) -> Image:
        image = image_in(answer, Path(self._order.folder))
        if answer["file"]:
            (Path(self._order.folder) / Path(str(answer["file"])).name).unlink(missing_ok=True)
        return image


def image_in(message: dict[str, Any], folder: Path) -> Image:
    """The image of a message: raw RGB in the file of `folder` that it names, or with it. `LostError` if not whole."""
    from PIL import Image

    width, height = map(int, message["size"])
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise LostError(f"an image of {width}x{height} pixels was announced")
    try:
        named = str(message["file"])
        pixels: bytes = (folder / Path(named).name).read_bytes() if named else message["pixels"]
    except OSError as error:
        raise LostError(f"an image did not arrive: {error}") from None
    if len(pixels) != width * height * 3:
        raise LostError("an image came incomplete")
    return Image.frombytes("RGB", (width, height), pixels)


INSTALL = f'pip install "sosie[local,ray]=={__version__}" there, in the environment that ray start runs in'


def refusal(hello: dict[str, Any]) -> Finding | None:
    """SOS-E042 if a host has another version of Sosie than this driver."""
    version = str(hello["version"])
    if version == __version__:
        return None
    host = str(hello["host"])
    return E042.at(host, f"{host} has Sosie {version}, this machine {__version__}; expected the same", INSTALL)


def _sweep(folder: Path) -> None:
    """Removes what drivers that were killed have left."""
    for old in folder.iterdir():
        if time.time() - old.stat().st_mtime > STALE:
            shutil.rmtree(old, ignore_errors=True)


def _open(address: str, supplies: Supplies) -> RayEngine:
    read_address(address)
    return RayEngine(address, supplies)


SCHEME = Scheme("ray", "ray:HOST:PORT", _open, has_workers=True)
