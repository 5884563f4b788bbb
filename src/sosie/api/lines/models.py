"""The JSON of model files and LoRAs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sosie.api.lines.findings import JSON, Writers, finding_line
from sosie.core.schema import to_table

if TYPE_CHECKING:
    from sosie.api.downloads import Fetched, FetchRow
    from sosie.api.loras import AddedLora, LoraReport
    from sosie.api.model_folders import AddedFile, AddedFolder, AddedRecipe
    from sosie.lora.convert import Converted
    from sosie.lora.merging import Merged
    from sosie.workspace.library import InstalledModel


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
        "findings": [finding_line(finding) for finding in done.findings],
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
        "findings": [finding_line(finding) for finding in done.findings],
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
        "findings": [finding_line(finding) for finding in report.findings],
    }


def _number(value: float) -> float | None:
    """A number that JSON can hold; NaN and infinity become None."""
    return value if value - value == 0 else None


def _converted(done: Converted) -> JSON:
    return {"path": str(done.path), "to": done.to, "tensors": done.tensors, "notes": list(done.notes)}


def _merged(merged: Merged) -> JSON:
    return {"modules": list(merged.modules), "numbers": merged.numbers, "error": merged.error}


def _installed_model(model: InstalledModel) -> JSON:
    return {"name": model.name, "source": model.source, "licence": model.licence or None, "summary": model.summary}


def _added_file(added: AddedFile) -> JSON:
    return {"kind": "file", **to_table(added), "findings": [finding_line(one) for one in added.findings]}


def _added_recipe(added: AddedRecipe) -> JSON:
    return {"kind": "recipe", "whole": added.is_whole, **to_table(added)}


def _added_folder(added: AddedFolder) -> JSON:
    return {"kind": "config", **to_table(added)}


WRITERS: Writers = {
    "sosie.api.downloads.FetchRow": _fetch_row,
    "sosie.api.downloads.Fetched": _fetched,
    "sosie.api.loras.AddedLora": _added_lora,
    "sosie.api.loras.LoraReport": _lora_report,
    "sosie.api.model_folders.AddedFile": _added_file,
    "sosie.api.model_folders.AddedFolder": _added_folder,
    "sosie.api.model_folders.AddedRecipe": _added_recipe,
    "sosie.lora.convert.Converted": _converted,
    "sosie.lora.merging.Merged": _merged,
    "sosie.workspace.library.InstalledModel": _installed_model,
}
