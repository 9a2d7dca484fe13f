"""CSDNet: contrastive self-distillation for categories with few images.

"Learning Contrastive Self-Distillation for Ultra-Fine-Grained Visual Categorization Targeting
Limited Samples", Fang, Jiang, Tang, Li, TCSVT 2023, arXiv 2311.06056. This is a reconstruction from
the abstract and a summary of the objective, L = L_cls + alpha * L_qc + beta * L_ssdt, of

- SSDP, subcategory-specific discrepancy parsing: an augmented view x' of every image x;
- DDL, dynamic discrepancy learning: a contrastive loss against a memory queue of past features;
- SSDT, subcategory-specific discrepancy transfer: self-distillation between the views' logits.

What they leave open is decided here, and said where it is decided. Each module can be off: DDL at
alpha = 0, SSDT at beta = 0, SSDP with the view "mirror".

The view decides whether the method helps. A box erased from it and shuffled patches, as in MaskCOV,
take it below cross entropy where steps are few: a pretrained ResNet-50 reached 68.2 % with them and
75.5 % without, cross entropy alone 73.2 % (20 bird species, 15 images each, 112 px, 90 steps, three
seeds; the first difference has a 95 % interval of 0.1 to 14.4 points). So both are off by default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np

from fgvc_jax.data.view import View
from fgvc_jax.objectives.accuracy import accuracy
from fgvc_jax.objectives.base import (
    LossOutput,
    Method,
    Objective,
    SecondView,
    Tree,
    cross_entropy,
    distillation,
    ramped,
)
from fgvc_jax.objectives.csdnet_views import mirror, see_adaptive, see_both, viewpoint
from fgvc_jax.utils.errors import ArgumentError
from fgvc_jax.utils.lazy import lazily
from fgvc_jax.utils.options import option

if TYPE_CHECKING:
    import jax
    import jax.numpy as jnp
    import optax
    from jax import lax
else:
    jax, jnp, optax, lax = map(lazily, ("jax", "jax.numpy", "optax", "jax.lax"))

DEFAULT_QUEUE = 512


class Queue(NamedTuple):
    """Features of past images, the oldest overwritten first."""

    features: jax.Array  # (L, D) float32, L2-normalised
    labels: jax.Array  # (L,) int32, -1 where nothing has been stored yet
    pointer: jax.Array  # () int32: the slot that is written next


class Memory(NamedTuple):
    """What CSDNet remembers from step to step."""

    queue: Queue
    encoder: Tree  # variables of the keys' moving-average network; () where the network does it


@dataclass(frozen=True)
class CSDNet(Method):
    """--objective csdnet: contrastive self-distillation, reconstructed from its abstract."""

    view: Literal["viewpoint", "adaptive", "mirror"] = "viewpoint"
    """Another viewpoint; the attended parts only; mirrored only, which is the ablation."""
    crop_area: tuple[float, float] = option((0.67, 1.0), above=0, at_most=1)
    """Smallest and largest area of the viewpoint's crop, as fractions of the image."""
    rotation: float = option(15.0, at_least=0, below=360)
    """Largest rotation of the viewpoint either way, in degrees."""
    jitter: float = option(0.3, at_least=0, below=1)
    """Largest relative change of the viewpoint's brightness, contrast and saturation."""
    erase_area: tuple[float, float] = option((0.0, 0.0), at_least=0, at_most=1)
    """Smallest and largest area of a box erased from the viewpoint; 0 0 erases nothing."""
    shuffle: int = option(1, at_least=1)
    """Shuffle the viewpoint's patches, so many a side; 1 leaves it whole."""
    view_weight: float = option(1.0, at_least=0)
    """Weight of the augmented view's cross entropy (lambda)."""
    contrast: Literal["margin", "joint", "supcon"] = "margin"
    """Contrastive loss: margin cosine with separate means or one joint mean, or SupCon."""
    contrast_weight: float = option(1.0, at_least=0)
    """Weight of the contrastive loss (alpha); 0 is the ablation."""
    margin: float = option(0.4, at_least=-1, below=1)
    """Cosine below which another class costs nothing (xi)."""
    contrast_temperature: float = option(0.07, above=0)
    """Temperature of SupCon."""
    queue: int = option(0, at_least=0, automatic=True)
    """Features that the memory queue holds; 0 takes min(512, training images)."""
    keys: Literal["same", "ema"] = "same"
    """Encoder of the keys: the network itself, or a moving average of it."""
    ema_momentum: float = option(0.999, at_least=0, below=1)
    """How slowly the moving average moves."""
    distill_weight: float = option(1.0, at_least=0)
    """Weight of the self-distillation between the views (beta); 0 is the ablation."""
    temperature: float = option(3.0, above=0)
    """Temperature of the self-distillation."""
    direction: Literal["symmetric", "raw_to_augmented", "augmented_to_raw"] = "symmetric"
    """Which view teaches which."""
    ramp: float = option(0.1, at_least=0)
    """Fraction of the training over which the self-distillation is faded in."""

    def check(self, view: View) -> None:
        for name, area in (("crop_area", self.crop_area), ("erase_area", self.erase_area)):
            if area[0] > area[1]:
                raise ArgumentError(
                    f"`{name}` is {area[0]} {area[1]}: name a smallest and a largest area"
                )
        if self.view == "viewpoint" and view.crop % self.shuffle:
            raise ArgumentError(
                f"`crop` {view.crop} does not divide into `shuffle` {self.shuffle} patches a side: "
                f"take a multiple of {self.shuffle}, or `shuffle` 1"
            )

    def check_frozen(self) -> None:
        if self.view == "adaptive":
            raise ArgumentError(
                "`view` adaptive hides what the member being trained does not attend to, which no "
                "frozen trunk has seen: take `view` viewpoint, or no `frozen`"
            )

    def check_mixed(self) -> None:
        raise ArgumentError(
            "`mixup` and `cutmix` give an image two labels, csdnet's queue keeps one: set both to 0"
        )

    def settle(self, labels: np.ndarray) -> Self:
        """The queue fits the training set, and the contrastive loss finds two images of a class."""
        if self.queue > len(labels):
            raise ArgumentError(
                f"`queue` {self.queue} is longer than the training set of {len(labels)} "
                "images: lower it, or take 0 for a queue that fits"
            )
        if self.contrast_weight > 0 and np.bincount(labels).max() < 2:
            raise ArgumentError(
                "no class has two training images for the contrastive loss to compare: "
                "give more of them (`images_per_class`), or set `contrast_weight` 0"
            )
        return replace(self, queue=self.queue or min(DEFAULT_QUEUE, len(labels)))

    def parts(self, view: View) -> list[str]:
        return ["second view"] if self.view != "adaptive" and not view.flip else []

    def make(self, *, classes: int, label_smoothing: float, view: View) -> Objective:
        return csdnet(self, label_smoothing=label_smoothing, flip=view.flip)


def csdnet(options: CSDNet, *, label_smoothing: float, flip: bool) -> Objective:
    """L = CE(z, y) + lambda CE(z', y) + alpha L_qc + ramp beta L_ssdt; softmax(z) predicts.

    The keys of the contrastive loss are the queue and the batch's own augmented features; these
    are then enqueued. So the queue holds what was a key (as MoCo's does), never a query. With
    `keys` "ema" they come from a moving average of the parameters, which takes them in from before
    each update, in training mode, with running statistics of its own.

    Args:
        options: see `CSDNet`, with the length of the queue settled; `viewpoint`, `attended_mask`
            and `mirror` for the views, `margin_contrast`, `joint_contrast` and
            `supervised_contrast` for L_qc, `mutual_distillation` for L_ssdt.
        label_smoothing: of both cross entropies, in [0, 1).
        flip: whether the raw view is mirrored at random; else no view is.

    Raises:
        ArgumentError: for an unknown choice.
    """
    names = "crop_area", "rotation", "jitter", "erase_area", "shuffle"
    elsewhere: dict[str, Any] = {name: getattr(options, name) for name in names}
    unmirrored = {} if flip else {"flip": False}
    see, second = _choose(
        "view",
        options.view,
        {
            "viewpoint": (
                see_both,
                SecondView(partial(viewpoint, **elsewhere, flip=flip), elsewhere | unmirrored),
            ),
            "adaptive": (see_adaptive, None),
            "mirror": (see_both, SecondView(partial(mirror, flip=flip), {"mirror": flip})),
        },
    )
    contrastive = _choose(
        "contrast",
        options.contrast,
        {
            "margin": partial(margin_contrast, margin=options.margin),
            "joint": partial(joint_contrast, margin=options.margin),
            "supcon": partial(supervised_contrast, temperature=options.contrast_temperature),
        },
    )
    averaged = _choose("keys", options.keys, {"same": False, "ema": True})

    def init_memory(variables, outputs):
        encoder = jax.tree.map(jnp.array, variables) if averaged else ()
        return Memory(empty_queue(options.queue, outputs["features"].shape[-1]), encoder)

    def encode_keys(forward, variables, views, encoder):
        if not averaged:
            return views.augmented["features"], encoder
        _, outputs, batch_stats = forward(encoder, views.shown, None)
        params = optax.incremental_update(
            variables["params"], encoder["params"], 1 - options.ema_momentum
        )
        return outputs["features"], {"params": params, "batch_stats": batch_stats}

    def loss(forward, variables, batch, memory):
        views = see(forward, variables, batch)
        logits, augmented_logits = views.raw["logits"], views.augmented["logits"]
        raw_error = cross_entropy(logits, batch.label, smoothing=label_smoothing)
        augmented_error = cross_entropy(augmented_logits, batch.label, smoothing=label_smoothing)

        key_features, encoder = encode_keys(forward, variables, views, memory.encoder)
        key_features = lax.stop_gradient(unit(key_features))
        contrast_loss = contrastive(
            *contrast(unit(views.raw["features"]), batch.label, key_features, memory.queue)
        )
        distill_loss = mutual_distillation(
            logits, augmented_logits, temperature=options.temperature, direction=options.direction
        )

        total = (
            raw_error
            + options.view_weight * augmented_error
            + options.contrast_weight * contrast_loss
            + ramped(batch.progress, options.ramp) * options.distill_weight * distill_loss
        )
        new_queue = enqueue(memory.queue, key_features, batch.label)
        metrics = {
            "cross_entropy": raw_error,
            "accuracy": accuracy(logits, batch.label),
            "cross_entropy_augmented": augmented_error,
            "contrast": contrast_loss,
            "distill": distill_loss,
            "queue_fill": jnp.mean(new_queue.labels >= 0, dtype=jnp.float32),
        }
        return LossOutput(total, metrics, views.taps, views.batch_stats, Memory(new_queue, encoder))

    return Objective(
        heads={},
        init_memory=init_memory,
        loss=loss,
        predict=lambda outputs: outputs["logits"],
        second=second,
    )


def _choose(field: str, name: str, options: Mapping[str, Any]) -> Any:
    if name not in options:
        raise ArgumentError(f"`{field}` is {name!r}: choose {', '.join(options)}")
    return options[name]


# -- DDL: contrast against a memory queue --------------------------------------------------------


def empty_queue(length: int, width: int) -> Queue:
    """A queue of `length` free slots for features of `width` dimensions."""
    return Queue(
        jnp.zeros((length, width), jnp.float32), jnp.full(length, -1, jnp.int32), jnp.int32(0)
    )


def enqueue(queue: Queue, features: jax.Array, labels: jax.Array) -> Queue:
    """Store a batch over the oldest entries; of a batch longer than the queue, the last images.

    Args:
        queue: of length L.
        features: (B, D) float32, of the global batch: every device sees the same queue.
        labels: (B,) int32.
    """
    length, batch = len(queue.labels), len(labels)
    slots = (queue.pointer + jnp.arange(batch, dtype=jnp.int32)) % length
    newest = slice(max(0, batch - length), None)
    return Queue(
        queue.features.at[slots[newest]].set(features[newest], unique_indices=True),
        queue.labels.at[slots[newest]].set(labels[newest], unique_indices=True),
        (queue.pointer + batch) % length,
    )


def unit(features: jax.Array) -> jax.Array:
    """(B, D) -> (B, D) float32 of length 1; zeros stay zeros, with a finite gradient."""
    features = features.astype(jnp.float32)
    square = jnp.sum(features**2, axis=-1, keepdims=True)
    return features * lax.rsqrt(jnp.maximum(square, 1e-12))


def contrast(
    queries: jax.Array, labels: jax.Array, keys: jax.Array, queue: Queue
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Cosines of the batch's raw features to the queue's and to the batch's augmented features.

    An image's own augmented view is one of its keys, of the same class. Free slots of the queue
    are in no pair.

    Args:
        queries: (B, D), L2-normalised.
        labels: (B,) int32.
        keys: (B, D), L2-normalised, without gradient.
        queue: of length L, as it was before this batch.

    Returns:
        cosines s (B, L + B) float32, and two masks of that shape: same class, other class.
    """
    key_labels = jnp.concatenate([queue.labels, labels])
    keys = jnp.concatenate([queue.features, keys])
    similarity = jnp.matmul(queries, keys.T, precision=lax.Precision.HIGHEST)
    same = labels[:, None] == key_labels
    return similarity, same, ~same & (key_labels >= 0)


def margin_contrast(
    similarity: jax.Array, same: jax.Array, other: jax.Array, *, margin: float
) -> jax.Array:
    """L_qc = mean over same-class pairs of 1 - s  +  mean over other-class pairs of max(s - xi, 0).

    Args:
        similarity: (B, M) cosines s.
        same: (B, M) bool, pairs of one class.
        other: (B, M) bool, pairs of two classes.
        margin: xi.

    Returns:
        float32 scalar. The mean over no pairs is 0.
    """
    return _mean(1 - similarity, same) + _mean(jax.nn.relu(similarity - margin), other)


def joint_contrast(
    similarity: jax.Array, same: jax.Array, other: jax.Array, *, margin: float
) -> jax.Array:
    """As `margin_contrast`, but one mean over all pairs (TransFG, He et al., arXiv 2103.07976)."""
    apart = jax.nn.relu(similarity - margin)
    return _mean(jnp.where(same, 1 - similarity, apart), same | other)


def supervised_contrast(
    similarity: jax.Array, same: jax.Array, other: jax.Array, *, temperature: float
) -> jax.Array:
    """SupCon (Khosla et al., arXiv 2004.11362, eq. 2): minus the mean log-probability of the
    same-class keys among all keys, averaged over the queries that have any.

    Args:
        similarity: (B, M) cosines s; the probabilities are the softmax of s / temperature.
        same: (B, M) bool, pairs of one class.
        other: (B, M) bool, pairs of two classes.
        temperature: above 0.

    Returns:
        float32 scalar; 0 if no query has a same-class key.
    """
    logits = jnp.where(same | other, similarity / temperature, jnp.finfo(jnp.float32).min)
    surprise = -jnp.where(same, jax.nn.log_softmax(logits, axis=-1), 0.0)
    count = same.sum(axis=-1)
    return _mean(surprise.sum(axis=-1) / jnp.maximum(count, 1), count > 0)


def _mean(values: jax.Array, where: jax.Array) -> jax.Array:
    """The mean where `where` holds; 0 if it holds nowhere."""
    return jnp.where(where, values, 0.0).sum() / jnp.maximum(where.sum(), 1)


# -- SSDT: distillation between the views --------------------------------------------------------


def mutual_distillation(
    logits: jax.Array, augmented_logits: jax.Array, *, temperature: float, direction: str
) -> jax.Array:
    """L_ssdt: how far the views' softened predictions p = softmax(z / T) and p' are apart.

    "raw_to_augmented":  T^2 KL(sg p || p'), the raw view teaches;
    "augmented_to_raw":  T^2 KL(sg p' || p), the augmented view teaches;
    "symmetric": the mean of both.

    Args:
        logits: (B, K) z of the raw view.
        augmented_logits: (B, K) z'.
        temperature: T.
        direction: one of the above.

    Returns:
        float32 scalar, the mean over the batch. No gradient reaches a view as a teacher.
    """
    to_augmented, to_raw = _choose(
        "direction",
        direction,
        {"symmetric": (0.5, 0.5), "raw_to_augmented": (1.0, 0.0), "augmented_to_raw": (0.0, 1.0)},
    )
    return to_augmented * distillation(
        augmented_logits, logits, temperature=temperature
    ) + to_raw * distillation(logits, augmented_logits, temperature=temperature)
