"""Members -> one fused prediction, exact accuracies and the overlap of their attention."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from fgvc_jax import metrics, transfer
from fgvc_jax.engine.mesh import replicated, split
from fgvc_jax.engine.step import images_of, test_images


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


def attention_overlap(maps: jax.Array, mask: jax.Array) -> jax.Array:
    """Sum over images of the mean over positions of |Z_i| * max(Z_j, 0), for all pairs of members.

    Args:
        maps: (N, B, H, W) standardized attention maps.
        mask: (B,) bool, False for padding.

    Returns:
        (N, N) float32; divided by the number of images it is each pair's orthogonal loss, row i as
        teacher and column j as student.
    """
    positions = maps.shape[2] * maps.shape[3]
    attended, high = jnp.abs(maps), jax.nn.relu(maps)
    counted = mask.astype(jnp.float32)
    total = jnp.einsum(
        "ibhw,jbhw,b->ij", attended, high, counted, precision=jax.lax.Precision.HIGHEST
    )
    return total / positions


def judge_step(
    *,
    network: Any,
    predict: Callable[[dict], jax.Array],
    how: str,
    members_per_pass: int,
    crop: int,
    test_view: str,
    normalize: str,
    mesh: Mesh,
) -> Callable:
    """The compiled evaluation of all members together: (stacked, batch, store) -> sums.

    Args:
        network: with methods `taps` and `outputs`.
        predict: outputs -> (B, K) logits.
        how: see `fuse`.
        members_per_pass: members vectorised at a time; the others follow one after the other.
        crop: see `engine.step.test_images`, as test_view and normalize.
        test_view: see crop.
        normalize: see crop.
        mesh: devices.

    Returns:
        A function whose result has "single" (N,) int32, "ensemble" (N,) int32 (entry n: the first
        n + 1 members), "overlap" (N, N) float32, "images" int32.
    """

    def step(stacked, arrays, store):
        images = test_images(
            images_of(arrays, store), crop=crop, test_view=test_view, normalize=normalize
        )

        def one(variables):
            taps, outputs = network.apply(variables, images, False)
            attention = transfer.standardize(transfer.attention_map(taps["stage5"]))
            return predict(outputs), attention

        logits, maps = jax.lax.map(one, stacked, batch_size=members_per_pass)
        labels, mask = arrays["label"], arrays["mask"]
        fused = jnp.stack([fuse(logits[: n + 1], how) for n in range(logits.shape[0])])
        return {
            "single": metrics.correct(logits, labels, mask),
            "ensemble": metrics.correct(fused, labels, mask),
            "overlap": attention_overlap(maps, mask),
            "images": jnp.sum(mask, dtype=jnp.int32),
        }

    everywhere = replicated(mesh)
    return jax.jit(
        step,
        in_shardings=(everywhere, split(mesh), everywhere),
        out_shardings=everywhere,
    )


def judge(step: Callable, members: list[Any], batches: Iterable, store) -> dict[str, Any]:
    """Run a `judge_step` over a whole set.

    Args:
        step: from `judge_step`.
        members: variables of each member, in the order of training.
        batches: evaluation batches on the devices.
        store: the images on the device, or None.

    Returns:
        {"images": int, "single": [accuracy], "ensemble": [accuracy with 1, 2, ... members],
        "attention_overlap": [[mean over images]]}.
    """
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    total = None
    for batch in batches:
        sums = step(stacked, batch, store)
        total = sums if total is None else jax.tree.map(jnp.add, total, sums)
    total = jax.device_get(total)
    images = int(total["images"])
    return {
        "images": images,
        "single": [int(count) / images for count in total["single"]],
        "ensemble": [int(count) / images for count in total["ensemble"]],
        "attention_overlap": (total["overlap"] / images).tolist(),
    }
