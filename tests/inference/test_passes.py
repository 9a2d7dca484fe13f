"""What a member answers at test: log-probabilities, map, counts, each in its row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from patchworks import VIEW, linear, patchwork, picture

from fgvc_jax.data.images import decode, record_of
from fgvc_jax.inference import passes
from fgvc_jax.utils import devices

MEMBER = linear(np.eye(3) * 8)
PICTURES = picture(red=200), picture(blue=200), picture(green=200)


@pytest.fixture(scope="module")
def mesh():
    return devices.create_mesh(1)


def batch_of(*labels, mask=(True, True, True)):
    squares = [decode(record_of(p), VIEW.test_side, orientation="exif") for p in PICTURES]
    return {
        "image": jnp.asarray(np.stack(squares)), "label": jnp.asarray(labels, jnp.int32),
        "row": jnp.arange(3), "mask": jnp.asarray(mask),
    }  # fmt: skip


def step_of(mesh, **options):
    return passes.answer_pass(
        network=patchwork(), predict=lambda outputs: outputs["logits"], view=VIEW, mesh=mesh,
        **options,
    )  # fmt: skip


def test_only_images_that_count_are_counted(mesh):
    step = step_of(mesh)
    found = step(MEMBER, batch_of(0, 2, 0), None)
    assert found["log_probabilities"].argmax(-1).tolist() == [0, 2, 1]
    assert found["correct"] == {"prediction": 2, "logits": 2} and bool(found["finite"])
    padded = step(MEMBER, batch_of(0, 2, 0, mask=(True, False, True)), None)
    assert padded["correct"]["prediction"] == 1


def test_the_answer_is_what_is_kept_unless_nobody_keeps_it(mesh):
    kept, exact = (
        step_of(mesh, exact=exact)(MEMBER, batch_of(0, 0, 0), None)["log_probabilities"]
        for exact in (False, True)
    )
    assert (kept.dtype, exact.dtype) == (jnp.float16, jnp.float32)
    np.testing.assert_allclose(kept, exact, rtol=1e-3)


def test_images_that_live_on_the_device_are_found_by_their_rows(mesh):
    batch = batch_of(0, 2, 1)
    store = batch.pop("image")
    again = step_of(mesh)(MEMBER, batch | {"row": jnp.array([2, 0, 1])}, store)
    assert again["log_probabilities"].argmax(-1).tolist() == [1, 0, 2]


def test_rounding_makes_no_tie_at_the_top():
    logits = jnp.array([[3.0, 3.00001, 0.0], [1.0, 0.0, 0.0]])
    kept = passes.kept_answers(logits)
    assert kept.dtype == jnp.float16 and kept.argmax(-1).tolist() == [1, 0]
    first, second, _ = np.sort(np.asarray(kept[0]))[::-1]
    assert first > second


def test_maps_are_standardised(mesh):
    maps = np.asarray(step_of(mesh)(MEMBER, batch_of(0, 0, 0), None)["attention"], np.float32)
    np.testing.assert_allclose(maps.mean((1, 2)), 0, atol=1e-2)


def test_thumbnails_keep_rows_and_shrink_alike(mesh):
    batch = batch_of(0, 0, 0)
    small = passes.shrink_pass(side=10, mesh=mesh)(batch, None)
    assert small["image"].shape == (3, 10, 10, 3) and small["image"].dtype == jnp.uint8
    assert small["row"].tolist() == [0, 1, 2]
    gray = jax.tree.map(lambda leaf: leaf, batch) | {"image": jnp.full((3, 40, 40, 3), 77, "uint8")}
    small = passes.shrink_pass(side=10, mesh=mesh)(gray, None)["image"]
    assert set(np.asarray(small).ravel()) == {77}
