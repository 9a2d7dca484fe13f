"""Mixing the images of a batch with each other: mixup and CutMix, pure in (seed, member, step).

An image's partner is the one before it in the global batch, whose order is the epoch's own, so that
nothing depends on the number of devices. Of a share s of the partner, one for all images:

- mixup (Zhang et al., arXiv 1710.09412, eq. 1): x = (1 - s) x_i + s x_j, s from Beta(a, a);
- CutMix (Yun et al., arXiv 1905.04899, eq. 1 to 3): a box of the partner, of an area drawn from
  Beta(a, a) and with its centre anywhere in the image; s is what of the box lies in the image.

Labels are mixed by s. So are the outputs of frozen networks, which are of the unmixed images:
probabilities by s, and maps place by place, as the images are. The teachers' maps enter the
orthogonal loss linearly and stay a function of the view alone, computed once for it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

MIXING = 0x4D495847  # keeps its randomness apart from the views'


class Mixing(NamedTuple):
    """How one batch is mixed."""

    share: jax.Array  # () float32: s
    cut: jax.Array  # () bool: CutMix, else mixup
    box: jax.Array  # (2, 2) int32: CutMix's first and last + 1 row, and column, in pixels
    side: int  # of the images, in pixels

    @staticmethod
    def partners(values: jax.Array) -> jax.Array:
        """(B, ...) of each image's partner."""
        return jnp.roll(values, 1, axis=0)

    def at(self, height: int, width: int) -> jax.Array:
        """(height, width) float32: the partner's share of each cell of a grid over the image."""
        rows, columns = (
            _covered(ends, cells, self.side)
            for ends, cells in zip(self.box, (height, width), strict=True)
        )
        return jnp.where(self.cut, rows[:, None] * columns, self.share)

    def of_places(self, values: jax.Array) -> jax.Array:
        """Images or maps (B, h, w) or (B, h, w, C), mixed place by place."""
        share = self.at(*values.shape[1:3])
        return self._mixed(values, share.reshape(share.shape + (1,) * (values.ndim - 3)))

    def of_images(self, values: jax.Array) -> jax.Array:
        """(B, ...) of what is one for an image, such as shares of classes, mixed by s."""
        return self._mixed(values, self.share)

    def main(self, labels: jax.Array) -> jax.Array:
        """(B,) labels of the larger share."""
        return jnp.where(self.share > 0.5, self.partners(labels), labels)

    def _mixed(self, values: jax.Array, share: jax.Array) -> jax.Array:
        return (1 - share) * values + share * self.partners(values)


def draw(
    seed: int, member: jax.Array, step: jax.Array, *, mixup: float, cutmix: float, side: int
) -> Mixing:
    """How the batch of a step is mixed.

    Args:
        seed: of the views.
        member: () int, from 1.
        step: () int of its training.
        mixup: parameter of mixup's Beta distribution; 0: no mixup.
        cutmix: likewise; with both, each has half of the steps. One is above 0.
        side: of the images, in pixels.
    """
    key = jax.random.fold_in(jax.random.key(seed), MIXING)
    key = jax.random.fold_in(jax.random.fold_in(key, member), step)
    which, share_key, place = jax.random.split(key, 3)
    cut = jax.random.bernoulli(which) if mixup and cutmix else jnp.bool_(cutmix > 0)
    spread = jnp.where(cut, cutmix, mixup)
    share = jax.random.beta(share_key, spread, spread)
    # As the authors' code: whole pixels, and what of the box is beyond the image is cut off.
    half = (side * jnp.sqrt(share)).astype(jnp.int32) // 2
    centre = jax.random.randint(place, (2,), 0, side)
    box = jnp.clip(jnp.stack([centre - half, centre + half], axis=1), 0, side)
    area = jnp.prod(box[:, 1] - box[:, 0]) / side**2
    return Mixing(jnp.where(cut, area, share), cut, box, side)


def _covered(ends: jax.Array, cells: int, side: int) -> jax.Array:
    """(cells,) float32: how much of each of so many parts of a side lies between two pixels."""
    edges = jnp.arange(cells + 1) * (side / cells)
    covered = jnp.minimum(ends[1], edges[1:]) - jnp.maximum(ends[0], edges[:-1])
    return jnp.maximum(covered, 0) * (cells / side)
