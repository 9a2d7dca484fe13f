"""What members answered, kept in a workdir's `predictions/`: looked up, never inferred twice.

    predictions/test-0123456789abcdef/    one folder for each part of a dataset in one view
        images.json                       names, labels, ids, class names, and what it is known by
        MEMBER.log_probabilities.npy      (N, K) float16
        MEMBER.attention.npy              (N, h, w) float16: the map Z on the member's own grid
        MEMBER.novelty.npy                (N, 3) float32: how strange it finds each image, see
                                          `evaluation.novelty.SCORES`

Answers for several views of each image have a folder of their own, as test-flip-0123456789abcdef.
The folder is known by the digest of its images and view, MEMBER is that of the member's variables,
so nothing is served for anything else. Readers need neither the dataset nor the networks.
"""

import contextlib
import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fgvc_jax.data.records import Source
from fgvc_jax.data.view import View
from fgvc_jax.evaluation import learning_curve, novelty
from fgvc_jax.utils import digests
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import storage

HELD_OUT = "held_out"  # training images, answered by heads that were solved without them
TOLD = 256 * 2**20  # bytes from which on the size of what is kept is said before
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """The images of one part of a dataset, and what members answered for them."""

    folder: Path
    part: str
    names: tuple[str, ...]
    labels: np.ndarray  # (N,) int32
    ids: np.ndarray  # (N,) int32
    classes: tuple[str, ...]
    images: str  # digest of the images

    def log_probabilities(self, member: str) -> np.ndarray:
        """(N, K) float16 of a member, by its digest, memory-mapped.

        Raises FileNotFoundError where they are not kept.
        """
        return self._array(member, "log_probabilities", (len(self.labels), len(self.classes)))

    def attention(self, member: str) -> np.ndarray:
        """(N, h, w) float16 maps Z of a member, by its digest, memory-mapped."""
        return self._array(member, "attention", (len(self.labels),))

    def novelty(self, member: str) -> np.ndarray:
        """(N, 3) float32, how strange a member, by its digest, finds each image. Runs of older
        versions have none."""
        shape = len(self.labels), len(novelty.SCORES)
        return self._array(member, "novelty", shape, np.float32)

    def has_novelty(self, member: str) -> bool:
        """Whether that is kept and readable."""
        try:
            self.novelty(member)
        except (FileNotFoundError, UserError):
            return False
        return True

    def has(self, member: str) -> bool:
        """Whether everything of a member is kept and readable."""
        try:
            self.log_probabilities(member), self.attention(member)
        except (FileNotFoundError, UserError):
            return False
        return True

    def path(self, member: str, kind: str) -> Path:
        """Where a member's array is, or would be."""
        return self.folder / f"{member[:16]}.{kind}.npy"

    def _array(
        self, member: str, kind: str, shape: tuple[int, ...], dtype: type = np.float16
    ) -> np.ndarray:
        path = self.path(member, kind)
        try:
            array = storage.map_array(path)
        except ValueError as error:
            raise UserError(f"{str(path)!r} is damaged ({error}): remove it") from error
        if array.shape[: len(shape)] != shape or array.dtype != dtype:
            raise UserError(f"{str(path)!r} is damaged (of shape {array.shape}): remove it")
        return array


def way_out(workdir: Path, asked: str = "") -> str:
    """How answers that are not kept come to be, as the end of a message; `asked` are options."""
    command = f"python -m fgvc_jax.evaluate{asked}"
    if storage.writable(workdir):
        return f"{command} keeps them"
    return f"nothing can be written there; of a copy elsewhere, {command} --workdir COPY keeps them"


def in_views(part: str, tta: str) -> str:
    """What a part is called whose images are answered in several views, see `augment.test_views`:
    "test-flip" and the like, so that such answers lie beside the plain ones."""
    return f"{part}-{tta}" if tta else part


def folder_of(workdir: Path, part: str, view: View, images: str) -> Path:
    """The folder of a part, which its images' digest and the view at test decide."""
    shown = digests.of_value([images, *view.test])
    return workdir / "predictions" / f"{part}-{shown[:16]}"


def part_of(
    workdir: Path, part: str, source: Source, *, classes: Sequence[str], view: View, images: str
) -> Part:
    """The part that belongs to a source in a view; nothing is written.

    Args:
        workdir: folder of the run.
        part: "test", "validation", ...
        source: its images.
        classes: names of all classes.
        view: how the images are shown at test.
        images: digest of the images (`digests.of_images`).
    """
    return Part(
        folder=folder_of(workdir, part, view, images),
        part=part,
        names=tuple(source.names),
        labels=np.asarray(source.labels, np.int32),
        ids=np.asarray(source.ids, np.int32),
        classes=tuple(classes),
        images=images,
    )


def read(folder: Path) -> Part:
    """The part that is kept in a folder of `predictions/`.

    Raises:
        UserError: when there is none.
    """
    try:
        kept = storage.read_json(folder / "images.json")
        return Part(
            folder=folder,
            part=kept["part"],
            names=tuple(kept["names"]),
            labels=np.array(kept["labels"], np.int32),
            ids=np.array(kept["ids"], np.int32),
            classes=tuple(kept["classes"]),
            images=kept["images"],
        )
    except (FileNotFoundError, KeyError, TypeError) as error:
        raise UserError(
            f"{str(folder)!r} holds no predictions: {way_out(folder.parents[1])}"
        ) from error


def name_images(part: Part) -> None:
    """Write down which images a part has, unless that is done."""
    kept: dict[str, Any] = {
        "part": part.part,
        "images": part.images,
        "classes": list(part.classes),
        "names": list(part.names),
        "labels": part.labels.tolist(),
        "ids": part.ids.tolist(),
    }
    if not storage.exists(part.folder / "images.json"):
        storage.write_json(part.folder / "images.json", kept)


def keep_chosen(part: Part, member: str, areas: dict[str, float]) -> None:
    """Keep how well each score of `evaluation.novelty` told classes that a member's head was solved
    without, by its digest."""
    storage.write_json(part.folder / f"{member[:16]}.chosen.json", areas)


def chosen(workdir: Path, member: str) -> dict[str, float]:
    """What `keep_chosen` kept of a member, whatever its answers are calibrated on; {} where that is
    nothing, or damaged."""
    for folder in storage.matching(workdir / "predictions", f"{HELD_OUT}-*"):
        try:
            kept = storage.read_json(folder / f"{member[:16]}.chosen.json")
            return {name: float(kept[name]) for name in novelty.SCORES}
        except (FileNotFoundError, UserError, KeyError, TypeError, ValueError):
            continue
    return {}


def keep_curve(part: Part, member: str, found: dict[str, Any] | None) -> None:
    """Keep the `learning_curve` of a member's head, by its digest; None: none is known."""
    storage.write_json(part.folder / f"{member[:16]}.learning_curve.json", found)


def curve(workdir: Path, member: str) -> dict[str, Any] | None:
    """What `keep_curve` kept of a member; None where that is nothing, or damaged."""
    for folder in storage.matching(workdir / "predictions", f"{HELD_OUT}-*"):
        try:
            kept = storage.read_json(folder / f"{member[:16]}.learning_curve.json")
            return {name: kept[name] for name in learning_curve.FIELDS}
        except (FileNotFoundError, UserError, KeyError, TypeError):
            continue
    return None


@contextlib.contextmanager
def keep(
    part: Part,
    members: Sequence[str],
    grids: Sequence[tuple[int, int]],
    *,
    novel: bool = False,
    answered: Collection[str] = (),
) -> Iterator[list[tuple[Any, ...]]]:
    """Arrays to fill in with what members answer: [(log-probabilities, attention), ...], and with
    `novel` the scores of novelty.

    They appear at the end of the block, all or, after an error, none.

    Args:
        part: of the dataset.
        members: their digests.
        grids: (h, w) of each member's attention map.
        novel: whether it is known how strange images are.
        answered: members whose answers are kept and stay, which have None in their place: other
            devices round otherwise, and what was judged and calibrated is what these say.
    """
    count, classes = len(part.labels), len(part.classes)
    size = sum(
        2 * count * (classes + h * w)
        for member, (h, w) in zip(members, grids, strict=True)
        if member not in answered
    )
    if size > TOLD:
        log.info("%s: keeping %.1f GiB of answers", part.folder, size / 2**30)
    name_images(part)
    with contextlib.ExitStack() as stack:
        yield [
            tuple(
                None
                if member in answered and kind != "novelty"
                else stack.enter_context(storage.new_array(part.path(member, kind), shape, dtype))
                for kind, shape, dtype in (
                    ("log_probabilities", (count, classes), np.float16),
                    ("attention", (count, *grid), np.float16),
                    *([("novelty", (count, len(novelty.SCORES)), np.float32)] if novel else []),
                )
            )
            for member, grid in zip(members, grids, strict=True)
        ]


def fill(
    answers: Iterable[list[dict[str, Any]]], arrays: Sequence[tuple[Any, ...]]
) -> list[dict[str, int]]:
    """Put what members answer batch by batch where each answer's `row` says, and add up.

    Args:
        answers: for each batch, one result of `inference.passes.answer_pass` a member.
        arrays: (log-probabilities, attention, novelty) of each member, or the first of these, or
            nothing to fill in; likewise None of one.

    Returns:
        Number of correct images of every head, for each member.

    Raises:
        UserError: when an answer is not finite.
    """
    totals: list[dict[str, int]] = []
    wanted = {"finite", "correct"}
    kinds = ("log_probabilities", "attention", "novelty")[: len(arrays[0]) if arrays else 0]
    if arrays:
        wanted |= {"mask", "row", *kinds}
    for batch in one_behind(answers):
        batch = jax.device_get([{name: each[name] for name in wanted} for each in batch])
        totals = totals or [{} for _ in batch]
        for number, (answer, total) in enumerate(zip(batch, totals, strict=True)):
            if not answer["finite"]:
                raise UserError(
                    "the network's answers are not finite numbers: its training has diverged; "
                    "lower --optimizer.learning-rate or set --optimizer.clip-norm, in a new "
                    "--workdir"
                )
            for head, count in answer["correct"].items():
                total[head] = total.get(head, 0) + int(count)
            if arrays:
                mask = answer["mask"]
                rows = answer["row"][mask]
                for array, name in zip(arrays[number], kinds, strict=True):
                    if array is not None:
                        array[rows] = answer[name][mask]
    return totals


def one_behind(batches: Iterable[Any]) -> Iterator[Any]:
    """Every batch, once the next one is under way, so that the devices never wait for the host."""
    earlier = None
    for batch in batches:
        if earlier is not None:
            yield earlier
        earlier = batch
    if earlier is not None:
        yield earlier
