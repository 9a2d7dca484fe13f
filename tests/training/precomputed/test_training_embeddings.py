"""Embeddings of training images: what `model.embed` gives, known by what it depends on."""

import dataclasses

import numpy as np
import pytest
from conftest import first_quick, tiny

from fgvc_jax import config
from fgvc_jax.config import Network
from fgvc_jax.training.run import Run


def run_of(workdir, **changes) -> Run:
    network = Network(name=changes.pop("network", "resnet_micro"))
    data = dataclasses.replace(tiny().data, images_per_class=3, **changes.pop("data", {}))
    start = dataclasses.replace(tiny(workdir, network=network, data=data), **changes)
    return Run(config.solved(start, changes.get("objective", "linear")))


def test_they_are_the_vectors_that_the_head_sees(tmp_path):
    run = run_of(tmp_path)
    run.cache.prepare(1, None, lambda said: None)
    model = run.model([run.member(1, run.start.variables(1))], ["untrained"])
    train = run.splits.train
    wanted = model.embed([train[i]["image"] for i in range(len(train))])
    np.testing.assert_allclose(run.cache.embeddings(), wanted, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "same"),
    first_quick(
        [
            ({"objective": "knn"}, True),
            ({"data": {"crop": 24}}, False),
            ({"data": {"flip": False}}, True),  # which the test view does not
            ({"batch_size": 4}, True),
            ({"seed": 1}, False),  # the random weights are others
        ],
        2,
    ),
)
def test_they_are_known_by_what_they_depend_on(changes, same, tmp_path):
    def known(run):
        return run.embeddings.outputs("train")["embedding"].known

    assert (known(run_of(tmp_path)) == known(run_of(tmp_path, **changes))) == same


def test_other_parts_have_none(tmp_path):
    assert not run_of(tmp_path).embeddings.outputs("test")
