"""The folder of an export: made beside, tried, then renamed, with what every format has in it.

labels.txt and labels.json, README.md, selftest.npz (an image and the probabilities of its classes),
selftest.py (asks the export again, with nothing but its runtime) and export.json.
"""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fgvc_jax
from fgvc_jax.inference.export.trained import Trained
from fgvc_jax.utils import digests, paths
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import storage

MARK = "export.json"  # tells our folders from others'
README = "README.md"
LONGEST_TEST = 900  # seconds; compiling an ensemble on a slow machine takes minutes


class Format(NamedTuple):
    """How one format is written.

    write: puts its files into a folder and returns the text of README.md. script: of selftest.py,
    which prints the largest difference of a probability and fails if it is too large. runtime: the
    package that the script needs. answer: what the export says to (B, R, R, 3) uint8 images, its
    folder being written, where that is not what the members say. precision: that it computes in.
    """

    write: Callable[[Trained, Path], str]
    script: Callable[[Trained], str]
    runtime: Callable[[Trained], str]
    answer: Callable[[Path, np.ndarray], np.ndarray] | None = None
    precision: str = "float32"


def target(text: str) -> Path:
    """The folder to write, refused before the work begins if it cannot be.

    Raises:
        UserError: also where there is something that is no export of ours.
    """
    try:
        path = paths.local(text, "--output").resolve()
        if path.is_symlink():  # of which Python 3.13 says nothing
            raise OSError("a link to itself")
        used = path.is_dir() and any(path.iterdir())
    except (OSError, RuntimeError) as error:  # a link to itself, a folder that nobody may look into
        raise UserError(f"--output {text!r} cannot be used ({error}): name another") from error
    if path.exists() and not path.is_dir():
        raise UserError(f"--output {text!r} is a file: name a folder")
    if used and not _ours(path):
        raise UserError(
            f"--output {text!r} is a folder with something in it that is no earlier export, or one "
            "whose README.md was edited: name another, or move that away"
        )
    if not storage.writable(path.parent) or path == path.parent:
        raise UserError(f"--output {text!r} cannot be written there: name another folder")
    return path


def _ours(path: Path) -> bool:
    """Whether an export and nothing else is there: no .git, no notes and no model card that
    somebody filled in, which would go with it."""
    try:
        found = storage.read_json(path / MARK)
        unedited = digests.of_file(path / README) == found["readme"]
        return unedited and {each.name for each in path.iterdir()} <= set(found["files"])
    except (OSError, UserError, KeyError, TypeError):
        return False


def write(trained: Trained, path: Path, name: str, format: Format) -> str:
    """Write an export and try it.

    Args:
        trained: what is exported.
        path: of the folder, which it replaces.
        name: of the format.
        format: how.

    Returns:
        What came out when it was tried, a line, and how far it is from the members' own answers.

    Raises:
        UserError: when it cannot be written, or does not answer as the members do.
    """
    trained.drift.check()
    storage.check_space(path.parent, int(1.1 * trained.inference.nbytes) + 2**20)
    with storage.new_folder(path) as folder:
        readme = format.write(trained, folder)
        storage.write_text(folder / README, readme)
        _write_labels(folder, trained.model.classes)
        storage.write_text(folder / "selftest.py", format.script(trained))
        probabilities = trained.probabilities
        if format.answer:
            probabilities = format.answer(folder, trained.image)
        arrays = {"images": trained.image, "probabilities": probabilities}
        storage.write_arrays(folder / "selftest.npz", **arrays)
        files = sorted([MARK, *(each.name for each in folder.iterdir())])
        kept = {"files": files, "readme": digests.of_file(folder / README)}
        made = _mark(trained, name) | {"precision": format.precision}
        storage.write_json(folder / MARK, made | kept)
        return f"{_tried(folder, format.runtime(trained))}\n{trained.drift}"


def _mark(trained: Trained, name: str) -> dict[str, Any]:
    return {
        "fgvc_jax": fgvc_jax.__version__,
        "format": name,
        "which": trained.which,
        "members": list(trained.model.identities),
        "fusion": trained.model.fusion,
        "classes": len(trained.model.classes),
        "image": {"side": trained.inference.side, "dtype": "uint8", "order": "RGB"},
    }


# -- classes ---------------------------------------------------------------------------------------


def _write_labels(folder: Path, classes: Sequence[str]) -> None:
    storage.write_text(folder / "labels.txt", "".join(f"{one_line(name)}\n" for name in classes))
    storage.write_text(folder / "labels.json", json.dumps(classes, indent=0) + "\n")


def one_line(name: str) -> str:
    """A name with backslashes, line breaks and what is no Unicode as in a Python string."""

    def written(c: str) -> str:
        breaks = len(f"-{c}-".splitlines()) > 1
        special = breaks or c == "\\" or "\ud800" <= c <= "\udfff"
        return c.encode("unicode_escape").decode() if special else c

    return "".join(map(written, name))


# -- the self-test ---------------------------------------------------------------------------------


def script(imports: Sequence[str], answer: Sequence[str], *, within: str = "1e-4") -> str:
    """The text of a selftest.py.

    Args:
        imports: lines, beside NumPy's.
        answer: lines that make `answered` (1, K) of `kept["images"]`, the folder being `here`.
        within: how far a probability may be off.
    """
    lines = [
        '"""Ask the export for the image that is kept beside it, and compare."""',
        "from pathlib import Path",
        "",
        *sorted(["import numpy as np", *imports]),
        "",
        "here = Path(__file__).resolve().parent",
        'kept = np.load(here / "selftest.npz")',
        *answer,
        'difference = np.abs(np.asarray(answered) - kept["probabilities"]).max()',
        'print(f"largest difference of a probability: {difference:.1e}")',
        f'assert difference < {within}, "this runtime answers otherwise"',
    ]
    return "\n".join(lines) + "\n"


def _tried(folder: Path, runtime: str) -> str:
    """Run selftest.py in a process of its own, on the CPU, where its runtime is installed.

    One that does not end proves nothing against the export, which is kept: a slow machine could
    never have one otherwise.
    """
    if importlib.util.find_spec(runtime) is None:
        return f"not tried here, since {runtime} is not installed: selftest.py does it where it is"
    known = [str(Path(fgvc_jax.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(filter(None, known))}
    try:
        done = subprocess.run(
            [sys.executable, str(folder / "selftest.py")],
            env=os.environ | environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=LONGEST_TEST,
        )
    except subprocess.TimeoutExpired:
        return (
            "not known to answer as the members do: selftest.py was stopped after "
            f"{LONGEST_TEST} s without an answer; run it where there is more time"
        )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise UserError(
            f"the export does not answer as the members do under {runtime} ({reason}): nothing was "
            "written"
        )
    return done.stdout.strip()
