"""`sosie decide`: decisions with their evidence."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from sosie.cli.options import common, session
from sosie.cli.output import Output
from sosie.workspace.workspace import Workspace

if TYPE_CHECKING:
    from sosie.knowledge.book import Kept
    from sosie.knowledge.decision import Decision
    from sosie.knowledge.evidence import Evidence


@click.group("decide")
def command() -> None:
    """Put decisions on record, with the evidence they stand on."""


def _evidence(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options by which evidence is given, or said to be missing."""
    for option in (
        click.option("--without-evidence", default="", metavar="REASON", help="Why there is no evidence."),
        click.option("--contrast", default="", help="Which contrast of it; by default the one that its winner won."),
        click.option(
            "--because", default="", metavar="EXPERIMENT", help="The experiment that shows it, by name or id."
        ),
    ):
        function = option(function)
    return function


@command.command("new")
@click.argument("title")
@click.option("--character", default="", help="Whom it is about; by default the whole workspace.")
@_evidence
@click.option("--proposed", is_flag=True, help="Not accepted yet: it needs no evidence.")
@click.option("--why", default="", help="What was the matter, and what was chosen.")
@click.option("--considered", multiple=True, help="What else was looked at; may be given several times.")
@click.option("--would-change", default="", help="What would change your mind.")
@click.option("--recipe", default="", help="It stands on this recipe's files and calibration.")
@click.option("--setting", "settings", multiple=True, help="And on this field of it: stages.generate.sampler.cfg.")
@click.option("--model", "models", multiple=True, help="It stands on this model's file; may be given several times.")
@click.option("--supersedes", default="", metavar="ID", help="The decision in whose place it is.")
@common
def new(output: Output, workspace: Workspace, **said: Any) -> None:
    """Put the decision TITLE on record.

    It doubts itself as soon as what it stands on is otherwise: a file, a setting, a judge, its calibration, or a later
    experiment whose interval excludes its own.
    """
    from sosie.api.knowledge.decisions import Choice, decide

    with session(workspace) as opened:
        made = decide(opened, Choice(**said))
    _show(output, made)


@command.command("accept")
@click.argument("id_", metavar="ID")
@_evidence
@common
def accept(id_: str, output: Output, workspace: Workspace, **said: str) -> None:
    """Accept the decision ID, which is proposed or doubted, on what is so now."""
    from sosie.api.knowledge import decisions

    with session(workspace) as opened:
        made = decisions.accept(opened, id_, **said)
    _show(output, made)


@command.command("list")
@click.option("--character", default="", help="Those of a character, and of the whole workspace.")
@common
def list_(character: str, output: Output, workspace: Workspace) -> int:
    """List every decision, the doubted ones first. Exit 1 if one is in doubt."""
    from sosie.api.knowledge.decisions import findings_of, review

    with session(workspace) as opened:
        found = review(opened, character)
    for one in found:
        for finding in findings_of(one):
            output.finding(finding)
        _show(output, one, line=True)
    return int(any(one.noun.status == "doubted" for one in found))


@command.command("show")
@click.argument("id_", metavar="ID")
@common
def show(id_: str, output: Output, workspace: Workspace) -> None:
    """Show every version of the decision ID, the oldest first."""
    from sosie.api.knowledge.decisions import history, review

    with session(workspace) as opened:
        review(opened)
        found = history(opened, id_)
    for one in found:
        _show(output, one)


def _show(output: Output, kept: Kept[Decision], line: bool = False) -> None:
    from sosie.api.lines import json_of

    if output.as_json:
        output.line(json_of(kept))
        return
    noun = kept.noun
    if line:
        stands = "; ".join(_stands(one) for one in noun.evidence) or f"without evidence: {noun.without_evidence or '-'}"
        output.data(f"{kept.id}\t{noun.status}\t{noun.date}\t{noun.character or '-'}\t{noun.title}\t{stands}")
        return
    output.data("\n".join(_lines(kept)), lines=True)


def _lines(kept: Kept[Decision]) -> list[str]:
    from sosie.api.knowledge.decisions import told

    noun = kept.noun
    rows = [("", f"{kept.id} (version {kept.entry.version}, {kept.written[:16].replace('T', ' ')}): {noun.title}")]
    rows += [("status", noun.status), ("why", noun.why)]
    rows += [("considered", one) for one in noun.considered]
    rows += [("evidence", _stands(one)) for one in noun.evidence]
    rows.append(("without evidence", noun.without_evidence))
    rows += [("stands on", f"{one.kind} {one.name} = {one.value[:64] or '-'}") for one in noun.premises]
    rows += [("doubt", told(one)) for one in noun.doubts]
    rows += [("would change it", noun.would_change), ("supersedes", noun.supersedes)]
    rows.append(("superseded by", noun.superseded_by))
    return [f"  {name}: {text}" if name else text for name, text in rows if text]


def _stands(evidence: Evidence) -> str:
    from sosie.knowledge.evidence import interval_text

    return f"{evidence.experiment} ({evidence.digest[:12]}): {evidence.contrast} {evidence.verdict}, " + interval_text(
        evidence
    )
