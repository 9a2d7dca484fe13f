"""CSDNet: contrastive self-distillation for categories with few images.

"Learning Contrastive Self-Distillation for Ultra-Fine-Grained Visual Categorization Targeting
Limited Samples", Fang, Jiang, Tang, Li, TCSVT 2023, arXiv 2311.06056. The full text is public; what
was read here are its two versions' abstracts and a summary of the objective. So this is a
reconstruction of L = L_cls + alpha * L_qc + beta * L_ssdt, with

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
from fgvc_jax.objectives.csdnet_memory import (
    Queue,
    contrast,
    empty_queue,
    enqueue,
    joint_contrast,
    margin_contrast,
    supervised_contrast,
    unit,
    without_itself,
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
    queues: Literal["augmented", "both"] = option("augmented", later=True)
    """Of which view the features are kept; with both the raw ones in a queue of their own."""
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
    `queues` "both" there is a second one, of raw features, for which the keys of the batch are its
    own raw features, each but for the image itself; L_qc is the mean over the two (version 2 of the
    paper has queues in the plural; what they hold is our reading). With `keys` "ema" all keys come
    from a moving average of the parameters, which takes them in from before each update, in
    training mode, with running statistics of its own.

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
    both = _choose("queues", options.queues, {"augmented": False, "both": True})

    def init_memory(variables, outputs):
        encoder = jax.tree.map(jnp.array, variables) if averaged else ()
        width = outputs["features"].shape[-1]
        return Memory(empty_queue(options.queue, *((2, width) if both else (width,))), encoder)

    def encode_keys(forward, variables, views, raw, encoder):
        """(B, D) of the augmented views; with both queues (B, 2, D), of the raw ones too."""
        if averaged:
            params = optax.incremental_update(
                variables["params"], encoder["params"], 1 - options.ema_momentum
            )
            answers = []
            for images in (views.shown, raw)[: 1 + both]:
                _, outputs, batch_stats = forward(encoder, images, None)
                answers.append(outputs["features"])
                encoder = {**encoder, "batch_stats": batch_stats}
            encoder = {"params": params, "batch_stats": encoder["batch_stats"]}
        else:
            answers = [views.augmented["features"], views.raw["features"]][: 1 + both]
        features = jnp.stack(answers, axis=1) if both else answers[0]
        return unit(lax.stop_gradient(features)), encoder

    def compare(queries, labels, keys, queue):
        """L_qc of the (B, D) queries, see `encode_keys` for the keys."""
        if not both:
            return contrastive(*contrast(queries, labels, keys, queue))
        augmented, raw = (
            contrast(queries, labels, keys[:, i], queue._replace(features=queue.features[:, i]))
            for i in range(2)
        )
        return (contrastive(*augmented) + contrastive(*without_itself(*raw))) / 2

    def loss(forward, variables, batch, memory):
        views = see(forward, variables, batch)
        logits, augmented_logits = views.raw["logits"], views.augmented["logits"]
        raw_error = cross_entropy(logits, batch.label, smoothing=label_smoothing)
        augmented_error = cross_entropy(augmented_logits, batch.label, smoothing=label_smoothing)

        keys, encoder = encode_keys(forward, variables, views, batch.image, memory.encoder)
        contrast_loss = compare(unit(views.raw["features"]), batch.label, keys, memory.queue)
        distill_loss = mutual_distillation(
            logits, augmented_logits, temperature=options.temperature, direction=options.direction
        )

        total = (
            raw_error
            + options.view_weight * augmented_error
            + options.contrast_weight * contrast_loss
            + ramped(batch.progress, options.ramp) * options.distill_weight * distill_loss
        )
        new_queue = enqueue(memory.queue, keys, batch.label)
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
