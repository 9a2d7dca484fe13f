"""What members start from, with an architecture and weights that only count."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgvc_jax.training.initial import Start, weights_named
from fgvc_jax.utils.errors import UserError

SHAPES = {"params": {name: jax.ShapeDtypeStruct((3,), jnp.float32) for name in ("old", "new")}}


def initial(key, places):
    return {"params": {name: jax.random.normal(key, (3,)) for _, name in places}}


ARCHITECTURE = SimpleNamespace(
    whole=SHAPES,
    initial=initial,
    split=lambda whole: ({"trunk": whole["params"]["old"]}, {"member": whole["params"]["new"]}),
)


class Pretrained:
    """Weights of "old" alone, which say how often they are read."""

    read = 0

    def digest(self):
        return "d" * 64

    def load(self, variables):
        self.read += 1
        return {"params": {**variables["params"], "old": np.ones(3, np.float32)}}


def start(*pretrained, seed=0):
    return Start([ARCHITECTURE] * len(pretrained), pretrained, seed)


def test_members_differ_by_number_and_seed_and_by_nothing_else():
    drawn = [start(None, None, seed=seed).variables(n)["member"] for seed in (0, 1) for n in (1, 2)]
    assert len({tuple(np.asarray(each).tolist()) for each in drawn}) == 4
    np.testing.assert_array_equal(drawn[1], start(None, None, None).variables(2)["member"])


def test_weights_are_put_in_where_there_are_some_and_read_once():
    weights = Pretrained()
    begun = start(weights, weights, None)
    begun.check()
    np.testing.assert_array_equal(begun.trunk()["trunk"], np.ones(3))
    np.testing.assert_array_equal(begun.variables(1)["member"], start(None).variables(1)["member"])
    assert weights.read == 1 and begun.digests() == ["d" * 64, "d" * 64, None]


def test_weights_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(UserError, match="missing"):
        weights_named(str(tmp_path / "missing.safetensors"))
