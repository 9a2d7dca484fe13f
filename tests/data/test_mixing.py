"""Mixup and CutMix: what is drawn, what it does to images, maps and labels, on any devices."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import FAST, ROOT

from fgvc_jax.data import mixing

SIDE, MANY = 24, 3000
KINDS = {"mixup": (0.2, 0.0), "cutmix": (0.0, 1.0), "both": (0.2, 1.0)}


def drawn(mixup, cutmix, count=MANY, member=1, seed=0):
    """The mixings of the first steps, stacked."""

    def one(step):
        found = mixing.draw(seed, member, step, mixup=mixup, cutmix=cutmix, side=SIDE)
        return found.share, found.cut, found.box

    return [np.asarray(x) for x in jax.jit(jax.vmap(one))(jnp.arange(count))]


def mixing_of(kind, step=0, member=1, seed=0):
    mixup, cutmix = KINDS[kind]
    return mixing.draw(seed, member, step, mixup=mixup, cutmix=cutmix, side=SIDE)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_mixups_share_is_from_its_beta(alpha):
    share, cut, _ = drawn(alpha, 0.0)
    assert not cut.any() and share.min() >= 0 and share.max() <= 1
    assert abs(share.mean() - 0.5) < 0.03
    assert share.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.06)


@pytest.mark.slow
def test_cutmixs_share_is_the_area_of_its_box():
    share, cut, box = drawn(0.0, 1.0)
    sides = box[..., 1] - box[..., 0]
    assert cut.all() and box.min() == 0 and box.max() == SIDE and sides.min() >= 0
    np.testing.assert_allclose(share, sides.prod(-1) / SIDE**2, rtol=1e-6)
    # Areas before they are cut off at the border are uniform at alpha 1, with a mean of 1/2.
    assert 0.25 < share.mean() < 0.45 and share.max() > 0.8
    whole = ((box > 0) & (box < SIDE)).all((1, 2))
    assert 0.1 < whole.mean() < 0.5


@pytest.mark.exhaustive
@pytest.mark.slow
def test_both_have_half_of_the_steps():
    _, cut, _ = drawn(0.2, 1.0)
    assert 0.46 < cut.mean() < 0.54


@pytest.mark.exhaustive
@pytest.mark.slow
def test_it_is_a_function_of_seed_member_and_step():
    first = drawn(0.2, 1.0, 4)[0]
    np.testing.assert_array_equal(first, drawn(0.2, 1.0, 4)[0])
    others = [drawn(0.2, 1.0, 4, member=2)[0], drawn(0.2, 1.0, 4, seed=1)[0]]
    assert len(np.unique([first, *others])) == 12


def cut_of(count=1):
    """Steps of CutMix whose box has a size."""
    found = (mixing_of("cutmix", step) for step in range(99))
    return [each for each in found if 0.1 < each.share < 0.9][:count]


def test_a_box_of_the_partner_is_put_in():
    images = np.random.default_rng(0).random((4, SIDE, SIDE, 3), np.float32)
    (found,) = cut_of()
    (top, bottom), (left, right) = np.asarray(found.box)
    expected = images.copy()
    expected[:, top:bottom, left:right] = np.roll(images, 1, 0)[:, top:bottom, left:right]
    np.testing.assert_array_equal(found.of_places(images), expected)
    labels = np.eye(4, dtype=np.float32)
    mixed = found.of_images(labels)
    np.testing.assert_allclose(
        mixed, (1 - found.share) * labels + found.share * np.roll(labels, 1, 0)
    )
    np.testing.assert_allclose(mixed.sum(-1), 1, rtol=1e-6)


def test_images_are_mixed_by_the_share():
    images = np.random.default_rng(0).random((4, SIDE, SIDE, 3), np.float32)
    found = mixing_of("mixup", 5)
    expected = (1 - found.share) * images + found.share * np.roll(images, 1, 0)
    np.testing.assert_allclose(found.of_places(images), expected, rtol=1e-6)
    whole = found._replace(share=jnp.float32(0))
    np.testing.assert_array_equal(whole.of_places(images), images)


@pytest.mark.parametrize("grid", [(3, 3), (7, 5), (SIDE, SIDE), (1, 1), (30, 4)])
def test_a_cell_of_a_map_has_the_boxs_share_of_it(grid):
    """Also where cells and pixels do not meet: as the mean over a fine grid that both divide."""
    for found in cut_of(3):
        (top, bottom), (left, right) = np.asarray(found.box)
        fine = np.zeros((SIDE, SIDE))
        fine[top:bottom, left:right] = 1
        fine = fine.repeat(grid[0], 0).repeat(grid[1], 1)
        expected = fine.reshape(grid[0], SIDE, grid[1], SIDE).mean((1, 3))
        cells = found.at(*grid)
        np.testing.assert_allclose(cells, expected, atol=1e-5)
        np.testing.assert_allclose(cells.mean(), found.share, atol=1e-5)


def test_the_main_label_has_the_larger_share():
    found, labels = mixing_of("mixup"), jnp.arange(4)
    for share, expected in ((0.4, [0, 1, 2, 3]), (0.6, [3, 0, 1, 2])):
        main = found._replace(share=jnp.float32(share)).main(labels)
        np.testing.assert_array_equal(main, expected)


DEVICES = """
import jax, numpy as np
from fgvc_jax.data import augment, mixing
from fgvc_jax.data.view import View
from fgvc_jax.utils import devices
view = View(resize=28, crop=24, augment="standard")
def step(batch):
    keys = augment.image_keys(0, batch["view"], batch["id"])
    images = augment.training_view(view, keys, batch["image"])
    def mixed(number):
        found = mixing.draw(0, 1, number, mixup=0.2, cutmix=1.0, side=24)
        return found.of_places(images), found.of_images(batch["id"])
    return jax.lax.map(mixed, np.arange(4))
rows = np.arange(8, dtype=np.int32)
images = np.random.default_rng(0).integers(0, 256, (8, 28, 28, 3), np.uint8)
found = []
for mesh in (devices.create_mesh(1), devices.create_mesh(8)):
    batch = devices.shard_batch(mesh, {"id": rows, "view": 0 * rows, "image": images})
    split = devices.split(mesh)
    compiled = jax.jit(step, in_shardings=split, out_shardings=devices.replicated(mesh))
    found.append((mesh.size, jax.tree.map(np.asarray, compiled(batch))))
(few, one), (many, two) = found
assert (few, many) == (1, 2), (few, many)
jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), one, two)
"""


@pytest.mark.exhaustive
@pytest.mark.slow
def test_two_devices_mix_as_one():
    """Views and mixing of a batch that is split, whose partners are across the border."""
    flags = f"{FAST} --xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-c", DEVICES], capture_output=True, text=True, timeout=240,
        env={**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
