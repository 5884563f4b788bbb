"""A result as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sosie.reports.experiment.view import View


def markdown(view: View) -> str:
    """The report without its pictures."""
    return "\n".join(_lines(view)) + "\n"


def _lines(view: View) -> Iterator[str]:
    result, words = view.result, view.words
    yield f"# {result.question or result.name}"
    yield f"\n**{view.answer}**\n"
    yield f"## {words('design')}\n"
    yield from _table(("", ""), view.design)
    yield f"\n## {words('verdicts')}\n"
    head = ("compared", "verdict", "difference", "p", "n", "note")
    rows = [
        (
            words.said(one.name),
            words(one.verdict),
            view.found(one),
            words.number(one.p, 3),
            str(one.n),
            words.said(one.note),
        )
        for one in result.contrasts
    ]
    yield from _table(tuple(map(words, head)), rows)
    if view.touches_zero:
        yield f"\n{words('stricter')}"
    yield f"\n## {words('arms')}\n"
    arms = [
        (
            arm.name,
            view.number(arm.endpoint.value if arm.endpoint else None),
            words.between(arm.endpoint.low, arm.endpoint.high, view.digits) if arm.endpoint else "-",
            view.kept(arm),
            str(arm.blocks),
            str(arm.failed),
            str(arm.faceless),
            words.number(arm.seconds, 1),
        )
        for arm in result.arms
    ]
    head = ("arm", "endpoint", "interval_of_arms", "kept", "n", "failed", "faceless", "seconds")
    yield from _table(tuple(map(words, head)), arms)
    yield f"\n## {words('failures')}\n"
    failed = [
        (cell.arm, result.prompts[cell.prompt], str(cell.seed), cell.error.code, cell.error.message)
        for cell in view.failures
        if cell.error
    ]
    if failed:
        yield from _table(tuple(map(words, ("arm", "block", "seed", "code", "what"))), failed)
    else:
        yield words("none_failed")
    yield f"\n## {words('deviations')}\n"
    yield from (f"- {words.said(text)}" for text in result.deviations or (words("none_deviation"),))
    yield f"\n## {words('environment')}\n"
    yield from (f"- `{one.name}` `{one.sha256[:16] or '-'}`" for one in (*result.models, *result.judges))
    yield f"- {words('design_digest')}: `{result.design_digest}`"
    yield f"- {words('digest')}: `{result.digest}`"
    yield f"\n{words('command')}:\n\n    {result.command}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(_cell(text) for text in row)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
