"""A Request: what was asked for, before anything is resolved."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sosie.core.recipe import LoraUse, Sampler, Stage


@dataclass(frozen=True)
class Sampling:
    """What a prompt's line changes in the sampler of the stage `generate`; None and empty: nothing."""

    steps: int | None = None
    cfg: float | None = None
    name: str = ""
    schedule: str = ""

    def of(self, sampler: Sampler) -> Sampler:
        """The sampler as it is then."""
        changes = {"steps": self.steps, "cfg": self.cfg, "name": self.name, "schedule": self.schedule}
        return replace(sampler, **{key: value for key, value in changes.items() if value not in (None, "")})


@dataclass(frozen=True)
class AskedLora:
    """A LoRA that a prompt asks for by name, `<lora:NAME:WEIGHT>`: its file, family and weight (-4 to 4).

    `trigger` is what the prompt must say for it to act, where that is known.
    """

    file: str
    family: str
    weight: float = 1.0
    trigger: str = ""

    def add_to(self, stage: Stage) -> Stage:
        """The stage with it, or with its weight in place of the one that the stage gives the same file."""
        if stage.family != self.family or stage.kind == "upscale":
            return stage
        if any(use.file == self.file for use in stage.loras):
            uses = (replace(use, weight=self.weight) if use.file == self.file else use for use in stage.loras)
            return replace(stage, loras=tuple(uses))
        return replace(stage, loras=(*stage.loras, LoraUse(self.file, self.weight, self.trigger)))


@dataclass(frozen=True)
class Choice:
    """What was chosen: the alternatives or the wildcard as they were written, and the words that stand there now."""

    written: str
    chosen: str


@dataclass(frozen=True)
class Request:
    """What was asked, before anything was resolved. Seed: 0 to 2^63 - 1.

    `source` is the digest of the pixels of an image to work on in place of a generated one, and
    `stages` are the kinds of stages to run on it; empty: all but `generate`. With a source,
    `width` and `height` are its own. `choices` are those that the prompt was made by.
    """

    recipe: str
    character: str
    prompt: str = ""
    negative_prompt: str | None = None
    seed: int = 0
    width: int | None = None
    height: int | None = None
    source: str = ""
    stages: tuple[str, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    loras: tuple[AskedLora, ...] = ()
    choices: tuple[Choice, ...] = ()

    def changes(self, stage: Stage) -> Stage:
        """The stage of a recipe as this asks for it. The character's own LoRA is in it by its file's name already."""
        if stage.kind == "generate":
            stage = replace(stage, sampler=self.sampling.of(stage.sampler))
        for lora in self.loras:
            stage = lora.add_to(stage)
        return stage
