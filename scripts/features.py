"""What a frozen network sees of all images of a source, computed once, and heads on that."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fgvc_jax import networks
from fgvc_jax.config import Data
from fgvc_jax.data import sources
from fgvc_jax.data.images import decode
from fgvc_jax.inference.embeddings import open_network
from fgvc_jax.objectives import Linear
from fgvc_jax.objectives.base import Solved

AT_ONCE = 256  # images in memory
Head = Callable[[np.ndarray], np.ndarray]  # vectors (n, D) -> (n, K)


@dataclass(frozen=True)
class Featured:
    """Options of the scripts that ask for features."""

    source: str = "cub:data/cub200_2010"
    """As --data.source of the training."""
    features: str = ""
    """A .npz to keep features in; empty: they are computed anew."""


class Features(NamedTuple):
    """Vectors (N, D) float32 of images, their labels (N,) int, whether each is a training image,
    (N,) bool, and the number of classes."""

    vectors: np.ndarray
    labels: np.ndarray
    training: np.ndarray
    classes: int


def features(
    source: str,
    file: str = "",
    classes: int = 0,
    network: str = "efficientnet_lite0",
    weights: str = "package:efficientnet_lite0",
) -> Features:
    """Of the first so many classes, 0: of all; from the .npz file, which is written where there is
    none."""
    if file and Path(file).exists():
        with np.load(file) as kept:
            found = Features(*(kept[name] for name in Features._fields[:-1]), int(kept["classes"]))
    else:
        found = _computed(source, network, weights)
        if file:
            np.savez(file, **found._asdict())
    if not classes:
        return found
    mine = found.labels < classes
    return Features(*(array[mine] for array in found[:-1]), min(classes, found.classes))


def _computed(source: str, name: str, weights: str) -> Features:
    normalize = networks.normalization(name)
    data = Data(resize=256, crop=224, pad=0, normalize=normalize, orientation="exif")
    network = open_network(name, weights, data=data)
    splits = sources.open_source(source)
    vectors, labels = [], []
    for part in (splits.train, splits.test):
        for start in range(0, len(part), AT_ONCE):
            rows = range(start, min(start + AT_ONCE, len(part)))
            side = network.view.test_side
            vectors.append(network.embed([decode(part[i], side, orientation="exif") for i in rows]))
        labels.append(part.labels)
    training = np.repeat([True, False], [len(splits.train), len(splits.test)])
    return Features(np.concatenate(vectors), np.concatenate(labels), training, len(splits.classes))


class Drawn(NamedTuple):
    """Images of some classes in random order, whatever their part: vectors (n, D), labels (n,) from
    0 on, and of each its place (n,) among those of its class."""

    vectors: np.ndarray
    labels: np.ndarray
    places: np.ndarray


def drawn(found: Features, classes: int, seed: int) -> Drawn:
    """Those of so many classes, which are drawn, too."""
    random = np.random.default_rng(seed)
    chosen = random.choice(found.classes, classes, replace=False)
    rows = random.permutation(np.flatnonzero(np.isin(found.labels, chosen)))
    labels = np.unique(found.labels[rows], return_inverse=True)[1]
    places = np.zeros(len(rows), int)
    for label in range(classes):
        places[labels == label] = np.arange((labels == label).sum())
    return Drawn(found.vectors[rows], labels, places)


def solved(vectors: np.ndarray, labels: np.ndarray, classes: int, seed: int) -> tuple[Solved, Head]:
    """What `--objective linear` finds for images of which no two belong together, and its head,
    which gives logits."""
    result = Linear().solve(
        vectors,
        labels,
        np.arange(len(labels)),
        classes=classes,
        seed=seed,
        watch=lambda said: None,
    )
    layer = result.params["fc"]
    return result, lambda others: others @ layer["kernel"] + layer["bias"]
