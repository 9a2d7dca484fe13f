"""Each part changes its own pixels, and the scene knows no species."""

import itertools

import numpy as np
import pytest
from scipy.ndimage import maximum_filter

from fgvc_jax.data.drawing import PARTS, draw_bird
from fgvc_jax.data.sketchbirds import species_codes

CODES = species_codes(24)


def code_of(species, **changed):
    return dict(zip(PARTS, CODES[species].tolist(), strict=True)) | changed


def grown(mask):
    """With the two pixels around it: the rims, which belong to a part by less than half."""
    return maximum_filter(mask, 5)


def scene(number, code, size=96):
    return draw_bird(np.random.default_rng(number), code, size=size, with_masks=True)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_changes_its_own_pixels_only_and_visibly(part):
    """The same scene with each variant: the difference lies in that part's masks and is clear."""
    clear = inside = outside = 0
    for number in range(8):
        drawn = [scene(number, code_of(0, **{part: v})) for v in range(4)]
        near = grown(np.any([masks[part] for _, masks in drawn], axis=0))
        for (one, _), (two, _) in itertools.combinations(drawn, 2):
            difference = np.abs(one.astype(int) - two).max(axis=-1)
            clear += (difference > 24).sum() >= 10
            inside += (difference[near] > 0).sum()
            outside += (difference[~near] > 0).sum()
    assert outside <= 0.01 * inside, "more than the thinnest tips changes outside of the masks"
    assert clear >= 0.8 * 48, f"{clear} of 48 pairs of variants can be told apart"


def test_the_scene_does_not_know_the_species():
    """Everything around the bird is the same whatever species is drawn into it."""
    (one, masks), (two, others) = scene(3, code_of(0)), scene(3, code_of(13))
    bird = np.any([*masks.values(), *others.values()], axis=0)
    near = grown(bird)
    assert near.mean() < 0.5
    assert (one != two)[~near].mean() < 0.001
