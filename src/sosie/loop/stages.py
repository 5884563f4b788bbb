"""What becomes of an image after it is drawn, and what is drawn next.

    kept        marked, encoded, its file made durable: two threads
    recorded    in one thread, which alone writes renders and scorecards and knows the schedule
    judged      in the room's processes
    delivered   signed and written, one thread

The recording thread does what it finds in its inbox, one thing after another; what other threads and processes have
done comes there too. An image is held from the moment it is drawn until it is judged.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from sosie.core import Plan, Render, Scorecard, Verdict
from sosie.loop.desk import Desk
from sosie.loop.judge import Origin
from sosie.loop.judge_room import Judged, Sitting
from sosie.loop.schedule import Schedule, Step
from sosie.loop.task import Attempt, Bench, Task
from sosie.store.images import pixels_digest

if TYPE_CHECKING:
    from pathlib import Path

    from sosie.store import Store, StoredRender
    from sosie.store.images import Encoded

ENCODERS = 2

READY = 4
"""Plans that are looked up in the store before they are asked for."""

WORTH = 0.5
"""Nothing is drawn ahead where verdicts come within this share of the time that an image takes to draw."""


@dataclass(eq=False)
class Piece:
    """An image on its way: drawn at `since` (monotonic) in `took` seconds, or found in the store and then `resumed`.

    The `render` is held until the image is judged. `work` is what a thread or a process does with it now; one that
    `is_leaving` is delivered.
    """

    step: Step
    since: float = 0.0
    took: float = 0.0
    render: Render | None = None
    stored: StoredRender | None = None
    work: Future[Any] | None = None
    resumed: bool = False
    is_leaving: bool = False


class Stages:
    """The recording thread and what works for it. Only `say`, `hurry` and `close` are for other threads."""

    def __init__(self, tasks: Sequence[Task], bench: Bench, desk: Desk) -> None:
        self._tasks, self._bench, self._desk = tasks, bench, desk
        self._engine = bench.engine.name
        self._schedule = Schedule(tasks, bench.assets)
        self._serial = self._schedule.serial()
        self._head: Step | None = None
        self._finished: dict[Step, Attempt] = {}
        self._pieces: dict[Step, Piece] = {}
        self._twins: dict[str, list[Step]] = {}
        self._pace = self._lag = 0.0
        self._is_stopped = self._is_hurried = False
        self.in_vain = self.drawn = 0
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._encoders = ThreadPoolExecutor(ENCODERS, "sosie-encode")
        self._courier = Courier(bench.deliver, bench.store.folder) if bench.deliver else None
        self._thread = threading.Thread(target=self._work, name="sosie-record", daemon=True)
        self._thread.start()

    def say(self, message: Callable[[], None]) -> None:
        """Has the recording thread do that."""
        self._inbox.put(message)

    def hurry(self) -> None:
        """Lets everything go that is not being written; images that were drawn are stored first."""
        self.say(self._let_all_go)

    def close(self) -> None:
        """Ends the threads; nothing may be on its way."""
        self._inbox.put(None)
        self._thread.join()
        self._encoders.shutdown()
        if self._courier is not None:
            self._courier.close()

    def look(self) -> None:
        """Nothing but what follows every message: what is next is looked for."""

    def answer(self, ticket: int) -> None:
        """Tells the engine's side that what is ready now is all."""
        self._advance()
        with self._desk.change:
            self._desk.answered = ticket
            self._desk.change.notify_all()

    def give_up(self, ticket: int) -> None:
        """What was given to an engine that has ended will not be drawn."""
        desk = self._desk
        with desk.change:
            undrawn = [*desk.ready, *(step for step, _ in desk.out.values())]
            desk.ready.clear()
            desk.out.clear()
        for step in undrawn:
            if not step.in_vain:
                self._schedule.give_up(step)
            self._twins.pop(step.plan.id, None)
        self.answer(ticket)

    def stop(self) -> None:
        """Nothing more is to be drawn."""
        self._is_stopped = True

    def add(self, piece: Piece, render: Render) -> None:
        """A new image."""
        self.drawn += 1
        self._pace = piece.took
        self._pieces[piece.step] = piece
        self._await(piece, self._encoders.submit(keep, self._store, render), self._kept)

    def _work(self) -> None:
        from sosie.store import Store

        try:
            with Store.open(self._bench.store.folder) as self._store:
                self._advance()
                while (message := self._inbox.get()) is not None:
                    message()
                    self._advance()
        except BaseException as error:
            self._pieces.clear()
            self._desk.in_flight = 0
            self._fail(error)
            self._say_where_we_are()

    def _advance(self) -> None:
        try:
            self._fill()
        except Exception as error:
            self._fail(error)
        self._say_where_we_are()

    def _say_where_we_are(self) -> None:
        desk = self._desk
        with desk.change:
            desk.ended = self._is_stopped or self._schedule.done
            desk.is_still = not self._pieces and not desk.in_flight
            desk.settled = desk.ended and desk.is_still
            if desk.settled:  # after an error there may be gaps
                for step in sorted(self._finished, key=lambda step: step.key):
                    desk.tell(self._finished.pop(step))
            desk.change.notify_all()

    def _fail(self, error: BaseException) -> None:
        self._desk.error = self._desk.error or error
        self._is_stopped = True

    def _fill(self) -> None:
        """Keeps a few plans ready: what is surely needed, or where the engine would wait, what is likely to be."""
        desk = self._desk
        while not self._is_stopped and len(desk.ready) < READY and self._found < desk.most:
            step = self._schedule.next()
            if step is None:
                break
            self._start(step)
        pays = self._lag > WORTH * self._pace > 0
        while not self._is_stopped and desk.is_idle and pays and not desk.ready:
            step = self._schedule.guess()
            if step is None:
                break
            self._start(step)

    @property
    def _found(self) -> int:
        """How many images that the store had are on their way."""
        return sum(piece.resumed for piece in self._pieces.values())

    def _start(self, step: Step) -> None:
        """Looks a plan up in the store; one that another step has under way waits for that one's image."""
        if step.plan.id in self._twins:
            self._twins[step.plan.id].append(step)
            return
        stored = self._store.find_render(step.plan.id, self._engine)
        if stored is None:
            self._twins[step.plan.id] = []
            with self._desk.change:
                self._desk.ready.append(step)
        else:
            piece = self._pieces[step] = Piece(step, resumed=True)
            self._guard(piece, self._go_on, stored)

    def _kept(self, piece: Piece, kept: Future[tuple[Render, Encoded]]) -> None:
        piece.render, encoded = kept.result()
        stored = self._store.add_render(piece.render, encoded)
        self._go_on(piece, stored)
        self._start_twins(piece.step)

    def _start_twins(self, step: Step) -> None:
        for twin in self._twins.pop(step.plan.id, ()):
            self._start(twin)

    def _go_on(self, piece: Piece, stored: StoredRender) -> None:
        """What follows when an image is on record."""
        step = piece.step
        piece.stored, step.pixels = stored, stored.pixels
        if step.sure:
            self._judge(piece, stored)
        elif step.in_vain:
            self._let_go(piece)
        else:
            self._free(piece)  # it waits for the verdict on the image before it

    def _judge(self, piece: Piece, stored: StoredRender) -> None:
        """Takes the verdict from the store, or has the image scored."""
        judge = self._tasks[piece.step.task].judge
        known = self._store.find_scorecard(stored.id, judge.id)
        if known is not None:
            self._decided(piece, stored, *known)
        elif self._is_hurried:
            self._let_go(piece)
        else:
            image = piece.render.image if piece.render else None
            sitting = Sitting(judge, stored.image, origin_of(piece.step.plan, stored), image)
            self._await(piece, self._bench.room.submit(sitting), self._judged, stored)

    def _judged(self, piece: Piece, stored: StoredRender, judging: Future[Judged]) -> None:
        judged = judging.result()
        for finding in judged.findings:
            self._desk.tell(finding)
        judge = self._tasks[piece.step.task].judge
        self._store.add_scorecard(stored.id, judge.id, judged.scorecard, judged.verdict)
        if piece.render is not None:
            self._lag = time.monotonic() - piece.since
        self._decided(piece, stored, judged.scorecard, judged.verdict)

    def _decided(self, piece: Piece, stored: StoredRender, scorecard: Scorecard, verdict: Verdict) -> None:
        """Delivers what is kept; what is drawn next, or ahead, depends on it."""
        self._free(piece)
        attempt = Attempt(self._tasks[piece.step.task], piece.step.plan, stored, scorecard, verdict, piece.resumed)
        for ahead in self._schedule.judged(piece.step, verdict.outcome):
            self._resolve(ahead)
        if verdict.outcome == "keep" and self._courier is not None:
            piece.is_leaving = True
            self._await(piece, self._courier.send(attempt), self._delivered, attempt)
        else:
            self._finish(piece, attempt)

    def _delivered(self, piece: Piece, attempt: Attempt, delivery: Future[Path]) -> None:
        self._finish(piece, replace(attempt, delivered=delivery.result()))

    def _finish(self, piece: Piece, attempt: Attempt) -> None:
        """Has attempts told in the order of a serial run, as far as it is known."""
        self._let_go(piece)
        self._finished[piece.step] = attempt
        while True:
            self._head = self._head or next(self._serial, None)
            if self._head not in self._finished:
                return
            self._desk.tell(self._finished.pop(self._head))
            self._head = None

    def _resolve(self, ahead: Step) -> None:
        """What was drawn ahead is judged, if it is needed now, or counted."""
        piece = self._pieces.get(ahead)
        if ahead.sure:
            if piece is not None and piece.stored is not None:
                self._guard(piece, self._judge, piece.stored)
            return
        if self._take_back(ahead) or (piece is not None and piece.resumed):
            self._schedule.in_vain -= 1  # nothing was drawn
        else:
            self.in_vain += 1
        if piece is not None and piece.stored is not None:
            self._let_go(piece)

    def _take_back(self, step: Step) -> bool:
        """Withdraws a plan that nobody has begun with; False if somebody has."""
        with self._desk.change:
            if step in self._desk.ready:
                self._desk.ready.remove(step)
                self._start_twins(step)
                return True
        waiting = self._twins.get(step.plan.id, [])
        if step in waiting:
            waiting.remove(step)
            return True
        return False

    def _let_all_go(self) -> None:
        self._is_stopped = self._is_hurried = True
        for piece in list(self._pieces.values()):
            is_written = piece.stored is None or (piece.is_leaving and piece.work and not piece.work.cancel())
            if not is_written:
                self._let_go(piece)

    def _let_go(self, piece: Piece) -> None:
        self._free(piece)
        self._pieces.pop(piece.step, None)

    def _free(self, piece: Piece) -> None:
        """Lets go of the image itself."""
        if piece.render is not None:
            piece.render = None
            with self._desk.change:
                self._desk.in_flight -= 1

    def _await(self, piece: Piece, work: Future[Any], handler: Callable[..., None], *given: Any) -> None:
        piece.work = work
        work.add_done_callback(lambda _: self.say(partial(self._guard, piece, handler, *given, work)))

    def _guard(self, piece: Piece, handler: Callable[..., None], *given: Any) -> None:
        """Does the next thing with an image, unless it was let go; what goes wrong ends the run, not the others."""
        if piece.step not in self._pieces:
            return
        try:
            handler(piece, *given)
        except Exception as error:
            self._fail(error)
            self._let_go(piece)


class Courier:
    """A thread that delivers, one image after another, with a store of its own."""

    def __init__(self, deliver: Callable[[Attempt, Store], Path], folder: Path) -> None:
        self._call, self._folder = deliver, folder
        self._store: Store | None = None
        self._thread = ThreadPoolExecutor(1, "sosie-deliver")

    def send(self, attempt: Attempt) -> Future[Path]:
        """Delivers an attempt's image."""
        return self._thread.submit(self._deliver, attempt)

    def close(self) -> None:
        """Ends the thread when it has done what it was asked for."""
        self._thread.submit(self._close)
        self._thread.shutdown()

    def _deliver(self, attempt: Attempt) -> Path:
        from sosie.store import Store

        self._store = self._store or Store.open(self._folder)
        return self._call(attempt, self._store)

    def _close(self) -> None:
        if self._store is not None:
            self._store.close()


def keep(store: Store, render: Render) -> tuple[Render, Encoded]:
    """The render with its plan's watermark, and its file, which is durable: stored, judged and delivered are the same.

    A given image that came back as it was stays so.
    """
    if render.plan.watermark and pixels_digest(render.image) != render.plan.requested.source:
        from sosie.provenance.watermark import mark

        render = replace(render, image=mark(render.image, render.plan.id))
    return render, store.keep_image(render.image)


def origin_of(plan: Plan, stored: StoredRender) -> Origin:
    """How a stored image came about."""
    measures = stored.notes.measures
    face = (measures["detail.x"], measures["detail.y"]) if {"detail.x", "detail.y"} <= measures.keys() else None
    # A given image that came back as it was: no other seed would change it.
    is_final = bool(plan.requested.source) and stored.pixels == plan.requested.source
    return Origin(stored.notes.findings, plan.draw.is_repair, is_final, plan.prompt, face)
