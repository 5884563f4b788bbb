"""Where kept images are delivered: signed or bare, with what other programs are to read of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sosie.loop.task import Attempt
from sosie.provenance.parameters import Metadata, infotext, parameters_in, sidecar
from sosie.store import Outgoing
from sosie.workspace.session import Session

if TYPE_CHECKING:
    from sosie.provenance.signing_key import SigningKey
    from sosie.store import Store


@dataclass(frozen=True, eq=False)
class Outbox:
    """A folder that the kept images of a run are written to; `variant` ends their names.

    `key` None delivers bare images. `files` are those of the plans' assets that lie here, by name.
    """

    run: int
    folder: Path
    variant: str = ""
    key: SigningKey | None = None
    metadata: Metadata = "none"
    files: Mapping[str, Path] = field(default_factory=dict[str, Path])

    def deliver(self, attempt: Attempt, store: Store) -> Path:
        """Writes one kept image, on record; one that is there already as it is asked for stays."""
        from sosie.provenance.delivery import deliver, png_with
        from sosie.provenance.manifest import claim_of, signed_png

        plan = attempt.plan
        name = "-".join(part for part in (plan.character.name, attempt.task.name, plan.id[:8]) if part)
        target = self.folder / f"{name}{self.variant}.png"
        if self.metadata == "sidecar":
            text = json.dumps(sidecar(plan, self.files), ensure_ascii=False, indent=1) + "\n"
            deliver(text.encode("utf-8"), target.with_suffix(".json"))
        parameters = infotext(plan, self.files) if self.metadata == "a1111" else ""
        signed = self.key is not None
        if store.is_delivered(attempt.stored.id, target, signed) and parameters_in(target) == parameters:
            return target
        image = store.read(attempt.stored)
        if self.key is None:
            data = png_with(image, parameters=parameters)
        else:
            data = signed_png(image, claim_of(plan, attempt.stored.engine), self.key, parameters)
        outgoing = Outgoing(self.run, attempt.stored.id, target, signed, hashlib.sha256(data).hexdigest())
        with store.delivering(outgoing):
            deliver(data, target)
        return target


def signing_key(session: Session) -> SigningKey:
    """The key that `sosie.toml` names, or the workspace's own, which is made where there is none."""
    from sosie.provenance.keys import ensure_key, load_key

    own = session.workspace.config.provenance
    if own.certificate or own.private_key:
        return load_key(session.workspace.path(own.certificate), session.workspace.path(own.private_key))
    return ensure_key(session.workspace.state / "keys")
