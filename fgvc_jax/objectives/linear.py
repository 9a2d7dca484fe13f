"""Multinomial logistic regression on the embeddings of a frozen network, solved instead of trained.

    L(W, b) = mean_i CE(W^T x_i + b, y_i) + decay / 2 * |W|^2

x_i is an embedding, each of its numbers shifted and scaled to mean 0 and variance 1 over the
training images; one that hardly varies over N of them is taken to deviate by 1 / sqrt(N) of what
all deviate by (their root mean square), as the next image may. L is convex, and L-BFGS (Liu and
Nocedal, 1989; SciPy's) finds its minimum: that of scikit-learn's LogisticRegression with C = 1 /
(decay * N). Shift and scale are then put into W and b, so that the head takes the embedding itself.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from fgvc_jax.data.view import View
from fgvc_jax.objectives.base import HeldOut, Method, Objective, Refit, Solved
from fgvc_jax.objectives.ce import ce
from fgvc_jax.utils.errors import ArgumentError
from fgvc_jax.utils.options import option

FOLDS = 5
FEWER = 1, 2  # folds of the four that are learned from, to see what more images bring
LARGE = 20_000  # images from which on one of the folds is left out, not each in turn
DECAYS = 1.0, 0.1, 0.01, 0.001, 0.0001, 0.00001, 0.000001
Watch = Callable[[str], None]


@dataclass(frozen=True)
class Linear(Method):
    """--objective linear: logistic regression on the embeddings of a frozen network."""

    solves = True

    weight_decay: float = option(0.0, at_least=0)
    """Weight of |W|^2 / 2 beside the mean cross entropy, on standardised embeddings; 0: the one at
    which training images that are left out, a fifth in turn, have the lowest cross entropy."""

    def parts(self, view: View) -> list[str]:
        return ["solved head"]

    def make(self, *, classes: int, label_smoothing: float, view: View) -> Objective:
        return ce(label_smoothing=label_smoothing)

    @staticmethod
    def refit(decay: float, watch: Watch = lambda said: None) -> Refit:
        """Heads that are solved for some embeddings at a weight decay, to four digits."""
        return partial(_refit, decay=decay, watch=watch)

    def solve(
        self,
        embeddings: np.ndarray,
        labels: np.ndarray,
        groups: np.ndarray,
        *,
        classes: int,
        seed: int,
        watch: Watch,
    ) -> Solved:
        x, spanned = _standardised(embeddings)
        fold = folds(labels, groups, seed)
        decay, held_out = cross_fitted(
            x, labels, fold, classes=classes, watch=watch, decay=self.weight_decay
        )
        fewer = self._fewer(x, labels, fold, classes, watch)
        exact = _Regression(x, labels, classes, np.float64)
        weights = exact.minimum(decay, _roughly(x, labels, classes, decay, watch), watch)
        answers, _ = _normalised(exact.logits(weights))
        metrics = {
            "loss": exact.loss(weights, decay)[0],
            "cross_entropy": _cross_entropy(answers, labels),
            "accuracy": float((answers.argmax(-1) == labels).mean()),
            "weight_decay": decay,
        }
        layer = dict(zip(("kernel", "bias"), spanned.layer(weights), strict=True))
        params = {"fc": {name: array.astype(np.float32) for name, array in layer.items()}}
        return Solved(params, metrics, held_out, self.refit(decay, watch), fewer)

    def _fewer(
        self, x: np.ndarray, labels: np.ndarray, fold: np.ndarray, classes: int, watch: Watch
    ) -> dict[float, HeldOut]:
        """See `Solved.fewer`: of one and of two of the four folds that are not held out."""
        if len(np.unique(fold)) < FOLDS:
            return {}

        def told(said: str) -> None:
            watch(f"fewer images: {said}" if said else "")

        found = {}
        for others in FEWER:
            _, found[others / (FOLDS - 1)] = cross_fitted(
                x, labels, fold, classes=classes, watch=told, decay=self.weight_decay, others=others
            )
        return found


def _refit(
    embeddings: np.ndarray, labels: np.ndarray, classes: int, *, decay: float, watch: Watch
) -> Callable[[np.ndarray], np.ndarray]:
    """See `base.Refit`: the minimum to four digits."""
    x, spanned = _standardised(embeddings)
    weights = _roughly(x, labels, classes, decay, watch, last=True)
    kernel, bias = spanned.layer(weights)
    return lambda others: others @ kernel + bias


class _Spanned(NamedTuple):
    """Embeddings as they are solved for: shifted, scaled, and turned onto axes (D, d)."""

    shift: np.ndarray
    scale: np.ndarray
    axes: np.ndarray

    def layer(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(kernel (D, K), bias (K,)) on embeddings, of weights (d + 1, K)."""
        kernel = (self.axes @ weights[:-1]) / self.scale[:, None]
        return kernel, weights[-1] - self.shift @ kernel


def _standardised(embeddings: np.ndarray) -> tuple[np.ndarray, _Spanned]:
    """(N, d) float64 of embeddings (N, D), and how they became so."""
    shift, scale = embeddings.mean(0, dtype=np.float64), embeddings.std(0, dtype=np.float64)
    # A number that is 0 in all but one of few images would be a thousand deviations off in others,
    # and decide on these alone; no image that is held out would show it, being among the few.
    scale = np.maximum(scale, np.sqrt((scale**2).mean() / len(embeddings)))
    scale = np.where(scale > 0, scale, 1)
    x = (embeddings - shift) / scale
    # Where there are fewer images than numbers, W lies in the space that the images span.
    axes = np.linalg.qr(x.T)[0] if len(x) < len(scale) else np.eye(len(scale))
    return x @ axes, _Spanned(shift, scale, axes)


def _roughly(
    x: np.ndarray, labels: np.ndarray, classes: int, decay: float, watch: Watch, last: bool = False
) -> np.ndarray:
    """(D + 1, K) near the minimum at a weight decay: of the next stronger one, or with `last` its
    own in float32."""
    rough = _Regression(x, labels, classes, np.float32)
    weights = rough.start
    for each in _decays(decay)[: None if last else -1]:
        weights = rough.minimum(each, weights, watch)
    return weights


def cross_fitted(
    x: np.ndarray,
    labels: np.ndarray,
    fold: np.ndarray,
    *,
    classes: int,
    watch: Watch,
    decay: float = 0.0,
    others: int = FOLDS - 1,
) -> tuple[float, HeldOut]:
    """The weight decay at which images that are left out have the lowest cross entropy, and what is
    said of them at it.

    Those of DECAYS are tried from the strongest on, each from the minimum of the one before, until
    one is worse.

    Args:
        x: (N, D), standardised.
        labels: (N,) int.
        fold: (N,) in which of FOLDS an image is left out; of many images the first is alone.
        classes: number of them.
        watch: see `Method.solve`.
        decay: where it is given and not chosen.
        others: folds that are learned from, which follow the one that is left out.

    Raises:
        ArgumentError: where it is to be chosen and no image can be left out.
    """
    if not decay and (fold == fold[0]).all():
        raise ArgumentError(
            "all training images are of one group, of which none can be held out to choose "
            "`weight_decay`: give one, such as 0.01, in a new `workdir`"
        )
    tried = range(FOLDS if len(labels) < LARGE else 1)
    rows = np.flatnonzero(fold < len(tried))
    paths = [
        _held_out(
            x,
            labels,
            fold == left_out,
            np.isin(fold, (left_out + 1 + np.arange(others)) % FOLDS),
            classes,
            _decays(decay),
            watch,
        )
        for left_out in tried
        if (fold == left_out).any()
    ]
    best, chosen, least = np.zeros((len(labels), classes), np.float32), 0.0, np.inf
    energy = np.zeros(len(labels), np.float32)
    for each in _decays(decay):
        watch(f"weight decay {each:g}")
        found, energies = np.zeros_like(best), np.zeros_like(energy)
        for left_out, logits in map(next, paths):
            found[left_out], energies[left_out] = _normalised(logits)
        loss = _cross_entropy(found[rows], labels[rows])
        if not decay and loss > least:
            break
        best, energy, chosen, least = found, energies, each, loss
    return chosen, HeldOut(rows, best[rows], energy[rows], fold[rows])


def _decays(decay: float) -> tuple[float, ...]:
    """Those on the way to a weight decay; all to choose from where there is none."""
    return (*(each for each in DECAYS if each > decay), decay) if decay else DECAYS


def folds(labels: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """(N,) numbers below FOLDS: groups (N,) stay whole, and every class is divided as evenly as
    they allow."""
    numbers = np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(numbers)
    of_group = np.split(labels[np.argsort(numbers, kind="stable")], np.cumsum(sizes)[:-1])
    order = np.random.default_rng(seed).permutation(len(sizes))
    by_class, whole = np.zeros((FOLDS, labels.max() + 1)), np.zeros(FOLDS)
    chosen = np.empty(len(sizes), int)
    for group in order[np.argsort(-sizes[order], kind="stable")]:  # the largest first
        crowded = by_class[:, of_group[group]].sum(-1)
        fold = chosen[group] = np.lexsort((whole, crowded))[0]
        np.add.at(by_class[fold], of_group[group], 1)
        whole[fold] += sizes[group]
    return chosen[numbers]


def _held_out(
    x: np.ndarray,
    labels: np.ndarray,
    left_out: np.ndarray,
    learned: np.ndarray,
    classes: int,
    decays: tuple[float, ...],
    watch: Watch,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """`left_out` (N,) bool, and logits (n, K) of these images, at each weight decay; `learned` (N,)
    bool from."""
    if 2 * learned.sum() < min(x.shape):  # W lies in the space that few images span
        x = x @ np.linalg.qr(x[learned].T)[0]
    seen, others = (
        _Regression(x[part], labels[part], classes, np.float32) for part in (learned, left_out)
    )
    weights = seen.start
    for decay in decays:
        if learned.any():  # else all classes are alike
            weights = seen.minimum(decay, weights, watch)
        yield left_out, others.logits(weights)


def _cross_entropy(log_probabilities: np.ndarray, labels: np.ndarray) -> float:
    true = np.take_along_axis(log_probabilities, labels[:, None].astype(int), axis=-1)
    return -float(true.mean(dtype=np.float64))


class _Regression:
    """The loss of the module's head on given images.

    Args:
        x: (N, D), standardised.
        labels: (N,) int.
        classes: number of them, K.
        dtype: of the products: float32 is three times as fast, and finds the minimum to four
            digits.
    """

    def __init__(self, x: np.ndarray, labels: np.ndarray, classes: int, dtype: DTypeLike):
        self._x = np.concatenate([x, np.ones((len(x), 1))], axis=1).astype(dtype)
        self._labels = np.arange(len(x)), labels
        self._shape = self._x.shape[1], classes
        self._exact = dtype == np.float64

    @property
    def start(self) -> np.ndarray:
        """(D + 1, K) zeros: W, and b in the last row."""
        return np.zeros(self._shape)

    def minimum(self, decay: float, start: np.ndarray, watch: Watch) -> np.ndarray:
        """(D + 1, K) float64 that minimise the loss, looked for from `start` on."""
        from scipy.optimize import minimize

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            watch("")
            value, gradient = self.loss(flat.reshape(self._shape), decay)
            return value, gradient.ravel()

        # Float32 has fewer digits of the loss. A weak decay moves W by small ones, without which W
        # would stay at the stronger decay's: heads of images that are held out have to be those of
        # this decay, since the last one is.
        gradient, step = min(1e-4, decay / 100), max(min(1e-6, decay / 10_000), 1e-9)
        if self._exact:
            gradient, step = 1e-7, 1e-9
        options = {"maxcor": 5, "gtol": gradient, "ftol": step, "maxiter": 5000, "maxfun": 9999}
        found = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options=options)
        return found.x.reshape(self._shape)

    def loss(self, weights: np.ndarray, decay: float) -> tuple[float, np.ndarray]:
        """(loss, its gradient) at weights (D + 1, K)."""
        answers, _ = _normalised(self.logits(weights))
        value = -float(answers[self._labels].mean(dtype=np.float64))
        shares = np.exp(answers, out=answers)
        shares[self._labels] -= 1
        gradient = (self._x.T @ shares).astype(np.float64) / len(shares)
        gradient[:-1] += decay * weights[:-1]
        return value + decay / 2 * float((weights[:-1] ** 2).sum()), gradient

    def logits(self, weights: np.ndarray) -> np.ndarray:
        """(N, K) at weights (D + 1, K)."""
        return self._x @ weights.astype(self._x.dtype)


def _normalised(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(log-probabilities (N, K) in place of the logits, their energy (N,))."""
    largest = logits.max(-1, keepdims=True)
    logits -= largest
    total = np.log(np.exp(logits).sum(-1, keepdims=True))
    logits -= total
    return logits, -(largest + total)[:, 0]
