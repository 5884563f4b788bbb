"""What a machine does with a manifest: it claims a shard, draws what is left of it, and goes on until nothing is."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from sosie.core import Engine, Plan, Progress, Render, Result
from sosie.core.errors import EngineError, LostError
from sosie.engines.shards.claims import Claim, Claims
from sosie.engines.shards.manifest import Manifest


@dataclass(frozen=True)
class Pulled(Result):
    """Something became of a plan: a render, or an `error`. `in_vain`: another machine was faster."""

    plan_id: str
    shard: str
    error: EngineError | None = None
    in_vain: bool = False


@dataclass(frozen=True)
class Waits(Result):
    """Nothing is free: `held` shards are drawn by others, any of which may be gone."""

    held: int


@dataclass(frozen=True)
class Part:
    """Every `of`th shard, beginning with `number` (from 0): where machines share no folder."""

    number: int = 0
    of: int = 1

    def shards(self, manifest: Manifest) -> list[str]:
        """The names of its shards."""
        return [shard for shard in manifest.shards() if int(shard) % self.of == self.number]


Happening = Progress | Pulled | Waits


def pull(manifest: Manifest, claims: Claims, engine: Engine, part: Part | None = None) -> Generator[Happening]:
    """Draws shards until nothing is left that is not done. Whoever reads lets time pass when it `Waits`.

    An `EngineError` of a plan is kept in its place. Raises `LostError` when the engine's card or machine is gone, and
    what keeps it from drawing at all: others have the rest then.
    """
    part = part or Part()
    while True:
        shards = part.shards(manifest)
        claim = claims.take(shards)
        if claim is not None:
            yield from _drawn(manifest, claims, claim, engine)
            continue
        held = _open(claims, shards)
        if not held:
            return
        yield Waits(held)


def _open(claims: Claims, shards: Sequence[str]) -> int:
    standing = claims.standing()
    return sum(shard not in standing or not standing[shard].is_done for shard in shards)


def _drawn(manifest: Manifest, claims: Claims, claim: Claim, engine: Engine) -> Generator[Progress | Pulled]:
    try:
        left = {plan.id: plan for plan in manifest.left(claim.shard)}
        while left:
            try:
                if not (yield from _run(manifest, claims, claim, engine, left)):
                    return
            except LostError:
                raise
            except EngineError as error:
                plan_id = next(iter(left))
                del left[plan_id]
                manifest.fail(plan_id, error)
                yield Pulled(plan_id, claim.shard, error)
    except BaseException:
        claims.release(claim)
        raise
    claims.finish(claim)


def _run(
    manifest: Manifest, claims: Claims, claim: Claim, engine: Engine, left: dict[str, Plan]
) -> Generator[Progress | Pulled, None, bool]:
    """Draws what is `left`, and takes out of it what is drawn; False if another machine has the shard."""
    events: Any = engine.run(list(left.values()))
    with closing(events):
        for event in events:
            if not claims.renew(claim):
                return False
            if isinstance(event, Render):
                is_new = manifest.put(event)
                del left[event.plan.id]
                yield Pulled(event.plan.id, claim.shard, in_vain=not is_new)
            else:
                yield event
    if left:
        raise EngineError(f"engine {engine.name} ended without {len(left)} of its plans")
    return True
