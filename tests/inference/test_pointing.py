"""Evidence that is put into a corner scores there, beside maps that know nothing of it."""

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from patchworks import VIEW, linear, model_of, patchwork, picture

from fgvc_jax.data.regions import Regions
from fgvc_jax.evaluation import intervals
from fgvc_jax.inference import pointing


class Pictures:
    """Red in the top left corner, less of green and blue in others."""

    def __getitem__(self, i):
        return {"image": picture(red=255, green=200 + i, blue=190), "name": str(i)}


def regions(*corners):
    masks = {}
    for name in corners:
        masks[name] = np.zeros((32, 32), np.float32)
        rows = slice(0, 16) if name in ("red", "green") else slice(16, 32)
        columns = slice(0, 16) if name in ("red", "blue") else slice(16, 32)
        masks[name][rows, columns] = name != "nowhere"
    return Regions({name: f"the {name} corner" for name in corners}, lambda i: masks)


@pytest.fixture(scope="module")
def scored():
    eye = np.eye(3)
    model = model_of(patchwork(), [linear(4 * eye), linear(2 * eye)])
    count = 10
    found = pointing.score_maps(model, Pictures(), range(count), regions("red", "green", "nowhere"))
    return found, {(each["map"], each["of"]): each["scores"] for each in found["maps"]}


def test_evidence_in_one_corner_is_found_there_and_nowhere_else(scored):
    _, scores = scored
    for of in ("member 1", "member 2", "ensemble"):
        found = scores["Grad-CAM", of]
        shown = found["red"]["pointing"]
        assert shown == {"value": 1, "low": 1 - intervals.unseen(10), "high": 1}
        assert found["red"]["energy"]["value"] > 0.9 > 0.1 > found["green"]["energy"]["value"]
        assert found["green"]["pointing"]["value"] == 0
    assert scores["contrast", "ensemble"]["red"]["pointing"]["value"] == 1


def test_members_are_named_by_their_numbers_in_the_run():
    eye = np.eye(3)
    model = model_of(patchwork(), [linear(4 * eye), linear(2 * eye)])
    model.numbers = (2, 5)
    found = pointing.score_maps(model, Pictures(), range(2), regions("red"))
    named = {each["of"] for each in found["maps"] if each["of"].startswith("member")}
    assert named == {"member 2", "member 5"}


def test_maps_that_know_nothing_stand_beside(scored):
    found, scores = scored
    assert set(scores) == {
        *(("attention", f"member {n}") for n in (1, 2)),
        *(("Grad-CAM", of) for of in ("member 1", "member 2", "ensemble", "random weights")),
        *(("contrast", of) for of in ("ensemble", "random weights")),
        ("attention", "random weights"), ("noise", ""), ("centre", ""),
    }  # fmt: skip
    assert scores["centre", ""]["red"]["energy"]["value"] == pytest.approx(0.25)
    assert scores["centre", ""]["red"]["pointing"]["value"] == 0.25  # four pixels in the middle
    noise = scores["noise", ""]["red"]["energy"]
    assert noise["value"] == pytest.approx(0.25, abs=0.06) and noise["low"] < noise["high"]
    trained = scores["Grad-CAM", "ensemble"]["red"]["energy"]["value"]
    assert scores["Grad-CAM", "random weights"]["red"]["energy"]["value"] < trained
    assert found["images"] == 10


def test_a_region_that_no_image_shows_is_left_out(scored):
    found, scores = scored
    assert found["regions"]["nowhere"] == {"about": "the nowhere corner", "images": 0, "area": 0}
    assert found["regions"]["red"]["area"] == 0.25
    assert all("nowhere" not in each for each in scores.values())


def test_random_weights_are_others_of_the_same_shapes():
    model = model_of(patchwork(), [linear(np.eye(3)), linear(np.eye(3))])
    random = pointing.randomized(model)
    kernels = []
    for ours, theirs in zip(model.members, random.members, strict=True):
        shapes = [
            {place: leaf.shape for place, leaf in flatten_dict(m.variables).items()}
            for m in (ours, theirs)
        ]
        assert shapes[0] == shapes[1]
        kernels.append(np.asarray(theirs.variables["params"]["heads"]["logits"]["fc"]["kernel"]))
    assert np.abs(kernels[0] - kernels[1]).max() > 0.01
    assert np.abs(kernels[0] - np.eye(3)).max() > 0.1
    again = pointing.randomized(model).members[0].variables
    np.testing.assert_array_equal(
        jax.tree.leaves(again)[0], jax.tree.leaves(random.members[0].variables)[0]
    )
    assert random.view == VIEW and random.classes == model.classes
