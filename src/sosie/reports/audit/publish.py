"""Writing an audit: a page, Markdown and JSON of one source, in a folder."""

from __future__ import annotations

import json
from pathlib import Path

from sosie.core.errors import DeliveryError
from sosie.core.schema import digest
from sosie.reports.audit.audit import Audit
from sosie.reports.audit.compose import compose
from sosie.reports.audit.document import Document
from sosie.reports.audit.markdown import markdown
from sosie.reports.audit.words import Language
from sosie.reports.page import draw_page
from sosie.reports.place import mark, publish


def audit_page(document: Document, asked: str) -> str:
    """The page: no script, nothing fetched, light and dark, fit for a phone and for paper."""
    return draw_page("audit.html", document.title, asked, document=document)


def write_audit(audit: Audit, language: Language, folder: Path) -> tuple[Path, Path, Path]:
    """Writes `audit.html`, `audit.md` and `audit.json` into `folder`, whole or not at all each, and returns where.

    What another request made under these names stays (`reports.place`). Raises `DeliveryError`.
    """
    asked = digest(["audit", audit.character, language])
    document = compose(audit, language)
    table = {"generator": mark(asked), "language": language, **audit.to_json()}
    texts = {
        "audit.html": audit_page(document, asked),
        "audit.md": markdown(document, mark(asked)),
        "audit.json": json.dumps(table, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
    }
    try:
        html, md, data = (_published(folder / name, asked, text) for name, text in texts.items())
    except OSError as error:
        message = f"the audit could not be written to {folder}: {error.strerror or error}; the record is whole"
        raise DeliveryError(message, "free some space, or choose another --out") from None
    return html, md, data


def _published(path: Path, asked: str, text: str) -> Path:
    data = text.encode("utf-8", "backslashreplace")
    return publish(path, asked, lambda stream: stream.write(data))
