"""The training photographs that members take for most alike: what is kept of them, searched whole.

What a member sees of an image is a vector of length 1; those of several members stand side by side,
so that the dot product of two rows is the mean of the members' cosines.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from fgvc_jax.inference.embeddings import concatenated
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import predictions, remembered
from fgvc_jax.workdir.predictions import Part
from fgvc_jax.workdir.record import Record
from fgvc_jax.workdir.thumbnails import Thumbnails

BLOCK = 8192  # rows that are multiplied at a time
NOVELTY = "embedding", "energy", "max_logit"  # what an answer has to have, see `Neighbours.novelty`


class Neighbour(NamedTuple):
    """A training photograph: its name in the dataset, its class, and how similar it is, up to 1."""

    name: str
    of_class: str
    similarity: float


def nearest(queries: np.ndarray, vectors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows most similar to each query, found by comparing it with all of them.

    Products in float32 leave the few rows that can be among them, whose products in float64 decide;
    of equal ones the first row comes first.

    Args:
        queries: (B, D), of length 1 at the most.
        vectors: (N, D) likewise, N at least 1, float32 or float16.
        count: at least 1.

    Returns:
        (B, k) int64 rows, the most similar first, and (B, k) float32 dot products; k = min(N,
        count).

    Raises:
        ValueError: for queries that are not finite.
    """
    if not np.isfinite(queries).all():
        raise ValueError("a query is not finite numbers")
    count = min(count, len(vectors))
    asked = np.ascontiguousarray(queries, np.float32)
    slack = asked.shape[1] * np.finfo(np.float32).eps  # how far two products may be from exact
    best = np.full((len(asked), count), -np.inf, np.float32)  # so far
    found: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in asked]
    for start in range(0, len(vectors), BLOCK):
        block = np.asarray(vectors[start : start + BLOCK], np.float32)
        # Several queries, in this order, take half the time that they take the other way round.
        products = asked @ block.T if len(asked) == 1 else (block @ asked.T).T
        for b in np.flatnonzero(products.max(axis=1) >= best.min(axis=1) - slack).tolist():
            rows = np.flatnonzero(products[b] >= best[b].min() - slack)  # few but at first
            both = np.concatenate([best[b], products[b, rows]])
            best[b] = np.partition(both, len(both) - count)[-count:]
            rows = rows[products[b, rows] >= best[b].min() - slack]
            found[b].append((start + rows, products[b, rows]))
    chosen = np.empty((len(asked), count), np.int64)
    values = np.empty((len(asked), count), np.float32)
    for b, parts in enumerate(found):
        rows, roughly = (np.concatenate(each) for each in zip(*parts, strict=True))
        rows = rows[roughly >= best[b].min() - slack]
        exact = _products(asked[b], vectors, rows)
        order = np.argsort(-exact, kind="stable")[:count]
        chosen[b], values[b] = rows[order], exact[order]
    return chosen, np.clip(values, -1, 1)


def _products(query: np.ndarray, vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(n,) float64 of some rows, equal for equal rows wherever they are."""
    wide, exact = query.astype(np.float64), np.empty(len(rows))
    for start in range(0, len(rows), BLOCK // 8):
        some = slice(start, start + BLOCK // 8)
        exact[some] = (vectors[rows[some]].astype(np.float64) * wide).sum(-1)
    return exact


@dataclass(frozen=True)
class Neighbours:
    """The training photographs that a run keeps, as some of its members see them.

    part: which they are. vectors: (N, D) float32, see `embeddings.concatenated`.
    """

    part: Part
    vectors: np.ndarray

    @classmethod
    def of(cls, part: Part, members: Sequence[str]) -> Self:
        """As members see them, by their digests; errors as of `remembered.embedding`."""
        parts = [remembered.embedding(part, member).astype(np.float32) for member in members]
        return cls(part, concatenated(parts, normalize=True))

    @classmethod
    def open(cls, workdir: Path, members: Sequence[str]) -> Self:
        """Those of a workdir.

        Raises:
            UserError: where it keeps none that all these members have seen.
        """
        part = remembered.find(workdir, Record.read(workdir / "config.json"))
        if part is None or not all(remembered.has(part, member) for member in members):
            raise UserError(
                f"workdir {str(workdir)!r} does not keep what these members see of training "
                "photographs: as long as the dataset is where it was, "
                f"{predictions.way_out(workdir)}"
            )
        return cls.of(part, members)

    def count(self, among: Sequence[int] = ()) -> int:
        """How many photographs there are, of some classes; empty: of all."""
        return int(np.isin(self.part.labels, among).sum()) if among else len(self.vectors)

    @cached_property
    def pictures(self) -> Thumbnails | None:
        """The photographs, small; None where they are not kept."""
        return remembered.pictures(self.part)

    def nearest(
        self, queries: np.ndarray, count: int, among: Sequence[int] = ()
    ) -> tuple[np.ndarray, np.ndarray]:
        """As the function, of the photographs of some classes, by their numbers; empty: of all."""
        if not among:
            return nearest(queries, self.vectors, count)
        mine = np.flatnonzero(np.isin(self.part.labels, among))
        if not mine.size:
            return np.zeros((len(queries), 0), np.int64), np.zeros((len(queries), 0), np.float32)
        rows, values = nearest(queries, self.vectors[mine], count)
        return mine[rows], values

    def novelty(self, answers: dict[str, np.ndarray]) -> np.ndarray:
        """(B, 3) float32, how strange images are to the only member, see `evaluation.novelty`, from
        the arrays `NOVELTY` that it answers."""
        seen = concatenated([answers["embedding"]], normalize=True)
        _, nearest = self.nearest(seen, 1)
        scores = answers["energy"], answers["max_logit"], 1 - nearest[:, 0]
        return np.stack(scores, axis=-1).astype(np.float32)

    def told(self, rows: np.ndarray, similarities: np.ndarray) -> list[list[Neighbour]]:
        """What `nearest` found, with names and classes."""
        names, labels, classes = self.part.names, self.part.labels, self.part.classes
        return [
            [Neighbour(names[r], classes[labels[r]], float(v)) for r, v in zip(*each, strict=True)]
            for each in zip(rows, similarities, strict=True)
        ]
