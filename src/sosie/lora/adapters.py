"""A LoRA's tensors, grouped by the weight that they change; shapes are checked against each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sosie.files.safetensors import Header
from sosie.lora.layouts import ALGORITHMS, Algorithm, Key, Prefix, as_key, take_apart
from sosie.lora.modules import Module


@dataclass(frozen=True)
class Adapter:
    """What changes one weight.

    `stem` is the module's name as the file writes it, with its prefix. `keys` gives a tensor's name by its role
    (`layouts`), `shape` the (rows, columns) of the change with a convolution's kernel counted into the columns; each
    is 0 if the tensors do not tell. `rank` divides alpha; 0 means that alpha does not count (full matrices). `targets`
    are the family's modules (several for a fused weight, none if unknown). `problem` says why the tensors cannot be
    used; empty if they can.
    """

    prefix: Prefix
    module: str
    algorithm: Algorithm
    style: str
    keys: Mapping[str, str]
    shape: tuple[int, int]
    rank: int
    stem: str
    targets: tuple[Module, ...] = ()
    problem: str = ""

    def aimed_at(self, targets: tuple[Module, ...]) -> Adapter:
        """The same adapter with its modules; a third of the time that `dataclasses.replace` takes."""
        rest = (self.algorithm, self.style, self.keys, self.shape, self.rank, self.stem, targets, self.problem)
        return Adapter(self.prefix, self.module, *rest)

    @property
    def dora(self) -> bool:
        """True if magnitudes (DoRA) are there."""
        return "dora" in self.keys

    @property
    def on_vectors(self) -> bool:
        """True if it changes a norm's weights or biases alone, of which no table tells."""
        return self.algorithm in ("diff", "set", "norm") and self.shape[1] == 0

    @property
    def odd(self) -> bool:
        """True for OFT as kohya and peft keep it, which ComfyUI has no reader for."""
        return self.style in ODD_STYLES or self.prefix.text.startswith("oft_")

    @property
    def name(self) -> str:
        """Prefix and module as the file writes them."""
        return self.prefix.text + self.module


ODD_STYLES = ("oft_blocks.N", "oft_R", "boft_R")
"""Ways to keep OFT that are kohya's for fused weights, and peft's."""


@dataclass(frozen=True)
class Grouped:
    """A header's adapters in the order of the file, and other tensors.

    `strangers` have names that are no LoRA's. `embeddings` are words that were learned with it (textual inversion).
    """

    adapters: tuple[Adapter, ...]
    strangers: tuple[str, ...]
    embeddings: tuple[str, ...] = ()


BUNDLED = "bundle_emb."
"""The beginning of the names of the embeddings that OneTrainer bundles with a LoRA: `bundle_emb.WORD.clip_l`."""


def group(header: Header) -> Grouped:
    """Groups a header's tensors into adapters; the cost is linear in the number of tensors."""
    groups: dict[tuple[Prefix, str], dict[str, tuple[str, Key]]] = {}
    twice: dict[tuple[Prefix, str], str] = {}
    strangers: list[str] = []
    embeddings: list[str] = []
    for name in header.tensors:
        key = take_apart(name) or _scale(header, name)
        if key is None:
            (embeddings if name.startswith(BUNDLED) else strangers).append(name)
            continue
        roles = groups.setdefault((key.prefix, key.module), {})
        if key.role in roles:
            twice[key.prefix, key.module] = f"'{key.role}' is there twice: {roles[key.role][0][:120]} and {name[:120]}"
        roles[key.role] = (name, key)
    adapters = [_adapter(header, where, roles, twice.get(where, "")) for where, roles in groups.items()]
    return Grouped(tuple(adapters), tuple(strangers), tuple(embeddings))


def _scale(header: Header, name: str) -> Key | None:
    """The vector of a LyCORIS (IA)^3, whose name is that of any weight: `on_input` stands beside it."""
    stem = name.removesuffix(".weight")
    return as_key(stem, "ia3", "scale") if stem != name and f"{stem}.on_input" in header.tensors else None


def _adapter(header: Header, where: tuple[Prefix, str], roles: dict[str, tuple[str, Key]], twice: str) -> Adapter:
    shapes = {role: header.tensors[name].shape for role, (name, _) in roles.items()}
    styles = {key.style for role, (_, key) in roles.items() if role not in SIDE}
    if not styles and "bias" in roles:
        styles = {"diff"}
    algorithms: set[Algorithm] = {ALGORITHMS.get(style, "lora") for style in styles}
    algorithm: Algorithm = algorithms.pop() if len(algorithms) == 1 else "other"
    if algorithm == "oft" and len(shapes.get("oft_blocks", ())) == 4:
        algorithm = "boft"
    problem, shape, rank = twice, (0, 0), 0
    if not styles or algorithms:
        problem = problem or ("its tensors are of two algorithms" if styles else "it has no matrices")
    elif measure := _MEASURES.get(algorithm):
        try:
            shape, rank = measure(shapes)
        except _MisfitError as error:
            problem = problem or str(error)
    if "alpha" in shapes and math.prod(shapes["alpha"]) != 1:
        problem = problem or f"alpha is not one number but {list(shapes['alpha'])}"
    if "dora" in shapes and all(shape) and math.prod(shapes["dora"]) not in (shape[0], shape[1]):
        problem = problem or f"DoRA's magnitudes are {list(shapes['dora'])}, expected one a row or one a column"
    keys = MappingProxyType({role: name for role, (name, _) in roles.items()})
    stem = next(iter(roles.values()))[1].stem
    return Adapter(*where, algorithm, min(styles, default=""), keys, shape, rank, stem, problem=problem)


SIDE = ("alpha", "dora", "up_bias", "reshape", "scalar", "bias")
"""Roles that stand beside those of an algorithm and tell none."""


class _MisfitError(Exception):
    """Tensors of one adapter that do not fit each other."""


Shapes = dict[str, tuple[int, ...]]


def _need(shapes: Shapes, *roles: str) -> list[tuple[int, ...]]:
    for role in roles:
        if role not in shapes:
            raise _MisfitError(f"'{role}' is missing beside '{next(iter(shapes))}'")
        if len(shapes[role]) < 2 or 0 in shapes[role]:
            raise _MisfitError(f"'{role}' has the shape {list(shapes[role])}, expected a matrix")
    return [shapes[role] for role in roles]


def _product(left: tuple[int, ...], right: tuple[int, ...], what: str) -> tuple[int, int, int]:
    """Rows, columns (with the kernel) and rank of `left @ right`."""
    if math.prod(left[1:]) != right[0]:
        raise _MisfitError(f"{what} do not fit: {list(left)} times {list(right)}")
    return left[0], math.prod(right[1:]), right[0]


def _lora(shapes: Shapes) -> tuple[tuple[int, int], int]:
    up, down = _need(shapes, "up", "down")
    rows, columns, rank = _product(up, down, "up and down")
    if "mid" in shapes:
        mid = shapes["mid"]
        if mid[:2] != (rank, rank):
            raise _MisfitError(f"the Tucker core is {list(mid)}, expected [{rank}, {rank}, ...]")
        columns *= math.prod(mid[2:])
    return (rows, columns), rank


def _loha(shapes: Shapes) -> tuple[tuple[int, int], int]:
    one_a, one_b, two_a, two_b = _need(shapes, "w1_a", "w1_b", "w2_a", "w2_b")
    if "t1" in shapes or "t2" in shapes:
        one, two = _need(shapes, "t1", "t2")
        fits = one[:2] == (one_a[0], one_b[0]) and two[:2] == (two_a[0], two_b[0])
        if not fits or one[2:] != two[2:] or one_a[1:] != two_a[1:] or one_b[1:] != two_b[1:]:
            raise _MisfitError("the Tucker cores do not fit their matrices")
        return (math.prod(one_a[1:]), math.prod(one_b[1:]) * math.prod(one[2:])), one_b[0]
    first, second = _product(one_a, one_b, "w1_a and w1_b"), _product(two_a, two_b, "w2_a and w2_b")
    if first[:2] != second[:2]:
        raise _MisfitError(f"its two factors differ: {first[:2]} and {second[:2]}")
    return first[:2], first[2]


def _lokr(shapes: Shapes) -> tuple[tuple[int, int], int]:
    """Rank as LyCORIS and ComfyUI take it: of w2's product if it is one, else of w1's, else 0."""
    rank, sizes = 0, [(0, 0), (0, 0)]
    for index, name in enumerate(("k1", "k2")):
        if name in shapes:
            (whole,) = _need(shapes, name)
            sizes[index] = whole[0], math.prod(whole[1:])
        else:
            left, right = _need(shapes, f"{name}_a", f"{name}_b")
            if index and "kt2" in shapes:
                (core,) = _need(shapes, "kt2")
                if core[:2] != (left[0], right[0]):
                    raise _MisfitError("the Tucker core does not fit its matrices")
                sizes[1], rank = (math.prod(left[1:]), math.prod(right[1:]) * math.prod(core[2:])), right[0]
            else:
                rows, columns, rank = _product(left, right, f"{name}_a and {name}_b")
                sizes[index] = rows, columns
    return (sizes[0][0] * sizes[1][0], sizes[0][1] * sizes[1][1]), rank


def _diff(shapes: Shapes) -> tuple[tuple[int, int], int]:
    if "diff" not in shapes:
        return (math.prod(next(iter(shapes.values()))), 0), 0
    whole = shapes["diff"]
    return (whole[0] if whole else 0, math.prod(whole[1:]) if len(whole) > 1 else 0), 0


def _oft(shapes: Shapes) -> tuple[tuple[int, int], int]:
    """Rotations of blocks of rows: (blocks, size, size), with `N` one such tensor for each part of a fused weight."""
    parts = [shape for role, shape in shapes.items() if role.startswith("oft_blocks.")]
    blocks = shapes.get("oft_blocks", shapes.get("rotation", shapes.get("boft_R")))
    if parts:
        return (sum(math.prod(shape[:2]) for shape in parts), 0), 0
    if "rotation" in shapes:
        # peft turns blocks of what goes in; of each block it keeps the numbers above the diagonal.
        count, numbers = (*shapes["rotation"], 0)[:2]
        size = (1 + math.isqrt(1 + 8 * numbers)) // 2
        return (0, count * size if count > 1 else 0), 0
    if blocks is None:
        return (0, 0), 0
    return (math.prod(blocks[-3:-1]), 0), 0


def _ia3(shapes: Shapes) -> tuple[tuple[int, int], int]:
    """A factor for each row (n, 1), or for each column (1, n); of (n,) the header does not tell which."""
    scale = shapes.get("scale", ())
    if not scale or math.prod(scale) not in scale:
        raise _MisfitError(f"its factors are {list(scale)}, expected one a row or one a column")
    rows = scale[0] if len(scale) > 1 and scale[0] > 1 else 0
    return (rows, math.prod(scale) if len(scale) > 1 and not rows else 0), 0


def _glora(shapes: Shapes) -> tuple[tuple[int, int], int]:
    """W A + B with A = a1 a2 and B = b1 b2, all of low rank; LyCORIS before 3.0 called them the other way round."""
    up, down = _need(shapes, "b1", "b2")
    if math.prod(up[1:]) != down[0]:
        up, down = down, up
    rows, columns, rank = _product(up, down, "b1 and b2")
    return (rows, columns), rank


_MEASURES = {
    "lora": _lora,
    "loha": _loha,
    "lokr": _lokr,
    "diff": _diff,
    "glora": _glora,
    "oft": _oft,
    "boft": _oft,
    "ia3": _ia3,
    "set": _diff,
    "norm": _diff,
}
