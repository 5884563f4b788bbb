"""`sosie model fetch`: what a recipe's files are, and downloading those that are missing."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import click

from sosie.cli.options import common
from sosie.cli.output import Output
from sosie.core.errors import UsageError
from sosie.core.finding import Finding, RuleError
from sosie.workspace.workspace import Workspace

if TYPE_CHECKING:
    from sosie.api.downloads import Fetched, FetchRow, Listing
    from sosie.fetch.web import Web


@click.command("fetch")
@click.argument("what", metavar="RECIPE|SOURCE")
@click.option("--as", "name", default="", metavar="NAME", help="What recipes call the file of SOURCE.")
@click.option("--list", "only_list", is_flag=True, help="Only say what the files are; download nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before downloading.")
@common
def fetch_command(what: str, name: str, output: Output, workspace: Workspace, only_list: bool, yes: bool) -> int:
    """Download the files of a RECIPE that are not here, or one file of a SOURCE, into models/.

    SOURCE is hf:OWNER/REPO:FILE, civitai:NUMBER, an address or a path. A download that broke off, even
    by a kill, goes on where it was. Size and SHA-256 are checked; pickles are converted before use.

    Tokens come from the environment: HF_TOKEN, CIVITAI_TOKEN. Exit 1 for findings, 2 if a download failed.
    """
    from sosie.api.downloads import check_room, list_files
    from sosie.fetch.download import N005
    from sosie.fetch.hubs import Hubs
    from sosie.fetch.web import Web

    with Web(Hubs.from_environment(), notice=output.say) as web:
        listing = list_files(workspace, web, what, name)
        rows = listing.to_fetch
        findings = [*listing.findings, *check_room(workspace, rows)]
        _show(output, listing, only_list)
        for finding in findings:
            output.finding(finding)
        if only_list:
            return min(1, _exit(findings))
        if rows and not any(finding.code == N005.code for finding in findings) and _agreed(rows, yes):
            for row in rows:
                findings += _fetch(output, workspace, web, row, listing.families)
            return _exit(findings)
        return max(_exit(findings), int(bool(rows)))


def _exit(findings: Sequence[Finding]) -> int:
    """2 if something could not be fetched, 1 for other findings, else 0."""
    failed = {f"SOS-N00{number}" for number in range(1, 8)}
    if any(finding.code in failed and finding.severity == "error" for finding in findings):
        return 2
    return int(any(finding.severity != "info" for finding in findings))


def _agreed(rows: Sequence[FetchRow], yes: bool) -> bool:
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError("--yes is missing, and there is no terminal to ask at", "add --yes, or --list to only look")
    known = sum((row.bytes or 0) - row.have for row in rows)
    return click.confirm(f"Download {_files(len(rows))}, {_both(known)}?", default=True, err=True)


def _fetch(
    output: Output, workspace: Workspace, web: Web, row: FetchRow, families: frozenset[str]
) -> Sequence[Finding]:
    """One file; what keeps it from coming is a finding, so that the others still come."""
    from sosie.api.downloads import Fetched, fetch
    from sosie.api.lines import json_of
    from sosie.core.errors import SosieError
    from sosie.fetch.retries import N001

    done: Fetched | None = None
    try:
        with output.progress(), closing(fetch(workspace, web, row, families)) as events:
            for event in events:
                output.event(event)
                if isinstance(event, Fetched):
                    done = event
    except SosieError as error:
        name = row.file.name
        finding = error.finding(name) if isinstance(error, RuleError) else N001.at(name, error.message, error.hint)
        output.finding(finding)
        if output.as_json:
            output.line({**json_of(row), "state": "failed", "findings": [json_of(finding)]})
        return [finding]
    return _fetched(output, done) if done is not None else []


def _fetched(output: Output, done: Fetched) -> Sequence[Finding]:
    from sosie.api.lines import json_of

    for finding in done.findings:
        output.finding(finding)
    if output.as_json:
        output.line(json_of(done))
    else:
        name, size = done.row.file.name, _both(done.received)
        output.say(f"✓ {name}: {size} in {done.seconds:.0f} s, SHA-256 {done.origin.sha256}")
        output.data(str(done.path))
    return done.findings


def _show(output: Output, listing: Listing, only_list: bool) -> None:
    """The table: data when it was asked for, else prose before the question; with --json one object a file."""
    if output.as_json:
        from sosie.api.lines import json_of

        for row in listing.rows:
            if only_list or row.state == "here" or row.published is None:
                output.line(json_of(row))
        return
    for line in _table(listing.rows):
        output.data(line) if only_list else output.say(line)


def _table(rows: Sequence[FetchRow]) -> list[str]:
    wide = max(len("to come"), *(len(row.file.name) for row in rows)) if rows else 8
    lines = [f"{'file':<{wide}} {'state':<14} {'GB':>7} {'GiB':>7}  {'SHA-256':<12} {'sell':<4} licence; source"]
    for row in rows:
        size = f"{row.bytes / 1e9:>7.2f} {row.bytes / 2**30:>7.2f}" if row.bytes is not None else f"{'?':>7} {'?':>7}"
        state = f"partial {row.have / row.bytes:.0%}" if row.state == "partial" and row.bytes else row.state
        source = re.sub(r"(@[0-9a-f]{8})[0-9a-f]{32}(?=:)", r"\1", row.file.source)  # --json shows the whole commit
        source += f" = {row.title}" if row.title and row.title not in source else ""
        token = f" (needs {row.token})" if row.token else ""
        file = row.file
        text = f"{file.licence or 'licence unknown'}; {source or 'your own'}{token}"
        lines.append(
            f"{file.name:<{wide}} {state:<14} {size}  {file.sha256[:12] or '?':<12} {file.commercial:<4} {text}"
        )
    for title, chosen in (("all", rows), ("to come", [row for row in rows if row.state != "here"])):
        total = sum((row.bytes or 0) - (row.have if title == "to come" else 0) for row in chosen)
        unknown = sum(row.bytes is None for row in chosen)
        more = f"  and {unknown} of unknown size" if unknown else ""
        lines.append(f"{title:<{wide}} {_files(len(chosen)):<14} {total / 1e9:>7.2f} {total / 2**30:>7.2f}{more}")
    return lines


def _files(count: int) -> str:
    return f"{count} file{'s' if count != 1 else ''}"


def _both(size: int) -> str:
    return f"{size / 1e9:.2f} GB ({size / 2**30:.2f} GiB)"
