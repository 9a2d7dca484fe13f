"""Members -> one fused prediction, exact accuracies and the overlap of their attention."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fgvc_jax import metrics, transfer
from fgvc_jax.metrics import Metrics, Tally

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


def softened(logits: jax.Array, how: str, *, temperature: float) -> jax.Array:
    """What an ensemble answers at a temperature T, for a student to learn from.

    Args:
        logits: (N, B, K).
        how: see `fuse`: the mean of softmax(z_m / T), or softmax(mean z_m / T).
        temperature: T, above 0.

    Returns:
        (B, K) float32: logits whose softmax at T this is, the largest of them 0.
    """
    fused = temperature * fuse(logits / temperature, how)
    return fused - fused.max(axis=-1, keepdims=True)


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
        yield mean if how == "probabilities" else metrics.log_softmax(mean)


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
        "attention_overlap": [[mean over images]], "metrics": see `Tallies.metrics`}.
    """
    found = tallies(labels, log_probabilities, how=how)
    return {
        "images": len(labels),
        **found.accuracies(),
        "attention_overlap": attention_overlap(attention),
        "metrics": found.metrics(),
    }


@dataclass(frozen=True)
class Tallies:
    """What the metrics of members and ensembles need, all of the same images.

    single: of each member. ensemble: of the first 1, 2, ... members. disagreement: (N, B), the
    share of pairs of the first n members that name different classes. mutual_information: (N, B)
    nats, entropy of the first n members' mean probabilities less the mean of their entropies
    (Houlsby et al., arXiv 1112.5745; Lakshminarayanan et al., NeurIPS 2017, for ensembles).
    """

    single: list[Tally]
    ensemble: list[Tally]
    disagreement: np.ndarray
    mutual_information: np.ndarray

    def accuracies(self) -> dict[str, list[float]]:
        """{"single": [...], "ensemble": [...]}."""
        return {
            name: [float(tally.right.mean()) for tally in getattr(self, name)]
            for name in ("single", "ensemble")
        }

    def metrics(self) -> dict[str, list[dict[str, dict[str, float]]]]:
        """{"members": [...], "ensemble": [with 1, 2, ... members]}: of each what
        `metrics.intervals` says; "disagreement" and "mutual_information" of two or more."""
        ensembles = [self._of_ensemble(n) for n in range(len(self.ensemble))]
        members = [metrics.of_tally(tally) for tally in self.single]
        found = metrics.intervals([*members, *ensembles], len(self.single[0].labels))
        return {"members": found[: len(members)], "ensemble": found[len(members) :]}

    def _of_ensemble(self, n: int) -> Metrics:
        """Metrics of the first n + 1 members."""
        own = metrics.of_tally(self.ensemble[n])
        if n == 0:
            return own
        diversity = {"disagreement": self.disagreement[n]}
        diversity["mutual_information"] = self.mutual_information[n]
        return lambda weights: (
            own(weights) | {k: metrics.mean(values, weights) for k, values in diversity.items()}
        )


def tallies(labels: np.ndarray, log_probabilities: Sequence[np.ndarray], *, how: str) -> Tallies:
    """Read what members answered once, in chunks; arguments as for `judge`."""
    numbers = range(len(log_probabilities))
    found = Tallies(
        [Tally.of(labels) for _ in numbers],
        [Tally.of(labels) for _ in numbers],
        *np.zeros((2, len(numbers), len(labels))),
    )
    for rows in chunks(len(labels), log_probabilities[0].shape[1]):
        parts = [np.asarray(member[rows], np.float32) for member in log_probabilities]
        for n, (part, fused) in enumerate(zip(parts, growing(parts, how), strict=True)):
            found.single[n].fill(rows, part)
            found.ensemble[n].fill(rows, fused)
        for n, (disagreement, information) in enumerate(_diversity(parts)):
            found.disagreement[n, rows] = disagreement
            found.mutual_information[n, rows] = information
    return found


def _diversity(members: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Disagreement and mutual information (B,) of the first 1, 2, ... members (B, K)."""
    classes = [member.argmax(-1) for member in members]
    pairs = np.zeros(len(classes[0]))
    total, entropies = 0, 0
    for n, member in enumerate(members):
        member = metrics.log_softmax(member)
        total, entropies = total + np.exp(member), entropies + metrics.entropy(member)
        mean = total / (n + 1)
        # A probability of 0 adds nothing to an entropy.
        mixed = metrics.entropy(np.log(np.maximum(mean, np.finfo(np.float32).tiny)))
        pairs += sum((classes[n] != other).astype(float) for other in classes[:n])
        yield pairs / max(n * (n + 1) / 2, 1), np.maximum(mixed - entropies / (n + 1), 0)


def attention_overlap(maps: Sequence[np.ndarray]) -> list[list[float]]:
    """Mean over images and positions of |Z_i| * max(Z_j, 0), for all pairs of members.

    Args:
        maps: (B, h, w) standardised attention maps of each member, perhaps on grids of their own.

    Returns:
        Row i as teacher and column j as student: each pair's orthogonal loss, for which the
        teacher's map is brought to the student's grid, see `transfer.on_grid`.
    """
    if not maps:
        return []
    totals = np.zeros((len(maps), len(maps)))
    for rows in chunks(len(maps[0]), max(int(np.prod(member.shape[1:])) for member in maps)):
        parts = [np.asarray(member[rows], np.float32) for member in maps]
        for i, teacher in enumerate(map(np.abs, parts)):
            on_grid = {
                grid: np.asarray(transfer.on_grid(teacher, grid))
                for grid in {student.shape[1:] for student in parts} - {teacher.shape[1:]}
            }
            for j, student in enumerate(parts):
                products = on_grid.get(student.shape[1:], teacher) * np.maximum(student, 0)
                totals[i, j] += products.mean((1, 2), dtype=np.float64).sum()
    return (totals / len(maps[0])).tolist()
