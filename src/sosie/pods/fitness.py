"""Which offers the doctor knows to fail, and what a job would cost on the others."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sosie.core.finding import has_errors
from sosie.machines.facts import Gpu, MachineFacts, compute_of
from sosie.pods.offer import Offer
from sosie.pods.setup.locks import choose_lock

SHARE = 0.4
"""Of a card's greatest rate that drawing comes to; a guess, the same for all: it does not change the order."""

BOOT = 180.0
"""Seconds from a lease to the first command; a guess."""

DENSE_TFLOPS: tuple[tuple[str, float], ...] = (
    (r"\bB200\b", 2250.0),
    (r"\bH(?:100|200)\b", 989.0),
    (r"\bA100\b", 312.0),
    (r"\bL40S\b", 362.0),
    (r"\bL4\b", 121.0),
    (r"\bRTX PRO 6000\b", 504.0),
    (r"\bRTX 5090\b", 210.0),
    (r"\bRTX 5080\b", 113.0),
    (r"\bRTX 5070 ?Ti\b", 88.0),
    (r"\bRTX 4090\b", 165.0),
    (r"\bRTX 4080\b", 97.0),
    (r"\bRTX 4070 ?Ti\b", 80.0),
    (r"\bRTX 3090 ?Ti\b", 80.0),
    (r"\bRTX 3090\b", 71.0),
    (r"\bRTX 3080\b", 60.0),
    (r"\bA6000\b", 155.0),
    (r"\bA5000\b", 111.0),
    (r"\bA40\b", 150.0),
    (r"\bV100\b", 112.0),
)
"""A card's dense rate in fp16 with fp32 sums, 10^12 operations a second; recalled from NVIDIA's data sheets."""


@dataclass(frozen=True)
class Work:
    """A job: `tflop` of computing in all (10^12 operations), and bytes that are downloaded first."""

    tflop: float = 0.0
    download: int = 0


@dataclass(frozen=True)
class Estimate:
    """What a job would take on an offer: seconds, and US dollars with what the provider takes for traffic."""

    seconds: float
    cost: float


def unfit(offer: Offer) -> str:
    """Why the doctor knows that no environment of Sosie's runs there; empty if it does not."""
    compute = offer.compute or compute_of(offer.gpu)
    driver = ".".join(map(str, offer.driver)) if offer.driver else ""
    gpu = Gpu(offer.gpu, compute, offer.memory and offer.memory // 2**20, driver=driver, cuda=offer.cuda)
    _, findings = choose_lock(MachineFacts((gpu,)))
    return next((one.message for one in findings if one.severity == "error"), "") if has_errors(findings) else ""


def tflops_of(name: str) -> float | None:
    """The rate of a card by its name, None if it is not in the table."""
    return next((rate for pattern, rate in DENSE_TFLOPS if re.search(pattern, name, re.IGNORECASE)), None)


def estimate(offer: Offer, work: Work) -> Estimate | None:
    """What the work would take; None where the card's rate or the line's is not known and counts."""
    rate = tflops_of(offer.gpu)
    if (work.tflop and rate is None) or (work.download and not offer.bandwidth):
        return None
    drawing = work.tflop / (rate * SHARE * offer.gpus) if rate else 0.0
    loading = work.download / offer.bandwidth if offer.bandwidth else 0.0
    seconds = BOOT + loading + drawing
    return Estimate(seconds, seconds / 3600 * offer.price + work.download / 1e9 * offer.traffic)


def ranked(offers: list[Offer], work: Work) -> list[tuple[Offer, Estimate | None]]:
    """The offers by what the work would cost there; those of which that is not known come last, by their price."""
    found = [(offer, estimate(offer, work)) for offer in offers]
    return sorted(found, key=lambda one: (one[1] is None, one[1].cost if one[1] else one[0].price, one[0].price))
