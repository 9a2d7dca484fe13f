"""What a member is shown and what older versions left; tests/training/precomputed/test_trunk.py and
its sisters have the outputs on their way."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import tiny

from fgvc_jax.config import Network
from fgvc_jax.training.precomputed import cache
from fgvc_jax.training.precomputed.store import Output
from fgvc_jax.training.run import Run
from fgvc_jax.utils import devices
from fgvc_jax.workdir import Workdir

NETWORK = Network(name="vit_micro", head="linear")


def run(tmp_path, **data):
    data = dataclasses.replace(tiny().data, **data)
    return Run(tiny(tmp_path / "run", network=NETWORK, members=2, epochs=3, data=data))


@pytest.mark.parametrize(
    ("sharing", "views"), [("own", [range(2), range(2, 4)]), ("shared", [range(2)] * 2)]
)
def test_own_views_of_a_member_are_a_range_of_their_own(tmp_path, sharing, views):
    outputs = run(tmp_path, views=2, view_sharing=sharing).cache
    assert [outputs.views(member) for member in (1, 2)] == views


def test_without_frozen_networks_nothing_is_stored_or_added(tmp_path):
    made, told = run(tmp_path), []
    made.cache.prepare(1, None, told.append)
    assert told == [] and not (tmp_path / "run").exists()
    batch = devices.shard_batch(made.mesh, next(made.train_batches(1, 0)))
    assert made.cache.complete(batch) is batch
    assert made.cache.train.lookups == {} and list(made.cache.judged) == list(made.images.judged)
    assert np.asarray(batch["image"]).shape[0] == made.experiment.batch_size


def test_decoded_images_are_stored_where_a_network_looks_at_them_in_every_epoch(tmp_path):
    """Not where it looks once, for features that are looked up after; of all parts or none."""
    outputs = run(tmp_path, placement="store").cache
    features = [
        SimpleNamespace(part=part, outputs={"features": None}) for part in ("train", "test")
    ]
    assert outputs._looks([]) and all(outputs._looks([one]) for one in features)
    assert not outputs._looks(features)
    outputs._outputs = {"attention": Output("attention", None, {}, None, ())}
    assert outputs._looks(features)
    outputs._outputs = {"attention": Output("attention", None, {}, None, (), needs=("features",))}
    assert not outputs._looks(features)


def test_stores_of_an_older_version_are_told_and_stay(tmp_path):
    told, workdir = [], Workdir(tmp_path)
    cache._tell_of_older(workdir, told.append)
    assert told == []
    for name in ("attention", "features"):
        (tmp_path / name).mkdir()
    cache._tell_of_older(workdir, told.append)
    assert told[0].startswith(f"attention and features in {tmp_path}: of an older version")
    assert (tmp_path / "features").exists()
