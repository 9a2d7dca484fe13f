"""Multinomial logistic regression on the embeddings of a frozen network, solved instead of trained.

    L(W, b) = mean_i CE(W^T x_i + b, y_i) + decay / 2 * |W|^2

x_i is an embedding, each of its numbers shifted and scaled to mean 0 and variance 1 over the
training images. L is convex, and L-BFGS (Liu and Nocedal, 1989; SciPy's) finds its minimum: that of
scikit-learn's LogisticRegression with C = 1 / (decay * N). Shift and scale are then put into W and
b, so that the head takes the embedding itself.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fgvc_jax.data.view import View
from fgvc_jax.objectives.base import Method, Objective, Solved
from fgvc_jax.objectives.ce import ce
from fgvc_jax.utils.options import option

FOLDS = 5
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

    def make(self, *, classes: int, label_smoothing: float, view: View) -> Objective:
        return ce(label_smoothing=label_smoothing)

    def solve(
        self,
        embeddings: np.ndarray,
        labels: np.ndarray,
        *,
        classes: int,
        seed: int,
        watch: Watch,
    ) -> Solved:
        shift, scale = embeddings.mean(0, dtype=np.float64), embeddings.std(0, dtype=np.float64)
        scale = np.where(scale > 0, scale, 1)
        x = (embeddings - shift) / scale
        # Where there are fewer images than numbers, W lies in the space that the images span.
        axes = np.linalg.qr(x.T)[0] if len(x) < len(scale) else np.eye(len(scale))
        x = x @ axes
        decay = self.weight_decay or chosen(x, labels, classes=classes, seed=seed, watch=watch)
        rough, exact = (_Regression(x, labels, classes, kind) for kind in (np.float32, np.float64))
        weights = rough.start
        for stronger in (each for each in DECAYS if each > decay):
            weights = rough.minimum(stronger, weights, watch)
        weights = exact.minimum(decay, weights, watch)
        cross_entropy, correct = exact.judged(weights)
        metrics = {
            "loss": exact.loss(weights, decay)[0],
            "cross_entropy": cross_entropy,
            "accuracy": correct,
            "weight_decay": decay,
        }
        kernel = (axes @ weights[:-1]) / scale[:, None]
        layer = {"kernel": kernel, "bias": weights[-1] - shift @ kernel}
        return Solved({"fc": {k: v.astype(np.float32) for k, v in layer.items()}}, metrics)


def chosen(x: np.ndarray, labels: np.ndarray, *, classes: int, seed: int, watch: Watch) -> float:
    """The weight decay of DECAYS at which images that are left out have the lowest cross entropy.

    They are tried from the strongest on, each from the minimum of the one before, until one is
    worse.

    Args:
        x: (N, D), standardised.
        labels: (N,) int.
        classes: number of them.
        seed: of the division into folds.
        watch: see `Method.solve`.
    """
    fold = folds(labels, seed)
    tried = range(FOLDS if len(labels) < LARGE else 1)
    paths = [_held_out(x, labels, fold == left_out, classes, watch) for left_out in tried]
    losses: list[float] = []
    for decay in DECAYS:
        watch(f"weight decay {decay:g}")
        losses.append(float(np.mean([next(path) for path in paths])))
        if losses[-1] > min(losses):
            break
    return DECAYS[int(np.argmin(losses))]


def folds(labels: np.ndarray, seed: int) -> np.ndarray:
    """(N,) numbers below FOLDS: every class is divided evenly, and so are all images."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    fold = np.empty(len(labels), int)
    fold[by_class] = np.arange(len(labels)) % FOLDS
    return fold


def _held_out(
    x: np.ndarray, labels: np.ndarray, left_out: np.ndarray, classes: int, watch: Watch
) -> Iterator[float]:
    """Mean cross entropy of the images `left_out` (N,) bool at each of DECAYS."""
    seen, others = (
        _Regression(x[part], labels[part], classes, np.float32) for part in (~left_out, left_out)
    )
    weights = seen.start
    for decay in DECAYS:
        weights = seen.minimum(decay, weights, watch)
        yield others.judged(weights)[0]


class _Regression:
    """The loss of the module's head on given images.

    Args:
        x: (N, D), standardised.
        labels: (N,) int.
        classes: number of them, K.
        dtype: of the products: float32 is three times as fast, and finds the minimum to four
            digits.
    """

    def __init__(self, x: np.ndarray, labels: np.ndarray, classes: int, dtype: Any):
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

        # The last digits of the loss are those that float32 leaves.
        gradient, step = (1e-7, 1e-9) if self._exact else (1e-4, 1e-6)
        options = {"maxcor": 5, "gtol": gradient, "ftol": step, "maxiter": 5000, "maxfun": 9999}
        found = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options=options)
        return found.x.reshape(self._shape)

    def loss(self, weights: np.ndarray, decay: float) -> tuple[float, np.ndarray]:
        """(loss, its gradient) at weights (D + 1, K)."""
        value, shares = self._softmax(weights)
        shares[self._labels] -= 1
        gradient = (self._x.T @ shares).astype(np.float64) / len(shares)
        gradient[:-1] += decay * weights[:-1]
        return value + decay / 2 * float((weights[:-1] ** 2).sum()), gradient

    def judged(self, weights: np.ndarray) -> tuple[float, float]:
        """(mean cross entropy, share that is right) at weights (D + 1, K)."""
        value, shares = self._softmax(weights)
        return value, float((shares.argmax(-1) == self._labels[1]).mean())

    def _softmax(self, weights: np.ndarray) -> tuple[float, np.ndarray]:
        """(mean cross entropy, probabilities (N, K))."""
        logits = self._x @ weights.astype(self._x.dtype)
        logits -= logits.max(-1, keepdims=True)
        right = logits[self._labels].astype(np.float64)
        shares = np.exp(logits, out=logits)
        sums = shares.sum(-1, keepdims=True)
        shares /= sums
        return float((np.log(sums[:, 0].astype(np.float64)) - right).mean()), shares
