"""The sections on what was chosen and what is to come: machines, notes, decisions, files, next steps."""

from __future__ import annotations

from sosie.core.finding import Finding
from sosie.knowledge.book import Kept
from sosie.knowledge.decision import Decision, Doubt
from sosie.knowledge.evidence import Evidence
from sosie.knowledge.rental import Rental
from sosie.knowledge.task import Task
from sosie.reports.audit.audit import Audit, Drawn
from sosie.reports.audit.document import Bar, Bars, Block, Cell, Lines, Mark, Section, Table
from sosie.reports.audit.words import Words

DIGITS = 12
"""Letters of a digest that are shown."""

STATUS: dict[str, Mark] = {"doubted": "bad", "accepted": "good", "proposed": "doubt", "superseded": "faint"}
"""In the order in which they are told."""


def machines(audit: Audit, words: Words) -> Section:
    """Section 3: every machine that was paid for, with price, hours, cost and problems."""
    columns = tuple(
        map(words, ("machine", "place", "price", "hours", "cost", "images_kept", "each", "use", "problems"))
    )
    rows = tuple(_machine(one.noun, audit.drawn.get(one.noun.label), words) for one in audit.rentals)
    blocks: list[Block] = [Table(columns, rows)] if rows else []
    known = [one.noun for one in audit.rentals if one.noun.cost]
    if len(known) > 1:
        top = max(one.cost or 0 for one in known)
        bars = tuple(Bar(one.gpu, (one.cost or 0) / top, words.money(one.cost or 0)) for one in known)
        blocks.append(Bars(words("costs_title"), bars))
    return Section(3, words("machines_title"), tuple(blocks), words("machines_empty"), words("machines_lead"))


def _machine(one: Rental, drawn: Drawn | None, words: Words) -> tuple[Cell, ...]:
    hours, cost = one.billed_hours, one.cost
    unknown = Cell(words("not_recorded"), "doubt")
    name = f"{one.gpu} · {words('active') if one.is_active else words('ended')}"
    return (
        Cell(name, "good" if one.is_active else ""),
        Cell(", ".join(text for text in (one.place, one.provider) if text) or "-"),
        Cell(words("per_hour", price=words.money(one.price)), number=True),
        unknown if hours is None else Cell(words.number(hours, 1), number=True),
        unknown if cost is None else Cell(words.money(cost), number=True),
        Cell("-" if drawn is None or not drawn.drawn else f"{drawn.kept} / {drawn.drawn}", number=True),
        Cell("-" if drawn is None or drawn.each is None else words.money(drawn.each), number=True),
        Cell(one.use or "-"),
        Cell("; ".join(one.problems) or "-", "bad" if one.problems else ""),
    )


def active(audit: Audit, words: Words) -> Section:
    """Section 9: the machines that the record has no end of."""
    columns = tuple(map(words, ("machine", "address", "since", "price", "holds")))
    rows = tuple(
        (
            Cell(f"{one.gpu}{f', {one.place}' if one.place else ''}"),
            Cell(one.address or "-", code=bool(one.address)),
            Cell(words.day(one.started)),
            Cell(words("per_hour", price=words.money(one.price)), number=True),
            Cell("; ".join(one.holds) or "-"),
        )
        for one in (kept.noun for kept in audit.rentals)
        if one.is_active
    )
    blocks = (Table(columns, rows),) if rows else ()
    return Section(9, words("active_title"), blocks, words("active_empty"), words("active_lead"))


def notes(audit: Audit, words: Words) -> Section:
    """Section 5: what was read, with source, date and expiry; the newest first."""
    columns = tuple(map(words, ("read", "topic", "insight", "source", "expires")))
    rows: list[tuple[Cell, ...]] = []
    for kept in sorted(audit.notes, key=lambda one: one.noun.date, reverse=True):
        one = kept.noun
        if one.about.startswith("training "):
            continue
        is_old = one.is_expired(audit.day)
        until = words.day(one.expires) if one.expires else "-"
        rows.append(
            (
                Cell(words.day(one.date)),
                Cell(one.about or "-"),
                Cell(one.text, "faint" if is_old else ""),
                Cell(one.source or "-"),
                Cell(words("expired", day=until) if is_old else until, "doubt" if is_old else ""),
            )
        )
    blocks = (Table(columns, tuple(rows)),) if rows else ()
    return Section(5, words("notes_title"), blocks, words("notes_empty"), words("notes_lead"))


def decisions(audit: Audit, words: Words) -> Section:
    """Section 6: the doubted ones first, each with its doubts; then the confirmed, the open, and the superseded."""
    blocks: list[Block] = []
    for status in STATUS:
        found = [one for one in audit.decisions if one.noun.status == status]
        if not found:
            continue
        columns = tuple(map(words, ("decision", "why", "stands_on", "would_change")))
        blocks.append(Table(columns, tuple(_decision(one, words) for one in found), words(f"decisions_{status}")))
        doubts = [
            Cell(f"{one.id}{words('colon')} {doubt_text(doubt, words)}", "bad")
            for one in found
            for doubt in one.noun.doubts
        ]
        if doubts:
            blocks.append(Lines(tuple(doubts), words("doubts_title")))
    return Section(6, words("decisions_title"), tuple(blocks), words("decisions_empty"), words("decisions_lead"))


def _decision(kept: Kept[Decision], words: Words) -> tuple[Cell, ...]:
    one = kept.noun
    why = " ".join((one.why, *(words("considered", text=text) for text in one.considered))).strip()
    stands = "; ".join(_evidence(each, words) for each in one.evidence)
    missing = one.status in ("accepted", "doubted") and not stands
    if missing:
        stands = words("without_evidence", reason=one.without_evidence)
    digests = ", ".join(f"{each.name} {each.value[:DIGITS]}" for each in one.premises if each.kind == "model")
    settings = ", ".join(f"{each.name} = {each.value}" for each in one.premises if each.kind == "setting")
    full = "; ".join(f"{each.kind} {each.name} = {each.value}" for each in one.premises)
    if digests:
        stands = f"{stands} ({words('files', names=digests)})".strip()
    if settings:
        stands = f"{stands} ({words('set_to', names=settings)})".strip()
    later = words("superseded_by", id=one.superseded_by) if one.superseded_by else one.would_change
    return (
        Cell(f"{kept.id} · {one.title} · {words.day(one.date)}", STATUS[one.status]),
        Cell(why or "-"),
        Cell(stands or "-", "doubt" if missing else "", full=full),
        Cell(later or "-"),
    )


def _evidence(one: Evidence, words: Words) -> str:
    text = f"{one.experiment} ({one.digest[:DIGITS]}), {one.contrast}{words('colon')} {words(f'verdict_{one.verdict}')}"
    if one.estimate is None or one.low is None or one.high is None:
        return text
    interval = words("to", low=words.number(one.low, 3), high=words.number(one.high, 3))
    return f"{text}, {words.number(one.estimate, 3)} ({interval})"


def doubt_text(doubt: Doubt, words: Words) -> str:
    """A doubt in the words of the language."""
    was, now = (text[:DIGITS] if len(text) == 64 else text for text in (doubt.was, doubt.now))
    return words(f"doubt_{doubt.kind}", name=doubt.name, was=was or "-", now=now or words("gone"))


def files(audit: Audit, words: Words) -> Section:
    """Section 7: the files that the work stands on, with their digests and what the doctor says of them."""
    rows: list[tuple[Cell, ...]] = []
    for kept in audit.files:
        one = kept.noun
        rows.append(
            (
                Cell(one.name, code=True),
                Cell("; ".join(text for text in (one.what, one.use) if text) or "-"),
                Cell("-" if one.size is None else words.size(one.size), number=True),
                _digest(one.sha256, one.header, words),
                Cell(_said(one.findings), quoted=bool(one.findings)),
            )
        )
    known = {one.noun.sha256 for one in audit.files}
    for used in audit.used:
        if not used.sha256 or used.sha256 not in known:
            role = Cell(words(f"role_{used.role}"))
            rows.append((Cell(used.name, code=True), role, Cell("-"), _digest(used.sha256, "", words), Cell("-")))
    columns = tuple(map(words, ("file", "what", "size", "digest", "doctor")))
    blocks = (Table(columns, tuple(rows)),) if rows else ()
    return Section(7, words("files_title"), blocks, words("files_empty"), words("files_lead"))


def _digest(sha256: str, header: str, words: Words) -> Cell:
    if sha256:
        return Cell(sha256[:DIGITS], full=sha256, code=True)
    if header:
        return Cell(words("header_digest", digest=header[:DIGITS]), "doubt", full=header)
    return Cell(words("no_digest"), "doubt")


def _said(findings: tuple[Finding, ...]) -> str:
    """The errors and warnings; where there are none, what is said first."""
    bad = [one for one in findings if one.severity != "info"]
    return "; ".join(f"{one.code}: {one.message}" for one in bad or findings[:1]) or "-"


def steps(audit: Audit, words: Words) -> Section:
    """Section 8: what to do next, by expected gain for each dollar, an hour counted as the audit says."""
    columns = tuple(map(words, ("step", "gain", "time", "money", "worth", "stops")))
    rows = tuple(_step(place, one, audit, words) for place, one in enumerate(audit.steps, 1))
    blocks: list[Block] = [Table(columns, rows)] if rows else []
    ranked = [(one, worth) for one in audit.steps if (worth := one.noun.worth(audit.hour)) is not None]
    if len(ranked) > 1:
        top = max(worth for _, worth in ranked) or 1.0
        bars = tuple(
            Bar(f"{one.id} · {one.noun.title}", worth / top, words("worth_text", worth=words.number(worth, 1)))
            for one, worth in ranked
        )
        blocks.append(Bars(words("worth_title"), bars))
    lead = words("steps_lead", hour=words.money(audit.hour))
    return Section(8, words("steps_title"), tuple(blocks), words("steps_empty"), lead)


def _step(place: int, kept: Kept[Task], audit: Audit, words: Words) -> tuple[Cell, ...]:
    one, unknown = kept.noun, Cell(words("not_estimated"), "doubt")
    worth = one.worth(audit.hour)
    chance = words("chance", gain=words.number(one.gain or 0), chance=words.number(one.chance))
    why = f" · {one.why}" if one.why else ""
    stops = "; ".join(text for text in (one.blocked_by, one.experiment) if text)
    return (
        Cell(f"{place}. {one.title} ({kept.id}){why}", "doubt" if one.state == "blocked" else ""),
        unknown if one.gain is None else Cell(chance, number=True),
        unknown if one.hours is None else Cell(words("hours_text", hours=words.number(one.hours, 1)), number=True),
        Cell(words.money(one.money), number=True),
        unknown if worth is None else Cell(words.number(worth, 1), number=True),
        Cell(stops or "-"),
    )
