"""The JSON of jobs and of rented machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sosie.api.lines.findings import JSON, Writers
from sosie.core.schema import to_table

if TYPE_CHECKING:
    from sosie.pods.lease import Lease
    from sosie.pods.offer import Offer
    from sosie.store.jobs import StoredJob


def _job(job: StoredJob) -> JSON:
    line = to_table(job)
    del line["place"]
    return {**line, "started": job.started or None, "finished": job.finished or None}


def _offer(offer: Offer) -> JSON:
    dotted = {name: _dotted(getattr(offer, name)) for name in ("compute", "driver", "cuda")}
    return {**to_table(offer), **dotted}


def _lease(lease: Lease) -> JSON:
    return {
        "provider": lease.provider,
        "id": lease.id,
        "label": lease.label or None,
        "price": lease.price,
        "state": lease.state,
        "deadline": lease.deadline.isoformat() if lease.deadline else None,
        "gpu": lease.gpu or None,
        "rise": lease.rise or None,
    }


def _dotted(version: tuple[int, ...] | None) -> str | None:
    return ".".join(map(str, version)) if version else None


WRITERS: Writers = {
    "sosie.pods.lease.Lease": _lease,
    "sosie.pods.offer.Offer": _offer,
    "sosie.store.jobs.StoredJob": _job,
}
