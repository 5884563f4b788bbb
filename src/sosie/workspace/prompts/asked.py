"""What a line asks for: recognised once, before anything is planned, the same for every engine.

Understood are LoRAs by name, alternatives and wildcards, an infotext, and options behind a prompt. What else looks like
the syntax of another program is refused by its name and line: drawn as text it would be a picture of something else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from sosie.core import AskedLora, Choice, Finding, Recipe, Request, Sampler, Sampling, derive_seed
from sosie.core.errors import ConfigError, nearest
from sosie.core.finding import Rule, RuleError
from sosie.core.ranges import out_of_range
from sosie.core.recipe import MAX_SIDE
from sosie.families import find_family
from sosie.files.foreign import parse_object
from sosie.workspace.prompts import settings
from sosie.workspace.prompts.choices import A004, Chooser, Wildcards, has_choices, shield, unfinished, unshield
from sosie.workspace.prompts.foreign import A001, Foreign, find_foreign, has_break
from sosie.workspace.prompts.line import PromptLine, number, parse_size, whole_number
from sosie.workspace.prompts.loras import Loras
from sosie.workspace.prompts.samplers import sampling_of

A005 = Rule("SOS-A005", "error", "A setting of a prompt cannot be read")
A006 = Rule("SOS-A006", "warning", "Settings of a prompt are not used")
A007 = Rule("SOS-A007", "warning", "BREAK parts a prompt")
A008 = Rule("SOS-A008", "info", "What a prompt asks for beside its words")

MOST_SEED = 2**63 - 1

_NOT_TEXT = re.compile("[\ud800-\udfff\ufdd0-\ufdef\0]")
_MASK = 0xFDE0
"""The first of the noncharacters that stand for triggers, which are words whatever is in them."""


@dataclass(frozen=True)
class Asked:
    """What a line asks for; None and empty where it leaves that to the command or the recipe.

    `choices` are those that `prompt` was made by. With `alone` it is one image, of several of its line.
    """

    line: PromptLine
    prompt: str
    negative_prompt: str | None = None
    seed: int = 0
    width: int | None = None
    height: int | None = None
    sampling: Sampling = field(default_factory=Sampling)
    loras: tuple[AskedLora, ...] = ()
    choices: tuple[Choice, ...] = ()
    alone: bool = False

    def request(self, recipe: str, character: str, negative_prompt: str | None = None) -> Request:
        """The same as a request; `negative_prompt` is the command's."""
        return Request(
            recipe=recipe,
            character=character,
            prompt=self.prompt,
            negative_prompt=negative_prompt if self.negative_prompt is None else self.negative_prompt,
            seed=self.seed,
            width=self.width,
            height=self.height,
            sampling=self.sampling,
            loras=self.loras,
            choices=self.choices,
        )


@dataclass(frozen=True)
class Asking:
    """What lines are read with: LoRAs and wildcards by name, the command's seed, and `n` images a line.

    With `own_graph` a workflow of the user's draws, which has its settings and LoRAs itself; with `works_on` the
    stage `generate` does not run.
    """

    loras: Loras
    wildcards: Wildcards
    seed: int = 0
    n: int = 1
    own_graph: bool = False
    works_on: bool = False

    @property
    def recipe(self) -> Recipe:
        """Whose stages draw."""
        return self.loras.recipe

    @property
    def triggers(self) -> tuple[str, ...]:
        """Words of the prompt that are no syntax."""
        character = self.loras.character
        uses = (use.trigger for stage in (*self.recipe.stages, *self.recipe.repair) for use in stage.loras)
        return tuple(dict.fromkeys(t for t in (character.trigger, *(o.trigger for o in character.loras), *uses) if t))

    @property
    def weighs(self) -> bool:
        """Whether every family that reads the prompt knows weights and BREAK."""
        known = [find_family(stage.family) for stage in self.recipe.stages if stage.kind != "upscale"]
        return self.own_graph or all(family is not None and family.weighs for family in known)


def recognise(lines: Sequence[PromptLine], asking: Asking) -> tuple[tuple[Asked, ...], tuple[Finding, ...]]:
    """What lines ask for, and what there is to say of them: SOS-A001 to A008.

    A line of which something is chosen gives one of each of its `n` images, with the choice for it.
    """
    asked: list[Asked] = []
    findings: list[Finding] = []
    for line in lines:
        try:
            read, told = _read(line, asking)
            findings += told
            for index in range(asking.n if _varies(read) else 1):
                made, said = _chosen(read, asking, index)
                asked.append(made)
                findings += said if index == 0 else [one for one in said if one.severity == "error"]
        except RuleError as error:
            findings.append(Finding(error.code, "error", line.where, f"{line.where}: {error.message}", error.hint))
        except ConfigError as error:
            findings.append(A005.at(line.where, f"{line.where}: {error.message}", error.hint))
    return tuple(asked), tuple(_together(findings))


def check_text(text: str, where: str) -> Iterator[Finding]:
    """SOS-A001 for what a recipe's own text has of other programs' syntax, alternatives and LoRAs among it."""
    has_alternatives, foreign = _syntax(text)
    if has_alternatives:
        message = f"{where}: alternatives and wildcards are chosen in prompts, not here"
        yield A001.at(where, message, "write out which is meant")
        return
    for found in foreign:
        yield A001.at(where, f"{where}: '{found.text}' is {found.what}", found.hint)


@lru_cache(1024)
def _syntax(text: str) -> tuple[bool, tuple[Foreign, ...]]:
    """Whether a text has alternatives, and what it has of other programs: the arms of an experiment share theirs."""
    return has_choices(shield(text)), tuple(find_foreign(text))


def _read(line: PromptLine, asking: Asking) -> tuple[Asked, list[Finding]]:
    """The line's settings, those that stand in its text among them; nothing is chosen yet."""
    if found := _NOT_TEXT.search(line.prompt + (line.negative_prompt or "")):
        raise RuleError(A005, f"it holds {found[0]!a}, which is no text", "save it again as UTF-8 text")
    text = re.sub(r"\r\n?", "\n", line.prompt).strip()
    told = settings.Told({"prompt": text}) if _is_json(text) else settings.read_settings(text)
    if told.unknown:
        name = told.unknown[0]
        near = nearest(name, settings.NAMES)
        message = f"option '--{name}' is not known{near if 'did you mean' in near else ''}"
        raise RuleError(A005, message, "take it out; two hyphens that are text have a space behind them")
    if told.twice:
        raise RuleError(A005, f"option '--{told.twice[0]}' is there twice")
    prompt = told.values.get("prompt", "")
    if told.how and not prompt:
        raise RuleError(A005, f"{told.how} without a prompt", 'begin with the prompt, or --prompt "..."')
    unused = [*told.unused, *_overridden(line, told)]
    width, height = _size(line, told)
    if asking.works_on and told.values.keys() & {"size", "width", "height"}:
        unused.append(("Size", "the given image has its own"))
        width = height = None
    sampling = _sampling(line, told)
    if asking.works_on and sampling != Sampling():
        unused.append(("steps, cfg and sampler", "stage 'generate', whose they are, does not run"))
        sampling = Sampling()
    _expect_possible(sampling, asking)
    seed = _seed(line, told)
    negative = line.negative_prompt if line.negative_prompt is not None else told.values.get("negative_prompt")
    read = Asked(line, prompt, negative, asking.seed if seed is None else seed, width, height, sampling)
    return read, [*_said(line, told, read), *_not_used(line, unused)]


def _chosen(read: Asked, asking: Asking, index: int) -> tuple[Asked, list[Finding]]:
    """The image `index` of a line: with its alternatives chosen, its LoRAs found, and nothing foreign left."""
    line = read.line
    varies = _varies(read)
    seed = derive_seed(read.seed, index, 0) if varies and index else read.seed
    chooser = Chooser(asking.wildcards, read.seed, f"{index}:{read.prompt}")
    masked = _Masked(asking.triggers)
    prompt, negative = (_choose(chooser, masked, text) for text in (read.prompt, read.negative_prompt))
    prompt, loras = asking.loras.take(prompt or "") if not _is_json(read.prompt) else (prompt or "", ())
    if loras and asking.own_graph:
        raise RuleError(A005, "a workflow has its LoRAs itself", "add the LoRA's node to the workflow")
    findings = [
        *_foreign(line, prompt, ""),
        *_foreign(line, negative or "", "the negative prompt: "),
        *_breaks(line, (prompt, negative or ""), asking.weighs),
    ]
    prompt, negative = (None if text is None else unshield(masked.back(text)) for text in (prompt, negative))
    made = tuple(Choice(*(unshield(masked.back(text)) for text in (one.written, one.chosen))) for one in chooser.made)
    findings += _lora_and_choices(line, loras, made)
    asked = replace(read, prompt=prompt or "", negative_prompt=negative, seed=seed, loras=loras, choices=made)
    return replace(asked, alone=varies), findings


class _Masked:
    """Takes triggers out of a text as words, so that nothing in them is syntax, and puts them back."""

    def __init__(self, triggers: Sequence[str]) -> None:
        longest = sorted(triggers, key=len, reverse=True)
        self._pattern = re.compile("|".join(rf"(?<!\w){re.escape(one)}(?!\w)" for one in longest), re.IGNORECASE)
        self._taken: list[str] = []
        self._any = bool(triggers)

    def take(self, text: str) -> str:
        def mask(match: re.Match[str]) -> str:
            if match[0] not in self._taken:
                self._taken.append(match[0])
            return chr(_MASK + self._taken.index(match[0]) % 16)

        return self._pattern.sub(mask, text) if self._any else text

    def back(self, text: str) -> str:
        for index, taken in enumerate(self._taken):
            text = text.replace(chr(_MASK + index % 16), taken)
        return text


def _choose(chooser: Chooser, masked: _Masked, text: str | None) -> str | None:
    if text is None or _is_json(text):
        return text
    shielded = shield(masked.take(text))
    if left := unfinished(shielded):
        raise RuleError(
            A004, f"'{left}' is opened and not closed", "close it by }, or write \\{ for a brace that is text"
        )
    return chooser.choose(shielded)


def _varies(read: Asked) -> bool:
    return any(has_choices(shield(text)) for text in (read.prompt, read.negative_prompt or "") if not _is_json(text))


def _is_json(text: str) -> bool:
    """Whether a prompt is a JSON object, as some models are asked: all of it is text."""
    return text.lstrip().startswith("{") and parse_object(text) is not None


def _foreign(line: PromptLine, text: str, part: str) -> Iterator[Finding]:
    if _is_json(text):
        return
    for found in find_foreign(text):
        yield A001.at(line.where, f"{line.where}: {part}'{found.text}' is {found.what}", found.hint)


def _breaks(line: PromptLine, texts: Sequence[str], weighs: bool) -> Iterator[Finding]:
    if not any(has_break(text) for text in texts):
        return
    if weighs:
        message = f"{line.where}: BREAK begins a new chunk of the text encoders, and is not drawn as text"
        yield A007.at(line.where, message)
    else:
        message = f"{line.where}: BREAK parts a prompt for CLIP; a family of this recipe reads it in one piece"
        yield A007.at(line.where, message, "take it out, or write \\BREAK for the word", severity="error")


def _lora_and_choices(line: PromptLine, loras: Sequence[AskedLora], made: Sequence[Choice]) -> Iterator[Finding]:
    said = [f"LoRA '{lora.file}' at {lora.weight:g}" for lora in loras]
    said += [f"'{one.written}' is '{one.chosen}'" for one in made]
    if said:
        yield A008.at(line.where, f"{line.where}: {'; '.join(said)}")


def _said(line: PromptLine, told: settings.Told, read: Asked) -> Iterator[Finding]:
    if told.how:
        mark = "{} {}" if told.how == "options" else "{}: {}"
        names = settings.OPTIONS if told.how == "options" else settings.LABELS
        values = [mark.format(names[name], value) for name, value in told.values.items() if name != "prompt"]
        prompt = f"the prompt is '{read.prompt if len(read.prompt) <= 60 else read.prompt[:59] + '…'}'"
        yield A008.at(line.where, f"{line.where}: read as {told.how}: {'; '.join([prompt, *values])}")


def _not_used(line: PromptLine, unused: Sequence[tuple[str, str]]) -> Iterator[Finding]:
    if unused:
        names = ", ".join(f"{name}: {value}" if value else name for name, value in unused[:12])
        more = f" and {len(unused) - 12} more" if len(unused) > 12 else ""
        message = f"{line.where}: not used: {names}{more}"
        yield A006.at(line.where, message, "what draws is the recipe's; choose another one by --recipe")


def _overridden(line: PromptLine, told: settings.Told) -> Iterator[tuple[str, str]]:
    """Settings of the text that the line's own fields say otherwise."""
    for name in ("negative_prompt", "steps", "cfg", "seed", "sampler", "schedule", "size"):
        own = getattr(line, name)
        if own not in (None, "") and name in told.values and told.values[name] != str(own):
            yield name, f"{told.values[name]} (it is {own})"


def _seed(line: PromptLine, told: settings.Told) -> int | None:
    seed = line.seed if line.seed is not None else _number(told, "seed", whole_number, "a whole number")
    if seed == -1:
        return None  # what other programs call a seed of chance
    if seed is not None and not 0 <= seed <= MOST_SEED:
        raise RuleError(A005, f"seed {seed} is out of range: 0 to {MOST_SEED}")
    return int(seed) if seed is not None else None


def _size(line: PromptLine, told: settings.Told) -> tuple[int | None, int | None]:
    if line.size or "size" in told.values:
        width, height = parse_size(line.size or told.values["size"])
    else:
        sides = [_number(told, side, whole_number, "a whole number") for side in ("width", "height")]
        if None in sides:
            if sides != [None, None]:
                raise RuleError(A005, "it has one side of a size; expected --width and --height")
            return None, None
        width, height = (int(side or 0) for side in sides)
    for side in (width, height):
        if not 64 <= side <= MAX_SIDE or side % 8:
            expected = f"each side is 64 to {MAX_SIDE} pixels and a multiple of 8"
            raise RuleError(A005, f"size {width}x{height} is not possible: {expected}")
    return width, height


def _sampling(line: PromptLine, told: settings.Told) -> Sampling:
    name, schedule = line.sampler or told.values.get("sampler", ""), line.schedule or told.values.get("schedule", "")
    steps = line.steps if line.steps is not None else _number(told, "steps", whole_number, "a whole number")
    cfg = line.cfg if line.cfg is not None else _number(told, "cfg", number, "a number")
    try:
        sampler, spaced = sampling_of(name, schedule)
    except ValueError as error:
        raise RuleError(A005, str(error)) from None
    return Sampling(None if steps is None else int(steps), cfg, sampler, spaced)


def _expect_possible(sampling: Sampling, asking: Asking) -> None:
    for complaint in out_of_range(sampling.of(Sampler()), ""):
        raise RuleError(A005, complaint)
    if asking.own_graph and sampling != Sampling():
        message = "a workflow has its steps, cfg and sampler itself"
        raise RuleError(A005, message, "take them out of the prompt, and change the workflow by --set NODE.input=VALUE")


def _number(told: settings.Told, name: str, read: Callable[[object], float | None], what: str) -> float | None:
    value = told.values.get(name)
    try:
        return None if value is None else read(value)
    except ValueError:
        raise RuleError(A005, f"{name} = '{value}' is not {what}") from None


def _together(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Findings of many lines that say the same as one, which counts them."""
    same: dict[tuple[str, str, str, str], list[Finding]] = {}
    for one in findings:
        text = one.message.removeprefix(f"{one.subject}: ")
        same.setdefault((one.code, one.severity, text, one.hint), []).append(one)
    for group in same.values():
        first, more = group[0], len(group) - 1
        lines = f" (and so in {more} more {'line' if more == 1 else 'lines'})" if more else ""
        yield replace(first, message=first.message + lines)
