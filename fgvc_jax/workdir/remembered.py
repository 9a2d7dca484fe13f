"""Some of a run's training photographs, and what its members see of them: kept so that the nearest
ones can be shown beside an answer, once the dataset has gone.

    predictions/neighbours-0123456789abcdef/
        images.json             as of every part, see the module `predictions`
        MEMBER.embedding.npy    (N, D) float16, rows of length 1
        thumbnails.npy          see the module of its name
        MEMBERS.nearest.json    the rows that are nearest to the test images named most wrongly

They are at most `MOST`, as evenly by class as there are photographs, and fewer where the members'
vectors would take more than `FEATURES` bytes together. The folder is known by the digest of all
training images, their number, and the view at test.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fgvc_jax.data.records import Source, Subset
from fgvc_jax.utils import digests
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import predictions, storage, thumbnails
from fgvc_jax.workdir.predictions import Part
from fgvc_jax.workdir.record import Record
from fgvc_jax.workdir.thumbnails import Thumbnails

PART = "neighbours"
MOST = 5_000  # photographs
FEATURES = 25_000_000  # bytes of all members' vectors
PICTURES = 15_000_000  # bytes of the thumbnails
ERRORS = 48  # test images whose neighbours are kept: as many as a report pictures
NEAREST = 5  # neighbours of each


def fitting(width: int) -> int:
    """How many photographs may be kept, where all members' vectors have `width` numbers."""
    return max(1, min(MOST, (FEATURES - thumbnails.HEADER) // (2 * width)))


def evenly(labels: np.ndarray, names: Sequence[str], most: int) -> np.ndarray:
    """Rows of at most so many images, as many of each class as of any other that has them.

    Within a class the choice goes by a hash of the names, so that it is the same on every platform,
    and fewer images are some of more.

    Args:
        labels: (N,) int.
        names: N strings.
        most: at least 1.

    Returns:
        (M,) int64 in order, M = min(N, most).
    """
    hashed = [hashlib.sha256(name.encode(errors="surrogateescape")).digest() for name in names]
    taken: dict[int, int] = {}
    order = []
    for row in sorted(range(len(names)), key=lambda row: hashed[row]):
        label = int(labels[row])
        taken[label] = turn = taken.get(label, -1) + 1
        order.append((turn, hashed[row], row))
    return np.sort(np.array([row for *_, row in sorted(order)[:most]], np.int64))


def part_of(workdir: Path, training: Source, record: Record, most: int) -> tuple[Part, np.ndarray]:
    """Where at most so many of a run's training images are kept, and their rows (M,); nothing is
    written."""
    rows = evenly(training.labels, training.names, most)
    part = predictions.part_of(
        workdir,
        PART,
        Subset(training, rows),
        classes=record.classes,
        view=record.experiment.data.view,
        images=_known_by(record, len(rows)),
    )
    return part, rows


def find(workdir: Path, record: Record) -> Part | None:
    """What a run keeps of its training photographs; None where it keeps none."""
    for folder in storage.matching(workdir / "predictions", f"{PART}-*"):
        try:
            part = predictions.read(folder)
        except UserError:
            continue
        labels, known = part.labels, range(len(part.classes))
        if (
            part.classes == record.classes
            and part.images == _known_by(record, len(labels))
            and len(part.names) == len(labels) > 0
            and all(label in known for label in labels.tolist())
        ):
            return part
    return None


def _known_by(record: Record, count: int) -> str:
    return digests.of_value([PART, digests.best(record.digests["train"]), count])


def has(part: Part, member: str) -> bool:
    """Whether what a member sees of the photographs is kept and readable."""
    try:
        embedding(part, member)
    except (FileNotFoundError, UserError):
        return False
    return True


def is_kept(part: Part, members: Sequence[str]) -> bool:
    """Whether nothing is missing: what these members see, and the photographs."""
    return pictures(part) is not None and all(has(part, member) for member in members)


def embedding(part: Part, member: str) -> np.ndarray:
    """(N, D) float16: what a member sees, by its digest, rows of length 1.

    Raises:
        FileNotFoundError: where it is not kept.
        UserError: where the file is damaged.
    """
    path = part.path(member, "embedding")
    try:
        array = storage.map_array(path)
        if array.ndim != 2 or len(array) != len(part.labels) or array.dtype != np.float16:
            raise ValueError(f"of shape {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError("it has numbers that are not finite")
    except ValueError as error:
        raise UserError(f"{str(path)!r} is damaged ({error}): remove it") from error
    return array


@contextlib.contextmanager
def keep(part: Part, members: Sequence[str], widths: Sequence[int]) -> Iterator[list[np.ndarray]]:
    """Arrays (N, D) float16 to fill in with what members see, by their digests and the widths of
    their vectors. They appear at the end of the block, all or, after an error, none."""
    predictions.name_images(part)
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                storage.new_array(
                    part.path(member, "embedding"), (len(part.labels), width), np.float16
                )
            )
            for member, width in zip(members, widths, strict=True)
        ]


def forget_others(part: Part) -> None:
    """Remove what was kept when the run had fewer members, or other photographs. Scores of novelty
    go, too, since they were distances to those photographs."""
    everything = part.folder.parent
    others = [each for each in storage.matching(everything, f"{PART}-*") if each != part.folder]
    if not others:
        return
    for folder in storage.matching(everything, "*"):
        # A solver's head is alone, so that its photographs are ever the same.
        if not folder.name.startswith(f"{predictions.HELD_OUT}-"):
            for file in storage.matching(folder, "*.novelty.npy"):
                storage.remove(file)
    for folder in others:  # last, so that a kill before leaves them to be seen
        storage.remove(folder)


def pictures(part: Part) -> Thumbnails | None:
    """The photographs, small; None where they are not kept."""
    try:
        return Thumbnails(part.folder, len(part.labels))
    except (FileNotFoundError, ValueError):
        return None


# -- the neighbours of test images -----------------------------------------------------------------


@dataclass(frozen=True)
class Nearest:
    """The photographs that are nearest to some test images: `found[image]` are (row, similarity),
    the nearest first. members: digests of those that saw them. test: digest of the test images."""

    members: tuple[str, ...]
    test: str
    found: dict[int, list[tuple[int, float]]]

    def is_of(self, members: Sequence[str], test: Part) -> bool:
        """Whether they are those of test images as these members see them."""
        return self.members == tuple(members) and self.test == test.images

    def write(self, part: Part) -> None:
        """Keep them beside the photographs."""
        storage.write_json(
            _nearest(part, self.members),
            {
                "members": list(self.members),
                "test": self.test,
                "found": {str(image): rows for image, rows in self.found.items()},
            },
        )

    @classmethod
    def read(cls, part: Part, members: Sequence[str]) -> "Nearest | None":
        """What is kept beside the photographs of members, by their digests; None where nothing is,
        or it is damaged."""
        try:
            kept = storage.read_json(_nearest(part, members))
            found = {
                int(image): [(range(len(part.labels))[row], float(value)) for row, value in rows]
                for image, rows in kept["found"].items()
            }
            return cls(tuple(kept["members"]), kept["test"], found)
        except (FileNotFoundError, UserError, KeyError, IndexError, TypeError, ValueError,
                AttributeError):  # fmt: skip
            return None


def _nearest(part: Part, members: Sequence[str]) -> Path:
    return part.folder / f"{digests.of_value(list(members))[:16]}.nearest.json"
