"""NumPy's files, read within bounds: what they declare is summed up before anything is unpacked."""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from sosie.files.regular import read_bytes

Arrays = dict[str, NDArray[Any]]


def read_array(path: Path, most: int) -> NDArray[Any]:
    """The array of an `.npy` file of at most `most` bytes. Raises as `read_arrays` does."""
    return _array(io.BytesIO(read_bytes(path, most)), most)


def read_arrays(content: bytes, most: int) -> Arrays:
    """The arrays of an `.npz` file, by name, which together may have `most` bytes.

    Raises `ValueError` for what is none, declares more than that, or holds Python objects.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > most or len(members) > 1000:
                raise ValueError(f"it declares more than {most:,} bytes of arrays")
            found: Arrays = {}
            for member in members:
                with archive.open(member) as stream:
                    data = io.BytesIO(stream.read(most + 1))  # a member may hold more than it declares
                found[member.filename.removesuffix(".npy")] = _array(data, most)
            return found
    except ValueError:
        raise
    # zipfile lets a dozen exception types out of hostile archives (struct.error, NotImplementedError, zlib.error...).
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {str(error)[:200]}") from None


def _array(stream: BinaryIO, most: int) -> NDArray[Any]:
    """One array, whose header is looked at before room is made for it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what Python 2 wrote
            return _bounded(stream, most)
    except ValueError:
        raise
    # NumPy reads a header with Python's own parser, and lets out what that raises (SyntaxError, TokenError...).
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {str(error)[:200]}") from None


def _bounded(stream: BinaryIO, most: int) -> NDArray[Any]:
    header: Any = np.lib.format
    version = header.read_magic(stream)
    read = {(1, 0): header.read_array_header_1_0, (2, 0): header.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"it is of version {version}")
    shape, _, dtype = read(stream, max_header_size=10_000)
    if dtype.hasobject or dtype.itemsize == 0 or min(shape, default=0) < 0:
        raise ValueError(f"it holds {dtype}")
    declared = math.prod(shape) * dtype.itemsize
    start = stream.tell()
    if declared > most or declared != stream.seek(0, 2) - start:
        raise ValueError(f"it declares {declared:,} bytes, and has {stream.tell() - start:,}")
    stream.seek(0)
    return np.load(stream, allow_pickle=False)
