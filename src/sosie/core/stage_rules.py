"""Why an engine cannot run a stage: the rules that several engines and families give."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sosie.core import notation
from sosie.core.finding import Finding, Rule
from sosie.core.plan import Plan
from sosie.core.recipe import Stage

E001 = Rule("SOS-E001", "error", "A family has no stage of this kind")
E002 = Rule("SOS-E002", "error", "A sampler is not known")
E003 = Rule("SOS-E003", "error", "A sampler does not take this schedule, step count or shift")
E004 = Rule("SOS-E004", "error", "Packages that generate on this machine are not installed")
E006 = Rule("SOS-E006", "error", "A guide with key points has no face to take them from")
E007 = Rule("SOS-E007", "error", "The working square of a face pass has an odd size")
E008 = Rule("SOS-E008", "error", "An identity guide is incomplete")
E009 = Rule("SOS-E009", "error", "A prompt weighs words out of range")
E010 = Rule("SOS-E010", "error", "A stage lacks a file that ComfyUI loads separately")
E011 = Rule("SOS-E011", "error", "A stage names a file that the family does not take")
E012 = Rule("SOS-E012", "error", "A family has no node for an identity guide")
E014 = Rule("SOS-E014", "error", "A family does not compute in a precision")
E016 = Rule("SOS-E016", "warning", "A family weighs no words")


def check_fp8(stage: Stage, plan: Plan, where: str) -> list[Finding]:
    """SOS-E014 where a stage asks for products in fp8 and there are none; `where` is a family or an engine."""
    if stage.precision != "fp8":
        return []
    message = f"{where} does not compute in fp8; expected precision = auto, fp32, bf16 or fp16"
    return [E014.at(plan.recipe, message, f"sosie recipe copy {plan.recipe} NEW-NAME, and edit it")]


def check_weights(stage: Stage, plan: Plan) -> Iterator[Finding]:
    """SOS-E009 for each text of a stage whose family weighs words."""
    return weights_out_of_range((stage.prompt or plan.prompt, plan.negative_prompt), plan.recipe)


def weights_out_of_range(prompts: Iterable[str], subject: str) -> Iterator[Finding]:
    """SOS-E009 for each final prompt that weighs words out of range: before a drawing as before a training."""
    for prompt in dict.fromkeys(prompts):
        if unfit := notation.complaint(prompt):
            hint = f"write the prompt with a weight of 0 to {notation.LARGEST:g}, or \\( and \\: for the characters"
            yield E009.at(subject, unfit, hint)


def check_no_weights(stage: Stage, plan: Plan, title: str) -> Iterator[Finding]:
    """SOS-E016 for each text of a stage whose family reads words alone."""
    for prompt in dict.fromkeys((stage.prompt or plan.prompt, plan.negative_prompt)):
        if notation.has_weights(prompt):
            message = f"{title} weighs no words: '{notation.plain(prompt)}' is drawn, without the numbers"
            yield E016.at(plan.recipe, message, "say it in words in the prompt")
