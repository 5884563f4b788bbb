"""A stack machine for the few pickle opcodes that a table of tensors needs. It calls nothing.

`pickletools.genops` of the standard library splits the bytes into opcodes; what they build here is
only texts, numbers, lists, tuples, tables and records of tensors. A global is a name, never an
import; REDUCE of a name that is not in `CALLABLE` makes a `Refused`, and the run ends in an error
that names it. Opcodes that `torch.save` never writes are errors.

Source: CPython `pickletools.py` for the opcodes, torch `_utils.py` for the arguments.
"""

from __future__ import annotations

import pickletools
import sys
from collections.abc import Callable
from io import BytesIO
from typing import Any, ClassVar, cast

from sosie.core.finding import Rule
from sosie.files.pickles.records import (
    ALLOWED,
    CALLABLE,
    DTYPES,
    K001,
    K002,
    K003,
    K004,
    K005,
    K010,
    STORAGES,
    Global,
    Ordered,
    Other,
    PickledTensor,
    PickleError,
    Refused,
    Storage,
    shown,
)
from sosie.files.safetensors import BITS, MAX_AXES

MAX_MEMORY = 40_000_000
"""Bytes that one file's objects may take, by `COSTS`: some 8,000 tensors (SDXL has 2,500), or 400,000 objects."""

MAX_REFUSED = 20
"""How many different refused names are kept; the first is named first."""

COSTS = {
    "BINPUT": 100,
    "LONG_BINPUT": 140,
    "MEMOIZE": 140,
    "EMPTY_DICT": 110,
    "EMPTY_LIST": 110,
    "EMPTY_SET": 240,
    "SETITEM": 200,
    "APPEND": 40,
    "TUPLE": 90,
    "TUPLE1": 90,
    "TUPLE2": 90,
    "TUPLE3": 90,
    "REDUCE": 300,
    "BINPERSID": 300,
    "GLOBAL": 300,
    "STACK_GLOBAL": 300,
}
"""Bytes that an opcode may leave in memory; 40 for others, and the size of its argument."""


class PickleMachine:
    """Runs the pickles of one file; the memory budget and the refused names are the file's."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.refused: dict[str, None] = {}
        self.storages: dict[str, Storage] = {}
        self.protocol = 0
        self._spent = 0
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}

    def spend(self, cost: int) -> None:
        """Counts bytes against `MAX_MEMORY`."""
        self._spent += cost
        if self._spent > MAX_MEMORY:
            raise self.bad(K004, f"builds more than {MAX_MEMORY:,} bytes of objects; no table of tensors does")

    def bad(self, rule: Rule, why: str) -> PickleError:
        """The error to raise; names that were refused before matter more than what went wrong after."""
        if self.refused:
            return self.refusal()
        return PickleError(rule, f"{self.where} {why}", _GET_ANOTHER)

    def refusal(self) -> PickleError:
        """SOS-K001 with the refused names."""
        names = ", ".join(shown(name) for name in self.refused)
        verb = "is not a tensor" if len(self.refused) == 1 else "are not tensors"
        return PickleError(
            K001,
            f"{self.where} holds {names}, which {verb}: loading it the usual way can run code; it was not run",
            "do not load this file; get the model as a .safetensors file from its publisher",
        )

    def run(self, stream: BytesIO) -> object:
        """The value of the next pickle of `stream`, which is left after its STOP."""
        self._stack, self._marks, self._memo = [], [], {}
        opcodes = pickletools.genops(stream)
        while True:
            try:
                opcode, argument, _ = next(opcodes)
            # genops lets whatever struct, int() and the codecs raise out of hostile bytes.
            except Exception as error:
                why = f"{type(error).__name__}: {shown(error)}"
                raise self.bad(K005, f"is damaged or cut short in its pickle ({why})") from None
            self.spend(COSTS.get(opcode.name, 40) + (0 if argument is None else sys.getsizeof(argument)))
            if opcode.name == "STOP":
                value = self._pop()
                if self._stack or self._marks:
                    raise self.bad(K002, "leaves values on its stack, which no pickler does")
                return value
            self._step(opcode.name, argument)

    def _step(self, name: str, argument: object) -> None:
        if name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _PUSHES:
            self._stack.append(argument)
        elif name in _BYTES:
            self._stack.append(Other("bytes"))
        elif name in self._handlers:
            self._handlers[name](self, argument)
        elif name in ("INST", "EXT1", "EXT2", "EXT4"):
            self._refuse(str(argument).replace(" ", ".", 1) if name == "INST" else f"extension {argument}")
            raise self.refusal()
        else:
            raise self.bad(K002, f"uses the opcode {name}, which torch.save never writes")

    # What the opcodes do.

    def _proto(self, argument: object) -> None:
        self.protocol = max(self.protocol, cast("int", argument))

    def _frame(self, argument: object) -> None:
        pass

    def _mark(self, _: object) -> None:
        self._marks.append(len(self._stack))

    def _put(self, argument: object) -> None:
        self._memo[cast("int", argument)] = self._top()

    def _memoize(self, _: object) -> None:
        self._memo[len(self._memo)] = self._top()

    def _get(self, argument: object) -> None:
        index = cast("int", argument)
        if index not in self._memo:
            raise self.bad(K002, f"takes value {index} from its memo, where none is")
        self._stack.append(self._memo[index])

    def _empty_list(self, _: object) -> None:
        self._stack.append([])

    def _empty_dict(self, _: object) -> None:
        self._stack.append({})

    def _tuple(self, _: object) -> None:
        self._stack.append(tuple(self._since_mark()))

    def _tuple_n(self, size: int) -> None:
        items = [self._pop() for _ in range(size)]
        self._stack.append(tuple(reversed(items)))

    def _append(self, _: object) -> None:
        self._extend([self._pop()])

    def _appends(self, _: object) -> None:
        self._extend(self._since_mark())

    def _extend(self, items: list[object]) -> None:
        target = self._top()
        if isinstance(target, list):
            cast("list[object]", target).extend(items)
        elif not isinstance(target, Refused):
            raise self.bad(K002, "appends to something that is no list")

    def _setitem(self, _: object) -> None:
        value, key = self._pop(), self._pop()
        self._update([key, value])

    def _setitems(self, _: object) -> None:
        self._update(self._since_mark())

    def _update(self, items: list[object]) -> None:
        target = self._top()
        if isinstance(target, Refused):
            return
        if not isinstance(target, dict) or len(items) % 2:
            raise self.bad(K002, "sets items of something that is no table")
        table = cast("dict[str | int, object]", target)
        self.spend(60 * len(items))
        for key, value in zip(items[::2], items[1::2], strict=True):
            # A tuple as a key is never hashed: nested ones take for ever.
            if type(key) is not str and type(key) is not int:
                raise self.bad(K002, f"has a table with a {type(key).__name__} as a key; texts were expected")
            table[key] = value

    def _global(self, argument: object) -> None:
        module, _, name = str(argument).partition(" ")
        self._push_global(module, name)

    def _stack_global(self, _: object) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(name, str) or not isinstance(module, str):
            self._refuse("a name that is no text")
            raise self.refusal()
        self._push_global(module, name)

    def _push_global(self, module: str, name: str) -> None:
        full = f"{_PYTHON2.get(module, module)}.{name}"
        full = _ALIASES.get(full, full)
        if full in ALLOWED:
            self._stack.append(Global(full))
        else:
            self._stack.append(self._refuse(full))

    def _refuse(self, name: str) -> Refused:
        if len(self.refused) < MAX_REFUSED:
            self.refused[name[:200]] = None
        return Refused(name[:200])

    def _reduce(self, _: object) -> None:
        arguments, function = self._pop(), self._pop()
        if isinstance(function, Refused):
            self._stack.append(function)
            return
        if not isinstance(function, Global) or function.name not in CALLABLE or not isinstance(arguments, tuple):
            raise self.bad(K002, "calls something that does not make a tensor")
        self._stack.append(self._called(function.name, cast("tuple[object, ...]", arguments)))

    def _called(self, name: str, arguments: tuple[object, ...]) -> object:
        kind = CALLABLE[name]
        if kind == "tensor":
            return self._tensor(name, arguments)
        if kind == "table":
            return self._ordered(arguments)
        first = arguments[0] if arguments else None
        if kind == "parameter" and isinstance(first, PickledTensor):
            return first
        if kind == "size" and isinstance(first, tuple):
            return cast("tuple[object, ...]", first)
        if kind == "other":
            return Other(name)
        raise self.bad(K002, f"calls {name} with arguments that it does not take")

    def _ordered(self, arguments: tuple[object, ...]) -> Ordered:
        """`OrderedDict()`, or with the list of pairs that Python 2 wrote."""
        table = Ordered()
        if not arguments:
            return table
        if len(arguments) != 1 or not isinstance(arguments[0], list):
            raise self.bad(K002, "makes an OrderedDict of something that is no list")
        items: list[object] = []
        for pair in cast("list[object]", arguments[0]):
            if not isinstance(pair, list | tuple) or len(cast("list[object]", pair)) != 2:
                raise self.bad(K002, "makes an OrderedDict of something that is no pair")
            items.extend(cast("list[object]", pair))
        self._stack.append(table)
        self._update(items)
        self._stack.pop()
        return table

    def _tensor(self, name: str, arguments: tuple[object, ...]) -> PickledTensor:
        """The record of a call (storage, offset, size, stride, requires_grad, hooks[, dtype][, metadata])."""
        third = name.endswith("_v3")
        if not 4 <= len(arguments) <= 7 + third or (third and len(arguments) < 7):
            raise self.bad(K002, f"calls {name} with {len(arguments)} arguments")
        storage, offset = arguments[0], arguments[1]
        shape, stride = _naturals(arguments[2]), _naturals(arguments[3])
        if not isinstance(storage, Storage) or type(offset) is not int or offset < 0 or shape is None or stride is None:
            raise self.bad(K002, f"calls {name} with arguments that describe no tensor")
        if len(shape) != len(stride) or (len(arguments) == 7 + third and arguments[-1]):
            raise self.bad(K002, "holds a tensor whose strides or flags safetensors cannot hold")
        dtype = storage.dtype
        if third:
            given = arguments[6]
            if not isinstance(given, Global) or given.name.removeprefix("torch.") not in DTYPES:
                raise self.bad(K002, "holds a tensor without a dtype")
            dtype = DTYPES[given.name.removeprefix("torch.")]
        tensor = PickledTensor(storage, offset, shape, stride, dtype)
        last = 0 if 0 in shape else offset + 1 + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
        if last * BITS[dtype] > storage.elements * BITS[storage.dtype]:
            raise self.bad(K010, f"holds a tensor {list(shape)} that reaches beyond its storage {storage.key!r}")
        return tensor

    def _persistent(self, _: object) -> None:
        """A storage: ('storage', class, key, location, elements), in the old format with a view, always None here."""
        found = self._pop()
        parts = list(cast("tuple[object, ...]", found)) if isinstance(found, tuple) else []
        first = parts[0] if parts and isinstance(parts[0], str) else type(cast("object", found)).__name__
        view = parts[5] if len(parts) == 6 else None
        if len(parts) not in (5, 6) or first != "storage" or view is not None:
            what = shown(first)
            raise self.bad(K003, f"refers to an object outside of it ({what}) that is no storage of a tensor")
        kind, key, elements = parts[1], parts[2], parts[4]
        if not isinstance(kind, Global) or kind.name not in STORAGES or not isinstance(key, str):
            raise self.bad(K003, "refers to a storage of an unknown class or without a key")
        if not 0 < len(key) <= 100 or not key.isascii() or set(key) & set("/\\\0") or key.strip(".") == "":
            raise self.bad(K003, f"refers to a storage by the key '{shown(key)}', which is a path")
        if type(elements) is not int or not 0 <= elements < 2**48:
            raise self.bad(K003, f"refers to a storage '{key}' of {shown(elements)} elements")
        storage = Storage(key, STORAGES[kind.name], elements)
        if self.storages.setdefault(key, storage) != storage:
            raise self.bad(K003, f"describes the storage '{key}' twice in different ways")
        self._stack.append(storage)

    def _build(self, _: object) -> None:
        self._pop()
        if not isinstance(self._top(), Ordered | Refused):
            raise self.bad(K002, "sets the state of an object (BUILD) that is no OrderedDict")

    # The stack.

    def _top(self) -> object:
        value = self._pop()
        self._stack.append(value)
        return value

    def _pop(self) -> object:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise self.bad(K002, "takes more from its stack than is there")
        return self._stack.pop()

    def _since_mark(self) -> list[object]:
        if not self._marks:
            raise self.bad(K002, "goes back to a mark that was never set")
        mark = self._marks.pop()
        items = self._stack[mark:]
        del self._stack[mark:]
        return items

    _handlers: ClassVar[dict[str, Callable[[PickleMachine, Any], None]]] = {
        "PROTO": _proto,
        "FRAME": _frame,
        "MARK": _mark,
        "BINPUT": _put,
        "LONG_BINPUT": _put,
        "MEMOIZE": _memoize,
        "BINGET": _get,
        "LONG_BINGET": _get,
        "EMPTY_LIST": _empty_list,
        "EMPTY_DICT": _empty_dict,
        "TUPLE": _tuple,
        "APPEND": _append,
        "APPENDS": _appends,
        "SETITEM": _setitem,
        "SETITEMS": _setitems,
        "GLOBAL": _global,
        "STACK_GLOBAL": _stack_global,
        "REDUCE": _reduce,
        "BINPERSID": _persistent,
        "BUILD": _build,
        "TUPLE1": lambda machine, _: machine._tuple_n(1),
        "TUPLE2": lambda machine, _: machine._tuple_n(2),
        "TUPLE3": lambda machine, _: machine._tuple_n(3),
    }


def _naturals(value: object) -> tuple[int, ...] | None:
    """The value as a tensor's sizes, or None if it is not a tuple of at most 32 whole numbers below 2^48."""
    if not isinstance(value, tuple):
        return None
    numbers = cast("tuple[object, ...]", value)
    if len(numbers) > MAX_AXES or not all(type(n) is int and 0 <= n < 2**48 for n in numbers):
        return None
    return cast("tuple[int, ...]", numbers)


_CONSTANTS: dict[str, object] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_CONSTANTS["EMPTY_SET"] = Other("builtins.set")

_PUSHES = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
        *("BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    )
)

_BYTES = frozenset(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"))

_PYTHON2 = {"__builtin__": "builtins"}

_ALIASES = {"torch.UntypedStorage": "torch.storage.UntypedStorage"}

_GET_ANOTHER = "get the model as a .safetensors file, or download this file again"
