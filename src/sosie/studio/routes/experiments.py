"""Experiments: put together, foretold, declared, watched, and decided on."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Response

from sosie.api import Choice, Session, accept, decide, entries, json_of
from sosie.api.views.experiments import (
    declare,
    describe_experiment,
    foresee,
    list_shown,
    offered_axes,
    report_picture,
    report_text,
)
from sosie.knowledge.decision import Decision
from sosie.lab.draft import Axis, Draft
from sosie.servers.pages.guard import DOCUMENT
from sosie.studio.asked import Acceptance, Foreseen, Name, NewDecision, NewExperiment
from sosie.studio.desk import Desk

Id = Annotated[str, Path(min_length=1, max_length=100)]
"""An experiment's name or id, or a decision's; matched against those that there are."""

HTML = {"content-security-policy": DOCUMENT}
"""A report has a style of its own and no script."""


def routes(desk: Desk) -> APIRouter:
    """The routes on a desk."""
    router, work = APIRouter(prefix="/api"), desk.workspace

    @router.get("/experiments")
    def asked() -> list[dict[str, Any]]:
        """Every experiment that was begun, with what it found, and every design that waits (`state` null)."""
        return list_shown(work)

    @router.get("/recipes/{name}/fields")
    def fields(name: Name) -> list[dict[str, Any]]:
        """The fields of a recipe that an axis can be made of, with their values there."""
        return offered_axes(work, name)

    @router.post("/experiments/forecast")
    def forecast(asked: Foreseen) -> dict[str, Any]:
        """The dry run: cells, images, hours, money, disk, the smallest difference it can show, and the arms' names."""
        return foresee(work, _draft(asked), asked.price, asked.engine)

    @router.post("/experiments")
    def new(asked: NewExperiment) -> dict[str, str]:
        """Writes the design, once; a job `experiment` of its name runs it."""
        return {"name": declare(work, _draft(asked))}

    @router.get("/experiments/{name}")
    def one(name: Id) -> dict[str, Any]:
        """What an experiment has found so far, and all of its cells."""
        return describe_experiment(work, name)

    @router.get("/experiments/{name}/report/{language}", response_class=Response)
    def report(name: Id, language: Literal["en", "fr"]) -> Response:
        """The report, a page without a script."""
        return Response(report_text(work, name, language), media_type="text/html; charset=utf-8", headers=HTML)

    @router.get("/experiments/{name}/report/images/{picture}", response_class=Response)
    def beside(name: Id, picture: Annotated[str, Path(max_length=110)]) -> Response:
        """A picture that lies beside a report which is too large for one file."""
        return Response(report_picture(work, name, picture), media_type="image/webp")

    @router.get("/decisions")
    def decisions() -> list[dict[str, Any]]:
        """Every decision as it is on record; `sosie decide list` looks at them anew."""
        with Session(work) as session:
            return [json_of(one) for one in entries(session, Decision)]

    @router.post("/decisions")
    def choose(asked: NewDecision) -> dict[str, Any]:
        """Puts a decision on record; an accepted one needs evidence that shows it, or a reason why there is none."""
        choice = Choice(**asked.model_dump(exclude={"settings"}), settings=tuple(asked.settings))
        with Session(work) as session:
            return json_of(decide(session, choice))

    @router.post("/decisions/{name}/accept")
    def agree(name: Id, asked: Acceptance) -> dict[str, Any]:
        """Accepts a decision that is proposed or doubted, on what is so now."""
        with Session(work) as session:
            return json_of(accept(session, name, **asked.model_dump()))

    return router


def _draft(asked: NewExperiment) -> Draft:
    table = asked.model_dump(exclude={"axes", "prompts", "price", "engine"})
    axes = tuple(Axis(one.field, tuple(one.values)) for one in asked.axes)
    return Draft(**table, axes=axes, prompts=tuple(asked.prompts))
