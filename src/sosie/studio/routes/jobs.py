"""The queue, and everything that is told of it, as a stream that nothing is lost of."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException

from sosie.api import add_job, cancel_job, continue_job, json_of, list_jobs, move_job
from sosie.api.jobs.queue import open_jobs
from sosie.store.jobs import JobEvent
from sosie.studio.asked import Move, NewJob, Row
from sosie.studio.desk import PULSE, Desk
from sosie.studio.spoken import beside

MOST_STREAMS = 100
QUIET = 15.0
"""Seconds after which a stream says that it still lives."""


def routes(desk: Desk) -> APIRouter:
    """The routes on a desk."""
    router, work = APIRouter(prefix="/api"), desk.workspace
    streams: set[int] = set()

    @router.get("/jobs")
    def jobs(every: bool = False) -> list[dict[str, Any]]:
        """The jobs that run, wait or were stopped, in their order; with `every`, those at their end too."""
        return [json_of(job) for job in list_jobs(work, not every)]

    @router.post("/jobs")
    def new_job(asked: NewJob) -> dict[str, Any]:
        """Puts a job at the end of the queue."""
        return json_of(add_job(work, asked.kind, asked.request))

    @router.post("/jobs/{number}/cancel")
    def cancel(number: Row) -> dict[str, Any]:
        """Ends a job now."""
        return json_of(cancel_job(work, number))

    @router.post("/jobs/{number}/continue")
    def go_on(number: Row) -> dict[str, Any]:
        """Puts a job that was stopped, cancelled or failed first in the queue."""
        return json_of(continue_job(work, number))

    @router.post("/jobs/{number}/move")
    def move(number: Row, asked: Move) -> dict[str, Any]:
        """Changes the place of a waiting job."""
        return json_of(move_job(work, number, asked.before))

    @router.get("/jobs/{number}/events")
    def told(number: Row) -> list[dict[str, Any]]:
        """Everything that was told of a job."""
        with open_jobs(work) as opened:
            opened.get(number)
            return [_line(event) for event in opened.events(0, number)]

    @router.get("/events", response_class=StreamingResponse)
    async def events(
        after: Annotated[Row | None, Query()] = None,
        last_event_id: Annotated[str, Header(max_length=15)] = "",
    ) -> StreamingResponse:
        """What is told of all jobs, as server-sent events, after the one that the browser says it saw last."""
        if len(streams) >= MOST_STREAMS:
            raise HTTPException(503)
        start = int(last_event_id) if last_event_id.isascii() and last_event_id.isdigit() else after
        streams.add(mark := max(streams, default=0) + 1)

        async def lines() -> AsyncGenerator[str]:
            try:
                async for line in _stream(desk, start):
                    yield line
            finally:
                streams.discard(mark)

        return StreamingResponse(lines(), media_type="text/event-stream")

    return router


async def _stream(desk: Desk, start: int | None) -> AsyncGenerator[str]:
    """Without a `start`, from now on; the first line says which event is the newest."""
    seen = desk.newest if start is None else start
    yield f"retry: 1000\nid: {seen}\nevent: hello\ndata: {{}}\n\n"
    quiet = 0.0
    while not desk.is_over:
        if desk.newest > seen:
            quiet = 0.0
            for event in await run_in_threadpool(_events, desk, seen):
                seen = event.id
                yield f"id: {event.id}\ndata: {json.dumps(_line(event))}\n\n"
        elif quiet >= QUIET:
            quiet = 0.0
            yield ": still here\n\n"
        await asyncio.sleep(PULSE)
        quiet += PULSE


def _events(desk: Desk, after: int) -> tuple[JobEvent, ...]:
    with open_jobs(desk.workspace) as opened:
        return opened.events(after)


def _line(event: JobEvent) -> dict[str, Any]:
    told = beside(event.table)
    return {"id": event.id, "job": event.job, "kind": event.kind, "created": event.created, "told": told}
