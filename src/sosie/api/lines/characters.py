"""The JSON of characters and their training sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sosie.api.lines.findings import JSON, Writers
from sosie.core.schema import to_table

if TYPE_CHECKING:
    from sosie.api.character_files import ExportedCharacter, ImportedCharacter
    from sosie.api.characters import NewCharacter
    from sosie.dataset.build import AddedImage
    from sosie.dataset.check.report import DatasetReport


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


WRITERS: Writers = {
    "sosie.api.character_files.ExportedCharacter": _exported_character,
    "sosie.api.character_files.ImportedCharacter": _imported_character,
    "sosie.api.characters.NewCharacter": _new_character,
    "sosie.dataset.build.AddedImage": _added_image,
    "sosie.dataset.check.report.DatasetReport": _dataset_report,
}
