"""An image of the store as a file to give away: its pixels with a signed manifest that says how they were made."""

from __future__ import annotations

from sosie.api.outbox import signing_key
from sosie.core.plan import Plan
from sosie.store.gallery import Gallery
from sosie.store.images import path_of
from sosie.workspace.session import Session


def exported(session: Session, sha256: str, parameters: bool = False) -> tuple[str, bytes]:
    """The name and the content of a PNG, as `sosie generate` delivers it; with A1111's text, if asked for.

    Raises `NotFoundError`, and `ProvenanceError` where the key is refused.
    """
    from sosie.provenance.manifest import claim_of, signed_png
    from sosie.provenance.parameters import infotext

    session.store  # noqa: B018 - made and migrated now
    with Gallery(session.workspace.state) as gallery:
        shown = gallery.image(sha256)
        plan = Plan.from_json(gallery.settings(shown.plan))
    pixels = path_of(session.workspace.state / "images", shown.sha256).read_bytes()
    text = infotext(plan, {}) if parameters else ""
    name = f"{shown.character}-{plan.id[:8]}.png"
    return name, signed_png(pixels, claim_of(plan, shown.engine), signing_key(session), text)
