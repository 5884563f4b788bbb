"""Machines that are rented: what bills, what can be had, and the end of one. No key is ever among what is sent."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from sosie.api import Session
from sosie.api.renting.rent import end_pod
from sosie.api.views.machines import describe_machines, describe_offers
from sosie.studio.asked import Nothing, OffersOf, PodName
from sosie.studio.desk import Desk


def routes(desk: Desk) -> APIRouter:
    """The routes on a desk."""
    router, work = APIRouter(prefix="/api/machines"), desk.workspace

    @router.get("")
    def machines() -> dict[str, Any]:
        """Everything that bills, with what it came to so far, and what was paid before. The providers are asked."""
        with Session(work) as session:
            return describe_machines(session)

    @router.get("/offers")
    def offers(asked: Annotated[OffersOf, Query()]) -> dict[str, Any]:
        """What can be rented of what is wanted. The providers are asked; nothing is rented."""
        wanted = asked.model_dump(exclude={"disk", "places"})
        return describe_offers(
            **wanted, disk=int(asked.disk * 1e9), places=tuple(asked.places.replace(",", " ").split())
        )

    @router.post("/{name}/end")
    def end(name: PodName, asked: Nothing) -> dict[str, str]:
        """Ends a machine with its disk, and answers when the provider has confirmed it."""
        del asked
        with Session(work) as session:
            pod = end_pod(session, name)
        return {"name": pod.name, "lease": pod.lease, "ended": pod.ended}

    return router
