"""The JSON of what the doctor says, and of what it mended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sosie.api.lines.findings import JSON, Writers, finding_line

if TYPE_CHECKING:
    from sosie.api.doctor import Checkup
    from sosie.api.fixes import Fixed
    from sosie.doctor.disk import DiskPlan
    from sosie.lab.check import CheckedArm
    from sosie.servers.report import ServerReport


def _checkup(checkup: Checkup) -> JSON:
    names = ("role", "family", "variant", "layout", "storage", "parameters")
    return {
        "subject": checkup.subject,
        "kind": checkup.kind,
        "path": checkup.path or None,
        **{name: getattr(checkup.what, name, None) or None for name in names},
        "findings": [finding_line(finding) for finding in checkup.findings],
        **({} if checkup.disk is None else {"disk": _disk(checkup.disk)}),
        **({} if checkup.server is None else {"server": _server(checkup.server)}),
        **({"arms": [_arm(arm) for arm in checkup.arms]} if checkup.kind == "experiment" else {}),
    }


def _arm(arm: CheckedArm) -> JSON:
    return {
        "name": arm.name,
        "summary": arm.summary or None,
        "changes": list(arm.changes),
        "stopped": arm.is_stopped,
        "findings": [finding_line(finding) for finding in arm.findings],
    }


def _server(report: ServerReport) -> JSON:
    system = {name: getattr(report.system, name) or None for name in ("version", "python", "torch", "device")}
    memory = {"memory": report.system.memory or None, "free": report.system.free or None}
    packs = {pack: {"complete": not lacks, "lacks": list(lacks)} for pack, lacks in report.packs.items()}
    return {**system, **memory, "classes": report.classes, "packs": packs, "files": dict(report.files)}


def _disk(plan: DiskPlan) -> JSON:
    rows = [{"part": row.name, "bytes": row.bytes, "present": row.present, "how": row.how} for row in plan.rows]
    return {"rows": rows, "bytes": plan.bytes, "to_come": plan.to_come}


def _fixed(done: Fixed) -> JSON:
    fix = done.fix
    out = None if fix.out is None else str(fix.out)
    line = {"kind": "fix", "code": fix.code, "action": fix.action, "path": str(fix.path), "out": out}
    return {**line, "done": done.done, "message": done.message}


WRITERS: Writers = {
    "sosie.api.doctor.Checkup": _checkup,
    "sosie.api.fixes.Fixed": _fixed,
}
