"""Weighted nearest neighbours on the embeddings of a frozen network: nothing is learned."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Self

import numpy as np

from fgvc_jax.data.view import View
from fgvc_jax.objectives.base import HeldOut, Method, Objective, Solved
from fgvc_jax.objectives.ce import ce
from fgvc_jax.utils.lazy import lazily
from fgvc_jax.utils.options import option

if TYPE_CHECKING:
    import jax.numpy as jnp

    from fgvc_jax.networks import heads
else:
    jnp = lazily("jax.numpy")
    heads = lazily("fgvc_jax.networks.heads")

BLOCK = 1024  # images that are held out at a time


@dataclass(frozen=True)
class KNN(Method):
    """--objective knn: the nearest training images vote, see `heads.NeighbourHead`."""

    solves = True

    neighbours: int = option(20, at_least=1)
    """Training images that vote on an image."""
    temperature: float = option(0.07, above=0)
    """A vote weighs exp(cosine / temperature)."""
    voters: int = option(0, at_least=0, automatic=True)
    """Training images of which the nearest vote; 0: all, and nothing else fits."""

    def settle(self, labels: np.ndarray) -> Self:
        return replace(self, voters=len(labels))

    def make(self, *, classes: int, label_smoothing: float, view: View) -> Objective:
        head = partial(
            heads.NeighbourHead,
            classes=classes,
            images=self.voters,
            neighbours=self.neighbours,
            temperature=self.temperature,
        )
        return ce(label_smoothing=label_smoothing)._replace(head=head)

    def solve(
        self,
        embeddings: np.ndarray,
        labels: np.ndarray,
        groups: np.ndarray,
        *,
        classes: int,
        seed: int,
        watch: Callable[[str], None],
    ) -> Solved:
        lengths = np.linalg.norm(embeddings, axis=-1, keepdims=True)
        directions = embeddings / np.where(lengths > 0, lengths, 1)
        params = {"directions": directions.astype(np.float16), "labels": labels.astype(np.float32)}
        votes = heads.votes(self.neighbours, self.temperature, classes)
        found = []
        for start in range(0, len(labels), BLOCK):
            watch("held out")
            own = slice(start, start + BLOCK)
            cosines = directions[own] @ directions.T
            # Neither an image nor its group votes on it.
            cosines[groups[own, None] == groups] = -np.inf
            found.append(np.asarray(votes(jnp.float32(cosines), jnp.asarray(labels))))
        answers, alone = np.concatenate(found), np.arange(len(labels))
        held_out = HeldOut(alone, answers, np.zeros(len(labels), np.float32), alone)
        return Solved(params, {}, held_out)
