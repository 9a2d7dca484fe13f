"""Makes a dataset with a long tail of one whose classes are alike.

    python scripts/cut_tail.py --source cub:data/cub200_2010 --output data/tail

Writes a `folder:` dataset. The training images of a class fall off exponentially with its place in
a random order, from all to all / FACTOR (the usual cut, as of CIFAR-LT by Cui et al., arXiv
1901.05555); the other parts stay whole. Files have the bytes that they had.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fgvc_jax.commands.start import run
from fgvc_jax.data import sources
from fgvc_jax.utils.command_line import command_line
from fgvc_jax.utils.errors import UserError

SEED = 0  # of the classes' order, and of which images stay


@dataclass(frozen=True)
class Arguments:
    """Make a dataset with a long tail."""

    source: str = "cub:data/cub200_2010"
    """As --data.source of the training; its images are encoded files."""
    output: Path = Path("data/tail")
    """A folder to make."""
    factor: float = 10.0
    """The largest class has so many times the images of the smallest."""


def kept(labels: np.ndarray, factor: float) -> np.ndarray:
    """Rows (n,) of the training images (N,) that stay, at least one of each class."""
    rng = np.random.default_rng(SEED)
    order = rng.permutation(labels.max() + 1)
    shares = np.empty(len(order))
    shares[order] = factor ** -(np.arange(len(order)) / max(len(order) - 1, 1))
    chosen = []
    for label, share in enumerate(shares):
        own = np.flatnonzero(labels == label)
        chosen.append(rng.permutation(own)[: max(1, round(share * len(own)))])
    return np.sort(np.concatenate(chosen))


def main(arguments: list[str]) -> None:
    chosen = command_line(
        Arguments, arguments, program="python scripts/cut_tail.py", default=Arguments()
    )
    if chosen.output.exists():
        raise UserError(f"{str(chosen.output)!r} is there already: remove it, or name another")
    splits = sources.open_source(chosen.source)
    try:
        for name, part in splits.parts.items():
            rows = kept(part.labels, chosen.factor) if name == "train" else range(len(part))
            for row in rows:
                record = part[int(row)]
                title = splits.classes[record["label"]].replace("/", "_")
                folder = chosen.output / name / title
                folder.mkdir(parents=True, exist_ok=True)
                file = f"{record['id']}{Path(record['name']).suffix or '.jpg'}"
                (folder / file).write_bytes(record["image"])
    except BaseException:
        shutil.rmtree(chosen.output, ignore_errors=True)  # part of a set is none
        raise


if __name__ == "__main__":
    run(main)
