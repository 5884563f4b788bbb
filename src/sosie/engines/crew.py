"""Many engines at one run of plans: each takes the next plan when it is free; what a lost one had another one does.

A member is an engine on one card, wherever that is. Its plans are given to it one by one by a thread of its own, and
what it yields goes to the reader, who sees each plan's render once. Nothing is drawn ahead of the reader but one image
a member. That a plan is never done twice is known by its id, not by what a network promises.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from sosie.core import Engine, Finding, Plan, Progress, Render
from sosie.core.errors import EngineError, LostError
from sosie.core.feed import feed_of
from sosie.core.finding import Rule

E040 = Rule("SOS-E040", "warning", "A card or worker was lost, and its image was drawn again")
E041 = Rule("SOS-E041", "error", "Cards would draw as different engines")

IN_A_ROW = 2
"""So often a member may be lost, without an image between, before it gets no more plans."""

PER_PLAN = 3
"""So many cards may be lost with one plan, before the plan is thought to be the reason."""

LOOK = 0.05
"""Seconds between two looks at whether more plans have come."""

GLANCE = 0.2
"""Seconds between two looks at whether all is over."""

GRACE = 10.0
"""Seconds that members have to let go of what they draw, when a run ends early."""


@dataclass(frozen=True, eq=False)
class Member:
    """An engine of its own and the card that it draws on, as people call it: `card 1`.

    Several members of one card have it draw in turn: one is drawn while what the other drew is on its way.
    """

    label: str
    engine: Engine


class Crew:
    """Keeps the Engine protocol. Renders come as they are finished; progress is that of the oldest plan under way."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = tuple(members)

    @property
    def name(self) -> str:
        """The name that all members have."""
        return self._members[0].engine.name

    def check(self, plan: Plan) -> list[Finding]:
        """What the members say, each thing once; and SOS-E041, where not all of them would draw the same."""
        cards: dict[str, Engine] = {}
        for member in self._members:
            cards.setdefault(member.label, member.engine)
        with ThreadPoolExecutor(len(cards)) as pool:  # each begins a process
            asked = [(label, pool.submit(_checked, engine, plan)) for label, engine in cards.items()]
        answers = {label: answer.result() for label, answer in asked}
        names = {label: name for label, (name, _) in answers.items()}
        found = [finding for _, told in answers.values() for finding in told]
        if len(set(names.values())) > 1:
            told = ", ".join(f"{label} as {name}" for label, name in names.items())
            hint = "leave out what draws otherwise; sosie doctor says what is wrong with a machine"
            found.append(E041.at(plan.recipe, f"the cards do not draw the same: {told}", hint))
        return list(dict.fromkeys(found))

    def run(self, plans: Iterable[Plan]) -> Iterator[Progress | Render]:
        """Renders every plan. Raises the first error that is not a loss; a loss, when nobody is left."""
        return _Run(self._members, self.name, plans).events()

    def close(self) -> None:
        """Closes all members."""
        for member in self._members:
            member.engine.close()


def _checked(engine: Engine, plan: Plan) -> tuple[str, list[Finding]]:
    return engine.name, engine.check(plan)


@dataclass(frozen=True, eq=False)
class _News:
    """What a member's thread says of a plan: an event, or an error that ends the run."""

    member: Member
    plan_id: str
    what: Progress | Render | BaseException


class _Run:
    """One run. `_change` guards what the threads of the members share; plans are known by their ids.

    Plans are taken by the reader, as many as there are members without one: so nothing is drawn that nobody reads.
    """

    def __init__(self, members: Sequence[Member], name: str, plans: Iterable[Plan]) -> None:
        self._members = members
        self._name = name
        self._feed = feed_of(plans)
        self._ready: deque[Plan] = deque()
        self._drawing: dict[str, Member] = {}
        self._alive = Counter(member.label for member in members)
        self._losses: defaultdict[str, set[str]] = defaultdict(set)
        self._lost: dict[str, tuple[Member, LostError]] = {}
        self._news: queue.SimpleQueue[_News] = queue.SimpleQueue()
        self._change = threading.Condition()
        self._is_over = False

    def events(self) -> Generator[Progress | Render]:
        """Reads what the threads say until all plans are done."""
        threads = [threading.Thread(target=self._serve, args=(member,), daemon=True) for member in self._members]
        unread = 0
        try:
            for thread in threads:
                thread.start()
            while (unread := unread + self._fill(unread)) or not self._feed.ended:
                if (news := self._next_news()) is None:
                    continue
                match news.what:
                    case Progress():
                        if news.plan_id == next(iter(self._drawing), ""):
                            yield news.what
                    case Render():
                        unread -= 1
                        yield self._told(news.member, news.what)
                    case error:
                        raise error
        finally:
            self._end(threads)

    def _fill(self, unread: int) -> int:
        """Makes as many plans ready as there are members, those counted whose images are unread; how many came.

        Where a card has nothing to do it is waited a little for a plan.
        """
        taken = 0
        while unread + taken < self._alive.total():
            plan = self._feed.take(LOOK if self._has_idle_card() else 0.0)
            if plan is None:
                break
            taken += 1
            with self._change:
                self._ready.append(plan)
                self._change.notify_all()
        return taken

    def _has_idle_card(self) -> bool:
        with self._change:
            busy = {member.label for member in self._drawing.values()}
            return len(busy) + len(self._ready) < len(+self._alive)

    def _next_news(self) -> _News | None:
        """What a member has to say; None after a while in which more plans may have come."""
        try:
            return self._news.get(timeout=None if self._feed.ended else LOOK)
        except queue.Empty:
            return None

    def _told(self, member: Member, render: Render) -> Render:
        """The render, with SOS-E040 if its plan was lost before."""
        lost, error = self._lost.pop(render.plan.id, (member, None))
        if error is None:
            return render
        message = f"{lost.label} was lost in mid-run ({error.message}); {member.label} drew its image again"
        return replace(render, findings=(*render.findings, E040.at(lost.label, message, error.hint)))

    def _take(self, member: Member) -> Plan | None:
        """The next plan for a member; waits for one, and None when all is over."""
        with self._change:
            while not self._is_over:
                if self._ready and self._is_next(member):
                    plan = self._ready.popleft()
                    self._drawing[plan.id] = member
                    return plan
                self._change.wait(GLANCE)
            return None

    def _is_next(self, member: Member) -> bool:
        """Whether a member may take a plan: none is the second one of a card while another card has none."""
        busy = {other.label for other in self._drawing.values()}
        return member.label not in busy or busy >= set(+self._alive)

    def _serve(self, member: Member) -> None:
        """A member's thread."""
        in_a_row = 0
        while in_a_row < IN_A_ROW and (plan := self._take(member)) is not None:
            try:
                self._draw(member, plan)
                in_a_row = 0
            except LostError as error:
                in_a_row += 1
                self._put_back(member, plan, error, is_last=in_a_row == IN_A_ROW)
            except BaseException as error:
                self._news.put(_News(member, plan.id, error))
                return

    def _draw(self, member: Member, plan: Plan) -> None:
        """Has a member draw a plan, or as much of it as anybody waits for."""
        if member.engine.name != self._name:
            raise LostError(f"{member.label} came back as {member.engine.name}, expected {self._name}")
        events: Any = member.engine.run([plan])
        with closing(events):
            for event in events:
                if self._is_over:
                    return
                if isinstance(event, Render):
                    with self._change:
                        del self._drawing[plan.id]
                        self._change.notify_all()
                self._news.put(_News(member, plan.id, event))
        if plan.id in self._drawing and not self._is_over:
            raise EngineError(f"{member.label} ({self._name}) ended without the image of plan {plan.id[:12]}")

    def _put_back(self, member: Member, plan: Plan, error: LostError, *, is_last: bool) -> None:
        """A plan that a member was lost with is the next that is taken; what it had drawn already stays drawn."""
        with self._change:
            self._alive[member.label] -= is_last
            if self._drawing.pop(plan.id, None) is not None:
                self._losses[plan.id].add(member.label)
                self._lost[plan.id] = (member, error)
                self._ready.appendleft(plan)
            left, losses = len(self._ready), len(self._losses[plan.id])
            self._change.notify_all()
        if losses == PER_PLAN:
            message = f"plan {plan.id[:12]} ended the work of {PER_PLAN} cards; the last time: {error.message}"
            self._news.put(_News(member, plan.id, LostError(message, error.hint)))
        elif left and not self._alive.total():
            message = f"no card is left for {left} images that were begun: {error.message}"
            self._news.put(_News(member, plan.id, LostError(message, error.hint)))

    def _end(self, threads: Sequence[threading.Thread]) -> None:
        """Has the threads end; who loads a model and does not listen is left to its process."""
        with self._change:
            self._is_over = True
            self._change.notify_all()
        for thread in threads:
            if thread.ident is not None:
                thread.join(GRACE)
