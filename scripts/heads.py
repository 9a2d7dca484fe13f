"""A head on a frozen network, solved or trained by steps: time and accuracy beside each other.

    python scripts/heads.py --source cub:data/cub200_2010 --features birds.npz
    python scripts/heads.py --source cub:data/cub200_2010 --network resnet50_v1 --weights FILE

One pass over the photographs makes their embeddings; on those of the training part a head is found
by `--objective linear`, by `--objective knn`, and by steps: cross entropy with the optimizer,
epochs and batches of configs/folder.py. Each is asked about the test part. Seconds are those of the
head alone, which come on top of the pass.
"""

import time
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from features import Featured, Features, Head, features, solved

from fgvc_jax.commands.start import prepare, run
from fgvc_jax.ensemble import log_softmax
from fgvc_jax.evaluation import intervals
from fgvc_jax.networks import heads
from fgvc_jax.objectives import KNN
from fgvc_jax.utils.command_line import command_line
from fgvc_jax.utils.text import markdown_table


@dataclass(frozen=True)
class Arguments(Featured):
    """Find heads for the embeddings of a frozen network."""

    network: str = "efficientnet_lite0"
    """As --network.name of the training."""
    weights: str = "package:efficientnet_lite0"
    """As --network.weights."""
    classes: int = 0
    """The first so many; 0: all."""
    epochs: int = 8
    """Of the head that is trained by steps."""
    batch_size: int = 16
    """Likewise."""
    learning_rate: float = 0.003
    """Likewise, at first."""
    seed: int = 0
    """Of folds, and of the order of images."""


def by_linear(x: np.ndarray, labels: np.ndarray, classes: int, options: Arguments) -> Head:
    """Logistic regression, its weight decay chosen by what is held out. This and the next: a head
    that gives log-probabilities."""
    _, logits = solved(x, labels, classes, options.seed)
    return lambda others: log_softmax(logits(others))


def by_knn(x: np.ndarray, labels: np.ndarray, classes: int, options: Arguments) -> Head:
    """Votes of the nearest."""
    knn = KNN()
    votes = heads.votes(knn.neighbours, knn.temperature, classes)

    def directions(vectors: np.ndarray) -> np.ndarray:
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

    known = directions(x)
    return lambda others: np.asarray(
        votes(jnp.float32(directions(others) @ known.T), jnp.asarray(labels))
    )


def by_steps(x: np.ndarray, labels: np.ndarray, classes: int, options: Arguments) -> Head:
    """Cross entropy, AdamW, the rate falling as a cosine."""
    steps = options.epochs * (len(x) // options.batch_size)
    rate = optax.cosine_decay_schedule(options.learning_rate, steps)
    optimizer = optax.adamw(rate, weight_decay=0.01)

    @jax.jit
    def step(params, state, vectors, truth):
        def loss(params):
            logits = vectors @ params["kernel"] + params["bias"]
            return optax.softmax_cross_entropy_with_integer_labels(logits, truth).mean()

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    params = {"kernel": jnp.zeros((x.shape[1], classes)), "bias": jnp.zeros(classes)}
    state, random = optimizer.init(params), np.random.default_rng(options.seed)
    for _ in range(options.epochs):
        order = random.permutation(len(x))
        for start in range(0, len(x) - options.batch_size + 1, options.batch_size):
            rows = order[start : start + options.batch_size]
            params, state = step(params, state, x[rows], labels[rows])
    layer = jax.device_get(params)
    return lambda others: log_softmax(others @ layer["kernel"] + layer["bias"])


HEADS = {"linear": by_linear, "knn": by_knn, "by steps": by_steps}


def row(name: str, found: Features, options: Arguments) -> list[str]:
    """How long a head took, and what it says of the test part."""
    x, labels = found.vectors[found.training], found.labels[found.training]
    began = time.perf_counter()
    head = HEADS[name](x, labels, found.classes, options)
    seconds = time.perf_counter() - began
    truth = found.labels[~found.training]
    said = head(found.vectors[~found.training])
    right = said.argmax(-1) == truth
    low, high = (100 * end for end in intervals.proportion(right.sum(), len(right)))
    nll = -said[np.arange(len(truth)), truth].mean()
    told = f"{100 * right.mean():.1f} ({low:.1f} to {high:.1f})"
    return [name, f"{seconds:.1f}", told, f"{nll:.3f}"]


def main(arguments: list[str]) -> None:
    options = command_line(
        Arguments, arguments, program="python scripts/heads.py", default=Arguments()
    )
    began = time.perf_counter()
    found = features(
        options.source, options.features, options.classes, options.network, options.weights
    )
    count = int(found.training.sum())
    print(
        f"{found.classes} classes, {count:,} training and {len(found.labels) - count:,} test "
        f"images; embeddings after {time.perf_counter() - began:.0f} s"
    )
    rows = [row(name, found, options) for name in HEADS]
    print(markdown_table(["head", "seconds", "right (%)", "NLL"], rows))


if __name__ == "__main__":
    prepare()
    run(main)
