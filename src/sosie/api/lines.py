"""The JSON of each noun: what `--json` prints and a page is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sosie.api.comparing import lines as comparing
from sosie.core import Calibrated
from sosie.core.schema import to_table

if TYPE_CHECKING:
    from sosie.api.character_files import ExportedCharacter, ImportedCharacter
    from sosie.api.characters import NewCharacter
    from sosie.api.doctor import Checkup
    from sosie.api.downloads import Fetched, FetchRow
    from sosie.api.fixes import Fixed
    from sosie.api.generation import Delivered
    from sosie.api.knowledge.audit import Audited
    from sosie.api.loras import AddedLora, LoraReport
    from sosie.api.model_folders import AddedFile, AddedFolder, AddedRecipe
    from sosie.api.scoring import Judged
    from sosie.api.training import Trained
    from sosie.core import CohortRate, Finding, Plan, Score, Scorecard, Verdict
    from sosie.dataset.build import AddedImage
    from sosie.dataset.check.report import DatasetReport
    from sosie.doctor.disk import DiskPlan
    from sosie.knowledge.book import Kept
    from sosie.lab.check import CheckedArm
    from sosie.lora.convert import Converted
    from sosie.lora.merging import Merged
    from sosie.pods.lease import Lease
    from sosie.pods.offer import Offer
    from sosie.servers.report import ServerReport
    from sosie.store.jobs import StoredJob
    from sosie.store.training import StoredTraining
    from sosie.workspace.library import InstalledModel

JSON = dict[str, Any]


def json_of(noun: object) -> JSON:
    """The object that JSON holds of a noun; keys keep their order, and what is unknown is None.

    Raises `TypeError` for a noun that is never shown as JSON.
    """
    kind = type(noun)
    write = WRITERS.get(f"{kind.__module__}.{kind.__qualname__}")
    if write is None:
        raise TypeError(f"{kind.__name__} has no JSON")
    return write(noun)


def _finding(finding: Finding) -> JSON:
    return {"code": finding.code, "severity": finding.severity, "message": finding.message, "hint": finding.hint}


def _delivered(item: Delivered) -> JSON:
    attempt = item.attempt
    plan = attempt.plan
    return {
        **_image(attempt.scorecard, attempt.verdict, str(item.image)),
        "plan": plan.id,
        "parent": plan.draw.parent or None,
        "seed": plan.seed,
        "attempt": plan.draw.attempt,
        "seconds": round(attempt.stored.seconds, 3),
        "path": _path(plan),
        "prompt": plan.prompt,
        "measures": attempt.stored.notes.measures,
    }


def _path(plan: Plan) -> str:
    """How the image came about: drawn, repaired from its parent's, or worked on from a given one."""
    return "repair" if plan.draw.is_repair else "given" if plan.source else "generate"


def _judged(item: Judged) -> JSON:
    unknown = dict.fromkeys(("plan", "parent", "seed", "attempt", "seconds"))
    return {**_image(item.scorecard, item.verdict, str(item.image)), **unknown}


def _image(scorecard: Scorecard, verdict: Verdict, image: str) -> JSON:
    return {
        "image": image,
        "verdict": verdict.outcome,
        "reasons": list(verdict.reasons),
        "scores": {
            "identity": [_identity(score) for score in scorecard.of("identity")],
            "defects": [_measured(score) for score in scorecard.of("defect")],
            "looks": [{**_measured(score), "unit": score.unit} for score in scorecard.of("look")],
        },
    }


def _identity(score: Score) -> JSON:
    evidence = score.evidence or Calibrated()
    rate = evidence.rate
    return {
        "judge": score.name,
        "value": score.value,
        "higher_is_better": score.higher_is_better if score.unit else None,
        "threshold": score.threshold,
        "fmr": rate.fmr if rate else None,
        "fmr_upper95": rate.upper95 if rate else None,
        "n": rate.n if rate else None,
        "cohort": rate.cohort if rate else None,
        "pass": score.passed,
        "reason": score.reason,
        "joint": _rate(evidence.joint),
        "others": _rate(evidence.others),
        "guided_by": list(evidence.guided_by),
        "threshold_from": evidence.basis or (rate.cohort if rate else None),
    }


def _rate(rate: CohortRate | None) -> JSON | None:
    if rate is None:
        return None
    return {"fmr": rate.fmr, "fmr_upper95": rate.upper95, "n": rate.n, "cohort": rate.cohort}


def _measured(score: Score) -> JSON:
    return {
        "name": score.name,
        "value": score.value,
        "threshold": score.threshold,
        "pass": score.passed,
        "reason": score.reason,
    }


def _checkup(checkup: Checkup) -> JSON:
    names = ("role", "family", "variant", "layout", "storage", "parameters")
    return {
        "subject": checkup.subject,
        "kind": checkup.kind,
        "path": checkup.path or None,
        **{name: getattr(checkup.what, name, None) or None for name in names},
        "findings": [_finding(finding) for finding in checkup.findings],
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
        "findings": [_finding(finding) for finding in arm.findings],
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


def _fetch_row(row: FetchRow) -> JSON:
    return {
        "name": row.file.name,
        "role": row.file.role or None,
        "source": row.file.source or None,
        "title": row.title or None,
        "state": row.state,
        "path": str(row.path),
        "bytes": row.bytes,
        "have": row.have,
        "sha256": row.file.sha256 or None,
        "licence": row.file.licence or None,
        "commercial": row.file.commercial,
        "token": row.token or None,
    }


def _fetched(done: Fetched) -> JSON:
    return {
        **_fetch_row(done.row),
        "state": "fetched",
        "path": str(done.path),
        "bytes": done.origin.bytes,
        "sha256": done.origin.sha256,
        "converted": done.origin.converted or None,
        "received": done.received,
        "seconds": round(done.seconds, 3),
        "findings": [_finding(finding) for finding in done.findings],
    }


def _added_lora(done: AddedLora) -> JSON:
    lora = done.lora
    return {
        "character": done.character,
        "path": str(done.path),
        "family": lora.family,
        "weight": lora.weight,
        "trigger": lora.trigger or None,
        "trained_on": lora.trained_on or None,
        "sha256": lora.sha256,
        "findings": [_finding(finding) for finding in done.findings],
    }


def _lora_report(report: LoraReport) -> JSON:
    lora, cover = report.lora, report.coverage
    return {
        "path": str(lora.path),
        "role": "lora",
        "family": lora.family or None,
        "variant": lora.variant or None,
        "nearest": lora.nearest or None,
        "layout": lora.layout.name,
        "algorithms": list(lora.algorithms),
        "ranks": list(lora.ranks),
        "alpha": {"source": lora.alpha_source, "scales": [_number(scale) for scale in lora.scales]},
        "trained_on": lora.trained_on,
        "triggers": list(lora.training.triggers),
        "software": lora.training.software or None,
        "coverage": None
        if cover is None
        else {"matched": cover.matched, "total": cover.total, "untouched": len(cover.untouched)},
        "loaders": [
            {"loader": o.loader, "result": o.result, "dropped": len(o.dropped), "because": o.because}
            for o in report.outcomes
        ],
        "findings": [_finding(finding) for finding in report.findings],
    }


def _number(value: float) -> float | None:
    """A number that JSON can hold; NaN and infinity become None."""
    return value if value - value == 0 else None


def _converted(done: Converted) -> JSON:
    return {"path": str(done.path), "to": done.to, "tensors": done.tensors, "notes": list(done.notes)}


def _merged(merged: Merged) -> JSON:
    return {"modules": list(merged.modules), "numbers": merged.numbers, "error": merged.error}


def _trained(done: Trained) -> JSON:
    record, triggers = done.record, list(done.triggers)
    return {
        "path": str(record.end.path) if record.end.path else None,
        "trigger": triggers[0] if len(triggers) == 1 else triggers,
        "scores": record.end.scores,
        "characters": list(record.start.characters),
        "given_to": list(done.given_to),
        "report": str(done.report),
        **_run(record),
    }


def _stored_training(run: StoredTraining) -> JSON:
    return {
        "characters": list(run.start.characters),
        "path": str(run.end.path) if run.end.path else None,
        "scores": run.end.scores,
        **_run(run),
        "settings": dict(run.start.settings),
        "machine": run.start.machine.device,
    }


def _run(run: StoredTraining) -> JSON:
    start, end = run.start, run.end
    return {
        "id": run.id,
        "recipe": start.recipe,
        "base": start.base,
        "base_sha256": start.base_sha256,
        "dataset": start.dataset,
        "images": start.images,
        "job": start.job,
        "started": run.started,
        "finished": run.finished or None,
        "cause": end.cause or None,
        "message": end.message or None,
        "step": end.step,
        "steps": start.steps,
        "best": end.best,
        "sha256": end.sha256 or None,
        "seconds": round(run.seconds, 3),
    }


def _new_character(made: NewCharacter) -> JSON:
    left_out = [{"code": f.code, "image": f.subject, "message": f.message} for f in made.report.findings]
    return {
        "character": made.character.name,
        "folder": str(made.folder),
        "references": len(made.character.references),
        "findings": left_out,
    }


def _exported_character(done: ExportedCharacter) -> JSON:
    return {**to_table(done), "path": str(done.path)}


def _imported_character(made: ImportedCharacter) -> JSON:
    who = made.character
    return {
        "character": who.name,
        "folder": str(made.folder),
        "likeness": who.likeness,
        "adult": who.adult,
        "references": len(who.references),
        "loras": [lora.file for lora in who.loras],
        "left": [{"file": file, "sha256": digest} for file, digest in made.left],
    }


def _added_image(added: AddedImage) -> JSON:
    member = added.member
    return {
        "image": str(added.path),
        "caption": member.caption,
        **({"alternatives": list(member.alternatives)} if member.alternatives else {}),
        "by": member.by,
        "source": member.source or None,
        "scores": dict(member.scores),
        "sha256": member.sha256,
    }


def _dataset_report(report: DatasetReport) -> JSON:
    return {"balance": to_table(report.balance), "findings": to_table(report.findings)}


def _installed_model(model: InstalledModel) -> JSON:
    return {"name": model.name, "source": model.source, "licence": model.licence or None, "summary": model.summary}


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


def _added_file(added: AddedFile) -> JSON:
    return {"kind": "file", **to_table(added), "findings": [_finding(one) for one in added.findings]}


def _added_recipe(added: AddedRecipe) -> JSON:
    return {"kind": "recipe", "whole": added.is_whole, **to_table(added)}


def _added_folder(added: AddedFolder) -> JSON:
    return {"kind": "config", **to_table(added)}


def _audited(made: Audited) -> JSON:
    paths = {name: str(getattr(made, name)) for name in ("html", "markdown", "json")}
    return {**paths, "findings": [_finding(one) for one in made.findings]}


def _kept(kept: Kept[Any]) -> JSON:
    return {"id": kept.id, "version": kept.entry.version, "written": kept.written, **to_table(kept.noun)}


WRITERS: dict[str, Callable[[Any], JSON]] = {
    "sosie.api.character_files.ExportedCharacter": _exported_character,
    "sosie.api.character_files.ImportedCharacter": _imported_character,
    "sosie.api.characters.NewCharacter": _new_character,
    "sosie.api.comparing.sides.Compared": comparing.compared,
    "sosie.api.comparing.panels.NewPanel": comparing.new_panel,
    "sosie.api.comparing.panels.PanelResults": comparing.panel_results,
    "sosie.api.doctor.Checkup": _checkup,
    "sosie.api.downloads.FetchRow": _fetch_row,
    "sosie.api.downloads.Fetched": _fetched,
    "sosie.api.fixes.Fixed": _fixed,
    "sosie.api.generation.Delivered": _delivered,
    "sosie.api.model_folders.AddedFile": _added_file,
    "sosie.api.model_folders.AddedFolder": _added_folder,
    "sosie.api.model_folders.AddedRecipe": _added_recipe,
    "sosie.api.knowledge.audit.Audited": _audited,
    "sosie.api.loras.AddedLora": _added_lora,
    "sosie.api.loras.LoraReport": _lora_report,
    "sosie.api.scoring.Judged": _judged,
    "sosie.api.training.Trained": _trained,
    "sosie.core.finding.Finding": _finding,
    "sosie.pods.lease.Lease": _lease,
    "sosie.pods.offer.Offer": _offer,
    "sosie.dataset.build.AddedImage": _added_image,
    "sosie.dataset.check.report.DatasetReport": _dataset_report,
    "sosie.knowledge.book.Kept": _kept,
    "sosie.lora.convert.Converted": _converted,
    "sosie.lora.merging.Merged": _merged,
    "sosie.store.jobs.StoredJob": _job,
    "sosie.store.training.StoredTraining": _stored_training,
    "sosie.workspace.library.InstalledModel": _installed_model,
}
"""By the noun's full name, so that none of their modules is loaded before it is needed."""
