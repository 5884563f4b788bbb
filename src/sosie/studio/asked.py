"""What the page may send, and what it is sent, as types: the OpenAPI document is made of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, Field(min_length=1, max_length=64)]
Row = Annotated[int, Field(ge=0, le=2**53)]
"""The number of something in the store."""

Line = Annotated[str, Field(max_length=4000)]


class Asked(BaseModel):
    """What is not known here is refused."""

    model_config = ConfigDict(extra="forbid")


class NewJob(Asked):
    """A job for the queue: `docs/studio.md` has the request of each kind."""

    kind: Literal["generate", "train", "experiment", "dataset", "calibrate", "fetch"]
    request: dict[str, Any]


class Move(Asked):
    """A waiting job's new place: before another one, or last."""

    before: Row | None = None


class Filter(Asked):
    """Which images, as of `store.gallery.Query`."""

    character: Line = ""
    recipe: Line = ""
    machine: Literal["", "keep", "retry", "repair", "reject", "none"] = ""
    human: Literal["", "keep", "reject", "none"] = ""
    differs: bool = False
    failed: Line = ""
    below: float | None = None
    since: Annotated[str, Field(pattern=r"^(\d{4}-\d\d-\d\d)?$")] = ""
    until: Annotated[str, Field(pattern=r"^(\d{4}-\d\d-\d\d)?$")] = ""
    job: Row | None = None
    sort: Literal["newest", "oldest", "identity", "-identity", "stars"] = "newest"


class Window(Filter):
    """A window of the images of a filter."""

    start: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    count: Annotated[int, Field(ge=0, le=500)] = 100


class Saying(Asked):
    """What a person says of images: of those named, or of all of a filter. None leaves as it was; 0 stars: none."""

    images: Annotated[list[Digest], Field(max_length=10_000)] = []
    filter: Filter | None = None
    verdict: Literal["keep", "reject", ""] | None = None
    stars: Annotated[int, Field(ge=0, le=5)] | None = None


class NewCharacter(Asked):
    """A character of uploaded pictures. Both declarations are the user's."""

    name: Name
    likeness: Literal["fictional", "consented"]
    adult: bool
    description: Line = ""
    marks: Annotated[list[Line], Field(max_length=20)] = []
    images: Annotated[list[Digest], Field(min_length=1, max_length=100)]


class Words(Asked):
    """What is said of a character from now on."""

    description: Line
    marks: Annotated[list[Line], Field(max_length=20)]


class AxisOf(Asked):
    """A field of the recipe, as `/api/recipes/{name}/fields` names it, and the values that it takes."""

    field: Annotated[str, Field(max_length=500)]
    values: Annotated[list[bool | int | float | Annotated[str, Field(max_length=2000)]], Field(max_length=100)]


class NewExperiment(Asked):
    """An experiment on axes over a recipe. `seeds` is how many; empty texts and null stand for the usual."""

    name: Name
    character: Name
    recipe: Name
    axes: Annotated[list[AxisOf], Field(min_length=1, max_length=12)]
    question: Line = ""
    prompts: Annotated[list[Line], Field(min_length=1, max_length=200)] = [""]
    seeds: Annotated[int, Field(ge=1, le=10_000)] = 12
    baseline: Line = ""
    endpoint: Annotated[str, Field(max_length=64)] = "identity"
    stopping: Literal["anytime", "none"] = "anytime"
    compare: Literal["arms", "axes"] = "arms"
    margin: Annotated[float, Field(gt=0, le=1e6)] | None = None


class Foreseen(NewExperiment):
    """A dry run: `price` is that of an hour, `engine` what would draw."""

    price: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    engine: Annotated[str, Field(max_length=500)] = "diffusers"


class NewDecision(Asked):
    """A decision: on an experiment (`because`), a contrast of which may be named, or with a reason why on none."""

    title: Annotated[str, Field(min_length=1, max_length=300)]
    character: Annotated[str, Field(max_length=64)] = ""
    why: Line = ""
    would_change: Line = ""
    because: Annotated[str, Field(max_length=100)] = ""
    contrast: Line = ""
    without_evidence: Line = ""
    proposed: bool = False
    recipe: Annotated[str, Field(max_length=64)] = ""
    settings: Annotated[list[Annotated[str, Field(max_length=500)]], Field(max_length=50)] = []


class Acceptance(Asked):
    """What a decision that is proposed or doubted is accepted on."""

    because: Annotated[str, Field(max_length=100)] = ""
    contrast: Line = ""
    without_evidence: Line = ""


class Nothing(Asked):
    """A body that says nothing more than the path."""


PodName = Annotated[str, Path(pattern="^[a-z0-9]{1,32}$")]


class OffersOf(Asked):
    """What is wanted of a machine: `disk` in GB, `price` at most in US dollars an hour (0: any), `places` as EU, FR."""

    gpu: Annotated[str, Field(max_length=60)] = ""
    gpus: Annotated[int, Field(ge=1, le=16)] = 1
    disk: Annotated[float, Field(ge=0, le=1e5)] = 0.0
    hours: Annotated[float, Field(ge=0, le=1e4)] = 1.0
    price: Annotated[float, Field(ge=0, le=1e4)] = 0.0
    places: Annotated[str, Field(max_length=200)] = ""


class Wished(Asked):
    """What a training run that goes on is to do after its next step."""

    wish: Literal["sample", "deliver"]


class Caption(Asked):
    """A new caption of a picture of a training set."""

    caption: Annotated[str, Field(max_length=2000)]
