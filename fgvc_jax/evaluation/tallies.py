"""Members and their ensembles judged on a set of images: numbers only, no network."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from fgvc_jax import transfer
from fgvc_jax.ensemble import chunks, growing, log_softmax
from fgvc_jax.evaluation import intervals, metrics
from fgvc_jax.evaluation.metrics import Metric, Metrics, Tally


class LogProbabilities(Protocol):
    """What gives the (n, K) of some of the images."""

    def __getitem__(self, rows: slice | np.ndarray, /) -> np.ndarray: ...


class KeptAnswers(Protocol):
    """What is kept of members' answers for N images of K classes, see `predictions.Part`."""

    @property
    def part(self) -> str:
        """Which part of a dataset they are."""

    @property
    def labels(self) -> np.ndarray:
        """(N,) int."""

    @property
    def classes(self) -> Sequence[str]:
        """Their names."""

    def log_probabilities(self, member: str) -> LogProbabilities:
        """(N, K) of a member, by its digest."""


@dataclass(frozen=True)
class Chosen:
    """Some images, and some classes, of what is kept of answers, as if there were no others.

    whole: what is kept. rows: (M,) int, the images. columns: (k,) int, the classes, of which every
    label is one; None for all.
    """

    whole: KeptAnswers
    rows: np.ndarray
    columns: np.ndarray | None = None

    @property
    def part(self) -> str:
        return self.whole.part

    @property
    def labels(self) -> np.ndarray:
        labels = self.whole.labels[self.rows]
        if self.columns is None:
            return labels
        places = np.full(len(self.whole.classes), -1)
        places[self.columns] = np.arange(len(self.columns))
        return places[labels]

    @property
    def classes(self) -> Sequence[str]:
        whole = self.whole.classes
        return whole if self.columns is None else [whole[c] for c in self.columns]

    def log_probabilities(self, member: str) -> LogProbabilities:
        return _Chosen(self.whole.log_probabilities(member), self.rows, self.columns)


@dataclass(frozen=True)
class _Chosen:
    """Rows and columns of an array, copied when they are asked for."""

    array: LogProbabilities
    rows: np.ndarray
    columns: np.ndarray | None

    def __getitem__(self, rows: slice | np.ndarray, /) -> np.ndarray:
        found = self.array[self.rows[rows]]
        return found if self.columns is None else found[:, self.columns]


@dataclass(frozen=True)
class Fused:
    """What an ensemble answered for the images of a part, read anew in each pass.

    progress: is told after every chunk how many images it had.
    """

    part: KeptAnswers
    identities: Sequence[str]
    how: str
    progress: Callable[[int], Any] = bool  # which does nothing

    def __iter__(self):
        """(rows, (B, K) float32 log-probabilities), chunk by chunk."""
        members = [self.part.log_probabilities(identity) for identity in self.identities]
        for rows in chunks(len(self.part.labels), len(self.part.classes)):
            *_, fused = growing([member[rows] for member in members], self.how)
            yield rows, fused
            self.progress(len(fused))


def judge_ensembles(
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
        "attention_overlap", "response_overlap": [[mean over images]], of what the teacher's map
        marks and of its high responses alone; "metrics": see `Tallies.metrics`}.
    """
    found = tallies(labels, log_probabilities, how=how)
    return {
        "images": len(labels),
        **found.accuracies(),
        "attention_overlap": attention_overlap(attention),
        "response_overlap": attention_overlap(attention, of_teacher=_high),
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

    def metrics(self) -> dict[str, list[dict[str, Metric]]]:
        """{"members": [...], "ensemble": [with 1, 2, ... members]}: of each what
        `metrics.intervals` says; "disagreement" and "mutual_information" of two or more."""
        ensembles = [self._of_ensemble(n) for n in range(len(self.ensemble))]
        members = [metrics.of_tally(tally) for tally in self.single]
        exact = [metrics.exact(tally) for tally in self.single]
        exact += [
            {
                **metrics.exact(tally),
                **intervals.of_count("disagreement", disagreement),
                "mutual_information": intervals.mean_interval(information),
            }
            for tally, disagreement, information in zip(
                self.ensemble, self.disagreement, self.mutual_information, strict=True
            )
        ]
        found = metrics.intervals([*members, *ensembles], len(self.single[0].labels), exact)
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
    """Read what members answered once, in chunks; arguments as for `judge_ensembles`."""
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
    total: np.ndarray | int = 0
    entropies: np.ndarray | int = 0
    for n, member in enumerate(members):
        member = log_softmax(member)
        total, entropies = total + np.exp(member), entropies + metrics.entropy(member)
        mean = total / (n + 1)
        # A probability of 0 adds nothing to an entropy.
        mixed = metrics.entropy(np.log(np.maximum(mean, np.finfo(np.float32).tiny)))
        pairs += sum((classes[n] != other).astype(float) for other in classes[:n])
        yield pairs / max(n * (n + 1) / 2, 1), np.maximum(mixed - entropies / (n + 1), 0)


def _high(maps: np.ndarray) -> np.ndarray:
    """Where a standardised map responds more than on average, and by how much."""
    return np.maximum(maps, 0)


def attention_overlap(
    maps: Sequence[np.ndarray], of_teacher: Callable[[np.ndarray], np.ndarray] = np.abs
) -> list[list[float]]:
    """Mean over images and positions of |Z_i| * max(Z_j, 0), for all pairs of members.

    Args:
        maps: (B, h, w) standardised attention maps of each member, perhaps on grids of their own.
        of_teacher: what is taken of Z_i. |Z| counts what a member responds to and what it takes
            for background alike; max(Z, 0) only the former.

    Returns:
        Row i as teacher and column j as student: each pair's orthogonal loss, for which the
        teacher's map is brought to the student's grid, see `transfer.on_grid`.
    """
    if not maps:
        return []
    totals = np.zeros((len(maps), len(maps)))
    for rows in chunks(len(maps[0]), max(int(np.prod(member.shape[1:])) for member in maps)):
        parts = [np.asarray(member[rows], np.float32) for member in maps]
        for i, teacher in enumerate(map(of_teacher, parts)):
            on_grid = {
                grid: np.asarray(transfer.on_grid(teacher, grid))
                for grid in {student.shape[1:] for student in parts} - {teacher.shape[1:]}
            }
            for j, student in enumerate(parts):
                products = on_grid.get(student.shape[1:], teacher) * _high(student)
                totals[i, j] += products.mean((1, 2), dtype=np.float64).sum()
    return (totals / len(maps[0])).tolist()


def is_flat(matrix: Sequence[Sequence[float]]) -> bool:
    """Whether the maps of which this is the overlap have the same value everywhere: standardised
    they are 0, and do not even overlap with themselves."""
    return bool(matrix) and all(row[i] == 0 for i, row in enumerate(matrix))


def mean_overlap(matrix: Sequence[Sequence[float]]) -> float | None:
    """Mean attention overlap of two different members, None where there is only one."""
    pairs = [x for i, row in enumerate(matrix) for j, x in enumerate(row) if i != j]
    return statistics.fmean(pairs) if pairs else None
