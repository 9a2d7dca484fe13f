"""Which images a run had right, and their names: what is written comes back."""

import json

import numpy as np
import pytest

from fgvc_jax.study import bits
from fgvc_jax.study.bits import Correctness
from fgvc_jax.utils.errors import UserError


def right(members, images):
    found = np.random.default_rng(members).random((2 * members, images)) > 0.3
    found[members] = found[0]  # the ensemble of the first one
    return Correctness([f"{i}.jpg" for i in range(images)], found[:members], found[members:])


def test_bits_come_back():
    for members, images in ((1, 5), (2, 8), (3, 1001)):
        found = right(members, images)
        ones, together = bits.unpack(json.loads(json.dumps(bits.pack(found))))
        np.testing.assert_array_equal(ones, found.members)
        np.testing.assert_array_equal(together[1:], found.ensembles[1:])
        np.testing.assert_array_equal(together[0], found.members[0])


def test_names_of_any_kind_come_back(tmp_path):
    names = ["a\u2028b", "c\x85", "d\ne", "f\rg", '"h"', "", "i\udcff.jpg", "ä 1.jpg", " j "]
    bits.keep_names(tmp_path, names)
    assert bits.load_names(tmp_path, bits.digest(names)) == names
    (tmp_path / f"names-{bits.digest(['k'])}.txt").write_text("k")  # by hand, without an end
    assert bits.load_names(tmp_path, bits.digest(["k"])) == ["k"]
    (tmp_path / "names-x.txt").write_text('"half\n')
    with pytest.raises(UserError, match="is missing or was changed"):
        bits.load_names(tmp_path, "x")
