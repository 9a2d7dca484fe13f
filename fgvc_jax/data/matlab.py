"""MATLAB files through scipy, for annotations whose origin nobody vouches for.

scipy.io.loadmat follows type codes out of its tables: in scipy 1.17.1 those of 15, 19 to 25 and 36
to 39 end the process, and with 16 to 18 and 26 to 35 it takes for a Python object what lies behind
the table. So it reads in a process of its own, with a limit on time and memory, also of what zlib
unpacks. What it found comes back as JSON: nothing that such a file says is ever run here.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from fgvc_jax.utils.text import Json

MAX_BYTES = 32 * 2**20  # of a file; the annotations of Cars have 0.3 MiB
MAX_MEMORY = 2 * 2**30  # of the reading process, address space
MAX_SECONDS = 60.0


def read_variables(file: Path, names: Sequence[str]) -> dict[str, Any]:
    """The variables of `file` that are among `names`.

    Text becomes str, an array of one number that number, a cell array a list, a struct array a
    list of dicts, in the order of the file; other arrays, which no dataset's annotations hold,
    become None. Raises OSError, or ValueError if the file is too large, damaged or of no version
    that scipy reads.
    """
    with open(file, "rb") as stream:
        data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES:,} bytes")
    try:
        child = subprocess.run(
            [sys.executable, "-P", __file__, *names],
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=MAX_SECONDS,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # each thread claims address space
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"reading it takes more than {MAX_SECONDS:g} s") from error
    except subprocess.CalledProcessError as error:
        raise ValueError("it is damaged: reading it ends the reader") from error
    answer = json.loads(child.stdout)
    if "error" in answer:
        raise ValueError(answer["error"])
    return answer["variables"]


def _read(stream: IO[bytes], names: Sequence[str]) -> dict[str, Any]:
    """What the reading process says: {"variables": ...}, or {"error": one line}."""
    from scipy.io import loadmat

    try:
        variables = loadmat(stream, variable_names=names, chars_as_strings=True)
        return {"variables": {name: _plain(variables[name]) for name in names if name in variables}}
    except Exception as error:  # scipy raises nearly anything on damaged files
        return {"error": " ".join(f"{type(error).__name__} {error}".split())[:200]}


def _plain(array: "np.ndarray") -> "Json":
    """A numpy array as scipy gives it, as what JSON knows."""
    flat = array.ravel(order="F")
    if array.dtype.names:
        return [{name: _plain(row[name]) for name in array.dtype.names} for row in flat]
    if array.dtype == object:
        return [_plain(cell) for cell in flat]
    if array.dtype.kind == "U":
        return "".join(flat)
    return flat[0].item() if flat.size == 1 and array.dtype.kind in "biuf" else None


def _limit_memory() -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    except (ImportError, OSError, ValueError):
        pass  # no such limit on this system


if __name__ == "__main__":
    import io

    _limit_memory()
    json.dump(_read(io.BytesIO(sys.stdin.buffer.read()), sys.argv[1:]), sys.stdout)
