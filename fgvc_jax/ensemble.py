"""Members -> one fused prediction, exact accuracies and the overlap of their attention."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

AT_ONCE = 2**22  # values of one member that are fused at a time


def fuse(logits: jax.Array, how: str) -> jax.Array:
    """Average the members (KT, section on inference: the results of all networks are averaged).

    Args:
        logits: (N, B, K).
        how: "probabilities": mean of the softmax, as the paper words it; "logits": mean of the raw
            logits, which decides as the authors' code, where they are summed.

    Returns:
        (B, K) float32: log of the mean probabilities, or mean logits. Either way its softmax is the
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


def growing(members: Sequence[np.ndarray], how: str) -> Iterator[np.ndarray]:
    """What the first 1, 2, ... N members say together, by a running sum: linear in N.

    Args:
        members: N arrays (B, K) of log-probabilities. They serve "logits" too: from a member's raw
            logits they differ by a number per image, which decides nothing.
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
        yield mean if how == "probabilities" else mean - _log_sum(mean)


def _log_sum(values: np.ndarray) -> np.ndarray:
    high = values.max(axis=-1, keepdims=True)
    return high + np.log(np.exp(values - high).sum(axis=-1, keepdims=True))


def chunks(count: int, classes: int) -> Iterator[slice]:
    """Rows to take at a time, so that what is fused at once stays small."""
    rows = max(1, AT_ONCE // max(classes, 1))
    return (slice(start, start + rows) for start in range(0, count, rows))


def judge(
    labels: np.ndarray,
    log_probabilities: Sequence[np.ndarray],
    attention: Sequence[np.ndarray],
    *,
    how: str,
) -> dict[str, Any]:
    """Members and ensembles on a set, from what was kept of their answers.

    Args:
        labels: (B,) int.
        log_probabilities: (B, K) of each member, in the order of training; may be memory-mapped.
        attention: (B, h, w) standardised maps Z of each member; may be empty.
        how: see `fuse`.

    Returns:
        {"images": int, "single": [accuracy], "ensemble": [accuracy with 1, 2, ... members],
        "attention_overlap": [[mean over images]]}. Pairs on different grids have None there.
    """
    count, members = len(labels), len(log_probabilities)
    single, ensemble = np.zeros(members, int), np.zeros(members, int)
    for rows in chunks(count, log_probabilities[0].shape[1]):
        parts = [np.asarray(member[rows], np.float32) for member in log_probabilities]
        for n, (part, fused) in enumerate(zip(parts, growing(parts, how), strict=True)):
            single[n] += np.sum(part.argmax(-1) == labels[rows])
            ensemble[n] += np.sum(fused.argmax(-1) == labels[rows])
    return {
        "images": count,
        "single": [int(n) / count for n in single],
        "ensemble": [int(n) / count for n in ensemble],
        "attention_overlap": attention_overlap(attention),
    }


def attention_overlap(maps: Sequence[np.ndarray]) -> list[list[float | None]]:
    """Mean over images and positions of |Z_i| * max(Z_j, 0), for all pairs of members.

    Args:
        maps: (B, h, w) standardised attention maps of each member.

    Returns:
        Row i as teacher and column j as student: each pair's orthogonal loss; None where two
        members have maps on different grids.
    """
    if not maps:
        return []
    totals = np.zeros((len(maps), len(maps)))
    grids = [member.shape[1:] for member in maps]
    for rows in chunks(len(maps[0]), int(np.prod(grids[0]))):
        parts = [np.asarray(member[rows], np.float32) for member in maps]
        for i, teacher in enumerate(parts):
            for j, student in enumerate(parts):
                if grids[i] == grids[j]:
                    products = np.abs(teacher) * np.maximum(student, 0)
                    totals[i, j] += products.mean((1, 2), dtype=np.float64).sum()
    return [
        [totals[i, j] / len(maps[0]) if grids[i] == grids[j] else None for j in range(len(maps))]
        for i in range(len(maps))
    ]
