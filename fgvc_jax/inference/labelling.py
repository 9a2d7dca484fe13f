"""The photographs to label next, found in a stream of answers of which few are kept."""

from typing import NamedTuple

import numpy as np

from fgvc_jax.ensemble import log_softmax
from fgvc_jax.evaluation import acquisition
from fgvc_jax.inference.model import Model
from fgvc_jax.inference.stream import Answered
from fgvc_jax.utils.errors import UserError


class Candidate(NamedTuple):
    """A photograph that may be worth a label: its path, what is said of it, how probable that is,
    and how much a label would tell, see `acquisition.uncertainty`."""

    path: str
    suggestion: str
    probability: float
    uncertainty: float
    vector: np.ndarray


class ToLabel:
    """Of any number of answers those that are worth a label.

    Args:
        asked: the members.
        count: so many are chosen.
    """

    def __init__(self, asked: Model, count: int):
        self._asked, self._count = asked, count
        self._candidates: list[Candidate] = []  # the most uncertain first

    def add(self, some: Answered) -> None:
        """Look at answers that have what the members see, too."""
        values = acquisition.uncertainty(log_softmax(self._asked.each(some.answers)))
        told = self._asked.fused(some.answers)
        names = [path or "an image" for path in some.paths]
        vectors = self._asked.whole(some.answers, names, normalize=True)
        best = told.argmax(-1)
        found = [
            Candidate(
                path, self._asked.classes[best[i]], float(np.exp(told[i, best[i]])),
                float(values[i]), vectors[i].copy(),
            )
            for i, (path, bad) in enumerate(zip(some.paths, some.problems, strict=True))
            if not bad
        ]  # fmt: skip
        found = sorted(self._candidates + found, key=lambda each: -each.uncertainty)
        self._candidates = found[: acquisition.CANDIDATES * self._count]

    def chosen(self) -> list[Candidate]:
        """Those to label, the most useful first."""
        if not self._candidates:
            return []
        vectors = np.stack([each.vector for each in self._candidates])
        try:
            _, nearest = self._asked.remembered.nearest(vectors, 1)
            near = nearest[:, 0]
        except UserError:  # a run that keeps no training photographs
            near = None
        return [self._candidates[i] for i in acquisition.spread(vectors, near, self._count)]
