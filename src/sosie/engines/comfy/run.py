"""One graph on one server: sent, followed to its end, and fetched, whatever the line and the server do meanwhile.

The rules, each from a way in which ComfyUI misleads (0.33):
- `execution_success` comes before the history has the images; `executing` without a node comes after.
- Events may stop without a word; so a job is asked for after a silence, and that answer decides.
- A line that broke while a graph was sent says nothing of whether it arrived: it is looked for first.
- A server that restarts forgets its queue: a prompt that is gone after a break is sent again, but if its
  image was saved before, that image is taken.
- A graph whose nodes are all cached names its old file, which may be gone: it is saved again.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from sosie.core.finding import Rule
from sosie.engines.comfy.answers import UNKNOWN, PromptJob, ServerImage
from sosie.engines.comfy.errors import Y025, ComfyError, LostError, NonsenseError, StoppedError, failed
from sosie.engines.comfy.events import Cached, Event, Produced, Running, Waiting
from sosie.engines.comfy.link import ServerLink
from sosie.engines.comfy.pictures import decode
from sosie.engines.comfy.program import ApiGraph, CompiledGraph, inputs_of

if TYPE_CHECKING:
    from PIL.Image import Image

Y026 = Rule("SOS-Y026", "error", "Somebody stopped or removed a job")
Y027 = Rule("SOS-Y027", "error", "A server lost a job again and again")

Report = Callable[[Event], None]

LAG = 10
"""Polls that the history may take to know a prompt whose end was told."""


@dataclass(frozen=True, eq=False)
class Rendered:
    """What came back: the image (RGB), how many images the node saved, and the nodes that were not run again.

    `again` is how often the image had to be saved again because its file was gone.
    """

    image: Image
    count: int
    cached: frozenset[str]
    again: int = 0


@dataclass(frozen=True)
class _Sent:
    """A graph on its way: the server's id of it, the node whose image is wanted, and the breaks until then."""

    prompt: str
    output: str
    breaks: int


def render(link: ServerLink, compiled: CompiledGraph, report: Report) -> Rendered:
    """Runs a graph whose uploads and names are in place, and returns its image.

    `report` is told every event of it. Raises `ComfyError` for whatever went wrong, `LostError` if the
    server cannot be reached, `StoppedError` if no one waits any more; the prompt is then taken back.
    """
    lost = again = 0
    own = str(uuid.uuid4())
    while True:
        breaks, prompt = link.breaks, own
        try:
            prompt = _submit(link, _named(compiled, own), own)
            sent = _Sent(prompt, compiled.output, breaks)
            job, cached = _follow(link, sent, report)
        except (StoppedError, ComfyError):
            _take_back(link, prompt)
            raise
        if job.state == "unknown":
            rescued = _rescued(link, compiled, own)
            if rescued is not None:
                return Rendered(rescued, 1, cached, again)
            lost += 1
            _expect_lost(link, sent, lost)
            continue
        images = _images(link, job, compiled)
        data = link.patiently(partial(link.client.view, images[0]))
        if data is not None:
            return Rendered(decode(link.server, data, link.limits, compiled.pixels), len(images), cached, again)
        again += 1
        own = _save_again(link, compiled, images[0], again)


def free(link: ServerLink) -> None:
    """Makes a server forget its models and what it cached. It does so by itself, a moment later."""
    link.patiently(link.client.free)
    link.sleep(link.patience.free)


def _named(compiled: CompiledGraph, own: str) -> ApiGraph:
    """The graph whose image is saved under a name of this prompt's own; so its saving is never cached."""
    node = compiled.graph.get(compiled.output, {})
    if not _is_named(compiled):
        return compiled.graph
    inputs = {**inputs_of(node), "filename_prefix": f"{compiled.prefix}/{own}"}
    return {**compiled.graph, compiled.output: {**node, "inputs": inputs}}


def _is_named(compiled: CompiledGraph) -> bool:
    """Whether the name of the saved file is ours to choose."""
    return bool(compiled.prefix) and "filename_prefix" in inputs_of(compiled.graph.get(compiled.output))


def _submit(link: ServerLink, graph: ApiGraph, own: str) -> str:
    """Puts the graph into the queue once, though the line may break on the way; gives the server's id of it."""
    try:
        return link.client.submit(graph, link.client_id or uuid.uuid4().hex, own)
    except LostError:
        link.breaks += 1

    def look_first() -> str:
        return link.client.find(own) or link.client.submit(graph, link.client_id or uuid.uuid4().hex, own)

    return link.patiently(look_first)


def _follow(link: ServerLink, sent: _Sent, report: Report) -> tuple[PromptJob, frozenset[str]]:
    """Waits for a prompt's end: the job, its images included, and the nodes that were cached.

    The job is `unknown` when the server does not know it (any more).
    """
    heard = time.monotonic()
    saved: tuple[ServerImage, ...] = ()
    cached: frozenset[str] = frozenset()
    begun = False
    while True:
        silence = link.patience.quiet if link.has_socket else link.patience.poll
        event = link.event(max(0.0, heard + silence - time.monotonic()))
        over = False
        if event is not None:
            prompt = getattr(event, "prompt", "")
            if prompt not in (sent.prompt, ""):
                continue
            begun = begun or bool(prompt)
            if isinstance(event, Waiting) and event.prompts > 1 and not begun:
                event = replace(event, ahead=_ahead(link, sent))
            report(event)
            heard = time.monotonic() if prompt else heard
            if isinstance(event, Cached):
                cached = event.nodes
            elif isinstance(event, Produced) and event.node == sent.output:
                saved = event.images
            # How it ended is told by the job: `Ended` comes before the history is written.
            over = isinstance(event, Running) and event.node is None
        elif not link.has_socket or time.monotonic() - heard >= silence:
            heard = time.monotonic()
            over = link.patiently(partial(link.client.job, sent.prompt)).state not in ("pending", "running")
        if over:
            job = _settled(link, sent, saved)
            if job.state not in ("pending", "running"):
                return job, cached


def _ahead(link: ServerLink, sent: _Sent) -> int | None:
    """How many prompts come before ours; whoever follows it finds out what is wrong with the line."""
    try:
        return link.client.ahead(sent.prompt)
    except ComfyError:
        return None


def _settled(link: ServerLink, sent: _Sent, saved: tuple[ServerImage, ...]) -> PromptJob:
    """The job when the history has it. Where it was cleared meanwhile, what an event told of its images counts."""
    job = UNKNOWN
    for turn in range(LAG):
        job = link.patiently(partial(link.client.job, sent.prompt))
        if job.is_over or (job.state == "unknown" and turn):
            break
        link.sleep(link.patience.poll / 4)
    if job.state == "unknown" and saved:
        return PromptJob("done", MappingProxyType({sent.output: saved}))
    return job


def _images(link: ServerLink, job: PromptJob, compiled: CompiledGraph) -> tuple[ServerImage, ...]:
    """The images of the output node. Raises `ComfyError` for a job that did not end well."""
    if job.failure is not None:
        raise failed(link.server, job.failure, _loaded(compiled, job.failure.node))
    if job.state == "cancelled":
        message = f"server {link.server.name}: someone stopped the job while it ran"
        raise ComfyError(Y026, message, "run the same command again")
    if job.state != "done":
        raise ComfyError(Y025, f"server {link.server.name}: the job is {job.state}, and no reason is given")
    images = job.outputs.get(compiled.output, ())
    if not images:
        raise NonsenseError(link.server, f"calls the job done, but node {compiled.output} saved no image")
    return images


def _loaded(compiled: CompiledGraph, node: str) -> tuple[str, ...]:
    """The files that a node loads: what it raises rarely says which."""
    inputs = inputs_of(compiled.graph.get(node))
    named = (inputs.get(use.input) for use in compiled.files if use.node == node)
    return tuple(name for name in named if isinstance(name, str))


def _rescued(link: ServerLink, compiled: CompiledGraph, own: str) -> Image | None:
    """The image of a prompt that the server forgot, if it was saved before: its name is known beforehand."""
    if not _is_named(compiled):
        return None
    saved = ServerImage(f"{own}_00001_.png", compiled.prefix)
    data = link.patiently(lambda: link.client.view(saved))
    try:
        return None if data is None else decode(link.server, data, link.limits, compiled.pixels)
    except NonsenseError:
        return None


def _expect_lost(link: ServerLink, sent: _Sent, lost: int) -> None:
    """Raises `ComfyError` where a prompt is gone for another reason than a restart, or again and again."""
    name = link.server.name
    if link.breaks == sent.breaks:
        message = f"server {name}: someone removed the job from the queue"
        raise ComfyError(Y026, message, "run the same command again")
    if lost > link.patience.restarts:
        message = f"server {name} restarted {lost} times while it ran the same job"
        hint = "its log says why; most often the machine ran out of memory: use a smaller size"
        raise ComfyError(Y027, message, hint)


def _save_again(link: ServerLink, compiled: CompiledGraph, gone: ServerImage, again: int) -> str:
    """Prepares for saving an image again whose file is gone: the next prompt's own id."""
    if again > 2:
        raise NonsenseError(link.server, f"says that it saved '{gone.filename[:80]}', and has no such file")
    if again > 1 or not _is_named(compiled):
        # A new name was not enough, or the node keeps its own: what is cached must go.
        free(link)
    return str(uuid.uuid4())


def _take_back(link: ServerLink, prompt: str) -> None:
    """Removes or stops our prompt, as far as the server can be reached."""
    try:
        if link.client.job(prompt).state in ("pending", "running"):
            link.client.remove(prompt)
    except ComfyError:
        return
