"""The card of a run: what the paper and the code say, and every deviation."""

from dataclasses import replace

import pytest
from conftest import tiny

from fgvc_jax import config
from fgvc_jax.config import load_config
from fgvc_jax.objectives import OBJECTIVES
from fgvc_jax.published import KT, PAPERS, Card, card


def test_the_published_recipe_deviates_in_its_habits_alone():
    found = card(load_config(KT))
    assert (found.method, found.recipe) == ("kt", KT) and "2012.11389" in found.paper
    assert not any(each.startswith("--") for each in found.deviations)
    deviating = {row.what for row in found.rows if row.deviates}
    assert deviating == {"views of an image", "accuracy of", "last partial test batch"}
    assert "89.1%" in found.published


def test_every_field_that_differs_is_told():
    run = tiny(members=3)
    found = card(run)
    differing = set(map(str, config.differences(load_config(KT), run)))
    assert differing and differing <= set(found.deviations)
    rows = {row.what: row for row in found.rows}
    assert rows["epochs"].run == "2" and rows["epochs"].deviates
    assert not rows["alpha"].deviates  # as the paper and the code
    assert not rows["orthogonal loss"].deviates  # as the paper, not as the code
    summed = card(replace(run, fusion="logits"))
    assert any("average probabilities" in each for each in found.deviations)
    assert not any("average probabilities" in each for each in summed.deviations)


@pytest.mark.parametrize(
    ("word", "method"),
    [
        ("hsd:cub,resnet50", "hsd"),
        ("csdnet:cotton80,vit_b16", "csdnet"),
        ("independent:cub,resnet50", "independent"),
        ("ce:cub,resnet50", "ce"),
        ("kt:cars,vgg16", "kt"),
    ],
)
def test_a_run_is_compared_with_its_own_recipe(word, method):
    found = card(load_config(word))
    assert (found.method, found.recipe) == (method, word)
    assert not any(each.startswith("--") for each in found.deviations)
    assert bool(found.rows) == (method == "kt")


def test_without_a_recipe_none_is_named():
    data = replace(tiny().data, source="folder:birds")
    found = card(tiny(objective="hsd", data=data))
    assert (found.recipe, found.deviations, found.published) == ("", (), "")


def test_a_method_that_somebody_added_without_a_line_is_called_by_its_name():
    made = Card("focal", "", (), (), "")
    assert made.paper == "the objective focal"


def test_every_method_has_a_line():
    assert set(OBJECTIVES) <= set(PAPERS)
