"""What an experiment is settled to, and the programs of its members."""

import dataclasses

import pytest
from conftest import tiny

from fgvc_jax.config import Network, Transfer
from fgvc_jax.training.prepared import Prepared, open_dataset, settled
from fgvc_jax.utils import devices
from fgvc_jax.utils.errors import UserError

NETWORK = Network(name="vit_micro", head="linear")


def data(**changes):
    return dataclasses.replace(tiny().data, **changes)


def test_what_is_automatic_is_settled_and_settling_again_changes_nothing():
    given = tiny(network=NETWORK, epochs=3, seed=7, data=data(views=0))
    found = settled(given, open_dataset(given))
    assert found.data.views == 3 and found.data.view_seed == 7
    assert found.data.orientation == "stored" and found.network.dtype == "float32"
    assert "auto" not in (found.data.view_sharing, found.network.pool)
    assert settled(found, open_dataset(found)) == found


@pytest.mark.parametrize(
    ("transfer", "sharing"),
    [
        (Transfer(name="none"), "own"),
        (Transfer(name="orthogonal", maps="online"), "own"),
        (Transfer(name="orthogonal", maps="precomputed"), "shared"),
    ],
)
def test_views_are_shared_where_something_is_looked_up(transfer, sharing):
    given = tiny(network=NETWORK, transfer=transfer, data=data(view_sharing="auto"))
    assert settled(given, open_dataset(given)).data.view_sharing == sharing


def test_more_views_than_epochs_are_never_shown():
    given = tiny(epochs=2, data=data(views=9))
    assert settled(given, open_dataset(given)).data.views == 2


def test_members_of_one_network_share_its_programs():
    run = Prepared(tiny(members=2, network=NETWORK))
    assert run.plan(1) is run.plan(2)
    mixed = Prepared(tiny(members=2, networks=(NETWORK, dataclasses.replace(NETWORK, pool="max"))))
    assert mixed.plan(1) is not mixed.plan(2)


def test_the_batch_of_an_evaluation_decides_on_no_sum_of_training(monkeypatch):
    """It is free to change. One that is odd had training on one device of two, with other bits."""
    asked, create = [], devices.create_mesh

    def made(*sizes):
        asked.append(sizes)
        return create(1)

    monkeypatch.setattr(devices, "create_mesh", made)
    for size in (64, 3):
        Prepared(tiny(network=NETWORK, evaluation_batch_size=size))
    assert asked == [(8,), (8,)]


def test_a_batch_that_the_images_do_not_fill_is_refused():
    with pytest.raises(UserError, match="do not fill one batch of 100000: lower --batch-size"):
        Prepared(tiny(network=NETWORK, batch_size=100_000))
