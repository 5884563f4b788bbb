"""The design that `sosie experiment new` writes: one that runs as it is, and says what may be changed."""

from __future__ import annotations

from sosie.core import Recipe

TEMPLATE = """\
# An experiment: what is asked, what differs, and how it is answered. Declared before anything is drawn.
#
#     sosie experiment run {path} --dry-run    # what it would take, and what it could show
#     sosie experiment run {path}
name = "{name}"
question = "Which CFG keeps the face?"
character = "{character}"
recipe = "{recipe}"

# A block is a prompt and a seed: every arm draws each of them.
prompts = [
  "smiling, soft daylight, forest background",
  "neutral, studio light, plain grey background",
  "laughing, golden hour, beach background",
  "talking, neon light, city at night background",
]
seeds = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]

# An arm for each combination of these values. Fields are named as in the recipe: sosie recipe show {recipe}
[axes]
stages.{stage}.sampler.cfg = [{values}]

[design]
baseline = "cfg={cfg}"      # what the others are compared with
endpoint = "identity"   # or one judge ("sface"), or another score
stopping = "anytime"    # looks while it runs, and ends when all is decided; "none": one look at the end
compare = "arms"        # "axes": the levels of each axis, averaged over the others, which shows more
margin = 0.2            # a smaller difference does not matter
"""


def template(name: str, character: str, recipe: Recipe) -> str:
    """The TOML of an experiment on the CFG of the recipe's first stage."""
    stage = recipe.stages[0]
    own = stage.sampler.cfg if stage.sampler else 1.0
    values = sorted({own, round(own * 0.7, 2), round(own * 1.4, 2)})
    return TEMPLATE.format(
        path=f"experiments/{name}.toml",
        name=name,
        character=character,
        recipe=recipe.name,
        stage=stage.kind,
        values=", ".join(f"{value:.1f}" if value == round(value, 1) else str(value) for value in values),
        cfg=f"{own:g}",
    )
