"""The child process of `pickle_convert`: reads a pickled model with torch and writes safetensors.

Run as a script by path, with no other module of Sosie: `python -I child.py IN OUT`, and on
its stdin a JSON object: `header` (the bytes that the new file begins with, base64), `tensors` (for
each in the file's order its name, the keys that lead to it, dtype and shape), `seconds` and
`memory` (limits). Before a byte of IN is read it takes every right from itself that it can.
Exit 0 done; 3 refused, the reason as the last line of stderr; 4 torch is not installed.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from contextlib import suppress
from typing import Any

WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

FORBIDDEN = (
    "socket.",
    "subprocess.",
    "pickle.find_class",
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "os.kill",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.putenv",
    "shutil.",
    "ctypes.dlopen",
)
"""Beginnings of audit events (Python manual, "Audit events table") that end the child."""


def limit(plan: dict[str, Any], size: int) -> None:
    """Bounds memory, time and written bytes to what this file needs, and cuts off the network where it can.

    Memory is counted from what torch has mapped already; `size` is the new file's, in bytes.
    """
    with suppress(Exception):
        import ctypes

        # A network namespace of its own (CLONE_NEWNET) needs privilege and is often refused; then the hook has to do.
        ctypes.CDLL(None, use_errno=True).unshare(0x40000000)
    if sys.platform == "win32":
        return  # it has no such limits; the parent's time limit and the hook have to do
    with suppress(ImportError, OSError, ValueError):
        import resource

        with open("/proc/self/statm") as stream:  # noqa: PTH123 - nothing more is imported than needed
            mapped = int(stream.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        for kind, bound in (
            (resource.RLIMIT_AS, mapped + int(plan["memory"])),
            (resource.RLIMIT_FSIZE, size + 2**20),
            (resource.RLIMIT_CPU, int(plan["seconds"])),
            (resource.RLIMIT_CORE, 0),
        ):
            resource.setrlimit(kind, (bound, bound))


def watch(out: str) -> None:
    """From now on code, were any run, could neither start a process, nor use a socket, nor write another file."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            writes = bool(flags & WRITE_FLAGS) if isinstance(flags, int) else any(c in str(mode) for c in "wax+")
            forbidden = writes and path != out
        else:
            forbidden = event.startswith(FORBIDDEN)
        if forbidden:
            os.write(2, f"\nit tried to do what loading a table of tensors does not do: {event}\n".encode())
            os._exit(3)

    sys.addaudithook(hook)


def load(path: str) -> Any:
    """The object, its tensors mapped from the file where the format allows it."""
    import torch

    torch.set_num_threads(1)
    with open(path, "rb") as stream:  # noqa: PTH123
        zipped = stream.read(4) == b"PK\x03\x04"
    return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)


def write(root: Any, plan: dict[str, Any], out: str) -> None:
    """One tensor after another, each checked and made contiguous; only one is in memory at a time."""
    import torch

    with open(out, "wb") as stream:  # noqa: PTH123
        stream.write(base64.b64decode(plan["header"]))
        for name, place, dtype, shape in plan["tensors"]:
            tensor = root
            for key in place:
                tensor = tensor[key]
            if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or tensor.is_quantized:
                raise ValueError(f"{name!r} is no plain tensor once loaded")
            if str(tensor.dtype) != f"torch.{dtype}" or list(tensor.shape) != shape:
                raise ValueError(f"{name!r} is {tensor.dtype} {list(tensor.shape)} once loaded, not {dtype} {shape}")
            flat = tensor.detach().contiguous().reshape(-1)
            stream.write(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
        stream.flush()
        os.fsync(stream.fileno())


def main() -> int:
    """Reads, limits itself, converts."""
    source, out = sys.argv[1:]
    plan: dict[str, Any] = json.load(sys.stdin)
    try:
        # What is imported late (by torch.load) is imported now, while memory is not limited.
        import torch
        from torch.utils.serialization import config

        torch.zeros(1).view(torch.uint8).numpy().tobytes()
        del config
    except ImportError as error:
        sys.stderr.write(f"\n{error}\n")
        return 4
    limit(plan, int(plan["size"]))
    watch(out)
    try:
        write(load(source), plan, out)
    except MemoryError:
        sys.stderr.write("\nit needs more memory than its size explains\n")
        return 3
    except Exception as error:
        # Around the reason stands torch's advice to load the file without this protection.
        reason = (
            str(error).rpartition("WeightsUnpickler error:")[2].partition("Check the documentation of torch.load")[0]
        )
        text = " ".join(reason.split())[:300]
        sys.stderr.write(f"\n{type(error).__name__}: {ascii(text)[1:-1]}\n")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
