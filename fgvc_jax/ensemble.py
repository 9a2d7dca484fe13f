"""Members asked together, and their one fused prediction."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from flax.typing import VariableDict

Tree = TypeVar("Tree")  # of arrays
Place = tuple[str, ...]  # of a leaf in a tree
AT_ONCE = 2**22  # values of one member that are fused at a time


class Alike(NamedTuple):
    """Variables of members of one architecture, by their places in the tree; no array is copied.

    `own` are of each member the leaves that it has for itself, `common` those of which all members
    have the same array, as those of a trunk that adapters share.
    """

    own: tuple[Mapping[Place, jax.Array], ...]
    common: Mapping[Place, jax.Array]


def alike(members: Sequence[VariableDict]) -> Alike:
    """The variables of at least one member; all have the same shapes."""
    first, *others = leaves = [flatten_dict(member) for member in members]
    common = {
        place: leaf
        for place, leaf in first.items()
        if others and all(other[place] is leaf for other in others)
    }
    if len(common) == len(first):  # one member, several times
        common = {}
    own = ({p: leaf for p, leaf in each.items() if p not in common} for each in leaves)
    return Alike(tuple(own), common)


def stack(members: Sequence[Tree]) -> Tree:
    """Trees of arrays of the same shapes, leaf by leaf: one with leaves (N, ...)."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)


def vmapped(ask: Callable[[VariableDict], Tree], members: Alike) -> Tree:
    """The answers of N members, vectorised over members: one program with few large kernels instead
    of N programs with many small ones.

    The variables are stacked inside the program. A stacked leaf is then in memory only while its
    layer runs, and in the type in which the layer computes. Stacked before, all variables would be
    in memory twice.

    Args:
        ask: variables of one member -> a tree of arrays.
        members: N, of which a program's memory grows.

    Returns:
        The tree of `ask` with leaves (N, ...).
    """

    def of_one(own):
        return ask(unflatten_dict({**members.common, **own}))

    return jax.vmap(of_one)(stack(members.own))


def fuse(logits: jax.Array, how: str) -> jax.Array:
    """Average the members (KT, section on inference: the results of all networks are averaged).

    Args:
        logits: (N, B, K).
        how: "probabilities": mean of the softmax, as the paper words it; "logits": mean of the raw
            logits, which decides as the authors' code, where they are summed.

    Returns:
        (B, K) float32, log of the mean probabilities, or mean logits. Either way its softmax is the
        ensemble's prediction.

    Raises:
        ValueError: for another `how`.
    """
    logits = logits.astype(jnp.float32)
    if how == "probabilities":
        log_probabilities = jax.nn.log_softmax(logits, axis=-1)
        return jax.nn.logsumexp(log_probabilities, axis=0) - jnp.log(logits.shape[0])
    if how == "logits":
        return logits.mean(axis=0)
    raise ValueError(f"how is {how!r}: it must be 'probabilities' or 'logits'")


def softened(logits: jax.Array, how: str, *, temperature: float) -> jax.Array:
    """What an ensemble answers at a temperature T, for a student to learn from.

    Args:
        logits: (N, B, K).
        how: see `fuse`: the mean of softmax(z_m / T), or softmax(mean z_m / T).
        temperature: T, above 0.

    Returns:
        (B, K) float32, logits whose softmax at T this is, the largest of them 0.
    """
    fused = temperature * fuse(logits / temperature, how)
    return fused - fused.max(axis=-1, keepdims=True)


def growing(members: Sequence[np.ndarray], how: str) -> Iterator[np.ndarray]:
    """What the first 1, 2, ... N members say together, by a running sum: linear in N.

    Args:
        members: N arrays (B, K) of log-probabilities. They serve "logits" too: they differ from raw
            logits by one number per image, which does not change the prediction.
        how: see `fuse`.

    Yields:
        (B, K) float32 log-probabilities of the first n members.
    """
    total = None
    for count, member in enumerate(members, start=1):
        member = np.asarray(member, np.float32)
        if total is None:
            total = member
        else:
            total = np.logaddexp(total, member) if how == "probabilities" else total + member
        mean = total - np.float32(np.log(count)) if how == "probabilities" else total / count
        yield mean if how == "probabilities" else log_softmax(mean)


def chunks(count: int, classes: int) -> Iterator[slice]:
    """Rows to take at a time, so that what is fused at once stays small."""
    rows = max(1, AT_ONCE // max(classes, 1))
    return (slice(start, start + rows) for start in range(0, count, rows))


def log_softmax(values: np.ndarray) -> np.ndarray:
    """Over the last axis, in the type of the values."""
    shifted = values - values.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
