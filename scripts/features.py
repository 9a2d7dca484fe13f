"""What a frozen network sees of all images of a source, computed once."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from fgvc_jax import networks
from fgvc_jax.config import Data
from fgvc_jax.data import sources
from fgvc_jax.data.images import decode
from fgvc_jax.inference.embeddings import open_network

AT_ONCE = 256  # images in memory


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
